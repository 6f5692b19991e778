"""A GIMP of its own for tests: user folder, plug-in, runtime folder for sockets, and whatever its processes leave.

GIMP runs without a screen (gimp-console) and executes a Python file of ours inside; the plug-in starts its own
reveried as it does for people.  Nothing here waits for a fixed time where it can wait for a fact.
"""
import atexit
import contextlib
import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../.."))
from basics import BUILD, CARDS, SLOW, SOURCE, wait_until  # noqa: E402, F401 (tests import them from here)

PLUGIN = os.path.join(BUILD, "gimp_plugin/reverie")

QUIET = "(show-welcome-dialog no)\n(check-updates no)\n(color-profile-policy keep)\n(metadata-rotation-policy keep)\n"

# What a script does; it writes what it hears into a file of the test's folder.
CALL = """
import os
image = Gimp.file_load(Gimp.RunMode.NONINTERACTIVE, Gio.File.new_for_path(os.path.join(os.environ["REVERIE_TEST"], "{file}")))
p = Gimp.get_pdb().lookup_procedure("plug-in-reverie-generate")
c = p.create_config()
c.set_property("image", image)
c.set_core_object_array("drawables", image.get_layers())
c.set_property("prompt", "a calm sea at sunset")
c.set_property("steps", {steps})
r = p.run(c)
with open(os.path.join(os.environ["REVERIE_TEST"], "{log}"), "w") as f:
    print(int(r.index(0)), r.index(1) if r.length() > 1 else Gimp.get_pdb().get_last_error(), len(image.get_layers()), file=f)
image.delete()
"""


def missing():
    """Why these tests cannot run here, or None."""
    if not shutil.which("gimp-console"):
        return "GIMP is not installed"
    if not os.path.exists(PLUGIN):
        return "the plug-in was not built (no GIMP headers)"
    return None


_template = None  # a user folder as GIMP makes it at its first start, which takes seconds; copied for each test


def template():
    global _template
    if not _template:
        _template = tempfile.mkdtemp(prefix="reverie-gimp-profile-", dir="/tmp")
        atexit.register(shutil.rmtree, _template, True)
        profile = os.path.join(_template, "profile")
        subprocess.run(["gimp-console", "-i", "-d", "-f", "--quit", "--batch-interpreter", "python-fu-eval", "-b", "pass"],
                       env=dict(os.environ, GIMP3_DIRECTORY=profile, LC_ALL="C.UTF-8"), stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120 * SLOW, check=True)
        with open(os.path.join(profile, "gimprc"), "a") as f:
            f.write(QUIET)
    return os.path.join(_template, "profile")


class Gimp:
    """Folders and environment of one GIMP; `with` removes them and checks that no process is left."""

    def __init__(self, **environment):
        self.folder = tempfile.mkdtemp(prefix="reverie-gimp-", dir="/tmp")
        self.profile = os.path.join(self.folder, "profile")
        self.runtime = os.path.join(self.folder, "run")
        os.mkdir(self.runtime, 0o700)
        self.environment = dict(os.environ, GIMP3_DIRECTORY=self.profile, XDG_RUNTIME_DIR=self.runtime,
                                XDG_DATA_HOME=os.path.join(self.folder, "data"),
                                XDG_CACHE_HOME=os.path.join(self.folder, "cache"),
                                XDG_CONFIG_HOME=os.path.join(self.folder, "config"),
                                LC_ALL="C.UTF-8", REVERIE_TEST=self.folder, PYTHONDONTWRITEBYTECODE="1",
                                ASAN_OPTIONS="detect_leaks=0:abort_on_error=0", **environment)
        self.environment.pop("DISPLAY", None)

    def __enter__(self):
        shutil.copytree(template(), self.profile, symlinks=True)
        target = os.path.join(self.profile, "plug-ins/reverie")
        os.makedirs(target, exist_ok=True)
        shutil.copy(PLUGIN, os.path.join(target, "reverie"))
        os.symlink(CARDS, os.path.join(target, "models"))
        os.symlink(os.path.join(BUILD, "reveried"), os.path.join(target, "reveried"))
        return self

    def __exit__(self, kind, *rest):
        left = []
        try:
            wait_until(lambda: not self.processes(), 10, "the end of all processes")
        except AssertionError:
            left = self.processes()
            for pid, _ in left:
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
        if left and not kind:
            raise AssertionError(f"left behind: {left}")

    @contextlib.contextmanager
    def daemon(self, *options):
        """A reveried at the place where plug-ins look for one, as a service would be."""
        folder = os.path.join(self.runtime, "reverie")
        os.makedirs(folder, exist_ok=True)
        socket = os.path.join(folder, "reveried.sock")
        with open(os.path.join(self.folder, "reveried.log"), "ab") as log:
            process = subprocess.Popen([os.path.join(BUILD, "reveried"), "--socket", socket, "--state",
                                        os.path.join(folder, "state"), "--models", CARDS, *options],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_until(lambda: os.path.exists(socket) or process.poll() is not None, what="reveried's socket")
            yield process
        finally:
            process.kill()
            process.wait()
            with contextlib.suppress(FileNotFoundError):
                os.remove(socket)

    def command(self, interpreter, script, *more):
        return ["gimp-console", "-i", "-d", "-f", "--quit", "--batch-interpreter", interpreter, "-b", script, *more]

    def console(self, interpreter, script, timeout=280, **options):
        """Runs a script inside; the finished process."""
        return subprocess.run(self.command(interpreter, script), env=self.environment, timeout=timeout * SLOW,
                              stdin=subprocess.DEVNULL, **options)

    def start(self, interpreter, script, **options):
        return subprocess.Popen(self.command(interpreter, script), env=self.environment, stdin=subprocess.DEVNULL,
                                **options)

    def processes(self, name=None):
        """Living processes that carry this GIMP's environment: (pid, name as they were called)."""
        mark, found = f"REVERIE_TEST={self.folder}".encode(), []
        for path in glob.glob("/proc/[0-9]*/environ"):
            pid = int(path.split("/")[2])
            try:
                with open(path, "rb") as f:
                    if mark not in f.read().split(b"\0"):
                        continue
                with open(f"/proc/{pid}/cmdline") as f:
                    word = os.path.basename(f.read().split("\0")[0])
            except OSError:
                continue
            if word and (name is None or word == name):  # what has ended has no command line
                found.append((pid, word))
        return found
