# SPDX-License-Identifier: Apache-2.0
"""The other system dies, or its link does for good: how soon the move knows, and how soon the partition runs on at the source,
measured from outside. What is only late is not called dead."""

import contextlib
import os
import pathlib
import signal
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "faults"))

from cellrun import SLOW_COPY, Move, explain, judge_history, settled, state_letter  # noqa: E402
from lablib import command, wait_for  # noqa: E402
from stage import NAME, Stage  # noqa: E402
from tidy import half, nothing_left  # noqa: E402

DETECTED_S, RUNS_S = 2.0, 1.0  # after the death; after that was detected
LATE_S = 3


@pytest.fixture(scope="module")
def stage(free_lab_name):
    with Stage(free_lab_name) as made:
        made.connected()
        yield made


class Death:
    """begin() when the move is where it is to be harmed; mend() afterwards."""

    def __init__(self, stage, move):
        self.stage, self.place = stage, move.target


class SystemDies(Death):
    def begin(self):
        pids = [self.stage.daemon(self.place), *self.stage.movers(self.place), *self.stage.qemus(self.place)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def mend(self):
        wait_for(lambda: self.stage.daemon(self.place) is None, 10, "the daemon's end")
        self.stage.launch(self.place)


class LinkDies(Death):
    def begin(self):
        self.stage.link(self.place, "down")

    def mend(self):
        self.stage.link(self.place, "up")
        self.stage.restart(self.place)  # it may stand still at its point


def begin(stage, phase, **options):
    """A move in the middle of its copy, or of its switchover: everything is sent, and the target does not say LOADED."""
    move = Move(stage)
    if phase == "switchover":
        stage.restart(move.target, {"LPM_CRASH": "dst-loaded-before,stop"})
        stage.connected()
        move.begin(**options)
        wait_for(lambda: state_letter(stage.daemon(move.target)) == "T", 30, "the target stands still")
    else:
        move.begin(max_rate=SLOW_COPY, **options)
        wait_for(move.copies, 30, "the copy", 0.05)
    move.find()
    return move


def knows(stage, move):
    status = half(stage, move.source, move.migration)
    return status and (status["finished"] or status["error"] or (status["links"] or {}).get("lost_ms") is not None) and status


def ends(stage, move):
    status = wait_for(lambda: settled(stage, move), 60, "the end of the move", 0.2)
    assert status["state"] == "failed", explain(stage, move)
    judge_history(stage, move, move.source)
    nothing_left(stage, stage.partitions[NAME], move.source, nonces=True)
    return status


@pytest.mark.parametrize("phase", ["copy", "switchover"])
@pytest.mark.parametrize("death", [SystemDies, LinkDies])
def test_it_is_known_and_the_partition_runs(stage, phase, death, record_property):
    move = begin(stage, phase, **({"link_retry_ms": 0} if phase == "copy" else {}))  # in the switchover also with the default
    harm = death(stage, move)
    died = time.monotonic()
    harm.begin()
    try:
        wait_for(lambda: knows(stage, move), 30, "the source knows it", 0.02)
        known = time.monotonic()
        move.line.grows()
        runs = time.monotonic()
        print(f"{death.__name__} in {phase}: known after {known - died:.2f} s, runs {runs - known:.2f} s later")
        record_property("known_s", round(known - died, 2))
        record_property("runs_s", round(runs - known, 2))
        assert known - died <= DETECTED_S, f"the source did not know it for {known - died:.2f} s"
        assert runs - known <= RUNS_S, f"the partition stood still for {runs - known:.2f} s after that"
    finally:
        harm.mend()
        stage.connected()
    status = ends(stage, move)
    assert status["error"]["message"], status


def test_what_is_late_is_not_dead(stage):
    """The target's mover gets no time for a while, on a system that is there: nothing is lost or made anew."""
    move = begin(stage, "copy")
    (mover,) = stage.movers(move.target)
    os.kill(mover, signal.SIGSTOP)
    try:
        end = time.monotonic() + LATE_S
        while time.monotonic() < end:
            assert half(stage, move.source, move.migration)["links"]["lost_ms"] is None
            time.sleep(0.1)
    finally:
        os.kill(mover, signal.SIGCONT)
    move.hurry()
    status = wait_for(lambda: settled(stage, move), 60, "the end of the move", 0.2)
    assert status["state"] == "completed" and status["links"]["reconnects"] == 0, status
    judge_history(stage, move, move.target)


def forwards(stage, place, state):
    """Nothing passes a system's port of the switch, or everything: at once, while a cable needs up to a second to be there again."""
    inside, prefix = stage.LINKS["mgmt"]
    command("bridge", "-n", stage.namespace("switch"), "link", "set", "dev", prefix + place, "state", state)


def test_a_moment_without_a_link_in_the_switchover(stage):
    """It is back as soon as its loss is known, and so is the connection: the kernel's own next attempt would come too late."""
    move = begin(stage, "switchover")
    forwards(stage, move.target, "disabled")
    try:
        wait_for(lambda: knows(stage, move), 30, "the source knows it", 0.02)
    finally:
        forwards(stage, move.target, "forwarding")
        os.kill(stage.daemon(move.target), signal.SIGCONT)
    status = wait_for(lambda: settled(stage, move), 60, "the end of the move", 0.2)
    assert status["state"] == "completed" and status["links"]["reconnects"] >= 1, explain(stage, move)
    stage.connected()
    judge_history(stage, move, move.target)
    stage.restart(move.target)
