# SPDX-License-Identifier: Apache-2.0
"""The systemd units under a real systemd, set up as docs/guide/start.md says: what they take away is away and nobody misses it, and
partitions and their moves outlive whatever systemd does to the daemons."""

import contextlib
import json
import os
import pathlib
import re
import signal
import time

import pytest
import san as storage

from lablib import ROOT, LabError, command, wait_for
from machines import SECOND_POOL, Machines
from test_storage_kinds import moves_with_a_database
from tidy import movers, nothing_left, runs_once
from witness import Witness

pytestmark = pytest.mark.long

# Bits of /proc/PID/status.
CAPABILITIES = {"CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_FOWNER": 3, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_SETPCAP": 8,
                "CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19}
SLOW = 8 << 20  # bytes/s: the copy takes long enough to be looked at
QEMU_NUMBER = "640"
# What a daemon, QEMU or systemd says when something is refused to one of them.
REFUSED = re.compile(r"not permitted|permission denied|read-only file system|SIGSYS|status=31|seccomp|bad system call|audit", re.I)


@pytest.fixture(scope="module")
def lab(free_lab_name):
    """system-a, with the console, and system-b, as the guide leaves them. But a system call that lpm-host's unit refuses does not just
    fail: it kills who makes it, lpm-host, QEMU or mover, so that none goes unseen."""
    lab = Machines(free_lab_name)
    try:
        lab.up(2)
        lab.install()
        lab.set_up_console()
        for place in lab.systems:
            lab.drop_in(place, "lpm-host", "strict.conf", "SystemCallErrorNumber=kill")
            lab.set_up_host(place)
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="module")
def partition(lab):
    return lab.create("system-a", "web", "x86-64", 45)


def status(pid, *names):
    lines = (line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    found = {name: value.split() for name, value in lines}
    return [found[name][0] for name in names]


def namespace(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def group(pid):
    """Its control group, as seen from here."""
    return next(line[3:] for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))


def unit_shell(lab, place, text):
    """What a shell in the mounts of lpm-host gets done: (whether, its complaints)."""
    run = command("nsenter", "--target", lab.main(place, "lpm-host"), "--mount", "--pid", "--wdns=/", "sh", "-c", text, check=False)
    return run.returncode == 0, run.stderr


def emulator(lab, partition):
    return next(iter(lab.emulators(partition.name).values()))[0]


def test_the_units_take_away_what_they_say(lab):
    for place in lab.systems:
        assert lab.on(place, "systemctl", "--failed", "--no-legend").stdout.strip() == ""
        pid = lab.main(place, "lpm-host")
        unit = (ROOT / "packaging/systemd/lpm-host.service.in").read_text()
        names = re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.M).group(1).split()
        wanted = f"{sum(1 << CAPABILITIES[name] for name in names):016x}"
        assert status(pid, "Uid", "CapBnd", "CapEff", "NoNewPrivs", "Seccomp") == ["0", wanted, wanted, "1", "2"]
        assert namespace(pid, "mnt") != namespace(lab.first[place], "mnt")
        for path in ("/etc/x", "/usr/local/bin/x", "/root/x", f"{SECOND_POOL}/x", "/sys/x"):
            done, why = unit_shell(lab, place, f"touch {path}")
            assert not done, path
            assert "Read-only" in why or "Permission" in why, why
        assert unit_shell(lab, place, "touch /srv/openlpm/x /var/lib/openlpm/x /run/openlpm/x && rm /srv/openlpm/x /var/lib/openlpm/x "
                                      "/run/openlpm/x") == (True, "")
        # Its devices: the group lets nobody open another, whatever its capabilities.
        lab.on(place, "sh", "-c", "mknod /dev/other c 10 229")
        opened = "echo $$ >/sys/fs/cgroup/system.slice/lpm-host.service/cgroup.procs; head -c 0 /dev/null && head -c 0 /dev/other"
        assert "Operation not permitted" in lab.on(place, "sh", "-c", opened, check=False).stderr
    pid = lab.main("system-a", "lpm-console")
    number = lab.on("system-a", "id", "-u", "lpm-console").stdout.strip()
    assert number != "0"
    assert status(pid, "Uid", "CapBnd", "CapEff", "NoNewPrivs", "Seccomp") == [number, "0" * 16, "0" * 16, "1", "2"]
    assert namespace(pid, "user") != namespace(lab.first["system-a"], "user")


