#!/usr/bin/env python3
"""The module beside Lua in the same nginx: what a refused and a finished task cost the worker.

One worker, wrk with 32 connections; both sides take turns in short rounds and the medians count, because figures of
one machine are only comparable within one run.
"""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../hosts/nginx"))
os.environ.setdefault("BUILD_ROOT", os.environ.get("BUILD", "build"))
from harness import Nginx, task  # noqa: E402

ROUNDS, SECONDS, CONNECTIONS = 5, 2, 32


def ticks(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


class Load:
    """wrk against one path with one body."""

    def __init__(self, server, path, body, folder):
        self.server, self.path = server, path
        self.script = os.path.join(folder, path.strip("/") + ".lua")
        with open(self.script, "w") as f:
            f.write('wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
                    f"wrk.body = [==[{body}]==]\n")
        self.rates, self.costs = [], []

    def round(self):
        worker = self.server.workers()[0]
        before = ticks(worker)
        run = subprocess.run(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", self.script,
                              f"http://127.0.0.1:{self.server.port}{self.path}"], capture_output=True, text=True)
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", run.stdout).group(1))
        total = int(re.search(r"(\d+) requests in", run.stdout).group(1))
        self.rates.append(rate)
        self.costs.append((ticks(worker) - before) / os.sysconf("SC_CLK_TCK") / max(total, 1) * 1e6)


def compare(name, ours, peer_name, peer):
    for _ in range(ROUNDS):
        ours.round()
        peer.round()
    rate, peer_rate = statistics.median(ours.rates), statistics.median(peer.rates)
    cost, peer_cost = statistics.median(ours.costs), statistics.median(peer.costs)
    print(f"bench {name}: {rate:.0f} requests/s | {peer_name} {peer_rate:.0f} requests/s | "
          f"ratio {rate / peer_rate:.2f}")
    print(f"bench {name} worker CPU: {cost:.1f} us | {peer_name} {peer_cost:.1f} us | ratio {cost / peer_cost:.2f}")


def main():
    if not os.path.exists("/usr/lib/nginx/modules/ngx_http_lua_module.so"):
        sys.exit("bench nginx: the Lua module of nginx is not installed (package group bench)")
    folder = tempfile.mkdtemp(prefix="bench-")
    with open(os.path.join(folder, "work.lua"), "w") as f:
        f.write("return {run = function() return true end}\n")
    server = Nginx(
        main="load_module {modules}/ndk_http_module.so; load_module {modules}/ngx_http_lua_module.so;"
             "thread_pool jobs threads=4;",
        http=f'reverie_executor stub; reverie_queue 1000; lua_package_path "{folder}/?.lua;;"; access_log off;'
             "keepalive_requests 10000000;",
        locations="""
        location = /lua-echo {
            content_by_lua_block { ngx.req.read_body() ngx.print(ngx.req.get_body_data()) }
        }
        location = /lua-thread {
            content_by_lua_block {
                ngx.req.read_body()
                local ok = ngx.run_worker_thread("jobs", "work", "run")
                ngx.print(ok and ngx.req.get_body_data())
            }
        }
        """)
    try:
        server.start()
        refused = json.dumps([task(steps=0, positivePrompt="a fox " * 120)])
        assert server.request("POST", "/generate", refused).status == 400
        compare("nginx refused 1 kB", Load(server, "/generate", refused, folder), "Lua echo",
                Load(server, "/lua-echo", refused, folder))
        # The way to a thread and back; then the same with the smallest picture painted, compressed and encoded.
        empty = json.dumps([task(positivePrompt="stub:fail=safety")])
        tiny = json.dumps([task(steps=1, outputFormat="JPG", outputQuality=20)])
        assert server.request("POST", "/generate", empty).status == 400
        assert server.request("POST", "/generate", tiny).status == 200
        assert server.request("POST", "/lua-thread", tiny).body.decode() == tiny
        for name, body in ("nginx task without picture", empty), ("nginx task 128x128 JPG", tiny):
            compare(name, Load(server, "/generate", body, folder), "Lua run_worker_thread",
                    Load(server, "/lua-thread", body, folder))
        server.verify()
    finally:
        server.stop()
        subprocess.run(["rm", "-rf", folder])


if __name__ == "__main__":
    main()
