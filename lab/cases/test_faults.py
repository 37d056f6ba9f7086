# SPDX-License-Identifier: Apache-2.0
"""Whatever dies in the middle of a move: the partition runs, once, and the move ends in a clean state on both sides."""

import os
import pathlib
import signal

import pytest

from installation import Refused
from lablib import wait_for
from witness import Witness, runs_once

SLOW = 12_000_000  # bytes/s: the copy of such a partition then takes some seconds


@pytest.fixture
def moving(lab, create):
    """moving(name, number): a witnessed partition in the middle of its copy to system-b."""
    witnesses = []

    def begin(name, number, **options):
        partition = create("system-a", name, "x86-64", number)
        witnesses.append(Witness(lab, partition))
        migration = lab.migrate(partition.name, "system-b", wait=False, max_rate=SLOW, **options)
        lab.wait_for_migration(migration, 30, lambda s: s["phase"] == "copy" and s["stream_bytes"] > 1_000_000)
        return partition, witnesses[-1], migration
    yield begin
    for witness in witnesses:
        witness.end()


def clean_on_both_sides(lab, migration, timeout=60):
    """Both systems call the move finished; returns the console's final status."""
    def finished(place):
        try:
            return lab.host_rpc(place, "migration-query", migration=migration)["finished"]
        except Refused as error:
            return error.error_class == "not-found"
    for place in ("system-a", "system-b"):
        wait_for(lambda place=place: finished(place), timeout, f"migration {migration} finished on {place}", 0.2)
    return lab.wait_for_migration(migration, timeout)


def command_name(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def still_moves(lab, partition, target="system-b"):
    """Afterwards everything works as before."""
    status = lab.migrate(partition.name, target)
    assert status["state"] == "completed", status


def test_stop(lab, moving):
    partition, witness, migration = moving("stopped", 70)
    lab.lpm("migration", "stop", migration)
    status = clean_on_both_sides(lab, migration)
    assert status["state"] == "stopped"
    runs_once(lab, partition, "system-a")
    still_moves(lab, partition)
    witness.judge()


@pytest.mark.parametrize("place, number", [("system-a", 71), ("system-b", 72)])
def test_mover_is_killed(lab, moving, place, number):
    partition, witness, migration = moving(f"mover-{place}", number)
    movers = [pid for pid in lab.processes_at(place) if command_name(pid) == "lpm-mover"]
    assert movers, "no mover while a move is under way"
    for pid in movers:
        os.kill(pid, signal.SIGKILL)
    status = clean_on_both_sides(lab, migration)
    assert status["state"] == "failed" and status["error"]["message"], status
    runs_once(lab, partition, "system-a")
    still_moves(lab, partition)
    witness.judge()


@pytest.mark.parametrize("place, number", [("system-a", 73), ("system-b", 74)])
def test_lpm_host_is_killed(lab, moving, place, number):
    partition, witness, migration = moving(f"host-{place}", number)
    os.kill(lab.pid(f"lpm-host-{place}"), signal.SIGKILL)
    wait_for(lambda: f"lpm-host-{place}" not in lab.recorded_processes(), 10, "end of lpm-host")
    assert witness.still_running()
    lab.start_host(place)
    lab.wait_for_system(place)
    status = clean_on_both_sides(lab, migration)
    where = "system-b" if status["state"] == "completed" else "system-a"
    assert lab.where(partition.name) == where
    runs_once(lab, partition, where)
    still_moves(lab, partition, "system-a" if where == "system-b" else "system-b")
    witness.judge()


def test_lpm_console_is_killed(lab, moving):
    partition, witness, migration = moving("consoleless", 75)
    os.kill(lab.pid("lpm-console"), signal.SIGKILL)
    wait_for(lambda: "lpm-console" not in lab.recorded_processes(), 10, "end of lpm-console")
    assert witness.still_running()
    lab.start_console()
    for place in lab.systems:
        lab.wait_for_system(place)
    status = clean_on_both_sides(lab, migration)
    where = "system-b" if status["state"] == "completed" else "system-a"
    assert lab.where(partition.name) == where
    runs_once(lab, partition, where)
    witness.judge()


def test_emulator_at_the_target_is_killed(lab, moving):
    partition, witness, migration = moving("targetless", 76)
    os.kill(lab.emulators(partition.name)["system-b"][0], signal.SIGKILL)
    status = clean_on_both_sides(lab, migration)
    assert status["state"] == "failed" and status["error"]["message"]
    runs_once(lab, partition, "system-a")
    still_moves(lab, partition)
    witness.judge()


def test_emulator_at_the_source_is_killed(lab, create):
    """The partition itself dies: it must not come up on the other side from half a copy, and can be started again."""
    partition = create("system-a", "sourceless", "x86-64", 77)
    migration = lab.migrate(partition.name, "system-b", wait=False, max_rate=SLOW)
    lab.wait_for_migration(migration, 30, lambda s: s["phase"] == "copy" and s["stream_bytes"] > 1_000_000)
    os.kill(lab.emulators(partition.name)["system-a"][0], signal.SIGKILL)
    status = clean_on_both_sides(lab, migration)
    assert status["state"] == "failed"
    assert lab.emulators(partition.name) == {}
    lab.lpm("partition", "start", partition.name)
    lab.wait_for_partition(partition.address)
    runs_once(lab, partition, "system-a")


def test_link_is_cut_for_good(lab, moving):
    partition, witness, migration = moving("cut", 78, connect_timeout_ms=3000)
    lab.link("system-b", "down")
    try:
        wait_for(lambda: lab.host_rpc("system-a", "migration-query", migration=migration)["finished"], 60,
                 "the source gives up", 0.2)
        runs_on_a = lab.emulators(partition.name).get("system-a", [])
        assert len(runs_on_a) == 1 and witness.still_running()
    finally:
        lab.link("system-b", "up")
    lab.wait_for_system("system-b")
    clean_on_both_sides(lab, migration)
    runs_once(lab, partition, "system-a")
    still_moves(lab, partition)
    witness.judge()
