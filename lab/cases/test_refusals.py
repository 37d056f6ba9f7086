# SPDX-License-Identifier: Apache-2.0
"""Wrong input and broken surroundings: an error that names object and remedy, an exit code, and nothing changed."""

import json
import os
import signal
import socket
import ssl

import pytest

from installation import RPC_PORT, program
from lablib import wait_for
from witness import Witness, runs_once


@pytest.fixture(scope="module")
def standing(lab):
    """A partition on system-a that all these cases try to move, and none succeeds with."""
    partition = lab.create("system-a", "standing", "x86-64", 60)
    witness = Witness(lab, partition)
    yield partition
    witness.judge()
    lab.delete(partition)


@pytest.mark.parametrize("words, code, mentioned", [
    (["migrate", "nobody", "system-b"], 3, ["nobody"]),
    (["migrate", "standing", "nowhere"], 3, ["nowhere"]),
    (["migrate", "standing", "system-a"], 2, ["system-a"]),
    (["partition", "start", "nobody"], 3, ["nobody"]),
    (["partition", "start", "standing"], 5, ["standing"]),
    (["partition", "delete", "standing"], 5, ["standing"]),
    (["migration", "show", "0" * 32], 3, ["0" * 32]),
    (["migration", "stop", "0" * 32], 3, ["0" * 32]),
    (["system", "show", "nowhere"], 3, ["nowhere"]),
    (["migrate", "standing"], 2, ["migrate"]),
    (["fly", "standing"], 2, ["fly"]),
    (["migrate", "standing", "system-b", "--max-rate", "fast"], 2, ["fast"]),
])
def test_wrong_words(lab, standing, words, code, mentioned):
    run = lab.lpm(*words, check=False)
    assert run.returncode == code, run.stderr
    assert run.stdout == ""
    for word in mentioned:
        assert word in run.stderr
    as_json = lab.lpm(*words, "--json", check=False)
    assert as_json.returncode == code
    error = json.loads(as_json.stdout)["error"]
    assert error["class"] and error["message"] and error["remedy"]
    assert lab.where("standing") == "system-a"
    runs_once(lab, standing, "system-a")


def findings_of(lab, partition, target="system-b", code=7):
    run = lab.lpm("validate", partition.name, target, "--json", check=False)
    assert run.returncode == code, run.stdout + run.stderr
    findings = json.loads(run.stdout)["results"][0]["findings"]
    for finding in findings:
        assert finding["object"] and finding["remedy"], finding
    return [finding for finding in findings if finding["severity"] == "error"]


def test_every_reason_is_listed_at_once(lab):
    """No shared disk, no such network there, no memory left: one answer names all three."""
    lab.start_host_again("system-b", {"network:lan": None, "limits": {"memory_mib": 128}})
    partition = lab.create("system-a", "troubled", "x86-64", 61, disks=[
        {"name": "disk0", "pool": "local", "file": "troubled.raw", "format": "raw", "size_mib": 16}])
    try:
        groups = {finding["check"].split(".")[0] for finding in findings_of(lab, partition)}
        text = json.dumps(findings_of(lab, partition))
        assert len(groups) >= 3, groups
        assert "lan" in text and "memory" in text and ("local" in text or "disk0" in text)
        run = lab.lpm("migrate", partition.name, "system-b", check=False)
        assert run.returncode == 7
        assert lab.where(partition.name) == "system-a"
        runs_once(lab, partition, "system-a")
    finally:
        lab.start_host_again("system-b", {})
        lab.delete(partition)


def test_disk_that_only_seems_shared_is_found_out(lab):
    """Both systems have a pool of that name and call it shared, but it is not the same directory."""
    for place in ("system-a", "system-b"):
        (lab.dir / place / "false").mkdir(mode=0o1777, exist_ok=True)
        lab.start_host_again(place, {"storage:false": {"path": lab.dir / place / "false", "shared": "true"}})
    partition = lab.create("system-a", "deceived", "x86-64", 62, disks=[
        {"name": "disk0", "pool": "false", "file": "deceived.raw", "format": "raw", "size_mib": 16}])
    try:
        assert any("disk0" in json.dumps(finding) for finding in findings_of(lab, partition))
        runs_once(lab, partition, "system-a")
    finally:
        lab.delete(partition)
        for place in ("system-a", "system-b"):
            lab.start_host_again(place, {})


def test_target_that_is_down(lab, standing):
    os.kill(lab.pid("lpm-host-system-b"), signal.SIGKILL)
    wait_for(lambda: lab.rest("GET", "/v1/systems/system-b")["state"] == "unreachable", 30, "system-b noticed missing")
    run = lab.lpm("migrate", "standing", "system-b", check=False)
    assert run.returncode in (7, 9), run.stderr
    assert "system-b" in run.stdout + run.stderr
    runs_once(lab, standing, "system-a")
    lab.start_host("system-b")
    lab.wait_for_system("system-b")


def test_maintenance_keeps_partitions_away(lab, standing):
    lab.lpm("system", "maintenance", "system-b", "on")
    try:
        assert any("maintenance" in json.dumps(finding) for finding in findings_of(lab, standing))
    finally:
        lab.lpm("system", "maintenance", "system-b", "off")
    assert not any("maintenance" in json.dumps(f) for f in
                   lab.lpm_json("validate", "standing", "system-b")["results"][0]["findings"])


# Strangers

