# SPDX-License-Identifier: Apache-2.0
"""QEMU's further channels (multifd) between movers: each stream whole and by itself, and none waits for another."""
import contextlib
import json
import random
import select
import socket
import sys
import time

import pytest

import lpmwire
from cable import LinkedMover, LinkedPair, image_file, ram_stream
from moverpair import PATIENCE, ROOT

sys.path.insert(0, str(ROOT / "tests" / "spec"))
import lpmcodec  # noqa: E402

MIB = 1 << 20
PROTOCOL, COMMAND, VASI = 13, 18, 16
STREAMS = ROOT / "tests" / "golden" / "streams"


class ChannelMover(LinkedMover):
    """QEMU's sockets are made one by one: by the source's QEMU, or when the target's mover wants one. `qemu` has QEMU's ends."""

    def __init__(self, *arguments, **options):
        self.qemu = {}
        super().__init__(*arguments, vasi=False, **options)

    def open_channel(self, number):
        self.qemu[number], far = socket.socketpair()
        with far:
            self.send("CHANNEL", [far.fileno()], channel=number)

    def serve(self, event):
        super().serve(event)
        if event.name == "NEED_CHANNEL":
            self.open_channel(event.channel)

    def stop(self):
        super().stop()
        for end in self.qemu.values():
            end.close()


class ChannelPair(LinkedPair):
    mover = ChannelMover

    def open_all(self, number):
        for channel in range(number):
            self.src.open_channel(channel)


@pytest.fixture
def begin():
    """begin(authority, channels, ...): a connected pair, and all channels of the source's QEMU."""
    made = []

    def one(authority=None, channels=2, budgets=(), **options):
        made.append(ChannelPair(authority, budgets, channels=channels, **options))
        for mover in made[-1].movers:
            mover.expect("CONNECTED")
        made[-1].open_all(1 + channels)
        return made[-1]
    yield one
    for pair in made:
        pair.stop()


class Flow:
    """Plays both QEMUs: writes the streams at the source and reads them at the target, but for those that are held back."""

    def __init__(self, pair, streams, closing=()):
        """closing: channels that QEMU closes right behind their last bytes."""
        self.pair, self.streams, self.closing = pair, streams, closing
        self.rest = {channel: memoryview(data) for channel, data in enumerate(streams)}
        self.got = [bytearray() for _ in streams]

    def run(self, held=(), seconds=60, until=None):
        """Until all arrived that is not held; or until a condition."""
        deadline = time.monotonic() + seconds
        until = until or (lambda: all(len(got) == len(stream) for channel, (got, stream) in enumerate(zip(self.got, self.streams))
                                      if channel not in held))
        while not until():
            assert time.monotonic() < deadline, f"the streams do not get through: {[len(got) for got in self.got]}"
            self.step(held)

    def step(self, held):
        source, target = self.pair.src.qemu, self.pair.dst.qemu
        feeds = {source[channel]: channel for channel, rest in self.rest.items() if rest}
        sinks = {end: channel for channel, end in list(target.items())
                 if channel not in held and len(self.got[channel]) < len(self.streams[channel])}
        readable, writable, _ = select.select(list(sinks), list(feeds), [], 0.02)
        for end in readable:
            data = end.recv(1 << 20, socket.MSG_DONTWAIT)
            assert data, f"stream {sinks[end]} ended early"
            self.got[sinks[end]] += data
        for end in writable:
            rest = self.rest[feeds[end]]
            self.rest[feeds[end]] = rest[end.send(rest[:1 << 18], socket.MSG_DONTWAIT):]
            if not self.rest[feeds[end]] and feeds[end] in self.closing:
                end.shutdown(socket.SHUT_WR)


def noise(seed, size):
    return random.Random(seed).randbytes(size)


def arrived(pair, streams):
    """Digest and total of the documents, on both sides; returns DIGEST_OK."""
    pair.dst.send("CHECK")
    event = pair.dst.expect("DIGEST_OK")
    assert (event.total, event.digest) == (sum(map(len, streams)), lpmwire.channels_digest(streams))
    pair.dst.send("LOADED", total=event.total, digest=event.digest)
    loaded = pair.src.expect("LOADED")
    assert (loaded.total, loaded.digest) == (event.total, event.digest)


def ends_with(mover, *codes):
    deadline = time.monotonic() + PATIENCE
    while (event := mover.next_event()) is not None and event.name != "ERROR":
        assert time.monotonic() < deadline, f"{mover.side} goes on"
    assert event is not None and event.code in codes, event
    assert mover.wait() == event.code
    return event


