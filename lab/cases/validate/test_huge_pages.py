# SPDX-License-Identifier: Apache-2.0
"""Huge pages for real: this machine's own, reserved for the test and given back."""

import contextlib
import pathlib

import pytest

from broken import SOURCE, TARGET, loud

POOL = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
NEEDED = 32  # pages of a partition of 64 MiB


def number(name):
    return int((POOL / name).read_text())


@contextlib.contextmanager
def reserved():
    """A function that sets how many pages are free or in use; False when the kernel has no room for them."""
    before = number("nr_hugepages") if POOL.exists() else 0

    def reserve(pages):
        if not POOL.exists():
            return False
        (POOL / "nr_hugepages").write_text(str(before + pages))
        return number("nr_hugepages") >= before + pages
    try:
        yield reserve
    finally:
        if POOL.exists():
            (POOL / "nr_hugepages").write_text(str(before))


def huge_kib(ground, place):
    (pid,) = ground.emulators("huge")[place]
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("HugetlbPages:")).split()[1])


@pytest.mark.long
def test_huge_pages_are_counted_and_move(ground):
    """The partition has all of them: a move is refused; with as many more it comes, and its memory is such pages there too."""
    with reserved() as reserve:
        if not reserve(NEEDED) or number("free_hugepages") - number("resv_hugepages") != NEEDED:
            print("huge pages: this kernel has none to give just now; the row no-huge-pages looks at the facts only")
            return
        for backing in ("shared", "private"):
            assert reserve(NEEDED)
            with ground.another("huge", 91, huge_pages_kib=2048, memory_backing=backing):
                found = [f for f in loud(ground.validate("huge")[0]["findings"])]
                assert [f["check"] for f in found] == ["server.huge-pages"], found
                assert "0 MiB are free in pages of 2048 KiB" in found[0]["found"] or "no huge pages" in found[0]["found"], found
                assert reserve(2 * NEEDED)
                ground.judge_healthy("huge")
                found = ground.validate("huge", options={"postcopy": True})[0]["findings"]
                assert "mover.postcopy-pages" in {f["check"] for f in found if f["severity"] == "error"}, found
                status = ground.migrate("huge", TARGET, verify=backing == "shared", measure=False)
                assert status["state"] == "completed", status
                assert huge_kib(ground, TARGET) >= 2048 and not ground.emulators("huge").get(SOURCE)
