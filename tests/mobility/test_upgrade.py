# SPDX-License-Identifier: Apache-2.0
"""Neighbouring releases, and lpm-host restarted as a newer one during a move. Needs a build with -Dcrash_points=true."""

import contextlib
import sqlite3

import pytest
from hosts import RpcError, needs_crash_points, wait_for


@pytest.fixture(autouse=True)
def crash_points():
    needs_crash_points()


def restart_as(system, release):
    system.kill()
    system.environment = {"LPM_RELEASE": release}
    system.start()


@pytest.mark.parametrize("older", ["a", "b"])
def test_neighbours_move_to_each_other(pair, older):
    """One system of the release before, whose mover neither codes nor resumes: to it and back."""
    restart_as(getattr(pair, older), "previous")
    pair.create()
    pair.says_more(pair.a)
    pair.move(pair.a, pair.b, verify=True)
    pair.says_more(pair.b)
    old = pair.status(getattr(pair, older))
    new = pair.status(pair.other(getattr(pair, older)))
    assert "sees" not in old and "sees" in new
    assert new["coding"]["raw_bytes"] == 0, "something was coded that the older one cannot read"
    pair.judge(pair.a, pair.b)
    pair.move(pair.b, pair.a)
    pair.says_more(pair.a)


def test_the_older_one_has_no_words(pair):
    restart_as(pair.a, "previous")
    assert pair.a.call("system-info")["rpc_versions"] == [1] and pair.b.call("system-info")["rpc_versions"] == [1, 2]
    pair.create()
    pair.begin(pair.a, pair.b, max_rate=200_000)
    with pytest.raises(RpcError, match="unknown argument"):
        pair.a.word(pair.migration, "target-off", "target sys-b is off")
    pair.a.call("migration-stop", migration=pair.migration)
    pair.ends(pair.a, "aborted")


@pytest.mark.parametrize("who", ["a", "b"])
def test_upgraded_during_the_copy(pair, who):
    """Stopped in order, its database as the release before had it, started: the partition is where it was, and moves the next time."""
    pair.create()
    pair.begin(pair.a, pair.b, max_rate=200_000)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    system = getattr(pair, who)
    system.terminate()
    system.as_version_1()
    system.start()
    pair.ends(pair.a, "aborted")
    pair.ends(pair.b, "aborted")
    assert pair.states() == ["running", None]
    pair.says_more(pair.a)
    pair.move(pair.a, pair.b)
    pair.judge(pair.a, pair.b)


@pytest.mark.parametrize("who, crash", [("b", "dst-take-after"), ("b", "dst-intent-after"), ("a", "src-offer-after"),
                                        ("b", "dst-running-after")])
def test_upgraded_during_the_handover(pair, who, crash):
    """It dies at the worst moment and comes back as a newer release with the older one's database: the record decides as ever."""
    pair.create()
    system = getattr(pair, who)
    system.kill()
    system.start(crash=crash)
    pair.says_more(pair.a)
    pair.begin(pair.a, pair.b)
    system.dies()
    system.as_version_1()
    system.start()
    pair.ends(pair.b, "completed")
    pair.ends(pair.a, "completed")
    assert pair.states() == [None, "running"]
    pair.tail(pair.b)
    pair.says_more(pair.b)
    pair.judge(pair.a, pair.b)


def test_a_newer_database_is_refused(pair):
    pair.create()
    pair.a.kill()
    pair.a.as_version_1()
    pair.a.start()
    pair.a.kill()
    with contextlib.closing(sqlite3.connect(pair.a.base / "state" / "host.db")) as database, database:
        database.executescript("INSERT INTO release VALUES (3, 'OpenLPM 0.3.0', 1); PRAGMA user_version = 3;")
    pair.a.launch(None)
    assert pair.a.process.wait(20) != 0
    pair.a.process = None
    assert "its version 3 is newer than the 2" in pair.a.log.read_text() and "OpenLPM 0.3.0" in pair.a.log.read_text()
    assert len(pair.a.qemu_pids()) == 1, "the partition runs on"