def test_a_file_system_that_is_mounted_later_is_seen(lab):
    """A pool's file system may come after lpm-host, and the place of a pool may be on one."""
    lab.on("system-b", "sh", "-c", "mkdir /srv/openlpm/later && mount -t tmpfs later /srv/openlpm/later && touch /srv/openlpm/later/seen")
    assert unit_shell(lab, "system-b", "rm /srv/openlpm/later/seen && touch /srv/openlpm/later/written") == (True, "")
    lab.on("system-b", "sh", "-c", "rm /srv/openlpm/later/written && umount /srv/openlpm/later && rmdir /srv/openlpm/later")


def test_a_pool_elsewhere_is_opened_by_the_drop_in(lab):
    profile = lab.profile("elsewhere", "x86-64", 46, disks=[{"name": "disk0", "pool": "own", "file": "deep/disk.raw", "format": "raw",
                                                             "size_mib": 16}])
    lab.inside("system-a", "/root/elsewhere.json").write_text(json.dumps(profile))
    words = ("partition", "create", "system-a", "--file", "/root/elsewhere.json")
    refused = lab.lpm(*words, check=False)
    assert refused.returncode != 0 and "pools.conf.example" in refused.stderr, refused.stderr
    lab.open_pool("system-a")
    lab.lpm(*words)
    assert (lab.inside("system-a", SECOND_POOL) / "deep/disk.raw").stat().st_size == 16 << 20
    lab.lpm("partition", "start", "elsewhere")  # QEMU's user gets through to what lpm-host made
    lab.lpm("partition", "stop", "elsewhere", "--hard")
    lab.lpm("partition", "delete", "elsewhere", "--disks")


def test_a_partition_moves_there_and_back(lab, partition):
    lab.lpm("validate", partition.name, "system-b")
    witness = Witness(lab, partition)
    try:
        lab.lpm("migrate", partition.name, "system-b", "--verify")
        runs_once(lab, partition, "system-b")
        qemu = emulator(lab, partition)
        assert status(qemu, "Uid", "CapEff", "NoNewPrivs", "Seccomp") == [QEMU_NUMBER, "0" * 16, "1", "2"]
        assert group(qemu).endswith("/system.slice/lpm-host.service")

        migration = lab.migrate(partition.name, "system-a", wait=False, max_rate=SLOW)
        lab.wait_for_migration(migration, until=lambda s: s["phase"] == "copy" or s["finished"])
        for place in lab.systems:
            [mover] = movers(lab, place)
            assert status(mover, "CapBnd", "CapEff", "NoNewPrivs", "Seccomp") == ["0" * 16, "0" * 16, "1", "2"]
            own, daemon = status(mover, "Seccomp_filters"), status(lab.main(place, "lpm-host"), "Seccomp_filters")
            assert int(own[0]) > int(daemon[0]), "the mover's own filter is on top of the unit's"
            assert group(mover).endswith("/system.slice/lpm-host.service")
        lab.lpm("migration", "set", migration, "--max-rate", "none")
        assert lab.wait_for_migration(migration)["state"] == "completed"
        nothing_left(lab, partition, "system-a")
        witness.judge()
    finally:
        witness.end()
    assert {lab.show(place, "lpm-host", "NRestarts")["NRestarts"] for place in lab.systems} == {"0"}


def test_post_copy_with_the_device_that_the_guide_opens(lab, partition):
    for place in lab.systems:
        lab.on(place, "sh", "-c", "chgrp lpm-qemu /dev/userfaultfd && chmod 660 /dev/userfaultfd")
    boot = lab.wait_for_partition(partition.address)["boot_id"]
    there = next(place for place in lab.systems if place != lab.where(partition.name))
    moved = lab.migrate(partition.name, there, verify=False, postcopy=True)
    assert moved["state"] == "completed", (moved["error"], moved["findings"])
    nothing_left(lab, partition, there)
    assert lab.wait_for_partition(partition.address)["boot_id"] == boot


