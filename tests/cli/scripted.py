# SPDX-License-Identifier: Apache-2.0
"""A console that says what a test tells it to: HTTPS on the loopback, with a certificate authority of its own."""

import http.server
import json
import pathlib
import ssl
import subprocess
import threading
from urllib.parse import urlsplit

TOKEN = "LPMT-SECRET-OF-THE-TEST"


class Raw:
    """Bytes to send instead of a JSON answer; a status of None closes the connection after them."""

    def __init__(self, body=b"", status=200, headers=()):
        self.body, self.status, self.headers = body, status, headers


class Answer:
    def __init__(self, value, status=200):
        self.value, self.status = value, status


def failure(error_class, message, remedy, status=409):
    return Answer({"error": {"class": error_class, "message": message, "remedy": remedy}}, status)


def make_authority(directory, name="authority"):
    """Key and self-signed certificate for 127.0.0.1: authority and server in one."""
    key, certificate = directory / f"{name}.key", directory / f"{name}.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                   check=True, capture_output=True)
    return key, certificate


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments):
        pass

    def answer(self):
        script = self.server.script
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        url = urlsplit(self.path)
        script.requests.append((self.command, self.path, json.loads(body) if body else None, dict(self.headers)))
        planned = script.take(self.command, url.path)
        if isinstance(planned, Raw) and planned.status is None:
            self.wfile.write(planned.body)
            self.close_connection = True
            return
        if not isinstance(planned, (Raw, Answer)):
            planned = Answer(planned)
        data = planned.body if isinstance(planned, Raw) else json.dumps(planned.value).encode()
        self.send_response(planned.status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in getattr(planned, "headers", ()):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = answer


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a client that went away is part of some tests


class ScriptedConsole:
    """answers[("GET", "/v1/systems")] = one answer, or a list that is taken one by one, the last one for ever."""

    def __init__(self, directory: pathlib.Path, authority):
        self.directory, self.authority = directory, authority
        self.answers, self.requests = {}, []
        self.lock = threading.Lock()
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.script = self
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority[1], authority[0])
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.client_file = self.write_client_file()

    def write_client_file(self, name="admin.conf", **changes):
        settings = {"url": f"https://127.0.0.1:{self.port}", "ca": self.authority[1], "token": TOKEN, **changes}
        path = self.directory / name
        path.write_text("[console]\n" + "".join(f"{k}={v}\n" for k, v in settings.items() if v is not None))
        return path

    def take(self, method, path):
        with self.lock:
            planned = self.answers.get((method, path))
            if isinstance(planned, list):
                planned = planned.pop(0) if len(planned) > 1 else planned[0]
        if planned is None:
            return failure("not-found", f"nothing at {path}", "look elsewhere", 404)
        return planned() if callable(planned) else planned

    def close(self):
        self.server.shutdown()
        self.server.server_close()
