# SPDX-License-Identifier: Apache-2.0
"""Several channels between QEMU and the mover: each arrives whole, in its own order, and ends where it ended."""
import hashlib
import random
import socket
import struct
import threading

import pytest

import lpmwire
from cable import LinkedPair
from moverpair import PATIENCE

MIB = 1 << 20


class ManyChannels:
    """Both QEMUs with a main stream (0) and further channels; the target's sockets are made when NEED_CHANNEL asks for them."""

    def __init__(self, number, authority=None, **options):
        self.pair = LinkedPair(authority, vasi=False, channels=number - 1, **options)
        for mover in self.pair.movers:
            mover.expect("CONNECTED")
        self.sources, self.sinks = [], {}
        for channel in range(number):
            ours, movers = socket.socketpair()
            self.sources.append(ours)
            self.pair.src.send("CHANNEL", [movers.fileno()], channel=channel)
            movers.close()

    def feed(self, streams):
        """Every channel's whole stream, and its end at once behind the last byte, but for the main one's."""
        def run(channel):
            self.sources[channel].sendall(streams[channel])
            if channel > 0:
                self.sources[channel].close()
        threads = [threading.Thread(target=run, args=(channel,), daemon=True) for channel in range(len(streams))]
        for thread in threads:
            thread.start()
        return threads

    def collect(self, number, to_the_end):
        """What the target's QEMU reads of each channel: with @to_the_end of all but the main one."""
        got = [bytearray() for _ in range(number)]

        def read(channel):
            while data := self.sinks[channel].recv(1 << 18):
                got[channel] += data
                if channel == 0 and len(got[0]) >= to_the_end:
                    return
        threads = []
        for _ in range(number):
            channel = self.pair.dst.expect("NEED_CHANNEL").channel
            self.sinks[channel], movers = socket.socketpair()
            self.sinks[channel].settimeout(PATIENCE)
            self.pair.dst.send("CHANNEL", [movers.fileno()], channel=channel)
            movers.close()
            threads.append(threading.Thread(target=read, args=(channel,), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join(PATIENCE)
        return [bytes(one) for one in got]

    def stop(self):
        self.pair.stop()
        for end in [*self.sources, *self.sinks.values()]:
            end.close()


def digest_of_all(streams):
    whole = hashlib.sha256(b"openlpm channels")
    for stream in streams:
        whole.update(struct.pack("<Q", len(stream)) + lpmwire.stream_digest(stream))
    return whole.digest()


@pytest.fixture
def channels():
    made = []

    def one(*arguments, **options):
        made.append(ManyChannels(*arguments, **options))
        return made[-1]
    yield one
    for each in made:
        each.stop()


@pytest.mark.parametrize("codec", [1, 2], ids=["raw", "coded"])
@pytest.mark.parametrize("connections", [1, 3])
def test_each_channel_arrives_whole_to_its_last_byte(authority, channels, codec, connections):
    """The last bytes and the end come in one go, so that the end is seen while bytes of the batch still wait."""
    many = channels(4, authority, codec=codec, connections=connections)
    streams = [random.Random(20 + i).randbytes(size) for i, size in enumerate((3 * MIB, 5 * MIB + 17, 300_001, 99))]
    threads = many.feed(streams)
    assert many.collect(4, len(streams[0])) == streams
    for thread in threads:
        thread.join()
    many.pair.dst.send("CHECK")
    event = many.pair.dst.expect("DIGEST_OK")
    assert (event.total, event.digest) == (sum(map(len, streams)), digest_of_all(streams))
    many.pair.finish()
