"""Real nginx with our module, real reveried, on loopback, in folders of their own.

Every server checks itself when asked (verify): its processes live, its log holds no alarm and no sanitizer report,
and its workers hold no more descriptors than before.  Nothing here waits for a fixed time where it can wait for a fact.
"""
import base64
import glob
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import uuid
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
import basics  # noqa: E402
from basics import BUILD, CARDS, REVERIED, SLOW, SOURCE, descriptors, wait_until  # noqa: E402, F401 (for tests, too)

MODULE = os.path.join(BUILD, "ngx_http_reverie_module.so")
MODEL = "runware:97@3"
WRAP = shlex.split(os.environ.get("NGINX_WRAP", ""))  # nginx runs below this command (valgrind)
ALARM = re.compile(r"==\d+== +at 0x|\[(alert|emerg|crit)\]|Sanitizer|runtime error:|worker process \d+ exited on signal")


def sanitizer():
    """The sanitizer runtime the module needs, to be loaded first, or None."""
    needed = subprocess.run(["readelf", "-d", MODULE], capture_output=True, text=True).stdout
    found = re.search(r"\[(lib[at]san\.so[^\]]*)\]", needed)
    if not found:
        return None
    return subprocess.run(["gcc", "-print-file-name=" + found.group(1)], capture_output=True, text=True).stdout.strip()


