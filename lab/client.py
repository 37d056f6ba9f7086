# SPDX-License-Identifier: Apache-2.0
"""Talks to a partition's services without pause, and reports what it saw as JSON at its end (SIGTERM or --duration).

Over TCP it sends a numbered request every period on one connection and expects each answer to be exactly the next one, of the
same boot; requests go on being sent while answers are missing. Over UDP it sends numbered datagrams and notes the longest time in
which none came back: TCP's own retransmission timer does not blur that figure.
"""

import argparse
import json
import pathlib
import select
import signal
import socket
import struct
import sys
import time


class Gaps:
    """The longest time between two things that should come steadily."""

    def __init__(self, now):
        self.last, self.longest, self.count = now, 0.0, 0

    def note(self, now):
        self.longest = max(self.longest, now - self.last)
        self.last = now
        self.count += 1


class Answers:
    """The TCP side."""

    def __init__(self, address, port, now):
        self.socket = socket.create_connection((address, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.sent = self.wrong = 0
        self.boot_id = self.failure = None
        self.pending, self.unsent = b"", b""
        self.gaps = Gaps(now)

    def send_next(self):
        self.sent += 1
        self.unsent += b"%d\n" % self.sent
        self.flush()

    def flush(self):
        try:
            while self.unsent and not self.failure:
                self.unsent = self.unsent[self.socket.send(self.unsent):]
        except BlockingIOError:
            pass
        except OSError as error:
            self.failure = f"send: {error}"

    def receive(self, now):
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.failure = f"receive: {error}"
            return
        if not data:
            self.failure = "the partition closed the connection"
            return
        *lines, self.pending = (self.pending + data).split(b"\n")
        for line in lines:
            self.check(line.decode(errors="replace").split(), now)

    def check(self, words, now):
        self.gaps.note(now)
        self.boot_id = self.boot_id or (words[1] if len(words) == 3 else None)
        expected = str(self.gaps.count)
        if words != [expected, self.boot_id, expected]:
            self.wrong += 1

    @property
    def outstanding(self):
        return self.sent - self.gaps.count

    def report(self):
        return {"sent": self.sent, "answered": self.gaps.count, "lost": self.outstanding, "wrong": self.wrong,
                "connection_failure": self.failure, "boot_id": self.boot_id,
                "longest_gap_ms": round(self.gaps.longest * 1000, 1)}


class Echo:
    """The UDP side."""

    def __init__(self, address, port, now):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((address, port))
        self.socket.setblocking(False)
        self.sent = 0
        self.gaps = Gaps(now)

    def send_next(self):
        self.sent += 1
        try:
            self.socket.send(struct.pack("<Q", self.sent))
        except OSError:
            pass  # nobody there just now: that is what the gap measures

    def receive(self, now):
        try:
            self.socket.recv(64)
        except OSError:
            return
        self.gaps.note(now)

    def report(self):
        return {"udp_sent": self.sent, "udp_received": self.gaps.count,
                "udp_longest_gap_ms": round(self.gaps.longest * 1000, 1)}


def talk(options, stopped):
    now = time.monotonic()
    answers = Answers(options.address, options.port, now)
    echo = Echo(options.address, options.udp_port, now)
    print("connected", flush=True)
    end = now + options.duration if options.duration else float("inf")
    period, next_send, grace = options.period_ms / 1000, now, None
    while not answers.failure:
        if grace is None and (stopped() or now >= end):
            grace = now + options.grace
        if grace is not None and (now >= grace or answers.outstanding == 0):
            break
        if grace is None and now >= next_send:
            answers.send_next()
            echo.send_next()
            next_send = max(next_send + period, now - 1)
        writable = [answers.socket] if answers.unsent else []
        readable, writable, _ = select.select([answers.socket, echo.socket], writable, [],
                                              max(0.0, min(next_send - now, 0.05)) if grace is None else 0.02)
        now = time.monotonic()
        if writable:
            answers.flush()
        if answers.socket in readable:
            answers.receive(now)
        if echo.socket in readable:
            echo.receive(now)
    if answers.outstanding:
        answers.gaps.longest = max(answers.gaps.longest, now - answers.gaps.last)
    return {**answers.report(), **echo.report()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, default=7000)
    parser.add_argument("--udp-port", type=int, default=7003)
    parser.add_argument("--period-ms", type=float, default=10)
    parser.add_argument("--duration", type=float, help="seconds; without it until SIGTERM")
    parser.add_argument("--grace", type=float, default=10, help="seconds to wait for the last answers")
    parser.add_argument("--output", type=pathlib.Path, help="file for the report instead of standard output")
    options = parser.parse_args()
    signals = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: signals.append(received))
    report = talk(options, lambda: bool(signals))
    report["whole"] = not (report["lost"] or report["wrong"] or report["connection_failure"])
    text = json.dumps(report)
    if options.output:
        options.output.write_text(text + "\n")
    else:
        print(text)
    return 0 if report["whole"] else 1


if __name__ == "__main__":
    sys.exit(main())
