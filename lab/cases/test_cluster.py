# SPDX-License-Identifier: Apache-2.0
"""lpm-pacemaker on a real cluster of three members that are network namespaces: a member stands still as a partition does in its
blackout, and is, or is not, declared lost."""

import datetime
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster"))

from cluster import AGENTS, FLOATING, Cluster  # noqa: E402
from lablib import Lab, wait_for  # noqa: E402

SCRIPT = AGENTS / "lpm-pacemaker"
USUAL_MS = 3650    # Corosync's failure detection with three members and nothing configured
BLACKOUT_MS = 5000
STILL_S = 9        # beyond the 6 s after which such a cluster declares a member lost
VETO = 10

RESOURCES = f"""<group id="web">
  <primitive id="ip" class="ocf" provider="heartbeat" type="IPaddr2">
    <instance_attributes id="ip-attributes"><nvpair id="ip-ip" name="ip" value="{FLOATING}"/>
      <nvpair id="ip-mask" name="cidr_netmask" value="24"/></instance_attributes>
    <operations><op id="ip-monitor" name="monitor" interval="5s"/></operations></primitive>
  <primitive id="app" class="ocf" provider="heartbeat" type="Dummy">
    <operations><op id="app-monitor" name="monitor" interval="5s"/></operations></primitive></group>
<primitive id="left-alone" class="ocf" provider="heartbeat" type="Dummy">
  <meta_attributes id="left-alone-meta"><nvpair id="left-alone-managed" name="is-managed" value="false"/></meta_attributes></primitive>
<clone id="everywhere"><primitive id="state" class="ocf" provider="pacemaker" type="Stateful"/></clone>"""


@pytest.fixture(scope="module")
def cluster(free_lab_name):
    lab = Lab(free_lab_name)
    lab.up(systems=1)
    made = Cluster(lab, 3, resources=RESOURCES)
    try:
        made.up()
        made.run(1, SCRIPT, "setup")
        settled(made)
        yield made
    finally:
        made.down()
        lab.down()


def settled(cluster):
    """Waits until the guard runs on every member and the service on one."""
    wait_for(lambda: len(cluster.active_on("lpm-heartbeat-clone")) == 3 and cluster.active_on("app"), 60, "resources of the cluster", 0.3)
    wait_for(lambda: "S_IDLE" in cluster.run(1, "crmadmin", "-q", "-S", "node1", check=False).stdout + cluster.run(
        2, "crmadmin", "-q", "-S", "node2", check=False).stdout + cluster.run(3, "crmadmin", "-q", "-S", "node3", check=False).stdout,
        60, "a cluster at rest", 0.3)


def home(cluster):
    """Number of the member that has the service."""
    return int(cluster.active_on("app")[0].removeprefix("node"))


def script(cluster, number, phase, move="m1", policy="manage", check=True, extra="", lease=None, limit=BLACKOUT_MS, environment=()):
    """Runs a phase as lpm-drmgr does."""
    config = cluster.directory(number) / "pacemaker.conf"
    config.write_text(f"LPM_POLICY={policy}\n{extra}")
    environment = [*environment, f"LPM_MIGRATION_ID={move}", f"LPM_MAX_BLACKOUT_MS={limit}", f"LPM_PACEMAKER_CONF={config}"]
    environment += [f"LPM_PACEMAKER_LEASE_S={lease}"] if lease else []
    return cluster.run(number, "env", *environment, SCRIPT, phase, "pmig", check=check)


def tokens(cluster):
    return [cluster.token_ms(n) for n in cluster.here]


def totem_keys(cluster, number):
    """What Corosync was told, without what it counts."""
    lines = cluster.run(number, "corosync-cmapctl").stdout.splitlines()
    return [line for line in lines if line.startswith(("totem.", "runtime.config."))]


