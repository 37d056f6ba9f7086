# SPDX-License-Identifier: Apache-2.0
"""One function a kind of row: measures pairs in turn and returns the row's results."""

import dataclasses
import time

import native as qemu
from ears import Ears, split
from lablib import LabError
from meter import wire_bytes
from ours import offered
from results import OURS, PLAIN, summarise, summarise_native
from rows import parse

RATES_MB_S = [5, 10, 20, 30, 40, 50, 60, 80, 100, 120, 150, 200, 250, 300, 400, 500, 600, 800, 1000]
CONVERGE_LIMIT_S = {"unshaped": 40, "1gbit": 45, "100mbit": 150}
SLOW_PLAIN_MS = 30000
HOPELESS = 2.5  # times the best one's time
NO_CUT = "ours without the cut"
NO_TLS = "ours in plain text"


def show(name, figures):
    if figures is None:
        return
    print(f"  {name}: " + ", ".join(f"{metric} {value:.0f}" for metric, value in figures.items()
                                   if isinstance(value, (int, float))), flush=True)


def take_turns(session, row, pairs, contenders):
    """Measures each contender once a pair, in turn. contenders: {name: function returning figures}. A pair in which one failed
    is reported and repeated once. Returns the series and the number of pairs that failed for good."""
    series, failed = {name: [] for name in contenders}, 0
    for number in range(1, pairs + 1):
        for attempt in (1, 2):
            print(f"{row.name}: pair {number} of {pairs}" + (", again" if attempt == 2 else ""), flush=True)
            pair = {}
            try:
                for name, measure in contenders.items():
                    pair[name] = measure()
                    show(name, pair[name])
                break
            except (LabError, OSError) as error:
                session.report_failure(row, f"pair {number}: {error}")
                session.start_again()
        else:
            failed += 1
        for name in contenders:
            series[name].append(pair.get(name))
    return series, failed


def hopeless(measured, config, best):
    """Whether a configuration that does not compress need not be tried, for plain TCP has shown that the link is the limit."""
    if PLAIN not in measured or config.compression != "none":
        return False
    return measured[PLAIN] is None or measured[PLAIN]["total_ms"] > HOPELESS * best


def candidates(session, row):
    """QEMU's own configurations, one run each; None for one that takes much longer than the best."""
    measured, best = {}, None
    for config in qemu.CANDIDATES:
        limit = 150 if best is None else max(15, HOPELESS * best / 1000)
        if config is qemu.PLAIN:
            limit = max(limit, 100)
        if hopeless(measured, config, best):
            measured[config.name] = None
            print(f"  {config.name}: left out: it sends no less than plain TCP, which is hopeless here", flush=True)
            continue
        try:
            measured[config.name] = session.native(row).move(row, config, timeout=limit)
            total = measured[config.name]["total_ms"]
            best = total if best is None else min(best, total)
            show(config.name, measured[config.name])
        except LabError as error:
            measured[config.name] = None
            print(f"  {config.name}: given up after {limit:.0f} s: {error}", flush=True)
            session.mend_native()
    return measured


def chosen(measured):
    """Configurations to measure against: the fastest, the one with fewest bytes when that is clearly another, and plain TCP
    unless it is hopeless here."""
    done = {name: run for name, run in measured.items() if run}
    names = [min(done, key=lambda n: done[n]["total_ms"])] if done else []
    if done:
        least = min(done, key=lambda n: done[n]["wire_bytes"])
        if done[least]["wire_bytes"] < 0.97 * done[names[0]]["wire_bytes"]:
            names.append(least)
    if PLAIN in done and done[PLAIN]["total_ms"] < SLOW_PLAIN_MS and PLAIN not in names:
        names.append(PLAIN)
    return names


def against_native(session, row, pairs, contender, reference=None, during=None):
    """The usual row: ours, then QEMU's best and plain TCP."""
    measured = session.baseline(row)
    names = chosen(measured)
    print(f"{row.name}: against {'; '.join(names) or 'nothing: no native move ends here'}", flush=True)

    def theirs(name):
        return lambda: session.native(row).move(row, qemu.BY_NAME[name], during=during and during())
    series, failed = take_turns(session, row, pairs, {**contender, **{name: theirs(name) for name in names}})
    if PLAIN not in names and measured.get(PLAIN):
        series[PLAIN] = [measured[PLAIN]]  # too slow to be repeated: its one run
    return summarise(row.name, series, failed, reference)


def run_native(session, row, pairs):
    return summarise_native(row.name, candidates(session, row))


def run_raw(session, row, pairs):
    series, failed = take_turns(session, row, pairs, {
        OURS: lambda: session.ours(row).move(row, ["--codec", "raw"]),
        PLAIN: lambda: session.native(row).move(row, qemu.PLAIN)})
    return summarise(row.name, series, failed)


def first_move(session, row, options=(), during=None):
    ours = session.ours(row)
    ours.forget()
    return ours.move(row, options, during=during)


def run_first(session, row, pairs):
    return against_native(session, row, pairs, {OURS: lambda: first_move(session, row)})


def run_return(session, row, pairs):
    """The partition goes to and fro, so that each move but the first is a return; when it rests, waiting is all the work that
    an idle one has, and QEMU's turns pass in that time."""
    wait = row.seconds if session.wait is None else session.wait

    def back():
        ours = session.ours(row)
        if not ours.has_moved:
            ours.move(row)
        if row.workload != "idle":
            ours.work(row)
            ours.moved_at = time.monotonic()
        time.sleep(max(0.0, ours.moved_at + wait - time.monotonic()))
        return ours.move(row)
    return against_native(session, row, pairs, {OURS: back})


