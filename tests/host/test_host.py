# SPDX-License-Identifier: Apache-2.0
"""A real lpm-host with its local socket only, and real QEMUs of tiny x86 partitions: no network, no console.

The partitions have an empty disk: their firmware runs, finds nothing to boot, and stays there.
"""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("LPM_BUILD", ROOT / "build"))
PROGRAM = BUILD / "src" / "host" / "lpm-host"
SECONDS = 20

pytestmark = pytest.mark.timeout(120)


class Refused(Exception):
    def __init__(self, error):
        super().__init__(error["desc"])
        self.kind = error["class"]


def wait_for(condition, what, seconds=SECONDS):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds} s")


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


class Host:
    def __init__(self, base):
        self.base = base
        self.process = None
        self.config = base / "host.conf"
        self.groups = {
            "system": {"name": "system-t", "state_dir": base / "state", "run_dir": base / "run"},
            "rpc": {"address": "127.0.0.1", "port": 0},
            "power": {"supply": base / "supply"},
            "qemu": {"accelerator": "tcg"},  # trying KVM takes its time; test_accelerator_is_tried does
            "limits": {"agent_timeout_ms": 200},  # nobody answers here
            "storage:disks": {"path": base / "disks", "shared": "true"},
        }
        (base / "disks").mkdir(mode=0o755)
        self.write_config()

    def write_config(self):
        self.config.write_text("".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items())
                                       for group, keys in self.groups.items()))

    def start(self, **environment):
        self.log = open(self.base / "log", "a")
        self.process = subprocess.Popen([PROGRAM, "--config", self.config], stderr=self.log, stdout=self.log,
                                        env={**os.environ, "LPM_DATA_DIR": str(ROOT / "data"), **environment})

        def answers():
            assert self.process.poll() is None, (self.base / "log").read_text()
            try:
                return self.call("system-info")
            except OSError:
                return None
        return wait_for(answers, "lpm-host answers")

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(SECONDS)

    def call(self, verb, **arguments):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self.base / "run" / "host.sock"))
            connection.sendall(json.dumps({"execute": verb, "arguments": arguments, "id": 7}).encode() + b"\n")
            for line in connection.makefile("rb"):
                message = json.loads(line)
                if message.get("id") == 7:
                    if "error" in message:
                        raise Refused(message["error"])
                    return message["return"]
        raise OSError("closed")

    def create(self, name="p1", **changes):
        profile = {"name": name, "family": "x86-64", "memory_mib": 64, "memory_backing": "shared",
                   "disks": [{"name": "disk0", "pool": "disks", "file": f"{name}.qcow2", "format": "qcow2",
                              "size_mib": 16}], **changes}
        return self.call("partition-create", profile=profile)["profile"]

    def state(self, name="p1"):
        return self.call("partition-show", partition=name)["state"]

    def pid(self, name="p1"):
        return self.call("partition-show", partition=name)["pid"]

    def clean(self):
        if self.process and self.process.poll() is not None:
            self.start()
        if self.process:
            for row in self.call("partition-list")["partitions"]:
                if self.pid(row["name"]):
                    self.call("partition-stop", partition=row["name"], how="hard")
            self.end()
            self.log.close()


@pytest.fixture
def host():
    base = Path(tempfile.mkdtemp(prefix="lpm-host-", dir="/tmp"))
    base.chmod(0o755)  # QEMU's user must reach its disks
    made = Host(base)
    try:
        made.start()
        yield made
    finally:
        try:
            made.clean()
        finally:
            shutil.rmtree(base, ignore_errors=True)


