# SPDX-License-Identifier: Apache-2.0
"""Partitions with several adapters, on several virtual networks and VLANs: each is reached again after a move, without waiting for
the partition to send something by itself."""

import contextlib
import select
import socket
import threading
import time

import pytest

import lablib
from installation import Installation, Refused
from lablib import wait_for
from tidy import nothing_left
from witness import Witness, runs_once

RARP, ARP = 0x8035, 0x0806
# Network of the lab -> (first three bytes of its addresses, switch and VLAN that OpenLPM knows it as)
NETWORKS = {"lan": (lablib.PARTITIONS, "lan", 0), "v100": ("10.77.10", "lan", 100), "dmz200": ("10.77.20", "dmz", 200)}
CONFIG = {"network:lan": {"vlan.100": "br-v100"}, "network:dmz": {"vlan.200": "br-dmz200"}}


@pytest.fixture(scope="module")
def lab(free_lab_name):
    """Two systems with two virtual networks, one of which has a VLAN beside what is not tagged, the other nothing but a VLAN."""
    lab = Installation(free_lab_name)
    try:
        lab.up()
        for name, (prefix, _switch, vlan) in NETWORKS.items():
            if vlan:
                lab.add_network(name, prefix)
        lab.start_console()
        for place in lab.systems:
            lab.start_host(place, CONFIG)
        for place in lab.systems:
            lab.join(place)
        yield lab
    finally:
        lab.down()


class Listener:
    """Notes what is announced on each network, as the client's card hears it: (time, network, protocol, sender)."""

    def __init__(self, lab):
        self.heard, self.stopping = [], False
        self.sockets = {}
        with lab.at("client"):
            for name in NETWORKS:
                for protocol in (RARP, ARP):
                    one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
                    one.bind(("eth0" if name == "lan" else f"c-{name}", protocol))
                    self.sockets[one] = (name, protocol)
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        while not self.stopping:
            for one in select.select(list(self.sockets), [], [], 0.1)[0]:
                name, protocol = self.sockets[one]
                frame, (_card, _protocol, direction, _type, _address) = one.recvfrom(2048)
                # Requests of the client itself are no announcements, nor are the partition's questions for the client.
                if direction != socket.PACKET_OUTGOING and (protocol == RARP or frame[28:32] == frame[38:42]):
                    self.heard.append((time.monotonic(), name, protocol, frame[6:12].hex(":")))

    def close(self):
        self.stopping = True
        self.thread.join(5)
        for one in self.sockets:
            one.close()

    def announced(self, name, mac, protocol=RARP, since=0.0):
        return [at for at, network, kind, sender in self.heard if (network, kind, sender) == (name, protocol, mac) and at >= since]


def adapters(number, kinds):
    """Adapters of a partition, one for each network, and the kernel's words for their addresses; {network: address}."""
    networks, words, addresses = [], [], {}
    for i, (name, (prefix, switch, vlan)) in enumerate(NETWORKS.items()):
        mac = f"52:54:00:77:{i:02x}:{number:02x}"
        addresses[name] = f"{prefix}.{number}"
        networks.append({"name": f"net{i}", "switch": switch, "mac": mac, "vlan": vlan, "adapter": kinds[i]})
        words.append(f"lpm.net={mac},{prefix}.{number}/24")
    return networks, " ".join(words[1:]), addresses


def port_of(lab, name, mac):
    """Port of the outer switch behind which it believes a MAC to be."""
    for line in lablib.command("bridge", "-n", lab.namespace("switch"), "fdb", "show", "br", name).stdout.splitlines():
        words = line.split()
        if words[0] == mac:
            return words[words.index("dev") + 1]
    return None


def outer_port(place, name):
    return f"l-{place}" if name == "lan" else f"{name}-{place[-1]}"


