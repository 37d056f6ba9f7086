# SPDX-License-Identifier: Apache-2.0
"""Several systems on one machine: network namespaces, links between them, and the processes that belong to them.

Networks (see lab/README.md):
  management and mover  10.77.1.0/24   console .1, system-a .11, system-b .12, system-c .13, san .20
  fast, movers only     10.77.2.0/24   system-a .11, system-b .12, ...; used where a case configures it
  partitions            10.77.0.0/24   client .1, partitions from .10 up; a bridge br-lan in every system
"""

import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
MANAGEMENT = "10.77.1"
FAST = "10.77.2"
PARTITIONS = "10.77.0"
PARTITION_BRIDGE = "br-lan"
ARCHITECTURES = {"x86-64": "amd64", "power": "ppc64el"}
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """Something that the lab was asked for and cannot do; the message says why."""


def command(*argv, check=True, **options):
    """Runs a command, with its output captured as text unless told otherwise."""
    options.setdefault("capture_output", True)
    result = subprocess.run([str(a) for a in argv], text=True, check=False, **options)
    if check and result.returncode != 0:
        raise LabError(f"{' '.join(str(a) for a in argv)}: exit {result.returncode}: {(result.stderr or '').strip()}")
    return result


def wait_for(condition, timeout, what, period=0.05):
    """Asks again until the condition returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {timeout} s")
        time.sleep(period)


def process_start(pid):
    """When a process started, in clock ticks since boot: tells a process from a later one with the same number."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rsplit(")", 1)[1].split()
    return None if fields[0] == "Z" else int(fields[19])


