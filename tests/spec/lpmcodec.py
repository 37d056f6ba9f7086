# SPDX-License-Identifier: Apache-2.0
"""Second decoder of coded batches, written from docs/spec/coded-batches.md and nothing else."""
import ctypes
import hashlib
import struct

import xxhash

RAW_MAX, BODY_MAX, TOKENS_MAX, RUNS_MAX = 262144, 262720, 32768, 8256
BLOCKS, PAGE = 64, 4096
OPAQUE, ZERO, SAME, REFERENCE, DELTA, LITERAL, BLOCK = range(7)
NAMES = ["opaque", "zero", "same", "reference", "delta", "literal", "block"]
HEADER = struct.Struct("<BBHIQ")
FILE = struct.Struct("<8sII32s")


class Malformed(Exception):
    """No coder makes such a body."""


class Miss(Exception):
    """The image lacks a page."""


def zstd(name, *arguments):
    """Debian has no zstd in Python's own library."""
    function = getattr(ctypes.CDLL("libzstd.so.1"), name)
    function.restype = ctypes.c_ulonglong
    return function(*(ctypes.c_size_t(a) if isinstance(a, int) else a for a in arguments))


def inflate(frame, size):
    out = ctypes.create_string_buffer(max(size, 1))
    if zstd("ZSTD_decompress", out, size, frame, len(frame)) != size:
        raise Malformed("frame")
    return out.raw[:size]


def unzstd(frame, limit):
    """One frame that says its size, and nothing else."""
    size = zstd("ZSTD_getFrameContentSize", frame, len(frame))
    if size > limit or zstd("ZSTD_findFrameCompressedSize", frame, len(frame)) != len(frame):
        raise Malformed("frame")
    return inflate(frame, size)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, size):
        if size > self.left():
            raise Malformed("too short")
        self.at += size
        return self.data[self.at - size:self.at]

    def byte(self):
        return self.take(1)[0]

    def varint(self, limit=2**64 - 1):
        value = 0
        for i in range(10):
            byte = self.byte()
            value |= (byte & 0x7F) << (7 * i)
            if byte == 0 and i > 0:
                raise Malformed("varint longer than needed")
            if byte < 0x80:
                if value > limit:
                    raise Malformed("number too large")
                return value
        raise Malformed("varint too long")

    def place(self):
        return self.varint(BLOCKS - 1), self.varint(2**52 - 1)


class Delta:
    def __init__(self, data):
        at, self.steps = 0, []
        for _ in range(data.varint(512)):
            skip = data.varint(PAGE - at)
            new = data.varint(PAGE - at - skip)
            if new == 0:
                raise Malformed("step without new bytes")
            self.steps.append((at + skip, new))
            at += skip + new
        if not self.steps:
            raise Malformed("no steps")
        self.new = data.take(sum(new for _, new in self.steps))

    def apply(self, old):
        page, at = bytearray(old), 0
        for place, new in self.steps:
            page[place:place + new] = self.new[at:at + new]
            at += new
        return bytes(page)


