#!/usr/bin/env python3
"""soak.py [--seconds N] [--report FOLDER]: mixed load for hours; memory, descriptors and latency must stay flat.

One reveried with the stub, one nginx with two workers, one Lua program; clients that wait, poll, follow streams, speak
WebSocket, send nonsense, leave in the middle, upload pictures, and are told by webhook.  The rate is fixed and low, so
that what is measured is the servers and not the machine.  Samples are taken all the way; the second quarter of the run
is compared with the last.  --report writes soak.md and soak.svg there.
"""
import argparse
import base64
import glob
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../hosts/nginx"), os.path.join(HERE, "../daemon")]
import plot  # noqa: E402
from harness import BUILD, SLOW, SOURCE, Daemon, Nginx, reset, task  # noqa: E402
from test_delivery import Receiver  # noqa: E402
from websocket import WebSocket, frame  # noqa: E402

LUA = """
local reverie = require "reverie"
local client = assert(reverie.client { engine = "unix:" .. os.getenv("SOAK_SOCKET"), log = function() end })
io.stdout:setvbuf("line")
for line in io.lines() do
  local images, message = client:generate { positivePrompt = "stub " .. line, width = 128, height = 128, steps = 2,
    model = "runware:97@3" }
  local ok = images and #assert(images[1]:bytes("png")) > 0
  images = nil
  collectgarbage()
  print(ok and "ok" or tostring(message))
end
"""


def resident(pid):
    """Megabytes of memory that are its own: no files, so that the page cache of the queue does not count."""
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return 0.0


