# SPDX-License-Identifier: Apache-2.0
"""What a run of compare.py found, as values for JSON and as tables."""

import contextlib
import datetime
import os
import platform
import statistics
import subprocess
from pathlib import Path


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
    system = platform.system() + " " + platform.release()
    return {"cpu": model, "cores": os.cpu_count(), "system": system}


def gpu():
    asked = subprocess.run(
        ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", "--id=0"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return asked.stdout.strip()


def commit():
    asked = subprocess.run(
        ["git", "-C", Path(__file__).parent, "rev-parse", "--short", "HEAD"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None


def described(row):
    kind, contender, data = row
    return {
        "contender": contender,
        "data": data,
        "language": kind.language,
        "threads": kind.threads,
        "terminal": kind.terminal,
    }


def updates_of(benchmark, row):
    times, typical, baseline = benchmark.times, benchmark.typical, row.baseline()
    result = described(row) | {
        "updates_per_s": spread([1e6 / time for time in times[row]]),
        "mean_us": numbers(times[row]),
        "mean_us_above_hand_written": spread(benchmark.above(row, times, baseline)),
        "goal": benchmark.goal(row, baseline),
        "median_us": numbers(typical[row]),
        "median_us_above_hand_written": spread(benchmark.above(row, typical, baseline)),
    }
    if row.is_trainer():
        fused = row.fused_baseline()
        result |= {
            "mean_us_above_hand_written_fused": spread(benchmark.above(row, times, fused)),
            "goal_fused": benchmark.goal(row, fused),
            "median_us_above_hand_written_fused": spread(benchmark.above(row, typical, fused)),
        }
    return result


def result_of(benchmark, load):
    once = [
        described(row) | {name: numbers(benchmark.once[row][name]) for name in benchmark.once[row]}
        for row in benchmark.measured()
        if row in benchmark.once
    ]
    options = benchmark.options
    return {
        "date": datetime.date.today().isoformat(),
        "model": options.model,
        "device": options.device,
        "machine": machine()
        | ({"gpu": gpu()} if options.device == "cuda" else {})
        | {"load_before": load, "load_after": os.getloadavg()[0]},
        "versions": benchmark.versions | {"commit": commit()},
        "rounds": options.rounds,
        "updates_per_round": options.updates,
        "warm_up_updates": benchmark.size.warm_up,
        "updates": [updates_of(benchmark, row) for row in benchmark.measured()],
        "once": once,
        "does_not_run": [
            described(row) | {"why": benchmark.failures[row]}
            for row in benchmark.rows
            if row in benchmark.failures
        ],
    }


def print_table(header, rows):
    widths = [max(len(cells[i]) for cells in [header, *rows]) for i in range(len(header))]
    for cells in [header, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |")


HEADER = (
    "contender|batches|updates/s|µs/update|quartiles|least|above, µs|above, %|allowed, µs"
    "|above fused, µs|above fused, %|allowed, µs|median update, µs|above, µs"
).split("|")


def kind_of(row):
    return row["threads"], row["terminal"]


def print_updates(updates, failures):
    for kind in sorted({kind_of(row) for row in updates}):
        print(f"\nThreads: {kind[0]}. stderr is {'a' if kind[1] else 'no'} terminal.\n")
        rows = [row for row in updates + failures if kind_of(row) == kind]
        rows.sort(key=lambda row: row["data"] != "premade")
        print_table(HEADER, [cells_of(row) for row in rows])
        for row in rows:
            if "why" in row:
                print(f"\n{row['contender']}, {row['data']}, does not run here: {row['why']}")


def above_cells(above, mean, goal):
    return [
        f"{above['median']:+.1f}",
        f"{100 * above['median'] / (mean['median'] - above['median']):+.1f}",
        "" if goal is None else f"{goal['allowed_us']:.1f}: {'met' if goal['met'] else 'MISSED'}",
    ]


def cells_of(row):
    if "why" in row:
        return [row["contender"], row["data"], "none: below"] + [""] * (len(HEADER) - 3)
    mean, typical = row["mean_us"], row["median_us"]
    above = above_cells(row["mean_us_above_hand_written"], mean, row["goal"])
    above_fused = [""] * 3
    if "mean_us_above_hand_written_fused" in row:
        fused = row["mean_us_above_hand_written_fused"]
        above_fused = above_cells(fused, mean, row["goal_fused"])
    typical_above = f"{row['median_us_above_hand_written']['median']:+.1f}"
    if row["contender"] == "hand-written":
        above, typical_above = [""] * 3, ""
    return [
        row["contender"],
        row["data"],
        f"{row['updates_per_s']['median']:.1f}",
        f"{mean['median']:.1f}",
        f"{mean['quartile_1']:.1f} to {mean['quartile_3']:.1f}",
        f"{mean['min']:.1f}",
        *above,
        *above_fused,
        f"{typical['median']:.1f}",
        typical_above,
    ]


def print_once(once):
    table = []
    for row in once:
        start = row["first_update_s"]
        table.append(
            [
                row["contender"],
                f"{start['median']:.3f}",
                f"{start['quartile_1']:.3f} to {start['quartile_3']:.3f}",
                f"{row['peak_mib']['median']:.0f}",
            ]
        )
    print_table(["contender", "first update after, s", "quartiles", "peak memory, MiB"], table)


def print_result(result):
    where = result["machine"]
    print(
        f"{result['date']}, {where.get('gpu', where['cpu'])}, {where['cores']} cores, "
        f"{where['system']}, load "
        f"{where['load_before']:.1f} before and {where['load_after']:.1f} after"
    )
    print(", ".join(f"{name} {number}" for name, number in result["versions"].items() if number))
    updates = result["updates_per_round"]
    print(f"{result['model']}, {result['rounds']} rounds of {updates} updates each")
    print_updates(result["updates"], result["does_not_run"])
    if result["once"]:
        print()
        print_once(result["once"])