def test_everything_is_put_back_byte_for_byte(cluster):
    """Both policies; resources that an administrator leaves alone stay so."""
    for policy in ("manage", "unmanage"):
        number = home(cluster)
        configuration, totem = cluster.configuration(), [totem_keys(cluster, n) for n in cluster.here]
        script(cluster, number, "checkmigrate", policy=policy)
        script(cluster, number, "premigrate", policy=policy)
        assert all(token > 20000 for token in tokens(cluster)), "failure detection is longer on every member"
        listing = cluster.run(number, "crm_mon", "-1", "-r").stdout
        for resource in ("ip", "app"):
            line = next(line for line in listing.splitlines() if f"* {resource}\t" in line)
            assert ("(unmanaged)" in line) == (policy == "unmanage"), line
        script(cluster, number, "postmigrate", policy=policy)
        assert cluster.configuration() == configuration
        assert [totem_keys(cluster, n) for n in cluster.here] == totem
        script(cluster, number, "postmigrate", policy=policy)  # once more does no harm
        assert cluster.configuration() == configuration


@pytest.mark.long
def test_without_the_script_the_member_is_declared_lost(cluster):
    """So that the next test can fail."""
    number = home(cluster)
    peer = number % 3 + 1
    before = cluster.lost(peer)
    cluster.freeze(number)
    try:
        wait_for(lambda: cluster.lost(peer) > before, 30, "the others to declare the member lost", 0.2)
    finally:
        cluster.thaw(number)
    cluster.wait_online(120, seen_by=peer)
    settled(cluster)


def test_a_blackout_with_the_script_loses_nobody(cluster):
    number = home(cluster)
    peers = [n for n in cluster.here if n != number]
    before = [cluster.lost(n) for n in peers]
    script(cluster, number, "premigrate", policy="unmanage")
    cluster.freeze(number)
    time.sleep(STILL_S)  # the blackout itself
    cluster.thaw(number)
    script(cluster, number, "postmigrate", policy="unmanage")
    assert [cluster.lost(n) for n in peers] == before
    assert home(cluster) == number
    assert tokens(cluster) == [USUAL_MS] * 3


@pytest.mark.long
def test_a_failure_during_the_move_is_asked_again_and_leaves_no_trace(cluster):
    """Pacemaker notes the time of a refresh in its configuration."""
    number = home(cluster)
    configuration = cluster.configuration()
    script(cluster, number, "premigrate", policy="unmanage")
    cluster.run(number, "crm_resource", "--fail", "-r", "app", "-N", f"node{number}")
    wait_for(lambda: "<failure " in cluster.run(number, "crm_mon", "-1", "--output-as=xml").stdout, 30, "a failure of the service", 0.3)
    told = script(cluster, number, "postmigrate", policy="unmanage").stdout
    assert "recorded a failure of app" in told
    assert cluster.configuration() == configuration
    assert home(cluster) == number


def failed(cluster, number):
    """Failures on record, each with its time."""
    text = cluster.run(number, "crm_mon", "-1", "--output-as=xml").stdout
    return sorted(re.findall(r'<failure op_key="([^"]*)".* last-rc-change="([^"]*)"', text))


@pytest.mark.long
def test_failures_of_before_the_move_stay_on_record(cluster):
    """Whoever is to look into them finds them; one of the move itself is asked again."""
    number = home(cluster)
    cluster.run(number, "crm_resource", "--fail", "-r", "app", "-N", f"node{number}")
    wait_for(lambda: failed(cluster, number), 30, "a failure of the service", 0.3)
    settled(cluster)
    assert home(cluster) == number, "the cluster started it again"
    before = failed(cluster, number)
    configuration = cluster.configuration()
    for phase in ("postmigrate", "undopremigrate"):
        script(cluster, number, "premigrate", policy="unmanage")
        assert "recorded a failure" not in script(cluster, number, phase, policy="unmanage").stdout
        assert failed(cluster, number) == before
    assert "recorded a failure" not in script(cluster, number, "undopremigrate", move="m9").stdout, "one whose premigrate never came so far"
    script(cluster, number, "premigrate", policy="unmanage")
    cluster.run(number, "crm_resource", "--fail", "-r", "ip", "-N", f"node{number}")
    wait_for(lambda: len(failed(cluster, number)) > len(before), 30, "a failure of the address", 0.3)
    told = script(cluster, number, "postmigrate", policy="unmanage").stdout
    assert "recorded a failure of ip" in told and "app" not in told
    assert failed(cluster, number) == before
    assert cluster.configuration() == configuration
    cluster.run(number, "crm_resource", "--refresh", "-r", "app", "-N", f"node{number}")
    settled(cluster)


