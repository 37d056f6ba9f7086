# SPDX-License-Identifier: Apache-2.0
"""Large captured streams of both families, made anew: 2 GiB in total, several kinds of memory and of migration."""

import dataclasses
import os
import pathlib
import random
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "golden" / "streams"))

from capturing import PAGE, Machine, mixed_pages  # noqa: E402

MIB = 1 << 20
X86 = {"family": "x86-64", "machine": "q35", "block": "pc.ram", "first": 4 * MIB // PAGE}
HASH = {"family": "power", "machine": "pseries,ic-mode=xics", "block": "ppc_spapr.ram", "first": 96 * MIB // PAGE,
        "options": ["-cpu", "power8"]}
RADIX = {**HASH, "machine": "pseries", "options": ["-cpu", "power9"]}


@dataclasses.dataclass
class Workload:
    """A machine, what its memory holds (MiB of it), and how it is migrated."""

    machine: dict
    mebibytes: int
    content: str
    filled: int
    migration: dict = dataclasses.field(default_factory=dict)


WORKLOADS = {
    "x86-programs": Workload(X86, 640, "programs", 512),
    "x86-noise": Workload(X86, 320, "noise", 256),
    "x86-mixed-xbzrle": Workload(X86, 128, "mixed", 48, {"capabilities": ["xbzrle"]}),
    "x86-programs-multifd": Workload(X86, 384, "programs", 320, {"channels": 3}),
    "hash-programs": Workload(HASH, 768, "programs", 512),
    "hash-mixed": Workload(HASH, 256, "mixed", 48),
    "radix-noise": Workload(RADIX, 512, "noise", 256),
    "radix-programs": Workload(RADIX, 512, "programs", 320),
}


def programs(count, dice):
    """Files of this machine, page by page, as they would lie in a page cache."""
    files = sorted(p for d in ("/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/share") for p in pathlib.Path(d).glob("*")
                   if p.is_file() and not p.is_symlink() and p.stat().st_size > 2 * PAGE)
    dice.shuffle(files)
    while count > 0:
        for path in files:
            data = path.read_bytes()
            for at in range(0, len(data) - len(data) % PAGE, PAGE):
                yield data[at:at + PAGE]
                count -= 1
                if count == 0:
                    return


def content(kind, count, seed):
    dice = random.Random(seed)
    if kind == "mixed":
        return mixed_pages(count, seed)
    if kind == "noise":
        return (dice.randbytes(PAGE) if dice.random() < 0.9 else None for _ in range(count))
    return programs(count, dice)


def capture(name, directory, seed):
    """The files of one workload's channels, the main one first."""
    workload = WORKLOADS[name]
    row = workload.machine
    with Machine(row["family"], row["machine"], workload.mebibytes << 10, row["block"], row.get("options", ())) as machine:
        machine.start_guest()
        machine.fill(row["first"], content(workload.content, workload.filled * MIB // PAGE, seed))
        migration = {"parameters": {"max-bandwidth": 256 * MIB}, **workload.migration}
        files, _, _ = machine.migrate(**migration)
        return [file.rename(directory / f"{name}-{number}") for number, file in enumerate(files)]


def damaged(path, size, dice):
    """The beginning of a stream, with a few bytes changed, left out and put in."""
    data = bytearray(size)
    with open(path, "rb") as file:
        del data[file.readinto(data):]
    for _ in range(dice.randrange(1, 20)):
        at = dice.randrange(len(data)) if dice.random() < 0.7 else dice.randrange(min(len(data), 4096))
        count = dice.randrange(1, 10)
        match dice.randrange(3):
            case 0:
                data[at:at + count] = dice.randbytes(count)
            case 1:
                del data[at:at + count]
            case 2:
                data[at:at] = dice.randbytes(count)
    return data


def total(files):
    return sum(os.stat(f).st_size for f in files)
