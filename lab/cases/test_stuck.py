# SPDX-License-Identifier: Apache-2.0
"""What neither dies nor works: stopped movers, an arbiter that is away, a console that is away; and what the user is told."""

import json
import os
import signal
import subprocess

import pytest

from installation import program
from lablib import wait_for
from tidy import both_finished, half, movers, moves_again, nothing_left
from witness import Witness

BLACKOUT = ("switchover", "verify", "commit")
SLOW = 12_000_000  # bytes/s: the copy of such a partition then takes some seconds


@pytest.fixture(scope="module")
def sitter(lab):
    """A partition that many of these cases use; none of them harms it."""
    return lab.create("system-a", "sitter", "x86-64", 100)


@pytest.fixture
def watched(lab, sitter):
    witness = Witness(lab, sitter)
    yield witness
    witness.end()


def ends(lab, partition):
    """(source, target) of a move away from where it is."""
    source = lab.where(partition.name)
    return source, next(system for system in lab.systems if system != source)


def begin(lab, partition, target, until, **options):
    migration = lab.migrate(partition.name, target, wait=False, **{"max_rate": SLOW, **options})
    lab.wait_for_migration(migration, 30, until)
    return migration


def copying(status):
    return status["phase"] == "copy" and status["stream_bytes"] > 1_000_000


def failed_at_the_source(lab, partition, migration, source):
    both_finished(lab, migration)
    status = lab.wait_for_migration(migration, 30)
    assert status["state"] == "failed", json.dumps(status)[:3000]
    nothing_left(lab, partition, source)
    return status


@pytest.mark.parametrize("which", ["source", pytest.param("target", marks=pytest.mark.long)])
def test_mover_is_stopped_in_mid_copy(lab, sitter, watched, which):
    source, target = ends(lab, sitter)
    migration = begin(lab, sitter, target, copying)
    for pid in movers(lab, source if which == "source" else target):
        os.kill(pid, signal.SIGSTOP)
    status = failed_at_the_source(lab, sitter, migration, source)
    assert status["error"]["message"]
    watched.judge()


@pytest.mark.parametrize("which", [pytest.param("source", marks=pytest.mark.long), "target"])
def test_mover_is_stopped_in_the_switchover(lab, sitter, watched, which):
    """The comparison of memory makes the blackout long enough to hit it. Either side may win, but only one."""
    source, target = ends(lab, sitter)
    migration = lab.migrate(sitter.name, target, wait=False)

    def in_blackout():
        seen = half(lab, source, migration)
        return seen and (seen["finished"] or seen["phase"] in BLACKOUT)
    wait_for(in_blackout, 60, "the switchover", 0.005)
    stopped = movers(lab, source if which == "source" else target)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    both_finished(lab, migration)
    status = lab.wait_for_migration(migration, 30)
    assert stopped, "the move was over before its mover could be stopped"
    nothing_left(lab, sitter, target if status["state"] == "completed" else source)
    watched.judge()
    moves_again(lab, sitter)


@pytest.mark.parametrize("which", ["source", pytest.param("target", marks=pytest.mark.long)])
def test_cable_is_cut_in_the_switchover(lab, sitter, watched, which):
    """The record is on the storage, which both still reach: it says who runs the partition."""
    source, target = ends(lab, sitter)
    place = source if which == "source" else target
    migration = lab.migrate(sitter.name, target, wait=False)
    wait_for(lambda: (seen := half(lab, source, migration)) and (seen["finished"] or seen["phase"] in BLACKOUT), 60,
             "the switchover", 0.005)
    lab.link(place, "down")
    try:
        halves = both_finished(lab, migration)
    finally:
        lab.link(place, "up")
    lab.wait_for_system(place)
    status = lab.wait_for_migration(migration, 60)
    assert {seen["outcome"] for seen in halves.values()} == {"completed" if status["state"] == "completed" else "aborted"}
    nothing_left(lab, sitter, target if status["state"] == "completed" else source)
    watched.judge()
    moves_again(lab, sitter)


def test_emulator_is_stopped_at_the_target(lab, sitter, watched):
    source, target = ends(lab, sitter)
    migration = begin(lab, sitter, target, copying)
    pid = lab.emulators(sitter.name)[target][0]
    os.kill(pid, signal.SIGSTOP)
    lab.lpm("migration", "stop", migration, check=False)
    both_finished(lab, migration)
    nothing_left(lab, sitter, source)
    assert lab.wait_for_migration(migration, 30)["state"] in ("stopped", "failed")
    watched.judge()


