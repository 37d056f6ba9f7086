# SPDX-License-Identifier: Apache-2.0
"""Set-ups in which a partition must not move, each made really true, and where they are made: a lab of two systems with a running
partition (`subject`, on system-a) and one that is not activated (`sleeper`).

A table of them is a list of Broken; `ground.judge(row)` breaks, asks `lpm validate`'s question, sees that the check speaks and no
other one does, that a move is refused too, that nothing at all has changed on either system, and mends."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import time
import typing
from uuid import uuid4

import lablib
from installation import Installation, Partition, Refused, program
from tidy import movers, taps

SOURCE, TARGET = "system-a", "system-b"
SUBJECT, SLEEPER = "subject", "sleeper"
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
ANSWER_S = 2.0  # what an answer may take; printed at the end, judged by people: a loaded machine is slower
STATE_MIB = 64
SMALL = 8 << 20  # files up to this size are compared byte by byte, others by size and time


@dataclasses.dataclass(frozen=True)
class Broken:
    """One set-up. Everything that is said here is undone afterwards."""
    name: str
    check: str  # that must speak
    words: tuple = ()  # that must be in its finding
    # Ways to break, any number of them:
    # {system: {group: {key: value}}} of lpm-host; a group of None: left out
    config: dict = dataclasses.field(default_factory=dict)
    clock: dict = dataclasses.field(default_factory=dict)  # {system: seconds that its clock is ahead}
    profile: dict = dataclasses.field(default_factory=dict)  # members of the partition's profile, changed while it runs
    made: tuple = ()  # functions: ground -> context manager, entered in order
    # What is asked:
    partition: str = SUBJECT
    target: str = TARGET
    options: dict = dataclasses.field(default_factory=dict)
    # What is expected:
    besides: tuple = ()  # other checks that may speak too: consequences of the same cause
    severity: str = "error"
    unchanged: tuple = (SOURCE, TARGET)  # systems that can be asked
    long: bool = False  # not in `make check`


class Ground(Installation):
    """The lab; `with Ground(name) as ground`."""

    def __init__(self, name=None):
        super().__init__(name)
        self.present = {}  # system -> changes that its lpm-host runs with
        self.times = {}  # row -> seconds

    def __enter__(self):
        try:
            self.up(2)
            self._mount()
            for place in self.systems:
                self.set_clock(place, 0)
                self.set_power(place, AC={"type": "Mains", "online": 1}, BAT0={"type": "Battery", "status": "Full"})
            self._write_mover()
            self.install()
            self.present = {place: {} for place in self.systems}
            self.create_partitions()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_):
        for pid in self.recorded_processes().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for pid in self.processes_at(TARGET):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        lablib.command("umount", "-l", self.dir / TARGET / "state", check=False)
        self.down()

    # What it is made of

    def _mount(self):
        """The target's database is on a disk that can be filled."""
        lablib.command("mount", "-t", "tmpfs", "-o", f"size={STATE_MIB}m,mode=755", "state", self.dir / TARGET / "state")

    def _write_mover(self):
        """The mover's sandbox does not allow the wrapper of the clock."""
        self.mover = self.dir / "mover"
        self.mover.write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec {program("lpm-mover")} "$@"\n')
        self.mover.chmod(0o755)

    def host_config(self, place, changes=None):
        groups = super().host_config(place, {"mover": {"program": self.mover}, "qemu": {"power": ""},
            "limits": {"reserve_mib": 0},
                                             "power": {"supply": self.dir / place / "power"}})
        for group, keys in (changes or {}).items():
            if keys is None:
                groups.pop(group, None)
            else:
                groups.setdefault(group, {}).update(
                    {key: str(value).format(dir=self.dir, place=place) for key, value in keys.items()})
        return groups

    def start_host(self, place, changes=None, environment=None):
        """With a clock that set_clock() moves."""
        clock = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(self.dir / place / "clock"), "FAKETIME_NO_CACHE": "1",
                 "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
        return super().start_host(place, changes, {**clock, **(environment or {})})

    def with_page_faults(self):
        """Post-copy is no part of this, but of one row."""
        return []

    def set_clock(self, place, ahead):
        path = self.dir / place / "clock"
        path.with_suffix(".new").write_text(f"{ahead:+d}\n")
        os.rename(path.with_suffix(".new"), path)

    def set_power(self, place, **supplies):
        """The power-supply class of a system: name -> its files."""
        for name, files in supplies.items():
            base = self.dir / place / "power" / name
            base.mkdir(parents=True, exist_ok=True)
            for file, value in files.items():
                (base / file).write_text(f"{value}\n")

    def tiny(self, name, number, **changes):
        """Profile of a partition that is up at once: its firmware finds nothing to boot and rests."""
        return {"name": name, "family": "x86-64", "processors": 2, "memory_mib": 64, "guest_agent": False,
                "memory_backing": "shared",
                "disks": [{"name": "disk0", "pool": "san", "file": f"{name}.raw", "format": "raw", "size_mib": 4}],
                "networks": [{"name": "net0", "switch": "lan", "mac": f"52:54:00:77:00:{number:02x}"}], **changes}

    def create_partitions(self):
        self.make(SUBJECT, 80)
        self.make(SLEEPER, 81)  # one that never was activated cannot be moved
        self.rest("POST", f"/v1/partitions/{SLEEPER}/stop", {"how": "hard"})

    def make(self, name, number, place=SOURCE, start=True, **changes):
        profile = self.tiny(name, number, **changes)
        self.rest("POST", "/v1/partitions", {"system": place, "profile": profile})
        self.partitions[name] = Partition(name, None, profile)
        if start:
            self.rest("POST", f"/v1/partitions/{name}/start", {})
        return self.partitions[name]

    @contextlib.contextmanager
    def another(self, name, number, place=SOURCE, start=True, **changes):
        partition = self.make(name, number, place, start, **changes)
        try:
            yield partition
        finally:
            self.delete(partition)

    # Breaking

    def configure(self, wanted):
        """Every lpm-host runs with these changes of its configuration: one that does not is started again."""
        for place in self.systems:
            changes = wanted.get(place, {})
            if "lesser_qemu" in str(changes):
                changes = {**changes, "#": (self.dir / place / "lesser_qemu.json").read_text()}
            if self.present.get(place) != changes:
                self.present[place] = None
                if (pid := self.recorded_processes().get(f"lpm-host-{place}")):
                    os.kill(pid, signal.SIGTERM)
                    lablib.wait_for(lambda: f"lpm-host-{place}" not in self.recorded_processes(), 20,
                        f"end of lpm-host on {place}")
                self.start_host(place, {group: keys for group, keys in changes.items() if group != "#"})
                self.wait_for_system(place)
                self.present[place] = changes

    def without_host(self, place, act, environment=None):
        """Does something while lpm-host is away; partitions run on."""
        os.kill(self.pid(f"lpm-host-{place}"), signal.SIGTERM)
        lablib.wait_for(lambda: f"lpm-host-{place}" not in self.recorded_processes(), 20, f"end of lpm-host on {place}")
        try:
            act()
        finally:
            self.start_host(place, environment=environment)
            self.wait_for_system(place)

    @contextlib.contextmanager
    def clocks(self, ahead):
        for place, seconds in ahead.items():
            self.set_clock(place, seconds)
        try:
            yield
        finally:
            for place in ahead:
                self.set_clock(place, 0)

    @contextlib.contextmanager
    def profile_changes(self, name, changes):
        if not changes:
            yield
            return
        before = self.rest("GET", f"/v1/partitions/{name}")["profile"]
        self.rest("PATCH", f"/v1/partitions/{name}", {"changes": changes})
        try:
            yield
        finally:
            self.rest("PATCH", f"/v1/partitions/{name}", {"changes": {key: before[key] for key in changes}})

    # Judging

    def validate(self, name=SUBJECT, target=TARGET, options=None):
        """What the console says, and how long it took."""
        for _ in range(3):
            start = time.monotonic()
            wanted = {"measure": False, **(options or {})}  # which takes a second by itself
            answer = self.rest("POST", "/v1/validate", {"partition": name, "target": target, "options": wanted})
            result, seconds = answer["results"][0], time.monotonic() - start
            # A machine that had no time for us for seconds says nothing about the set-up.
            if seconds < 2 * ANSWER_S or not any(finding["not_checked"] for finding in result["findings"]):
                break
        return result, seconds

    @contextlib.contextmanager
    def broken(self, *rows):
        """All of these at once."""
        config = {}
        for make in (make for row in rows for make in row.made if hasattr(make, "before")):
            make.before(self)
        for row in rows:
            for place, groups in row.config.items():
                for group, keys in groups.items():
                    mine = config.setdefault(place, {})
                    mine[group] = None if keys is None else {**(mine.get(group) or {}), **keys}
        self.configure(config)
        with contextlib.ExitStack() as stack:
            for row in rows:
                stack.enter_context(self.clocks(row.clock))
                for make in row.made:
                    stack.enter_context(make(self))
                stack.enter_context(self.profile_changes(row.partition, row.profile))
            yield

    def judge(self, row):
        with self.broken(row):
            before = self.fingerprint(row.unchanged)
            result, self.times[row.name] = self.validate(row.partition, row.target, row.options)
            judge_findings(row, result["findings"])
            if row.severity == "error":
                self.is_refused(row)
            same(before, self.fingerprint(row.unchanged))

    def judge_healthy(self, name=SUBJECT, target=TARGET, **options):
        result, self.times["healthy"] = self.validate(name, target, options)
        assert not loud(result["findings"]), json.dumps(loud(result["findings"]), indent=1)
        return result

    def is_refused(self, row):
        """A move ends at once, for the same reason."""
        try:
            begun = self.rest("POST", "/v1/migrations", {"partition": row.partition, "target": row.target,
                                                         "options": {"measure": False, **row.options}})
        except Refused as error:
            assert error.error_class in ("refused", "busy", "state", "unreachable"), error
            return
        status = self.wait_for_migration(begun["migration"], 30)
        assert status["state"] == "refused", json.dumps(status)[:2000]
        assert row.check in {finding["check"] for finding in status["findings"]}, status["findings"]

    def fingerprint(self, systems):
        """Everything that a validation or a refused move could have changed."""
        found = {"disks": self._files(self.dir / "san"), "records": self._files(self.dir / "san" / ".lpm", "*.record")}
        for place in systems:
            base = self.dir / place
            lablib.wait_for(lambda: not list(self.dir.glob("san/.lpm/nonce-*")) or len(systems) < 2, 15, "the nonces are gone")
            found[place] = {
                "database": self._files(base / "state", "host.db*"), "local": self._files(base / "local"),
                "qemus": {name: self._processes(name, place) for name in self.partitions},
                "taps": taps(self, place), "run": sorted(str(path) for path in (base / "run").glob("partitions/*")),
                "partitions": [(p["name"], p["state"]) for p in self.host_rpc(place, "partition-list")["partitions"]],
                "moves": [m["migration"] for m in self.host_rpc(place, "migration-list")["migrations"]],
                "slots": self.host_rpc(place, "system-info")["slots"]}
        return found

    def _processes(self, name, place):
        return [(pid, lablib.process_start(pid)) for pid in self.emulators(name).get(place, [])]

    @staticmethod
    def _files(base, pattern="*"):
        found = {}
        for path in sorted(base.glob(pattern)):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    status = path.stat()
                    found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest() if status.st_size <= SMALL \
                        else (status.st_size, status.st_mtime_ns)
        return found


