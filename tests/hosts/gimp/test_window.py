"""The window on a screen, by keyboard alone: every step that a person takes, and what GIMP shows then.

SHOTS=FOLDER keeps pictures of each state, for the documentation.
"""
import glob
import json
import os
import re
import shutil
import signal
import time
import unittest

import harness
import relay
import screen
from harness import Gimp, wait_until
from screen import Screen

PICTURE = os.path.join(harness.SOURCE, "config/demo-model/pictures/mountains.png")
SHOTS = os.environ.get("SHOTS")
SLOW_STUB = {"REVERIE_EXECUTOR": "stub", "REVERIE_STUB_MS": "300"}
CANVAS = (359, 460)  # a point of the screen inside the picture


def layers(s):
    """How many the image in GIMP's title bar has."""
    found = re.search(r"(\d+) layers?\)", s.title())
    return int(found.group(1)) if found else None


class Case(unittest.TestCase):
    def shot(self, s, name):
        if SHOTS:
            time.sleep(1.5)  # for what slides into place
            s.shoot(os.path.join(SHOTS, name + ".png"))

    def session(self, settings=None, **environment):
        gimp = self.enterContext(Gimp(**environment))
        Screen.shortcuts(gimp)
        picture = os.path.join(gimp.folder, "start.png")
        shutil.copy(PICTURE, picture)
        if settings:
            os.makedirs(os.path.join(gimp.profile, "reverie"), exist_ok=True)
            with open(os.path.join(gimp.profile, "reverie/settings.json"), "w") as f:
                json.dump(settings, f)
        return gimp, self.enterContext(Screen(gimp, picture))

    def expect_layers(self, s, number):
        try:
            wait_until(lambda: layers(s) == number, 60)
        except AssertionError:
            self.fail(f"{number} layers were expected: {s.title()!r}")

    def expect_intact(self, s):
        """One layer, and GIMP does not call it modified."""
        self.expect_layers(s, 1)
        self.assertFalse(s.title().startswith("*"), s.title())

    def say(self, s, window, text):
        s.key(window, "alt+p", "ctrl+a")
        s.type(text)

    def begin(self, s, window, text):
        """A request that is being painted."""
        self.say(s, window, text)
        with s.then("step"):
            s.key(window, "ctrl+Return")


class Window(Case):
    def test_a_session(self):
        gimp, s = self.session()
        window = s.open()
        self.shot(s, "open")
        # generate: a layer comes, one undo takes it away
        self.say(s, window, "a red house on green hills at sunset")
        with s.then("done"):
            s.key(window, "ctrl+Return")
            s.wait("preview", 9)
            self.shot(s, "preview")
        self.expect_layers(s, 2)
        self.shot(s, "generated")
        s.key(s.main, "ctrl+z")
        self.expect_layers(s, 1)
        self.shot(s, "undo")
        # the result is still in the strip
        with s.then("inserted"):
            s.key(window, "alt+1", "ctrl+i")
        self.expect_layers(s, 2)
        self.shot(s, "insert")
        # fill a part, compare with what was there
        s.key(s.main, "r")
        s.drag(CANVAS[0] - 100, CANVAS[1] - 110, CANVAS[0] + 20, CANVAS[1] + 10)
        with s.then(r"place of generate: 1\d\d x 1\d\d"):
            s.activate(window)
        with s.then(r"place of fill: (\d+) x (\d+) seen (?!\1 x \2$)"):  # with what is around it
            s.key(window, "alt+f")
        self.say(s, window, "a red hot air balloon at sunset")
        self.shot(s, "selected")
        with s.then("done"):
            s.key(window, "ctrl+Return")
        self.expect_layers(s, 3)
        self.shot(s, "fill")
        s.key(window, "alt+1", "ctrl+m")
        self.shot(s, "compare")
        s.key(window, "ctrl+m")
        # vary from GIMP's own menu, by its shortcut: the window hears it
        with s.then("done"):
            s.key(s.main, "ctrl+alt+v")
        self.expect_layers(s, 4)
        # stop
        with s.then("stopped"):
            with s.then("pressed"):
                s.key(window, "alt+p", "ctrl+Return")
            s.key(window, "Escape")
        self.expect_layers(s, 4)
        self.shot(s, "cancel")
        # results are files, and come again with the next window
        self.assertEqual(len(glob.glob(os.path.join(gimp.folder, "data/reverie/history/*.png"))), 3)
        s.key(window, "Escape")
        wait_until(lambda: not gimp.processes("reverie"), what="the end of the plug-in")
        self.assertEqual(gimp.processes("reveried"), [])
        s.open()
        self.shot(s, "history")

    def test_variations_as_a_group(self):
        gimp, s = self.session()
        window = s.open()
        s.key(window, "alt+u", "ctrl+a")
        s.type("3\t")
        self.say(s, window, "a calm sea at sunset")
        with s.then("inserted 3"):
            s.key(window, "ctrl+Return")
        self.expect_layers(s, 5)  # with their group
        self.shot(s, "variations")
        s.key(s.main, "ctrl+z")
        self.expect_layers(s, 1)

    def test_on_the_canvas(self):
        """The rough picture comes and goes in the image, and leaves no step to undo."""
        gimp, s = self.session({"canvas_preview": "on"}, **SLOW_STUB)
        window = s.open()
        self.begin(s, window, "a calm sea")
        self.expect_layers(s, 2)
        self.shot(s, "canvas")
        with s.then("stopped"):
            s.key(window, "Escape")
        self.expect_layers(s, 1)
        with s.then("done"):
            s.key(window, "ctrl+Return")
        self.expect_layers(s, 2)
        s.key(s.main, "ctrl+z")
        self.expect_layers(s, 1)
        s.key(s.main, "ctrl+z", "ctrl+z", "ctrl+y")  # nothing else to undo: what comes back is the result
        self.expect_layers(s, 2)


