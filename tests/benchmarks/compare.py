#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the contenders against each other in one run, prints tables and writes JSON.

A round starts one process of each kind and lets every contender do its updates once, in a random
order; the next round starts new processes, as a process keeps the addresses it got. What a contender
takes beyond the hand-written loop is compared within each round, so that what slows the machine down
for a while slows both.
"""

import argparse
import contextlib
import datetime
import fcntl
import json
import os
import platform
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
    rows += rows_of(terminal, pair) + rows_of(two, pair)
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
        self.started_ns = time.monotonic_ns()
        self.process = subprocess.Popen(
            self.program + [str(writing)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=[writing],
            env=os.environ | {"OMP_NUM_THREADS": str(kind.threads), "MKL_NUM_THREADS": str(kind.threads)},
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
            sys.exit(f"{self.program[0]} computes with {threads} threads, asked for {self.kind.threads}")
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
                sys.exit(f"{row.contender} had the losses {losses}, the hand-written loop {expected}: "
                         "they did not do the same work, so their times say nothing")

    def above(self, row, times):
        """What the contender takes beyond the hand-written loop, round by round."""
        return [a - b for a, b in zip(times[row], times[row.baseline()])]

    def goal(self, row):
        if row.contender != "Trainer":
            return None
        allowed = max(5.0, 0.01 * statistics.median(self.times[row.baseline()]))
        return {"allowed_us": allowed, "met": statistics.median(self.above(row, self.times)) <= allowed}


def note(text):
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)


def spread(values):
    if len(values) == 1:
        values = values * 2
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return {"min": min(values), "quartile_1": first, "median": median, "quartile_3": third}


def numbers(values):
    return spread(values) | {"rounds": values}


def machine():
    model = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        names = [line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")]
        model = names[0] if names else model
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.system() + " " + platform.release()}


def commit():
    asked = subprocess.run(
        ["git", "-C", Path(__file__).parent, "rev-parse", "--short", "HEAD"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
    )
    return asked.stdout.strip() or None


def result_of(benchmark, load):
    def described(row):
        kind, contender, data = row
        return {"contender": contender, "data": data, "language": kind.language,
                "threads": kind.threads, "terminal": kind.terminal}

    updates = [
        described(row) | {
            "mean_us": numbers(benchmark.times[row]),
            "mean_us_above_hand_written": spread(benchmark.above(row, benchmark.times)),
            "goal": benchmark.goal(row),
            "median_us": numbers(benchmark.typical[row]),
            "median_us_above_hand_written": spread(benchmark.above(row, benchmark.typical)),
        }
        for row in benchmark.rows
    ]
    once = [
        described(row) | {name: numbers(values) for name, values in found.items()}
        for row, found in sorted(benchmark.once.items(), key=lambda item: benchmark.rows.index(item[0]))
    ]
    options = benchmark.options
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine() | {"load_before": load, "load_after": os.getloadavg()[0]},
        "versions": benchmark.versions | {"commit": commit()},
        "rounds": options.rounds,
        "updates_per_round": options.updates,
        "warm_up_updates": WARM_UP,
        "updates": updates,
        "once": once,
    }


def print_table(header, rows):
    widths = [max(len(cells[i]) for cells in [header, *rows]) for i in range(len(header))]
    for cells in [header, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |")


def print_updates(updates):
    kinds = sorted({(row["threads"], row["terminal"]) for row in updates})
    for threads, terminal in kinds:
        print(f"\nThreads: {threads}. stderr is {'a' if terminal else 'no'} terminal.\n")
        rows = [row for row in updates if (row["threads"], row["terminal"]) == (threads, terminal)]
        rows.sort(key=lambda row: row["data"] != "premade")
        print_table(
            ["contender", "batches", "µs/update", "quartiles", "least", "above, µs", "above, %",
             "allowed, µs", "one update, median µs", "above, µs"],
            [cells_of(row) for row in rows],
        )


def cells_of(row):
    mean, typical = row["mean_us"], row["median_us"]
    above, typical_above = row["mean_us_above_hand_written"], row["median_us_above_hand_written"]
    goal = row["goal"]
    cells = [
        row["contender"],
        row["data"],
        f"{mean['median']:.1f}",
        f"{mean['quartile_1']:.1f} to {mean['quartile_3']:.1f}",
        f"{mean['min']:.1f}",
        f"{above['median']:+.1f}",
        f"{100 * above['median'] / (mean['median'] - above['median']):+.1f}",
        "" if goal is None else f"{goal['allowed_us']:.1f}: {'met' if goal['met'] else 'MISSED'}",
        f"{typical['median']:.1f}",
        f"{typical_above['median']:+.1f}",
    ]
    if row["contender"] == "hand-written":
        cells[5] = cells[6] = cells[9] = ""
    return cells


def print_once(once):
    table = [
        [row["contender"], f"{row['first_update_s']['median']:.3f}",
         f"{row['first_update_s']['quartile_1']:.3f} to {row['first_update_s']['quartile_3']:.3f}",
         f"{row['peak_mib']['median']:.0f}"]
        for row in once
    ]
    print_table(["contender", "first update after, s", "quartiles", "peak memory, MiB"], table)


def print_result(result):
    where = result["machine"]
    print(f"{result['date']}, {where['cpu']}, {where['cores']} cores, {where['system']}, load "
          f"{where['load_before']:.1f} before and {where['load_after']:.1f} after")
    print(", ".join(f"{name} {number}" for name, number in result["versions"].items() if number))
    print(f"{result['rounds']} rounds of {result['updates_per_round']} updates each")
    print_updates(result["updates"])
    print()
    print_once(result["once"])


def at_least(least):
    def number(text):
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be >= {least}, got {value}")
        return value

    return number


def parse():
    parser = argparse.ArgumentParser(prog="tests/benchmarks/run", description=__doc__.split("\n")[0])
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--python", metavar="PATH",
                        help="a Python with torch and pytorch-accelerated, to have them in the tables")
    parser.add_argument("--rounds", type=at_least(1), default=21, help="default: %(default)s")
    parser.add_argument("--updates", type=at_least(1), default=500,
                        help="that a contender does in a round; default: %(default)s")
    parser.add_argument("--seed", type=int, help="of the order in which contenders take turns")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE",
                        help="where the numbers go; default: build/benchmarks.json")
    return parser.parse_args()


def main():
    options = parse()
    load = os.getloadavg()[0]
    benchmark = Benchmark(options)
    benchmark.measure()
    result = result_of(benchmark, load)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_result(result)
    print(f"\nAll numbers: {options.json}")


main()
