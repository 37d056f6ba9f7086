# SPDX-License-Identifier: Apache-2.0
"""Broken set-ups of the groups general, server, mover, partition and processor: each is found before anything changes."""

import json
import shutil

import pytest

import broken
import lablib
import ways
from broken import (LESSER, SLEEPER, SOURCE, SUBJECT, TARGET, Broken, command_at, lesser_qemu, neighbour, nodes, power, rows,
                    stranger)
from tidy import movers

YEARS = 40 * 365 * 86400
FAST = {TARGET: {"mover": {"addresses": "10.77.2.12"}}}
BATTERY = {"type": "Battery", "status": "Discharging", "capacity": 57}
PPC64 = shutil.which("qemu-system-ppc64") or "/opt/openlpm/qemu-power/bin/qemu-system-ppc64"
POWER = {SOURCE: {"qemu": {"power": PPC64}, "power": {"processor": "POWER9"}},
         TARGET: {"qemu": {"power": PPC64}, "power": {"processor": "POWER8"}}}
POWERED = {"family": "power", "processors": 1, "memory_mib": 256}
BOOT = {"kernel": {"pool": "local", "file": "kernel"}}
OTHER_POOL = {TARGET: {"storage:san": {"path": "{dir}/{place}/local"}}}
NOT_SHARED = ("general.arbiter", "general.arbiter-same", "storage.visible", "storage.same-disk", "storage.size",
              "storage.same-content", "storage.format")

