# SPDX-License-Identifier: Apache-2.0
"""One cell: a move, a daemon that stands still at the phase, the harm, and then everything that has to be true from outside."""

import contextlib
import os
import signal
import time

import lablib
from counter import judge_lines
from inflict import NotThere, harm_for
from installation import Refused
from lablib import LabError, wait_for
from stage import NAME, in_background, state_letter
from tidy import half, nothing_left

HOLD_S = 30  # until a daemon has come to its point
SETTLE_S = 60  # until the move has ended after the harm
RECOVERS_S = 10  # what is allowed; slower is told, not failed, where the machine is too slow for it
SLOW_COPY = 150_000  # bytes/s


TRIES = 3  # of a move that is refused before the harm: an emulated system under load may not answer in time


class Wrong(AssertionError):
    """An invariant does not hold."""


class TooEarly(Exception):
    """The move ended before the phase came."""


class Move:
    """Of the partition to the other system."""

    def __init__(self, stage):
        self.stage = stage
        self.source = stage.where(NAME)
        self.target = next(place for place in stage.systems if place != self.source)
        self.line = stage.line(self.source)
        self.line.grows()
        self.migration = None
        self.known = {one["migration"] for one in stage.rest("GET", "/v1/migrations?limit=20")["migrations"]}

    def begin(self, **options):
        """Without waiting: whoever answers may stand still."""
        body = {"partition": NAME, "target": self.target, "options": options}
        self.request = in_background(lambda: self.stage.rest("POST", "/v1/migrations", body)["migration"])

    def find(self):
        """Its id as the console knows it; None when it was never accepted."""
        self.request.join(1)
        if self.request.result:
            self.migration = self.request.result
            return self.migration
        for one in self.stage.rest("GET", "/v1/migrations?limit=20")["migrations"]:
            if one["migration"] not in self.known:
                self.migration = one["migration"]
        return self.migration

    def copies(self):
        if not (self.migration or (self.request.result and self.find())):
            return False
        status = half(self.stage, self.source, self.migration)
        return status and status["phase"] == "copy" and status["stream_bytes"] > 100_000

    def hurry(self):
        """The rest of a copy that was slow until now, if there is one."""
        with contextlib.suppress(Exception):
            self.stage.host_rpc(self.source, "migration-set", migration=self.migration, max_rate=0, timeout=3)


class Hold:
    """A daemon that stands still at the phase's point."""

    def __init__(self, stage, phase, move):
        self.stage, self.phase, self.move, self.pid = stage, phase, move, None
        self.place = {"source": move.source, "target": move.target, "console": "console", None: None}[phase.side]

    def environment(self):
        return {"LPM_CRASH": f"{self.phase.point},stop"} if self.place else {}

    def wait(self):
        self.pid = self.stage.daemon(self.place) if self.place else None
        wait_for(self.reached, HOLD_S, f"{self.place} stands still at {self.phase.point}")

    def reached(self):
        if self.move.copies() if self.place is None else state_letter(self.pid) == "T":
            return True
        if self.move.request.result:
            status = self.stage.rest("GET", f"/v1/migrations/{self.move.find()}")
            if status["finished"]:
                reasons = [f"{one['check']}: {one.get('found')}" for one in status["findings"] if one["severity"] == "error"]
                raise TooEarly(f"{status['state']}: {(status['error'] or {}).get('message')} {reasons}")
        return False

    def release(self):
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)


def arm(stage, hold, harm):
    """Daemons that need something in their environment are started again with it; partitions run on."""
    wanted = {}
    if hold.place:
        wanted.setdefault(hold.place, {}).update(hold.environment())
    if harm.environment:
        wanted.setdefault(harm.place, {}).update(harm.environment)
    for place, environment in wanted.items():
        stage.restart(place, environment)
    stage.connected()


def settled(stage, move):
    """Console and both systems have nothing left to do, and the console knows it."""
    for place in stage.systems:
        try:
            found = stage.host_rpc(place, "migration-list", timeout=3)["migrations"]
        except (Refused, OSError, ValueError, LabError):
            return None
        if not all(one["finished"] for one in found):
            return None
    try:
        if not move.migration and not move.find():
            return {"state": "none"}
        status = stage.rest("GET", f"/v1/migrations/{move.migration}", timeout=3)
    except (Refused, OSError, ValueError):
        return None
    return status if status["finished"] else None


def explain(stage, move):
    """For a report: what both halves and the console say."""
    parts = []
    for place in stage.systems:
        status = half(stage, place, move.migration) if move.migration else None
        parts.append(f"{place}: " + (f"{status['journal']}, record {status['record']}, finished {status['finished']}"
                                     if status else "nothing"))
    with contextlib.suppress(Exception):
        status = stage.rest("GET", f"/v1/migrations/{move.migration}", timeout=3)
        parts.append(f"console: {status['state']}, waits for {status['waiting_for']}, {status['error']}")
    return "; ".join(parts)


def judge_truth(stage, move, status, place):
    """What the user is shown is where the partition is."""
    said = {"completed": move.target, "failed": move.source, "refused": move.source, "none": move.source}.get(status["state"])
    if said != place:
        raise Wrong(f"the console says {status['state']}, and the partition is on {place}: {status.get('error')}")
    if not move.migration:
        return
    shown = stage.lpm("migration", "show", move.migration).stdout
    if not any(line.split() == ["state", status["state"]] for line in shown.splitlines()):
        raise Wrong(f"lpm migration show does not say {status['state']}: {shown}")
    if status["state"] != "completed" and not (status["error"] or {}).get("message"):
        raise Wrong("the move failed, and nobody says why")
    if stage.where(NAME) != place:
        raise Wrong(f"the console has the partition on {stage.where(NAME)}, and it is on {place}")


