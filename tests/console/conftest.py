# SPDX-License-Identifier: Apache-2.0
"""A real lpm-console in a directory of its own, with fake systems."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from consolerun import Console  # noqa: E402
from fakehost import FakeHost  # noqa: E402


@pytest.fixture
def console(tmp_path):
    made = Console(tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def pair(console, tmp_path):
    """Two systems that have joined; web1 runs on system-a."""
    source, target = FakeHost(tmp_path, "system-a"), FakeHost(tmp_path, "system-b")
    source.other, target.other = target, source
    source.add("web1")
    source.join(console)
    target.join(console)
    return source, target