def environment():
    env = dict(os.environ, LC_ALL="C")
    runtime = sanitizer()
    if runtime:
        env["LD_PRELOAD"] = runtime
        env["ASAN_OPTIONS"] = "detect_leaks=0:abort_on_error=0:log_path=stderr"
    return env


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(p) for p in f.read().split()]
    except OSError:
        return []


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Daemon:
    """reveried with the stub, on a socket in its own folder."""

    def __init__(self, *options, executor="stub"):
        self.folder = tempfile.mkdtemp(prefix="reveried-")
        self.socket = os.path.join(self.folder, "s")
        self.results = os.path.join(self.folder, "state", "results")
        self.options = ["--executor", executor, "--models", CARDS, *options]
        self.process = None

    def start(self):
        os.makedirs(os.path.join(self.folder, "state"), exist_ok=True)
        self.log = open(os.path.join(self.folder, "log"), "ab")
        self.process = subprocess.Popen(
            [REVERIED, "--socket", self.socket, "--state", os.path.join(self.folder, "state"), *self.options],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_until(self.answers, what="reveried on its socket")
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError("reveried ended: " + self.messages())
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(self.socket)
                return True
            except OSError:
                return False

    def messages(self):
        with open(os.path.join(self.folder, "log"), errors="replace") as f:
            return f.read()

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait(30 * SLOW)
        self.log.close()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.kill(signal.SIGTERM)
        reports = [line for line in self.messages().splitlines() if ALARM.search(line)] if self.process else []
        shutil.rmtree(self.folder, ignore_errors=True)
        if reports:
            raise AssertionError("reveried: " + reports[0])


class Nginx:
    """One nginx with its own folder, port and configuration.

    {dir}, {port}, {results} and {cards} in the pieces are replaced.
    """

    template = """
{main}
daemon off;
worker_processes {workers};
worker_shutdown_timeout 60s;
load_module {module};
error_log {dir}/error.log info;
pid {dir}/pid;
events {{ worker_connections {connections}; }}
http {{
    access_log {dir}/access.log;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    client_max_body_size 2m;
    client_body_buffer_size 16k;
    reverie_model_cards {cards};
    reverie_results_dir {results};
    {http}
    server {{
        listen 127.0.0.1:{port};
        {server}
        location / {{ return 200 "light\\n"; }}
        location /generate {{ reverie runware; {generate} }}
        location /images/ {{ reverie_results; }}
        location = /healthz {{ reverie_health; }}
        {locations}
    }}
}}
"""

    def __init__(self, generate="", locations="", server="", http="reverie_executor stub;", main="", workers=1,
                 connections=1024, results=None, template=None):
        self.folder = tempfile.mkdtemp(prefix="nginx-")
        self.results = results or os.path.join(self.folder, "results")
        self.pieces = dict(generate=generate, locations=locations, server=server, http=http, main=main,
                           workers=workers, connections=connections)
        if template:
            self.template = template
        self.process = None
        self.baseline = {}
        self.spare = 24  # what first tasks open for good: threads with sockets have three descriptors of their own each
        self.expected = []  # patterns of log lines that a test provoked on purpose

    # -- life --

    def write(self):
        if os.getuid() == 0:
            self.pieces["main"] = "user root;" + self.pieces["main"].replace("user root;", "")
        values = dict(dir=self.folder, port=self.port, results=self.results, cards=CARDS, module=MODULE,
                      modules="/usr/lib/nginx/modules")
        pieces = {}
        for name, text in self.pieces.items():
            for key, value in values.items():
                text = str(text).replace("{" + key + "}", str(value))
            pieces[name] = text
        with open(os.path.join(self.folder, "nginx.conf"), "w") as f:
            f.write(self.template.format(**pieces, **values))
        os.makedirs(os.path.join(self.folder, "html"), exist_ok=True)

    def command(self, *options):
        wrap = [word.replace("{dir}", self.folder) for word in WRAP]
        return [*wrap, "nginx", "-p", self.folder, "-c", os.path.join(self.folder, "nginx.conf"), "-e",
                os.path.join(self.folder, "error.log"), *options]

    def start(self):
        os.makedirs(self.results, exist_ok=True)
        for attempt in range(5):  # somebody else may take the port in between
            self.port = free_port()
            self.write()
            self.output = open(os.path.join(self.folder, "output"), "ab")
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self.output,
                                            stderr=self.output, env=environment())
            try:
                wait_until(self.answers, what="nginx on its port")
                break
            except AssertionError:
                if "Address already in use" not in self.log() or attempt == 4:
                    raise
                self.process.kill()
                self.process.wait()
                os.remove(os.path.join(self.folder, "error.log"))
        wait_until(lambda: len(self.workers()) == self.pieces["workers"], what="all workers")
        self.get("/")
        self.remember()
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError("nginx ended: " + self.log())
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def check(self):
        """nginx -t on the configuration: (works, messages)."""
        self.port = getattr(self, "port", 8000)
        self.write()
        run = subprocess.run(self.command("-t"), capture_output=True, text=True, env=environment())
        return run.returncode == 0, run.stderr + run.stdout

    def signal(self, number):
        self.process.send_signal(number)

    def workers(self):
        return [p for p in children(self.process.pid) if is_alive(p)]

    def reload(self):
        """HUP, and wait for workers of the new generation."""
        before = set(self.workers())
        self.signal(signal.SIGHUP)
        wait_until(lambda: len(set(self.workers()) - before) >= self.pieces["workers"], what="new workers")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(20 * SLOW)
            except subprocess.TimeoutExpired:
                for pid in [*self.workers(), self.process.pid]:
                    os.kill(pid, signal.SIGKILL)
                self.process.wait()
        if self.process:
            self.output.close()
        if WRAP:
            self.fail_by_valgrind()
        if os.environ.get("KEEP"):
            print("# kept", self.folder)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- looking --

    def fail_by_valgrind(self):
        """What valgrind says of processes that have ended, leaks above all."""
        for path in glob.glob(os.path.join(self.folder, "valgrind.*")):
            with open(path, errors="replace") as f:
                text = f.read()
            if re.search(r"==\d+== +(at|by) 0x", text):
                raise AssertionError(f"{path}:\n{text[:8000]}")

    def log(self):
        text = ""
        for name in ("error.log", "output", *glob.glob("valgrind.*", root_dir=self.folder)):
            path = os.path.join(self.folder, name)
            if os.path.exists(path):
                with open(path, errors="replace") as f:
                    text += f.read()
        return text

    def remember(self):
        self.baseline = {pid: len(descriptors(pid)) for pid in self.workers()}

    def verify(self):
        """What must hold after every test."""
        if self.process.poll() is not None:
            raise AssertionError("nginx ended: " + self.log()[-2000:])
        wait_until(lambda: len(self.workers()) == self.pieces["workers"], what="all workers, and no old ones")
        for line in self.log().splitlines():
            if ALARM.search(line) and not any(re.search(p, line) for p in self.expected):
                raise AssertionError("alarm in the log: " + line)
        for pid in self.workers():
            if pid not in self.baseline:
                continue
            allowed = self.baseline[pid] + self.spare
            try:
                wait_until(lambda: len(descriptors(pid)) <= allowed, 10)
            except AssertionError:
                raise AssertionError(f"descriptors grew from {self.baseline[pid]}: {descriptors(pid)}") from None

    # -- talking --

    def connect(self, timeout=30):
        s = socket.create_connection(("127.0.0.1", self.port), timeout * SLOW)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def request(self, method, path, body=None, headers=None, connection=None):
        c = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60 * SLOW)
        c.request(method, path, body, headers or {})
        reply = Reply(c.getresponse())
        if not connection:
            c.close()
        return reply

    def get(self, path, **headers):
        return self.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def generate(self, *tasks, path="/generate", connection=None, headers=None):
        return self.request("POST", path, json.dumps(list(tasks)),
                            {"Content-Type": "application/json", **(headers or {})}, connection)


