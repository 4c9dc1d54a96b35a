#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Makes one table of what the benchmarks printed, and compares it with a record.

usage: table.py [--json FILE] [--check RECORD] [--record RECORD] LOG...

A LOG holds rows as lines of JSON among other lines; of rows with the same kernel and
id the last counts. --check: exit status 1 if a ratio in instructions is more than 10 %
worse than in RECORD, or a row of RECORD is missing. --record: writes RECORD.
"""
import argparse
import json
import re
import sys

WORSE = 1.10


def read_rows(logs):
    rows = {}
    kernel = "?"
    for log in logs:
        with open(log, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("# kernel "):
                    kernel = line.split()[2]
                start = line.find('{"id":')
                if start < 0:
                    continue
                row = json.loads(line[start:])
                row["kernel"] = kernel
                rows[kernel, row["id"]] = row
    return sorted(rows.values(), key=order)


def order(row):
    number = re.match(r"(\d+)(.*)", row["id"])
    return int(number.group(1)), number.group(2), row["kernel"]


def is_met(row):
    if row["target_max"]:
        return row["target"] <= row["ratio"] <= row["target_max"]
    if row["more_is_better"]:
        return row["ratio"] >= row["target"]
    return row["ratio"] <= row["target"]


def target_text(row):
    if row["target_max"]:
        return f"{row['target']:g} to {row['target_max']:g}"
    return (">= " if row["more_is_better"] else "<= ") + f"{row['target']:g}"


def number_text(value):
    if not value:
        return ""
    if value >= 1e5:
        return f"{value:.3g}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def print_table(rows):
    head = ("row", "kernel", "ours / rival", "clock", "ours", "rival", "ratio", "target",
            "", "floor")
    lines = [head]
    for row in rows:
        ratio = f"{row['ratio']:.3g}"
        if row["spread"]:
            ratio += f" +-{row['spread']:.2g}"
        lines.append((row["id"], row["kernel"], f"{row['name']}, per {row['unit']}",
                      row["clock"][:5], number_text(row["ours"]), number_text(row["rival"]),
                      ratio, target_text(row), "met" if is_met(row) else "MISSED",
                      number_text(row["floor"])))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def check(rows, record):
    now = {(row["kernel"], row["id"]): row for row in rows}
    kernels = {row["kernel"] for row in rows}
    worse = []
    for entry in record:
        if entry["kernel"] not in kernels:
            continue
        row = now.get((entry["kernel"], entry["id"]))
        if not row:
            worse.append(f"row {entry['id']} on {entry['kernel']} was not measured")
            continue
        # A single call of some thousand instructions is at the mercy of one timer
        # interrupt: far below its limit that is no regression.
        allowed = max(entry["ratio"] * WORSE, row["target"] / 100)
        if row["ratio"] > allowed:
            worse.append(f"row {entry['id']} on {entry['kernel']}: ratio {row['ratio']:.3g}, "
                         f"recorded {entry['ratio']:.3g}: {row['name']}")
    return worse


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    parser.add_argument("--check")
    parser.add_argument("--record")
    parser.add_argument("logs", nargs="+")
    args = parser.parse_args()
    rows = read_rows(args.logs)
    if not rows:
        sys.exit("table.py: no rows")
    print_table(rows)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump(rows, out, indent=1)
            out.write("\n")
    if args.record:
        entries = [{"kernel": row["kernel"], "id": row["id"], "ratio": row["ratio"]}
                   for row in rows if row["clock"] == "instructions"]
        with open(args.record, "w", encoding="utf-8") as out:
            out.write("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n")
    if args.check:
        with open(args.check, encoding="utf-8") as record:
            worse = check(rows, json.load(record))
        for line in worse:
            print(f"# worse: {line}")
        if worse:
            sys.exit(1)


if __name__ == "__main__":
    main()
