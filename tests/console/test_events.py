# SPDX-License-Identifier: Apache-2.0
"""Events as they come: server-sent events of lpm-console, and lpm events --follow."""

import http.client
import json
import os
import ssl
import subprocess

import pytest

from consolerun import PROGRAM, Console
from fakehost import join_two

LPM = PROGRAM.parents[1] / "cli" / "lpm"


class Listener:
    """One connection to /v1/events/stream; read block by block."""

    def __init__(self, console, query="", token=None, **headers):
        context = ssl.create_default_context(cafile=console.state / "ca.pem")
        self.connection = http.client.HTTPSConnection("127.0.0.1", console.https_port, timeout=60, context=context)
        headers = {name.replace("_", "-"): str(value) for name, value in headers.items()}
        self.connection.request("GET", f"/v1/events/stream{query}", headers={"Authorization": f"Bearer {token or console.token}", **headers})
        self.response = self.connection.getresponse()

    def block(self):
        """The next one as its fields; None: the end."""
        fields = {}
        while (line := self.response.readline().decode()) not in ("\n", ""):
            name, _, value = line.rstrip("\n").partition(": ")
            fields[name] = value
        return fields or None

    def event(self):
        while (block := self.block()) and "data" not in block:
            pass
        return block

    def events(self, count):
        return [self.event() for _ in range(count)]

    def close(self):
        self.connection.close()


def invite(console, *names):
    for name in names:
        console.rest("POST", "/v1/systems", {"name": name})


def stored(console):
    return console.rest("GET", "/v1/events?limit=1000")["events"]


@pytest.fixture
def quick(tmp_path):
    """Keep-alives every second, ten events kept."""
    made = Console(tmp_path)
    conf = made.state / "console.conf"
    conf.write_text(conf.read_text() + "events_alive_s=1\nhistory=10\n")
    made.start()
    yield made
    made.kill()


def test_events_come_as_they_happen_and_again_after_a_number(console):
    invite(console, "before")
    listener = Listener(console)
    assert listener.response.status == 200 and listener.response.headers["Content-Type"] == "text/event-stream"
    assert listener.block() == {"retry": "2000", "id": "1"}
    invite(console, "one", "two")
    heard = listener.events(2)
    assert [json.loads(block["data"]) for block in heard] == stored(console)[1:]
    assert [(block["id"], block["event"]) for block in heard] == [("2", "system"), ("3", "system")]
    listener.close()
    invite(console, "three", "four")
    for again in (Listener(console, Last_Event_ID=2), Listener(console, "?since=2"), Listener(console, "?since=0", Last_Event_ID=2)):
        assert [block["id"] for block in again.events(3)] == ["3", "4", "5"]
        again.close()
    newer = Listener(console, Last_Event_ID=4711)  # of a database that is no more
    assert [block["id"] for block in newer.events(5)] == list("12345")
    newer.close()


def test_numbers_go_on_over_a_restart(console):
    invite(console, "one")
    listener = Listener(console, "?since=0")
    assert listener.event()["id"] == "1"
    assert console.stop() == 0
    assert listener.event() is None  # an orderly end
    console.start()
    invite(console, "two")
    again = Listener(console, Last_Event_ID=1)
    assert json.loads(again.event()["data"])["object"] == "two"
    again.close()


def test_only_what_is_wanted(console, tmp_path):
    wanted = Listener(console, "?kinds=migration,store")
    of_web1 = Listener(console, "?object=web1")
    join_two(console, tmp_path)
    move = console.migrate()
    console.wait_state(move, "completed")
    for listener in (wanted, of_web1):
        seen = [json.loads(listener.event()["data"])]
        while (seen[-1]["move"] or {}).get("state") != "completed":
            seen.append(json.loads(listener.event()["data"]))
        assert {event["kind"] for event in seen} == {"migration"}
        assert seen[0]["move"] == {"partition": "web1", "source": "system-a", "target": "system-b", "state": "accepted"}
        assert seen[0]["object"] == move
        listener.close()


