# SPDX-License-Identifier: Apache-2.0
"""A real lpm-console in a directory of its own, with fake systems."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from consolerun import Console  # noqa: E402
from fakehost import join_two  # noqa: E402


@pytest.fixture
def console(tmp_path):
    made = Console(tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def pair(console, tmp_path):
    """Two systems that have joined; web1 runs on system-a."""
    return join_two(console, tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A console and such a pair for all tests of a module that leave both as they were."""
    directory = tmp_path_factory.mktemp("shared")
    made = Console(directory)
    made.start()
    yield made, join_two(made, directory)
    made.kill()


@pytest.fixture
def shared_console(shared):
    return shared[0]


@pytest.fixture
def shared_pair(shared):
    """What a test makes odd is as before afterwards."""
    before = [dict(host.verbs) for host in shared[1]]
    yield shared[1]
    for host, verbs in zip(shared[1], before):
        host.verbs = verbs
        host.come_back()