def test_life_of_a_partition(host):
    profile = host.create()
    assert len(profile["uuid"]) == 36
    assert (host.base / "disks" / "p1.qcow2").exists()
    assert host.state() == "not-activated"

    assert host.call("partition-start", partition="p1") == {"state": "running"}
    shown = host.call("partition-show", partition="p1")
    pid = shown["pid"]
    assert is_alive(pid)
    assert shown["current_mode"].startswith("x86-64-v")
    assert shown["profile"]["machine"].startswith("pc-q35-"), "the machine type is pinned at the first start"
    assert shown["runtime"]["machine"] == shown["profile"]["machine"]
    assert "virtio-blk-pci" in shown["runtime"]["devices"]
    status = Path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    if os.geteuid() == 0:
        assert "Uid:\t0" not in status, "QEMU must not run as root"
    assert os.getsid(pid) != os.getsid(host.process.pid)

    with pytest.raises(Refused, match="p1.*QEMU already"):
        host.call("partition-start", partition="p1")
    with pytest.raises(Refused, match="stop it first"):
        host.call("partition-delete", partition="p1")

    assert host.call("partition-restart", partition="p1", how="hard") == {"state": "running"}
    assert not is_alive(pid) and is_alive(host.pid())
    pid = host.pid()
    assert host.call("partition-stop", partition="p1", how="hard") == {"state": "not-activated"}
    assert not is_alive(pid)
    with pytest.raises(Refused, match="not activated"):
        host.call("partition-stop", partition="p1", how="hard")

    host.call("partition-delete", partition="p1", disks=True)
    assert not (host.base / "disks" / "p1.qcow2").exists()
    assert host.call("partition-list") == {"partitions": []}


def test_partition_outlives_lpm_host(host):
    host.create()
    host.call("partition-start", partition="p1")
    pid = host.pid()

    host.end(signal.SIGKILL)
    assert is_alive(pid)
    host.start()
    assert (host.state(), host.pid()) == ("running", pid)

    assert host.end(signal.SIGTERM) == 0
    assert is_alive(pid)
    host.start()
    assert (host.state(), host.pid()) == ("running", pid)
    assert host.call("partition-stop", partition="p1", how="hard") == {"state": "not-activated"}
    assert not is_alive(pid)


def test_death_of_qemu_is_noticed(host):
    host.create()
    host.call("partition-start", partition="p1")
    os.kill(host.pid(), signal.SIGKILL)
    wait_for(lambda: host.state() == "error", "death noticed")
    assert "QEMU ended unasked" in host.call("partition-show", partition="p1")["reason"]
    assert host.call("partition-start", partition="p1") == {"state": "running"}


def test_death_of_qemu_while_lpm_host_is_away(host):
    host.create()
    host.call("partition-start", partition="p1")
    pid = host.pid()
    host.end(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(pid), "QEMU's end")
    host.start()
    shown = host.call("partition-show", partition="p1")
    assert (shown["state"], shown["pid"]) == ("error", None)
    assert "while lpm-host was not there" in shown["reason"]


def test_qemu_that_does_not_answer_is_found_again(host):
    host.create()
    host.call("partition-start", partition="p1")
    pid = host.pid()
    host.end(signal.SIGKILL)
    os.kill(pid, signal.SIGSTOP)
    try:
        host.start()
        shown = host.call("partition-show", partition="p1")
        assert (shown["state"], shown["pid"]) == ("error", pid)
        assert "does not answer" in shown["reason"]
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: host.state() == "running", "adopted after all")
    assert host.pid() == pid


@pytest.mark.parametrize("point, survives", [
    ("activate-spawn-before", False), ("activate-spawn-after", False), ("activate-release-before", False),
    ("activate-release-after", False), ("activate-cont-before", False), ("activate-cont-after", True)])
def test_lpm_host_dies_while_it_starts_a_partition(host, point, survives):
    """Whatever was begun is found again: it runs if it ran, else nothing is left, and it can be started."""
    if b"LPM_CRASH" not in PROGRAM.read_bytes():
        pytest.skip("lpm-host was built without crash points")
    uuid = host.create()["uuid"]
    host.end()
    host.start(LPM_CRASH=point)
    with pytest.raises(OSError):
        host.call("partition-start", partition="p1")
    assert host.process.wait(SECONDS) == -signal.SIGKILL
    host.start()
    if survives:
        wait_for(lambda: host.state() == "running", "adopted")
    else:
        wait_for(lambda: host.state() in ("not-activated", "error"), "nothing runs")
        assert "start" in host.call("partition-show", partition="p1")["reason"] or point.startswith("activate-release")
        wait_for(lambda: not qemus_of(uuid), "no QEMU is left")
        host.call("partition-start", partition="p1")
    assert len(qemus_of(uuid)) == 1


