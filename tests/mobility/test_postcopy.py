# SPDX-License-Identifier: Apache-2.0
"""Post-copy: the partition goes on at the target before its memory is there, and there is no way back."""
import os
import secrets
import signal
import time

import pytest

from hosts import NOISE, RpcError, wait_for

NEVER = {"max_blackout_ms": 1, "max_rate": 400_000}  # without post-copy it does not converge
SLOWLY = {**NEVER, "max_rate": 100_000}          # for what must come before the memory is there, on a busy machine, too


def phase(pair, system, *wanted):
    return wait_for(lambda: (now := pair.status(system)) and now["phase"] in wanted and now, f"{wanted} at {system.name}")


def arrives(pair):
    pair.ends(pair.a, "completed")
    status = pair.ends(pair.b, "completed")
    assert pair.states() == [None, "running"] and status["error"] is None, status
    return status


def filled(status):
    return "fill" in [one["name"] for one in status["phases"]]


def test_it_arrives(pair):
    """Nothing that the partition says is lost, doubled or repeated. (It may calm down and converge by itself.)"""
    pair.create()
    pair.begin(pair.a, pair.b, postcopy=True, **NEVER)
    arrives(pair)
    pair.tail(pair.b)
    pair.says_more(pair.b)
    pair.judge(pair.a, pair.b)


def test_it_moves_on_as_ever(pair):
    pair.create(program=NOISE)
    pair.begin(pair.a, pair.b, postcopy=True, **NEVER)
    assert filled(arrives(pair))
    pair.begin(pair.b, pair.a, max_blackout_ms=20000)
    pair.ends(pair.b, "completed")
    assert not filled(pair.ends(pair.a, "completed"))


def test_only_after_its_time(pair):
    pair.create(program=NOISE)
    pair.begin(pair.a, pair.b, postcopy_after_s=3, **NEVER)
    began = time.monotonic()
    phase(pair, pair.a, "switchover", "commit", "fill")
    assert time.monotonic() - began > 2
    assert filled(arrives(pair))


def test_no_way_back(pair):
    pair.create(program=NOISE)
    pair.begin(pair.a, pair.b, postcopy=True, **NEVER)
    phase(pair, pair.a, "fill")
    with pytest.raises(RpcError) as refused:
        pair.a.call("migration-stop", migration=pair.migration)
    assert refused.value.error_class == "state"
    arrives(pair)


def test_it_is_not_verified_too(pair):
    pair.create()
    with pytest.raises(RpcError) as refused:
        pair.prepare(pair.a, pair.b, postcopy=True, verify=True)
    assert refused.value.error_class == "usage"


def test_source_qemu_dies_meanwhile(pair):
    """What it still had is lost; that is said, and the partition can be started where it belongs."""
    pair.create(program=NOISE)
    pair.begin(pair.a, pair.b, postcopy=True, **NEVER)
    phase(pair, pair.a, "fill")
    os.kill(pair.a.qemu_pids()[0], signal.SIGKILL)
    pair.ends(pair.a, "completed")
    status = pair.ends(pair.b, "completed")
    assert "is lost" in status["error"]["desc"] and "sys-a" in status["error"]["desc"], status["error"]
    assert pair.states() == [None, "not-activated"] and not pair.b.qemu_pids()
    pair.b.call("partition-start", partition="p1")
    assert pair.states() == [None, "running"]


def test_target_qemu_dies_meanwhile(pair):
    pair.create(program=NOISE)
    pair.begin(pair.a, pair.b, postcopy=True, **NEVER)
    phase(pair, pair.b, "fill")
    os.kill(pair.b.qemu_pids()[0], signal.SIGKILL)
    pair.ends(pair.b, "completed")
    pair.ends(pair.a, "completed")
    assert pair.states()[0] is None and not pair.a.qemu_pids()
    pair.b.call("partition-start", partition="p1")
    assert pair.states() == [None, "running"]


def relink(pair):
    """What the console does when both halves are paused."""
    wait_for(lambda: "paused" in [pair.status(system)["postcopy"] for system in (pair.a, pair.b)], "memory that does not come any more")
    key = secrets.token_hex(32)
    where = pair.b.call("migration-relink-prepare", migration=pair.migration, key=key)
    pair.a.call("migration-relink", migration=pair.migration, key=key, **where)


@pytest.mark.parametrize("who", ["a", "b"])
def test_lpm_host_is_killed_meanwhile(pair, who):
    """Its mover dies with it; the partition waits for its memory until the two QEMUs are connected again."""
    pair.create(program=NOISE)
    pair.begin(pair.a, pair.b, postcopy=True, **NEVER)
    phase(pair, pair.a, "fill")
    with pytest.raises(RpcError) as refused:
        pair.b.call("migration-relink-prepare", migration=pair.migration, key="0" * 64)
    assert refused.value.error_class == "state"
    victim = getattr(pair, who)
    victim.kill()
    victim.start()
    assert "Switch neither system off" in wait_for(lambda: pair.status(pair.b)["error"], "the error")["desc"]
    relink(pair)
    pair.ends(pair.a, "completed")
    status = pair.ends(pair.b, "completed")
    assert status["error"] is None and pair.states() == [None, "running"], status
    pair.move(pair.b, pair.a)


def test_source_is_gone_for_good(pair):
    """The operator says so; then the partition, whose memory is lost, can be started from its disks."""
    pair.create(program=NOISE)
    pair.begin(pair.a, pair.b, postcopy=True, **SLOWLY)
    phase(pair, pair.b, "fill")
    with pytest.raises(RpcError) as refused:
        pair.b.word(pair.migration, "source-off", "source sys-a is off")
    assert refused.value.error_class == "state", "the source answers"
    qemu = pair.a.qemu_pids()[0]
    os.kill(qemu, signal.SIGSTOP)  # or the mover would still bring what QEMU has said
    pair.a.kill()
    wait_for(lambda: pair.status(pair.b)["postcopy"] == "paused" or pair.status(pair.b)["links"]["lost_ms"], "the loss")
    pair.b.word(pair.migration, "source-off", "source sys-a is off")
    status = pair.ends(pair.b, "completed")
    assert "is lost (it is off" in status["error"]["desc"], status["error"]
    pair.b.call("partition-start", partition="p1")
    os.kill(qemu, signal.SIGCONT)
    pair.a.start()
    pair.ends(pair.a, "completed")
    assert pair.states() == [None, "running"]


def test_target_is_gone_for_good(pair):
    """It owns the partition, and its memory at the source is of no use to anybody: somebody says so, and the source is rid of it."""
    pair.create(program=NOISE)
    pair.begin(pair.a, pair.b, postcopy=True, **SLOWLY)
    phase(pair, pair.b, "fill")
    for qemu in pair.b.qemu_pids():
        os.kill(qemu, signal.SIGSTOP)  # or it would say that it has ended
    pair.b.kill()
    for qemu in pair.b.qemu_pids():
        os.kill(qemu, signal.SIGKILL)
    wait_for(lambda: pair.status(pair.a)["sees"] == {"record": "target", "qemu": "serving"}, "the source sees it")
    def given():
        try:
            return pair.a.word(pair.migration, "target-off", "target sys-b is off")
        except RpcError as refused:
            assert refused.error_class == "state"  # its mover has not noticed yet
            return None
    wait_for(given, "the word to be taken")
    pair.ends(pair.a, "completed")
    assert pair.a.qemu_pids() == []
    pair.b.start()
    pair.ends(pair.b, "completed")
    pair.b.call("partition-start", partition="p1")
    assert pair.states() == [None, "running"]
