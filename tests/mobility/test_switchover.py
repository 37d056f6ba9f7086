# SPDX-License-Identifier: Apache-2.0
"""What comes between the copy and the switchover: a link that is lost just then, a stop of the partition long before."""
import contextlib
import json
import socket
import time

import pytest
from cable import Cable
from hosts import wait_for

OUTAGE_S = 3  # four times what is waited for while the partition stands still
SWITCHOVER_S = 5.3  # may take that long


@pytest.fixture
def cabled(pair):
    """Begins a move whose movers meet over a cable."""
    with contextlib.ExitStack() as ends:
        def begin(**options):
            where = pair.prepare(pair.a, pair.b, **options)
            cable = Cable(("127.0.0.3", where["port"]))
            ends.callback(cable.stop)
            extra = {"image_key": where["image_key"]} if "image_key" in where else {}
            pair.a.call("migration-start", migration=pair.migration, partition="p1", target="sys-b", active=True, key=pair.key,
                        options=options, addresses=["127.0.0.1"], port=cable.address[1], **extra)
            return cable
        yield begin


@pytest.mark.parametrize("channels", [pytest.param(0, marks=pytest.mark.long), 1])
def test_no_switchover_while_the_link_is_lost(pair, cabled, channels):
    """All that is left would fit into sockets and the mover: QEMU must not come to its switchover by that."""
    pair.create()
    pair.says_more(pair.a)
    cable = cabled(max_rate=300_000, channels=channels)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    cable.cut()
    wait_for(lambda: pair.status(pair.a)["links"]["lost_ms"] is not None, "the link is lost")
    pair.a.call("migration-set", migration=pair.migration, max_rate=0)
    end = time.monotonic() + OUTAGE_S
    while time.monotonic() < end:
        pair.says_more(pair.a)
        time.sleep(0.2)
    assert pair.status(pair.a)["phase"] == "copy"
    cable.mend()
    pair.ends(pair.a, "completed")
    status = pair.ends(pair.b, "completed")
    assert status["links"]["reconnects"] >= 1
    pair.tail(pair.b)
    pair.says_more(pair.b)
    pair.judge(pair.a, pair.b)


def monitor(system, uuid, command):
    with socket.socket(socket.AF_UNIX) as qmp:  # the second monitor: the first is lpm-host's
        qmp.connect(str(system.run / "partitions" / uuid / "qmp2.sock"))
        for one in ("qmp_capabilities", command):
            qmp.sendall(json.dumps({"execute": one}).encode() + b"\n")
        answered = b""
        while answered.count(b'"return"') < 2:
            answered += qmp.recv(4096)


@pytest.mark.long
def test_the_switchover_is_not_counted_from_an_earlier_stop(pair):
    """QEMU, stopped by an error of a disk or by somebody, does not say STOP again at its switchover."""
    pair.create(memory_mib=256)
    pair.says_more(pair.a)
    pair.begin(pair.a, pair.b, raw=True, channels=0, max_rate=10_000)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    monitor(pair.a, pair.profile["uuid"], "stop")
    time.sleep(SWITCHOVER_S + 0.5)
    assert pair.status(pair.a)["phase"] == "copy"
    pair.a.call("migration-set", migration=pair.migration, max_rate=0)
    status = pair.ends(pair.a, "completed")
    pair.ends(pair.b, "completed")
    assert status["blackout_ms"] > 1000 * SWITCHOVER_S, "it did stand still"
    pair.tail(pair.b)
    pair.says_more(pair.b)
    pair.judge(pair.a, pair.b)
