# SPDX-License-Identifier: Apache-2.0
"""Two real mover processes back to back; the test plays both lpm-hosts and both QEMUs."""
import hashlib
import os
import random
import signal
import socket
import subprocess
import time

import pytest

import lpmwire
from moverpair import FAULTY, MIGRATION, MOVER, PATIENCE, Mover, Pair, copy_both_ways

MIB = 1 << 20


def check(pair, stream):
    """The target's lpm-host asks; the digest must be that of the whole stream."""
    pair.dst.send("CHECK")
    event = pair.dst.expect("DIGEST_OK")
    assert event.total == len(stream)
    assert event.digest == lpmwire.stream_digest(stream)
    return event


def fail_together(pair, *codes):
    """Both movers end with ERROR; returns the two events."""
    return [fail_alone(mover, *codes) for mover in pair.movers]


def fail_alone(mover, *codes):
    while True:
        event = mover.next_event()
        assert event is not None, f"{mover.side}: no ERROR before the end"
        if event.name == "ERROR":
            break
    assert not codes or event.code in codes, f"{mover.side}: {event.code} {event.reason}"
    assert mover.wait() == event.code
    assert event.reason
    return event


def test_200_mb_both_ways_with_equal_digests(authority):
    forward, backward = os.urandom(200 * MIB), os.urandom(3 * MIB)
    with Pair(authority).connect() as pair:
        got = copy_both_ways(pair, forward, backward)
        assert hashlib.sha256(got[0]).digest() == hashlib.sha256(forward).digest()
        assert got[1] == backward
        event = check(pair, forward)
        pair.dst.send("LOADED", total=event.total, digest=event.digest)
        assert pair.src.expect("LOADED").digest == event.digest
        assert max(mover.peak_kib() for mover in pair.movers) < 40 * 1024
        pair.finish()


def test_connected_says_what_was_agreed(authority):
    with Pair(authority) as pair:
        connected = pair.src.expect("CONNECTED")
        assert (connected.version, connected.system) == (1, "sys-b")
        assert connected.cipher.startswith("TLS1.3 AES-")
        assert pair.dst.expect("CONNECTED").system == "sys-a"


def test_nothing_is_held_back(authority):
    """Small writes, such as QEMU's handshakes, come out while the sender waits for the answer."""
    with Pair(authority).connect() as pair:
        for n in range(300):
            word = b"%04d" % n
            pair.src.vasi.sendall(word)
            assert pair.dst.vasi.recv(100) == word
            pair.dst.vasi.sendall(word[::-1])
            assert pair.src.vasi.recv(100) == word[::-1]


def test_many_small_frames_do_not_stop_it():
    """More frames than the table holds, none of them large enough to fill the window."""
    with Pair().connect() as pair:
        pair.src.vasi.settimeout(PATIENCE)
        pair.dst.vasi.settimeout(PATIENCE)
        for _ in range(10000):
            pair.src.vasi.send(b"x")
        got = b""
        while len(got) < 10000:
            got += pair.dst.vasi.recv(1 << 16)
        check(pair, got)


def test_digest_needs_no_round_trip_after_switchover():
    with Pair(with_relay=True).connect() as pair:
        pair.src.send("SWITCHOVER")
        copy_both_ways(pair, b"a" * 100000)
        deadline = time.monotonic() + PATIENCE
        while not any(f.name == "END" for f in lpmwire.decode_all(pair.relay.captured["src"])):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.2)
        check(pair, b"a" * 100000)
        assert not [f for f in lpmwire.decode_all(pair.relay.captured["dst"]) if f.name == "CHECK"]


def test_end_of_file_goes_through(authority):
    with Pair(authority).connect() as pair:
        copy_both_ways(pair, b"stream" * 1000)
        pair.dst.vasi.close()
        pair.dst.vasi = None
        assert pair.dst.expect("VASI_EOF").total == 0
        assert pair.src.vasi.recv(1) == b""
        pair.src.vasi.close()
        pair.src.vasi = None
        assert pair.src.expect("VASI_EOF").total == 6000
        check(pair, b"stream" * 1000)
        pair.finish()


