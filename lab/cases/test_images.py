# SPDX-License-Identifier: Apache-2.0
"""The partition images by themselves, without OpenLPM: they boot, prove what they claim to prove, and go down in order."""

import mmap
import os
import pathlib

import pytest

import lablib
from bare import BarePartition, move

FAMILIES = {"x86-64": 10, "power": 20}  # first address: each test has a disk of its own


@pytest.fixture(scope="module")
def lab(free_lab_name):
    lab = lablib.Lab(free_lab_name)
    lab.up(2)
    yield lab
    lab.down()


@pytest.fixture
def start(lab):
    """start(place, name, family, ...): a partition that ends with the test."""
    started = []

    def start_one(*arguments, **options):
        started.append(BarePartition(lab, *arguments, **options))
        return started[-1]
    yield start_one
    for partition in started:
        partition.end()


@pytest.mark.parametrize("family, platform", [("x86-64", "x86_64"), pytest.param("power", "power8", marks=pytest.mark.long)])
def test_lives_through_a_day(lab, start, family, platform):
    """Boot, agent, reboot by the agent, power button; the journal goes on where it was and is whole."""
    partition = start("system-a", "day", family, number=FAMILIES[family])
    first = lab.wait_for_partition(partition.address)
    assert first["platform"] == platform
    assert partition.agent("guest-ping") == {}
    lablib.wait_for(lambda: lab.partition_status(partition.address)["journal_acknowledged"] > 5, 30, "journal")
    before = lab.partition_status(partition.address)

    partition.agent("guest-shutdown", mode="reboot", answers=False)

    def rebooted():
        with lablib.contextlib.suppress(OSError, ValueError):
            status = lab.partition_status(partition.address, 1)
            return status if status["boot_id"] != first["boot_id"] and status["journal_open"] else None
    after = lablib.wait_for(rebooted, 90, "reboot")
    assert after["journal_acknowledged"] >= before["journal_acknowledged"]
    lablib.wait_for(lambda: lab.partition_status(partition.address)["memory_passes"] > 0, 60, "a pass over the memory")
    last = lab.partition_status(partition.address)
    assert (last["memory_errors"], last["journal_errors"]) == (0, 0)

    partition.qmp("system_powerdown")
    assert partition.process.wait(60) == 0
    assert "orderly reboot" in partition.console() and "orderly poweroff" in partition.console()
    check = lablib.command(lablib.HERE / "check-journal", partition.disk, "--acknowledged",
                           last["journal_acknowledged"]).stdout
    assert '"boots": 2' in check


def guest_memory(partition):
    """The partition's memory, writable, as QEMU has it in a memory file."""
    for link in pathlib.Path(f"/proc/{partition.process.pid}/fd").iterdir():
        if "memfd:memory-backend-memfd" in os.readlink(link):
            with open(link, "r+b") as file:
                return mmap.mmap(file.fileno(), 0)
    raise AssertionError("no memory file")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_changed_word_of_memory_is_noticed(lab, start, family):
    partition = start("system-a", "spoilt", family, number=FAMILIES[family] + 1, kernel_options="lpm.rate=0 lpm.verify=64")
    lab.wait_for_partition(partition.address)
    lablib.wait_for(lambda: lab.partition_status(partition.address)["memory_passes"] > 0, 60, "a pass over the memory")
    assert lab.partition_status(partition.address)["memory_errors"] == 0
    step = 0x9E3779B97F4A7C15
    with guest_memory(partition) as memory:
        for page in range(len(memory) - 4096, 0, -4096):
            first, second = (int.from_bytes(memory[page + at:page + at + 8], "little") for at in (0, 8))
            if first and (second - first) % 2**64 == step:
                memory[page + 8] ^= 1
                break
        else:
            pytest.fail("no page of the pattern found")
    lablib.wait_for(lambda: lab.partition_status(partition.address)["memory_errors"] > 0, 60, "the error")


@pytest.mark.parametrize("family, processors", [("x86-64", ("Nehalem", "Nehalem")), ("power", ("power8", "power9"))])
def test_qemu_alone_moves_it(lab, start, family, processors):
    """The lab's measure: what QEMU's own migration keeps, ours must keep too."""
    source = start("system-a", "here", family, number=FAMILIES[family] + 2, processor=processors[0])
    before = lab.wait_for_partition(source.address)
    client = lab.start_client(source.address)
    target = start("system-b", "there", family, number=FAMILIES[family] + 2, processor=processors[1], incoming=True)
    move(source, target)
    source.end()
    passes = lab.partition_status(target.address)["memory_passes"]
    lablib.wait_for(lambda: lab.partition_status(target.address)["memory_passes"] > passes + 1, 60, "passes after the move")
    after = lab.partition_status(target.address)
    report = lab.stop_client(client)
    assert report["whole"], report
    assert after["boot_id"] == before["boot_id"] and after["platform"] == before["platform"]
    assert (after["memory_errors"], after["journal_errors"]) == (0, 0)
    target.end()
    assert '"boots": 1' in lablib.command(lablib.HERE / "check-journal", target.disk, "--acknowledged",
                                          after["journal_acknowledged"]).stdout
