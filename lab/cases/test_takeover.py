# SPDX-License-Identifier: Apache-2.0
"""A cluster member is lost while its partition moves: the others take its work over when it is certain that no copy of it runs, and not
before. The cluster's own part is in test_cluster.py; here its script only says what it is told."""

import os
import signal
import time

import pytest

from lablib import LabError, wait_for
from test_scripts import Scripts

pytestmark = pytest.mark.long  # tests/console/test_taking_over.py is short

SLOW = 4 << 20  # bytes/s: the copy takes long enough to be harmed
MEMBER = """case $1 in checkmigrate)
    echo LPM_FACT=cluster_node=node1; echo LPM_FACT=cluster_token_ms=60000; echo LPM_FACT=cluster_takeover={mode}; echo LPM_FACT=cluster_standby=standby ;;
takeover) echo "$LPM_MEMBER" >>/tmp/taken; echo DR_LOG_INFO=node1 has left ;; esac; exit 0"""


@pytest.fixture(scope="module")
def pair(lab):
    """The partition that is lost, and the one that takes its work over."""
    subject, standby = lab.create("system-a", "lost", "x86-64", 70), lab.create("system-b", "standby", "x86-64", 71)
    Scripts(lab, standby).install("pacer", MEMBER.format(mode="alert"))
    return subject, standby


def taken(lab, pair):
    return lab.partition_shell(pair[1].address, "cat /tmp/taken 2>/dev/null; rm -f /tmp/taken").split()


def copying(lab, pair, mode):
    """A move of the first that copies; (migration, number of the last event before)."""
    subject = pair[0]
    if not any(lab.emulators(subject.name).values()):
        lab.lpm("partition", "start", subject.name)
        lab.wait_for_partition(subject.address)
    scripts = Scripts(lab, subject)
    scripts.clear()
    scripts.install("pacer", MEMBER.format(mode=mode))
    since = max((e["number"] for e in lab.rest("GET", "/v1/events")["events"]), default=0)
    migration = lab.migrate(subject.name, scripts.there, wait=False, max_rate=SLOW, verify=False)
    lab.wait_for_migration(migration, until=lambda s: s["phase"] == "copy" or s["finished"])
    return migration, since


def said(lab, since, kind):
    return [e["message"] for e in lab.rest("GET", f"/v1/events?since={since}")["events"] if e["kind"] == kind and e["object"] == "lost"]


def lose(lab, migration):
    for pids in lab.emulators("lost").values():
        for pid in [pids] if isinstance(pids, int) else pids:
            os.kill(pid, signal.SIGKILL)
    status = lab.wait_for_migration(migration)
    assert status["state"] == "failed", status["state"]


def test_its_work_is_taken_over_once_nothing_of_it_runs(lab, pair):
    migration, since = copying(lab, pair, "auto")
    lose(lab, migration)
    done = wait_for(lambda: [m for m in said(lab, since, "partition") if "the work of cluster member node1" in m], 90, "the takeover")
    assert "no copy of it runs" in done[0] and "standby: node1 has left" in done[0]
    assert not any(lab.emulators("lost").values())
    assert taken(lab, pair) == ["node1"]
    assert said(lab, since, "alarm") == []


def test_an_alarm_and_a_word(lab, pair):
    migration, since = copying(lab, pair, "alert")
    lose(lab, migration)
    alarm = wait_for(lambda: said(lab, since, "alarm"), 60, "the alarm")
    assert "lpm cluster takeover lost" in alarm[0] and migration in alarm[0]
    assert taken(lab, pair) == [], "nobody has said the word yet"
    answer = lab.lpm_json("cluster", "takeover", "lost")
    assert answer["finished"] and answer["migration"] == migration and answer["member"] == "node1"
    assert answer["standbys"] == [{"partition": "standby", "result": "ok", "words": "node1 has left"}]
    assert taken(lab, pair) == ["node1"]
    nobody = lab.lpm("cluster", "takeover", "lost", "--standby", "nobody", check=False)
    assert nobody.returncode != 0 and "is off, but no standby has taken its work over" in nobody.stderr


def test_nothing_is_taken_over_from_a_partition_that_runs(lab, pair):
    """Neither while it moves, nor after a move that was stopped, nor for the asking."""
    migration, since = copying(lab, pair, "auto")
    with pytest.raises(LabError) as waited:
        lab.lpm("cluster", "takeover", "lost", "--timeout", "2")
    assert "is not known to be off" in str(waited.value) and migration in str(waited.value)
    lab.rest("POST", f"/v1/migrations/{migration}/stop")
    assert lab.wait_for_migration(migration)["state"] == "stopped"
    with pytest.raises(LabError) as refused:
        lab.lpm("cluster", "takeover", "lost")
    assert 'partition "lost" is not lost: it is running on system' in str(refused.value) and "--force" in str(refused.value)
    time.sleep(1)  # for what must not come
    assert taken(lab, pair) == [] and said(lab, since, "alarm") == []
    lab.wait_for_partition(pair[0].address)
    answer = lab.lpm_json("cluster", "takeover", "lost", "--force")
    assert answer["finished"] and not any(lab.emulators("lost").values())
    assert taken(lab, pair) == ["node1"]
