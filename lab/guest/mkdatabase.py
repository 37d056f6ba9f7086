#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes an archive, to be appended to an initramfs, that makes it the image of a partition with a database: the server, the
drivers of SCSI adapters, and the script that starts it."""

import argparse
import pathlib

from mkinitramfs import EXT4, MODULES, Archive, Modules

ADAPTERS = ["virtio_scsi", "ibmvscsi", "sd_mod", "sr_mod"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("root", "files", "inittab", "program", "output"):
        parser.add_argument("--" + name, type=pathlib.Path, required=True)
    options = parser.parse_args()
    archive, modules = Archive(), Modules(options.root)
    loaded = modules.order(MODULES)
    needed = modules.order(ADAPTERS + EXT4, loaded)
    for path in needed:
        archive.file("lib/modules/" + path.name, path.read_bytes())
    archive.file("lib/modules/order.database", "".join(p.name + "\n" for p in needed).encode())
    archive.file("usr/bin/database", options.program.read_bytes(), executable=True)
    archive.file("etc/database", (options.files / "etc/database").read_bytes(), executable=True)
    archive.file("etc/inittab", options.inittab.read_bytes() + b"::respawn:/etc/database\n")
    with open(options.output, "ab") as out:
        out.write(archive.bytes())


if __name__ == "__main__":
    main()
