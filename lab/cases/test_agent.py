# SPDX-License-Identifier: Apache-2.0
"""The guest agent of real partitions: what is missing between it and lpm-host, and the clock that stood still in a long blackout."""

import json
import os
import pathlib
import signal
import time

import pytest

from installation import program
from lablib import wait_for
from test_crash_points import restart_host
from tidy import both_finished
from witness import runs_once


@pytest.fixture(scope="module")
def spoken(lab):
    return lab.create("system-a", "spoken", "x86-64", 81)


def diagnose(lab, code=0):
    """{step: row} and the whole answer."""
    done = lab.lpm("partition", "diagnose", "spoken", "--json", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    return {row["step"]: row for row in answer["steps"]}, answer


def test_what_is_missing_is_named(lab, spoken):
    def shell(text):
        return lab.partition_shell(spoken.address, text)
    wait_for(lambda: lab.lpm("partition", "diagnose", "spoken", check=False).returncode == 0, 60, "everything to be there")
    steps, answer = diagnose(lab)
    assert (answer["verdict"], answer["rmc"], answer["system"]) == ("ok", "active", lab.where("spoken")), answer
    assert {row["result"] for row in steps.values()} == {"ok"} and answer["agent_version"] and answer["drmgr_version"]

    shell("mv /usr/sbin/lpm-drmgr /usr/sbin/lpm-drmgr.away")
    steps, answer = diagnose(lab)
    assert answer["verdict"] == "limited" and steps["lpm-drmgr"]["result"] == "warning" and steps["commands"]["result"] == "ok"
    assert "guest-package" in lab.lpm("partition", "diagnose", "spoken").stdout
    shell("mv /usr/sbin/lpm-drmgr.away /usr/sbin/lpm-drmgr")

    shell("killall -STOP qemu-ga")
    steps, answer = diagnose(lab, 7)
    assert (answer["verdict"], answer["rmc"], steps["agent"]["result"]) == ("broken", "silent", "missing"), answer
    assert "has the channel open and does not answer" in steps["agent"]["what"] and steps["commands"]["result"] == "unknown"
    assert "lpm partition diagnose spoken says why" in lab.lpm("partition", "show", "spoken").stdout
    shell("killall -CONT qemu-ga")
    wait_for(lambda: lab.lpm("partition", "diagnose", "spoken", check=False).returncode == 0, 60, "the agent to be back by itself")


def is_stopped(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("by", ["lpm-drmgr", pytest.param("agent", marks=pytest.mark.long)])
def test_a_clock_that_stood_still_is_set(lab, spoken, by):
    """By the agent where it has hwclock, else by lpm-drmgr. The target's lpm-host stands still for three seconds right before it lets the partition run."""
    if b"LPM_CRASH" not in program("lpm-host").read_bytes():
        pytest.skip("lpm-host was built without crash points")
    source = lab.where("spoken")
    target = next(system for system in lab.systems if system != source)
    lab.partition_shell(spoken.address, f"rm -f /sbin/hwclock; date -s @{int(time.time())}")
    if by == "agent":
        lab.partition_shell(spoken.address, "ln -s $(which busybox) /sbin/hwclock; killall qemu-ga")  # it looks for that once
        wait_for(lambda: lab.lpm("partition", "diagnose", "spoken", check=False).returncode == 0, 60, "the agent to be there again")
    restart_host(lab, target, {"LPM_CRASH": "dst-cont-before,stop"})
    pid = lab.pid(f"lpm-host-{target}")
    migration = lab.migrate("spoken", target, wait=False)
    wait_for(lambda: is_stopped(pid), 60, "the target's lpm-host to stand still")
    time.sleep(3)  # the blackout itself
    os.kill(pid, signal.SIGCONT)
    status = lab.wait_for_migration(migration, 60)
    assert status["state"] == "completed", status["error"]

    def stepped():
        scripts = lab.rest("GET", f"/v1/migrations/{migration}")["scripts"]
        return next((phase for phase in scripts if phase["phase"] == "clock"), None)
    clock = wait_for(stepped, 60, "the clock in the migration's record")
    assert clock["result"] == "stepped" and abs(clock["after_ms"]) < 500, clock
    assert 2900 <= clock["stood_ms"] <= clock["behind_ms"] + 1500 and clock["behind_ms"] >= 2000, clock
    before = time.time()
    guest = int(lab.partition_shell(spoken.address, "date +%s"))
    assert before - 1.5 <= guest <= time.time() + 0.5
    assert "clock: stepped" in lab.lpm("migration", "show", migration).stdout
    both_finished(lab, migration)
    runs_once(lab, spoken, target)
    restart_host(lab, target)
