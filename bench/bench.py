#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Moves the same partition by OpenLPM and by QEMU alone, in turn, and compares. See bench/README.md."""

import argparse
import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "lab"))

import kinds  # noqa: E402
import plots  # noqa: E402
import results  # noqa: E402
import rows  # noqa: E402
from installation import Installation, ini  # noqa: E402
from lablib import LabError  # noqa: E402
from meter import CpuGroup  # noqa: E402
from native import CANDIDATES, Native  # noqa: E402
from ours import Ours  # noqa: E402

OUT = HERE / "results"
BASELINE_HOURS = 4


class Session:
    """The lab, and the partitions that are up in it: those of one size and number at a time."""

    def __init__(self, lab, wait=None, fresh=False, out=OUT):
        self.lab, self.wait, self.fresh, self.out = lab, wait, fresh, out
        self.results = results.load(out / "latest.json")
        self.failures, self.baselines = [], {}
        self.groups = {name: CpuGroup(f"{lab.name}-{name}") for name in ("system-a", "system-b", "console")}
        self.native_groups = {name: CpuGroup(f"{lab.name}-native-{name}") for name in ("system-a", "system-b")}
        self.up, self.our, self.their = None, None, None

    def begin(self):
        self.lab.down()
        self.lab.up(2)
        for place in self.lab.systems:
            # Four moves at once and the probes of their validations are more than a system allows unless told.
            config = self.lab.host_config(place, {"limits": {"active_moves": 16}})
            (self.lab.dir / place / "host.conf").write_text(ini(config))
        self.lab.install()
        for place in self.lab.systems:
            self.groups[place].add(self.lab.pid(f"lpm-host-{place}"))
        self.groups["console"].add(self.lab.pid("lpm-console"))

    def end(self):
        self.lab.down()
        for group in [*self.groups.values(), *self.native_groups.values()]:
            group.remove()

    # Partitions

    def _want(self, row):
        wanted = (row.kind.small, kinds.COUNTS.get(row.kind.name, 1))
        if self.up != wanted:
            self.start_again()
            self.up = wanted
        return wanted

    def ours(self, row):
        small, count = self._want(row)
        if self.our is None:
            print(f"  (starting {count} of ours)", flush=True)
            self.our = Ours(self.lab, self.groups, small, count)
        return self.our

    def native(self, row):
        ours = self.ours(row)
        if self.their is None:
            print("  (starting as many of QEMU alone)", flush=True)
            self.their = Native(self.lab, self.native_groups, ours)
        return self.their

    def mend_native(self):
        """After a native move that was given up: a partition that is sound goes on, another is booted anew."""
        with contextlib.suppress(LabError, OSError):
            for address in self.their.addresses:
                self.lab.partition_status(address)
            if all(one.qmp("query-status")["status"] == "running" for one in self.their.running):
                return
        self.their.end()
        self.their = None

    def mend_ours(self):
        """The same of ours."""
        with contextlib.suppress(LabError, OSError):
            for address in self.our.addresses:
                self.lab.partition_status(address)
            self.our.rest()
            return
        self.our.end()
        self.our = None

    def start_again(self):
        """Ends what is up; what is needed is booted anew."""
        for side in (self.our, self.their):
            if side is not None:
                with contextlib.suppress(LabError, OSError):
                    side.end()
        self.our = self.their = self.up = None

    # Rows

    def shape(self, row):
        for place in self.lab.systems:
            self.lab.link(place, "rate", row.rate)

    def report_failure(self, row, why):
        print(f"FAILED {row.name}: {why}", flush=True)
        self.failures.append(f"{row.name}: {why}")

    def baseline(self, row):
        """One run of each native configuration for a link and workload: of this session, or of the last hours."""
        name = f"{row.link}-{row.workload}-native"
        if name not in self.baselines and not self.fresh:
            self.baselines[name] = recent_baseline(self.results, name)
        if not self.baselines.get(name):
            print(f"{name}: choosing QEMU's best", flush=True)
            self.baselines[name] = kinds.candidates(self, row)
            self.keep(results.summarise_native(name, self.baselines[name]))
        return self.baselines[name]

    def keep(self, new):
        """Merges results into what is there, and writes everything: an interrupted run keeps what it has."""
        self.results = results.merge(results.load(self.out / "latest.json"), new)
        self.out.mkdir(exist_ok=True)
        (self.out / "latest.json").write_text(json.dumps(self.results, indent=1) + "\n")
        (self.out / "latest.md").write_text(results.markdown(self.results))
        plots.write(self.results, self.out)

    def keep_predictions(self):
        """Of all moves of this session."""
        with contextlib.suppress(LabError, OSError):
            new = results.predictions(self.lab.rest("GET", "/v1/migrations?limit=1000")["migrations"])
            self.keep(new)
            print(results.markdown(new), flush=True)

    def run(self, row, pairs):
        self.shape(row)
        try:
            new = kinds.RUN[row.kind.name](self, row, pairs)
            if self.our is not None:
                new = [{**r, "ours_config": self.our.config} for r in new]
            self.keep(new)
            print(results.markdown(new), flush=True)
        except (LabError, OSError) as error:
            self.report_failure(row, str(error))
            self.start_again()


def recent_baseline(found, name):
    """{configuration: figures or None} of a native row not older than some hours and of this machine; None when there is none."""
    oldest = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=BASELINE_HOURS)
    runs = {}
    for result in found:
        if result["row"] == name and result["machine"] == results.machine() and \
                datetime.datetime.fromisoformat(result["time"]) > oldest:
            run = runs.setdefault(result["native_config"], {})
            if result["native"] is not None:
                run[result["metric"]] = result["native"]
    return {config.name: runs[config.name] or None for config in CANDIDATES if config.name in runs} or None


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="", help="rows, separated by blanks; list: shows the usual ones")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--wait", type=float, help="seconds of work before a return, instead of what the row says")
    parser.add_argument("--fresh", action="store_true", help="choose QEMU's best anew, even if that was done lately")
    parser.add_argument("--out", type=pathlib.Path, default=OUT, help="directory of the results")
    return parser.parse_args()


@contextlib.contextmanager
def alone(lab):
    """One benchmark a lab: a second one would take down what the first has up."""
    lab.dir.parent.mkdir(parents=True, exist_ok=True)
    lock = lab.dir.parent / f"{lab.name}.bench"
    with open(lock, "w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"bench: another benchmark runs in lab '{lab.name}': wait for its end, or set LAB to another name")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def main():
    options = arguments()
    if options.rows.strip() == "list":
        print(rows.listing())
        return 0
    try:
        wanted = [rows.parse(name) for name in options.rows.split() or rows.STANDARD]
    except rows.RowError as error:
        sys.exit(f"bench: {error}")
    os.environ.setdefault("LAB", "bench")
    lab = Installation()
    with alone(lab):
        session = Session(lab, options.wait, options.fresh, options.out)
        try:
            session.begin()
            for row in wanted:
                session.run(row, options.pairs)
            session.keep_predictions()
        finally:
            session.end()
    for failure in session.failures:
        print(f"bench: failed: {failure}")
    print(f"bench: {len(wanted)} rows, {len(session.failures)} failures; results in {options.out / 'latest.md'}")
    return 1 if session.failures else 0


if __name__ == "__main__":
    sys.exit(main())
