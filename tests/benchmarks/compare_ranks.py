# SPDX-License-Identifier: Apache-2.0
"""Two ranks against two processes that train alone at once and against PyTorch's DDP over Gloo.

usage: compare_ranks.py PROGRAM [--python PATH] [--rounds N]

All have one thread a process. Contenders take turns in a random order, round by round; ratios are
medians over the rounds of the same round's times.
"""

import argparse
import os
import random
import socket
import statistics
import subprocess
from pathlib import Path

from report import machine, print_table

UPDATES = {"mlp": 600, "convolutional": 20, "transformer": 20}
SCRIPT = Path(__file__).with_name("rank_contender.py")


def run_together(commands):
    """The commands at once; the larger of the times that they print."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for command in commands
    ]
    printed = "\n".join(process.communicate()[0] for process in running)
    if any(process.returncode for process in running):
        raise SystemExit(f"failed: {commands[0]}")
    return max(float(line) for line in printed.split())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def contenders(program, python):
    found = {
        "two ranks": lambda work: run_together([["mpirun", "-n", "2", program, *work]]),
        "two processes alone": lambda work: run_together([[program, *work]] * 2),
    }
    if python:
        def ddp(work):
            port = free_port()
            return run_together([[python, SCRIPT, *work, str(rank), "2", port] for rank in (0, 1)])

        found["PyTorch DDP, Gloo"] = ddp
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--python", help="one that has torch")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    found = contenders(options.program, options.python)
    rows = []
    for name, updates in UPDATES.items():
        times = {contender: [] for contender in found}
        for _ in range(options.rounds):
            for contender in random.sample(list(found), len(found)):
                times[contender].append(found[contender]([name, str(updates)]))
        for contender, values in times.items():
            ratios = [other / ours for other, ours in zip(values, times["two ranks"])]
            rows.append([
                name, contender, f"{statistics.median(values):.0f}", f"{min(values):.0f}",
                f"{statistics.median(ratios):.2f}",
            ])  # fmt: skip
    where = machine()
    print(f"{where['cpu']}, {where['cores']} cores, {where['system']}; {options.rounds} rounds\n")
    print_table(["model", "contender", "µs/update", "least", "two ranks are faster by"], rows)


main()