class Load:
    """The servers and everything a client may do to them; each method is one visit and raises when it goes wrong."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="soak-")
        self.receiver = Receiver()
        self.daemon = Daemon("--stub-ms", "3", "--results-ttl", "60", "--fetch-allow", "127.0.0.1", "--fetch-ports", "*",
                             "--preview-steps", "1").start()
        self.server = Nginx(http=f"reverie_daemon unix:{self.daemon.socket};", results=self.daemon.results, workers=2,
                            locations="location /tasks/ { reverie_tasks; } location /metrics { reverie_metrics; } "
                                       "location /v1/ { reverie openai; }")
        self.server.spare = 64
        self.server.start()
        env = dict(os.environ, SOAK_SOCKET=self.daemon.socket, REVERIE_MODELS=os.path.join(SOURCE, "config/models"),
                   LUA_PATH="{0}/?.lua;{0}/?/init.lua;;".format(os.path.join(SOURCE, "lua_binding/lua")),
                   LUA_CPATH=os.path.join(BUILD, "lua_binding/abi/5.4/?.so") + ";;")
        script = os.path.join(self.folder, "soak.lua")
        with open(script, "w") as f:
            f.write(LUA)
        self.lua = subprocess.Popen(["lua5.4", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.lua_lock = threading.Lock()

    def close(self):
        self.lua.stdin.close()
        self.lua.wait(60)
        self.server.stop()
        self.daemon.stop()
        self.receiver.close()

    def processes(self):
        return {"reveried": [self.daemon.process.pid], "nginx": self.server.workers(), "lua": [self.lua.pid]}

    # -- visits --

    def wait_for_it(self):
        reply = self.server.generate(task(outputType=random.choice(["URL", "base64Data"])))
        assert reply.status == 200, reply.body

    def poll_for_it(self):
        one = task(deliveryMethod="async", outputType="URL")
        assert self.server.generate(one).status == 200
        for _ in range(600):
            reply = self.server.generate({"taskType": "getResponse", "taskUUID": one["taskUUID"]}).json()
            if reply["data"][0]["status"] == "success":
                return
            time.sleep(0.05)
        raise AssertionError("an asynchronous task does not end")

    def follow_it(self):
        reply = self.server.request("POST", "/generate?stream=1", json.dumps([task(steps=6)]))
        assert reply.status == 200 and b"event: image" in reply.body, reply.body[:300]

    def talk(self):
        with WebSocket(self.server) as ws:
            ws.send({"taskType": "authentication", "apiKey": "soak"})
            ws.receive()
            ws.send(task(numberResults=2))
            for _ in range(2):
                assert "data" in ws.receive()
            ws.raw(frame(b"{"))
            assert "errors" in ws.receive()

    def speak_nonsense(self):
        bodies = ["", "[", "[{}]", json.dumps([task(width=7, colour="red")]), "\xff" * 100, "[" * 500, "0" * 40000]
        reply = self.server.request("POST", "/generate", random.choice(bodies))
        assert 400 <= reply.status < 500, reply.status

    def leave(self):
        s = self.server.connect(30)
        body = json.dumps([task(positivePrompt="stub:hang", steps=9)]).encode()
        s.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) +
                  body[:random.choice([10, len(body)])])
        time.sleep(random.uniform(0, 0.05))
        reset(s)

    def upload(self):
        image = base64.b64encode(self.seed).decode()
        reply = self.server.generate({"taskType": "imageUpload", "taskUUID": str(uuid.uuid4()), "image": image}).json()
        start = self.server.generate(task(model="reverie:1@1", seedImage=reply["data"][0]["imageUUID"],
                                          strength=0.5))
        assert start.status == 200, start.body

    def be_told(self):
        path = f"/{uuid.uuid4()}"
        assert self.server.generate(task(deliveryMethod="async", outputType="URL",
                                         webhookURL=self.receiver.url + path)).status == 200
        for _ in range(600):
            if self.receiver.of(path):
                with self.receiver.lock:
                    self.receiver.got[:] = [g for g in self.receiver.got if g["target"] != path]
                return
            time.sleep(0.05)
        raise AssertionError("a webhook does not come")

    def from_lua(self):
        with self.lua_lock:
            self.lua.stdin.write(f"{random.random()}\n")
            self.lua.stdin.flush()
            line = self.lua.stdout.readline().strip()
        assert line == "ok", line

    def openai(self):
        reply = self.server.request("POST", "/v1/images/generations",
                                    json.dumps({"prompt": "a fox", "model": task()["model"], "size": "128x128"}))
        assert reply.status == 200, reply.body

    def operate(self):
        for path in ("/healthz", "/metrics"):
            assert self.server.get(path).status == 200


VISITS = ["wait_for_it", "wait_for_it", "poll_for_it", "follow_it", "talk", "speak_nonsense", "leave", "upload",
          "be_told", "from_lua", "openai", "operate"]
WORKERS = 6
RATE = 12.0  # visits per second, all together


class Soak:
    def __init__(self, seconds):
        self.seconds, self.load = seconds, Load()
        first = self.load.server.generate(task(outputType="base64Data")).json()["data"][0]
        self.load.seed = base64.b64decode(first["imageBase64Data"])
        self.counts, self.errors, self.times, self.lock = {}, [], [], threading.Lock()
        self.samples = []  # (seconds, {name: MB}, {name: descriptors}, ms of the light requests since the last one)
        self.begin = time.monotonic()

    def age(self):
        return time.monotonic() - self.begin

    def visit(self):
        while self.age() < self.seconds:
            name = random.choice(VISITS)
            began = time.monotonic()
            try:
                getattr(self.load, name)()
            except Exception as e:
                with self.lock:
                    self.errors.append(f"{name} after {self.age():.0f} s: {type(e).__name__} {e}"[:400])
            with self.lock:
                self.counts[name] = self.counts.get(name, 0) + 1
            time.sleep(max(0.0, WORKERS / RATE - (time.monotonic() - began)))

    def light(self):
        """What somebody waits who asks nginx for anything else; and for the state of a task that is not there."""
        ask = {"taskType": "getResponse", "taskUUID": str(uuid.uuid4())}
        while self.age() < self.seconds:
            began = time.monotonic()
            try:
                self.load.server.get("/")
                self.load.server.generate(ask)
            except OSError as e:
                with self.lock:
                    self.errors.append(f"light after {self.age():.0f} s: {e}")
            with self.lock:
                self.times.append(1000 * (time.monotonic() - began))
            time.sleep(0.25)

    def sample(self):
        with self.lock:
            times, self.times = self.times, []
        memory, files = {}, {}
        for name, pids in self.load.processes().items():
            memory[name] = sum(resident(pid) for pid in pids)
            files[name] = sum(len(glob.glob(f"/proc/{pid}/fd/*")) for pid in pids)
        self.samples.append((self.age(), memory, files, times))

    def run(self):
        threads = [threading.Thread(target=self.visit) for _ in range(WORKERS)] + [threading.Thread(target=self.light)]
        pids = {name: list(p) for name, p in self.load.processes().items()}
        for t in threads:
            t.start()
        every = max(0.5, self.seconds / 240)
        while self.age() < self.seconds:
            time.sleep(every)
            self.sample()
        for t in threads:
            t.join()
        if pids != self.load.processes():
            self.errors.append(f"a process was replaced: {pids} became {self.load.processes()}")
        self.load.close()

    # -- the verdict --

    def quarter(self, number, value):
        begin, end = self.seconds * (number - 1) / 4, self.seconds * number / 4
        return [value(s) for s in self.samples if begin <= s[0] < end]

    def verdict(self):
        """(name, second quarter, last quarter, what is allowed, unit) for all that must be flat."""
        rows = []
        for name in self.samples[0][1]:
            early, late = (statistics.median(self.quarter(q, lambda s: s[1][name])) for q in (2, 4))
            rows.append((f"memory of {name}", early, late, early * 1.1 + 2, "MB"))
        for name in self.samples[0][2]:
            early, late = (statistics.median(self.quarter(q, lambda s: s[2][name])) for q in (2, 4))
            rows.append((f"descriptors of {name}", early, late, early + 8, ""))
        times = [sorted(t for s in self.quarter(q, lambda s: s[3]) for t in s) for q in (2, 4)]
        for share, word, slack in ((0.5, "half", 20), (0.95, "95 %", 200)):  # the machine has other work too
            early, late = (t[int(len(t) * share)] for t in times)
            rows.append((f"{word} of two light requests within", early, late, (early * 2 + slack) * SLOW, "ms"))
        return rows


def write_report(folder, soak, rows, bad):
    os.makedirs(folder, exist_ok=True)
    x = [s[0] / 60 for s in soak.samples]
    names = list(soak.samples[0][1])
    percentile = [sorted(s[3])[int(len(s[3]) * 0.95)] if s[3] else None for s in soak.samples]
    middle = [statistics.median(s[3]) if s[3] else None for s in soak.samples]
    svg = plot.page([
        ("memory, MB", x, [(n, [s[1][n] for s in soak.samples]) for n in names]),
        ("descriptors", x, [(n, [s[2][n] for s in soak.samples]) for n in names]),
        ("two light requests, ms", x, [("half", middle), ("95 %", percentile)])], "minutes")
    with open(os.path.join(folder, "soak.svg"), "w") as f:
        f.write(svg)
    visits = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in sorted(soak.counts.items()))
    table = "\n".join(f"| {name} | {early:.1f} {unit} | {late:.1f} {unit} | {limit:.1f} {unit} |"
                      for name, early, late, limit, unit in rows)
    with open(os.path.join(folder, "soak.md"), "w") as f:
        f.write(f"""# Soak

