# SPDX-License-Identifier: Apache-2.0
"""Connections that are lost and made again, several at once, and batches that the target cannot decode."""
import os
import random
import signal
import socket
import threading
import time

import pytest

import lpmwire
from cable import LinkedPair, image_file, ram_stream
from moverpair import FAULTY, PATIENCE, Mover, copy_both_ways

MIB = 1 << 20
LINK_LOST = 11


def digest_is_right(pair, stream):
    pair.dst.send("CHECK")
    event = pair.dst.expect("DIGEST_OK")
    assert (event.total, event.digest) == (len(stream), lpmwire.stream_digest(stream))
    return event


def ends_with(mover, *codes):
    while (event := mover.next_event()) is not None and event.name != "ERROR":
        pass
    assert event is not None and event.code in codes, event
    assert mover.wait() == event.code
    return event


def copied_and_right(pair, forward, backward):
    assert copy_both_ways(pair, forward, backward) == (forward, backward)
    event = digest_is_right(pair, forward)
    pair.dst.send("LOADED", total=event.total, digest=event.digest)
    pair.src.expect("LOADED")


def read_exactly(end, size):
    """What QEMU reads there."""
    end.settimeout(PATIENCE)
    got = bytearray()
    while len(got) < size:
        data = end.recv(min(1 << 18, size - len(got)))
        assert data, "a stream ended early"
        got += data
    return bytes(got)


def last_stats(mover):
    mover.send("GET_STATS")
    mover.expect("STATS")
    return mover.expect("STATS")


@pytest.fixture
def begin():
    """begin(...): a pair that is connected."""
    made = []

    def one(*arguments, **options):
        made.append(LinkedPair(*arguments, **options))
        for mover in made[-1].movers:
            mover.expect("CONNECTED")
        return made[-1]
    yield one
    for pair in made:
        pair.stop()


@pytest.mark.parametrize("tls", [True, False])
def test_connections_cut_at_any_byte_are_made_again(authority, begin, tls):
    """Some are cut in the greeting, so that they never carry anything."""
    budgets = [MIB, 100, 2 * MIB + 12345, 1500, 3000, 700_001, 50, 4 * MIB]
    pair = begin(authority if tls else None, budgets)
    forward, backward = random.Random(1).randbytes(24 * MIB), random.Random(2).randbytes(2 * MIB)
    copied_and_right(pair, forward, backward)
    assert len(pair.cable.carried) > len(budgets)
    for mover in pair.movers:
        states = [(e.up, e.connection) for e in mover.seen if e.name == "LINK_STATE"]
        assert (0, 0) in states and (1, 0) in states and states[-1] == (1, 0), states
        assert last_stats(mover).reconnects >= 3
    assert last_stats(pair.src).resent_bytes > 0
    pair.finish()


def test_what_the_hosts_say_meanwhile_arrives_later(authority, begin):
    pair = begin(authority)
    forward = random.Random(3).randbytes(2 * MIB)
    copy_both_ways(pair, forward)
    pair.cable.cut()
    for mover in pair.movers:
        assert mover.expect("LINK_STATE").up == 0
    assert last_stats(pair.src).links_up == 0
    pair.src.send("HINT", epoch=7, what=1)
    pair.dst.send("PEER", data=b"hello")
    pair.dst.send("CHECK")
    time.sleep(0.3)
    assert not [e for e in [*pair.src.seen, *pair.dst.seen] if e.name in ("HINT", "PEER", "DIGEST_OK")]
    pair.cable.mend()
    assert pair.dst.expect("HINT").epoch == 7
    assert pair.src.expect("PEER").data == b"hello"
    digest_is_right(pair, forward)
    assert pair.src.latest("LINK_STATE").ms_down >= 300
    assert last_stats(pair.src).links_up == 1
    pair.finish()


def test_a_silent_link_is_lost_and_comes_back(authority, begin):
    """Nothing is reset: packets just do not arrive any more."""
    pair = begin(authority, silence_ms=1200)
    threading.Timer(0.1, pair.cable.silence).start()
    threading.Timer(2.5, pair.cable.mend).start()
    forward, backward = random.Random(4).randbytes(16 * MIB), random.Random(5).randbytes(MIB)
    pair.src.send("RATE", max_rate=12 * MIB)
    copied_and_right(pair, forward, backward)
    lost = next(e for e in pair.src.seen if e.name == "LINK_STATE")
    assert lost.up == 0 and "nothing heard" in lost.reason
    pair.finish()


