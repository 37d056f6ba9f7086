# SPDX-License-Identifier: Apache-2.0
"""Watches a partition while something is done to it, and says whether it kept everything."""

import contextlib

import lablib


class Witness:
    """A client talks to the partition from begin() to judge()."""

    def __init__(self, lab, partition, period_ms=10):
        self.lab, self.partition = lab, partition
        self.client_name = f"client-{partition.name}"
        self.before = lab.wait_for_partition(partition.address)
        self.client = lab.start_client(partition.address, self.client_name, period_ms)

    def still_running(self):
        """The partition answers, and is the same boot."""
        return self.lab.partition_status(self.partition.address)["boot_id"] == self.before["boot_id"]

    def judge(self, timeout=60):
        """After a whole pass over its memory: nothing lost, doubled or changed. Returns the client's report."""
        lab, address = self.lab, self.partition.address
        start = lab.wait_for_partition(address)["memory_passes"]
        lab.set_workload(address, verify=64)
        status = lablib.wait_for(
            lambda: (now := lab.partition_status(address))["memory_passes"] >= start + 2 and now, timeout,
            "two passes over the partition's memory", 0.2)
        lab.set_workload(address, verify=16)
        report = lab.stop_client(self.client, self.client_name)
        self.client = None
        assert report["whole"], report
        assert status["boot_id"] == self.before["boot_id"] == report["boot_id"]
        assert status["memory_errors"] == 0 and status["journal_errors"] == 0, status
        self.lab.check_journal(self.partition, status["journal_acknowledged"])
        return report

    def end(self):
        if self.client and self.client.poll() is None:
            with contextlib.suppress(Exception):
                self.lab.stop_client(self.client, self.client_name)


def runs_once(lab, partition, place):
    """Exactly one QEMU runs the partition, at this place (one that waits for a migration would count too)."""
    running = lab.emulators(partition.name)
    assert list(running) == [place] and len(running[place]) == 1, running