def test_one_member_at_a_time(cluster):
    number = home(cluster)
    other = number % 3 + 1
    script(cluster, number, "premigrate")
    try:
        refused = script(cluster, other, "checkmigrate", move="m2", check=False)
        assert refused.returncode == VETO
        assert f"member node{number} of this cluster is being moved (migration m1)" in refused.stdout
        refused = script(cluster, other, "premigrate", move="m2", check=False)
        assert refused.returncode == VETO
        script(cluster, other, "undopremigrate", move="m2")  # as lpm-drmgr does for whoever refused
        assert all(token > 20000 for token in tokens(cluster)), "the move that goes on keeps its failure detection"
        assert script(cluster, other, "checkmigrate", move="m2", check=False).returncode == VETO
    finally:
        script(cluster, number, "undopremigrate")
    assert script(cluster, other, "checkmigrate", move="m2").returncode == 0


def test_a_lock_whose_lease_is_over(cluster):
    """A question leaves it where it is; the next move removes it."""
    number = home(cluster)
    clean = cluster.configuration()
    cluster.run(number, "cibadmin", "-C", "-o", "crm_config", "-X",
                '<cluster_property_set id="openlpm-lock"><nvpair id="openlpm-lock-move" name="move" value="m0"/>'
                '<nvpair id="openlpm-lock-until" name="until" value="1000000000"/></cluster_property_set>')
    before = cluster.configuration()
    assert before != clean
    assert script(cluster, number, "checkmigrate", move="m4").returncode == 0
    assert cluster.configuration() == before
    script(cluster, number, "premigrate", move="m4")
    assert 'value="m4"' in cluster.configuration() and 'value="m0"' not in cluster.configuration()
    script(cluster, number, "postmigrate", move="m4")
    assert cluster.configuration() == clean


def test_a_cluster_that_takes_no_lock_is_not_another_member(cluster):
    number = home(cluster)
    clean = cluster.configuration()
    tools = cluster.directory(number) / "tools"
    tools.mkdir()
    refusing = tools / "cibadmin"
    refusing.write_text("""#!/bin/sh
case " $* " in *" -C "*) echo "Call cib_create failed (-62): Timer expired"; exit 124 ;; esac
exec /usr/sbin/cibadmin "$@"
""")
    refusing.chmod(0o755)
    refused = script(cluster, number, "premigrate", check=False, environment=[f"PATH={tools}:/usr/sbin:/usr/bin:/sbin:/bin"])
    assert refused.returncode == VETO
    assert "did not take the lock of this move: Call cib_create failed (-62)" in refused.stdout and "another member" not in refused.stdout
    assert cluster.configuration() == clean


@pytest.mark.long
def test_every_member_restores_itself_when_the_lease_ends(cluster):
    """Also while no word gets through: the guard asks nobody. Whoever had the lease is gone."""
    number = home(cluster)
    script(cluster, number, "premigrate", policy="unmanage", lease=15)
    assert all(token > 20000 for token in tokens(cluster))
    wait_for(lambda: tokens(cluster) == [USUAL_MS] * 3, 60, "the guards to end the lease", 0.5)
    wait_for(lambda: "app\t" in (text := cluster.run(number, "crm_mon", "-1").stdout) and "(unmanaged)" not in next(
        line for line in text.splitlines() if "* app\t" in line), 60, "the resources to be managed again", 0.5)
    assert script(cluster, number, "checkmigrate", move="m3").returncode == 0, "a lease that is over blocks nobody"
    cluster.run(number, SCRIPT, "restore")


def ends(cluster):
    """When the lock, the longer failure detection and the blocks end, in seconds."""
    text = cluster.configuration()
    dates = re.findall(r'<date_expression id="openlpm-unmanage-[^>]* end="([^"]*)"', text)
    return [int(n) for n in re.findall(r'name="until" value="(\d+)"', text)] + [
        int(datetime.datetime.fromisoformat(date.replace("Z", "+00:00")).timestamp()) for date in dates]


