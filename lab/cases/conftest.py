# SPDX-License-Identifier: Apache-2.0
"""What lab cases share."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from installation import Installation  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; not part of `make check`")


@pytest.fixture(scope="session")
def free_lab_name():
    """A name that no lab of another test run has."""
    return f"t{os.getpid() % 10000000}"


def make_installation(name, systems=2):
    lab = Installation(name)
    try:
        lab.up(systems)
        lab.install()
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="module")
def lab(free_lab_name):
    """A console and two systems that joined it: system-a is a POWER8 server, system-b a POWER9 one."""
    yield from make_installation(free_lab_name)


@pytest.fixture(scope="module")
def lab_of_three(free_lab_name):
    """The same with a third system, a POWER10 server."""
    yield from make_installation(free_lab_name, 3)


@pytest.fixture
def create(lab):
    """create(place, name, family, number=..., start=...): a partition that is gone after the test."""
    made = []

    def create_one(*arguments, **options):
        made.append(lab.create(*arguments, **options))
        return made[-1]
    yield create_one
    for partition in made:
        if partition.name in lab.partitions:
            lab.delete(partition)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed case shows what the daemons said last."""
    outcome = yield
    report = outcome.get_result()
    given = getattr(item, "funcargs", {})
    lab = given.get("lab") or given.get("ground")
    if report.failed and isinstance(lab, Installation) and (lab.dir / "log").exists():
        for path in sorted((lab.dir / "log").glob("*.log")):
            report.sections.append((path.name, path.read_text(errors="replace")[-6000:]))