Made by `make soak` (two hours; `SOAK=seconds`) or, shorter, by `make nightly`: {soak.seconds / 60:.0f} minutes of mixed load on
{os.cpu_count()} processors, {sum(soak.counts.values())} visits ({visits}), {len(soak.errors)} of them went wrong.
Memory is what is a process's own (RssAnon), the two workers of nginx together.

![memory, descriptors and latency over time](soak.svg)

| | second quarter | last quarter | allowed |
|---|---|---|---|
{table}

{"Everything is flat." if not bad else "Not flat: " + ", ".join(bad)}
""")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--seconds", type=float, default=7200)
    p.add_argument("--report", help="folder for soak.md and soak.svg")
    o = p.parse_args()
    soak = Soak(o.seconds)
    soak.run()
    rows = soak.verdict()
    bad = []
    for name, early, late, limit, unit in rows:
        flat = late <= limit
        if not flat:
            bad.append(name)
        print(f"{'ok' if flat else 'not ok'} - {name}: {early:.1f} {unit} in the second quarter, {late:.1f} {unit} in the "
              f"last (at most {limit:.1f})")
    print(f"{'not ok' if soak.errors else 'ok'} - {sum(soak.counts.values())} visits, {len(soak.errors)} went wrong")
    for e in soak.errors[:20]:
        print("# " + e)
    if o.report:
        write_report(o.report, soak, rows, bad)
    failed = len(bad) + bool(soak.errors)
    print(f"{len(rows) + 1 - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