def test_scripts_that_nobody_can_be_told_the_end_are_left_and_that_is_said(host):
    """post was due when its QEMU ended: the console learns from "left" that a member of a cluster may be lost."""
    uuid = host.create()["uuid"]
    host.end()
    migration = "5a" * 16
    due = {"migration": migration, "partition": "p1", "uuid": uuid, "todo": "post", "begun_us": 1, "phases": []}
    database = host.base / "state" / "host.db"
    with contextlib.closing(sqlite3.connect(database)) as store, store:
        store.execute("INSERT INTO document VALUES ('scripts', ?, 1, ?)", (migration, json.dumps(due)))
    host.start()
    wait_for(lambda: "post is left to its next boot" in (host.base / "log").read_text(), "post is over")
    host.end()
    with contextlib.closing(sqlite3.connect(database)) as store:
        kept = json.loads(store.execute("SELECT value FROM document WHERE kind = 'scripts'").fetchone()[0])
    assert kept == {**due, "todo": "", "left": True}


def qemus_of(uuid):
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and uuid.encode() in (entry / "cmdline").read_bytes() and is_alive(entry.name):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_orderly_stop_that_is_not_obeyed_kills_nothing(host):
    host.create()
    host.call("partition-start", partition="p1")
    pid = host.pid()
    with pytest.raises(Refused, match="did not shut down within 300 ms") as refused:
        host.call("partition-stop", partition="p1", how="orderly", timeout_ms=300)
    assert refused.value.kind == "timeout"
    assert is_alive(pid)
    wait_for(lambda: host.state() == "running", "running again")


@pytest.mark.parametrize("verb", ["partition-stop", "partition-restart"])
def test_hard_stop_does_not_wait_for_an_orderly_one(host, verb):
    """What fences a partition must not fail because somebody asked it to shut down, and what is off then stays off."""
    uuid = host.create()["uuid"]
    host.call("partition-start", partition="p1")
    refused = []

    def orderly():
        with pytest.raises(Refused) as found:
            host.call(verb, partition="p1", how="orderly", timeout_ms=50_000)
        refused.append(found.value)
    asking = threading.Thread(target=orderly)
    asking.start()
    wait_for(lambda: host.state() == "stopping", "asked to shut down")
    assert host.call("partition-stop", partition="p1", how="hard")["state"] == "not-activated"
    assert not qemus_of(uuid)
    asking.join(SECONDS)
    assert refused and refused[0].kind == "aborted" and "a hard stop was asked for" in str(refused[0])
    shown = host.call("partition-show", partition="p1")
    assert (shown["state"], shown["reason"]) == ("not-activated", None) and not qemus_of(uuid)
    host.call("partition-start", partition="p1")  # nothing is left of either
    assert host.state() == "running"


def test_failed_start_says_why_and_leaves_nothing(host):
    host.create()
    (host.base / "disks" / "p1.qcow2").write_bytes(b"this is no image" * 100)
    with pytest.raises(Refused, match="qcow2"):
        host.call("partition-start", partition="p1")
    shown = host.call("partition-show", partition="p1")
    assert (shown["state"], shown["pid"], shown["runtime"]) == ("not-activated", None, None)
    (host.base / "disks" / "p1.qcow2").unlink()
    with pytest.raises(Refused, match="p1.qcow2 cannot be opened: No such file"):
        host.call("partition-start", partition="p1")


@pytest.mark.parametrize("changes, words, kind", [
    ({"disks": [{"name": "d", "pool": "nowhere", "file": "a", "format": "raw", "size_mib": 1}]},
     "storage pool nowhere is not defined on system-t", "not-found"),
    ({"disks": [{"name": "d", "pool": "disks", "file": "not-there", "format": "raw"}]}, "not-there does not exist", "storage"),
    ({"preferred_mode": "POWER9"}, "preferred_mode POWER9 is not a mode of family x86-64", "usage"),
    ({"boot": {"kernel": {"pool": "disks", "file": "vmlinuz"}}}, "vmlinuz does not exist", "storage"),
    ({"colour": "red"}, "colour", "usage"),
])
def test_wrong_profiles_are_refused_whole(host, changes, words, kind):
    with pytest.raises(Refused, match=words) as refused:
        host.create(**changes)
    assert refused.value.kind == kind
    assert host.call("partition-list") == {"partitions": []}


