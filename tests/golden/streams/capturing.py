# SPDX-License-Identifier: Apache-2.0
"""Captures migration streams of real QEMUs: a machine without disks whose memory is a file, filled from outside and
dirtied by a guest of a few instructions, migrated into sockets whose bytes are kept, with what QEMU itself counted."""

import json
import mmap
import os
import pathlib
import random
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time

import xxhash

PAGE = 4096
PROGRAMS = {"x86-64": "qemu-system-x86_64", "power": "/opt/openlpm/qemu-power/bin/qemu-system-ppc64"}
# Adds one to the first byte of each of 128 pages, for ever.
X86_GUEST = """
.code16
        cli
again:  mov $0x1000, %ax
next:   mov %ax, %ds
        incb 0
        add $0x100, %ax
        cmp $0x9000, %ax
        jb next
        jmp again
        .org 510
        .word 0xaa55
"""
# Likewise in the firmware's Forth, in 256 pages, until they wrap: the firmware reads hexadecimal.
POWER_GUEST = ": d begin 4100000 4000000 do i c@ 1+ i c! 1000 +loop again ; d\r"
SLOW, FAST = 8 << 20, 4 << 30  # bytes a second


class CaptureError(Exception):
    """What did not work, and of which machine."""


class Sink:
    """Takes connections on a Unix socket and keeps what each one says until it ends in a file beside it."""

    def __init__(self, path):
        self.files, self.threads = [], []
        self.path = path
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen(32)
        self.accepter = threading.Thread(target=self._accept, daemon=True)
        self.accepter.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            self.files.append(pathlib.Path(f"{self.path}-{len(self.files)}"))
            thread = threading.Thread(target=self._read, args=(connection, self.files[-1]), daemon=True)
            thread.start()
            self.threads.append(thread)

    @staticmethod
    def _read(connection, path):
        with connection, open(path, "wb") as file:
            while data := connection.recv(1 << 20):
                file.write(data)

    def finish(self):
        """The files, the main channel first, then the others by their numbers."""
        for thread in self.threads:
            thread.join(30)
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        return sorted(self.files, key=self._number)

    @staticmethod
    def _number(path):
        with open(path, "rb") as file:
            head = file.read(25)
        return -1 if head[:4] == b"QEVM" else head[24]


class Relay(Sink):
    """A sink that hands everything on to another socket, and the answers back."""

    def __init__(self, path, target):
        self.target = str(target)
        super().__init__(path)

    def _read(self, connection, path):
        with connection, open(path, "wb") as file, socket.socket(socket.AF_UNIX) as other:
            other.connect(self.target)
            answers = threading.Thread(target=self._answer, args=(other, connection), daemon=True)
            answers.start()
            while data := connection.recv(1 << 20):
                file.write(data)
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
            answers.join(30)

    @staticmethod
    def _answer(other, connection):
        try:
            while data := other.recv(1 << 16):
                connection.sendall(data)
        except OSError:
            pass  # the source has what it wanted, and is gone


