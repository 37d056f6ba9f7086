# SPDX-License-Identifier: Apache-2.0
"""lpm-drmgr, with scripts that behave and scripts that do not."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("LPM_BUILD", "build")).resolve()
PROGRAM = BUILD / "src/guest/lpm-drmgr"
SCRIPT = """#!/bin/sh
case $1 in
scriptinfo) echo DR_VERSION=1.2; echo DR_DATE=01112026; echo DR_VENDOR=lab; echo "DR_SCRIPTINFO=a test"; exit 0 ;;
register) echo DR_RESOURCE=pmig; exit 0 ;;
esac
echo "$(basename $0) $1 $2" >>@CALLS@
"""


class Guest:
    """A directory that the program takes for the root of a guest."""

    def __init__(self, root):
        self.root, self.calls_file = root, root / "calls"
        (root / "proc/sys/kernel/random").mkdir(parents=True)
        self.boot("one")

    def boot(self, name):
        (self.root / "proc/sys/kernel/random/boot_id").write_text(name + "\n")

    def run(self, *words, timeout=30):
        return subprocess.run([PROGRAM, "--root", self.root, *words], capture_output=True, text=True, timeout=timeout,
                              stdin=subprocess.DEVNULL)

    def write(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("@CALLS@", str(self.calls_file)).replace("@ROOT@", str(self.root)))
        path.chmod(0o755)
        return path

    def script(self, name, body="exit 0", *options):
        file = self.write(self.root / "sources" / name, SCRIPT + body + "\n")
        done = self.run("-i", str(file), *options)
        assert done.returncode == 0, done.stderr

    def hook(self, name, body="exit 0"):
        self.write(self.root / "etc/drmgr.d/pmig" / name, f'#!/bin/sh\necho "{name} $PHASE" >>@CALLS@\n{body}\n')

    def phase(self, phase, *words, move="move-1"):
        done = self.run("--phase", phase, "--id", move, *words)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines[0]["kind"] == "begin" and lines[0]["format"] == 1 and lines[-1]["kind"] == "end", lines
        return done.returncode, lines[-1]["result"], lines[1:-1]

    def calls(self):
        text = self.calls_file.read_text() if self.calls_file.exists() else ""
        self.calls_file.unlink(missing_ok=True)
        return text.splitlines()


@pytest.fixture
def guest(tmp_path):
    return Guest(tmp_path)


def left_over(mark):
    """Processes whose command line has the mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark in path.read_bytes().decode(errors="replace"):
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


# --- scripts that are registered ---

def test_install_list_and_remove(guest):
    guest.script("web")
    listed = guest.run("-l").stdout.splitlines()
    assert listed[0] == "DR Install Root Directory: /usr/lib/dr/scripts"
    assert listed[2].startswith("all/web") and "1.2" in listed[2] and "time limit 600 s" in listed[2] and "pmig" in listed[2]
    again = guest.run("-i", str(guest.root / "sources/web"))
    assert again.returncode == 1 and "-f replaces it" in again.stderr
    guest.script("web", "exit 0", "-f", "-w", "3")
    row = json.loads(guest.run("-l", "--json").stdout)
    assert row["limit_s"] == 180 and row["mobility"] is True
    assert guest.run("-b").returncode == 0
    assert json.loads(guest.run("-l", "--json").stdout)["limit_s"] == 180, "-b forgot -w"
    assert guest.run("-u", "web").returncode == 0
    assert len(guest.run("-l").stdout.splitlines()) == 2
    assert not (guest.root / "usr/lib/dr/scripts/all/web").exists()


def test_a_script_that_does_not_know_scriptinfo_is_not_installed(guest):
    file = guest.write(guest.root / "bad", "#!/bin/sh\necho DR_ERROR=what is that\nexit 10\n")
    done = guest.run("-i", str(file))
    assert done.returncode == 1 and "what is that" in done.stderr
    assert not list((guest.root / "usr/lib/dr/scripts/all").glob("*"))


def test_another_directory_and_another_name_in_syslog(guest):
    assert guest.run("-R", "/opt/dr").returncode == 0 and guest.run("-S", "moves").returncode == 0
    guest.script("web")
    assert (guest.root / "opt/dr/all/web").exists()
    assert guest.run("-l").stdout.splitlines()[:2] == ["DR Install Root Directory: /opt/dr", "Syslog ID: moves"]