def test_finish_after_the_peer_is_gone(authority):
    """The source is through and away; what the target still says has no reader, and its FINISH is no failure."""
    with Pair(authority).connect() as pair:
        pair.src.send("FINISH")
        pair.src.expect("FINISHED")
        assert pair.src.wait() == 0
        pair.dst.expect("PEER_CLOSED")
        for n in range(5):
            pair.dst.send("HINT", epoch=n, what=1)
            pair.dst.vasi.send(b"late words of QEMU")
            time.sleep(0.05)
        pair.dst.send("FINISH")
        pair.dst.expect("FINISHED")
        assert pair.dst.wait() == 0


def test_messages_between_the_hosts_keep_their_order(authority):
    with Pair(authority).connect() as pair:
        texts = [b'{"n": %d}' % n for n in range(50)] + [b"", b"z" * 65536]
        for text in texts:
            pair.src.send("PEER", data=text)
        pair.src.send("HINT", epoch=7, what=2)
        assert [pair.dst.expect("PEER").data for _ in texts] == texts
        hint = pair.dst.expect("HINT")
        assert (hint.epoch, hint.what) == (7, 2)
        pair.dst.send("HINT", epoch=8, what=3)
        assert pair.src.expect("HINT").epoch == 8


def test_stats_count_what_went_by(authority):
    with Pair(authority).connect() as pair:
        copy_both_ways(pair, os.urandom(5 * MIB))
        time.sleep(0.3)
        pair.src.send("GET_STATS")
        for _ in range(30):
            stats = pair.src.expect("STATS")
            if stats.acked > 4 * MIB:
                break
        assert stats.stream_out == 5 * MIB
        assert 5 * MIB < stats.wire_out < 5.3 * MIB
        assert stats.state == 2
        assert stats.rtt_us > 0
        assert stats.rate_out > MIB


def test_max_rate_holds_and_changes(authority):
    with Pair(authority, src={"max_rate": 4 * MIB}).connect() as pair:
        began = time.monotonic()
        copy_both_ways(pair, bytes(4 * MIB))
        took = time.monotonic() - began
        assert 0.7 < took < 2.5
        pair.src.send("RATE", max_rate=0)
        began = time.monotonic()
        copy_both_ways(pair, bytes(8 * MIB))
        assert time.monotonic() - began < 1


def test_slow_reader_is_back_pressure_not_memory(authority):
    with Pair(authority).connect() as pair:
        pair.src.vasi.setblocking(False)
        taken, last, idle = 0, -1, 0
        while idle < 5:
            try:
                taken += pair.src.vasi.send(bytes(MIB))
                idle = 0
            except BlockingIOError:
                idle += 1
                time.sleep(0.1)
            assert taken < 32 * MIB
        stats = pair.src.expect("STATS")
        while stats.stalls == 0:
            stats = pair.src.expect("STATS")
        for mover in pair.movers:
            assert mover.peak_kib() < 40 * 1024
        got = 0
        pair.dst.vasi.settimeout(PATIENCE)
        while got < taken:
            got += len(pair.dst.vasi.recv(MIB))
        check(pair, bytes(taken))


# --- the second decoder ---