def test_a_copy_that_lasts_longer_than_the_lease_renews_it(cluster):
    """All of it in one change; a member whose lock is gone changes nothing, and says so."""
    number = home(cluster)
    clean = cluster.configuration()
    assert "LPM_FACT=watch_s=6\n" in script(cluster, number, "premigrate", policy="unmanage", lease=40).stdout
    begun = cluster.configuration()
    first = ends(cluster)
    assert len(first) >= 4 and set(first) == {first[0]}
    script(cluster, number, "watchmigrate", policy="unmanage", lease=40)
    assert cluster.configuration() == begun, "most of the lease is left"
    script(cluster, number, "watchmigrate", policy="unmanage", lease=3000)
    later = ends(cluster)
    assert len(later) == len(first) and set(later) == {later[0]} and later[0] > first[0] + 2000
    assert cluster.configuration().count("<") == begun.count("<"), "nothing but the times is changed"
    assert script(cluster, number, "watchmigrate", move="m2", policy="unmanage", lease=30000).returncode == 0
    assert ends(cluster) == later
    cluster.run(number, SCRIPT, "restore")
    assert cluster.configuration() == clean
    lost = script(cluster, number, "watchmigrate", policy="unmanage", lease=30000, check=False)
    assert lost.returncode == VETO and "DR_ERROR=the lock of this move is not in the cluster's configuration any more" in lost.stdout, lost.stdout
    assert cluster.configuration() == clean
    script(cluster, number, "postmigrate", policy="unmanage")
    assert cluster.configuration() == clean


@pytest.mark.long
def test_the_guards_hold_as_long_as_the_lease_is_renewed(cluster):
    number, lease = home(cluster), 24
    clean = cluster.configuration()
    script(cluster, number, "premigrate", policy="unmanage", lease=lease)
    until = time.monotonic() + 2.5 * lease
    while time.monotonic() < until:
        script(cluster, number, "watchmigrate", policy="unmanage", lease=lease)
        assert all(token > 20000 for token in tokens(cluster))
        text = cluster.run(number, "crm_mon", "-1").stdout
        assert "(unmanaged)" in next(line for line in text.splitlines() if "* app\t" in line)
        time.sleep(2)
    script(cluster, number, "postmigrate", policy="unmanage")
    assert cluster.configuration() == clean and tokens(cluster) == [USUAL_MS] * 3


def facts(done):
    """What the script told for the console."""
    return dict(line.removeprefix("LPM_FACT=").split("=", 1) for line in done.stdout.splitlines() if line.startswith("LPM_FACT="))


def test_the_failure_detection_in_force_is_told(cluster):
    """As Corosync has it; with three members and nothing configured a member is lost after 5.5 s (measured), and half of that is borne."""
    number = home(cluster)
    told = facts(script(cluster, number, "checkmigrate"))
    assert (told["cluster_members"], told["cluster_node"], told["cluster_policy"]) == ("3", f"node{number}", "manage")
    assert int(told["cluster_token_ms"]) == USUAL_MS and int(told["cluster_consensus_ms"]) == USUAL_MS * 12 // 10
    assert 500 < int(told["cluster_hold_ms"]) < 1000 and int(told["cluster_ping_ms"]) == USUAL_MS // 4
    assert int(told["cluster_during_ms"]) == 20000
    others = [f"node{n}" for n in cluster.here if n != number]
    assert told["cluster_takeover"] == "alert" and sorted(told["cluster_standby"].split()) == others
    as_it_is = script(cluster, number, "checkmigrate", extra="HEARTBEAT_FREQUENCY_DURING_LPM=0\n")
    assert facts(as_it_is)["cluster_during_ms"] == "0"
    assert "failure detection stays as it is, which bears a blackout of 27" in as_it_is.stdout


