# SPDX-License-Identifier: Apache-2.0
"""Moves between two lpm-hosts, good ones and those that end early."""
import concurrent.futures
import contextlib
import fcntl
import os
import secrets
import signal
import threading
import time

import pytest
from hosts import PATIENCE, LockedRecord, RpcError, needs_crash_points, wait_for


def test_there_and_back(pair):
    pair.create()
    pair.says_more(pair.a)
    status = pair.move(pair.a, pair.b, verify=True)
    pair.says_more(pair.b)
    assert status["verify"]["pages"] > 0 and status["verify"]["differing"] == 0
    source = pair.status(pair.a)
    assert source["blackout_ms"] is not None and 0 < source["blackout_ms"] < 5000
    assert [phase["name"] for phase in source["phases"]] == ["prepare", "copy", "switchover", "verify", "commit", "finish"]
    commit = {**source["commit"], **status["commit"]}
    assert set(commit) == {"offer_ms", "take_ms", "intent_ms", "resume_ms"} and 0 < sum(commit.values()) < source["blackout_ms"]
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


def images(*systems):
    return [system.call("store-list")["images"] for system in systems]


def sealed_everywhere(pair):
    return wait_for(lambda: all(len(kept) == 1 and kept[0]["state"] == "sealed" for kept in images(pair.a, pair.b)),
                    "both systems have sealed their image")


def test_images_on_both_sides(pair):
    """Both keep the same one; with it the way back is small; whoever has none sends everything; a deleted partition leaves none."""
    # What a link faster than coding carries goes by the image; over several channels pages of zeros are no bytes at all.
    slow = {"max_rate": 2_000_000, "channels": 0}
    pair.create()
    pair.says_more(pair.a)
    pair.move(pair.a, pair.b, **slow)
    first = pair.status(pair.a)
    sealed_everywhere(pair)
    (a,), (b,) = images(pair.a, pair.b)
    assert a["image"] == b["image"] == pair.migration and a["pages"] == b["pages"] > 256
    assert a["partition"] == "p1" and a["generation"] == 1
    store = pair.b.base / "state" / "store"
    assert (store / f"{pair.profile['uuid']}.image").stat().st_mode & 0o777 == 0o600
    pair.move(pair.b, pair.a, **slow)
    back = pair.status(pair.b)
    assert back["coding"]["same"] > 0 and first["coding"]["raw_bytes"] > 0, (first, back)
    sealed_everywhere(pair)
    (a,), (b,) = images(pair.a, pair.b)
    assert a["image"] == b["image"] == pair.migration and a["generation"] == b["generation"] == 2
    assert pair.b.call("store-drop", partition="p1") == {"dropped": 1}
    pair.move(pair.a, pair.b, **slow)  # a first move again
    sealed_everywhere(pair)
    (a,), (b,) = images(pair.a, pair.b)
    assert a["image"] == b["image"] == pair.migration and b["generation"] == 1
    pair.b.call("partition-stop", partition="p1", how="hard")
    pair.b.call("partition-delete", partition="p1")
    assert images(pair.b) == [[]] and not list(store.iterdir())


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
        pids = movers(pair.a if victim == "source mover" else pair.b)
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


def movers(host):
    children = f"/proc/{host.process.pid}/task/{host.process.pid}/children"
    return [int(pid) for pid in open(children).read().split() if "lpm-mover" in open(f"/proc/{pid}/cmdline").read()]


@pytest.mark.long
def test_who_stood_still_calls_nobody_dead(pair):
    """A system that stood still as a whole for a while: its lpm-host is first to go on, and has heard nothing of its mover."""
    pair.create()
    pair.begin(pair.a, pair.b, max_rate=100_000)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    (mover,) = movers(pair.a)
    stopped = [mover, pair.a.process.pid]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(8.5)
    os.kill(stopped[1], signal.SIGCONT)
    assert pair.status(pair.a)["phase"] == "copy"
    time.sleep(1.5)
    with contextlib.suppress(ProcessLookupError):  # the end of the move tells
        os.kill(mover, signal.SIGCONT)
    pair.a.call("migration-set", migration=pair.migration, max_rate=0)
    pair.ends(pair.a, "completed")
    pair.ends(pair.b, "completed")
    pair.tail(pair.b)
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


def test_source_dies_before_it_began(pair):
    """QEMU ends while the record has not answered yet: refused for certain, not like an answer that was lost on its way."""
    pair.create()
    where = pair.prepare(pair.a, pair.b, connect_timeout_ms=4000)
    lock = LockedRecord(pair)
    thread, failures = start_behind(pair, where)
    try:
        thread.start()
        time.sleep(0.5)
        os.kill(pair.a.qemu_pids()[0], signal.SIGKILL)
        thread.join(10)
    finally:
        lock.release()
    assert len(failures) == 1 and failures[0].error_class == "state" and "before it began" in str(failures[0])
    pair.ends(pair.b, "aborted")
    assert pair.states()[1] is None


