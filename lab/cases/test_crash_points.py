# SPDX-License-Identifier: Apache-2.0
"""lpm-host dies at every point of a move, one after the other, and comes back: each time the move ends on exactly one system,
without a human, and the partition never notices more than a pause. Needs a build with -Dcrash_points=true.
"""

import os
import signal

import pytest

from installation import program
from lablib import LabError, wait_for
from tidy import both_finished, half, moves_again, nothing_left
from witness import Witness

BEFORE_POST = [f"src-{entry}-{when}" for entry in ("planned", "precopy", "switch") for when in ("before", "after")] + \
    [f"dst-{entry}-{when}" for entry in ("prepared", "loaded") for when in ("before", "after")]
FROM_POST = [f"{act}-{when}" for act in ("src-post", "src-offer", "dst-take", "dst-intent", "dst-cont", "dst-running", "dst-run")
             for when in ("before", "after")]
AT_THE_END = ["src-end-qemu-before", "src-end-qemu-after", "src-forget-after", "src-cleaned-before", "src-cleaned-after",
              "dst-keep-before", "dst-keep-after", "dst-cleaned-before", "dst-cleaned-after"]
QUICK = ["src-post-after", "src-offer-after", "dst-take-after", "dst-intent-after", "dst-run-before"]
STAYS = BEFORE_POST + ["src-post-before"]  # the source had not offered it
GOES = ["dst-intent-before", "dst-intent-after", "dst-cont-before", "dst-cont-after", "dst-running-before",
        "dst-running-after", "dst-run-before", "dst-run-after", "dst-take-after", *AT_THE_END]  # the target had taken it


@pytest.fixture(scope="module")
def traveller(lab):
    """One partition for all points: each of them leaves it running somewhere."""
    if b"LPM_CRASH" not in program("lpm-host").read_bytes():
        pytest.skip("lpm-host was built without crash points")
    return lab.create("system-a", "traveller", "x86-64", 80)


def restart_host(lab, place, environment=None):
    """kill -9 and start: partitions run on."""
    name = f"lpm-host-{place}"
    if name in lab.recorded_processes():
        os.kill(lab.pid(name), signal.SIGKILL)
    wait_for(lambda: name not in lab.recorded_processes(), 10, f"end of lpm-host on {place}")
    lab.start_host(place, environment=environment)
    lab.wait_for_system(place)


def crash_at(lab, traveller, point, **options):
    """Moves the partition while one lpm-host is set to die at this point; returns where it runs in the end."""
    source = lab.where(traveller.name)
    target = next(system for system in lab.systems if system != source)
    victim = source if point.startswith("src-") else target
    restart_host(lab, victim, {"LPM_CRASH": point})
    witness = Witness(lab, traveller)
    try:
        migration = lab.migrate(traveller.name, target, wait=False, **options)
        wait_for(lambda: f"lpm-host-{victim}" not in lab.recorded_processes(), 60, f"lpm-host on {victim} dies at {point}")
        lab.start_host(victim)
        lab.wait_for_system(victim)
        both_finished(lab, migration)
        status = lab.wait_for_migration(migration, 30)
        place = target if status["state"] == "completed" else source
        assert lab.where(traveller.name) == place, status
        nothing_left(lab, traveller, place)
        if status["state"] != "completed":
            assert status["error"]["message"], status
        witness.judge()
    finally:
        witness.end()
    return "target" if place == target else "source"


def check_point(lab, traveller, point):
    outcome = crash_at(lab, traveller, point)
    if point in STAYS:
        assert outcome == "source"
    if point in GOES:
        assert outcome == "target"


@pytest.mark.parametrize("point", QUICK)
def test_crash(lab, traveller, point):
    check_point(lab, traveller, point)


@pytest.mark.long
@pytest.mark.parametrize("point", [p for p in BEFORE_POST + FROM_POST + AT_THE_END if p not in QUICK])
def test_crash_elsewhere(lab, traveller, point):
    check_point(lab, traveller, point)


def test_everything_works_after_all_of_it(lab, traveller):
    moves_again(lab, traveller)


def test_target_is_gone_for_good(lab, traveller):
    """It had taken the partition, and nobody can know whether it ran there: only somebody's word gives it back, to be started anew."""
    source = lab.where(traveller.name)
    target = next(system for system in lab.systems if system != source)
    restart_host(lab, target, {"LPM_CRASH": "dst-take-after"})
    witness = Witness(lab, traveller)
    try:
        migration = lab.migrate(traveller.name, target, wait=False)
        wait_for(lambda: f"lpm-host-{target}" not in lab.recorded_processes(), 60, f"lpm-host on {target} dies")
        for pid in lab.emulators(traveller.name).get(target, []):
            os.kill(pid, signal.SIGKILL)

        def waits():
            status = lab.rest("GET", f"/v1/migrations/{migration}")
            return target in status["waiting_for"] and status["source_half"]["record"] == "TAKEN"
        wait_for(waits, 30, "the source waits for the target")
        shown = lab.lpm("migration", "show", migration).stdout
        assert target in shown and "--target-fenced" in shown, shown
        lab.lpm("migration", "recover", migration, check=False)
        assert half(lab, source, migration)["record"] == "TAKEN" and not half(lab, source, migration)["finished"]
        lab.lpm("migration", "recover", migration, "--target-fenced", "--say", f"target {target} is off")
        wait_for(lambda: half(lab, source, migration)["finished"], 30, "the source has it back")
        assert lab.emulators(traveller.name) == {}, "its memory may be out of date: it is not gone on with"
        lab.boot(traveller)
        lab.start_host(target)
        lab.wait_for_system(target)
        both_finished(lab, migration)
        nothing_left(lab, traveller, source)
        assert not witness.still_running(), "it was booted anew, not continued"
    finally:
        witness.end()
    moves_again(lab, traveller)


@pytest.mark.long
@pytest.mark.parametrize("points", [("src-offer-after", "dst-take-after"), ("src-post-after", "dst-loaded-after"),
                                    ("src-end-qemu-before", "dst-run-after")], ids="+".join)
def test_both_die(lab, traveller, points):
    """One after the other, each at a point of its own; whichever is not reached any more is not missed."""
    source = lab.where(traveller.name)
    target = next(system for system in lab.systems if system != source)
    restart_host(lab, source, {"LPM_CRASH": points[0]})
    restart_host(lab, target, {"LPM_CRASH": points[1]})
    witness = Witness(lab, traveller)
    try:
        migration = lab.migrate(traveller.name, target, wait=False)

        def somebody_died():
            running = lab.recorded_processes()
            return any(f"lpm-host-{place}" not in running for place in (source, target))
        wait_for(somebody_died, 60, "an lpm-host dies")
        for _ in range(2):
            try:
                both_finished(lab, migration, 8)
                break
            except LabError:
                for place in (source, target):
                    if f"lpm-host-{place}" not in lab.recorded_processes():
                        lab.start_host(place)
                        lab.wait_for_system(place)
        both_finished(lab, migration)
        status = lab.wait_for_migration(migration, 30)
        nothing_left(lab, traveller, target if status["state"] == "completed" else source)
        witness.judge()
    finally:
        witness.end()
        for place in (source, target):
            restart_host(lab, place)
