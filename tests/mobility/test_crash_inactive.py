# SPDX-License-Identifier: Apache-2.0
"""An lpm-host dies at a point of an inactive move and is started again: the partition is defined on one system in the end, as it was, and can be
activated there and only there. Needs a build with -Dcrash_points=true."""

import pytest
from hosts import needs_crash_points, wait_for

# point -> where the partition is in the end; None: either, as long as both agree
POINTS = {
    "src-request-before": "a", "src-planned-before": "a", "src-planned-after": "a", "src-post-before": None, "src-post-after": None,
    "src-offer-before": None, "src-offer-after": "b", "src-forget-after": "b", "src-cleaned-before": "b", "src-cleaned-after": "b",
    "dst-request-before": "a", "dst-prepared-before": "a", "dst-prepared-after": "a", "dst-loaded-before": "a",
    "dst-loaded-after": "a", "dst-answer-before": "a", "dst-take-before": None, "dst-take-after": "b", "dst-intent-before": "b",
    "dst-intent-after": "b", "dst-running-before": "b", "dst-running-after": "b", "dst-run-before": "b", "dst-run-after": "b",
    "dst-keep-before": "b", "dst-keep-after": "b", "dst-cleaned-before": "b", "dst-cleaned-after": "b",
}
QUICK = ["src-post-after", "src-offer-after", "src-forget-after", "dst-take-after", "dst-intent-after", "dst-keep-before"]


def profile_at(system):
    profile = system.call("partition-show", partition="p1")["profile"]
    return {member: value for member, value in profile.items() if value is not None}


def settled(pair):
    states = pair.states()
    moves = [move for system in (pair.a, pair.b) for move in system.call("migration-list")["migrations"]]
    return states in (["not-activated", None], [None, "not-activated"]) and all(move["finished"] for move in moves) and states


def run(pair, point):
    needs_crash_points()
    pair.create()
    pair.says_more(pair.a)
    pair.a.call("partition-stop", partition="p1", how="hard")
    before = profile_at(pair.a)
    victim = pair.a if point.startswith("src-") else pair.b
    victim.kill()
    victim.start(crash=point)
    try:
        pair.begin(pair.a, pair.b, active=False)
    except (EOFError, ConnectionError):
        pass  # it died inside the verb
    victim.dies()
    victim.start()
    states = wait_for(lambda: settled(pair), "the move ends", 90)
    place, other = (pair.a, pair.b) if states[0] else (pair.b, pair.a)
    if POINTS[point]:
        assert place is getattr(pair, POINTS[point]), states
    assert profile_at(place) == before
    record = place.call("partition-show", partition="p1")["record"]
    assert record["owner"] == place.name and record["state"] in ("SRC", "BACK", "RUN")
    assert not other.call("partition-list")["partitions"], "the other one has forgotten it"
    place.call("partition-start", partition="p1")
    assert [len(system.qemu_pids()) for system in (place, other)] == [1, 0]
    pair.tail(place)
    pair.says_more(place)


@pytest.mark.parametrize("point", QUICK)
def test_crash_inactive(pair, point):
    run(pair, point)


@pytest.mark.long
@pytest.mark.parametrize("point", [point for point in POINTS if point not in QUICK])
def test_crash_inactive_everywhere(pair, point):
    run(pair, point)
