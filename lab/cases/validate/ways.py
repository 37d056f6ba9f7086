# SPDX-License-Identifier: Apache-2.0
"""More ways to break, to be named in Broken.made: what lpm-host believes, what it finds in its directories, and records."""

import contextlib
import json
import sqlite3
from uuid import uuid4

import lablib
import xxhash

from broken import SOURCE, TARGET, under_way
from installation import Refused


def started_with(place, **environment):
    """lpm-host of another release, say."""
    @contextlib.contextmanager
    def made(ground):
        ground.without_host(place, lambda: None, environment)
        try:
            yield
        finally:
            ground.without_host(place, lambda: None)
    return made


def remembered(place, **members):
    """What lpm-host found out about its emulator when it started first, which it does not ask again."""
    def write(ground, wanted):
        with contextlib.closing(sqlite3.connect(ground.dir / place / "state" / "host.db")) as database, database:
            where = ("system", "emulator-x86-64")
            (old,) = database.execute("SELECT value FROM document WHERE kind = ? AND key = ?", where).fetchone()
            database.execute("UPDATE document SET value = ? WHERE kind = ? AND key = ?",
                             (json.dumps({**json.loads(old), **wanted}), *where))
            return {name: json.loads(old)[name] for name in wanted}

    @contextlib.contextmanager
    def made(ground):
        before = {}
        ground.without_host(place, lambda: before.update(write(ground, members)))
        try:
            yield
        finally:
            ground.without_host(place, lambda: write(ground, before))
    return made


def read_only(place, *parts):
    """A directory in which lpm-host can make nothing any more."""
    @contextlib.contextmanager
    def made(ground):
        path = ground.dir.joinpath(place, *parts)
        # Processes of a lab have mounts of their own.
        inside = ("nsenter", "--mount", "--target", ground.pid(f"lpm-host-{place}"))
        lablib.command(*inside, "mount", "--bind", path, path)
        try:
            lablib.command(*inside, "mount", "-o", "remount,bind,ro", path)
            yield
        finally:
            lablib.command(*inside, "umount", path)
    return made


def files(**contents):
    """Files of systems' local pools: "system_b": {name: bytes}."""
    @contextlib.contextmanager
    def made(ground):
        paths = [(ground.dir / place.replace("_", "-") / "local" / name, data)
                 for place, named in contents.items() for name, data in named.items()]
        for path, data in paths:
            path.write_bytes(data)
        try:
            yield
        finally:
            for path, _ in paths:
                path.unlink(missing_ok=True)
    return made


def image(place, name, kind, mib):
    """An image in a system's local pool."""
    @contextlib.contextmanager
    def made(ground):
        path = ground.dir / place / "local" / name
        lablib.command("qemu-img", "create", "-q", "-f", kind, path, f"{mib}M")
        try:
            yield
        finally:
            path.unlink()
    return made


def owned_by(name, owner):
    """The ownership record of a partition names another system, of a name as long."""
    @contextlib.contextmanager
    def made(ground):
        uuid = ground.rest("GET", f"/v1/partitions/{name}")["profile"]["uuid"]
        path = ground.dir / "san" / ".lpm" / f"{uuid}.record"
        before = path.read_bytes()
        slots = [bytearray(before[at:at + 512]) for at in (0, 512)]
        for slot in slots:
            at = slot.find(SOURCE.encode())
            if at >= 0:
                slot[at:at + len(owner)] = owner.encode()
                slot[504:] = xxhash.xxh3_64_intdigest(bytes(slot[:504])).to_bytes(8, "little")
        path.write_bytes(b"".join(map(bytes, slots)))
        try:
            yield
        finally:
            path.write_bytes(before)
    return made


def left_half(name, place=TARGET):
    """A move was prepared at the target, and its console is gone: nobody has told the source, nor the target that it is off."""
    @contextlib.contextmanager
    def made(ground):
        shown = ground.host_rpc(SOURCE, "partition-show", partition=name)
        migration = uuid4().hex
        ground.host_rpc(place, "migration-prepare", migration=migration, source=SOURCE, profile=shown["profile"], runtime={},
                        active=False, key="0" * 64, options={})
        try:
            yield
        finally:
            with contextlib.suppress(Refused):
                ground.host_rpc(place, "migration-stop", migration=migration)
            lablib.wait_for(lambda: not under_way(ground, place), 90, "the half has ended")
    return made
