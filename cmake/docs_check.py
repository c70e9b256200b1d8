#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the documentation's code compile, and its links and CMake lines true.

usage: docs_check.py extract PAGE.md OUT.cpp   all ```cpp blocks of a page as one source
       docs_check.py links ROOT PAGE.md...     relative links and their #headings exist; each ```cmake
                                               block stands, line for line, in a tests/consumer project
       docs_check.py --self-test

How a ```cpp block is compiled: its #include lines come first in the file. A block with an #include
or with `main` is a file, and stands in a namespace of its own. Any other block is a fragment, and
stands in a function of its own after `namespace ta = torch_accelerated;` and all of the public
interface. An HTML comment on the lines before a block changes that:
  <!-- docs_check: declarations -->   a fragment at namespace scope (functions, templates)
  <!-- docs_check: continues -->      goes on where the block before it ended, in the same scope
  <!-- docs_check: given CODE -->     CODE, over as many lines as wanted, comes before a fragment
  <!-- docs_check: skip REASON -->    isn't compiled
Blocks in other languages are left alone.
"""

import pathlib
import re
import sys
import tempfile

KINDS = ("declarations", "continues", "given", "skip")
PRELUDE = """\
#include <torch/torch.h>
#include "torch_accelerated/torch_accelerated.h"
"""


class Mistake(Exception):
    pass


class Block:
    def __init__(self, language, line, notes):
        self.language, self.line, self.notes, self.code = language, line, notes, []

    def is_file(self):
        text = "\n".join(self.code)
        return bool(re.search(r"^\s*#\s*include\b|\bint main\(", text, re.MULTILINE))


def parse(page):
    """The fenced blocks of a page, each with the docs_check comments right before it."""
    blocks, notes, fence, block = [], [], None, None
    lines = pathlib.Path(page).read_text(encoding="utf-8").split("\n")
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        opened = re.match(r"^\s*(```+|~~~+)\s*([\w+-]*)", line)
        if fence:
            if line.strip() == fence:
                blocks.append(block)
                fence = None
            else:
                block.code.append(line)
        elif opened:
            fence = opened.group(1)
            block = Block(opened.group(2).lower(), number + 1, notes)
            notes = []
        elif line.lstrip().startswith("<!-- docs_check:"):
            first = number
            while "-->" not in line:
                if number == len(lines):
                    raise Mistake(f"{page}:{first}: the comment has no end")
                line += "\n" + lines[number]
                number += 1
            note = re.match(r"\s*<!-- docs_check:\s*(\w+)\s*(.*?)\s*-->", line, re.DOTALL)
            if not note or note.group(1) not in KINDS:
                raise Mistake(f"{page}:{first}: docs_check knows {', '.join(KINDS)}")
            notes.append((note.group(1), note.group(2)))
        elif line.strip():
            notes = []
    if fence:
        raise Mistake(f"{page}:{block.line}: the block has no end")
    return blocks


def extract(page):
    """One source with all C++ blocks of a page; the compiler's messages name the page's lines."""
    includes, body, closing, skipped = [], [], None, 0
    for block in parse(page):
        if block.language not in ("cpp", "c++", "cc"):
            continue
        notes = dict(block.notes)
        if "skip" in notes:
            if not notes["skip"]:
                raise Mistake(f"{page}:{block.line}: skip wants a reason")
            skipped += 1
            continue
        name = f"block_{block.line}"
        if "continues" in notes:
            if closing is None:
                raise Mistake(f"{page}:{block.line}: there is no block that this one could continue")
        else:
            body += closing or []
            body.append(f"namespace {name} {{")
            if block.is_file():
                closing = ["}"]
            else:
                body.append("namespace ta = torch_accelerated;")
                closing = ["}"] if "declarations" in notes else ["}", "}"]
                given = notes.get("given", "").split("\n")
                body += given if "declarations" in notes else ["[[maybe_unused]] void fragment() {"] + given
        body.append(f'#line {block.line} "{page}"')
        for offset, line in enumerate(block.code):
            if re.match(r"\s*#\s*include\b", line):
                includes += [f'#line {block.line + offset} "{page}"', line]
                body.append("")
            else:
                body.append(line)
    return "\n".join([PRELUDE] + includes + body + (closing or [])) + "\n", skipped


