# SPDX-License-Identifier: Apache-2.0
"""The work of a partition that is lost in its move is taken over by the members that are left, and only then."""

import pytest

from consolerun import Refused
from fakehost import Failure, join_two

SAID = {"phase": "takeover", "result": "ok", "error": "", "ms": 1, "version": "0.1.0",
        "scripts": [{"kind": "script", "name": "all/pacer", "answer": "yes", "words": "", "log": [{"level": "info", "text": "node1 has left"}]}]}


class Members:
    """web1 on system-a is member node1, web2 on system-b another one."""

    def __init__(self, console, pair, mode):
        self.console, (self.source, self.target) = console, pair
        self.taken, self.mode, self.during, self.left = [], mode, "0", False
        self.target.add("web2")
        self.source.verbs["scripts-check"] = lambda _: self.check()
        self.source.verbs["scripts-takeover"] = self.target.verbs["scripts-takeover"] = self.take
        status = self.source.status
        self.source.status = lambda move: {**status(move), "scripts": {"todo": "pre", "left": self.left, "phases": [self.check()]}}
        self.source.verbs["partition-stop"] = self.stop
        self.source.pace = 60  # the copy is harmed before it ends

    def check(self):
        facts = {"cluster_node": "node1", "cluster_token_ms": "60000", "cluster_takeover": self.mode, "cluster_standby": "web2",
                 "cluster_during_ms": self.during}
        return {"phase": "check", "result": "ok", "error": "", "ms": 1, "version": "0.1.0", "start_us": 1,
                "scripts": [{"kind": "script", "name": "all/pacer", "action": "checkmigrate", "answer": "yes", "words": "", "log": [], "facts": facts}]}

    def take(self, arguments):
        assert all(self.source.partitions[name]["state"] != "running" for name in self.source.partitions), "it runs still"
        self.taken.append(arguments)
        return SAID

    def stop(self, arguments):
        partition = self.source.find(arguments)
        if partition["state"] == "error":
            raise Failure("state", "it has no process")
        partition["state"] = "not-activated"
        return {"state": "not-activated"}

    def move(self):
        body = {"partition": "web1", "target": "system-b", "options": {}}
        migration = self.console.rest("POST", "/v1/migrations", body)["migration"]
        self.console.wait(lambda: self.console.rest("GET", f"/v1/migrations/{migration}")["state"] == "moving", "the copy")
        return migration

    def end(self, migration, state="error", process=False):
        """The move is aborted on both sides; the partition is then in @state."""
        self.source.partitions["web1"].update(state=state, process=process)
        error = {"class": "aborted", "desc": "QEMU has ended"}
        for host in (self.source, self.target):
            host.enter(host.moves[migration], "cleaned", outcome="aborted", error=error)
        self.console.wait(lambda: self.console.rest("GET", f"/v1/migrations/{migration}")["finished"], "the end")

    def complete(self):
        """A move that ends well; web1 then runs at the target."""
        self.source.pace = 0.05
        migration = self.console.rest("POST", "/v1/migrations", {"partition": "web1", "target": "system-b", "options": {}})["migration"]
        self.console.wait(lambda: self.console.rest("GET", f"/v1/migrations/{migration}")["state"] == "completed", "the move")
        return migration

    def dies_at_target(self, migration, tell=True):
        """Before its scripts were told that it has moved: that is news of the move long after its end."""
        self.target.partitions["web1"].update(state="error", process=False)
        status = self.target.status
        self.target.status = lambda move: {**status(move), "scripts": {"todo": "", "left": True, "phases": []}}
        if tell:
            self.target.emit("migration", self.target.status(self.target.moves[migration]))

    def said(self, kind):
        return [e["message"] for e in self.console.rest("GET", "/v1/events")["events"] if e["kind"] == kind and e["object"] == "web1"]


@pytest.fixture
def members(console, tmp_path):
    def make(mode, allowed=True):
        if allowed and mode == "auto":
            with open(console.state / "console.conf", "a") as config:
                config.write("takeover=auto\n")
            console.kill()
            console.start()
        return Members(console, join_two(console, tmp_path), mode)
    return make


