# SPDX-License-Identifier: Apache-2.0
"""lpm-host dies over a word. Needs a build with -Dcrash_points=true."""
import os
import signal

import pytest
from hosts import needs_crash_points, wait_for


@pytest.mark.parametrize("crash", ["src-word-before", "src-word-after"])
def test_the_source_dies_over_the_word(pair, crash):
    """What was said is written down before anything is done for it; QEMU is ended before the record says BACK."""
    needs_crash_points()
    pair.create()
    for system, point in ((pair.a, crash), (pair.b, "dst-cont-after")):
        system.kill()
        system.start(crash=point)
    pair.begin(pair.a, pair.b)
    pair.b.dies()
    for pid in pair.b.qemu_pids():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: (now := pair.status(pair.a))["sees"] == {"record": "TAKEN", "qemu": "completed"} and
             now["links"]["up"] == 0, "the source waits, and its mover has ended")
    with pytest.raises((EOFError, OSError)):
        pair.a.word(pair.migration, "target-off", "target sys-b is off")
    pair.a.dies()
    assert pair.a.qemu_pids() == []
    pair.a.start()
    if crash.endswith("before"):
        status = wait_for(lambda: pair.status(pair.a)["sees"] and pair.status(pair.a), "the source looks")
        assert (status["record"], status["finished"]) == ("TAKEN", False), "the word was for that one time"
        assert [word["who"] for word in status["words"]] == [f"local user {os.geteuid()}, process {os.getpid()}"]
        pair.a.word(pair.migration, "target-off", "target sys-b is off")
    status = pair.ends(pair.a, "aborted")
    assert len(status["words"]) == (2 if crash.endswith("before") else 1)
    pair.b.start()
    pair.ends(pair.b, "aborted")
    pair.a.call("partition-start", partition="p1")
    assert pair.states() == ["running", None]
