# SPDX-License-Identifier: Apache-2.0
"""A lab partition started by hand, without OpenLPM: to test the partition images, and to compare with QEMU's own migration."""

import contextlib
import fcntl
import json
import os
import pwd
import shutil
import socket
import struct
import time

from lablib import PARTITION_BRIDGE, PARTITIONS, LabError, command, image, wait_for

EMULATORS = {"x86-64": "/usr/bin/qemu-system-x86_64", "power": "/opt/openlpm/qemu-power/bin/qemu-system-ppc64"}
MACHINES = {
    "x86-64": "pc-q35-10.0,memory-backend=mem,usb=off,vmport=off,smbus=off,sata=off",
    "power": "pseries-10.0,memory-backend=mem,ic-mode=xics,usb=off,x-vof=on",
}
# One each: with two, emulated QEMU 10.0.2 now and then aborts at boot (installation.KNOWN_ABORT).
PROCESSORS = {"x86-64": "Nehalem", "power": "power8"}
MEMORY_MIB = {"x86-64": 256, "power": 512}
USER = "lpm-qemu"
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
CAPABILITIES = ["events", "return-path", "late-block-activate", "pause-before-switchover"]


def open_tap(lab, place, name):
    """A tap on the place's partition bridge, as a descriptor for QEMU."""
    space = lab.namespace(place)
    command("ip", "-n", space, "tuntap", "add", "dev", name, "mode", "tap", "user", USER, "vnet_hdr")
    command("ip", "-n", space, "link", "set", name, "master", PARTITION_BRIDGE)
    command("ip", "-n", space, "link", "set", name, "up")
    with lab.at(place):
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    return fd


