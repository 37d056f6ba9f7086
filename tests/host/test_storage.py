# SPDX-License-Identifier: Apache-2.0
"""Pools of other kinds than files, and media of optical drives: real lpm-host, real QEMU, a real qemu-nbd."""

import os
import signal
import subprocess

import pytest
from test_grow import ask_qemu
from test_host import Refused, host, wait_for  # noqa: F401 (host is a fixture)

SECRET = "a-secret-that-nobody-sees"


@pytest.fixture
def nbd(host):  # noqa: F811
    """A pool of kind nbd with the export "disk", of 16 MiB."""
    image, path = host.base / "export.raw", host.base / "nbd.sock"
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    server = subprocess.Popen(["qemu-nbd", "--persistent", "--shared=0", "--format=raw", f"--socket={path}", "--export-name=disk", image])
    try:
        wait_for(path.exists, "qemu-nbd listens")
        path.chmod(0o666)
        yield with_pool(host, "nbd", kind="nbd", socket=path)
    finally:
        server.kill()
        server.wait()


def with_pool(host, name, **keys):  # noqa: F811
    host.groups[f"storage:{name}"] = keys
    host.write_config()
    host.end()
    host.start()
    return host


def disk(pool, file, **more):
    return [{"name": "disk0", "pool": pool, "file": file, **more}]


# Beside it is the ownership record.
SMALL = {"name": "small", "pool": "disks", "file": "small.raw", "size_mib": 1}


def test_a_disk_over_nbd(nbd):
    profile = nbd.create(disks=disk("nbd", "disk", adapter="scsi") + [SMALL])
    assert nbd.call("partition-start", partition="p1") == {"state": "running"}
    nodes = {row["node-name"]: row["image"] for row in ask_qemu(nbd, "query-named-block-nodes")}
    assert nodes["disk0"]["virtual-size"] == 16 << 20 and "nbd" in str(nodes["disk0-file"]["filename"])
    assert "scsi-hd" in nbd.call("partition-show", partition="p1")["runtime"]["devices"]
    assert (nbd.base / "disks" / ".lpm" / f"{profile['uuid']}.record").exists(), "beside the first disk that is a file"
    nbd.call("partition-stop", partition="p1", how="hard")
    nbd.call("partition-delete", partition="p1", disks=True)
    assert (nbd.base / "export.raw").exists(), "what is at the storage stays there"


def test_what_such_a_pool_cannot_do(nbd):
    with pytest.raises(Refused, match="disks are made at the storage.*leave size_mib out"):
        nbd.create(disks=disk("nbd", "disk", size_mib=16))
    with pytest.raises(Refused, match="pool nbd.*of kind nbd.*no files"):
        nbd.create(disks=disk("nbd", "disk"), boot={"kernel": {"pool": "nbd", "file": "vmlinuz"}})
    for arbiter in ("file", "auto"):  # this system has joined no console, and has neither etcd nor a lock LUN
        with pytest.raises(Refused, match="record cannot be beside a disk.*none.*is in a pool of kind file.*choose arbiter"):
            nbd.create(disks=disk("nbd", "disk"), arbiter=arbiter)
    assert nbd.call("partition-list")["partitions"] == []
    nbd.create(disks=disk("nbd", "another") + [SMALL])
    with pytest.raises(Refused, match="another"):
        nbd.call("partition-start", partition="p1")


def test_a_password_is_seen_nowhere(host):  # noqa: F811
    """No target answers; QEMU was started, and ended, with everything that it needs to log in."""
    (host.base / "chap").write_text(SECRET + "\n")
    (host.base / "chap").chmod(0o600)
    with_pool(host, "lun", kind="iscsi", portal="127.0.0.1:1", target="iqn.2026-01.org.example:t",
              initiator="iqn.2026-01.org.example:i", user="lpm", password_file=host.base / "chap")
    host.create(disks=disk("lun", "one") + [SMALL], name="p2")
    with pytest.raises(Refused, match='"one" is not a LUN of pool lun.*give its number'):
        host.call("partition-start", partition="p2")
    host.create(disks=disk("lun", "1") + [{**SMALL, "file": "p1.raw"}])
    with pytest.raises(Refused, match="iSCSI: Failed to connect"):
        host.call("partition-start", partition="p1")
    (host.base / "chap").unlink()
    with pytest.raises(Refused, match="password_file .*chap cannot be used.*correct password_file in"):
        host.call("partition-start", partition="p1")
    for root, _, names in os.walk(host.base):
        for name in names:
            path = os.path.join(root, name)
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    assert SECRET.encode() not in file.read(), path


def drive(**more):
    return {"name": "cd0", "pool": "disks", "adapter": "scsi", "media": "optical", **more}


def medium(host):  # noqa: F811
    """What QEMU has in the drive, what a target would be built with, and what the profile says: one name, or None, thrice."""
    shown = host.call("partition-show", partition="p1")
    found = [os.path.basename(row["inserted"]["file"]) if "inserted" in row else None
             for row in ask_qemu(host, "query-block") if row.get("qdev") == "dev-disk1"]
    said = [shown[part]["disks"][1].get("file") for part in ("profile",)]
    return found + [shown["runtime"]["profile"]["disks"][1].get("file")] + said


