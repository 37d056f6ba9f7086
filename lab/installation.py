# SPDX-License-Identifier: Apache-2.0
"""OpenLPM in the lab: a console, systems that joined it, and partitions on them."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import stat
import time

from lablib import HERE, PARTITION_BRIDGE, PARTITIONS, ROOT, Lab, LabError, command, image, wait_for

# What server a system is, for POWER partitions.
GENERATIONS = {"system-a": "POWER8", "system-b": "POWER9", "system-c": "POWER10"}
REST_PORT = 7443
KNOWN_ABORT = "iotlb_to_section: Assertion"
QEMU_USER = "lpm-qemu"  # what lpm-host takes by itself
RPC_PORT = 7600
MEMORY_MIB = {"x86-64": 256, "power": 512}
PROCESSORS = {"x86-64": 2, "power": 1}
CONSOLE_DEVICE = {"x86-64": "ttyS0", "power": "hvc0"}


class Refused(LabError):
    """An error answer of OpenLPM's REST interface or RPC."""

    def __init__(self, error, status=None):
        self.status = status
        self.error_class = error.get("class", "")
        self.message = error.get("message") or error.get("desc", "")
        self.remedy = error.get("remedy", "")
        self.findings = error.get("findings", [])
        super().__init__(f"{self.error_class}: {self.message} {self.remedy}".strip())


def build_dir():
    """Where meson built: $LPM_BUILD, or build/ in the source tree."""
    return pathlib.Path(os.environ.get("LPM_BUILD", ROOT / "build")).resolve()


def program(name):
    path = build_dir() / "src" / {"lpm": "cli"}.get(name, name.removeprefix("lpm-")) / name
    if not path.exists():
        raise LabError(f"{path} is not built: ninja -C {build_dir()}")
    return path


def ini(groups):
    return "".join(f"[{group}]\n" + "".join(f"{key}={value}\n" for key, value in keys.items()) + "\n"
                   for group, keys in groups.items())


class Partition:
    """A partition of the lab: what it was made from, and where its workloads answer."""

    def __init__(self, name, address, profile):
        self.name, self.address, self.profile = name, address, profile

    def disk(self, lab, number=0):
        disk = self.profile["disks"][number]
        return lab.dir / "san" / disk["file"]


