# SPDX-License-Identifier: Apache-2.0
"""Where the faults happen: a lab of two systems and a console with one small partition, a storage of its own that can hang and
fill up, and small disks of their own for the daemons."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "cases")]

import keepers  # noqa: E402
import tables  # noqa: E402
from counter import Disk, Line  # noqa: E402
from installation import Installation, Partition, Refused, program  # noqa: E402
from lablib import LabError, command, wait_for  # noqa: E402

NAME = "traveller"
MEMORY_MIB = 64
POOL_MIB = 24
OWN_DISK_MIB = 128
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


def state_letter(pid):
    """R, S, D, T (stopped), Z; "" when it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


class Stage(Installation):
    """The lab; `with Stage(name) as stage`."""

    def __enter__(self):
        self.loop = None
        try:
            self.up(2)
            self._mount()
            self._write_mover()
            if tables.keeper in keepers.SERVERS:
                self.start_keeper()
            self.install()
            self.create_counter()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self.thaw()
        for name, pid in self.recorded_processes().items():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for place in self.places:
            with contextlib.suppress(LabError):
                for pid in self.processes_at(place):
                    if pid != os.getpid():
                        os.kill(pid, signal.SIGKILL)
        for path in reversed(self.mounts()):
            command("umount", "-l", path, check=False)
        self.down()

    # What it is made of

    def mounts(self):
        base = self.dir
        return [base / "san", *(base / place / "state" for place in [*self.systems, "console"])] if self.is_up else []

    def _mount(self):
        image = self.dir / "pool.img"
        with open(image, "wb") as file:
            file.truncate(POOL_MIB << 20)
        command("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image)
        command("mount", "-o", "loop", image, self.dir / "san")
        (self.dir / "san").chmod(0o1777)
        (self.dir / "console" / "state").mkdir(exist_ok=True)
        for place in [*self.systems, "console"]:
            command("mount", "-t", "tmpfs", "-o", f"size={OWN_DISK_MIB}m,mode=755", "state", self.dir / place / "state")

    def _write_mover(self):
        """Without the wrapper of the clock, which the mover's sandbox does not allow; and one that can do harm, where it shall."""
        self.harmful = self.dir / "harmful"
        self.wrapper = self.dir / "mover"
        mover = program("lpm-mover")
        self.wrapper.write_text(f"""#!/bin/sh
unset LD_PRELOAD
[ -e {self.harmful} ] && exec {mover}-fault --fault=asked "$@"
exec {mover} "$@"
""")
        self.wrapper.chmod(0o755)

    def host_config(self, place, changes=None):
        changes = {"mover": {"program": self.wrapper}, "qemu": {"power": ""}, "limits": {"reserve_mib": 0}, **(changes or {}),
                   **(keepers.groups(self, place) if tables.keeper in keepers.SERVERS else {})}
        return super().host_config(place, changes)

    def create_counter(self):
        self.disk = Disk(self.dir / "san" / f"{NAME}.qcow2")
        self.disk.make()
        profile = {"name": NAME, "family": "x86-64", "processors": 1, "memory_mib": MEMORY_MIB, "guest_agent": False,
                   "memory_backing": "shared", "arbiter": tables.keeper,
                   "disks": [{"name": "disk0", "pool": "san", "file": f"{NAME}.qcow2", "format": "qcow2"}],
                   "networks": [{"name": "net0", "switch": "lan", "mac": "52:54:00:77:00:10"}]}
        self.rest("POST", "/v1/partitions", {"system": self.systems[0], "profile": profile})
        self.uuid = self.host_rpc(self.systems[0], "partition-show", partition=NAME)["profile"]["uuid"]
        self.partitions[NAME] = Partition(NAME, None, profile)
        self.boot_counter(self.systems[0])

    def boot_counter(self, place):
        self.host_rpc(place, "partition-start", partition=NAME)
        self.line(place, begin=0).grows()

    # Looking

    def line(self, place, begin=None):
        path = self.dir / place / "run" / "partitions" / self.uuid / "console.log"
        wait_for(path.exists, 10, f"{path}")
        return Line(path, begin)

    def daemon(self, place):
        """Process of lpm-host or lpm-console there; None when it does not run."""
        name = "lpm-console" if place == "console" else f"lpm-host-{place}"
        return self.recorded_processes().get(name)

    def movers(self, place):
        found = []
        for pid in self.processes_at(place):
            with contextlib.suppress(OSError):
                if pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("lpm-mover"):
                    found.append(pid)
        return found

    def qemus(self, place):
        return self.emulators(NAME).get(place, [])

    def holder(self):
        """The system whose record of the partition says that it is the owner; None while nobody knows."""
        owners = set()
        for place in self.systems:
            with contextlib.suppress(Refused, OSError, ValueError, LabError):
                shown = self.host_rpc(place, "partition-show", partition=NAME)
                owners.add(shown["record"]["owner"] if shown.get("record") else None)
        return owners.pop() if len(owners) == 1 else None

    # Daemons

    def launch(self, place, environment=None, patience=30):
        """Starts the daemon of this place, again and again while it cannot, as a service manager does."""
        def try_it():
            with contextlib.suppress(LabError):
                (self.start_console(environment) if place == "console" else self.start_host(place, environment=environment))
                return True
        wait_for(try_it, patience, f"{place}'s daemon starts", 0.3)

    def kill_daemon(self, place):
        pid = self.daemon(place)
        if pid:
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: self.daemon(place) is None, 10, f"the end of {place}'s daemon")

    def restart(self, place, environment=None):
        self.kill_daemon(place)
        self.launch(place, environment)

    def keeper(self):
        """Process that keeps the ownership record; None when it does not run."""
        return self.recorded_processes().get(keepers.SERVERS[tables.keeper][0])

    def start_keeper(self):
        keepers.SERVERS[tables.keeper][1](self)

    def connected(self, patience=30):
        for place in self.systems:
            self.wait_for_system(place, patience)

    # The storage

    def freeze(self):
        command("fsfreeze", "-f", self.dir / "san")

    def thaw(self):
        command("fsfreeze", "-u", self.dir / "san", check=False)


class Filler:
    """Takes all the room of a file system."""

    def __init__(self, directory):
        self.path = pathlib.Path(directory) / "filler"

    def fill(self):
        step = 8 << 20
        size = 0
        with open(self.path, "wb") as file:
            while step >= 1024:
                try:
                    os.posix_fallocate(file.fileno(), size, step)
                    size += step
                except OSError:
                    step //= 2

    def free(self):
        self.path.unlink(missing_ok=True)


def in_background(function, *arguments):
    """A thread; its result is in .result afterwards, None when it failed."""
    def run():
        with contextlib.suppress(Exception):
            thread.result = function(*arguments)
    thread = threading.Thread(target=run, daemon=True)
    thread.result = None
    thread.start()
    return thread


def holds_database(path):
    """A process that keeps a SQLite database for itself until it is ended."""
    child = subprocess.Popen(["/usr/bin/python3", "-c", (
        "import sqlite3, sys, time\n"
        "while True:\n"
        "    try:\n"
        "        db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0.1)\n"
        "        db.execute('PRAGMA locking_mode = EXCLUSIVE')\n"
        "        db.execute('BEGIN EXCLUSIVE')\n"
        "        break\n"
        "    except sqlite3.OperationalError:\n"
        "        time.sleep(0.05)\n"
        "print('held', flush=True)\ntime.sleep(600)\n"), str(path)], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"held\n"
    return child
