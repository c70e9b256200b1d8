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


def result_of(benchmark, warm_up, load):
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
        for row, found in sorted(benchmark.once.items(), key=lambda i: benchmark.rows.index(i[0]))
    ]
    options = benchmark.options
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine() | {"load_before": load, "load_after": os.getloadavg()[0]},
        "versions": benchmark.versions | {"commit": commit()},
        "rounds": options.rounds,
        "updates_per_round": options.updates,
        "warm_up_updates": warm_up,
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
            "contender|batches|µs/update|quartiles|least|above, µs|above, %|allowed, µs"
            "|median update, µs|above, µs".split("|"),
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
        f"{result['date']}, {where['cpu']}, {where['cores']} cores, {where['system']}, load "
        f"{where['load_before']:.1f} before and {where['load_after']:.1f} after"
    )
    print(", ".join(f"{name} {number}" for name, number in result["versions"].items() if number))
    print(f"{result['rounds']} rounds of {result['updates_per_round']} updates each")
    print_updates(result["updates"])
    print()
    print_once(result["once"])
