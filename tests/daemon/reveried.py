"""A real reveried with the stub executor in a folder of its own, and a small HTTP client for its socket.

Nothing here waits for a fixed time where it can wait for a fact.  A daemon checks itself when it is stopped: it must
end with status 0 and its log must hold no sanitizer report.
"""
import collections
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
# Tests import these from here.
from basics import BUILD, CARDS, REVERIE, REVERIED, SLOW, SOURCE, descriptors, wait_until  # noqa: E402, F401

ALARM = re.compile(r"Sanitizer|runtime error:")


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout=60):
        super().__init__("reveried", timeout=timeout * SLOW)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def task(number, prompt="a fox", **more):
    fields = {"taskType": "imageInference", "taskUUID": f"00000000-0000-4000-8000-{number:012d}",
              "model": "runware:97@3", "positivePrompt": prompt, "width": 128, "height": 128, "steps": 4, "seed": 7}
    return {**fields, **more}


class Daemon:
    def __init__(self, folder, *options, executor="stub"):
        self.folder = folder
        self.socket = os.path.join(folder, "socket")
        self.state = os.path.join(folder, "state")
        self.log_path = os.path.join(folder, "log")
        self.options = options
        self.executor = executor
        self.cards = CARDS
        self.process = None
        self.prefix = []  # words in front of the command

    def start(self, wait=True):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*self.prefix, REVERIED, "--socket", self.socket, "--state", self.state,
                                             "--models", self.cards, "--executor", self.executor, *self.options],
                                            stderr=log)
        if wait:
            wait_until(self.answers, what="the daemon")
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.process.returncode}: {self.log()}")
        try:
            return self.get("/healthz")[0] == 200
        except OSError:
            return False

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def connect(self):
        return Connection(self.socket)

    def request(self, method, path, body=None, headers=None):
        """(status, headers, body bytes)"""
        c = self.connect()
        try:
            c.request(method, path, body, headers or {}, encode_chunked=hasattr(body, "__next__"))
            r = c.getresponse()
            return r.status, r.headers, r.read()
        finally:
            c.close()

    def get(self, path):
        status, _, body = self.request("GET", path)
        return status, json.loads(body)

    def generate(self, *tasks, headers=None):
        status, _, body = self.request("POST", "/generate", json.dumps(tasks), headers)
        return status, json.loads(body)

    def health(self):
        return self.get("/healthz")[1]

    def live(self):
        return self.health()["queue"]["live"]

    def raw(self, data=b""):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(60 * SLOW)
        s.connect(self.socket)
        s.sendall(data)
        return s

    def begin(self, *tasks, stream=False):
        """A request whose answer nobody read yet, as a socket."""
        body = json.dumps(tasks).encode()
        query = "?stream=1" if stream else ""
        return self.raw(b"POST /generate%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" %
                        (query.encode(), len(body)) + body)

    def descriptors(self):
        """What it has open, counted: sockets together, all else by what it leads to."""
        return collections.Counter("socket" if d.startswith("socket:") else d for d in descriptors(self.process.pid))

    def connections(self):
        """Open sockets, the listening one not counted; a request of our own may still be one of them."""
        return self.descriptors()["socket"] - 1

    def stop(self, sig=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(60 * SLOW)


class DaemonTest(unittest.TestCase):
    options = ()

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="reveried-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.daemon = Daemon(self.folder, *self.options)
        self.addCleanup(self.check)

    def check(self):
        d = self.daemon
        if d.process and d.process.poll() is None:
            self.assertEqual(d.stop(), 0, d.log())
        if os.path.exists(d.log_path):
            self.assertIsNone(ALARM.search(d.log()), d.log())


def events(stream):
    """Yields (name, data) of a server-sent event stream."""
    name = None
    for line in stream:
        line = line.decode().rstrip("\r\n")
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])
