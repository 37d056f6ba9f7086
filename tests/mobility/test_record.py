# SPDX-License-Identifier: Apache-2.0
"""Where the ownership record is: settled when a partition is created, and not moved by a change of its profile."""
import pytest
from hosts import RpcError


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
