# SPDX-License-Identifier: Apache-2.0
"""After a move, however it ended: what has to be true of both systems."""

import contextlib
import json
import pathlib

import lablib
from installation import Refused
from witness import runs_once


def command_name(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def movers(lab, place=None):
    """Process numbers of movers, at one place or at all."""
    places = [place] if place else lab.systems
    return [pid for system in places for pid in lab.processes_at(system) if command_name(pid) == "lpm-mover"]


def taps(lab, place):
    links = json.loads(lablib.command("ip", "-n", lab.namespace(place), "-d", "-j", "link", "show").stdout or "[]")
    return [link["ifname"] for link in links if link.get("linkinfo", {}).get("info_kind") == "tun"]


def half(lab, place, migration):
    """What lpm-host of this system says of its half of a migration; None when it has none or does not answer."""
    with contextlib.suppress(Refused, OSError, ValueError, lablib.LabError):
        return lab.host_rpc(place, "migration-query", migration=migration)
    return None


def both_finished(lab, migration, timeout=60):
    """Waits until neither system has anything left to do for a migration; returns their halves."""
    def finished():
        for place in lab.systems:
            try:
                if not lab.host_rpc(place, "migration-query", migration=migration)["finished"]:
                    return False
            except Refused as error:
                if error.error_class != "not-found":
                    return False
            except (OSError, ValueError, lablib.LabError):
                return False
        return True
    try:
        lablib.wait_for(finished, timeout, f"migration {migration} finished on both systems", 0.2)
    except lablib.LabError as error:
        halves = {place: half(lab, place, migration) for place in lab.systems}
        raise lablib.LabError(f"{error}\n{json.dumps(halves, indent=1)[:4000]}") from None
    return {place: half(lab, place, migration) for place in lab.systems}


def nothing_left(lab, partition, place, timeout=10, nonces=False):
    """The partition runs at this place, once, and nothing of a move is left on any system. nonces: those of a validation over which
    a daemon died may lie there until a later one takes them away."""
    lablib.wait_for(lambda: not movers(lab), timeout, "the last mover's end")
    with contextlib.suppress(lablib.LabError):  # the assertion below shows more
        lablib.wait_for(lambda: list(lab.emulators(partition.name)) == [place], timeout, "one QEMU")
    runs_once(lab, partition, place)
    for system in lab.systems:
        slots = lab.host_rpc(system, "system-info")["slots"]
        assert slots["active_used"] == 0 and slots["inactive_used"] == 0, (system, slots)
        here = sum(len(lab.emulators(name).get(system, [])) * len(one.profile["networks"]) for name, one in lab.partitions.items())
        assert len(taps(lab, system)) == here, f"{system}: taps {taps(lab, system)}, {here} adapters"
    beside = [path.name for path in lab.dir.glob("san/.lpm/*") if not path.name.endswith(".record")
              and not (nonces and path.name.startswith("nonce-"))]
    assert not beside, f"left beside the disks: {beside}"
    names = {system: [p["name"] for p in lab.host_rpc(system, "partition-list")["partitions"]] for system in lab.systems}
    holders = [system for system, found in names.items() if partition.name in found]
    assert holders == [place], f"profile of {partition.name} is on {holders}"


def moves_again(lab, partition):
    """To the other system: after any fault everything works as before. Returns the target."""
    source = lab.where(partition.name)
    target = next(system for system in lab.systems if system != source)
    status = lab.migrate(partition.name, target)
    assert status["state"] == "completed", json.dumps(status)[:3000]
    assert status["verify"]["differing"] == 0 and status["verify"]["pages"] > 0, status["verify"]
    nothing_left(lab, partition, target)
    return target
