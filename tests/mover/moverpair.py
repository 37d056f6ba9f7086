# SPDX-License-Identifier: Apache-2.0
"""lpm-host and QEMU as a test sees them: starts movers, speaks their control protocol, holds the other ends of their sockets."""
import os
import pathlib
import select
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "spec"))
import lpmwire  # noqa: E402

BUILD = pathlib.Path(os.environ.get("LPM_BUILD", ROOT / "build"))
MOVER = BUILD / "src" / "mover" / "lpm-mover"
FAULTY = BUILD / "src" / "mover" / "lpm-mover-fault"
MIGRATION = bytes(range(1, 17))
KEY = bytes(range(100, 132))
PATIENCE = 20


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Authority:
    """A certificate authority in a directory, and the certificates it makes."""

    def __init__(self, directory, name="authority"):
        self.directory = pathlib.Path(directory)
        self.ca, self.ca_key = self.directory / f"{name}.pem", self.directory / f"{name}-key.pem"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", f"/CN={name}", "-keyout", str(self.ca_key), "-out", str(self.ca))

    def certificate(self, system, role="system"):
        base = self.directory / f"{self.ca.stem}-{system}-{role}"
        key, request, cert = (base.with_suffix(s) for s in (".key", ".csr", ".pem"))
        if cert.exists():
            return cert, key
        extensions = base.with_suffix(".ext")
        extensions.write_text(f"subjectAltName=DNS:{system}\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", f"/CN={system}/O={role}", "-keyout", str(key), "-out", str(request))
        openssl("x509", "-req", "-in", str(request), "-CA", str(self.ca), "-CAkey", str(self.ca_key), "-days", "1",
                "-CAcreateserial", "-extfile", str(extensions), "-out", str(cert))
        return cert, key