def test_names_are_unique_and_unknown_ones_named(host):
    host.create()
    with pytest.raises(Refused, match="has a partition p1 already"):
        host.create()
    with pytest.raises(Refused, match="there is no partition p9 on system-t"):
        host.call("partition-show", partition="p9")


def test_changes(host):
    host.create()
    for changes, words in (({"family": "power"}, "family cannot be changed"), ({"interrupt_mode": "xics"}, "allowed only for family")):
        with pytest.raises(Refused, match=words):
            host.call("partition-change", partition="p1", changes=changes)
    host.call("partition-change", partition="p1", changes={"preferred_mode": "x86-64-v1", "name": "p2"})
    assert host.call("partition-start", partition="p2") == {"state": "running"}
    assert host.call("partition-show", partition="p2")["current_mode"] == "x86-64-v1"

    answer = host.call("partition-change", partition="p2", changes={"preferred_mode": "default"})
    assert answer["pending_restart"] is True
    shown = host.call("partition-show", partition="p2")
    assert shown["current_mode"] == "x86-64-v1" and shown["pending_mode"] > "x86-64-v1"
    for member, value in (("name", "p3"), ("interrupt_mode", "xics")):
        with pytest.raises(Refused, match=f"{member} cannot be changed while it is activated"):
            host.call("partition-change", partition="p2", changes={member: value})
    host.create("power", family="power", memory_mib=256, interrupt_mode="dual")
    host.call("partition-change", partition="power", changes={"interrupt_mode": "xics"})  # as processor.interrupts says
    assert host.call("partition-show", partition="power")["profile"]["interrupt_mode"] == "xics"
    host.call("partition-restart", partition="p2", how="hard")
    assert host.call("partition-show", partition="p2")["current_mode"] == shown["pending_mode"]


def test_mac_addresses_are_unique_and_running_ones_kept(host):
    lan = {"name": "net0", "switch": "lan", "mac": "52:54:00:00:00:01"}
    host.create(networks=[lan])
    host.create("p2")
    with pytest.raises(Refused, match="p2: MAC address 52:54:00:00:00:01 belongs to partition p1 already") as refused:
        host.call("partition-change", partition="p2", changes={"networks": [lan]})
    assert refused.value.kind == "exists"
    host.call("partition-change", partition="p1", changes={"networks": [{**lan, "switch": "dmz"}]})  # its own is no other's
    host.call("partition-start", partition="p2")
    pid = host.pid("p2")
    host.end()
    with contextlib.closing(sqlite3.connect(host.base / "state" / "host.db")) as database, database:
        for key, text in database.execute("SELECT key, value FROM document WHERE kind = 'profile'").fetchall():
            database.execute("UPDATE document SET value = ? WHERE kind = 'profile' AND key = ?",
                             (json.dumps({**json.loads(text), "networks": [lan]}), key))
    host.start()  # with two of one address, as an earlier release let happen
    assert host.pid("p2") == pid and host.state("p2") == "running" and host.state("p1") == "not-activated"
    host.call("partition-change", partition="p2", changes={"networks": []})