def test_another_move_between_prepare_and_start(pair):
    """The target prepared for a partition whose record has been changed since: nothing is copied to it."""
    pair.create()
    where = pair.prepare(pair.a, pair.b)
    wanted = pair.migration, pair.key
    pair.migration = secrets.token_hex(16)
    pair.start_prepared(pair.a, pair.b, {**where, "port": 1}, retry_ms=0)  # nobody is there
    pair.ends(pair.a, "aborted")
    assert pair.a.call("partition-show", partition="p1")["record"]["state"] == "BACK"
    pair.migration, pair.key = wanted
    pair.start_prepared(pair.a, pair.b, where)
    status = pair.ends(pair.b, "aborted")
    assert "was changed by another move between prepare and start" in status["error"]["desc"], status
    assert pair.ends(pair.a, "aborted")["stream_bytes"] == 0
    assert pair.states() == ["running", None]
    pair.move(pair.a, pair.b)


def test_recovered_before_it_began(pair):
    """A console that died between prepare and start asks the target to recover: it does not wait for a source that will not come."""
    pair.create()
    pair.prepare(pair.a, pair.b)
    pair.b.call("migration-recover", migration=pair.migration)
    pair.ends(pair.b, "aborted", patience=3)
    assert pair.states() == ["running", None] and not pair.b.qemu_pids()
    pair.move(pair.a, pair.b)
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


@pytest.mark.parametrize("crash", ["dst-take-after", "dst-cont-after"])
def test_target_lost_for_good(pair, crash):
    """TAKEN, and the target is gone: the source waits, paused, until somebody gives their word; since the target may have run it, the
    source's memory is not gone on with."""
    needs_crash_points()
    pair.create()
    pair.b.kill()
    pair.b.start(crash=crash)
    pair.says_more(pair.a)
    pair.begin(pair.a, pair.b)
    pair.b.dies()
    for pid in pair.b.qemu_pids():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: (now := pair.status(pair.a))["record"] == "TAKEN" and now["links"]["up"] == 0, "the source sees TAKEN, alone")
    said = len(pair.numbers(pair.a))
    with pytest.raises(RpcError) as caught:
        pair.a.call("migration-stop", migration=pair.migration)
    assert caught.value.error_class == "state"
    status = pair.a.call("migration-recover", migration=pair.migration)
    assert not status["finished"] and status["record"] == "TAKEN"
    assert len(pair.numbers(pair.a)) == said  # it did not guess
    with pytest.raises(RpcError):
        pair.a.call("partition-start", partition="p1")
    for arguments in ({"word": "target-off", "say": "target sys-a is off"}, {"word": "discard", "say": "discard p1 at sys-b"},
                      {"word": "target-off"}, {"force": True}):
        with pytest.raises(RpcError) as caught:
            pair.a.call("migration-recover", migration=pair.migration, **arguments)
        assert caught.value.error_class == "usage" and "target" in str(caught.value), arguments
    status = pair.status(pair.a)
    assert status["sees"] == {"record": "TAKEN", "qemu": "completed"} and status["words"] == []
    with (pair.pool / ".lpm" / f"{pair.profile['uuid']}.record").open("r+b") as record:
        fcntl.lockf(record, fcntl.LOCK_EX)  # nothing is ended before it is read again
        with pytest.raises(RpcError) as caught:
            pair.a.word(pair.migration, "target-off", "target sys-b is off")
        assert "give the word again" in str(caught.value) and len(pair.a.qemu_pids()) == 1
    before = len(pair.status(pair.a)["words"])

    def taken():  # a look that began while the record was locked may still have to fail
        try:
            return pair.a.word(pair.migration, "target-off", "target sys-b is off")
        except RpcError as error:
            assert "cannot be read now" in str(error), error
    wait_for(taken, "the record is read again, and the word taken")
    word = pair.ends(pair.a, "aborted")["words"][before]
    assert abs(word.pop("time_us") / 1e6 - time.time()) < 60
    who = f"local user {os.geteuid()}, process {os.getpid()}"  # as the kernel says, whatever it claims to be
    assert word == {"word": "target-off", "say": "target sys-b is off", "who": who, "from": "the local socket"}
    assert pair.a.qemu_pids() == []
    pair.b.start()  # it comes back after all
    pair.ends(pair.b, "aborted")
    assert pair.states() == ["not-activated", None]
    pair.a.call("partition-start", partition="p1")
    pair.tail(pair.a)
    pair.says_more(pair.a)
    assert pair.numbers(pair.a)[said:].lstrip(b"\0").split(b"\n")[0] == b"00000001", "it was not booted anew"
    pair.move(pair.a, pair.b)