def test_second_decoder_reads_a_capture():
    """Everything that a move sends, decoded from the document alone."""
    memory = [os.memfd_create(f"memory-{n}") for n in range(2)]
    for fd in memory:
        os.truncate(fd, 64 * 4096)
    os.pwrite(memory[0], b"q" * 4096, 5 * 4096)
    forward, backward = random.Random(1).randbytes(2 * MIB), b"return path" * 10
    with Pair(with_relay=True, src={"memory": memory[0]}, dst={"memory": memory[1]}).connect() as pair:
        got = copy_both_ways(pair, forward, backward)
        event = check(pair, forward)
        pair.dst.send("VERIFY")
        pair.dst.expect("VERIFIED")
        pair.src.send("HINT", epoch=1, what=1)
        pair.src.send("PEER", data=b"hello")
        pair.dst.expect("PEER")
        pair.dst.send("LOADED", total=event.total, digest=event.digest)
        pair.src.expect("LOADED")
        pair.finish()
        time.sleep(0.2)
        sent = {side: lpmwire.decode_all(bytes(data)) for side, data in pair.relay.captured.items()}
    assert got == (forward, backward)
    assert sent["src"][0].name == "HELLO" and sent["dst"][0].name == "HELLO_ACK"
    assert {f.migration for frames in sent.values() for f in frames} == {MIGRATION}
    assert b"".join(f.data for f in sent["src"] if f.name == "DATA") == forward
    assert b"".join(f.data for f in sent["dst"] if f.name == "DATA") == backward
    end = [f for f in sent["src"] if f.name == "END"][-1]
    assert (end.total, end.digest) == (len(forward), lpmwire.stream_digest(forward))
    assert {f.name for f in sent["src"]} >= {"HELLO", "DATA", "END", "PING", "PONG", "HINT", "PEER", "VERIFY_PAGES",
                                             "VERIFY_END", "CLOSE"}
    assert {f.name for f in sent["dst"]} >= {"HELLO_ACK", "DATA", "ACK", "CHECK", "VERIFY_HASHES", "VERIFY_END",
                                             "VERIFY_REPORT", "LOADED", "CLOSE"}
    acks = [f for f in sent["dst"] if f.name == "ACK"]
    assert 0 < acks[-1].offset <= len(forward)
    for fd in memory:
        os.close(fd)


# --- harm ---


@pytest.mark.parametrize("place", [100, 5000, 400000])
def test_flipped_bit_under_tls_ends_the_move(authority, place):
    def harm(side, at, data):
        spot = 3000 + place
        if side == "src" and at <= spot < at + len(data):
            data = bytearray(data)
            data[spot - at] ^= 4
        return data

    with Pair(authority, relay_harm=harm).connect() as pair:
        pair.src.vasi.setblocking(False)
        try:
            pair.src.vasi.send(bytes(MIB))
        except BlockingIOError:
            pass
        errors = fail_together(pair, 7, 11, 12, 21)
        assert errors[1].code == 12
        got = read_all(pair.dst.vasi)
        assert got == bytes(len(got))


def read_all(end):
    end.settimeout(PATIENCE)
    got = b""
    while True:
        try:
            data = end.recv(MIB)
        except ConnectionResetError:
            return got
        if not data:
            return got
        got += data


@pytest.mark.parametrize("side", ["src", "dst"])
def test_flipped_bit_in_a_frame_ends_in_abort(side):
    """Damage that TLS does not see, because it happens in the sender's memory: the frame's checksum does."""
    spoilt = {side: {"program": FAULTY, "fault": "flip=2000"}}
    with Pair(**spoilt).connect() as pair:
        (pair.src if side == "src" else pair.dst).vasi.sendall(bytes(100000))
        errors = fail_together(pair)
        mine, other = errors if side == "src" else errors[::-1]
        assert other.code == 12 and mine.code == 21 and "checksum" in mine.reason
        got = read_all((pair.dst if side == "src" else pair.src).vasi)
        assert got == bytes(len(got))


def test_wrong_data_with_right_checksums_fails_the_digest():
    with Pair(src={"program": FAULTY, "fault": "lie=50000"}).connect() as pair:
        for _ in range(20):
            pair.src.vasi.sendall(bytes(10000))
            pair.dst.vasi.recv(10000, socket.MSG_WAITALL)
        pair.dst.send("CHECK")
        errors = fail_together(pair)
        assert errors[1].code == 15 and errors[0].code == 21
        assert not [e for e in pair.dst.seen if e.name == "DIGEST_OK"]


def test_data_after_the_digest_is_an_error(authority):
    with Pair(authority).connect() as pair:
        copy_both_ways(pair, b"abc")
        check(pair, b"abc")
        pair.src.vasi.sendall(b"d")
        assert fail_alone(pair.dst).code == 15


def test_link_cut_ends_both_and_closes_vasi(authority):
    with Pair(authority, src={"program": FAULTY, "fault": "cut=300000"}).connect() as pair:
        pair.src.vasi.setblocking(False)
        pair.src.vasi.send(bytes(MIB))
        fail_together(pair, 11)
        read_all(pair.dst.vasi)
        pair.src.vasi.setblocking(True)
        assert read_all(pair.src.vasi) == b""


