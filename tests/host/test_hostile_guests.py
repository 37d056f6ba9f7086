# SPDX-License-Identifier: Apache-2.0
"""A compromised guest, a compromised QEMU, other users of the machine, and a database that was tampered with: whatever they do to one
partition, lpm-host goes on and so do the others. The fixture and the tiny partitions are those of test_host.py."""

import contextlib
import json
import os
import pwd
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from test_host import Refused, host, is_alive, wait_for  # noqa: F401  (host is a fixture)

pytestmark = pytest.mark.timeout(120)

QUICK = 1.0  # seconds that lpm-host may take for a simple question while it is being harassed


def some(names, *quick):
    """All of them in `make check-long`, these in `make check`."""
    assert set(quick) <= set(names)
    return [name if name in quick else pytest.param(name, marks=pytest.mark.long) for name in names]



def run_dir(host, name="p1"):
    return host.base / "run" / "partitions" / host.call("partition-show", partition=name)["profile"]["uuid"]


def started(host, *names):
    for name in names:
        host.create(name)
        assert host.call("partition-start", partition=name) == {"state": "running"}


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(next(line.split()[1] for line in status if line.startswith("VmRSS")))


def answers_quickly(host, seconds=2.0):
    """All the time, not only now and then; the slowest answer."""
    slowest, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        before = time.monotonic()
        assert host.call("system-info")["name"] == "system-t"
        assert host.state("p2") == "running"
        slowest = max(slowest, time.monotonic() - before)
        time.sleep(0.05)
    assert slowest < QUICK, f"{slowest:.2f} s"


