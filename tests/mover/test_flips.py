# SPDX-License-Identifier: Apache-2.0
"""Bytes that change on the wire, at random places of everything that two movers say to each other: each is noticed, none is delivered."""
import contextlib
import os
import random
import select
import socket
import threading

import pytest

import lpmwire
from cable import LinkedPair
from moverpair import PATIENCE, Pair, copy_both_ways

SEED = int(os.environ.get("LPM_SEED", "20"))
FORWARD, BACKWARD = 48 << 10, 4 << 10
SILENCE_MS = 700  # a length that was made larger is noticed when nothing more comes


class Flip:
    """Changes one byte of one direction; spoilt says whether it has gone by."""

    def __init__(self, side, place, mask):
        self.side, self.place, self.mask, self.spoilt = side, place, mask, False

    def __call__(self, side, at, data):
        if side != self.side or not at <= self.place < at + len(data):
            return data
        data = bytearray(data)
        data[self.place - at] ^= self.mask
        self.spoilt = True
        return bytes(data)

    def __repr__(self):
        return f"byte {self.place} from {self.side} xor {self.mask:#x}"


class Ended(Exception):
    """A mover said ERROR, or ended."""


class Move:
    """One whole move between two movers without TLS, with one byte changed on its way."""

    def __init__(self, flip, forward, backward):
        self.flip, self.forward, self.backward = flip, forward, backward
        self.pair = Pair(relay_harm=flip, silence_ms=SILENCE_MS)
        self.ends = {self.pair.src.vasi: bytearray(), self.pair.dst.vasi: bytearray()}
        self.open, self.over = set(self.ends), set()
        self.news = {mover: [] for mover in self.pair.movers}
        self.running = True
        self.pump = threading.Thread(target=self.relay, daemon=True)
        self.pump.start()

    def relay(self):
        while self.running:
            with contextlib.suppress(OSError):
                self.pair.relay.pump(0.02)

    def look(self):
        """Takes in what comes from movers and as QEMU; the end of either mover ends the move, as it does with lpm-host."""
        controls = {mover.control: mover for mover in self.pair.movers if mover not in self.over}
        ready = select.select([*controls, *self.open], [], [], PATIENCE)[0]
        assert ready, f"nothing happens: {self.flip}"
        for one in ready:
            if one in controls:
                mover = controls[one]
                event = mover.next_event()
                if event is None or event.name == "ERROR":
                    raise Ended
                self.news[mover].append(event)
                self.over |= {mover} if event.name == "FINISHED" else set()
            elif data := one.recv(1 << 16):
                self.ends[one] += data
            else:
                self.open.discard(one)

    def wait_for(self, mover, name):
        while not (found := [event for event in self.news[mover] if event.name == name]):
            self.look()
        return found[0]

    def play(self):
        """Everything a move has, in its order."""
        src, dst = self.pair.src, self.pair.dst
        self.wait_for(src, "CONNECTED")
        self.wait_for(dst, "CONNECTED")
        src.vasi.sendall(self.forward)
        dst.vasi.sendall(self.backward)
        while len(self.ends[dst.vasi]) < len(self.forward) or len(self.ends[src.vasi]) < len(self.backward):
            self.look()
        dst.send("CHECK")
        event = self.wait_for(dst, "DIGEST_OK")
        dst.send("LOADED", total=event.total, digest=event.digest)
        self.wait_for(src, "LOADED")
        src.send("FINISH")
        self.wait_for(dst, "PEER_CLOSED")
        dst.send("FINISH")
        for mover in (src, dst):
            self.wait_for(mover, "FINISHED")
            assert mover.wait() == 0, mover.side

    def run(self):
        """Whether it came to its good end; what was delivered at both ends is in self.ends."""
        try:
            self.play()
            return True
        except (Ended, OSError):
            return False
        finally:
            self.running = False
            self.pump.join()
            for end in [self.pair.relay.listener, *(self.pair.relay.ends or {})]:
                end.close()
            for mover in self.pair.movers:
                mover.process.kill()
                mover.stop()


