# SPDX-License-Identifier: Apache-2.0
"""OpenLPM as its packages' users have it: on machines whose process 1 is systemd, by its units, set up as docs/guide/start.md says.

A machine is a place of the lab with process, mount, cgroup, IPC and host name namespaces of its own. Its root is this machine's;
what it writes is in memory and is gone with it."""

import contextlib
import json
import os
import pathlib
import signal

from installation import QEMU_USER, Installation, Refused, build_dir, ini
from lablib import HERE, PARTITION_BRIDGE, ROOT, LabError, command, wait_for

RPC_PORT = 7601  # of the console: it is on a server, whose lpm-host has 7600
SECOND_POOL = "/mnt/pool1"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Asks lpm-host's local socket, on its machine.
ASK = """import json, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(40)
connection.connect("/run/openlpm/host.sock")
connection.sendall(json.dumps({"execute": sys.argv[1], "arguments": json.loads(sys.argv[2]), "id": 1}).encode() + b"\\n")
print(next(line for line in connection.makefile() if json.loads(line).get("id") == 1))"""


def unified_groups():
    """Where this machine's control groups (version 2) are."""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2" and "rw" in options.split(","):
            return pathlib.Path(where)
    raise LabError("control groups (version 2) are not mounted, or only to be read: a systemd cannot have its own here")