def test_the_move_needs_no_console(lab, sitter, watched):
    """kill -9 of lpm-console in mid copy: the move ends well without it, and it knows so when it is back."""
    source, target = ends(lab, sitter)
    migration = begin(lab, sitter, target, copying)
    os.kill(lab.pid("lpm-console"), signal.SIGKILL)
    wait_for(lambda: "lpm-console" not in lab.recorded_processes(), 10, "end of lpm-console")
    try:
        halves = both_finished(lab, migration, 90)
        assert {place: seen["outcome"] for place, seen in halves.items()} == {source: "completed", target: "completed"}
    finally:
        lab.start_console()
        for place in lab.systems:
            lab.wait_for_system(place)
    status = lab.wait_for_migration(migration, 30)
    assert status["state"] == "completed" and status["blackout_ms"] > 0 and status["verify"]["differing"] == 0, status
    nothing_left(lab, sitter, target)
    watched.judge()


def migrate_in_background(lab, name, target, *words):
    environment = {**lab.environment, "LPM_CONFIG": str(lab.client_file)}
    return subprocess.Popen(lab.argv("console", program("lpm"), "migrate", name, target, "--max-rate", "12M", *words),
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)


def current_migration(lab, name):
    found = lab.rest("GET", f"/v1/migrations?partition={name}&active=true")["migrations"]
    return found[0]["migration"] if found else None


def test_user_is_told_what_happened_and_what_to_do(lab, sitter, watched):
    source, target = ends(lab, sitter)
    child = migrate_in_background(lab, sitter.name, target)
    migration = wait_for(lambda: current_migration(lab, sitter.name), 20, "the move")
    lab.wait_for_migration(migration, 30, copying)
    for pid in movers(lab, target):
        os.kill(pid, signal.SIGKILL)
    out, err = child.communicate(timeout=60)
    assert child.returncode not in (0, 70) and child.returncode > 0, err
    assert "what to do" in err and "mover" in err, err
    assert f"it is on {source}" in out, out
    shown = lab.lpm_json("migration", "show", migration)
    assert shown["state"] == "failed" and shown["error"]["message"] and shown["error"]["remedy"], shown["error"]
    assert shown["error"]["message"] in lab.lpm("migration", "show", migration).stdout
    recovered = lab.lpm_json("migration", "recover", migration)
    assert recovered["finished"] and recovered["state"] == "failed", recovered
    nothing_left(lab, sitter, source)
    moves_again(lab, sitter)
    watched.judge()


def test_user_follows_a_stop_by_another_user(lab, sitter, watched):
    source, target = ends(lab, sitter)
    child = migrate_in_background(lab, sitter.name, target, "--json")
    migration = wait_for(lambda: current_migration(lab, sitter.name), 20, "the move")
    lab.wait_for_migration(migration, 30, copying)
    second = lab.lpm("migrate", sitter.name, target, check=False)
    assert second.returncode in (5, 6) and sitter.name in second.stderr, "a second move of the same partition"
    assert f"is on {source}" in lab.lpm("migration", "stop", migration).stdout
    out, _err = child.communicate(timeout=60)
    assert child.returncode == 17
    assert json.loads(out)["state"] == "stopped"
    again = lab.lpm("migration", "stop", migration, check=False)
    assert again.returncode == 5 and migration in again.stderr, "it cannot be stopped twice"
    both_finished(lab, migration)
    nothing_left(lab, sitter, source)
    watched.judge()


def test_partition_is_busy_while_it_moves(lab, sitter, watched):
    source, target = ends(lab, sitter)
    migration = begin(lab, sitter, target, copying)
    for words in (["stop", sitter.name, "--hard"], ["restart", sitter.name], ["delete", sitter.name],
                  ["change", sitter.name, "memory_mib=128"]):
        run = lab.lpm("partition", *words, check=False)
        assert run.returncode in (5, 6) and sitter.name in run.stderr, (words, run.stderr)
    lab.lpm("migration", "stop", migration)
    both_finished(lab, migration)
    nothing_left(lab, sitter, source)
    watched.judge()


def test_arbiter_of_the_console_is_away_at_the_switchover(lab):
    """Such a partition needs the console for its handover: the switchover waits for it, and the partition runs on meanwhile."""
    partition = lab.create("system-a", "judged", "x86-64", 101, arbiter="console")
    witness = Witness(lab, partition)
    try:
        findings = lab.lpm_json("validate", partition.name, "system-b", check=False)["results"][0]["findings"]
        assert not any(finding["severity"] == "error" for finding in findings), findings
        assert any("console" in json.dumps(finding) for finding in findings), "that the console must be up is not said"
        migration = begin(lab, partition, "system-b", copying)
        os.kill(lab.pid("lpm-console"), signal.SIGKILL)
        wait_for(lambda: "lpm-console" not in lab.recorded_processes(), 10, "end of lpm-console")
        try:
            wait_for(lambda: "switchover held back" in lab.log("lpm-host-system-a"), 60, "the switchover held back", 0.2)
            assert half(lab, "system-a", migration)["journal"] == "precopy"
            assert witness.still_running()
        finally:
            lab.start_console()
            for place in lab.systems:
                lab.wait_for_system(place)
        both_finished(lab, migration)
        assert lab.wait_for_migration(migration, 30)["state"] == "completed"
        nothing_left(lab, partition, "system-b")
        witness.judge()
    finally:
        witness.end()
        lab.delete(partition)
