# SPDX-License-Identifier: Apache-2.0
"""A Pacemaker cluster of two with fencing, one member of which is a partition that really moves; every move's blackout is stretched
by 8 s. nginx answers on a floating address, and somebody asks it all the time. Minutes long: `make check-long`."""

import difflib
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster"))

from cluster import FLOATING, Cluster  # noqa: E402
from installation import Installation  # noqa: E402
from lablib import HERE, wait_for  # noqa: E402

pytestmark = pytest.mark.long

MOVES = int(os.environ.get("LPM_CLUSTER_MOVES", "10"))  # docs/guide/clusters.md tells of 50
BLACKOUT_MS = int(os.environ.get("LPM_CLUSTER_BLACKOUT_MS", "8000"))  # of 5 s a member is declared lost, too, but may be back before it is fenced
STRETCH = {"LPM_CRASH": "dst-cont-before,pause", "LPM_CRASH_PAUSE_MS": str(BLACKOUT_MS)}
MOVER, PEER = 1, 2    # members: the partition, and the one in a namespace
MEMBER = f"node{MOVER}"
USUAL_MS = 3000       # Corosync's failure detection with two members and nothing configured
SLOW = 500_000        # bytes/s: the copy of the partition then takes minutes, also to a system that knows much of it
PATIENCE_S = 600      # what an emulated partition may need to boot, join and settle on a busy machine
TAKEOVER_S = 75       # stated in docs/guide/clusters.md: 20 s of failure detection, consensus, fencing, start
SILENCE_S = BLACKOUT_MS / 1000 + 6  # the service's, in a move

RESOURCES = """<group id="web">
  <primitive id="ip" class="ocf" provider="heartbeat" type="IPaddr2">
    <instance_attributes id="ip-attributes"><nvpair id="ip-ip" name="ip" value="{floating}"/>
      <nvpair id="ip-mask" name="cidr_netmask" value="24"/></instance_attributes>
    <operations><op id="ip-monitor" name="monitor" interval="30s"/></operations></primitive>
  <primitive id="nginx" class="ocf" provider="heartbeat" type="nginx">
    <instance_attributes id="nginx-attributes"><nvpair id="nginx-conf" name="configfile" value="/run/lab/nginx.conf"/></instance_attributes>
    <operations><op id="nginx-monitor" name="monitor" interval="30s"/></operations></primitive></group>
<primitive id="fence-{member}" class="stonith" type="fence_openlpm">
  <instance_attributes id="fence-attributes"><nvpair id="fence-plug" name="plug" value="{member}"/>
    <nvpair id="fence-client" name="client_file" value="{client_file}"/><nvpair id="fence-list" name="pcmk_host_list" value="{member}"/>
    <nvpair id="fence-reboot" name="pcmk_reboot_timeout" value="180s"/></instance_attributes>
  <operations><op id="fence-monitor" name="monitor" interval="120s"/></operations></primitive>"""
CONSTRAINTS = f"""<rsc_location id="web-likes" rsc="web" node="{MEMBER}" score="50"/>
<rsc_location id="fence-not" rsc="fence-{MEMBER}" node="{MEMBER}" score="-INFINITY"/>"""


@pytest.fixture(scope="module")
def lab(free_lab_name):
    """Two systems whose lpm-host stretches every blackout."""
    made = Installation(free_lab_name)
    try:
        made.up(2)
        made.start_console()
        for place in made.systems:
            made.start_host(place, environment=STRETCH)
            made.join(place)
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def cluster(lab):
    resources = RESOURCES.format(floating=FLOATING, member=MEMBER, client_file=lab.client_file)
    made = Cluster(lab, 2, namespaces=[PEER], resources=resources, constraints=CONSTRAINTS, stonith=True)
    made.add_partition(MOVER, "system-a")
    try:
        made.up()
        made.run(PEER, "lpm-pacemaker", "setup")
        yield made
    finally:
        made.down()


@pytest.fixture
def client(lab, cluster):
    """Somebody who uses the service, which is at home and at rest."""
    at_home(cluster)
    found = Client(lab)
    yield found
    found.end()