def test_a_failure_detection_that_stays_is_not_touched(cluster):
    """The move's limit has been lowered by the console; a limit that was not is refused before anything has changed."""
    number, stays = home(cluster), "HEARTBEAT_FREQUENCY_DURING_LPM=0\n"
    configuration = cluster.configuration()
    refused = script(cluster, number, "premigrate", extra=stays, check=False)
    assert refused.returncode == VETO and "as it is it bears 27" in refused.stdout
    assert cluster.configuration() == configuration
    script(cluster, number, "premigrate", policy="unmanage", extra=stays, limit=2500)
    assert tokens(cluster) == [USUAL_MS] * 3
    text = cluster.run(number, "crm_mon", "-1").stdout
    assert "(unmanaged)" in next(line for line in text.splitlines() if "* app\t" in line)
    script(cluster, number, "postmigrate", policy="unmanage", extra=stays, limit=2500)
    assert cluster.configuration() == configuration


def test_the_resources_are_watched_while_the_cluster_leaves_them_alone(cluster):
    """By their own monitors, or by a command; what fails is said, and nothing is done about it until the move has ended."""
    number = home(cluster)
    assert "LPM_FACT=watch_s=300\n" in script(cluster, number, "premigrate", policy="manage").stdout, "for the lease alone"
    script(cluster, number, "postmigrate")
    configuration = cluster.configuration()
    begun = script(cluster, number, "premigrate", policy="unmanage")
    assert "LPM_FACT=watch_s=10\n" in begun.stdout
    assert script(cluster, number, "watchmigrate", policy="unmanage").returncode == 0
    cluster.run(number, "rm", "/run/resource-agents/Dummy-app.state")
    seen = script(cluster, number, "watchmigrate", policy="unmanage", check=False)
    assert seen.returncode == VETO and "they fail: app: not running" in seen.stdout, seen.stdout
    assert script(cluster, number, "watchmigrate", policy="unmanage", check=False).stdout == seen.stdout, "one failure, one set of words"
    own = script(cluster, number, "watchmigrate", policy="unmanage", extra="LPM_MONITOR=/bin/cat /proc/self/nothing\n", check=False)
    assert own.returncode == VETO and "DR_ERROR=/bin/cat: exit status 1, /bin/cat: /proc/self/nothing: No such file" in own.stdout, own.stdout
    assert script(cluster, number, "watchmigrate", policy="unmanage", extra="LPM_MONITOR=/bin/true\n").returncode == 0
    assert script(cluster, number, "watchmigrate", move="other", policy="unmanage").returncode == 0, "not the move that was begun"
    script(cluster, number, "postmigrate", policy="unmanage")
    wait_for(lambda: cluster.run(number, "ls", "/run/resource-agents").stdout.count("Dummy-app"), 60, "the cluster to start app again", 0.3)
    settled(cluster)
    assert cluster.configuration() == configuration


@pytest.mark.parametrize("extra,words", [
    ("LPM_POLICY=sometimes\n", "it can be manage or unmanage"),
    ("HEARTBEAT_FREQUENCY_DURING_LPM=5\n", "it is 10 to 600 seconds"),
    ("HEARTBEAT_FREQUENCY_DURING_LPM=10\n", "a blackout of up to 5000 ms needs 11 s"),
    ("LPM_TAKEOVER=maybe\n", "it can be alert or auto"),
    ("LPM_MONITOR=/usr/bin/nothing-here -v\n", "LPM_MONITOR begins with '/usr/bin/nothing-here', which is not a program here"),
    ("HARTBEAT=20\n", "there is no variable 'HARTBEAT'"),
])
def test_a_configuration_that_cannot_work_is_refused(cluster, extra, words):
    refused = script(cluster, home(cluster), "checkmigrate", extra=extra, check=False)
    assert refused.returncode == VETO
    assert words in refused.stdout


