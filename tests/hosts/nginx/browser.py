"""Chromium without a window, driven through its debugging pipe with the standard library alone."""
import base64
import ctypes
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time

from harness import SLOW, children

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: what the browser leaves behind comes to us


class Page:
    """One page of one browser.  Exceptions and errors of the page are collected in `problems`."""

    def __init__(self, width=1280, height=900, dark=False, touch=False):
        self.folder = tempfile.mkdtemp(prefix="chromium-")
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
        read_theirs, write = os.pipe()
        read, write_theirs = os.pipe()
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (read_theirs, write_theirs)]

        def place():  # the browser expects the pipe at 3 and 4
            os.dup2(theirs[0], 3)
            os.dup2(theirs[1], 4)
        self.process = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--remote-debugging-pipe", "--user-data-dir=" + self.folder, "--hide-scrollbars", "--disable-extensions",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
             "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=place,
            pass_fds=(3, 4), start_new_session=True)
        for fd in (read_theirs, write_theirs, *theirs):
            os.close(fd)
        self.reader, self.writer = os.fdopen(read, "rb", 0), os.fdopen(write, "wb", 0)
        self.number, self.text, self.session, self.problems = 0, b"", None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        if touch:
            self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        self.dark(dark)

    def close(self):
        try:
            self.session = None
            self.call("Browser.close")
        except (OSError, AssertionError):
            pass
        try:
            self.process.wait(10 * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.close()
        self.writer.close()
        self.reap()
        shutil.rmtree(self.folder, ignore_errors=True)

    def reap(self):
        """Waits for the browser's helpers, and for nobody else's children."""
        end = time.monotonic() + 5 * SLOW
        while time.monotonic() < end:
            left = []
            for pid in children(os.getpid()):
                try:
                    with open(f"/proc/{pid}/comm") as f:
                        left += [pid] if f.read().startswith("chrom") else []
                except OSError:
                    pass
            if not left:
                return
            for pid in left:
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.02)

    # -- the protocol: JSON texts that end with a NUL --

    def receive(self):
        while b"\0" not in self.text:
            piece = self.reader.read(1 << 16)
            if not piece:
                raise AssertionError("the browser is gone")
            self.text += piece
        message, self.text = self.text.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.writer.write(json.dumps(message).encode() + b"\0")
        while True:
            reply = self.receive()
            self.note(reply)
            if reply.get("id") == self.number:
                if "error" in reply:
                    raise AssertionError(f"{method}: {reply['error']}")
                return reply["result"]

    def note(self, message):
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:2000])
        if message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            if params["entry"]["source"] != "network":  # refused requests are provoked on purpose
                self.problems.append(params["entry"]["text"])

    # -- what tests do --

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, script):
        """The value of an expression; promises are waited for."""
        reply = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in reply:
            raise AssertionError(script + ": " + json.dumps(reply["exceptionDetails"])[:1000])
        return reply["result"].get("value")

    def wait(self, script, seconds=30):
        end = time.monotonic() + seconds * SLOW
        while not self.run(script):
            if time.monotonic() > end:
                raise AssertionError(f"never true: {script}; status: " + str(self.run(
                    "[...document.querySelectorAll('#status, #problems')].map(e => e.textContent).join(' / ')")))
            time.sleep(0.02)

    def type(self, selector, text):
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.run(f"document.querySelector({json.dumps(selector)}).select?.()")
        self.call("Input.insertText", text=text)

    def key(self, key, modifiers=0):
        code = {"Enter": 13, "Escape": 27, "Tab": 9}[key]
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                      modifiers=modifiers)

    def dark(self, on):
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if on else "light"}])

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="webp", quality=80)["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))
