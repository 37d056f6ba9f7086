#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Clients of a partition's database (lab/guest/database): each inserts rows one after the other and notes what was answered.
Ends at SIGTERM, when every client has the answer that it waits for."""

import argparse
import json
import os
import signal
import socket
import threading
import time

WRITE_S = 0.1


class Client(threading.Thread):
    def __init__(self, name, address, port, over):
        super().__init__()
        self.name, self.over = name, over
        self.connection = socket.create_connection((address, port), timeout=20)
        self.connection.settimeout(120)  # longer than any move: it is never made anew
        self.acknowledged, self.longest, self.broken = 0, 0.0, ""

    def run(self):
        try:
            with self.connection.makefile("rw") as stream:
                while not self.over.is_set():
                    before = time.monotonic()
                    stream.write(f"insert {self.name} {self.acknowledged + 1}\n")
                    stream.flush()
                    if (answer := stream.readline()) != f"ok {self.acknowledged + 1}\n":
                        raise OSError(f"after row {self.acknowledged} the answer was {answer!r}")
                    self.acknowledged += 1
                    self.longest = max(self.longest, time.monotonic() - before)
        except OSError as error:
            self.broken = f"{self.name}: {error}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--prefix", default="client", help="of the clients' names: each name's rows begin at 1")
    parser.add_argument("--output", required=True)
    options = parser.parse_args()
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    clients = [Client(f"{options.prefix}-{number}", options.address, options.port, over) for number in range(options.clients)]
    for client in clients:
        client.start()

    def write():
        with open(options.output + ".new", "w", encoding="ascii") as file:
            json.dump({"acknowledged": {client.name: client.acknowledged for client in clients},
                       "longest_ms": round(max(client.longest for client in clients) * 1000),
                       "broken": [client.broken for client in clients if client.broken]}, file)
        os.rename(options.output + ".new", options.output)
    while any(client.is_alive() for client in clients):
        write()
        time.sleep(WRITE_S)
    write()


if __name__ == "__main__":
    main()