def test_what_a_script_tells_for_the_console(guest):
    guest.script("web", "echo LPM_FACT=cluster_members=3; echo 'LPM_FACT=a_b=x=\"y'; echo LPM_FACT=none; echo LPM_OTHER=1")
    _, _, lines = guest.phase("check")
    assert lines[0]["facts"] == [{"name": "cluster_members", "value": "3"}, {"name": "a_b", "value": 'x="y'}]


def test_half_a_name_in_a_fact_that_is_too_long_is_none(guest):
    names = [f"member-{i:02}" for i in range(40)]
    guest.script("web", f"echo LPM_FACT=cluster_standby='{' '.join(names)}'; echo 'LPM_FACT=short=one two'")
    long, short = guest.phase("check")[2][0]["facts"]
    told = long["value"].split(" ")
    assert len(told) > 20 and told == names[:len(told)] and short == {"name": "short", "value": "one two"}


def test_watching_between_pre_and_the_end(guest):
    """Only those that are named, only while the move lasts, and nothing of it is written down."""
    guest.script("web", "[ $1 = watchmigrate ] && echo DR_ERROR=it is down && exit 10; exit 0")
    guest.script("db")
    assert guest.phase("watch", "--only", "all/web")[:2] == (0, "already")
    guest.phase("pre", "LPM_SOURCE=a")
    guest.calls()
    state = (guest.root / "var/lib/lpm-drmgr/moves/move-1").read_text()
    code, result, lines = guest.phase("watch", "--only", "all/web", "--only", "all/nobody")
    assert (code, result) == (10, "no") and [(line["name"], line["words"]) for line in lines] == [("all/web", "it is down")]
    assert guest.calls() == ["web watchmigrate pmig"]
    assert (guest.root / "var/lib/lpm-drmgr/moves/move-1").read_text() == state
    guest.phase("post")
    assert guest.phase("watch", "--only", "all/web")[:2] == (0, "already")


def test_taking_over_for_a_lost_member(guest):
    """A partition that is not being moved is asked: only what is named."""
    guest.script("web", 'echo "$1 $LPM_MEMBER $LPM_MIGRATION_ID" >>@CALLS@')
    guest.script("db")
    assert guest.phase("takeover", "--only", "all/web", "LPM_MEMBER=node1")[:2] == (0, "ok")
    assert guest.calls() == ["web takeover pmig", "takeover node1 move-1"]
    assert not (guest.root / "var/lib/lpm-drmgr/moves/move-1").exists()


def test_a_script_for_another_host_is_not_asked_and_our_own_comes_first(guest):
    guest.script("web", "exit 10")
    guest.script("web", "exit 0", "-D", os.uname().nodename)
    guest.script("db", "exit 10", "-D", "elsewhere")
    code, result, lines = guest.phase("check")
    assert (code, result) == (0, "ok")
    assert [line["name"] for line in lines] == [f"{os.uname().nodename}/web"]


# --- phases ---

def test_order_of_phases_and_of_scripts(guest):
    guest.script("b-db")
    guest.script("a-web")
    guest.hook("10-net")
    assert guest.phase("check")[:2] == (0, "ok")
    assert guest.phase("pre")[:2] == (0, "ok")
    assert guest.phase("post")[:2] == (0, "ok")
    assert guest.calls() == ["a-web checkmigrate pmig", "b-db checkmigrate pmig", "10-net check",
                             "a-web premigrate pmig", "b-db premigrate pmig", "10-net pre",
                             "a-web postmigrate pmig", "b-db postmigrate pmig", "10-net post"]


