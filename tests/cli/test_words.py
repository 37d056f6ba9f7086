# SPDX-License-Identifier: Apache-2.0
"""`lpm migration recover`: the word is asked for on a terminal, and never guessed; `show` says what is known."""

import os
import pty
import subprocess

import pytest

from test_cli import ID, LPM, SHOWN, authority, console, environment, lpm, migration, read_to_hangup  # noqa: F401

SITUATION = {"known": ["s2 has taken web1; s1 still has all of it.", "System s2 does not answer (no route)."],
             "unknown": ["whether s2 has let it run"],
             "may": [{"text": "wait for s2", "command": None, "say": None},
                     {"text": "only if s2 is off: web1 goes on at s1", "command": f"lpm migration recover {ID} --target-fenced",
                      "say": "target s2 is off"}]}
WORDS = [{"word": "target-off", "say": "target s2 is off", "who": "admin", "from": "192.0.2.7", "time_us": 1790000000 * 10**6,
          "system": "s1"}]


@pytest.fixture
def waiting(console):  # noqa: F811
    console.answers["GET", SHOWN] = migration(situation=SITUATION, words=[])
    console.answers["POST", f"{SHOWN}/recover"] = migration(situation=None, words=WORDS)
    return console


def typed(console, line, *words):  # noqa: F811
    """(exit code, what the terminal got) of a person who types this line."""
    leader, follower = pty.openpty()
    child = subprocess.Popen([LPM, "migration", "recover", ID, *words], env=environment(console.client_file), stdin=follower,
                             stdout=follower, stderr=follower)
    os.close(follower)
    os.write(leader, line.encode() + b"\n")
    shown = read_to_hangup(leader)
    return child.wait(20), shown.decode().replace("\r\n", "\n")


def posts(console):  # noqa: F811
    return [body for method, path, body, _ in console.requests if method == "POST"]


def test_show_says_what_is_known(waiting):
    shown = lpm(waiting, "migration", "show", ID).stdout
    for text in (*SITUATION["known"], *SITUATION["unknown"], *(way["text"] for way in SITUATION["may"]),
                 SITUATION["may"][1]["command"]):
        assert text in shown
    assert shown.index("\nknown ") < shown.index("\nnot known ") < shown.index("\nyou may ")


def test_the_right_word(waiting):
    code, shown = typed(waiting, "target s2 is off", "--target-fenced")
    assert code == 0 and "type: target s2 is off" in shown and "web1 goes on at s1" in shown
    assert posts(waiting) == [{"word": "target-off", "say": "target s2 is off"}]
    assert 'word given   "target s2 is off", by admin from 192.0.2.7, 2026-09-21' in shown, shown


@pytest.mark.parametrize("line", ["y", "yes", "", "target s1 is off", "target s2 is off ", "x" * 400])
def test_another_word_does_nothing(waiting, line):
    code, shown = typed(waiting, line, "--target-fenced")
    assert code == 2 and "nothing was done" in shown and '"target s2 is off"' in shown
    assert posts(waiting) == []


def test_nobody_to_ask(waiting):
    run = lpm(waiting, "migration", "recover", ID, "--target-fenced")
    assert run.returncode == 2 and '--say "target s2 is off"' in run.stderr and posts(waiting) == []
    run = lpm(waiting, "migration", "recover", ID, "--source-fenced")
    assert '--say "source s1 is off"' in run.stderr
    run = lpm(waiting, "migration", "recover", ID, "--discard")
    assert '--say "discard web1 at s2"' in run.stderr


@pytest.mark.parametrize("words", [["--say", "x"], ["--discard", "--target-fenced", "--say", "x"], ["--force"]])
def test_wrong_options(waiting, words):
    run = lpm(waiting, "migration", "recover", ID, *words)
    assert run.returncode == 2 and waiting.requests == []