def loud(findings):
    """Those that speak of something wrong with the set-up; information does not, nor does a warning that this machine is busy."""
    return [finding for finding in findings if finding["severity"] != "info"
            and (finding["check"], finding["severity"]) != ("general.arbiter-quick", "warning")]


def judge_findings(row, findings):
    shown = json.dumps(findings, indent=1)
    mine = [finding for finding in findings if finding["check"] == row.check]
    assert mine, f"{row.name}: {row.check} is silent: {shown}"
    for finding in findings:
        assert finding["object"] and finding["expected"] and finding["found"] and finding["remedy"], finding
        assert not finding["not_checked"] or finding["check"] in row.besides, f"{row.name}: not checked: {finding}"
    text = json.dumps(mine)
    for word in row.words:
        assert word in text, f"{row.name}: \"{word}\" is not said: {text}"
    assert row.severity in {finding["severity"] for finding in mine}, text
    others = {finding["check"] for finding in loud(findings)} - {row.check, *row.besides}
    assert not others, f"{row.name}: false alarm of {others}: {shown}"


def same(before, after, path=""):
    """Two fingerprints are the same; says where they are not."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            same(before.get(key), after.get(key), f"{path}/{key}")
    else:
        assert before == after, f"changed: {path}: {before} -> {after}"


# Ways to break, to be named in Broken.made

def filled(place):
    """The disk with lpm-host's database is nearly full."""
    @contextlib.contextmanager
    def made(ground):
        ballast = ground.dir / place / "state" / "ballast"
        status = os.statvfs(ballast.parent)
        ballast.write_bytes(bytes(status.f_bavail * status.f_frsize - (4 << 20)))
        try:
            yield
        finally:
            ballast.unlink()
    return made


