#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plays the server of a QMP or guest agent socket from a script, for replies that the real one will not give on demand.

    fake_qemu.py SOCKET STEP...

Each step is one argument; the next one begins when it is done. The end of the script closes the connection.

    accept              waits for a connection (the first step does so by itself); closes the one before
    greet               sends a greeting that offers out-of-band commands, then expects qmp_capabilities and answers it
    expect:COMMAND      reads a line; it must execute COMMAND ("exec-oob:COMMAND" for an out-of-band one)
    fd                  the line expected last must have carried a descriptor
    answer:JSON         answers the command expected last
    fail:CLASS:DESC     likewise, with an error
    send:TEXT           sends TEXT and a line end
    hex:DIGITS          sends these bytes
    fill:BYTES          sends that many letters without a line end
    event:NAME:JSON     sends an event with this data, timestamp 1.5 s
    sync                expects guest-sync-delimited and answers it as the guest agent does
    sleep:MS            waits
    eof                 waits until the client closes; it must send nothing more

Exit status 0 when the client did what the script expects, 1 with a line on stderr when it did not.
"""

import json
import socket
import sys
import time

GREETING = {"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": "fake"},
                    "capabilities": ["oob"]}}
PATIENCE_S = 20


class Mistake(Exception):
    pass


class Player:
    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        self.listener.settimeout(PATIENCE_S)
        self.peer = None
        self.pending = b""
        self.fds = []
        self.id = None

    def accept(self, _=""):
        if self.peer:
            self.peer.close()
        self.peer, _address = self.listener.accept()
        self.peer.settimeout(PATIENCE_S)
        self.pending = b""

    def line(self):
        while b"\n" not in self.pending:
            data, self.fds, _flags, _address = socket.recv_fds(self.peer, 65536, 4)
            if not data:
                raise Mistake("the client closed where a command was expected")
            self.pending += data
        line, self.pending = self.pending.split(b"\n", 1)
        return json.loads(line.rpartition(b"\xff")[2])

    def expect(self, wanted):
        message = self.line()
        key = "execute"
        if wanted.startswith("exec-oob:"):
            key, wanted = wanted.split(":", 1)
        if message.get(key) != wanted:
            raise Mistake(f"expected {key} {wanted}, got {message}")
        self.id = message.get("id")
        return message

    def fd(self, _):
        if len(self.fds) != 1:
            raise Mistake(f"expected one descriptor, got {len(self.fds)}")

    def write(self, data):
        try:
            self.peer.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what the client must do before it may close, an expect step says

    def put(self, message):
        self.write(json.dumps(message).encode() + b"\r\n")

    def reply(self, message):
        if self.id is not None:
            message["id"] = self.id
        self.put(message)

    def greet(self, _):
        self.put(GREETING)
        if self.expect("qmp_capabilities").get("arguments") != {"enable": ["oob"]}:
            raise Mistake("out-of-band commands were not enabled")
        self.reply({"return": {}})

    def answer(self, text):
        self.reply({"return": json.loads(text)})

    def fail(self, text):
        kind, desc = text.split(":", 1)
        self.reply({"error": {"class": kind, "desc": desc}})

    def send(self, text):
        self.write(text.encode() + b"\n")

    def hex(self, text):
        self.write(bytes.fromhex(text))

    def fill(self, text):
        self.write(b"x" * int(text))

    def event(self, text):
        name, data = text.split(":", 1)
        self.put({"event": name, "data": json.loads(data), "timestamp": {"seconds": 1, "microseconds": 500000}})

    def sync(self, _):
        message = self.expect("guest-sync-delimited")
        self.write(b"\xff" + json.dumps({"return": message["arguments"]["id"]}).encode() + b"\n")

    def sleep(self, text):
        time.sleep(int(text) / 1000)

    def eof(self, _):
        try:
            data = self.pending or self.peer.recv(65536)
        except ConnectionResetError:
            return
        if data:
            raise Mistake(f"the client sent more: {data[:200]!r}")


def main():
    player = Player(sys.argv[1])
    print("listening", flush=True)
    try:
        player.accept()
        for step in sys.argv[2:]:
            name, _, rest = step.partition(":")
            getattr(player, name)(rest)
    except (Mistake, OSError, ValueError) as error:
        print(f"fake_qemu: {step}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