def test_a_watchdog_that_stands_still_with_the_partition_is_refused(cluster):
    """A member without sbd does not live with the real option, so this one question is answered for the cluster."""
    number = home(cluster)
    fake = cluster.directory(number) / "fake"
    fake.mkdir()
    (fake / "cibadmin").write_text("""#!/bin/bash
case "$*" in *stonith-watchdog-timeout*) echo '<nvpair name="stonith-watchdog-timeout" value="10s"/>' ;; *) exec /usr/sbin/cibadmin "$@" ;; esac
""")
    (fake / "cibadmin").chmod(0o755)
    refused = cluster.run(number, "env", f"PATH={fake}:/usr/sbin:/usr/bin:/sbin:/bin", "LPM_MIGRATION_ID=m1", SCRIPT, "checkmigrate", "pmig",
                          check=False)
    assert refused.returncode == VETO
    assert "stonith-watchdog-timeout is 10s" in refused.stdout


def take_over(cluster, peer, number, move, patience=90):
    """As lpm-drmgr does when the console says that the member is lost."""
    return cluster.run(peer, "env", f"LPM_MIGRATION_ID={move}", f"LPM_MEMBER=node{number}", f"LPM_PACEMAKER_PATIENCE={patience}", SCRIPT, "takeover",
                       "pmig", check=False, timeout=240)


def test_nobody_takes_over_from_a_member_that_is_there(cluster):
    number = home(cluster)
    peer, third = [n for n in cluster.here if n != number]
    script(cluster, number, "premigrate", policy="unmanage")
    try:
        refused = take_over(cluster, peer, number, "m1", patience=2)
        assert refused.returncode == VETO and f"member node{number} is still in the membership" in refused.stdout, refused.stdout
        assert "it is not lost" in take_over(cluster, peer, peer, "m1").stdout
        assert "node77 is no member of the cluster" in take_over(cluster, peer, 77, "m1").stdout
        assert home(cluster) == number
        text = cluster.run(third, "crm_mon", "-1").stdout
        assert "(unmanaged)" in next(line for line in text.splitlines() if "* app\t" in line), "what is in force stays"
    finally:
        script(cluster, number, "undopremigrate", policy="unmanage")
    cluster.run(peer, "rm", "-f", "/run/lpm/heartbeat.abort")


def test_only_the_move_that_is_in_force_is_let_go(cluster):
    """A word for another migration, or for one that is over, changes nothing; neither does the end of another member's."""
    number = home(cluster)
    peer, third = [n for n in cluster.here if n != number]
    script(cluster, number, "premigrate")
    configuration = cluster.configuration()
    try:
        done = take_over(cluster, peer, third, "m0", patience=5)
        assert done.returncode == 0 and "nothing is in force in this cluster for migration m0" in done.stdout, done.stdout
        assert "for migration m0" in cluster.run(peer, SCRIPT, "abandon", "m0").stdout
        refused = cluster.run(peer, "env", "LPM_PACEMAKER_PATIENCE=1", SCRIPT, "recover", f"node{third}", check=False)
        assert refused.returncode == 1 and f"member node{number} is being moved, not node{third}" in refused.stderr, refused.stderr
        for words in ((f"node{number}",), (f"node{third}", "--force")):
            there = cluster.run(peer, "env", "LPM_PACEMAKER_PATIENCE=1", SCRIPT, "recover", *words, check=False)
            assert there.returncode == 1 and "is still in the membership" in there.stderr, there.stderr
        cluster.run(peer, "env", "LPM_MIGRATION_ID=m0", SCRIPT, "postmigrate", "pmig")
        assert all(token > 20000 for token in tokens(cluster)), "the move that goes on keeps its failure detection"
        assert cluster.configuration() == configuration
    finally:
        script(cluster, number, "undopremigrate")
    assert tokens(cluster) == [USUAL_MS] * 3


def test_what_could_not_be_put_back_is_no_success(cluster):
    """So that lpm-drmgr calls it again."""
    number = home(cluster)
    clean = cluster.configuration()
    script(cluster, number, "premigrate")
    stuck = cluster.directory(number) / "stuck"
    stuck.mkdir()
    (stuck / "cibadmin").write_text("""#!/bin/sh
case " $* " in *" -M "* | *" --delete-all "*) exit 124 ;; esac
exec /usr/sbin/cibadmin "$@"
""")
    (stuck / "cibadmin").chmod(0o755)
    done = script(cluster, number, "postmigrate", check=False, environment=[f"PATH={stuck}:/usr/sbin:/usr/bin:/sbin:/bin", "LPM_PACEMAKER_PATIENCE=2"])
    assert done.returncode == VETO and "run 'lpm-pacemaker restore'" in done.stdout, done.stdout
    assert script(cluster, number, "postmigrate").returncode == 0
    assert cluster.configuration() == clean and tokens(cluster) == [USUAL_MS] * 3


