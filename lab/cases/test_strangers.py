# SPDX-License-Identifier: Apache-2.0
"""Certificates: who has the wrong one gets nothing, and nothing of what the right one gives."""

import json
import ssl

import pytest

from installation import RPC_PORT


def context_of(lab, place, ca=None):
    """What a system or the console presents itself with."""
    base = lab.dir / place / "state"
    directory = next(path.parent for path in sorted(base.rglob("cert.pem")))
    context = ssl.create_default_context(cafile=str(ca or next(iter(sorted(base.rglob("ca.pem"))))))
    context.check_hostname = False
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


class Line:
    """A connection to an RPC port that speaks lines of JSON."""

    def __init__(self, lab, source, target, context):
        self.plain = lab.connect(source, lab.address(target), RPC_PORT)
        self.socket = context.wrap_socket(self.plain, server_hostname=target)
        self.socket.settimeout(5)
        self.stream = self.socket.makefile("rwb")

    def ask(self, verb, **arguments):
        self.stream.write(json.dumps({"execute": verb, "arguments": arguments, "id": 7}).encode() + b"\n")
        self.stream.flush()
        while line := self.stream.readline():
            message = json.loads(line)
            if message.get("id") == 7:
                return message
        return None

    def close(self):
        self.socket.close()


@pytest.fixture
def call(lab):
    lines = []

    def open_one(source, target, identity, **options):
        lines.append(Line(lab, source, target, context_of(lab, identity, **options)))
        return lines[-1]
    yield open_one
    for line in lines:
        line.close()


def test_console_certificate_opens_the_hosts(call):
    """The other cases would prove nothing if nobody got in."""
    answer = call("console", "system-a", "console").ask("system-info")
    assert answer["return"]["name"] == "system-a"


@pytest.mark.parametrize("verb, arguments", [
    ("system-info", {}), ("partition-list", {}), ("migration-list", {}), ("system-set", {"maintenance": True}),
    ("partition-stop", {"partition": "x", "how": "hard"})])
def test_system_cannot_act_as_the_console(lab, call, verb, arguments):
    answer = call("system-b", "system-a", "system-b").ask(verb, **arguments)
    assert answer is None or answer["error"]["class"] == "denied", answer
    assert lab.host_rpc("system-a", "system-info")["state"] == "operating"


def test_system_may_only_keep_records_at_the_console(call):
    line = call("system-a", "console", "system-a")
    for verb, arguments in (("system-info", {}), ("partition-list", {}), ("migration-list", {})):
        answer = line.ask(verb, **arguments)
        assert "return" not in answer, (verb, answer)


def test_console_does_not_know_a_system_that_was_removed(lab, call, tmp_path):
    """Its certificate is still of the right authority, but no longer good."""
    lab.rest("DELETE", "/v1/systems/system-b?force=true")
    try:
        try:
            answer = call("system-b", "console", "system-b").ask("record-read", partition="00000000-0000-0000-0000-000000000001")
        except (ssl.SSLError, ConnectionError):
            answer = None
        assert answer is None or "return" not in answer, answer
    finally:
        lab.join("system-b")


def test_older_tls_is_not_spoken(lab):
    context = context_of(lab, "console")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with lab.connect("console", lab.address("system-a"), RPC_PORT) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(plain, server_hostname="system-a")


def test_silent_strangers_do_not_keep_others_out(lab):
    """Connections that never say anything: the host still answers, and lets them go."""
    idle = [lab.connect("console", lab.address("system-a"), RPC_PORT) for _ in range(40)]
    try:
        assert lab.rest("GET", "/v1/systems/system-a")["state"] == "connected"
        assert lab.host_rpc("system-a", "system-info")["name"] == "system-a"
    finally:
        for connection in idle:
            connection.close()
