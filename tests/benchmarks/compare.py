#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the contenders against each other in one run, prints tables and writes JSON.

A round starts one process of each kind and lets every contender do its updates once, in a random
order; the next round starts new processes, as a process keeps the addresses it got. What a
contender takes beyond the hand-written loop is compared within each round, so that what slows the
machine down for a while slows both.
"""

import argparse
import contextlib
import fcntl
import json
import os
import pty
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from report import print_result, result_of

WARM_UP = 50
PYTHON_CONTENDERS = Path(__file__).with_name("python_contenders.py")


class Kind(NamedTuple):
    """Of a process."""

    language: str
    threads: int
    terminal: bool


class Row(NamedTuple):
    kind: Kind
    contender: str
    data: str

    def baseline(self):
        return Row(self.kind._replace(language="C++"), "hand-written", self.data)


def rows_of(kind, contenders, *more):
    return [Row(kind, c, data) for c in contenders for data in ("premade", "dataset")] + list(more)


def all_rows(with_python):
    plain, terminal, two = Kind("C++", 1, False), Kind("C++", 1, True), Kind("C++", 2, False)
    pair = ("hand-written", "Trainer")
    rows = rows_of(plain, pair, Row(plain, "torch::data", "dataset"))
    rows += rows_of(terminal, pair)
    if os.cpu_count() > 1:
        rows += rows_of(two, pair)
    if with_python:
        theirs = ("PyTorch", "pytorch-accelerated", "pytorch-accelerated-without-bar")
        rows += rows_of(plain._replace(language="Python"), theirs)
        rows += rows_of(terminal._replace(language="Python"), theirs[1:2])
    return rows


class Contenders:
    """A process that runs contenders when told to."""

    def __init__(self, kind, program, python):
        self.program = [program] if kind.language == "C++" else [python, str(PYTHON_CONTENDERS)]
        self.kind = kind
        reading, writing = os.pipe()
        self.errors = tempfile.TemporaryFile()
        stderr = self.open_terminal() if kind.terminal else self.errors
        threads = {name: str(kind.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self.started_ns = time.monotonic_ns()
        self.process = subprocess.Popen(
            self.program + [str(writing)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=[writing],
            env=os.environ | threads,
            text=True,
        )
        os.close(writing)
        if kind.terminal:
            os.close(stderr)
        self.replies = os.fdopen(reading)

    def open_terminal(self):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))

        def drain():
            with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as shown:
                while shown.read(65536):
                    pass

        threading.Thread(target=drain, daemon=True).start()
        return theirs

    def ask(self, question):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
        reply = self.replies.readline()
        if reply:
            return json.loads(reply)
        self.process.wait()
        self.errors.seek(0)
        sys.exit(
            f"{' '.join(self.program)} ended with status {self.process.returncode} at "
            f"'{question}': {self.errors.read().decode(errors='replace').strip()}"
        )

    def run(self, contender, data, updates, warm_up=WARM_UP):
        return self.ask(f"{contender} {data} {warm_up} {updates}")

    def versions(self):
        versions = self.ask("versions")
        threads = versions.pop("threads")
        if threads != self.kind.threads:
            sys.exit(f"{self.program[0]} has {threads} threads, asked for {self.kind.threads}")
        return versions

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.replies.close()
        self.errors.close()


class Benchmark:
    def __init__(self, options):
        self.options = options
        self.rows = all_rows(options.python is not None)
        self.random = random.Random(options.seed)
        self.times = defaultdict(list)  # microseconds an update, the mean of each round
        self.typical = defaultdict(list)  # the same, the median of each round
        self.losses = defaultdict(set)
        self.once = defaultdict(lambda: defaultdict(list))
        self.versions = {}

    def open(self, kind):
        return Contenders(kind, self.options.program, self.options.python)

    def measure_round(self):
        with contextlib.ExitStack() as stack:
            processes = {}
            for kind in dict.fromkeys(row.kind for row in self.rows):
                processes[kind] = stack.enter_context(self.open(kind))
                self.versions |= processes[kind].versions()
                # Makes the data, and lets the libraries choose their kernels.
                first = next(row for row in self.rows if row.kind == kind)
                processes[kind].run(first.contender, "premade", self.options.updates)
            for row in self.random.sample(self.rows, len(self.rows)):
                outcome = processes[row.kind].run(row.contender, row.data, self.options.updates)
                self.times[row].append(outcome["mean_ns"] / 1000)
                self.typical[row].append(outcome["median_ns"] / 1000)
                self.losses[row].add(outcome["loss"])

    def measure_once(self):
        """One contender in a process of its own: its start, and the memory that it takes."""
        rows = [r for r in self.rows if r.kind[1:] == (1, False) and r.data == "dataset"]
        for row in self.random.sample(rows, len(rows)):
            with self.open(row.kind) as process:
                outcome = process.run(row.contender, row.data, updates=199, warm_up=0)
                seconds = (outcome["first_update_ns"] - process.started_ns) / 1e9
                self.once[row]["first_update_s"].append(seconds)
                self.once[row]["peak_mib"].append(outcome["peak_kib"] / 1024)

    def measure(self):
        for number in range(self.options.rounds):
            note(f"round {number + 1} of {self.options.rounds}")
            self.measure_round()
            self.measure_once()
        note("")
        self.check_work()

    def check_work(self):
        """Premade batches come in one order, so equal work has equal losses."""
        for row, losses in self.losses.items():
            if row.data != "premade":
                continue
            expected = next(iter(self.losses[row.baseline()]))
            tolerance = 1e-9 if row.kind == row.baseline().kind else 1e-4
            if any(abs(loss - expected) > tolerance * expected for loss in losses):
                sys.exit(
                    f"{row.contender} had the losses {losses}, the hand-written loop {expected}: "
                    "they did not do the same work, so their times say nothing"
                )

    def above(self, row, times):
        """What the contender takes beyond the hand-written loop, round by round."""
        return [a - b for a, b in zip(times[row], times[row.baseline()])]

    def goal(self, row):
        if row.contender != "Trainer":
            return None
        allowed = max(5.0, 0.01 * statistics.median(self.times[row.baseline()]))
        above = statistics.median(self.above(row, self.times))
        return {"allowed_us": allowed, "met": above <= allowed}


def note(text):
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)


def at_least(least):
    def number(text):
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be >= {least}, got {value}")
        return value

    return number


def parse():
    parser = argparse.ArgumentParser(prog="tests/benchmarks/run")
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    parser.add_argument(
        "--python",
        metavar="PATH",
        help="a Python with torch and pytorch-accelerated, to have them in the tables",
    )
    parser.add_argument("--rounds", type=at_least(1), default=21, help="default: %(default)s")
    parser.add_argument(
        "--updates",
        type=at_least(1),
        default=500,
        help="that a contender does in a round; default: %(default)s",
    )
    parser.add_argument("--seed", type=int, help="of the order in which contenders take turns")
    parser.add_argument(
        "--json",
        type=Path,
        required=True,
        metavar="FILE",
        help="where the numbers go; default: build/benchmarks.json",
    )
    return parser.parse_args()


def main():
    options = parse()
    load = os.getloadavg()[0]
    benchmark = Benchmark(options)
    benchmark.measure()
    result = result_of(benchmark, WARM_UP, load)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_result(result)
    print(f"\nAll numbers: {options.json}")


main()
