# SPDX-License-Identifier: Apache-2.0
"""Storage of every kind in the lab's namespace `san`, and partitions with a database on it.

A backing file of each disk is in LAB/disks, which only the servers there (tgtd, qemu-nbd, nbdkit) use: no system sees it but
through them."""

import json
import os
import pathlib
import secrets
import shutil
import signal
import sqlite3
import subprocess

from installation import QEMU_USER
from lablib import HERE, LabError, command, wait_for

TARGET = "iqn.2026-01.org.example:disks"
CHAP_TARGET = "iqn.2026-01.org.example:secret-disks"
ISCSI_PORT, NBD_PORT, NBDKIT_PORT, TLS_PORT, PSK_PORT = 3260, 10809, 10810, 10811, 10812
CHAP_USER = "lpm"
DATABASE_PORT = 7020
DISK_MIB = 64
# Kind of storage -> pool, format.
KINDS = {"raw": ("san", "raw"), "qcow2": ("san", "qcow2"), "iscsi": ("iscsi", "raw"), "iscsi-chap": ("chap", "raw"),
         "iscsi-qcow2": ("iscsi", "qcow2"), "nbd": ("nbd", "raw"), "nbdkit": ("nbdkit", "raw"), "nbd-tls": ("nbdtls", "raw"),
         "nbd-psk": ("nbdpsk", "raw")}


def initiator(place):
    return f"iqn.2026-01.org.example:{place}"


