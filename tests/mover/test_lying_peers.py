# SPDX-License-Identifier: Apache-2.0
"""A mover whose peer has the right key and lies: the second implementation plays a compromised target, then a compromised source.

Whatever it says, the honest mover ends with a reason that lpm-host can read, closes QEMU's socket, hands on no byte that was not
sent as one, keeps its memory, and is not killed by its sandbox.
"""
import contextlib
import hashlib
import hmac
import random
import socket
import threading
import time

import pytest

import lpmwire
from moverpair import KEY, MIGRATION, PATIENCE, Mover

MIB = 1 << 20
FOREIGN = bytes(range(50, 66))
VERIFY, CODED, CHANNELS, RESUME = 1, 2, 8, 16
SILENCE_MS = 1000


def proof(side, key=KEY):
    return hmac.new(key, f"openlpm mover {side}".encode() + MIGRATION + bytes(32), hashlib.sha256).digest()


class Liar:
    """The other end of the honest mover's connection."""

    def __init__(self, end):
        self.end, self.buffer, self.number = end, b"", 0
        self.end.settimeout(PATIENCE)

    def raw(self, data):
        try:
            self.end.sendall(data)
            return True
        except OSError:
            return False  # the honest one has had enough

    def say(self, name, number=0, migration=MIGRATION, /, **values):
        return self.raw(lpmwire.encode(name, migration, number, **values))

    def next(self, name, /, **values):
        """An ordered record with the right number."""
        self.number += 1
        return self.say(name, self.number, **values)

    def hear(self, name):
        while True:
            while not (got := lpmwire.decode(self.buffer)):
                data = self.end.recv(1 << 16)
                assert data, f"closed instead of {name}"
                self.buffer += data
            self.buffer = self.buffer[got[1]:]
            if got[0].name == name:
                return got[0]


class Honest:
    """A source's mover whose target lies, or a target's whose source does."""

    def __init__(self, side, greet=True, features=0, **config):
        self.listener = socket.create_server(("127.0.0.1", 0))
        here, there = ("sys-a", "sys-b") if side == "src" else ("sys-b", "sys-a")
        self.side, self.features = side, features
        config = {"features": features, "silence_ms": SILENCE_MS, "connect_ms": 3000, **config}
        if side == "src":
            self.mover = Mover(side, socket.create_connection(self.listener.getsockname()), here, there, **config)
            end = self.listener.accept()[0]
        else:
            self.mover = Mover(side, self.listener.dup(), here, there, **config)
            end = socket.create_connection(self.listener.getsockname())
        self.liar = Liar(end)
        if greet:
            self.greet()

    def hello(self, **changes):
        values = {"version_min": 1, "version_max": 1, "features": self.features, "side": 1, "mode": 1, "codec": 1, "connections": 1,
                  "window": MIB, "proof": proof("source"), "system": "sys-a", **changes}
        return self.liar.say("HELLO", **values)

    def hello_ack(self, **changes):
        values = {"version": 1, "features": self.features, "window": MIB, "proof": proof("target"), **changes}
        return self.liar.say("HELLO_ACK", **values)

    def greet(self):
        if self.side == "src":
            self.liar.hear("HELLO")
            self.hello_ack()
        else:
            self.hello()
            self.liar.hear("HELLO_ACK")
        self.mover.expect("CONNECTED")

    def ends(self, patience=PATIENCE):
        """With a reason, its code as its status, and QEMU's socket closed; what QEMU was given."""
        while (event := self.mover.next_event(patience)) is not None and event.name != "ERROR":
            pass
        assert event is not None, f"ended without a reason: {self.mover.wait()}, {self.mover.stderr()}"
        assert event.reason and event.reason.isprintable(), event
        assert self.mover.wait(patience) == event.code, event
        self.mover.vasi.settimeout(PATIENCE)
        got = b""
        try:
            while data := self.mover.vasi.recv(1 << 16):
                got += data
        except ConnectionResetError:
            pass
        return event, got

    def stop(self):
        self.liar.end.close()
        self.listener.close()
        self.mover.stop()


@pytest.fixture
def honest():
    made = []

    def one(*arguments, **options):
        made.append(Honest(*arguments, **options))
        return made[-1]
    yield one
    for each in made:
        each.stop()


def huge_header(name):
    frame = bytearray(lpmwire.encode(name, MIGRATION))
    frame[40:44] = (0xfffffff0).to_bytes(4, "little")
    return bytes(frame)


def unknown_record():
    head = lpmwire.HEADER.pack(lpmwire.MAGIC, 1, 999, 0, MIGRATION, 1, 0, 0)
    return head + lpmwire.checksum(head, b"").to_bytes(8, "little")