def test_environment_of_both_kinds(guest):
    guest.script("web", "env | sort >@ROOT@/env.$1; pwd >@ROOT@/pwd; exit 0")
    guest.hook("net", "/usr/bin/env | sort >@ROOT@/hook.$PHASE; echo $# >@ROOT@/arguments; exit 0")
    variables = ("LPM_SOURCE=system-a", "LPM_TARGET=system-b", "LPM_PREDICTED_BLACKOUT_MS=120")
    guest.phase("check", "--force", "--detail", "3", *variables)
    guest.phase("pre", *variables)
    guest.phase("post", "LPM_SOURCE=forgotten")
    read = {k: dict(line.split("=", 1) for line in (guest.root / k).read_text().splitlines())
            for k in ("env.checkmigrate", "env.premigrate", "env.postmigrate", "hook.check", "hook.pre", "hook.post")}
    assert read["env.checkmigrate"]["DR_FORCE"] == "TRUE" and read["env.checkmigrate"]["DR_DETAIL_LEVEL"] == "3"
    for name, phase in (("premigrate", "pre"), ("postmigrate", "post")):
        env = read[f"env.{name}"]
        assert env["DR_FORCE"] == "FALSE" and env["LPM_PHASE"] == phase and env["LPM_OPERATION"] == "migrate"
        assert (env["LPM_SOURCE"], env["LPM_TARGET"], env["LPM_MIGRATION_ID"]) == ("system-a", "system-b", "move-1")
        assert env["LPM_PREDICTED_BLACKOUT_MS"] == "120"
    assert "LPM_BUILD" not in read["env.premigrate"], "the caller's environment must not come through"
    for phase in ("check", "pre", "post"):
        assert {k: v for k, v in read[f"hook.{phase}"].items() if k not in ("PWD", "SHLVL", "_", "OLDPWD")} == \
            {"DRC_TYPE": "pmig", "DRC_COUNT": "0", "ACTION": "migrate", "PHASE": phase}
    assert (guest.root / "arguments").read_text() == "0\n" and (guest.root / "pwd").read_text() == "/\n"


def test_a_veto_is_told_with_its_words_and_everybody_is_asked(guest):
    guest.script("a", "echo DR_LOG_INFO=looked; echo 'DR_ERROR=a backup runs until \"noon\"'; exit 10")
    guest.script("b")
    guest.hook("net")
    code, result, lines = guest.phase("check")
    assert (code, result) == (10, "no")
    assert lines[0]["answer"] == "no" and lines[0]["words"] == 'a backup runs until "noon"'
    assert lines[0]["log"] == [{"level": "info", "text": "looked"}]
    assert [line["answer"] for line in lines[1:]] == ["yes", "yes", "yes"]
    assert guest.calls() == ["a checkmigrate pmig", "b checkmigrate pmig", "net check", "net undocheck"]
    assert guest.phase("check", "--force")[:2] == (0, "ok")


def test_only_check_of_a_hook_can_veto(guest):
    guest.hook("a", "[ $PHASE != check ] || { echo not today >&2; exit 3; }; exit 7")
    code, result, lines = guest.phase("check")
    assert (code, result) == (10, "no") and lines[0]["words"] == "not today"
    assert guest.phase("pre")[:2] == (0, "ok") and guest.phase("post")[:2] == (0, "ok")


def test_undo_is_for_those_whose_pre_ran_in_reverse_order_once(guest):
    guest.script("a")
    guest.script("b", "[ $1 != premigrate ] || { echo DR_ERROR=cannot now; exit 10; }")
    guest.script("c")
    guest.hook("net")
    code, result, lines = guest.phase("pre")
    assert (code, result) == (10, "no") and lines[-1]["words"] == "cannot now"
    assert guest.phase("undo")[:2] == (0, "ok")
    assert guest.phase("undo")[:2] == (0, "already")
    assert guest.phase("post")[:2] == (0, "already")
    assert guest.calls() == ["a premigrate pmig", "b premigrate pmig", "b undopremigrate pmig", "a undopremigrate pmig"]


def test_undo_of_hooks_is_post(guest):
    guest.hook("a")
    guest.hook("b")
    guest.phase("pre")
    guest.phase("undo")
    assert guest.calls() == ["a pre", "b pre", "b post", "a post"]


def test_phases_are_idempotent(guest):
    guest.script("a")
    for phase in ("pre", "pre", "post", "post", "undo"):
        assert guest.phase(phase)[0] == 0
    assert guest.calls() == ["a premigrate pmig", "a postmigrate pmig"]
    code, result, _ = guest.phase("pre")
    assert (code, result) == (1, "too-late"), "a move that is over must not be begun again"


def test_an_undo_that_overtakes_its_pre(guest):
    guest.script("a")
    assert guest.phase("undo")[0] == 0
    assert guest.phase("pre")[:2] == (1, "too-late")
    assert guest.calls() == []


