# SPDX-License-Identifier: Apache-2.0
"""Disks over iSCSI and NBD while something dies in the middle of a move, or the storage network is cut: the database on them has one
history, whoever writes it. Every row that was answered is there, as it was sent, by the guest's word and on the disk itself."""

import contextlib
import json
import os
import signal
import tempfile
import time

import pytest
import san as storage
from lablib import command, wait_for
from tidy import both_finished, movers, nothing_left

SLOW = 12_000_000  # bytes/s: the copy of such a partition then takes some seconds
CUT_S = 8
NOWHERE = "02:00:00:00:00:01"  # no adapter has it


@pytest.fixture(scope="module")
def san(lab):
    made = storage.San(lab)
    made.configure()
    return made


class Move:
    def __init__(self, lab, partition):
        self.lab, self.partition = lab, partition
        self.source = lab.where(partition.name)
        self.target = next(place for place in lab.systems if place != self.source)
        self.id = lab.migrate(partition.name, self.target, wait=False, verify=False, max_rate=SLOW)
        lab.wait_for_migration(self.id, 60, lambda s: s["finished"] or s["phase"] == "copy" and s["stream_bytes"] > 1_000_000)

    def end(self):
        """Waits for it; returns (its state, where the partition is now)."""
        both_finished(self.lab, self.id, 180)
        status = self.lab.wait_for_migration(self.id, 60)
        return status["state"], self.target if status["state"] == "completed" else self.source


# Each harms a move, and mends what it harmed.

def kill_host(side):
    def harm(lab, move):
        place = getattr(move, side)
        os.kill(lab.pid(f"lpm-host-{place}"), signal.SIGKILL)
        wait_for(lambda: f"lpm-host-{place}" not in lab.recorded_processes(), 10, f"end of lpm-host on {place}")
        lab.start_host(place)
        lab.wait_for_system(place)
    return harm


def kill_mover(side):
    def harm(lab, move):
        found = movers(lab, getattr(move, side))
        assert found, "no mover while a move is under way"
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return harm


def kill_target_emulator(lab, move):
    os.kill(lab.emulators(move.partition.name)[move.target][0], signal.SIGKILL)


def cut_storage(lab, move):
    """From everybody, for a while: its cable is pulled."""
    lab.link("san", "down")
    time.sleep(CUT_S)
    lab.link("san", "up")


def cut_storage_from(side):
    """From one system alone, which everybody else still reaches."""
    def harm(lab, move):
        space, address = lab.namespace(getattr(move, side)), lab.address("san")
        command("ip", "-n", space, "neigh", "replace", address, "lladdr", NOWHERE, "nud", "permanent", "dev", "eth0")
        time.sleep(CUT_S)
        command("ip", "-n", space, "neigh", "del", address, "dev", "eth0")
    return harm


FAULTS = {
    "host-source": kill_host("source"), "host-target": kill_host("target"), "mover-source": kill_mover("source"),
    "mover-target": kill_mover("target"), "emulator-target": kill_target_emulator, "storage": cut_storage,
    "storage-source": cut_storage_from("source"), "storage-target": cut_storage_from("target"),
}


def judge(report, lab, partition, san):
    """By the guest's word, and on the disk when nobody has it any more."""
    storage.judge(report, json.loads(storage.ask(lab, partition, "check")))
    lab.rest("POST", f"/v1/partitions/{partition.name}/stop", {"how": "hard"})
    with tempfile.TemporaryDirectory() as directory:
        storage.judge(report, storage.read_disk(san.backing[partition.name], directory))


def kill_source_emulator(lab, partition):
    """The partition dies in the middle of a move; returns what clients had answers for by then. It can be started where it was."""
    load = storage.Load(lab, partition, prefix="last")
    load.wait_for_more(2)
    move = Move(lab, partition)
    load.wait_for_more(1)
    os.kill(lab.emulators(partition.name)[move.source][0], signal.SIGKILL)
    time.sleep(1)  # the clients' last answers are noted
    acknowledged = load.acknowledged()
    load.child.kill()
    state, place = move.end()
    assert state == "failed" and place == move.source, state
    wait_for(lambda: not lab.emulators(partition.name), 30, "no QEMU has it")
    lab.rest("POST", f"/v1/partitions/{partition.name}/start", {})
    wait_for(lambda: storage.ask(lab, partition, "check"), 120, f"database of {partition.name}")
    assert lab.where(partition.name) == move.source
    return acknowledged


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind, adapter", [("iscsi-chap", "scsi"), ("iscsi", "virtio"), ("nbd", "virtio"), ("nbd-psk", "scsi")])
def test_one_history(lab, san, kind, adapter):
    name = f"faults-{kind}"
    partition = storage.create(lab, san, "system-a", name, "x86-64", kind, 186, adapter)
    try:
        load = storage.Load(lab, partition)
        for fault, harm in FAULTS.items():
            move = Move(lab, partition)
            harm(lab, move)
            state, place = move.end()
            nothing_left(lab, partition, place, 30)
            load.wait_for_more(3, 120)
            print(f"{kind}: {fault}: {state}, now on {place}", flush=True)
        report = load.stop()
        storage.judge(report, json.loads(storage.ask(lab, partition, "check")))
        report["acknowledged"].update(kill_source_emulator(lab, partition))
        judge(report, lab, partition, san)
        print(f"{kind}: {sum(report['acknowledged'].values())} rows, longest answer {report['longest_ms']} ms")
    finally:
        lab.delete(partition)
        san.remove(name)