def test_silent_link_is_noticed(authority):
    with Pair(authority, silence_ms=1500).connect() as pair:
        os.kill(pair.dst.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        assert fail_alone(pair.src).code == 11
        assert time.monotonic() - began < 4
        os.kill(pair.dst.process.pid, signal.SIGCONT)
        fail_alone(pair.dst)


@pytest.mark.parametrize("side", ["src", "dst"])
def test_host_gone_ends_it_at_once(authority, side):
    with Pair(authority).connect() as pair:
        pair.src.vasi.sendall(bytes(1000))
        mine, other = (pair.src, pair.dst) if side == "src" else (pair.dst, pair.src)
        began = time.monotonic()
        mine.control.close()
        assert mine.wait() == 19
        assert time.monotonic() - began < 1
        error = fail_alone(other, 21)
        assert "host-gone" in error.reason
        read_all(mine.vasi)
        read_all(other.vasi)


def test_host_gone_while_everything_is_stuck(authority):
    """Nobody reads at the target, all buffers are full, and the link is stuck: still at once."""
    with Pair(authority).connect() as pair:
        os.kill(pair.dst.process.pid, signal.SIGSTOP)
        pair.src.vasi.setblocking(False)
        for _ in range(40):
            try:
                pair.src.vasi.send(bytes(MIB))
            except BlockingIOError:
                time.sleep(0.02)
        began = time.monotonic()
        pair.src.control.close()
        assert pair.src.wait() == 19
        assert time.monotonic() - began < 2
        os.kill(pair.dst.process.pid, signal.SIGCONT)


def test_abort_reaches_the_peer_with_its_reason(authority):
    with Pair(authority).connect() as pair:
        pair.src.send("ABORT", code=20, reason="the user pressed stop")
        assert fail_alone(pair.src).code == 20
        error = fail_alone(pair.dst)
        assert error.code == 21 and "the user pressed stop" in error.reason


def test_target_qemu_dies(authority):
    with Pair(authority).connect() as pair:
        pair.dst.vasi.close()
        pair.dst.vasi = None
        try:
            for _ in range(50):
                pair.src.vasi.sendall(bytes(100000))
        except OSError:
            pass
        errors = fail_together(pair)
        assert errors[1].code == 16


def test_killed_mover_is_noticed(authority):
    with Pair(authority).connect() as pair:
        pair.src.process.kill()
        assert fail_alone(pair.dst).code == 11


# --- strangers ---


def refused(pair, src_codes, dst_code):
    error = fail_alone(pair.src)
    assert error.code in src_codes, (error.code, error.reason)
    event = pair.dst.expect("REFUSED")
    assert event.code == dst_code, (event.code, event.reason)
    assert pair.dst.process.poll() is None  # still waits for the right one


def test_wrong_key_is_refused(authority):
    with Pair(authority, src={"key": bytes(32)}) as pair:
        refused(pair, {9}, 9)


def test_other_system_is_refused(authority):
    with Pair(authority, src={"certificate_of": "sys-c"}) as pair:
        refused(pair, {7, 11}, 8)


def test_a_console_is_not_a_system(authority):
    with Pair(authority, src={"role": "console"}) as pair:
        refused(pair, {7, 11}, 8)


def test_other_authority_is_refused(authority, stranger):
    listener = socket.create_server(("127.0.0.1", 0))
    net = socket.create_connection(listener.getsockname())
    dst = Mover("dst", listener, "sys-b", "sys-a", authority)
    src = Mover("src", net, "sys-a", "sys-b", stranger)
    assert fail_alone(src).code == 7
    assert dst.expect("REFUSED").code == 7
    src.stop()
    dst.stop()


def test_source_refuses_a_wrong_target(authority):
    with Pair(authority, dst={"certificate_of": "sys-c"}) as pair:
        assert fail_alone(pair.src).code == 8
        assert pair.dst.expect("REFUSED").code == 7


def test_other_migration_is_refused():
    listener = socket.create_server(("127.0.0.1", 0))
    net = socket.create_connection(listener.getsockname())
    dst = Mover("dst", listener, "sys-b", "sys-a")
    dst.expect("READY")
    net.sendall(lpmwire.encode("HELLO", bytes(16), version_min=1, version_max=1, side=1, mode=1, codec=1,
                               connections=1, window=4 * MIB, system="sys-a"))
    event = dst.expect("REFUSED")
    assert event.code == 13 and "migration" in event.reason
    dst.stop()
    net.close()


def test_right_peer_gets_in_after_strangers(authority):
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    dst = Mover("dst", listener, "sys-b", "sys-a", authority)
    for noise in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b""):
        stranger = socket.create_connection(address)
        stranger.sendall(noise)
        stranger.shutdown(socket.SHUT_WR)
        dst.expect("REFUSED")
        stranger.close()
    src = Mover("src", socket.create_connection(address), "sys-a", "sys-b", authority)
    src.expect("CONNECTED")
    dst.expect("CONNECTED")
    src.stop()
    dst.stop()


