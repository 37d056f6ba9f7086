# SPDX-License-Identifier: Apache-2.0
"""A partition and its disks are deleted only where they surely belong to it."""

import signal

import pytest
import xxhash
from test_host import PROGRAM, SECONDS, Refused, host  # noqa: F401

pytestmark = pytest.mark.timeout(120)


def test_disks_of_another_systems_partition_are_not_deleted(host):  # noqa: F811
    """A left-over profile on a former source: its disks belong to whoever the record names."""
    host.create()
    path = next((host.base / "disks" / ".lpm").glob("*.record"))
    slot = bytearray(path.read_bytes()[:512])
    name = slot.index(b"system-t")
    slot[name:name + 9] = b"elsewhere"
    slot[504:] = xxhash.xxh3_64_intdigest(bytes(slot[:504])).to_bytes(8, "little")
    path.write_bytes(bytes(slot) + bytes(512))

    with pytest.raises(Refused, match="p1.*belongs to system elsewhere.*without the disks"):
        host.call("partition-delete", partition="p1", disks=True)
    assert (host.base / "disks" / "p1.qcow2").exists() and path.exists()
    host.call("partition-delete", partition="p1")
    assert (host.base / "disks" / "p1.qcow2").exists() and path.exists()
    assert host.call("partition-list") == {"partitions": []}


def test_disks_without_a_record_are_not_deleted(host):  # noqa: F811
    """The partition may have moved on and been deleted where it was; the files can be another's by now."""
    host.create()
    path = next((host.base / "disks" / ".lpm").glob("*.record"))
    path.unlink()
    with pytest.raises(Refused, match="p1 has no ownership record.*without the disks"):
        host.call("partition-delete", partition="p1", disks=True)
    assert (host.base / "disks" / "p1.qcow2").exists()
    host.call("partition-delete", partition="p1")
    assert host.call("partition-list") == {"partitions": []}


@pytest.mark.parametrize("point", ["delete-record-before", "delete-record-after"])
def test_a_deletion_that_was_cut_off_is_taken_up(host, point):  # noqa: F811
    if b"LPM_CRASH" not in PROGRAM.read_bytes():
        pytest.skip("lpm-host was built without crash points")
    host.create()
    host.end()
    host.start(LPM_CRASH=point)
    with pytest.raises(OSError):
        host.call("partition-delete", partition="p1", disks=True)
    assert host.process.wait(SECONDS) == -signal.SIGKILL
    host.start()
    assert (host.base / "disks" / "p1.qcow2").exists()
    host.call("partition-delete", partition="p1", disks=True)
    assert not (host.base / "disks" / "p1.qcow2").exists()
    assert host.call("partition-list") == {"partitions": []}
