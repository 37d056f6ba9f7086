# SPDX-License-Identifier: Apache-2.0
"""lpm-console as a process, and its REST interface."""

import contextlib
import http.client
import json
import os
import pathlib
import random
import socket
import ssl
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("LPM_BUILD", ROOT / "build")).resolve() / "src" / "console" / "lpm-console"
ENVIRONMENT = dict(os.environ, LPM_DATA_DIR=str(ROOT / "data"))


class Refused(Exception):
    """The console answered with an error."""

    def __init__(self, status, error):
        super().__init__(error.get("message"))
        self.status, self.error = status, error
        self.error_class = error.get("class")


def free_ports(count):
    """Below the range that the kernel gives to others."""
    ports = []
    while len(ports) < count:
        port = random.randrange(20000, 32000)
        with contextlib.suppress(OSError), socket.create_server(("0.0.0.0", port)):
            ports.append(port)
    return ports


def run_program(*argv, check=True):
    return subprocess.run([str(PROGRAM), *map(str, argv)], capture_output=True, text=True, env=ENVIRONMENT, check=check,
                          timeout=20)


class Console:
    def __init__(self, directory, **environment):
        self.directory = directory
        self.environment = {**ENVIRONMENT, **environment}
        self.state = directory / "console"
        self.https_port, self.rpc_port = free_ports(2)
        run_program("init", "--state", self.state, "--address", "127.0.0.1", "--https-port", self.https_port,
                    "--rpc-port", self.rpc_port)
        self.process = None
        self.token = dict(line.split("=", 1) for line in (self.state / "admin.conf").read_text().splitlines()
                          if "=" in line)["token"]

    def start(self):
        with open(self.directory / "console.log", "ab") as log:
            self.process = subprocess.Popen([str(PROGRAM), "--state", str(self.state), "--debug"], stderr=log,
                                            stdout=log, env=self.environment)
        self.wait(self.is_up, "lpm-console")

    def is_up(self):
        assert self.process.poll() is None, self.log()
        try:
            return self.rest("GET", "/v1/health")
        except OSError:
            return False

    def log(self):
        return (self.directory / "console.log").read_text()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Orderly; its exit code."""
        self.process.terminate()
        return self.process.wait(10)

    @staticmethod
    def wait(condition, what, timeout=15):
        end = time.monotonic() + timeout
        while not (result := condition()):
            assert time.monotonic() < end, f"waited {timeout} s for {what}"
            time.sleep(0.02)
        return result

    def rest(self, method, path, body=None, token=None):
        context = ssl.create_default_context(cafile=self.state / "ca.pem")
        connection = http.client.HTTPSConnection("127.0.0.1", self.https_port, timeout=40, context=context)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None,
                               {"Authorization": f"Bearer {token or self.token}"})
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status >= 400:
            raise Refused(response.status, answer["error"])
        return answer

    def refused(self, *arguments):
        """The error of a call that must fail."""
        with pytest.raises(Refused) as caught:
            self.rest(*arguments)
        return caught.value

    def migrate(self, partition="web1", target="system-b", **options):
        body = {"partition": partition, "target": target, "options": options}
        return self.rest("POST", "/v1/migrations", body)["migration"]

    def migration(self, move):
        return self.rest("GET", f"/v1/migrations/{move}")

    def wait_state(self, move, *states, timeout=15):
        def reached():
            shown = self.migration(move)
            assert shown["state"] in states or not shown["finished"], shown
            return shown if shown["state"] in states else None
        return self.wait(reached, f"{move} to be {states}", timeout)
