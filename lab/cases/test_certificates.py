# SPDX-License-Identifier: Apache-2.0
"""Certificates are renewed while partitions run and move, and validation says in time that they must be."""

import ssl

from witness import Witness, runs_once


def shown_certificate(lab, place):
    """What its lpm-host shows to whoever comes, PEM."""
    with lab.at("console"):
        return ssl.get_server_certificate((lab.address(place), 7600))


def test_systems_join_again_while_a_partition_runs(lab, create):
    partition = create("system-a", "renewed", "x86-64", 70)
    witness = Witness(lab, partition)
    try:
        for place in ("system-a", "system-b"):
            before, key = shown_certificate(lab, place), (lab.dir / place / "state" / "tls" / "key.pem").read_bytes()
            lab.join(place)
            assert shown_certificate(lab, place) != before
            assert (lab.dir / place / "state" / "tls" / "key.pem").read_bytes() == key
        for target in ("system-b", "system-a"):
            result = lab.migrate(partition.name, target)
            assert result["state"] == "completed", result
            runs_once(lab, partition, target)
        witness.judge()
    finally:
        witness.end()