def anchors(path):
    """The anchors of a page's headings, as GitHub makes them."""
    found, fenced = set(), False
    for line in path.read_text(encoding="utf-8").split("\n"):
        if re.match(r"^\s*(```|~~~)", line):
            fenced = not fenced
        heading = re.match(r"^#+\s+(.*?)\s*#*$", line)
        if heading and not fenced:
            text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading.group(1)).lower()
            found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found


def check_links(root, page):
    problems = []
    text = pathlib.Path(page).read_text(encoding="utf-8")
    text = re.sub(r"^\s*(```+|~~~+).*?^\s*\1\s*$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "", text)
    for target in re.findall(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)", text):
        if re.match(r"^[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (pathlib.Path(page).parent / name) if name else pathlib.Path(page)
        if not path.exists():
            problems.append(f"{page}: {target} isn't there")
        elif not path.resolve().is_relative_to(pathlib.Path(root).resolve()):
            problems.append(f"{page}: {target} is outside of the repository")
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            problems.append(f"{page}: {target}: {path.name} has no such heading")
    return problems


def check_cmake(root, page):
    lines = lambda text: "\n".join(line.strip() for line in text.split("\n") if line.strip())
    projects = [lines(path.read_text(encoding="utf-8"))
                for path in pathlib.Path(root, "tests/consumer").rglob("CMakeLists.txt")]
    return [f"{page}:{block.line}: these CMake lines stand in no tests/consumer/*/CMakeLists.txt"
            for block in parse(page)
            if block.language == "cmake" and not any(k == "skip" and r for k, r in block.notes)
            and not any(lines("\n".join(block.code)) in project for project in projects)]


def self_test():
    failures = []

    def expect(condition, claim):
        if not condition:
            failures.append(claim)

    with tempfile.TemporaryDirectory() as root:
        page = pathlib.Path(root, "page.md")

        def source(text):
            page.write_text(text, encoding="utf-8")
            return extract(page)[0]

        one = source("```cpp\n#include <a>\nint main() {}\n```\n```bash\nls\n```\n```cpp\nint i;\n```\n")
        expect("fragment" in one and one.count("namespace block_") == 2 and "ls" not in one, "files and fragments")
        expect(one.index("#include <a>") < one.index("namespace block_"), "includes come first")
        expect(f'#line 9 "{page}"' in one, "lines are the page's")
        two = source("```cpp\nint i;\n```\nso\n<!-- docs_check: continues -->\n\n```cpp\ni = 1;\n```\n")
        expect(two.count("fragment") == 1 and two.rstrip().endswith("i = 1;\n}\n}"), "continues")
        given = source("<!-- docs_check: given int a;\nint b; -->\n```cpp\na = b;\n```\n")
        expect("int a;\nint b;\n" in given, "given")
        expect("fragment" not in source("<!-- docs_check: declarations -->\n```cpp\nint f();\n```\n"), "declarations")
        for wrong in ("<!-- docs_check: skip -->\n```cpp\nx\n```\n", "<!-- docs_check: other -->\n", "```cpp\nx\n",
                      "<!-- docs_check: continues -->\n```cpp\nx\n```\n"):
            try:
                source(wrong)
                failures.append(f"nothing was said about {wrong!r}")
            except Mistake:
                pass
        page.write_text("# A b\n[x](page.md#a-b) [y](https://z) [z](none.md) [u](#c) `[v](w)`\n", encoding="utf-8")
        expect(len(check_links(root, page)) == 2, "links")
        page.write_text("```cmake\nproject(a)\n```\n", encoding="utf-8")
        expect(len(check_cmake(root, page)) == 1, "cmake blocks")
    print(*failures or ["docs_check finds its mistakes"], sep="\n")
    return 1 if failures else 0


def main(arguments):
    try:
        if arguments == ["--self-test"]:
            return self_test()
        if len(arguments) == 3 and arguments[0] == "extract":
            source, skipped = extract(arguments[1])
            pathlib.Path(arguments[2]).write_text(source, encoding="utf-8")
            if skipped:
                print(f"{arguments[1]}: {skipped} blocks are not compiled")
            return 0
        if len(arguments) >= 2 and arguments[0] == "links":
            problems = [problem for page in arguments[2:]
                        for problem in check_links(arguments[1], page) + check_cmake(arguments[1], page)]
            print(*problems or [f"{len(arguments) - 2} pages: links and CMake lines are right"], sep="\n")
            return 1 if problems else 0
    except Mistake as mistake:
        print(mistake)
        return 1
    print(__doc__, file=sys.stderr)
    return 64


sys.exit(main(sys.argv[1:]))
