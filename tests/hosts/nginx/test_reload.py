"""Reloads and binary upgrades under load drop nothing; the units of the service manager are valid.

RELOAD_SECONDS says for how long nginx is reloaded once a second (5).
"""
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

import harness
from harness import BUILD, Nginx, SLOW, SOURCE, environment, http_bytes, is_alive, read_reply, task, wait_until
from test_stream import Stream
from websocket import Closed, WebSocket

SECONDS = float(os.environ.get("RELOAD_SECONDS", "5"))


class Clients:
    """Threads that ask in every way until they are told to stop, and what went wrong."""

    def __init__(self, server):
        self.server, self.stop, self.failed, self.count = server, False, [], {}
        self.threads = [threading.Thread(target=self.run, args=(way,))
                        for way in (self.post, self.post, self.stream, self.websocket, self.light)]
        for t in self.threads:
            t.start()

    def run(self, way):
        n = 0
        while not self.stop:
            try:
                way(n)
            except Exception as e:
                self.failed.append(f"{way.__name__} {n}: {type(e).__name__} {e}")
            n += 1
        self.count[way.__name__] = self.count.get(way.__name__, 0) + n

    def post(self, n):
        assert self.server.generate(task(seed=n, steps=3)).status == 200

    def light(self, n):
        assert self.server.get("/").status == 200
        time.sleep(0.01)

    def stream(self, n):
        with Stream(self.server, task(seed=n, steps=3)) as stream:
            assert [name for name, _ in stream][-1] == "reply"

    def websocket(self, n):
        """A connection that is used until the server says goodbye; no task may be lost by that."""
        with WebSocket(self.server) as ws:
            while not self.stop:
                one = task(steps=3)
                try:
                    ws.send(one)
                    assert ws.receive()["data"][0]["taskUUID"] == one["taskUUID"]
                except Closed as closed:
                    assert closed.code == 1001, closed
                    return
                except (BrokenPipeError, ConnectionResetError):
                    return  # it was closing already when we sent: nothing was accepted

    def end(self):
        self.stop = True
        for t in self.threads:
            t.join(60 * SLOW)
        return self.failed


class Reload(unittest.TestCase):
    def test_every_second_under_load(self):
        server = Nginx(http="reverie_executor stub delay=20ms;", workers=2)
        self.addCleanup(server.stop)
        server.start()
        clients = Clients(server)
        end, reloads = time.monotonic() + SECONDS, 0
        while time.monotonic() < end:
            time.sleep(1)
            server.signal(signal.SIGHUP)
            reloads += 1
        self.assertEqual(clients.end(), [])
        print(f"# {reloads} reloads: {clients.count}")
        server.baseline = {}
        server.verify()

    def test_binary_upgrade_in_mid_task(self):
        """USR2 and QUIT: what runs in the old processes is finished, the new ones take over."""
        server = Nginx(http="reverie_executor stub delay=100ms;", main="env LD_PRELOAD; env ASAN_OPTIONS;",
                       template=Nginx.template.replace("daemon off;", "daemon on;"))
        self.addCleanup(shutil.rmtree, server.folder, True)
        os.makedirs(server.results, exist_ok=True)
        server.port = harness.free_port()
        server.write()
        pid_file = os.path.join(server.folder, "pid")
        started = []

        def master():
            with open(pid_file) as f:
                text = f.read().strip()
            if text and int(text) not in started:
                started.append(int(text))
            return int(text or 0)

        def end():
            for pid in started:
                if is_alive(pid):
                    os.kill(pid, signal.SIGTERM)
                    wait_until(lambda: not is_alive(pid), what="the end of a master")
        self.addCleanup(end)
        binary = shutil.which("nginx")  # the new binary is started by this path
        command = [binary if word == "nginx" else word for word in server.command()]
        run = subprocess.run(command, capture_output=True, text=True, env=environment(), stdin=subprocess.DEVNULL)
        self.assertEqual(run.returncode, 0, run.stderr)
        wait_until(lambda: os.path.exists(pid_file) and master(), what="the pid file")
        old = started[0]
        sockets = [server.connect() for _ in range(4)]
        for n, s in enumerate(sockets):
            s.sendall(http_bytes([task(seed=n, steps=20)]))
        time.sleep(0.2)
        os.kill(old, signal.SIGUSR2)
        new = wait_until(lambda: os.path.exists(pid_file + ".oldbin") and os.path.exists(pid_file)
                         and master() not in (0, old) and master(), what="the new binary")
        self.assertEqual(server.generate(task()).status, 200)
        os.kill(old, signal.SIGQUIT)
        for s in sockets:
            with s, s.makefile("rb") as f:
                self.assertEqual(read_reply(f)[0], 200)
        wait_until(lambda: not is_alive(old), what="the end of the old master")
        self.assertEqual(server.generate(task()).status, 200)
        self.assertTrue(is_alive(new))
        for line in server.log().splitlines():
            self.assertIsNone(harness.ALARM.search(line), line)


class Units(unittest.TestCase):
    def test_valid(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("systemd-analyze is not installed")
        folder = tempfile.mkdtemp(prefix="units-")
        self.addCleanup(shutil.rmtree, folder)
        for name in ("reveried.service", "reveried.socket", "nginx.service.d/reverie.conf"):
            with open(os.path.join(SOURCE, "config/systemd", name)) as f:
                text = f.read().replace("/usr/bin/reveried", os.path.join(BUILD, "reveried"))
            os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
            with open(os.path.join(folder, name), "w") as f:
                f.write(text)
        with open(os.path.join(folder, "nginx.service"), "w") as f:
            f.write("[Unit]\nDescription=x\n[Service]\nExecStart=/bin/true\n")
        run = subprocess.run(["systemd-analyze", "verify", "--man=no", "./reveried.service", "./reveried.socket",
                              "./nginx.service"], cwd=folder, capture_output=True, text=True)
        said = [line for line in run.stderr.splitlines() if "reverie" in line or "nginx" in line]
        self.assertEqual((run.returncode, said), (0, []))


if __name__ == "__main__":
    unittest.main()