def nodes(place, *free):
    """A sysfs of a server with these NUMA nodes: (free MiB, processors) each."""
    @contextlib.contextmanager
    def made(ground):
        base = ground.dir / place / "sysfs" / "devices" / "system" / "node"
        base.mkdir(parents=True, exist_ok=True)
        (base / "online").write_text(f"0-{len(free) - 1}\n")
        for number, (mib, processors) in enumerate(free):
            node = base / f"node{number}"
            node.mkdir(exist_ok=True)
            (node / "meminfo").write_text(f"Node {number} MemTotal: 999999 kB\nNode {number} MemFree: {mib << 10} kB\n")
            (node / "cpulist").write_text(f"0-{processors - 1}\n" if processors else "\n")
            (node / "distance").write_text(" ".join("10" if other == number else "20" for other in range(len(free))) + "\n")
        yield
    return made


def lesser_qemu(place, **less):
    """The emulator of a system lacks these; with config={place: {"qemu": {"x86-64": LESSER}}}."""
    @contextlib.contextmanager
    def made(ground):
        yield
    made.before = lambda ground: write_lesser_qemu(ground, place, less)
    return made


LESSER = "{dir}/{place}/lesser_qemu.py"


def write_lesser_qemu(ground, place, less):
    base = ground.dir / place
    shutil.copy(pathlib.Path(__file__).with_name("lesser_qemu.py"), base)
    (base / "lesser_qemu.json").write_text(json.dumps({"real": shutil.which("qemu-system-x86_64"), **less}))