def test_acknowledgements_lost_with_the_link_are_said_again(begin):
    """The window is full, and all of it handed on: nothing else would make the source go on."""
    pair = begin(window=MIB)
    forward = random.Random(14).randbytes(12 * MIB)
    writer = threading.Thread(target=pair.src.vasi.sendall, args=(forward,), daemon=True)
    pair.cable.mute()
    writer.start()
    got = read_exactly(pair.dst.vasi, MIB - 100_000)
    time.sleep(0.2)
    pair.cable.cut()
    pair.cable.mend()
    got += read_exactly(pair.dst.vasi, len(forward) - len(got))
    assert got == forward
    writer.join()
    digest_is_right(pair, forward)
    pair.finish()


def test_the_limit_ends_both_with_the_reason(authority, begin):
    pair = begin(authority, retry_ms=1000)
    pair.src.vasi.sendall(bytes(100_000))
    began = time.monotonic()
    pair.cable.cut()
    for mover in pair.movers:
        assert "no connection" in ends_with(mover, LINK_LOST).reason
    assert 0.9 < time.monotonic() - began < 4
    assert pair.src.vasi.recv(1) == b"", "QEMU is told"


def test_without_retry_a_loss_is_the_end(authority, begin):
    pair = begin(authority, retry_ms=0)
    pair.cable.cut()
    for mover in pair.movers:
        ends_with(mover, LINK_LOST)
    assert not [e for e in pair.src.seen if e.name == "NEED_LINK"]


def test_a_peer_that_cannot_resume(authority, begin):
    """An older release: the feature is not agreed, so it is as without."""
    pair = begin(authority, dst={"features": 1})
    assert pair.src.seen[-1].name != "ERROR"
    pair.cable.cut()
    for mover in pair.movers:
        ends_with(mover, LINK_LOST)


# --- several ---


@pytest.mark.parametrize("number", [2, 4, 16])
def test_frames_go_over_all_connections(authority, begin, number):
    pair = begin(authority, connections=number)
    forward, backward = random.Random(6).randbytes(12 * MIB), random.Random(7).randbytes(MIB)
    deadline = time.monotonic() + PATIENCE
    while last_stats(pair.src).links_up < number:
        assert time.monotonic() < deadline, "the others do not come up"
    pair.src.send("RATE", max_rate=12 * MIB)  # slowly: on a busy machine a sender's turn comes late
    stream, deadline = b"", time.monotonic() + 3 * PATIENCE
    while not stream or min(pair.cable.carried) < 100_000:  # which of them is next is the kernel's choice
        assert time.monotonic() < deadline, f"one is not used: {pair.cable.carried}"
        assert copy_both_ways(pair, forward, backward) == (forward, backward)
        stream += forward
    assert len(pair.cable.carried) == number
    digest_is_right(pair, stream)
    assert not [e for e in pair.src.seen if e.name == "LINK_STATE" and not e.up]
    pair.finish()


def test_one_of_several_is_cut_and_the_others_go_on(authority, begin):
    """Frames that it carried go again over the others: some come twice."""
    pair = begin(authority, connections=3)
    deadline = time.monotonic() + PATIENCE
    while last_stats(pair.src).links_up < 3:
        assert time.monotonic() < deadline, "the others do not come up"
    pair.src.send("RATE", max_rate=16 * MIB)

    def cut_with_frames_on_their_way(number):
        pair.cable.silence()
        time.sleep(0.15)
        pair.cable.cut(number)
        pair.cable.is_silent = False
    for number in range(3):
        threading.Timer(0.3 * (number + 1), cut_with_frames_on_their_way, [number]).start()
    forward, backward = random.Random(8).randbytes(24 * MIB), random.Random(9).randbytes(2 * MIB)
    copied_and_right(pair, forward, backward)
    lost = [e.connection for e in pair.src.seen if e.name == "LINK_STATE" and not e.up]
    assert sorted(lost) == [0, 1, 2]
    assert last_stats(pair.src).resent_bytes > 0
    pair.finish()


