# SPDX-License-Identifier: Apache-2.0
"""A partition that is up at once and proves that it ran once: its disk boots a program that counts without end, says each number
on the serial line, and before it says every sixteenth has written it to the disk, in a ring of sectors. A number lost, doubled or
repeated on the line, or missing on the disk, is seen from outside."""

import json
import pathlib
import re
import struct

from lablib import command, wait_for

SECTOR = 512
EVERY = 16  # numbers to a record
RING = 1024  # records on the disk, from its second sector on
JUDGED = 900  # of them; it goes on while its disk is being read
DISK_MIB = 1
COMES_WITHIN = 1 << 20  # bytes of a log in which lpm-host says that the partition comes

# 16-bit code of the boot sector: counts in EBX, writes the number into 128 pages; if it is a multiple of 16, fills a sector with
# it and has the firmware write that (int 13h, again until it succeeds); waits, and prints the number as eight hexadecimal digits
# and a line feed on the first serial port.
PROGRAM = bytes.fromhex(
    "fa31c08ed88ed0bc007c8816b17c6631db6643b80010b980008ec02666891e0000050001e2f3f6c30f7503e83d00ba030031c9e2fe4a75f9"
    "6689dab9080066c1c20488d0240f04303c3976020407e80900e2ebb00ae80200ebb75250bafd03eca82074fb58baf803ee5ac3666031c08e"
    "c0bf00806689d8b98000fc66f3ab6689d866c1e8046631d266b90004000066f7f16642668916ba7cbeb27cc706b47c0100b800438a16b17c"
    "fbcd13fa72ea6661c30010000100008000000000000000000000")


class History(AssertionError):
    """What the partition said or wrote is not one history."""


class Disk:
    """A qcow2 image whose clusters are all there from the start, so that records are found without QEMU."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def make(self):
        self.path.unlink(missing_ok=True)
        command("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=falloc", self.path, f"{DISK_MIB}M")
        (extent,) = json.loads(command("qemu-img", "map", "--output=json", self.path).stdout)
        self.offset = extent["offset"]
        with open(self.path, "r+b") as file:
            file.seek(self.offset)
            file.write(PROGRAM.ljust(510, b"\0") + b"\x55\xaa" + bytes((RING + 1) * SECTOR - 512))
        self.path.chmod(0o666)

    def records(self):
        """Number of each place of the ring; History when one is torn."""
        with open(self.path, "rb") as file:
            file.seek(self.offset + SECTOR)
            data = file.read(RING * SECTOR)
        found = []
        for place in range(RING):
            numbers = set(struct.unpack_from("<128I", data, place * SECTOR))
            if len(numbers) != 1:
                raise History(f"record {place} of the disk is torn: {sorted(numbers)[:4]}")
            found.append(numbers.pop())
        return found

    def judge(self, said):
        """Every record that was acknowledged, up to the number that was said last, is there."""
        records = self.records()
        newest = said // EVERY
        for record in range(max(1, newest - JUDGED), newest + 1):
            there = records[record % RING]
            if there != record * EVERY:
                raise History(f"record {record * EVERY} is lost: {there} is in its place; said last was {said}")

    def check(self):
        """By QEMU's own tool, while nobody uses it."""
        command("qemu-img", "check", "-q", self.path)


class Line:
    """What the partition says at one system from now on; the file is kept open, since it goes when the partition goes."""

    def __init__(self, path, begin=None):
        """begin=0: all that it says there, without what it said before it came, with which lpm-host begins the log."""
        self.file = open(path, "rb")
        self.begin = self._end() if begin is None else begin
        for comes in re.finditer(rb"\n\[openlpm: comes to [^\n]*\]\n", self.file.read(COMES_WITHIN) if begin == 0 else b""):
            self.begin = comes.end()  # the last: what it said before may have older ones
        self.whole = begin == 0  # its first line is one

    def _end(self):
        return self.file.seek(0, 2)

    def text(self):
        self.file.seek(self.begin)
        return self.file.read()

    def grows(self, patience=20):
        before = self._end()
        wait_for(lambda: self._end() > before, patience, "the partition says more")

    def close(self):
        self.file.close()


def judge_lines(lines):
    """The numbers of these, one after the other, follow each other; the last of them, 0 when there is none."""
    text = b"".join(line.text() for line in lines)
    words = text.split(b"\n")[:-1]
    if not lines[0].whole:
        words = words[1:]  # it may have begun inside a line
    numbers = [int(word, 16) for word in words]
    for before, after in zip(numbers, numbers[1:]):
        if after != before + 1:
            raise History(f"{after:#x} was said after {before:#x}, {len(numbers)} numbers in all")
    return numbers[-1] if numbers else 0
