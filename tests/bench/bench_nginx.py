#!/usr/bin/env python3
"""The module beside its peers in the same nginx: tasks beside Lua, pictures beside files, streams beside idle clients.

One worker, wrk with 32 connections; both sides take turns in short rounds and the medians count, because figures of
one machine are only comparable within one run.  BENCH=PATTERN[,PATTERN] runs only those whose name contains one;
STREAMS=N is the number of idle clients (10000).
"""
import json
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../hosts/nginx"))
os.environ.setdefault("BUILD_ROOT", os.environ.get("BUILD", "build"))
from harness import Daemon, Nginx, http_bytes, task, wait_until  # noqa: E402

ROUNDS, SECONDS, CONNECTIONS = 5, 2, 32


def ticks(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


class Load:
    """wrk against one path with one body; without one, GET."""

    def __init__(self, server, path, body, folder):
        self.server, self.path = server, path
        self.script = os.path.join(folder, re.sub(r"\W", "-", path) + ".lua")
        with open(self.script, "w") as f:
            if body:
                f.write('wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
                        f"wrk.body = [==[{body}]==]\n")
        self.rates, self.costs = [], []

    def command(self, connections=CONNECTIONS, seconds=SECONDS, *options):
        return ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", self.script, *options,
                f"http://127.0.0.1:{self.server.port}{self.path}"]

    def round(self):
        worker = self.server.workers()[0]
        before = ticks(worker)
        run = subprocess.run(self.command(), capture_output=True, text=True)
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


def wanted(name):
    patterns = [p for p in os.environ.get("BENCH", "").split(",") if p]
    return not patterns or any(p in name for p in patterns)


def serve(**pieces):
    """Nothing is written to logs, and connections are kept."""
    pieces["http"] = "access_log off; keepalive_requests 10000000; keepalive_timeout 1h;" + pieces.get("http", "")
    return Nginx(template=Nginx.template.replace("error.log info", "error.log error"), **pieces)


def median_latency(load):
    run = subprocess.run(load.command(4, SECONDS, "--latency"), capture_output=True, text=True)
    value, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", run.stdout).groups()
    return float(value) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def tasks(server, folder):
    refused = json.dumps([task(steps=0, positivePrompt="a fox " * 120)])
    assert server.request("POST", "/generate", refused).status == 400
    if wanted("nginx refused"):
        compare("nginx refused 1 kB", Load(server, "/generate", refused, folder), "Lua echo",
                Load(server, "/lua-echo", refused, folder))
    # The way to a thread and back; then the same with the smallest picture painted, compressed and encoded.
    empty = json.dumps([task(positivePrompt="stub:fail=safety")])
    tiny = json.dumps([task(steps=1, outputFormat="JPG", outputQuality=20)])
    assert server.request("POST", "/generate", empty).status == 400
    assert server.request("POST", "/generate", tiny).status == 200
    assert server.request("POST", "/lua-thread", tiny).body.decode() == tiny
    for name, body in ("nginx task without picture", empty), ("nginx task 128x128 JPG", tiny):
        if wanted(name):
            compare(name, Load(server, "/generate", body, folder), "Lua run_worker_thread",
                    Load(server, "/lua-thread", body, folder))


def stored(server, folder):
    if not wanted("nginx stored picture"):
        return
    url = server.generate(task(width=512, height=512, outputType="URL")).json()["data"][0]["imageURL"]
    path = "/" + url.split("/", 3)[3]
    data = server.get(path).body
    with open(os.path.join(server.folder, "html", "static.png"), "wb") as f:
        f.write(data)
    assert server.get("/static/static.png").body == data
    compare(f"nginx stored picture {len(data) // 1024} kB", Load(server, path, None, folder), "static file",
            Load(server, "/static/static.png", None, folder))


