"""GIMP with its windows on a screen of its own (Xvfb), driven by the keyboard; pictures of what is to be seen.

The plug-in writes what happens into a trace file, so that tests wait for facts and not for time.
"""
import os
import re
import shutil
import subprocess

import harness
from harness import wait_until

TOOLS = ["Xvfb", "openbox", "xdotool", "import", "xdpyinfo", "gimp"]


def missing():
    lost = [tool for tool in TOOLS if not shutil.which(tool)]
    return harness.missing() or (f"{lost[0]} is not installed" if lost else None)


class Screen:
    """A screen with a window manager and GIMP on it, showing one picture; `with` ends them all."""

    def __init__(self, gimp, picture, size="1360x900", language="en"):
        self.gimp, self.picture, self.size = gimp, picture, size
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
        self.program("gimp", "-n", "-s", self.picture)
        self.main = wait_until(lambda: self.find("GIMP"), 90, "GIMP's window")
        return self

    def __exit__(self, *error):
        for process in self.programs:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def out(self, *command):
        return subprocess.run(command, env=self.gimp.environment, capture_output=True, text=True).stdout

    def find(self, name):
        """The newest visible window whose title contains a name."""
        return (self.out("xdotool", "search", "--onlyvisible", "--name", name).split() or [None])[-1]

    def key(self, window, *keys):
        self.out("xdotool", "windowactivate", "--sync", window)
        self.out("xdotool", "key", "--clearmodifiers", *keys)

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

    def wait(self, pattern, number=1, seconds=60):
        """Until so many lines match; the time of the last of them."""
        try:
            wait_until(lambda: self.count(pattern) >= number, seconds, pattern)
        except AssertionError as e:
            raise AssertionError(f"{e}; trace: {[w for _, w in self.trace()][-15:]}") from None
        return [t for t, words in self.trace() if re.match(pattern, words)][number - 1]

    def open(self):
        """The plug-in's window, by its shortcut."""
        self.key(self.main, "ctrl+alt+g")
        self.wait("open", seconds=90)
        return wait_until(lambda: self.find("^Reverie$"), what="the window of Reverie")

    @staticmethod
    def shortcuts(gimp):
        """What a user binds in GIMP's shortcut editor."""
        with open(os.path.join(gimp.profile, "shortcutsrc"), "a") as f:
            f.write('(file-version 1)\n(action "plug-in-reverie-window" "<Primary><Alt>g")\n'
                    '(action "plug-in-reverie-fill-now" "<Primary><Alt>f")\n'
                    '(action "plug-in-reverie-vary" "<Primary><Alt>v")\n')
