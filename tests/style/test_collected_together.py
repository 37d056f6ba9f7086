# SPDX-License-Identifier: Apache-2.0
"""`make check-long` collects the tests of all directories at once: modules of the same name must not get in each other's way."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_all_can_be_collected():
    done = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests", "lab/cases"], cwd=ROOT, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
