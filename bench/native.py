# SPDX-License-Identifier: Apache-2.0
"""Moves by QEMU alone, of a partition with the arguments that OpenLPM gave to its own."""

import contextlib
import dataclasses
import os
import pathlib
import pwd
import re
import subprocess
import time

from bare import USER, BarePartition
from lablib import LabError, wait_for
from meter import Meter
from ours import FIRST_NUMBER, MAX_BLACKOUT_MS
from partitions import Workload, address_of, make_disk, verified, warm_memory

NUMBER = 20
PORT = 7900
XBZRLE_CACHE = 256 << 20


@dataclasses.dataclass(frozen=True)
class Config:
    """A way in which QEMU can move a partition by itself."""

    name: str
    channels: int = 0
    compression: str = "none"
    xbzrle: bool = False
    tls: bool = False
    postcopy: bool = False


PLAIN = Config("plain TCP")
CANDIDATES = [Config("multifd x2, zstd", 2, "zstd"), Config("multifd x4, zstd", 4, "zstd"), PLAIN, Config("multifd x2", 2),
              Config("multifd x4", 4), Config("XBZRLE", xbzrle=True)]
TLS = Config("TLS", tls=True)
POSTCOPY = Config("post-copy", postcopy=True)
BY_NAME = {config.name: config for config in [*CANDIDATES, TLS, POSTCOPY]}


class NativePartition(BarePartition):
    """QEMU with the arguments that OpenLPM gave it, but for paths, addresses and the tap's descriptor."""

    def __init__(self, lab, place, name, number, template, **options):
        self.template = template
        super().__init__(lab, place, name, "x86-64", number, **options)

    def _arguments(self, number, processor, incoming, kernel_options, tap):
        argv, ids = [], {"qmp": "qmp"}
        for word in self.template:
            if word == "-S":
                continue
            if match := re.match(r"socket,id=(\w+),path=[^,]*(?:,,[^,]*)*", word):
                name = ids.get(match[1], match[1])
                word = f"socket,id={match[1]},path={self.dir}/{name}" + word[match.end():]
            word = re.sub(r"logfile=[^,]+", f"logfile={self.dir}/console.log", word)
            word = re.sub(r"^tap,(.*)fd=\d+", rf"tap,\g<1>fd={tap}", word)
            argv.append(str(self.dir / "pid") if argv and argv[-1] == "-pidfile" else word)
        argv = [word for i, word in enumerate(argv)
                if not (word == "-incoming" or (i > 0 and argv[i - 1] == "-incoming"))]
        return argv + (["-S", "-incoming", "defer"] if incoming else [])

    def _make_disk(self, number):
        return None


def template(argv, ours_name, ours_number, name, number):
    """Our QEMU's arguments, for a second partition beside it: other name, address, disk."""
    changes = [(f"{address_of(ours_number)}/", f"{address_of(number)}/"), (f"{ours_name}.raw", f"{name}.raw"),
               (f"52:54:00:77:00:{ours_number:02x}", f"52:54:00:77:00:{number:02x}")]
    found = []
    for word in argv:
        for old, new in changes:
            word = word.replace(old, new)
        found.append(word)
    return found


