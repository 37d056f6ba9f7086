# SPDX-License-Identifier: Apache-2.0
"""Second decoder (and encoder) of the wire, written from docs/spec/stream-format.md and nothing else."""
import hashlib
import struct

import xxhash

MAGIC = b"LPM1"
HEADER = struct.Struct("<4sIII16sQII")  # without the checksum
HEADER_SIZE = HEADER.size + 8
BODY_MAX = 327680
OPTIONAL = 1 << 31

NUMBERS = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q"}

END = "u64 total, b32 digest"
REASON = "u32 code, text reason"
REPORT = "u64 compared, u64 differing, u64 repaired, list pages"
HASHES = "u64 first, u32 count, tail digests"
STATS = ("u8 state, u64 stream_out, u64 stream_in, u64 wire_out, u64 wire_in, u64 acked, u64 rate_out, u64 rate_in, "
         "u64 stalls, u64 stall_us, u32 rtt_us, u64 verified_pages, u64 pages_zero, u64 pages_same, u64 pages_reference, "
         "u64 pages_delta, u64 pages_literal, u64 raw_bytes, u64 coded_bytes, u32 reconnects, u64 resent_bytes, u8 links_up")
CONFIG = ("u8 side, u8 mode, u8 transport, u8 codec, b16 migration, b32 key, text system, text peer, u64 features, "
          "u32 window, u64 max_rate, u32 connect_ms, u32 silence_ms, u32 stats_ms, u64 probe_bytes, u64 memory_size, "
          "u8 connections, u32 retry_ms, u8 image, b32 image_key, u8 channels")
HELLO = ("u16 version_min, u16 version_max, u64 features, u8 side, u8 mode, u8 codec, u8 connection, u8 connections, "
         "u32 window, u64 received, b32 proof, text system")

# type: name, ordered, fields
RECORDS = {
    1: ("HELLO", False, HELLO),
    2: ("HELLO_ACK", False, "u16 version, u64 features, u32 window, u64 received, b32 proof"),
    3: ("DATA", True, "u64 offset, tail data"),
    4: ("ACK", False, "u64 sequence, u64 offset"),
    5: ("END", True, END),
    6: ("CHECK", True, "u64 total"),
    7: ("FIN", True, "u64 total"),
    8: ("LOADED", True, END),
    9: ("PEER", True, "tail data"),
    10: ("ABORT", False, REASON),
    11: ("PING", False, "u64 stamp"),
    12: ("PONG", False, "u64 stamp"),
    13: ("CLOSE", True, ""),
    14: ("PROBE_DATA", True, "u64 offset, tail data"),
    15: ("PROBE_DONE", True, "u64 bytes, u64 time_us"),
    16: ("VERIFY_HASHES", True, HASHES),
    17: ("VERIFY_PAGES", True, "tail data"),
    18: ("VERIFY_END", True, REPORT),
    19: ("VERIFY_REPORT", True, REPORT),
    20 | OPTIONAL: ("HINT", True, "u64 epoch, u32 what"),
    21: ("CODED", True, "u8 channel, u64 offset, tail data"),
    22: ("CHANNEL_DATA", True, "u8 channel, u64 offset, tail data"),
    23: ("CHANNEL_FIN", True, "u8 channel, u64 total"),
    24: ("MISS", True, "u64 sequence"),
    25: ("REPLACE", False, "u64 sequence, tail data"),
    26: ("BASE", True, "b16 image, b32 root"),
    27: ("BASE_ACK", True, "u8 usable"),
    28: ("SEAL", True, "b16 image"),
    0x101: ("CONFIG", False, CONFIG),
    0x102: ("SWITCHOVER", False, ""),
    0x103: ("VERIFY", False, ""),
    0x104: ("RATE", False, "u64 max_rate"),
    0x105: ("GET_STATS", False, ""),
    0x106: ("FINISH", False, ""),
    0x107: ("LINK", False, "u8 connection"),
    0x108: ("CHANNEL", False, "u8 channel"),
    0x181: ("READY", False, ""),
    0x182: ("CONNECTED", False, "u16 version, u64 features, u32 rtt_us, text system, text cipher"),
    0x183: ("STATS", False, STATS),
    0x184: ("DIGEST_OK", False, END),
    0x185: ("VERIFIED", False, REPORT),
    0x186: ("PROBED", False, "u32 rtt_us, u64 bytes, u64 time_us, u64 rate"),
    0x187: ("VASI_EOF", False, "u64 total"),
    0x188: ("PEER_CLOSED", False, ""),
    0x189: ("REFUSED", False, REASON),
    0x18A: ("ERROR", False, REASON),
    0x18B: ("FINISHED", False, ""),
    0x18E: ("NEED_CHANNEL", False, "u8 channel"),
    0x18C: ("NEED_LINK", False, "u8 connection, text reason"),
    0x18D: ("LINK_STATE", False, "u8 connection, u8 up, u32 ms_down, text reason"),
}
TYPES = {name: number for number, (name, _, _) in RECORDS.items()}


