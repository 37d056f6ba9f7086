# SPDX-License-Identifier: Apache-2.0
"""The lab itself: a test that leans on it is worth no more than it is."""

import contextlib
import json
import struct
import subprocess
import sys
import threading
import zlib

import pytest

import lablib

SLOTS = 64


@pytest.fixture
def empty_lab(free_lab_name):
    lab = lablib.Lab(free_lab_name)
    lab.up(2)
    yield lab
    lab.down()
    assert not lab.namespaces() and not lab.dir.exists()


def test_places_reach_each_other_and_links_can_be_cut(empty_lab):
    def reaches():
        return empty_lab.run("system-a", "ping", "-c", "1", "-W", "1", "10.77.1.12", check=False).returncode == 0
    assert reaches()
    empty_lab.link("system-b", "down")
    assert not reaches()
    empty_lab.link("system-b", "up")
    lablib.wait_for(reaches, 5, "mended link")


def test_rate_is_kept(empty_lab):
    sent = 2 << 20
    empty_lab.link("system-a", "rate", "20mbit")
    with empty_lab.at("system-b"):
        listening = lablib.socket.create_server(("10.77.1.12", 5000))

    def send():
        with contextlib.closing(empty_lab.connect("system-a", "10.77.1.12", 5000, 10)) as connection:
            connection.sendall(bytes(sent))

    sender = threading.Thread(target=send)
    sender.start()
    connection, _ = listening.accept()
    start, received = lablib.time.monotonic(), 0
    while data := connection.recv(65536):
        received += len(data)
    seconds = lablib.time.monotonic() - start
    sender.join()
    listening.close()
    connection.close()
    assert received == sent
    assert seconds > 0.5 * sent * 8 / 20e6  # the bucket lets the first 256 KiB through at once
    tx, _ = empty_lab.link_bytes("system-a")
    assert tx > sent


def test_down_ends_what_runs_there_and_nothing_else(empty_lab):
    inside = empty_lab.start("system-a", "sleeper", "sleep", "1000")
    outside = subprocess.Popen(["sleep", "1000"])
    empty_lab.down()
    assert inside.wait(1) != 0
    assert outside.poll() is None
    outside.terminate()
    outside.wait()


def test_second_lab_of_the_same_name_is_refused(empty_lab):
    with pytest.raises(lablib.LabError, match="is up already"):
        lablib.Lab(empty_lab.name).up()


# Journal disks made here, byte by byte, from the layout in journal.h

def journal_record(number, slots=SLOTS):
    rest = b"boot".ljust(40, b"\0") + bytes(440)
    head = b"LPMJRNL1" + struct.pack("<QQ", number, slots)
    return head + struct.pack("<Q", zlib.crc32(rest, zlib.crc32(head))) + rest


def journal_disk(path, numbers):
    disk = bytearray(SLOTS * 512)
    for number in numbers:
        at = number % SLOTS * 512
        disk[at:at + 512] = journal_record(number)
    path.write_bytes(disk)
    return path


def check_journal(path, *options):
    run = subprocess.run([sys.executable, lablib.HERE / "check-journal", path, *options], capture_output=True, text=True)
    result = json.loads(run.stdout)
    assert result["whole"] == (run.returncode == 0)
    return result


@pytest.mark.parametrize("last, oldest", [(0, 0), (1, 1), (SLOTS - 1, 1), (SLOTS, 1), (3 * SLOTS + 7, 2 * SLOTS + 8)])
def test_whole_journal_is_called_whole(tmp_path, last, oldest):
    result = check_journal(journal_disk(tmp_path / "d", range(1, last + 1)), "--acknowledged", str(last))
    assert result["whole"] and result["newest"] == last and result["oldest"] == oldest


def test_journal_with_a_hole_is_not_whole(tmp_path):
    disk = journal_disk(tmp_path / "d", [1, 2, 4, 5])
    assert check_journal(disk)["problems"] == ["record 3 is missing"]


def test_journal_that_kept_an_old_record_is_not_whole(tmp_path):
    numbers = [n for n in range(1, 2 * SLOTS + 1) if n != SLOTS + 9]
    assert "record 73 is missing" in check_journal(journal_disk(tmp_path / "d", numbers))["problems"]


def test_acknowledged_record_that_is_not_there_is_found(tmp_path):
    disk = journal_disk(tmp_path / "d", range(1, 10))
    assert check_journal(disk, "--acknowledged", "9")["whole"]
    assert not check_journal(disk, "--acknowledged", "10")["whole"]


def test_one_changed_bit_in_the_journal_is_found(tmp_path):
    disk = journal_disk(tmp_path / "d", range(1, 10))
    content = bytearray(disk.read_bytes())
    content[5 * 512 + 300] ^= 1
    disk.write_bytes(content)
    assert not check_journal(disk)["whole"]


# The client against a service that errs

def serve_badly(listening, answer_of):
    connection, _ = listening.accept()
    with connection, connection.makefile("rw") as stream:
        for number, line in enumerate(stream, 1):
            answer = answer_of(number, line.strip())
            if answer is None:
                return
            with contextlib.suppress(OSError):
                stream.write(answer)
                stream.flush()


@pytest.mark.parametrize("answer_of, whole", [
    (lambda n, line: f"{n} boot {line}\n", True),
    (lambda n, line: f"{n} boot {line}\n" if n != 5 else f"{n} boot {line}\n{n} boot {line}\n", False),
    (lambda n, line: f"{n if n < 5 else n - 1} boot {line}\n", False),
    (lambda n, line: f"{n} {'boot' if n < 5 else 'other'} {line}\n", False),
    (lambda n, line: f"{n} boot {line}\n" if n < 5 else None, False),
    (lambda n, line: f"{n} boot {line}\n" if n < 5 else "", False),
], ids=["right", "doubled", "older-state", "another-boot", "closed", "silent"])
def test_client_notices(answer_of, whole):
    with lablib.socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve_badly, args=(listening, answer_of), daemon=True)
        thread.start()
        run = subprocess.run([sys.executable, lablib.HERE / "client.py", "--address", "127.0.0.1", "--port",
                              str(listening.getsockname()[1]), "--duration", "0.3", "--grace", "1.5"],
                             capture_output=True, text=True, timeout=20)
    report = json.loads(run.stdout.splitlines()[-1])
    assert report["whole"] is whole, report
    assert (run.returncode == 0) is whole
