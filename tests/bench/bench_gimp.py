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


def layer(s, window):
    """Milliseconds from the last byte of a 1024 x 1024 picture to its layer, and the first preview of a request."""
    s.key(window, "alt+p")
    s.type("a calm sea at sunset")
    s.key(window, "ctrl+Return")
    s.wait("done")
    for turn in range(5):
        s.key(window, "ctrl+Return")
        s.wait("done", turn + 2)


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


def median(values):
    return sorted(values)[len(values) // 2]


def measure(size, model, goals, **environment):
    with Gimp(REVERIE_TRACE_ANSWERS="1", **environment) as gimp:
        screen.Screen.shortcuts(gimp)
        os.makedirs(os.path.join(gimp.profile, "reverie"))
        with open(os.path.join(gimp.profile, "reverie/settings.json"), "w") as f:
            json.dump({"model": model}, f)
        picture = os.path.join(gimp.folder, "start.png")
        from PIL import Image
        Image.new("RGB", (size, size), (90, 120, 150)).save(picture)
        with screen.Screen(gimp, picture) as s:
            layer(s, s.open())
            trace = s.trace()
    for name, first, then, goal in goals:
        line(name, median(after(trace, first, then)), goal)
    answers = [float(words.split()[1]) for _, words in trace if words.startswith("answer")]
    gaps = [float(words.split()[1]) for _, words in trace if words.startswith("gap")]
    kind = f" ({size} x {size})"
    line("answer of GIMP during jobs, median" + kind, median(answers), 50)
    line("answer of GIMP during jobs, 99 of 100" + kind, sorted(answers)[len(answers) * 99 // 100], 50)
    line("worst gap of the plug-in's loop" + kind, max(gaps), 50)


def main():
    why = screen.missing()
    if why:
        print(f"bench gimp: skipped ({why})")
        return 0
    measure(256, "reverie:1@1", [("Generate pressed to first preview, demo model", "pressed", "preview", 1000)])
    measure(1024, "runware:97@1", [("bytes received to layer visible, 1024 x 1024", "received", "inserted", 60)],
            REVERIE_EXECUTOR="stub", REVERIE_STUB_MS="20")
    return 0


if __name__ == "__main__":
    sys.exit(main())