def beside(folder):
    """Light requests of the same worker while large pictures come from the daemon."""
    if not wanted("nginx light requests"):
        return
    daemon = Daemon()
    server = serve(http=f"reverie_daemon unix:{daemon.socket};", results=daemon.results)
    try:
        daemon.start()
        server.start()
        light = Load(server, "/", None, folder)
        heavy = Load(server, "/generate", json.dumps([task(width=1024, height=1024)]), folder)
        alone, busy = [], []
        for _ in range(ROUNDS):
            alone.append(median_latency(light))
            background = subprocess.Popen(heavy.command(2, SECONDS + 1), stdout=subprocess.DEVNULL)
            time.sleep(0.5)
            busy.append(median_latency(light))
            background.wait()
        a, b = statistics.median(alone), statistics.median(busy)
        print(f"bench nginx light requests beside pictures p50: {b:.0f} us | alone {a:.0f} us | ratio {b / a:.2f}")
        server.verify()
    finally:
        server.stop()
        daemon.stop()


def responses(folder):
    if not wanted("nginx getResponse"):
        return
    daemon = Daemon()
    server = serve(http=f"reverie_daemon unix:{daemon.socket};", results=daemon.results,
                   locations="location = /ok { return 200 ok; }")
    server.spare = 128
    try:
        daemon.start()
        server.start()
        one = task(deliveryMethod="async", outputType="URL")
        assert server.generate(one).status == 200
        ask = {"taskType": "getResponse", "taskUUID": one["taskUUID"]}
        wait_until(lambda: server.generate(ask).json()["data"][0]["status"] == "success")
        compare("nginx getResponse", Load(server, "/generate", json.dumps([ask]), folder), "return 200",
                Load(server, "/ok", None, folder))
        server.verify()
    finally:
        server.stop()
        daemon.stop()


def resident(pid):
    with open(f"/proc/{pid}/status") as f:
        return [int(line.split()[1]) for line in f if line.startswith("VmRSS")][0]


def idle(count, request, answered):
    """Resident memory of a worker with so many clients of which nobody says anything."""
    server = serve(main=f"worker_rlimit_nofile {count + 1000};", connections=count + 500,
                   http="reverie_executor stub; reverie_queue 100000;")
    clients = []
    try:
        server.start()
        for n in range(count):
            s = socket.create_connection(("127.0.0.1", server.port))
            s.sendall(request(n))
            clients.append(s)
            if n % 100 == 99:
                for s in clients[-100:]:
                    text = b""
                    while answered not in text:
                        text += s.recv(4096)
        return resident(server.workers()[0])
    finally:
        for s in clients:
            s.close()
        server.stop()


def streams():
    if not wanted("nginx idle event streams"):
        return
    count = int(os.environ.get("STREAMS", "10000"))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < count + 1000:
        print(f"bench nginx idle event streams: only {hard} descriptors are allowed")
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 1000, hard))
    ours = idle(count, lambda n: http_bytes([task(positivePrompt="stub:hang")], "/generate?stream=1"), b"queued")
    peer = idle(count, lambda n: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"light")
    print(f"bench nginx {count} idle event streams: {ours} KiB | idle keep-alive {peer} KiB | "
          f"ratio {ours / peer:.2f}")


def main():
    if not os.path.exists("/usr/lib/nginx/modules/ngx_http_lua_module.so"):
        sys.exit("bench nginx: the Lua module of nginx is not installed (package group bench)")
    folder = tempfile.mkdtemp(prefix="bench-")
    with open(os.path.join(folder, "work.lua"), "w") as f:
        f.write("return {run = function() return true end}\n")
    server = serve(
        main="load_module {modules}/ndk_http_module.so; load_module {modules}/ngx_http_lua_module.so;"
             "thread_pool jobs threads=4;",
        http=f'reverie_executor stub; reverie_queue 1000; lua_package_path "{folder}/?.lua;;"; sendfile on;',
        locations="""
        location /static/ { alias {dir}/html/; }
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
        tasks(server, folder)
        stored(server, folder)
        server.verify()
    finally:
        server.stop()
    try:
        beside(folder)
        responses(folder)
        streams()
    finally:
        subprocess.run(["rm", "-rf", folder])


if __name__ == "__main__":
    main()