def judge_history(stage, move, place):
    """One history on the line and on the disk; the number that was said last."""
    lines = [move.line]
    if place == move.target:
        with contextlib.suppress(LabError):
            lines.append(stage.line(place, begin=0))
    said = judge_lines(lines)
    stage.disk.judge(said)
    for line in lines[1:]:
        line.close()
    return said


def judge(stage, move, status, harm):
    """Raises Wrong or History; returns the outcome in a word."""
    stage.connected()
    place = stage.holder()
    if place is None:
        raise Wrong("no system, or more than one, has the partition by its record")
    judge_truth(stage, move, status, place)
    other = move.target if place == move.source else move.source
    if stage.qemus(other):
        raise Wrong(f"the partition is {place}'s, and a QEMU of it is left on {other}")
    running = bool(stage.qemus(place))
    said = judge_history(stage, move, place)
    if not running:
        if not (harm.ends_partition and harm.place == place):
            raise Wrong(f"the partition's QEMU on {place} ended, and nobody harmed it")
        stage.disk.check()
        judge_startable(stage, place, other)
    stage.line(place).grows()
    nothing_left(stage, stage.partitions[NAME], place, nonces=True)
    return f"{status['state']}{'' if running else ', started again'}", said


def judge_startable(stage, place, other):
    with contextlib.suppress(Refused):
        stage.host_rpc(other, "partition-start", partition=NAME)
        raise Wrong(f"the partition is {place}'s, and {other} starts it")
    wait_for(lambda: state_of(stage, place) in ("error", "not-activated"), 10, "it can be started")
    stage.boot_counter(place)


def state_of(stage, place):
    return stage.host_rpc(place, "partition-show", partition=NAME)["state"]


def wait_settled(stage, move, since):
    """The console's last word, and the seconds since the harm was over."""
    def look():
        status = settled(stage, move)
        return status and (status, time.monotonic())
    try:
        status, when = wait_for(look, SETTLE_S, "the end of the move")
    except LabError as error:
        raise Wrong(f"{error}: {explain(stage, move)}") from None
    return status, max(0.0, when - since)


def do_harm(stage, move, hold, harm):
    """Begins it while the phase lasts, ends it; when it was over."""
    begun = False
    try:
        harm.begin()
        begun = True
    finally:
        held_by_harm = begun and harm.component.kind == "daemon" and harm.place == hold.place and hasattr(harm, "stopped")
        if not held_by_harm:
            hold.release()
    if hold.place is None:
        move.hurry()
    end = time.monotonic() + harm.lasts_s
    if harm.lasts_s > 5.5:  # the harm that lasts until all is over, or until its time is
        with contextlib.suppress(LabError):
            wait_for(lambda: early_end(stage, move, harm), max(0.1, end - time.monotonic()), "an end before", 0.5)
    else:
        time.sleep(max(0, end - time.monotonic()))
    harm.end()
    return time.monotonic()


def early_end(stage, move, harm):
    """A link or a storage that is gone for good need not be waited for once everybody has done with the move."""
    return harm.fault_name == "gone" and settled(stage, move)


def begin_until_held(move, hold, harm):
    rate = {} if hold.place else {"max_rate": SLOW_COPY}
    for left in reversed(range(TRIES)):
        move.begin(**rate, **harm.options)
        try:
            hold.wait()
            return
        except TooEarly as error:
            print(f"begun again: {error}", flush=True)
            if not left:
                raise Wrong(f"the phase never came: {error}") from None
            time.sleep(2)
            move.known.add(move.migration)
            move.migration = None


def run_cell(stage, cell):
    """{"result": "passed"|"failed"|"not applicable", ...}"""
    began = time.monotonic()
    stage.connected()
    move = Move(stage)
    harm = harm_for(cell)(stage, cell.component, move)
    harm.fault_name = cell.fault.name
    harm.prepare()
    hold = Hold(stage, cell.phase, move)
    ended = False
    try:
        arm(stage, hold, harm)
        begin_until_held(move, hold, harm)
        over = do_harm(stage, move, hold, harm)
        ended = True
        status, seconds = wait_settled(stage, move, over)
        outcome, said = judge(stage, move, status, harm)
        return {"result": "passed", "outcome": outcome, "recovered_s": round(seconds, 2), "said": said,
                "blackout_ms": status.get("blackout_ms"), "took_s": round(time.monotonic() - began, 1)}
    except NotThere as gone:
        hold.release()
        move.hurry()
        wait_settled(stage, move, time.monotonic())
        return {"result": "not applicable", "reason": str(gone)}
    except (AssertionError, LabError, OSError, ValueError, lablib.subprocess.SubprocessError) as error:
        return {"result": "failed", "reason": f"{type(error).__name__}: {error}"[:2000],
                "took_s": round(time.monotonic() - began, 1)}
    finally:
        move.line.close()
        hold.release()
        if not ended:
            with contextlib.suppress(Exception):
                harm.end()
        if harm.environment:
            with contextlib.suppress(Exception):
                stage.restart(harm.place)