class San:
    """Servers of storage in a lab, started when their kind is asked for first."""

    def __init__(self, lab):
        self.lab = lab
        self.address = lab.address("san")
        self.dir = lab.dir / "disks"
        self.dir.mkdir()
        self.luns = {}
        self.chap_password = secrets.token_hex(8)
        self.tgt_environment = {**os.environ, "TGT_IPC_SOCKET": str(lab.dir / "tgt-disks")}
        self.backing = {}
        (lab.dir / "chap").write_text(self.chap_password + "\n")
        (lab.dir / "chap").chmod(0o600)
        self._make_tls()

    # Configuration

    def pools(self, place):
        """Groups of a system's configuration for all kinds."""
        iscsi = {"kind": "iscsi", "portal": f"{self.address}:{ISCSI_PORT}", "initiator": initiator(place)}
        return {
            "storage:iscsi": {**iscsi, "target": TARGET},
            "storage:chap": {**iscsi, "target": CHAP_TARGET, "user": CHAP_USER, "password_file": self.lab.dir / "chap"},
            "storage:nbd": {"kind": "nbd", "server": f"{self.address}:{NBD_PORT}"},
            "storage:nbdkit": {"kind": "nbd", "server": f"{self.address}:{NBDKIT_PORT}"},
            "storage:nbdtls": {"kind": "nbd", "server": f"{self.address}:{TLS_PORT}", "tls": "x509", "tls_dir": self.tls / "client"},
            "storage:nbdpsk": {"kind": "nbd", "server": f"{self.address}:{PSK_PORT}", "tls": "psk", "tls_dir": self.tls / "psk",
                               "user": "lpm"},
        }

    def configure(self):
        """Has every system know the pools."""
        for place in self.lab.systems:
            self.lab.start_host_again(place, self.pools(place))

    # Disks

    def disk(self, kind, name, filesystem=True):
        """Makes a disk with an ext4 file system, and has it served; what a profile says of it."""
        pool, form = KINDS[kind]
        path = (self.lab.dir / "san" / f"{name}.{form}") if pool == "san" else self.dir / f"{name}.{form}"
        make_image(path, form, filesystem)
        if pool != "san" and form == "qcow2":
            os.truncate(path, (DISK_MIB + 16) << 20)  # a LUN does not grow with the image on it
        self.backing[name] = path
        file = path.name if pool == "san" else getattr(self, f"_serve_{pool}")(name, path)
        return {"pool": pool, "file": file, "format": form}

    def remove(self, name):
        """A LUN goes with its file; a server of NBD serves nothing until the next disk or the end of the lab."""
        if name in self.luns:
            target, lun = self.luns.pop(name)
            self._must("delete", "--mode", "logicalunit", "--tid", self._tid(target), "--lun", lun)
        self.backing.pop(name).unlink(missing_ok=True)

    # iSCSI

    def tgtadm(self, operation, *words):
        return self.lab.run("san", "tgtadm", "-C", "2", "--lld", "iscsi", "--op", operation, *words, check=False,
                            env=self.tgt_environment)

    def _start_tgtd(self):
        if "tgtd-disks" in self.lab.recorded_processes():
            return
        self.lab.start("san", "tgtd-disks", "tgtd", "-f", "-C", "2", "--iscsi", f"portal={self.address}:{ISCSI_PORT}",
                       env=self.tgt_environment)
        wait_for(lambda: self.tgtadm("show", "--mode", "system").returncode == 0, 20, "tgtd answers")
        self._must("new", "--mode", "account", "--user", CHAP_USER, "--password", self.chap_password)
        for number, target in enumerate((TARGET, CHAP_TARGET), 1):
            self._must("new", "--mode", "target", "--tid", number, "-T", target)
            self._must("bind", "--mode", "target", "--tid", number, "-I", "ALL")
        self._must("bind", "--mode", "account", "--tid", 2, "--user", CHAP_USER)

    def _must(self, operation, *words):
        result = self.tgtadm(operation, *words)
        if result.returncode != 0:
            raise LabError(f"tgtadm {operation} {words}: {result.stderr}")

    @staticmethod
    def _tid(target):
        return 1 if target == TARGET else 2

    def _serve_lun(self, target, name, path):
        self._start_tgtd()
        lun = next(number for number in range(1, 100) if (target, number) not in self.luns.values())
        self._must("new", "--mode", "logicalunit", "--tid", self._tid(target), "--lun", lun, "-b", path)
        self.luns[name] = (target, lun)
        return str(lun)

    def _serve_iscsi(self, name, path):
        return self._serve_lun(TARGET, name, path)

    def _serve_chap(self, name, path):
        return self._serve_lun(CHAP_TARGET, name, path)

    # NBD: one server has one export at a time, and is started anew for the next disk

    def _start_nbd(self, server, port, *argv):
        if (old := self.lab.recorded_processes().get(server)) is not None:
            os.kill(old, signal.SIGTERM)
            wait_for(lambda: server not in self.lab.recorded_processes(), 10, f"end of {server}")
        self.lab.start("san", server, *argv)
        wait_for(lambda: self._listens(port), 10, f"{server}: {self.lab.log(server)[-300:]}")

    def _listens(self, port):
        try:
            self.lab.connect("san", self.address, port, 1.0).close()
        except OSError:
            return False
        return True

    def _qemu_nbd(self, server, port, name, path, *more):
        form = path.suffix[1:]
        self._start_nbd(server, port, "qemu-nbd", "--persistent", "--shared=0", "--cache=none", "--format", form, "--bind",
                        self.address, "--port", str(port), "--export-name", name, *more, path)
        return name

    def _serve_nbd(self, name, path):
        return self._qemu_nbd("qemu-nbd", NBD_PORT, name, path)

    def _serve_nbdtls(self, name, path):
        return self._qemu_nbd("qemu-nbd-tls", TLS_PORT, name, path, "--object",
                              f"tls-creds-x509,id=tls,endpoint=server,dir={self.tls / 'server'},verify-peer=yes", "--tls-creds", "tls")

    def _serve_nbdkit(self, name, path):
        self._start_nbd("nbdkit", NBDKIT_PORT, "nbdkit", "--foreground", "--exit-with-parent", "--ipaddr", self.address, "--port",
                        str(NBDKIT_PORT), "--exportname", name, "file", f"file={path}")
        return name

    def _serve_nbdpsk(self, name, path):
        self._start_nbd("nbdkit-psk", PSK_PORT, "nbdkit", "--foreground", "--exit-with-parent", "--ipaddr", self.address, "--port",
                        str(PSK_PORT), "--exportname", name, "--tls=require", f"--tls-psk={self.tls / 'psk' / 'keys.psk'}",
                        "file", f"file={path}")
        return name

    def _make_tls(self):
        """An authority, a server and a client; and a shared key. QEMU reads the client's as its own user."""
        self.tls = self.lab.dir / "nbd-tls"
        for part in ("server", "client", "psk"):
            (self.tls / part).mkdir(parents=True)
        (self.tls / "psk" / "keys.psk").write_text(f"lpm:{secrets.token_hex(32)}\n")
        openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        ca, ca_key = self.tls / "ca-cert.pem", self.tls / "ca-key.pem"
        command(*openssl, "-subj", "/CN=lab", "-keyout", ca_key, "-out", ca, "-addext", "keyUsage=critical,keyCertSign")
        for part, more in (("server", ["-addext", f"subjectAltName=IP:{self.address}", "-addext", "extendedKeyUsage=serverAuth"]),
                           ("client", ["-addext", "extendedKeyUsage=clientAuth"])):
            command(*openssl, "-subj", f"/CN={part}", "-CA", ca, "-CAkey", ca_key, "-keyout", self.tls / part / f"{part}-key.pem",
                    "-out", self.tls / part / f"{part}-cert.pem", "-addext", "basicConstraints=critical,CA:FALSE",
                    "-addext", "keyUsage=critical,digitalSignature,keyEncipherment", *more)
            shutil.copy(ca, self.tls / part / "ca-cert.pem")
        for path in [*(self.tls / "client").iterdir(), *(self.tls / "psk").iterdir()]:
            shutil.chown(path, QEMU_USER)
            path.chmod(0o600)


