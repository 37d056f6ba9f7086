# SPDX-License-Identifier: Apache-2.0
"""Names of rows: LINK-WORKLOAD-KIND, what each part may be, and what it means."""

import dataclasses
import re

LINKS = {"unshaped": "none", "1gbit": "1gbit", "100mbit": "100mbit"}
DIRTY_MB = (1, 1000)
READER_MB = 64


class RowError(Exception):
    """A row that does not exist; the message lists what does."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is moved and against what it is measured."""

    name: str
    about: str
    default_seconds: int = None  # return60, cut5: a number may follow the name
    small: bool = False          # by the small partition image, whose memory holds little but one pattern
    workloads: str = "idle reader writerN"


KINDS = {kind.name: kind for kind in (
    Kind("native", "QEMU's own configurations beside each other, one run each; names the best"),
    Kind("raw", "our mover with its raw codec against plain TCP, small partition: what the mover costs", small=True),
    Kind("first", "a move to a system that has never had the partition"),
    Kind("return", "the move back after {seconds} s of work", default_seconds=60),
    Kind("cut", "a first move whose link is down for {seconds} s in mid copy", default_seconds=5),
    Kind("postcopy", "post-copy, ours and QEMU's own"),
    Kind("encrypted", "what encryption costs: ours with and without where it can be left out, QEMU's TLS against its plain TCP"),
    Kind("converge", "the highest dirty rate in MB/s with which a move still ends", workloads="writer"),
    Kind("validate", "how long validation takes"),
    Kind("gap", "the silence that a partner sees against the blackout, echoes every 2 ms, ours alone, small partition", small=True),
    Kind("four", "four partitions at once", workloads="idle writerN"),
)}

# What `make bench` runs, and what ROWS=list shows; any other valid name can be asked for, too.
STANDARD = """
unshaped-idle-raw 1gbit-idle-raw
unshaped-idle-first 1gbit-idle-first 100mbit-idle-first 1gbit-writer20-first unshaped-writer20-first 1gbit-reader-first
1gbit-idle-return 1gbit-writer20-return 100mbit-idle-return 100mbit-writer20-return unshaped-idle-return
1gbit-idle-cut5 1gbit-idle-cut30 1gbit-writer20-cut5 1gbit-idle-encrypted unshaped-idle-encrypted
1gbit-writer-converge 1gbit-writer100-postcopy 1gbit-idle-validate 1gbit-idle-gap 1gbit-idle-four
""".split()


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    link: str
    workload: str
    kind: Kind
    seconds: int = None

    @property
    def rate(self):
        """What the link is shaped to, as lab.link takes it."""
        return LINKS[self.link]

    @property
    def dirty_mb(self):
        return int(self.workload[6:] or 0) if self.workload.startswith("writer") else 0

    @property
    def echo_ms(self):
        """How often its clients ask."""
        return 2 if self.kind.name == "gap" else 10

    @property
    def check_mb(self):
        return READER_MB if self.workload == "reader" else 0


def _explain(name, why):
    return RowError(f"row '{name}': {why}. A row is LINK-WORKLOAD-KIND; LINK: {', '.join(LINKS)}; WORKLOAD: idle, reader, writerN "
                    f"(N MB/s), for converge just writer; KIND: {', '.join(KINDS)}, also return and cut with seconds (cut30). "
                    f"ROWS=list shows the usual ones")


def parse(name):
    """The row of a name; RowError says what is wrong with it."""
    parts = name.split("-")
    if len(parts) != 3:
        raise _explain(name, "it has not three parts")
    link, workload, last = parts
    if link not in LINKS:
        raise _explain(name, f"there is no link '{link}'")
    match = re.fullmatch(r"([a-z]+)(\d*)", last)
    kind = KINDS.get(match[1]) if match else None
    if kind is None or (match[2] and kind.default_seconds is None):
        raise _explain(name, f"there is no kind '{last}'")
    written = re.fullmatch(r"(idle|reader|writer)(\d*)", workload)
    pattern = workload if not written or not written[2] else written[1] + "N"
    if not written or (written[2] and written[1] != "writer") or pattern not in kind.workloads.split():
        raise _explain(name, f"kind {kind.name} has no workload '{workload}' (it has {kind.workloads.replace(' ', ', ')})")
    if written[2] and not DIRTY_MB[0] <= int(written[2]) <= DIRTY_MB[1]:
        raise _explain(name, f"a writer's rate is {DIRTY_MB[0]} to {DIRTY_MB[1]} MB/s")
    return Row(name, link, workload, kind, int(match[2]) if match[2] else kind.default_seconds)


def listing():
    """The usual rows, one line each."""
    lines = []
    for row in map(parse, STANDARD):
        lines.append(f"{row.name:26} {row.kind.about.format(seconds=row.seconds)}")
    return "\n".join(lines)
