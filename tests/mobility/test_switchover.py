# SPDX-License-Identifier: Apache-2.0
"""What comes between the copy and the switchover: a link that is lost just then."""
import contextlib
import time

import pytest
from cable import Cable
from hosts import wait_for

OUTAGE_S = 3  # four times what is waited for while the partition stands still


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
