# SPDX-License-Identifier: Apache-2.0
"""What is measured around a move, the same for both sides."""

import contextlib
import pathlib
import threading
import time

from lablib import LabError, wait_for

CGROUPS = pathlib.Path("/sys/fs/cgroup")
CHECK_MB = 2000
MOVER_PERIOD_S = 0.1


class CpuGroup:
    """A control group that counts the processor time of the processes put into it and of all they start; quietly counts nothing
    where the kernel offers no such group."""

    def __init__(self, name):
        self.v1 = (CGROUPS / "cpuacct").is_dir()
        self.path = CGROUPS / ("cpuacct" if self.v1 else "") / f"openlpm-bench-{name}"
        with contextlib.suppress(OSError):
            self.path.mkdir(exist_ok=True)

    def add(self, pid):
        with contextlib.suppress(OSError):
            (self.path / "cgroup.procs").write_text(str(pid))

    def seconds(self):
        try:
            if self.v1:
                return int((self.path / "cpuacct.usage").read_text()) / 1e9
            return int((self.path / "cpu.stat").read_text().split()[1]) / 1e6
        except OSError:
            return None

    def remove(self):
        with contextlib.suppress(OSError):
            self.path.rmdir()


class MoverMemory(threading.Thread):
    """Watches the movers that daemons start and keeps the largest memory that one of each daemon has had."""

    def __init__(self, daemons):
        super().__init__(daemon=True)
        self.daemons, self.peak_kib, self.ended = daemons, {}, threading.Event()

    def run(self):
        while not self.ended.wait(MOVER_PERIOD_S):
            for place, pid in self.daemons.items():
                for child in self._children(pid):
                    self._look(place, child)

    @staticmethod
    def _children(pid):
        with contextlib.suppress(OSError):
            return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return []

    def _look(self, place, pid):
        with contextlib.suppress(OSError):
            lines = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
            if lines["Name"].strip() == "lpm-mover" and "VmHWM" in lines:
                peak = int(lines["VmHWM"].split()[0])
                self.peak_kib[place] = max(peak, self.peak_kib.get(place, 0))

    def end(self):
        self.ended.set()
        self.join()


def check_memory(lab, address):
    """Has the partition compare all its memory with what it must hold; LabError when something is wrong."""
    before = lab.partition_status(address)
    setting, passes = ("check", "mixed_passes") if before["memory_mib"] == 0 else ("verify", "memory_passes")
    lab.set_workload(address, **{setting: CHECK_MB})
    after = wait_for(lambda: (s := lab.partition_status(address))[passes] >= before[passes] + 2 and s, 60,
                     f"comparison of the memory of {address}", 0.2)
    lab.set_workload(address, **{setting: 0})
    if after["memory_errors"]:
        raise LabError(f"the partition at {address} found wrong memory: {after}")


class Meter:
    """With Meter(...) as meter: the move; meter.stop(); afterwards meter.figures."""

    def __init__(self, lab, addresses, source, target, groups, daemons=None, echo_ms=10):
        self.lab, self.addresses, self.echo_ms = lab, addresses, echo_ms
        self.groups = {"source": groups[source], "target": groups[target]}
        if "console" in groups:
            self.groups["console"] = groups["console"]
        self.daemons = {"source": daemons[source], "target": daemons[target]} if daemons else {}
        self.clients = []

    def __enter__(self):
        for number, address in enumerate(self.addresses):
            self.clients.append((self.lab.start_client(address, f"bench{number}", period_ms=self.echo_ms), f"bench{number}", address))
        time.sleep(1.0)
        for address in self.addresses:
            self.lab.set_workload(address, longest_gap=0)
        self.memory = MoverMemory(self.daemons)
        self.memory.start()
        self.wire = sum(self.lab.link_bytes("system-a"))
        self.cpu = {name: group.seconds() for name, group in self.groups.items()}
        self.begin = time.monotonic()
        return self

    def stop(self):
        """The move is over as far as total time, bytes and processor time go."""
        self.total_ms = (time.monotonic() - self.begin) * 1000
        self.cpu = {name: group.seconds() - self.cpu[name] for name, group in self.groups.items() if self.cpu[name] is not None}
        self.wire = sum(self.lab.link_bytes("system-a")) - self.wire

    def __exit__(self, kind, value, trace):
        self.memory.end()
        if kind is not None:
            for client, name, _ in self.clients:
                with contextlib.suppress(Exception):
                    self.lab.stop_client(client, name)
            return
        time.sleep(0.5)
        gaps = []
        for client, name, address in self.clients:
            status = self.lab.partition_status(address)
            report = self.lab.stop_client(client, name)
            if not report["whole"]:
                raise LabError(f"the client of {address} lost something in the move: {report}")
            gaps.append((report["udp_longest_gap_ms"], status["longest_gap_ms"]))
        self.figures = {"wire_bytes": self.wire, "total_ms": self.total_ms, "command_ms": self.total_ms,
                        "blackout_ms": max(gap[0] for gap in gaps), "guest_gap_ms": max(gap[1] for gap in gaps)}
        if self.cpu:
            self.figures["cpu_s"] = sum(self.cpu.values())
            self.figures |= {f"cpu_{name}_s": self.cpu[name] for name in ("source", "target") if name in self.cpu}
        self.figures |= {f"mover_{side}_mib": round(kib / 1024, 1) for side, kib in self.memory.peak_kib.items()}


def wire_bytes(lab, place):
    """Bytes of a system's cable, without starting a process: for those who watch it closely."""
    with lab.at(place):
        for line in pathlib.Path(f"/proc/self/task/{threading.get_native_id()}/net/dev").read_text().splitlines():
            if line.strip().startswith("eth0:"):
                words = line.split(":", 1)[1].split()
                return int(words[0]) + int(words[8])
    raise LabError(f"{place} has no eth0")