def test_a_cluster_that_does_not_answer_keeps_no_lock(cluster):
    """Putting back goes on where Pacemaker says nothing about its members any more: the next move need not wait for the lease."""
    number = home(cluster)
    script(cluster, number, "premigrate")
    silent = cluster.directory(number) / "silent"
    silent.mkdir(exist_ok=True)
    (silent / "crm_mon").write_text("#!/bin/sh\nexit 1\n")
    (silent / "crm_mon").chmod(0o755)
    done = cluster.run(number, "env", f"PATH={silent}:/usr/sbin:/usr/bin:/sbin:/bin", "LPM_PACEMAKER_PATIENCE=5", "LPM_MIGRATION_ID=m1", SCRIPT, "restore", check=False)
    assert done.returncode == 1 and "DR_ERROR" not in done.stdout, done.stdout
    assert "openlpm-lock" not in cluster.configuration()
    settled(cluster)
    wait_for(lambda: tokens(cluster) == [USUAL_MS] * 3, 30, "the usual failure detection", 0.3)


@pytest.mark.long
@pytest.mark.parametrize("policy", ["manage", "unmanage"])
def test_every_member_that_is_left_is_told_and_the_work_starts_once(cluster, policy):
    """By the console, at the same time; a second word later does no harm."""
    number = home(cluster)
    peers = [n for n in cluster.here if n != number]
    move = f"gone-{policy}"
    script(cluster, number, "premigrate", move=move, policy=policy)
    cluster.power_off(number)
    begun = time.monotonic()
    with ThreadPoolExecutor() as pool:
        for done in pool.map(lambda peer: take_over(cluster, peer, number, move), peers):
            assert done.returncode == 0, done.stdout + done.stderr
    wait_for(lambda: cluster.active_on("app", peers[0]) not in ([], [f"node{number}"]), 60, "the service on another member", 0.3)
    print(f"policy {policy}: service on the standby {time.monotonic() - begun:.1f} s after the loss")
    assert len(cluster.active_on("app", peers[0])) == 1
    assert [cluster.token_ms(n) for n in peers] == [USUAL_MS] * 2
    assert "openlpm-" not in cluster.configuration(peers[0]), "blocks and the lock are gone"
    assert take_over(cluster, peers[0], number, move).returncode == 0
    assert len(cluster.active_on("app", peers[0])) == 1
    cluster.power_on(number)
    cluster.wait_online(120, seen_by=peers[0])
    settled(cluster)
    assert tokens(cluster) == [USUAL_MS] * 3


@pytest.mark.long
@pytest.mark.parametrize("policy", ["manage", "unmanage"])
def test_a_lost_member_s_work_starts_on_another_once(cluster, policy):
    """The partition dies in the middle of the move; whoever made sure of that tells the members that are left."""
    number = home(cluster)
    peers = [n for n in cluster.here if n != number]
    script(cluster, number, "premigrate", move=f"lost-{policy}", policy=policy)
    cluster.power_off(number)
    for peer in peers:
        cluster.run(peer, SCRIPT, "abandon", f"lost-{policy}")
    cluster.run(peers[0], SCRIPT, "recover", f"node{number}")
    wait_for(lambda: cluster.active_on("app", peers[0]) not in ([], [f"node{number}"]), 60, "the service on another member", 0.3)
    assert len(cluster.active_on("app", peers[0])) == 1
    assert [cluster.token_ms(n) for n in peers] == [USUAL_MS] * 2
    cluster.power_on(number)
    cluster.wait_online(120, seen_by=peers[0])
    settled(cluster)
    assert tokens(cluster) == [USUAL_MS] * 3
