# SPDX-License-Identifier: Apache-2.0
"""Commands inside a partition of the lab, typed on its serial console, where a shell of busybox waits."""

import contextlib
import itertools
import re
import socket
import time

from lablib import LabError

numbers = itertools.count(1)


def socket_of(lab, partition):
    shown = lab.rest("GET", f"/v1/partitions/{partition.name}")
    return shown["console_socket"]


def run(lab, partition, words, timeout=60, check=True):
    """What a command printed, its errors too. The console echoes what is typed, so the marks are put together inside."""
    number = next(numbers)
    line = f"echo '<'{number}-; {{ {words}; }} 2>&1; echo '>'{number}-$?-\n"
    wanted = re.compile(rf"<{number}-\r?\n(.*?)>{number}-(\d+)-".encode(), re.S)
    deadline, seen = time.monotonic() + timeout, b""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as console:
        console.connect(socket_of(lab, partition))
        console.settimeout(1)
        console.sendall(b"\n" + line.encode())
        while not (found := wanted.search(seen)):
            if time.monotonic() > deadline:
                raise LabError(f"{partition.name}: '{words}' on its console: {seen[-2000:]!r}")
            with contextlib.suppress(TimeoutError):
                seen += console.recv(65536) or b""
    text = found.group(1).decode(errors="replace").replace("\r", "").strip()
    if check and found.group(2) != b"0":
        raise LabError(f"{partition.name}: '{words}' ended with {found.group(2).decode()}: {text}")
    return text
