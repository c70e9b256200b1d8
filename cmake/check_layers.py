#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks which files include which, by the layers below, and what stands where.

usage: check_layers.py ROOT          ROOT is the repository
       check_layers.py --self-test   makes trees with one mistake each and wants each found

A module includes itself and modules of lower layers only; modules of one layer never include each
other. No public header includes torch/torch.h, torch/all.h, fmt or spdlog; base/ sees std only; a
source in TORCH_ACCELERATED_BASE_SOURCES (src/CMakeLists.txt) reaches no header of torch, directly or
through this project's headers; fmt and spdlog are included by such sources alone.

The top level has what is listed below and no more, tools' dotfiles and build folders aside, and the
loop can be read in one sitting.
"""

import pathlib
import re
import sys
import tempfile

LAYERS = [
    ["base"],
    ["core"],
    ["data", "distributed", "schedulers", "finetuning", "metrics", "history"],
    ["accelerator", "checkpoint"],
    ["trainer"],
    ["callbacks"],
]
LAYER = {module: layer for layer, modules in enumerate(LAYERS) for module in modules}
UMBRELLA = "torch_accelerated/torch_accelerated.h"
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
TORCH = re.compile(r"^(torch|ATen|c10|caffe2)/")
PRIVATE = re.compile(r"^(fmt|spdlog|nlohmann)/")
TOP_LEVEL = {"CMakeLists.txt", "include", "src", "examples", "tests", "cmake", "docs", "LICENSE", "README.md"}
NOT_OURS = re.compile(r"[.].*|build(-.*)?")
LOOP, LOOP_LINES = "src/trainer/trainer.cpp", 300
HEAVY = {"torch/torch.h", "torch/all.h", "torch/extension.h"}


class Tree:
    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.files = {}  # path relative to root -> [included names]
        for folder in ("include", "src"):
            for path in sorted((self.root / folder).rglob("*")):
                if path.suffix in (".h", ".cpp"):
                    text = path.read_text(encoding="utf-8")
                    name = path.relative_to(self.root).as_posix()
                    self.files[name] = [found[1] for found in INCLUDE.findall(text)]
        listed = self.root / "src/CMakeLists.txt"
        text = listed.read_text(encoding="utf-8") if listed.exists() else ""
        found = re.search(r"set\(TORCH_ACCELERATED_BASE_SOURCES([^)]*)\)", text)
        self.base_sources = ["src/" + name for name in found.group(1).split()] if found else []

    def resolve(self, name):
        """The file of this project that an include names, or None."""
        for candidate in ("include/" + name, "src/" + name):
            if candidate in self.files:
                return candidate
        return None


def module_of(file):
    """The module of include/torch_accelerated/<module>/... or src/<module>/...; None for the umbrella."""
    parts = file.split("/")
    parts = parts[2:] if parts[0] == "include" else parts[1:]
    return parts[0] if len(parts) > 1 else None


def check_module(tree, file, report):
    module = module_of(file)
    if module is None:
        if file != "include/" + UMBRELLA:
            report(file, "stands in no module")
        return
    if module not in LAYER:
        report(file, f"is in {module}/, which is no module; there are {', '.join(LAYER)}")
        return
    for name in tree.files[file]:
        if name == UMBRELLA:
            report(file, "includes the umbrella header, which is for users alone")
        target = tree.resolve(name)
        other = module_of(target) if target else None
        if other is None or other == module or other not in LAYER:
            continue
        if LAYER[other] > LAYER[module]:
            report(file, f"includes {name}: {other}/ is above {module}/")
        elif LAYER[other] == LAYER[module]:
            report(file, f"includes {name}: {other}/ and {module}/ are siblings")


def check_names(tree, file, report):
    public = file.startswith("include/")
    for name in tree.files[file]:
        if public and name in HEAVY:
            report(file, f"includes {name}; a public header declares what it needs")
        if public and name.startswith("torch_accelerated/") and not tree.resolve(name):
            report(file, f"includes {name}, which isn't there")
        if public and not name.startswith("torch_accelerated/") and tree.resolve(name):
            report(file, f"includes {name}, which is private")
        if PRIVATE.match(name) and file not in tree.base_sources:
            report(file, f"includes {name}; only sources that never see torch may")
        if TORCH.match(name) and module_of(file) == "base":
            report(file, f"includes {name}; base/ sees std only")


def check_torch_free(tree, report):
    for source in tree.base_sources:
        if source not in tree.files:
            report(source, "is listed in src/CMakeLists.txt but isn't there")
            continue
        seen, todo = {source}, [(source, source)]
        while todo:
            file, way = todo.pop()
            for name in tree.files[file]:
                if TORCH.match(name):
                    report(source, f"must not see torch but reaches {name} by {way}")
                target = tree.resolve(name)
                if target and target not in seen:
                    seen.add(target)
                    todo.append((target, f"{way} -> {target}"))


def check_places(root, report):
    there = {path.name for path in root.iterdir() if not NOT_OURS.fullmatch(path.name)}
    for name in sorted(there - TOP_LEVEL):
        report(name, f"doesn't belong at the top level, which has {' '.join(sorted(TOP_LEVEL))}")
    for name in sorted(TOP_LEVEL - there):
        report(name, "is missing at the top level")
    lines = (root / LOOP).read_text(encoding="utf-8").count("\n") if (root / LOOP).exists() else None
    if lines is None:
        report(LOOP, "isn't there, where the loop is read")
    elif lines >= LOOP_LINES:
        report(LOOP, f"has {lines} lines; the loop is to be read in one sitting, under {LOOP_LINES}")


def check(root):
    tree, problems = Tree(root), []
    report = lambda file, text: problems.append(f"{file} {text}")
    if not tree.files:
        problems.append(f"{root} has no include/ and src/ with C++ in it")
    for file in tree.files:
        check_module(tree, file, report)
        check_names(tree, file, report)
    check_torch_free(tree, report)
    check_places(tree.root, report)
    return problems, len(tree.files)


GOOD = {
    "include/torch_accelerated/torch_accelerated.h": '#include "torch_accelerated/trainer/t.h"',
    "include/torch_accelerated/base/b.h": "#include <string>",
    "include/torch_accelerated/core/c.h": '#include <c10/core/Device.h>\n#include "torch_accelerated/base/b.h"',
    "include/torch_accelerated/data/d.h": '#include "torch_accelerated/core/c.h"',
    "include/torch_accelerated/metrics/m.h": '#include "torch_accelerated/core/c.h"',
    "include/torch_accelerated/trainer/t.h": '#include "torch_accelerated/data/d.h"',
    "src/base/b.cpp": '#include <spdlog/spdlog.h>\n#include "base/text.h"',
    "src/base/text.h": "#include <sstream>",
    "src/data/idx.cpp": '#include "torch_accelerated/base/b.h"',
    "src/trainer/t.cpp": '#include <torch/torch.h>\n#include "torch_accelerated/trainer/t.h"',
    "src/trainer/trainer.cpp": "\n" * 298,
    **{name: "" for name in ("CMakeLists.txt", "LICENSE", "README.md", ".gitignore", "build/x", "build-asan/x")},
    **{folder + "/x": "" for folder in ("examples", "tests", "cmake", "docs")},
    "src/CMakeLists.txt": "set(TORCH_ACCELERATED_BASE_SOURCES base/b.cpp data/idx.cpp)",
}
BAD = {  # what is written instead (None: nothing), and what must be said about it
    "upward": ("src/data/idx.cpp", '#include "torch_accelerated/trainer/t.h"', "is above data/"),
    "sibling": ("include/torch_accelerated/data/d.h", '#include "torch_accelerated/metrics/m.h"', "siblings"),
    "umbrella": ("src/trainer/t.cpp", '#include "torch_accelerated/torch_accelerated.h"', "umbrella"),
    "no module": ("src/extra/x.cpp", "#include <string>", "no module"),
    "no folder": ("src/x.cpp", "#include <string>", "stands in no module"),
    "heavy": ("include/torch_accelerated/core/c.h", "#  include  <torch/torch.h>", "declares what it needs"),
    "fmt in a header": ("include/torch_accelerated/data/d.h", "#include <fmt/format.h>", "never see torch"),
    "spdlog beside torch": ("src/trainer/t.cpp", "#include <spdlog/spdlog.h>", "never see torch"),
    "torch in base": ("src/base/text.h", "#include <ATen/ATen.h>", "std only"),
    "torch by a detour": ("src/data/idx.cpp", '#include "torch_accelerated/data/d.h"', "reaches c10/core/Device.h"),
    "private header": ("include/torch_accelerated/data/d.h", '#include "base/text.h"', "is private"),
    "not there": ("include/torch_accelerated/data/d.h", '#include "torch_accelerated/core/x.h"', "isn't there"),
    "listed, not there": ("src/CMakeLists.txt", "set(TORCH_ACCELERATED_BASE_SOURCES base/x.cpp)", "isn't there"),
    "more at the top": ("setup.py", "", "doesn't belong"),
    "less at the top": ("LICENSE", None, "is missing"),
    "long loop": (LOOP, "\n" * 299, "has 300 lines"),
    "no loop": (LOOP, None, "where the loop is read"),
}


def self_test():
    def run(files):
        with tempfile.TemporaryDirectory() as root:
            for name, text in files.items():
                if text is None:
                    continue
                path = pathlib.Path(root, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text + "\n", encoding="utf-8")
            return check(root)[0]

    failures = [f"a good tree: {problem}" for problem in run(GOOD)]
    for name, (file, text, said) in BAD.items():
        if not any(said in problem for problem in run({**GOOD, file: text})):
            failures.append(f"{name}: nothing was said about '{said}'")
    print(*failures or [f"{len(BAD)} mistakes found"], sep="\n")
    return 1 if failures else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 64
    problems, count = check(arguments[0])
    print(*problems or [f"{count} files keep the layers"], sep="\n")
    return 1 if problems else 0


sys.exit(main(sys.argv[1:]))
