# SPDX-License-Identifier: Apache-2.0
"""Memory and processors given to a running partition, and lpm-host's death in between; real QEMUs without an operating system.

That an operating system uses them, also after a move, is seen in lab/cases/test_details.py.
"""

import contextlib
import json
import signal
import socket

import pytest
from test_host import Refused, host, wait_for  # noqa: F401 (host is a fixture)

ROOM = {"processors": 1, "processors_max": 3, "memory_max_mib": 64 + 2 * 128}


def ask_qemu(host, command):
    """Over its second monitor, which lpm-host leaves alone."""
    uuid = host.call("partition-show", partition="p1")["profile"]["uuid"]
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as monitor:
        monitor.settimeout(20)
        monitor.connect(str(host.base / "run" / "partitions" / uuid / "qmp2.sock"))
        lines = monitor.makefile("rw")
        json.loads(lines.readline())
        for name in ("qmp_capabilities", command):
            lines.write(json.dumps({"execute": name}) + "\n")
            lines.flush()
            while "return" not in (answer := json.loads(lines.readline())):
                assert "error" not in answer, answer
        return answer["return"]


def has(host):
    """What QEMU has: modules of memory as (id, slot, MiB), and processors."""
    modules = [(row["data"]["id"], row["data"]["slot"], row["data"]["size"] >> 20)
               for row in ask_qemu(host, "query-memory-devices")]
    return sorted(modules), len(ask_qemu(host, "query-cpus-fast"))


def says(host):
    """What lpm-host believes that it has, as it is written down."""
    built = host.call("partition-show", partition="p1")["runtime"]["profile"]
    return [module["mib"] for module in built.get("added_memory", [])], built.get("added_processors", 0)


def test_given_up_to_what_it_was_started_with_room_for(host):  # noqa: F811
    host.create(**ROOM)
    with pytest.raises(Refused, match="only one that runs can be given more"):
        host.call("partition-add-memory", partition="p1", mib=128)
    host.call("partition-start", partition="p1")
    assert host.call("partition-add-memory", partition="p1", mib=128) == {"memory_mib": 192, "processors": 1}
    assert host.call("partition-add-processors", partition="p1", count=2) == {"memory_mib": 192, "processors": 3}
    with pytest.raises(Refused, match="multiples of 128"):
        host.call("partition-add-memory", partition="p1", mib=100)
    with pytest.raises(Refused, match="has 192 MiB of memory and was started with room for 320"):
        host.call("partition-add-memory", partition="p1", mib=256)
    with pytest.raises(Refused, match="raise processors_max"):
        host.call("partition-add-processors", partition="p1", count=1)
    assert has(host) == ([("dimm0", 0, 128)], 3)
    row = host.call("partition-list")["partitions"][0]
    assert (row["memory_mib"], row["processors"]) == (192, 3), "the list shows what it has"
    with pytest.raises(Refused, match="of a running partition only"):
        host.call("partition-change", partition="p1", changes={"added_processors": 2})

    host.end(signal.SIGKILL)
    host.start()
    assert says(host) == ([128], 2)
    assert host.call("partition-add-memory", partition="p1", mib=128)["memory_mib"] == 320
    assert has(host) == ([("dimm0", 0, 128), ("dimm1", 1, 128)], 3)

    host.call("partition-restart", partition="p1", how="hard")
    assert has(host) == ([], 1), "its next start is by its profile"


@pytest.mark.parametrize("point, given", [("grow-plug-before", False), ("grow-plug-after", True)])
@pytest.mark.parametrize("verb, more", [("partition-add-memory", {"mib": 128}), ("partition-add-processors", {"count": 2})])
def test_a_death_in_between_leaves_no_doubt(host, point, given, verb, more):  # noqa: F811
    host.create(**ROOM)
    host.end()
    host.start(LPM_CRASH=point)
    host.call("partition-start", partition="p1")
    with contextlib.suppress(OSError):
        host.call(verb, partition="p1", **more)
        pytest.skip("a build without crash points")
    host.process.wait(20)
    host.start()
    memory = verb.endswith("memory")
    wanted = ([128] if memory and given else [], 2 if not memory and given else 0)
    wait_for(lambda: says(host) == wanted, f"it is known to have {wanted}")
    assert has(host) == ([("dimm0", 0, 128)] if wanted[0] else [], 1 + wanted[1])
    assert host.call("partition-add-memory", partition="p1", mib=128)["memory_mib"] == 192 + sum(wanted[0])
