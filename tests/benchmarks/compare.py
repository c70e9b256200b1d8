#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the contenders against each other in one run, prints tables and writes JSON.

A round starts one process of each kind and lets every contender do its updates once, in a random
order; the next round starts new processes, as a process keeps the addresses it got. What a
contender takes beyond the hand-written loop is compared within each round, so that what slows the
machine down for a while slows both. A contender in Python that doesn't run here is left out, and
the tables say why.
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


class Size(NamedTuple):
    """Of the work that a contender does."""

    updates: int
    warm_up: int  # updates before the clock starts
    once: int  # updates where the start and the memory are measured
    rounds: int


SIZES = {
    "mlp": Size(updates=500, warm_up=50, once=199, rounds=21),
    "convolutional": Size(updates=15, warm_up=3, once=4, rounds=7),
    "transformer": Size(updates=15, warm_up=3, once=4, rounds=7),
    "resnet50": Size(updates=50, warm_up=10, once=4, rounds=7),
    "gpt2": Size(updates=30, warm_up=10, once=4, rounds=7),
}
LARGE_MODELS = ("resnet50", "gpt2")  # for a GPU
LIBRARIES = (
    "PyTorch",
    "torch-compile",
    "pytorch-accelerated",
    "pytorch-accelerated-without-bar",
    "accelerate",
    "lightning",
    "lightning-without-bar",
    "ignite",
)
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

    def baseline(self, contender="hand-written"):
        return Row(self.kind._replace(language="C++"), contender, self.data)

    def fused_baseline(self):
        """That of Trainers, which step by ATen's fused kernels."""
        return self.baseline("hand-written-fused")

    def is_trainer(self):
        return self.contender.startswith("Trainer")


def rows_of(kind, contenders, data_paths):
    return [Row(kind, c, data) for c in contenders for data in data_paths]


def rows_of_mlp_alone(with_python):
    """LibTorch's own loader, and what drawing the bar costs."""
    plain, terminal = Kind("C++", 1, False), Kind("C++", 1, True)
    data_paths = ("premade", "dataset")
    rows = [Row(plain, "torch::data", "dataset")]
    rows += rows_of(terminal, ("hand-written", "hand-written-fused", "Trainer"), data_paths)
    if with_python:
        rows += rows_of(
            terminal._replace(language="Python"), ("pytorch-accelerated",), data_paths
        )
    return rows


def rows_on_gpu(with_python):
    """With one thread of the host; batches are on the GPU, and the loss is read in the end."""
    kind = Kind("C++", 1, False)
    contenders = ("hand-written", "hand-written-fused", "Trainer", "Trainer-fastest")
    rows = rows_of(kind, contenders, ("premade",))
    if with_python:
        libraries = ("PyTorch-fastest", *LIBRARIES)
        rows += rows_of(kind._replace(language="Python"), libraries, ("premade",))
    return rows


def all_rows(model, with_python):
    by_hand = ["hand-written", "hand-written-fused"]
    trainers = ["Trainer"]
    data_paths = ("premade", "dataset")
    if model in ("mlp", "convolutional"):
        trainers.append("Trainer-fastest")  # which has no option more with the others
    if model in ("convolutional", "transformer"):
        trainers.append("Trainer-bf16")
    if model != "mlp":
        data_paths = ("premade",)
    rows = []
    for threads in (1, 2)[: os.cpu_count()]:
        kind = Kind("C++", threads, False)
        rows += rows_of(kind, by_hand, data_paths)
        # Of large tensors a Trainer has the process keep the memory, and a loop by hand doesn't. The
        # MLP has none, and its differences are so small that they are only seen within a process.
        own = kind if model == "mlp" else kind._replace(language="C++, Trainer")
        rows += rows_of(own, trainers, data_paths)
        if with_python:
            rows += rows_of(kind._replace(language="Python"), LIBRARIES, data_paths)
    return rows + (rows_of_mlp_alone(with_python) if model == "mlp" else [])


