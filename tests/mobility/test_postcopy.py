# SPDX-License-Identifier: Apache-2.0
"""Post-copy: the partition goes on at the target before its memory is there, and there is no way back."""
import contextlib
import json
import os
import secrets
import signal
import socket
import time

import pytest

from hosts import NOISE, LockedRecord, RpcError, needs_crash_points, state_of, wait_for

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


class Monitor:
    """The source's QEMU, by its second monitor: the first is lpm-host's."""

    def __init__(self, pair):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(pair.a.run / "partitions" / pair.profile["uuid"] / "qmp2.sock"))
        self.lines, self.events = self.socket.makefile("r"), []
        self.lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command):
        self.socket.sendall(json.dumps({"execute": command}).encode() + b"\n")
        while "return" not in (line := json.loads(self.lines.readline())):
            self.events.append(line["event"])
        return line["return"]

    def has_given_all(self):
        """QEMU has written the last page, and waits for the target to say that it has come."""
        before = self.ask("query-migrate")
        time.sleep(0.2)
        now = self.ask("query-migrate")
        return now["status"] == "postcopy-active" and now["ram"]["transferred"] == before["ram"]["transferred"]

    def events_to_its_end(self):
        self.events += [event["event"] for event in map(json.loads, self.lines) if "event" in event]
        return self.events


def test_target_is_gone_for_good(pair):
    """It owns the partition, and its memory at the source is of no use to anybody: the source is rid of it, and never lets it run."""
    pair.create(program=NOISE)
    pair.begin(pair.a, pair.b, postcopy=True, **SLOWLY)
    phase(pair, pair.b, "fill")
    def rid_of_it():
        if pair.finished(pair.a):  # QEMU had given everything, and calls the move failed
            return True
        if pair.status(pair.a)["sees"] != {"record": "target", "qemu": "serving"}:
            return False
        with contextlib.suppress(RpcError):  # its mover has not noticed yet
            pair.a.word(pair.migration, "target-off", "target sys-b is off")
        return False
    monitor = Monitor(pair)
    wait_for(monitor.has_given_all, "all is given")
    for qemu in pair.b.qemu_pids():
        os.kill(qemu, signal.SIGSTOP)  # or it would say that it has ended
    pair.b.kill()
    for qemu in pair.b.qemu_pids():
        os.kill(qemu, signal.SIGKILL)
    wait_for(rid_of_it, "the source to be rid of it")
    assert "RESUME" not in monitor.events_to_its_end()
    pair.ends(pair.a, "completed")
    assert pair.a.qemu_pids() == []
    pair.b.start()
    pair.ends(pair.b, "completed")
    pair.b.call("partition-start", partition="p1")
    assert pair.states() == [None, "running"]


@pytest.mark.parametrize("point", ["src-hold-before", "src-hold-after"])
def test_source_dies_while_it_holds_the_partition(pair, point):
    """It was stopped for a post-copy that never began: it runs on once lpm-host is back, and moves."""
    needs_crash_points()
    pair.create(program=NOISE)
    pair.a.start_with(point)
    pair.begin(pair.a, pair.b, postcopy=True, **NEVER)
    pair.a.dies()
    pair.a.start()
    pair.ends(pair.a, "aborted")
    pair.ends(pair.b, "aborted")
    assert pair.states() == ["running", None]
    pair.move(pair.a, pair.b, max_blackout_ms=20000)


def test_target_dies_while_the_partition_is_held(pair):
    """Nothing was offered: it runs on at once, also while its record's keeper does not answer."""
    needs_crash_points()
    pair.create(program=NOISE)
    pair.a.start_with("src-hold-after,stop")
    pair.begin(pair.a, pair.b, postcopy=True, **NEVER)
    wait_for(lambda: state_of(pair.a.process) == "T", "it stands still")
    lock = LockedRecord(pair)
    try:
        pair.b.kill()
        os.kill(pair.a.process.pid, signal.SIGCONT)
        wait_for(lambda: pair.status(pair.a)["error"], "the loss")
        wait_for(lambda: pair.a.call("partition-list")["partitions"][0]["state"] == "running", "it runs on")
        assert not pair.finished(pair.a), "its record could not be written"
    finally:
        lock.release()
    pair.b.start()
    pair.ends(pair.a, "aborted")
    pair.ends(pair.b, "aborted")
    assert pair.states() == ["running", None]
