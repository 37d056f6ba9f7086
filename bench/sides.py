# SPDX-License-Identifier: Apache-2.0
"""The two sides of the benchmark: a move by OpenLPM, and a move by QEMU alone of the same partition with the same arguments."""

import contextlib
import os
import pathlib
import pwd
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

from bare import USER, BarePartition  # noqa: E402
from installation import program  # noqa: E402,F401
from lablib import LabError, wait_for  # noqa: E402

NAME, NUMBER = "bench", 10
MAX_BLACKOUT_MS = 300
MEMORY_MIB, FILLED_MIB = 1024, 256
SETTLE_S = 3.0
CPU_GROUP = pathlib.Path("/sys/fs/cgroup/cpuacct/openlpm-bench")


class Meter:
    """What is measured around a move, the same for both sides."""

    def __init__(self, lab, address):
        self.lab, self.address = lab, address

    def __enter__(self):
        self.client = self.lab.start_client(self.address, "bench", period_ms=10)
        time.sleep(1.0)
        self.lab.set_workload(self.address, longest_gap=0)
        self.wire = sum(self.lab.link_bytes("system-a"))
        self.cpu = cpu_seconds()
        self.begin = time.monotonic()
        return self

    def stop(self):
        """The move is over as far as total time, bytes and processor time go."""
        self.total_ms = (time.monotonic() - self.begin) * 1000
        self.wire = sum(self.lab.link_bytes("system-a")) - self.wire
        self.cpu = cpu_seconds() - self.cpu if self.cpu is not None else None

    def __exit__(self, kind, value, trace):
        if kind is not None:
            with contextlib.suppress(Exception):
                self.lab.stop_client(self.client, "bench")
            return
        time.sleep(1.0)
        status = self.lab.partition_status(self.address)
        report = self.lab.stop_client(self.client, "bench")
        if not report["whole"] or status["memory_errors"]:
            raise LabError(f"the move lost something: {report} {status}")
        self.figures = {"blackout_ms": report["udp_longest_gap_ms"], "guest_gap_ms": status["longest_gap_ms"],
                        "wire_bytes": self.wire}
        if self.cpu is not None:
            self.figures["cpu_s"] = round(self.cpu, 2)


def join_cpu_group():
    """Processes started from now on are counted together; quietly not counted where the kernel offers no such group."""
    with contextlib.suppress(OSError):
        CPU_GROUP.mkdir(exist_ok=True)
        (CPU_GROUP / "tasks").write_text(str(os.getpid()))


def leave_cpu_group():
    with contextlib.suppress(OSError):
        (CPU_GROUP.parent / "tasks").write_text(str(os.getpid()))
        CPU_GROUP.rmdir()


def cpu_seconds():
    try:
        return int((CPU_GROUP / "cpuacct.usage").read_text()) / 1e9
    except OSError:
        return None


def workload_options(writer_mb):
    return f"lpm.mem={FILLED_MIB} lpm.rate={writer_mb} lpm.verify=0 lpm.journal=0"


def settle(lab, address):
    """Waits until the partition's memory is filled and what booting left to do is done."""
    wait_for(lambda: lab.partition_status(address).get("memory_filled", True), 60, "memory filled", 0.2)
    time.sleep(SETTLE_S)


def ours(lab, writer_mb):
    """Boots the partition by OpenLPM on system-a and moves it to system-b; returns the figures and QEMU's arguments."""
    partition = lab.create("system-a", NAME, "x86-64", number=NUMBER, kernel_options=workload_options(writer_mb),
                           memory_mib=MEMORY_MIB, memory_backing="private")
    try:
        settle(lab, partition.address)
        argv = pathlib.Path(f"/proc/{lab.emulators(NAME)['system-a'][0]}/cmdline").read_bytes().decode().split("\0")[:-1]
        with Meter(lab, partition.address) as meter:
            end = lab.lpm_json("migrate", NAME, "system-b", "--max-blackout", str(MAX_BLACKOUT_MS))
            meter.stop()
        phases = {phase["name"]: phase["ms"] for phase in end["phases"]}
        print("  ours by phase, ms: " + ", ".join(f"{name} {ms:.0f}" for name, ms in phases.items()) +
              f"; blackout {end['blackout_ms']:.0f}", flush=True)
        copy = sum(phases.get(name, 0) for name in ("copy", "switchover", "commit"))
        return {**meter.figures, "total_ms": end["total_ms"], "command_ms": meter.total_ms, "copy_ms": copy}, argv
    finally:
        lab.lpm("partition", "stop", NAME, "--hard", check=False)
        lab.lpm("partition", "delete", NAME, "--disks", check=False)
        lab.partitions.pop(NAME, None)


class NativePartition(BarePartition):
    """QEMU with the arguments that OpenLPM gave it, but for paths and the tap's descriptor."""

    template = []

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


def set_native(one, multifd=0, compression="none"):
    capabilities = {"events": True, "return-path": True, "late-block-activate": True, "multifd": multifd > 0}
    one.qmp("migrate-set-capabilities", capabilities=[{"capability": c, "state": s} for c, s in capabilities.items()])
    one.qmp("migrate-set-parameters", max_bandwidth=1 << 40, downtime_limit=MAX_BLACKOUT_MS)
    if multifd:
        one.qmp("migrate-set-parameters", multifd_channels=multifd, multifd_compression=compression)


def wait_native(source, timeout):
    deadline = time.monotonic() + timeout
    while (status := source.qmp("query-migrate"))["status"] != "completed":
        if status["status"] == "failed" or time.monotonic() > deadline:
            raise LabError(f"native migration: {status['status']} {status.get('error-desc', '')}")
        time.sleep(0.02)


def native(lab, argv, timeout=300):
    """The same partition, booted and moved by QEMU alone over TCP."""
    NativePartition.template = argv
    disk = lab.dir / "san" / f"{NAME}.raw"
    with open(disk, "wb") as file:
        file.truncate(16 << 20)
    owner = pwd.getpwnam(USER)
    os.chown(disk, owner.pw_uid, owner.pw_gid)
    source = target = None
    try:
        source = NativePartition(lab, "system-a", NAME, "x86-64", NUMBER)
        lab.wait_for_partition(source.address)
        settle(lab, source.address)
        address = f"tcp:{lab.address('system-b')}:7900"
        with Meter(lab, source.address) as meter:
            target = NativePartition(lab, "system-b", NAME + "-in", "x86-64", NUMBER, incoming=True)
            for one in (source, target):
                set_native(one)
            target.qmp("migrate-incoming", uri=address)
            copy = time.monotonic()
            source.qmp("migrate", uri=address)
            # -S keeps the target stopped in our protocol; alone, QEMU lets it run as soon as it has loaded.
            target.qmp("cont")
            wait_native(source, timeout)
            wait_for(lambda: target.qmp("query-status")["status"] == "running", 10, "target runs", 0.005)
            copy = (time.monotonic() - copy) * 1000
            source.end()
            meter.stop()
        return {**meter.figures, "total_ms": meter.total_ms, "command_ms": meter.total_ms, "copy_ms": copy}
    finally:
        for one in (source, target):
            if one is not None:
                one.end()
        disk.unlink(missing_ok=True)