def test_where_nobody_is_to_be_told_nothing_is_written(guest):
    """So that a full disk stops no move."""
    def written():
        return [path for path in (guest.root / "var/lib").rglob("*") if path.is_file() and path.name != "lock"]

    for phase, result in (("check", "ok"), ("pre", "ok"), ("post", "already"), ("undo", "already")):
        assert guest.phase(phase)[:2] == (0, result), phase
    assert written() == []
    guest.hook("told")
    assert guest.phase("pre")[:2] == (0, "ok")
    assert written() != [], "who is told may count on the rest"


def test_a_script_that_was_removed_in_between(guest):
    guest.script("a")
    guest.phase("pre")
    guest.run("-u", "a")
    code, result, lines = guest.phase("post")
    assert (code, result) == (0, "ok") and "not installed any more" in lines[0]["words"]


# --- scripts that misbehave ---

def test_a_hanging_script_is_killed_with_its_children(guest):
    guest.script("a", "trap '' TERM; sleep 4711 & sleep 4711", "-w", "1s")
    begun = time.monotonic()
    code, result, lines = guest.phase("check")
    assert (code, result) == (10, "no") and time.monotonic() - begun < 6
    assert lines[0]["end"] == "timed-out" and "1.0 s" in lines[0]["words"] and not lines[0]["leaks"]
    assert left_over("4711") == []


def test_the_limit_of_the_phase_counts_too(guest):
    guest.script("a", "sleep 4712")
    assert guest.phase("check", "--limit", "1s")[2][0]["end"] == "timed-out"
    assert left_over("4712") == []


def test_dr_timeout_is_its_own_limit(guest):
    file = guest.write(guest.root / "slow", SCRIPT.replace("exit 0", "echo DR_TIMEOUT=1s; exit 0", 1) + "sleep 4713")
    assert guest.run("-i", str(file)).returncode == 0
    assert guest.phase("check")[2][0]["end"] == "timed-out"


def test_a_script_that_kills_its_parent(guest):
    guest.script("a", "kill -9 $PPID; sleep 4714")
    guest.script("b")
    code, result, lines = guest.phase("check")
    assert (code, result) == (10, "no")
    assert lines[0]["end"] == "killed-parent" and lines[1]["answer"] == "yes"
    assert left_over("4714") == []


def test_a_flood_is_bounded_and_its_error_is_still_seen(guest):
    guest.script("a", "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i + 1)); done;"
                      "echo DR_ERROR=after the flood; exit 10")
    guest.script("b", "exec yes")
    done = guest.run("--phase", "check", "--id", "m")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(done.stdout) < 20000
    assert lines[1]["words"] == "after the flood" and lines[1]["cut"]
    assert lines[2]["end"] == "flooded" and "16 MiB" in lines[2]["words"]


def test_many_loud_scripts_fit_what_the_host_takes(guest):
    for number in range(60):
        guest.hook(f"h{number}", "head -c 4000 /dev/zero | tr '\\0' '\\001'; exit 1")
    done = guest.run("--phase", "check", "--id", "m")
    assert len(done.stdout) < 220 << 10
    assert json.loads(done.stdout.splitlines()[-1])["result"] == "no"


@pytest.mark.parametrize("how", ["sleep 4715 &", "setsid sleep 4715 &", "(setsid sh -c 'sleep 4715 & exit' &) ",
                                 "setsid sh -c 'setsid sleep 4715 & setsid sleep 4715 & sleep 4715' & sleep 0.3"])
def test_children_left_behind_are_ended(guest, how):
    guest.script("a", how + "\nexit 0")
    code, result, lines = guest.phase("check")
    assert (code, result) == (0, "ok"), "what a script leaves behind is no answer"
    assert lines[0]["children"] >= 1 and not lines[0]["leaks"]
    assert left_over("4715") == []


def test_a_script_that_others_may_change_is_not_run(guest):
    guest.script("a")
    (guest.root / "usr/lib/dr/scripts/all/a").chmod(0o777)
    code, _, lines = guest.phase("check")
    assert code == 10 and lines[0]["end"] == "not-run" and "only root" in lines[0]["words"]
    assert guest.calls() == []


def test_bytes_that_are_no_text(guest):
    guest.script("a", "printf 'DR_ERROR=\\377\\001\\303\\244\\\\\\000x\\n'; printf '\\300\\200\\n'; exit 10")
    lines = guest.phase("check")[2]
    assert lines[0]["words"].startswith("? ä\\") and "\x00" not in lines[0]["output"]


