# SPDX-License-Identifier: Apache-2.0
"""Every row of the table of checks is true in a set-up of the lab, or is listed with the reason why not."""

import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load():
    spec = importlib.util.spec_from_file_location("shown", ROOT / "lab" / "cases" / "validate" / "shown.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_check_is_shown_or_says_why_not():
    shown = load()
    rows, by_table = shown.checks(), set(shown.tables())
    assert len(rows) == len(set(rows)) > 80
    places = {check: [name for name, place in (("tables", by_table), ("ELSEWHERE", shown.ELSEWHERE), ("NOT_SHOWN", shown.NOT_SHOWN))
                      if check in place] for check in rows}
    assert not {check: found for check, found in places.items() if len(found) != 1}, "each in one place of shown.py or of the tables"
    assert not {*by_table, *shown.ELSEWHERE, *shown.NOT_SHOWN} - set(rows), "no such rows"
    for check, path in shown.ELSEWHERE.items():
        assert f'"{check}"' in (ROOT / path).read_text(), f"{path} says nothing of {check}"
    assert all(len(reason) > 20 for reason in shown.NOT_SHOWN.values())
