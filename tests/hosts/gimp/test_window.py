"""The window on a screen, by keyboard alone: every step that a person takes, and what GIMP shows then.

SHOTS=FOLDER keeps pictures of each state, for the documentation.
"""
import glob
import os
import re
import shutil
import signal
import unittest

import harness
import screen
from harness import Gimp, wait_until
from screen import Screen

PICTURE = os.path.join(harness.SOURCE, "config/demo-model/pictures/mountains.png")
SHOTS = os.environ.get("SHOTS")


def layers(s):
    """How many the image in GIMP's title bar has."""
    found = re.search(r"(\d+) layers?\)", s.title())
    return int(found.group(1)) if found else None


class Window(unittest.TestCase):
    def shot(self, s, name):
        if SHOTS:
            s.shoot(os.path.join(SHOTS, name + ".png"))

    def session(self, **environment):
        gimp = self.enterContext(Gimp(**environment))
        Screen.shortcuts(gimp)
        picture = os.path.join(gimp.folder, "start.png")
        shutil.copy(PICTURE, picture)
        return gimp, self.enterContext(Screen(gimp, picture))

    def expect_layers(self, s, number):
        wait_until(lambda: layers(s) == number, what=f"{number} layers (there are {layers(s)})")

    def generate(self, s, window, text=None):
        done = s.count("done")
        if text:
            s.key(window, "alt+p", "ctrl+a")
            s.type(text)
        s.key(window, "ctrl+Return")
        s.wait("done", done + 1)

    def test_a_session(self):
        gimp, s = self.session()
        window = s.open()
        self.shot(s, "open")
        # generate: a layer comes, one undo takes it away
        s.key(window, "alt+p")
        s.type("a red house on green hills at sunset")
        s.key(window, "ctrl+Return")
        s.wait("preview", 6)
        self.shot(s, "preview")
        s.wait("done")
        self.expect_layers(s, 2)
        self.shot(s, "generated")
        s.key(s.main, "ctrl+z")
        self.expect_layers(s, 1)
        # the result is still in the strip
        s.key(window, "alt+1", "ctrl+i")
        s.wait("inserted", 2)
        self.expect_layers(s, 2)
        # fill a part, compare with what was there
        s.key(s.main, "ctrl+a")
        s.key(window, "alt+f")
        self.generate(s, window, "snowy mountains at night with stars")
        s.wait("inserted", 3)
        self.expect_layers(s, 3)
        s.key(window, "alt+1", "ctrl+m")
        self.shot(s, "compare")
        s.key(window, "ctrl+m")
        # vary from GIMP's own menu, by its shortcut: the window hears it
        s.key(s.main, "ctrl+alt+v")
        s.wait("raised", 2)
        s.wait("done", 3)
        self.expect_layers(s, 4)
        # stop
        pressed = s.count("pressed")
        s.key(window, "alt+p", "ctrl+Return")
        s.wait("pressed", pressed + 1)
        s.key(window, "Escape")
        s.wait("stopped")
        self.expect_layers(s, 4)
        # results are files, and come again with the next window
        self.assertEqual(len(glob.glob(os.path.join(gimp.folder, "data/reverie/history/*.png"))), 3)
        s.key(window, "Escape")
        wait_until(lambda: not gimp.processes("reverie"), what="the end of the plug-in")
        self.assertEqual(gimp.processes("reveried"), [])
        s.open()
        s.wait("open", 2)
        self.shot(s, "history")

    def test_variations_as_a_group(self):
        gimp, s = self.session()
        window = s.open()
        s.key(window, "alt+u", "ctrl+a")
        s.type("3\t")
        self.generate(s, window, "a calm sea at sunset")
        s.wait("inserted 3")
        self.expect_layers(s, 5)  # with their group
        self.shot(s, "variations")
        s.key(s.main, "ctrl+z")
        self.expect_layers(s, 1)

    def test_engine_dies_and_comes_back(self):
        gimp, s = self.session(REVERIE_EXECUTOR="stub", REVERIE_STUB_MS="300")
        window = s.open()
        s.type("a calm sea")
        s.key(window, "ctrl+Return")
        s.wait("step 1")
        os.kill(gimp.processes("reveried")[0][0], signal.SIGKILL)
        s.wait("failed")
        s.wait("said error")
        self.expect_layers(s, 1)
        self.shot(s, "engine-died")
        s.key(window, "ctrl+Return")  # the next one starts another engine
        s.wait("done")
        self.expect_layers(s, 2)

    def test_image_is_closed_meanwhile(self):
        gimp, s = self.session(REVERIE_EXECUTOR="stub", REVERIE_STUB_MS="200")
        window = s.open()
        s.type("a calm sea")
        s.key(window, "ctrl+Return")
        s.wait("step 1")
        s.key(s.main, "ctrl+w")
        s.wait("done")
        s.wait("said error")
        wait_until(lambda: glob.glob(os.path.join(gimp.folder, "data/reverie/history/*.json")), what="the history")
        s.key(window, "ctrl+o")
        s.wait("inserted")
        wait_until(lambda: layers(s) == 1, what="the result as a new image")

    def test_gimp_dies(self):
        gimp, s = self.session(REVERIE_EXECUTOR="stub", REVERIE_STUB_MS="300")
        window = s.open()
        s.type("a calm sea")
        s.key(window, "ctrl+Return")
        s.wait("step 1")
        os.kill(s.programs[0].pid, signal.SIGKILL)
        wait_until(lambda: not gimp.processes("reverie") and not gimp.processes("reveried"),
                   what="the end of plug-in and engine")


def load_tests(loader, tests, pattern):
    why = screen.missing()
    if why:
        Window.setUp = lambda self: self.skipTest(why)
    return tests


if __name__ == "__main__":
    unittest.main()
