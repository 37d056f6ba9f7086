# SPDX-License-Identifier: Apache-2.0
"""Moves on every kind of storage, with a database under write load: no answered row is lost, and the database is whole, as the
guest sees it and as it is on the disk."""

import json
import tempfile

import pytest
import san as storage
import shell
from witness import runs_once

MOVES = 20


@pytest.fixture(scope="module")
def san(lab):
    made = storage.San(lab)
    made.configure()
    return made


def migrate(lab, name, target, **options):
    """On a busy machine a validation may find the guest or the clock too slow; nothing has changed then, and it is asked again."""
    for _ in range(3):
        result = lab.migrate(name, target, **options)
        if result["state"] != "refused":
            break
        print(name, [one["check"] for one in result["findings"] if one["severity"] == "error"], flush=True)
    assert result["state"] == "completed", result
    return result


def moves_with_a_database(lab, san, kind, family, adapter, moves, number):
    """Moves to and fro; then what was answered is looked for by the guest, and on the disk when nobody has it any more."""
    name = f"db-{kind}-{adapter}"
    blackouts, partition = [], None
    try:
        partition = storage.create(lab, san, "system-a", name, family, kind, number, adapter)
        load = storage.Load(lab, partition)
        for move in range(moves):
            target = "system-b" if move % 2 == 0 else "system-a"
            result = migrate(lab, name, target, verify=move == 0)
            blackouts.append(result.get("blackout_ms"))
            runs_once(lab, partition, target)
            load.wait_for_more(2)
        report = load.stop()
        storage.judge(report, json.loads(storage.ask(lab, partition, "check")))
        lab.rest("POST", f"/v1/partitions/{name}/stop", {"how": "hard"})
        with tempfile.TemporaryDirectory() as directory:
            storage.judge(report, storage.read_disk(san.backing[name], directory))
    finally:
        if partition := partition or lab.partitions.get(name):
            lab.delete(partition)
        san.remove(name)
    print(f"{kind}, {adapter}: {moves} moves, {sum(report['acknowledged'].values())} rows, longest answer "
          f"{report['longest_ms']} ms, blackouts {blackouts}")


SHORT = [("iscsi-chap", "scsi"), pytest.param("nbd-tls", "virtio", marks=pytest.mark.long)]
X86 = [("raw", "virtio"), ("qcow2", "scsi"), ("iscsi", "virtio"), ("iscsi-chap", "scsi"), ("iscsi-qcow2", "virtio"), ("nbd", "scsi"),
       ("nbdkit", "virtio"), ("nbd-tls", "virtio"), ("nbd-psk", "scsi")]
POWER = [("raw", "vscsi"), ("iscsi", "vscsi"), ("nbd", "virtio")]


@pytest.mark.parametrize("kind, adapter", SHORT)
def test_move_with_a_database(lab, san, kind, adapter):
    moves_with_a_database(lab, san, kind, "x86-64", adapter, 2, 180)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind, adapter", X86)
def test_twenty_moves_with_a_database(lab, san, kind, adapter):
    moves_with_a_database(lab, san, kind, "x86-64", adapter, MOVES, 181)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind, adapter", POWER)
def test_twenty_moves_of_a_power_partition(lab, san, kind, adapter):
    moves_with_a_database(lab, san, kind, "power", adapter, MOVES, 182)


def put_medium(lab, path, text):
    place = lab.dir / path
    place.write_bytes(text.ljust(32).encode() + bytes((1 << 20) - 32))
    place.chmod(0o644)


def stays_locked(lab, partition, medium):
    """While a program in the partition has the drive open, its tray is locked: nothing is taken out, and it is said why."""
    for words in (("--eject",), ("--insert", "two.iso")):
        refused = lab.lpm("partition", "media", partition.name, "cd0", *words, check=False)
        assert refused.returncode != 0 and "unmount it in the partition and ask again, or use --force" in refused.stderr, refused
    drives = [disk for disk in lab.rest("GET", f"/v1/partitions/{partition.name}")["profile"]["disks"] if disk.get("media") == "optical"]
    assert [disk["file"] for disk in drives] == ["one.iso"]
    assert storage.ask(lab, partition, "media").strip() == medium


def test_media_of_an_optical_drive(lab, san):
    """The drive and what is in it go with the partition; a medium that only the source sees is refused, and ejected lets it go."""
    put_medium(lab, "san/one.iso", "the first medium")
    put_medium(lab, "san/two.iso", "the second medium")
    put_medium(lab, "system-b/local/own.iso", "of system-b alone")
    drive = {"name": "cd0", "pool": "san", "file": "one.iso", "adapter": "scsi", "media": "optical"}
    partition = storage.create(lab, san, "system-a", "media", "x86-64", "raw", 183, more_disks=[drive])
    try:
        assert storage.ask(lab, partition, "media").strip() == "the first medium"
        shell.run(lab, partition, "(sleep 100000 </dev/sr0 >/dev/null 2>&1 &)")
        stays_locked(lab, partition, "the first medium")
        assert lab.migrate("media", "system-b")["state"] == "completed"
        stays_locked(lab, partition, "the first medium")
        shell.run(lab, partition, "killall sleep")
        lab.lpm("partition", "media", "media", "cd0", "--insert", "two.iso")
        assert storage.ask(lab, partition, "media").strip() == "the second medium"
        lab.lpm("partition", "media", "media", "cd0", "--insert", "own.iso", "--pool", "local")
        assert storage.ask(lab, partition, "media").strip() == "of system-b alone"
        refused = lab.migrate("media", "system-a")
        assert refused["state"] == "refused", refused
        assert {one["check"] for one in refused["findings"] if one["severity"] == "error"} == {"storage.optical"}, refused["findings"]
        lab.lpm("partition", "media", "media", "cd0", "--eject")
        assert storage.ask(lab, partition, "media") == "no medium"
        assert lab.migrate("media", "system-a")["state"] == "completed"
        assert storage.ask(lab, partition, "media") == "no medium"
        lab.lpm("partition", "media", "media", "cd0", "--insert", "one.iso", "--pool", "san")
        assert storage.ask(lab, partition, "media").strip() == "the first medium"
        shell.run(lab, partition, "(sleep 100000 </dev/sr0 >/dev/null 2>&1 &)")
        lab.lpm("partition", "media", "media", "cd0", "--insert", "two.iso", "--force")
        assert storage.ask(lab, partition, "media").strip() == "the second medium"
        failed = lab.lpm("partition", "media", "media", "disk0", "--eject", check=False)
        assert failed.returncode != 0 and "not an optical drive" in failed.stderr
    finally:
        lab.delete(partition)
