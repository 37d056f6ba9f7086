# SPDX-License-Identifier: Apache-2.0
"""The document of crash points, their table and the sources that have them say the same."""
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").glob("*/*.c"))
CALL = re.compile(r"LPM_CRASH_POINT\(\s*([^,]+?),\s*([^,]+?),\s*([^,)]+?)\)")


def table():
    text = (ROOT / "lib/crash/points.c").read_text()
    return [(int(number), name) for number, name in re.findall(r'\{(\d+), "([^"]*)"\}', text) if name]


def documented():
    text = (ROOT / "docs/spec/crash-points.md").read_text()
    return [(int(number), name) for number, name in re.findall(r"^\| (\d+) \| `([^`]+)` \|", text, re.M)]


def names_of_states(prefix):
    """Of lib/mobility's machine: entries of a journal, states of the driver."""
    rows = re.findall(r"_states\[LPM_MOB_(\w+?)_N\] = \{(.*?)\}", (ROOT / "lib/mobility/names.c").read_text(), re.S)
    return {name for machine, body in rows if machine == prefix for name in re.findall(r'"([\w-]+)"', body)}


def in_sources():
    """Names that the sources can come to: those written out, and those that are made of a table."""
    found = set()
    for path in SOURCES:
        text = path.read_text()
        for side, what, when in CALL.findall(text):
            if side[0] == what[0] == when[0] == '"':
                found.add(f"{side}-{what}-{when}".replace('"', ""))
        side = "src" if "mobility-src" in path.name else "dst"
        for what in re.findall(r'lpm_mig_swap\([^;]*?"([\w-]+)",\s*\w+\);', text):
            found |= {f"{side}-{what}-before", f"{side}-{what}-after"}
    for side, prefix in (("src", "SRC"), ("dst", "DST"), ("console", "DRV")):
        for state in names_of_states(prefix):
            found |= {f"{side}-{state}-before", f"{side}-{state}-after"}
    messages = re.findall(r'\{LPM_STREAM_\w+, "([a-z-]+)"\}', (ROOT / "src/mover/threads.c").read_text())
    found |= {f"mover-{side}-{way}-{name}-before" for side in ("src", "dst") for way in ("tell", "send") for name in messages}
    return found


def test_document_and_table_are_the_same():
    assert table() == documented()


def test_numbers_and_names_are_given_once():
    numbers, names = zip(*table())
    assert list(numbers) == list(range(1, len(numbers) + 1))
    assert len(set(names)) == len(names)


def test_every_point_of_the_table_is_in_the_sources():
    missing = {name for _, name in table()} - in_sources()
    assert not missing, missing


def test_every_written_point_is_in_the_table():
    written = {f"{a}-{b}-{c}".replace('"', "") for path in SOURCES for a, b, c in CALL.findall(path.read_text())
               if a[0] == b[0] == c[0] == '"'}
    assert written and written <= {name for _, name in table()}, written - {name for _, name in table()}