def test_the_partition_outlives_restart_stop_and_kill(lab, partition):
    place = lab.where(partition.name)
    witness, qemu = Witness(lab, partition), emulator(lab, partition)
    try:
        before = lab.main(place, "lpm-host")
        lab.on(place, "systemctl", "restart", "lpm-host")
        lab.wait_for_system(place)
        assert lab.main(place, "lpm-host") not in (0, before)
        assert lab.emulators(partition.name) == {place: [qemu]} and witness.still_running()

        lab.on(place, "systemctl", "stop", "lpm-host")
        assert lab.show(place, "lpm-host", "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
        assert lab.emulators(partition.name) == {place: [qemu]} and witness.still_running()
        lab.on(place, "systemctl", "start", "lpm-host")
        lab.wait_for_system(place)

        killed, count = lab.main(place, "lpm-host"), int(lab.show(place, "lpm-host", "NRestarts")["NRestarts"])
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: lab.show(place, "lpm-host", "NRestarts", "ActiveState") == {"NRestarts": str(count + 1), "ActiveState": "active"},
                 60, "lpm-host, again")
        lab.wait_for_system(place)
        assert lab.main(place, "lpm-host") not in (0, killed)
        assert lab.emulators(partition.name) == {place: [qemu]} and witness.still_running()
        assert lab.rest("GET", f"/v1/partitions/{partition.name}")["state"] == "running"
        witness.judge()
    finally:
        witness.end()


@pytest.mark.parametrize("what", ["source", "target", "console"])
def test_a_daemon_restarted_in_mid_move(lab, partition, what):
    """A move goes on without its console; a restart of lpm-host may end it, with the partition where it was. Then it moves."""
    source = lab.where(partition.name)
    target = next(place for place in lab.systems if place != source)
    place, unit = {"source": (source, "lpm-host"), "target": (target, "lpm-host"), "console": ("system-a", "lpm-console")}[what]
    witness = Witness(lab, partition)
    try:
        migration = lab.migrate(partition.name, target, wait=False, max_rate=SLOW)
        lab.wait_for_migration(migration, until=lambda s: s["phase"] == "copy" or s["finished"])
        lab.on(place, "systemctl", "restart", unit)
        wait_for(lambda: answers(lab), 30, "the console")
        for system in lab.systems:
            lab.wait_for_system(system)
        if not lab.rest("GET", f"/v1/migrations/{migration}")["finished"]:
            lab.lpm("migration", "set", migration, "--max-rate", "none", check=False)  # it may end just now
        ended = lab.wait_for_migration(migration)
        assert what != "console" or ended["state"] == "completed", ended["error"]
        where = target if ended["state"] == "completed" else source
        nothing_left(lab, partition, where)
        if where == source:
            assert lab.migrate(partition.name, target)["state"] == "completed"
            nothing_left(lab, partition, target)
        witness.judge()
    finally:
        witness.end()


def answers(lab):
    with contextlib.suppress(OSError, ValueError, LabError):
        return lab.rest("GET", "/v1/health")


@pytest.fixture(scope="module")
def san(lab):
    made = storage.San(lab)
    made.configure()
    return made


@pytest.mark.parametrize("kind, adapter", [("iscsi-chap", "scsi"), ("nbd-tls", "virtio")])
def test_network_disks_with_secrets(lab, san, kind, adapter):
    moves_with_a_database(lab, san, kind, "x86-64", adapter, 2, 182)


