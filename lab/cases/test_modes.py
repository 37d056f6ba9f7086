# SPDX-License-Identifier: Apache-2.0
"""Processor compatibility modes with real POWER partitions: system-a is a POWER8 server, system-b a POWER9 one."""

import pytest

from installation import Refused
from witness import Witness, runs_once


def shown_mode(lab, partition):
    return lab.lpm_json("partition", "show", partition.name)["current_mode"]


def seen_from_inside(lab, partition):
    return lab.partition_status(partition.address)["platform"]


def test_mode_stays_over_a_move_and_rises_at_the_restart(lab, create):
    partition = create("system-a", "riser", "power", 40)
    assert (shown_mode(lab, partition), seen_from_inside(lab, partition)) == ("POWER8", "power8")
    witness = Witness(lab, partition)
    try:
        assert lab.migrate(partition.name, "system-b")["state"] == "completed"
        assert (shown_mode(lab, partition), seen_from_inside(lab, partition)) == ("POWER8", "power8")
        witness.judge()
    finally:
        witness.end()
    lab.lpm("partition", "restart", partition.name)
    lab.wait_for_partition(partition.address)
    assert seen_from_inside(lab, partition) == "power9"
    assert shown_mode(lab, partition).startswith("POWER9")
    # Now it is in a mode that the older server lacks.
    with pytest.raises(Refused) as refused:
        status = lab.migrate(partition.name, "system-a")
        raise Refused({"class": "refused", "findings": status["findings"], "message": status["state"]})
    findings = [f for f in refused.value.findings if f["severity"] == "error"]
    assert any("POWER9" in str(f) for f in findings), findings
    assert lab.where(partition.name) == "system-b"
    runs_once(lab, partition, "system-b")


def test_preferred_mode_keeps_the_way_back_open(lab, create):
    partition = create("system-b", "returner", "power", 41, preferred_mode="POWER8")
    assert (shown_mode(lab, partition), seen_from_inside(lab, partition)) == ("POWER8", "power8")
    witness = Witness(lab, partition)
    try:
        assert lab.migrate(partition.name, "system-a")["state"] == "completed"
        assert (shown_mode(lab, partition), seen_from_inside(lab, partition)) == ("POWER8", "power8")
        witness.judge()
    finally:
        witness.end()


def test_two_processors_on_power_are_refused_with_the_reason(lab, create):
    """This emulator would hang such a partition: the table in data/ says so, and the finding repeats why. Emulated with two
    processors it does not even boot every time, and what is tested needs no guest."""
    partition = create("system-a", "pair", "power", 42, processors=2, start=False)
    lab.rest("POST", "/v1/partitions/pair/start", {})
    run = lab.lpm("validate", partition.name, "system-b", check=False)
    assert run.returncode == 7, run.stdout + run.stderr
    assert "server.emulator-safe" in run.stdout and "processor" in run.stdout, run.stdout
    runs_once(lab, partition, "system-a")
