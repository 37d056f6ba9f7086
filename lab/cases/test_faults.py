# SPDX-License-Identifier: Apache-2.0
"""Whatever dies in the middle of a move: the partition runs, once, and the move ends in a clean state on both sides."""

import dataclasses
import os
import signal

import pytest

from installation import Partition
from lablib import wait_for
from tidy import both_finished, half, movers, moves_again, nothing_left
from witness import Witness

SLOW = 12_000_000  # bytes/s: the copy of such a partition then takes some seconds


@dataclasses.dataclass
class Moving:
    partition: Partition
    witness: Witness
    migration: str
    source: str
    target: str

    def __getitem__(self, side):
        return {"source": self.source, "target": self.target}[side]


@pytest.fixture(scope="module")
def runner(lab):
    """One partition for all cases: each of them leaves it running somewhere."""
    return lab.create("system-a", "runner", "x86-64", 70)


@pytest.fixture
def moving(lab, runner):
    """moving(): the partition in the middle of its copy to the other system, with a witness."""
    witnesses = []

    def begin(**options):
        source = lab.where(runner.name)
        target = next(place for place in lab.systems if place != source)
        witnesses.append(Witness(lab, runner))
        migration = lab.migrate(runner.name, target, wait=False, max_rate=SLOW, **options)
        lab.wait_for_migration(migration, 30, lambda s: s["phase"] == "copy" and s["stream_bytes"] > 1_000_000)
        return Moving(runner, witnesses[-1], migration, source, target)
    yield begin
    for witness in witnesses:
        witness.end()


def ended(lab, move, *states):
    """Both systems have nothing left to do; returns the console's final status, and checks that all is clean."""
    both_finished(lab, move.migration)
    status = lab.wait_for_migration(move.migration, 60)
    assert status["state"] in states, status
    if status["state"] != "completed":
        assert status["error"]["message"], status
    nothing_left(lab, move.partition, move.target if status["state"] == "completed" else move.source)
    return status


def kill_host(lab, place):
    os.kill(lab.pid(f"lpm-host-{place}"), signal.SIGKILL)
    wait_for(lambda: f"lpm-host-{place}" not in lab.recorded_processes(), 10, f"end of lpm-host on {place}")


def test_stop(lab, moving):
    move = moving()
    lab.lpm("migration", "stop", move.migration)
    ended(lab, move, "stopped")
    moves_again(lab, move.partition)
    move.witness.judge()


@pytest.mark.parametrize("side", ["source", "target"])
def test_mover_is_killed(lab, moving, side):
    move = moving()
    found = movers(lab, move[side])
    assert found, "no mover while a move is under way"
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    ended(lab, move, "failed")
    moves_again(lab, move.partition)
    move.witness.judge()


@pytest.mark.parametrize("side", ["source", "target"])
def test_lpm_host_is_killed(lab, moving, side):
    move = moving()
    kill_host(lab, move[side])
    assert move.witness.still_running()
    lab.start_host(move[side])
    lab.wait_for_system(move[side])
    ended(lab, move, "failed")
    moves_again(lab, move.partition)
    move.witness.judge()


def test_both_lpm_hosts_are_killed(lab, moving):
    move = moving()
    for place in lab.systems:
        kill_host(lab, place)
    assert move.witness.still_running()
    for place in lab.systems:
        lab.start_host(place)
    for place in lab.systems:
        lab.wait_for_system(place)
    ended(lab, move, "failed")
    moves_again(lab, move.partition)
    move.witness.judge()


def test_lpm_console_is_killed_and_comes_back(lab, moving):
    move = moving()
    os.kill(lab.pid("lpm-console"), signal.SIGKILL)
    wait_for(lambda: "lpm-console" not in lab.recorded_processes(), 10, "end of lpm-console")
    assert move.witness.still_running()
    lab.start_console()
    for place in lab.systems:
        lab.wait_for_system(place)
    ended(lab, move, "completed")
    move.witness.judge()


def test_emulator_at_the_target_is_killed(lab, moving):
    move = moving()
    os.kill(lab.emulators(move.partition.name)[move.target][0], signal.SIGKILL)
    ended(lab, move, "failed")
    moves_again(lab, move.partition)
    move.witness.judge()


def test_link_is_cut_for_good(lab, moving):
    move = moving(connect_timeout_ms=3000, link_retry_ms=2000)
    lab.link(move.target, "down")
    try:
        wait_for(lambda: half(lab, move.source, move.migration)["finished"], 60, "the source gives up", 0.2)
        assert len(lab.emulators(move.partition.name).get(move.source, [])) == 1 and move.witness.still_running()
    finally:
        lab.link(move.target, "up")
    lab.wait_for_system(move.target)
    ended(lab, move, "failed")
    moves_again(lab, move.partition)
    move.witness.judge()


def test_recovery_by_hand_changes_nothing_that_is_clean(lab, moving):
    move = moving()
    kill_host(lab, move.target)
    lab.start_host(move.target)
    lab.wait_for_system(move.target)
    both_finished(lab, move.migration)
    for words in ((), ("--target-fenced", "--say", f"target {move.target} is off")):
        lab.lpm("migration", "recover", move.migration, *words, check=False)
        ended(lab, move, "failed")
    move.witness.judge()


def test_emulator_at_the_source_is_killed(lab, moving):
    """The partition itself dies: it must not come up on the other side from half a copy, and can be started again."""
    move = moving()
    name = move.partition.name
    os.kill(lab.emulators(name)[move.source][0], signal.SIGKILL)
    both_finished(lab, move.migration)
    assert lab.wait_for_migration(move.migration, 60)["state"] == "failed"
    wait_for(lambda: lab.emulators(name) == {}, 10, "no QEMU left")
    wait_for(lambda: not movers(lab), 10, "no mover left")
    assert lab.rest("GET", f"/v1/partitions/{name}")["state"] in ("error", "not-activated")
    assert lab.where(name) == move.source
    lab.boot(move.partition)
    nothing_left(lab, move.partition, move.source)
    assert not move.witness.still_running(), "it was booted anew, not continued"
    move.witness.end()
    moves_again(lab, move.partition)