class BarePartition:
    """One QEMU, and the QMP connection to it."""

    def __init__(self, lab, place, name, family, number=10, processor=None, incoming=False, kernel_options=""):
        self.lab, self.name, self.family = lab, name, family
        self.address = f"{PARTITIONS}.{number}"
        self.owner = pwd.getpwnam(USER)
        self.dir = lab.dir / place / "run" / name
        self.dir.mkdir()
        os.chown(self.dir, self.owner.pw_uid, self.owner.pw_gid)
        self.disk = self._make_disk(number)
        self.events = []
        self.place, self.tap = place, f"b-{name[:12]}"
        tap = open_tap(lab, place, self.tap)
        try:
            argv = self._arguments(number, processor, incoming, kernel_options, tap)
            self.process = lab.start(place, name, "setpriv", "--reuid", USER, "--regid", self.owner.pw_gid,
                                     "--clear-groups", "--no-new-privs", *argv, pass_fds=[tap])
        finally:
            os.close(tap)
        self._connect()

    def _make_disk(self, number):
        disk = self.lab.dir / "san" / f"bare{number}.raw"
        if not disk.exists():
            with open(disk, "wb") as file:
                file.truncate(16 << 20)
            os.chown(disk, self.owner.pw_uid, self.owner.pw_gid)
        return disk

    def _arguments(self, number, processor, incoming, kernel_options, tap):
        power = self.family == "power"
        memory, files, bus = MEMORY_MIB[self.family], image(self.family), "pci.0" if power else "pcie.0"
        options = (f"console={'hvc0' if power else 'ttyS0'} panic=-1 quiet mitigations=off lpm.ip={self.address}/24 "
                   f"lpm.hostname={self.name} {kernel_options}")
        argv = [EMULATORS[self.family], "-name", f"guest={self.name}", "-nodefaults", "-no-user-config", "-display", "none",
                "-machine", MACHINES[self.family], "-accel", "tcg", "-cpu", processor or PROCESSORS[self.family],
                "-smp", "1,sockets=1,cores=1,threads=1", "-m", f"size={memory}M",
                "-object", f"memory-backend-memfd,id=mem,size={memory}M,share=on", "-boot", "strict=on",
                "-kernel", files / "kernel", "-initrd", files / "initramfs", "-append", options,
                "-chardev", f"socket,id=mon,path={self.dir}/qmp,server=on,wait=off", "-mon", "chardev=mon,mode=control",
                "-chardev", f"file,id=con,path={self.dir}/console.log", "-serial", "chardev:con",
                "-device", f"virtio-serial-pci,id=vserial,bus={bus},addr=0x2",
                "-chardev", f"socket,id=agent,path={self.dir}/agent,server=on,wait=off",
                "-device", "virtserialport,bus=vserial.0,nr=1,chardev=agent,name=org.qemu.guest_agent.0",
                "-blockdev", json.dumps({"driver": "raw", "node-name": "disk0", "file": {
                    "driver": "file", "filename": str(self.disk), "cache": {"direct": True}}}),
                "-device", f"virtio-blk-pci,id=dev-disk0,drive=disk0,bus={bus},addr=0x4",
                "-netdev", f"tap,id=net0,fd={tap}",
                "-device", f"virtio-net-pci,netdev=net0,mac=52:54:00:77:00:{number:02x},bus={bus},addr=0x3,romfile=",
                "-object", "rng-random,id=rng0,filename=/dev/urandom",
                "-device", f"virtio-rng-pci,rng=rng0,bus={bus},addr=0x5",
                "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
        return argv + (["-S", "-incoming", "defer"] if incoming else [])

    def _connect(self):
        def ready():
            if self.process.poll() is not None:
                raise LabError(f"{self.name}: {self.lab.log(self.name)}")
            connection = socket.socket(socket.AF_UNIX)
            with contextlib.suppress(OSError):
                connection.connect(str(self.dir / "qmp"))
                return connection
            connection.close()
            return None
        self.connection = wait_for(ready, 10, f"QMP of {self.name}")
        self.stream = self.connection.makefile("rw")
        self.stream.readline()
        self.qmp("qmp_capabilities")

    def qmp(self, verb, **arguments):
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.stream.write(json.dumps({"execute": verb, "arguments": arguments}) + "\n")
        self.stream.flush()
        for line in self.stream:
            message = json.loads(line)
            if "error" in message:
                raise LabError(f"{self.name}: {verb}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]
            self.events.append(message)
        raise LabError(f"{self.name}: QEMU is gone: {self.lab.log(self.name)}")

    def agent(self, verb, answers=True, timeout=10, **arguments):
        """A call of the guest agent."""
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.settimeout(timeout)
            connection.connect(str(self.dir / "agent"))
            stream = connection.makefile("rwb")
            for start, call in ((b"\xff", {"execute": "guest-sync-delimited", "arguments": {"id": 4711}}),
                                (b"", {"execute": verb, "arguments": arguments})):
                stream.write(start + json.dumps(call).encode() + b"\n")
            stream.flush()
            while json.loads(stream.readline().rpartition(b"\xff")[2]).get("return") != 4711:
                pass
            if not answers:
                connection.settimeout(0.5)  # what was sent is lost when the connection ends before it was read
                with contextlib.suppress(TimeoutError):
                    stream.readline()
                return None
            return json.loads(stream.readline())["return"]

    def redeliver_interrupts(self):
        """What lpm-host does for a POWER partition that has arrived: docs/decisions/redeliver-interrupts.md."""
        address = {"type": "unix", "data": {"path": str(self.dir / "qtest")}}
        self.qmp("chardev-add", id="qtest", backend={"type": "socket", "data": {"addr": address, "server": True,
                                                                               "wait": False}})
        self.qmp("object-add", qom_type="qtest", id="qtest", chardev="qtest")
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.settimeout(5)
            connection.connect(str(self.dir / "qtest"))
            for cpu in self.qmp("query-cpus-fast"):
                connection.sendall(f"set_irq_in {cpu['qom-path']} unnamed-gpio-in 0 1\n".encode())
                if (answer := connection.recv(100)) != b"OK\n":
                    raise LabError(f"{self.name}: test interface: {answer}")
        self.qmp("object-del", id="qtest")
        self.qmp("chardev-remove", id="qtest")

    def console(self):
        return (self.dir / "console.log").read_text(errors="replace")

    def end(self):
        """Ends QEMU at once, and removes what it had."""
        if self.process.poll() is None:
            with contextlib.suppress(LabError, OSError):
                self.qmp("quit")
            self.process.wait(10)
        self.connection.close()
        command("ip", "-n", self.lab.namespace(self.place), "link", "del", self.tap, check=False)
        shutil.rmtree(self.dir, ignore_errors=True)


def move(source, target, uri=None, timeout=60):
    """QEMU's own migration; returns the source's query-migrate at the end. The target runs when this returns."""
    uri = uri or f"unix:{target.dir}/migration"
    for one in (source, target):
        one.qmp("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in CAPABILITIES])
        one.qmp("migrate-set-parameters", max_bandwidth=1 << 40, downtime_limit=300)
    target.qmp("migrate-incoming", uri=uri)
    source.qmp("migrate", uri=uri)
    deadline = time.monotonic() + timeout
    while (status := source.qmp("query-migrate"))["status"] not in ("completed", "failed"):
        if status["status"] == "pre-switchover":
            source.qmp("migrate-continue", state="pre-switchover")
        if time.monotonic() > deadline:
            raise LabError(f"migration of {source.name}: {status['status']} after {timeout} s")
        time.sleep(0.005)
    if status["status"] == "failed":
        raise LabError(f"migration of {source.name}: {status.get('error-desc')}")
    wait_for(lambda: target.qmp("query-status")["status"] == "paused", 10, f"{target.name} loaded", 0.005)
    if target.family == "power":
        target.redeliver_interrupts()
    target.qmp("cont")
    return status