def move_with_listeners(lab, partition, addresses, target):
    """Moves it and sees that it is announced and found on each network; the largest gaps go to the test's output."""
    macs = {name: network["mac"] for name, network in zip(NETWORKS, partition.profile["networks"])}
    clients = {name: lab.start_client(address, f"client-{name}") for name, address in addresses.items() if name != "lan"}
    listener = Listener(lab)
    try:
        began = time.monotonic()
        result = lab.migrate(partition.name, target)
        assert result["state"] == "completed", (result["state"], result["error"], result["findings"])
        assert result["verify"]["differing"] == 0, result["verify"]
        runs_once(lab, partition, target)
        for name, mac in macs.items():
            wait_for(lambda name=name, mac=mac: len(listener.announced(name, mac, since=began)) >= 2, 10,
                     f"announcements of {mac} on {name}; heard: {listener.heard}")
            assert port_of(lab, name, mac) == outer_port(target, name), name
            # What is announced belongs to one network: VLANs do not leak into each other.
            others = {network for _at, network, _kind, sender in listener.heard if sender == mac}
            assert others == {name}, listener.heard
        reports = {name: lab.stop_client(client, f"client-{name}") for name, client in clients.items()}
        clients = {}
        for name, report in reports.items():
            assert report["whole"], (name, report)
        print({"blackout_ms": result["blackout_ms"], **{name: r["udp_longest_gap_ms"] for name, r in reports.items()}})
    finally:
        listener.close()
        for name, client in clients.items():
            with contextlib.suppress(Exception):
                lab.stop_client(client, f"client-{name}")


def addresses_stay_taken(lab, partition, networks):
    """A profile changed for the next start takes nothing from the partition that runs."""
    lab.rest("PATCH", f"/v1/partitions/{partition.name}", {"changes": {"networks": networks[:1]}})
    row = next(row for row in lab.rest("GET", "/v1/partitions")["partitions"] if row["name"] == partition.name)
    assert row["macs"] == [network["mac"] for network in networks]
    with pytest.raises(Refused, match=f"{networks[1]['mac']} belongs to partition {partition.name}"):
        lab.create("system-a", "taker", partition.profile["family"], 29, networks=networks[1:2], start=False)


def several_adapters(lab, family, number, kinds):
    networks, words, addresses = adapters(number, kinds)
    partition = lab.create("system-a", f"three-{family}", family, number, networks=networks, kernel_options=words)
    witness = Witness(lab, partition)
    try:
        for target in ("system-b", "system-a"):
            move_with_listeners(lab, partition, addresses, target)
        witness.judge()
        nothing_left(lab, partition, "system-a")
        assert [network["mac"] for network in lab.rest("GET", f"/v1/partitions/{partition.name}")["profile"]["networks"]] == \
            [network["mac"] for network in networks]
        addresses_stay_taken(lab, partition, networks)
    finally:
        witness.end()
        lab.delete(partition)


def test_three_adapters_on_two_switches_and_two_vlans(lab):
    several_adapters(lab, "x86-64", 20, ["virtio"] * 3)


@pytest.mark.long
def test_adapters_of_the_virtual_io_bus(lab):
    several_adapters(lab, "power", 21, ["virtio", "spapr-vlan", "spapr-vlan"])


@pytest.mark.long
def test_where_a_spanning_tree_lets_it_wait_it_is_announced_again(lab):
    """The port is new when it arrives, and sends only half a minute later: what was announced before reached nobody."""
    networks, words, addresses = adapters(22, ["virtio"] * 3)
    partition = lab.create("system-a", "patient", "x86-64", 22, networks=networks, kernel_options=words)
    mac = networks[1]["mac"]
    lab.run("system-b", "ip", "link", "set", "br-v100", "type", "bridge", "stp_state", "1", "forward_delay", "1500")
    listener = Listener(lab)
    try:
        result = lab.migrate(partition.name, "system-b")
        assert result["state"] == "completed", (result["state"], result["error"], result["findings"])
        assert "network.forward-delay" in {finding["check"] for finding in result["findings"]}, result["findings"]
        assert not listener.announced("v100", mac), listener.heard
        wait_for(lambda: listener.announced("v100", mac), 60, f"announcement of {mac} once its port forwards; heard: {listener.heard}")
        assert port_of(lab, "v100", mac) == outer_port("system-b", "v100")
        assert lab.partition_status(addresses["v100"], 5)["memory_errors"] == 0
        wait_for(lambda: "it was cut off for" in lab.log("lpm-host-system-b"), 5, "a word about it in the log")
    finally:
        listener.close()
        lab.run("system-b", "ip", "link", "set", "br-v100", "type", "bridge", "stp_state", "0")
        lab.delete(partition)