def test_connections_that_never_come_back_leave_their_frames_to_the_others(begin):
    pair = begin(connections=4)
    deadline = time.monotonic() + PATIENCE
    while last_stats(pair.src).links_up < 4:
        assert time.monotonic() < deadline, "the others do not come up"
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        pair.src.dial = [nobody.getsockname()]
    for number in range(3):
        forward = random.Random(15 + number).randbytes(600_000)
        pair.cable.silence()
        pair.src.vasi.sendall(forward)
        time.sleep(0.3)
        pair.cable.cut(number)
        pair.cable.is_silent = False
        assert read_exactly(pair.dst.vasi, len(forward)) == forward
    while pair.src.expect("STATS").links_up > 1:
        assert time.monotonic() < deadline, "some are still believed to be up"
    pair.finish()


def test_all_of_several_are_cut(authority, begin):
    pair = begin(authority, connections=3)
    pair.src.send("RATE", max_rate=16 * MIB)
    threading.Timer(0.4, pair.cable.cut).start()
    threading.Timer(0.8, pair.cable.mend).start()
    forward, backward = random.Random(10).randbytes(16 * MIB), random.Random(11).randbytes(MIB)
    copied_and_right(pair, forward, backward)
    pair.finish()


def test_another_network_is_used_while_the_first_is_down(authority, begin):
    """The target listens at both."""
    pair = begin(authority, networks=2)
    forward, backward = random.Random(12).randbytes(8 * MIB), random.Random(13).randbytes(MIB)
    pair.cable.cut()
    copied_and_right(pair, forward, backward)
    assert pair.cables[1].carried[0] > 8 * MIB
    pair.finish()


# --- harm ---


def test_a_flipped_bit_on_the_wire_is_a_lost_connection(authority, begin):
    """TLS sees it; what was spoilt is sent again."""
    def harm(number, at, data):
        if number < 2 and at <= 900_000 < at + len(data):
            data = bytearray(data)
            data[900_000 - at] ^= 4
        return bytes(data)

    pair = begin(authority, harm=harm)
    forward, backward = random.Random(14).randbytes(8 * MIB), random.Random(15).randbytes(MIB)
    copied_and_right(pair, forward, backward)
    assert len(pair.cable.carried) == 3
    pair.finish()


def test_a_damaged_frame_ends_the_move_all_the_same(begin):
    """Damage behind TLS is damage in a system's memory: to try again would hide it."""
    pair = begin(src={"program": FAULTY, "fault": "flip=2000"})
    pair.src.vasi.sendall(bytes(100_000))
    assert "checksum" in ends_with(pair.dst, 12).reason
    ends_with(pair.src, 21, LINK_LOST)


