# SPDX-License-Identifier: Apache-2.0
"""A mover dies at one of its messages, or an lpm-host only stands still at a point: the move ends by itself on one side."""
import os
import signal
import time

import pytest
from hosts import needs_crash_points, state_of, wait_for
from test_crash import check_end

# point of a mover -> where the partition is in the end; None: either, as long as both agree
MOVERS = {
    "mover-src-tell-ready-before": "a", "mover-src-tell-connected-before": "a", "mover-src-tell-loaded-before": "a",
    "mover-src-send-hint-before": "b", "mover-src-tell-hint-before": "b", "mover-src-send-close-before": "b",
    "mover-dst-tell-ready-before": "a", "mover-dst-tell-connected-before": "a", "mover-dst-tell-digest-ok-before": "a",
    "mover-dst-send-loaded-before": "a", "mover-dst-tell-hint-before": None, "mover-dst-send-hint-before": "b",
    "mover-dst-send-close-before": "b",
}
QUICK = ["mover-dst-send-loaded-before", "mover-src-send-hint-before"]


def run(pair, point):
    needs_crash_points()
    pair.create()
    (pair.a if point.startswith("mover-src-") else pair.b).start_with(point)
    pair.says_more(pair.a)
    try:
        pair.begin(pair.a, pair.b, connect_timeout_ms=4000)
    except Exception as error:  # the target refuses at once when its mover does not come up
        assert point == "mover-dst-tell-ready-before", error
    for system in (pair.a, pair.b):  # nothing is open any more, also where it was refused
        wait_for(lambda: all(m["finished"] for m in system.call("migration-list")["migrations"]), "the move ends")
    for system in (pair.a, pair.b):
        system.start_with(None)
    check_end(pair, MOVERS[point])


@pytest.mark.parametrize("point", QUICK)
def test_mover_dies(pair, point):
    run(pair, point)


@pytest.mark.long
@pytest.mark.parametrize("point", [p for p in MOVERS if p not in QUICK])
def test_mover_dies_elsewhere(pair, point):
    run(pair, point)


@pytest.mark.parametrize("point", ["67", "src-offer-after"])
def test_stands_still(pair, point):
    """By name or by number; with SIGCONT it goes on as if nothing had been."""
    needs_crash_points()
    pair.create()
    pair.a.start_with(f"{point},stop")
    pair.says_more(pair.a)
    pair.begin(pair.a, pair.b)
    wait_for(lambda: state_of(pair.a.process) == "T", "it stands still")
    os.kill(pair.a.process.pid, signal.SIGCONT)
    check_end(pair, "b")


def test_qemu_ends_as_the_source_connects(pair):
    """lpm-host hears of the one just before the other: it ends the move, not itself."""
    needs_crash_points()
    pair.create()
    pair.b.start_with("mover-dst-tell-connected-before,stop")
    pair.says_more(pair.a)
    pair.begin(pair.a, pair.b)
    children = f"/proc/{pair.b.process.pid}/task/{pair.b.process.pid}/children"
    (mover,) = (int(pid) for pid in open(children).read().split())
    wait_for(lambda: open(f"/proc/{mover}/stat").read().rsplit(")", 1)[1].split()[0] == "T", "the mover stands still")
    for pid in pair.b.qemu_pids():
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)  # it has heard of QEMU's end, and still waits for what may explain it
    os.kill(mover, signal.SIGCONT)
    pair.ends(pair.a, "aborted")
    pair.ends(pair.b, "aborted")
    assert pair.b.process.poll() is None
    pair.b.start_with(None)
    check_end(pair, "a")


def test_qemu_ends_between_taken_and_intent(pair):
    """It never ran there, and the source has it all: noticed before it is too late to give it back."""
    needs_crash_points()
    pair.create()
    pair.b.start_with("dst-take-after,stop")
    pair.says_more(pair.a)
    pair.begin(pair.a, pair.b)
    wait_for(lambda: state_of(pair.b.process) == "T", "it stands still")
    (qemu,) = pair.b.qemu_pids()
    os.kill(qemu, signal.SIGKILL)
    os.kill(pair.b.process.pid, signal.SIGCONT)
    status = pair.ends(pair.a, "aborted")
    assert "gave it back" in status["error"]["desc"], status["error"]
    check_end(pair, "a")
