# SPDX-License-Identifier: Apache-2.0
"""A mover and a fake peer of another release: what HELLO settles (stream-format.md)."""
import hashlib
import hmac
import socket

import lpmwire
import pytest
from moverpair import KEY, MIGRATION, PATIENCE, Mover

MIB = 1 << 20
CHANNELS, RESUME, UNKNOWN = 1 << 3, 1 << 4, 1 << 40


def proof(side):
    return hmac.new(KEY, f"openlpm mover {side}".encode() + MIGRATION + bytes(32), hashlib.sha256).digest()


def next_frame(connection):
    connection.settimeout(PATIENCE)
    data = b""
    while (got := lpmwire.decode(data)) is None:
        part = connection.recv(65536)
        assert part, "closed"
        data += part
    return got[0]


def greet_target(**hello):
    """The target's mover's answer to such a HELLO, and the mover."""
    listener = socket.create_server(("127.0.0.1", 0))
    connection = socket.create_connection(listener.getsockname())
    dst = Mover("dst", listener, "sys-b", "sys-a")
    dst.expect("READY")
    values = {"version_min": 1, "version_max": 1, "side": 1, "mode": 1, "codec": 1, "connections": 1, "window": 4 * MIB,
              "proof": proof("source"), "system": b"sys-a", **hello}
    connection.sendall(lpmwire.encode("HELLO", MIGRATION, **values))
    return next_frame(connection), dst, connection


@pytest.mark.parametrize("least, most", [(1, 1), (1, 2), (0, 1), (1, 0xffff)])
def test_the_version_that_both_have(least, most):
    """A source of the next release, which still speaks ours, is answered with ours, and with what both have."""
    answer, dst, connection = greet_target(version_min=least, version_max=most, features=CHANNELS | UNKNOWN)
    assert (answer.name, answer.version, answer.proof) == ("HELLO_ACK", 1, proof("target"))
    assert answer.features & ~(CHANNELS | RESUME) == 0
    connected = dst.expect("CONNECTED")
    assert connected.version == 1
    connection.close()
    dst.stop()


@pytest.mark.parametrize("least, most", [(2, 3), (0, 0)])
def test_no_version_in_common(least, most):
    """It is told why, and the mover waits for another."""
    answer, dst, connection = greet_target(version_min=least, version_max=most)
    assert answer.name == "ABORT" and answer.code == 10 and "no version of the wire in common" in answer.reason
    assert dst.expect("REFUSED").code == 10
    connection.close()
    dst.stop()


def greet_source(**ack):
    """The source's mover with a target that answers so."""
    listener = socket.create_server(("127.0.0.1", 0))
    connection = socket.create_connection(listener.getsockname())
    peer, _ = listener.accept()
    src = Mover("src", connection, "sys-a", "sys-b")
    hello = next_frame(peer)
    assert hello.name == "HELLO" and (hello.version_min, hello.version_max) == (1, 1)
    values = {"version": 1, "window": 4 * MIB, "proof": proof("target"), **ack}
    peer.sendall(lpmwire.encode("HELLO_ACK", MIGRATION, **values))
    return src, peer


def test_a_target_with_less_is_moved_to():
    src, peer = greet_source(features=0)
    connected = src.expect("CONNECTED")
    assert (connected.version, connected.features) == (1, 0)
    peer.close()
    src.stop()


def test_a_target_that_chooses_what_was_not_offered():
    src, peer = greet_source(version=2)
    event = src.expect("ERROR")
    assert event.code == 10
    peer.close()
    src.stop()
