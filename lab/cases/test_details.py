# SPDX-License-Identifier: Apache-2.0
"""What must be the same after a move, asserted from inside the partition: one partition that has everything, moved there and back."""

import pathlib
import re
import time

import pytest

import shell
from lablib import wait_for
from witness import Witness, runs_once

STEP_MIB = {"x86-64": 128, "power": 256}
BASE_MIB = {"x86-64": 256, "power": 512}
EFI = "/sys/firmware/efi/efivars"
EFI_VARIABLE = f"{EFI}/LpmLab-5b1c6a44-3c1f-4b1e-9d53-0a7f1f5a7d10"
AHEAD_S = 400 * 24 * 3600


class Inside:
    """What the guest says of itself."""

    def __init__(self, lab, partition):
        self.lab, self.partition = lab, partition

    def run(self, words, **options):
        return shell.run(self.lab, self.partition, words, **options)

    def same(self):
        """All that no move may change."""
        power = self.partition.profile["family"] == "power"
        return {
            "devices": self.run("for d in /sys/bus/pci/devices/*; do echo ${d##*/} $(cat $d/vendor $d/device $d/irq); done"),
            "mac": self.run("cat /sys/class/net/eth0/address"),
            "uuid": self.run("cat /proc/device-tree/vm,uuid | tr -d '\\000'" if power else "cat /sys/class/dmi/id/product_uuid").lower(),
            "disk": self.run("cat /sys/block/vda/serial /sys/block/vda/size"),
            "memory": self.run("grep MemTotal /proc/meminfo; grep 'System RAM' /proc/iomem"),
            "processors": self.run("cat /sys/devices/system/cpu/online"),
            "boot": self.run("cat /proc/sys/kernel/random/boot_id /proc/cmdline"),
        }

    def clock_s(self):
        return int(self.run("cat /sys/class/rtc/rtc0/since_epoch"))

    def ahead_s(self):
        return self.clock_s() - time.time()

    def memory_mib(self):
        return int(re.search(r"MemTotal: +(\d+)", self.run("grep MemTotal /proc/meminfo")).group(1)) // 1024


def add_memory(lab, inside, times=1):
    family = inside.partition.profile["family"]
    for _ in range(times):
        before = inside.memory_mib()
        lab.lpm("partition", "add-memory", inside.partition.name, str(STEP_MIB[family]))
        wait_for(lambda: inside.memory_mib() >= before + STEP_MIB[family] - 16, 60, "the added memory in use", 0.5)


def add_processor(lab, inside):
    lab.lpm("partition", "add-processors", inside.partition.name, "1")
    wait_for(lambda: "cpu1" in inside.run("ls /sys/devices/system/cpu"), 60, "the added processor", 0.5)
    inside.run("echo 1 >/sys/devices/system/cpu/cpu1/online")


def fill_memory(inside, mib):
    """More than the partition had at its start holds: its sum must come out the same after each move."""
    return inside.run(f"dd if=/dev/urandom of=/tmp/filled bs=1M count={mib} 2>/dev/null; md5sum /tmp/filled", timeout=120)


def qemu_words(lab, partition):
    """QEMU's devices, by its command line."""
    (place, (pid,)), = lab.emulators(partition.name).items()
    with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
        words = file.read().split("\0")
    return place, [word for word, option in zip(words[1:], words) if option == "-device"]


def whole_mib(lab, partition):
    """What it was started with and what was added: a verified move compares all of it."""
    return sum(row["memory_mib"] for row in lab.rest("GET", "/v1/partitions")["partitions"] if row["name"] == partition.name)


def there_and_back(lab, inside, check):
    partition = inside.partition
    for target in ("system-b", "system-a"):
        status = lab.migrate(partition.name, target)
        assert status["state"] == "completed", (target, status["error"], status["findings"])
        assert status["verify"]["pages"] == whole_mib(lab, partition) * 256, status["verify"]
        runs_once(lab, partition, target)
        check()