def test_media_change_while_it_runs_and_when_not(host):  # noqa: F811
    for name in ("one.iso", "two.iso"):
        (host.base / "disks" / name).write_bytes(bytes(1 << 20))
        (host.base / "disks" / name).chmod(0o644)
    host.create(disks=[{"name": "disk0", "pool": "disks", "file": "p1.raw", "size_mib": 16}, drive()])
    host.call("partition-media", partition="p1", disk="cd0", file="one.iso")
    host.call("partition-start", partition="p1")
    assert medium(host) == ["one.iso"] * 3
    host.call("partition-media", partition="p1", disk="cd0", file="two.iso")
    assert medium(host) == ["two.iso"] * 3
    with pytest.raises(Refused, match="none.iso"):
        host.call("partition-media", partition="p1", disk="cd0", file="none.iso")
    assert medium(host) == ["two.iso"] * 3, "nothing is taken out for a medium that is not there"
    host.call("partition-media", partition="p1", disk="cd0")
    host.call("partition-media", partition="p1", disk="cd0")
    assert medium(host) == [None] * 3
    host.end(signal.SIGKILL)
    host.start()
    assert medium(host) == [None] * 3
    host.call("partition-media", partition="p1", disk="cd0", file="one.iso")
    assert medium(host) == ["one.iso"] * 3
    for name, words in (("disk0", "not an optical drive"), ("cd7", "has no drive cd7")):
        with pytest.raises(Refused, match=words):
            host.call("partition-media", partition="p1", disk=name)


def test_a_medium_that_the_profile_cannot_have(host):  # noqa: F811
    """It would be written down, and then be a definition that lpm-host itself refuses at its next start."""
    for name in ("one.iso", "a\x01b.iso"):
        (host.base / "disks" / name).write_bytes(bytes(1 << 20))
    host.create(disks=[{"name": "disk0", "pool": "disks", "file": "p1.raw", "size_mib": 16}, drive(), drive(name="cd1", file="one.iso")])
    before = host.call("partition-show", partition="p1")["profile"]
    for file, words in (("one.iso", "p1, drive cd0: this medium cannot be put in.*as in disks"), ("a\x01b.iso", "cannot be put in.*file")):
        with pytest.raises(Refused, match=words):
            host.call("partition-media", partition="p1", disk="cd0", file=file)
    assert host.call("partition-show", partition="p1")["profile"] == before
    assert [row["name"] for row in host.call("partition-facts", partition="p1")["disks"]] == ["disk0", "cd0", "cd1"]


def test_disks_of_others_are_left_alone(nbd):
    """Deleted, or written to by two."""
    shared = {"name": "shared", "pool": "disks", "file": "shared.raw", "read_only": True}
    with_pool(nbd, "other", path=nbd.base / "disks")
    (nbd.base / "disks" / "shared.raw").write_bytes(bytes(1 << 20))
    nbd.create(disks=disk("disks", "p1.raw", size_mib=1) + [shared])
    nbd.create(name="p2", disks=disk("other", "p1.raw") + [shared])
    with pytest.raises(Refused, match="p1: its disk disk0, file p1.raw of pool disks, is one of partition p2 too; nothing was deleted"):
        nbd.call("partition-delete", partition="p1", disks=True)
    assert nbd.call("partition-show", partition="p1")["record"]["owner"] == "system-t", "nothing was begun"
    nbd.call("partition-delete", partition="p2")
    nbd.call("partition-delete", partition="p1", disks=True)
    assert (nbd.base / "disks" / "shared.raw").exists() and not (nbd.base / "disks" / "p1.raw").exists()

    for name in ("p3", "p4"):
        nbd.create(name=name, disks=disk("nbd", "disk") + [{**SMALL, "file": f"{name}.raw"}])
    assert nbd.call("partition-start", partition="p3") == {"state": "running"}
    with pytest.raises(Refused, match="p4: its disk disk0, disk of pool nbd, is in use by partition p3, which is active here"):
        nbd.call("partition-start", partition="p4")
    # What p3 runs with counts, not what it will have.
    nbd.call("partition-change", partition="p3", changes={"disks": [{**SMALL, "file": "p3.raw"}]})
    with pytest.raises(Refused, match="in use by partition p3"):
        nbd.call("partition-start", partition="p4")
    nbd.call("partition-stop", partition="p3", how="hard")
    assert nbd.call("partition-start", partition="p4") == {"state": "running"}


def test_a_pool_that_is_not_there(host):  # noqa: F811
    """Nothing is made or deleted where its file system is not mounted."""
    away = host.base / "away"
    with_pool(host, "away", path=away)
    words = f"storage pool away: {away} is not a directory on system-t; mount it"
    with pytest.raises(Refused, match=f"disk0: {words}"):
        host.create(disks=disk("away", "p1.raw", size_mib=1))
    assert not away.exists()
    away.mkdir(mode=0o755)
    host.create(disks=[SMALL, {**SMALL, "name": "disk1", "pool": "away"}])
    away.rename(host.base / "moved")
    assert words in host.call("partition-facts", partition="p1")["disks"][1]["reason"]
    for verb, more in (("partition-start", {}), ("partition-delete", {"disks": True})):
        with pytest.raises(Refused, match=words):
            host.call(verb, partition="p1", **more)
    (host.base / "moved").rename(away)
    host.call("partition-delete", partition="p1", disks=True)
    assert not list(away.glob("*.raw"))
