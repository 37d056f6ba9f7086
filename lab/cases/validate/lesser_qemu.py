#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A QEMU that has less than the machine's own: it runs that one, and where lpm-host asks what it has, leaves things out of the
answers. What, is in the file beside it: {"version", "machines", "devices", "features"}."""

import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve()
LESS = json.loads(HERE.with_suffix(".json").read_text())


def without(message):
    """An answer of QMP without what this QEMU is not to have."""
    answer = message.get("return")
    if isinstance(answer, list):
        gone = {*LESS.get("machines", []), *LESS.get("devices", [])}
        message["return"] = [item for item in answer if not (isinstance(item, dict) and item.get("name") in gone)]
    elif isinstance(answer, dict) and "model" in answer:
        for feature in LESS.get("features", []):
            answer["model"].get("props", {})[feature] = False
    return message


def answer_questions(argv):
    option = argv.index("-qmp") + 1
    path = argv[option].removeprefix("unix:").split(",")[0]
    behind = path + ".real"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    argv[option] = argv[option].replace(path, behind)
    child = subprocess.Popen([LESS["real"], *argv], preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))
    client, _ = listener.accept()
    server = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + 10
    while True:
        try:
            server.connect(behind)
            break
        except OSError:
            if child.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    os.unlink(behind)
    if os.fork() == 0:
        while data := client.recv(65536):
            server.sendall(data)
        os._exit(0)
    for line in server.makefile("rb"):
        client.sendall(json.dumps(without(json.loads(line))).encode() + b"\r\n")


def main():
    argv = sys.argv[1:]
    if os.environ.pop("LD_PRELOAD", None):  # the clock of lpm-host is nothing for us
        os.execv(sys.executable, [sys.executable, *sys.argv])
    sys.stderr = open(HERE.with_suffix(".log"), "a", buffering=1)  # lpm-host does not keep what its questions' QEMU says
    if argv == ["--version"] and "version" in LESS:
        print(f"QEMU emulator version {LESS['version']}")
    elif "none" in argv and "-qmp" in argv:
        answer_questions(argv)
    else:
        os.execv(LESS["real"], [LESS["real"], *argv])


main()
