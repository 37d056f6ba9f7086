# SPDX-License-Identifier: Apache-2.0
"""The second decoder, written from the document, decodes what the coder wrote; and document and headers agree."""
import json
import os
import pathlib
import re
import struct
import subprocess

import pytest

import lpmcodec

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("LPM_BUILD", ROOT / "build")).resolve()
TOOL = BUILD / "src" / "streamtool" / "lpm-stream"
DOCUMENT = (ROOT / "docs" / "spec" / "coded-batches.md").read_text()
HEADERS = (ROOT / "lib" / "codec" / "codec.h").read_text() + (ROOT / "lib" / "codec" / "internal.h").read_text()
STREAMS = ROOT / "tests" / "golden" / "streams"


def tool(*words, code=0):
    run = subprocess.run([TOOL, *map(str, words)], capture_output=True, text=True, timeout=60)
    assert run.returncode == code, run.stderr
    return run


def stream(tmp_path, name):
    path = tmp_path / name
    migration, _, channel = name.rpartition("-")
    size = json.loads((STREAMS / f"{migration}.json").read_text())["sizes"][int(channel)]
    path.write_bytes(lpmcodec.inflate((STREAMS / f"{name}.zst").read_bytes(), size))
    return path


@pytest.mark.parametrize("name", ["q35-0", "7.2-pc-0", "pseries-radix-0", "q35-multifd-1", "q35-xbzrle-0"])
@pytest.mark.parametrize("options", [[], ["--no-image", "--level", "3"], ["--level", "0", "--batch", "16"]])
def test_decodes_what_the_coder_wrote(tmp_path, name, options):
    path, coded, again = stream(tmp_path, name), tmp_path / "coded", tmp_path / "again"
    tool("encode", path, coded, *options)
    got, decoder = lpmcodec.decode_file(coded.read_bytes())
    assert got == path.read_bytes()
    assert not any(decoder.counts[kind] for kind in ("same", "reference", "delta")) or "--no-image" not in options
    tool("decode", coded, again)
    assert again.read_bytes() == got


def test_real_streams_have_every_kind(tmp_path):
    path, coded = stream(tmp_path, "pseries-radix-0"), tmp_path / "coded"
    tool("encode", path, coded)
    _, decoder = lpmcodec.decode_file(coded.read_bytes())
    assert all(decoder.counts[kind] for kind in lpmcodec.NAMES if kind != "block"), decoder.counts


def test_a_base_is_what_its_last_pages_were(tmp_path):
    path, first, second = stream(tmp_path, "q35-0"), tmp_path / "first", tmp_path / "second"
    tool("encode", path, first)
    tool("encode", path, second, "--base", path)
    _, decoder = lpmcodec.decode_file(first.read_bytes())
    got, decoder = lpmcodec.decode_file(second.read_bytes(), decoder.image)
    assert got == path.read_bytes()
    assert decoder.counts["same"] > 200 and decoder.counts["literal"] < 20, decoder.counts
    again = tmp_path / "again"
    tool("decode", second, again, "--base", path)
    assert again.read_bytes() == got
    for base in ([], ["--base", first]):
        assert "base" in tool("decode", second, again, *base, code=2).stderr


def golden():
    lines = (ROOT / "tests" / "golden" / "codec" / "bodies.txt").read_text().splitlines()
    return [(name, bytes.fromhex(body)) for name, body in (line.split() for line in lines)]


