# SPDX-License-Identifier: Apache-2.0
"""What the client's card hears of a partition that moves: when it was silent, and when in that silence it was announced."""

import socket
import struct
import threading

ALL, RARP, IPV4, UDP = 0x0003, 0x8035, 0x0800, 17
TIMESTAMPS = 35  # SO_TIMESTAMPNS: the kernel notes when a frame came, not when somebody had time to read it


def split(frames):
    """Of frames [(seconds, "reply" or "announcement")], the longest silence between two replies: (its length in ms, ms from the
    first announcement in it to its end). The second is None where none came in it."""
    replies = sorted(at for at, what in frames if what == "reply")
    if len(replies) < 2:
        return None, None
    length, end = max((end - begin, end) for begin, end in zip(replies, replies[1:]))
    heard = [at for at, what in frames if what == "announcement" and end - length < at <= end]
    return length * 1000, (end - min(heard)) * 1000 if heard else None


class Ears:
    """with Ears(lab, address) as ears: the move; then split(ears.frames)."""

    def __init__(self, lab, address):
        self.address, self.frames, self.ended = socket.inet_aton(address), [], False
        with lab.at("client"):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
            self.socket.bind(("eth0", ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.setsockopt(socket.SOL_SOCKET, TIMESTAMPS, 1)
        self.socket.settimeout(0.2)
        self.thread = threading.Thread(target=self.listen, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        self.thread.join()
        self.socket.close()

    def listen(self):
        while not self.ended:
            try:
                frame, notes, _flags, address = self.socket.recvmsg(128, 128)
            except TimeoutError:
                continue
            at = next((seconds + nanoseconds / 1e9 for level, kind, data in notes if (level, kind) == (socket.SOL_SOCKET, TIMESTAMPS)
                       for seconds, nanoseconds in [struct.unpack("qq", data[:16])]), None)
            if at is not None and address[2] != socket.PACKET_OUTGOING:
                self.note(at, frame)

    def note(self, at, frame):
        protocol = int.from_bytes(frame[12:14], "big")
        if protocol == RARP:
            self.frames.append((at, "announcement"))
        elif protocol == IPV4 and frame[23] == UDP and frame[26:30] == self.address:
            self.frames.append((at, "reply"))