class Cut:
    """Takes the link down once half of the expected bytes have passed, for some seconds."""

    def __init__(self, session, seconds, expected):
        self.lab, self.seconds, self.expected = session.lab, seconds, expected

    def __call__(self, meter):
        deadline = time.monotonic() + 120
        while wire_bytes(self.lab, "system-a") - meter.wire < self.expected / 2:
            if time.monotonic() > deadline:
                raise LabError("the copy never came to its middle")
            time.sleep(0.02)
        self.lab.link("system-b", "down")
        try:
            time.sleep(self.seconds)
        finally:
            self.lab.link("system-b", "up")


def run_cut(session, row, pairs):
    uncut = {}

    def without():
        uncut.update(first_move(session, row))
        return dict(uncut)

    def cut():
        if not uncut:
            without()
        figures = first_move(session, row, during=Cut(session, row.seconds, uncut["wire_bytes"]))
        return {**figures, "extra_bytes_percent": 100 * (figures["wire_bytes"] / uncut["wire_bytes"] - 1),
                "total_less_cut_ms": figures["total_ms"] - 1000 * row.seconds}

    def native_cut():
        measured = session.baseline(row)
        best = chosen(measured)
        return Cut(session, row.seconds, min(measured[name]["wire_bytes"] for name in best))
    return against_native(session, row, pairs, {NO_CUT: without, OURS: cut}, NO_CUT, native_cut)


def run_postcopy(session, row, pairs):
    with qemu.postcopy_allowed():
        series, failed = take_turns(session, row, pairs, {
            OURS: lambda: session.ours(row).move(row, ["--postcopy"]),
            qemu.POSTCOPY.name: lambda: session.native(row).move(row, qemu.POSTCOPY)})
    return summarise(row.name, series, failed)


def run_encrypted(session, row, pairs):
    contenders = {OURS: lambda: first_move(session, row)}
    plain = ["--no-encryption"] if offered("migrate", "--no-encryption") else None
    if plain:
        contenders[NO_TLS] = lambda: first_move(session, row, plain)
    for config in (qemu.TLS, qemu.PLAIN):
        contenders[config.name] = lambda c=config: session.native(row).move(row, c)
    series, failed = take_turns(session, row, pairs, contenders)
    found = summarise(row.name, series, failed, NO_TLS if plain else None)
    own = {OURS: series[qemu.TLS.name], qemu.PLAIN.name: series[qemu.PLAIN.name]}
    return found + [{**r, "metric": f"QEMU's TLS {r['metric']}", "against": "none"}
                    for r in summarise(row.name, own) if r["against"] == "best"]


def highest(converges):
    """The highest of the rates for which converges(rate) is true, by bisection; 0 when none."""
    low, high = -1, len(RATES_MB_S)
    while high - low > 1:
        middle = (low + high) // 2
        if converges(RATES_MB_S[middle]):
            low = middle
        else:
            high = middle
    return RATES_MB_S[low] if low >= 0 else 0


def run_converge(session, row, pairs):
    limit = CONVERGE_LIMIT_S[row.link]

    def at(rate):
        return dataclasses.replace(row, workload=f"writer{rate}")

    def tried(name, rate, move, mend):
        try:
            move(at(rate))
            good = True
        except LabError as error:
            print(f"    {error}", flush=True)
            good = False
            mend()
        print(f"  {name}: {rate} MB/s {'converges' if good else 'does not converge'}", flush=True)
        return good

    def ours():
        return {"converges_mb_s": highest(lambda rate: tried(
            OURS, rate, lambda at_rate: first_move_within(session, at_rate, limit), session.mend_ours))}

    def theirs(config):
        return lambda: {"converges_mb_s": highest(lambda rate: tried(
            config.name, rate, lambda at_rate: session.native(row).move(at_rate, config, timeout=limit), session.mend_native))}
    configs = [qemu.PLAIN, qemu.BY_NAME["multifd x2, zstd"], qemu.BY_NAME["XBZRLE"]]
    series, failed = take_turns(session, row, min(pairs, 1), {OURS: ours, **{c.name: theirs(c) for c in configs}})
    return summarise(row.name, series, failed)


def first_move_within(session, row, limit):
    ours = session.ours(row)
    ours.forget()
    return ours.move(row, timeout=limit)


def run_gap(session, row, pairs):
    """To and fro. Beyond the blackout a partner waits for the announcement, and then until the partition, whose code the emulator
    translates anew, has an answer."""
    def there():
        ours = session.ours(row)
        with Ears(ours.lab, ours.addresses[0]) as ears:
            figures = ours.move(row)
        gap, answer = split(ears.frames)
        if answer is None:
            raise LabError("the partition was not announced before it answered")
        over = gap - figures["reported_blackout_ms"]
        return {**figures, "gap_ms": gap, "gap_over_ms": over, "answer_ms": answer, "announced_over_ms": over - answer}
    series, failed = take_turns(session, row, pairs, {OURS: there})
    return summarise(row.name, series, failed)


def run_validate(session, row, pairs):
    series, failed = take_turns(session, row, pairs, {OURS: lambda: session.ours(row).validate(row)})
    return summarise(row.name, series, failed)


def run_four(session, row, pairs):
    best = next((n for n in chosen(session.baseline(parse(f"{row.link}-{row.workload}-first")))), PLAIN)
    names = list(dict.fromkeys([best, PLAIN]))
    series, failed = take_turns(session, row, pairs, {
        OURS: lambda: first_move(session, row),
        **{n: lambda n=n: session.native(row).move(row, qemu.BY_NAME[n]) for n in names}})
    return summarise(row.name, series, failed)


RUN = {"native": run_native, "raw": run_raw, "first": run_first, "return": run_return, "cut": run_cut, "postcopy": run_postcopy,
       "encrypted": run_encrypted, "converge": run_converge, "validate": run_validate, "gap": run_gap, "four": run_four}
COUNTS = {"four": 4}
