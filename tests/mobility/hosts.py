# SPDX-License-Identifier: Apache-2.0
"""Two lpm-hosts on loopback without a console, moving a real QEMU: its disk boots a program that counts in memory and says each
number once on the serial line, so that a number lost, doubled or repeated is seen."""
import contextlib
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("LPM_BUILD", ROOT / "build"))
HOST = BUILD / "src" / "host" / "lpm-host"
MOVER = BUILD / "src" / "mover" / "lpm-mover"
PATIENCE = 30

# 16-bit code of a boot sector: counts in EBX, writes the number into 128 pages, waits, and prints it as eight hexadecimal
# digits and a line feed on the first serial port, without end.
COUNTER = bytes.fromhex(
    "fa31c08ed88ed0bc007c6631db6643b9800089c848c1e0080500108ec02666891e0000e2edbe280031c9e2fe4e75f9b908006689da66c1c20488d0"
    "240f04303c3976020407e80900e2ebb00ae80200ebbc5250bafd03eca82074f858baf803ee5ac3")


# The same, filling 128 pages with random numbers without a break: each pass of a copy begins with half a megabyte that no
# codec makes smaller.
NOISE = bytes.fromhex("fa66b839300000bb00108ec331ff31c96669c06d4ec6416605393000002666890583c70475ea81c3001081fb009072daebd5")


def wait_for(condition, what, patience=PATIENCE):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {patience} s in vain for: {what}")


def needs_crash_points():
    if b"LPM_CRASH" not in HOST.read_bytes():
        pytest.skip("lpm-host was built without crash points")


class RpcError(Exception):
    def __init__(self, error):
        super().__init__(error["desc"])
        self.error_class = error["class"]


