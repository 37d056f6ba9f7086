# SPDX-License-Identifier: Apache-2.0
"""The document, the header and the second decoder name the same records; and the decoder refuses what the document refuses."""
import pathlib
import re

import pytest

import lpmwire

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "spec" / "stream-format.md").read_text()
HEADER = (ROOT / "lib" / "stream" / "stream.h").read_text()
ERRORS = (ROOT / "docs" / "spec" / "mover.md").read_text()
ID = bytes(range(16))


def test_document_and_decoder_have_the_same_records():
    rows = re.findall(r"^\| (0x[0-9a-f]+|[0-9]+) \| ([A-Z_]+) \|", DOCUMENT, re.M)
    assert {int(number, 0): name for number, name in rows} == {n: r[0] for n, r in lpmwire.RECORDS.items()}


def test_document_and_decoder_have_the_same_fields():
    rows = re.findall(r"^\| (0x[0-9a-f]+|[0-9]+) \| [A-Z_]+ \|(?:.*)\| (.*) \|$", DOCUMENT, re.M)
    for number, body in rows:
        if body.startswith(("tail", "as ")) or not body:
            continue
        kinds = re.findall(r"\b(u8|u16|u32|u64|b16|b32|text|list|tail)\b", re.sub(r"\([^)]*\)", "", body))
        assert kinds == [kind for kind, _ in lpmwire.fields_of(int(number, 0))], number


def test_header_has_the_same_records():
    constants = dict(re.findall(r"LPM_STREAM_([A-Z_]+) = (0x[0-9a-f]+|[0-9]+),", HEADER.split("} LpmStreamType;")[0]
                                .split("typedef enum {")[-1]))
    constants["VERIFY_PAGES"] = constants.pop("VERIFY_PAGES_DATA")
    ours = {name: number for name, number in lpmwire.TYPES.items() if name != "HINT"}
    assert {name: int(number, 0) for name, number in constants.items()} == ours


def test_error_codes_are_documented():
    codes = {int(n) for n in re.findall(r"LPM_STREAM_ERR_[A-Z_]+ = ([0-9]+),", HEADER)}
    documented = {int(n) for n in re.findall(r"^\| ([0-9]+) \| [a-z-]+ \|", ERRORS, re.M)}
    assert codes == documented


def test_a_frame_by_hand():
    frame = lpmwire.encode("PING", ID, stamp=0x0807060504030201)
    assert frame[:16] == b"LPM1" + bytes([1, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0])
    assert frame[16:32] == ID
    assert frame[32:48] == bytes(8) + bytes([8, 0, 0, 0, 0, 0, 0, 0])
    assert frame[56:] == bytes(range(1, 9))
    got, used = lpmwire.decode(frame)
    assert (got.name, got.stamp, used) == ("PING", 0x0807060504030201, 64)


@pytest.mark.parametrize("at", range(64))
def test_every_damaged_byte_is_seen(at):
    frame = bytearray(lpmwire.encode("PING", ID, stamp=1))
    frame[at] ^= 0x40
    try:
        got = lpmwire.decode(frame)
    except lpmwire.WireError:
        return
    assert got is None  # a longer length: more bytes are waited for


def test_order_and_holes_are_checked():
    data = [lpmwire.encode("DATA", ID, n + 1, offset=10 * n, data=bytes(10)) for n in range(3)]
    assert len(lpmwire.decode_all(b"".join(data))) == 3
    for wrong in ([0, 2], [0, 0], [1]):
        with pytest.raises(lpmwire.WireError, match="sequence"):
            lpmwire.decode_all(b"".join(data[n] for n in wrong))
    hole = lpmwire.encode("DATA", ID, 2, offset=11, data=b"x")
    with pytest.raises(lpmwire.WireError, match="hole"):
        lpmwire.decode_all(data[0] + hole)
    with pytest.raises(lpmwire.WireError, match="inside"):
        lpmwire.decode_all(data[0][:-1])
