# SPDX-License-Identifier: Apache-2.0
"""All profiles of a partition come along in a move, and which one was activated last."""
from hosts import needs_crash_points, wait_for


def profiles(system):
    return system.call("profile-list", partition="p1")["profiles"]


def add_big(pair):
    pair.a.call("profile-create", partition="p1", profile="big", changes={"memory_mib": 128, "processors_max": 2})


def test_inactive(pair):
    """It has what it was activated with last, not what its default profile says."""
    pair.create(start=False)
    add_big(pair)
    pair.a.call("partition-start", partition="p1", profile="big")
    pair.a.call("partition-stop", partition="p1", how="hard")
    before = profiles(pair.a)
    assert [(row["name"], row["default"], row["last_activated"]) for row in before] == [("big", False, True), ("normal", True, False)]
    pair.begin(pair.a, pair.b, active=False)
    pair.ends(pair.a, "completed")
    pair.ends(pair.b, "completed")
    assert profiles(pair.b) == before
    shown = pair.b.call("partition-show", partition="p1")
    assert shown["profile"]["memory_mib"] == 128
    pair.b.call("partition-start", partition="p1")
    assert pair.b.call("partition-show", partition="p1")["runtime"]["profile"]["memory_mib"] == 64
    pair.tail(pair.b)
    pair.says_more(pair.b)


def test_target_dies_before_it_is_kept(pair):
    """Found again by what it runs with, which is one profile and an added processor; its definition is in the journal."""
    needs_crash_points()
    pair.create(start=False)
    add_big(pair)
    pair.a.call("partition-start", partition="p1", profile="big")
    pair.tail(pair.a)
    pair.a.call("partition-add-processors", partition="p1", count=1)
    pair.a.call("partition-change", partition="p1", changes={"max_blackout_ms": 250})
    before = pair.a.call("partition-show", partition="p1")["profile"]
    listed = profiles(pair.a)
    pair.b.start_with("dst-keep-before")
    pair.begin(pair.a, pair.b)
    pair.b.dies()
    pair.b.start()
    pair.ends(pair.b, "completed")
    pair.ends(pair.a, "completed")
    wait_for(lambda: pair.states() == [None, "running"], "it runs there")
    assert pair.b.call("partition-show", partition="p1")["profile"] == before
    assert profiles(pair.b) == listed
    assert pair.b.call("partition-show", partition="p1")["runtime"]["profile"]["added_processors"] == 1