class System:
    """One lpm-host with its directories, and calls to it over its local socket."""

    def __init__(self, directory, name, address, pool, authority, database=None, port=0):
        """Without an authority it joins a console (join())."""
        self.name, self.address, self.port = name, address, port
        self.environment = {}
        self.base = pathlib.Path(directory) / name
        tls = self.base / "state" / "tls"
        tls.mkdir(parents=True)
        self.run = pathlib.Path(directory) / name[-1]
        cert, key = authority.certificate(name) if authority else (None, None)
        for source, target in ((authority.ca, "ca.pem"), (cert, "cert.pem"), (key, "key.pem")) if authority else ():
            (tls / target).write_bytes(pathlib.Path(source).read_bytes())
            (tls / target).chmod(0o600)
        if database:
            shutil.copy(database, self.base / "state" / "host.db")
        self.config = self.base / "host.conf"
        self.config.write_text(f"""[system]
name = {name}
state_dir = {self.base}/state
run_dir = {self.run}
[rpc]
address = {address}
port = {port}
[mover]
program = {MOVER}
addresses = {address}
[qemu]
user =
accelerator = tcg
power =
[storage:shared]
path = {pool}
shared = true
[limits]
reserve_mib = 0
""")
        self.process = None
        self.log = self.base / "log"

    def start(self, crash=None):
        self.launch(crash)
        wait_for(self.answers, f"{self.name} answers: {self.log.read_text()}")

    def start_with(self, crash):
        """Anew, with a crash point set: "POINT" or "POINT,KIND". Partitions run on."""
        self.kill()
        self.start(crash)

    def start_to_die(self, crash):
        """A start that comes to its crash point by itself."""
        self.launch(crash)
        self.dies()

    def launch(self, crash):
        environment = dict(os.environ, LPM_DATA_DIR=str(ROOT / "data"), **self.environment)
        environment.pop("LPM_CRASH", None)
        if crash:
            environment["LPM_CRASH"] = crash
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(HOST), "--config", str(self.config)], env=environment, stderr=log,
                                            stdout=log, stdin=subprocess.DEVNULL)

    def answers(self):
        try:
            self.call("migration-list", patience=5)
            return True
        except (OSError, EOFError):
            return False

    def kill(self):
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def terminate(self):
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0
        self.process = None

    def dies(self):
        """Waits for a crash point to do its work."""
        assert self.process.wait(PATIENCE) == -signal.SIGKILL
        self.process = None

    def call(self, verb, patience=PATIENCE, **arguments):
        arguments = {name.rstrip("_"): value for name, value in arguments.items()}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(patience)
            connection.connect(str(self.run / "host.sock"))
            connection.sendall(json.dumps({"execute": verb, "arguments": arguments, "id": 1}).encode() + b"\n")
            text = b""
            while not text.endswith(b"\n"):
                part = connection.recv(65536)
                if not part:
                    raise EOFError(f"{self.name} closed during {verb}")
                text += part
        answer = json.loads(text)
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["return"]

    def edit_journal(self, migration, changes):
        """Changes an entry of an lpm-host that does not run; what was there."""
        with contextlib.closing(sqlite3.connect(self.base / "state" / "host.db")) as database, database:
            where = ("journal", migration)
            old = json.loads(database.execute("SELECT value FROM document WHERE kind = ? AND key = ?", where).fetchone()[0])
            database.execute("UPDATE document SET value = ? WHERE kind = ? AND key = ?", (json.dumps({**old, **changes}), *where))
        return old

    def forget_emulators(self):
        """Of an lpm-host that does not run: it looks at them again."""
        with contextlib.closing(sqlite3.connect(self.base / "state" / "host.db")) as database, database:
            database.execute("DELETE FROM document WHERE kind = 'system' AND key LIKE 'emulator-%'")

    def join(self, console):
        """A console of tests/console; also while it runs, and also another one than before."""
        token = console.rest("POST", "/v1/systems", {"name": self.name})["token"]
        subprocess.run([str(HOST), "--config", str(self.config), "join", "--console", f"127.0.0.1:{console.rpc_port}",
                        "--name", self.name, "--token", token], check=True, capture_output=True)
        console.wait(lambda: console.rest("GET", f"/v1/systems/{self.name}")["state"] == "connected", self.name, 30)

    def as_version_1(self):
        """Of an lpm-host that does not run: its database as the release before left it."""
        with contextlib.closing(sqlite3.connect(self.base / "state" / "host.db")) as database, database:
            database.executescript("DROP TABLE release; PRAGMA user_version = 1;")

    def word(self, migration, word, say):
        return self.call("migration-recover", migration=migration, word=word, say=say, who="tester", from_="a test")

    def qemu_pids(self):
        found = subprocess.run(["pgrep", "-f", f"qemu-system.*{self.run}/partitions/"], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    def end(self):
        self.kill()
        for pid in self.qemu_pids():
            os.kill(pid, signal.SIGKILL)


class Pair:
    """Two systems that share a pool, and one partition on the first."""

    def __init__(self, directory, authority, database=None, ports=(0, 0)):
        self.pool = pathlib.Path(directory) / "pool"
        self.pool.mkdir()
        self.a = System(directory, "sys-a", "127.0.0.2", self.pool, authority, database, ports[0])
        self.b = System(directory, "sys-b", "127.0.0.3", self.pool, authority, database, ports[1])
        self.output = []
        self.tails = {}

    def start(self):
        self.a.start()
        self.b.start()

    def other(self, system):
        return self.b if system is self.a else self.a

    def create(self, name="p1", shared=True, start=True, memory_mib=64, program=COUNTER, **more):
        (self.pool / f"{name}.img").write_bytes(program.ljust(510, b"\0") + b"\x55\xaa" + bytes(1024 * 1024 - 512))
        profile = {"name": name, "family": "x86-64", "processors": 1, "memory_mib": memory_mib, "guest_agent": False,
                   "memory_backing": "shared" if shared else "private",
                   "disks": [{"name": "disk0", "pool": "shared", "file": f"{name}.img", "format": "raw"}], **more}
        self.profile = self.a.call("partition-create", profile=profile)["profile"]
        if start:
            self.a.call("partition-start", partition=name)
            self.tail(self.a)
        return self.profile

    # --- what the partition says ---

    def console_log(self, system):
        return system.run / "partitions" / self.profile["uuid"] / "console.log"

    def tail(self, system):
        """Keeps the log open: it is removed when the partition leaves."""
        path = self.console_log(system)
        wait_for(path.exists, f"{path} is there")
        self.tails[system.name] = open(path, "rb")

    def numbers(self, system):
        """What it said there; what it said before it came stands before a mark."""
        tail = self.tails[system.name]
        tail.seek(0)
        return re.sub(rb"(?s)^.*\n\[openlpm: comes to [^\n]*\n", b"", tail.read())

    def says_more(self, system):
        """The partition runs there: its log grows."""
        before = len(self.numbers(system))
        wait_for(lambda: len(self.numbers(system)) > before, f"the partition runs at {system.name}")

    def judge(self, *systems):
        """What was said at these systems, one after the other, is each number once."""
        lines = b"".join(self.numbers(system) for system in systems).split(b"\n")[:-1]
        seen = [int(line, 16) for line in lines]
        assert seen == list(range(1, len(seen) + 1)), "numbers were lost, doubled or repeated"
        return len(seen)

    # --- moves ---

    def prepare(self, source, target, active=True, **options):
        facts = source.call("partition-show", partition=self.profile["name"])
        self.migration, self.key = secrets.token_hex(16), secrets.token_hex(32)
        where = target.call("migration-prepare", migration=self.migration, source=source.name, profile=facts["profile"],
                            runtime=facts["runtime"] or {}, active=active, key=self.key, options=options)
        return where

    def start_prepared(self, source, target, where, active=True, **options):
        extra = {key: where[key] for key in ("addresses", "port", "image_key") if key in where} if active else {}
        source.call("migration-start", migration=self.migration, partition=self.profile["name"], target=target.name,
                    active=active, key=self.key, options=options, **extra)

    def begin(self, source, target, active=True, **options):
        self.start_prepared(source, target, self.prepare(source, target, active, **options), active, **options)
        return self.migration

    def status(self, system):
        return system.call("migration-query", migration=self.migration)

    def finished(self, system):
        status = self.status(system)
        return status if status["finished"] else None

    def ends(self, system, outcome, patience=PATIENCE):
        status = wait_for(lambda: self.finished(system), f"end at {system.name}: {self.migration}", patience)
        assert status["outcome"] == outcome, status
        return status

    def move(self, source, target, **options):
        self.begin(source, target, **options)
        self.ends(source, "completed")
        status = self.ends(target, "completed")
        self.tail(target)
        return status

    def states(self):
        """State of the partition at both systems, None where it is not known."""
        found = []
        for system in (self.a, self.b):
            listed = {p["uuid"]: p["state"] for p in system.call("partition-list")["partitions"]}
            found.append(listed.get(self.profile["uuid"]))
        return found

    def end(self):
        for tail in self.tails.values():
            tail.close()
        self.a.end()
        self.b.end()


sys.path.insert(0, str(ROOT / "tests" / "mover"))
sys.path.append(str(ROOT / "tests" / "console"))


class LockedRecord:
    """Somebody else holds the lock of the record's file and does not let go."""

    def __init__(self, pair):
        path = pair.pool / ".lpm" / f"{pair.profile['uuid']}.record"
        self.process = subprocess.Popen([sys.executable, "-c", (
            "import fcntl, os, struct, sys, time\n"
            "fd = os.open(sys.argv[1], os.O_RDWR)\n"
            "fcntl.fcntl(fd, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))\n"  # F_OFD_SETLK
            "print('locked', flush=True)\ntime.sleep(60)\n"), str(path)], stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"locked\n"

    def release(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def state_of(process):
    return open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()[0]
