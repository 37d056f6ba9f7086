# SPDX-License-Identifier: Apache-2.0
"""The command line against a console that says what the test wants: exit codes, what goes where, JSON, odd replies.

LPM_UPDATE_GOLDEN=1 writes the golden files anew.
"""

import fcntl
import json
import os
import pathlib
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from scripted import TOKEN, Answer, Raw, ScriptedConsole, failure, make_authority  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "cli"
LPM = pathlib.Path(os.environ.get("LPM_BUILD", ROOT / "build")).resolve() / "src" / "cli" / "lpm"
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
ID = "0123456789abcdef0123456789abcdef"
SHOWN = f"/v1/migrations/{ID}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def console(tmp_path, authority):
    script = ScriptedConsole(tmp_path, authority)
    yield script
    script.close()


def environment(config=None):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LPM_") and not k.endswith("_proxy")}
    return {**kept, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **({"LPM_CONFIG": str(config)} if config else {})}


def lpm(console, *words, **options):
    config = options.pop("config", console.client_file if console else None)
    run = subprocess.run([LPM, *words], env=environment(config), text=True, capture_output=True, timeout=60, check=False,
                         **{"stdin": subprocess.DEVNULL, **options})
    assert run.returncode >= 0, f"ended by signal {-run.returncode}: {run.stderr}"
    assert TOKEN not in run.stdout + run.stderr
    return run


