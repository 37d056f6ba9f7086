# SPDX-License-Identifier: Apache-2.0
"""An lpm-host dies at a point of the handover and is started again: the move ends without anybody's help, on one side, and the
partition has run without a gap in what it said. Needs a build with -Dcrash_points=true."""
import os
import signal

import pytest
from hosts import RpcError, needs_crash_points, wait_for

# point -> where the partition is in the end; None: either, as long as both agree
POINTS = {
    "src-planned-before": "a", "src-planned-after": "a", "src-precopy-before": "a", "src-precopy-after": "a",
    "src-switch-before": "a", "src-switch-after": "a", "src-post-before": "a", "src-post-after": "a",
    "src-offer-before": "a", "src-offer-after": "b", "src-end-qemu-before": "b", "src-end-qemu-after": "b",
    "src-forget-after": "b", "src-cleaned-before": "b", "src-cleaned-after": "b",
    "dst-prepared-before": "a", "dst-prepared-after": "a", "dst-loaded-before": "a", "dst-loaded-after": "a",
    "dst-take-before": None, "dst-take-after": "b", "dst-intent-before": "b", "dst-intent-after": "b",
    "dst-cont-before": "b", "dst-cont-after": "b", "dst-running-before": "b", "dst-running-after": "b",
    "dst-run-before": "b", "dst-run-after": "b", "dst-keep-before": "b", "dst-keep-after": "b",
    "dst-cleaned-before": "b", "dst-cleaned-after": "b",
    # around messages
    "src-request-before": "a", "src-answer-before": "a", "src-answer-after": "a", "src-migrate-before": "a",
    "src-migrate-after": "a", "src-continue-before": "a", "src-continue-after": "a", "src-hear-loaded-before": "a",
    "src-tell-offer-before": "b", "src-tell-offer-after": "b", "src-hear-run-before": "b",
    "dst-request-before": "a", "dst-answer-before": "a", "dst-answer-after": "a", "dst-incoming-before": "a",
    "dst-tell-loaded-before": "a", "dst-tell-loaded-after": None, "dst-hear-offer-before": None,
    "dst-tell-running-before": "b", "dst-tell-running-after": "b", "dst-tell-run-before": "b", "dst-tell-run-after": "b",
}
QUICK = ["src-switch-after", "src-post-after", "src-offer-after", "dst-loaded-after", "dst-take-after", "dst-intent-after",
         "dst-run-before", "dst-hear-offer-before", "src-tell-offer-before"]


def check_end(pair, expected):
    """The move ends, on one side, which is the expected one (None: either), and the next one works."""
    def settled():
        states = pair.states()
        found = [m for s in (pair.a, pair.b) for m in s.call("migration-list")["migrations"]]
        return states in (["running", None], [None, "running"]) and all(m["finished"] for m in found) and states
    states = wait_for(settled, "the move ends")
    place = pair.a if states[0] else pair.b
    if expected:
        assert place is getattr(pair, expected), states
    assert [len(s.qemu_pids()) for s in (pair.a, pair.b)] == ([1, 0] if place is pair.a else [0, 1])
    record = place.call("partition-show", partition="p1")["record"]
    assert record["owner"] == place.name and record["state"] in ("SRC", "BACK", "RUN")
    if place is pair.b:
        pair.tail(pair.b)
    pair.says_more(place)
    pair.judge(*([pair.a] if place is pair.a else [pair.a, pair.b]))
    # Nothing is in the way of the next move.
    pair.tail(place)
    other = pair.other(place)
    pair.begin(place, other)
    pair.ends(place, "completed")


def run(pair, point):
    needs_crash_points()
    pair.create()
    victim = pair.a if point.startswith("src-") else pair.b
    victim.kill()
    victim.start(crash=point)
    pair.says_more(pair.a)
    try:
        pair.begin(pair.a, pair.b, connect_timeout_ms=4000)
    except (EOFError, ConnectionError):
        pass  # it died inside the verb
    victim.dies()
    victim.start()
    check_end(pair, POINTS[point])


@pytest.mark.parametrize("point", QUICK)
def test_crash(pair, point):
    run(pair, point)