def end_processes(pids, patience=3.0):
    """Asks these processes to end, and makes those end that have not after some time."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and any(process_start(p) for p in pids):
        time.sleep(0.02)
    for pid in pids:
        if process_start(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and any(process_start(p) for p in pids):
        time.sleep(0.02)


class Lab:
    """One lab, found by its name; several with different names can be up side by side."""

    def __init__(self, name=None):
        self.name = name or os.environ.get("LAB", "lpm")
        if not re.fullmatch(r"[a-z][a-z0-9]{0,7}", self.name):
            raise LabError(f"lab name '{self.name}': up to 8 lower-case letters and digits, beginning with a letter")
        self.dir = pathlib.Path(os.environ.get("LPM_LAB_DIR", "/tmp/openlpm-lab")) / self.name
        self.children = []

    # What there is

    @property
    def is_up(self):
        return (self.dir / "lab.json").exists()

    @property
    def systems(self):
        try:
            return json.loads((self.dir / "lab.json").read_text())["systems"]
        except OSError:
            raise LabError(f"lab '{self.name}' is not up: lab/lab up") from None

    @property
    def places(self):
        return [*self.systems, "console", "client", "san"]

    def namespace(self, place):
        return f"{self.name}-{place}"

    def address(self, place):
        """Of the place on the management network."""
        if place == "console":
            return f"{MANAGEMENT}.1"
        if place == "san":
            return f"{MANAGEMENT}.20"
        return f"{MANAGEMENT}.{11 + ord(place[-1]) - ord('a')}"

    @staticmethod
    def fast_address(place):
        """Of a system on the second network for movers."""
        return f"{FAST}.{11 + ord(place[-1]) - ord('a')}"

    def namespaces(self):
        """Those of this lab that exist now."""
        pattern = re.compile(rf"{self.name}-(system-[a-z]|member-[0-9]|console|client|san|switch)")
        names = (line.split()[0] for line in command("ip", "netns", "list").stdout.splitlines() if line.strip())
        return sorted(name for name in names if pattern.fullmatch(name))

    # Up and down

    def up(self, systems=2):
        if self.is_up or self.namespaces():
            raise LabError(f"lab '{self.name}' is up already: lab/lab down")
        if not 1 <= systems <= 8:
            raise LabError("a lab has 1 to 8 systems")
        names = [f"system-{chr(ord('a') + i)}" for i in range(systems)]
        self.dir.mkdir(parents=True)
        (self.dir / "lab.json").write_text(json.dumps({"systems": names}))
        for place in ("san", "console", "client", "pids", "log"):
            (self.dir / place).mkdir()
        (self.dir / "san").chmod(0o1777)
        for name in names:
            for part in ("local", "state", "run"):
                (self.dir / name / part).mkdir(parents=True)
            (self.dir / name / "local").chmod(0o1777)
        try:
            self._build_network()
        except BaseException:
            self.down()
            raise

    def _build_network(self):
        switch = self.namespace("switch")
        self._add_namespace(switch)
        for bridge in ("mgmt", "lan", "fast"):
            command("ip", "-n", switch, "link", "add", "name", bridge, "type", "bridge")
            command("ip", "-n", switch, "link", "set", bridge, "up")
        for place in self.places:
            self._add_namespace(self.namespace(place))
        for place in [*self.systems, "console", "san"]:
            self._plug(place, "eth0", "mgmt", f"m-{place}")
            command("ip", "-n", self.namespace(place), "addr", "add", f"{self.address(place)}/24", "dev", "eth0")
        self._plug("client", "eth0", "lan", "l-client")
        command("ip", "-n", self.namespace("client"), "addr", "add", f"{PARTITIONS}.1/24", "dev", "eth0")
        for place in self.systems:
            space = self.namespace(place)
            self._plug(place, "eth1", "fast", f"f-{place}")
            command("ip", "-n", space, "addr", "add", f"{self.fast_address(place)}/24", "dev", "eth1")
            command("ip", "-n", space, "link", "add", "name", PARTITION_BRIDGE, "type", "bridge")
            command("ip", "-n", space, "link", "set", PARTITION_BRIDGE, "up")
            self._plug(place, "uplink", "lan", f"l-{place}")
            command("ip", "-n", space, "link", "set", "uplink", "master", PARTITION_BRIDGE)

    def add_network(self, name, prefix):
        """One more network for partitions (or a VLAN: to OpenLPM that is a bridge of its own): a bridge br-NAME in every system,
        with the cable up-NAME to a bridge NAME of the switch, and the client at PREFIX.1 with c-NAME."""
        switch = self.namespace("switch")
        command("ip", "-n", switch, "link", "add", "name", name, "type", "bridge")
        command("ip", "-n", switch, "link", "set", name, "up")
        self._plug("client", f"c-{name}", name, f"{name}-client")
        command("ip", "-n", self.namespace("client"), "addr", "add", f"{prefix}.1/24", "dev", f"c-{name}")
        for place in self.systems:
            space = self.namespace(place)
            command("ip", "-n", space, "link", "add", "name", f"br-{name}", "type", "bridge")
            command("ip", "-n", space, "link", "set", f"br-{name}", "up")
            self._plug(place, f"up-{name}", name, f"{name}-{place[-1]}")
            command("ip", "-n", space, "link", "set", f"up-{name}", "master", f"br-{name}")

    @staticmethod
    def _add_namespace(space):
        command("ip", "netns", "add", space)
        command("ip", "-n", space, "link", "set", "lo", "up")

    def _plug(self, place, inside, bridge, port):
        """A cable from a place to a bridge of the switch."""
        space, switch = self.namespace(place), self.namespace("switch")
        command("ip", "-n", switch, "link", "add", "name", port, "type", "veth", "peer", "name", inside, "netns", space)
        command("ip", "-n", switch, "link", "set", port, "master", bridge)
        command("ip", "-n", switch, "link", "set", port, "up")
        command("ip", "-n", space, "link", "set", inside, "up")

    def down(self):
        """Removes everything, however far it had come; ends only processes that belong to this lab."""
        spaces = self.namespaces()
        pids = set(self.recorded_processes().values())
        for space in spaces:
            pids.update(int(p) for p in command("ip", "netns", "pids", space, check=False).stdout.split())
        end_processes(pids - {os.getpid(), os.getppid()})
        for child in self.children:
            child.poll()
        for space in spaces:
            command("ip", "netns", "del", space, check=False)
        if (self.dir / "lab.json").exists():
            shutil.rmtree(self.dir)
        with contextlib.suppress(OSError):
            self.dir.parent.rmdir()

    # Processes

    def record_process(self, name, pid):
        """Has `down` end this process."""
        (self.dir / "pids" / name).write_text(f"{pid} {process_start(pid)}\n")

    def recorded_processes(self):
        """Name -> process number, of those that still run."""
        found = {}
        for path in sorted((self.dir / "pids").glob("*")):
            pid, start = path.read_text().split()
            if start != "None" and process_start(pid) == int(start):
                found[path.name] = int(pid)
        return found

    def processes_at(self, place):
        """Numbers of all processes that live there."""
        return [int(pid) for pid in command("ip", "netns", "pids", self.namespace(place)).stdout.split()]

    def argv(self, place, *argv):
        return ["ip", "netns", "exec", self.namespace(place), *(str(a) for a in argv)]

    def run(self, place, *argv, **options):
        """Runs a command at a place to its end."""
        return command(*self.argv(place, *argv), **options)

    def start(self, place, name, *argv, **options):
        """Starts a long-running program at a place; its output goes to log/NAME.log. It ends with the lab at the latest."""
        with open(self.dir / "log" / f"{name}.log", "ab") as log:
            child = subprocess.Popen(self.argv(place, *argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     start_new_session=True, **options)
        self.children.append(child)
        self.record_process(name, child.pid)
        return child

    def log(self, name):
        """What a program started here has said so far."""
        path = self.dir / "log" / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # Links

    LINKS = {"mgmt": ("eth0", "m-"), "lan": ("uplink", "l-"), "fast": ("eth1", "f-")}

    def link(self, place, action, rate=None, network="mgmt"):
        """Cuts (down), mends (up) or shapes (rate R both ways, such as 100mbit; none: unshaped) a system's cable."""
        inside, prefix = self.LINKS[network]
        ends = [(self.namespace(place), inside), (self.namespace("switch"), prefix + place)]
        if action in ("up", "down"):
            command("ip", "-n", ends[1][0], "link", "set", ends[1][1], action)
        elif action == "rate":
            for space, device in ends:
                command("tc", "-n", space, "qdisc", "del", "dev", device, "root", check=False)
                if rate != "none":
                    command("tc", "-n", space, "qdisc", "add", "dev", device, "root", "tbf", "rate", rate,
                            "burst", "256k", "latency", "50ms")
        else:
            raise LabError(f"link {action}: choose up, down or rate")

    def link_bytes(self, place, network="mgmt"):
        """Bytes that a system's cable has carried: (sent by the system, received by it)."""
        text = command("ip", "-n", self.namespace(place), "-s", "-j", "link", "show", self.LINKS[network][0]).stdout
        stats = json.loads(text)[0]["stats64"]
        return stats["tx"]["bytes"], stats["rx"]["bytes"]

    # Talking from a place

    @contextlib.contextmanager
    def at(self, place):
        """Within this context the calling thread's new sockets belong to the place."""
        with open(f"/proc/self/task/{threading.get_native_id()}/ns/net", "rb") as before, \
                open(f"/run/netns/{self.namespace(place)}", "rb") as there:
            if _libc.setns(there.fileno(), CLONE_NEWNET) != 0:
                raise LabError(f"cannot enter {place}: {os.strerror(ctypes.get_errno())}")
            try:
                yield
            finally:
                _libc.setns(before.fileno(), CLONE_NEWNET)

    def connect(self, place, address, port, timeout=3.0):
        with self.at(place):
            return socket.create_connection((address, port), timeout=timeout)

    def partition_status(self, address, timeout=3.0):
        """What the partition at this address says of itself (lab/guest/workloads/status.c), seen from the client."""
        with self.connect("client", address, 7001, timeout) as connection, connection.makefile() as stream:
            return json.loads(stream.readline())

    def wait_for_partition(self, address, timeout=90.0):
        """Waits until the partition's workloads answer; returns their status."""
        def ask():
            with contextlib.suppress(OSError, ValueError):
                return self.partition_status(address, 1.0)
        return wait_for(ask, timeout, f"workloads of the partition at {address}")

    def set_workload(self, address, **settings):
        """Changes workload settings: rate, verify (MB/s), journal (records/s), longest_gap."""
        with self.connect("client", address, 7002) as connection, connection.makefile("rw") as stream:
            for name, value in settings.items():
                stream.write(f"{name} {value}\n")
                stream.flush()
                if (answer := stream.readline().strip()) != "ok":
                    raise LabError(f"partition at {address}: {name} {value}: {answer}")

    def partition_shell(self, address, text, timeout=20.0):
        """Runs lines of shell in the partition at this address; returns what they wrote."""
        mark = "--end-of-shell--"
        with self.connect("client", address, 7004, timeout) as connection, connection.makefile("rw") as stream:
            stream.write(f"exec 2>&1\n{text}\necho {mark}$?\nexit\n")
            stream.flush()
            out = ""
            for line in stream:
                if line.startswith(mark):
                    return out
                out += line
        raise LabError(f"shell of the partition at {address}: {out!r}")

    def start_client(self, address, name="client", period_ms=10):
        """Starts a client that talks to the partition's services without pause."""
        output = self.dir / "client" / f"{name}.json"
        child = self.start("client", name, "/usr/bin/python3", HERE / "client.py", "--address", address, "--period-ms",
                           period_ms, "--output", output)
        wait_for(lambda: "connected" in self.log(name) or child.poll() is not None, 15, f"client of {address}")
        if child.poll() is not None:
            raise LabError(f"client of {address}: {self.log(name).strip()}")
        return child

    def stop_client(self, child, name="client"):
        """Ends it and returns its report (lab/client.py)."""
        child.send_signal(signal.SIGTERM)
        child.wait(30)
        return json.loads((self.dir / "client" / f"{name}.json").read_text())


def image(family, variant=""):
    """Directory of the partition image of a family (x86-64, power): kernel, initramfs. Built when it is not there. The
    variant "-bench" of x86-64 has the page cache of a busy server."""
    return pathlib.Path(command(HERE / "guest" / "build", ARCHITECTURES[family] + variant, stderr=None, stdout=subprocess.PIPE,
                                capture_output=False).stdout.strip())