class Mover:
    """One mover process with its control socket and QEMU's end of its VASI socket."""

    def __init__(self, side, net, system, peer, authority=None, program=MOVER, fault=None, role="system", memory=None, image=None,
                 vasi=True, certificate_of=None, **config):
        self.side = side
        self.control, control = socket.socketpair()
        nets = net if isinstance(net, list) else [net]
        fds = {"control": control}
        self.vasi = None
        if vasi:
            self.vasi, fds["vasi"] = socket.socketpair()
            self.vasi.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        files = []
        if authority:
            cert, key = authority.certificate(certificate_of or system, role)
            for name, path in (("cert", cert), ("key", key), ("ca", authority.ca)):
                files.append(open(path, "rb"))
                fds[name] = files[-1]
        arguments = [f"--{name}={thing.fileno()}" for name, thing in fds.items()]
        arguments.append("--net=" + ",".join(str(one.fileno()) for one in nets))
        passed = [thing.fileno() for thing in [*fds.values(), *nets]]
        if image is not None:
            arguments.append(f"--image={image}")
            passed.append(image)
            config["image"] = 1
        if memory is not None:
            arguments.append(f"--memory={memory}")
            passed.append(memory)
            config["memory_size"] = os.fstat(memory).st_size
        if fault:
            arguments.append(f"--fault={fault}")
        self.process = subprocess.Popen([str(program), *arguments], pass_fds=passed, stderr=subprocess.PIPE)
        for thing in [*fds.values(), *nets, *files]:
            thing.close()
        values = {"side": 1 if side == "src" else 2, "mode": 1, "transport": 1 if authority else 2, "codec": 1,
                  "migration": MIGRATION, "key": KEY, "system": system, "peer": peer, **config}
        self.buffer = bytearray()
        self.seen = []
        self.send("CONFIG", **values)

    def send(self, name, **values):
        self.control.sendall(lpmwire.encode(name, MIGRATION, **values))

    def next_event(self, timeout=PATIENCE):
        """Next control frame; None at the end of the descriptor."""
        deadline = time.monotonic() + timeout
        while True:
            got = lpmwire.decode(self.buffer)
            if got:
                del self.buffer[:got[1]]
                self.seen.append(got[0])
                return got[0]
            self.control.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self.control.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self.buffer += data

    def expect(self, name, timeout=PATIENCE):
        """The next event of this name; STATS and other news before it are passed over, an ERROR is not."""
        deadline = time.monotonic() + timeout
        while True:
            event = self.next_event(max(0.01, deadline - time.monotonic()))
            assert event is not None, f"{self.side}: ended while waiting for {name}; {self.stderr()}"
            if event.name == name:
                return event
            assert event.name != "ERROR", f"{self.side}: {event} while waiting for {name}"

    def peak_kib(self):
        """Most memory that it ever held."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(next(line.split()[1] for line in status if line.startswith("VmHWM")))

    def stderr(self):
        return self.process.stderr.read().decode()

    def wait(self, timeout=PATIENCE):
        return self.process.wait(timeout)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thing in (self.control, self.vasi, self.process.stderr):
            if thing:
                thing.close()


class Relay:
    """Between two movers: keeps what went by, and may do harm."""

    def __init__(self, target, harm=None):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.target, self.harm = target, harm
        self.captured = {"src": bytearray(), "dst": bytearray()}
        self.ends = None

    def pump(self, timeout=0.0):
        if self.ends is None:
            if not select.select([self.listener], [], [], timeout)[0]:
                return
            near = self.listener.accept()[0]
            self.ends = {near: ("src", socket.create_connection(self.target))}
            far = self.ends[near][1]
            self.ends[far] = ("dst", near)
        for end in select.select(list(self.ends), [], [], timeout)[0]:
            side, other = self.ends[end]
            try:
                data = end.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                del self.ends[end]
                try:
                    other.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                continue
            at = len(self.captured[side])
            self.captured[side] += data
            if self.harm:
                data = self.harm(side, at, data)
            other.sendall(data)


class Pair:
    """A source and a target mover that are connected to each other."""

    def __init__(self, authority=None, relay_harm=None, with_relay=False, src=None, dst=None, **both):
        self.movers = []
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        self.relay = Relay(address, relay_harm) if with_relay or relay_harm else None
        self.dst = Mover("dst", listener, "sys-b", "sys-a", authority, **{**both, **(dst or {})})
        net = socket.create_connection(self.relay.address if self.relay else address)
        self.src = Mover("src", net, "sys-a", "sys-b", authority, **{**both, **(src or {})})
        self.movers = [self.src, self.dst]

    def connect(self):
        import threading
        if self.relay:
            self.stop_relay = False

            def run():
                while not self.stop_relay:
                    try:
                        self.relay.pump(0.05)
                    except OSError:
                        return
            self.thread = threading.Thread(target=run, daemon=True)
            self.thread.start()
        self.src.expect("CONNECTED")
        self.dst.expect("CONNECTED")
        return self

    def finish(self):
        """The good end: both exit with 0."""
        self.src.send("FINISH")
        self.dst.expect("PEER_CLOSED")
        self.dst.send("FINISH")
        for mover in self.movers:
            mover.expect("FINISHED")
            assert mover.wait() == 0

    def stop(self):
        if self.relay:
            self.stop_relay = True
        for mover in self.movers:
            mover.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def copy_both_ways(pair, forward, backward=b""):
    """Plays both QEMUs: writes the streams, returns what came out at the other ends, closes nothing."""
    feeds = {pair.src.vasi: memoryview(forward), pair.dst.vasi: memoryview(backward)}
    sinks = {pair.dst.vasi: (bytearray(), len(forward)), pair.src.vasi: (bytearray(), len(backward))}
    for end in feeds:
        end.setblocking(False)
    deadline = time.monotonic() + 60
    while any(feeds.values()) or any(len(got) < want for got, want in sinks.values()):
        assert time.monotonic() < deadline, "the stream does not get through"
        want_read = [end for end, (got, want) in sinks.items() if len(got) < want]
        want_write = [end for end, rest in feeds.items() if rest]
        readable, writable, _ = select.select(want_read, want_write, [], 5)
        for end in readable:
            data = end.recv(1 << 20)
            assert data, "a stream ended early"
            sinks[end][0].extend(data)
        for end in writable:
            feeds[end] = feeds[end][end.send(feeds[end][:1 << 18]):]
    for end in feeds:
        end.setblocking(True)
    return bytes(sinks[pair.dst.vasi][0]), bytes(sinks[pair.src.vasi][0])
