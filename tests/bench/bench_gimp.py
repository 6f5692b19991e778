#!/usr/bin/env python3
"""The GIMP plug-in in real GIMP on a screen of its own: from bytes to a visible layer, from the key press to the first
preview, and how GIMP and the plug-in's window answer meanwhile.  The peer is the goal of each figure.
"""
import json
import os
import sys

SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
os.environ.setdefault("BUILD_ROOT", os.path.abspath(os.environ.get("BUILD", os.path.join(SOURCE, "build"))))
sys.path.insert(0, os.path.join(SOURCE, "tests/hosts/gimp"))
sys.dont_write_bytecode = True
import screen  # noqa: E402
from harness import Gimp  # noqa: E402


def line(name, value, goal, unit="ms"):
    print(f"bench gimp {name}: {value:.1f} {unit} | goal {goal} {unit} | ratio {value / goal:.2f}", flush=True)


def requests(s, window, fills):
    """Six requests one after the other, and when the model can, two that fill the whole canvas."""
    s.key(window, "alt+p")
    s.type("a calm sea at sunset")
    for turn in range(8 if fills else 6):
        if turn == 6:
            s.key(s.main, "ctrl+a")
            with s.then("place of fill"):
                s.key(window, "alt+f")
        with s.then("done"):
            s.key(window, "ctrl+Return")


def after(trace, first, then):
    """For each line `first` the time until the next line `then`."""
    found, start = [], None
    for at, words in trace:
        if words.startswith(first):
            start = at
        elif words.startswith(then) and start is not None:
            found.append(at - start)
            start = None
    return found


def during(trace, kind):
    """The figures of lines of this kind from the key press until the picture comes."""
    found, is_painting = [], False
    for _, words in trace:
        is_painting = words.startswith("pressed") or (is_painting and not words.startswith("received"))
        if is_painting and words.startswith(kind):
            found.append(float(words.split()[1]))
    return found


def median(values):
    return sorted(values)[len(values) // 2]


def measure(size, model, goals, fills, **environment):
    with Gimp(REVERIE_TRACE_ANSWERS="1", **environment) as gimp:
        screen.Screen.shortcuts(gimp)
        os.makedirs(os.path.join(gimp.profile, "reverie"))
        with open(os.path.join(gimp.profile, "reverie/settings.json"), "w") as f:
            json.dump({"model": model}, f)
        picture = os.path.join(gimp.folder, "start.png")
        from PIL import Image
        Image.new("RGB", (size, size), (90, 120, 150)).save(picture)
        with screen.Screen(gimp, picture) as s:
            requests(s, s.open(), fills)
            trace = s.trace()
    for name, first, then, goal in goals:
        line(name, median(after(trace, first, then)), goal)
    answers = during(trace, "answer")
    gaps = [float(words.split()[1]) for _, words in trace if words.startswith("gap")]
    kind = f" ({size} x {size})"
    line("answer of GIMP during jobs, median" + kind, median(answers), 50)
    line("answer of GIMP during jobs, 99 of 100" + kind, sorted(answers)[len(answers) * 99 // 100], 50)
    line("answer of GIMP during jobs, longest" + kind, max(answers), 50)
    line("worst gap of the plug-in's loop" + kind, max(gaps), 50)


def main():
    why = screen.missing()
    if why:
        print(f"bench gimp: skipped ({why})")
        return 0
    measure(256, "reverie:1@1", [("Generate pressed to first preview, demo model", "pressed", "preview", 1000)], True)
    measure(1024, "runware:97@1", [("bytes received to layer visible, 1024 x 1024", "received", "inserted", 60)],
            False, REVERIE_EXECUTOR="stub", REVERIE_STUB_MS="20")
    return 0


if __name__ == "__main__":
    sys.exit(main())