class Contenders:
    """A process that runs contenders when told to."""

    def __init__(self, kind, options):
        python = [options.python, "-B", str(PYTHON_CONTENDERS)]
        self.program = python if kind.language == "Python" else [options.program]
        self.program += [options.model, options.device]
        self.kind = kind
        reading, writing = os.pipe()
        self.errors = tempfile.TemporaryFile()
        stderr = self.open_terminal() if kind.terminal else self.errors
        threads = {name: str(kind.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        gpus = {"CUDA_VISIBLE_DEVICES": ""} if options.device == "cpu" else {}
        self.started_ns = time.monotonic_ns()
        self.process = subprocess.Popen(
            self.program + [str(writing)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=[writing],
            env=os.environ | threads | gpus,
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

    def run(self, contender, data, updates, warm_up):
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
        self.size = SIZES[options.model]
        with_python = options.python is not None
        on_gpu = options.device == "cuda"
        rows = rows_on_gpu(with_python) if on_gpu else all_rows(options.model, with_python)
        self.rows = [row for row in rows if options.threads in (None, row.kind.threads)]
        self.random = random.Random(options.seed)
        self.times = defaultdict(list)  # microseconds an update, the mean of each round
        self.typical = defaultdict(list)  # the same, the median of each round
        self.losses = defaultdict(set)
        self.once = defaultdict(lambda: defaultdict(list))
        self.failures = {}  # why a row doesn't run
        self.versions = {}

    def open(self, kind):
        return Contenders(kind, self.options)

    def shuffled(self, rows):
        return self.random.sample(rows, len(rows))

    def turn(self, process, row, updates, warm_up):
        """What the contender did; None where it doesn't run, or hasn't before."""
        if row in self.failures:
            return None
        outcome = process.run(row.contender, row.data, updates, warm_up)
        if "error" not in outcome:
            return outcome
        self.failures[row] = outcome["error"]
        return None

    def measure_round(self):
        with contextlib.ExitStack() as stack:
            processes = {}
            for kind in dict.fromkeys(row.kind for row in self.rows):
                processes[kind] = stack.enter_context(self.open(kind))
                self.versions |= processes[kind].versions()
                # Makes the data, and lets the libraries choose their kernels.
                first = next(row for row in self.rows if row.kind == kind)
                self.turn(processes[kind], first, self.options.updates, self.size.warm_up)
            for row in self.shuffled(self.rows):
                process = processes[row.kind]
                outcome = self.turn(process, row, self.options.updates, self.size.warm_up)
                if outcome is None:
                    continue
                self.times[row].append(outcome["mean_ns"] / 1000)
                self.typical[row].append(outcome["median_ns"] / 1000)
                self.losses[row].add(outcome["loss"])

    def measure_once(self):
        """One contender in a process of its own: its start, and the memory that it takes."""
        data = "premade" if all(row.data == "premade" for row in self.rows) else "dataset"
        rows = [r for r in self.rows if r.kind[1:] == (1, False) and r.data == data]
        for row in self.shuffled([r for r in rows if r not in self.failures]):
            with self.open(row.kind) as process:
                outcome = self.turn(process, row, updates=self.size.once, warm_up=0)
                if outcome is None:
                    continue
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

    def measured(self):
        return [row for row in self.rows if row not in self.failures]

    def check_work(self):
        """Premade batches come in one order, so equal work has equal losses."""
        for row in self.measured():
            if row.data != "premade":
                continue
            baseline = row.fused_baseline() if row.contender == "Trainer" else row.baseline()
            expected = next(iter(self.losses[baseline]))
            tolerance = self.tolerance(row)
            if any(abs(loss - expected) > tolerance * expected for loss in self.losses[row]):
                sys.exit(
                    f"{row.contender} had the losses {self.losses[row]}, the loop of "
                    f"{baseline.contender} {expected}: they did not do the same work, so their "
                    "times say nothing"
                )

    def tolerance(self, row):
        """Of the losses: the same operations leave no room but for how threads add up."""
        if self.options.model in LARGE_MODELS:
            return 1e-2  # in bf16, and with other layouts
        if row.contender == "Trainer-bf16":
            return 1e-3
        if self.options.device == "cuda":
            return 1e-4  # whose sums have no order
        if row.contender not in ("hand-written", "Trainer"):
            return 1e-4
        # With two threads the MLP's steps have one in a Trainer, and add up in another order.
        return 1e-9 if self.options.model == "mlp" and row.kind.threads == 1 else 1e-7

    def above(self, row, times, baseline):
        """What the contender takes beyond a hand-written loop, round by round."""
        return [a - b for a, b in zip(times[row], times[baseline])]

    def goal(self, row, baseline):
        if row.contender != "Trainer":
            return None
        allowed = max(5.0, 0.01 * statistics.median(self.times[baseline]))
        above = statistics.median(self.above(row, self.times, baseline))
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
    parser = argparse.ArgumentParser(
        prog="tests/benchmarks/run",
        epilog="--set-up DIR makes a virtual environment in DIR, with the libraries of "
        "tests/benchmarks/requirements.txt in its versions, and takes its Python.",
    )
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=Path(), help=argparse.SUPPRESS)
    parser.add_argument(
        "--model", choices=SIZES, default="mlp", help="that is trained; default: %(default)s"
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="that trains; the resnet50 and the gpt2 are for a GPU; default: %(default)s",
    )
    parser.add_argument(
        "--python",
        metavar="PATH",
        help="a Python with torch and those of the other libraries that are to be in the tables",
    )
    parser.add_argument(
        "--rounds",
        type=at_least(1),
        help="in which all take turns; default: 21 for the mlp, 7 for the others",
    )
    parser.add_argument(
        "--updates",
        type=at_least(1),
        help="that a contender does in a round; default: 500 for the mlp, 15 to 50 for the others",
    )
    parser.add_argument(
        "--threads",
        type=int,
        choices=(1, 2)[: os.cpu_count()],
        help="that a contender has; default: one, and two where there are two cores",
    )
    parser.add_argument("--seed", type=int, help="of the order in which contenders take turns")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="where the numbers go; default: build/benchmarks.json, with -MODEL and -cuda before the "
        "dot where it is another model than the mlp, and a GPU",
    )
    options = parser.parse_args()
    options.updates = options.updates or SIZES[options.model].updates
    options.rounds = options.rounds or SIZES[options.model].rounds
    parts = ["benchmarks"]
    parts += [options.model] if options.model != "mlp" else []
    parts += [options.device] if options.device != "cpu" else []
    options.json = options.json or options.folder / ("-".join(parts) + ".json")
    return options


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
