# SPDX-License-Identifier: Apache-2.0
"""Webhooks: events of lpm-console at a real HTTP server that takes them, refuses them, hangs, or is not there."""

import contextlib
import hashlib
import hmac
import http.server
import json
import ssl
import subprocess
import threading
import time

import pytest

from consolerun import PROGRAM, Console, free_ports, run_program
from fakehost import join_two

LPM = PROGRAM.parents[1] / "cli" / "lpm"
SECRET = "a key that only the two of us have"


class Receiver:
    """Keeps what it is sent; `answers` are given first, in their order, then 204."""

    def __init__(self, port=0, context=None):
        self.got, self.answers = [], []
        self.hold = threading.Event()  # while it is not set, nothing is answered
        self.hold.set()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, dict(self.headers), body))
                receiver.hold.wait(60)
                status = receiver.answers.pop(0) if receiver.answers else 204
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    if status == 302:
                        self.send_header("Location", "/elsewhere")
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def objects(self):
        return [json.loads(body)["object"] for _, _, body in list(self.got)]

    def close(self):
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def console(tmp_path):
    """Not started yet."""
    made = Console(tmp_path)
    yield made
    if made.process:
        made.kill()


def configure(console, port, name="chat", scheme="http", more="", head=""):
    secret = console.directory / "secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    conf = console.state / "console.conf"
    conf.write_text(f"{conf.read_text()}{head}[webhook {name}]\nurl={scheme}://127.0.0.1:{port}/hook\nsecret={secret}\n{more}")
    return secret


def invite(console, *names):
    for name in names:
        console.rest("POST", "/v1/systems", {"name": name})


def hook(console):
    return console.rest("GET", "/v1/webhooks")["webhooks"][0]


def wait_for(console, receiver, *names, timeout=30):
    console.wait(lambda: receiver.objects()[-len(names):] == list(names), f"{names}, got {receiver.objects()}", timeout)


def told(console):
    return [event["message"] for event in console.rest("GET", "/v1/events")["events"] if event["kind"] == "webhook"]


def test_each_event_arrives_signed_and_in_order(console, receiver):
    configure(console, receiver.port)
    console.start()
    invite(console, "one", "two", "three")
    wait_for(console, receiver, "one", "two", "three")
    stored = console.rest("GET", "/v1/events")["events"]
    for (path, headers, body), event in zip(receiver.got, stored, strict=True):
        assert path == "/hook" and json.loads(body) == event
        signed = hmac.new(SECRET.encode(), f"{headers['LPM-Timestamp']}.".encode() + body, hashlib.sha256).hexdigest()
        assert headers["LPM-Signature"] == f"sha256={signed}" and abs(time.time() - int(headers["LPM-Timestamp"])) < 60
        assert (headers["LPM-Event"], headers["LPM-Number"]) == ("system", str(event["number"]))
        assert headers["Content-Type"] == "application/json" and headers["LPM-Console"] == "console"
    console.wait(lambda: hook(console)["delivered"] == 3, "the count")
    shown = hook(console)
    assert (shown["state"], shown["waiting"], shown["error"], shown["events"]) == ("ok", 0, None, None)
    assert SECRET not in console.log()


def test_only_the_kinds_that_are_wanted(console, receiver, tmp_path):
    configure(console, receiver.port, more="events=migration;store\n")
    console.start()
    join_two(console, tmp_path)
    move = console.migrate()
    console.wait_state(move, "completed")
    wait_for(console, receiver, move, move)
    assert {json.loads(body)["kind"] for _, _, body in receiver.got} == {"migration"}
    assert json.loads(receiver.got[-1][2])["move"]["state"] == "completed"


def test_what_fails_is_sent_again_before_what_comes_after(console, receiver):
    receiver.answers = [500, 302, 404]
    configure(console, receiver.port)
    console.start()
    invite(console, "one", "two")
    console.wait(lambda: hook(console)["attempts"] >= 1, "the first failure")
    shown = subprocess.run([LPM, "webhook", "list", "--config", console.state / "admin.conf"], capture_output=True, text=True,
                           check=True, timeout=60).stdout
    assert "failing" in shown and "HTTP status" in shown and f"http://127.0.0.1:{receiver.port}/hook" in shown

    def taken():
        subprocess.run([LPM, "webhook", "retry", "chat", "--config", console.state / "admin.conf"], check=True, timeout=60,
                       stdout=subprocess.DEVNULL)
        return hook(console)["state"] == "ok" and hook(console)["waiting"] == 0
    console.wait(taken, "the rest to be delivered", 30)
    assert receiver.objects() == ["one"] * 4 + ["two"]
    assert {path for path, _, _ in receiver.got} == {"/hook"}  # a redirect is not followed
    assert "was not taken: the receiver answers HTTP status 500" in told(console)[0] and told(console)[1] == "takes events again"
    assert "was not taken 2 times" in console.log()


def test_by_itself_after_a_while(console, receiver):
    receiver.answers = [503]
    configure(console, receiver.port)
    console.start()
    invite(console, "one")
    console.wait(lambda: len(receiver.got) == 2, "the second try", 30)


