# SPDX-License-Identifier: Apache-2.0
"""A mover of this system that was taken over: it has lpm-host's ear and QEMU's stream. It costs the move, and nothing else."""
import contextlib
import pathlib
import time

import pytest

from hosts import MOVER, RpcError, wait_for

LIAR = pathlib.Path(__file__).with_name("lying_mover.py")
LIES = ("flood", "peer", "hints", "events", "numbers", "malformed", "silent", "exit")


def with_liar(system, lie, monkeypatch):
    """Restarted with this mover."""
    monkeypatch.setenv("LPM_LIE", lie)
    system.kill()
    system.config.write_text(system.config.read_text().replace(f"program = {MOVER}", f"program = {LIAR}"))
    system.start()


def harassed(system, seconds):
    """Its lpm-host answers all the time; the slowest answer."""
    slowest, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        before = time.monotonic()
        system.call("partition-list")
        slowest = max(slowest, time.monotonic() - before)
        time.sleep(0.02)
    return slowest


@pytest.mark.parametrize("lie", ["flood", *(pytest.param(lie, marks=pytest.mark.long) for lie in LIES if lie != "flood")])
def test_of_the_source(pair, lie, monkeypatch):
    pair.create()
    with_liar(pair.a, lie, monkeypatch)
    pair.begin(pair.a, pair.b, connect_timeout_ms=3000, link_retry_ms=0)
    slowest = harassed(pair.a, 3)
    if lie in ("events", "numbers"):  # nothing that ends a move by itself: it does not get on, and is stopped
        with contextlib.suppress(RpcError):  # it was over already
            pair.a.call("migration-stop", migration=pair.migration)
    pair.ends(pair.a, "aborted")
    assert slowest < 1.5, f"{slowest:.2f} s"
    wait_for(lambda: pair.states()[0] == "running", "the partition runs at the source")
    pair.says_more(pair.a)
    wait_for(lambda: pair.states()[1] is None, "nothing is left at the target")
    pair.judge(pair.a)


@pytest.mark.long
@pytest.mark.parametrize("lie", LIES)
def test_of_the_target(pair, lie, monkeypatch):
    pair.create()
    with_liar(pair.b, lie, monkeypatch)
    try:
        pair.begin(pair.a, pair.b, connect_timeout_ms=3000, link_retry_ms=0)
    except RpcError:
        pass  # it may be over before the source has begun
    assert harassed(pair.b, 3) < 1.5
    wait_for(lambda: pair.states()[0] == "running", "the partition runs at the source")
    pair.says_more(pair.a)
    wait_for(lambda: pair.states()[1] is None, "nothing is left at the target")
    pair.judge(pair.a)


def test_another_partitions_disk_does_not_come_along(pair):
    """A source that says its partition was built with a disk that another one has at the target."""
    other = pair.create("p2", start=False)
    pair.b.call("partition-create", profile={**other, "uuid": "6c1e4b6e-0000-4000-8000-000000000009", "name": "p3"})
    pair.create("p1")
    shown = pair.a.call("partition-show", partition="p1")

    def prepare(move, **changes):
        runtime = {**shown["runtime"], "profile": {**shown["runtime"]["profile"], **changes}}
        pair.b.call("migration-prepare", migration=move * 32, source="sys-a", profile=shown["profile"], runtime=runtime, active=True,
                    key="cd" * 32, options={})
    with pytest.raises(Exception, match="p2.img of pool shared, belongs to partition p3 here"):
        prepare("a", disks=other["disks"])
    wait_for(lambda: pair.states()[1] is None, "the refused one is gone")
    with pytest.raises(Exception, match="its runtime says UUID"):
        prepare("b", uuid=other["uuid"])
    wait_for(lambda: pair.states()[1] is None, "the refused one is gone")
    assert [p["name"] for p in pair.b.call("partition-list")["partitions"]] == ["p3"]
