# SPDX-License-Identifier: Apache-2.0
"""Writes the initramfs of a lab partition: the same input gives the same bytes, on any machine, without root."""

import argparse
import pathlib
import re
import stat
import subprocess

# What the partition's kernel needs; what these depend on is added, in the order in which it must be loaded.
MODULES = ["virtio_pci", "virtio_blk", "virtio_net", "ibmveth", "virtio_console", "virtio-rng", "button", "evdev"]
EXT4 = ["crc32c_generic", "ext4"]
BY_HAND = ["efivarfs", "nvram"]  # loaded by whoever wants them: they need firmware that a partition may not have
DEVICES = {"dev/console": (5, 1), "dev/null": (1, 3)}
DIRECTORIES = ["bin", "data", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr", "usr/bin",
               "usr/sbin", "var", "var/run"]


class Archive:
    """A cpio archive in the "newc" format, with fixed owners, times and inode numbers."""

    def __init__(self):
        self.entries = {}

    def add(self, name, mode, data=b"", device=(0, 0)):
        self.entries[name.strip("/")] = (mode, data, device)

    def directory(self, name):
        self.add(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, executable=False):
        for parent in reversed(pathlib.PurePath(name.strip("/")).parents[:-1]):
            if str(parent) not in self.entries:
                self.directory(str(parent))
        self.add(name, stat.S_IFREG | (0o755 if executable else 0o644), data)

    def symlink(self, name, target):
        self.add(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name, number):
        self.add(name, stat.S_IFCHR | 0o600, b"", number)

    def bytes(self):
        out = bytearray()

        def write(inode, name, mode, data, device):
            text = name.encode() + b"\0"
            fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, device[0], device[1], len(text), 0]
            out.extend(b"070701" + b"".join(b"%08X" % field for field in fields) + text)
            out.extend(bytes(-len(out) % 4))
            out.extend(data)
            out.extend(bytes(-len(out) % 4))

        for inode, name in enumerate(sorted(self.entries), 1):
            write(inode, name, *self.entries[name])
        write(0, "TRAILER!!!", 0, b"", (0, 0))
        out.extend(bytes(-len(out) % 512))
        return bytes(out)


class Modules:
    """The kernel's loadable modules, and what each one asks for."""

    def __init__(self, root):
        self.paths = {p.name[:-3].replace("-", "_"): p for p in sorted(root.glob("**/lib/modules/*/kernel/**/*.ko"))}

    def depends(self, name):
        found = re.search(rb"\0depends=([^\0]*)\0", self.paths[name].read_bytes())
        return [d.replace("-", "_") for d in found.group(1).decode().split(",") if d] if found else []

    def order(self, wanted, done=()):
        """The files to load for these, in order, without those in done. A name that is no module is built in."""
        order = []

        def visit(name):
            name = name.replace("-", "_")
            if name in self.paths and self.paths[name] not in order and self.paths[name] not in done:
                for dependency in self.depends(name):
                    visit(dependency)
                order.append(self.paths[name])

        for name in wanted:
            visit(name)
        return order


def elf_needs(path):
    """The interpreter and the libraries that a program names."""
    text = subprocess.run(["readelf", "--wide", "-l", "-d", str(path)], check=True, capture_output=True, text=True).stdout
    interpreter = re.search(r"interpreter: (\S+)\]", text)
    return (interpreter.group(1) if interpreter else None), re.findall(r"\(NEEDED\)\s+Shared library: \[(\S+)\]", text)


def add_program(archive, root, path):
    """A dynamically linked program of the unpacked packages, with all libraries it needs."""
    archive.file(path, (root / path).read_bytes(), executable=True)
    pending, seen = [root / path], set()
    while pending:
        interpreter, libraries = elf_needs(pending.pop())
        if interpreter:
            loader = next(p for p in sorted(root.glob("**/" + pathlib.PurePath(interpreter).name)))
            archive.file(interpreter, loader.read_bytes(), executable=True)
            seen.add(loader.name)
        for library in libraries:
            if library in seen:
                continue
            seen.add(library)
            found = sorted(root.glob("**/lib/*-linux-gnu/" + library))
            if not found:
                raise SystemExit(f"mkinitramfs: {path} needs {library}, which no package brought")
            archive.file("lib/" + library, found[0].read_bytes(), executable=True)
            pending.append(found[0])


def build(root, files, workloads, drmgr, applets):
    archive = Archive()
    for name in DIRECTORIES:
        archive.directory(name)
    for name, number in DEVICES.items():
        archive.device(name, number)
    for applet in applets.read_text().split():
        archive.symlink("bin/" + applet, "busybox")
    archive.file("bin/busybox", (root / "bin/busybox").read_bytes(), executable=True)
    archive.symlink("init", "bin/busybox")
    add_program(archive, root, "usr/sbin/qemu-ga")
    archive.file("usr/bin/workloads", workloads.read_bytes(), executable=True)
    archive.file("usr/sbin/lpm-drmgr", drmgr.read_bytes(), executable=True)
    modules = Modules(root)
    needed = modules.order(MODULES)
    for path in needed + (ext4 := modules.order(EXT4, needed)) + modules.order(BY_HAND, needed):
        archive.file("lib/modules/" + path.name, path.read_bytes())
    archive.file("lib/modules/order", "".join(p.name + "\n" for p in needed).encode())
    archive.file("lib/modules/order.ext4", "".join(p.name + "\n" for p in ext4).encode())
    for path in sorted(p for p in files.glob("**/*") if p.is_file()):
        archive.file(str(path.relative_to(files)), path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))
    for name in ("poweroff", "reboot", "halt"):
        archive.symlink("sbin/" + name, "shutdown")
        archive.entries.pop("bin/" + name, None)
    return archive.bytes()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("root", "files", "workloads", "drmgr", "applets", "output"):
        parser.add_argument("--" + name, type=pathlib.Path, required=True)
    options = parser.parse_args()
    options.output.write_bytes(build(options.root, options.files, options.workloads, options.drmgr, options.applets))


if __name__ == "__main__":
    main()
