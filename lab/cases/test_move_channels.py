# SPDX-License-Identifier: Apache-2.0
"""QEMU's further channels (multifd) through the movers: with and without, and what arrives is the same."""
import os
import pathlib

import pytest

from lablib import wait_for
from tidy import movers, nothing_left
from witness import Witness, runs_once


SLOW = 3_000_000  # bytes/s: time to look at the movers


def sockets(pid):
    return sum(os.readlink(link).startswith("socket:") for link in pathlib.Path(f"/proc/{pid}/fd").iterdir())


@pytest.mark.parametrize("channels, number", [pytest.param(0, 80, marks=pytest.mark.long), (1, 81)])
def test_memory_is_identical_with_and_without(lab, create, channels, number):
    partition = create("system-a", f"channels-{channels}", "x86-64", number)
    witness = Witness(lab, partition)
    try:
        migration = lab.migrate(partition.name, "system-b", wait=False, channels=channels, max_rate=SLOW)
        lab.wait_for_migration(migration, 30, lambda s: s["phase"] == "copy" and s["stream_bytes"] > 1_000_000)
        # The control descriptor, the connection (and at the target its listener), and QEMU's: the main stream and the channels.
        wait_for(lambda: sorted(map(sockets, movers(lab))) == [3 + channels, 4 + channels], 10, "a socket for each channel")
        lab.lpm("migration", "set", migration, "--max-rate", "1G")
        result = lab.wait_for_migration(migration)
        assert result["state"] == "completed", result
        assert result["verify"]["pages"] > 0 and result["verify"]["differing"] == 0, result["verify"]
        nothing_left(lab, partition, "system-b")
        result = lab.lpm_json("migrate", partition.name, "system-a", "--verify", "--channels", str(channels))
        assert result["state"] == "completed" and result["verify"]["differing"] == 0, result
        runs_once(lab, partition, "system-a")
        witness.judge()
    finally:
        witness.end()
