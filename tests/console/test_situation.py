# SPDX-License-Identifier: Apache-2.0
"""A move that waits: what people are told, and the words that they may give."""

import json
import time

import pytest

from fakehost import Failure

FINAL = ("completed", "refused", "failed", "stopped")
OFF = {"word": "target-off", "say": "target system-b is off"}


@pytest.fixture
def move(console, pair):
    """A move that does not end by itself."""
    for host in pair:
        host.pace = 30
    move = console.migrate()
    console.wait_state(move, "moving")
    return move


def says(console, host, move, journal, record, qemu, **more):
    """This host's half has come so far; waits until the console has heard of it."""
    host.moves[move].update(journal=journal, sees={"record": record, "qemu": qemu}, **more)
    host.emit("migration", host.status(host.moves[move]))
    side = "source_half" if host.moves[move]["side"] == "source" else "target_half"
    console.wait(lambda: (console.migration(move)[side] or {}).get("journal") == journal, "the news")


def gone(console, host):
    host.vanish()
    console.wait(lambda: console.rest("GET", f"/v1/systems/{host.name}")["state"] == "unreachable", "loss")


def taken(console, pair, move):
    """The target has taken it and vanished."""
    says(console, pair[0], move, "post", "TAKEN", "completed")
    gone(console, pair[1])


def recover(console, move, **body):
    return console.rest("POST", f"/v1/migrations/{move}/recover", body)


def refused(console, move, **body):
    return console.refused("POST", f"/v1/migrations/{move}/recover", body)


def takes_back(source, move, heard):
    """The source's migration-recover when it is given a word."""
    def verb(arguments):
        heard.append(arguments)
        half = source.moves[move]
        half["words"] = [{key: arguments.get(key) for key in ("word", "say", "who", "from")} | {"time_us": 1}]
        source.enter(half, "cleaned", outcome="aborted", error={"class": "aborted", "desc": "taken back"})
        return source.status(half)
    return verb


def test_nothing_is_said_while_all_is_well(console, move):
    shown = console.migration(move)
    assert shown["situation"] is None and shown["words"] == []


def test_the_situation_in_plain_words(console, pair, move):
    says(console, pair[0], move, "post", "TAKEN", "completed")
    both = console.migration(move)["situation"]
    assert "system-b has taken web1" in both["known"][0] and both["unknown"] == ["whether system-b has let it run"]
    assert all(way["say"] is None for way in both["may"]), "no word while both answer"
    gone(console, pair[1])
    one = console.migration(move)["situation"]
    assert any("System system-b does not answer" in text for text in one["known"])
    assert "what system system-b did since" in one["unknown"]
    word = one["may"][-1]
    assert word["command"] == f"lpm migration recover {move} --target-fenced" and word["say"] == OFF["say"]
    assert "memory of web1 is given up" in word["text"] and "if system-b is not off, both write to them" in word["text"]
    assert not any("{" in way["text"] for way in one["may"])


def test_the_word_is_refused_while_the_target_answers(console, pair, move):
    source, target = pair
    says(console, source, move, "post", "TAKEN", "completed")
    error = refused(console, move, **OFF)
    assert error.error_class == "state" and "system-b" in error.error["message"]
    facts = target.verbs["system-info"]

    def fails(_):
        raise Failure("internal", "out of memory")
    target.verbs["system-info"] = fails  # a system that fails is not off
    assert refused(console, move, **OFF).error_class == "state"
    target.verbs["system-info"] = facts
    assert "migration-recover" not in source.calls


def test_a_system_that_has_just_come_back_is_heard(console, pair, move):
    """The console looks for a system that is away every few seconds; before it believes a word it looks at once."""
    taken(console, pair, move)
    time.sleep(4)
    pair[1].come_back()
    assert refused(console, move, **OFF).error_class == "state"
    assert "migration-recover" not in pair[0].calls


def test_half_of_a_post_copy_is_not_discarded_while_the_source_answers(console, pair, move):
    word = {"word": "discard", "say": "discard web1 at system-b"}
    target = pair[1]
    said = []
    target.verbs["migration-recover"] = lambda arguments: said.append(arguments) or target.status(target.moves[move])
    says(console, target, move, "loaded", "source", "half", postcopy="active")
    assert refused(console, move, **word).error_class == "state" and not said
    gone(console, pair[0])
    recover(console, move, **word)
    assert said[0]["word"] == "discard"


