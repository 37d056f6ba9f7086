# SPDX-License-Identifier: Apache-2.0
"""lpm-host moves partitions with the capabilities that its unit leaves it, and no others."""

import re

from lablib import ROOT
from witness import Witness, runs_once


def as_by_its_unit():
    """Words before a program that take from it what the unit takes from lpm-host."""
    unit = (ROOT / "packaging/systemd/lpm-host.service.in").read_text()
    names = re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.M).group(1).lower().split()
    assert names and all(name.startswith("cap_") for name in names), names
    return ["setpriv", "--no-new-privs", "--bounding-set=-all," + ",".join("+" + name[4:] for name in names)]


def move(lab, partition, target):
    result = lab.migrate(partition.name, target)
    assert result["state"] == "completed", (result["error"], result["findings"])
    assert result["verify"]["pages"] > 0 and result["verify"]["differing"] == 0, result["verify"]
    runs_once(lab, partition, target)


def test_lpm_host_works_with_the_capabilities_of_its_unit(lab, create):
    """QEMU is another user's: who has its disk open and where its memory is, is seen in /proc. First a partition that lpm-host
    found again as it started, then one whose QEMU it made itself."""
    partition = create("system-a", "confined", "x86-64", 39)
    for place in lab.systems:
        lab.start_host_again(place, None, under=as_by_its_unit())
    witness = Witness(lab, partition)
    try:
        findings = lab.lpm_json("validate", partition.name, "system-b", check=False)["results"][0]["findings"]
        assert [finding["check"] for finding in findings if finding["severity"] == "error"] == []
        move(lab, partition, "system-b")
        witness.judge()
    finally:
        witness.end()
    lab.lpm("partition", "stop", partition.name)
    lab.boot(partition)
    move(lab, partition, "system-a")