class Client:
    def __init__(self, lab):
        self.path = lab.dir / "client" / "web.json"
        self.path.unlink(missing_ok=True)
        self.child = lab.start("client", "web", HERE / "webclient.py", "--address", FLOATING, "--output", self.path)
        wait_for(lambda: self.path.exists() and self.report()["answers"] > 3, 30, "answers of the service")

    def report(self):
        return json.loads(self.path.read_text())

    def members(self):
        """Who answered, in order."""
        return [run["member"] for run in self.report()["members"]]

    def longest(self):
        report = self.report()
        return max([silence["s"] for silence in report["silences"]] + [report["silent_s"]])

    def wait_for_member(self, number, timeout):
        return wait_for(lambda: next((run["from"] for run in self.report()["members"] if run["member"] == f"node{number}"), None), timeout,
                        f"an answer of node{number}", 0.3)

    def end(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            self.child.wait(10)


def idle(cluster):
    return any("S_IDLE" in cluster.run(PEER, "timeout", 20, "crmadmin", "-q", "-S", f"node{n}", check=False).stdout for n in (PEER, MOVER))


def settled(cluster):
    """Both online, nothing to do, the guard and the fence agent there."""
    cluster.wait_online(PATIENCE_S, seen_by=PEER)
    wait_for(lambda: len(cluster.active_on("lpm-heartbeat-clone")) == 2 and cluster.active_on(f"fence-{MEMBER}") and cluster.active_on("nginx"),
             PATIENCE_S, "resources of the cluster", 0.5)
    wait_for(lambda: idle(cluster), PATIENCE_S, "a cluster at rest", 0.5)


def at_home(cluster):
    """The partition has the service; nothing of an earlier case is left."""
    settled(cluster)
    cluster.run(PEER, "crm_resource", "--cleanup", check=False)
    if cluster.active_on("nginx") != [MEMBER]:
        cluster.run(PEER, "crm_resource", "-r", "web", "--move", "--node", MEMBER)
        wait_for(lambda: cluster.active_on("nginx") == [MEMBER], PATIENCE_S, f"the service on {MEMBER}", 0.5)
        cluster.run(PEER, "crm_resource", "-r", "web", "--clear")
    settled(cluster)


def use_script(cluster, policy):
    """Installs lpm-pacemaker in the partition with this policy; None: takes it away."""
    cluster.run(MOVER, "sh", "-c", "lpm-drmgr -u lpm-pacemaker || true")
    if policy:
        cluster.run(MOVER, "sh", "-c", f"mkdir -p /etc/lpm && echo LPM_POLICY={policy} >/etc/lpm/pacemaker.conf && "
                    "lpm-drmgr -i /usr/sbin/lpm-pacemaker -f")


def other(lab):
    return "system-b" if lab.where(MEMBER) == "system-a" else "system-a"


def begin(lab, **options):
    return lab.migrate(MEMBER, other(lab), wait=False, verify=False, **options)


def copying(lab, migration):
    """Waits until it is in the middle of its copy: its scripts' pre has run."""
    return lab.wait_for_migration(migration, PATIENCE_S, lambda status: status["phase"] == "copy" and status["stream_bytes"] > 2_000_000)


def finished(lab, migration):
    """Waits for its end and for its scripts; returns its status."""
    status = lab.wait_for_migration(migration, PATIENCE_S)
    assert status["state"] != "refused", [finding for finding in status["findings"] if finding["severity"] == "error"]

    def told():
        status = lab.rest("GET", f"/v1/migrations/{migration}")
        return next((status for phase in status["scripts"] if phase["phase"] in ("post", "undo") and phase["result"] in ("ok", "already")), None)
    return wait_for(told, PATIENCE_S, f"scripts of {migration}", 0.3)


def state(cluster):
    """All that a move must leave as it was, as lines."""
    found = cluster.configuration(PEER).splitlines()
    for number in (MOVER, PEER):
        found += [f"node{number}: {line}" for line in cluster.run(number, "corosync-cmapctl").stdout.splitlines()
                  if line.startswith(("totem.", "runtime.config."))]
    return found


def changed(cluster, before):
    """What of it is not as it was."""
    return [line for line in difflib.unified_diff(before, state(cluster), n=0, lineterm="") if not line.startswith(("---", "+++", "@@"))]


def restored(cluster, before):
    """Waits until nothing differs: a partition that boots again settles its scripts when Pacemaker answers there."""
    deadline = time.monotonic() + PATIENCE_S
    while (left := changed(cluster, before)) and time.monotonic() < deadline:
        time.sleep(1)
    assert left == []


def test_without_the_script_the_blackout_costs_the_member(lab, cluster, client):
    """So that the next test can fail: the healthy partition is declared lost and fenced, and its service starts elsewhere."""
    use_script(cluster, None)
    before, boot = cluster.lost(PEER), lab.partition_status(cluster.address(MOVER))["boot_id"]
    status = lab.wait_for_migration(begin(lab), PATIENCE_S)
    print(f"without: {status['state']}, blackout {status['blackout_ms']} ms", flush=True)
    client.wait_for_member(PEER, PATIENCE_S)
    assert cluster.lost(PEER) > before
    assert client.members() == [MEMBER, f"node{PEER}"]
    settled(cluster)
    assert lab.partition_status(cluster.address(MOVER))["boot_id"] != boot, "it was fenced: it is another boot"
    print(f"without: service silent for {client.longest()} s", flush=True)


def test_moves_with_the_script_lose_nobody(lab, cluster, client):
    """Half of the moves with each policy."""
    boot, blackouts, lost = lab.partition_status(cluster.address(MOVER))["boot_id"], [], cluster.lost(PEER)
    for policy, moves in (("manage", MOVES - MOVES // 2), ("unmanage", MOVES // 2)):
        use_script(cluster, policy)
        before = state(cluster)
        for move in range(moves):
            begun, target = time.monotonic(), other(lab)
            status = finished(lab, begin(lab))
            assert status["state"] == "completed", json.dumps(status)[:3000]
            assert status["blackout_ms"] >= BLACKOUT_MS, status["blackout_ms"]
            blackouts.append(status["blackout_ms"])
            assert cluster.lost(PEER) == lost, f"move {move}, policy {policy}"
            assert changed(cluster, before) == [], f"move {move}, policy {policy}"
            assert lab.where(MEMBER) == target
            assert client.members() == [MEMBER] and not cluster.serving(PEER)
            print(f"{policy} {move}: blackout {status['blackout_ms']} ms, with scripts {time.monotonic() - begun:.0f} s, longest silence so far "
                  f"{client.longest()} s", flush=True)
    assert lab.partition_status(cluster.address(MOVER))["boot_id"] == boot
    assert client.longest() < SILENCE_S
    print(f"{len(blackouts)} moves, 0 fail-overs, blackouts {min(blackouts)} to {max(blackouts)} ms, longest silence {client.longest()} s", flush=True)


@pytest.mark.parametrize("policy", ["manage", "unmanage"])
def test_a_partition_that_dies_in_its_move(lab, cluster, client, policy):
    """Its work starts on the other member, once, within the stated time; the settings are what they were."""
    use_script(cluster, policy)
    before = state(cluster)
    migration = begin(lab, max_rate=SLOW)
    copying(lab, migration)
    assert cluster.token_ms(PEER) >= 20000
    for pids in lab.emulators(MEMBER).values():
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    died = time.time()
    lab.wait_for_migration(migration, PATIENCE_S)
    cluster.run(PEER, "lpm-pacemaker", "abandon", migration)
    assert cluster.token_ms(PEER) == USUAL_MS, "the guard let go"
    if policy == "unmanage":
        cluster.run(PEER, "lpm-pacemaker", "recover", MEMBER)
    taken = client.wait_for_member(PEER, PATIENCE_S) - died
    print(f"{policy}: the service was on node{PEER} after {taken:.1f} s", flush=True)
    assert taken < TAKEOVER_S
    settled(cluster)  # fencing has started the partition again
    assert client.members() == [MEMBER, f"node{PEER}"] and not cluster.serving(MOVER)
    restored(cluster, before)


def test_a_member_that_is_cut_off_while_it_moves_is_fenced(lab, cluster, client):
    """The partition lives and moves, but the others do not hear it: no copy of it may be left when its service starts elsewhere."""
    use_script(cluster, "manage")
    before, boot = state(cluster), lab.partition_status(cluster.address(MOVER))["boot_id"]
    place = lab.where(MEMBER)
    migration = begin(lab, max_rate=SLOW)
    copying(lab, migration)
    lab.link(place, "down", network="lan")
    cut = time.time()
    try:
        wait_for(lambda: lab.rest("GET", f"/v1/migrations/{migration}")["finished"], PATIENCE_S, "fencing to end the move", 0.3)
        taken = client.wait_for_member(PEER, PATIENCE_S) - cut
    finally:
        lab.link(place, "up", network="lan")
    print(f"cut off: fenced, and the service on node{PEER} after {taken:.1f} s", flush=True)
    assert taken < TAKEOVER_S
    assert lab.rest("GET", f"/v1/migrations/{migration}")["state"] != "completed"
    settled(cluster)
    assert lab.partition_status(cluster.address(MOVER))["boot_id"] != boot
    assert client.members() == [MEMBER, f"node{PEER}"] and not cluster.serving(MOVER)
    restored(cluster, before)