def golden(name, text):
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("LPM_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"differs from {path}"


def finding(**changes):
    return {"check": "network.switch", "group": "network", "severity": "error", "object": "net0", "expected": "virtual network lan on s2",
            "found": "s2 has no such network", "remedy": "add [network:lan] to the configuration of s2", "hmc_code": "HSCLA319",
            "overridable": True, "overridden": False, "not_checked": False, **changes}


def migration(**changes):
    """A migration as rest.md shows it."""
    return {"migration": ID, "revision": 1, "partition": "web1", "source": "s1", "target": "s2", "active": True,
            "state": "moving", "finished": False, "stop_requested": False, "user": "admin", "options": {}, "created_us": 1,
            "ended_us": None, "phase": "copy", "progress": 0.5, "eta_ms": 1200, "stream_bytes": 1000000, "wire_bytes": 1100000,
            "total_bytes": 268435456, "remaining_bytes": 134217728, "rate_bytes": 118000000, "dirty_rate_bytes": 0, "passes": 1,
            "predicted_blackout_ms": 35, "blackout_ms": None, "total_ms": 830.5, "round_trip_us": 300,
            "links": {"up": 1, "of": 1, "lost_ms": None, "reason": None, "reconnects": 0, "resent_bytes": 0},
            "phases": [{"name": "prepare", "start": 0.0, "start_us": 0, "ms": 210.0}],
            "verify": {"pages": 0, "differing": 0, "repaired": 0}, "findings": [], "error": None, "note": None,
            "saved_percent": -10.0, "coding": {"zero": 10, "same": 0, "reference": 0, "delta": 0, "literal": 5, "raw_bytes": 20570, "coded_bytes": 9000},
            "waiting_for": [], "source_half": None, "target_half": None, **changes}


def ended(**changes):
    return migration(**{"state": "completed", "finished": True, "ended_us": 2, "phase": "finish", "revision": 9, "progress": 1.0,
                        "blackout_ms": 42.5, "eta_ms": 0, "remaining_bytes": 0, "rate_bytes": 0, "total_ms": 2830.5,
                        "verify": {"pages": 65536, "differing": 0, "repaired": 0},
                        "phases": [{"name": "prepare", "start": 0.0, "start_us": 0, "ms": 210.0},
                                   {"name": "copy", "start": 210.0, "start_us": 1, "ms": 2500.0},
                                   {"name": "switchover", "start": 2710.0, "start_us": 2, "ms": 40.25}], **changes})


def plan_move(console, *statuses):
    console.answers["POST", "/v1/migrations"] = Answer({"migration": ID, "partition": "web1", "source": "s1", "target": "s2",
                                                        "state": "accepted"}, 202)
    console.answers["GET", SHOWN] = list(statuses)


# Words, help, completion

def test_help_names_every_verb():
    run = lpm(None, "--help")
    assert (run.returncode, run.stderr) == (0, "")
    golden("help", run.stdout)


def test_alone_it_shows_the_same_as_an_error():
    run = lpm(None)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == (GOLDEN / "help.txt").read_text()


def verbs():
    lines = (GOLDEN / "help.txt").read_text().splitlines() if (GOLDEN / "help.txt").exists() else []
    for line in lines:
        if match := re.match(r"  ([a-z]+(?: [a-z-]+)?)", line):
            yield match.group(1).split()


@pytest.mark.parametrize("words", verbs(), ids=" ".join)
def test_each_verb_explains_itself_without_a_console(words):
    run = lpm(None, *words, "--help")
    assert (run.returncode, run.stderr) == (0, "")
    assert " ".join(words) in run.stdout and "--json" in run.stdout


def test_version():
    run = lpm(None, "--version")
    assert run.returncode == 0 and re.fullmatch(r"lpm \d+\.\d+\.\d+\n", run.stdout)
    assert json.loads(lpm(None, "version", "--json").stdout)["version"] in run.stdout


@pytest.mark.parametrize("typed, expected", [
    (["lpm", ""], {words[0] for words in verbs()}), (["lpm", "mig"], {"migrate", "migration"}),
    (["lpm", "system", ""], {words[1] for words in verbs() if words[0] == "system"}), (["lpm", "migration", "st"], {"stop"})])
def test_completion_in_a_real_shell(typed, expected):
    script = lpm(None, "completion").stdout + "COMP_WORDS=(" + " ".join(f"'{w}'" for w in typed) + ")\n" \
        f"COMP_CWORD={len(typed) - 1}\n_lpm\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    run = subprocess.run(["bash", "--norc", "-c", script], text=True, capture_output=True, check=True)
    assert set(run.stdout.split()) == expected and run.stderr == ""


@pytest.mark.parametrize("words, mentioned", [
    (["fly"], "fly"), (["partition"], "partition"), (["partition", "fly"], "partition fly"), (["migrate", "web1"], "migrate"),
    (["migrate", "a", "b", "c"], "migrate"), (["partition", "show"], "partition show"), (["system", "list", "--nope"], "--nope"),
    (["partition", "stop", "web1", "--timeout", "0"], "--timeout"), (["partition", "stop", "web1", "--timeout", "x"], "x"),
    (["profile", "change", "web1", "big"], "--rename"), (["profile", "create", "web1", "big", "novalue"], "novalue"),
    (["partition", "change", "web1", "novalue"], "novalue"), (["partition", "change", "web1", "=5"], "=5"),
    (["system", "maintenance", "s1", "perhaps"], "perhaps"), (["partition", "create", "s1"], "--file"),
    (["partition", "create", "s1", "--file", "/nonexistent.json"], "/nonexistent.json"),
    (["validate", "web1"], "--all-targets"), (["validate", "web1", "s2", "--all-targets"], "--all-targets"),
    (["migrate", "web1", "s2", "--max-blackout", "-1"], "--max-blackout"), (["migration", "set", ID], "--max-rate"),
    (["migration", "set", ID, "--max-rate", "fast"], "fast"),
    (["migrate", "web1", "s2", "--connections", "17"], "--connections"),
    (["migrate", "web1", "s2", "--link-retry", "-5"], "--link-retry"),
    *((["migrate", "web1", "s2", "--max-rate", rate], rate) for rate in ("fast", "1X", "-1M", "0", "1MM", "", "1e30", "nan"))])
def test_wrong_words_are_a_usage_error_and_nothing_is_asked(console, words, mentioned):
    run = lpm(console, *words)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("lpm: ") and mentioned in run.stderr
    as_json = lpm(console, *words, "--json")
    assert as_json.returncode == 2
    if "--nope" not in words:  # what cannot be parsed is not known to be for a program
        error = json.loads(as_json.stdout)["error"]
        assert error["class"] == "usage" and mentioned in error["message"] and error["remedy"]
    assert console.requests == []


# Client file and connection

@pytest.mark.parametrize("changes, mentioned", [({"token": None}, "token"), ({"url": ""}, "url"), ({"ca": None}, "ca")])
def test_client_file_without_a_key(console, changes, mentioned):
    path = console.write_client_file("other.conf", **changes)
    run = lpm(console, "system", "list", "--config", path)
    assert run.returncode == 2 and f"'{mentioned}'" in run.stderr and str(path) in run.stderr


def test_no_client_file_names_where_it_was_looked_for():
    run = lpm(None, "system", "list")
    assert run.returncode == 2 and "/etc/openlpm/admin.conf" in run.stderr and "--config" in run.stderr


def test_console_of_another_authority_is_not_trusted(console, tmp_path):
    other = make_authority(tmp_path, "other")
    run = lpm(console, "system", "list", "--config", console.write_client_file("other.conf", ca=other[1]))
    assert run.returncode == 8 and "authority" in run.stderr
    assert console.requests == [], "the token was sent to a stranger"


def test_plain_http_is_not_spoken(console):
    run = lpm(console, "system", "list", "--config", console.write_client_file("other.conf", url="http://127.0.0.1:1"))
    assert run.returncode == 9 and "http://127.0.0.1:1" in run.stderr


def test_nobody_listens(console):
    console.close()
    run = lpm(console, "system", "list")
    assert run.returncode == 9 and f"127.0.0.1:{console.port}" in run.stderr and "lpm-console" in run.stderr


def test_every_request_carries_the_token_and_names_are_escaped(console):
    console.answers["GET", "/v1/partitions/..%2Fa%20b%3F"] = {"profile": {"name": "x"}, "state": "running"}
    assert lpm(console, "partition", "show", "../a b?").returncode == 0
    assert console.requests[0][1] == "/v1/partitions/..%2Fa%20b%3F"
    assert console.requests[0][3]["Authorization"] == f"Bearer {TOKEN}"


# Errors

def error_table():
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \| (\d+) \|", (ROOT / "docs/guide/errors.md").read_text(), re.M)
    assert len(rows) > 15
    return [(name, int(code), int(status)) for name, code, status in rows]


@pytest.mark.parametrize("name, code, status", error_table())
def test_each_class_of_error_has_its_exit_code(console, name, code, status):
    console.answers["POST", "/v1/partitions/web1/start"] = failure(name, "partition web1: it is so", "do that", status)
    run = lpm(console, "partition", "start", "web1")
    assert (run.returncode, run.stdout) == (code, "")
    assert run.stderr == "lpm: partition web1: it is so\n  what to do: do that\n"
    error = json.loads(lpm(console, "partition", "start", "web1", "--json").stdout)["error"]
    assert error["class"] == name and "it is so" in error["message"] and error["remedy"] == "do that"


LISTS = {("system", "list"): "/v1/systems", ("partition", "list"): "/v1/partitions", ("migration", "list"): "/v1/migrations",
         ("modes",): "/v1/modes", ("events",): "/v1/events", ("validate", "--list"): "/v1/checks",
         ("partition", "show", "p"): "/v1/partitions/p", ("migration", "show", ID): SHOWN, ("system", "show", "s"): "/v1/systems/s"}
BAD_ANSWERS = {
    "html": Raw(b"<html>Bad gateway</html>", 502), "not json": Raw(b"{nearly"), "empty": Raw(b""),
    "no error object": Answer({"oops": 1}, 500), "error is a string": Answer({"error": "bad"}, 500),
    "moved": Raw(b"", 301, [("Location", "https://127.0.0.1:1/")]), "too long": Raw(b"[" + b" " * (17 << 20) + b"]"),
    "key twice": Raw(b'{"systems": [], "systems": []}'), "not utf-8": Raw(b'{"systems": "\xff"}'),
    "closed": Raw(b"", None), "not http": Raw(b"SSH-2.0-x\r\n", None),
    "cut": Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", None)}


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_answer_that_no_console_gives_is_an_error(console, kind):
    console.answers["GET", "/v1/systems"] = BAD_ANSWERS[kind]
    run = lpm(console, "system", "list")
    assert run.returncode in (9, 11) and run.stdout == "" and "127.0.0.1" in run.stderr
    as_json = lpm(console, "system", "list", "--json")
    assert json.loads(as_json.stdout)["error"]["message"]


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
@pytest.mark.parametrize("value", [{}, [], None, 5, "x", {"systems": 5, "partitions": "x", "migrations": None, "checks": {}},
                                   {"systems": [None, 5, {}], "partitions": [[]], "migrations": [{"state": 5, "migration": {}}],
                                    "events": [1], "checks": ["a"], "profile": [], "modes": 7, "common": [1],
                                    "unreachable": [5, None], "findings": [5], "state": {}, "waiting_for": 5}],
                         ids=["object", "array", "null", "number", "string", "wrong types", "wrong members"])
def test_members_of_wrong_types_do_no_harm(console, words, value):
    console.answers["GET", LISTS[words]] = Raw(json.dumps(value).encode())
    for extra in ((), ("--json",)):
        assert lpm(console, *words, *extra).returncode in (0, 11)


# What people see

SYSTEMS = [{"name": "s1", "state": "connected", "address": "192.0.2.11", "port": 7610, "maintenance": False, "version": "0.1.0",
            "clock_offset_us": 120, "round_trip_us": 310, "error": None},
           {"name": "größer", "state": "unreachable", "address": None, "port": None, "maintenance": True, "version": None,
            "clock_offset_us": -1, "round_trip_us": None, "error": "connection refused"}]
PARTITIONS = [{"name": "web1", "system": "s1", "uuid": "u", "family": "x86-64", "state": "running", "processors": 2,
               "memory_mib": 1024, "preferred_mode": "default", "current_mode": "x86-64-v3", "migration": None, "duplicate": False},
              {"name": "a-long-name-of-a-partition", "system": "s2", "uuid": "v", "family": "power", "state": "not-activated",
               "processors": 1, "memory_mib": 512, "preferred_mode": "POWER8", "current_mode": None, "migration": ID,
               "duplicate": False}]


STORE = {"systems": [{"system": "s1", "on": True, "reason": None, "directory": "/var/lib/openlpm/store", "budget_bytes": 20 << 30,
                      "used_bytes": 3 << 28, "disk_bytes": 200 << 30, "free_bytes": 90 << 30},
                     {"system": "s2", "on": False, "reason": "switched off in the configuration ([store] use)", "directory": "/s",
                      "budget_bytes": 0, "used_bytes": 0, "disk_bytes": 0, "free_bytes": 0}],
         "images": [{"system": "s1", "partition": "web1", "uuid": "u", "state": "sealed", "bytes": 3 << 28, "used_us": 1763800000000000,
                     "image": "07" * 16, "generation": 3, "pages": 262144, "zero_pages": 90000}],
         "unreachable": [{"system": "s3", "error": "connection refused"}]}


def test_store_drop(console):
    console.answers["DELETE", "/v1/store"] = {"dropped": 2, "unreachable": []}
    for words, path in ((["web 1"], "/v1/store?partition=web%201"), (["--all"], "/v1/store?all=true"),
                        (["--all", "--system", "s1"], "/v1/store?system=s1&all=true"),
                        (["web1", "--system", "s1"], "/v1/store?system=s1&partition=web1")):
        run = lpm(console, "store", "drop", *words)
        assert run.returncode == 0 and run.stdout.startswith("2 images dropped")
        assert console.requests[-1][:2] == ("DELETE", path)
    for words in ([], ["web1", "--all"]):
        run = lpm(console, "store", "drop", *words)
        assert run.returncode == 2 and "--all" in run.stderr


def test_tables(console):
    console.answers["GET", "/v1/systems"] = {"systems": SYSTEMS}
    console.answers["GET", "/v1/partitions"] = {"partitions": PARTITIONS, "unreachable": ["s3"]}
    console.answers["GET", "/v1/migrations"] = {"migrations": [ended(), migration()]}
    console.answers["GET", "/v1/modes"] = {"systems": [{"system": "s1", "modes": {"x86-64": ["x86-64-v2"], "power": ["POWER8", "POWER9_base"]}}],
                                           "common": {"x86-64": None, "power": "POWER8"}}
    console.answers["GET", "/v1/store"] = STORE
    shown = {"system": "s1", "note": None, "profile": {"name": "web1", "family": "power", "processors": 1, "memory_mib": 512,
                                                       "preferred_mode": "default"},
             "state": "running", "current_mode": "POWER8", "pending_mode": "POWER9", "rmc": {"state": "active"},
             "console_socket": "/run/x", "migration": None}
    console.answers["GET", "/v1/partitions/web1"] = shown
    console.answers["GET", SHOWN] = migration(state="failed", finished=True, waiting_for=["s2"], note="it may be there",
                                              error={"class": "mover", "message": "the mover on s2 ended", "remedy": "start it again"})
    text = ""
    for words in (["system", "list"], ["partition", "list"], ["migration", "list"], ["modes"], ["partition", "show", "web1"],
                  ["migration", "show", ID], ["store", "list"], ["store", "show", "web1"]):
        run = lpm(console, *words)
        assert run.returncode == 0
        text += f"$ lpm {' '.join(words)}\n{run.stdout}{run.stderr}\n"
    golden("tables", text)


def test_empty_tables_say_so(console):
    for words, path, member in ((["system", "list"], "/v1/systems", "systems"), (["partition", "list"], "/v1/partitions", "partitions"),
                                (["migration", "list"], "/v1/migrations", "migrations"), (["events"], "/v1/events", "events")):
        console.answers["GET", path] = {member: []}
        run = lpm(console, *words)
        assert run.returncode == 0 and len(run.stdout.splitlines()) == 1
        assert json.loads(lpm(console, *words, "--json").stdout) == []


def test_filters_become_the_query(console):
    for words, path in ((["partition", "list", "--system", "s 1"], "/v1/partitions?system=s%201"),
                        (["migration", "list", "--active", "--partition", "a&b"], "/v1/migrations?limit=100&active=true&partition=a%26b"),
                        (["modes", "--common", "s1,s2"], "/v1/modes?common=s1%2Cs2"),
                        (["profile", "list", "web1"], "/v1/partitions/web1/profiles"),
                        (["profile", "delete", "web1", "a b"], "/v1/partitions/web1/profiles/a%20b"),
                        (["partition", "delete", "web1", "--disks"], "/v1/partitions/web1?disks=true"),
                        (["system", "remove", "s1", "--force"], "/v1/systems/s1?force=true")):
        lpm(console, *words)
        assert console.requests[-1][1] == path


def test_bodies_are_those_of_the_interface(console, tmp_path):
    profile = {"name": "web1", "memory_mib": 256}
    (tmp_path / "p.json").write_text(json.dumps(profile))
    for words, body in (
            (["system", "add", "s1"], {"name": "s1"}), (["system", "maintenance", "s1", "on"], {"maintenance": True}),
            (["partition", "create", "s1", "--file", tmp_path / "p.json"], {"system": "s1", "profile": profile}),
            (["partition", "stop", "web1", "--hard"], {"how": "hard"}),
            (["partition", "stop", "web1", "--timeout", "5"], {"how": "orderly", "timeout_ms": 5000}),
            (["partition", "restart", "web1"], {"how": "orderly"}),
            (["partition", "restart", "web1", "--profile", "big"], {"how": "orderly", "profile": "big"}),
            (["partition", "start", "web1", "--profile", "big"], {"profile": "big"}),
            (["profile", "create", "web1", "big", "memory_mib=512", "--from", "normal"],
             {"profile": "big", "from": "normal", "changes": {"memory_mib": 512}}),
            (["profile", "change", "web1", "big", "--rename", "large", "--default"],
             {"changes": {}, "rename": "large", "default": True}),
            (["partition", "change", "web1", "memory_mib=512", "preferred_mode=POWER8", "x=[1]", "y=1a"],
             {"changes": {"memory_mib": 512, "preferred_mode": "POWER8", "x": [1], "y": "1a"}}),
            (["migration", "recover", ID], {}),
            (["migration", "recover", ID, "--target-fenced", "--say", "target s2 is off"],
             {"word": "target-off", "say": "target s2 is off"}),
            (["migration", "recover", ID, "--source-fenced", "--say", "x"], {"word": "source-off", "say": "x"}),
            (["migration", "recover", ID, "--discard", "--say", "x"], {"word": "discard", "say": "x"}),
            (["validate", "web1", "--all-targets"], {"partition": "web1", "all_targets": True, "options": {"verify": False, "overrides": []}}),
            (["migrate", "web1", "s2", "--max-rate", "100mbit", "--auto-converge", "--give-up-after", "0"],
             {"partition": "web1", "target": "s2", "options": {"verify": False, "max_rate": 12500000, "auto_converge": True,
                                                               "give_up_after_s": 0, "overrides": []}}),
            (["migrate", "web1", "s2", "--profile", "kept"],
             {"partition": "web1", "target": "s2", "options": {"verify": False, "profile": "kept", "overrides": []}}),
            (["migrate", "web1", "s2", "--postcopy", "--postcopy-after", "60"],
             {"partition": "web1", "target": "s2", "options": {"verify": False, "postcopy": True, "postcopy_after_s": 60,
                                                               "overrides": []}}),
            (["migration", "set", ID, "--max-rate", "12MB/s", "--max-blackout", "1400"],
             {"max_rate": 12000000, "max_blackout_ms": 1400}),
            (["migration", "set", ID, "--max-rate", "none", "--give-up-after", "60"], {"max_rate": 0, "give_up_after_s": 60}),
            (["migrate", "web1", "s2", "--verify", "--max-rate", "1.5M", "--max-blackout", "120", "--override", "a.b",
              "--override", "c.d"],
             {"partition": "web1", "target": "s2",
              "options": {"verify": True, "max_rate": 1500000, "max_blackout_ms": 120, "overrides": ["a.b", "c.d"]}}),
            (["migrate", "web1", "s2", "--connections", "4", "--link-retry", "0"],
             {"partition": "web1", "target": "s2",
              "options": {"verify": False, "overrides": [], "connections": 4, "link_retry_ms": 0}})):
        lpm(console, *words)
        assert console.requests[-1][2] == body, words


def test_profile_on_standard_input(console):
    console.answers["POST", "/v1/partitions"] = Answer({"system": "s1", "profile": {"name": "web1"}}, 201)
    run = subprocess.run([LPM, "partition", "create", "s1", "--file", "-"], env=environment(console.client_file),
                         input='{"name": "web1"}', text=True, capture_output=True, timeout=20, check=False)
    assert run.returncode == 0 and console.requests[-1][2] == {"system": "s1", "profile": {"name": "web1"}}
    assert "web1" in run.stdout
    bad = subprocess.run([LPM, "partition", "create", "s1", "--file", "-"], env=environment(console.client_file),
                         input='{"name": "web1",\n "name": 5}', text=True, capture_output=True, timeout=20, check=False)
    assert bad.returncode == 2 and "line 2" in bad.stderr


# Validation

def validation(*findings, verdict="error"):
    return {"partition": "web1", "source": "s1", "active": True,
            "results": [{"target": "s2", "verdict": verdict, "findings": list(findings), "ms": 420.4, "summary": {}}]}


def test_findings_are_all_shown_with_remedies(console):
    console.answers["POST", "/v1/validate"] = validation(
        finding(), finding(check="storage.visible", object="disk0", hmc_code=None, overridable=False),
        finding(check="mover.image", severity="warning", expected="", found="no resident image", overridable=False),
        finding(check="network.mtu", overridden=True))
    run = lpm(console, "validate", "web1", "s2")
    assert run.returncode == 7 and "nothing was changed" in run.stderr
    golden("findings", run.stdout)
    as_json = lpm(console, "validate", "web1", "s2", "--json")
    assert as_json.returncode == 7 and len(json.loads(as_json.stdout)["results"][0]["findings"]) == 4


def band(value, low, high):
    return {"value": value, "low": low, "high": high}


PREDICTION = {"converges": "yes", "duration_ms": band(4900, 4200, 5800), "wire_bytes": band(279000000, 240000000, 320000000),
              "blackout_ms": band(110, 85, None), "moves": 3, "learned_from": "partition"}


def test_several_targets_are_shown_side_by_side(console):
    none = {**PREDICTION, "converges": "no", "moves": 0, "learned_from": "nothing", "duration_ms": band(None, None, None)}
    after = {"mode": "POWER9", "changes": True, "processor_allows": False, "processor_allows_now": True}
    answer = validation()
    answer["results"] = [
        {"target": "s2", "verdict": "ok", "findings": [], "ms": 420.4, "prediction": PREDICTION, "after_restart": after},
        {"target": "s3", "verdict": "error", "findings": [finding()], "ms": 1300, "prediction": none, "after_restart": None},
        {"target": "s4", "verdict": "error", "findings": [finding()], "ms": 2, "prediction": None, "after_restart": {**after, "changes": False}}]
    console.answers["POST", "/v1/validate"] = answer
    run = lpm(console, "validate", "web1", "--all-targets")
    assert run.returncode == 0, run.stderr  # there is a way
    golden("targets", run.stdout)
    answer["results"] = answer["results"][1:]
    assert lpm(console, "validate", "web1", "--all-targets").returncode == 7


def test_a_prediction_is_said_before_a_move_and_judged_after_it(console):
    console.answers["POST", "/v1/validate"] = {**validation(), "results": [
        {"target": "s2", "verdict": "ok", "findings": [], "ms": 420, "prediction": PREDICTION, "after_restart": None}]}
    said = lpm(console, "validate", "web1", "s2").stdout
    assert said.startswith("prediction: time 4.9 s (4.2 s to 5.8 s), on the wire 279 MB (240 MB to 320 MB), blackout 110 ms (85 ms to no end); "
                           "the copy will come to its end (learned from 3 moves of this partition)\n"), said
    assert lpm(console, "validate", "web1", "s2", "--no-measure").returncode == 0
    assert console.requests[-1][2]["options"]["measure"] is False
    score = {"duration_ms": {"predicted": 4900, "actual": 2831, "error_percent": 73.1}, "converges": {"predicted": "yes", "actual": True}}
    plan_move(console, migration(prediction=PREDICTION), ended(prediction=PREDICTION, score=score))
    moved = lpm(console, "migrate", "web1", "s2")
    assert moved.returncode == 0 and moved.stderr.count("prediction: time 4.9 s") == 1, moved.stderr
    assert "against the prediction: time 2.8 s, predicted +73 %\n" in moved.stdout, moved.stdout


def test_modes_of_several_systems_as_words(console):
    console.answers["GET", "/v1/modes"] = {"systems": [], "common": {"power": "POWER8"}}
    for words in (["s1", "s2", "s3"], ["s1,s2", "s3"], ["s1,s2,s3"]):
        assert "power: POWER8" in lpm(console, "modes", "--common", *words).stdout
        assert console.requests[-1][1].replace("%2C", ",") == "/v1/modes?common=s1,s2,s3"
    assert lpm(console, "modes", "s1").returncode == 2


@pytest.mark.parametrize("verdict, code", [("ok", 0), ("warning", 0), ("error", 7)])
def test_verdict_decides_the_exit_code(console, verdict, code):
    console.answers["POST", "/v1/validate"] = validation(verdict=verdict)
    assert lpm(console, "validate", "web1", "s2").returncode == code
    assert lpm(console, "validate", "web1", "s2", "--json").returncode == code


def test_table_of_checks_is_shown(console):
    console.answers["GET", "/v1/checks"] = {"checks": [{"check": "general.name", "group": "general", "active": True, "inactive": False,
                                                        "overridable": False, "hmc": "HSCLA24E?", "looks_at": "the name is free"}]}
    run = lpm(console, "validate", "--list")
    assert run.returncode == 0 and "general.name" in run.stdout and "HSCLA24E?" in run.stdout and "the name is free" in run.stdout


# Moves

def test_migrate_json_ends_with_one_object(console):
    plan_move(console, migration(phase=None, state="validating"), migration(), ended())
    run = lpm(console, "migrate", "web1", "s2", "--json")
    assert (run.returncode, run.stderr) == (0, "")
    result = json.loads(run.stdout)
    for name in ("migration", "partition", "source", "target", "state", "stream_bytes", "wire_bytes", "total_ms", "blackout_ms"):
        assert result[name] is not None, name
    assert all({"name", "start", "ms"} <= phase.keys() for phase in result["phases"])


def test_migrate_off_a_terminal_names_each_phase_once(console):
    plan_move(console, migration(phase=None, state="validating"), migration(revision=2), migration(revision=3, progress=0.7),
              migration(revision=4, phase="switchover"), ended())
    run = lpm(console, "migrate", "web1", "s2")
    assert run.returncode == 0
    assert "\r" not in run.stderr and "\033" not in run.stdout + run.stderr
    golden("migrate", f"{run.stdout}--- standard error\n{run.stderr}")


def test_what_was_saved_is_shown(console):
    plan_move(console, migration(saved_percent=94.4), ended(saved_percent=94.4))
    code, out, screen = on_terminal(console, "migrate", "web1", "s2", columns=200)
    assert code == 0 and "saved 94 %" in screen and "on the wire, saved 94 %" in out
    plan_move(console, migration(), ended())
    assert "saved" not in lpm(console, "migrate", "web1", "s2").stdout
    console.answers["GET", SHOWN] = migration(saved_percent=94.4)
    shown = lpm(console, "migration", "show", ID).stdout
    assert "pages zero" in shown and "20570" in shown


CONVERGENCE = {"state": "does-not-converge", "max_blackout_ms": 300, "max_rate": 0, "limit_ms": 300, "needed_blackout_ms": 1400,
               "throttle_percent": 20, "advice": ["more bandwidth", "--max-blackout 1400 (it is 300)"]}


def test_a_copy_that_does_not_converge_is_told_once_each_time(console):
    good = {**CONVERGENCE, "state": "converging", "advice": []}
    plan_move(console, migration(), migration(revision=2, convergence=CONVERGENCE), migration(revision=3, convergence=CONVERGENCE),
              migration(revision=4, convergence=good), migration(revision=5, convergence=CONVERGENCE), ended(convergence=CONVERGENCE))
    run = lpm(console, "migrate", "web1", "s2")
    told = [line for line in run.stderr.splitlines() if "does not converge" in line]
    assert run.returncode == 0 and len(told) == 2 and "--max-blackout 1400" in told[0], run.stderr
    console.answers["GET", SHOWN] = migration(convergence=CONVERGENCE)
    shown = lpm(console, "migration", "show", ID).stdout
    assert "does-not-converge" in shown and "1400" in shown and "more bandwidth, --max-blackout 1400" in shown


def read_to_hangup(leader):
    """What the programs on a terminal wrote until the last of them ended; closes it."""
    shown = b""
    while True:
        try:
            data = os.read(leader, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(leader)
    return shown


def on_terminal(console, *words, columns=100):
    """(exit code, standard output, what a terminal on standard error got)."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = subprocess.Popen([LPM, *words], env=environment(console.client_file), stdout=subprocess.PIPE, stderr=follower,
                             stdin=subprocess.DEVNULL, text=True)
    os.close(follower)
    shown = read_to_hangup(leader)
    return child.wait(20), child.stdout.read(), shown.decode()


@pytest.mark.parametrize("columns", [40, 100])
def test_migrate_on_a_terminal_draws_one_line_that_fits(console, columns):
    plan_move(console, migration(phase=None, state="validating", progress=None, eta_ms=None), migration(revision=2),
              migration(revision=3, progress=7.5, eta_ms=10**12), ended())
    code, out, shown = on_terminal(console, "migrate", "web1", "s2", columns=columns)
    assert code == 0 and "web1: completed; it is on s2" in out
    assert "\n" not in shown, "the line moved down"
    lines = [re.sub(r"\033\[K", "", line) for line in shown.split("\r")]
    assert all(len(line) < columns for line in lines)
    assert any(" 50 %" in line for line in lines) or columns < 50
    assert lines[-1] == "", "the line is cleared at the end"
    if columns > 90:
        assert any("118 MB/s" in line and "134 MB left" in line and "ETA 1.2 s" in line and "copy" in line for line in lines)


LOST = {"up": 0, "of": 1, "lost_ms": 4321, "reason": "cut", "reconnects": 0, "resent_bytes": 0}


def test_a_lost_link_is_said(console):
    statuses = (migration(), migration(revision=2, links=LOST), migration(revision=3), ended())
    plan_move(console, *statuses)
    run = lpm(console, "migrate", "web1", "s2")
    assert run.returncode == 0
    assert run.stderr.splitlines() == ["web1: copy", "web1: copy: link lost, waiting for it; the partition goes on running",
                                       "web1: copy", "web1: finish"]
    plan_move(console, *statuses[:2], migration(revision=3, waiting_for=["s1"]), ended())
    shown = on_terminal(console, "migrate", "web1", "s2", columns=140)[2]
    assert "link lost 4 s ago, waiting for it; the partition goes on running" in shown
    assert "no word from s1; the move goes on without the console" in shown


ENDS = {
    "refused": (7, {"state": "refused", "findings": [finding()], "phases": []}, ["nothing was changed"]),
    "stopped": (17, {"state": "stopped"}, ["stopped"]),
    "failed": (15, {"state": "failed", "error": {"class": "mover", "message": "the mover on s2 ended", "remedy": "start it again"}},
               ["the mover on s2 ended", "start it again"]),
    "failed at QEMU": (12, {"state": "failed", "error": {"class": "qemu", "message": "QEMU on s2 ended", "remedy": None}}, ["QEMU on s2"]),
    "of an unknown class": (70, {"state": "failed", "error": {"class": "fashion", "message": "out of it"}}, ["out of it"])}


@pytest.mark.parametrize("kind", ENDS)
def test_move_that_did_not_complete(console, kind):
    code, changes, words = ENDS[kind]
    plan_move(console, migration(), ended(blackout_ms=None, **changes))
    run = lpm(console, "migrate", "web1", "s2")
    assert run.returncode == code, run.stderr
    assert all(word in run.stderr for word in words), run.stderr
    assert "it is on s1" in run.stdout
    as_json = lpm(console, "migrate", "web1", "s2", "--json")
    assert as_json.returncode == code
    assert json.loads(as_json.stdout)["state"] == changes["state"], "one object, the migration itself"


def test_no_wait_returns_at_once(console):
    plan_move(console, migration())
    run = lpm(console, "migrate", "web1", "s2", "--no-wait")
    assert run.returncode == 0 and ID in run.stdout and len(console.requests) == 1
    assert json.loads(lpm(console, "migrate", "web1", "s2", "--no-wait", "--json").stdout)["migration"] == ID


def test_console_that_restarts_in_mid_move_is_waited_for(console):
    plan_move(console, migration(), Raw(b"", None), Raw(b"", None), migration(revision=3), ended())
    run = lpm(console, "migrate", "web1", "s2")
    assert run.returncode == 0, run.stderr
    assert "completed" in run.stdout


def test_error_while_following_says_that_the_move_goes_on(console):
    plan_move(console, migration(), failure("denied", "this token was withdrawn", "ask for another", 403))
    run = lpm(console, "migrate", "web1", "s2")
    assert run.returncode == 8 and f"lpm migration show {ID}" in run.stderr and "withdrawn" in run.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_says_that_the_move_goes_on(console, number):
    plan_move(console, migration())
    child = subprocess.Popen([LPM, "migrate", "web1", "s2"], env=environment(console.client_file), stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 10
    while len(console.requests) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(number)
    _out, err = child.communicate(timeout=10)
    assert child.returncode == 128 + number
    assert f"lpm migration watch {ID}" in err and f"lpm migration stop {ID}" in err
    assert not any(path.endswith("/stop") for _method, path, _body, _headers in console.requests)


def test_following_asks_only_for_what_is_new(console):
    plan_move(console, migration(revision=5), migration(revision=6), ended(revision=7))
    lpm(console, "migrate", "web1", "s2")
    asked = [re.search(r"since=(-?\d+)", path).group(1) for method, path, _b, _h in console.requests if method == "GET"]
    assert asked == ["-1", "5", "6"]


def test_stop_says_where_the_partition_is(console):
    console.answers["POST", f"{SHOWN}/stop"] = {"migration": ID, "state": "moving", "stop_requested": True}
    console.answers["GET", SHOWN] = ended(state="stopped")
    run = lpm(console, "migration", "stop", ID)
    assert run.returncode == 0 and "web1 is on s1" in run.stdout
    console.answers["GET", SHOWN] = ended(state="completed")
    assert "web1 is on s2" in lpm(console, "migration", "stop", ID).stdout, "the stop came too late"
    console.answers["POST", f"{SHOWN}/stop"] = failure("state", f"migration {ID} is being handed over", "wait for its end")
    assert lpm(console, "migration", "stop", ID).returncode == 5


def test_recover_says_what_it_waits_for(console):
    console.answers["POST", f"{SHOWN}/recover"] = migration(waiting_for=["s2"], note="s2 has to say whether it runs there")
    run = lpm(console, "migration", "recover", ID)
    assert run.returncode == 0 and "s2" in run.stdout and "not finished" in run.stdout


def test_waits_as_long_as_it_was_told(console):
    """The clock of `lpm` runs 100 times too fast; the console answers after what are more than 200 s to it."""
    env = {**environment(console.client_file), "LD_PRELOAD": FAKETIME, "FAKETIME": "+0 x100",
           "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}

    def late(answer):
        time.sleep(2.2)
        return answer
    console.answers["POST", "/v1/partitions/web1/stop"] = lambda: late({"state": "not-activated"})
    console.answers["POST", "/v1/partitions/web1/power-off"] = lambda: late({"power": "off", "why": None})
    console.answers["POST", "/v1/partitions/web1/restart"] = lambda: late({"state": "running"})
    cases = [(["stop", "web1", "--timeout", "3000"], 0, "partition web1: not-activated"),
             (["power", "web1", "off", "--timeout", "600"], 0, "partition web1 is off"),
             (["restart", "web1"], 10, "no answer in time; what was asked for may still be done")]
    runs = [subprocess.Popen([LPM, "partition", *words], env=env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE) for words, _, _ in cases]
    for run, (words, code, said) in zip(runs, cases):
        out, err = run.communicate(timeout=60)
        assert (run.returncode, said in out + err) == (code, True), (words, out, err)
