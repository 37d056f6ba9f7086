# SPDX-License-Identifier: Apache-2.0
"""The fault matrix is whole, and its judges see what they are there for."""
import pathlib
import re
import struct
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "lab" / "faults"), str(ROOT / "lab")]

import counter  # noqa: E402
import report  # noqa: E402
import soak  # noqa: E402
import tables  # noqa: E402
from inflict import harm_for  # noqa: E402


def test_every_cell_can_be_or_says_why_not():
    cells = tables.cells()
    assert len(cells) == len(tables.COMPONENTS) * len(tables.PHASES) * len(tables.FAULTS)
    possible = [cell for cell in cells if tables.why_not(cell) is None]
    assert len(possible) >= 400
    assert all(harm_for(cell) for cell in possible)
    assert all(tables.why_not(cell) for cell in cells if cell not in possible)


def test_phases_stop_at_points_that_there_are():
    names = set(re.findall(r'"([a-z-]+)"', (ROOT / "lib/crash/points.c").read_text()))
    assert {phase.point for phase in tables.PHASES if phase.point} <= names


def line(tmp_path, name, numbers, begin=0):
    path = tmp_path / name
    path.write_bytes(b"".join(b"%08X\n" % number for number in numbers))
    return counter.Line(path, begin)


def test_one_history_over_two_systems(tmp_path):
    first, second = line(tmp_path, "a", range(1, 50)), line(tmp_path, "b", range(50, 90))
    assert counter.judge_lines([first, second]) == 89


@pytest.mark.parametrize("second", [range(51, 90), range(49, 90), [50, 51, 51, 52], [50, 52]])
def test_lost_doubled_and_repeated_numbers_are_seen(tmp_path, second):
    with pytest.raises(counter.History):
        counter.judge_lines([line(tmp_path, "a", range(1, 50)), line(tmp_path, "b", second)])


def disk(tmp_path, said, changes):
    """As the partition leaves it, but for some places of its ring."""
    made = counter.Disk(tmp_path / "disk")
    made.offset = 4096
    places = [0] * counter.RING
    for record in range(1, said // counter.EVERY + 1):
        places[record % counter.RING] = record * counter.EVERY
    for place, value in changes.items():
        places[place] = value
    made.path.write_bytes(bytes(4096 + counter.SECTOR) + b"".join(struct.pack("<I", number) * 128 for number in places))
    return made


SAID = 20_000


def test_a_whole_disk(tmp_path):
    disk(tmp_path, SAID, {}).judge(SAID)
    disk(tmp_path, SAID + 160, {}).judge(SAID)  # it went on


@pytest.mark.parametrize("value", [0, 16])
def test_a_lost_or_stale_record_is_seen(tmp_path, value):
    place = SAID // counter.EVERY % counter.RING
    with pytest.raises(counter.History):
        disk(tmp_path, SAID, {place: value}).judge(SAID)


def test_a_torn_record_is_seen(tmp_path):
    made = disk(tmp_path, SAID, {})
    data = bytearray(made.path.read_bytes())
    data[4096 + counter.SECTOR + 8] ^= 1
    made.path.write_bytes(data)
    with pytest.raises(counter.History):
        made.judge(SAID)


def test_plans_of_the_soak_come_from_seed_and_number():
    assert soak.plan(7, 3) == soak.plan(7, 3) != soak.plan(8, 3)
    plans = [soak.plan(7, number) for number in range(1, 200)]
    assert 0.15 < sum(one.cell is None for one in plans) / len(plans) < 0.45


def test_report_shows_every_result():
    cells = [cell for cell in tables.cells() if tables.why_not(cell) is None][:2]
    results = {tables.name_of(cells[0]): {"result": "passed", "recovered_s": 1.25, "outcome": "completed"},
               tables.name_of(cells[1]): {"result": "failed", "reason": "because"}}
    text = "\n".join(report.matrix(results))
    assert "1.2" in text and "FAIL" in text
    assert report.tally(results)[0] == "1 passed, 1 failed"
