#!/usr/bin/env python3
"""tests/bench/capacity.py [--quick]: measures how long pictures take here, and how long tasks wait at several loads, beside
what the queueing model says.  Prints the tables of common/daemon/capacity.md.

A worker (one reveried) makes one picture at a time, and pictures of one size take nearly the same time D, so c workers on
one queue are an M/D/c queue when clients come at random: load rho = rate D / c, and the mean wait is close to
  W = Wq(M/M/c) / 2, with Wq(M/M/c) = C(c, c rho) D / (c (1 - rho)), C being Erlang's formula; exact for c = 1.
The waits are measured with the stub, whose D is exact, so that the model is tested and not the machine.
"""
import concurrent.futures
import http.client
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
BUILD = os.path.abspath(os.environ.get("BUILD") or os.path.join(SOURCE, "build"))
QUICK = "--quick" in sys.argv[1:]


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("reveried", timeout=600)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Worker:
    """A reveried of its own."""

    def __init__(self, *options):
        self.folder = tempfile.mkdtemp(prefix="capacity-")
        self.socket = os.path.join(self.folder, "s")
        self.process = subprocess.Popen([os.path.join(BUILD, "reveried"), "--socket", self.socket, "--state", self.folder,
                                         "--models", os.path.join(SOURCE, "config/models"), *options],
                                        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not os.path.exists(self.socket):
            time.sleep(0.01)

    def ask(self, **fields):
        """Seconds until the picture is there."""
        task = {"taskType": "imageInference", "taskUUID": "%08x-0000-4000-8000-%012x" % (random.getrandbits(32), random.getrandbits(48)),
                "model": "reverie:1@1", "positivePrompt": "a calm sea at sunset", "outputType": "base64Data", **fields}
        start = time.monotonic()
        c = Unix(self.socket)
        try:
            c.request("POST", "/generate", json.dumps([task]))
            reply = c.getresponse()
            body = reply.read()
            if reply.status != 200:
                raise SystemExit(body.decode())
        finally:
            c.close()
        return time.monotonic() - start

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def price():
    """US dollars per picture of the services that the card of HiDream-I1 Fast names, at 16 steps and a megapixel."""
    with open(os.path.join(SOURCE, "config/models/hidream-i1-fast.json"), encoding="utf-8") as f:
        card = json.load(f)
    for entry in card["executors"]:
        tariff = entry.get("price") or (card["price"] if entry["name"] == "runware" else None)
        if tariff:
            yield entry["name"], tariff.get("base", 0) + 16 * tariff.get("perStep", 0) + 1.05 * tariff.get("perMegapixel", 0)


def pictures():
    """Time per picture by size; the model is loaded before."""
    worker = Worker()
    print("| model | size | steps | seconds, median | spread | pictures per hour and worker |\n|---|---|---|---|---|---|")
    try:
        worker.ask(width=128, height=128, steps=2)
        for side in (128, 256) if QUICK else (128, 256, 512):
            times = [worker.ask(width=side, height=side, steps=2 if QUICK else 16, seed=i) for i in range(3 if QUICK else 5)]
            d = statistics.median(times)
            print(f"| Reverie demo | {side} × {side} | {2 if QUICK else 16} | {d:.2f} | {min(times):.2f} to {max(times):.2f} | {3600 / d:.0f} |",
                  flush=True)
    finally:
        worker.close()


def erlang(c, load):
    """Erlang's C: how often a task finds all c workers busy."""
    term, total = 1.0, 1.0
    for k in range(1, c):
        term *= load / k
        total += term
    last = term * load / c / (1 - load / c)
    return last / (total + last)


def wait(c, rho, d):
    return erlang(c, c * rho) * d / (c * (1 - rho)) / 2


def queue(rho, tasks, step_ms=20, steps=5):
    """(load, mean wait measured, D): tasks come at random moments to one worker with the stub.  D is what tasks took that
    found nobody before them, so a busy machine shows as a load of its own, and not as a wait."""
    worker = Worker("--executor", "stub", "--stub-ms", str(step_ms), "--queue", "1000")
    size = {"width": 128, "height": 128, "steps": steps}
    try:
        rate = rho / statistics.median(worker.ask(**size) for _ in range(5))
        draw = random.Random(7)
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            start, at, asked = time.monotonic(), 0.0, []
            for _ in range(tasks):
                at += draw.expovariate(rate)
                time.sleep(max(0, start + at - time.monotonic()))
                asked.append(pool.submit(worker.ask, **size))
            total = sorted(f.result() for f in asked)
    finally:
        worker.close()
    d = total[tasks // 10]
    return min(rate * d, 0.99), statistics.mean(total) - d, d


def main():
    pictures()
    print("\n| load of one worker | mean wait, measured | mean wait, model | both in pictures |\n|---|---|---|---|")
    for rho in (0.5, 0.8) if QUICK else (0.3, 0.5, 0.7, 0.8):
        rho, w, d = queue(rho, 40 if QUICK else 400)
        print(f"| {rho:.2f} | {w * 1000:.0f} ms | {wait(1, rho, d) * 1000:.0f} ms | {w / d:.2f} and {wait(1, rho, d) / d:.2f} |",
              flush=True)
    print("\n| workers | load at which the mean wait is one picture | tasks per picture's time |\n|---|---|---|")
    for c in (1, 2, 4, 8, 16):
        rho = max(r / 1000 for r in range(1, 1000) if wait(c, r / 1000, 1) <= 1)
        print(f"| {c} | {rho:.2f} | {c * rho:.1f} |")
    print("\n| service | US dollars per picture (HiDream-I1 Fast, 1024 × 1024, 16 steps) | a machine of 0.40 dollars an hour is"
          " cheaper below |\n|---|---|---|")
    for name, cost in price():
        print(f"| {name} | {cost:.4f} | {3600 * cost / 0.40:.0f} s per picture |")


if __name__ == "__main__":
    main()
