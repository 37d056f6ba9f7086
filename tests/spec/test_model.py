# SPDX-License-Identifier: Apache-2.0
"""The handover's model: checked with small bounds, every mutant found, and no rule of its own (docs/model/README.md)."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = (ROOT / "docs" / "model" / "handover.pml").read_text()
RULES = (ROOT / "docs" / "model" / "rules.c").read_text()
README = (ROOT / "docs" / "model" / "README.md").read_text()
MUTANTS = re.findall(r"^    X\((\w+)\)", (ROOT / "docs" / "model" / "rules.h").read_text(), re.M)


def enum_of(prefix):
    """Names of the actions, from the header, without WAIT, NOTHING and the count."""
    names = re.findall(rf"\b{prefix}_DO_(\w+),", (ROOT / "lib" / "mobility" / "mobility.h").read_text())
    return set(names) - {"WAIT", "NOTHING", "N"}


@pytest.mark.timeout(1200)
def test_the_rules_hold_and_every_mutant_is_found():
    run = subprocess.run([ROOT / "scripts" / "model", "--quick"], capture_output=True, text=True)
    last = run.stdout.rstrip().splitlines()[-1]
    assert run.returncode == 0 and last.endswith(" passed, 0 failed"), run.stdout + run.stderr
    found = re.findall(r"^ok +mutant (\w+) ", run.stdout, re.M)
    assert sorted(found) == sorted(MUTANTS)
    assert re.search(r"^ok +every row of lib/mobility is looked up +(\d+) of \1 ", run.stdout, re.M), run.stdout


def test_rows_edges_and_swaps_are_the_products():
    for function in ("lpm_mob_src_decide", "lpm_mob_dst_decide", "lpm_mob_edges", "lpm_record_next", "lpm_record_follows",
                     "lpm_record_view_at"):
        assert function + "(" in RULES, function


@pytest.mark.parametrize("side, start", [("SRC", "inline s_do()"), ("DST", "inline d_do()")])
def test_the_model_does_every_action_of_the_table(side, start):
    body = MODEL.split(start, 1)[1].split("\n}\n", 1)[0]
    done = set(re.findall(rf"DO\({side}, (\w+)\)", body))
    assert done == enum_of(f"LPM_MOB_{side}")


def test_every_mutant_is_explained():
    missing = [name for name in MUTANTS if not re.search(rf"\b{name}\b", README)]
    assert not missing, missing
