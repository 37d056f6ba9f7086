# SPDX-License-Identifier: Apache-2.0
"""Two real lpm-hosts under a real console: the console is lost for good and replaced, releases too far apart, a fencing agent. Needs
a build with -Dcrash_points=true."""

import os
import pathlib
import signal
import sys
import tempfile

import hosts
import pytest
from consolerun import Console, Refused, free_ports
from hosts import needs_crash_points, wait_for

SLOW = {"max_rate": 20_000}


@pytest.fixture(autouse=True)
def crash_points():
    needs_crash_points()


class Site(hosts.Pair):
    def __init__(self, directory, database):
        super().__init__(directory, None, database, free_ports(2))
        self.directory, self.consoles = pathlib.Path(directory), []

    def new_console(self, configuration=""):
        """Its own authority and an empty database; both systems join it."""
        home = self.directory / f"console{len(self.consoles)}"
        home.mkdir()
        console = Console(home)
        with open(console.state / "console.conf", "a") as file:
            file.write(configuration)
        self.consoles.append(console)
        console.start()
        self.a.join(console)
        self.b.join(console)
        return console

    def migrate(self, console, **options):
        self.migration = console.migrate(self.profile["name"], "sys-b", **options)
        return self.migration

    def end(self):
        for console in self.consoles:
            if console.process and console.process.poll() is None:
                console.kill()
        super().end()


@pytest.fixture
def site(database):
    with tempfile.TemporaryDirectory(prefix="lpm", dir="/tmp") as directory:
        made = Site(directory, database)
        try:
            made.start()
            yield made
        finally:
            made.end()
            for system in (made.a, made.b):
                sys.stderr.write(f"--- {system.name}\n{system.log.read_text()}")
            for console in made.consoles:
                sys.stderr.write(f"--- console\n{console.log()}")


def copying(site, console):
    wait_for(lambda: console.migration(site.migration)["phase"] == "copy", "copying")


def overridden(console, **options):
    """Errors of this machine that are no matter here: it is both systems, and its clock may be off."""
    result = console.rest("POST", "/v1/validate", {"partition": "p1", "target": "sys-b", "options": options})["results"][0]
    return [finding["check"] for finding in result["findings"] if finding["severity"] == "error"], result


@pytest.mark.long
def test_a_console_that_is_killed_and_started_again(site):
    console = site.new_console()
    site.create()
    site.migrate(console, **SLOW)
    copying(site, console)
    console.kill()
    site.a.call("migration-set", migration=site.migration, max_rate=0)
    console.start()
    assert console.wait_state(site.migration, "completed", timeout=40)["source"] == "sys-a"
    site.tail(site.b)
    site.judge(site.a, site.b)


@pytest.mark.parametrize("when", ["before it ends", "after it has ended"])
def test_a_new_console_finds_the_moves(site, when):
    """The old one and its database are gone for good in the middle of a move: it ends well, and a new one, which knows nothing, finds
    the systems' partitions and a move that goes on."""
    old = site.new_console()
    site.create()
    site.migrate(old, **SLOW)
    copying(site, old)
    old.kill()
    if when == "after it has ended":
        site.a.call("migration-set", migration=site.migration, max_rate=0)
        site.ends(site.a, "completed")
        site.ends(site.b, "completed")
    new = site.new_console()
    if when == "before it ends":
        found = wait_for(lambda: new.rest("GET", "/v1/migrations")["migrations"], "the move to be found")
        assert [(move["migration"], move["partition"], move["source"], move["target"]) for move in found] == [
            (site.migration, "p1", "sys-a", "sys-b")]
        assert new.migration(site.migration)["phase"] == "copy"
        site.a.call("migration-set", migration=site.migration, max_rate=0)
        new.wait_state(site.migration, "completed", timeout=40)
    shown = wait_for(lambda: [p for p in new.rest("GET", "/v1/partitions")["partitions"] if p["system"] == "sys-b"], "p1 there")
    assert shown[0]["name"] == "p1" and shown[0]["state"] == "running"
    site.tail(site.b)
    site.says_more(site.b)
    site.judge(site.a, site.b)
    # And it moves them.
    back = new.migrate("p1", "sys-a")
    new.wait_state(back, "completed", timeout=60)
    assert site.states() == ["running", None]


@pytest.mark.long
@pytest.mark.parametrize("older", ["a", "b"])
def test_neighbours_under_a_console(site, older):
    system = getattr(site, older)
    system.kill()
    system.environment = {"LPM_RELEASE": "previous"}
    system.start()
    console = site.new_console()
    site.create()
    errors, result = overridden(console)
    assert errors == [], result["findings"]
    console.wait_state(site.migrate(console), "completed", timeout=60)
    site.tail(site.b)
    site.judge(site.a, site.b)


def test_releases_too_far_apart_are_refused(site):
    site.b.kill()
    site.b.environment = {"LPM_RELEASE": "far"}
    site.b.start()
    console = site.new_console()
    site.create()
    errors, result = overridden(console)
    assert {"general.protocol", "general.stream-version"} <= set(errors)
    found = next(f for f in result["findings"] if f["check"] == "general.protocol")
    assert "sys-a speaks [1,2], sys-b speaks [8,9]" in found["found"] and "versions that have one in common" in found["remedy"]
    assert console.wait_state(site.migrate(console), "refused")["findings"]
    assert site.states() == ["running", None]