def other_time(place, seconds):
    """A clock so wrong that its certificate has expired: lpm-host does not open its port with it."""
    @contextlib.contextmanager
    def made(ground):
        ground.set_clock(place, seconds)
        os.kill(ground.pid(f"lpm-host-{place}"), signal.SIGKILL)
        lablib.wait_for(lambda: ground.rest("GET", f"/v1/systems/{place}")["state"] == "unreachable", 30,
            f"{place} noticed missing")
        ground.start_host(place)
        try:
            yield
        finally:
            ground.set_clock(place, 0)
            os.kill(ground.pid(f"lpm-host-{place}"), signal.SIGKILL)
            lablib.wait_for(lambda: f"lpm-host-{place}" not in ground.recorded_processes(), 10, "its end")
            ground.start_host(place)
            ground.wait_for_system(place)
    return made


def uuid_taken(name, place=TARGET):
    """A partition of another name with the UUID of this one; its record is elsewhere."""
    @contextlib.contextmanager
    def made(ground):
        uuid = ground.rest("GET", f"/v1/partitions/{name}")["profile"]["uuid"]
        with stranger("copy", place, uuid=uuid, arbiter="console", networks=[],
                      disks=[{"name": "disk0", "pool": "local", "file": "copy.raw", "format": "raw", "size_mib": 4}])(ground):
            yield
    return made


def foreign_device(name, place):
    """Somebody puts a device into a running partition by QEMU's monitor, while lpm-host is not there to see it."""
    @contextlib.contextmanager
    def made(ground):
        uuid = ground.rest("GET", f"/v1/partitions/{name}")["profile"]["uuid"]
        ground.without_host(place, lambda: monitor(
            ground, place, uuid, ("chardev-add", {"id": "nowhere", "backend": {"type": "null", "data": {}}}),
            ("device_add", {"driver": "virtconsole", "id": "foreign", "chardev": "nowhere"})))
        yield
    return made


def monitor(ground, place, uuid, *commands):
    """Commands of QMP, by the partition's own socket."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(20)
        connection.connect(str(next((ground.dir / place / "run" / "partitions" / uuid).glob("qmp*"))))
        with connection.makefile("rwb") as stream:
            for command, arguments in (("qmp_capabilities", {}), *commands):
                stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
                stream.flush()
                while not {"return", "error"} & set(answer := json.loads(stream.readline())):
                    pass
                assert "return" in answer, answer


def console_session(name, place=SOURCE):
    @contextlib.contextmanager
    def made(ground):
        path = ground.rest("GET", f"/v1/partitions/{name}")["console_socket"]
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.connect(str(path))
            yield
    return made


def dead_qemu(name, place=SOURCE):
    """The partition's QEMU has died."""
    @contextlib.contextmanager
    def made(ground):
        for pid in ground.emulators(name)[place]:
            os.kill(pid, signal.SIGKILL)
        lablib.wait_for(lambda: ground.rest("GET", f"/v1/partitions/{name}")["state"] == "error", 20, "its end is noticed")
        yield
    return made