# What either side may send where it does not belong; each ends the move.
LIES_OF_BOTH = {
    "a number that was skipped too far": lambda liar: [liar.say("DATA", 2 + i, offset=i * 100000, data=bytes(100000)) for i in range(30)],
    "a hole in the stream": lambda liar: liar.next("DATA", offset=7, data=b"x"),
    "an offset near the end of numbers": lambda liar: liar.next("DATA", offset=2**64 - 1, data=b"x"),
    "an acknowledgement of what was never sent": lambda liar: liar.say("ACK", sequence=10**9, offset=2**63),
    "a foreign migration": lambda liar: liar.say("DATA", 1, FOREIGN, data=b"x"),
    "a second greeting": lambda liar: liar.say("HELLO", side=1, mode=1, codec=1, connections=1, window=MIB, system="sys-a"),
    "FIN of more than there was": lambda liar: liar.next("FIN", total=10**12),
    "a record of lpm-host": lambda liar: liar.say("FINISH"),
    "a length of 4 GiB": lambda liar: liar.raw(huge_header("PEER")),
    "an unknown record": lambda liar: liar.raw(unknown_record()),
    "noise": lambda liar: liar.raw(random.Random(4).randbytes(100_000)),
    "a record of a feature that was not agreed": lambda liar: liar.next("CODED", channel=0, offset=0, data=b"x"),
    "probe's record in a move": lambda liar: liar.next("PROBE_DATA", offset=0, data=b"x"),
    "silence": lambda liar: None,
    "a frame that never ends": lambda liar: dribble(liar, lpmwire.encode("PEER", MIGRATION, 1, data=bytes(60000))),
}

LIES_OF_TARGET = {
    "LOADED before anything": lambda liar: liar.next("LOADED", total=0, digest=bytes(32)),
    "hashes that nobody asked for": lambda liar: liar.next("VERIFY_HASHES", first=2**63, count=4096),
    "the end of a verification": lambda liar: liar.next("VERIFY_REPORT", compared=1),
    "END, which is the source's": lambda liar: liar.next("END", total=0, digest=bytes(32)),
    "MISS without the feature": lambda liar: liar.next("MISS", sequence=1),
    "BASE_ACK without an image": lambda liar: liar.next("BASE_ACK", usable=1),
    "CHECK of more than there was": lambda liar: liar.next("CHECK", total=2**64 - 1) and dribble(liar, b""),
}

LIES_OF_SOURCE = {
    "LOADED, which is the target's": lambda liar: liar.next("LOADED", total=0, digest=bytes(32)),
    "END with another digest": lambda liar: liar.next("DATA", offset=0, data=b"abc") and liar.next("END", total=3, digest=bytes(32)),
    "END of more than came": lambda liar: liar.next("END", total=2**63, digest=bytes(32)),
    "pages that nobody asked for": lambda liar: liar.next("VERIFY_PAGES", data=(2**52).to_bytes(8, "little") + bytes(4096)),
    "another channel": lambda liar: liar.next("CHANNEL_DATA", channel=9, offset=0, data=b"x"),
    "the end of another channel": lambda liar: liar.next("CHANNEL_FIN", channel=16, total=0),
    "SEAL without an image": lambda liar: liar.next("SEAL", image=FOREIGN),
    "BASE in the middle": lambda liar: liar.next("DATA", offset=0, data=b"abc") and liar.next("BASE", image=FOREIGN, root=bytes(32)),
    "REPLACE that nobody asked for, without the feature": lambda liar: liar.say("REPLACE", sequence=5, data=b"x"),
}


SLOW = ("silence", "a frame that never ends", "CHECK of more than there was")  # they wait for silence, and are in `make check-long`


def each(lies):
    return [pytest.param(lie, marks=pytest.mark.long) if lie in SLOW else lie for lie in lies]


def dribble(liar, data, seconds=6):
    """A byte now and then, for longer than silence is suffered."""
    end = time.monotonic() + seconds
    for byte in data[:60] if data else ():
        if not liar.raw(bytes([byte])) or time.monotonic() > end:
            return
        time.sleep(0.1)


@pytest.mark.parametrize("lie", each([*LIES_OF_BOTH, *LIES_OF_TARGET]))
def test_a_source_survives_its_target(honest, lie):
    source = honest("src")
    source.mover.vasi.sendall(b"what QEMU said first")
    (LIES_OF_BOTH | LIES_OF_TARGET)[lie](source.liar)
    event, got = source.ends()
    assert got == b"", "QEMU was told something on the return path"
    assert event.code not in (0, 18), event  # neither a good end nor a defect of our own


@pytest.mark.parametrize("lie", each([*LIES_OF_BOTH, *LIES_OF_SOURCE]))
def test_a_target_survives_its_source(honest, lie):
    target = honest("dst")
    (LIES_OF_BOTH | LIES_OF_SOURCE)[lie](target.liar)
    event, got = target.ends()
    assert got in (b"", b"abc"), "QEMU was given what was no part of a stream"
    assert event.code not in (0, 18), event