def join(lab, place, token, name=None):
    return lab.run(place, program("lpm-host"), "--config", lab.dir / place / "host.conf", "join", "--console",
                   f"{lab.address('console')}:{RPC_PORT}", "--name", name or place, "--token", token,
                   env=lab.environment, check=False)


def test_join_with_a_wrong_token_is_refused(lab):
    before = lab.rest("GET", "/v1/systems")["systems"]
    good = lab.rest("POST", "/v1/systems", {"name": "stranger"})["token"]
    bad = good[:-1] + ("A" if good[-1] != "A" else "B")
    for token in (bad, "LPM1-AAAA", "", good[: len(good) // 2]):
        run = join(lab, "system-b", token, "stranger")
        assert run.returncode != 0 and run.stderr.strip(), token
    lab.rest("DELETE", "/v1/systems/stranger?force=true")
    assert [s["name"] for s in lab.rest("GET", "/v1/systems")["systems"]] == [s["name"] for s in before]


def test_token_is_good_for_one_name_once(lab):
    token = lab.rest("POST", "/v1/systems", {"name": "someone"})["token"]
    assert join(lab, "system-b", token, "another").returncode != 0
    lab.rest("DELETE", "/v1/systems/someone?force=true")


def tls_context(lab, certificate=None):
    context = ssl.create_default_context(cafile=lab.client_settings()["ca"].strip())
    context.check_hostname = False
    if certificate:
        context.load_cert_chain(*certificate)
    return context


def rpc_says(lab, address, lines, context=None):
    """What a server answers to these raw lines; "" when it closes."""
    with lab.connect("console", address, RPC_PORT) as plain:
        try:
            connection = context.wrap_socket(plain, server_hostname="x") if context else plain
            connection.sendall(lines)
            connection.settimeout(5)
            return connection.recv(65536).decode(errors="replace")
        except (ssl.SSLError, ConnectionError, TimeoutError):
            return ""


@pytest.mark.parametrize("lines", [b"GET / HTTP/1.0\r\n\r\n", b'{"execute":"system-info","id":1}\n', b"\x16\x03\x01" + bytes(400)],
                         ids=["http", "plain-rpc", "rubbish"])
def test_host_says_nothing_without_tls(lab, lines):
    answer = rpc_says(lab, lab.address("system-a"), lines)
    assert "return" not in answer and "system-a" not in answer
    assert lab.host_rpc("system-a", "system-info")


def test_host_refuses_a_client_without_certificate(lab):
    answer = rpc_says(lab, lab.address("system-a"), b'{"execute":"partition-list","id":1}\n', tls_context(lab))
    assert '"return"' not in answer


def test_host_refuses_a_certificate_of_another_authority(lab, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    lab.run("console", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            key, "-out", certificate, "-days", "2", "-subj", "/CN=console")
    answer = rpc_says(lab, lab.address("system-a"), b'{"execute":"partition-list","id":1}\n',
                      tls_context(lab, (certificate, key)))
    assert '"return"' not in answer


@pytest.mark.parametrize("line", [
    b"{\n", b"[]\n", b"null\n", b'{"execute":5}\n', b'{"execute":"partition-show","arguments":[],"id":1}\n',
    b'{"execute":"partition-show","arguments":{"partition":7},"id":1}\n', b'{"execute":"no-such-verb","id":1}\n',
    b'{"execute":"partition-show","arguments":{"partition":"standing","extra":1},"id":1}\n', b"[" * 100000 + b"\n", b"\xff\xfe\n",
], ids=range(10))
def test_malformed_rpc_gets_an_error_and_harms_nobody(lab, standing, line):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(lab.dir / "system-a" / "run" / "host.sock"))
        connection.sendall(line)
        answer = connection.recv(65536)
    assert not answer or b'"error"' in answer
    assert lab.host_rpc("system-a", "partition-show", partition="standing")["state"] == "running"


@pytest.mark.parametrize("method, path, token, status", [
    ("GET", "/v1/systems", "", 401), ("GET", "/v1/systems", "LPMT-WRONG", 401), ("GET", "/v1/nothing", None, 404),
    ("PUT", "/v1/systems", None, 400), ("POST", "/v1/migrations", None, 400)])
def test_rest_refuses(lab, method, path, token, status):
    settings = {key.strip(): value.strip() for key, value in lab.client_settings().items()}
    token = settings["token"] if token is None else token
    context = ssl.create_default_context(cafile=settings["ca"])
    with lab.connect("console", lab.address("console"), 7443) as plain, \
            context.wrap_socket(plain, server_hostname=lab.address("console")) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 7\r\n"
                           "Content-Type: application/json\r\nConnection: close\r\n\r\n{\"a\":1}".encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    got = int(head.split()[1])
    assert got == status or (status == 401 and got == 403), answer
    assert json.loads(body)["error"]["class"]


def test_lpm_without_a_console(lab, tmp_path):
    missing = lab.lpm("system", "list", env={**lab.environment, "LPM_CONFIG": str(tmp_path / "none")}, check=False)
    assert missing.returncode == 2 and "none" in missing.stderr
    elsewhere = tmp_path / "elsewhere.conf"
    elsewhere.write_text(lab.client_file.read_text().replace(":7443", ":7444"))
    run = lab.lpm("system", "list", env={**lab.environment, "LPM_CONFIG": str(elsewhere)}, check=False)
    assert run.returncode == 9 and "7444" in run.stderr


