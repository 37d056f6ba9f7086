# SPDX-License-Identifier: Apache-2.0
"""A target that has taken a partition and vanished is switched off by an agent; the agent is a script that a test tells what to do."""

import contextlib
import pathlib
import time

import pytest

from consolerun import run_program
from test_situation import FINAL, gone, move, says, taken, takes_back  # noqa: F401

SECRET = "xyzzy-password"
AFTER_S = 5

AGENT = """#!/bin/bash
# An agent as fence-agents want it: options on standard input, 0 for done and on, 2 for off.
exec 3>>{log}
input=$(cat)
printf '%s\\n--\\n' "$input" >&3
tr '\\0' ' ' < /proc/$$/cmdline >> {log}.argv
action=$(sed -n 's/^action=//p' <<< "$input")
. {script}
"""


class Agent:
    def __init__(self, directory):
        self.program, self.log, self.script = directory / "fence_test", directory / "agent.log", directory / "agent.sh"
        self.secret = directory / "secret"
        self.secret.write_text(SECRET + "\nsecond line\n")
        self.secret.chmod(0o600)
        self.program.write_text(AGENT.format(log=self.log, script=self.script))
        self.program.chmod(0o755)
        self.does(off="touch " + str(directory / "off"),
                  status=f"echo a warning >&2; test -e {directory}/off && echo Status: OFF && exit 2; echo Status: ON; exit 0")

    def does(self, off, status):
        self.script.write_text(f"case $action in off) {off};; status) {status};; *) exit 1;; esac\n")

    def runs(self):
        """What it was given, one list of lines for each run."""
        return [run.splitlines() for run in self.log.read_text().split("\n--\n")[:-1]] if self.log.exists() else []

    def config(self, **changes):
        keys = {"agent": self.program, "options": "ip=192.0.2.112;lanplus=1", "secrets": f"password={self.secret}",
                "after_s": AFTER_S, "plug": "server 2", **changes}
        return "[fencing system-b]\n" + "".join(f"{key}={value}\n" for key, value in keys.items() if value is not None)


@pytest.fixture
def agent(tmp_path):
    return Agent(tmp_path)


def configure(console, text):
    file = pathlib.Path(console.state) / "console.conf"
    file.write_text(file.read_text() + text)
    console.kill()
    console.start()


def events(console):
    return [event["message"] for event in console.rest("GET", "/v1/events")["events"]]


def wait_event(console, part, timeout=25):
    return console.wait(lambda: next((text for text in events(console) if part in text), None), part, timeout)


def nothing_of_the_secret(console, agent):
    told = console.log() + str(events(console)) + pathlib.Path(f"{agent.log}.argv").read_text()
    assert SECRET not in told and "second line" not in "".join(map(str, agent.runs()))


def test_it_is_switched_off_and_the_word_is_given(console, pair, agent, move):  # noqa: F811
    source = pair[0]
    heard = []
    source.verbs["migration-recover"] = takes_back(source, move, heard)
    configure(console, agent.config())
    taken(console, pair, move)
    start = time.monotonic()
    console.wait(lambda: heard, "the word", 25)
    assert time.monotonic() - start > AFTER_S - 1, "it was not waited for"
    assert [run[0] for run in agent.runs()] == ["action=off", "action=status"]
    for run in agent.runs():
        assert run[1:] == ["plug=server 2", "port=server 2", "ip=192.0.2.112", "lanplus=1", f"password={SECRET}"]
    said = heard[0]
    assert said == {"migration": move, "word": "target-off", "say": "target system-b is off",
                    "who": f"fencing agent {agent.program}", "from": "console console"}
    assert console.wait_state(move, *FINAL, timeout=20)["words"][0]["who"] == said["who"]
    assert any("is to switch it off" in text for text in events(console))
    nothing_of_the_secret(console, agent)


@pytest.mark.parametrize("off, status, says_so", [
    pytest.param("exit 0", "exit 0", "its status says that it is still on", marks=pytest.mark.long),
    pytest.param("exit 0", "echo no route >&2; exit 1", "cannot say that it is off: no route", marks=pytest.mark.long),
    (f"echo first >&2; echo 'bad password {SECRET}' >&2; exit 1", "exit 2", "did not switch it off: bad password ***"),
    pytest.param("kill -9 $$", "exit 2", "did not switch it off: it was ended by signal 9", marks=pytest.mark.long),
    pytest.param("exit 0", "echo 'Parse error: unknown option' >&2; exit 2", "cannot say that it is off: Parse error",
                 marks=pytest.mark.long),
])
def test_what_is_not_sure_is_no_word(console, pair, agent, move, off, status, says_so):  # noqa: F811
    agent.does(off, status)
    configure(console, agent.config())
    taken(console, pair, move)
    wait_event(console, says_so)
    situation = console.migration(move)["situation"]
    assert any(says_so in text for text in situation["known"]), situation["known"]
    assert situation["may"][-1]["say"] == "target system-b is off", "people's way is open"
    assert "migration-recover" not in pair[0].calls
    heard = []
    pair[0].verbs["migration-recover"] = takes_back(pair[0], move, heard)
    console.rest("POST", f"/v1/migrations/{move}/recover", {"word": "target-off", "say": "target system-b is off"})
    assert heard[0]["who"] == "admin"
    nothing_of_the_secret(console, agent)


