"""Scripts from outside, and what happens when a process dies: the image stays, a sentence comes, nothing is left."""
import contextlib
import os
import re
import signal
import time
import unittest

import harness
import relay
from harness import Gimp, wait_until

QUIET_STUB = {"REVERIE_EXECUTOR": "stub", "REVERIE_STUB_MS": "400"}  # slow and without a model: dies in the middle

SCHEME = """
(let* ((image (car (gimp-image-new 120 90 RGB)))
       (ground (car (gimp-layer-new image "ground" 120 90 RGBA-IMAGE 100 LAYER-MODE-NORMAL)))
       (result 0))
  (gimp-image-insert-layer image ground 0 0)
  (set! result (plug-in-reverie-generate #:run-mode RUN-NONINTERACTIVE #:image image
    #:drawables (vector ground) #:prompt "a calm sea at sunset" #:steps {steps} #:seed "5"))
  (gimp-message (string-append "LAYERS " (number->string (vector-length (car (gimp-image-get-layers image))))))
  (gimp-message (cadr result))
  (gimp-image-delete image))
"""

PYTHON = """
image = Gimp.Image.new(120, 90, Gimp.ImageBaseType.RGB)
layer = Gimp.Layer.new(image, "ground", 120, 90, Gimp.ImageType.RGBA_IMAGE, 100, Gimp.LayerMode.NORMAL)
image.insert_layer(layer, None, 0)
for turn in range({turns}):
    p = Gimp.get_pdb().lookup_procedure("plug-in-reverie-generate")
    c = p.create_config()
    c.set_property("image", image)
    c.set_core_object_array("drawables", [layer])
    c.set_property("prompt", "a calm sea at sunset")
    c.set_property("steps", {steps})
    print("ASKING", flush=True)
    r = p.run(c)
    print("ANSWER", int(r.index(0)), r.index(1) if int(r.index(0)) != 3 else "", flush=True)
    print("LAYERS", len(image.get_layers()), flush=True)
image.delete()
"""


def output(process):
    """What a started GIMP has said so far, without waiting."""
    with open(process.log, errors="replace") as f:
        return f.read()


def start(gimp, script):
    log = os.path.join(gimp.folder, "out.log")
    with open(log, "ab") as f:
        process = gimp.start("python-fu-eval", script, stdout=f, stderr=f)
    process.log = log
    return process


def ended(process):
    process.wait(60 * harness.SLOW)
    return output(process)


def child(gimp, run, name):
    """The process of this name that a started GIMP has, as soon as there is one."""
    def look():
        if run.poll() is not None:
            raise AssertionError("GIMP has ended: " + output(run)[-2000:])
        return gimp.processes(name)
    try:
        return wait_until(look, 60, name)[0][0]
    except AssertionError as e:
        raise AssertionError(f"{e}; {gimp.processes()}; {output(run)[-2000:]}") from None


class Scripts(unittest.TestCase):
    def test_script_fu_starts_its_own_engine(self):
        with Gimp() as gimp:
            run = gimp.console("plug-in-script-fu-eval", SCHEME.format(steps=2), capture_output=True, text=True)
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertIn("LAYERS 2", run.stderr)
            self.assertIn('"seed":"5"', run.stderr)

    def test_errors_end_the_batch(self):
        with Gimp() as gimp:
            run = gimp.console("plug-in-script-fu-eval", SCHEME.format(steps=5000), capture_output=True, text=True)
            self.assertEqual(run.returncode, 70, run.stderr)
            self.assertIn("steps must be between 1 and 1000", run.stderr)


