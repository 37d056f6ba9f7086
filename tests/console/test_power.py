# SPDX-License-Identifier: Apache-2.0
"""The power of a partition while not all systems answer: what the system that owns it says last decides."""

import pytest

from consolerun import Refused
from fakehost import FakeHost


def power(console):
    return console.rest("GET", "/v1/partitions/web1/power")


def wait_away(console, host):
    host.vanish()
    console.wait(lambda: console.rest("GET", f"/v1/systems/{host.name}")["state"] != "connected", "it is away")


def shows(host, **more):
    """partition-list says what was a moment ago, partition-show what is now."""
    host.verbs["partition-show"] = lambda arguments: {**host.do_partition_show(arguments), **more}


def test_off_with_the_owner_s_word(console, pair):
    source, target = pair
    source.partitions["web1"]["state"] = "not-activated"
    wait_away(console, target)
    assert power(console)["power"] == "off"


@pytest.mark.parametrize("now, why", [
    ({"state": "running", "pid": 4711}, "it is running on system system-a"),
    ({"state": "error", "pid": 4711}, "it is error on system system-a"),
    ({"migration": "5a" * 16}, f"system system-a has not ended migration {'5a' * 16} of it"),
], ids=["started", "started-and-hangs", "moves"])
def test_started_or_moved_since_the_rows_were_read(console, pair, now, why):
    source, target = pair
    source.partitions["web1"]["state"] = "not-activated"
    shows(source, **now)
    wait_away(console, target)
    answer = power(console)
    assert (answer["power"], answer["system"], answer["why"]) == ("on", "system-a", why)


def test_one_that_has_hung_and_ended_is_off(console, pair):
    source, target = pair
    source.partitions["web1"].update(state="error", process=False)
    shows(source, pid=None)
    wait_away(console, target)
    assert power(console)["power"] == "off"


def test_off_on_two_systems_and_the_record_decides(console, pair, tmp_path):
    """A profile was left behind at a system; the one that is away has no say, as the record names another one."""
    source, target = pair
    third = FakeHost(tmp_path, "system-c")
    third.join(console)
    source.add("web1", "not-activated", owner="system-b")
    target.add("web1", "not-activated", owner="system-b")
    wait_away(console, third)
    answer = power(console)
    assert (answer["power"], answer["system"]) == ("off", "system-b")
    shows(target, state="running", pid=4711)
    assert power(console)["power"] == "on"
    for host in (source, target):
        host.partitions["web1"]["owner"] = "system-c"
        host.verbs.pop("partition-show")
        host.verbs["partition-show"] = host.do_partition_show
    with pytest.raises(Refused, match="its record names system-c, and not all systems answer"):
        power(console)
