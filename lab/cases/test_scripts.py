# SPDX-License-Identifier: Apache-2.0
"""Scripts in a partition that are asked and told about its moves (lpm-drmgr), with real partitions that really move."""

import os
import signal
import time

import pytest

from lablib import wait_for
from tidy import both_finished
from witness import runs_once

SCRIPT = """#!/bin/sh
case $1 in
scriptinfo) echo DR_VERSION=1; echo DR_DATE=01112026; echo DR_VENDOR=lab; echo DR_SCRIPTINFO=lab; exit 0 ;;
register) echo DR_RESOURCE=pmig; exit 0 ;;
esac
read up rest </proc/uptime
echo "$up $(basename $0) $1 $2 force=$DR_FORCE $LPM_MIGRATION_ID $LPM_SOURCE-$LPM_TARGET $LPM_PARTITION $LPM_PHASE $LPM_MAX_BLACKOUT_MS" >>/tmp/calls
"""


class Scripts:
    """What is installed in one partition, and what was called there."""

    def __init__(self, lab, partition):
        self.lab, self.partition = lab, partition
        self.here = lab.where(partition.name)
        self.there = "system-b" if self.here == "system-a" else "system-a"

    def shell(self, text):
        return self.lab.partition_shell(self.partition.address, text)

    def install(self, name, body="exit 0", *options):
        text = SCRIPT + body + "\n"
        out = self.shell(f"mkdir -p /tmp/s\ncat >/tmp/s/{name} <<'END'\n{text}END\nchmod 755 /tmp/s/{name}\n"
                         f"lpm-drmgr -i /tmp/s/{name} -f {' '.join(options)}")
        assert out == "", out

    def hook(self, name):
        self.shell(f"mkdir -p /etc/drmgr.d/pmig\ncat >/etc/drmgr.d/pmig/{name} <<'END'\n#!/bin/sh\n"
                   f"read up rest </proc/uptime\necho \"$up {name} $PHASE $DRC_TYPE $ACTION $DRC_COUNT $# [$LPM_SOURCE]\" >>/tmp/calls\n"
                   f"END\nchmod 755 /etc/drmgr.d/pmig/{name}")

    def calls(self):
        """[words of each call], without the time."""
        return [line.split(" ")[1:] for line in self.shell("cat /tmp/calls 2>/dev/null").splitlines()]

    def names(self):
        return [" ".join(words[:2]) for words in self.calls()]

    def clear(self):
        self.shell("rm -rf /tmp/calls /tmp/s /etc/drmgr.d /usr/lib/dr; lpm-drmgr -b")

    def wait_for_calls(self, number, timeout=30):
        return wait_for(lambda: len(self.calls()) >= number and self.names(), timeout, f"{number} calls of scripts")


@pytest.fixture(scope="module")
def subject(lab):
    """One partition for all cases of this file; it is wherever the last one left it."""
    return lab.create("system-a", "subject", "x86-64", 60)


@pytest.fixture
def scripts(lab, subject):
    """None installed yet; moves go from scripts.here to scripts.there."""
    scripts = Scripts(lab, subject)
    scripts.clear()
    return scripts


def phases(status):
    return [(phase["phase"], phase["result"]) for phase in status["scripts"] if phase["phase"] != "clock"]


def told(lab, migration, phase, timeout=30):
    """Waits until the migration's record has this phase; returns it."""
    def found():
        status = lab.rest("GET", f"/v1/migrations/{migration}")
        return next((p for p in status["scripts"] if p["phase"] == phase and p["result"] in ("ok", "already")), None)
    return wait_for(found, timeout, f"{phase} in the record of {migration}")


def test_a_move_with_scripts(lab, scripts):
    scripts.install("b-db")
    scripts.install("a-web", "echo DR_LOG_INFO=seen")
    scripts.hook("net")
    status = lab.migrate("subject", scripts.there, verify=False)
    assert status["state"] == "completed", status["error"]
    post = told(lab, status["migration"], "post")
    assert [s["name"] for s in post["scripts"]] == ["all/a-web", "all/b-db", "pmig/net"]
    assert scripts.names() == ["a-web checkmigrate", "b-db checkmigrate", "net check", "a-web premigrate", "b-db premigrate",
                               "net pre", "a-web postmigrate", "b-db postmigrate", "net post"]
    for words in scripts.calls():
        if words[0] == "net":
            assert words[2:] == ["pmig", "migrate", "0", "0", "[]"]
        else:
            phase = words[1].removesuffix("migrate")
            assert words[2:] == ["pmig", "force=FALSE", status["migration"], f"{scripts.here}-{scripts.there}", "subject", phase, "300"], words
    pre = next(p for p in status["scripts"] if p["phase"] == "pre")
    begun = {phase["name"]: phase["start_us"] for phase in status["phases"]}
    assert begun["prepare"] <= pre["start_us"] and pre["start_us"] + pre["ms"] * 1000 <= begun["copy"]
    shown = lab.lpm("migration", "show", status["migration"]).stdout
    assert "pre: ok" in shown and "all/b-db postmigrate: yes" in shown
    assert any(f["check"] == "guest.said" and "seen" in f["found"] for f in status["findings"])
    runs_once(lab, lab.partitions["subject"], scripts.there)


