#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes an archive, to be appended to an initramfs, that has the partition go on with the root file system on its second disk."""

import argparse
import pathlib

from mkinitramfs import Archive


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--init", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    options = parser.parse_args()
    archive = Archive()
    archive.file("init", options.init.read_bytes(), executable=True)
    with open(options.output, "ab") as out:
        out.write(archive.bytes())


if __name__ == "__main__":
    main()
