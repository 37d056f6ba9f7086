# SPDX-License-Identifier: Apache-2.0
import sys
import tempfile

import pytest
import hosts
from moverpair import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def pair(authority, request):
    """Two lpm-hosts that run; on failure their logs are shown."""
    with tempfile.TemporaryDirectory(prefix="lpm", dir="/tmp") as directory:
        two = hosts.Pair(directory, authority)
        try:
            two.start()
            yield two
        finally:
            two.end()
            for system in (two.a, two.b):
                if system.log.exists():
                    sys.stderr.write(f"--- {system.name}\n{system.log.read_text()}")