BROKEN = [
    # General
    Broken("target-gone", "general.target-answers", ("system-b",), made=(broken.killed(TARGET),), unchanged=(SOURCE,)),
    Broken("target-hangs", "general.target-answers", ("system-b", "no answer"), made=(broken.stopped(TARGET),),
           unchanged=(SOURCE,)),
    Broken("mobility-disabled", "general.mobility-allowed", ("migration_disabled",), profile={"migration_disabled": True}),
    Broken("name-taken", "general.name-free", ("another partition",), made=(stranger(SUBJECT),)),
    Broken("mac-taken", "general.mac-free", ("52:54:00:77:00:50", "neighbour"), made=(
        neighbour("neighbour", 82, TARGET, False, networks=[{"name": "net0", "switch": "lan", "mac": "52:54:00:77:00:50"}]),)),
    Broken("no-slots", "general.slots", ("system-b", "0"), config={TARGET: {"limits": {"active_moves": 0}}},
           besides=("mover.slots",)),
    Broken("no-slots-at-the-source", "general.slots", ("system-a",), config={SOURCE: {"limits": {"active_moves": 0}}},
           besides=("mover.slots",), long=True),
    Broken("no-inactive-slots", "general.slots", ("system-b", "inactive"), partition=SLEEPER,
           config={TARGET: {"limits": {"inactive_moves": 0}}}, long=True),
    Broken("uuid-taken", "general.uuid-free", ("copy",), made=(broken.uuid_taken(SUBJECT),), besides=(
        "general.arbiter", "general.arbiter-same")),
    Broken("slots-used", "general.slots", ("system-b", "1 are going on"), config={TARGET: {"limits": {"active_moves": 1}}},
           made=(neighbour("traveller", 85), broken.halted_move("traveller")), besides=("mover.slots",), long=True),
    Broken("moving-already", "general.other-move", ("is going on",), partition="traveller",
           made=(neighbour("traveller", 85), broken.halted_move("traveller")), long=True,
           besides=("partition.consoles", "partition.local-devices", "general.unfinished-move", "general.arbiter-same",
                    "storage.locks", "partition.state", "general.uuid-free")),
    Broken("certificate-expired", "general.target-answers", ("system-b",), unchanged=(SOURCE,),
           made=(broken.other_time(TARGET, YEARS),), long=True),
    Broken("record-elsewhere", "general.arbiter", ("record",), config={TARGET: {"storage:san": {"path": "{dir}/{place}/local"}}},
           besides=("storage.visible", "storage.same-disk", "storage.size", "general.arbiter-same")),
    Broken("console-keeps-the-record", "general.arbiter-console", ("console",), partition="kept", severity="info",
           besides=("general.arbiter-quick",),
           made=(neighbour("kept", 86, arbiter="console"),), long=True),
    Broken("machine-type-unknown", "general.machine-type", ("pc-q35",), config={TARGET: {"qemu": {"x86-64": LESSER}}}, made=(
        lesser_qemu(TARGET, machines=["pc-q35-10.0", "pc-q35-10.1", "q35"]),), long=True),
    Broken("device-unknown", "general.device-models", ("virtio-net-pci",), config={TARGET: {"qemu": {"x86-64": LESSER}}},
           besides=("network.adapter",), made=(
        lesser_qemu(TARGET, devices=["virtio-net-pci"]),)),
    Broken("owned-by-another", "general.owner", ("system-c",), made=(ways.owned_by(SUBJECT, "system-c"),)),
    Broken("left-half", "general.unfinished-move", ("has not been cleaned up", "system-b"), partition=SLEEPER,
           made=(ways.left_half(SLEEPER),), besides=("general.name-free", "general.uuid-free", "general.mac-free"), long=True),
    Broken("releases-too-far-apart", "general.protocol", ("system-b", "[8,9]"),
           made=(ways.started_with(TARGET, LPM_RELEASE="far"),), besides=("general.stream-version",), long=True),
    Broken("wires-too-far-apart", "general.stream-version", ("system-b", "[8,9]"),
           made=(ways.started_with(TARGET, LPM_RELEASE="far"),), besides=("general.protocol",), long=True),
    # Server
    Broken("maintenance", "server.operating", ("maintenance",), made=(broken.maintenance(TARGET),)),
    Broken("clock-ahead", "server.clock", ("5.000 s", "apart"), clock={TARGET: 7}),
    Broken("clock-behind", "server.clock", ("apart",), clock={SOURCE: 3, TARGET: -3}, long=True),
    Broken("certificate-ends-soon", "server.certificate", ("system-b", "days"), clock={TARGET: 810 * 86400}, severity="warning",
           besides=("server.clock",)),
    Broken("clock-limit", "server.clock", ("1.000 s",), clock={TARGET: 2}, options={"clock_limit_ms": 1000}, long=True),
    Broken("battery-at-the-target", "server.power", ("system-b", "battery"), made=(power(TARGET, BAT0=BATTERY),)),
    Broken("ups-at-the-source", "server.power", ("system-a", "battery"), partition=SLEEPER,
           made=(power(SOURCE, ups0={"type": "UPS", "status": "Discharging"}),)),
    Broken("no-memory", "server.memory", ("64 MiB", "system-b"), config={TARGET: {"limits": {"memory_mib": 32}}}),
    Broken("no-processors", "server.processors", ("2 virtual processors",), config={TARGET: {"limits": {"processors": 1}}}),
    Broken("no-emulator", "server.emulator", ("x86-64", "system-b"), config={TARGET: {"qemu": {"x86-64": ""}}},
           besides=("processor.preferred-mode", "processor.current-mode", "processor.features", "general.machine-type",
                    "general.device-models", "processor.mode-rises")),
    Broken("mains-off", "server.power", ("system-b", "no mains supply"), made=(power(TARGET, AC={"online": 0}),)),
    Broken("disk-full", "server.room", ("system-b", "16 MiB"), made=(broken.filled(TARGET),)),
    Broken("partitions-enough", "server.partitions", ("system-b",), config={TARGET: {"limits": {"partitions": 0}}},
           partition=SLEEPER),
    Broken("memory-of-two-nodes", "server.affinity", ("67", "100"), options={"affinity": True},
           config={TARGET: {"system": {"sysfs": "{dir}/{place}/sysfs"}}}, made=(nodes(TARGET, (32, 4), (32, 4)),)),
    Broken("memory-farther", "server.affinity-score", ("67", "100"), severity="info",
           config={TARGET: {"system": {"sysfs": "{dir}/{place}/sysfs"}}}, made=(nodes(TARGET, (32, 4), (32, 4)),), long=True),
    Broken("memory-too-far", "server.affinity", ("80", "67"), options={"min_affinity": 80},
           config={TARGET: {"system": {"sysfs": "{dir}/{place}/sysfs"}}}, made=(nodes(TARGET, (32, 4), (32, 4)),), long=True),
    Broken("emulator-unsafe", "server.emulator-safe", ("7.2.22", "system-b"), config={TARGET: {"qemu": {"x86-64": LESSER}}},
           made=(
        lesser_qemu(TARGET, version="7.2.22"),)),
    Broken("another-accelerator", "server.accelerator", ("tcg", "kvm"), made=(ways.remembered(TARGET, accel="kvm"),), long=True),
    Broken("no-huge-pages", "server.huge-pages", ("2048 KiB",), partition="huge", made=(
        neighbour("huge", 87, start=False, huge_pages_kib=2048),),
        config={TARGET: {"system": {"sysfs": "{dir}/{place}/nothing"}}},
        besides=("partition.activated-once",)),
    # Mover
    Broken("no-mover-at-the-target", "mover.available", ("system-b", "/nowhere/lpm-mover"),
           config={TARGET: {"mover": {"program": "/nowhere/lpm-mover"}}}, besides=("mover.connection",)),
    Broken("no-mover-at-the-source", "mover.available", ("system-a",),
           config={SOURCE: {"mover": {"program": "/nowhere/lpm-mover"}}}, besides=("mover.connection",), long=True),
    Broken("no-vasi", "mover.vasi", ("system-b", "/run"), made=(ways.read_only(TARGET, "run"),),
           besides=("mover.connection",), long=True),
    Broken("mover-network-down", "mover.connection", ("10.77.2.12",), config=FAST,
           made=(command_at("switch", "ip link set f-system-b down", "ip link set f-system-b up"),)),
    Broken("mover-network-prohibited", "mover.connection", ("10.77.2.12",), config=FAST, made=(
        command_at(SOURCE, "ip route add prohibit 10.77.2.12", "ip route del prohibit 10.77.2.12"),), long=True),
    Broken("mover-network-silent", "mover.connection", ("10.77.2.12",), config=FAST, made=(
        command_at(SOURCE, "ip neigh replace 10.77.2.12 lladdr 02:00:00:00:00:99 dev eth1 nud permanent",
                   "ip neigh del 10.77.2.12 dev eth1"),), long=True),
    Broken("mover-network-slow", "mover.rate", ("10 s",), config=FAST, options={"long_move_s": 10}, severity="warning", made=(
        command_at(SOURCE, "tc qdisc add dev eth1 root tbf rate 16mbit burst 32k latency 50ms", "tc qdisc del dev eth1 root"),),
        long=True, besides=("prediction.converges",)),
    Broken("link-measured", "mover.link", ("MB/s",), severity="info", long=True),
    Broken("no-page-faults", "mover.postcopy", ("page faults",), options={"postcopy": True}, besides=("mover.postcopy-risk",)),
    # Partition
    Broken("no-shared-memory", "partition.memory-backing", ("private",), partition="private", options={"verify": True},
           made=(neighbour("private", 83, memory_backing="private"),), long=True),
    Broken("agent-silent", "partition.agent", ("silent",), partition="mute", made=(neighbour("mute", 84, guest_agent=True),),
           long=True),
    Broken("qemu-dead", "partition.state", ("error",), partition="dead", made=(neighbour("dead", 88), broken.dead_qemu("dead")),
           besides=("storage.locks",)),
    Broken("device-put-in-by-hand", "partition.local-devices", ("virtconsole", "foreign"), partition="tinkered", made=(
        neighbour("tinkered", 89, guest_agent=True), broken.foreign_device("tinkered", SOURCE)), besides=("partition.agent",),
        long=True),
    Broken("console-open", "partition.consoles", ("1 open",), severity="info", made=(broken.console_session(SUBJECT),)),
    Broken("never-activated", "partition.activated-once", ("never was activated",), partition="fresh",
           made=(neighbour("fresh", 85, start=False),)),
    Broken("release-of-one-profile", "partition.profiles", ("system-b", "of a release that knows one"), partition="many",
           made=(ways.started_with(TARGET, LPM_RELEASE="previous"),
                 neighbour("many", 95, profiles=[{"name": "big", "memory_mib": 128}])), long=True),
    Broken("no-uefi-firmware", "partition.uefi", ("system-b", "none"), partition="modern",
           config={TARGET: {"qemu": {"uefi_code": "/nowhere/OVMF_CODE.fd"}}}, made=(neighbour("modern", 86, firmware="uefi"),)),
    # Processor
    Broken("features-missing", "processor.features", ("avx2",), config={TARGET: {"qemu": {"x86-64": LESSER}}}, made=(
        lesser_qemu(TARGET, features=["avx2"]),), besides=("processor.current-mode", "processor.mode-rises"), long=True),
    Broken("mode-unknown", "processor.preferred-mode", ("x86-64-v3",), partition="level", config={
        TARGET: {"qemu": {"x86-64": LESSER}}}, made=(lesser_qemu(TARGET, features=["avx2"]), neighbour(
            "level", 87, start=False, preferred_mode="x86-64-v3")), besides=("partition.activated-once",), long=True),
    # POWER: it rests in its firmware, in the mode of its server.
    Broken("current-mode-unknown", "processor.current-mode", ("POWER9", "system-b"), partition="powered", config=POWER,
           made=(neighbour("powered", 92, **POWERED),), besides=("processor.interrupts",), long=True),
    Broken("interrupts-unknown", "processor.interrupts", ("dual", "xics"), partition="powered", config=POWER,
           made=(neighbour("powered", 92, interrupt_mode="dual", **POWERED),), besides=("processor.current-mode",), long=True),
    # Storage; more in test_broken_storage.py
    Broken("no-kernel", "storage.boot-files", ("kernel",), partition="booter", made=(
        ways.files(system_a={"kernel": b"k" * 4096}), neighbour("booter", 93, start=False, boot=BOOT)),
        besides=("partition.activated-once",)),
    Broken("another-kernel", "storage.boot-files-same", ("kernel",), partition="booter", severity="warning", made=(
        ways.files(system_a={"kernel": b"k" * 4096}, system_b={"kernel": b"K" * 4096}),
        neighbour("booter", 93, start=False, boot=BOOT)), besides=("partition.activated-once",), long=True),
    Broken("another-format", "storage.format", ("qcow2", "raw"), partition="sparse", config=OTHER_POOL,
           made=(neighbour("sparse", 94), ways.image(TARGET, "sparse.raw", "qcow2", 4)), besides=NOT_SHARED, long=True),
    Broken("another-size", "storage.size", ("8388608",), partition="sparse", config=OTHER_POOL,
           made=(neighbour("sparse", 94), ways.image(TARGET, "sparse.raw", "raw", 8)), besides=NOT_SHARED, long=True),
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
    """And no mover of a probe is left."""
    lablib.wait_for(lambda: not movers(ground), 15, "the end of the last probe's mover")
    with ground.broken():
        ground.judge_healthy()
        ground.judge_healthy(SLEEPER)