def test_one_that_lies_behind_many_that_are_not_wanted(console):
    invite(console, *(f"system-{i}" for i in range(120)))  # more than are read at a time, twice
    listener = Listener(console, "?since=0&object=system-119")
    assert listener.event()["id"] == "120"
    listener.close()


def test_what_is_not_kept_any_more_is_told(quick):
    listener = Listener(quick, "?since=0")
    assert listener.block()["id"] == "0"
    invite(quick, *(f"system-{i}" for i in range(25)))
    late = Listener(quick, "?since=3")
    lost, first = late.events(2)
    oldest = stored(quick)[0]["number"]
    assert lost["event"] == "lost" and json.loads(lost["data"]) == {"first": 4, "last": oldest - 1}
    assert first["id"] == str(oldest)
    assert [block["id"] for block in listener.events(25)] == [str(i) for i in range(1, 26)]  # was there all the time
    listener.close()
    late.close()


def test_too_many_listeners_are_told_so_and_gone_ones_do_not_count(quick):
    listeners = [Listener(quick) for _ in range(32)]
    too_much = Listener(quick)
    answer = json.loads(too_much.response.read())
    assert too_much.response.status == 409 and answer["error"]["class"] == "busy" and "32" in answer["error"]["message"]
    assert quick.rest("GET", "/v1/health") == {"status": "ok"}
    for listener in listeners[1:]:
        listener.close()

    def free():
        again = Listener(quick)
        status = again.response.status
        again.close()
        return status == 200
    quick.wait(free, "the listeners that are gone to be noticed", 30)
    invite(quick, "one")
    assert json.loads(listeners[0].event()["data"])["object"] == "one"
    listeners[0].close()


def test_keep_alives_tell_the_number(quick):
    listener = Listener(quick, "?kinds=store")
    assert listener.block()["id"] == "0"
    invite(quick, "one")
    while (block := listener.block())["id"] != "1":
        assert "" in block  # a comment
    assert "data" not in block
    listener.close()


@pytest.mark.parametrize("query, headers, status", [
    ("", {"token": "LPMT-wrong"}, 403), ("?since=x", {}, 400), ("?other=1", {}, 400), ("?kinds=system,nothing", {}, 400), ("", {"Last_Event_ID": "x1"}, 400)])
def test_refused_as_other_routes(shared_console, query, headers, status):
    listener = Listener(shared_console, query, **headers)
    assert listener.response.status == status and "error" in json.loads(listener.response.read())
    listener.close()


def follow(console, *words):
    return subprocess.Popen([LPM, "events", "--follow", *words, "--config", console.state / "admin.conf"], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env={**os.environ, "TZ": "UTC"})


def test_lpm_follows_over_a_killed_console(console):
    invite(console, "one")
    process = follow(console, "--since", "0", "--count", "3", "--json")
    first = json.loads(process.stdout.readline())
    console.kill()
    assert "tried again" in process.stderr.readline()
    console.start()
    invite(console, "two", "three")
    out, _ = process.communicate(timeout=60)
    assert [first["object"]] + [json.loads(line)["object"] for line in out.splitlines()] == ["one", "two", "three"]
    assert process.returncode == 0


def test_lpm_prints_a_line_each(shared_console):
    invite(shared_console, "shown")
    number = stored(shared_console)[-1]["number"]
    process = follow(shared_console, "--since", str(number - 1), "--object", "shown", "--count", "1")
    out, _ = process.communicate(timeout=60)
    assert out.startswith(f"{number}  20") and out.endswith("  system shown: invited\n") and process.returncode == 0
    wrong = subprocess.run([LPM, "events", "--count", "1", "--config", shared_console.state / "admin.conf"], capture_output=True,
                           text=True, check=False, timeout=60)
    assert wrong.returncode == 2 and "--follow" in wrong.stderr