def read_to_end(end):
    end.settimeout(PATIENCE)
    out = bytearray()
    while data := end.recv(1 << 20):
        out += data
    return bytes(out)


def is_silent(end):
    return not select.select([end], [], [], 0.2)[0]


def last_stats(mover):
    mover.send("GET_STATS")
    mover.expect("STATS")
    return mover.expect("STATS")


# --- whole ---


@pytest.mark.parametrize("tls, channels", [(True, 2), (False, 1), (False, 16)])
def test_each_stream_arrives_whole(authority, begin, tls, channels):
    pair = begin(authority if tls else None, channels)
    streams = [noise(channel, 500_000 + 333_333 * (channel % 5)) for channel in range(1 + channels)]
    flow = Flow(pair, streams)
    flow.run()
    assert [bytes(got) for got in flow.got] == streams
    pair.dst.qemu[0].sendall(b"return path")
    pair.src.qemu[0].settimeout(PATIENCE)
    assert pair.src.qemu[0].recv(100) == b"return path"
    assert all(is_silent(end) for channel, end in pair.src.qemu.items() if channel), "only the main stream has a way back"
    arrived(pair, streams)
    assert sorted(e.channel for e in pair.dst.seen if e.name == "NEED_CHANNEL") == list(range(1 + channels))
    assert not [e for e in pair.src.seen if e.name == "NEED_CHANNEL"]
    assert last_stats(pair.dst).stream_in == sum(map(len, streams))
    pair.finish()


def test_qemu_is_not_connected_to_before_there_are_bytes(begin):
    """It waits for the first bytes of a socket that it has accepted and serves nothing else meanwhile."""
    pair = begin()
    time.sleep(0.3)
    assert not pair.dst.qemu
    pair.src.qemu[2].sendall(b"first")
    assert pair.dst.expect("NEED_CHANNEL").channel == 2
    assert pair.dst.qemu[2].recv(100) == b"first"
    assert list(pair.dst.qemu) == [2]
    pair.src.qemu[0].sendall(b"main")
    assert pair.dst.expect("NEED_CHANNEL").channel == 0
    assert pair.dst.qemu[0].recv(100) == b"main"
    arrived(pair, [b"main", b"", b"first"])
    began = time.monotonic()
    pair.finish()
    assert time.monotonic() - began < 0.4, "nobody waits for channels that never end"


# --- by itself ---


@pytest.mark.parametrize("codec", [1, 2])
@pytest.mark.parametrize("slow", [0, 1])
def test_a_channel_that_qemu_does_not_read_stops_no_other(begin, codec, slow):
    """QEMU reads on one only when it has seen something on another. What it leaves here is more than the sockets take."""
    pair = begin(codec=codec, max_rate=100 * MIB)
    streams = [noise(channel, 3 * MIB if channel == slow else 12 * MIB) for channel in range(3)]
    flow = Flow(pair, streams)
    flow.run(until=lambda: not flow.rest[slow], held=(slow,))
    flow.run(held=(slow,))
    assert not flow.got[slow]
    flow.run()
    assert [bytes(got) for got in flow.got] == streams
    arrived(pair, streams)
    pair.finish()


def test_what_waits_is_bounded_and_then_goes_on(begin):
    """A QEMU that reads nothing at all holds the source's QEMU back."""
    pair = begin()
    streams = [b"main", noise(1, 40 * MIB), noise(2, MIB)]
    flow = Flow(pair, streams)
    flow.run(held=(1,), until=lambda: len(flow.rest[1]) < 39 * MIB)
    before, began = -1, time.monotonic()
    while before != len(flow.rest[1]) and time.monotonic() < began + PATIENCE:
        before = len(flow.rest[1])
        pause = time.monotonic() + 0.7
        flow.run(held=(1,), until=lambda: time.monotonic() > pause)
    assert 15 * MIB < len(flow.rest[1]) < 40 * MIB, "so much was taken in between"
    flow.run()
    assert [bytes(got) for got in flow.got] == streams
    arrived(pair, streams)
    pair.finish()


@pytest.mark.parametrize("codec", [1, 2])
@pytest.mark.parametrize("connections", [1, 3])
def test_each_channel_arrives_whole_to_its_last_byte(authority, begin, codec, connections):
    """The last bytes and the end come in one go, so that the end is seen while bytes of the batch still wait."""
    pair = begin(authority, 3, codec=codec, connections=connections, max_rate=30 * MIB)
    streams = [noise(channel, size) for channel, size in enumerate((3 * MIB, 5 * MIB + 17, 300_001, 99))]
    flow = Flow(pair, streams, closing=(1, 2, 3))
    flow.run()
    assert [bytes(got) for got in flow.got] == streams
    assert [read_to_end(pair.dst.qemu[channel]) for channel in (1, 2, 3)] == [b""] * 3
    arrived(pair, streams)
    pair.finish()