@pytest.mark.parametrize("during,bears", [("0", 30000), ("104000", 80000)])
def test_the_limit_of_a_move_under_way_stays_within_what_the_cluster_bears(members, console, during, bears):
    """Also where it was within that from the start, and where failure detection is lengthened."""
    m = members("alert")
    m.during = during
    migration = m.move()
    path = f"/v1/migrations/{migration}"
    options = console.migration(migration)["options"]
    assert (options["max_blackout_ms"], options["cluster_blackout_ms"]) == (300, bears)
    refused = console.refused("PATCH", path, {"max_blackout_ms": bears + 1})
    assert refused.error_class == "usage" and f"may be up to {bears}: the cluster" in str(refused)
    assert console.migration(migration)["options"]["max_blackout_ms"] == 300
    console.rest("PATCH", path, {"max_blackout_ms": bears})
    assert console.migration(migration)["options"]["max_blackout_ms"] == bears
    m.end(migration, "running", True)


def test_auto_takes_over_by_itself_once(members, console):
    m = members("auto")
    migration = m.move()
    m.end(migration)
    console.wait(lambda: any("is taken over: web2: node1 has left" in text for text in m.said("partition")), "the takeover")
    assert [(t["partition"], t["migration"], t["member"], t["script"]) for t in m.taken] == [("web2", migration, "node1", "all/pacer")]
    assert m.said("alarm") == []


def test_alert_raises_an_alarm_and_waits_for_the_word(members, console):
    m = members("alert")
    migration = m.move()
    m.end(migration)
    alarm = console.wait(lambda: m.said("alarm"), "the alarm")[0]
    assert "it was lost in migration " + migration in alarm and "lpm cluster takeover web1" in alarm
    assert m.taken == []
    answer = console.rest("POST", "/v1/partitions/web1/takeover", {})
    assert (answer["finished"], answer["member"], answer["migration"]) == (True, "node1", migration)
    assert answer["standbys"] == [{"partition": "web2", "result": "ok", "words": "node1 has left"}]
    assert len(m.taken) == 1


def test_the_lost_partition_s_own_word_is_not_enough(members, console):
    """Whoever runs the console has to allow it; and a console that starts again does not raise the alarm again."""
    m = members("auto", allowed=False)
    m.end(m.move())
    alarm = console.wait(lambda: m.said("alarm"), "the alarm")
    assert "it was lost in migration" in alarm[0] and "LPM_TAKEOVER=auto" in alarm[0] and m.taken == []
    console.kill()
    console.start()
    console.wait(lambda: not console.rest("GET", "/v1/partitions")["unreachable"], "the systems", 30)
    assert m.said("alarm") == alarm and m.taken == []


def test_the_alarm_of_a_console_that_was_away(members, console):
    m = members("alert")
    migration = m.move()
    console.kill()
    m.source.partitions["web1"].update(state="not-activated", reason="shut down by its operating system")
    for host in (m.source, m.target):
        host.enter(host.moves[migration], "cleaned", outcome="aborted", error={"class": "aborted", "desc": "QEMU has ended"})
    m.target.add("web1", state="incoming")  # a half that has not ended says nothing
    console.start()
    alarm = console.wait(lambda: m.said("alarm"), "the alarm", 30)
    assert f"it has ended in migration {migration}: shut down by its operating system" in alarm[0]


def test_one_that_only_its_monitor_does_not_answer_for_is_left_alone(members, console):
    m = members("alert")
    m.end(m.move(), process=True)
    with pytest.raises(Refused) as refused:
        console.rest("POST", "/v1/partitions/web1/takeover", {"wait_s": 2})
    assert "is not known to be off: it is error on system system-a" in str(refused.value)
    assert "partition-stop" not in m.source.calls and m.taken == []
    m.source.partitions["web1"]["state"] = "running"
    with pytest.raises(Refused) as refused:
        console.rest("POST", "/v1/partitions/web1/takeover", {"wait_s": 2})
    assert "is not lost" in str(refused.value)


def test_a_partition_that_runs_after_its_move_has_failed_keeps_its_work(members, console):
    m = members("auto")
    m.end(m.move(), state="running")
    with pytest.raises(Refused) as refused:
        console.rest("POST", "/v1/partitions/web1/takeover", {})
    assert 'partition "web1" is not lost: it is running on system system-a' in str(refused.value)
    assert m.taken == [] and m.said("alarm") == []
    assert console.rest("POST", "/v1/partitions/web1/takeover", {"force": True})["finished"]
    assert m.source.partitions["web1"]["state"] == "not-activated" and len(m.taken) == 1


