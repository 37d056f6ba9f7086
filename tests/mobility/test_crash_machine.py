# SPDX-License-Identifier: Apache-2.0
"""A whole system dies at a point of the handover: lpm-host, its movers and its QEMUs, nothing flushed. When it is back the move ends
without anybody's help; the partition is where its record says, runs there or can be started there from its disks, and nowhere else."""
import pytest
from hosts import RpcError, needs_crash_points, wait_for
from test_crash import POINTS

# point -> where the partition is in the end, and whether it still runs there as it did before; None: either. A source that dies
# before it offers has the only copy that counts; a target that dies before its intent never ran it; from then on it is the
# target's, crashed.
WENT_DOWN, RUNS_ON = "down", "on"
ENDS = {
    **{point: ("a", WENT_DOWN) for point in POINTS if point.startswith("src-")},
    **{point: ("a", RUNS_ON) for point in POINTS if point.startswith("dst-")},
    **{point: ("b", RUNS_ON) for point in POINTS if point.startswith("src-") and POINTS[point] == "b"},
    **{point: ("b", WENT_DOWN) for point in POINTS if point.startswith("dst-") and POINTS[point] == "b"},
    # The target has it all, or has not yet: it takes what the source, come back without it, offers, or refuses.
    "src-continue-after": (None, None), "src-switch-after": (None, None), "src-switch-before": (None, None),
    "src-post-before": (None, None), "src-post-after": (None, None), "src-hear-loaded-before": (None, None),
    "src-offer-before": ("b", RUNS_ON),
    "dst-take-after": ("a", RUNS_ON), "dst-intent-before": ("a", RUNS_ON),
    "dst-intent-after": ("b", WENT_DOWN),
}
QUICK = ["src-offer-before", "src-offer-after", "dst-take-after", "dst-intent-after"]


def settled(pair):
    """Owner by the record, once nothing is left of the move; None before."""
    found = [m for s in (pair.a, pair.b) for m in s.call("migration-list")["migrations"]]
    states = pair.states()
    if not all(m["finished"] for m in found) or sum(state is not None for state in states) != 1:
        return None
    return pair.a if states[0] else pair.b


def check_end(pair, place, kept):
    """It is there alone, once; started if it went down; and moves again."""
    other = pair.other(place)
    record = place.call("partition-show", partition="p1")["record"]
    assert record["owner"] == place.name and record["state"] in ("SRC", "BACK", "RUN")
    state = next(state for state in pair.states() if state)
    assert other.qemu_pids() == [] and len(place.qemu_pids()) == (state == "running")
    if kept == RUNS_ON:
        assert state == "running"
    if state == "running":
        if place is pair.b:
            pair.tail(pair.b)
        pair.says_more(place)
        pair.judge(*([pair.a] if place is pair.a else [pair.a, pair.b]))
    else:
        assert kept != RUNS_ON
        with pytest.raises(RpcError):
            other.call("partition-start", partition="p1")
        place.call("partition-start", partition="p1")
        pair.tail(place)
        pair.says_more(place)
    pair.begin(place, other)
    pair.ends(place, "completed")
    pair.ends(other, "completed")


def run(pair, point):
    needs_crash_points()
    pair.create()
    victim = pair.a if point.startswith("src-") else pair.b
    victim.start_with(f"{point},machine")
    pair.says_more(pair.a)
    pair.tail(pair.a)
    try:
        pair.begin(pair.a, pair.b, connect_timeout_ms=4000)
    except (EOFError, ConnectionError):
        pass  # it died inside the verb
    victim.dies()
    wait_for(lambda: not victim.qemu_pids(), "the system is dead")
    victim.start()
    expected, kept = ENDS[point]
    place = wait_for(lambda: settled(pair), f"the move ends: {pair.states()}")
    if expected:
        assert place is getattr(pair, expected), pair.states()
    check_end(pair, place, kept)


@pytest.mark.parametrize("point", QUICK)
def test_machine_dies(pair, point):
    run(pair, point)


@pytest.mark.long
@pytest.mark.parametrize("point", [p for p in POINTS if p not in QUICK])
def test_machine_dies_elsewhere(pair, point):
    run(pair, point)
