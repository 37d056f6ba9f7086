# SPDX-License-Identifier: Apache-2.0
"""What lab cases share."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))


@pytest.fixture(scope="session")
def free_lab_name():
    """A name that no lab of another test run has."""
    return f"t{os.getpid() % 10000000}"