def test_nobody_comes(authority):
    listener = socket.create_server(("127.0.0.1", 0))
    dst = Mover("dst", listener, "sys-b", "sys-a", authority, connect_ms=300)
    assert fail_alone(dst).code == 6
    dst.stop()


# --- lpm-host's mistakes ---


def test_loaded_before_the_digest_is_refused(authority):
    with Pair(authority).connect() as pair:
        copy_both_ways(pair, b"abc")
        pair.dst.send("LOADED", total=3, digest=lpmwire.stream_digest(b"abc"))
        assert fail_alone(pair.dst).code == 18
        assert not [e for e in pair.src.seen if e.name == "LOADED"]


def test_loaded_with_another_digest_is_refused(authority):
    with Pair(authority).connect() as pair:
        copy_both_ways(pair, b"abc")
        check(pair, b"abc")
        pair.dst.send("LOADED", total=3, digest=bytes(32))
        assert fail_alone(pair.dst).code == 18


def test_malformed_control_ends_it(authority):
    with Pair(authority).connect() as pair:
        pair.src.control.sendall(b"LPM1" + bytes(60))
        assert fail_alone(pair.src).code == 13


def test_config_must_come_first_and_be_whole(authority):
    for frame in (lpmwire.encode("FINISH", MIGRATION),
                  lpmwire.encode("CONFIG", MIGRATION, side=1, mode=1, transport=2, codec=1, migration=bytes(16),
                                 system="a", peer="b")):
        listener = socket.create_server(("127.0.0.1", 0))
        near, far = socket.socketpair()
        process = subprocess.Popen([MOVER, f"--control={far.fileno()}", f"--net={listener.fileno()}"],
                                   pass_fds=[far.fileno(), listener.fileno()], stderr=subprocess.PIPE)
        far.close()
        near.sendall(frame)
        assert process.wait(PATIENCE) == 3
        assert b"config" in process.stderr.read()
        process.stderr.close()


# --- verification ---


def filled_memory(pages, seed):
    """A memory file: a third zero, a third never touched, a third random."""
    fd = os.memfd_create("partition", os.MFD_CLOEXEC)
    os.truncate(fd, pages * 4096)
    source = random.Random(seed)
    for page in range(0, pages, 3):
        os.pwrite(fd, source.randbytes(4096), page * 4096)
        os.pwrite(fd, bytes(4096), (page + 1) % pages * 4096)
    return fd


def run_verify(authority, src_memory, dst_memory):
    with Pair(authority, src={"memory": src_memory}, dst={"memory": dst_memory}).connect() as pair:
        copy_both_ways(pair, b"stream")
        check(pair, b"stream")
        pair.src.send("VERIFY")
        pair.dst.send("VERIFY")
        reports = [mover.expect("VERIFIED") for mover in pair.movers]
        pair.finish()
    return reports


