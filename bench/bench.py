#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Moves the same partition by OpenLPM and by QEMU alone, in turn, and compares. See bench/README.md."""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "lab"))

import sides  # noqa: E402
from installation import Installation  # noqa: E402

LINKS = {"unshaped": "none", "1gbit": "1gbit", "100mbit": "100mbit"}
WORKLOADS = {"idle": 0, "writer20": 20}
NATIVE_CONFIG = {"raw": "plain TCP"}
DEFAULT_ROWS = ["unshaped-idle-raw", "1gbit-idle-raw"]


def machine():
    cpu = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), "unknown processor")
    return f"{cpu}, {os.cpu_count()} processors, Linux {platform.release()}, emulation (TCG)"


def parse_row(name):
    parts = name.split("-")
    if len(parts) != 3 or parts[0] not in LINKS or parts[1] not in WORKLOADS or parts[2] not in NATIVE_CONFIG:
        sys.exit(f"bench: row '{name}' is not LINK-WORKLOAD-KIND with one of {sorted(LINKS)}, {sorted(WORKLOADS)}, "
                 f"{sorted(NATIVE_CONFIG)}")
    return parts


def run_row(lab, name, pairs):
    link, workload, kind = parse_row(name)
    for place in lab.systems:
        lab.link(place, "rate", LINKS[link])
    measured = []
    for number in range(1, pairs + 1):
        mine, argv = sides.ours(lab, WORKLOADS[workload])
        theirs = sides.native(lab, argv)
        measured.append((mine, theirs))
        print(f"{name} {number}/{pairs}: " + ", ".join(
            f"{metric} {mine[metric]:.0f} / {theirs[metric]:.0f}" for metric in mine if metric in theirs), flush=True)
    return [summarise(name, kind, metric, measured) for metric in measured[0][0] if metric in measured[0][1]]


def summarise(row, kind, metric, measured):
    ratios = [mine[metric] / theirs[metric] for mine, theirs in measured if theirs[metric]]
    return {
        "row": row, "metric": metric,
        "ours": round(statistics.median(mine[metric] for mine, _ in measured), 1),
        "native": round(statistics.median(theirs[metric] for _, theirs in measured), 1),
        "native_config": NATIVE_CONFIG[kind],
        "ratio": round(statistics.median(ratios), 3) if ratios else None,
        "pairs": len(measured),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)] if ratios else None,
        "machine": machine(), "date": datetime.date.today().isoformat(),
    }


def markdown(results):
    lines = ["| row | metric | ours | native | ratio | spread | pairs |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for r in results:
        spread = f"{r['spread'][0]} to {r['spread'][1]}" if r["spread"] else "-"
        lines.append(f"| {r['row']} | {r['metric']} | {r['ours']} | {r['native']} ({r['native_config']}) | {r['ratio']} | "
                     f"{spread} | {r['pairs']} |")
    return "\n".join(lines) + (f"\n\n{results[0]['machine']}, {results[0]['date']}\n" if results else "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default=" ".join(DEFAULT_ROWS), help="rows, separated by blanks")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    rows = options.rows.split()
    for row in rows:
        parse_row(row)
    os.environ.setdefault("LAB", "bench")
    lab, results = Installation(), []
    lab.down()
    sides.join_cpu_group()
    try:
        lab.up(2)
        lab.install()
        for row in rows:
            results += run_row(lab, row, options.pairs)
    finally:
        lab.down()
        sides.leave_cpu_group()
    out = HERE / "results"
    out.mkdir(exist_ok=True)
    (out / "latest.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "latest.md").write_text(markdown(results))
    print(markdown(results))


if __name__ == "__main__":
    main()
