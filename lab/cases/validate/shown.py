#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Which rows of the table of checks have been seen to speak in a set-up where they are true, and which have not, and why.

Prints the list. tests/style/test_checks_shown.py sees to it that a new row is in it."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[3]

# Seen to speak outside of the tables of broken set-ups.
ELSEWHERE = {
    "guest.cluster": "lab/cases/test_scripts.py",
    "guest.cluster-limit": "lab/cases/test_scripts.py",
    "guest.framework": "lab/cases/test_scripts.py",
    "guest.said": "lab/cases/test_scripts.py",
    "guest.scripts": "lab/cases/test_scripts.py",
    "guest.skipped": "lab/cases/test_scripts.py",
    "general.arbiter-same": "lab/cases/validate/test_broken.py",  # beside others: record-elsewhere
    "mover.postcopy-pages": "lab/cases/validate/test_huge_pages.py",
    "mover.postcopy-risk": "lab/cases/test_convergence.py",
    "mover.slots": "lab/cases/validate/test_broken.py",  # beside general.slots
    "network.adapter": "lab/cases/validate/test_broken.py",  # beside general.device-models
    "partition.no-agent": "lab/cases/test_partitions.py",
    "prediction.converges": "lab/cases/validate/test_prediction.py",
    "processor.mode-rises": "lab/cases/validate/test_broken.py",  # beside others: features-missing
}

# Never seen there. Units on facts (tests/unit/test-checks.c) there are for every row.
NOT_SHOWN = {
    "general.arbiter-quick": "a record that answers slowly at the moment of the question: only a loaded machine makes it so",
    "general.overrides": "the console refuses such an override before it asks anybody",
    "general.source-answers": "who cannot ask the source does not know the partition: the question itself fails",
    "general.two-systems": "the console refuses a target that is the source before it asks anybody",
    "guest.asked": "an agent that answers, but not to this question, within its three minutes",
    "guest.cluster-margin": "between a blackout that the cluster bears and one that it does not: set by its predicted length",
    "network.mac-unique": "needs a third system; tests/console/test_driver.py has systems that say so",
    "prediction.unsure": "between a copy that ends and one that does not: set by what the machine can send just then",
}


def checks():
    """All rows, in the order of the table."""
    text = "".join(path.read_text() for path in sorted((ROOT / "lib" / "checks").glob("*.c")))
    return re.findall(r'^    \{"([a-z]+\.[a-z-]+)", LPM_WHEN', text, re.M)


def tables():
    """Check -> names of the set-ups in the tables that it has to speak in."""
    found = {}
    for path in sorted(pathlib.Path(__file__).parent.glob("test_*.py")):
        for name, check in re.findall(r'Broken\(\s*"([^"]+)",\s*"([a-z]+\.[a-z-]+)"', path.read_text()):
            found.setdefault(check, []).append(name)
    return found


def main():
    by_table = tables()
    for check in checks():
        where = ", ".join(by_table.get(check, [])) or ELSEWHERE.get(check) or f"not shown: {NOT_SHOWN.get(check, '?')}"
        print(f"{check:28} {where}")
    rows = checks()
    print(f"{len(rows)} rows: {sum(check in by_table for check in rows)} in the tables, {len(ELSEWHERE)} elsewhere, "
          f"{len(NOT_SHOWN)} not shown")


if __name__ == "__main__":
    main()
