# SPDX-License-Identifier: Apache-2.0
"""The movers' tests with movers that watch themselves: threads, then memory and what C leaves undefined."""
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.long
@pytest.mark.parametrize("what", ["thread", "address,undefined"])
def test_movers_under_a_sanitizer(what):
    subprocess.run([ROOT / "scripts" / "sanitize", what], check=True)