def test_the_console_has_its_certificate_renewed(lab):
    """Root does it, and lpm-console's user reads what came of it."""
    place = lab.console_place
    before = lab.inside(place, "/var/lib/openlpm/console/cert.pem").read_text()
    lab.on(place, "lpm-console", "renew")
    lab.on(place, "systemctl", "restart", "lpm-console")
    for system in lab.systems:
        lab.wait_for_system(system)
    assert lab.inside(place, "/var/lib/openlpm/console/cert.pem").read_text() != before
    assert {line.split()[1] for line in lab.lpm("system", "list").stdout.splitlines()[1:]} == {"connected"}


SCRIPT = """#!/bin/sh
case $1 in scriptinfo) printf 'DR_VERSION=1\\nDR_DATE=01012026\\nDR_SCRIPTINFO=noter\\nDR_VENDOR=lab\\n' ;; register) echo DR_RESOURCE=pmig ;;
*) echo "$1" >>/var/tmp/calls ;; esac
"""


def test_scripts_that_a_crash_has_cut_are_settled_at_boot(lab):
    """lpm-drmgr-settle.service: a partition's unit, on a machine that plays one."""
    place, ran = "system-b", "ConditionResult"
    lab.inside(place, "/root/noter").write_text(SCRIPT)
    lab.on(place, "chmod", "755", "/root/noter")
    lab.on(place, "lpm-drmgr", "-i", "/root/noter")
    lab.on(place, "systemctl", "enable", "--now", "lpm-drmgr-settle")
    assert lab.show(place, "lpm-drmgr-settle", ran) == {ran: "no"}, "there is nothing to settle"
    lab.on(place, "lpm-drmgr", "--phase", "pre", "--id", "cut", "LPM_PARTITION=web")
    move = lab.inside(place, "/var/lib/lpm-drmgr/moves/cut")
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert boot in move.read_text()
    move.write_text(move.read_text().replace(boot, "an-earlier-one"))
    lab.on(place, "systemctl", "start", "lpm-drmgr-settle")
    assert lab.show(place, "lpm-drmgr-settle", ran, "Result") == {ran: "yes", "Result": "success"}
    assert lab.inside(place, "/var/tmp/calls").read_text().split() == ["premigrate", "undopremigrate"]


def test_nothing_was_refused_to_anybody(lab):
    """Last: what the journals have of all of the above. What a case had refused on purpose is not lpm-host's own doing."""
    ends = []
    for place in lab.systems:
        lines = lab.journal(place, "--unit=lpm-host", "--unit=lpm-console").splitlines()
        said = [line for line in lines if REFUSED.search(line) and "elsewhere" not in line]
        assert said == []
        moved = [line for line in lines if "move completed" in line]
        assert moved and all(re.search(r"\[migration=\w+, partition=(web|db-.*)\]$", line) for line in moved), "the journal says what its lines are about"
        ends += [line for line in lines if "Main process exited" in line]
    assert len(ends) == 1 and "status=9/KILL" in ends[0], ends


def test_a_daemon_that_hangs_is_ended_and_started_again(lab, partition):
    """With a shorter watchdog than the units': one that works is left alone, one that does not move is not."""
    units = [(lab.console_place, "lpm-console"), *((place, "lpm-host") for place in lab.systems)]
    for place, unit in units:
        lab.drop_in(place, unit, "watchdog.conf", "WatchdogSec=6", "TimeoutAbortSec=1")
        lab.on(place, "systemctl", "restart", unit)
    began, qemu = time.monotonic(), lab.emulators(partition.name)
    pids = {unit: lab.main(*unit) for unit in units}
    wait_for(lambda: time.monotonic() > began + 13, 20, "two periods of the watchdog")
    assert {unit: lab.main(*unit) for unit in units} == pids
    for pid in pids.values():
        os.kill(pid, signal.SIGSTOP)
    for unit, pid in pids.items():
        wait_for(lambda unit=unit, pid=pid: lab.main(*unit) not in (0, pid), 60, f"{unit}, again", 0.2)
    wait_for(lambda: answers(lab), 30, "the console")
    for place in lab.systems:
        lab.wait_for_system(place)
        assert "Watchdog timeout" in lab.journal(place, "--unit=lpm-host")
    assert lab.emulators(partition.name) == qemu
    lab.wait_for_partition(partition.address)