def start_behind(pair, where):
    """A thread, not started, that asks for migration-start, and the list for its refusal."""
    failures = []

    def begin():
        try:
            pair.a.call("migration-start", migration=pair.migration, partition="p1", target="sys-b", key=pair.key, **where)
        except RpcError as error:
            failures.append(error)
    return threading.Thread(target=begin), failures


def test_arbiter_does_not_answer(pair):
    """No switchover without the arbiter; a move that is given up meanwhile ends when it answers again."""
    pair.create()
    with_room = {"max_rate": 200_000}
    pair.begin(pair.a, pair.b, **with_room)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    lock = LockedRecord(pair)
    try:
        time.sleep(1)
        pair.a.call("migration-stop", migration=pair.migration)
        time.sleep(1)
        status = pair.status(pair.a)
        assert not status["finished"] and status["journal"] == "abort"
        pair.says_more(pair.a)
    finally:
        lock.release()
    pair.ends(pair.a, "aborted")
    pair.ends(pair.b, "aborted")
    pair.says_more(pair.a)
    pair.judge(pair.a)


def test_damaged_record(pair):
    pair.create()
    record = pair.pool / ".lpm" / f"{pair.profile['uuid']}.record"
    good = record.read_bytes()
    record.write_bytes(bytes(1024))
    with pytest.raises(RpcError, match=str(record)):
        pair.prepare(pair.a, pair.b)
    pair.a.call("partition-stop", partition="p1", how="hard")
    with pytest.raises(RpcError, match="no valid ownership record"):
        pair.a.call("partition-start", partition="p1")
    record.write_bytes(good)
    pair.a.call("partition-start", partition="p1")
    assert pair.states() == ["running", None]


def test_started_only_where_the_record_says(pair):
    pair.create(start=False)
    pair.begin(pair.a, pair.b, active=False)
    pair.ends(pair.a, "completed")
    pair.ends(pair.b, "completed")
    # A profile that came back from a backup of the first system's database is of no use there.
    with pytest.raises(RpcError) as caught:
        pair.a.call("partition-create", profile=pair.profile)
    assert caught.value.error_class == "exists" and "sys-b" in str(caught.value)


def test_another_name_after_a_restart(pair):
    """A source that cannot read its certificate goes by its configured name: the record still means the same system."""
    pair.create()
    pair.begin(pair.a, pair.b, max_rate=200_000)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    pair.a.kill()
    (pair.a.base / "state" / "tls" / "cert.pem").write_text("damaged")
    pair.a.config.write_text(pair.a.config.read_text().replace("name = sys-a", "name = node1"))
    pair.a.start()
    pair.ends(pair.a, "aborted")
    assert pair.states()[0] == "running"
    pair.says_more(pair.a)


def test_disks_are_deleted_by_their_owner_only(pair):
    """A profile that was left behind gives no power over the disks."""
    pair.create(start=False)
    record = pair.pool / ".lpm" / f"{pair.profile['uuid']}.record"
    pair.begin(pair.a, pair.b, active=False)
    pair.ends(pair.a, "completed")
    pair.ends(pair.b, "completed")
    moved = record.read_bytes()
    record.unlink()
    pair.a.call("partition-create", profile=pair.profile)
    record.write_bytes(moved)
    with pytest.raises(RpcError, match="belongs to system sys-b") as caught:
        pair.a.call("partition-delete", partition="p1", disks=True)
    assert caught.value.error_class == "state"
    assert (pair.pool / "p1.img").exists() and record.read_bytes() == moved
    pair.a.call("partition-delete", partition="p1")
    assert pair.states()[0] is None
    pair.b.call("partition-delete", partition="p1", disks=True)
    assert not (pair.pool / "p1.img").exists() and not record.exists()


def stuck_with(pair, what):
    """The move is known, waits, and guards its partition: nobody ends what may be the only copy."""
    status = pair.status(pair.a)
    assert not status["finished"] and what in status["error"]["desc"]
    for verb, more in (("partition-stop", {"how": "hard"}), ("partition-restart", {"how": "hard"})):
        with pytest.raises(RpcError, match="cannot be taken up") as caught:
            pair.a.call(verb, partition="p1", **more)
        assert caught.value.error_class == "busy" and what in str(caught.value)
    assert len(pair.a.qemu_pids()) == 1


def test_pool_gone_after_a_restart(pair):
    pair.create()
    pair.begin(pair.a, pair.b, max_rate=200_000)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    pair.a.kill()
    config = pair.a.config.read_text()
    pair.a.config.write_text(config.replace("storage:shared", "storage:other"))
    pair.a.start()
    stuck_with(pair, "pool")
    pair.says_more(pair.a)
    pair.a.kill()
    pair.a.config.write_text(config)
    pair.a.start()
    pair.ends(pair.a, "aborted")
    assert pair.states()[0] == "running"
    pair.a.call("partition-stop", partition="p1", how="hard")


