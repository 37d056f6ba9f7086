# SPDX-License-Identifier: Apache-2.0
"""What the matrix prints: one row for a component and a fault, one column for a phase."""

import json
import statistics

from tables import COMPONENTS, FAULTS, PHASES, name_of, why_not

SLOW_S = 10


def mark(result):
    """A passed cell shows the seconds that it took to recover, 0 when it was over before the harm was."""
    if result is None:
        return "?"
    return {"failed": "FAIL", "not applicable": "-"}.get(result["result"]) or f"{result['recovered_s']:.1f}"


def matrix(results):
    """Rows of text. results: name of a cell -> result; what was not run is shown as '?'."""
    width = max(len(c.name) for c in COMPONENTS) + max(len(f.name) for f in FAULTS) + 1
    lines = [" " * width + "".join(f"{phase.name:>11}" for phase in PHASES)]
    for component in COMPONENTS:
        for fault in FAULTS:
            marks = [mark(results.get(f"{component.name}/{phase.name}/{fault.name}")) for phase in PHASES]
            if any(one not in "-?" for one in marks):
                lines.append(f"{component.name + ' ' + fault.name:<{width}}" + "".join(f"{one:>11}" for one in marks))
    return lines


def reasons(cells, results):
    """Cells that cannot be, by their reasons; and those that had no process left to harm."""
    why = {}
    for cell in cells:
        reason = why_not(cell)
        result = results.get(name_of(cell))
        if reason is None and result and result["result"] == "not applicable":
            reason = result["reason"]
        if reason:
            why.setdefault((cell.component.name, cell.fault.name, reason), []).append(cell.phase.name)
    lines = []
    for (component, fault, reason), phases in why.items():
        where = "every phase" if len(phases) == len(PHASES) else ", ".join(phases)
        lines.append(f"  {component} {fault}: {reason} ({where})")
    return lines


def tally(results):
    """Last line of a run."""
    count = {word: sum(one["result"] == word for one in results.values()) for word in ("passed", "failed", "not applicable")}
    return f"{count['passed']} passed, {count['failed']} failed", count


def times(results):
    taken = sorted(one["recovered_s"] for one in results.values() if one["result"] == "passed")
    if not taken:
        return "nothing recovered"
    slow = sum(one > SLOW_S for one in taken)
    return (f"recovered after the fault had ended: median {statistics.median(taken):.1f} s, 90 % {taken[int(0.9 * (len(taken) - 1))]:.1f} s, "
            f"longest {taken[-1]:.1f} s; {slow} over {SLOW_S} s")


def write_json(path, seed, results):
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"seed": seed, "cells": results}, file, indent=1, sort_keys=True)
        file.write("\n")
