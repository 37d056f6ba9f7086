# SPDX-License-Identifier: Apache-2.0
"""fence_openlpm, as a cluster calls it: off means that no copy of the partition runs anywhere."""

import os
import signal
import subprocess
import xml.etree.ElementTree as tree
from pathlib import Path

import pytest

from lablib import wait_for

AGENT = Path(__file__).resolve().parents[2] / "src" / "guest" / "pacemaker" / "fence_openlpm"
ON, FAILED, OFF = 0, 1, 2
SLOW = 12_000_000  # bytes/s: the copy of such a partition then takes some seconds
WAIT_S = 6


@pytest.fixture(scope="module")
def fenced(lab):
    return lab.create("system-a", "fenced", "x86-64", 120)


def agent(lab, action, plug=None, **options):
    """Options on standard input, as Pacemaker's fencer gives them, with some that are not the agent's."""
    lines = {"action": action, "client_file": lab.client_file, "nodename": "node1", "pcmk_host_map": "x", **options}
    if plug:
        lines["plug"] = plug
    argv = lab.argv("console", AGENT)
    return subprocess.run(argv, input="".join(f"{name}={value}\n" for name, value in lines.items()), text=True, capture_output=True,
                          timeout=150, check=False)


def emulators(lab, name):
    """Processes of the partition's QEMU, wherever they are."""
    return [pid for found in lab.emulators(name).values() for pid in ([found] if isinstance(found, int) else found)]


def test_metadata_says_what_a_cluster_asks_for():
    root = tree.fromstring(subprocess.run([AGENT, "-o", "metadata"], text=True, capture_output=True, check=True).stdout)
    assert {action.get("name") for action in root.iter("action")} >= {"on", "off", "reboot", "status", "list", "monitor", "metadata"}
    assert {"action", "plug", "client_file"} <= {parameter.get("name") for parameter in root.iter("parameter")}


def test_off_and_on(lab, fenced):
    monitored = agent(lab, "monitor")
    assert monitored.returncode == 0, monitored.stderr
    assert f"{fenced.name},on" in agent(lab, "list-status").stdout.split()
    assert agent(lab, "status", fenced.name).returncode == ON
    done = agent(lab, "off", fenced.name)
    assert done.returncode == 0, done.stderr
    assert emulators(lab, fenced.name) == []
    assert agent(lab, "status", fenced.name).returncode == OFF
    assert agent(lab, "off", fenced.name).returncode == 0, "what is off stays off"
    assert agent(lab, "on", fenced.name).returncode == 0
    lab.wait_for_partition(fenced.address)


def test_one_that_has_died_is_off_and_a_reboot_starts_it(lab, fenced):
    for pid in emulators(lab, fenced.name):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: lab.rest("GET", f"/v1/partitions/{fenced.name}")["state"] == "error", 10, "its death to be seen", 0.1)
    assert agent(lab, "status", fenced.name).returncode == OFF
    assert f"{fenced.name},off" in agent(lab, "list-status").stdout.split()
    done = agent(lab, "reboot", fenced.name)
    assert done.returncode == 0, done.stderr
    lab.wait_for_partition(fenced.address)


def test_off_in_the_middle_of_a_move_leaves_no_copy(lab, fenced):
    target = "system-b" if lab.where(fenced.name) == "system-a" else "system-a"
    migration = lab.migrate(fenced.name, target, wait=False, max_rate=SLOW)
    lab.wait_for_migration(migration, 60, lambda status: status["phase"] == "copy" and status["stream_bytes"] > 1_000_000)
    assert agent(lab, "status", fenced.name).returncode == ON, "one that moves is on"
    done = agent(lab, "off", fenced.name)
    assert done.returncode == 0, done.stderr
    assert emulators(lab, fenced.name) == []
    assert lab.rest("GET", f"/v1/migrations/{migration}")["finished"]
    assert agent(lab, "status", fenced.name).returncode == OFF
    lab.boot(fenced)


def test_what_is_not_known_is_not_off(lab, fenced):
    place = lab.where(fenced.name)
    lab.link(place, "down")
    try:
        done = agent(lab, "off", fenced.name, power_timeout=WAIT_S)
        assert done.returncode == FAILED
        assert f"partition \"{fenced.name}\" is not known to be off: system {place}, which has it, does not answer" in done.stderr
        assert agent(lab, "status", fenced.name).returncode == FAILED
    finally:
        lab.link(place, "up")
    assert emulators(lab, fenced.name), "it ran all the time"
    wait_for(lambda: agent(lab, "status", fenced.name).returncode == ON, 60, f"{place} to answer again", 0.5)


@pytest.mark.parametrize("options,words", [
    ({"action": "status", "nodename": ""}, "which partition?"),
    ({"action": "explode", "plug": "fenced"}, "action 'explode' is none of"),
    ({"action": "off", "plug": "nobody"}, 'there is no partition "nobody"'),
    ({"action": "off", "plug": "fenced", "power_timeout": "soon"}, "power_timeout: 'soon' is not from 1 to 600 seconds"),
])
def test_a_question_that_makes_no_sense_is_not_answered_with_off(lab, fenced, options, words):
    done = agent(lab, options.pop("action"), options.pop("plug", None), **options)
    assert done.returncode == FAILED
    assert words in done.stderr
    assert emulators(lab, fenced.name)


def test_it_goes_on_with_the_profile_that_it_had(lab, fenced):
    """Not with the default one, which a start without a name takes."""
    where = f"/v1/partitions/{fenced.name}"
    lab.rest("POST", f"{where}/profiles", {"profile": "spare"})
    lab.rest("POST", f"{where}/restart", {"how": "hard", "profile": "spare"})
    for action in ("off", "on"):
        done = agent(lab, action, fenced.name)
        assert done.returncode == 0, done.stderr
    assert lab.rest("GET", where)["profile_name"] == "spare"
