# SPDX-License-Identifier: Apache-2.0
"""The faults, one class each: begin() does the harm, end() takes it away."""

import contextlib
import os
import signal
import time

from lablib import LabError, command, wait_for
from stage import FAKETIME, Filler, holds_database

DOWN_S = 5
CLOCK_JUMP_S = 3600


class NotThere(Exception):
    """What should be harmed has ended already."""


class Harm:
    """For one cell of a move from source to target."""

    lasts_s = 0  # seconds between begin() and end()
    options = {}  # of the move
    environment = {}  # that a daemon needs from its start, for this fault
    ends_partition = False  # the partition's QEMU there is gone

    def __init__(self, stage, component, move):
        self.stage, self.component = stage, component
        self.place = {"source": move.source, "target": move.target, "console": "console", None: None}[component.side]

    def pids(self):
        """Of the component; NotThere when there is none."""
        stage, kind = self.stage, self.component.kind
        found = {"daemon": lambda: [stage.daemon(self.place)], "database": lambda: [stage.daemon(self.place)],
                 "keeper": lambda: [stage.keeper()], "mover": lambda: stage.movers(self.place), "qemu": lambda: stage.qemus(self.place)}[kind]()
        if not found or found == [None]:
            raise NotThere(f"{self.component.text} has ended by then")
        return found

    def signal(self, number):
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def prepare(self):
        """Before the move begins."""

    def begin(self):
        raise NotImplementedError

    def end(self):
        """Also when begin() was never called."""


class Kill(Harm):
    @property
    def ends_partition(self):
        return self.component.kind == "qemu"

    killed = None

    def begin(self):
        self.killed = self.pids()[0]
        self.signal(signal.SIGKILL)

    def end(self):
        if self.component.kind == "daemon":
            wait_for(lambda: self.stage.daemon(self.place) is None, 10, "the daemon's end")
            self.stage.launch(self.place)
        elif self.component.kind == "keeper":
            wait_for(lambda: self.stage.keeper() != self.killed, 10, "the keeper's end")
            if self.stage.keeper() is None:
                self.stage.start_keeper()


class KeeperGone(Kill):
    gone_s = 20

    def begin(self):
        self.lasts_s = self.gone_s
        super().begin()


class Machine(Harm):
    ends_partition = True

    def begin(self):
        stage, place = self.stage, self.place
        pids = [stage.daemon(place)] + ([] if place == "console" else [*stage.movers(place), *stage.qemus(place)])
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def end(self):
        wait_for(lambda: self.stage.daemon(self.place) is None, 10, "the daemon's end")
        self.stage.launch(self.place)


class Stop(Harm):
    stop_s = 60  # what --stop says

    def begin(self):
        self.lasts_s = self.stop_s
        self.stopped = self.pids()
        self.signal(signal.SIGSTOP)

    def end(self):
        for pid in getattr(self, "stopped", []):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


class Corrupt(Harm):
    def prepare(self):
        self.stage.harmful.touch()

    def begin(self):
        self.signal(signal.SIGUSR1)

    def end(self):
        self.stage.harmful.unlink(missing_ok=True)


class LinkDown(Harm):
    lasts_s = DOWN_S

    def turn(self, way):
        if self.place != "console":
            self.stage.link(self.place, way)
            return
        command("ip", "-n", self.stage.namespace("switch"), "link", "set", "m-console", way)

    def begin(self):
        self.turn("down")

    def end(self):
        self.turn("up")


class LinkGone(LinkDown):
    gone_s = 20
    options = {"link_retry_ms": 3000}

    def begin(self):
        self.lasts_s = self.gone_s
        super().begin()


class StorageDown(Harm):
    lasts_s = DOWN_S

    def begin(self):
        self.stage.freeze()

    def end(self):
        self.stage.thaw()


class StorageGone(StorageDown):
    gone_s = 20

    def begin(self):
        self.lasts_s = self.gone_s
        super().begin()


class Full(Harm):
    lasts_s = DOWN_S

    def begin(self):
        where = self.stage.dir / "san" if self.place is None else self.stage.dir / self.place / "state"
        self.filler = Filler(where)
        self.filler.fill()

    def end(self):
        if hasattr(self, "filler"):
            self.filler.free()


class Locked(Harm):
    """The daemon is killed, and somebody has its database while it is started again and again."""

    lasts_s = DOWN_S

    def begin(self):
        self.stage.kill_daemon(self.place)
        name = "console.db" if self.place == "console" else "host.db"
        self.child = holds_database(self.stage.dir / self.place / "state" / name)
        with contextlib.suppress(LabError):  # it cannot
            self.stage.launch(self.place, patience=0)

    def end(self):
        if hasattr(self, "child"):
            self.child.kill()
            self.child.wait()
            if self.stage.daemon(self.place) is None:
                self.stage.launch(self.place)


class LockedLong(Locked):
    def begin(self):
        self.lasts_s = Stop.stop_s
        super().begin()


class Clock(Harm):
    """libfaketime reads the jump from a file; the daemon is started with it, and without it afterwards."""

    seconds = CLOCK_JUMP_S

    def prepare(self):
        self.file = self.stage.dir / "clock"
        self.file.write_text("+0\n")
        self.environment = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1",
                            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}

    def begin(self):
        new = self.file.with_suffix(".new")
        new.write_text(f"{self.seconds:+d}\n")
        os.rename(new, self.file)
        time.sleep(0.2)


class ClockBack(Clock):
    seconds = -CLOCK_JUMP_S


HARMS = {
    "kill": Kill, "machine": Machine, "stop": Stop, "corrupt": Corrupt, "full": Full, "clock+": Clock, "clock-": ClockBack,
    ("keeper", "gone"): KeeperGone,
    ("link", "down"): LinkDown, ("link", "gone"): LinkGone, ("storage", "down"): StorageDown, ("storage", "gone"): StorageGone,
    ("database", "down"): Locked, ("database", "stop"): LockedLong,
}


def harm_for(cell):
    return HARMS.get((cell.component.kind, cell.fault.name)) or HARMS[cell.fault.name]
