# SPDX-License-Identifier: Apache-2.0
import pathlib
import shutil
import sys
import tempfile

import pytest
import hosts
from moverpair import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def database(authority, tmp_path_factory):
    """A database that knows the emulators already: looking at them takes seconds."""
    with tempfile.TemporaryDirectory(prefix="lpm", dir="/tmp") as directory:
        system = hosts.System(directory, "sys-w", "127.0.0.4", directory, authority)
        try:
            system.start()
            hosts.wait_for(lambda: "x86-64" in system.call("system-info")["emulators"], "the emulator is known")
            system.terminate()
            kept = tmp_path_factory.mktemp("database") / "host.db"
            shutil.copy(pathlib.Path(directory) / "sys-w" / "state" / "host.db", kept)
        finally:
            system.end()
    return kept


@pytest.fixture
def pair(authority, database):
    """Two lpm-hosts that run; on failure their logs are shown."""
    with tempfile.TemporaryDirectory(prefix="lpm", dir="/tmp") as directory:
        two = hosts.Pair(directory, authority, database)
        try:
            two.start()
            yield two
        finally:
            two.end()
            for system in (two.a, two.b):
                if system.log.exists():
                    sys.stderr.write(f"--- {system.name}\n{system.log.read_text()}")
