# SPDX-License-Identifier: Apache-2.0
"""The partitions that are measured: what they hold, and what they do."""

import os
import pathlib
import pwd
import subprocess
import sys
import time

from bare import USER
from lablib import PARTITIONS, wait_for
from meter import check_memory

MEMORY_MIB = 1024
SETTLE_S = 3.0
BOOT_S = 120

# Image variant, kernel options, and the name of the setting that is the writer's rate.
CONTENTS = {
    False: ("-bench", "lpm.mem=0 lpm.mixed=256 lpm.scratch=157 lpm.rate=0 lpm.verify=0 lpm.journal=0", "dirty", "check"),
    True: ("", "lpm.mem=256 lpm.rate=0 lpm.verify=0 lpm.journal=0", "rate", "verify"),
}


class Workload:
    """The work of a partition, set through its control port."""

    def __init__(self, lab, small):
        self.lab, self.small = lab, small
        self.variant, self.options, self.write_setting, self.check_setting = CONTENTS[small]

    def settle(self, address):
        """Waits until the partition's memory is filled and what booting left to do is done."""
        wait_for(lambda: self.lab.partition_status(address).get("memory_filled"), BOOT_S, "memory filled", 0.2)
        time.sleep(SETTLE_S)

    def work(self, address, row):
        self.lab.set_workload(address, **{self.write_setting: row.dirty_mb, self.check_setting: row.check_mb, "tick": 5})

    def rest(self, address):
        """So that it does not disturb while another partition is measured."""
        self.lab.set_workload(address, **{self.write_setting: 0, self.check_setting: 0, "tick": 0})


TOUCH = "import mmap, sys; mmap.mmap(-1, int(sys.argv[1]) << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)"
TOUCHED = 4  # times the partitions' memory: what they and the page cache take in a move


def warm_memory(count):
    """Touches free memory and gives it back. Under a hypervisor that takes free memory away the first use of a page can cost more than
    the rest of a move, and who is measured soon after another would have the other's pages for nothing."""
    free_mib = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    subprocess.run([sys.executable, "-c", TOUCH, str(min(TOUCHED * MEMORY_MIB * count, free_mib // 2))], check=True)


def arguments_of(lab, name):
    """QEMU's arguments of a running partition of ours."""
    found = lab.emulators(name)
    pid = next(iter(found.values()))[0]
    return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]


def make_disk(lab, name, size_mib=16):
    """The disk that a partition of QEMU alone has."""
    disk = lab.dir / "san" / f"{name}.raw"
    with open(disk, "wb") as file:
        file.truncate(size_mib << 20)
    owner = pwd.getpwnam(USER)
    os.chown(disk, owner.pw_uid, owner.pw_gid)
    return disk


def address_of(number):
    return f"{PARTITIONS}.{number}"


def verified(lab, addresses, figures):
    """The figures, once the memory of these partitions is known to be right."""
    for address in addresses:
        check_memory(lab, address)
    return figures

