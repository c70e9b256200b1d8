#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs clang-tidy on the sources that have changed, several at once, and on others while there is time.

usage: tidy.py TOOL BUILD [SOURCE...]   in the repository; BUILD is a build folder of it
       tidy.py --self-test              with a repository of its own and a tool that looks for a word

Changed is what differs from the base: committed, in the working tree or new; for a header, the source
of its name. The base is the commit TORCH_ACCELERATED_CI_BASE, else where this branch has left the one
that was cloned, else the commit before.

All changed sources are looked at, however late it is. Where .ci/run has set TORCH_ACCELERATED_CI_END,
in seconds since 1970, what time is left until then goes to the other sources, the last changed first.
A source that this build doesn't compile is left out.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

FOLDERS = ("src", "examples")
OTHERS_SECONDS = 480  # from the beginning, so that little that has changed leaves CI short
LAST_SECONDS = 120  # what the last one may take


class Mistake(Exception):
    pass


def git(*arguments):
    """The entries that git prints, or None where it fails."""
    result = subprocess.run(["git", *arguments], capture_output=True, text=True)
    entries = [entry.strip() for entry in result.stdout.split("\0")]
    return [entry for entry in entries if entry] if result.returncode == 0 else None


def commit(name):
    found = git("rev-parse", "--verify", "--quiet", name + "^{commit}")
    return found[0] if found else None


def find_base():
    if not commit("HEAD"):
        raise Mistake("there is no git repository with a commit here; name the sources")
    asked = os.environ.get("TORCH_ACCELERATED_CI_BASE")
    if asked:
        if not commit(asked):
            raise Mistake(f"TORCH_ACCELERATED_CI_BASE is {asked}, which is no commit here; fetch it or name another")
        return commit(asked)
    for cloned in ("origin/HEAD", "origin/main"):
        base = git("merge-base", "HEAD", cloned)
        if base and base[0] != commit("HEAD"):
            return base[0]
    return commit("HEAD~") or commit("HEAD")


def sources_of(files):
    """The sources among files and those of the headers among them, each once."""
    found = {}
    for file in files:
        if file.endswith(".h"):
            file = file.replace("include/torch_accelerated/", "src/", 1)[:-2] + ".cpp"
        if file.endswith(".cpp") and file.split("/")[0] in FOLDERS and pathlib.Path(file).is_file():
            found[file] = None
    return list(found)


def changed_sources(base):
    changed = git("diff", "-z", "--name-only", "--no-renames", base)
    new = git("ls-files", "-z", "--others", "--exclude-standard")
    return sources_of(changed + new)


def other_sources(changed):
    logged = git("log", "-z", "--format=", "--name-only", "--", *FOLDERS) or []
    sources = sources_of(file for file in logged if file.endswith(".cpp"))
    return [file for file in sources if file not in set(changed)]


class Run:
    """What clang-tidy has said so far."""

    def __init__(self, tool, folder):
        # g++'s options are none of clang's.
        self.command = [tool, "-p", folder, "--quiet", "--extra-arg=-Wno-unknown-warning-option"]
        self.seen, self.failed = set(), set()
        self.jobs = int(os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or os.cpu_count() or 1)

    def look_at_one(self, file, deadline):
        begin = time.time()
        if begin >= deadline:
            return
        result = subprocess.run([*self.command, file], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        word = "passed" if result.returncode == 0 else "FAILED"
        text = f"{word} {time.time() - begin:4.0f} s  {file}\n"
        if result.returncode != 0:
            self.failed.add(file)
            text += result.stdout
        self.seen.add(file)
        sys.stdout.write(text)
        sys.stdout.flush()

    def look_at(self, files, deadline):
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(lambda file: self.look_at_one(file, deadline), files))


