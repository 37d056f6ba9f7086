# SPDX-License-Identifier: Apache-2.0
"""Moves between two lpm-hosts, good ones and those that end early."""
import os
import signal
import time

import pytest
from hosts import RpcError, wait_for


def test_there_and_back(pair):
    pair.create()
    pair.says_more(pair.a)
    status = pair.move(pair.a, pair.b, verify=True)
    pair.says_more(pair.b)
    assert status["verify"]["pages"] > 0 and status["verify"]["differing"] == 0
    source = pair.status(pair.a)
    assert source["blackout_ms"] is not None and 0 < source["blackout_ms"] < 5000
    assert [phase["name"] for phase in source["phases"]] == ["prepare", "copy", "switchover", "verify", "commit", "finish"]
    assert source["stream_bytes"] > 64 * 1024 and source["record"] == "RUN" and source["error"] is None
    assert pair.states() == [None, "running"]
    assert pair.a.qemu_pids() == []
    there = pair.judge(pair.a, pair.b)
    first = pair.tails["sys-a"]
    pair.move(pair.b, pair.a)
    pair.says_more(pair.a)
    pair.tails["first"] = first
    assert pair.states() == ["running", None]
    first.seek(0)
    lines = (first.read() + pair.numbers(pair.b) + pair.numbers(pair.a)).split(b"\n")[:-1]
    assert [int(line, 16) for line in lines] == list(range(1, len(lines) + 1))
    assert len(lines) > there


def test_inactive(pair):
    pair.create(start=False)
    pair.begin(pair.a, pair.b, active=False)
    pair.ends(pair.a, "completed")
    pair.ends(pair.b, "completed")
    assert pair.states() == [None, "not-activated"]
    pair.b.call("partition-start", partition="p1")
    pair.tail(pair.b)
    pair.says_more(pair.b)


def test_stop_while_copying(pair):
    pair.create()
    pair.begin(pair.a, pair.b, max_rate=200_000)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    pair.a.call("migration-stop", migration=pair.migration)
    status = pair.ends(pair.a, "aborted")
    assert status["error"]["class"] == "aborted" and "runs on sys-a" in status["error"]["desc"]
    pair.ends(pair.b, "aborted")
    assert pair.states() == ["running", None]
    pair.says_more(pair.a)
    pair.judge(pair.a)
    pair.move(pair.a, pair.b)
    pair.says_more(pair.b)
    pair.judge(pair.a, pair.b)


@pytest.mark.parametrize("victim", ["source mover", "target mover", "target qemu"])
def test_death_while_copying(pair, victim):
    pair.create()
    pair.begin(pair.a, pair.b, max_rate=200_000)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    time.sleep(0.3)
    if victim == "target qemu":
        pids = pair.b.qemu_pids()
    else:
        host = pair.a if victim == "source mover" else pair.b
        children = f"/proc/{host.process.pid}/task/{host.process.pid}/children"
        pids = [int(pid) for pid in open(children).read().split()
                if "lpm-mover" in open(f"/proc/{pid}/cmdline").read()]
    assert len(pids) == 1
    os.kill(pids[0], signal.SIGKILL)
    status = pair.ends(pair.a, "aborted")
    assert "runs on sys-a" in status["error"]["desc"]
    pair.ends(pair.b, "aborted")
    assert pair.states() == ["running", None]
    pair.says_more(pair.a)
    pair.move(pair.a, pair.b)
    pair.says_more(pair.b)
    pair.judge(pair.a, pair.b)


def test_source_qemu_dies_while_copying(pair):
    pair.create()
    pair.begin(pair.a, pair.b, max_rate=200_000)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    os.kill(pair.a.qemu_pids()[0], signal.SIGKILL)
    status = pair.ends(pair.a, "aborted")
    assert "stays on sys-a" in status["error"]["desc"] and "start it" in status["error"]["desc"]
    pair.ends(pair.b, "aborted")
    pair.a.call("partition-start", partition="p1")
    assert pair.states() == ["running", None]


@pytest.mark.parametrize("who", ["a", "b"])
def test_host_killed_while_copying(pair, who):
    pair.create()
    pair.begin(pair.a, pair.b, max_rate=200_000)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    victim = getattr(pair, who)
    victim.kill()
    pair.says_more(pair.a)
    victim.start()
    pair.ends(pair.a, "aborted")
    pair.ends(pair.b, "aborted")
    assert pair.states() == ["running", None]
    pair.says_more(pair.a)
    pair.move(pair.a, pair.b)
    pair.says_more(pair.b)
    pair.judge(pair.a, pair.b)


def test_refusals(pair):
    pair.create(shared=False)
    with pytest.raises(RpcError, match="not 32 hexadecimal digits"):
        pair.b.call("migration-prepare", migration="zz", source="sys-a", profile={}, runtime={})
    with pytest.raises(RpcError, match="no migration"):
        pair.a.call("migration-query", migration="00" * 16)
    with pytest.raises(RpcError, match="cannot be the target"):
        pair.a.call("migration-start", migration="11" * 16, partition="p1", target="sys-a", addresses=["127.0.0.3"],
                    port=1, key="00" * 32)
    with pytest.raises(RpcError, match="p1"):  # private memory cannot be verified
        pair.a.call("migration-start", migration="11" * 16, partition="p1", target="sys-b", addresses=["127.0.0.3"],
                    port=1, key="00" * 32, options={"verify": True})
    pair.a.call("migration-start", migration="22" * 16, partition="p1", target="sys-b", addresses=["127.0.0.3"], port=1,
                key="00" * 32)
    pair.migration = "22" * 16
    status = pair.ends(pair.a, "aborted")
    assert status["error"]["class"] == "unreachable"
    with pytest.raises(RpcError) as caught:
        pair.b.call("partition-start", partition="p1")
    assert caught.value.error_class == "not-found"
    pair.says_more(pair.a)
    pair.judge(pair.a)


def test_probe(pair):
    arguments = {"probe": "ab" * 16, "key": "cd" * 32}
    where = pair.b.call("probe-listen", peer="sys-a", **arguments)
    found = pair.a.call("probe-run", peer="sys-b", addresses=where["addresses"], port=where["port"], bytes=1 << 20,
                        **arguments)
    assert found["connected"] and found["error"] == "" and found["round_trip_us"] > 0 and found["bytes_per_second"] > 0
    found = pair.a.call("probe-run", peer="sys-b", addresses=["127.0.0.3"], port=1, **arguments)
    assert not found["connected"] and found["error"]