# --- crashes ---

def begin_and_kill(guest, phase, until):
    """lpm-drmgr is killed when the calls have a line that ends so."""
    process = subprocess.Popen([PROGRAM, "--root", guest.root, "--phase", phase, "--id", "move-1"],
                               stdout=subprocess.DEVNULL)
    limit = time.monotonic() + 20
    while until not in (guest.calls_file.read_text() if guest.calls_file.exists() else ""):
        assert time.monotonic() < limit and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_crash_between_pre_and_post_is_settled_at_the_next_boot(guest):
    guest.script("a")
    guest.script("b", "[ $1 != premigrate ] || sleep 4716")
    begin_and_kill(guest, "pre", "b premigrate")
    assert guest.run("--settle").returncode == 0
    assert guest.calls() == ["a premigrate pmig", "b premigrate pmig"], "the same boot: it may still be under way"
    assert "move-1" in guest.run("--status").stdout
    guest.boot("two")
    assert guest.run("--settle").returncode == 0
    assert guest.calls() == ["b undopremigrate pmig", "a undopremigrate pmig"]
    assert guest.run("--status").stdout == "" and guest.run("--settle").returncode == 0 and guest.calls() == []
    assert guest.phase("post")[:2] == (0, "already")
    assert left_over("4716") == []


def test_a_crash_in_post_is_finished_not_undone(guest):
    guest.script("a")
    guest.script("b", "[ $1 != postmigrate ] || [ -e @ROOT@/second ] || sleep 4717")
    guest.phase("pre")
    begin_and_kill(guest, "post", "b postmigrate")
    (guest.root / "second").touch()
    guest.boot("two")
    assert guest.run("--settle").returncode == 0
    assert guest.calls()[-2:] == ["b postmigrate pmig", "b postmigrate pmig"]


FAILS_AT_FIRST = "case $1 in postmigrate | undopremigrate) [ -e @ROOT@/cured ] || { echo DR_ERROR=not yet; exit 10; } ;; esac; exit 0"


@pytest.mark.parametrize("way", ["post", "undo"])
def test_what_a_script_could_not_put_back_it_is_told_again(guest, way):
    """And nobody else is; the move is over when it could."""
    word = {"post": "postmigrate", "undo": "undopremigrate"}[way]
    guest.script("a")
    guest.script("b", FAILS_AT_FIRST)
    guest.phase("pre")
    guest.calls()
    code, result, rows = guest.phase(way)
    assert (code, result) == (10, "no") and [row["words"] for row in rows if row["name"] == "all/b"] == ["not yet"]
    assert sorted(guest.calls()) == [f"a {word} pmig", f"b {word} pmig"]
    (guest.root / "cured").touch()
    assert guest.phase(way)[:2] == (0, "ok")
    assert guest.calls() == [f"b {word} pmig"]
    assert guest.phase(way)[:2] == (0, "already") and guest.calls() == []


def test_after_three_times_it_is_given_up(guest):
    guest.script("b", FAILS_AT_FIRST)
    guest.phase("pre")
    assert [guest.phase("post")[1] for _ in range(4)] == ["no", "no", "ok", "already"]
    assert guest.calls()[1:] == ["b postmigrate pmig"] * 3


def test_it_is_settled_again_after_a_boot_and_before_the_next_move(guest):
    guest.script("b", FAILS_AT_FIRST)
    guest.phase("pre")
    guest.boot("two")
    assert guest.run("--settle").returncode == 10
    assert guest.phase("pre", move="move-2")[:2] == (0, "ok"), "its own check and pre may say no, the move before does not"
    assert guest.calls()[1:] == ["b undopremigrate pmig"] * 2 + ["b premigrate pmig"]
    (guest.root / "cured").touch()
    assert guest.phase("post", move="move-2")[:2] == (0, "ok")
    assert guest.run("--settle").returncode == 0 and guest.run("--status").stdout == ""
    assert guest.calls() == ["b postmigrate pmig", "b undopremigrate pmig"]


def test_a_last_line_that_was_cut_announces_nothing(guest):
    guest.script("a")
    guest.phase("pre")
    file = guest.root / "var/lib/lpm-drmgr/moves/move-1"
    file.write_text(file.read_text() + "finished un")
    assert guest.phase("undo")[:2] == (0, "ok")
    assert file.read_text().endswith("finished undo\n") and "unbegin" not in file.read_text()