class Reply:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()
        self.version = response.version

    def json(self):
        return json.loads(self.body)


def task(**members):
    """A small valid task; members replace or, when None, remove."""
    whole = {"taskType": "imageInference", "taskUUID": str(uuid.uuid4()), "model": MODEL, "positivePrompt": "a fox",
             "width": 128, "height": 128, "steps": 1, "seed": 7, "outputType": "base64Data", "outputFormat": "PNG"}
    whole.update(members)
    return {k: v for k, v in whole.items() if v is not None}


def picture(item, server=None):
    """The bytes of a result item's picture."""
    if "imageBase64Data" in item:
        return base64.b64decode(item["imageBase64Data"], validate=True)
    if "imageDataURI" in item:
        kind, data = item["imageDataURI"].split(",", 1)
        assert re.fullmatch(r"data:image/(png|jpeg|webp);base64", kind), kind
        return base64.b64decode(data, validate=True)
    path = item["imageURL"].split("/", 3)[3]
    reply = server.get("/" + path)
    assert reply.status == 200, reply.status
    return reply.body


def png(width=160, height=128, alpha=False):
    """A grey picture; with alpha its left half is transparent."""
    pixel = b"\x5a\x5a\x5a"
    row = b"\0" + (pixel + b"\0") * (width // 2) + (pixel + b"\xff") * (width - width // 2) if alpha else \
        b"\0" + pixel * width

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    head = struct.pack(">IIBBBBB", width, height, 8, 6 if alpha else 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row * height, 0))
            + chunk(b"IEND", b""))


def kind(data):
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def http_bytes(tasks, path="/generate", extra=""):
    """A request as it goes over the wire."""
    body = json.dumps(tasks).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{extra}"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def read_reply(file):
    """One HTTP reply with a length or with chunks from a buffered reader: (status, headers, body)."""
    status = int(file.readline().split()[1])
    headers = {}
    while True:
        line = file.readline().strip()
        if not line:
            break
        name, value = line.decode().split(":", 1)
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while True:
            size = int(file.readline(), 16)
            body += file.read(size)
            file.readline()
            if not size:
                break
    else:
        body = file.read(int(headers.get("content-length", 0)))
    return status, headers, body


def reset(s):
    """Closes with RST instead of FIN."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


class Beside:
    """A client with light requests, one after another, while something heavy goes on; each must be answered."""

    def __init__(self, server):
        self.server, self.times, self.failure = server, [], None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.over.is_set() or not self.times:
                with self.server.connect() as s, s.makefile("rb") as f:
                    began = time.monotonic()
                    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    if read_reply(f)[::2] != (200, b"light\n"):
                        raise AssertionError("a light request failed")
                    self.times.append(time.monotonic() - began)
        except BaseException as e:
            self.failure = e

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        if self.failure:
            raise self.failure

    def report(self, what):
        times = sorted(self.times)
        print(f"# {len(times)} light requests beside {what}: median {times[len(times) // 2] * 1e3:.1f} ms, "
              f"slowest {times[-1] * 1e3:.1f} ms")


class ServerCase(unittest.TestCase):
    """Tests that share one server; each ends with its verification."""

    options = {}

    @classmethod
    def setUpClass(cls):
        cls.server = Nginx(**cls.options)
        try:
            cls.server.start()
        except BaseException:
            cls.server.stop()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def tearDown(self):
        self.server.verify()

    def assertError(self, reply, status, code):
        self.assertEqual(reply.status, status, reply.body[:500])
        self.assertEqual(reply.headers["Content-Type"], "application/json")
        self.assertEqual(reply.headers["Cache-Control"], "no-store")
        self.assertTrue(reply.headers["X-Request-Id"])
        body = reply.json()
        self.assertEqual(body["errors"][0]["code"], code)
        self.assertTrue(body["errors"][0]["message"])
        self.assertEqual(body["error"], body["errors"][0])
        return body

    def assertPictures(self, reply, count=1):
        self.assertEqual(reply.status, 200, reply.body[:500])
        data = reply.json()["data"]
        self.assertEqual(len(data), count)
        for item in data:
            self.assertIsNotNone(kind(picture(item, self.server)))
        return data