@pytest.mark.parametrize("codec", [1, 2])
def test_the_end_of_one_channel_is_its_own(begin, codec):
    """Closed right behind the last bytes, while they are still being gathered."""
    pair = begin(codec=codec, max_rate=8 * MIB)
    streams = [b"main" * 1000, noise(1, 700_001), noise(2, 5_003)]
    pair.src.qemu[0].sendall(streams[0][:100])
    pair.src.qemu[2].sendall(streams[2][:100])
    order = (1, 2, 0)
    for place, channel in enumerate(order):
        rest = streams[channel] if channel == 1 else streams[channel][100:]
        flow = Flow(pair, [rest if number == channel else b"" for number in range(3)])
        flow.run(until=lambda: not flow.rest[channel])
        pair.src.qemu[channel].shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + PATIENCE
        while len(pair.dst.qemu) < len(order):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert bytes(flow.got[channel]) + read_to_end(pair.dst.qemu[channel]) == streams[channel]
        for other in order[place + 1:]:
            assert len(pair.dst.qemu[other].recv(200, socket.MSG_PEEK)) == 100 and len(flow.got[other]) == 0
    assert pair.src.expect("VASI_EOF").total == sum(map(len, streams))
    arrived(pair, streams)
    pair.dst.qemu[0].sendall(b"still open")
    assert pair.src.qemu[0].recv(100) == b"still open"
    pair.finish()


def test_qemu_that_closes_a_channel_too_early_ends_the_move(begin):
    pair = begin()
    pair.src.qemu[1].sendall(b"x" * 1000)
    pair.dst.expect("NEED_CHANNEL")
    pair.dst.qemu[1].close()
    with contextlib.suppress(BrokenPipeError):
        for _ in range(3):
            pair.src.qemu[1].sendall(b"x" * 1000)
            time.sleep(0.1)
    assert "QEMU's socket 1" in ends_with(pair.dst, VASI).reason
    ends_with(pair.src, 21)


# --- refused ---


def test_a_channel_twice(begin):
    pair = begin()
    pair.src.open_channel(1)
    assert "CHANNEL that is there already" in ends_with(pair.src, COMMAND).reason


@pytest.mark.parametrize("side", ["src", "dst"])
def test_a_channel_that_config_has_not(begin, side):
    pair = begin(channels=2)
    mover = getattr(pair, side)
    mover.open_channel(3)
    assert "not announced" in ends_with(mover, COMMAND).reason


def test_a_channel_beside_a_vasi():
    pair = LinkedPair()
    try:
        with socket.socket() as one:
            pair.src.send("CHANNEL", [one.fileno()], channel=1)
        assert "not announced" in ends_with(pair.src, COMMAND).reason
    finally:
        pair.stop()


@pytest.mark.parametrize("record", ["CHANNEL", "LINK"])
def test_a_record_without_its_descriptor(begin, record):
    pair = begin()
    pair.dst.send(record)
    assert f"{record} came without its socket" in ends_with(pair.dst, PROTOCOL).reason


def test_a_descriptor_with_another_record(begin):
    """Kept, it would be taken for the next record's."""
    pair = begin()
    with socket.socket() as stray:
        pair.dst.send("GET_STATS", [stray.fileno()])
    assert "descriptor" in ends_with(pair.dst, PROTOCOL).reason


@pytest.mark.parametrize("channels, src, dst", [(0, {}, {}), (2, {"channels": 0}, {})])
def test_sockets_that_config_does_not_tell_of(channels, src, dst):
    """Neither a VASI nor channels: there is nothing to move."""
    pair = ChannelPair(channels=channels, src=src, dst=dst)
    try:
        assert "VASI" in ends_with(pair.src, 3).reason
    finally:
        pair.stop()


# --- cut ---


@pytest.mark.parametrize("codec, connections", [(1, 1), (2, 2)])
def test_nothing_is_lost_with_a_connection(authority, begin, codec, connections):
    pair = begin(authority, 2, [MIB, 100, 2 * MIB + 12345, 1500, 700_001], codec=codec, connections=connections,
                 max_rate=30 * MIB)
    streams = [noise(1, 2 * MIB), noise(2, 8 * MIB) + bytes(4 * MIB), ram_stream([[(n, noise(n, 4096)) for n in range(1000)]])]
    flow = Flow(pair, streams)
    flow.run()
    assert [bytes(got) for got in flow.got] == streams
    arrived(pair, streams)
    assert last_stats(pair.src).reconnects >= 3
    pair.finish()