def test_pre_of_the_next_move_settles_the_one_before(guest):
    guest.script("a", 'echo "for $LPM_MIGRATION_ID to $LPM_TARGET" >>@CALLS@')
    guest.phase("pre", "LPM_TARGET=system-b")
    guest.phase("pre", "LPM_TARGET=system-c", move="move-2")
    assert guest.calls()[2:] == ["a undopremigrate pmig", "for move-1 to system-b", "a premigrate pmig",
                                 "for move-2 to system-c"]


def test_undo_stops_a_pre_that_hangs(guest):
    guest.script("a", "[ $1 != premigrate ] || sleep 4718")
    slow = subprocess.Popen([PROGRAM, "--root", guest.root, "--phase", "pre", "--id", "move-1"],
                            stdout=subprocess.PIPE, text=True)
    while "premigrate" not in (guest.calls_file.read_text() if guest.calls_file.exists() else ""):
        time.sleep(0.01)
    assert guest.phase("undo")[:2] == (0, "ok")
    out = slow.communicate(timeout=10)[0].splitlines()
    assert json.loads(out[-1])["result"] == "stopped" and slow.returncode == 4
    assert guest.calls() == ["a premigrate pmig", "a undopremigrate pmig"] and left_over("4718") == []


def test_two_at_once(guest):
    guest.script("a", "sleep 3")
    slow = subprocess.Popen([PROGRAM, "--root", guest.root, "--phase", "check", "--id", "move-1"], stdout=subprocess.DEVNULL)
    while not guest.calls_file.exists():
        time.sleep(0.01)
    done = guest.run("--phase", "check", "--id", "move-2")
    assert done.returncode == 3 and "phase check of migration move-1" in done.stderr
    assert slow.wait(10) == 0


# --- events, options ---

def test_events_are_told_and_do_not_matter(guest):
    guest.write(guest.root / "etc/lpm/events.d/log",
                "#!/bin/sh\necho \"$LPM_EVENT $LPM_MIGRATION_ID $LPM_TARGET\" >>@CALLS@\nkill -9 $PPID\nexit 10\n")
    for phase in ("check", "pre", "post"):
        assert guest.phase(phase, "LPM_TARGET=system-b")[:2] == (0, "ok")
    assert guest.calls() == [f"{event} move-1 system-b" for event in ("check", "pre", "post")]


