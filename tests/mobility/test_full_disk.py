# SPDX-License-Identifier: Apache-2.0
"""A journal that cannot be written."""
import contextlib
import os
import shutil
import signal
import subprocess
import time

import pytest
from hosts import RpcError, needs_crash_points, state_of, wait_for


@contextlib.contextmanager
def small_state(host):
    """The system's state lies on a file system of 24 MiB."""
    state = host.base / "state"
    host.terminate()
    kept = host.base / "kept"
    shutil.copytree(state, kept)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", str(state)], check=True)
    try:
        shutil.copytree(kept, state, dirs_exist_ok=True)
        host.start()
        yield state
        host.kill()
    finally:
        subprocess.run(["umount", str(state)], check=True)


@pytest.fixture
def small_disk(pair):
    with small_state(pair.a) as state:
        yield state


@pytest.fixture
def small_disk_at_target(pair):
    with small_state(pair.b) as state:
        yield state


def fill(path):
    with open(path, "wb") as file:
        try:
            while True:
                file.write(bytes(65536))
                file.flush()
        except OSError:
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_full_disk(pair, small_disk):
    """The journal cannot be written any more in mid copy: the partition runs on, and the move ends when there is room."""
    pair.create()
    pair.begin(pair.a, pair.b, max_rate=200_000)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    fill(small_disk / "filler")
    pair.a.call("migration-stop", migration=pair.migration)
    time.sleep(1)
    status = pair.status(pair.a)
    assert status["journal"] == "precopy" and not status["finished"], "the entry could not be written"
    pair.says_more(pair.a)
    (small_disk / "filler").unlink()
    pair.ends(pair.a, "aborted")
    pair.ends(pair.b, "aborted")
    pair.says_more(pair.a)
    pair.judge(pair.a)
    with open(small_disk / "filler", "wb") as file:
        file.write(bytes(12 << 20))
    with pytest.raises(RpcError, match="MiB left for the journal") as caught:
        pair.begin(pair.a, pair.b)
    assert caught.value.error_class == "storage"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_intent_cannot_be_written(pair, small_disk_at_target):
    """The target has taken it and ends its QEMU before it gives it back: nothing could run there afterwards."""
    needs_crash_points()
    pair.create()
    pair.b.start_with("dst-take-after,stop")
    pair.says_more(pair.a)
    pair.begin(pair.a, pair.b)
    wait_for(lambda: state_of(pair.b.process) == "T", "it has taken it")
    fill(small_disk_at_target / "filler")
    pair.b.process.send_signal(signal.SIGCONT)
    pair.ends(pair.a, "aborted")
    pair.says_more(pair.a)
    assert pair.b.qemu_pids() == []
    words = pair.b.log.read_text()
    assert words.index("the handover cannot be written down") < words.index("record: BACK"), "ended first, given back afterwards"
    assert pair.a.call("partition-show", partition="p1")["record"]["owner"] == "sys-a"
    (small_disk_at_target / "filler").unlink()
    pair.ends(pair.b, "aborted")
    pair.judge(pair.a)