class Decoder:
    """Decodes the batches of one migration in order; image: (name of block, page): content."""

    def __init__(self, image=None):
        self.image = {} if image is None else image
        self.blocks = {}
        self.counts = dict.fromkeys(NAMES, 0)

    def decode(self, body):
        if not HEADER.size <= len(body) <= BODY_MAX:
            raise Malformed("size")
        packing, flags, reserved, size, checksum = HEADER.unpack_from(body)
        if packing > 1 or flags > 1 or reserved or size > RAW_MAX:
            raise Malformed("header")
        content = body[HEADER.size:]
        if packing:
            content = unzstd(content, BODY_MAX - HEADER.size)
        runs = self.check(content, bool(flags), size)
        raw = b"".join(part for run in runs for part in self.build(run))
        if xxhash.xxh3_64_intdigest(raw) != checksum:
            raise Miss("checksum")
        self.change(runs, bool(flags))
        return raw

    def check(self, content, kept, size):
        if len(content) < 4:
            raise Malformed("content")
        length = struct.unpack_from("<I", content, len(content) - 4)[0]
        if length > min(TOKENS_MAX, len(content) - 4):
            raise Malformed("size of tokens")
        border = len(content) - 4 - length
        data, tokens = Reader(content[:border]), Reader(content[border:-4])
        flags, place, runs, total, declared = {True: 0x22, False: 0x28}, None, [], 0, dict(self.blocks)
        named = set()
        while tokens.left():
            first = tokens.byte()
            kind = first & 15
            if kind > BLOCK or first & 0x80 or kind in (OPAQUE, BLOCK) and first & 0x70:
                raise Malformed("token")
            if kind == BLOCK:
                number, length = tokens.varint(BLOCKS - 1), tokens.varint()
                name = tokens.take(tokens.varint(255))
                if not length or b"\0" in name or number in named or declared.setdefault(number, (name, length)) != (name, length):
                    raise Malformed("block")
                named.add(number)
                continue
            if kind == OPAQUE:
                run = {"kind": kind, "data": [data.take(tokens.varint(RAW_MAX))]}
                total += len(run["data"][0])
                if not run["data"][0]:
                    raise Malformed("no bytes")
            else:
                run, place = self.check_pages(first, tokens, data, flags, place, declared, kept)
                total += len(run["pages"]) * ((1 if kind == ZERO else PAGE) + (8 if run["word"] else 0))
            runs.append(run)
            if total > size or len(runs) > RUNS_MAX:
                raise Malformed("too much")
        if total != size or data.left():
            raise Malformed("not whole")
        self.blocks = declared
        return runs

    @staticmethod
    def check_pages(first, tokens, data, flags, place, declared, kept):
        kind, word = first & 15, bool(first & 0x10)
        if first & 0x20:
            place = tokens.place()
        if place is None or first & 0x40 and not word:
            raise Malformed("place or flags")
        if first & 0x40:
            flags[kind == ZERO] = tokens.varint(4095)
        n = tokens.varint(RAW_MAX)
        source = tokens.place() if kind == REFERENCE else place
        if not n or kind in (SAME, REFERENCE, DELTA) and not kept:
            raise Malformed("pages")
        if max(place[1], source[1]) + n > 2**52:
            raise Malformed("behind the last place")
        for block, page in (place, source):
            if block not in declared and (kept or kind == REFERENCE):
                raise Malformed("block not declared")
            if block in declared and page + n > -(-declared[block][1] // PAGE):
                raise Malformed("behind the block")
        run = {"kind": kind, "word": word, "flags": flags[kind == ZERO],
               "pages": [(place[0], place[1] + i) for i in range(n)], "from": [(source[0], source[1] + i) for i in range(n)]}
        if kind == LITERAL:
            run["data"] = [data.take(PAGE) for _ in range(n)]
        if kind == DELTA:
            run["data"] = [Delta(data) for _ in range(n)]
        return run, (place[0], place[1] + n)

    def held(self, place):
        key = (self.blocks[place[0]][0], place[1])
        if key not in self.image:
            raise Miss(key)
        return self.image[key]

    def build(self, run):
        kind = run["kind"]
        if kind == OPAQUE:
            self.counts["opaque"] += len(run["data"][0])
            yield run["data"][0]
            return
        self.counts[NAMES[kind]] += len(run["pages"])
        run["content"] = []
        for i, (_, page) in enumerate(run["pages"]):
            content = (bytes(PAGE) if kind == ZERO else run["data"][i] if kind == LITERAL else
                       run["data"][i].apply(self.held(run["pages"][i])) if kind == DELTA else self.held(run["from"][i]))
            run["content"].append(content)
            yield (struct.pack(">Q", page * PAGE | run["flags"]) if run["word"] else b"") + (b"\0" if kind == ZERO else content)

    def change(self, runs, kept):
        for run in runs:
            if run["kind"] in (OPAQUE, SAME):
                continue
            for (block, page), content in zip(run["pages"], run["content"]):
                if block not in self.blocks:
                    continue
                if kept:
                    self.image[self.blocks[block][0], page] = content
                else:
                    self.image.pop((self.blocks[block][0], page), None)


def bodies_of(file):
    """Bodies of a file that lpm-stream wrote; (header, bodies, bytes of stream, digest)."""
    magic, version, flags, base = FILE.unpack_from(file)
    assert (magic, version) == (b"LPMBATCH", 1) and flags in (0, 1, 3)
    at, bodies = FILE.size, []
    while size := struct.unpack_from("<I", file, at)[0]:
        bodies.append(file[at + 4:at + 4 + size])
        at += 4 + size
    total, digest = struct.unpack_from("<Q32s", file, at + 4)
    assert at + 4 + 40 == len(file)
    return (flags, base), bodies, total, digest


def decode_file(file, image=None):
    """The stream of such a file, checked, and the decoder."""
    _, bodies, total, digest = bodies_of(file)
    decoder = Decoder(image)
    stream = b"".join(decoder.decode(body) for body in bodies)
    assert len(stream) == total and hashlib.sha256(stream).digest() == digest
    return stream, decoder