class Deaths(Case):
    def test_engine_dies_and_comes_back(self):
        gimp, s = self.session(**SLOW_STUB)
        window = s.open()
        self.begin(s, window, "a calm sea")
        with s.then("failed"):
            os.kill(gimp.processes("reveried")[0][0], signal.SIGKILL)
        s.wait("said error")
        self.expect_intact(s)
        self.shot(s, "engine-died")
        with s.then("done"):
            s.key(window, "ctrl+Return")  # the next one starts another engine
        self.expect_layers(s, 2)

    def test_server_goes_away(self):
        gimp = self.enterContext(Gimp())
        server = self.enterContext(relay.Relay(self.enterContext(gimp_daemon(gimp))))
        Screen.shortcuts(gimp)
        gimp.environment["REVERIE_SERVER"] = server.address
        picture = os.path.join(gimp.folder, "start.png")
        shutil.copy(PICTURE, picture)
        s = self.enterContext(Screen(gimp, picture))
        window = s.open()
        self.begin(s, window, "a calm sea")
        with s.then("failed"):
            server.cut()
        s.wait("said error")
        self.expect_intact(s)
        self.shot(s, "server-died")

    def test_image_is_closed_meanwhile(self):
        gimp, s = self.session(REVERIE_EXECUTOR="stub", REVERIE_STUB_MS="200")
        window = s.open()
        self.begin(s, window, "a calm sea")
        with s.then("done"):
            s.key(s.main, "ctrl+w")
        s.wait("said error")
        wait_until(lambda: glob.glob(os.path.join(gimp.folder, "data/reverie/history/*.json")), what="the history")
        with s.then("inserted"):
            s.key(window, "ctrl+o")
        self.expect_layers(s, 1)

    def expect_message_next_time(self, gimp, s):
        """Nothing is left, and the next window says what happened."""
        wait_until(lambda: not gimp.processes("reverie") and not gimp.processes("reveried"),
                   what="the end of plug-in and engine")
        with open(PICTURE, "rb") as a, open(s.picture, "rb") as b:
            self.assertEqual(a.read(), b.read())
        s.start()
        with s.then("said note"):
            s.open()
        self.shot(s, "after-a-crash")
        self.assertEqual(glob.glob(os.path.join(gimp.profile, "reverie/painting-*")), [])

    def test_gimp_dies(self):
        gimp, s = self.session(**SLOW_STUB)
        self.begin(s, s.open(), "a calm sea")
        s.gimp_process.kill()
        s.gimp_process.wait()
        self.expect_message_next_time(gimp, s)

    def test_gimp_quits(self):
        gimp, s = self.session(**SLOW_STUB)
        self.begin(s, s.open(), "a calm sea")
        s.key(s.main, "ctrl+q")
        s.gimp_process.wait(60 * harness.SLOW)
        self.expect_message_next_time(gimp, s)

    def test_plug_in_dies(self):
        """GIMP goes on with the image as it was; a preview that was left on the canvas goes with the next window."""
        gimp, s = self.session({"canvas_preview": "on"}, **SLOW_STUB)
        self.begin(s, s.open(), "a calm sea")
        self.expect_layers(s, 2)
        os.kill(gimp.processes("reverie")[0][0], signal.SIGKILL)
        wait_until(lambda: not gimp.processes("reveried"), what="the end of the engine")
        wait_until(lambda: not gimp.processes("reverie"), what="the end of the plug-in")
        with s.then("said note"):
            s.open()
        self.expect_layers(s, 1)

    def test_progress_is_cancelled(self):
        """A script's call, with the button beside GIMP's progress bar: the script reads what happened."""
        script = harness.CALL.format(file="start.png", steps=500, log="said")
        gimp = self.enterContext(Gimp(**SLOW_STUB))
        picture = os.path.join(gimp.folder, "start.png")
        shutil.copy(PICTURE, picture)
        s = self.enterContext(Screen(gimp, picture, options=["--batch-interpreter", "python-fu-eval", "-b", script]))
        wait_until(lambda: gimp.processes("reveried"), 60, "the engine")
        cancel = (479, 842)  # where the button is on this screen

        def is_cancelled():
            s.drag(*cancel, *cancel)
            return not gimp.processes("reveried")
        wait_until(is_cancelled, 60, "the end of the engine after the button")
        wait_until(lambda: os.path.exists(os.path.join(gimp.folder, "said")), what="the script's next line")
        with open(os.path.join(gimp.folder, "said")) as f:
            status, text = f.read().split(" ", 1)
        self.assertNotEqual(int(status), 3, text)  # 3 is success
        self.assertTrue(text.strip().endswith(" 1"), text)  # layers
        self.expect_intact(s)


def gimp_daemon(gimp):
    """A reveried for a server; its socket."""
    return relay.daemon_socket(gimp, "--executor", "stub", "--stub-ms", "300")


def load_tests(loader, tests, pattern):
    why = screen.missing()
    if why:
        Case.setUp = lambda self: self.skipTest(why)
    return tests


if __name__ == "__main__":
    unittest.main()