class Native:
    """Partitions of QEMU alone, on system-a first, moved to and fro."""

    def __init__(self, lab, groups, ours):
        self.lab, self.groups = lab, groups
        self.workload = Workload(lab, ours.workload.small)
        count = len(ours.names)
        self.addresses = [address_of(NUMBER + i) for i in range(count)]
        self.templates, self.running, self.disks = [], [], []
        self.place, self.moves = "system-a", 0
        try:
            for i in range(count):
                self.disks.append(make_disk(lab, f"native{i}"))
                self.templates.append(template(ours.argv[i], ours.names[i], FIRST_NUMBER + i, f"native{i}", NUMBER + i))
                self.running.append(self._start("system-a", i, False))
            for address in self.addresses:
                lab.wait_for_partition(address)
                self.workload.settle(address)
                self.workload.rest(address)
        except BaseException:
            self.end()
            raise

    @property
    def target(self):
        return "system-b" if self.place == "system-a" else "system-a"

    def _start(self, place, number, incoming):
        self.moves += 1
        one = NativePartition(self.lab, place, f"native{number}-{self.moves}", NUMBER + number, self.templates[number],
                              incoming=incoming)
        self.groups[place].add(one.process.pid)
        return one

    def work(self, row):
        for address in self.addresses:
            self.workload.work(address, row)

    def rest(self):
        for address in self.addresses:
            self.workload.rest(address)

    def move(self, row, config, during=None, timeout=300):
        """One measured move; returns the figures."""
        warm_memory(len(self.running))
        self.work(row)
        time.sleep(0.5)
        targets = []
        try:
            with Meter(self.lab, self.addresses, self.place, self.target, self.groups) as meter:
                try:
                    for i in range(len(self.running)):
                        targets.append(self._start(self.target, i, True))
                        self._prepare(self.running[i], targets[i], config, i)
                    copy = time.monotonic()
                    self._copy(targets, config, during, meter, timeout)
                    copy = (time.monotonic() - copy) * 1000
                    for source in self.running:
                        source.end()
                finally:
                    meter.stop()
        except LabError:
            self._abandon(targets)
            raise
        self.running, self.place = targets, self.target
        self.rest()
        return verified(self.lab, self.addresses, {**meter.figures, "copy_ms": copy})

    def _prepare(self, source, target, config, number):
        capabilities = {"events": True, "return-path": True, "late-block-activate": True, "multifd": config.channels > 0,
                        "xbzrle": config.xbzrle, "postcopy-ram": config.postcopy}
        for one in (source, target):
            one.qmp("migrate-set-capabilities", capabilities=[{"capability": c, "state": s} for c, s in capabilities.items()])
            one.qmp("migrate-set-parameters", max_bandwidth=1 << 40, downtime_limit=MAX_BLACKOUT_MS,
                    xbzrle_cache_size=XBZRLE_CACHE, multifd_channels=config.channels or 2,
                    multifd_compression=config.compression)
            self._set_tls(one, "server" if one is target else "client", config.tls)
        target.qmp("migrate-incoming", uri=f"tcp:{self.lab.address(self.target)}:{PORT + number}")

    def _set_tls(self, one, endpoint, wanted):
        if wanted:
            with contextlib.suppress(LabError):
                one.qmp("object-del", id="tls0")
            one.qmp("object-add", qom_type="tls-creds-x509", id="tls0", dir=str(make_certificates(self.lab)), endpoint=endpoint,
                    verify_peer=True)
        one.qmp("migrate-set-parameters", tls_creds="tls0" if wanted else "", tls_hostname="target" if wanted else "")

    def _copy(self, targets, config, during, meter, timeout):
        begin = time.monotonic()
        for i, source in enumerate(self.running):
            source.qmp("migrate", uri=f"tcp:{self.lab.address(self.target)}:{PORT + i}")
            # Alone, QEMU lets the partition run as soon as it has loaded it.
            targets[i].qmp("cont")
        if during:
            during(meter)
        for source in self.running:
            wait_native(source, begin + timeout, config)
        for target in targets:
            wait_for(lambda t=target: t.qmp("query-status")["status"] == "running", 10, "target runs", 0.005)

    def _abandon(self, targets):
        """After a failed move the partition runs on where it was; LabError when it does not."""
        for source in self.running:
            with contextlib.suppress(LabError, OSError):
                source.qmp("migrate_cancel")
        for target in targets:
            target.end()
        for source in self.running:
            wait_for(lambda s=source: s.qmp("query-migrate").get("status") in (None, "cancelled", "failed"), 30,
                     "cancelled native move", 0.1)
            if source.qmp("query-status")["status"] != "running":
                source.qmp("cont")
        self.rest()

    def end(self):
        for one in self.running:
            one.end()
        for disk in self.disks:
            disk.unlink(missing_ok=True)


def wait_native(source, deadline, config):
    begun = not config.postcopy
    while (status := source.qmp("query-migrate"))["status"] != "completed":
        if status["status"] == "failed":
            raise LabError(f"native move, {config.name}: failed: {status.get('error-desc', '')}")
        if time.monotonic() > deadline:
            raise LabError(f"native move, {config.name}: not ended in time ({status['status']})")
        if not begun and status.get("ram", {}).get("dirty-sync-count", 0) > 1:
            source.qmp("migrate-start-postcopy")
            begun = True
        time.sleep(0.02)


@contextlib.contextmanager
def postcopy_allowed():
    """Lets QEMU's user handle its own page faults for a while: without that, the kernel keeps post-copy to root."""
    device = pathlib.Path("/dev/userfaultfd")
    if not device.exists():
        yield
        return
    before = device.stat()
    os.chown(device, before.st_uid, pwd.getpwnam(USER).pw_gid)
    device.chmod(0o660)
    try:
        yield
    finally:
        os.chown(device, before.st_uid, before.st_gid)
        device.chmod(before.st_mode & 0o7777)


def make_certificates(lab):
    """An authority and a certificate for QEMU's own TLS, once a lab."""
    place = lab.dir / "tls"
    if (place / "server-cert.pem").exists():
        return place
    place.mkdir(exist_ok=True)

    def openssl(*argv):
        subprocess.run(["openssl", *argv], cwd=place, check=True, capture_output=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"]
    openssl("req", "-x509", *key, "-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-subj", "/CN=bench",
            "-addext", "keyUsage=critical,keyCertSign")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}-key.pem", "-out", f"{name}.csr", "-subj", "/CN=target",
                "-addext", "subjectAltName=DNS:target")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2",
                "-copy_extensions", "copy", "-out", f"{name}-cert.pem")
    for path in place.iterdir():
        os.chmod(path, 0o644)
    return place
