# SPDX-License-Identifier: Apache-2.0
"""From measured moves to results: medians, ratios, their spread; merging with what was there; the table."""

import datetime
import json
import os
import pathlib
import platform
import statistics

OURS = "ours"
PLAIN = "plain TCP"
# Compared with the other side; everything else is of ours alone.
COMPARED = ["wire_bytes", "total_ms", "copy_ms", "command_ms", "blackout_ms", "guest_gap_ms", "cpu_s", "cpu_source_s",
            "cpu_target_s", "converges_mb_s"]
BIGGER_IS_BETTER = {"converges_mb_s"}


def machine():
    cpu = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), "unknown processor")
    return f"{cpu}, {os.cpu_count()} processors, Linux {platform.release()}, emulation (TCG)"


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _median(values):
    return round(statistics.median(values), 3) if values else None


def _values(runs, metric):
    return [run[metric] for run in runs if run is not None and run.get(metric) is not None]


def _spread(values):
    return [round(min(values), 3), round(max(values), 3)] if values else None


def ratios(ours, native, metric):
    """Of the pairs in which both sides have the metric."""
    return [mine[metric] / theirs[metric] for mine, theirs in zip(ours, native)
            if mine and theirs and mine.get(metric) is not None and theirs.get(metric)]


def best_of(series, metric):
    """Name of the native configuration with the best median of a metric, or None."""
    medians = {name: _median(_values(runs, metric)) for name, runs in series.items() if name != OURS}
    medians = {name: value for name, value in medians.items() if value is not None}
    if not medians:
        return None
    return (max if metric in BIGGER_IS_BETTER else min)(medians, key=medians.get)


def entry(row, metric, series, against, config, failed=0):
    """One result. against: "best", "plain", "reference" (ours in another way) or "none"."""
    mine, theirs = series.get(OURS, []), series.get(config, [])
    compared = ratios(mine, theirs, metric)
    return {
        "row": row, "metric": metric, "against": against,
        "ours": _median(_values(mine, metric)), "native": _median(_values(theirs, metric)), "native_config": config,
        "ratio": _median(compared),
        "pairs": len(compared) or len(_values(mine or theirs, metric)),
        "spread": _spread(compared or (_values(mine, metric) if against == "none" else [])),
        "failed": failed, "machine": machine(), "date": now()[:10], "time": now(),
    }


def summarise(row, series, failed=0, reference=None):
    """Results of a row. series: {"ours": [figures of a pair or None], CONFIGURATION: [...]}; reference names a series that is ours
    in another way, to which ours is compared instead."""
    found = []
    metrics = list(dict.fromkeys(name for runs in series.values() for run in runs if run for name in run))
    for metric in metrics:
        if metric not in COMPARED:
            found.append(entry(row, metric, {OURS: series.get(OURS, [])}, "none", None, failed))
            continue
        if reference:
            found.append(entry(row, metric, series, "reference", reference, failed))
        native = {name: runs for name, runs in series.items() if name != reference}
        best = best_of(native, metric)
        if best is not None:
            found.append(entry(row, metric, native, "best", best, failed))
            if PLAIN in native and best != PLAIN and _values(native[PLAIN], metric):
                found.append(entry(row, metric, native, "plain", PLAIN, failed))
        elif not reference:
            found.append(entry(row, metric, {OURS: series.get(OURS, [])}, "none", None, failed))
    return found


def summarise_native(row, candidates):
    """Results of the native configurations beside each other; None stands for one that was given up."""
    found = []
    for name, run in candidates.items():
        for metric in [m for m in COMPARED if run and run.get(m) is not None] or ["total_ms"]:
            found.append({**entry(row, metric, {name: [run]}, "candidate", name), "failed": int(run is None)})
    return found


def predictions(moves):
    """How good OpenLPM's predictions were, over migrations as its console lists them: median absolute errors in percent, and how
    often "will converge" was said of a copy that did not. A move whose link was cut was not predicted to be."""
    scores = [m["score"] for m in moves if m.get("score")]
    plain = [m["score"] for m in moves if m.get("score") and not m.get("postcopy") and not (m.get("links") or {}).get("reconnects")]
    found = []
    for figure in ("duration_ms", "wire_bytes", "blackout_ms"):
        errors = [abs(score[figure]["error_percent"]) for score in plain if score.get(figure, {}).get("error_percent") is not None]
        if errors:
            runs = [{f"{figure} error percent": error} for error in errors]
            found.append(entry("predictions", f"{figure} error percent", {OURS: runs}, "none", None))
    if found:
        wrong = sum(score["converges"] == {"predicted": "yes", "actual": False} for score in scores)
        found.append(entry("predictions", "wrong promises to converge", {OURS: [{"wrong promises to converge": wrong}]}, "none", None))
    return found


def merge(old, new):
    """Old results with those of the rows measured now in place of theirs."""
    rows = {result["row"] for result in new}
    return sorted([r for r in old if r["row"] not in rows] + new, key=lambda r: (r["row"], r["metric"], r.get("against", "")))


def load(path):
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return []


def _number(metric, value):
    if value is None:
        return "-"
    if metric.endswith("_bytes"):
        return f"{value / 1e6:.2f} MB"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}".rstrip("0").rstrip(".")


def markdown(results):
    """Two tables: what compares, and what is of ours alone."""
    compared = [r for r in results if r["metric"] in COMPARED]
    alone = [r for r in results if r["metric"] not in COMPARED]
    lines = ["| row | metric | ours | native | ratio | spread | pairs | date |", "| --- | --- | ---: | --- | ---: | --- | ---: | --- |"]
    for r in compared:
        spread = f"{r['spread'][0]} to {r['spread'][1]}" if r["spread"] else "-"
        native = f"{_number(r['metric'], r['native'])} ({r['native_config']})" if r["native_config"] else "-"
        if r.get("failed") and r["native"] is None:
            native = f"given up ({r['native_config']})"
        pairs = f"{r['pairs']}" + (f", {r['failed']} failed" if r.get("failed") else "")
        lines.append(f"| {r['row']} | {r['metric']} | {_number(r['metric'], r['ours'])} | {native} | "
                     f"{r['ratio'] if r['ratio'] is not None else '-'} | {spread} | {pairs} | {r['date']} |")
    if alone:
        lines += ["", "| row | ours alone | median |", "| --- | --- | ---: |"]
        lines += [f"| {r['row']} | {r['metric']} | {_number(r['metric'], r['ours'])} |" for r in alone]
    machines = list(dict.fromkeys(r["machine"] for r in results))
    return "\n".join(lines) + "\n\n" + "\n".join(machines) + "\n"