def test_what_moves_or_is_not_known_is_not_taken_over(members, console):
    m = members("auto")
    migration = m.move()
    with pytest.raises(Refused) as moving:
        console.rest("POST", "/v1/partitions/web1/takeover", {"wait_s": 1})
    assert f"is not known to be off: migration {migration} of it is moving" in str(moving.value)
    assert "migration-stop" not in m.source.calls, "a move that goes on is left alone"
    m.source.vanish()
    with pytest.raises(Refused) as silent:
        console.rest("POST", "/v1/partitions/web1/takeover", {"wait_s": 2})
    assert "is not known to be off" in str(silent.value)
    assert m.taken == []


def test_a_console_that_is_restarted_does_it_once_more(members, console):
    """Between the end of the move and the word to the others it may die; the word may come twice, and does no harm."""
    m = members("auto")
    m.end(m.move())
    console.wait(lambda: len(m.taken) == 1, "the takeover")
    console.kill()
    console.start()
    console.wait(lambda: len(m.taken) == 2, "the takeover after the restart")


def test_nobody_to_tell(members, console):
    m = members("alert")
    m.end(m.move())
    for body, words in (({"standbys": ["web1"]}, "other partitions than"), ({"standbys": ["nobody"]}, "no standby has taken its work over: nobody: "),
                        ({"migration": "f" * 32}, "no move of partition"),
                        ({"migration": "f" * 32, "member": "node1", "standbys": ["web2"]}, "no move of partition"), ({"wait_s": 0}, "must be from 1 to 120")):
        with pytest.raises(Refused) as refused:
            console.rest("POST", "/v1/partitions/web1/takeover", body)
        assert words in str(refused.value), body
    m.source.verbs["scripts-takeover"] = m.target.verbs["scripts-takeover"] = lambda _: {**SAID, "scripts": []}
    with pytest.raises(Refused) as refused:
        console.rest("POST", "/v1/partitions/web1/takeover", {})
    assert "web2: no script there speaks for a cluster" in str(refused.value)


def test_one_that_dies_at_the_target_before_its_scripts_were_told(members, console):
    m = members("auto")
    migration = m.complete()
    assert m.taken == []
    m.dies_at_target(migration)
    console.wait(lambda: any("is taken over: web2: node1 has left" in text for text in m.said("partition")), "the takeover")
    assert [(t["partition"], t["migration"], t["member"]) for t in m.taken] == [("web2", migration, "node1")]


def test_the_same_as_an_alarm_told_once(members, console):
    m = members("alert")
    migration = m.complete()
    m.dies_at_target(migration, tell=False)  # the console hears of it when it has started anew
    console.kill()
    console.start()
    alarm = console.wait(lambda: m.said("alarm"), "the alarm", 30)
    assert f"it was lost right after migration {migration}" in alarm[0]
    asked = m.target.calls.count("migration-list")
    m.target.vanish(stay_away=False)
    console.wait(lambda: m.target.calls.count("migration-list") > asked, "it is asked for late news", 30)
    console.wait(lambda: not console.rest("GET", "/v1/partitions")["unreachable"], "the systems", 30)
    m.target.emit("migration", m.target.status(m.target.moves[migration]))
    assert console.rest("POST", "/v1/partitions/web1/takeover", {})["finished"]
    assert m.said("alarm") == alarm


def test_a_move_that_failed_and_whose_partition_died_before_its_scripts_were_told(members, console):
    m = members("alert")
    migration = m.move()
    m.end(migration, state="running")
    assert m.said("alarm") == []
    m.source.partitions["web1"].update(state="not-activated", reason="shut down by its operating system")
    m.left = True
    m.source.emit("migration", m.source.status(m.source.moves[migration]))
    alarm = console.wait(lambda: m.said("alarm"), "the alarm")
    assert f"it has ended in migration {migration}: shut down by its operating system" in alarm[0]


def test_one_that_is_left_and_started_anew_is_not_lost(members, console):
    m = members("auto")
    migration = m.complete()
    m.target.verbs["partition-start"]({"partition": "web1"})
    status = m.target.status
    m.target.status = lambda move: {**status(move), "scripts": {"todo": "", "left": True, "phases": []}}
    lists = m.target.calls.count("partition-list")
    m.target.emit("migration", m.target.status(m.target.moves[migration]))
    console.wait(lambda: m.target.calls.count("partition-list") > lists, "it looks")
    assert console.rest("GET", "/v1/partitions/web1/power")["power"] == "on"
    assert m.taken == [] and m.said("alarm") == []