@pytest.mark.parametrize("changes", [
    {"version": 77}, {"features": 2**63}, {"window": 0}, {"window": 2**32 - 1}, {"proof": bytes(32)}, {"proof": proof("source")},
    {"received": 2**40}], ids=str)
def test_a_source_refuses_a_wrong_answer_to_its_greeting(honest, changes):
    source = honest("src", greet=False)
    source.liar.hear("HELLO")
    source.hello_ack(**changes)
    source.ends()


@pytest.mark.parametrize("changes", [
    {"version_min": 2, "version_max": 9}, {"side": 2}, {"mode": 2}, {"codec": 2}, {"connection": 3}, {"received": 5}, {"window": 1},
    {"proof": proof("target")}, {"proof": proof("source", bytes(32))}, {"system": "sys-c"}], ids=str)
def test_a_target_waits_on_after_a_wrong_greeting(honest, changes):
    """It was no source of this move; the right one may still come."""
    target = honest("dst", greet=False)
    target.hello(**changes)
    assert target.mover.expect("REFUSED").reason
    target.liar.end.close()
    target.liar = Liar(socket.create_connection(target.listener.getsockname()))
    target.greet()


def test_a_second_connection_of_another_move_changes_nothing(honest):
    """Resuming: a number that is taken, from somebody without the key, and one that says it has what was never sent."""
    target = honest("dst", features=RESUME, retry_ms=4000, connections=1)
    for changes in ({"proof": bytes(32)}, {"connection": 5}, {"features": 0}):
        other = Honest.__new__(Honest)
        other.side, other.features = "dst", RESUME
        other.liar = Liar(socket.create_connection(target.listener.getsockname()))
        other.hello(**changes)
        assert target.mover.expect("REFUSED").reason, changes
        other.liar.end.close()
    target.liar.next("DATA", offset=0, data=b"abc")
    assert target.mover.vasi.recv(10) == b"abc"


def flood(liar, stopped, make):
    number = 0
    while not stopped.is_set():
        number += 1
        if not liar.raw(make(number)):
            return


FLOODS = {
    "PING": lambda n: lpmwire.encode("PING", MIGRATION, stamp=n) * 100,
    "ACK": lambda n: lpmwire.encode("ACK", MIGRATION) * 100,
    "PEER": lambda n: lpmwire.encode("PEER", MIGRATION, n, data=bytes(65536)),
    "HINT": lambda n: lpmwire.encode("HINT", MIGRATION, n, epoch=n, what=n % 5),
    "small DATA": lambda n: lpmwire.encode("DATA", MIGRATION, n, offset=n - 1, data=b"x"),
    "large DATA": lambda n: lpmwire.encode("DATA", MIGRATION, n, offset=(n - 1) * 200_000, data=bytes(200_000)),
}


@pytest.mark.parametrize("side, what", [
    (side, what) if (side, what) in (("src", "PEER"), ("dst", "large DATA")) else pytest.param(side, what, marks=pytest.mark.long)
    for what in FLOODS for side in ("src", "dst")])
def test_an_endless_stream_costs_no_memory(honest, side, what):
    """Neither lpm-host nor QEMU reads, and the peer does not look at its window. The mover ends, or goes on in its room."""
    pair = honest(side)
    mover, liar = pair.mover, pair.liar
    stopped = threading.Event()
    thread = threading.Thread(target=flood, args=(liar, stopped, FLOODS[what]), daemon=True)
    thread.start()
    peak, end = 0, time.monotonic() + 2
    while time.monotonic() < end and mover.process.poll() is None:
        with contextlib.suppress(OSError, StopIteration):  # it has just ended
            peak = max(peak, mover.peak_kib())
        time.sleep(0.05)
    stopped.set()
    with contextlib.suppress(OSError):  # the mover may have closed it
        liar.end.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE)
    assert peak < 200 * 1024, f"{peak} KiB"
    status = mover.process.poll()
    assert status is None or status > 0, f"killed: {status}"
    mover.control.close()
    assert mover.wait() >= 0, "lpm-host's end was not noticed"


@pytest.mark.parametrize("seed", range(5))
def test_a_batch_that_is_none_is_not_handed_on(honest, seed):
    target = honest("dst", features=CODED)
    target.liar.next("CODED", channel=0, offset=0, data=random.Random(seed).randbytes(1000))
    _, got = target.ends()
    assert got == b""


def test_an_answer_that_nobody_asked_for_is_dropped(honest):
    target = honest("dst", features=CODED)
    target.liar.say("REPLACE", sequence=77, data=b"foreign")
    target.liar.next("DATA", offset=0, data=b"abc")
    assert target.mover.vasi.recv(10) == b"abc"
