#!/usr/bin/env python3
"""tests/bench/report.py PAGE < LINES: one page of what `make bench` printed.

Lines are "bench NAME: VALUE UNIT | PEER VALUE UNIT | ratio R"; any program that prints such a line is in the page.  The
limits, and where it is told what was tried, come from `limits` beside this file: the first row whose pattern is found
in the name.  Lines pass through to the standard output, so a terminal shows them as they come.
"""
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LINE = re.compile(r"^bench (?P<name>[^:]+): (?P<value>[^|]+?) \| (?P<peer>[^|]+?) \| ratio (?P<ratio>[\d.]+|inf)")
TOLD = re.compile(r"^bench (?P<name>[^:]+): (?P<text>.*)")


def limits():
    """[(pattern, sense, number, told)]: sense is "<" where less is better, ">" where more is."""
    rows = []
    with open(os.path.join(HERE, "limits"), encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                pattern, limit, told = re.match(r"(.*?) \| (\S*) ?\| (.*)", line).groups()
                rows.append((re.compile(pattern), limit[:1], float(limit[1:]) if limit else None, told))
    return rows


def judged(name, ratio, rows):
    """(limit, gap, what was tried) of a figure."""
    for pattern, sense, number, told in rows:
        if not pattern.search(name):
            continue
        if number is None:
            return "", "", told
        holds = ratio <= number if sense == "<" else ratio >= number
        gap = "holds" if holds else f"{(ratio / number - 1) * 100:+.0f} %"
        return f"{'≤' if sense == '<' else '≥'} {number:g}", gap, told
    return "", "", ""


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = re.search(r"model name\s*: (.*)", f.read())
    return f"{os.cpu_count()} × {model.group(1) if model else 'processor'}"


def commit():
    run = subprocess.run(["git", "-c", "safe.directory=*", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return run.stdout.strip() or "unknown"


def page(lines, load):
    rows, table, others = limits(), [], []
    for line in lines:
        m, told = LINE.match(line), TOLD.match(line)
        if m:
            limit, gap, tried = judged(m["name"], float(m["ratio"]), rows)
            table.append(f"| {m['name']} | {m['value']} | {m['peer']} | {m['ratio']} | {limit} | {gap} | {tried} |")
        elif told:
            others.append(f"* {told['name']}: {told['text']}")
    text = ["# Figures", "",
            "Written by `make bench`; do not edit. Each figure stands beside a peer of the same run on the same machine, so the",
            "ratio is what counts; a limit is one of the ratio, and the gap says how far it is missed.", "",
            f"{time.strftime('%Y-%m-%d')}, commit {commit()}, {machine()}, load {load[0]:.1f} before and "
            f"{load[1]:.1f} after.", "",
            "| figure | value | peer | ratio | limit | gap | what was tried |", "|---|---|---|---|---|---|---|", *table]
    if others:
        text += ["", "Not measured:", "", *others]
    return "\n".join(text) + "\n"


def main():
    before, lines = os.getloadavg()[0], []
    for line in sys.stdin:
        print(line, end="", flush=True)
        lines.append(line.rstrip("\n"))
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write(page(lines, (before, os.getloadavg()[0])))
    print(f"page: {sys.argv[1]}")


if __name__ == "__main__":
    main()
