# SPDX-License-Identifier: Apache-2.0
"""An lpm-host that says what the test wants: RPC lines over mutual TLS, with a simple move behind them."""

import base64
import copy
import ctypes
import hashlib
import json
import pathlib
import select
import socket
import ssl
import subprocess
import threading
import time

FACTS = json.loads((pathlib.Path(__file__).resolve().parents[1] / "unit" / "facts" / "healthy-x86.json").read_text())


class Failure(Exception):
    """The verb fails with this class."""

    def __init__(self, failure_class, desc):
        super().__init__(desc)
        self.failure_class = failure_class


class Hang(Exception):
    """The verb is never answered."""


class Drop(Exception):
    """The connection is closed instead of an answer."""


class Raw(Exception):
    """These bytes are sent instead of an answer."""


def certtool(*argv):
    return subprocess.run(["certtool", *argv], capture_output=True, text=True, check=True).stdout


def make_request(directory, name):
    """A key in a file, and a certificate request as text."""
    key = directory / f"{name}-key.pem"
    template = directory / f"{name}.cfg"
    key.write_text(certtool("--generate-privkey", "--key-type", "ecdsa", "--curve", "secp256r1"))
    template.write_text(f"cn = {name}\n")
    return key, certtool("--generate-request", "--load-privkey", str(key), "--template", str(template))


class Client:
    """A connection to an RPC port."""

    def __init__(self, port, context):
        self.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10))
        self.lines = self.socket.makefile("rb")

    def call(self, verb, **arguments):
        self.socket.sendall(json.dumps({"execute": verb, "arguments": arguments, "id": 1}).encode() + b"\n")
        return json.loads(self.lines.readline())

    def close(self):
        self.lines.close()
        self.socket.close()


def anonymous_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def join(directory, rpc_port, name, token, port):
    """Joins as a system would; files for its TLS."""
    key, request = make_request(directory, name)
    client = Client(rpc_port, anonymous_context())
    answer = client.call("join", name=name, token=token, csr=request, address="127.0.0.1", port=port)
    client.close()
    if "error" in answer:
        raise Failure(answer["error"]["class"], answer["error"]["desc"])
    cert, ca = directory / f"{name}-cert.pem", directory / f"{name}-ca.pem"
    cert.write_text(answer["return"]["certificate"])
    ca.write_text(answer["return"]["ca"])
    return key, cert, ca


