#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Two partitions move before your eyes: an x86-64 one with a client hanging on to it, and a POWER one from POWER8 to POWER9.

Everything is real: QEMU, Debian kernels, the daemons, TLS, the disk. What is claimed is checked, and counted in the last line.
"""

import argparse
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from installation import Installation, program  # noqa: E402
from lablib import LabError, command, wait_for  # noqa: E402


class Demo:
    def __init__(self, lab):
        self.lab, self.passed, self.failed = lab, 0, 0

    def say(self, text):
        print(f"\n=== {text}", flush=True)

    def check(self, what, good, detail=""):
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)
        print(f"  {'ok  ' if good else 'FAIL'} {what}{': ' if detail != '' else ''}{detail}", flush=True)

    def lpm(self, *argv):
        """Shows a command line and its output as the user sees it; returns the exit code."""
        print(f"\n$ lpm {' '.join(argv)}", flush=True)
        env = {**self.lab.environment, "LPM_CONFIG": str(self.lab.client_file)}
        return subprocess.run(self.lab.argv("console", program("lpm"), *argv), env=env, check=False,
                              stdin=subprocess.DEVNULL).returncode

    def mode(self, name):
        return self.lab.rest("GET", f"/v1/partitions/{name}")["current_mode"]

    # The two parts

    def move_with_client(self):
        lab = self.lab
        self.say("an x86-64 partition, two processors, on system-a; a client talks to it without pause")
        partition = lab.create("system-a", "web", "x86-64", number=10, kernel_options="lpm.mem=32 lpm.rate=4")
        client = lab.start_client(partition.address, "web-client")
        before = lab.partition_status(partition.address)
        self.check("validation finds nothing in the way", self.lpm("validate", "web", "system-b", "--verify") == 0)
        self.check("it moves", self.lpm("migrate", "web", "system-b", "--verify") == 0)
        self.lpm("partition", "list")
        after = lab.wait_for_partition(partition.address)
        self.check("it runs on system-b", lab.where("web") == "system-b")
        runs = lab.emulators("web")
        self.check("it runs once", runs.keys() == {"system-b"} and len(runs["system-b"]) == 1, runs)
        self.check("it was not booted anew", before["boot_id"] == after["boot_id"])
        moved = lab.rest("GET", "/v1/migrations?partition=web&limit=1")["migrations"][0]
        self.check("memory of both sides was compared: no page differed",
                   moved["verify"]["pages"] > 0 and moved["verify"]["differing"] == 0, moved["verify"])
        report = lab.stop_client(client, "web-client")
        self.check("the client's connection lived and no answer was lost or doubled", report["whole"],
                   f"{report['udp_received']} echoes, longest silence {report['udp_longest_gap_ms']} ms, "
                   f"blackout {moved['blackout_ms']:.0f} ms")
        self.check_workloads(partition, after)

    def check_workloads(self, partition, after):
        lab = self.lab
        target = after["journal_acknowledged"] + 20
        late = wait_for(lambda: (s := lab.partition_status(partition.address))["journal_acknowledged"] >= target and s, 30,
                        "disk journal goes on")
        self.check("it goes on writing to its disk", True, f"record {late['journal_acknowledged']}")
        self.check("its memory pattern is right", late["memory_errors"] == 0, f"{late['memory_passes']} passes")
        lab.lpm("partition", "stop", partition.name, "--hard")
        try:
            found = lab.check_journal(partition, late["journal_acknowledged"])
            self.check("its disk holds every record, without hole", True, found)
        except LabError as error:
            self.check("its disk holds every record, without hole", False, error)

    def move_to_newer_server(self):
        lab = self.lab
        self.say("a POWER partition on system-a, a POWER8 server; system-b is a POWER9 server")
        partition = lab.create("system-a", "ledger", "power", number=11, kernel_options="lpm.mem=16 lpm.rate=1")
        self.lpm("modes")
        self.check("before the move: preferred default, current POWER8", self.mode("ledger") == "POWER8", self.mode("ledger"))
        booted = lab.partition_status(partition.address)["boot_id"]
        self.check("it moves from POWER8 to POWER9", self.lpm("migrate", "ledger", "system-b", "--verify") == 0)
        after = lab.wait_for_partition(partition.address)
        self.check("it was not booted anew", booted == after["boot_id"])
        self.check("its memory pattern is right", after["memory_errors"] == 0)
        self.check("after the move: still POWER8", self.mode("ledger") == "POWER8", self.mode("ledger"))
        self.lpm("partition", "show", "ledger")
        self.lpm("partition", "restart", "ledger", "--hard")
        lab.wait_for_partition(partition.address)
        newer = wait_for(lambda: (m := self.mode("ledger")) != "POWER8" and m, 20, "the newer mode")
        self.check("after its restart: POWER9, the highest that server and guest support", newer == "POWER9", newer)
        self.check("now it cannot go back alive, and validation says so",
                   self.lpm("validate", "ledger", "system-a") == 7)


def look_around(lab):
    here = f"LAB={lab.name} lab/lab"
    print(f"""
The lab is up. Look around:
  {here} status
  {here} exec console env LPM_CONFIG={lab.client_file} {program('lpm')} partition list
  {here} shell system-b
  {here} down""")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave the lab up at the end")
    options = parser.parse_args()
    os.environ.setdefault("LAB", "demo")
    lab, start = Installation(), time.monotonic()
    lab.down()
    demo = Demo(lab)
    try:
        demo.say("two systems, a console, a client and shared storage, in network namespaces of this machine")
        lab.up(2)
        lab.install()
        demo.lpm("system", "list")
        demo.move_with_client()
        demo.move_to_newer_server()
    except Exception as error:  # whatever breaks is one failure, with what the daemons said
        demo.check(f"the demo went to its end ({type(error).__name__})", False, error)
        for name in ("lpm-console", "lpm-host-system-a", "lpm-host-system-b"):
            print(f"--- end of {name}'s log:\n{lab.log(name)[-1500:]}")
    finally:
        if options.keep and lab.is_up:
            look_around(lab)
        else:
            lab.down()
    if not options.keep:
        left = [s for s in command("ip", "netns", "list").stdout.split() if s.startswith(f"{lab.name}-")]
        demo.check("nothing is left behind", not left and not lab.dir.exists(), " ".join(left))
    print(f"\nin {time.monotonic() - start:.0f} s")
    print(f"demo: {demo.passed} passed, {demo.failed} failed")
    return 1 if demo.failed else 0


if __name__ == "__main__":
    sys.exit(main())
