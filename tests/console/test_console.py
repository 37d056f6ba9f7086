# SPDX-License-Identifier: Apache-2.0
"""lpm-console without moves: init, who may do what, joining, records, partitions, odd systems."""

import json
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request

import pytest

from consolerun import ENVIRONMENT, PROGRAM, ROOT, Console, Refused, free_ports, run_program
from fakehost import Client, Drop, Failure, FakeHost, Hang, Raw, anonymous_context, join, make_request, record

UUID = "6f1c1d2e-0b7a-4d8f-9c55-0123456789ab"
SMALL = {"name": "x", "family": "x86-64", "memory_mib": 64}


def test_the_page_of_routes_is_printed():
    assert run_program("--print-routes").stdout == (ROOT / "docs" / "spec" / "rest.md").read_text()


def test_init_does_not_overwrite(console):
    before = (console.state / "admin.conf").read_text()
    again = run_program("init", "--state", console.state, "--address", "127.0.0.1", check=False)
    assert again.returncode == 4 and "admin.conf" in again.stderr
    assert (console.state / "admin.conf").read_text() == before
    assert (console.state.stat().st_mode & 0o777, (console.state / "key.pem").stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_renewed_certificate_is_used_from_the_next_start(console):
    def serial():
        return subprocess.run(["openssl", "x509", "-in", console.state / "cert.pem", "-noout", "-serial"], check=True,
                              capture_output=True, text=True).stdout
    before, key = serial(), (console.state / "key.pem").read_bytes()
    assert "good until 20" in run_program("renew", "--state", console.state).stdout
    assert serial() != before and (console.state / "key.pem").read_bytes() == key
    console.stop()
    console.start()
    assert console.rest("GET", "/v1/systems") == {"systems": []}
    nowhere = run_program("renew", "--state", console.state / "nowhere", check=False)
    assert nowhere.returncode != 0 and "nowhere" in nowhere.stderr


def test_what_init_makes_belongs_to_the_user_of_the_service(tmp_path):
    """Made by root, used by lpm-console, with the directory beside lpm-host's: the user is in a user list of this test's own."""
    users = tmp_path / "passwd"
    users.write_text(pathlib.Path("/etc/passwd").read_text() + "lpm-console:x:64990:64990::/nonexistent:/usr/sbin/nologin\n")
    parent = pathlib.Path(tempfile.mkdtemp(dir="/tmp"))  # above tmp_path others may not pass
    state = parent / "openlpm" / "console"
    program, environment = shutil.copy(PROGRAM, parent), {**ENVIRONMENT, "LPM_DATA_DIR": shutil.copytree(ROOT / "data", parent / "data")}
    https, rpc = free_ports(2)
    try:
        parent.chmod(0o711)
        subprocess.run(["unshare", "--mount", "sh", "-c", 'umask 077; mount --bind "$0" /etc/passwd && exec "$@"', users, program,
                        "init", "--state", state, "--address", "127.0.0.1", "--https-port", str(https), "--rpc-port", str(rpc)],
                       check=True, timeout=20, env=environment)
        assert state.parent.stat().st_mode & 0o777 == 0o711
        made = [state, *state.iterdir()]
        assert len(made) > 5 and {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(64990, 64990)}
        served = subprocess.Popen(["setpriv", "--reuid=64990", "--regid=64990", "--clear-groups", program, "--state", state],
                                  env=environment)
        try:
            context = ssl.create_default_context(cafile=state / "ca.pem")
            deadline = time.monotonic() + 30
            while True:
                try:
                    url = f"https://127.0.0.1:{https}/v1/health"
                    assert urllib.request.urlopen(url, context=context, timeout=10).status == 200
                    break
                except OSError:
                    assert served.poll() is None and time.monotonic() < deadline
                    time.sleep(0.05)
        finally:
            served.kill()
            served.wait()
    finally:
        shutil.rmtree(parent)


@pytest.mark.parametrize("argv, code", [
    (["init"], 2), (["init", "--state", "x", "--address", "127.0.0.1", "--https-port", "70000"], 2),
    (["--nonsense"], 2), (["serve"], 2), (["--state", "not-there"], 3)])
def test_wrong_command_lines(tmp_path, argv, code, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_program(*argv, check=False)
    assert result.returncode == code and result.stderr.startswith("lpm-console: error: ")


@pytest.mark.parametrize("text, named", [
    ("[console]\naddresses=a\nhttps_prot=1\n", "https_prot"), ("[other]\nx=1\n", "other"),
    ("[console]\naddresses=a\nrpc_port=99999\n", "rpc_port"), ("[console]\n", "addresses"),
    ("[console]\naddresses=a\nname=a/b\n", "name")])
def test_wrong_configuration_is_named(tmp_path, text, named):
    path = tmp_path / "console.conf"
    path.write_text(text)
    result = run_program("--config", path, check=False)
    assert result.returncode == 2 and named in result.stderr and str(path) in result.stderr


def test_tokens(shared_console):
    assert shared_console.rest("GET", "/v1/version")["api"] == 1
    wrong = shared_console.refused("GET", "/v1/version", None, shared_console.token[:-1] + "z")
    assert (wrong.status, wrong.error_class) == (403, "denied") and wrong.error["remedy"]


def test_stop_is_orderly(console, pair):
    assert console.stop() == 0


def test_the_service_manager_is_told(tmp_path):
    """Ready once it serves, alive while it does, stopping at its end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        made = Console(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")
        made.start()
        told = [manager.recv(1000).decode() for _ in range(3)]
        assert "READY=1" in told[0] and "WATCHDOG=1" in told
        assert made.stop() == 0
        while "STOPPING=1" not in (last := manager.recv(1000).decode()):
            assert last


def test_join_works_once_for_one_name(console, tmp_path):
    invitation = console.rest("POST", "/v1/systems", {"name": "system-a"})
    assert invitation["command"].endswith(f"--name system-a --token {invitation['token']}")
    with pytest.raises(Failure) as other:
        join(tmp_path, console.rpc_port, "system-x", invitation["token"], 1)
    assert other.value.failure_class == "denied"
    join(tmp_path, console.rpc_port, "system-a", invitation["token"], 1)
    with pytest.raises(Failure) as again:
        join(tmp_path, console.rpc_port, "system-a", invitation["token"], 1)
    assert again.value.failure_class == "denied" and "lpm system add system-a" in str(again.value)


def test_guessing_tokens_is_slowed_down(console, tmp_path):
    _, request = make_request(tmp_path, "system-a")
    client = Client(console.rpc_port, anonymous_context())
    classes = [client.call("join", name="system-a", token=f"LPM1-{i}", csr=request, address="127.0.0.1", port=1)
               ["error"]["class"] for i in range(40)]
    assert classes[0] == "denied" and "busy" in classes


@pytest.mark.parametrize("arguments", [
    {"csr": "nonsense"}, {"name": "../etc"}, {"address": ""}, {"port": 0}, {"port": 2**40}, {"token": 7},
    {"y" * 59 + "é" * 9: "x"}])
def test_hostile_joins_are_refused(console, tmp_path, arguments):
    token = console.rest("POST", "/v1/systems", {"name": "system-a"})["token"]
    _, request = make_request(tmp_path, "system-a")
    good = {"name": "system-a", "token": token, "csr": request, "address": "127.0.0.1", "port": 1}
    client = Client(console.rpc_port, anonymous_context())
    assert client.call("join", **{**good, **arguments})["error"]["class"] in ("usage", "denied")
    assert "certificate" in client.call("join", **good)["return"]


@pytest.mark.parametrize("line", [
    b"nonsense\n", b"{}\n", b'{"execute": 7}\n', b"[" * 100000 + b"\n", b'{"execute":"\xff"}\n', b"x" * (2 << 20) + b"\n",
    ('{"execute":"' + "x" * 59 + "é" * 200 + '","id":1}\n').encode()], ids=range(7))
def test_malformed_rpc_does_not_hurt(shared_console, line):
    client = Client(shared_console.rpc_port, anonymous_context())
    try:
        client.socket.sendall(line)
        client.lines.readline()
    except OSError:
        pass
    client.close()
    assert shared_console.rest("GET", "/v1/health") == {"status": "ok"}


def test_anonymous_peers_may_only_join(shared_console):
    client = Client(shared_console.rpc_port, anonymous_context())
    assert client.call("record-read", partition=UUID)["error"]["class"] == "denied"


def test_plain_text_is_no_tls(shared_console):
    with socket.create_connection(("127.0.0.1", shared_console.rpc_port), 5) as connection:
        connection.sendall(b'{"execute":"join"}\n')
        try:
            assert b"return" not in connection.recv(100)
        except OSError:
            pass
    assert shared_console.rest("GET", "/v1/health")


def system_client(console, host):
    key, cert, ca = host.files
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    context.load_cert_chain(cert, key)
    return Client(console.rpc_port, context)


def test_records_are_compared_and_swapped(console, pair):
    a, b = (system_client(console, host) for host in pair)
    assert a.call("record-read", partition=UUID)["return"]["record"] is None
    first = record("system-a", UUID, 1)
    assert b.call("record-cas", partition=UUID, expected=0, record=first)["error"]["class"] == "denied"
    assert a.call("record-cas", partition=UUID, expected=0, record=first)["return"] == {"done": True}
    assert a.call("record-cas", partition=UUID, expected=0, record=first)["return"] == {"done": False, "record": first}
    assert b.call("record-read", partition=UUID)["return"]["record"] == first
    offer = record("system-a", UUID, 2, peer="system-b", state=2)
    assert b.call("record-cas", partition=UUID, expected=1, record=offer)["error"]["class"] == "denied"
    assert a.call("record-cas", partition=UUID, expected=1, record=offer)["return"] == {"done": True}
    jump = record("system-a", UUID, 3, state=5)  # the right revision, but no swap of the table makes it
    assert a.call("record-cas", partition=UUID, expected=2, record=jump)["return"] == {"done": False, "record": offer}
    taken = record("system-a", UUID, 3, peer="system-b", state=3)
    assert b.call("record-cas", partition=UUID, expected=2, record=taken)["return"] == {"done": True}
    console.kill()
    console.start()
    a = system_client(console, pair[0])
    assert a.call("record-read", partition=UUID)["return"]["record"] == taken
    assert a.call("record-delete", partition=UUID, expected=2)["return"]["done"] is False
    assert a.call("record-delete", partition=UUID, expected=3)["return"] == {"done": True}
    assert a.call("record-read", partition=UUID)["return"]["record"] is None


@pytest.mark.parametrize("change", [
    {"record": "AAAA"}, {"record": "é"}, {"expected": 1}, {"expected": -1}, {"partition": "x"},
    {"partition": UUID.replace("6", "7")}, {"record": record("system-a", UUID, 1, broken=True)}], ids=range(7))
def test_wrong_records_are_refused(shared_console, shared_pair, change):
    client = system_client(shared_console, shared_pair[0])
    arguments = {"partition": UUID, "expected": 0, "record": record("system-a", UUID, 1), **change}
    assert client.call("record-cas", **arguments)["error"]["class"] == "usage"
    assert client.call("record-read", partition=UUID)["return"]["record"] is None


def test_a_deleted_system_is_refused(console, pair):
    client = system_client(console, pair[1])
    assert "return" in client.call("record-read", partition=UUID)
    console.rest("DELETE", "/v1/systems/system-b")
    assert client.call("record-read", partition=UUID)["error"]["class"] == "denied"
    assert [s["name"] for s in console.rest("GET", "/v1/systems")["systems"]] == ["system-a"]


def test_a_system_with_partitions_is_not_deleted(console, pair):
    assert console.refused("DELETE", "/v1/systems/system-a").error_class == "state"
    pair[0].vanish()
    assert console.refused("DELETE", "/v1/systems/system-a").error_class == "unreachable"
    assert console.rest("DELETE", "/v1/systems/system-a?force=true") == {}


def test_a_dead_connection_is_made_anew_before_a_system_is_given_up(console, pair):
    """As after an interruption of the network: the first question breaks the connection, and is asked again on a new one."""
    source, _ = pair
    answer, asked = source.verbs["partition-list"], []

    def once(arguments):
        asked.append(arguments)
        if len(asked) == 1:
            raise Drop()
        return answer(arguments)
    source.verbs["partition-list"] = once
    listed = console.rest("GET", "/v1/partitions")
    assert listed["unreachable"] == [] and "web1" in [p["name"] for p in listed["partitions"]], listed
    assert all(p["state"] != "unknown" for p in listed["partitions"]), listed


def state_of(console, name):
    return [s for s in console.rest("GET", "/v1/systems")["systems"] if s["name"] == name][0]


def test_systems_are_found_again(console, pair):
    source, _ = pair
    shown = console.rest("GET", "/v1/systems/system-a")
    assert shown["facts"]["name"] == "system-a" and abs(shown["clock_offset_us"]) < 1000000
    source.vanish()
    console.wait(lambda: state_of(console, "system-a")["state"] == "unreachable", "loss")
    assert state_of(console, "system-a")["error"]
    listed = console.rest("GET", "/v1/partitions")
    assert listed["unreachable"] == ["system-a"] and listed["partitions"][0]["state"] == "unknown"
    assert console.refused("GET", "/v1/partitions/web1").error_class == "unreachable"
    source.come_back()
    console.wait(lambda: state_of(console, "system-a")["state"] == "connected", "return")
    assert console.rest("GET", "/v1/partitions")["unreachable"] == []


def test_another_system_at_that_address_is_refused(console, pair, tmp_path):
    source, target = pair
    source.vanish()
    source.listener.shutdown(socket.SHUT_RDWR)
    source.listener.close()
    stranger = FakeHost(tmp_path, "system-a")
    stranger.files = target.files
    stranger.listener = socket.create_server(("127.0.0.1", source.port))
    stranger.listen()
    console.wait(lambda: "certificate" in (state_of(console, "system-a")["error"] or ""), "the wrong name to be noticed")
    assert state_of(console, "system-a")["state"] == "unreachable" and stranger.calls == []


@pytest.mark.parametrize("verb, reply", [
    ("partition-list", []), ("partition-list", {"partitions": 7}), ("partition-list", {"partitions": [7, {"name": 8}]}),
    ("system-info", []), ("system-info", {"clock_us": "x", "emulators": 7, "state": []}), ("partition-show", {"record": 7}),
    ("partition-show", [1])], ids=range(7))
def test_odd_answers_do_not_hurt(shared_console, shared_pair, verb, reply):
    shared_pair[0].verbs[verb] = lambda _: reply
    for path in ("/v1/partitions", "/v1/systems/system-a", "/v1/modes", "/v1/modes?common=system-a,system-b",
                 "/v1/partitions/web1"):
        try:
            shared_console.rest("GET", path)
        except Refused as refused:
            assert refused.error["message"]
    assert shared_console.rest("GET", "/v1/health")


@pytest.mark.parametrize("problem", [Hang(), Drop(), Raw(b"nonsense\n"), Raw(b'{"return":{},"id":99999}\n'),
                                     Failure("nonsense", "x")], ids=range(5))
def test_broken_answers_are_errors_of_that_system(shared_console, shared_pair, problem):
    def answer(_):
        raise problem
    shared_pair[0].verbs["partition-show"] = answer
    refused = shared_console.refused("GET", "/v1/partitions/web1")
    assert "system-a" in refused.error["message"]
    assert shared_console.rest("GET", "/v1/health")


def test_partitions(console, pair):
    profile = {"name": "db1", "family": "x86-64", "memory_mib": 256}
    made = console.rest("POST", "/v1/partitions", {"system": "system-b", "profile": profile})
    assert made["system"] == "system-b" and made["profile"]["name"] == "db1"
    assert console.rest("POST", "/v1/partitions/db1/start")["state"] == "running"
    assert console.rest("GET", "/v1/partitions/db1")["system"] == "system-b"
    exists = console.refused("POST", "/v1/partitions", {"system": "system-a", "profile": profile})
    assert exists.error_class == "exists" and "system-b" in exists.error["message"]
    assert [p["name"] for p in console.rest("GET", "/v1/partitions?system=system-b")["partitions"]] == ["db1"]
    assert console.rest("POST", "/v1/partitions/db1/stop", {"how": "hard"})["state"] == "not-activated"
    console.rest("DELETE", "/v1/partitions/db1")
    assert console.refused("GET", "/v1/partitions/db1").error_class == "not-found"


def image(name, uuid):
    return {"partition": name, "uuid": uuid, "state": "sealed", "bytes": 10, "used_us": 5, "image": "07" * 16, "generation": 1,
            "pages": 4, "zero_pages": 1}


def test_images_of_all_systems(console, pair):
    source, target = pair
    web1 = source.partitions["web1"]["uuid"]
    source.images = {web1: image("web1", web1)}
    target.images = {web1: image("web1", web1), UUID: image("db1", UUID)}
    store = console.rest("GET", "/v1/store")
    assert sorted((i["system"], i["partition"]) for i in store["images"]) == [
        ("system-a", "web1"), ("system-b", "db1"), ("system-b", "web1")]
    assert sorted((s["system"], s["used_bytes"]) for s in store["systems"]) == [("system-a", 10), ("system-b", 20)]
    assert [i["partition"] for i in console.rest("GET", f"/v1/store?system=system-b&partition={UUID}")["images"]] == ["db1"]
    assert console.refused("GET", "/v1/store?system=system-z").error_class == "not-found"
    assert console.refused("DELETE", "/v1/store").error_class == "usage"
    assert console.refused("DELETE", "/v1/store?partition=x9").error_class == "not-found"
    assert console.rest("DELETE", "/v1/store?partition=db1") == {"dropped": 1, "unreachable": []}
    target.verbs["store-list"] = lambda _: (_ for _ in ()).throw(Failure("usage", "no verb store-list"))
    store = console.rest("GET", "/v1/store")
    assert [i["system"] for i in store["images"]] == ["system-a"]
    assert [u["system"] for u in store["unreachable"]] == ["system-b"] and "store-list" in store["unreachable"][0]["error"]
    assert console.rest("DELETE", "/v1/store?all=true&system=system-b")["dropped"] == 1
    console.rest("DELETE", "/v1/partitions/web1")
    console.wait(lambda: not source.images, "the image of a partition that was deleted goes too")


@pytest.mark.parametrize("method, path, body, expected", [
    ("POST", "/v1/partitions", {"system": "system-z", "profile": SMALL}, "not-found"),
    ("POST", "/v1/partitions", {"system": "system-a", "profile": {**SMALL, "name": "x y"}}, "usage"),
    ("POST", "/v1/partitions", {"system": "system-a"}, "usage"),
    ("POST", "/v1/partitions/web1/stop", {"how": "gently"}, "usage"),
    ("POST", "/v1/partitions/web1/stop", {"timeout_ms": 0}, "usage"),
    ("PATCH", "/v1/partitions/web1", {"changes": {"name": "x"}}, "usage"),
    ("GET", "/v1/partitions?system=system-z", None, "not-found"),
    ("GET", "/v1/modes?common=system-z", None, "not-found"),
    ("POST", "/v1/systems", {"name": "a/b"}, "usage"),
    ("GET", "/v1/migrations/x", None, "not-found")])
def test_wrong_requests_are_refused(shared_console, shared_pair, method, path, body, expected):
    assert shared_console.refused(method, path, body).error_class == expected
    assert len(shared_pair[0].partitions) == 1 and not shared_pair[1].partitions


def test_the_record_decides_between_two_profiles(console, pair):
    source, target = pair
    target.add("web1", "not-activated", owner="system-a")
    listed = console.rest("GET", "/v1/partitions")["partitions"]
    assert [(p["system"], p["duplicate"]) for p in listed] == [("system-a", True), ("system-b", True)]
    shown = console.rest("GET", "/v1/partitions/web1")
    assert shown["system"] == "system-a" and "system-b" in shown["note"]
    source.partitions["web1"]["owner"] = target.partitions["web1"]["owner"] = "system-c"
    refused = console.refused("GET", "/v1/partitions/web1")
    assert refused.error_class == "conflict" and "system-c" in refused.error["message"]


def test_modes(shared_console, shared_pair):
    modes = shared_console.rest("GET", "/v1/modes?common=system-a,system-b")
    assert modes["common"] == {"x86-64": "x86-64-v3", "power": None}
    assert modes["systems"][0]["modes"]["x86-64"][0] == "x86-64-v3"


def test_events_say_who_did_what(console, pair):
    console.rest("POST", "/v1/systems/system-b/maintenance", {"maintenance": True})
    events = console.rest("GET", "/v1/events")["events"]
    last = events[-1]
    assert (last["kind"], last["object"], last["user"]) == ("system", "system-b", "admin")
    assert [e["number"] for e in events] == list(range(1, len(events) + 1))
    assert console.rest("GET", f"/v1/events?since={last['number']}")["events"] == []


def test_half_open_connections_do_not_shut_others_out(shared_console):
    hoard = [socket.create_connection(("127.0.0.1", shared_console.https_port), 5) for _ in range(100)]
    start = time.monotonic()
    assert shared_console.rest("GET", "/v1/health")
    assert time.monotonic() - start < 3
    for connection in hoard:
        connection.close()


def test_one_address_has_only_its_share_of_connections(shared_console):
    hoard = [socket.create_connection(("127.0.0.1", shared_console.https_port), 5, ("127.0.0.2", 0)) for _ in range(200)]
    try:
        assert shared_console.rest("GET", "/v1/health")
        closed = 0
        for connection in hoard:
            connection.setblocking(False)
            try:
                closed += connection.recv(1) == b""
            except BlockingIOError:
                pass
            except ConnectionError:
                closed += 1
        assert closed == 200 - 128
    finally:
        for connection in hoard:
            connection.close()


def test_a_console_has_only_so_many_systems(console):
    with open(console.state / "console.conf", "a") as config:
        config.write("max_systems=2\n")
    console.kill()
    console.start()
    for name in ("system-a", "system-b", "system-a"):
        assert console.rest("POST", "/v1/systems", {"name": name})["token"]
    refused = console.refused("POST", "/v1/systems", {"name": "system-c"})
    assert refused.error_class == "busy" and "max_systems" in str(refused)
    console.rest("DELETE", "/v1/systems/system-b")
    assert console.rest("POST", "/v1/systems", {"name": "system-c"})["token"]


def test_secrets_are_not_logged(console, pair):
    log = console.log()
    assert console.token not in log and "LPM1-" not in log
    assert "LPM1-" not in json.dumps(console.rest("GET", "/v1/events"))