def test_golden_bodies():
    decoder = lpmcodec.Decoder()
    page = bytes((i * 7 + i // 256) % 256 for i in range(4096))
    changed = bytes([page[0] ^ 0xFF]) + page[1:1000] + b"!" * 300 + page[1300:]
    streams = {
        "opaque": b"QEVM\0\0\0\3",
        "literal": struct.pack(">Q", 0x3028) + page,
        "zero": b"".join(struct.pack(">QB", 0x10022 + 0x1000 * i, 0) for i in range(5)),
        "same": struct.pack(">Q", 0x3028) + page,
        "reference": struct.pack(">Q", 0x9128) + page,
        "delta": struct.pack(">Q", 0x3028) + changed,
        "mixed": page + struct.pack(">QB", 0xA022, 0),
        "forgotten": struct.pack(">QB", 0xA022, 0),
    }
    bodies = golden()
    assert [name for name, _ in bodies] == list(streams)
    for name, body in bodies:
        assert decoder.decode(body) == streams[name], name
    assert set(decoder.image) == {(b"pc.ram", 3), (b"pc.ram", 9), *((b"0000:00:04.0/virtio", 16 + i) for i in range(5))}
    assert decoder.image[b"pc.ram", 3] == changed


def test_damage_is_seen(tmp_path):
    path, coded, out = stream(tmp_path, "q35-0"), tmp_path / "coded", tmp_path / "out"
    tool("encode", path, coded)
    good = coded.read_bytes()
    for at in (0, 9, 13, 49, 52, 60, 5000, len(good) // 2, len(good) - 45, len(good) - 1):
        coded.write_bytes(good[:at] + bytes([good[at] ^ 0x41]) + good[at + 1:])
        run = subprocess.run([TOOL, "decode", coded, out], capture_output=True, text=True, timeout=60)
        assert run.returncode not in (0, 1) and run.returncode > 0 and run.stderr.startswith("lpm-stream: "), (at, run)
        assert not out.exists()
        with pytest.raises((lpmcodec.Malformed, lpmcodec.Miss, AssertionError, struct.error)):
            lpmcodec.decode_file(coded.read_bytes())
    coded.write_bytes(good[:-1])
    assert "too early" in tool("decode", coded, out, code=13).stderr


def test_document_and_headers_have_the_same_limits():
    limits = {"RAW_MAX": lpmcodec.RAW_MAX, "BODY_MAX": lpmcodec.BODY_MAX, "TOKENS_MAX": lpmcodec.TOKENS_MAX}
    for name, value in limits.items():
        assert f"{value:,}" in DOCUMENT, name
    assert f"{lpmcodec.BODY_MAX - 16:,}" in DOCUMENT and str(lpmcodec.RUNS_MAX) in DOCUMENT
    assert 8192 + lpmcodec.BLOCKS == lpmcodec.RUNS_MAX and "LPM_CODEC_UNITS_MAX = 8192" in HEADERS
    assert f"LPM_CODEC_RAW_MAX = {lpmcodec.RAW_MAX // 1024} * 1024" in HEADERS
    assert lpmcodec.RAW_MAX + lpmcodec.RAW_MAX // 512 + 64 == lpmcodec.BODY_MAX


def test_document_and_header_have_the_same_kinds():
    rows = {name: int(number) for number, name in re.findall(r"^\| ([0-6]) \| ([a-z]+) \| [a-z]", DOCUMENT, re.M)}
    ours = {name.lower(): int(number) for name, number in re.findall(r"LPM_CODEC_([A-Z]+) = ([0-6]),", HEADERS)}
    names = dict(zip(lpmcodec.NAMES, range(7)))
    assert {name: ours[name] for name in names} == names
    assert {name: number for name, number in rows.items() if name in names} == names


def test_verify_and_stats(tmp_path):
    path = stream(tmp_path, "q35-0")
    assert '"same":true' in tool("verify", path, "--json", "--seed", "5").stdout
    assert "cut at random" in tool("verify", path, "--no-image", "--level", "0").stdout
    assert "literal" in tool("stats", path).stdout


@pytest.mark.parametrize("words, says", [
    ([], "which verb"), (["paint"], "no verb 'paint'"), (["stats"], "0 words after 'stats'"),
    (["stats", "/nowhere/at all"], "cannot read capture"), (["stats", "x", "--level", "77"], "--level 77"),
    (["stats", "x", "--batch", "1"], "--batch 1"), (["stats", "x", "--what"], "--what"),
    (["stats", "x", "--no-image", "--base", "y"], "--no-image and --base"), (["decode", os.devnull, "y"], "ends too early"),
])
def test_what_is_wrong_is_said(words, says):
    run = subprocess.run([TOOL, *words], capture_output=True, text=True, timeout=10)
    assert run.returncode > 1 and says in run.stderr and run.stderr.count("\n") == 1
