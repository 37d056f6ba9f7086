# SPDX-License-Identifier: Apache-2.0
"""A partition's profile and its moves: where its record is, and what a change that waits does."""
import json
import socket
import time

import pytest
from hosts import RpcError, wait_for


def test_the_record_stays_where_it_is(pair):
    """A change that would have its record looked for elsewhere is refused, and the arbiter of a partition is settled at once."""
    profile = pair.create(start=False)
    assert profile["arbiter"] == "file"
    (pair.pool / "other").mkdir()
    pair.a.kill()
    with open(pair.a.config, "a") as config:
        config.write(f"[storage:other]\npath = {pair.pool}/other\n")
    pair.a.start()
    first, = profile["disks"]
    for disks in ([], [{**first, "pool": "other"}], [{**first, "read_only": True}]):
        with pytest.raises(RpcError, match="ownership record") as caught:
            pair.a.call("partition-change", partition="p1", changes={"disks": disks})
        assert caught.value.error_class == "state"
    (pair.pool / "other" / "p2.img").write_bytes(bytes(1024 * 1024))
    pair.a.call("partition-change", partition="p1", changes={
        "disks": [first, {**first, "name": "disk1", "pool": "other", "file": "p2.img"}]})
    pair.a.call("partition-start", partition="p1")
    # Without a disk: whoever keeps it is told from the first record on, not by what the system has joined since.
    without = {**{k: v for k, v in profile.items() if k not in ("uuid", "disks", "arbiter")}, "name": "p9", "networks": []}
    pair.a.kill()
    certificate = pair.a.base / "state" / "tls" / "cert.pem"
    good = certificate.read_bytes()
    certificate.write_text("damaged")
    pair.a.start()
    created = pair.a.call("partition-create", profile=without)["profile"]
    assert created["arbiter"] == "file"
    pair.a.kill()
    certificate.write_bytes(good)
    pair.a.start()
    assert pair.a.call("partition-show", partition="p9")["record"]["owner"] == "sys-a"


def test_reboot_during_a_move(pair):
    """A reboot that has to end QEMU, for a new mode, while a copy is under way: it ends the move, and the partition starts anew."""
    pair.create()
    pair.a.call("partition-change", partition="p1", changes={"preferred_mode": "x86-64-v1"})
    pair.begin(pair.a, pair.b, max_rate=200_000)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    old = pair.a.qemu_pids()
    run = pair.a.run / "partitions" / pair.profile["uuid"]
    with socket.socket(socket.AF_UNIX) as qmp:  # the second monitor: the first is lpm-host's
        qmp.connect(str(run / "qmp2.sock"))
        for command in ("qmp_capabilities", "system_reset"):
            qmp.sendall(json.dumps({"execute": command}).encode() + b"\n")
        time.sleep(0.3)
    pair.ends(pair.a, "aborted")
    wait_for(lambda: pair.states()[0] == "running", "it was started anew")
    assert pair.a.qemu_pids() != old
    assert pair.a.call("partition-show", partition="p1")["current_mode"] == "x86-64-v1"
    pair.ends(pair.b, "aborted")