CLUSTER = """echo LPM_FACT=cluster_members=3; echo LPM_FACT=cluster_token_ms={token}; echo LPM_FACT=cluster_consensus_ms={consensus}
echo "predicted $LPM_PREDICTED_BLACKOUT_MS limit $LPM_MAX_BLACKOUT_MS" >>/tmp/calls"""


def test_a_cluster_that_does_not_wait_longer_sets_the_limit_of_the_blackout(lab, scripts):
    """It bears half of the silence after which it declares a member lost, 1500 ms here; what is predicted is told in every phase."""
    scripts.install("cluster", CLUSTER.format(token=1400, consensus=1600))
    status = lab.migrate("subject", scripts.there, verify=False, max_blackout_ms=5000)
    assert status["state"] == "completed", status["error"]
    told(lab, status["migration"], "post")
    assert status["options"]["max_blackout_ms"] == status["options"]["cluster_blackout_ms"] == 1500
    found = next(f for f in status["findings"] if f["check"] == "guest.cluster-limit")
    assert "up to 5000 ms were asked for; the move accepts 1500 ms" in found["found"]
    heard = [words for words in scripts.calls() if words[1] in "predicted limit".split() or "limit" in words]
    limits = [words[words.index("limit") + 1] for words in heard]
    assert limits == ["5000", "1500", "1500"], heard
    expected = str(status["prediction"]["blackout_ms"]["value"])
    assert abs(int(heard[0][-3]) - int(expected)) <= 1 + int(expected) // 2 and len({words[-3] for words in heard}) == 1, (heard, expected)


def test_a_cluster_that_does_not_bear_the_blackout_is_refused(lab, scripts):
    scripts.install("cluster", CLUSTER.format(token=2, consensus=2))
    findings = lab.lpm_json("validate", "subject", scripts.there, check=False)["results"][0]["findings"]
    found = next(f for f in findings if f["check"] == "guest.cluster")
    assert found["severity"] == "error" and "at most 2 ms, half of the 4 ms of silence" in found["expected"]
    assert "lpm-pacemaker setup" in found["remedy"]
    findings = lab.lpm_json("validate", "subject", scripts.there, "--override", "guest.cluster", check=False)["results"][0]["findings"]
    assert next(f for f in findings if f["check"] == "guest.cluster")["severity"] == "warning"


def test_a_script_watches_while_the_partition_is_copied(lab, scripts):
    """What it says is in the record and in events; it does not stop the move."""
    scripts.install("guard", 'case $1 in premigrate) echo LPM_FACT=watch_s=1 ;; '
                             'watchmigrate) [ ! -f /tmp/down ] || { echo "DR_ERROR=the web server is down"; exit 10; } ;; esac; exit 0')
    scripts.install("other")
    begun = lab.rest("GET", "/v1/events?limit=1")["events"]
    since = begun[-1]["number"] if begun else 0
    migration = lab.migrate("subject", scripts.there, wait=False, max_rate=2 << 20)

    def watch(status):
        return next((p for p in status["scripts"] if p["phase"] == "watch"), None)

    def changes(status):
        return [(c["name"], c["good"], c["words"]) for c in (watch(status) or {"changes": []})["changes"]]

    lab.wait_for_migration(migration, until=lambda s: watch(s) is not None or s["finished"])
    scripts.shell("touch /tmp/down")
    down = ("all/guard", False, "the web server is down")
    status = lab.wait_for_migration(migration, until=lambda s: changes(s) == [down] or s["finished"])
    assert not status["finished"] and changes(status) == [down], watch(status)
    assert "ALARM: the web server is down" in lab.lpm("migration", "show", migration).stdout
    scripts.shell("rm /tmp/down")
    status = lab.wait_for_migration(migration, until=lambda s: len(changes(s)) == 2 or s["finished"])
    assert not status["finished"] and changes(status) == [down, ("all/guard", True, "all is well again")]
    lab.rest("PATCH", f"/v1/migrations/{migration}", {"max_rate": 0})
    status = lab.wait_for_migration(migration)
    assert status["state"] == "completed", status["error"]
    told(lab, migration, "post")
    events = [e for e in lab.rest("GET", f"/v1/events?since={since}")["events"] if e["object"] == migration]
    assert [e["kind"] for e in events if "all/guard" in e["message"]] == ["alarm", "migration"], events
    watched = [name for name in scripts.names() if name.endswith("watchmigrate")]
    assert set(watched) == {"guard watchmigrate"} and len(watched) >= watch(status)["runs"] >= 3
    runs_once(lab, lab.partitions["subject"], scripts.there)