class Fake:
    """Serves a Unix socket in QEMU's place; talk(connection) is the behaviour, ended by closing."""

    def __init__(self, path, talk):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(16)
        self.talk, self.open, self.stopped, self.served = talk, [], False, 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while not self.stopped:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            self.open.append(connection)
            self.served += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with contextlib.suppress(OSError, ValueError):
            self.talk(connection)

    def stop(self):
        self.stopped = True
        for one in [self.listener, *self.open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


# --- a compromised guest: its agent ---


def lines_of(connection):
    for line in connection.makefile("rb"):
        yield json.loads(line.rpartition(b"\xff")[2])


def sync(connection, lines):
    """Passes the handshake, as a clever guest would."""
    message = next(lines)
    connection.sendall(b"\xff" + json.dumps({"return": message["arguments"]["id"]}).encode() + b"\n")


def endless(data):
    def talk(connection):
        while True:
            connection.sendall(data)
    return talk


def after_sync(answer):
    def talk(connection):
        lines = lines_of(connection)
        sync(connection, lines)
        for _ in lines:
            connection.sendall(answer)
    return talk


def endless_after_sync(data):
    def talk(connection):
        sync(connection, lines_of(connection))
        endless(data)(connection)
    return talk


AGENTS = {
    "says nothing": lambda connection: connection.recv(1),
    "closes at once": lambda connection: connection.close(),
    "floods without a line end": endless(b"x" * 65536),
    "floods with lines": endless(b'{"return":{}}\n' * 1000),
    "floods after the handshake": endless_after_sync(b'{"return":{}}\n' * 1000),
    "floods without a line end after the handshake": endless_after_sync(b"x" * 65536),
    "answers nonsense": after_sync(b"\xfe\x00nonsense\n"),
    "answers with huge numbers": after_sync(b'{"return":' + b"9" * 4000 + b"}\n"),
    "answers deeply": after_sync(b'{"return":' + b"[" * 500_000 + b"]" * 500_000 + b"}\n"),
    "answers with control characters": after_sync(b'{"error":{"class":"GenericError","desc":"\\u001b[2J\\n\\u0000"}}\n'),
}


@pytest.mark.parametrize("agent", some(AGENTS, "floods after the handshake"))
def test_an_agent_costs_only_itself(host, agent):  # noqa: F811
    started(host, "p1", "p2")
    before = resident_kib(host.process.pid)
    fake = Fake(run_dir(host) / "agent.sock", AGENTS[agent])
    try:
        # lpm-host is connected to the real socket until that has no agent in time.
        wait_for(lambda: host.call("partition-show", partition="p1")["rmc"] and fake.served, "lpm-host asks the agent")
        asking = threading.Thread(target=lambda: [host.call("partition-show", partition="p1") for _ in range(5)], daemon=True)
        asking.start()
        answers_quickly(host)
        asking.join(20)
        assert not asking.is_alive()
        assert host.call("partition-show", partition="p1")["state"] == "running"
        assert resident_kib(host.process.pid) < before + 40 * 1024
    finally:
        fake.stop()
    log = (host.base / "log").read_text()
    assert "\x1b" not in log and "\0" not in log


def test_an_agent_that_hangs_does_not_hold_a_stop(host):  # noqa: F811
    started(host, "p1", "p2")
    fake = Fake(run_dir(host) / "agent.sock", AGENTS["says nothing"])
    try:
        assert host.call("partition-stop", partition="p1", how="hard") == {"state": "not-activated"}
    finally:
        fake.stop()
    assert host.state("p2") == "running"


# --- a guest that writes without end ---


def on_disk(path):
    return path.stat().st_blocks * 512


def test_console_and_messages_do_not_fill_the_disk(host):  # noqa: F811
    started(host, "p1", "p2")
    directory = run_dir(host)
    logs = [directory / "console.log", directory.with_name(directory.name + ".log")]
    block = b"a line of a console\n" * 52429
    for log in logs:
        with open(log, "ab") as out:
            for _ in range(20):
                out.write(block)
        assert on_disk(log) > 20 << 20
    for log in logs:
        wait_for(lambda log=log: on_disk(log) <= 2 << 20, f"{log.name} is small again")
        with open(log, "rb") as kept:  # what was said last is there
            kept.seek(-len(block) // 2, os.SEEK_END)
            assert kept.read() == block[len(block) - len(block) // 2:]
    answers_quickly(host, 0.5)


@pytest.mark.long
def test_a_log_that_qemu_has_replaced_is_not_followed(host):  # noqa: F811
    """The directory is QEMU's: it may put a link to anything there."""
    started(host, "p1", "p2")
    precious = host.base / "precious"
    precious.write_bytes(b"p" * (20 << 20))
    linked = host.base / "linked"
    linked.write_bytes(b"p" * (20 << 20))
    log = run_dir(host) / "console.log"
    log.unlink()
    log.symlink_to(precious)
    second = run_dir(host, "p2") / "console.log"
    second.unlink()
    os.link(linked, second)
    time.sleep(5)  # two looks
    assert on_disk(precious) >= 20 << 20 and on_disk(linked) >= 20 << 20


# --- a compromised QEMU ---


def greeted(then):
    def talk(connection):
        connection.sendall(b'{"QMP":{"version":{"qemu":{"major":10,"minor":0,"micro":2},"package":""},"capabilities":["oob"]}}\n')
        lines = lines_of(connection)
        connection.sendall(json.dumps({"return": {}, "id": next(lines)["id"]}).encode() + b"\n")
        then(connection, lines)
    return talk


def wrong_ids(connection, lines):
    for message in lines:
        connection.sendall(json.dumps({"return": {"status": "running"}, "id": message["id"] + 1000}).encode() + b"\n")


def wrong_types(connection, lines):
    for message in lines:
        connection.sendall(json.dumps({"return": [[2**62, None, {"status": 7}]], "id": message["id"]}).encode() + b"\n")


MONITORS = {
    "says nothing": lambda connection: connection.recv(1),
    "closes at once": lambda connection: connection.close(),
    "floods without a line end": endless(b"x" * 65536),
    "floods with events": greeted(lambda connection, _: endless(
        b'{"event":"STOP","timestamp":{"seconds":1,"microseconds":1}}\n{"event":"RESUME","timestamp":{"seconds":1,"microseconds":1}}\n'
        * 500)(connection)),
    "floods with unknown events": greeted(lambda connection, _: endless(b'{"event":"X","data":{"a":[1]}}\n' * 1000)(connection)),
    "answers other questions": greeted(wrong_ids),
    "answers with wrong types": greeted(wrong_types),
}


@pytest.mark.parametrize("monitor", some(MONITORS, "closes at once"))
def test_a_monitor_costs_only_its_partition(host, monitor):  # noqa: F811
    """lpm-host comes back and finds another's words where QEMU's should be."""
    started(host, "p1", "p2")
    directory, pid = run_dir(host), host.pid("p1")
    host.end(signal.SIGKILL)
    fake = Fake(directory / "qmp.sock", MONITORS[monitor])
    try:
        host.start()
        before = resident_kib(host.process.pid)
        answers_quickly(host)
        assert resident_kib(host.process.pid) < before + 40 * 1024
        assert host.call("partition-stop", partition="p1", how="hard") == {"state": "not-activated"}
        wait_for(lambda: not is_alive(pid), "its QEMU is ended all the same")
    finally:
        fake.stop()
    assert host.call("partition-start", partition="p1") == {"state": "running"}
    assert host.state("p2") == "running"


# --- who may do what on this machine ---


def of_process(pid):
    return dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status").read().splitlines() if ":\t" in line)


def test_qemu_is_nobody(host):  # noqa: F811
    started(host, "p1")
    status, user = of_process(host.pid()), pwd.getpwnam("lpm-qemu")
    assert set(status["Uid"].split()) == {str(user.pw_uid)} and set(status["Gid"].split()) == {str(user.pw_gid)}
    assert status["Groups"].split() in ([], [str(os.stat("/dev/kvm").st_gid)] if os.path.exists("/dev/kvm") else [])
    assert {status[c] for c in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"


def test_what_is_private_is_private(host):  # noqa: F811
    started(host, "p1")
    base, directory, user = host.base, run_dir(host), pwd.getpwnam("lpm-qemu")

    def mode(path):
        return path.stat().st_mode & 0o777
    assert {path: mode(base / path) for path in ("state", "state/tls", "state/host.db", "state/lock", "run/host.sock")} == {
        "state": 0o700, "state/tls": 0o700, "state/host.db": 0o600, "state/lock": 0o600, "run/host.sock": 0o600}
    assert (mode(directory), directory.stat().st_uid) == (0o700, user.pw_uid)
    assert {mode(path) & 0o077 for path in directory.iterdir()} == {0}
    words = directory.with_name(directory.name + ".log")
    assert (mode(words), words.stat().st_uid) == (0o600, 0)


AS_ANOTHER = """
import json, os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(5)
    connection.connect(sys.argv[1])
    try:
        connection.sendall(b'{"execute":"system-info","id":1}\\n')
        print(connection.recv(100))
    except OSError:
        print(b"")
"""


def test_other_users_are_not_served(host):  # noqa: F811
    """Neither by the file's mode nor, should that be changed, by who they are."""
    path = host.base / "run" / "host.sock"

    def ask():
        return subprocess.run([sys.executable, "-c", AS_ANOTHER, path], capture_output=True, text=True, timeout=20)
    refused = ask()
    assert refused.returncode != 0 and "PermissionError" in refused.stderr
    path.chmod(0o666)
    unheard = ask()
    assert unheard.returncode == 0 and unheard.stdout.strip() == "b''", unheard
    assert host.call("system-info")["name"] == "system-t"


# --- limits ---


def test_a_system_has_only_so_many_partitions(host):  # noqa: F811
    host.groups["limits"]["partitions"] = 2
    host.write_config()
    host.end()
    host.start()
    host.create("p1")
    host.create("p2")
    with pytest.raises(Refused, match="system-t has 2 partitions, as many as") as refused:
        host.create("p3")
    assert refused.value.kind == "busy"
    assert not (host.base / "disks" / "p3.qcow2").exists()
    host.call("partition-delete", partition="p2", disks=True)
    host.create("p3")


def test_local_connections_are_limited_and_then_free_again(host):  # noqa: F811
    """One user's many connections: no more than its share, and it is all given back."""
    path = str(host.base / "run" / "host.sock")
    held = []
    for _ in range(200):
        held.append(socket.socket(socket.AF_UNIX))
        held[-1].connect(path)
    time.sleep(0.3)
    closed = 0
    for connection in held:
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            closed += connection.recv(1) == b""
    assert closed == 200 - 64
    for connection in held:
        connection.close()
    wait_for(lambda: answers(host), "lpm-host answers again")


def answers(host):  # noqa: F811
    try:
        return host.call("system-info")
    except OSError:
        return None


# --- a database that was tampered with ---


@pytest.mark.parametrize("kind, document", [
    ("runtime", {"runtime": {"profile": 7}, "pid": 2**40, "start_time": -1}), ("journal", {"side": "target", "journal": "loaded"}),
    *(pytest.param(*pair, marks=pytest.mark.long) for pair in (
        ("runtime", {"incoming": True}), ("runtime", []), ("profile", {}), ("profile", "text"), ("journal", {}), ("journal", [1]),
        ("image", {"key": 5}), ("system", 5)))], ids=str)
def test_a_bad_document_costs_only_its_partition(host, kind, document):  # noqa: F811
    host.create("p1")
    host.end()
    with contextlib.closing(sqlite3.connect(host.base / "state" / "host.db")) as database, database:
        database.execute("INSERT INTO document (kind, key, revision, value) VALUES (?, ?, 1, ?)",
                         (kind, "6c1e4b6e-0000-4000-8000-000000000001", json.dumps(document)))
    host.start()
    assert "p1" in [row["name"] for row in host.call("partition-list")["partitions"]]
    assert host.call("partition-start", partition="p1") == {"state": "running"}