class Installation(Lab):
    """A lab with OpenLPM in it."""

    def __init__(self, name=None):
        super().__init__(name)
        self.partitions = {}
        self.environment = dict(os.environ, LPM_DATA_DIR=str(ROOT / "data"))
        for variable in ("LPM_CONFIG", "LPM_CONSOLE", "LPM_TOKEN"):
            self.environment.pop(variable, None)

    # Daemons

    def host_config(self, place, changes=None):
        """Groups and keys of a system's configuration file; changes: {group: {key: value}}, a group of None is left out."""
        base = self.dir / place
        groups = {
            "system": {"name": place, "state_dir": base / "state", "run_dir": base / "run"},
            "rpc": {"address": self.address(place), "port": RPC_PORT},
            "mover": {"program": program("lpm-mover"), "addresses": self.address(place)},
            "power": {"processor": GENERATIONS.get(place, "POWER10"), "firmware": "vof"},
            "storage:san": {"path": self.dir / "san", "shared": "true"},
            "storage:local": {"path": base / "local"},
            "network:lan": {"bridge": PARTITION_BRIDGE},
        }
        for group, keys in (changes or {}).items():
            if keys is None:
                groups.pop(group, None)
            else:
                groups.setdefault(group, {}).update(keys)
        return groups

    def with_page_faults(self):
        """Words before a program: QEMU below it may handle page faults (post-copy), as a udev rule would allow it; nobody else
        on this machine may. `ip netns exec` gives the program mounts of its own."""
        device = pathlib.Path("/dev/userfaultfd")
        if not device.exists():
            return []
        node = self.dir / "userfaultfd"
        if not node.exists():
            os.mknod(node, 0o600 | stat.S_IFCHR, device.stat().st_rdev)
            shutil.chown(node, QEMU_USER)
        return ["sh", "-c", 'mount --bind "$0" /dev/userfaultfd && exec "$@"', node]

    def start_host(self, place, changes=None, environment=None, under=()):
        """Starts lpm-host on a system (again), and waits until its local socket answers. under: words before the program."""
        path = self.dir / place / "host.conf"
        if changes is not None or not path.exists():
            path.write_text(ini(self.host_config(place, changes)))
        child = self.start(place, f"lpm-host-{place}", *self.with_page_faults(), *under, program("lpm-host"), "--config", path,
                           env={**self.environment, **(environment or {})})

        def ready():
            if child.poll() is not None:
                raise LabError(f"lpm-host on {place} ended: {self.log(f'lpm-host-{place}')[-2000:]}")
            with contextlib.suppress(OSError, ValueError):
                return self.host_rpc(place, "system-info")
        wait_for(ready, 20, f"lpm-host on {place}")
        return child

    def start_host_again(self, place, changes, under=()):
        """Ends lpm-host on a system and starts it with another configuration; partitions there run on."""
        os.kill(self.pid(f"lpm-host-{place}"), signal.SIGTERM)
        wait_for(lambda: f"lpm-host-{place}" not in self.recorded_processes(), 10, f"end of lpm-host on {place}")
        self.start_host(place, changes, under=under)
        self.wait_for_system(place)

    def wait_for_system(self, place, timeout=30):
        """Until the console is connected with it."""
        wait_for(lambda: self.rest("GET", f"/v1/systems/{place}")["state"] == "connected", timeout, f"{place} connected")

    def start_console(self, environment=None):
        """Starts lpm-console, making its authority and its first user before the first time."""
        base = self.dir / "console"
        path = base / "console.conf"
        if not path.exists():
            path.write_text(ini(self.console_config()))
            self.run("console", program("lpm-console"), "--config", path, "init", env=self.environment)
        child = self.start("console", "lpm-console", program("lpm-console"), "--config", path,
                           env={**self.environment, **(environment or {})})

        def ready():
            if child.poll() is not None:
                raise LabError(f"lpm-console ended: {self.log('lpm-console')[-2000:]}")
            with contextlib.suppress(OSError, ValueError):
                return self.rest("GET", "/v1/health")
        wait_for(ready, 20, "lpm-console")
        return child

    def console_config(self):
        return {"console": {"state_dir": self.dir / "console" / "state", "name": "console",
                            "addresses": self.address("console"), "listen": self.address("console"),
                            "https_port": REST_PORT, "rpc_port": RPC_PORT, "takeover": "auto"}}

    @property
    def client_file(self):
        """What `lpm` reads to find the console."""
        return self.dir / "console" / "state" / "admin.conf"

    def join(self, place):
        """Has a system join the console, and waits until the console sees it."""
        invitation = self.rest("POST", "/v1/systems", {"name": place})
        self.run(place, program("lpm-host"), "--config", self.dir / place / "host.conf", "join", "--console",
                 f"{self.address('console')}:{RPC_PORT}", "--name", place, "--token", invitation["token"],
                 env=self.environment)
        self.wait_for_system(place)

    def install(self):
        """Console, and every system joined to it."""
        self.start_console()
        for place in self.systems:
            self.start_host(place)
        for place in self.systems:
            self.join(place)

    def pid(self, name):
        """Of a daemon started here."""
        found = self.recorded_processes().get(name)
        if found is None:
            raise LabError(f"{name} does not run")
        return found

    # Asking

    def lpm(self, *argv, check=True, **options):
        """Runs the command line at the console."""
        options.setdefault("env", {**self.environment, "LPM_CONFIG": str(self.client_file)})
        return self.run("console", program("lpm"), *argv, check=check, **options)

    def lpm_json(self, *argv, check=True):
        """The same, with --json; what it printed."""
        return json.loads(self.lpm(*argv, "--json", check=check).stdout)

    def client_settings(self):
        text = self.client_file.read_text()
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def rest_address(self):
        return self.address("console")

    def rest(self, method, path, body=None, timeout=40):
        """A call of the console's REST interface; Refused when it answers with an error."""
        settings = {key.strip(): value.strip() for key, value in self.client_settings().items()}
        context = ssl.create_default_context(cafile=settings["ca"])
        connection = http.client.HTTPSConnection(self.rest_address(), REST_PORT, timeout=timeout, context=context)
        try:
            with self.at("console"):
                connection.connect()
            connection.request(method, path, json.dumps(body) if body is not None else None,
                               {"Authorization": f"Bearer {settings['token']}", "Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
        finally:
            connection.close()
        if response.status >= 400:
            raise Refused(answer.get("error", {}), response.status)
        return answer

    def host_rpc(self, place, verb, timeout=40, **arguments):
        """A call on a system's local socket."""
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.settimeout(timeout)
            connection.connect(str(self.dir / place / "run" / "host.sock"))
            connection.sendall(json.dumps({"execute": verb, "arguments": arguments, "id": 1}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                for line in stream:
                    message = json.loads(line)
                    if message.get("id") == 1:
                        if "error" in message:
                            raise Refused(message["error"])
                        return message["return"]
        raise LabError(f"lpm-host on {place} closed the connection during {verb}")

    # Partitions

    def place_image(self, family, pool="san", variant=""):
        """Puts kernel and initramfs of a family into a pool; returns their names in the pool."""
        place = f"images/{family}{variant}"
        target = self.dir / pool / place
        target.mkdir(parents=True, exist_ok=True)
        for name in ("kernel", "initramfs"):
            if not (target / name).exists():
                shutil.copyfile(image(family, variant) / name, target / (name + ".new"))
                os.rename(target / (name + ".new"), target / name)
        return f"{place}/kernel", f"{place}/initramfs"

    def profile(self, name, family, number=10, kernel_options="", variant="", **changes):
        """Profile of a partition with address 10.77.0.NUMBER; changes replace members."""
        kernel, initrd = self.place_image(family, variant=variant)
        return {
            "name": name,
            "family": family,
            "processors": PROCESSORS[family],
            "memory_mib": MEMORY_MIB[family],
            "memory_backing": "shared",
            "boot": {
                "kernel": {"pool": "san", "file": kernel},
                "initrd": {"pool": "san", "file": initrd},
                "cmdline": f"console={CONSOLE_DEVICE[family]} panic=-1 quiet mitigations=off lpm.ip={PARTITIONS}.{number}/24 "
                           f"lpm.hostname={name} {kernel_options}".strip(),
            },
            "disks": [{"name": "disk0", "pool": "san", "file": f"{name}.raw", "format": "raw", "size_mib": 16}],
            "networks": [{"name": "net0", "switch": "lan", "mac": f"52:54:00:77:00:{number:02x}"}],
            **changes,
        }

    def create(self, place, name, family, number=10, start=True, **options):
        """Makes a partition on a system and, unless told otherwise, starts it and waits for its workloads."""
        profile = self.profile(name, family, number, **options)
        self.rest("POST", "/v1/partitions", {"system": place, "profile": profile})
        partition = Partition(name, f"{PARTITIONS}.{number}", profile)
        self.partitions[name] = partition
        if start:
            self.boot(partition)
        return partition

    def boot(self, partition, attempts=3, patience=90):
        """Starts a partition and waits for its workloads and its guest agent. Emulated QEMU 10.0.2 with several processors now
        and then aborts while firmware or kernel map devices (KNOWN_ABORT); nothing has moved by then, so it is started again."""
        for attempt in range(attempts):
            self.rest("POST", f"/v1/partitions/{partition.name}/start", {})
            with contextlib.suppress(LabError):
                wait_for(lambda: self.is_up_or_dead(partition), patience, f"workloads of the partition at {partition.address}")
                if partition.profile.get("guest_agent", True):
                    wait_for(lambda: self.agent_is_up_or_dead(partition), 60, "guest agent")
                return
            shown = self.rest("GET", f"/v1/partitions/{partition.name}")
            if KNOWN_ABORT not in json.dumps(shown) or attempt == attempts - 1:
                raise LabError(f"{partition.name} did not come up: {shown['state']}: {shown.get('reason')}")
            print(f"{partition.name}: QEMU aborted at boot ({KNOWN_ABORT}); started again", flush=True)

    def agent_is_up_or_dead(self, partition):
        shown = self.rest("GET", f"/v1/partitions/{partition.name}")
        if shown["state"] == "error":
            raise LabError(f"{partition.name}: {shown.get('reason')}")
        return shown["rmc"] == "active"

    def is_up_or_dead(self, partition):
        """Status of its workloads, None while they do not answer yet; LabError when it has died."""
        with contextlib.suppress(OSError, ValueError):
            return self.partition_status(partition.address, 1.0)
        with contextlib.suppress(Refused):  # an answer that comes late on a busy machine is no death
            if self.rest("GET", f"/v1/partitions/{partition.name}")["state"] != "error":
                return None
            raise LabError(f"{partition.name} died")
        return None

    def delete(self, partition):
        """Ends a partition, wherever it is and whatever it does, and deletes it with its disks."""
        shown = self.rest("GET", f"/v1/partitions/{partition.name}")
        if shown["state"] not in ("not-activated", "error"):
            self.rest("POST", f"/v1/partitions/{partition.name}/stop", {"how": "hard"})
        self.rest("DELETE", f"/v1/partitions/{partition.name}?disks=true")
        self.partitions.pop(partition.name, None)

    def where(self, name):
        """System that a partition is on."""
        return self.rest("GET", f"/v1/partitions/{name}")["system"]

    def migrate(self, name, target, wait=True, timeout=120, **options):
        """Moves a partition; returns the migration's final status, or its id at once."""
        options.setdefault("verify", True)
        begun = self.rest("POST", "/v1/migrations", {"partition": name, "target": target, "options": options})
        return self.wait_for_migration(begun["migration"], timeout) if wait else begun["migration"]

    def wait_for_migration(self, migration, timeout=120, until=lambda status: status["finished"]):
        """Follows a migration until something is true of it (default: its end)."""
        deadline, revision = time.monotonic() + timeout, 0
        while True:
            status = self.rest("GET", f"/v1/migrations/{migration}?since={revision}&wait_ms=1000")
            if until(status):
                return status
            revision = status["revision"]
            if status["finished"] or time.monotonic() > deadline:
                raise LabError(f"migration {migration}: {json.dumps(status)[:3000]}")

    def check_journal(self, partition, acknowledged):
        """Reads the partition's journal disk from outside; raises unless it is whole."""
        run = command(HERE / "check-journal", partition.disk(self), "--acknowledged", acknowledged, check=False)
        if run.returncode != 0:
            raise LabError(f"journal of {partition.name}: {run.stdout}{run.stderr}")
        return json.loads(run.stdout)

    def emulators(self, name):
        """Process numbers of QEMUs of this lab that run a partition of this name, by system."""
        found = {}
        for place in self.systems:
            for pid in self.processes_at(place):
                with contextlib.suppress(OSError):
                    words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                    if any(b"qemu-system" in word for word in words[:8]) and \
                            any(word.split(b",")[0] in (name.encode(), b"guest=" + name.encode()) for word in words):
                        found.setdefault(place, []).append(pid)
        return found