def test_everything_of_a_partition_there_and_back(lab, create):
    partition = create("system-a", "details", "x86-64", 47, processors=1, processors_max=3, memory_max_mib=256 + 2 * 128,
                       kernel_options="memhp_default_state=online lpm.mem=8", boot_order="disk0")
    inside = Inside(lab, partition)
    add_memory(lab, inside)
    add_processor(lab, inside)
    filled = fill_memory(inside, 170)
    inside.run(f"date -s @{int(time.time()) + AHEAD_S} >/dev/null; hwclock -w -u")
    same = inside.same()
    profile = lab.rest("GET", f"/v1/partitions/{partition.name}")["profile"]
    assert same["uuid"] == profile["uuid"] and same["mac"] == profile["networks"][0]["mac"]
    assert same["processors"] == "0-1"
    inside.run("echo 'said on the first' 'system' >/dev/console")
    order = [word.rsplit("bootindex=")[1] for word in qemu_words(lab, partition)[1] if "bootindex=" in word]

    def check():
        assert inside.same() == same
        assert inside.run("md5sum /tmp/filled", timeout=120) == filled
        assert inside.run("taskset 2 echo on the second") == "on the second"
        assert abs(inside.ahead_s() - AHEAD_S) < 60, inside.ahead_s()
        assert [word.rsplit("bootindex=")[1] for word in qemu_words(lab, partition)[1] if "bootindex=" in word] == order
        shown = lab.rest("GET", f"/v1/partitions/{partition.name}")
        log = (pathlib.Path(shown["console_socket"]).parent / "console.log").read_text(errors="replace")
        assert "said on the first system" in log and f"[openlpm: comes to {shown['system']}," in log, log[-2000:]
        assert abs(shown["profile"]["rtc_offset_s"] - AHEAD_S) < 60, shown["profile"]

    there_and_back(lab, inside, check)
    # At its next start it is what its profile says, but for the clock, which its operating system set.
    lab.lpm("partition", "restart", partition.name, "--hard")
    lab.wait_for_partition(partition.address)
    assert inside.memory_mib() < 256 and inside.run("cat /sys/devices/system/cpu/online") == "0"
    assert abs(inside.ahead_s() - AHEAD_S) < 60


def write_in_added_memory(lab, inside):
    """The workloads start anew: what they take now is of the added memory, which x86's Linux gives away first."""
    started = lab.partition_status(inside.partition.address)["boot_id"]
    before = inside.run("pidof workloads")
    inside.run("killall workloads")
    wait_for(lambda: inside.run("pidof workloads", check=False) not in ("", before), 30, "the workloads anew", 0.2)
    assert lab.wait_for_partition(inside.partition.address)["boot_id"] == started