@pytest.mark.long
@pytest.mark.parametrize("point", [p for p in POINTS if p not in QUICK])
def test_crash_elsewhere(pair, point):
    run(pair, point)


STOPPED = ["src-abort-before", "src-abort-after", "src-cancel-before", "src-back-before", "src-back-after",
           "src-stayed-before", "dst-end-qemu-before", "dst-end-qemu-after"]


@pytest.mark.long
@pytest.mark.parametrize("point", STOPPED)
def test_crash_while_stopping(pair, point):
    """Somebody stops the copy, and an lpm-host dies over it."""
    needs_crash_points()
    pair.create()
    victim = pair.a if point.startswith("src-") else pair.b
    victim.kill()
    victim.start(crash=point)
    pair.begin(pair.a, pair.b, max_rate=200_000)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    try:
        pair.a.call("migration-stop", migration=pair.migration)
    except (EOFError, ConnectionError):
        pass
    victim.dies()
    pair.says_more(pair.a)
    victim.start()
    check_end(pair, "a")


GIVEN_UP = ["src-abort-after", "src-back-before", "src-back-after", "src-cont-before", "src-cont-after"]


@pytest.mark.long
@pytest.mark.parametrize("point", GIVEN_UP)
def test_crash_of_both_around_completed(pair, point):
    """The target dies before it can say LOADED; the source, whose QEMU is completed, dies while it takes the partition back."""
    needs_crash_points()
    pair.create()
    for system, crash in ((pair.a, point), (pair.b, "dst-loaded-before")):
        system.kill()
        system.start(crash=crash)
    pair.says_more(pair.a)
    pair.begin(pair.a, pair.b)
    pair.b.dies()
    pair.a.dies()
    pair.a.start()
    pair.says_more(pair.a)
    pair.b.start()
    check_end(pair, "a")


@pytest.mark.long
@pytest.mark.parametrize("point", ["dst-return-before", "dst-return-after"])
def test_crash_while_giving_back(pair, point):
    """The target dies when it has taken the partition, finds its QEMU dead when it is back, and dies again."""
    needs_crash_points()
    pair.create()
    pair.b.kill()
    pair.b.start(crash="dst-take-after")
    pair.says_more(pair.a)
    pair.begin(pair.a, pair.b)
    pair.b.dies()
    for pid in pair.b.qemu_pids():
        os.kill(pid, signal.SIGKILL)
    pair.b.start_to_die(crash=point)
    pair.b.start()
    check_end(pair, "a")


def all_of_the_source_dies(pair, point):
    """The source's lpm-host and its QEMU die in post."""
    needs_crash_points()
    pair.create()
    pair.a.kill()
    pair.a.start(crash=point)
    pair.says_more(pair.a)
    pair.begin(pair.a, pair.b)
    pair.a.dies()
    for pid in pair.a.qemu_pids():
        os.kill(pid, signal.SIGKILL)


@pytest.mark.long
@pytest.mark.parametrize("restart", [False, True])
def test_only_the_target_has_it(pair, restart):
    """The target has loaded it, the source is gone but for its journal: the partition goes on at the target."""
    all_of_the_source_dies(pair, "src-offer-before")
    assert pair.status(pair.b)["journal"] == "loaded"
    if restart:
        pair.b.kill()
        pair.b.start()
    pair.a.start()
    check_end(pair, "b")


@pytest.mark.long
@pytest.mark.parametrize("word", [False, True])
def test_nobody_has_it(pair, word):
    """Neither has it any more: the target refuses when it is asked, or somebody says so at the source; then it can be started."""
    all_of_the_source_dies(pair, "src-post-after")
    for pid in pair.b.qemu_pids():
        os.kill(pid, signal.SIGKILL)
    pair.ends(pair.b, "aborted")
    pair.a.start()
    wait_for(lambda: pair.status(pair.a)["record"] == "OFFER", "the source offers what only the target can have")
    with pytest.raises(RpcError):
        pair.a.call("partition-start", partition="p1")
    if word:
        pair.a.word(pair.migration, "target-off", "target sys-b is off")
    else:
        pair.b.call("migration-recover", migration=pair.migration)
    pair.ends(pair.a, "aborted")
    pair.a.call("partition-start", partition="p1")
    assert pair.states() == ["running", None]