def test_guest_reboot_becomes_a_restart_when_the_mode_changed(host):
    host.create(preferred_mode="x86-64-v1")
    host.call("partition-start", partition="p1")
    pid = host.pid()

    def reset():
        run = host.base / "run" / "partitions" / host.call("partition-show", partition="p1")["profile"]["uuid"]
        with socket.socket(socket.AF_UNIX) as qmp:  # the second monitor: the first is lpm-host's
            qmp.connect(str(run / "qmp2.sock"))
            for command in ("qmp_capabilities", "system_reset"):
                qmp.sendall(json.dumps({"execute": command}).encode() + b"\n")
            time.sleep(0.3)
    reset()
    assert host.pid() == pid, "nothing to evaluate anew: QEMU itself resets"
    host.call("partition-change", partition="p1", changes={"preferred_mode": "default"})
    pending = host.call("partition-show", partition="p1")["pending_mode"]
    assert pending != "x86-64-v1" and host.call("partition-show", partition="p1")["current_mode"] == "x86-64-v1"
    reset()
    wait_for(lambda: host.call("partition-show", partition="p1")["current_mode"] == pending, "new mode")
    assert host.pid() != pid and not is_alive(pid) and host.state() == "running"


def test_accelerator_is_tried(host):
    """Left to itself lpm-host says kvm only after a partition ran with it; either way partitions run here."""
    host.end(signal.SIGKILL)
    host.groups["qemu"] = {"accelerator": "auto"}
    host.write_config()
    host.start()
    host.create()
    assert host.call("partition-start", partition="p1") == {"state": "running"}
    assert host.call("system-info")["emulators"]["x86-64"]["accel"] in ("tcg", "kvm")


def test_facts_and_target_check(host):
    host.create()
    host.call("partition-start", partition="p1")
    info = host.call("system-info")
    assert info["state"] == "operating" and info["power"] == {"state": "mains", "reason": ""}
    assert abs(info["clock_us"] / 1e6 - time.time()) < 5
    assert info["emulators"]["x86-64"]["accel"] == "tcg" and "x86-64-v1" in info["emulators"]["x86-64"]["modes"]
    assert info["processors"]["total"] - info["processors"]["free"] == 1

    nonces = host.call("nonce-put", partition="p1")["nonces"]
    facts = host.call("partition-facts", partition="p1")
    disk = facts["disks"][0]
    assert disk["nonce"] == nonces[0]["nonce"] and len(disk["nonce"]) == 32
    assert (disk["size_bytes"], disk["format"], disk["locked_by"]) == (16 << 20, "qcow2", "")
    assert facts["agent"] == "silent" and facts["consoles_open"] == 0
    assert facts["current_mode"] in info["emulators"]["x86-64"]["modes"]

    checked = host.call("target-check", profile=facts["profile"], runtime=facts["runtime"], nonces=nonces)
    assert checked["uuid_used_by"] == "p1" and checked["name_used_by"] == ""
    assert checked["machine_known"] is True and checked["unknown_devices"] == []
    seen = checked["disks"][0]
    assert seen["visible"] and seen["nonce"] == nonces[0]["nonce"] and seen["size_bytes"] == 16 << 20
    assert seen["locked_by"] == "", "the source's own QEMU does not count"

    host.call("nonce-drop", partition="p1")
    assert list((host.base / "disks" / ".lpm").glob("nonce-*")) == []
    runtime = dict(facts["runtime"], machine="pc-q35-99.0", devices=["virtio-blk-pci", "imagined-device"])
    checked = host.call("target-check", profile=facts["profile"], runtime=runtime, nonces=nonces)
    assert checked["machine_known"] is False and checked["unknown_devices"] == ["imagined-device"]
    assert checked["disks"][0]["nonce"] == ""


def test_facts_are_of_what_runs(host):
    """A profile that was changed for the next start says nothing about what a target is built from."""
    host.create()
    host.call("partition-start", partition="p1")
    other = {"name": "disk0", "pool": "disks", "file": "other.qcow2", "format": "qcow2", "cache": "writeback"}
    lan = {"name": "net0", "switch": "lan"}
    host.call("partition-change", partition="p1", changes={"disks": [other], "networks": [lan], "memory_mib": 32})
    shown = host.call("partition-show", partition="p1")["profile"]
    assert (shown["disks"][0]["file"], shown["memory_mib"]) == ("other.qcow2", 32), "what it will have"

    nonces = host.call("nonce-put", partition="p1")["nonces"]
    facts = host.call("partition-facts", partition="p1")
    assert facts["profile"] == shown and facts["networks"] == []
    assert facts["disks"][0]["path"].endswith("/p1.qcow2") and facts["disks"][0]["cache"] == "none"
    assert facts["disks"][0]["nonce"] == nonces[0]["nonce"]
    checked = host.call("target-check", profile=facts["profile"], runtime=facts["runtime"], nonces=nonces)
    assert checked["disks"][0]["path"].endswith("/p1.qcow2") and checked["disks"][0]["visible"] and checked["switches"] == []

    host.call("partition-stop", partition="p1", how="hard")
    facts = host.call("partition-facts", partition="p1")
    assert facts["disks"][0]["path"].endswith("/other.qcow2") and len(facts["networks"]) == 1
    checked = host.call("target-check", profile=facts["profile"], nonces=[])
    assert not checked["disks"][0]["visible"] and len(checked["switches"]) == 1


