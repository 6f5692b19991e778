"""report.py FOLDER SCALE SECONDS PROCESSORS: adds up what the tiers of tests/nightly/run left in FOLDER, prints a table, and
writes FOLDER/nightly.md and FOLDER/counts.  Exit status 1 when anything failed.
"""
import os
import re
import sys

TIERS = {
    "test": "every test that a clone can run alone",
    "asan": "the same under AddressSanitizer and UndefinedBehaviorSanitizer",
    "tsan": "tests of threads under ThreadSanitizer",
    "torture": "every call to the system fails in turn; daemons with failing calls, full disks, jumping clocks",
    "crash": "tasks while processes are killed: SQLite, then Valkey on two nodes with a cable that is cut",
    "fuzz": "every fuzzer",
    "soak": "mixed load",
    "packages": "Debian packages, installed, used and purged in a fresh root",
    "nginx-next": "the hosts' tests on nginx 1.30",
    "nginx-valgrind": "the tests of the nginx module with nginx under Valgrind",
    "gimp-next": "the GIMP plug-in in the next GIMP",
    "gimp-archive": "its archive, used in a fresh root",
    "coverage": "lines of common/ that the tests reach",
}
COUNTS = re.compile(r"(\d+) passed, (\d+) failed, (\d+) skipped")
FIGURES = {  # lines worth repeating, by tier
    "torture": r"^# \d+ points in .*|^ok - .*rounds.*|^# round.*",
    "crash": r"^ok: .*|^# .* killed: .*",
    "fuzz": r"^fuzz_\w+: \d+ inputs.*",
    "soak": r"^(?:not )?ok - .*",
    "coverage": r"^lines: .*",
    "packages": r"^# .*",
}


def counts(text, status):
    """What a tier says about itself, or TAP's results, or just how it ended."""
    said = COUNTS.findall(text)
    if said:
        passed, failed, skipped = (int(n) for n in said[-1])
    else:
        lines = text.splitlines()
        skipped = sum(1 for line in lines if re.match(r"ok\b.*# SKIP", line))
        passed = sum(1 for line in lines if re.match(r"ok\b", line)) - skipped
        failed = sum(1 for line in lines if re.match(r"not ok\b", line))
        passed += not passed and not failed and status == 0
    return passed, failed + (status != 0 and not failed), skipped


def main():
    folder, scale, seconds, processors = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    rows, notes, sums = [], [], [0, 0, 0]
    for name, what in TIERS.items():
        end = os.path.join(folder, name + ".end")
        if not os.path.exists(end):
            continue
        with open(end) as f:
            _, status, took, start = f.read().split()
        with open(os.path.join(folder, name + ".log"), errors="replace") as f:
            text = f.read()
        found = counts(text, int(status))
        sums = [a + b for a, b in zip(sums, found)]
        rows.append((name, what, int(start) / 60, int(took) / 60, *found))
        figures = re.findall(FIGURES[name], text, re.M) if name in FIGURES else []
        bad = re.findall(r"^(?:failed: |not ok).*", text, re.M)[:10]
        if figures or bad:
            notes.append((name, [line[:220] for line in bad + figures[:40]]))
    total = f"{sums[0]} passed, {sums[1]} failed, {sums[2]} skipped"
    with open(os.path.join(folder, "nightly.md"), "w") as f:
        f.write(f"# The last `make nightly`\n\n{seconds / 60:.0f} minutes on {processors} processors, unattended"
                f"{'' if scale == '1' else f', at scale {scale}'}: **{total}**.\n\n"
                "| tier | what | begun at minute | minutes | passed | failed | skipped |\n|---|---|---|---|---|---|---|\n")
        for name, what, start, took, *found in rows:
            f.write(f"| `{name}` | {what} | {start:.1f} | {took:.1f} | {' | '.join(str(n) for n in found)} |\n")
        f.write("\nThe soak test by itself: [soak.md](soak.md). `make soak` runs it for two hours; a night has room for half"
                " an hour of it.\n")
        for name, lines in notes:
            f.write(f"\n## {name}\n\n" + "".join(f"    {line}\n" for line in lines))
    for name, what, start, took, *found in rows:
        print(f"{name:10} {took:5.1f} min  {found[0]} passed, {found[1]} failed, {found[2]} skipped")
    print(f"all {seconds / 60:.1f} min; report in {os.path.join(folder, 'nightly.md')}")
    with open(os.path.join(folder, "counts"), "w") as f:
        f.write(total + "\n")
    return 1 if sums[1] or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
