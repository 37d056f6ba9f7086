#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The fault matrix: every component, in every phase of a move, with every fault that it can have. See lab/README.md.

usage: matrix.py [--cells N] [--seed S] [--stop SECONDS] [--only REGEX] [--keeper ARBITER] [--labs N] [--out FILE] [--list]
"""

import argparse
import multiprocessing
import os
import pathlib
import random
import re
import signal
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parents[1])]

import report  # noqa: E402
import tables  # noqa: E402
from inflict import KeeperGone, LinkGone, Stop, StorageGone  # noqa: E402
from stage import Stage  # noqa: E402
from cellrun import run_cell  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description="Harms each part of a move in each of its phases.")
    parser.add_argument("--cells", type=int, help="this many of them, chosen by the seed (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stop", type=float, default=60, help="seconds that a process is stopped (default: 60)")
    parser.add_argument("--gone", type=float, default=20, help="seconds that a link or a storage is gone at the longest (default: 20)")
    parser.add_argument("--only", default="", help="cells whose name COMPONENT/PHASE/FAULT matches")
    parser.add_argument("--keeper", default="file", choices=["file", "console", *tables.SERVERS], help="the partition's arbiter (default: file)")
    parser.add_argument("--labs", type=int, default=2, help="labs side by side (default: 2)")
    parser.add_argument("--out", help="results as JSON")
    parser.add_argument("--list", action="store_true", help="names the cells and ends")
    return parser.parse_args()


def choose(options):
    every = [cell for cell in tables.cells() if re.search(options.only, tables.name_of(cell))]
    possible = [cell for cell in every if tables.why_not(cell) is None]
    random.Random(options.seed).shuffle(possible)
    return every, possible[:options.cells] if options.cells else possible


def set_times(options):
    Stop.stop_s = options.stop
    LinkGone.gone_s = KeeperGone.gone_s = StorageGone.gone_s = options.gone


class Player:
    """Plays cells on a stage, and takes a new stage after a cell that failed."""

    def __init__(self, name):
        self.name, self.stage = name, None

    def play(self, play_one):
        try:
            if self.stage is None:
                self.stage = Stage(self.name).__enter__()
            result = play_one(self.stage)
        except Exception as error:  # the lab itself: told, not lost
            result = {"result": "failed", "reason": f"the lab: {type(error).__name__}: {error}"[:2000]}
        if result["result"] == "failed":
            result["log"] = self.logs()
            self.end()
        return result

    def logs(self):
        if not self.stage or not self.stage.is_up:
            return ""
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-5000:]}"
                         for path in sorted((self.stage.dir / "log").glob("lpm-*.log")))

    def end(self):
        if self.stage:
            self.stage.__exit__()
            self.stage = None


def end_once(*_):
    """A second SIGTERM must not break into what the first one has cleaned up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


def worker(number, play, todo, done):
    """Plays what is in todo, on a lab of its own, until there is None in it, or SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_once)
    player = Player(f"f{os.getpid() % 100000}{chr(ord('a') + number)}")
    try:
        while (item := todo.get()) is not None:
            done.put((item, player.play(lambda stage: play(stage, item))))
    finally:
        player.end()


def play_all(items, labs, play, tell):
    """[(item, result)], in the order of their ends; those that there are when somebody interrupts."""
    todo, done, results = multiprocessing.Queue(), multiprocessing.Queue(), []
    for item in [*items, *[None] * labs]:
        todo.put(item)
    workers = [multiprocessing.Process(target=worker, args=(i, play, todo, done)) for i in range(labs)]
    for one in workers:
        one.start()
    signal.signal(signal.SIGTERM, end_once)
    try:
        while len(results) < len(items):
            results.append(done.get())
            tell(len(results), *results[-1])
    except (KeyboardInterrupt, SystemExit):
        print("interrupted", flush=True)
        for one in workers:
            one.terminate()
    for one in workers:
        one.join(90)
    return results


def main():
    options = arguments()
    tables.keeper = options.keeper
    every, cells = choose(options)
    if options.list:
        for cell in every:
            print(tables.name_of(cell) + (f": not applicable: {tables.why_not(cell)}" if tables.why_not(cell) else ""))
        return 0
    began = time.monotonic()
    print(f"{len(cells)} cells of {len(every)}, seed {options.seed}, stopped for {options.stop:g} s, record kept by {options.keeper}", flush=True)

    set_times(options)

    def tell(number, cell, result):
        name = tables.name_of(cell)
        more = result.get("reason") or f"{result['outcome']}, {result['recovered_s']} s"
        print(f"[{number}/{len(cells)}] {name}: {result['result']}: {more}", flush=True)
        if result["result"] == "failed":
            print(result.get("log", ""), file=sys.stderr, flush=True)
    results = {tables.name_of(cell): result for cell, result in play_all(cells, options.labs, run_cell, tell)}
    for cell in every:
        if reason := tables.why_not(cell):
            results[tables.name_of(cell)] = {"result": "not applicable", "reason": reason}
    print("\n".join(["", *report.matrix(results), "", "not applicable:", *report.reasons(every, results), "", report.times(results)]))
    if options.out:
        report.write_json(options.out, options.seed, results)
    text, count = report.tally(results)
    print(f"{count['not applicable']} cells of the table cannot be (above); {time.monotonic() - began:.0f} s")
    print(text)
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