class FakeHost:
    """One system. `verbs` maps a verb to a function of its arguments; tests replace what shall be odd."""

    def __init__(self, directory, name):
        self.directory, self.name = directory, name
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.partitions = {}
        self.moves = {}
        self.images = {}  # uuid -> row of store-list
        self.calls = []
        self.peers = []
        self.up = True
        self.lock = threading.RLock()
        self.pace = 0.05  # seconds of a step of a move
        self.other = None  # the host that a move goes to
        self.files = None
        self.verbs = {name[3:].replace("_", "-"): getattr(self, name) for name in dir(self) if name.startswith("do_")}

    def join(self, console):
        token = console.rest("POST", "/v1/systems", {"name": self.name})["token"]
        self.files = join(self.directory, console.rpc_port, self.name, token, self.port)
        self.listen()
        console.wait(lambda: console.rest("GET", f"/v1/systems/{self.name}")["state"] == "connected", self.name)

    # Serving

    def listen(self):
        threading.Thread(target=self.accept, daemon=True).start()

    def context(self):
        key, cert, ca = self.files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(cert, key)
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def accept(self):
        context = self.context()
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            if not self.up:
                connection.close()
                continue
            threading.Thread(target=self.serve, args=(context, connection), daemon=True).start()

    def serve(self, context, connection):
        try:
            peer = context.wrap_socket(connection, server_side=True)
            self.peers.append(peer)
            for line in self.lines(peer):
                # A slow verb does not hold up the others.
                threading.Thread(target=self.answer, args=(peer, json.loads(line)), daemon=True).start()
        except (OSError, ValueError):
            pass

    def lines(self, peer):
        """A TLS connection is used by one thread at a time only: `lock` guards reading and writing."""
        data = b""
        while True:
            if not peer.pending():
                select.select([peer], [], [], 1)
            try:
                with self.lock:
                    peer.settimeout(0)
                    received = peer.recv(65536)
            except ssl.SSLWantReadError:
                continue
            if not received:
                return
            *lines, data = (data + received).split(b"\n")
            yield from lines

    def answer(self, peer, message):
        verb, arguments = message["execute"], message.get("arguments", {})
        self.calls.append(verb)
        try:
            if verb not in self.verbs:
                raise Failure("usage", f"no verb {verb}")
            reply = {"return": self.verbs[verb](arguments)}
        except Failure as failure:
            reply = {"error": {"class": failure.failure_class, "desc": str(failure)}}
        except Hang:
            return
        except Drop:
            self.vanish(stay_away=False)
            return
        except Raw as raw:
            self.send(peer, raw.args[0])
            return
        self.send(peer, json.dumps({**reply, "id": message["id"]}).encode() + b"\n")

    def send(self, peer, data):
        try:
            with self.lock:
                peer.settimeout(5)
                peer.sendall(data)
        except OSError:
            pass

    def vanish(self, stay_away=True):
        """As after a power failure: connections end, new ones get nowhere."""
        self.up = not stay_away
        peers, self.peers = self.peers, []
        for peer in peers:
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def come_back(self):
        self.up = True

    def emit(self, event, data):
        for peer in list(self.peers):
            self.send(peer, json.dumps({"event": event, "data": data}).encode() + b"\n")

    # Facts

    def do_subscribe(self, _):
        return {}

    def do_system_info(self, _):
        now = time.time_ns() // 1000
        return {**copy.deepcopy(FACTS["source"]), "name": self.name, "clock_us": now, "certificate_ends_us": now + 800 * 86400 * 10**6,
                "rpc_versions": [1, 2]}

    def do_system_set(self, _):
        return {}

    def add(self, name, state="running", owner=None):
        uuid = hashlib.md5(name.encode()).hexdigest()
        uuid = "-".join((uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]))
        self.partitions[name] = {"name": name, "uuid": uuid, "state": state, "owner": owner or self.name}

    def find(self, arguments):
        if arguments["partition"] not in self.partitions:
            raise Failure("not-found", f"there is no partition \"{arguments['partition']}\"")
        return self.partitions[arguments["partition"]]

    def do_partition_list(self, _):
        return {"partitions": [{"name": p["name"], "uuid": p["uuid"], "family": "x86-64", "state": p["state"],
                                "processors": 2, "memory_mib": 256, "preferred_mode": "default",
                                "current_mode": "x86-64-v3", "migration": None,
                                **{key: p[key] for key in ("reason", "process") if key in p}} for p in self.partitions.values()]}

    def do_partition_show(self, arguments):
        partition = self.find(arguments)
        return {"profile": {"name": partition["name"]}, "state": partition["state"],
                "record": {"state": "SRC", "owner": partition["owner"], "peer": "", "epoch": 1, "revision": 1}}

    def do_partition_create(self, arguments):
        self.add(arguments["profile"]["name"], "not-activated")
        return {"profile": arguments["profile"]}

    def do_partition_start(self, arguments):
        self.find(arguments)["state"] = "running"
        return {"state": "running"}

    def do_partition_stop(self, arguments):
        self.find(arguments)["state"] = "not-activated"
        return {"state": "not-activated"}

    def do_partition_delete(self, arguments):
        self.find(arguments)
        del self.partitions[arguments["partition"]]
        return {}

    def do_partition_facts(self, arguments):
        partition = self.find(arguments)
        facts = copy.deepcopy(FACTS["partition"])
        facts["profile"].update(name=partition["name"], uuid=partition["uuid"])
        return {**facts, "owner": partition["owner"], "state": partition["state"], "runtime": {"machine": "pc-q35-10.0"}}

    def do_partition_measure(self, arguments):
        return {"unit_bytes": 262144, "looks": [{"ms": arguments["ms"] // 4, "bytes": 0}, {"ms": arguments["ms"], "bytes": 0}]}

    def do_nonce_put(self, _):
        return {"nonces": [{"pool": "san", "file": "a.raw", "nonce": "5f3a"}]}

    def do_nonce_drop(self, _):
        return {}

    def do_target_check(self, _):
        return copy.deepcopy(FACTS["target_check"])

    def do_probe_listen(self, _):
        return {"addresses": ["127.0.0.1"], "port": 4000}

    def do_probe_run(self, _):
        return {"connected": True, "round_trip_us": 210, "bytes_per_second": 900000000, "error": ""}

    # Images

    def do_store_list(self, _):
        return {"on": True, "reason": None, "directory": "/s", "budget_bytes": 100, "used_bytes": 10 * len(self.images),
                "disk_bytes": 1000, "free_bytes": 500, "images": list(self.images.values())}

    def do_store_drop(self, arguments):
        dropped = {uuid for uuid, row in self.images.items()
                   if arguments.get("all") or arguments["partition"] in (uuid, row["partition"])}
        if not dropped and not arguments.get("all"):
            raise Failure("not-found", f"{self.name} keeps no image of {arguments['partition']}")
        self.images = {uuid: row for uuid, row in self.images.items() if uuid not in dropped}
        return {"dropped": len(dropped)}

    # Moves

    @staticmethod
    def status(move):
        return {"migration": move["id"], "partition": move["partition"], "side": move["side"], "peer": move["peer"],
                "active": True, "journal": move["journal"], "record": "SRC", "sees": move.get("sees"), "words": move.get("words", []),
                "phase": move["phase"],
                "finished": move["journal"] == "cleaned", "outcome": move["outcome"], "error": move["error"],
                "stream_bytes": 1000, "wire_bytes": 1100, "total_bytes": 2000, "remaining_bytes": 500,
                "rate_bytes": 10, "dirty_rate_bytes": 1, "passes": 1, "predicted_blackout_ms": 30,
                "blackout_ms": 25.5 if move["outcome"] == "completed" else None, "eta_ms": 100, "round_trip_us": 200,
                "verify": {"pages": 0, "differing": 0, "repaired": 0}, "convergence": move.get("convergence"), "postcopy": move.get("postcopy"), "links": move.get("links"),
                "phases": [{"name": "prepare", "start_us": 1000000, "ms": 20.0},
                           {"name": "copy", "start_us": 1020000, "ms": 80.0}]}

    def enter(self, move, journal, phase=None, outcome=None, error=None):
        move.update(journal=journal, phase=phase or move["phase"], outcome=outcome, error=error)
        self.emit("migration", self.status(move))

    def new_move(self, arguments, side, peer, partition, journal):
        move = {"id": arguments["migration"], "side": side, "peer": peer, "partition": partition, "journal": journal,
                "phase": "prepare", "outcome": None, "error": None}
        self.moves[move["id"]] = move
        return move

    def do_migration_prepare(self, arguments):
        assert len(arguments["key"]) == 64 and arguments["options"]["max_blackout_ms"] > 0
        self.new_move(arguments, "target", arguments["source"], arguments["profile"]["name"], "prepared")
        return {"addresses": ["127.0.0.1"], "port": 4001, "image_key": "5a" * 32}

    def do_migration_start(self, arguments):
        assert arguments["image_key"] == "5a" * 32  # the target's, through the console
        move = self.new_move(arguments, "source", arguments["target"], arguments["partition"], "planned")
        threading.Thread(target=self.run_move, args=(move,), daemon=True).start()
        return {}

    def run_move(self, move):
        """The source's half, and through `other` the target's."""
        for journal, phase in [("precopy", "copy")] * 4 + [("switch", "switchover"), ("post", "commit")]:
            time.sleep(self.pace)
            if move["journal"] == "cleaned":
                return
            self.enter(move, journal, phase)
        self.other.add(move["partition"])
        self.other.enter(self.other.moves[move["id"]], "cleaned", "finish", "completed")
        self.partitions.pop(move["partition"], None)
        self.enter(move, "cleaned", "finish", "completed")

    def find_move(self, arguments):
        if arguments["migration"] not in self.moves:
            raise Failure("not-found", "there is no such migration")
        return self.moves[arguments["migration"]]

    def do_migration_query(self, arguments):
        return self.status(self.find_move(arguments))

    def do_migration_list(self, _):
        return {"migrations": [self.status(move) for move in self.moves.values()]}

    def do_migration_stop(self, arguments):
        move = self.find_move(arguments)
        if move["journal"] in ("post", "cleaned"):
            raise Failure("state", "it is being handed over")
        error = {"class": "aborted", "desc": "stopped"}
        self.enter(move, "cleaned", outcome="aborted", error=error)
        self.other.enter(self.other.moves[move["id"]], "cleaned", outcome="aborted", error=error)
        return {}

    def do_migration_set(self, arguments):
        self.find_move(arguments)["set"] = arguments
        return {}

    def do_migration_recover(self, arguments):
        move = self.find_move(arguments)
        if move["journal"] in ("prepared", "planned"):
            self.enter(move, "cleaned", outcome="aborted", error={"class": "aborted", "desc": "recovered"})
        return self.status(move)


def record(owner, uuid, revision, peer="", state=1, broken=False):
    """An ownership record as handover.md lays it out."""
    body = (b"LPMOWNER" + (1).to_bytes(2, "little") + state.to_bytes(2, "little") + bytes(4) +
            revision.to_bytes(8, "little") + (1).to_bytes(8, "little") + bytes.fromhex(uuid.replace("-", "")) +
            bytes(16) + owner.encode().ljust(64, b"\0") + peer.encode().ljust(64, b"\0") +
            (1).to_bytes(8, "little") + bytes(304))
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_64bits.restype = ctypes.c_uint64
    checksum = library.XXH3_64bits(body, ctypes.c_size_t(len(body))) ^ (1 if broken else 0)
    return base64.b64encode(body + checksum.to_bytes(8, "little")).decode()


def join_two(console, directory):
    source, target = FakeHost(directory, "system-a"), FakeHost(directory, "system-b")
    source.other, target.other = target, source
    source.add("web1")
    source.join(console)
    target.join(console)
    return source, target