def commands_of_sources(build):
    """The commands that build's compile_commands.json tells, for a source of several that of each."""
    try:
        commands = json.loads(pathlib.Path(build, "compile_commands.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise Mistake(f"{build} tells no compile commands ({error}); configure it first") from error
    for one in commands:
        if pathlib.Path(one["file"]).parent.name != "Unity":
            yield one
            continue
        for source in re.findall('#include "(.*)"', pathlib.Path(one["file"]).read_text(encoding="utf-8")):
            yield {**one, "file": source, "command": one["command"].replace(one["file"], source)}


def write_commands(build):
    """Where clang-tidy finds how each source is compiled, and the sources."""
    folder = pathlib.Path(build, "tidy")
    folder.mkdir(exist_ok=True)
    commands = list(commands_of_sources(build))
    (folder / "compile_commands.json").write_text(json.dumps(commands, indent=1), encoding="utf-8")
    here = os.path.realpath(".")
    sources = {os.path.relpath(os.path.realpath(os.path.join(one["directory"], one["file"])), here) for one in commands}
    return str(folder), sources


def tidy(tool, build, named):
    begin = time.time()
    end = os.environ.get("TORCH_ACCELERATED_CI_END")
    deadline = float(end) - LAST_SECONDS if end else float("inf")
    base = None if named else find_base()
    changed = sources_of(named) if named else changed_sources(base)
    others = other_sources(changed) if end and not named else []
    folder, compiled = write_commands(build)
    for file in [file for file in changed if file not in compiled]:
        print(f"left out     {file}, which {build} doesn't compile")
    changed, others = ([file for file in files if file in compiled] for files in (changed, others))
    if base:
        print(f"{len(changed)} sources have changed since {base[:12]}")

    run = Run(tool, folder)
    run.look_at(changed, float("inf"))
    run.look_at(others, min(deadline, begin + OTHERS_SECONDS))
    print(f"clang-tidy: {len(changed)} changed sources and {len(run.seen) - len(changed)} of {len(others)} others "
          f"were looked at, {len(run.failed)} have warnings")
    return 1 if run.failed else 0


# --- Self-test ------------------------------------------------------------------------------------

TOOL = """#!/bin/sh
for file; do :; done
echo "$file" >>looked_at
! grep bad "$file"
"""


def self_test():
    failures = []
    home = os.getcwd()
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
    os.environ.update(GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1", CMAKE_BUILD_PARALLEL_LEVEL="1")
    for who in ("AUTHOR", "COMMITTER"):
        os.environ.update({f"GIT_{who}_NAME": "a", f"GIT_{who}_EMAIL": "a@b"})

    def write(text, *names):
        for name in names:
            pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
            pathlib.Path(name).write_text(text, encoding="utf-8")

    def save():
        git("add", "src", "include", "tests")
        git("commit", "-m", "a commit")
        return commit("HEAD")

    def expect(claim, status, looked_at, *named, base="", end=""):
        os.environ.update(TORCH_ACCELERATED_CI_BASE=base, TORCH_ACCELERATED_CI_END=end)
        write("", "looked_at")
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
            found = tidy("./tool", "build", named)
        lines = pathlib.Path("looked_at").read_text(encoding="utf-8").split()
        files = " ".join(pathlib.Path(line).stem for line in lines)
        if (found, files) != (status, looked_at):
            failures.append(f"{claim}: ended with {found} after {files}")

    with tempfile.TemporaryDirectory() as root:
        os.chdir(root)
        git("init", "-b", "main")
        write("tool\nlooked_at\nbuild\n", ".git/info/exclude")
        write(TOOL, "tool")
        os.chmod("tool", 0o755)
        compiled = [{"directory": root, "file": f"src/{name}.cpp"} for name in "abc"]
        compiled.append({"directory": root, "command": "g++ build/Unity/0.cxx", "file": "build/Unity/0.cxx"})
        write("".join(f'#include "{root}/src/{name}.cpp"\n' for name in "def"), "build/Unity/0.cxx")
        write(json.dumps(compiled), "build/compile_commands.json")
        write("", *(f"src/{name}.cpp" for name in "abcde"), "include/torch_accelerated/d.h", "tests/t.cpp")
        first = save()
        write("1", "src/a.cpp")
        second = save()
        later = str(time.time() + 3600)

        expect("the last commit", 0, "a")
        write("1", "src/b.cpp", "src/f.cpp", "tests/t.cpp", "include/torch_accelerated/d.h")
        expect("the working tree, new files and headers", 0, "d a b f")
        expect("changed since a base", 0, "d b f", base=second)
        git("add", "src/b.cpp")
        expect("what has changed first, then others", 0, "d b f a c e", base=second, end=later)
        expect("what is named alone", 0, "c", "src/c.cpp", end=later)
        expect("what has changed is looked at however late it is, others aren't", 0, "d b f", base=second, end="1")
        third = save()
        expect("another that isn't reached is none", 0, "", base=third, end="1")
        write("bad", "src/c.cpp")
        expect("a warning is a failure", 1, "c", base=third)
        save()
        expect("a warning in another is one too", 1, "c b f a d e", base="HEAD", end=later)
        write("", "src/g.cpp")
        expect("what the build doesn't compile is left out", 0, "", base="HEAD")
        git("update-ref", "refs/remotes/origin/main", first)
        expect("changed since the branch that was cloned", 1, "d a b c f")
        os.chdir(home)
    print(*failures or ["tidy.py looks at what has changed"], sep="\n")
    return 1 if failures else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 64
    try:
        return tidy(arguments[0], arguments[1], arguments[2:])
    except Mistake as mistake:
        print(f"tidy.py: {mistake}")
        return 1


sys.exit(main(sys.argv[1:]))