class Machines(Installation):
    """system-a, which has the console too, and system-b."""

    def __init__(self, name=None):
        super().__init__(name)
        self.first = {}  # place -> process number of its systemd, as seen from here
        self.groups = {}  # place -> its configuration
        self.environment = {}

    @property
    def console_place(self):
        return "system-a"

    # Machines

    def install(self):
        """Both machines run, with OpenLPM installed as `make install` does it; nothing is set up yet."""
        added = self.dir / "installed"
        command("meson", "install", "-C", build_dir(), "--no-rebuild", "--quiet", "--destdir", added)
        if not (added / "usr/local/bin/lpm-host").exists():
            raise LabError(f"{build_dir()} is not built for the prefix /usr/local")
        for place in self.systems:
            self.start_machine(place)
        for place in self.systems:
            wait_for(lambda place=place: self.is_running(place), 90, f"systemd on {place}", 0.2)
            self.start(place, f"journal-{place}", *self.entering(place), "journalctl", "--follow", "--unit=lpm-host", "--unit=lpm-console")
            for words in (["groupadd", "-r", "-g", "640", "lpm-qemu"],
                          ["useradd", "-r", "-u", "640", "-g", "640", "-d", "/nonexistent", "-s", "/usr/sbin/nologin", "lpm-qemu"]):
                self.on(place, *words)
            command("cp", "-a", f"{added}/.", self.inside(place, "/"))
            self.on(place, "sh", "-s", "/usr/local", input=(ROOT / "scripts/settle").read_text())

    def group(self, place):
        return unified_groups() / f"openlpm-{self.namespace(place)}"

    def start_machine(self, place):
        self.group(place).mkdir()
        starter = self.start(place, f"machine-{place}", "unshare", "--fork", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--kill-child",
                             HERE / "machine-init", place, self.dir / "san",
                             preexec_fn=lambda: (self.group(place) / "cgroup.procs").write_text("0"))

        def child():
            if starter.poll() is not None:
                raise LabError(f"{place} ended: {self.log(f'machine-{place}')[-2000:]}")
            words = pathlib.Path(f"/proc/{starter.pid}/task/{starter.pid}/children").read_text().split()
            if words and pathlib.Path(f"/proc/{words[0]}/comm").read_text().strip() == "systemd":
                return int(words[0])
        self.first[place] = wait_for(child, 30, f"process 1 of {place}")

    def is_running(self, place):
        """Whether it has booted: whether something failed is for the cases to say."""
        return self.on(place, "systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded")

    def down(self):
        for pid in self.first.values():
            with contextlib.suppress(ProcessLookupError):  # all else on the machine ends with it
                os.kill(pid, signal.SIGKILL)
        super().down()
        groups = []
        with contextlib.suppress(LabError):
            groups = unified_groups().glob(f"openlpm-{self.name}-*")
        for group in groups:
            for path in [*sorted(group.glob("**/"), key=lambda p: -len(p.parts))]:
                with contextlib.suppress(OSError):
                    wait_for(lambda path=path: "populated 0" in (path / "cgroup.events").read_text(), 10, f"end of {path}")
                    path.rmdir()

    def on(self, place, *words, **options):
        """Runs a command on a machine, as root."""
        options.setdefault("timeout", 120)
        return command(*self.entering(place), *words, **options)

    def entering(self, place):
        """Words before a command that is to run on a machine."""
        return ["nsenter", "--target", self.first[place], "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--wdns=/",
                "env", "-i", f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8"]

    def inside(self, place, path):
        """A path of a machine, as it is to be opened from here."""
        return pathlib.Path(f"/proc/{self.first[place]}/root", str(path).lstrip("/"))

    def show(self, place, unit, *names):
        """Properties of a unit."""
        text = self.on(place, "systemctl", "show", unit, *(f"--property={name}" for name in names)).stdout
        return dict(line.split("=", 1) for line in text.splitlines())

    def main(self, place, unit):
        """Number that the unit's main process has here; 0 when it has none."""
        wanted = self.show(place, unit, "MainPID")["MainPID"]
        return 0 if wanted == "0" else self.seen_here(place, wanted)

    def seen_here(self, place, number):
        for pid in self.processes_at(place):
            with contextlib.suppress(OSError):
                for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("NSpid:") and line.split()[1:] == [str(pid), str(number)]:
                        return pid
        return 0

    def journal(self, place, *words):
        return self.on(place, "journalctl", "--no-pager", "--output=cat", *words).stdout

    def drop_in(self, place, unit, name, *lines):
        """Changes a unit's group [Service], from its next start on."""
        path = self.inside(place, f"/etc/systemd/system/{unit}.service.d/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["[Service]", *lines, ""]))
        self.on(place, "systemctl", "daemon-reload")

    # What docs/guide/start.md has its readers do

    def set_up_console(self):
        place = self.console_place
        self.on(place, "lpm-console", "init", "--state", "/var/lib/openlpm/console", "--address", self.address(place), "--rpc-port",
                RPC_PORT)
        self.on(place, "systemctl", "enable", "--now", "lpm-console")
        self.on(place, "sh", "-c", "install -d ~/.config/openlpm && cp /var/lib/openlpm/console/admin.conf ~/.config/openlpm/")

    def set_up_host(self, place):
        groups = {"system": {"name": place}, "rpc": {"address": self.address(place)},
                  "storage:san": {"path": "/srv/openlpm", "shared": "true"}, "storage:own": {"path": SECOND_POOL},
                  "network:lan": {"bridge": PARTITION_BRIDGE}}
        self.on(place, "install", "-d", "/etc/openlpm")
        self.groups[place] = groups
        self.inside(place, "/etc/openlpm/host.conf").write_text(ini(groups))
        said = self.lpm("system", "add", place).stdout
        join = next(line.split() for line in said.splitlines() if "lpm-host join" in line)
        self.on(place, *join)
        self.on(place, "systemctl", "enable", "--now", "lpm-host")
        self.wait_for_system(place)

    def start_host_again(self, place, changes, under=()):
        """With more groups in its configuration. Files of the lab that they name are copied to the machine; a directory is for QEMU."""
        for group, keys in changes.items():
            self.groups[place][group] = {key: self.carry(place, value) for key, value in keys.items()}
        self.inside(place, "/etc/openlpm/host.conf").write_text(ini(self.groups[place]))
        self.on(place, "systemctl", "restart", "lpm-host")
        self.wait_for_system(place)

    def carry(self, place, value):
        if not isinstance(value, pathlib.Path):
            return value
        there = pathlib.Path("/etc/openlpm", value.relative_to(self.dir))
        self.inside(place, there.parent).mkdir(parents=True, exist_ok=True)
        command("cp", "-a", "-T", value, self.inside(place, there))
        if value.is_dir():
            self.on(place, "chown", "-R", QEMU_USER, there)
        return there

    def open_pool(self, place):
        """The drop-in of the guide."""
        self.on(place, "install", "-D", "-m", "644", "/usr/local/share/openlpm/pools.conf.example",
                "/etc/systemd/system/lpm-host.service.d/pools.conf")
        self.on(place, "systemctl", "daemon-reload")
        self.on(place, "systemctl", "restart", "lpm-host")
        self.wait_for_system(place)

    # Where the lab finds things

    def rest_address(self):
        return self.address(self.console_place)

    def client_settings(self):
        settings = {key.strip(): value.strip() for key, value in super().client_settings().items()}
        return {**settings, "ca": str(self.inside(self.console_place, settings["ca"]))}

    @property
    def client_file(self):
        return self.inside(self.console_place, "/root/.config/openlpm/admin.conf")

    def host_rpc(self, place, verb, timeout=40, **arguments):
        """lpm-host wants to know who asks, and cannot when that is a process outside its machine."""
        answer = json.loads(self.on(place, "/usr/bin/python3", "-c", ASK, verb, json.dumps(arguments), timeout=timeout).stdout)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["return"]

    def lpm(self, *argv, check=True, **options):
        return self.on(self.console_place, "lpm", *argv, check=check, **options)