def test_strangers_do_not_disturb_a_move(authority, begin):
    pair = begin(authority)
    forward, backward = random.Random(16).randbytes(4 * MIB), random.Random(17).randbytes(MIB)
    thief = Mover("src", socket.create_connection(pair.cable.address), "sys-a", "sys-b", authority, key=bytes(32))
    with socket.create_connection(pair.cable.address) as noise:
        noise.sendall(b"GET / HTTP/1.0\r\n\r\n")
        copied_and_right(pair, forward, backward)
    assert not [e for mover in pair.movers for e in mover.seen if e.name == "LINK_STATE"]
    ends_with(thief, 9)
    deadline = time.monotonic() + PATIENCE
    while 9 not in [e.code for e in pair.dst.seen if e.name == "REFUSED"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    thief.stop()
    pair.finish()


def test_a_silent_stranger_delays_a_new_connection_only_shortly(authority, begin):
    pair = begin(authority)
    with socket.create_connection(pair.cable.address):
        time.sleep(0.1)
        pair.cable.cut(0)
        forward, backward = random.Random(18).randbytes(4 * MIB), random.Random(19).randbytes(MIB)
        copied_and_right(pair, forward, backward)
        assert pair.src.latest("LINK_STATE").ms_down < 8000
    pair.finish()


def test_a_link_that_was_not_asked_for_is_a_mistake(authority, begin):
    pair = begin(authority)
    pair.src.send("LINK", connection=0)  # without a descriptor
    ends_with(pair.src, 13, 18)


@pytest.mark.parametrize("side", ["src", "dst"])
def test_a_mover_that_died_is_not_waited_for_longer_than_the_limit(authority, begin, side):
    pair = begin(authority, retry_ms=1500)
    dead, other = (pair.src, pair.dst) if side == "src" else (pair.dst, pair.src)
    os.kill(dead.process.pid, signal.SIGKILL)
    ends_with(other, LINK_LOST)


def test_verification_goes_on_after_a_cut(authority, begin):
    memory = [os.memfd_create("partition", os.MFD_CLOEXEC) for _ in range(2)]
    for fd in memory:
        os.truncate(fd, 64 * MIB)
        for page in range(0, 16384, 2):
            os.pwrite(fd, page.to_bytes(8, "little") * 512, page * 4096)
    os.pwrite(memory[1], b"x", 4096 * 16000)
    pair = begin(authority, src={"memory": memory[0]}, dst={"memory": memory[1]})
    copy_both_ways(pair, b"stream")
    digest_is_right(pair, b"stream")
    pair.cable.cut()
    pair.dst.send("VERIFY")
    time.sleep(0.2)
    pair.cable.mend()
    for mover in pair.movers:
        report = mover.expect("VERIFIED")
        assert (report.compared, report.differing, report.repaired, report.pages) == (16384, 1, 1, [16000])
    pair.finish()
    for fd in memory:
        os.close(fd)


# --- batches and images ---


def pages_of(seed, count):
    """Pages of a partition: some zero, some text, some noise."""
    source = random.Random(seed)
    kinds = [lambda: bytes(4096), lambda: (b"%x " % source.randrange(1 << 60)) * 4096, lambda: source.randbytes(4096)]
    return [kinds[source.randrange(3)]()[:4096] for _ in range(count)]


def with_images(begin, authority, images, stream, **options):
    """A move of a stream with images, once all has arrived."""
    pair = begin(authority, options.pop("budgets", ()), codec=2, image_key=bytes(range(32)), dst={"image": images[1]},
                 src={"image": images[0], "max_rate": 3 * MIB}, **options)  # slow enough that coding pays
    copied_and_right(pair, stream, b"return path")
    pair.src.vasi.shutdown(socket.SHUT_WR)
    assert pair.src.expect("VASI_EOF").total == len(stream)
    pair.dst.vasi.settimeout(PATIENCE)
    assert pair.dst.vasi.recv(1) == b"", "with its end the target has the name to seal its image under"
    return pair


@pytest.mark.parametrize("cut", [False, True])
def test_coded_batches_survive_cuts_and_the_return_is_small(authority, begin, cut):
    memory = pages_of(1, 2000)
    stream = ram_stream([list(enumerate(memory)), list(enumerate(memory))[100:400]])
    images = image_file(), image_file()
    budgets = [300_000, 2000, 500_000, MIB] if cut else []
    pair = with_images(begin, authority, images, stream, budgets=budgets)
    first = last_stats(pair.src)
    assert first.pages_zero > 300 and first.coded_bytes < first.raw_bytes * 0.6
    assert first.reconnects > 0 or not cut
    pair.finish()
    again = with_images(begin, authority, images[::-1], stream, budgets=[10_000] if cut else [])
    stats = last_stats(again.src)
    assert stats.pages_same > 1000 and stats.coded_bytes < stats.raw_bytes * 0.05, stats
    again.finish()


def test_pages_that_the_target_has_lost_are_sent_plain(begin):
    """The target's image is damaged behind its back, so that batches which refer to it cannot be decoded."""
    memory = pages_of(2, 1000)
    stream = ram_stream([list(enumerate(memory))])
    images = image_file(), image_file()
    with_images(begin, None, images, stream).finish()
    spoil(images[1])
    changed = [page[:2000] + b"changed" + page[2007:] if number % 3 == 0 else page for number, page in enumerate(memory)]
    stream = ram_stream([list(enumerate(changed))])
    pair = with_images(begin, None, images, stream, budgets=[60_000])
    assert last_stats(pair.src).pages_same > 250, "the source counts on the image"
    pair.finish()
    frames = list(pair.cable.frames())
    missed = {frame.values["sequence"] for frame in frames if frame.name == "MISS"}
    assert missed and missed == {frame.values["sequence"] for frame in frames if frame.name == "REPLACE"}
    assert missed <= {frame.sequence for frame in frames if frame.name == "CODED"}
    again = with_images(begin, None, images, stream)
    again.finish()
    assert "MISS" not in {frame.name for frame in again.cable.frames()}, "what was sent plain is held again"


def spoil(image):
    """Flips a bit in every page that it holds, not in its lists (docs/spec/page-store.md)."""
    for at in range((4 << 20) + (8 << 30), os.fstat(image).st_size, 4096):
        byte = os.pread(image, 1, at + 77)
        os.pwrite(image, bytes([byte[0] ^ 1]), at + 77)
