"""GIMP with its windows on a screen of its own (Xvfb), driven by the keyboard; pictures of what is to be seen.

The plug-in writes what happens into a trace file, so that tests wait for facts and not for time.
"""
import contextlib
import os
import re
import shutil
import subprocess

import harness
from harness import SLOW, wait_until

TOOLS = ["Xvfb", "openbox", "xdotool", "import", "xdpyinfo", "gimp"]


def missing():
    lost = [tool for tool in TOOLS if not shutil.which(tool)]
    return harness.missing() or (f"{lost[0]} is not installed" if lost else None)


class Screen:
    """A screen with a window manager and GIMP on it, showing one picture; `with` ends them all."""

    def __init__(self, gimp, picture, size="1720x880", language="en", options=()):
        self.gimp, self.picture, self.size, self.options = gimp, picture, size, options
        self.trace_file = os.path.join(gimp.folder, "trace")
        self.programs = []
        gimp.environment.update(REVERIE_TRACE=self.trace_file, LANGUAGE=language, GDK_SCALE="1", NO_AT_BRIDGE="1")

    def program(self, *command, **options):
        log = open(os.path.join(self.gimp.folder, "screen.log"), "ab")
        process = subprocess.Popen(command, env=self.gimp.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   **options)
        log.close()
        self.programs.insert(0, process)
        return process

    def __enter__(self):
        try:
            return self.begin()
        except BaseException:
            self.__exit__()
            raise

    def begin(self):
        read, write = os.pipe()
        self.program("Xvfb", "-displayfd", str(write), "-noreset", "-screen", "0", self.size + "x24", "-nolisten", "tcp",
                     pass_fds=[write])
        os.close(write)
        with os.fdopen(read) as f:
            number = f.readline().strip()
        if not number:
            raise AssertionError("Xvfb did not start")
        self.gimp.environment["DISPLAY"] = ":" + number
        self.program("openbox")
        wait_until(lambda: "window id" in self.out("xprop", "-root", "_NET_SUPPORTING_WM_CHECK"), seconds=60, what="openbox")
        self.start()
        return self

    def start(self):
        """GIMP, once more if it has ended."""
        self.gimp_process = self.program("gimp", "-n", "-s", *self.options, self.picture)
        self.main = wait_until(lambda: self.find(r"layers?\).*GIMP$"), 120, "GIMP's window with the picture")
        self.place(self.main, 0, 0, 760, 840)

    def __exit__(self, *error):
        for process in self.programs:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def out(self, *command):
        try:
            return subprocess.run(command, env=self.gimp.environment, capture_output=True, text=True,
                                  timeout=30 * SLOW).stdout
        except subprocess.TimeoutExpired:
            return ""

    def find(self, name):
        """The newest visible window whose title matches."""
        return (self.out("xdotool", "search", "--onlyvisible", "--name", name).split() or [None])[-1]

    def place(self, window, x, y, width, height):
        self.out("xdotool", "windowmove", window, str(x), str(y), "windowsize", window, str(width), str(height))

    def activate(self, window):
        """Gives a window the keyboard, and waits until it has it."""
        def has_it():
            self.out("xdotool", "windowactivate", window)
            return self.out("xdotool", "getactivewindow").strip() == window
        wait_until(has_it, 60, "the focus of a window")

    def key(self, window, *keys):
        self.activate(window)
        self.out("xdotool", "key", "--clearmodifiers", *keys)

    def drag(self, x, y, to_x, to_y):
        """With the left button, from and to points of the screen."""
        half = str((x + to_x) // 2), str((y + to_y) // 2)
        self.out("xdotool", "mousemove", str(x), str(y), "sleep", "0.3", "mousedown", "1", "sleep", "0.3",
                 "mousemove", *half, "sleep", "0.3", "mousemove", str(to_x), str(to_y), "sleep", "0.3", "mouseup", "1")

    def type(self, text):
        self.out("xdotool", "type", "--delay", "8", text)

    def shoot(self, file, window="root"):
        self.out("import", "-window", window, file)

    def title(self):
        return self.out("xdotool", "getwindowname", self.main).strip()

    # ---- what the plug-in says

    def trace(self):
        """(milliseconds, words) of each line so far."""
        try:
            with open(self.trace_file) as f:
                return [(float(line.split(" ", 1)[0]), line.split(" ", 1)[1].strip()) for line in f if " " in line]
        except OSError:
            return []

    def count(self, pattern):
        return sum(1 for _, words in self.trace() if re.match(pattern, words))

    @contextlib.contextmanager
    def then(self, pattern, number=1, seconds=90):
        """What is done inside must be followed by so many more matching lines."""
        before = self.count(pattern)
        yield
        self.wait(pattern, before + number, seconds)

    def wait(self, pattern, number=1, seconds=90):
        """Until so many lines match; the time of the last of them."""
        try:
            wait_until(lambda: self.count(pattern) >= number, seconds, pattern)
        except AssertionError as e:
            raise AssertionError(f"{e}; trace: {[w for _, w in self.trace()][-15:]}") from None
        return [t for t, words in self.trace() if re.match(pattern, words)][number - 1]

    def open(self):
        """The plug-in's window, by its shortcut: pressed again while GIMP does not listen yet."""
        before = self.count("open")

        def is_open():
            if self.count("open") == before and not self.gimp.processes("reverie"):
                self.key(self.main, "ctrl+alt+g")
                with contextlib.suppress(AssertionError):
                    wait_until(lambda: self.gimp.processes("reverie"), 5)
            return self.count("open") > before
        wait_until(is_open, 120, "the window of Reverie")
        window = wait_until(lambda: self.find("^Reverie$"), what="the window of Reverie")
        self.place(window, 764, 0, 950, 840)
        return window

    @staticmethod
    def shortcuts(gimp):
        """What a user binds in GIMP's shortcut editor."""
        with open(os.path.join(gimp.profile, "shortcutsrc"), "a") as f:
            f.write('(file-version 1)\n(action "plug-in-reverie-window" "<Primary><Alt>g")\n'
                    '(action "plug-in-reverie-fill-now" "<Primary><Alt>f")\n'
                    '(action "plug-in-reverie-vary" "<Primary><Alt>v")\n')