class Machine:
    """A QEMU whose main memory is a file that is ours as well, or (not shared) nobody else's."""

    def __init__(self, family, machine, kibibytes, block, options=(), program=None, shared=True):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="lpm-capture-"))
        self.family, self.block = family, block
        self.memory = self.directory / "memory"
        self.console = self.directory / "console"
        backend = f"memory-backend-file,id={block},size={kibibytes}K,mem-path={self.memory},share=on"
        if not shared:
            backend = f"memory-backend-ram,id={block},size={kibibytes}K"
        arguments = [program or PROGRAMS[family], "-nodefaults", "-display", "none", "-accel", "tcg", "-m", f"{kibibytes}K",
                     "-object", backend, "-machine", f"{machine},memory-backend={block}", "-qmp", "stdio",
                     "-chardev", f"socket,id=console,path={self.console},server=on,wait=off", "-serial", "chardev:console"]
        self.log = open(self.directory / "log", "w+", encoding="utf-8")
        self.process = subprocess.Popen(["timeout", "300", *arguments, *options, *self._boot(machine)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.log, text=True)
        greeting = json.loads(self.process.stdout.readline() or "{}")
        if "QMP" not in greeting:
            raise CaptureError(f"{machine}: QEMU does not start: {(self.directory / 'log').read_text()}")
        version = greeting["QMP"]["version"]["qemu"]
        self.version = f"{version['major']}.{version['minor']}.{version['micro']}"
        self.command("qmp_capabilities")

    def _boot(self, machine):
        if self.family != "x86-64" or machine.startswith("microvm"):
            return []
        disk = self.directory / "disk"
        subprocess.run(["as", "--32", "-o", f"{disk}.o", "-"], input=X86_GUEST, text=True, check=True)
        subprocess.run(["ld", "-m", "elf_i386", "--oformat", "binary", "-Ttext", "0x7c00", "-o", disk, f"{disk}.o"],
                       stderr=subprocess.DEVNULL, check=True)
        os.truncate(disk, 1 << 20)
        return ["-drive", f"file={disk},format=raw,if=ide"]

    def command(self, name, **arguments):
        self.process.stdin.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        while line := self.process.stdout.readline():
            message = json.loads(line)
            if "error" in message:
                raise CaptureError(f"{name}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]
        raise CaptureError(f"{name}: QEMU ended: {(self.directory / 'log').read_text()}")

    def start_guest(self):
        """Waits for the firmware and has the guest dirty its pages, none of which is ever all zeros."""
        if self.family == "x86-64":
            time.sleep(3)
            if not self.memory.exists():
                return
            self.fill(0x10, [b"dirtied. " * 455 + b"."] * 128)
            return
        self.fill(0x4000, [b"dirtied. " * 455 + b"."] * 256)
        with socket.socket(socket.AF_UNIX) as console:
            console.connect(str(self.console))
            console.settimeout(60)
            seen = b""
            while b"\n0 > " not in seen:
                seen += console.recv(4096)
            console.sendall(POWER_GUEST.encode())
            time.sleep(1)

    def fill(self, first, content):
        """Puts content into memory from page first on; None is a page of zeros."""
        with open(self.memory, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            for number, page in enumerate(content, first):
                if page is not None:
                    memory[number * PAGE:(number + 1) * PAGE] = page

    def migrate(self, channels=0, capabilities=(), parameters=None, passes=3):
        """Migrates until at least so many passes were made. (files of the channels, which last as long as the machine,
        QEMU's counters, digest of all memory)."""
        sink = Sink(self.directory / "sink")
        wanted = [*capabilities, *(["multifd"] if channels else [])]
        self.command("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in wanted])
        self.command("migrate-set-parameters", **{"max-bandwidth": SLOW, "downtime-limit": 1, **(parameters or {}),
                                                  **({"multifd-channels": channels} if channels else {})})
        self.command("migrate", uri=f"unix:{self.directory}/sink")
        deadline = time.monotonic() + 120
        while (seen := self.command("query-migrate"))["status"] != "completed":
            if seen["status"] == "failed" or time.monotonic() > deadline:
                raise CaptureError(f"migration {seen['status']}: {seen.get('error-desc', '')} {seen}")
            if seen.get("ram", {}).get("dirty-sync-count", 0) > passes:
                self.command("migrate-set-parameters", **{"max-bandwidth": FAST, "downtime-limit": 20000})
            time.sleep(0.02)
        digest = xxhash.xxh3_128()
        with open(self.memory, "rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
        return sink.finish(), seen["ram"], digest.hexdigest()

    def migrate_by_postcopy(self, target):
        """Migrates to another machine, which waits, and switches over after the first pass. (files, QEMU's counters)."""
        for machine in (target, self):
            machine.command("migrate-set-capabilities", capabilities=[{"capability": "postcopy-ram", "state": True}])
        target.command("migrate-incoming", uri=f"unix:{target.directory}/incoming")
        relay = Relay(self.directory / "sink", target.directory / "incoming")
        self.command("migrate-set-parameters", **{"max-bandwidth": SLOW, "downtime-limit": 1})
        self.command("migrate", uri=f"unix:{self.directory}/sink")
        deadline, started = time.monotonic() + 120, False
        while (seen := self.command("query-migrate"))["status"] != "completed":
            if seen["status"] == "failed" or time.monotonic() > deadline:
                raise CaptureError(f"migration {seen['status']}: {seen.get('error-desc', '')} {seen}")
            if not started and seen["status"] == "active" and seen["ram"]["dirty-sync-count"] > 1:
                self.command("migrate-start-postcopy")
                started = True
            time.sleep(0.02)
        if not started:
            raise CaptureError("the migration completed before post-copy began")
        return relay.finish(), seen["ram"]

    def close(self):
        try:
            self.command("quit")
            self.process.wait(10)
        except (CaptureError, OSError, subprocess.TimeoutExpired):
            self.process.kill()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def multifd_pages(stream):
    """Pages in a multifd channel whose pages are not compressed."""
    at, pages = 64, 0
    while at < len(stream):
        magic, _, flags, _, normal, _ = struct.unpack_from(">6I", stream, at)
        if magic != 0x11223344 or flags > 1:
            raise CaptureError(f"no plain multifd packet at {at}")
        pages, at = pages + normal, at + 1344 + normal * PAGE
    return pages


def mixed_pages(count, seed):
    """What memory looks like: text, tables, noise, pages that are like others, holes."""
    dice = random.Random(seed)
    pages = []
    for number in range(count):
        kind = dice.random()
        if kind < 0.2 and pages:
            pages.append(dice.choice(pages))
        elif kind < 0.3:
            pages.append(None)
        elif kind < 0.4:
            pages.append(dice.randbytes(PAGE))
        elif kind < 0.7:
            pages.append(b"".join(b"%08x" % ((number << 12) + i) for i in range(PAGE // 8)))
        else:
            words = [b"partition ", b"system ", b"memory ", b"moves ", b"and ", b"stays "]
            pages.append(b"".join(dice.choice(words) for _ in range(PAGE // 4))[:PAGE])
    return pages
