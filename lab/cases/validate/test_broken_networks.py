# SPDX-License-Identifier: Apache-2.0
"""Broken set-ups of the group network: each is found before anything changes; what is overridden by name arrives unconnected."""

import contextlib

import pytest

import broken
from broken import SOURCE, SUBJECT, TARGET, Broken, command_at, neighbour, rows
from tidy import taps

TAGGED = [{"name": "net0", "switch": "lan", "vlan": 100, "mac": "52:54:00:77:00:56"}]
HAS_VLAN = {"network:lan": {"vlan.100": "br-v100"}}
BRIDGES = {place: command_at(place, "ip link add br-v100 up type bridge", "ip link del br-v100") for place in (SOURCE, TARGET)}


def at_the_target(begin, end):
    return command_at(TARGET, f"ip link set {begin}", f"ip link set {end}")


def no_taps(place):
    """/dev/net/tun, as lpm-host sees it, makes no taps."""
    @contextlib.contextmanager
    def made(ground):
        inside = ["nsenter", "-m", "-t", str(ground.pid(f"lpm-host-{place}"))]
        ground.run(place, *inside, "mount", "--bind", "/dev/null", "/dev/net/tun")
        try:
            yield
        finally:
            ground.run(place, *inside, "umount", "/dev/net/tun")
    return made


BROKEN = [
    Broken("vlan-missing", "network.switch", ("VLAN 100 of virtual network lan", "system-b"), partition="tagged",
           config={SOURCE: HAS_VLAN}, made=(BRIDGES[SOURCE], neighbour("tagged", 86, networks=TAGGED))),
    Broken("bridge-missing", "network.bridged", ("its bridge is missing", "system-b"),
           config={TARGET: {"network:lan": {"bridge": "br-none"}}}),
    Broken("no-bridge-but-a-card", "network.bridged", ("its bridge is missing",),
           config={TARGET: {"network:lan": {"bridge": "eth1"}}}, long=True),
    Broken("vlan-bridge-missing", "network.bridged", ("VLAN 100", "its bridge is missing"), partition="tagged",
           config={SOURCE: HAS_VLAN, TARGET: HAS_VLAN}, made=(BRIDGES[SOURCE], neighbour("tagged", 86, networks=TAGGED)), long=True),
    Broken("leads-nowhere", "network.bridged", ("br-lan", "no port with a carrier"),
           made=(at_the_target("uplink nomaster", "uplink master br-lan"),)),
    Broken("cable-pulled", "network.bridged", ("br-lan", "no port with a carrier"),
           made=(command_at("switch", "ip link set l-system-b down", "ip link set l-system-b up"),)),
    Broken("bridge-down", "network.up", ("br-lan is down",), made=(at_the_target("br-lan down", "br-lan up"),)),
    Broken("smaller-mtu", "network.mtu", ("1500", "1400 on system-b"), made=(at_the_target("br-lan mtu 1400", "br-lan mtu 1500"),)),
    Broken("spanning-tree", "network.forward-delay", ("br-lan", "30 s"), severity="warning",
           made=(at_the_target("br-lan type bridge stp_state 1", "br-lan type bridge stp_state 0"),)),
    Broken("no-taps", "network.taps", ("a tap cannot be made",), made=(no_taps(TARGET),)),
]


@pytest.mark.parametrize("row", rows(BROKEN))
def test_is_found(ground, row):
    ground.judge(row)


def test_all_reasons_at_once(ground):
    """Each adapter has its own findings."""
    networks = [{"name": "net0", "switch": "lan", "mac": "52:54:00:77:00:57"}, {**TAGGED[0], "name": "net1"}]
    here = Broken("", "", config={SOURCE: HAS_VLAN}, made=(
        BRIDGES[SOURCE], neighbour("tagged", 86, networks=networks), at_the_target("br-lan down mtu 1400", "br-lan up mtu 1500")))
    with ground.broken(here):
        findings, _seconds = ground.validate("tagged")
        assert {(finding["check"], finding["object"]) for finding in broken.loud(findings["findings"])} == {
            ("network.switch", "network net1"), ("network.up", "network net0"), ("network.mtu", "network net0")}, findings


def test_an_overridden_network_comes_unconnected(ground):
    missing = Broken("", "", config={SOURCE: HAS_VLAN}, made=(BRIDGES[SOURCE], neighbour("tagged", 86, networks=TAGGED)))
    with ground.broken(missing):
        words = ground.validate("tagged", options={"overrides": ["network.switch"]})[0]
        assert words["verdict"] == "warning", words
        assert ground.migrate("tagged", TARGET, overrides=["network.switch"])["state"] == "completed"
        assert len(taps(ground, TARGET)) == 1
        bridged = ground.run(TARGET, "ip", "-o", "link", "show", "master", "br-lan").stdout
        assert "uplink" in bridged and "lpm" not in bridged, bridged
        assert "unconnected" in ground.log(f"lpm-host-{TARGET}")
        # The other way there is nothing to override: its network is there.
        assert ground.migrate("tagged", SOURCE)["state"] == "completed"
        assert "lpm" in ground.run(SOURCE, "ip", "-o", "link", "show", "master", "br-v100").stdout
    assert ground.where(SUBJECT) == SOURCE
