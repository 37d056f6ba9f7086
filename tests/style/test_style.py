# SPDX-License-Identifier: Apache-2.0
"""House style, judged by machine: sizes, layers, format, licence lines, and words that must not be committed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Each library may include only those before it (10-architecture): the order is the layering.
LAYERS = ["crash", "bytes", "base", "model", "stream", "qstream", "codec", "mobility", "compat", "predict", "checks", "qemuargs",
          "tls", "rpc", "qmp", "qga", "pagestore", "store", "http", "metrics"]
NO_GLIB = ["lib/crash", "lib/bytes", "lib/stream", "lib/qstream", "lib/codec", "lib/pagestore", "src/mover"]
PURE = ["lib/model", "lib/stream", "lib/mobility", "lib/compat", "lib/predict", "lib/checks", "lib/qemuargs"]
IMPURE_CALLS = re.compile(r"\b(open|fopen|socket|connect|g_file_get_contents|g_get_monotonic_time|"
                          r"g_get_real_time|clock_gettime|g_timeout_add|g_idle_add|g_main_\w+|g_spawn_\w+)\s*\(")

MAX_FILE_LINES = 700
MAX_FUNCTION_LINES = 80


def tracked(*endings):
    out = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                         capture_output=True, text=True, check=True).stdout
    return [p for p in out.splitlines() if p.endswith(endings) and (ROOT / p).is_file()]


def read(path):
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


def functions(path):
    """(name, first line, number of lines) of each C function: a body opens with '{' in column 0."""
    lines = read(path).splitlines()
    start = None
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start is not None:
            if line.rstrip() == "}":
                head = " ".join(lines[max(0, start - 6):start - 1])
                names = re.findall(r"(\w+)\s*\(", head)
                yield (names[0] if names else "?", start, number - start + 1)
            start = None


def test_files_are_small():
    big = [f"{p}: {n} lines" for p in tracked(".c", ".h", ".py", ".ts", ".tsx")
           if (n := len(read(p).splitlines())) > MAX_FILE_LINES]
    assert not big, f"files over {MAX_FILE_LINES} lines:\n" + "\n".join(big)


def test_functions_are_small():
    big = [f"{p}:{line}: {name}: {n} lines" for p in tracked(".c") for name, line, n in functions(p)
           if n > MAX_FUNCTION_LINES]
    assert not big, f"functions over {MAX_FUNCTION_LINES} lines:\n" + "\n".join(big)


def test_layers_have_no_back_edge():
    bad = []
    for path in tracked(".c", ".h"):
        parts = path.split("/")
        for include in re.findall(r'^#include "([^"]+)"', read(path), re.M):
            top = include.split("/")[0]
            if parts[0] == "lib" and (include.startswith("src/") or "/" not in include and
                                      not (ROOT / Path(path).parent / include).exists()):
                bad.append(f"{path}: {include}: a library includes only libraries, as \"library/header.h\"")
            if parts[0] == "lib" and top in LAYERS and LAYERS.index(top) > LAYERS.index(parts[1]):
                bad.append(f"{path}: {include}: back edge")
            if parts[0] == "src" and top in ("mover", "host", "console", "cli") and top != parts[1]:
                bad.append(f"{path}: {include}: one program includes another")
    assert not bad, "\n".join(bad)


def test_every_library_is_in_the_layers():
    present = {p.split("/")[1] for p in tracked(".c", ".h") if p.startswith("lib/")}
    assert present <= set(LAYERS), f"not in the order of layers: {present - set(LAYERS)}"


def test_mover_links_no_glib_and_no_json():
    bad = [p for d in NO_GLIB for p in tracked(".c", ".h") if p.startswith(d + "/")
           and re.search(r"#include <(glib|gio|jansson)", read(p))]
    assert not bad, bad


def test_pure_libraries_do_no_io():
    bad = [f"{p}: {m.group(0)}" for d in PURE for p in tracked(".c") if p.startswith(d + "/")
           for m in IMPURE_CALLS.finditer(read(p))]
    assert not bad, "\n".join(bad)


def test_licence_line():
    bad = [p for p in tracked(".c", ".h", ".py", ".ts", ".tsx")
           if "SPDX-License-Identifier: Apache-2.0" not in "\n".join(read(p).splitlines()[:3])]
    assert not bad, bad


def test_headers_have_pragma_once():
    bad = [p for p in tracked(".h") if "#pragma once" not in read(p)]
    assert not bad, bad


def test_nothing_unfinished_is_committed():
    # Whole words: a template of mkdtemp() is none.
    word = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b")
    bad = [f"{p}: {m.group(0)}" for p in tracked(".c", ".h", ".py", ".ts", ".md", ".sh") if "tests/style" not in p
           for m in word.finditer(read(p))]
    assert not bad, "\n".join(bad)


def test_nothing_of_a_developers_machine_is_committed():
    pattern = re.compile("(^|[^A-Za-z0-9_.])/(wo" + "rk|fa" + "rm)/|deb\\.debian" + "\\.org|/tmp/" + "wt|fa" + "rm-")
    bad = [f"{p}: {m.group(0).strip()}" for p in tracked("") for m in pattern.finditer(read(p))]
    assert not bad, "\n".join(bad)


def test_glossary_terms():
    """partition, not VM or domain; checked in what we write for people and in names."""
    pattern = re.compile(r"\b(VMs?|hypervisor domain|virtual machines?)\b")
    allowed = {"README.md", "docs/glossary.md"}
    bad = [f"{p}: {m.group(0)}" for p in tracked(".c", ".h") if p not in allowed for m in pattern.finditer(read(p))]
    assert not bad, "\n".join(bad)


def test_clang_format():
    tool = shutil.which("clang-format") or shutil.which("clang-format-14")
    if tool is None:
        pytest.fail("clang-format is missing: scripts/deps installs it")
    files = tracked(".c", ".h")
    run = subprocess.run([tool, "--dry-run", "-Werror", *files], cwd=ROOT, capture_output=True, text=True)
    changed = sorted(set(re.findall(r"^([^:\n]+):\d+", run.stderr, re.M)))
    assert run.returncode == 0, "run clang-format -i on: " + " ".join(changed)


def test_python_compiles():
    for path in tracked(".py"):
        compile(read(path), path, "exec")


def test_test_files_have_names_of_their_own():
    """pytest takes two files of one name for one module; only check-long collects them all at once."""
    names = [Path(p).name for p in tracked(".py") if Path(p).name.startswith("test_")]
    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)


def test_scripts_are_executable():
    bad = [p for p in tracked("") if read(p).startswith("#!") and not os.access(ROOT / p, os.X_OK)]
    assert not bad, bad