def move_while_it_writes(lab, partition, moves, **limits):
    """Returns in how many moves QEMU had lost memory, which was repaired."""
    lost = 0
    for target in ("system-b", "system-a") * (moves // 2):
        witness = Witness(lab, partition)
        try:
            status = lab.migrate(partition.name, target, timeout=400, **limits)
            assert status["state"] == "completed", (target, status["error"], status["findings"])
            assert status["verify"]["pages"] == whole_mib(lab, partition) * 256, status["verify"]
            assert status["verify"]["repaired"] == status["verify"]["differing"], status["verify"]
            runs_once(lab, partition, target)
            witness.judge()
        finally:
            witness.end()
        lost += status["verify"]["differing"] > 0
        print(f"{partition.name} to {target}: {status['verify']}", flush=True)
    return lost


def test_added_memory_that_is_written_to(lab, create):
    """Software emulation does not see all that is written to added memory: docs/decisions/added-memory-under-emulation.md."""
    partition = create("system-a", "writer", "x86-64", 46, processors=1, memory_max_mib=256 + 128,
                       kernel_options="memhp_default_state=online lpm.mem=24 lpm.rate=30")
    inside = Inside(lab, partition)
    add_memory(lab, inside)
    write_in_added_memory(lab, inside)
    refused = lab.lpm("migrate", partition.name, "system-b", check=False)
    assert refused.returncode != 0 and "server.emulator-safe" in refused.stdout + refused.stderr, refused
    move_while_it_writes(lab, partition, 2, max_rate=60_000_000)


@pytest.mark.long
@pytest.mark.parametrize("processors, modules", [(1, 2), (2, 1), (2, 2)])
def test_added_memory_that_is_written_to_for_long(lab, create, processors, modules):
    partition = create("system-a", "writer", "x86-64", 46, processors=processors, memory_max_mib=256 + 128 * modules,
                       kernel_options="memhp_default_state=online lpm.mem=48 lpm.rate=30")
    inside = Inside(lab, partition)
    add_memory(lab, inside, modules)
    write_in_added_memory(lab, inside)
    lost = move_while_it_writes(lab, partition, 8, max_rate=60_000_000)
    lost += move_while_it_writes(lab, partition, 8, raw=True)
    print(f"{processors} processors, {modules} modules: memory was lost and repaired in {lost} of 16 moves")


@pytest.mark.long
def test_uefi_variables(lab, create):
    """They are a disk of the partition: what its operating system sets is there after a move, and after a start at the other system."""
    partition = create("system-a", "uefi", "x86-64", 48, firmware="uefi", kernel_options="lpm.mem=8")
    inside = Inside(lab, partition)
    variables = lab.rest("GET", f"/v1/partitions/{partition.name}")["profile"]["disks"][1]
    assert variables["purpose"] == "firmware" and variables["pool"] == "san"
    inside.run(f"insmod /lib/modules/efivarfs.ko; mount -t efivarfs efivarfs {EFI} && printf '\\007\\000\\000\\000before the move' >{EFI_VARIABLE}")
    same = inside.same()

    def check():
        assert inside.same() == same
        assert inside.run(f"tail -c +5 {EFI_VARIABLE}") == "before the move"

    there_and_back(lab, inside, check)
    assert lab.migrate(partition.name, "system-b")["state"] == "completed"
    lab.lpm("partition", "restart", partition.name, "--hard")
    lab.wait_for_partition(partition.address)
    inside.run(f"insmod /lib/modules/efivarfs.ko; mount -t efivarfs efivarfs {EFI}")
    assert inside.run(f"tail -c +5 {EFI_VARIABLE}") == "before the move"


@pytest.mark.long
def test_everything_of_a_power_partition(lab, create):
    disks = [{"name": "disk0", "pool": "san", "file": "pdetails.raw", "format": "raw", "size_mib": 16},
             {"name": "nvram", "pool": "san", "file": "pdetails.nvram", "size_mib": 1, "purpose": "firmware"}]
    partition = create("system-a", "pdetails", "power", 49, memory_max_mib=512 + 2 * 256, disks=disks,
                       kernel_options="memhp_default_state=online lpm.mem=8")
    inside = Inside(lab, partition)
    add_memory(lab, inside)
    filled = fill_memory(inside, 500)
    same = inside.same()
    profile = lab.rest("GET", f"/v1/partitions/{partition.name}")["profile"]
    assert same["uuid"] == profile["uuid"] and same["mac"] == profile["networks"][0]["mac"]
    ahead = inside.ahead_s()
    mark = "kept in its NVRAM"
    inside.run("insmod /lib/modules/nvram.ko; mdev -s; mknod /dev/nvram c 10 144", check=False)
    read = f"dd if=/dev/nvram bs=1 skip=500000 count={len(mark)} 2>/dev/null"
    inside.run(f"echo -n '{mark}' | dd of=/dev/nvram bs=1 seek=500000")

    def check():
        assert inside.same() == same
        assert inside.run("md5sum /tmp/filled", timeout=120) == filled
        assert abs(inside.ahead_s() - ahead) < 10
        assert inside.run(read) == mark

    there_and_back(lab, inside, check)
    lab.lpm("partition", "restart", partition.name, "--hard")
    lab.wait_for_partition(partition.address)
    inside.run("insmod /lib/modules/nvram.ko; mdev -s; mknod /dev/nvram c 10 144", check=False)
    assert inside.run(read) == mark, "after a start anew"
