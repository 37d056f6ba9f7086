# SPDX-License-Identifier: Apache-2.0
"""Moves whose ownership record is kept by a real etcd, or on a lock LUN of a real tgt, and what happens when it is away."""
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.request

import pytest
from hosts import RpcError, needs_crash_points, wait_for

TARGET = "iqn.2026-01.org.example:locks"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """What keeps the records; its data outlive it."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.port = free_port()
        self.process = None

    def run(self, *command, **environment):
        self.process = subprocess.Popen(["timeout", "--foreground", "300", *command], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **environment})

    def server_pid(self):
        """The child of `timeout`."""
        return int(pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def stop(self):
        os.kill(self.server_pid(), signal.SIGSTOP)

    def go_on(self):
        os.kill(self.server_pid(), signal.SIGCONT)

    def kill(self):
        if self.process:
            os.kill(self.server_pid(), signal.SIGKILL)
            self.process.wait()
            self.process = None


class Etcd(Server):
    name = "etcd"

    def start(self):
        url, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{free_port()}"
        self.run("etcd", "--data-dir", str(self.directory / "etcd"), "--listen-client-urls", url, "--advertise-client-urls", url,
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}")
        wait_for(lambda: self.answers(f"{url}/health"), "etcd answers")

    @staticmethod
    def answers(url):
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                return b"true" in answer.read()
        except OSError:
            return False

    def config(self, system):
        return f"[arbiter:etcd]\nendpoints = http://127.0.0.1:{self.port}\n"


class Scsi(Server):
    name = "scsi"

    def start(self):
        image, ipc = self.directory / "locks.img", str(self.directory / "ipc")
        if not image.exists():
            image.write_bytes(bytes(1 << 20))
        self.run("tgtd", "-f", "-C", "1", "--iscsi", f"portal=127.0.0.1:{self.port}", TGT_IPC_SOCKET=ipc)

        def tgtadm(*words):
            return subprocess.run(["tgtadm", "-C", "1", "--lld", "iscsi", "--op", *words], capture_output=True,
                                  env={**os.environ, "TGT_IPC_SOCKET": ipc}).returncode == 0
        wait_for(lambda: tgtadm("new", "--mode", "target", "--tid", "1", "-T", TARGET), "tgtd answers")
        assert tgtadm("new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", str(image))
        assert tgtadm("bind", "--mode", "target", "--tid", "1", "-I", "ALL")

    def config(self, system):
        return (f"[arbiter:scsi]\nportal = 127.0.0.1:{self.port}\ntarget = {TARGET}\nlun = 1\n"
                f"initiator = iqn.2026-01.org.example:{system.name}\n")


@pytest.fixture(params=[Etcd, Scsi], ids=["etcd", "scsi"])
def kept(request, pair, tmp_path):
    """The pair with the arbiter in both configurations."""
    server = request.param(tmp_path)
    try:
        server.start()
        for system in (pair.a, pair.b):
            with open(system.config, "a") as config:
                config.write(server.config(system))
            system.kill()
            system.start()
        yield pair, server
    finally:
        server.kill()


def record(system):
    return system.call("partition-show", partition="p1")["record"]


def test_there_and_back(kept):
    pair, server = kept
    pair.create(arbiter=server.name)
    assert record(pair.a)["arbiter"] == server.name and record(pair.a)["owner"] == "sys-a"
    assert str(server.port) in record(pair.a)["where"]
    pair.says_more(pair.a)
    pair.move(pair.a, pair.b)
    pair.says_more(pair.b)
    assert record(pair.b)["owner"] == "sys-b" and record(pair.b)["state"] == "RUN"
    pair.judge(pair.a, pair.b)
    pair.move(pair.b, pair.a)
    pair.says_more(pair.a)
    assert pair.states() == ["running", None]
    pair.a.call("partition-stop", partition="p1", how="hard")
    pair.a.call("partition-delete", partition="p1", disks=False)
    assert not (pair.pool / ".lpm").exists(), "no record was written beside the disk"


def test_needed_where_the_profile_asks_for_it(pair):
    """A system without such an arbiter says which group of its configuration is missing."""
    for arbiter in ("etcd", "scsi"):
        with pytest.raises(RpcError, match=rf"\[arbiter:{arbiter}\]"):
            pair.create(start=False, arbiter=arbiter)


def is_stopped(pid):
    return "State:\tT" in pathlib.Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize("point", ["src-offer-before", "dst-take-before", pytest.param("dst-run-before", marks=pytest.mark.long)])
def test_away_in_the_switchover(kept, point):
    """The arbiter stands still from just before a swap for some seconds: nobody guesses, and the move ends when it is back."""
    needs_crash_points()
    pair, server = kept
    pair.create(arbiter=server.name)
    pair.says_more(pair.a)
    stands = pair.a if point.startswith("src") else pair.b
    stands.start_with(f"{point},stop")
    pair.begin(pair.a, pair.b)
    wait_for(lambda: is_stopped(stands.process.pid), f"{stands.name} stands at {point}")
    server.stop()
    stands.process.send_signal(signal.SIGCONT)
    time.sleep(4)
    assert not pair.status(pair.a)["finished"], "nothing was decided without the record"
    said = [len(pair.numbers(system)) for system in (pair.a, pair.b) if system.name in pair.tails]
    time.sleep(0.3)
    if point != "dst-run-before":
        assert said == [len(pair.numbers(system)) for system in (pair.a, pair.b) if system.name in pair.tails], \
            "it runs nowhere while its owner is not known"
    server.go_on()
    ended = wait_for(lambda: pair.finished(pair.a), "the move ends")
    wait_for(lambda: pair.finished(pair.b), "the move ends at the target, too")
    if ended["outcome"] == "completed":
        pair.tail(pair.b)
        pair.says_more(pair.b)
        pair.judge(pair.a, pair.b)
        assert pair.states() == [None, "running"] and record(pair.b)["owner"] == "sys-b"
    else:
        assert ended["outcome"] == "aborted", ended
        pair.says_more(pair.a)
        pair.judge(pair.a)
        assert pair.states() == ["running", None] and record(pair.a)["owner"] == "sys-a"


def test_server_dies_and_comes_back(kept):
    """Partitions run on without it; it comes back with what it had."""
    pair, server = kept
    pair.create(arbiter=server.name)
    server.kill()
    with pytest.raises(RpcError, match=str(server.port)):
        pair.prepare(pair.a, pair.b)
    pair.says_more(pair.a)
    server.start()
    pair.says_more(pair.a)
    pair.move(pair.a, pair.b)
    pair.says_more(pair.b)
    pair.judge(pair.a, pair.b)
