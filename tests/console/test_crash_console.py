# SPDX-License-Identifier: Apache-2.0
"""lpm-console dies at each of its crash points and is started again: the move is over on both systems, the console says where the
partition is, and begins the next move. Needs a build with -Dcrash_points=true."""

import contextlib
import http.client
import re
import signal
import threading

import pytest
from consolerun import PROGRAM, ROOT, Refused
from test_driver import FINAL

POINTS = re.findall(r'"(console-[a-z-]+)"', (ROOT / "lib/crash/points.c").read_text())
STOPPED = ("console-stopping-before", "console-stopping-after")
FAILED = ("console-failed-before", "console-failed-after")
QUICK = ["console-ask-prepare-after", "console-ask-start-after", "console-starting-after", "console-moving-before"]


def begin(console):
    """The answer may never come: the console may have died over it."""
    with contextlib.suppress(OSError, http.client.HTTPException, Refused):
        console.migrate()


def make_ready(pair, point):
    """So that the move comes to the point."""
    pair[0].pace = 0.05
    if point in (*FAILED, *STOPPED):
        def refuses(_):
            raise point_error
        from fakehost import Failure
        point_error = Failure("qemu", "no emulator")
        pair[1].verbs["migration-prepare"] = refuses


def run(console, pair, point):
    if b"crash point %s is not" not in PROGRAM.read_bytes():
        pytest.skip("lpm-console was built without crash points")
    make_ready(pair, point)
    console.kill()
    console.environment["LPM_CRASH"] = point
    console.start()
    console.wait(lambda: all(s["state"] == "connected" for s in console.rest("GET", "/v1/systems")["systems"]), "both systems")
    threading.Thread(target=begin, args=(console,), daemon=True).start()
    assert console.process.wait(20) == -signal.SIGKILL
    del console.environment["LPM_CRASH"]
    console.start()
    shown = None
    for one in console.rest("GET", "/v1/migrations")["migrations"]:
        shown = console.wait_state(one["migration"], *FINAL, timeout=30)
    for host in pair:
        console.wait(lambda: all(m["journal"] == "cleaned" for m in host.moves.values()), f"{host.name} to be done")
    completed = shown is not None and shown["state"] == "completed"
    assert ("web1" in pair[1].partitions, "web1" in pair[0].partitions) == (completed, not completed)
    if shown and not completed:
        assert shown["error"]["message"]
    return completed


@pytest.mark.parametrize("point", QUICK)
def test_console_dies(console, pair, point):
    run(console, pair, point)


@pytest.mark.long
@pytest.mark.parametrize("point", [point for point in POINTS if point not in QUICK])
def test_console_dies_elsewhere(console, pair, point):
    run(console, pair, point)
