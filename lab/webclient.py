#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A client of the service on a cluster's floating address: asks without pause, each time over a new connection, and notes who
answered and how long nobody did. Ends at SIGTERM."""

import argparse
import http.client
import json
import os
import signal
import threading
import time

PERIOD_S = 0.05
ANSWER_S = 0.5   # no answer by then: asked again
SILENCE_S = 1.0  # what is noted
WRITE_S = 0.5


def ask(address):
    """The member that answers, or None."""
    connection = http.client.HTTPConnection(address, timeout=ANSWER_S)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        return answer.read().decode().split()[0] if answer.status == 200 else None
    except (OSError, http.client.HTTPException, IndexError):
        return None
    finally:
        connection.close()


class Record:
    """Runs of answers from one member, and silences; times are seconds since 1970."""

    def __init__(self):
        self.members, self.silences, self.answers, self.last = [], [], 0, None

    def take(self, member, now):
        if self.last is not None and now - self.last >= SILENCE_S:
            self.silences.append({"from": self.last, "s": round(now - self.last, 2)})
        if not self.members or self.members[-1]["member"] != member:
            self.members.append({"member": member, "from": now})
        self.answers, self.last = self.answers + 1, now

    def report(self, now):
        return {"answers": self.answers, "members": self.members, "silences": self.silences,
                "silent_s": round(now - self.last, 2) if self.last else None}


def write(record, output):
    with open(output + ".new", "w", encoding="ascii") as file:
        json.dump(record.report(time.time()), file)
    os.rename(output + ".new", output)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--output", required=True)
    options = parser.parse_args()
    over, record, written = threading.Event(), Record(), 0.0
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    while not over.is_set():
        member, now = ask(options.address), time.time()
        if member:
            record.take(member, now)
        if now - written > WRITE_S:
            write(record, options.output)
            written = now
        over.wait(PERIOD_S)
    write(record, options.output)


if __name__ == "__main__":
    main()