def test_somebody_else_holds_the_disk(host):
    host.create()
    with open(host.base / "disks" / "p1.qcow2", "rb"):
        facts = host.call("partition-facts", partition="p1")
    assert f"process {os.getpid()}" in facts["disks"][0]["locked_by"]


def test_nonces_that_a_dead_system_left_are_swept(host):
    host.create()
    beside = host.base / "disks" / ".lpm"
    beside.mkdir(exist_ok=True)
    left, fresh, other = (beside / name for name in ("nonce-" + "0" * 32, "nonce-" + "1" * 32, "record"))
    for path in (left, fresh, other):
        path.write_text("x")
    for path in (left, other):
        os.utime(path, (1, 1))
    host.call("nonce-put", partition="p1")
    assert not left.exists() and fresh.exists() and other.exists()


def test_nonces_never_read_other_files(host):
    profile = host.create()
    (host.base / "disks" / "secret").write_text("abcdef")
    nonces = [{"disk": "disk0", "pool": "disks", "file": name, "nonce": "x"} for name in ("secret", "../log", "nonce-/../secret")]
    for nonce in nonces:
        checked = host.call("target-check", profile=profile, nonces=[nonce])
        assert checked["disks"][0]["nonce"] == ""


def test_battery_and_maintenance(host):
    battery = host.base / "supply" / "BAT0"
    battery.mkdir(parents=True)
    (battery / "type").write_text("Battery\n")
    (battery / "status").write_text("Discharging\n")
    host.call("system-set", maintenance=True)
    info = host.call("system-info")
    assert (info["power"]["state"], info["state"]) == ("battery", "maintenance")
    host.end(signal.SIGKILL)
    assert host.start()["state"] == "maintenance"


def test_limits(host):
    host.groups["limits"].update(memory_mib=100, processors=3)
    host.write_config()
    host.end()
    host.start()
    host.create("p1")
    host.create("p2", processors=3)
    host.create("p3")
    assert host.call("partition-start", partition="p1") == {"state": "running"}
    with pytest.raises(Refused, match="p2 cannot be activated on system-t: it needs 64 MiB of memory, and system-t has 36 MiB"):
        host.call("partition-start", partition="p2")
    host.call("partition-change", partition="p2", changes={"memory_mib": 32})
    with pytest.raises(Refused, match="it needs 3 processors, and system-t has 2 to give"):
        host.call("partition-start", partition="p2")
    assert host.state("p2") == "not-activated"


def test_one_lpm_host_a_state_directory(host):
    second = subprocess.run([PROGRAM, "--config", host.config], capture_output=True, text=True, timeout=SECONDS,
                            env={**os.environ, "LPM_DATA_DIR": str(ROOT / "data")})
    assert second.returncode != 0 and "another lpm-host works in" in second.stderr


def test_the_store_of_images(host):
    store = host.call("store-list")
    assert (store["on"], store["images"], store["used_bytes"]) == (True, [], 0)
    assert store["directory"] == str(host.base / "state" / "store") and store["budget_bytes"] * 10 <= store["disk_bytes"]
    assert (host.base / "state" / "store").stat().st_mode & 0o777 == 0o700
    for verb in ("store-show", "store-drop"):
        with pytest.raises(Refused, match="system-t keeps no image of partition p9") as refused:
            host.call(verb, partition="p9")
        assert refused.value.kind == "not-found"
    assert host.call("store-drop", all=True) == {"dropped": 0}
    with pytest.raises(Refused, match="one of the two"):
        host.call("store-drop")
    host.end()
    host.groups["store"] = {"use": "off"}
    host.write_config()
    host.start()
    assert "[store] use" in host.call("store-list")["reason"]