def command_at(place, begin, end):
    """A command at a place, and the one that undoes it."""
    @contextlib.contextmanager
    def made(ground):
        ground.run(place, *begin.split())
        try:
            yield
        finally:
            ground.run(place, *end.split())
    return made


def stopped(place):
    """lpm-host hangs: it is there and answers nothing."""
    @contextlib.contextmanager
    def made(ground):
        pid = ground.pid(f"lpm-host-{place}")
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
            ground.wait_for_system(place)
    return made


def killed(place):
    """lpm-host is gone."""
    @contextlib.contextmanager
    def made(ground):
        os.kill(ground.pid(f"lpm-host-{place}"), signal.SIGKILL)
        lablib.wait_for(lambda: ground.rest("GET", f"/v1/systems/{place}")["state"] == "unreachable", 30,
            f"{place} noticed missing")
        try:
            yield
        finally:
            ground.start_host(place)
            ground.wait_for_system(place)
    return made


def maintenance(place):
    @contextlib.contextmanager
    def made(ground):
        ground.rest("POST", f"/v1/systems/{place}/maintenance", {"maintenance": True})
        try:
            yield
        finally:
            ground.rest("POST", f"/v1/systems/{place}/maintenance", {"maintenance": False})
    return made


def power(place, **supplies):
    """Files of the power-supply class; written back as they were, or removed."""
    @contextlib.contextmanager
    def made(ground):
        base = ground.dir / place / "power"
        before = {path: path.read_text() for path in base.glob("*/*")}
        ground.set_power(place, **supplies)
        try:
            yield
        finally:
            for path in base.glob("*/*"):
                if path in before:
                    path.write_text(before[path])
                else:
                    path.unlink()
    return made


def neighbour(name, number, place=SOURCE, start=True, **changes):
    """Another partition."""
    return lambda ground: ground.another(name, number, place, start, **changes)


def stranger(name, place=TARGET, **changes):
    """A partition that somebody made on one system behind the console's back."""
    @contextlib.contextmanager
    def made(ground):
        uuid = changes.get("uuid") or str(uuid4())
        ground.host_rpc(place, "partition-create", profile={**ground.tiny("stranger", 90), **changes, "uuid": uuid, "name": name})
        try:
            yield
        finally:
            ground.host_rpc(place, "partition-delete", partition=uuid, disks=True)
    return made


def under_way(ground, place):
    return [half for half in ground.host_rpc(place, "migration-list")["migrations"] if not half["finished"]]


def halted_move(name):
    """A partition is on its way, and the source's mover stands still as soon as there is one."""
    @contextlib.contextmanager
    def made(ground):
        migration = ground.migrate(name, TARGET, wait=False, verify=False, measure=False, connect_timeout_ms=60000)

        halted = set()

        def halt():
            if under_way(ground, SOURCE):
                for pid in movers(ground, SOURCE):
                    os.kill(pid, signal.SIGSTOP)
                    halted.add(pid)
            return halted
        lablib.wait_for(halt, 30, "the move under way", 0.002)
        try:
            yield
        finally:
            for pid in halted:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            with contextlib.suppress(Refused):
                ground.rest("POST", f"/v1/migrations/{migration}/stop", {})
            ground.wait_for_migration(migration, 60)
    return made


def holding(*parts):
    """Another process has this file open for writing, locked as QEMU locks it."""
    @contextlib.contextmanager
    def made(ground):
        path = ground.dir.joinpath(*parts)
        holder = ground.start("san", "holder", "qemu-system-x86_64", "-M", "none", "-display", "none", "-nodefaults", "-blockdev",
                              f"driver=file,node-name=held,filename={path},locking=on")
        lablib.wait_for(lambda: str(path) in "".join(
            os.readlink(link) for link in pathlib.Path(f"/proc/{holder.pid}/fd").iterdir()), 20, "the holder has it open")
        try:
            yield
        finally:
            holder.terminate()
            holder.wait(20)
    return made


def rows(table: typing.Iterable[Broken]):
    """For pytest.mark.parametrize: the long ones are marked."""
    import pytest
    return [pytest.param(row, id=row.name, marks=[pytest.mark.long] if row.long else []) for row in table]
