#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes an archive with real program files below /programs, to be appended to an initramfs: what a busy server would have in
its page cache. The same packages give the same bytes."""

import argparse
import os
import pathlib

from mkinitramfs import Archive

# What is in use on a server: programs, libraries, modules; not what is only read by people.
LEFT_OUT = ("usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/lintian/", "usr/share/bash-completion/")
PAGE = 4096


def chosen(root, limit):
    """Files in the order of their names until their pages come to the limit; of hard links the first."""
    seen, size = set(), 0
    for path in sorted(root.glob("**/*")):
        name = str(path.relative_to(root))
        if path.is_symlink() or not path.is_file() or name.startswith(LEFT_OUT):
            continue
        stat = path.stat()
        pages = -(-stat.st_size // PAGE) * PAGE
        if (stat.st_dev, stat.st_ino) in seen or size + pages > limit:
            continue
        seen.add((stat.st_dev, stat.st_ino))
        size += pages
        yield name, path


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=pathlib.Path, required=True, help="the unpacked packages")
    parser.add_argument("--limit", type=int, required=True, help="bytes of page cache that the files shall fill")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="initramfs to append to")
    options = parser.parse_args()
    archive, size = Archive(), 0
    archive.directory("programs")
    for name, path in chosen(options.root, options.limit):
        archive.file("programs/" + name, path.read_bytes(), executable=os.access(path, os.X_OK))
        size += path.stat().st_size
    if size < options.limit * 0.95:
        raise SystemExit(f"mkprograms: the packages hold only {size} bytes of {options.limit}")
    with open(options.output, "ab") as out:
        out.write(archive.bytes())


if __name__ == "__main__":
    main()
