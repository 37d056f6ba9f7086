# SPDX-License-Identifier: Apache-2.0
"""Broken set-ups of the groups general, server, mover, partition and processor: each is found before anything changes."""

import json

import pytest

import broken
from broken import SLEEPER, SOURCE, SUBJECT, TARGET, Broken, command_at, neighbour, power, rows, stranger

BATTERY = {"type": "Battery", "status": "Discharging", "capacity": 57}

BROKEN = [
    # General
    Broken("target-gone", "general.target-answers", ("system-b",), made=(broken.killed(TARGET),), unchanged=(SOURCE,)),
    Broken("target-hangs", "general.target-answers", ("system-b", "no answer"), made=(broken.stopped(TARGET),), unchanged=(SOURCE,)),
    Broken("mobility-disabled", "general.mobility-allowed", ("migration_disabled",), profile={"migration_disabled": True}),
    Broken("name-taken", "general.name-free", ("another partition",), made=(stranger(SUBJECT),)),
    Broken("mac-taken", "general.mac-free", ("52:54:00:77:00:50", "neighbour"), made=(
        neighbour("neighbour", 82, TARGET, False, networks=[{"name": "net0", "switch": "lan", "mac": "52:54:00:77:00:50"}]),)),
    Broken("no-slots", "general.slots", ("system-b", "0"), config={TARGET: {"limits": {"active_moves": 0}}},
           besides=("mover.slots",)),
    Broken("no-slots-at-the-source", "general.slots", ("system-a",), config={SOURCE: {"limits": {"active_moves": 0}}},
           besides=("mover.slots",)),
    Broken("no-inactive-slots", "general.slots", ("system-b", "inactive"), partition=SLEEPER,
           config={TARGET: {"limits": {"inactive_moves": 0}}}),
    # Server
    Broken("maintenance", "server.operating", ("maintenance",), made=(broken.maintenance(TARGET),)),
    Broken("clock-ahead", "server.clock", ("5.000 s", "apart"), clock={TARGET: 7}),
    Broken("clock-behind", "server.clock", ("apart",), clock={SOURCE: 3, TARGET: -3}),
    Broken("clock-limit", "server.clock", ("1.000 s",), clock={TARGET: 2}, options={"clock_limit_ms": 1000}),
    Broken("battery-at-the-target", "server.power", ("system-b", "battery"), made=(power(TARGET, BAT0=BATTERY),)),
    Broken("ups-at-the-source", "server.power", ("system-a", "battery"), partition=SLEEPER,
           made=(power(SOURCE, ups0={"type": "UPS", "status": "Discharging"}),)),
    Broken("no-memory", "server.memory", ("64 MiB", "system-b"), config={TARGET: {"limits": {"memory_mib": 32}}}),
    Broken("no-processors", "server.processors", ("2 virtual processors",), config={TARGET: {"limits": {"processors": 1}}}),
    Broken("no-emulator", "server.emulator", ("x86-64", "system-b"), config={TARGET: {"qemu": {"x86-64": ""}}},
           besides=("processor.preferred-mode", "processor.current-mode", "processor.features", "general.machine-type",
                    "general.device-models", "processor.mode-rises")),
    # Mover
    Broken("no-mover-at-the-target", "mover.available", ("system-b", "/nowhere/lpm-mover"),
           config={TARGET: {"mover": {"program": "/nowhere/lpm-mover"}}}, besides=("mover.connection",)),
    Broken("no-mover-at-the-source", "mover.available", ("system-a",),
           config={SOURCE: {"mover": {"program": "/nowhere/lpm-mover"}}}, besides=("mover.connection",)),
    Broken("mover-network-down", "mover.connection", ("10.77.2.12",), config={TARGET: {"mover": {"addresses": "10.77.2.12"}}},
           made=(command_at("switch", "ip link set f-system-b down", "ip link set f-system-b up"),)),
    # Partition
    Broken("no-shared-memory", "partition.memory-backing", ("private",), partition="private", options={"verify": True},
           made=(neighbour("private", 83, memory_backing="private"),)),
    Broken("agent-silent", "partition.agent", ("silent",), partition="mute", made=(neighbour("mute", 84, guest_agent=True),)),
    Broken("never-activated", "partition.activated-once", ("never was activated",), partition="fresh",
           made=(neighbour("fresh", 85, start=False),)),
    Broken("no-uefi-firmware", "partition.uefi", ("system-b", "none"), partition="modern",
           config={TARGET: {"qemu": {"uefi_code": "/nowhere/OVMF_CODE.fd"}}}, made=(neighbour("modern", 86, firmware="uefi"),)),
    # Network; more in test_broken_networks.py
    Broken("network-unknown", "network.switch", ("lan",), config={TARGET: {"network:lan": None}}),
]


@pytest.mark.parametrize("row", rows(BROKEN))
def test_broken(ground, row):
    ground.judge(row)


def test_all_reasons_at_once(ground):
    """Eight things wrong in one set-up: one answer names all of them."""
    wrong = ["mobility-disabled", "name-taken", "maintenance", "clock-ahead", "ups-at-the-source", "battery-at-the-target",
             "no-memory", "no-processors", "network-unknown", "mover-network-down"]
    table = [row for row in BROKEN if row.name in wrong]
    assert len(table) == len(wrong)
    with ground.broken(*table):
        before = ground.fingerprint(ground.systems)
        result, ground.times["all at once"] = ground.validate()
        said = {finding["check"] for finding in result["findings"] if finding["severity"] == "error"}
        assert said == {row.check for row in table}, json.dumps(result["findings"], indent=1)
        broken.same(before, ground.fingerprint(ground.systems))


# Healthy, whatever it looks like
HEALTHY = [
    ("clock-four-seconds-ahead", {"clock": {TARGET: 4}}),
    ("battery-charging", {"made": (power(TARGET, BAT0={"type": "Battery", "status": "Charging"}),)}),
    ("mouse-on-battery", {"made": (power(TARGET, mouse={**BATTERY, "scope": "Device"}),)}),
    ("memory-just-enough", {"config": {TARGET: {"limits": {"memory_mib": 64, "processors": 2}}}}),
    ("source-in-maintenance", {"made": (broken.maintenance(SOURCE),)}),
    ("neighbours", {"made": (neighbour("neighbour", 82, TARGET),)}),
]


@pytest.mark.parametrize("name, ways", HEALTHY, ids=[name for name, _ in HEALTHY])
def test_no_false_alarm(ground, name, ways):
    with ground.broken(Broken(name, "", **ways)):
        ground.judge_healthy()
        ground.judge_healthy(SLEEPER)


def test_overridden(ground):
    """Where a check may be overridden by name, its errors become warnings, and only its."""
    with ground.broken(*(row for row in BROKEN if row.name in ("clock-ahead", "battery-at-the-target"))):
        result, _ = ground.validate(options={"overrides": ["server.clock"]})
        severities = {finding["check"]: finding["severity"] for finding in broken.loud(result["findings"])}
        assert severities == {"server.clock": "warning", "server.power": "error"}, severities
        result, _ = ground.validate(options={"overrides": ["server.clock", "server.power"]})
        assert result["verdict"] == "warning", result


def test_all_is_mended(ground):
    with ground.broken():
        ground.judge_healthy()
        ground.judge_healthy(SLEEPER)