# --- coded ---


def golden(name):
    about = json.loads((STREAMS / f"{name}.json").read_text())
    return [lpmcodec.inflate((STREAMS / f"{name}-{channel}.zst").read_bytes(), size)
            for channel, size in enumerate(about["sizes"])]


@pytest.mark.parametrize("name", ["q35-multifd", "7.2-q35-multifd", "q35-multifd-zstd"])
def test_real_streams_are_coded_and_the_return_is_small(begin, name):
    streams, images = golden(name), (image_file(), image_file())
    pages = {}
    for move in range(2):
        pair = begin(codec=2, image_key=bytes(range(32)), max_rate=MIB // 4, src={"image": images[move]}, dst={"image": images[1 - move]})
        flow = Flow(pair, streams)
        flow.run()
        assert [bytes(got) for got in flow.got] == streams
        arrived(pair, streams)
        for end in pair.src.qemu.values():
            end.shutdown(socket.SHUT_WR)
        for channel in range(3):
            assert read_to_end(pair.dst.qemu[channel]) == b"", "with the end the target has the name to seal its image under"
        here, there = last_stats(pair.src), last_stats(pair.dst)
        fields = ["pages_zero", "pages_same", "pages_reference", "pages_delta", "pages_literal"]
        assert [here.values[field] for field in fields] == [there.values[field] for field in fields]
        pages[move] = here
        pair.finish()
    first, second = pages[0], pages[1]
    if name.endswith("zstd"):
        return  # QEMU has packed them: there is nothing to be seen of pages
    assert first.raw_bytes == second.raw_bytes == sum(map(len, streams)), "on such a link nothing goes as it is"
    assert first.pages_literal > 0 and first.coded_bytes < first.raw_bytes * 0.6, first
    assert second.pages_same > 200 and second.pages_literal == 0, "nothing goes twice"
    assert second.coded_bytes < first.coded_bytes / 4, (first, second)


# --- memory ---


@pytest.mark.parametrize("kind", ["noise, raw", "noise, coded", "text, coded"])
def test_memory_is_bounded_whoever_is_slow(begin, kind):
    """docs/spec/mover.md: at most 64 MiB and the window, however much QEMU has to say and however little is read."""
    window = 4 * MIB
    pair = begin(channels=3, codec=1 if "raw" in kind else 2, max_rate=30 * MIB if "text" in kind else 0)  # so that coding pays
    block = noise(1, MIB) if "noise" in kind else b"".join(b"%07d " % (n % 3000) for n in range(MIB // 8))
    streams = [block, *[block * 100] * 3]
    flow = Flow(pair, streams)
    for held in ((1, 2, 3), (1,), (2, 3), (3,)):  # all at first, then now and then
        before = None
        while before != [len(rest) for rest in flow.rest.values()]:
            before = [len(rest) for rest in flow.rest.values()]
            pause, some = time.monotonic() + 0.2, sum(map(len, flow.got)) + 30 * MIB
            flow.run(held=held, until=lambda: time.monotonic() > pause or sum(map(len, flow.got)) > some)
            if sum(map(len, flow.got)) > some:
                break
    flow.run()
    peaks = {mover.side: mover.peak_kib() // 1024 for mover in pair.movers}
    print(kind, peaks)
    assert max(peaks.values()) < (64 * MIB + window) // MIB, peaks
    arrived(pair, streams)
    pair.finish()


def heap_kib(mover):
    with open(f"/proc/{mover.process.pid}/status", encoding="ascii") as status:
        return int(next(line.split()[1] for line in status if line.startswith("VmData")))


def test_many_small_writes_take_no_more(begin):
    """Each becomes a batch of its own; what waits for QEMU is held as its bytes, not as a whole batch's room."""
    pair = begin(channels=1, codec=2)
    flow = Flow(pair, [b"", noise(1, 700 * 3000)])
    flow.step(held=(1,))
    before = heap_kib(pair.dst)
    while flow.rest[1]:
        flow.rest[1] = flow.rest[1][pair.src.qemu[1].send(flow.rest[1][:3000]):]
        time.sleep(0.003)
    time.sleep(0.1)
    assert heap_kib(pair.dst) - before < 20 * 1024
    flow.run()
    assert bytes(flow.got[1]) == flow.streams[1]
    pair.finish()