@pytest.mark.parametrize("pages", [1, 100, 9000])
def test_equal_memory_has_no_differing_page(authority, pages):
    fds = filled_memory(pages, 1), filled_memory(pages, 1)
    for report in run_verify(authority, *fds):
        assert (report.compared, report.differing, report.repaired, report.pages) == (pages, 0, 0, [])
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("planted", [[0], [8999], list(range(0, 9000, 7)), [4095, 4096, 4097]])
def test_planted_pages_are_found_and_repaired(authority, planted):
    src, dst = filled_memory(9000, 2), filled_memory(9000, 2)
    for page in planted:
        at = page * 4096 + 4095
        os.pwrite(dst, bytes([os.pread(dst, 1, at)[0] ^ 1]), at)
    reports = run_verify(authority, src, dst)
    for report in reports:
        assert (report.compared, report.differing, report.repaired) == (9000, len(planted), len(planted))
        assert report.pages == planted[:16]
    for offset in range(0, 9000 * 4096, MIB):
        assert os.pread(src, MIB, offset) == os.pread(dst, MIB, offset)
    os.close(src)
    os.close(dst)


def test_every_page_differs(authority):
    src, dst = filled_memory(3000, 3), os.memfd_create("other")
    os.truncate(dst, 3000 * 4096)
    os.pwrite(dst, b"\2" * 4096 * 3000, 0)
    for report in run_verify(authority, src, dst):
        assert report.repaired == 3000
    assert os.pread(src, 3000 * 4096, 0) == os.pread(dst, 3000 * 4096, 0)
    os.close(src)
    os.close(dst)


def test_verify_leaves_untouched_memory_untouched(authority):
    fds = [os.memfd_create("sparse") for _ in range(2)]
    for fd in fds:
        os.truncate(fd, 64 * MIB)
    run_verify(authority, *fds)
    assert [os.fstat(fd).st_blocks for fd in fds] == [0, 0]
    for fd in fds:
        os.close(fd)


def test_memory_of_other_size_is_an_error(authority):
    src, dst = filled_memory(100, 1), filled_memory(101, 1)
    with Pair(authority, src={"memory": src}, dst={"memory": dst}).connect() as pair:
        pair.dst.send("VERIFY")
        assert {e.code for e in fail_together(pair)} == {17, 21}
    os.close(src)
    os.close(dst)


# --- probe ---


def test_probe_measures_round_trip_and_rate(authority):
    with Pair(authority, vasi=False, mode=2, src={"probe_bytes": 20 * MIB}).connect() as pair:
        probed = pair.src.expect("PROBED")
        assert MIB // 2 <= probed.bytes < 20 * MIB  # of what was sent the first half MiB is not counted
        assert probed.rate > 10 * MIB
        assert 0 < probed.rtt_us < 100000
        pair.finish()


def test_probe_does_not_burden_a_slow_link(authority):
    with Pair(authority, vasi=False, mode=2, src={"probe_bytes": 200 * MIB, "max_rate": 20 * MIB}).connect() as pair:
        probed = pair.src.expect("PROBED")
        assert MIB // 2 <= probed.bytes < 4 * MIB


def test_probe_without_bytes_measures_the_round_trip(authority):
    with Pair(authority, vasi=False, mode=2).connect() as pair:
        probed = pair.src.expect("PROBED")
        assert (probed.bytes, probed.rate) == (0, 0)
        assert probed.rtt_us > 0
        pair.finish()


def test_probe_and_move_do_not_mix(authority):
    with Pair(authority, src={"mode": 2, "vasi": False}) as pair:
        refused(pair, {13}, 13)


# --- sandbox ---


def test_mover_is_locked_in(authority):
    with Pair(authority).connect() as pair:
        for mover in pair.movers:
            status = dict(line.split(":\t", 1) for line in
                          open(f"/proc/{mover.process.pid}/status").read().splitlines() if ":\t" in line)
            assert status["Seccomp"] == "2"
            assert status["NoNewPrivs"] == "1"
            assert {status[c] for c in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
            threads = os.listdir(f"/proc/{mover.process.pid}/task")
            assert len(threads) == (5 if mover.side == "src" else 6)  # main, coder, writer, receiver, sender; greeter
            for thread in threads:
                text = open(f"/proc/{mover.process.pid}/task/{thread}/status").read()
                assert "Seccomp:\t2" in text