def test_damaged_journal(pair):
    pair.create()
    pair.begin(pair.a, pair.b, max_rate=200_000)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    pair.a.kill()
    good = pair.a.edit_journal(pair.migration, {"journal": "nonsense"})
    pair.a.start()
    stuck_with(pair, "damaged")
    with pytest.raises(RpcError):
        pair.a.call("migration-stop", migration=pair.migration)
    pair.a.kill()
    pair.a.edit_journal(pair.migration, good)
    pair.a.start()
    pair.ends(pair.a, "aborted")
    assert pair.states()[0] == "running"


@pytest.mark.parametrize("active", [False, True])
def test_the_owner_deleted_it(pair, active):
    """The target made ready, the source never began, and its owner deleted the partition: somebody's word ends the rest."""
    pair.create(start=active)
    pair.prepare(pair.a, pair.b, active=active)
    if active:
        pair.a.call("partition-stop", partition="p1", how="hard")
    pair.a.call("partition-delete", partition="p1")
    if not active:  # without the word it waits: a pool that is not there looks the same
        status = pair.b.call("migration-recover", migration=pair.migration)
        assert not status["finished"] and status["journal"] == "loaded"
    wait_for(lambda: pair.status(pair.b)["record"] == "unknown" or active, "the record is missed")
    pair.b.word(pair.migration, "discard", "discard p1 at sys-b")
    pair.ends(pair.b, "aborted")
    assert pair.states() == [None, None] and pair.b.qemu_pids() == []


@pytest.mark.long
def test_discarding_reads_the_record_first(pair):
    """What was seen last is not what is: an offer that came since is not thrown away."""
    pair.create(start=False)
    pair.prepare(pair.a, pair.b, active=False)
    wait_for(lambda: pair.status(pair.b)["record"] == "SRC", "the target has seen the record")
    time.sleep(11)  # from now on it looks every 2 s only
    pair.b.process.send_signal(signal.SIGSTOP)
    try:
        pair.a.call("migration-start", migration=pair.migration, partition="p1", target="sys-b", active=False, key=pair.key)
        wait_for(lambda: pair.status(pair.a)["record"] == "OFFER", "offered")
    finally:
        pair.b.process.send_signal(signal.SIGCONT)
    try:
        pair.b.word(pair.migration, "discard", "discard p1 at sys-b")
    except RpcError as error:
        assert error.error_class == "state"
    pair.ends(pair.b, "completed")
    pair.ends(pair.a, "completed")


def test_discarding_while_qemu_is_being_started(pair):
    pair.create()
    pair.b.kill()
    pair.b.forget_emulators()  # its start waits for them
    pair.b.launch(None)
    wait_for(pair.b.answers, "it answers")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        prepared = pool.submit(pair.prepare, pair.a, pair.b)
        def discard():
            try:
                return pair.b.word(pair.migration, "discard", "discard p1 at sys-b")
            except (AttributeError, RpcError):
                return None
        wait_for(discard, "discarded")
        with pytest.raises(RpcError):
            prepared.result(PATIENCE)
    pair.ends(pair.b, "aborted")
    assert pair.states() == ["running", None]
    time.sleep(1)
    assert pair.b.qemu_pids() == []
    pair.move(pair.a, pair.b)


@pytest.mark.long
def test_inactive_target_waits_a_minute(pair):
    pair.create(start=False)
    pair.prepare(pair.a, pair.b, active=False)
    pair.b.kill()
    pair.b.start()
    time.sleep(50)
    assert not pair.status(pair.b)["finished"]
    pair.ends(pair.b, "aborted")
    assert pair.states() == ["not-activated", None]




def test_stopped_before_it_began(pair):
    """A stop comes while the record has not answered yet: the move was never there."""
    pair.create()
    where = pair.prepare(pair.a, pair.b, connect_timeout_ms=4000)
    lock = LockedRecord(pair)
    thread, failures = start_behind(pair, where)
    try:
        thread.start()
        wait_for(lambda: pair.a.call("migration-list")["migrations"] or pair.states()[0], "it was asked for")
        time.sleep(0.5)
        pair.a.call("migration-stop", migration=pair.migration)
        thread.join(10)
        assert len(failures) == 1 and failures[0].error_class == "aborted"
    finally:
        lock.release()
    with pytest.raises(RpcError, match="no migration"):
        pair.status(pair.a)
    pair.ends(pair.b, "aborted")
    pair.move(pair.a, pair.b)