AGENT = """#!/bin/bash
# The power of sys-b: its lpm-host, its movers, its QEMUs.
input=$(cat)
grep -qx 'plug=sys-b' <<< "$input" || exit 1
case $(sed -n 's/^action=//p' <<< "$input") in
off) for pid in $(pgrep -f '{run}/'; cat {pid}); do kill -9 "$pid" 2>/dev/null; done; exit 0;;
status) for pid in $(pgrep -f 'qemu-system.*{run}/') $(cat {pid}); do kill -0 "$pid" 2>/dev/null && exit 0; done; exit 2;;
*) exit 1;;
esac
"""


@pytest.mark.parametrize("crash", [pytest.param("dst-take-after", marks=pytest.mark.long), "dst-cont-after"])
def test_a_fencing_agent_switches_the_target_off(site, crash):
    """lpm-host of the target dies where the partition is its own; its QEMU lives on, perhaps running. The agent ends that first."""
    agent, pid = site.directory / "fence_sys_b", site.directory / "pid"
    agent.write_text(AGENT.format(run=site.b.run, pid=pid))
    agent.chmod(0o755)
    console = site.new_console(f"[fencing sys-b]\nagent={agent}\nafter_s=5\n")
    site.create()
    site.b.kill()
    site.b.start(crash=crash)
    pid.write_text(str(site.b.process.pid))
    console.wait(lambda: console.rest("GET", "/v1/systems/sys-b")["state"] == "connected", "sys-b", 30)
    site.migrate(console)
    site.b.dies()
    qemu = site.b.qemu_pids()
    assert len(qemu) == 1
    shown = console.wait_state(site.migration, "failed", timeout=60)
    assert site.b.qemu_pids() == [] and site.a.qemu_pids() == [], "one that may be out of date, or run twice"
    word, = shown["words"]
    assert (word["who"], word["say"]) == (f"fencing agent {agent}", "target sys-b is off")
    site.a.call("partition-start", partition="p1")
    site.tail(site.a)
    site.says_more(site.a)
    site.b.start()
    wait_for(lambda: site.status(site.b)["finished"], "the target to read the record")
    assert site.status(site.b)["outcome"] == "aborted" and site.states() == ["running", None]


def test_a_word_at_the_site(site):
    """The same by a person, with everything that is said on the way."""
    console = site.new_console()
    site.create()
    site.b.kill()
    site.b.start(crash="dst-take-after")
    console.wait(lambda: console.rest("GET", "/v1/systems/sys-b")["state"] == "connected", "sys-b", 30)
    site.migrate(console)
    site.b.dies()
    for victim in site.b.qemu_pids():
        os.kill(victim, signal.SIGKILL)
    situation = wait_for(lambda: (console.migration(site.migration)["situation"] or {}).get("may", [{}])[-1].get("say") and
                         console.migration(site.migration)["situation"], "the situation")
    assert "sys-b has taken p1" in situation["known"][0] and "whether sys-b has let it run" in situation["unknown"]
    assert situation["may"][-1]["say"] == "target sys-b is off"

    def given():
        try:
            return console.rest("POST", f"/v1/migrations/{site.migration}/recover", {"word": "target-off", "say": "target sys-b is off"})
        except Refused as refused:  # its mover has not noticed yet
            assert "still answers" in str(refused)
            return None
    wait_for(given, "the word to be taken")
    shown = console.wait_state(site.migration, "failed", timeout=30)
    assert shown["words"][0]["who"] == "admin" and shown["situation"] is None
    site.a.call("partition-start", partition="p1")


def test_what_it_has_is_kept_as_a_new_profile(site):
    console = site.new_console()
    site.create(processors_max=2)
    site.a.call("partition-add-processors", partition="p1", count=1)
    created = console.rest("POST", "/v1/partitions/p1/profiles", {"profile": "spare"})["profiles"]
    assert [row["name"] for row in created] == ["normal", "spare"]
    with pytest.raises(Refused, match="has a profile spare already"):
        console.rest("POST", "/v1/validate", {"partition": "p1", "target": "sys-b", "options": {"profile": "spare"}})
    console.wait_state(site.migrate(console, profile="kept"), "completed", timeout=60)
    rows = {row["name"]: row for row in console.rest("GET", "/v1/partitions/p1/profiles")["profiles"]}
    assert {name: (row["processors"], row["default"], row["last_activated"]) for name, row in rows.items()} == {
        "normal": (1, True, False), "spare": (1, False, False), "kept": (2, False, True)}
    site.tail(site.b)
    site.says_more(site.b)
    console.rest("POST", "/v1/partitions/p1/restart", {"how": "hard"})
    assert site.b.call("partition-show", partition="p1")["runtime"]["profile"]["processors"] == 2
    assert console.rest("GET", "/v1/partitions/p1")["profile_name"] == "kept"
    shown = console.rest("PATCH", "/v1/partitions/p1/profiles/spare", {"rename": "other", "default": True})["profiles"]
    assert [(row["name"], row["default"]) for row in shown] == [("kept", False), ("normal", False), ("other", True)]
    assert len(console.rest("DELETE", "/v1/partitions/p1/profiles/normal")["profiles"]) == 2