class WireError(Exception):
    """A frame against the document."""


def fields_of(number):
    text = RECORDS[number][2]
    return [tuple(part.split()) for part in text.split(", ")] if text else []


def stream_digest(stream):
    """What END, LOADED and DIGEST_OK carry."""
    root = hashlib.sha256(b"openlpm stream")
    for at in range(0, len(stream), 8192):
        root.update(hashlib.sha256(stream[at:at + 8192]).digest())
    return root.digest()


def channels_digest(streams):
    """The same of a move with channels: streams[0] is the main one."""
    if len(streams) == 1:
        return stream_digest(streams[0])
    root = hashlib.sha256(b"openlpm channels")
    for stream in streams:
        root.update(struct.pack("<Q", len(stream)) + stream_digest(stream))
    return root.digest()


def checksum(head, body):
    return xxhash.xxh3_64_intdigest(body, seed=xxhash.xxh3_64_intdigest(head))


def encode_body(number, values):
    out = b""
    for kind, name in fields_of(number):
        value = values.get(name, b"" if kind in ("tail", "text") else [] if kind == "list" else 0)
        if kind in NUMBERS:
            out += struct.pack(NUMBERS[kind], value)
        elif kind == "text":
            raw = value.encode() if isinstance(value, str) else value
            out += struct.pack("<H", len(raw)) + raw
        elif kind == "list":
            out += struct.pack("<I", len(value)) + b"".join(struct.pack("<Q", v) for v in value)
        elif kind == "tail":
            out += value
        else:
            out += bytes(value) if value else bytes(int(kind[1:]))
    return out


def encode(name, migration, sequence=0, /, **values):
    number = TYPES[name]
    body = encode_body(number, values)
    head = HEADER.pack(MAGIC, 1, number, 0, migration, sequence, len(body), 0)
    return head + struct.pack("<Q", checksum(head, body)) + body


def decode_body(number, body):
    values, at = {}, 0

    def take(size):
        nonlocal at
        if size > len(body) - at:
            raise WireError("body too short")
        at += size
        return body[at - size:at]

    for kind, name in fields_of(number):
        if kind in NUMBERS:
            values[name] = struct.unpack(NUMBERS[kind], take(struct.calcsize(NUMBERS[kind])))[0]
        elif kind == "text":
            values[name] = take(struct.unpack("<H", take(2))[0]).decode()
        elif kind == "list":
            values[name] = [struct.unpack("<Q", take(8))[0] for _ in range(struct.unpack("<I", take(4))[0])]
        elif kind == "tail":
            values[name] = take(len(body) - at)
        else:
            values[name] = take(int(kind[1:]))
    if at != len(body):
        raise WireError("bytes left over")
    return values


class Frame:
    def __init__(self, number, migration, sequence, body):
        self.number, self.migration, self.sequence, self.body = number, migration, sequence, body
        self.name = RECORDS[number][0] if number in RECORDS else f"unknown {number:#x}"
        self.values = decode_body(number, body) if number in RECORDS else {}

    def __getattr__(self, name):
        try:
            return self.__dict__["values"][name]
        except KeyError as error:
            raise AttributeError(name) from error

    def __repr__(self):
        return f"<{self.name} {self.sequence} {({k: v for k, v in self.values.items() if not isinstance(v, bytes)})}>"


def decode(buffer):
    """The first frame of buffer and the bytes it takes; None while it is not whole."""
    if len(buffer) < HEADER_SIZE:
        return None
    magic, version, number, flags, migration, sequence, length, reserved = HEADER.unpack_from(buffer)
    if magic != MAGIC or version != 1 or flags or reserved or length > BODY_MAX:
        raise WireError("not a frame of version 1")
    if len(buffer) < HEADER_SIZE + length:
        return None
    head, body = bytes(buffer[:HEADER.size]), bytes(buffer[HEADER_SIZE:HEADER_SIZE + length])
    if struct.unpack_from("<Q", buffer, HEADER.size)[0] != checksum(head, body):
        raise WireError("checksum")
    if number not in RECORDS and not number & OPTIONAL:
        raise WireError(f"unknown mandatory record {number}")
    return Frame(number, migration, sequence, body), HEADER_SIZE + length


def decode_all(capture):
    """All frames of one direction of a capture; checks order, and that DATA has no hole."""
    frames, at, last, offset = [], 0, 0, 0
    while at < len(capture):
        got = decode(memoryview(capture)[at:at + HEADER_SIZE + BODY_MAX])
        if got is None:
            raise WireError("capture ends inside a frame")
        frame, used = got
        at += used
        ordered = RECORDS[frame.number][1] if frame.number in RECORDS else frame.sequence != 0
        if frame.sequence != (last + 1 if ordered else 0):
            raise WireError("sequence")
        last += ordered
        if frame.name == "DATA":
            if frame.offset != offset:
                raise WireError("hole in the stream")
            offset += len(frame.data)
        frames.append(frame)
    return frames
