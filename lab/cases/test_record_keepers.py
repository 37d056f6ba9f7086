# SPDX-License-Identifier: Apache-2.0
"""Ownership records kept by etcd, or on a lock LUN of tgt, both in the namespace `san`: validation, moves, and the keeper away."""

import json
import os
import signal

import pytest
from keepers import SERVERS, groups
from lablib import wait_for
from tidy import half
from witness import Witness

SLOW = 12_000_000  # bytes/s: the copy takes some seconds


@pytest.fixture(scope="module")
def keepers(lab):
    for _, start in SERVERS.values():
        start(lab)
    for place in lab.systems:
        lab.start_host_again(place, groups(lab, place))
    return {arbiter: lab.pid(process) for arbiter, (process, _) in SERVERS.items()}


def findings(lab, partition):
    return lab.lpm_json("validate", partition.name, "system-b", check=False)["results"][0]["findings"]


def errors(lab, partition):
    """Findings about the record; that it is slow says nothing on a busy machine."""
    return [one for one in findings(lab, partition) if "arbiter" in one["check"] and one["severity"] == "error"]


@pytest.mark.parametrize("arbiter", ["etcd", pytest.param("scsi", marks=pytest.mark.long)])
def test_move_with_the_keeper_away_for_a_while(lab, create, keepers, arbiter):
    partition = create("system-a", f"kept-{arbiter}", "x86-64", 111 if arbiter == "etcd" else 112, arbiter=arbiter)
    assert not errors(lab, partition)
    witness = Witness(lab, partition)
    try:
        migration = lab.migrate(partition.name, "system-b", wait=False, max_rate=SLOW)
        lab.wait_for_migration(migration, 30, lambda status: status["phase"] == "copy" and status["stream_bytes"] > 1_000_000)
        said = lab.log("lpm-host-system-a").count("switchover held back")
        os.kill(keepers[arbiter], signal.SIGSTOP)
        try:
            wait_for(lambda: lab.log("lpm-host-system-a").count("switchover held back") > said, 60, "the switchover held back", 0.2)
            assert half(lab, "system-a", migration)["journal"] == "precopy"
            assert witness.still_running()
        finally:
            os.kill(keepers[arbiter], signal.SIGCONT)
        assert lab.wait_for_migration(migration, 60)["state"] == "completed"
        assert lab.where(partition.name) == "system-b"
        witness.judge()
    finally:
        witness.end()


def test_another_keeper_is_found_by_validation(lab, create, keepers):
    """The target looks into an etcd, or at a place in it, that knows nothing of the partition."""
    partition = create("system-a", "elsewhere", "x86-64", 113, arbiter="etcd")
    lab.lpm("partition", "stop", partition.name)
    changes = groups(lab, "system-b")
    changes["arbiter:etcd"]["prefix"] = "/elsewhere/"
    lab.start_host_again("system-b", changes)
    try:
        found = [one for one in findings(lab, partition) if one["check"] == "general.arbiter"]
        assert len(found) == 1 and "[arbiter:etcd]" in json.dumps(found), found
    finally:
        lab.start_host_again("system-b", groups(lab, "system-b"))
    assert not errors(lab, partition)
