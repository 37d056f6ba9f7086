# SPDX-License-Identifier: Apache-2.0
"""2 GiB of streams of real QEMUs of both families, as they are, in random pieces, cut short and damaged: what the reader
cuts is the stream, and what the codec makes of it becomes the same bytes again. LPM_SEED repeats a run."""

import json
import os
import pathlib
import random
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import streams  # noqa: E402

BUILD = pathlib.Path(os.environ.get("LPM_BUILD", streams.ROOT / "build")).resolve()
PROPERTY = BUILD / "tests" / "long" / "qstream-property"
LPM_STREAM = BUILD / "src" / "streamtool" / "lpm-stream"
WANTED = 2 << 30
ROUNDS, DAMAGED = 4, 6
seen = {}


@pytest.fixture(scope="module")
def seed():
    value = int(os.environ.get("LPM_SEED", random.randrange(1 << 31)))
    print(f"LPM_SEED={value}")
    return value


def run(*arguments):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", streams.WORKLOADS)
def test_stream(name, seed, tmp_path):
    files = streams.capture(name, tmp_path, seed)
    result = json.loads(run(PROPERTY, seed, ROUNDS, *files))
    print(name, result)
    seen[name] = result["bytes"]
    assert result["bytes"] == streams.total(files)
    assert result["changes"] > 0 and result["random-pages"] > 0
    assert result["pages"] > streams.WORKLOADS[name].filled * 200  # of 256 a MiB

    for file in files:
        run(LPM_STREAM, "verify", "--seed", seed, file)
    dice = random.Random(seed)
    broken = tmp_path / "broken"
    for turn in range(DAMAGED):
        broken.write_bytes(streams.damaged(files[turn % len(files)], dice.randrange(100_000, 40_000_000), dice))
        run(LPM_STREAM, "verify", "--seed", seed + turn, broken)
    for file in files:
        file.unlink()


@pytest.mark.long
def test_there_was_enough():
    assert len(seen) < len(streams.WORKLOADS) or sum(seen.values()) >= WANTED, seen