def test_nothing_is_left_out_when_receiver_and_console_go_and_come(console):
    port, = free_ports(1)
    configure(console, port)
    console.start()
    invite(console, "one")
    console.wait(lambda: hook(console)["state"] == "failing", "it to fail")
    assert "refused" in hook(console)["error"].lower() or "connect" in hook(console)["error"].lower()
    console.kill()
    console.start()
    assert hook(console)["state"] == "failing" and hook(console)["attempts"] >= 1  # it remembers
    invite(console, "two")
    assert hook(console)["waiting"] == 2
    late = Receiver(port)
    try:
        console.rest("POST", "/v1/webhooks/chat/retry")
        wait_for(console, late, "one", "two")
        late.hold.clear()
        invite(console, "three")
        wait_for(console, late, "three")
        console.kill()  # sent, and not known to be taken
        late.hold.set()
        console.start()
        console.wait(lambda: late.objects().count("three") == 2, "it to be sent again", 30)
        invite(console, "four")
        wait_for(console, late, "four")
        assert late.objects() == ["one", "two", "three", "three", "four"]
    finally:
        late.close()


def test_a_move_does_not_wait_for_a_receiver_that_hangs(console, receiver, tmp_path):
    receiver.hold.clear()
    configure(console, receiver.port, more="timeout_s=60\n")
    console.start()
    join_two(console, tmp_path)
    console.wait(lambda: receiver.got, "the first event to arrive")
    move = console.migrate()
    console.wait_state(move, "completed")
    assert len(receiver.got) == 1 and hook(console)["waiting"] > 2


def test_an_event_that_the_receiver_refuses_does_not_stop_the_others(console, receiver):
    receiver.answers = [422, 422, 422]
    configure(console, receiver.port)
    console.start()
    invite(console, "odd", "good")

    def delivered():
        console.rest("POST", "/v1/webhooks/chat/retry")
        return hook(console)["delivered"] == 1
    console.wait(delivered, "the next one", 30)
    assert receiver.objects() == ["odd"] * 3 + ["good"] and hook(console)["given_up"] == 1
    assert any("given up after 3 attempts" in message for message in told(console))


def test_what_is_too_old_is_given_up(console, receiver):
    receiver.answers = [500] * 20
    configure(console, receiver.port, more="give_up_s=1\n")
    console.start()
    invite(console, "one")
    console.wait(lambda: hook(console)["given_up"] == 1, "it to be given up", 30)
    assert any("given up" in message for message in told(console))


def test_two_that_fail_do_not_feed_each_other(console):
    for name, port in zip(("chat", "tickets"), free_ports(2), strict=True):
        configure(console, port, name)
    console.start()
    invite(console, "one")
    console.wait(lambda: all(each["attempts"] >= 2 for each in console.rest("GET", "/v1/webhooks")["webhooks"]), "failures")
    assert len(told(console)) == 2  # and neither is told to anybody
    assert [each["waiting"] for each in console.rest("GET", "/v1/webhooks")["webhooks"]] == [1, 1]


def test_what_the_history_has_thrown_away_is_counted(console):
    port, = free_ports(1)
    configure(console, port, head="history=10\n")
    console.start()
    invite(console, *(f"system-{i}" for i in range(25)))
    late = Receiver(port)
    try:
        console.kill()
        console.start()
        console.rest("POST", "/v1/webhooks/chat/retry")
        console.wait(lambda: hook(console)["state"] == "ok" and hook(console)["waiting"] == 0, "the rest", 60)
        shown = hook(console)
        assert shown["lost"] > 5 and late.objects()[-1] == "system-24"
        assert "were thrown away before they could be sent" in console.log()
    finally:
        late.close()


def test_a_secret_that_others_may_read_is_not_used(console, receiver):
    secret = configure(console, receiver.port)
    secret.chmod(0o644)
    console.start()
    invite(console, "one")
    console.wait(lambda: hook(console)["state"] == "failing", "it to fail")
    assert "chmod 600" in hook(console)["error"] and not receiver.got
    secret.chmod(0o600)
    console.rest("POST", "/v1/webhooks/chat/retry")
    wait_for(console, receiver, "one")
    assert console.refused("POST", "/v1/webhooks/other/retry").error_class == "not-found"


@pytest.mark.parametrize("known", [True, False])
def test_who_the_receiver_is_must_be_proven(console, known):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(console.state / "cert.pem", console.state / "key.pem")
    taker = Receiver(context=context)
    configure(console, taker.port, scheme="https", more=f"ca={console.state / 'ca.pem'}\n" if known else "")
    console.start()
    invite(console, "one")
    try:
        if known:
            wait_for(console, taker, "one")
        else:
            console.wait(lambda: hook(console)["state"] == "failing", "it to fail")
            assert "certificate" in hook(console)["error"].lower() and not taker.got
    finally:
        taker.close()


@pytest.mark.parametrize("text, named", [
    ("[webhook x]\nsecret=/s\n", "url"), ("[webhook x]\nurl=ftp://a/\nsecret=/s\n", "https://"),
    ("[webhook x]\nurl=https://me:word@a/\nsecret=/s\n", "password"), ("[webhook x]\nurl=https://a/\n", "secret"),
    ("[webhook x]\nurl=https://a/\nsecret=s\n", "secret"), ("[webhook a/b]\nurl=https://a/\nsecret=/s\n", "a/b"),
    ("[webhook x]\nurl=https://a/\nsecret=/s\ntimeout_s=0\n", "timeout_s"), ("[webhook x]\nurl=https://a/\nother=1\n", "other"),
    ("[webhook x]\nurl=https://a/\nsecret=/s\nevents=system;migrations\n", '"migrations"; there are migration, ')])
def test_wrong_configuration_is_named(tmp_path, text, named):
    path = tmp_path / "console.conf"
    path.write_text("[console]\naddresses=a\n" + text)
    result = run_program("--config", path, check=False)
    assert result.returncode == 2 and named in result.stderr and str(path) in result.stderr
    assert "word" not in result.stderr.replace("password", "")