def test_a_veto_stops_it_before_anything_has_changed(lab, scripts):
    scripts.install("a-web")
    scripts.install("backup", "echo 'DR_ERROR=the backup runs until noon'; exit 10")
    run = lab.lpm("migrate", "subject", scripts.there, check=False)
    assert run.returncode != 0 and "the backup runs until noon" in run.stdout + run.stderr
    assert scripts.names() == ["a-web checkmigrate", "backup checkmigrate"]
    assert lab.where("subject") == scripts.here
    validated = lab.lpm_json("validate", "subject", scripts.there, check=False)["results"][0]
    assert any("all/backup" in f["object"] and f["severity"] == "error" and not f["overridable"] for f in validated["findings"])


@pytest.mark.long
def test_a_no_is_not_heard_where_it_is_forced(lab, scripts):
    scripts.install("backup", "echo 'DR_ERROR=the backup runs until noon'; exit 10")
    status = lab.migrate("subject", scripts.there, verify=False, force_scripts=True)
    assert status["state"] == "completed", status["error"]
    assert any(f["check"] == "guest.scripts" and f["overridden"] for f in status["findings"])
    told(lab, status["migration"], "post")
    assert all("force=TRUE" in " ".join(words) for words in scripts.calls() if words[1] == "premigrate")


def test_an_abort_after_pre_undoes_once_in_reverse_order(lab, scripts):
    scripts.install("a-web")
    scripts.install("b-db", "[ $1 != premigrate ] || { echo DR_ERROR=cannot flush; exit 10; }")
    scripts.install("c-last")
    status = lab.migrate("subject", scripts.there, verify=False)
    assert status["state"] == "failed" and "all/b-db" in status["error"]["message"] and "cannot flush" in status["error"]["message"]
    told(lab, status["migration"], "undo")
    time.sleep(1)  # nobody may come a second time
    assert scripts.names()[3:] == ["a-web premigrate", "b-db premigrate", "b-db undopremigrate", "a-web undopremigrate"]
    assert lab.where("subject") == scripts.here
    runs_once(lab, lab.partitions["subject"], scripts.here)


def kill_and_restart(lab, place):
    """lpm-host dies without a word, and is started again."""
    os.kill(lab.pid(f"lpm-host-{place}"), signal.SIGKILL)
    wait_for(lambda: f"lpm-host-{place}" not in lab.recorded_processes(), 10, "end of lpm-host")
    lab.start_host(place)
    lab.wait_for_system(place)


@pytest.mark.long
def test_a_killed_host_settles_what_pre_has_begun(lab, scripts):
    scripts.install("a-web")
    scripts.install("slow", "[ $1 != premigrate ] || sleep 600")
    migration = lab.migrate("subject", scripts.there, wait=False, verify=False)
    wait_for(lambda: "slow premigrate" in scripts.names(), 30, "pre of the slow script")
    kill_and_restart(lab, scripts.here)
    both_finished(lab, migration)
    told(lab, migration, "undo", 60)
    assert scripts.names()[2:] == ["a-web premigrate", "slow premigrate", "slow undopremigrate", "a-web undopremigrate"]
    assert scripts.shell("pidof sleep | wc -w; lpm-drmgr --status").split() == ["0"], "a process of a script, or a move, was left"
    runs_once(lab, lab.partitions["subject"], scripts.here)


