# SPDX-License-Identifier: Apache-2.0
"""Partitions on one system: their life, and that lpm-host's own life does not touch it."""

import json
import os
import pathlib
import signal
from contextlib import suppress

import pytest

from installation import Refused, ini, program
from lablib import LabError, wait_for
from witness import Witness, runs_once


def state(lab, partition):
    return lab.rest("GET", f"/v1/partitions/{partition.name}")["state"]


@pytest.mark.parametrize("family, number", [("x86-64", 50), ("power", 51)])
def test_life_of_a_partition(lab, create, family, number):
    partition = create("system-a", f"life-{family}", family, number)
    first = lab.partition_status(partition.address)
    shown = lab.lpm_json("partition", "show", partition.name)
    assert (shown["state"], shown["system"]) == ("running", "system-a")
    assert shown["rmc"], "the guest agent's state is shown"
    wait_for(lambda: lab.partition_status(partition.address)["journal_acknowledged"] > 0, 20, "journal")
    lab.lpm("partition", "restart", partition.name)
    second = lab.wait_for_partition(partition.address)
    assert second["boot_id"] != first["boot_id"]
    lab.lpm("partition", "stop", partition.name)
    assert state(lab, partition) == "not-activated"
    assert lab.emulators(partition.name) == {}
    lab.check_journal(partition, second["journal_acknowledged"])
    lab.lpm("partition", "start", partition.name)
    lab.wait_for_partition(partition.address)
    lab.lpm("partition", "stop", partition.name, "--hard")
    assert lab.emulators(partition.name) == {}
    lab.lpm("partition", "delete", partition.name, "--disks")
    assert not partition.disk(lab).exists()
    del lab.partitions[partition.name]


def test_orderly_without_a_guest_agent(lab, create):
    """The power button, then; and a move is not held up by an agent that the profile does not have."""
    partition = create("system-a", "agentless", "x86-64", 57, guest_agent=False)
    status = lab.migrate(partition.name, "system-b")
    assert status["state"] == "completed", status
    assert any(finding["check"] == "partition.no-agent" for finding in status["findings"]), status["findings"]
    lab.lpm("partition", "stop", partition.name)
    assert state(lab, partition) == "not-activated" and lab.emulators(partition.name) == {}


def test_emulator_runs_without_privileges_and_in_its_sandbox(lab, create):
    partition = create("system-a", "boxed", "x86-64", 52)
    pid = lab.emulators(partition.name)["system-a"][0]
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    assert status["Uid"].split()[0] != "0"
    assert int(status["CapEff"], 16) == 0 and status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_killing_lpm_host_does_not_touch_the_partition(lab, create):
    partition = create("system-a", "orphan", "x86-64", 53)
    witness = Witness(lab, partition)
    try:
        pid = lab.emulators(partition.name)["system-a"]
        for _ in range(2):
            os.kill(lab.pid("lpm-host-system-a"), signal.SIGKILL)
            wait_for(lambda: "lpm-host-system-a" not in lab.recorded_processes(), 10, "end of lpm-host")
            assert witness.still_running()
            lab.start_host("system-a")
        wait_for(lambda: lab.rest("GET", "/v1/systems/system-a")["state"] == "connected", 30, "system-a connected")
        assert state(lab, partition) == "running"
        assert lab.emulators(partition.name)["system-a"] == pid
        assert lab.migrate(partition.name, "system-b")["state"] == "completed"
        witness.judge()
    finally:
        witness.end()


def test_death_of_the_emulator_is_noticed_also_while_lpm_host_is_away(lab, create):
    partition = create("system-a", "victim", "x86-64", 54)
    os.kill(lab.emulators(partition.name)["system-a"][0], signal.SIGKILL)
    wait_for(lambda: state(lab, partition) in ("not-activated", "error"), 10, "the death noticed")
    lab.boot(partition)
    os.kill(lab.pid("lpm-host-system-a"), signal.SIGKILL)
    os.kill(lab.emulators(partition.name)["system-a"][0], signal.SIGKILL)
    wait_for(lambda: not lab.recorded_processes().get("lpm-host-system-a"), 10, "end of lpm-host")
    lab.start_host("system-a")
    wait_for(lambda: lab.rest("GET", "/v1/systems/system-a")["state"] == "connected", 30, "system-a connected")
    assert state(lab, partition) in ("not-activated", "error")


def test_emulators_being_probed_end_with_lpm_host(lab, tmp_path):
    """Its first start looks at the emulators by starting them; killed meanwhile, it leaves none behind."""
    (tmp_path / "state").mkdir()
    config = tmp_path / "host.conf"
    config.write_text(ini(lab.host_config("system-b", {
        "system": {"state_dir": tmp_path / "state", "run_dir": lab.dir / "probed"}, "rpc": {"port": 0}})))
    before = set(lab.processes_at("system-b"))
    host = lab.start("system-b", "prober", program("lpm-host"), "--config", config, env=lab.environment)

    def probed():
        with suppress(OSError):
            return any(b"-qmp" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
                       for pid in set(lab.processes_at("system-b")) - before)
    wait_for(probed, 20, "an emulator that is asked over QMP", 0.001)
    host.kill()
    host.wait()
    wait_for(lambda: not set(lab.processes_at("system-b")) - before, 5, "the end of what it had started")


def wrong(profile, **changes):
    return json.loads(json.dumps({**profile, **changes}))


@pytest.mark.parametrize("changes, words", [
    ({"memory_mib": "much"}, "memory_mib"),
    ({"colour": "blue"}, "colour"),
    ({"name": "-rf"}, "name"),
    ({"networks": [{"name": "net0", "switch": "lan"}, {"name": "net0", "switch": "lan"}]}, "net0"),
    ({"disks": [{"name": "disk0", "pool": "san", "file": "../../etc/passwd", "format": "raw"}]}, "file"),
    ({"disks": [{"name": "disk0", "pool": "nowhere", "file": "x.raw", "format": "raw", "size_mib": 1}]}, "nowhere"),
])
def test_bad_profile_is_refused_by_name_and_leaves_nothing(lab, changes, words):
    profile = wrong(lab.profile("badly", "x86-64", 55), **changes)
    before = lab.rest("GET", "/v1/partitions")
    with pytest.raises(Refused) as refused:
        lab.rest("POST", "/v1/partitions", {"system": "system-a", "profile": profile})
    assert words in refused.value.message
    assert lab.rest("GET", "/v1/partitions") == before


def test_missing_bridge_is_said_with_its_remedy(lab, create):
    profile_networks = [{"name": "net0", "switch": "moonbase"}]
    with pytest.raises((Refused, LabError)) as refused:
        create("system-a", "bridgeless", "x86-64", 56, networks=profile_networks)
    assert "moonbase" in str(refused.value)
