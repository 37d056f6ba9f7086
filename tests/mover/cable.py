# SPDX-License-Identifier: Apache-2.0
"""A network between movers that can be cut, and movers whose lpm-host makes lost connections again."""
import contextlib
import os
import queue
import select
import socket
import struct
import threading
import time

import lpmwire
from moverpair import MIGRATION, PATIENCE, Mover, Pair

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class Cable:
    """Forwards TCP connections to a target. cut() ends those that there are, and new ones until mend(); silence() lets nothing
    through and ends nothing, mute() swallows what the target says. budgets: bytes after which the first, second ... connection is cut by itself."""

    def __init__(self, target, budgets=(), harm=None):
        self.target, self.budgets, self.harm = target, list(budgets), harm
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.carried = []  # bytes of each connection, both ways
        self.captured = []  # of each connection: what each of its ends has sent
        self.open = {}  # socket -> (its other end, number of the connection)
        self.is_cut = self.is_silent = self.is_mute = self.stopped = False
        self.far = set()
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopped:
            with self.lock:
                ends = [] if self.is_silent else [self.listener, *self.open]
            try:
                ready = select.select(ends, [], [], 0.02)[0]
            except (OSError, ValueError):  # one of them was cut just now
                continue
            for end in ready:
                with self.lock, contextlib.suppress(OSError, KeyError):
                    if end is self.listener:
                        self.accept()
                    else:
                        self.forward(end)

    def accept(self):
        near = self.listener.accept()[0]
        if self.is_cut:
            self.reset(near)
            return
        far = socket.create_connection(self.target)
        self.open[near], self.open[far] = (far, len(self.carried)), (near, len(self.carried))
        self.far.add(far)
        self.carried.append(0)
        self.captured.append({near: bytearray(), far: bytearray()})

    def forward(self, end):
        other, number = self.open[end]
        try:
            data = end.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self.end(end)
            return
        if self.is_mute and end in self.far:
            return
        left = self.budgets[number] - self.carried[number] if number < len(self.budgets) else len(data)
        if self.harm:
            data = self.harm(number, self.carried[number], data)
        self.carried[number] += len(data)
        other.settimeout(PATIENCE)
        self.captured[number][end] += data[:max(0, left)]
        other.sendall(data[:max(0, left)])
        if left < len(data):
            self.end(end, self.reset)

    @staticmethod
    def reset(end):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        end.close()

    def end(self, end, how=socket.socket.close):
        other, _ = self.open.pop(end)
        del self.open[other]
        how(end)
        how(other)

    def frames(self):
        """Those that went by whole, of all connections; without TLS."""
        for one in self.captured:
            for data in one.values():
                view = memoryview(data)
                while got := lpmwire.decode(view):
                    yield got[0]
                    view = view[got[1]:]

    def cut(self, number=None):
        """All of them for now, or one for good."""
        with self.lock:
            self.is_cut = self.is_cut or number is None
            for end in list(self.open):
                if end in self.open and number in (None, self.open[end][1]):
                    self.end(end, self.reset)

    def mend(self):
        with self.lock:
            self.is_cut = self.is_silent = self.is_mute = False

    def silence(self):
        with self.lock:
            self.is_silent = True

    def mute(self):
        with self.lock:
            self.is_mute = True

    def stop(self):
        self.stopped = True
        self.thread.join()
        for end in [*self.open, self.listener]:
            end.close()


class LinkedMover(Mover):
    """Reads its control descriptor all the time, and answers NEED_LINK as lpm-host does: from the addresses in turn."""

    def __init__(self, *arguments, dial=(), **options):
        self.dial, self.events, self.stopped, self.threads = dial, queue.Queue(), False, []
        self.turn = 0  # of the addresses: one that takes a connection and resets it is not tried again and again
        self.send_lock = threading.Lock()
        super().__init__(*arguments, **options)
        self.pumping = threading.Thread(target=self.pump, daemon=True)
        self.pumping.start()

    def send(self, name, fds=(), **values):
        with self.send_lock:
            socket.send_fds(self.control, [lpmwire.encode(name, MIGRATION, **values)], fds)

    def pump(self):
        while not self.stopped:
            if not select.select([self.control], [], [], 0.05)[0]:
                continue
            try:
                data = self.control.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                break
            self.buffer += data
            while got := lpmwire.decode(self.buffer):
                del self.buffer[:got[1]]
                self.seen.append(got[0])
                self.serve(got[0])
                self.events.put(got[0])
        self.events.put(None)

    def serve(self, event):
        """What lpm-host does at once."""
        if event.name == "NEED_LINK":
            self.threads.append(threading.Thread(target=self.connect, args=(event.connection,), daemon=True))
            self.threads[-1].start()

    def connect(self, number):
        for _ in range(10 * PATIENCE):
            if self.stopped:
                return
            self.turn += 1
            with contextlib.suppress(OSError):
                with socket.create_connection(self.dial[self.turn % len(self.dial)], timeout=1) as made:
                    made.settimeout(None)
                    self.send("LINK", [made.fileno()], connection=number)
                return
            time.sleep(0.05)

    def next_event(self, timeout=PATIENCE):
        try:
            return self.events.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None

    def latest(self, name):
        """Values of the last event of that name."""
        return [event for event in self.seen if event.name == name][-1]

    def stop(self):
        self.stopped = True
        self.pumping.join()
        for thread in self.threads:
            thread.join()
        super().stop()


class LinkedPair(Pair):
    """A source and a target mover with a cable between them (or cables, each to a listening socket of its own)."""

    mover = LinkedMover

    def __init__(self, authority=None, budgets=(), harm=None, networks=1, src=None, dst=None, **both):
        both = {"retry_ms": 1000 * PATIENCE, **both}
        listeners = [socket.create_server((f"127.0.0.{i + 1}", 0)) for i in range(networks)]
        self.cables = [Cable(one.getsockname(), budgets, harm) for one in listeners]
        self.cable, self.relay = self.cables[0], None
        dial = [one.address for one in self.cables]
        self.dst = self.mover("dst", listeners, "sys-b", "sys-a", authority, **{**both, **(dst or {})})
        net = socket.create_connection(dial[0])
        self.src = self.mover("src", net, "sys-a", "sys-b", authority, dial=dial, **{**both, **(src or {})})
        self.movers = [self.src, self.dst]

    def stop(self):
        super().stop()
        for cable in self.cables:
            cable.stop()


def ram_stream(pages, block="pc.ram"):
    """A migration stream such as QEMU writes it: two passes over a block of RAM. pages: list of lists of (number, 4096 bytes)."""
    total = 1 + max(number for one in pages for number, _ in one)
    name = bytes([len(block)]) + block.encode()
    out = [b"QEVM", struct.pack(">I", 3), b"\x01", struct.pack(">I", 2), b"\x03ram", struct.pack(">II", 0, 4),
           struct.pack(">Q", total << 12 | 4), name, struct.pack(">Q", total << 12), struct.pack(">Q", 0x10)]
    for one in pages:
        out += [b"\x02", struct.pack(">I", 2)]
        for index, (number, page) in enumerate(one):
            zero = page == bytes(4096)
            word = number << 12 | (2 if zero else 8) | (0x20 if index else 0)
            out += [struct.pack(">Q", word), b"" if index else name, b"\0" if zero else page]
        out.append(struct.pack(">Q", 0x10))
    return b"".join([*out, b"\x03", struct.pack(">IQ", 2, 0x10), b"\0"])


def image_file():
    """Where a mover keeps what a partition's memory was."""
    return os.memfd_create("image", os.MFD_CLOEXEC)