def test_an_agent_that_hangs_is_killed_with_all_that_it_started(console, pair, agent, move, tmp_path):  # noqa: F811
    agent.does(f"sleep 1000 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/agent; sleep 1000", "exit 2")
    configure(console, agent.config(timeout_s=2))
    taken(console, pair, move)
    wait_event(console, "did not end within 2 s and was killed")
    for name in ("child", "agent"):
        pid = int((tmp_path / name).read_text())
        console.wait(lambda pid=pid: not alive(pid), f"{name} ends")
    assert "migration-recover" not in pair[0].calls


def alive(pid):
    """A zombie whose parent is nobody's is not."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@pytest.mark.long
@pytest.mark.parametrize("journal, record, qemu, target_away", [
    ("post", "TAKEN", "completed", False), ("post", "OFFER", "completed", True), ("post", "unknown", "completed", True),
    ("post", "TAKEN", "serving", True), ("precopy", "source", "running", True)])
def test_nobody_is_switched_off_for_less(console, pair, agent, move, journal, record, qemu, target_away):  # noqa: F811
    configure(console, agent.config())
    says(console, pair[0], move, journal, record, qemu)
    if target_away:
        gone(console, pair[1])
    time.sleep(AFTER_S + 2)
    assert agent.runs() == []


@pytest.mark.long
def test_nobody_is_switched_off_whom_the_source_still_hears(console, pair, agent, move):  # noqa: F811
    """The word would be refused there."""
    configure(console, agent.config())
    links = {"up": 1, "of": 1, "lost_ms": None, "reason": None, "reconnects": 0, "resent_bytes": 0}
    says(console, pair[0], move, "post", "TAKEN", "completed", links=links)
    gone(console, pair[1])
    time.sleep(AFTER_S + 2)
    assert agent.runs() == []
    pair[0].moves[move]["links"]["up"] = 0
    console.wait(agent.runs, "the agent", 25)


@pytest.mark.long
def test_what_an_agent_says_may_be_cut_anywhere(console, pair, agent, move):  # noqa: F811
    agent.does("printf x >&2; printf '\\303\\274%.0s' {1..150} >&2; exit 1", "exit 2")
    configure(console, agent.config())
    taken(console, pair, move)
    wait_event(console, "did not switch it off: ")
    assert any("did not switch it off" in text for text in console.migration(move)["situation"]["known"])


def test_nothing_is_left_of_an_agent_nor_of_its_secret(console, pair, agent, move, tmp_path):  # noqa: F811
    """It leaves a child behind, and ends with a line whose last KiB begins in the middle of the secret."""
    agent.does(f"sleep 1000 >&- 2>&- & echo $! > {tmp_path}/child; echo first >&2; printf '{SECRET}' >&2; "
               f"printf 'z%.0s' {{1..{1024 - len(SECRET) // 2}}} >&2; exit 1", "exit 2")
    configure(console, agent.config() + agent.config().replace("system-b", "system-x"))
    taken(console, pair, move)
    told = wait_event(console, "did not switch it off: ")
    assert "too long" in told and SECRET[-4:] not in told, told
    child = int((tmp_path / "child").read_text())
    console.wait(lambda: not alive(child), "what the agent started ends")
    assert "there is no such system" in wait_event(console, "system-x") and '"system-x"' in console.log()


@pytest.mark.long
@pytest.mark.parametrize("after_s", [0, None])
def test_off_by_default(console, pair, agent, move, after_s):  # noqa: F811
    configure(console, agent.config(after_s=after_s))
    taken(console, pair, move)
    time.sleep(7)
    assert agent.runs() == []


@pytest.mark.long
def test_the_target_comes_back_in_time(console, pair, agent, move):  # noqa: F811
    configure(console, agent.config(after_s=6))
    taken(console, pair, move)
    time.sleep(3)
    pair[1].come_back()
    console.wait(lambda: console.rest("GET", "/v1/systems/system-b")["state"] == "connected", "it to come back", 15)
    time.sleep(5)
    assert agent.runs() == []


@pytest.mark.long
def test_offered_and_qemu_at_the_source_dead(console, pair, agent, move):  # noqa: F811
    heard = []
    pair[0].verbs["migration-recover"] = takes_back(pair[0], move, heard)
    configure(console, agent.config())
    says(console, pair[0], move, "post", "OFFER", "dead")
    gone(console, pair[1])
    console.wait(lambda: heard, "the word", 25)


def test_a_secret_that_others_may_read_is_not_used(console, pair, agent, move):  # noqa: F811
    agent.secret.chmod(0o644)
    configure(console, agent.config())
    taken(console, pair, move)
    wait_event(console, "only its owner may read")
    assert agent.runs() == []


@pytest.mark.parametrize("changes, complaint", [
    ({"agent": "fence_x"}, "absolute path"), ({"agent": None}, "absolute path"), ({"after_s": 3}, "at least 5"),
    ({"timeout_s": 0}, "timeout_s must be a number"), ({"options": "ip"}, "key=value"), ({"secrets": "=x"}, "key=FILE"),
    ({"options": "action=on"}, "set by the console"), ({"options": r"a=1\nb=2"}, "key=value"), ({"colour": "red"}, "no key")])
def test_configuration_is_checked(tmp_path, agent, changes, complaint):
    file = tmp_path / "console.conf"
    file.write_text("[console]\naddresses=127.0.0.1\n" + agent.config(**changes))
    run = run_program("--config", file, check=False)
    assert run.returncode == 2 and complaint in run.stderr and "[fencing system-b]" in run.stderr, run.stderr


