#!/usr/bin/env python3
"""The module beside its peers in the same nginx: tasks beside Lua, pictures beside files, streams beside idle clients.

One worker, wrk with 32 connections; both sides take turns in short rounds and the medians count, because figures of
one machine are only comparable within one run.  BENCH=PATTERN[,PATTERN] runs only those whose name contains one;
STREAMS=N is the number of idle clients (10000), RELOADS=N that of reloads (60).
"""
import json
import os
import re
import base64
import random
import resource
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../hosts/nginx"))
os.environ.setdefault("BUILD_ROOT", os.environ.get("BUILD", "build"))
from harness import MODEL, Daemon, Nginx, http_bytes, read_reply, task, wait_until  # noqa: E402

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
    # nginx closes idle connections to make room when fewer than a sixteenth are free
    server = serve(main=f"worker_rlimit_nofile {count + 1000};", connections=count + count // 8 + 500,
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


def noise(width, height):
    """A PNG that does not compress."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + random.Random(y).randbytes(width * 3) for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))


def remote(folder):
    """A service that answers at once, asked by us and by proxy_pass; all threads of the worker count."""
    for name, sides, members in (("nginx remote small reply", 16, {}),
                                 ("nginx remote 1 MiB stored", 512, {"outputType": "URL"})):
        if not wanted(name):
            continue
        one = task(width=max(sides, 128), height=max(sides, 128), **members)
        item = {"taskType": one["taskType"], "taskUUID": one["taskUUID"], "seed": 7,
                "imageBase64Data": base64.b64encode(noise(sides, sides)).decode()}
        provider = serve(locations="location = /answer { default_type application/json; error_page 405 =200 $uri; "
                                   "alias {dir}/html/answer.json; }")
        cards = os.path.join(folder, "cards")
        os.makedirs(cards, exist_ok=True)
        try:
            provider.start()
            with open(os.path.join(provider.folder, "html", "answer.json"), "w") as f:
                json.dump({"data": [item]}, f)
            with open(os.path.join(cards, "remote.json"), "w") as f:
                json.dump({"id": MODEL, "name": "remote", "executors": [
                    {"name": "runware", "url": f"http://127.0.0.1:{provider.port}/answer"}]}, f)
            server = serve(http=f"reverie_executor stub; reverie_queue 1000; upstream provider {{ "
                                f"server 127.0.0.1:{provider.port}; keepalive 64; }}",
                           generate=f"reverie_model_cards {cards};", locations="""
                location = /proxy { proxy_pass http://provider/answer; proxy_http_version 1.1;
                                    proxy_set_header Connection ""; proxy_buffers 64 32k; }""")
            server.spare = 256
            try:
                server.start()
                body = json.dumps([one])
                ours = server.request("POST", "/generate", body)
                theirs = server.request("POST", "/proxy", body)
                assert ours.status == 200 and theirs.status == 200, (ours.body[:500], theirs.body[:500])
                compare(name, Load(server, "/generate", body, folder), "proxy_pass",
                        Load(server, "/proxy", body, folder))
                server.verify()
            finally:
                server.stop()
        finally:
            provider.stop()


def reloads(folder):
    """Clients that come with new connections all the time, and a reload each second."""
    if not wanted("nginx reload"):
        return
    count = int(os.environ.get("RELOADS", "60"))
    server = Nginx(http="reverie_executor stub delay=50ms; reverie_queue 1000;", workers=2)
    answered, dropped, over = [], [], threading.Event()

    def client():
        while not over.is_set():
            try:
                with server.connect() as s:
                    s.sendall(http_bytes([task(steps=4)], extra="Connection: close\r\n"))
                    status = read_reply(s.makefile("rb"))[0]
                (answered if status == 200 else dropped).append(status)
            except (OSError, ValueError, IndexError) as e:
                dropped.append(repr(e))

    clients = [threading.Thread(target=client) for _ in range(16)]
    try:
        server.start()
        for c in clients:
            c.start()
        for _ in range(count):
            time.sleep(1)
            server.signal(signal.SIGHUP)
        over.set()
        for c in clients:
            c.join()
        total = len(answered) + len(dropped)
        print(f"bench nginx reload each second for {count} s: {len(dropped)} dropped | of {total} tasks | "
              f"ratio {len(dropped) / max(total, 1):.2f}")
        if dropped:
            print("bench nginx reload, first of them:", dropped[0])
    finally:
        over.set()
        server.stop()


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
        remote(folder)
        reloads(folder)
        streams()
    finally:
        subprocess.run(["rm", "-rf", folder])


if __name__ == "__main__":
    main()