def test_a_wrong_word_is_refused(console, pair, move):
    taken(console, pair, move)
    for body in ({"word": "target-off"}, {"word": "target-off", "say": "target system-a is off"},
                 {"word": "target-off", "say": "Target system-b is off"}, {"word": "source-off", "say": OFF["say"]},
                 {"word": "force", "say": OFF["say"]}, {"say": OFF["say"]}, {"force": True}):
        error = refused(console, move, **body)
        assert error.error_class == "usage" and error.status == 400, body
        if body.get("word") == "target-off":
            assert 'say exactly "target system-b is off"' in error.error["message"], body
    assert "migration-recover" not in pair[0].calls


def test_who_said_it_is_kept(console, pair, move):
    source = pair[0]
    heard = []
    taken(console, pair, move)
    source.verbs["migration-recover"] = takes_back(source, move, heard)
    assert recover(console, move, **OFF)["source_half"]["finished"] is True
    assert heard == [{"migration": move, **OFF, "who": "admin", "from": "127.0.0.1"}]
    shown = console.wait_state(move, *FINAL, timeout=20)
    assert shown["state"] == "failed" and "taken back" in shown["error"]["message"]
    events = [e for e in console.rest("GET", "/v1/events")["events"] if e["object"] == move and OFF["say"] in e["message"]]
    assert len(events) == 2 and all(e["user"] == "admin" and "127.0.0.1" in e["message"] for e in events)
    assert "was taken" in events[1]["message"]
    console.kill()
    console.start()
    word, = console.migration(move)["words"]
    assert (word["who"], word["say"], word["system"]) == ("admin", OFF["say"], "system-a")


def test_a_word_that_the_system_does_not_take_is_told(console, pair, move):
    def fails(_):
        raise Failure("state", "not in the hands of system-b")
    taken(console, pair, move)
    pair[0].verbs["migration-recover"] = fails
    assert "not in the hands" in refused(console, move, **OFF).error["message"]
    events = [e["message"] for e in console.rest("GET", "/v1/events")["events"] if e["object"] == move]
    assert "was not taken" in events[-1]


def test_a_host_of_the_release_before_hears_force(console, pair, move):
    source = pair[0]
    heard = []
    info = source.verbs["system-info"]
    source.verbs["system-info"] = lambda a: {**info(a), "rpc_versions": [1]}
    source.vanish(stay_away=False)
    console.wait(lambda: (console.rest("GET", "/v1/systems/system-a")["facts"] or {}).get("rpc_versions") == [1], "the older facts")
    taken(console, pair, move)
    source.verbs["migration-recover"] = takes_back(source, move, heard)
    recover(console, move, **OFF)
    assert heard == [{"migration": move, "force": True}]


def test_a_host_of_the_release_before_is_not_told_to_discard(console, pair, move):
    """All that it knows is force, which may mean more there by the time that it hears it."""
    target = pair[1]
    info = target.verbs["system-info"]
    target.verbs["system-info"] = lambda a: {**info(a), "rpc_versions": [1]}
    target.vanish(stay_away=False)
    console.wait(lambda: (console.rest("GET", "/v1/systems/system-b")["facts"] or {}).get("rpc_versions") == [1], "the older facts")
    says(console, target, move, "loaded", "source", "paused")
    partition = console.migration(move)["partition"]
    why = refused(console, move, word="discard", say=f"discard {partition} at system-b")
    assert why.error_class == "state" and "the release before" in why.error["message"], why.error
    assert "migration-recover" not in target.calls


def test_memory_is_given_up_only_when_the_source_is_away(console, pair, move):
    source, target = pair
    word = {"word": "source-off", "say": "source system-a is off"}
    says(console, target, move, "running", "target", "filling", postcopy="active")
    assert refused(console, move, **word).error_class == "state" and "migration-recover" not in target.calls
    gone(console, source)
    way = console.migration(move)["situation"]["may"][-1]
    assert way["say"] == word["say"] and way["command"].endswith("--source-fenced")
    recover(console, move, **word)
    assert "migration-recover" in target.calls


def test_discarding_needs_nobody_to_be_off(console, pair, move):
    heard = []
    pair[1].verbs["migration-recover"] = lambda arguments: heard.append(arguments) or pair[1].status(pair[1].moves[move])
    says(console, pair[1], move, "loaded", "source", "paused")
    recover(console, move, word="discard", say="discard web1 at system-b")
    assert heard[0]["word"] == "discard"


def test_it_is_json_to_the_end(console, pair, move):
    """Names with quotes cannot be; what the host says may be anything."""
    pair[0].moves[move].update(journal="post", sees={"record": 7, "qemu": ["x"]}, words=[])
    pair[0].emit("migration", pair[0].status(pair[0].moves[move]))
    time.sleep(0.3)
    assert json.dumps(console.migration(move)["situation"]) == "null"
