# SPDX-License-Identifier: Apache-2.0
"""Disks that are another one, somebody else's, or not to be reached, each made really true: LUNs of two targets, an NBD server,
images with backing files, a file system in user space."""

import contextlib
import os
import pathlib
import signal
import subprocess

import pytest

import broken
from broken import SOURCE, TARGET, Broken, rows
from installation import program
from lablib import HERE, wait_for

IQN = "iqn.2026-01.org.example:array"
SIZE = 4 << 20
ARRAYS = {"main": 3260, "other": 3270}  # two targets, of one name, that number their units alike
SECOND_ADDRESS, SECOND_PORT = "10.77.1.21", {"main": 3261, "other": 3271}  # another way to each
NBD_PORT = {"main": 10809, "other": 10819}
QEMU_MODULES = "/usr/lib/x86_64-linux-gnu/qemu"
LUN, EXPORT, CHAIN, DRIVE = "on-lun", "on-export", "on-chain", "with-drive"


# What is served

class Arrays:
    def __init__(self, ground):
        self.ground = ground
        self.dir = ground.dir / "arrays"
        self.dir.mkdir()

    def environment(self, name):
        return {**os.environ, "TGT_IPC_SOCKET": str(self.dir / f"{name}.ipc")}

    def tgtadm(self, name, operation, *words, check=True):
        return self.ground.run("san", "tgtadm", "-C", "3" if name == "main" else "4", "--lld", "iscsi", "--op", operation, *words,
                               check=check, env=self.environment(name))

    def image(self, name, number):
        """Of one content for each name and number."""
        path = self.dir / f"{name}-{number}"
        path.write_bytes(bytes([number]) * (SIZE // 2) + name.encode()[:4] * (SIZE // 8))
        return path

    def lun(self, name, number):
        self.tgtadm(name, "new", "--mode", "logicalunit", "--tid", "1", "--lun", number, "-b", self.image(name, number))

    def update(self, name, number, *parameters):
        self.tgtadm(name, "update", "--mode", "logicalunit", "--tid", "1", "--lun", number, "--params", ",".join(parameters))

    def start(self, name):
        self.ground.start("san", f"tgtd-{name}", "tgtd", "-f", "-C", "3" if name == "main" else "4", "--iscsi",
                          f"portal=0.0.0.0:{ARRAYS[name]}", env=self.environment(name))
        wait_for(lambda: self.tgtadm(name, "show", "--mode", "system", check=False).returncode == 0, 20, "tgtd answers")
        self.tgtadm(name, "new", "--mode", "target", "--tid", "1", "-T", IQN)
        self.tgtadm(name, "bind", "--mode", "target", "--tid", "1", "-I", "ALL")
        self.lun(name, 1)
        self.tgtadm(name, "new", "--mode", "portal", "--param", f"portal={SECOND_ADDRESS}:{SECOND_PORT[name]}")

    def serve_nbd(self, name):
        self.ground.start("san", f"nbd-{name}", "qemu-nbd", "--persistent", "--shared=0", "--cache=none", "-f", "raw", "-b",
                          self.ground.address("san"), "-p", NBD_PORT[name], "-x", "disk", self.image(f"nbd-{name}", 1))


def pools(ground_address, target=None):
    """Configuration of both systems; target: other keys of a pool at the target."""
    def of(place):
        return {"storage:array": {"kind": "iscsi", "portal": f"{ground_address}:{ARRAYS['main']}", "target": IQN,
                                  "portals": f"{SECOND_ADDRESS}:{SECOND_PORT['main']}",
                                  "initiator": f"iqn.2026-01.org.example:{place}"},
                "storage:exports": {"kind": "nbd", "server": f"{ground_address}:{NBD_PORT['main']}"},
                "storage:chain": {"path": "{dir}/chain", "shared": "true"}}
    here, there = of(SOURCE), of(TARGET)
    for group, keys in (target or {}).items():
        there.setdefault(group, {}).update(keys)
    return {SOURCE: here, TARGET: there}


SAN = "10.77.1.20"
HEALTHY = pools(SAN)


def make_chain(ground):
    """An overlay with a backing file beside it, named without a directory."""
    base = ground.dir / "chain"
    base.mkdir(mode=0o1777)
    (base / "base.raw").write_bytes(b"below" * (SIZE // 5) + bytes(SIZE % 5))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", "top.qcow2"], cwd=base, check=True)


def make_bare_qemu(ground):
    """A QEMU that does not find its modules, as without the package that has them."""
    path = ground.dir / "bare-qemu"
    path.write_text(f"""#!/bin/sh
exec unshare -m sh -c 'mount -t tmpfs none {QEMU_MODULES} && exec qemu-system-x86_64 "$@"' "$0" "$@"
""")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def stored(ground):
    """The ground with storage, and a partition on each kind of it."""
    arrays = ground.arrays = Arrays(ground)
    ground.run("san", "ip", "address", "add", f"{SECOND_ADDRESS}/24", "dev", "eth0")
    for name in ARRAYS:
        arrays.start(name)
        arrays.serve_nbd(name)
    make_chain(ground)
    make_bare_qemu(ground)
    (ground.dir / SOURCE / "local" / "cd.iso").write_bytes(bytes(SIZE))
    ground.configure(HEALTHY)
    small = {"name": "disk0", "format": "raw"}
    record = {**small, "pool": "san", "size_mib": 4}
    ground.make(LUN, 100, disks=[{**record, "file": "lun-record.raw"}, {**small, "name": "disk1", "pool": "array", "file": "1"}])
    ground.make(EXPORT, 101, disks=[{**record, "file": "nbd-record.raw"},
                                    {**small, "name": "disk1", "pool": "exports", "file": "disk"}])
    ground.make(CHAIN, 102, disks=[{"name": "disk0", "pool": "chain", "file": "top.qcow2", "format": "qcow2"}])
    ground.make(DRIVE, 103, disks=[{**record, "file": "drive-record.raw"},
                                   {**small, "name": "cd0", "pool": "local", "file": "cd.iso", "adapter": "scsi",
                                    "media": "optical", "read_only": True}])
    yield ground
    for name in (LUN, EXPORT, CHAIN, DRIVE):
        ground.delete(ground.partitions[name])


# Ways to break

def reserved(*words, place="console"):
    """A third initiator has it."""
    @contextlib.contextmanager
    def made(ground):
        log = ground.dir / "log" / "initiator.log"
        log.unlink(missing_ok=True)
        child = ground.start(place, "initiator", "/usr/bin/python3", HERE / "initiator.py", f"{SAN}:{ARRAYS['main']}", IQN, 1,
                             *words)
        wait_for(lambda: "held" in ground.log("initiator") or child.poll(), 20, "the reservation")
        assert "held" in ground.log("initiator"), ground.log("initiator")
        try:
            yield
        finally:
            child.terminate()
            assert child.wait(20) == 0, ground.log("initiator")
    return made


def lun_update(name, before, after):
    @contextlib.contextmanager
    def made(ground):
        ground.arrays.update(name, 1, before)
        try:
            yield
        finally:
            ground.arrays.update(name, 1, after)
    return made


@contextlib.contextmanager
def without_lun(ground):
    ground.arrays.tgtadm("other", "delete", "--mode", "logicalunit", "--tid", "1", "--lun", "1")
    try:
        yield
    finally:
        ground.arrays.lun("other", 1)


def hung(name):
    """A server takes connections and says nothing."""
    @contextlib.contextmanager
    def made(ground):
        pid = ground.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
    return made


def mirror(content):
    """A directory at the target that has the overlay and what lies beside it, but not the source's backing file."""
    @contextlib.contextmanager
    def made(ground):
        base = ground.dir / "mirror"
        base.mkdir(exist_ok=True)
        os.link(ground.dir / "chain" / "top.qcow2", base / "top.qcow2")
        (base / ".lpm").symlink_to(ground.dir / "chain" / ".lpm")
        if content is not None:
            (base / "base.raw").write_bytes(content)
        try:
            yield
        finally:
            for path in base.iterdir():
                path.unlink()
    return made


@contextlib.contextmanager
def locked(ground, name=broken.SLEEPER):
    """Somebody serves the image of a partition that rests, with QEMU's locks on it."""
    path = ground.dir / "san" / f"{name}.raw"
    child = ground.start("console", "server", "qemu-nbd", "-t", "-f", "raw", "-k", ground.dir / "server.sock", path)
    wait_for(lambda: (ground.dir / "server.sock").exists() or child.poll() is not None, 20, "the server has it")
    try:
        yield
    finally:
        child.terminate()
        child.wait(20)


@contextlib.contextmanager
def seen_from_afar(ground):
    """Somebody has the image, and it is no process of this system's: its lpm-host sees none but its own, as on a machine of its
    own. The partition rests there."""
    name = f"lpm-host-{TARGET}"
    os.kill(ground.pid(name), signal.SIGTERM)
    wait_for(lambda: name not in ground.recorded_processes(), 20, "end of lpm-host")
    child = ground.start(TARGET, name, "unshare", "--pid", "--fork", "--kill-child=SIGTERM", "--mount-proc", program("lpm-host"),
                         "--config", ground.dir / TARGET / "host.conf", env=ground.environment)
    ground.wait_for_system(TARGET)
    try:
        with locked(ground, "remote"):
            yield
    finally:
        child.kill()
        wait_for(lambda: name not in ground.recorded_processes(), 20, "end of lpm-host")
        ground.start_host(TARGET)
        ground.wait_for_system(TARGET)


@contextlib.contextmanager
def on_fuse(ground):
    """A partition with a disk that is, at the target, on a file system in user space: a page cache of its own."""
    path, below = ground.dir / "san" / "fuse.raw", ground.dir / "below.raw"
    path.write_bytes(bytes(SIZE))
    below.write_bytes(bytes(SIZE))
    disks = [{"name": "disk0", "pool": "san", "file": "fused-record.raw", "format": "raw", "size_mib": 4},
             {"name": "disk1", "pool": "san", "file": "fuse.raw", "format": "raw", "cache": "writeback"}]
    with ground.another("fused", 105, disks=disks):
        child = ground.start(TARGET, "fuse", "nsenter", "-m", "-t", ground.pid(f"lpm-host-{TARGET}"), "qemu-storage-daemon",
                             "--blockdev", f"driver=file,node-name=f,filename={below}", "--export",
                             f"fuse,id=x,node-name=f,mountpoint={path},writable=on,allow-other=on")
        wait_for(lambda: str(path) in pathlib.Path(f"/proc/{ground.pid(f'lpm-host-{TARGET}')}/mounts").read_text()
                 or child.poll() is not None, 10, "the export")
        try:
            yield
        finally:
            child.terminate()
            child.wait(20)


@contextlib.contextmanager
def one_route_less(ground):
    ground.run(TARGET, "ip", "route", "add", "blackhole", SECOND_ADDRESS)
    try:
        yield
    finally:
        ground.run(TARGET, "ip", "route", "del", "blackhole", SECOND_ADDRESS)


def array(**keys):
    return pools(SAN, {"storage:array": keys})


OTHER = array(portal=f"{SAN}:{ARRAYS['other']}", portals=f"{SECOND_ADDRESS}:{SECOND_PORT['other']}")
LIKE_THE_OTHER = ("storage.same-content",)  # two disks differ in both, mostly

BROKEN = [
    Broken("lun-reserved", "storage.reservation", ("write exclusive", "0xabc", "reserve_policy=no_reserve"), partition=LUN,
           config=HEALTHY, made=(reserved("reserve", "1", "0xabc"),), besides=("storage.registrations",)),
    Broken("lun-reserved-exclusively", "storage.reservation", ("exclusive access", "0xabd"), partition=LUN, config=HEALTHY,
           made=(reserved("reserve", "3", "0xabd"),), besides=("storage.registrations",), long=True),
    Broken("lun-registered", "storage.registrations", ("0xabe",), partition=LUN, config=HEALTHY,
           made=(reserved("register", "0xabe"),), severity="warning", long=True),
    Broken("lun-reserved-as-of-old", "storage.reservation", ("SCSI-2 RESERVE",), partition=LUN, config=HEALTHY,
           made=(reserved("reserve6"),), long=True),
    Broken("another-disk-of-the-number", "storage.same-disk", ("another disk", "disk1"), partition=LUN, config=OTHER,
           made=(lun_update("other", "scsi_id=exchanged", "scsi_id=IET     00010001"),), besides=LIKE_THE_OTHER),
    Broken("another-disk-of-the-name", "storage.same-content", ("places differ",), partition=LUN, config=OTHER,
           long=True),
    Broken("no-such-lun", "storage.visible", ("no such LUN",), partition=LUN, config=OTHER, made=(without_lun,), long=True),
    Broken("lun-write-protected", "storage.writable", ("write-protected",), partition=LUN, config=HEALTHY,
           made=(lun_update("main", "readonly=1", "readonly=0"),), long=True),
    Broken("portal-hangs", "storage.visible", ("does not answer",), partition=LUN, config=OTHER, made=(hung("tgtd-other"),),
           long=True),
    Broken("portal-refuses", "storage.visible", ("does not answer",), partition=LUN, config=array(portal=f"{SAN}:3999"),
           long=True),
    Broken("fewer-paths", "storage.paths", ("as many paths as on system-a: 2", "1 on system-b"), partition=LUN, config=HEALTHY,
           made=(one_route_less,), long=True),
    Broken("dead-path", "storage.paths-dead", ("portal",), partition=LUN, config=HEALTHY, severity="info",
           made=(one_route_less,), besides=("storage.paths",), long=True),
    Broken("no-driver", "storage.driver", ("Unknown driver", "qemu-block-extra"), partition=LUN,
           config=pools(SAN, {"qemu": {"x86-64": "{dir}/bare-qemu"}}), long=True),
    Broken("another-nbd-server", "storage.same-disk", ("another disk", f"{NBD_PORT['other']}"), partition=EXPORT,
           besides=LIKE_THE_OTHER, config=pools(SAN, {"storage:exports": {"server": f"{SAN}:{NBD_PORT['other']}"}}), long=True),
    Broken("nbd-hangs", "storage.visible", ("no answer in time",), partition=EXPORT, made=(hung("nbd-other"),),
           config=pools(SAN, {"storage:exports": {"server": f"{SAN}:{NBD_PORT['other']}"}}), long=True),
    Broken("reserve-policy", "storage.reserve-policy", ("single_path",), partition="policed", config=HEALTHY,
           made=(broken.neighbour("policed", 104, disks=[{"name": "disk0", "pool": "san", "file": "policed.raw", "size_mib": 4,
                                                          "reserve_policy": "single_path"}]),), long=True),
    Broken("backing-file-missing", "storage.backing", ("base.raw", "No such file"), partition=CHAIN, made=(mirror(None),),
           config=pools(SAN, {"storage:chain": {"path": "{dir}/mirror"}})),
    Broken("backing-file-differs", "storage.backing", ("content differs",), partition=CHAIN,
           made=(mirror(b"other" * (SIZE // 5) + bytes(4)),), long=True,
           config=pools(SAN, {"storage:chain": {"path": "{dir}/mirror"}})),
    Broken("medium-in-the-drive", "storage.optical", ("cd0", "eject"), partition=DRIVE, config=HEALTHY, long=True),
    Broken("image-locked-here", "storage.locks", ("qemu-nbd", "with the image's lock"), partition=broken.SLEEPER, config=HEALTHY,
           made=(locked,)),
    Broken("image-locked-elsewhere", "storage.locks", ("system-b sees a lock", "another host"), partition="remote", target=SOURCE,
           config=HEALTHY, made=(broken.neighbour("remote", 106, TARGET, start=False), seen_from_afar),
           besides=("partition.activated-once",), unchanged=(SOURCE,), long=True),
    Broken("cache-on-fuse", "storage.cache", ("FUSE", "writeback"), partition="fused", config=HEALTHY, made=(on_fuse,),
           long=True),
]


@pytest.mark.parametrize("name", [LUN, EXPORT, CHAIN])
def test_healthy(stored, name):
    stored.configure(HEALTHY)
    stored.judge_healthy(name)


@pytest.mark.parametrize("row", rows(BROKEN))
def test_storage_broken(stored, row):
    stored.judge(row)


@pytest.mark.long
def test_fewer_paths_overridden(stored):
    """As PowerVM's --mpio 2."""
    with stored.broken(next(row for row in BROKEN if row.name == "fewer-paths")):
        result, _ = stored.validate(LUN, options={"overrides": ["storage.paths"]})
        assert result["verdict"] == "warning", result


@pytest.mark.long
def test_healthy_after_all(stored):
    with stored.broken(Broken("", "", config=HEALTHY)):
        for name in (LUN, EXPORT, CHAIN):
            stored.judge_healthy(name)
    assert pathlib.Path(stored.dir / "arrays").exists()
