# SPDX-License-Identifier: Apache-2.0
"""Moves by OpenLPM, through its command line."""

import contextlib
import functools
import json
import subprocess
import time

from installation import program
from lablib import LabError, wait_for
from meter import Meter
from partitions import MEMORY_MIB, Workload, address_of, arguments_of, verified, warm_memory

MAX_BLACKOUT_MS = 300
FIRST_NUMBER = 10
NOT_FOUND = 3  # exit status of lpm


@functools.lru_cache(maxsize=None)
def help_of(verb):
    """What the command line says of a verb; empty when it has none of that name."""
    run = subprocess.run([program("lpm"), *verb.split(), "--help"], text=True, capture_output=True, check=False)
    return run.stdout if run.returncode == 0 else ""


def offered(verb, option):
    return option in help_of(verb)


class Ours:
    """Partitions that OpenLPM has started on system-a and moves to and fro."""

    def __init__(self, lab, groups, small, count=1):
        self.lab, self.groups = lab, groups
        self.workload = Workload(lab, small)
        self.names = [f"bench{i}" for i in range(count)]
        self.addresses = [address_of(FIRST_NUMBER + i) for i in range(count)]
        self.place, self.config = "system-a", ""
        self.moved_at, self.has_moved = time.monotonic(), False
        try:
            for i, name in enumerate(self.names):
                lab.create("system-a", name, "x86-64", number=FIRST_NUMBER + i, kernel_options=self.workload.options,
                           variant=self.workload.variant, memory_mib=MEMORY_MIB, memory_backing="private")
            for address in self.addresses:
                self.workload.settle(address)
                self.workload.rest(address)
            self.argv = [arguments_of(lab, name) for name in self.names]
        except BaseException:
            self.end()
            raise

    @property
    def target(self):
        return "system-b" if self.place == "system-a" else "system-a"

    def work(self, row):
        for address in self.addresses:
            self.workload.work(address, row)

    def rest(self):
        for address in self.addresses:
            self.workload.rest(address)

    def forget(self):
        """What earlier moves left behind on the systems, so that the next is a first one."""
        self.has_moved = False
        for name in self.names:
            if self.lab.lpm("store", "drop", name, check=False).returncode not in (0, NOT_FOUND):
                raise LabError(f"images of {name} could not be dropped")

    def daemons(self):
        return {place: self.lab.pid(f"lpm-host-{place}") for place in self.lab.systems}

    def move(self, row, options=(), during=None, timeout=300):
        """One measured move, of all its partitions at once; returns the figures. during(meter) runs beside it."""
        warm_memory(len(self.names))
        self.work(row)
        time.sleep(0.5)
        with Meter(self.lab, self.addresses, self.place, self.target, self.groups, self.daemons(), row.echo_ms) as meter:
            commands = [self._start(name, options) for name in self.names]
            try:
                if during:
                    during(meter)
                ends = [self._follow(name, child, timeout) for name, child in zip(self.names, commands)]
            finally:
                meter.stop()
        self.place, self.moved_at, self.has_moved = self.target, time.monotonic(), True
        self.rest()
        self.config = self._config(ends[0].get("options", {}))
        figures = {**meter.figures, **self._phases(ends)}
        return verified(self.lab, self.addresses, figures)

    def _start(self, name, options):
        argv = self.lab.argv("console", program("lpm"), "migrate", name, self.target, "--max-blackout", MAX_BLACKOUT_MS,
                             *options, "--json")
        return subprocess.Popen(argv, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env={**self.lab.environment, "LPM_CONFIG": str(self.lab.client_file)})

    def _follow(self, name, child, timeout):
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            self._stop(name)
            raise LabError(f"move of {name} to {self.target}: not ended within {timeout:.0f} s, stopped") from None
        if child.returncode != 0:
            raise LabError(f"move of {name} to {self.target}: {(out + err).strip()[-1500:]}")
        return json.loads(out)

    def _stop(self, name):
        found = self.lab.rest("GET", f"/v1/migrations?partition={name}&limit=1")["migrations"]
        if found and not found[0]["finished"]:
            self.lab.lpm("migration", "stop", found[0]["migration"], check=False)
            wait_for(lambda: self.lab.rest("GET", f"/v1/migrations/{found[0]['migration']}")["finished"], 60,
                     f"end of the stopped move of {name}")

    @staticmethod
    def _config(options):
        """What OpenLPM was set to, in words."""
        words = [f"codec {'raw' if options.get('raw') else 'auto'}", f"{options.get('channels', 0)} channels",
                 f"{options.get('connections', 1)} connections"]
        return ", ".join(words + (["post-copy"] if options.get("postcopy") else []))

    @staticmethod
    def _phases(ends):
        phases = {phase["name"]: phase["ms"] for phase in ends[0]["phases"]}
        copy = sum(phases.get(name, 0) for name in ("copy", "switchover", "commit"))
        own = {f"phase {name} ms": ms for name, ms in phases.items()} if len(ends) == 1 else {}
        for name, count in (ends[0].get("coding") or {}).items() if len(ends) == 1 else ():
            own[name if name.endswith("_bytes") else f"pages {name}"] = count
        total = {"total_ms": ends[0]["total_ms"], "copy_ms": copy} if len(ends) == 1 else {}
        return {**total, "reported_blackout_ms": max(end["blackout_ms"] for end in ends), **own}

    def end(self):
        for name in self.names:
            self.lab.lpm("partition", "stop", name, "--hard", check=False)
            self.lab.lpm("partition", "delete", name, "--disks", check=False)
            self.lab.partitions.pop(name, None)

    def validate(self, row):
        """How long validation takes, with the partition at work."""
        self.work(row)
        begin = time.monotonic()
        answer = self.lab.lpm_json("validate", self.names[0], self.target)
        total = (time.monotonic() - begin) * 1000
        self.rest()
        figures = {"validate_command_ms": total}
        with contextlib.suppress(KeyError, IndexError):
            figures["validate_ms"] = answer["results"][0]["ms"]
        return figures
