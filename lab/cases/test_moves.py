# SPDX-License-Identifier: Apache-2.0
"""Partitions that move, with somebody watching."""

import pytest

from lablib import wait_for
from tidy import command_name, movers, nothing_left, taps
from witness import Witness, runs_once

FIELDS = {"migration": str, "partition": str, "source": str, "target": str, "state": str, "stream_bytes": int,
          "wire_bytes": int, "total_ms": (int, float), "blackout_ms": (int, float), "phases": list}


def check_result(result, source, target):
    for name, kind in FIELDS.items():
        assert isinstance(result[name], kind), (name, result[name])
    assert (result["state"], result["source"], result["target"]) == ("completed", source, target)
    # Coding never makes more of it than frames and TLS would.
    assert 0 < result["wire_bytes"] <= 1.05 * result["stream_bytes"] + 1_000_000
    assert 0 < result["blackout_ms"] <= result["total_ms"]
    assert [phase["name"] for phase in result["phases"]][:3] == ["prepare", "copy", "switchover"]
    assert result["verify"]["pages"] > 0 and result["verify"]["differing"] == 0, result["verify"]


@pytest.mark.parametrize("family, number", [("x86-64", 30), ("power", 31)])
def test_there_and_back(lab, create, family, number):
    partition = create("system-a", f"move-{family}", family, number)
    witness = Witness(lab, partition)
    try:
        check_result(lab.lpm_json("migrate", partition.name, "system-b", "--verify"), "system-a", "system-b")
        assert lab.where(partition.name) == "system-b"
        runs_once(lab, partition, "system-b")
        check_result(lab.lpm_json("migrate", partition.name, "system-a", "--verify"), "system-b", "system-a")
        runs_once(lab, partition, "system-a")
        witness.judge()
    finally:
        witness.end()


def move_many_times(lab, create, moves, number):
    partition = create("system-a", f"many-{moves}", "x86-64", number, kernel_options="lpm.rate=20")
    witness = Witness(lab, partition)
    try:
        for move in range(moves):
            target = "system-b" if move % 2 == 0 else "system-a"
            result = lab.migrate(partition.name, target)
            reasons = [finding for finding in result["findings"] or [] if finding["severity"] == "error"]
            assert result["state"] == "completed", (move, result["state"], result["error"], reasons)
            assert result["verify"]["differing"] == 0, (move, result["verify"])
            runs_once(lab, partition, target)
        witness.judge()
    finally:
        witness.end()


def test_six_moves_in_a_row(lab, create):
    move_many_times(lab, create, 6, 32)


def test_pending_interrupts_of_a_busy_power_partition_arrive(lab, create):
    """Stopped at any moment, its disk has just finished something: docs/decisions/redeliver-interrupts.md."""
    partition = create("system-a", "busy", "power", 46, kernel_options="lpm.journal=200")
    witness = Witness(lab, partition, period_ms=4)
    try:
        for move in range(4):
            target = "system-b" if move % 2 == 0 else "system-a"
            assert lab.migrate(partition.name, target)["state"] == "completed"
            before = lab.partition_status(partition.address, 10)["journal_acknowledged"]
            wait_for(lambda: lab.partition_status(partition.address)["journal_acknowledged"] > before, 10, "disk after the move")
        witness.judge()
    finally:
        witness.end()


@pytest.mark.long
def test_fifty_moves_in_a_row(lab, create):
    move_many_times(lab, create, 50, 33)


def test_qcow2_disk(lab, create):
    partition = create("system-a", "qcow", "x86-64", 34, disks=[
        {"name": "disk0", "pool": "san", "file": "qcow.qcow2", "format": "qcow2", "size_mib": 16}])
    witness = Witness(lab, partition)
    try:
        assert lab.migrate(partition.name, "system-b")["state"] == "completed"
        witness.judge()
    finally:
        witness.end()


def test_two_partitions_at_once(lab, create):
    partitions = [create("system-a", f"twin-{n}", "x86-64", 35 + n) for n in range(2)]
    witnesses = [Witness(lab, partition) for partition in partitions]
    try:
        migrations = [lab.migrate(partition.name, "system-b", wait=False) for partition in partitions]
        for migration in migrations:
            assert lab.wait_for_migration(migration)["state"] == "completed"
        for witness in witnesses:
            witness.judge()
    finally:
        for witness in witnesses:
            witness.end()


def test_console_arbiter(lab, create):
    partition = create("system-a", "by-console", "x86-64", 37, arbiter="console")
    witness = Witness(lab, partition)
    try:
        assert lab.migrate(partition.name, "system-b")["state"] == "completed"
        witness.judge()
    finally:
        witness.end()
    assert not list(lab.dir.glob(f"san/.lpm/{lab.rest('GET', '/v1/partitions/by-console')['profile']['uuid']}.record"))


def test_partition_that_is_not_activated_moves_too(lab, create):
    partition = create("system-a", "asleep", "x86-64", 38)
    lab.lpm("partition", "stop", partition.name)
    assert lab.migrate(partition.name, "system-b", verify=False)["state"] == "completed"
    assert lab.where(partition.name) == "system-b"
    lab.boot(partition)
    runs_once(lab, partition, "system-b")


def test_partition_without_disks(lab, create):
    """Nothing of it is on common storage, so the console keeps its ownership record."""
    partition = create("system-a", "diskless", "x86-64", 43, disks=[], kernel_options="lpm.journal=0")
    before = lab.partition_status(partition.address)
    status = lab.migrate(partition.name, "system-b")
    assert status["state"] == "completed" and status["verify"]["differing"] == 0, status
    nothing_left(lab, partition, "system-b")
    after = lab.wait_for_partition(partition.address)
    assert after["boot_id"] == before["boot_id"] and after["memory_errors"] == 0


def everything(lab):
    """What a refused or merely validated move must not change: files, processes, taps, profiles, records."""
    files = {str(path): path.stat().st_mtime_ns for path in lab.dir.rglob("*.record")}
    files |= {str(path): 0 for part in ("san", *(f"{place}/{kind}" for place in lab.systems for kind in ("local", "run")))
              for path in (lab.dir / part).rglob("*")}
    processes = {place: sorted(pid for pid in lab.processes_at(place) if command_name(pid) != "ip") for place in lab.systems}
    profiles = {place: lab.host_rpc(place, "partition-list") for place in lab.systems}
    return files, processes, {place: taps(lab, place) for place in lab.systems}, profiles


def test_validation_of_a_healthy_move_is_quick_and_changes_nothing(lab, create):
    partition = create("system-a", "healthy", "x86-64", 39)
    before = everything(lab)
    result = lab.lpm_json("validate", partition.name, "system-b", "--no-measure")["results"][0]
    assert result["verdict"] in ("ok", "warning"), result
    assert result["ms"] < 2000, "validation of a healthy move is promised within 2 s"
    wait_for(lambda: not movers(lab), 10, "the probing movers' end")
    assert everything(lab) == before
    every = lab.lpm_json("validate", partition.name, "--all-targets")["results"]
    assert [found["target"] for found in every] == ["system-b"]
