#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Moves without end, to and fro, most of them with a random fault at a random moment; after each the invariants of the fault
matrix. Move number I of a seed is always planned the same.

usage: soak.py [--moves N] [--seed S] [--keeper ARBITER] [--labs N] [--out FILE]
"""

import argparse
import collections
import pathlib
import random
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parents[1])]

import report  # noqa: E402
import tables  # noqa: E402
from cellrun import Move, judge, wait_settled  # noqa: E402
from inflict import Harm, NotThere, harm_for  # noqa: E402
from lablib import LabError  # noqa: E402
from matrix import play_all  # noqa: E402

CLEAN = 0.3  # of the moves have no fault
MOMENT_S = (0.0, 1.6)  # after the request; a move without faults takes about a second
LASTS_S = (0.1, 4.0)  # of what lasts
MUST_START_ANEW = ("clock+", "clock-")  # the matrix has them; here nothing is started again before a move

Plan = collections.namedtuple("Plan", "number cell moment_s lasts_s slow verify")


def plan(seed, number):
    """Of one move."""
    dice = random.Random(f"{seed}/{number}")
    cells = [cell for cell in tables.cells() if tables.why_not(cell) is None and cell.phase.name == "RUN"
             and cell.fault.name not in MUST_START_ANEW]
    cell = None if dice.random() < CLEAN else dice.choice(cells)
    return Plan(number, cell, dice.uniform(*MOMENT_S), dice.uniform(*LASTS_S), dice.random() < 0.2, dice.random() < 0.2)


def name_of(plan):
    if plan.cell is None:
        return f"move {plan.number}: no fault"
    return f"move {plan.number}: {plan.cell.component.name} {plan.cell.fault.name} after {plan.moment_s:.2f} s for {plan.lasts_s:.1f} s"


class Nothing(Harm):
    """A move without a fault."""

    def __init__(self, move):
        self.place = None


def harm_of(stage, plan, move):
    return harm_for(plan.cell)(stage, plan.cell.component, move) if plan.cell else Nothing(move)


def hurt(plan, harm):
    """True when it was done."""
    time.sleep(plan.moment_s)
    try:
        harm.begin()
    except NotThere:
        return False
    time.sleep(plan.lasts_s if harm.lasts_s else 0)
    harm.end()
    return True


def play(stage, plan):
    """Like run_cell()."""
    began = time.monotonic()
    stage.connected()
    stage.harmful.touch()
    move = Move(stage)
    harm = harm_of(stage, plan, move)
    options = {"max_rate": 400_000} if plan.slow else {}
    done = False
    try:
        move.begin(verify=plan.verify, **options, **harm.options)
        done = hurt(plan, harm) if plan.cell else True
        if plan.slow:
            move.find()
            move.hurry()
        status, seconds = wait_settled(stage, move, time.monotonic())
        outcome, said = judge(stage, move, status, harm)
        return {"result": "passed", "outcome": outcome, "recovered_s": round(seconds, 2), "said": said, "harmed": done,
                "blackout_ms": status.get("blackout_ms"), "took_s": round(time.monotonic() - began, 1)}
    except (AssertionError, LabError, OSError, ValueError) as error:
        return {"result": "failed", "reason": f"{type(error).__name__}: {error}"[:2000]}
    finally:
        move.line.close()
        if plan.cell and not done and hasattr(harm, "stopped"):
            harm.end()


def summary(results):
    outcomes = collections.Counter(one["outcome"] for one in results.values() if one["result"] == "passed")
    harmed = sum(bool(one.get("harmed")) and "no fault" not in name for name, one in results.items())
    return [f"{harmed} of {len(results)} moves were harmed while they lasted or after",
            "; ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()), report.times(results)]


def main():
    parser = argparse.ArgumentParser(description="Moves a partition to and fro with random faults.")
    parser.add_argument("--moves", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keeper", default="file", choices=["file", "console", *tables.SERVERS])
    parser.add_argument("--labs", type=int, default=2)
    parser.add_argument("--out")
    options = parser.parse_args()
    tables.keeper = options.keeper
    began = time.monotonic()
    print(f"{options.moves} moves, seed {options.seed}, record kept by {options.keeper}", flush=True)

    def tell(number, one, result):
        name = name_of(one)
        more = result.get("reason") or f"{result['outcome']}, {result['recovered_s']} s"
        print(f"[{number}/{options.moves}] {name}: {result['result']}: {more}", flush=True)
        if result["result"] == "failed":
            print(result.get("log", ""), file=sys.stderr, flush=True)
    plans = [plan(options.seed, number) for number in range(1, options.moves + 1)]
    results = {name_of(one): result for one, result in play_all(plans, options.labs, play, tell)}
    if options.out:
        report.write_json(options.out, options.seed, results)
    text, count = report.tally(results)
    print("\n".join(["", *summary(results), f"seed {options.seed}, {time.monotonic() - began:.0f} s", text]))
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