def test_command_line(host):
    def run(*argv):
        return subprocess.run([PROGRAM, *argv], capture_output=True, text=True, timeout=SECONDS)
    assert run("--version").stdout.startswith("lpm-host ")
    assert "partition-create (" in run("--print-verbs").stdout
    assert json.loads(run("--config", host.config, "call", "partition-list").stdout) == {"partitions": []}
    failed = run("--config", host.config, "call", "partition-show", '{"partition": "p9"}')
    assert failed.returncode == 3 and "p9" in failed.stderr
    host.config.write_text("[system]\nnmae = x\n")
    failed = run("--config", host.config)
    assert failed.returncode != 0 and "[system] nmae" in failed.stderr
    failed = run("join", "--console", "192.0.2.1:1", "--token", "LPM1-SHORT")
    assert failed.returncode != 0 and "no join token" in failed.stderr


@pytest.fixture
def console(host):
    """A real lpm-console on loopback, with a system invited; gives the token."""
    base = host.base / "console"
    base.mkdir()
    ports = free_ports(3)
    (base / "console.conf").write_text(
        f"[console]\nstate_dir={base}/state\nname=console\naddresses=127.0.0.1\nlisten=127.0.0.1\n"
        f"https_port={ports[0]}\nrpc_port={ports[1]}\n")
    program = [BUILD / "src" / "console" / "lpm-console", "--config", base / "console.conf"]
    environment = {**os.environ, "LPM_DATA_DIR": str(ROOT / "data")}
    subprocess.run([*program, "init"], check=True, capture_output=True, timeout=SECONDS, env=environment)
    host.groups["rpc"]["port"] = ports[2]
    host.write_config()
    with open(base / "log", "w") as log:
        daemon = subprocess.Popen(program, stderr=log, stdout=log, env=environment)
    settings = dict(line.split("=", 1) for line in (base / "state" / "admin.conf").read_text().splitlines() if "=" in line)

    def rest(method, path, body=None):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", ports[0], timeout=SECONDS, context=ssl.create_default_context(cafile=settings["ca"]))
        connection.request(method, path, json.dumps(body) if body else None,
                           {"Authorization": f"Bearer {settings['token']}", "Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())

    def invitation():
        try:
            return rest("POST", "/v1/systems", {"name": "system-t"})["token"]
        except OSError:
            return None
    token = wait_for(invitation, "console answers")
    yield f"127.0.0.1:{ports[1]}", token, lambda: rest("GET", "/v1/systems/system-t")["state"]
    daemon.terminate()
    daemon.wait(SECONDS)


def free_ports(n):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def test_join(host, console):
    address, token, state = console

    def join(token, name="system-t"):
        return subprocess.run([PROGRAM, "--config", host.config, "join", "--console", address, "--token", token, "--name", name],
                              capture_output=True, text=True, timeout=SECONDS)
    host.end()
    host.start()  # with the port that it is to be reached at
    foreign = join(token[:-6] + "AAAAAA")
    assert foreign.returncode != 0 and "not the console that made this token" in foreign.stderr
    guessed = join(token[:5] + "AAAAAA" + token[11:])
    assert guessed.returncode != 0 and "token" in guessed.stderr
    assert not (host.base / "state" / "tls" / "cert.pem").exists()

    joined = join(token)
    assert joined.returncode == 0, joined.stderr
    assert "joined as system-t" in joined.stdout
    assert (host.base / "state" / "tls" / "key.pem").stat().st_mode & 0o777 == 0o600
    wait_for(lambda: state() == "connected", "console connected, without a restart of lpm-host")
    again = join(token)
    assert again.returncode != 0, "a token is good once"
    host.end()
    host.start()
    wait_for(lambda: state() == "connected", "console connected after a restart")
