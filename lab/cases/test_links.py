# SPDX-License-Identifier: Apache-2.0
"""The link between the systems is lost in the middle of a move: it is waited for, or another one is used, and the partition never
notices. In these labs console and movers share a network, so the console is cut off as well."""

import json
import threading
import time

import pytest

from installation import program
from lablib import wait_for
from tidy import both_finished, half, moves_again, nothing_left
from witness import Witness

SLOW = 4_000_000  # bytes/s: the copy of such a partition then does not come to an end
FAULTY = program("lpm-mover").with_name("lpm-mover-fault")
FLIPPED = 3_000_000  # byte of the stream that a spoilt mover changes


@pytest.fixture(scope="module")
def runner(lab):
    """One partition for all cases: each of them leaves it running somewhere."""
    return lab.create("system-a", "runner", "x86-64", 75)


class Moving:
    """A partition in the middle of its copy to the other system, with a witness."""

    def __init__(self, lab, partition, **options):
        self.lab, self.partition = lab, partition
        self.source = lab.where(partition.name)
        self.target = next(place for place in lab.systems if place != self.source)
        self.witness = Witness(lab, partition)
        self.migration = lab.migrate(partition.name, self.target, wait=False, **{"max_rate": SLOW, **options})
        lab.wait_for_migration(self.migration, 30, lambda s: s["phase"] == "copy" and s["stream_bytes"] > 1_000_000)

    def __getitem__(self, side):
        return {"source": self.source, "target": self.target}[side]

    def cut_for(self, seconds, side="target", network="mgmt"):
        """Cuts a system's cable, and meanwhile asks the partition whether it lives."""
        self.lab.link(self[side], "down", network=network)
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                assert self.witness.still_running()
                time.sleep(0.5)
        finally:
            self.lab.link(self[side], "up", network=network)

    def ended(self, *states):
        for place in self.lab.systems:
            self.lab.wait_for_system(place)
        self.lab.lpm("migration", "set", self.migration, "--max-rate", "1G", check=False)  # enough of it, if it still copies
        both_finished(self.lab, self.migration, 120)
        status = self.lab.wait_for_migration(self.migration, 60)
        assert status["state"] in states, json.dumps(status)[:3000]
        nothing_left(self.lab, self.partition, self.target if status["state"] == "completed" else self.source)
        return status

    def completed_and_whole(self):
        status = self.ended("completed")
        assert status["verify"]["pages"] > 0 and status["verify"]["differing"] == 0, status["verify"]
        self.witness.judge()
        return status

    def events(self):
        return [event["message"] for event in self.lab.rest("GET", "/v1/events?limit=200")["events"]
                if event["object"] == self.migration]


@pytest.fixture
def moving(lab, runner):
    begun = []

    def begin(**options):
        begun.append(Moving(lab, runner, **options))
        return begun[-1]
    yield begin
    for move in begun:
        for place in lab.systems:
            for network in ("mgmt", "fast"):
                lab.link(place, "up", network=network)
        move.witness.end()


@pytest.mark.parametrize("side, seconds", [("target", 5), pytest.param("source", 30, marks=pytest.mark.long)])
def test_a_cut_in_the_copy_is_waited_for(lab, moving, side, seconds):
    move = moving()
    seen = []

    def look():
        while not move_is_over.is_set():
            here = half(lab, move.source, move.migration)
            if here and here["links"]:
                seen.append(here["links"]["lost_ms"])
            time.sleep(0.2)
    move_is_over = threading.Event()
    looker = threading.Thread(target=look)
    looker.start()
    try:
        move.cut_for(seconds, side)
        status = move.completed_and_whole()
    finally:
        move_is_over.set()
        looker.join()
    assert status["links"]["reconnects"] >= 1 and status["links"]["reason"], status["links"]
    waited = max((ms for ms in seen if ms is not None), default=0)
    assert 0 < waited < (seconds + 15) * 1000, "the source's half says how long the link has been lost"
    if side == "target":  # the console hears the source meanwhile
        assert any("lost:" in message for message in move.events()) and any("is back" in message for message in move.events())


def test_two_cuts_and_several_connections(lab, moving):
    move = moving(connections=4)
    for side in ("target", "source"):
        move.cut_for(2, side)
        wait_for(lambda: half(lab, move.source, move.migration)["finished"] or
                 half(lab, move.source, move.migration)["links"]["up"] > 0, 30, "the link is back", 0.2)
    status = move.completed_and_whole()
    assert status["links"]["of"] == 4


def test_the_second_network_is_used_while_the_first_is_down(lab, moving):
    for place in lab.systems:
        lab.start_host_again(place, {"mover": {"addresses": f"{lab.fast_address(place)};{lab.address(place)}"}})
    try:
        move = moving()
        before = lab.link_bytes(move.target)[1]
        assert lab.link_bytes(move.target, "fast")[1] > 1_000_000, "the first address is preferred"
        lab.link(move.target, "down", network="fast")
        status = move.completed_and_whole()
        assert status["links"]["reconnects"] == 1
        assert lab.link_bytes(move.target)[1] - before > 1_000_000, "the rest went over the other network"
        again = moving(link_retry_ms=0)  # from the first byte on over the other
        assert again.completed_and_whole()["links"]["reconnects"] == 0
    finally:
        for place in lab.systems:
            lab.link(place, "up", network="fast")
            lab.start_host_again(place, {})


def test_the_limit_is_kept_and_told(lab, moving):
    move = moving(link_retry_ms=3000)
    began = time.monotonic()
    lab.link(move.target, "down")
    try:
        wait_for(lambda: half(lab, move.source, move.migration)["finished"], 30, "the source gives up", 0.2)
        assert 3 < time.monotonic() - began < 20
        reason = half(lab, move.source, move.migration)["error"]["desc"]
        assert "link-lost" in reason and "3 s" in reason, reason
        assert move.witness.still_running()
    finally:
        lab.link(move.target, "up")
    status = move.ended("failed")
    assert "link-lost" in status["error"]["message"], status["error"]
    moves_again(lab, move.partition)
    move.witness.judge()


def test_a_corrupt_byte_never_reaches_the_target(lab, moving):
    """Spoilt behind TLS, in the source's memory: the frame's checksum sees it, and to try again would only hide it."""
    source = lab.where("runner")
    spoilt = lab.dir / source / "spoilt-mover"
    spoilt.write_text(f"""#!/bin/sh
case "$*" in *--vasi*|*--image*) exec {FAULTY} --fault=flip={FLIPPED} "$@" ;; esac
exec {program("lpm-mover")} "$@"  # what validation measures the link with
""")
    spoilt.chmod(0o755)
    lab.start_host_again(source, {"mover": {"program": spoilt}})
    try:
        move = moving()
        status = move.ended("failed")
        assert "checksum" in status["error"]["message"], status["error"]
    finally:
        lab.start_host_again(source, {})
    moves_again(lab, move.partition)
    move.witness.judge()