def frames_until(capture, place):
    """Names of the frames up to the one that has the byte at that place."""
    names, at = [], 0
    while at <= place and (got := lpmwire.decode(memoryview(capture)[at:])):
        names.append(got[0].name)
        at += got[1]
    return names


def one_flip(source, sizes):
    """A changed byte somewhere, noticed; the number of bytes of each direction, for the next."""
    forward, backward = source.randbytes(FORWARD), source.randbytes(BACKWARD)
    while True:
        side = source.choice(["src", "src", "src", "dst"])
        move = Move(Flip(side, source.randrange(sizes[side]), source.randrange(1, 256)), forward, backward)
        good = move.run()
        assert forward.startswith(move.ends[move.pair.dst.vasi]), f"wrong bytes delivered: {move.flip}"
        assert backward.startswith(move.ends[move.pair.src.vasi]), f"wrong bytes delivered: {move.flip}"
        if move.flip.spoilt:
            after = frames_until(move.pair.relay.captured[side], move.flip.place)
            if good and side == "dst" and "CLOSE" in after:
                continue  # its farewell: the source was told FINISH already, and ends whatever comes (docs/spec/mover.md)
            assert not good, f"not noticed: {move.flip}, in {after[-1]} of {after}"
            return [event for news in move.news.values() for event in news]
        assert good, f"ended although nothing was changed: {move.flip}"


def flips_without_tls(number):
    source = random.Random(SEED)
    # A move that nobody disturbs says how much there is to disturb.
    whole = Move(Flip("src", -1, 0), source.randbytes(FORWARD), source.randbytes(BACKWARD))
    assert whole.run() and len(whole.ends[whole.pair.dst.vasi]) == FORWARD
    sizes = {side: len(data) for side, data in whole.pair.relay.captured.items()}
    for _ in range(number):
        one_flip(source, sizes)


class FlipEach:
    """Changes one byte of each of the first connections, at a place of its own."""

    def __init__(self, source, number):
        # The first connection of a move is greeted without harm: before that there is nothing to go on with.
        self.flips = [(source.randrange(8000 if i == 0 else 0, 120_000), source.randrange(1, 256)) for i in range(number)]
        self.spoilt = 0

    def __call__(self, number, at, data):
        if number >= len(self.flips) or not at <= self.flips[number][0] < at + len(data):
            return data
        data = bytearray(data)
        data[self.flips[number][0] - at] ^= self.flips[number][1]
        self.spoilt += 1
        return bytes(data)


def flips_under_tls(authority, number, seed=SEED):
    """TLS notices each: that connection is given up, and what it lost goes again over the next."""
    source = random.Random(seed)
    harm = FlipEach(source, number)
    pair = LinkedPair(authority, harm=harm)
    try:
        for mover in pair.movers:
            mover.expect("CONNECTED")
        forward, backward = source.randbytes(number * 150_000), source.randbytes(1 << 16)
        assert copy_both_ways(pair, forward, backward) == (forward, backward)
        assert harm.spoilt == number
        assert len(pair.cable.carried) > number  # each spoilt connection was replaced
        pair.dst.send("CHECK")
        event = pair.dst.expect("DIGEST_OK")
        assert event.digest == lpmwire.stream_digest(forward)
        pair.dst.send("LOADED", total=event.total, digest=event.digest)
        pair.src.expect("LOADED")
        pair.finish()
    finally:
        pair.stop()


def test_every_flipped_byte_is_noticed():
    flips_without_tls(400)


def test_every_flipped_byte_under_tls_is_noticed_and_sent_again(authority):
    flips_under_tls(authority, 40)


@pytest.mark.long
def test_ten_thousand_flipped_bytes():
    flips_without_tls(10_000)


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_a_thousand_flipped_bytes_under_tls(authority, part):
    flips_under_tls(authority, 100, SEED + part)