@pytest.mark.long
def test_a_hanging_script_costs_its_limit(lab, scripts):
    scripts.install("hangs", "sleep 600", "-w", "2s")
    begun = time.monotonic()
    status = lab.migrate("subject", scripts.there, verify=False)
    assert status["state"] == "refused" and time.monotonic() - begun < 20
    assert any("2.0 s" in finding["found"] for finding in status["findings"])
    scripts.install("hangs", "[ $1 = checkmigrate ] || sleep 600", "-w", "2s")
    status = lab.migrate("subject", scripts.there, verify=False)
    assert status["state"] == "failed" and "2.0 s" in status["error"]["message"]
    told(lab, status["migration"], "undo")
    runs_once(lab, lab.partitions["subject"], scripts.here)


def test_a_script_that_could_not_put_back_is_told_again(lab, scripts):
    """The record has what all of them said."""
    scripts.install("a-web")
    scripts.install("b-db", "[ $1 != postmigrate ] || [ -f /tmp/once ] || { touch /tmp/once; echo DR_ERROR=not yet; exit 10; }; exit 0")
    status = lab.migrate("subject", scripts.there, verify=False)
    assert status["state"] == "completed", status["error"]
    wait_for(lambda: scripts.names()[-2:] == ["b-db postmigrate", "b-db postmigrate"], 60, "the second time", 0.3)
    post = told(lab, status["migration"], "post")
    assert post["result"] == "ok" and [(s["name"], s["answer"]) for s in post["scripts"]] == [("all/a-web", "yes"), ("all/b-db", "yes")]


@pytest.mark.long
def test_a_hanging_post_hinders_nobody(lab, scripts):
    scripts.install("hangs", "[ $1 != postmigrate ] || sleep 600", "-w", "5s")
    status = lab.migrate("subject", scripts.there, verify=False)
    assert status["state"] == "completed"
    runs_once(lab, lab.partitions["subject"], scripts.there)
    post = told(lab, status["migration"], "post")
    assert post["scripts"][0]["end"] == "timed-out"


@pytest.mark.long
def test_skipped_scripts_are_recorded(lab, scripts):
    scripts.install("backup", "echo DR_ERROR=no; exit 10")
    status = lab.migrate("subject", scripts.there, verify=False, skip_scripts=True)
    assert status["state"] == "completed" and scripts.names() == []
    assert any(f["check"] == "guest.skipped" for f in status["findings"])


@pytest.mark.long
def test_a_stop_during_pre_undoes(lab, scripts):
    scripts.install("slow", "[ $1 != premigrate ] || sleep 600")
    migration = lab.migrate("subject", scripts.there, wait=False, verify=False)
    wait_for(lambda: "slow premigrate" in scripts.names(), 30, "pre of the slow script")
    lab.rest("POST", f"/v1/migrations/{migration}/stop", {})
    status = lab.wait_for_migration(migration)
    assert status["state"] == "stopped"
    told(lab, migration, "undo")
    assert scripts.names()[1:] == ["slow premigrate", "slow undopremigrate"]


@pytest.mark.long
def test_a_target_host_that_is_killed_still_tells_post(lab, scripts):
    scripts.install("a-web", "[ $1 != postmigrate ] || sleep 4")
    migration = lab.migrate("subject", scripts.there, wait=False, verify=False)
    wait_for(lambda: "a-web postmigrate" in scripts.names(), 60, "post")
    kill_and_restart(lab, scripts.there)
    both_finished(lab, migration)
    wait_for(lambda: lab.rest("GET", f"/v1/migrations/{migration}")["target_half"]["scripts"]["todo"] == "", 60, "post is over")
    assert scripts.shell("lpm-drmgr --status") == ""
    runs_once(lab, lab.partitions["subject"], scripts.there)


@pytest.mark.long
def test_a_power_partition_has_them_too(lab, create):
    partition = create("system-a", "script-power", "power", 61)
    scripts = Scripts(lab, partition)
    scripts.install("a-web")
    scripts.hook("net")
    status = lab.migrate(partition.name, "system-b", verify=False)
    assert status["state"] == "completed", status["error"]
    told(lab, status["migration"], "post")
    assert scripts.names() == ["a-web checkmigrate", "net check", "a-web premigrate", "net pre", "a-web postmigrate", "net post"]


@pytest.mark.long
def test_a_partition_without_lpm_drmgr_moves_and_is_told_so(lab, scripts):
    scripts.shell("mv /usr/sbin/lpm-drmgr /usr/sbin/away")
    try:
        status = lab.migrate("subject", scripts.there, verify=False)
        assert status["state"] == "completed"
        finding = next(f for f in status["findings"] if f["check"] == "guest.framework")
        assert finding["severity"] == "info"
    finally:
        scripts.shell("mv /usr/sbin/away /usr/sbin/lpm-drmgr")
