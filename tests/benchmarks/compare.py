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
import json
import os
import random
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from contender_process import Contenders
from contender_rows import LARGE_MODELS, all_rows, rows_on_gpu
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