def test_what_an_event_has_in_its_environment(guest):
    guest.script("no", "[ $1 != checkmigrate ] || [ ! -e @ROOT@/veto ] || exit 10".replace("@ROOT@", str(guest.root)))
    guest.write(guest.root / "etc/lpm/events.d/log", "#!/bin/sh\n(env | sort; echo end) >>@CALLS@\n")
    told = ("LPM_SOURCE=system-a", "LPM_TARGET=system-b", "LPM_PARTITION=web1", "LPM_MAX_BLACKOUT_MS=300")

    def event(phase, *words):
        guest.calls()
        guest.phase(phase, *words)
        return [line for line in guest.calls() if "=" in line and not line.startswith(("PWD=", "_=", "SHLVL=", "OLDPWD="))]
    common = ["DR_DETAIL_LEVEL=0", "DR_FORCE=FALSE", "HOME=/", "LANG=C"]
    later = ["LPM_MAX_BLACKOUT_MS=300", "LPM_MIGRATION_ID=move-1", "LPM_OPERATION=migrate", "LPM_PARTITION=web1"]
    end = ["LPM_SOURCE=system-a", "LPM_TARGET=system-b", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    for phase in ("check", "pre"):
        assert event(phase, *told) == [*common, f"LPM_EVENT={phase}", *later, f"LPM_PHASE={phase}", *end]
    assert event("undo") == [*common, "LPM_EVENT=undo", *later, "LPM_PHASE=undo", *end], "pre's variables hold for the end"
    (guest.root / "veto").touch()
    assert "LPM_EVENT=veto" in event("check", *told)


@pytest.mark.long
def test_events_that_hang_cost_ten_seconds_in_all(guest):
    for name in "abc":
        guest.write(guest.root / "etc/lpm/events.d" / name, f"#!/bin/sh\necho {name} >>@CALLS@\nsleep 4711 &\nsleep 4711\n")
    guest.write(guest.root / "etc/lpm/events.d/d", "#!/bin/sh\necho d >>@CALLS@\n")
    started = time.monotonic()
    assert guest.phase("check")[:2] == (0, "ok")
    assert 9.5 <= time.monotonic() - started < 25
    assert guest.calls() == ["a", "b"] and not left_over("sleep\x004711")


@pytest.mark.parametrize("words", [(), ("-l", "-b"), ("--phase", "check"), ("--phase", "sing", "--id", "m"), ("-i",),
                                   ("--phase", "check", "--id", "../m"), ("--phase", "check", "--id", "m", "PATH=/tmp"),
                                   ("-R", "opt"), ("-w", "0", "-l"), ("-S", "a b")])
def test_usage(guest, words):
    done = guest.run(*words)
    assert done.returncode == 2 and done.stderr


def test_old_moves_do_not_pile_up(guest):
    guest.script("a")
    for number in range(20):
        guest.phase("undo", move=f"m{number:02}")
    assert guest.run("--status").stdout == ""
    kept = sorted(p.name for p in (guest.root / "var/lib/lpm-drmgr/moves").iterdir())
    assert kept == [f"m{number:02}" for number in range(4, 20)]


@pytest.mark.parametrize("architecture, machine", [("amd64", 0x3e), ("ppc64el", 0x15)])
def test_the_package_holds_a_static_program_of_its_architecture(tmp_path, architecture, machine):
    made = subprocess.run([Path(__file__).resolve().parents[2] / "packaging/guest-package", architecture, tmp_path], check=True,
                          capture_output=True, text=True).stdout.strip()
    subprocess.run(["dpkg-deb", "-x", made, tmp_path / "tree"], check=True)
    program = (tmp_path / "tree/usr/sbin/lpm-drmgr").read_bytes()
    assert program[:4] == b"\x7fELF" and int.from_bytes(program[18:20], "little") == machine
    headers = subprocess.run(["readelf", "-lW", tmp_path / "tree/usr/sbin/lpm-drmgr"], check=True, capture_output=True, text=True).stdout
    assert "LOAD" in headers and "INTERP" not in headers, "it needs a dynamic linker"
    for path in ("usr/lib/systemd/system/lpm-drmgr-settle.service", "usr/share/man/man8/lpm-drmgr.8.gz", "etc/lpm/events.d"):
        assert (tmp_path / "tree" / path).exists()


def test_the_package_for_clusters_holds_all_that_a_member_needs(tmp_path):
    root = Path(__file__).resolve().parents[2]
    made = subprocess.run([root / "packaging/guest-package", "pacemaker", tmp_path], check=True, capture_output=True, text=True).stdout.strip()
    field = subprocess.run(["dpkg-deb", "-f", made, "Package", "Architecture", "Depends"], check=True, capture_output=True, text=True).stdout
    assert "Package: lpm-pacemaker\n" in field and "Architecture: all\n" in field
    depends = field.partition("Depends: ")[2]
    assert all(f"{name}" in depends for name in ("lpm-drmgr", "pacemaker-cli-utils", "corosync"))
    subprocess.run(["dpkg-deb", "-x", made, tmp_path / "tree"], check=True)
    held = {path.name: path for path in (tmp_path / "tree").rglob("*") if path.is_file()}
    for source in (root / "src/guest/pacemaker").rglob("*"):
        if source.is_file():
            assert held[source.name].read_bytes() == source.read_bytes(), f"{source.name} is not in the package"
            assert held[source.name].stat().st_mode & 0o777 == (0o644 if source.suffix == ".conf" else 0o755)
    assert held["lpm-pacemaker"] == tmp_path / "tree/usr/sbin/lpm-pacemaker"
    assert held["heartbeat"] == tmp_path / "tree/usr/lib/ocf/resource.d/openlpm/heartbeat"


def test_lpm_pacemaker_can_be_installed(guest):
    """What it says of itself is what lpm-drmgr reads."""
    done = guest.run("-i", str(Path(__file__).resolve().parents[2] / "src/guest/pacemaker/lpm-pacemaker"))
    assert done.returncode == 0, done.stderr
    assert "lpm-pacemaker" in guest.run("-l").stdout