class Deaths(unittest.TestCase):
    def test_reveried_is_killed(self):
        with Gimp(**QUIET_STUB) as gimp:
            run = start(gimp, PYTHON.format(turns=1, steps=500))
            daemon = child(gimp, run, "reveried")
            wait_until(lambda: open_streams(gimp), what="the task's connection")
            os.kill(daemon, signal.SIGKILL)
            text = ended(run)
            self.assertRegex(text, "the engine process (went away|cannot be reached)")
            self.assertIn("LAYERS 1", text)

    def test_server_goes_away(self):
        with Gimp() as gimp, relay.daemon_socket(gimp, "--executor", "stub", "--stub-ms", "400") as path, \
                relay.Relay(path) as server:
            gimp.environment["REVERIE_SERVER"] = server.address
            run = start(gimp, PYTHON.format(turns=1, steps=500))
            wait_until(lambda: server.ends, 60, "the task's connection")
            server.cut()
            text = ended(run)
            self.assertRegex(text, "went away|cannot be reached")
            self.assertIn("LAYERS 1", text)

    def test_killed_at_any_moment(self):
        """Either the layer comes, or a sentence that says why not; never half of it."""
        turns = 8
        with Gimp(REVERIE_EXECUTOR="stub", REVERIE_STUB_MS="30") as gimp:
            run = start(gimp, PYTHON.format(turns=turns, steps=20))
            killed = set()
            while run.poll() is None:
                new = [pid for pid, _ in gimp.processes("reveried") if pid not in killed]
                time.sleep(0.12 * len(killed) if new else 0.01)
                for pid in new:
                    killed.add(pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            text = ended(run)
        layers = 1
        found = re.findall(r"ANSWER (\d) (.*)\n(?:(?!ANSWER).*\n)*?LAYERS (\d+)", text)  # others print in between
        self.assertEqual(len(found), turns, text[-2000:])
        for status, words, after in found:
            layers += status == "3"
            self.assertTrue(status == "3" or len(words) > 20, words)
            self.assertEqual(int(after), layers)

    def test_reveried_comes_back(self):
        """The next call starts another one."""
        with Gimp() as gimp:
            run = start(gimp, PYTHON.format(turns=2, steps=2))
            text = ended(run)
            self.assertEqual(re.findall(r"LAYERS (\d)", text), ["2", "3"])

    def test_gimp_is_killed(self):
        """Neither the plug-in nor its engine outlives it."""
        with Gimp(**QUIET_STUB) as gimp:
            run = start(gimp, PYTHON.format(turns=1, steps=500))
            child(gimp, run, "reveried")
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
            wait_until(lambda: not gimp.processes(), 10, "the end of all processes")
        # what it left on disk is swept by the next one

    def test_plug_in_is_killed(self):
        with Gimp(**QUIET_STUB) as gimp:
            run = start(gimp, PYTHON.format(turns=1, steps=500))
            child(gimp, run, "reveried")
            os.kill(gimp.processes("reverie")[0][0], signal.SIGKILL)
            wait_until(lambda: not gimp.processes("reveried"), 10, "reveried's end")
            self.assertIn("LAYERS 1", ended(run))

    def test_folders_of_the_dead_are_swept(self):
        with Gimp() as gimp:
            stale = os.path.join(gimp.runtime, "reverie", "gimp-999999999")
            os.makedirs(os.path.join(stale, "state"))
            ended(start(gimp, PYTHON.format(turns=1, steps=1)))
            self.assertEqual(os.listdir(os.path.join(gimp.runtime, "reverie")), [])

    def test_no_engine_at_all(self):
        with Gimp(REVERIE_REVERIED="/nowhere", PATH="/usr/bin:/bin") as gimp:
            os.remove(os.path.join(gimp.profile, "plug-ins/reverie/reveried"))
            text = ended(start(gimp, PYTHON.format(turns=1, steps=1)))
            self.assertIn("reveried was not found", text)
            self.assertIn("LAYERS 1", text)

    def test_engine_that_does_not_start(self):
        with Gimp(REVERIE_EXECUTOR="nonsense") as gimp:
            text = ended(start(gimp, PYTHON.format(turns=1, steps=1)))
            self.assertIn("the engine could not be started", text)
            self.assertIn("executor", text)
            self.assertIn("LAYERS 1", text)


def open_streams(gimp):
    """Whether the plug-in's task has reached reveried: its log or its sockets say so."""
    plugin = gimp.processes("reverie")
    if not plugin:
        return False
    with open("/proc/net/unix") as f:
        names = f.read()
    return names.count(os.path.join(gimp.runtime, "reverie")) >= 2  # the listening one and the task's


if __name__ == "__main__":
    unittest.main()
