#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A mover that is somebody else's by now: started by lpm-host in the place of the real one, it greets as that does, and then lies.
LPM_LIE says how: flood, peer, events, numbers, malformed, silent, exit."""
import os
import pathlib
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "spec"))
import lpmwire  # noqa: E402

options = dict(word[2:].split("=") for word in sys.argv[1:])
control = socket.socket(fileno=int(options["control"]))
buffer = b""
while not (got := lpmwire.decode(buffer)):
    buffer += control.recv(1 << 16)
migration = got[0].values["migration"]


def say(name, **values):
    control.sendall(lpmwire.encode(name, migration, **values))


def flood(name, **values):
    frame = lpmwire.encode(name, migration, **values)
    while True:
        control.sendall(frame * 20)


lies = {
    "flood": lambda: flood("STATS", state=2),
    "peer": lambda: flood("PEER", data=b"x" * 60000),
    "hints": lambda: flood("HINT", epoch=2**64 - 1, what=1),
    "events": lambda: [say(name, **values) for name, values in (
        ("LOADED", {}), ("DIGEST_OK", {}), ("VERIFIED", {"compared": 2**64 - 1}), ("VASI_EOF", {"total": 2**64 - 1}),
        ("PEER_CLOSED", {}), ("PROBED", {"rate": 2**64 - 1}), ("NEED_CHANNEL", {"channel": 7}))],
    "numbers": lambda: [say("STATS", **{name: 2**63 + 5 for name in ("stream_out", "wire_out", "acked", "raw_bytes", "coded_bytes")}),
                        say("LINK_STATE", connection=15, up=0, ms_down=2**32 - 1, reason="\u202e" * 80)],
    "malformed": lambda: control.sendall(os.urandom(5000)),
    "silent": lambda: None,
    "exit": lambda: os._exit(0),
}
say("READY")
say("CONNECTED", version=1, rtt_us=2**32 - 1, system="sys-a", cipher="none")
lies[os.environ["LPM_LIE"]]()
time.sleep(60)
