# SPDX-License-Identifier: Apache-2.0
"""lpm-stream dump, of the captures kept in tests/golden/streams, says what QEMU counted."""

import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "streams"
LPM_STREAM = pathlib.Path(os.environ.get("LPM_BUILD", ROOT / "build")).resolve() / "src" / "streamtool" / "lpm-stream"


def run(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60).stdout


def test_dump_tells_what_qemu_counted(tmp_path):
    for about in sorted(GOLDEN.glob("*.json")):
        counted = json.loads(about.read_text())
        if "zstd" in about.stem:
            continue
        files = []
        for number in range(counted["channels"]):
            files.append(tmp_path / f"{about.stem}-{number}")
            run("zstd", "-qd", "--long=27", "-o", files[-1], GOLDEN / f"{about.stem}-{number}.zst")
        channels = json.loads(run(LPM_STREAM, "dump", "--json", *files))
        zeros = sum(c["zeros"] + c["oddities"]["zeros-in-other-words"] + c["oddities"]["multifd-zeros"] for c in channels)
        assert [c["bytes"] for c in channels] == counted["sizes"]
        assert sum(c["pages"] for c in channels) == counted["normal"], about.stem
        assert zeros == counted["duplicate"], about.stem
        assert channels[0]["machine"].startswith({"microvm": "microvm"}.get(counted["machine"], "p"))
        main = [b for b in channels[0]["blocks"] if b["name"] == counted["block"]]
        assert [b["length"] for b in main] == [counted["length"]]
        sections = {s["name"] for s in channels[0]["sections"]}
        assert sections == ({"ram", "spapr/htab"} if "pseries" in counted["machine"] else {"ram"})
        postcopy = "postcopy" in about.stem  # the device state is in a package, and nothing describes it
        assert channels[0]["opaque-reason"] == "device state" and (len(channels[0]["devices"]) > 5) != postcopy
        assert ("packaged" in {c["name"] for c in channels[0]["commands"]}) == postcopy
        people = run(LPM_STREAM, "dump", *files)
        assert f" {channels[0]['pages']} pages," in people
        assert ("switchover-start" in people) == (not counted["qemu"].startswith("7."))


def test_dump_of_something_else(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"no stream of QEMU")
    channel, = json.loads(run(LPM_STREAM, "dump", "--json", other))
    assert channel["opaque-from"] == 0 and channel["blocks"] == [] and "channel" not in channel
    other.write_bytes(b"")
    assert json.loads(run(LPM_STREAM, "dump", "--json", other))[0]["bytes"] == 0
    missing = subprocess.run([LPM_STREAM, "dump", tmp_path / "missing"], capture_output=True, text=True)
    assert missing.returncode > 0 and "missing" in missing.stderr and missing.stdout == ""