def make_image(path, form, filesystem=True):
    """A disk image, sparse, with an ext4 file system."""
    raw = path.with_suffix(".new")
    with open(raw, "wb") as file:
        file.truncate(DISK_MIB << 20)
    if filesystem:
        command("mkfs.ext4", "-q", "-F", "-E", "nodiscard", raw)
    if form == "raw":
        os.rename(raw, path)
    else:
        command("qemu-img", "convert", "-O", form, raw, path)
        raw.unlink()


# Partitions with a database

ADAPTER_DISK = {"virtio": "vda", "scsi": "sda", "vscsi": "sda"}


def create(lab, san, place, name, family, kind, number, adapter="virtio", **changes):
    """A partition with a database on a disk of this kind, up and answering."""
    disk = {"name": "disk0", **san.disk(kind, name), "adapter": adapter}
    disks = [disk, *changes.pop("more_disks", [])]
    options = f"lpm.journal=0 lpm.mem=8 lpm.rate=1 lpm.db={ADAPTER_DISK[adapter]}"
    partition = lab.create(place, name, family, number, variant="-db", kernel_options=options, disks=disks, **changes)
    wait_for(lambda: ask(lab, partition, "check"), 120, f"database of {name}")
    return partition


def ask(lab, partition, request):
    """One line of the database server's, None when it does not answer."""
    try:
        with lab.connect("client", partition.address, DATABASE_PORT, 10) as connection, connection.makefile("rw") as stream:
            stream.write(request + "\n")
            stream.flush()
            return stream.readline().strip()
    except OSError:
        return None


class Load:
    """Clients that insert rows without pause, and note what was answered."""

    def __init__(self, lab, partition, clients=2, prefix="client"):
        self.lab, self.partition = lab, partition
        self.name = f"database-{partition.name}-{prefix}"
        self.output = lab.dir / "client" / f"{self.name}.json"
        self.child = lab.start("client", self.name, "/usr/bin/python3", HERE / "dbclient.py", "--address", partition.address, "--port",
                               DATABASE_PORT, "--clients", clients, "--prefix", prefix, "--output", self.output)
        self.wait_for_more(1)

    def acknowledged(self):
        """Client -> number of the last row that it got an answer for, now."""
        try:
            return json.loads(self.output.read_text())["acknowledged"]
        except (OSError, ValueError):
            return {}

    def wait_for_more(self, rows, timeout=60):
        """Until each client has got so many answers more."""
        before = self.acknowledged()

        def grown():
            if self.child.poll() is not None:
                raise LabError(f"{self.name}: {self.lab.log(self.name)[-500:]}")
            now = self.acknowledged()
            return now and all(now[client] >= before.get(client, 0) + rows for client in now)
        wait_for(grown, timeout, f"{rows} more rows of {self.partition.name}")

    def stop(self):
        """Its report: {"acknowledged": {CLIENT: last number}, "longest_ms", "broken"}."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        self.child.wait(30)
        return json.loads(self.output.read_text())


def judge(report, found):
    """What was answered is there, all of it, as it was sent, and the database is whole."""
    assert report["broken"] == [], report
    assert found["integrity"] == "ok", found
    for client, last in report["acknowledged"].items():
        assert last > 0, report
        rows = found["clients"][client]
        # Each client sends the next number when it has the answer: at most one more was on its way.
        assert rows["wrong"] == 0 and rows["rows"] == rows["last"] and last <= rows["last"] <= last + 1, (client, last, rows)


def compose(client, number):
    """As lab/guest/database/database.c."""
    text, mask = bytearray(f"{client}/{number}:".encode()), (1 << 64) - 1
    x = (number * 0x9E3779B97F4A7C15 + 1) & mask
    while len(text) < 300:
        x ^= x << 13 & mask
        x ^= x >> 7
        x ^= x << 17 & mask
        text.append(97 + x % 26)
    return text.decode()


def read_disk(path, directory):
    """Reads the database from the disk itself, which no partition has open: the same answer as `check` of the guest."""
    raw, file = pathlib.Path(directory) / "disk", pathlib.Path(directory) / "lab.db"
    form = "qcow2" if path.read_bytes()[:4] == b"QFI\xfb" else "raw"
    command("qemu-img", "convert", "-U", "-f", form, "-O", "raw", path, raw)
    if subprocess.run(["e2fsck", "-fy", raw], check=False, capture_output=True).returncode not in (0, 1):
        raise LabError(f"{path}: its file system is damaged")
    for name in ("lab.db", "lab.db-journal"):
        command("debugfs", "-R", f"dump /{name} {file.parent / name}", raw)
    with sqlite3.connect(file) as database:
        clients = {}
        for client, number, text in database.execute("SELECT client, number, text FROM record ORDER BY number"):
            rows = clients.setdefault(client, {"rows": 0, "last": 0, "wrong": 0})
            rows["rows"] += 1
            rows["last"] = number
            rows["wrong"] += text != compose(client, number)
        return {"integrity": database.execute("PRAGMA integrity_check(1)").fetchone()[0], "clients": clients}
