"""What the attacks are made on: a real nginx and real reverieds in a network without a way out, and hands to attack
them with.  Everything of ours talks through Unix sockets, so every TCP connection that is tried is the attack's."""
import base64
import json
import os
import re
import shutil
import socket
import struct
import zlib

import harness
import netbox
from harness import task

SECRET_FILE = "this-file-is-nobody's-business"
GENERATE = "client_max_body_size 2m; client_body_timeout 1s;"


def png(width, height, data=None, extra=b""):
    """A PNG file whose header says what it likes; data: compressed rows."""
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    if data is None:
        data = zlib.compress((b"\0" + bytes(3 * min(width, 64))) * min(height, 64), 9)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + extra +
            chunk(b"IDAT", data) + chunk(b"IEND", b"")), chunk


def png_file(*args, **more):
    return png(*args, **more)[0]


def uri(data, kind="png"):
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()


SMALL = png_file(16, 16)


class Lab:
    """reveried with the stub behind nginx, one that may fetch from cdn.test, and one with the engine for pictures."""

    NAMES = {
        "inner.test": [["10.0.0.5"]],
        "loop.test": [["127.0.0.1"]],
        "zero.test": [["0.0.0.0"]],
        "meta.test": [["169.254.169.254"]],
        "six.test": [["::1"]],
        "unique.test": [["fd00:ec2::254"]],
        "mapped.test": [["::ffff:127.0.0.1"]],
        "nat.test": [["64:ff9b::7f00:1"]],
        "mixed.test": [["1.1.1.1", "127.0.0.1", "::1"]],
        "rebind.test": [["1.1.1.1"], ["127.0.0.1"]],
        "cdn.test": [["127.0.0.2"]],
        "own.test": [[netbox.OUTER]],
    }

    def __init__(self):
        self.folder = netbox.temporary()
        self.to_stop = []
        try:
            self.open()
        except BaseException:
            self.close()
            raise

    def start(self, server):
        self.to_stop.insert(0, server.stop)
        return server.start()

    def daemon_with(self, *options, **more):
        return self.start(harness.Daemon(*options, **more))

    def open(self):
        netbox.enter(self.folder)
        self.names = netbox.Names(self.NAMES)
        self.to_stop.append(self.names.close)
        self.victims = netbox.Victims()
        self.to_stop.append(self.victims.close)
        common = ["--fetch-timeout", "3", "--fetch-size", "1000000"]
        self.daemon = self.daemon_with(*common)
        self.open_daemon = self.daemon_with("--fetch-allow", "cdn.test", *common)
        self.loose_daemon = self.daemon_with("--fetch-allow", "127.0.0.0/8 10.0.0.0/8 ::1", *common)
        self.engine = self.daemon_with("--model", os.path.join(harness.CARDS, "reverie-demo.json"), "--threads", "2",
                                       executor="auto")
        self.daemons = [self.daemon, self.open_daemon, self.loose_daemon, self.engine]
        with open(os.path.join(self.daemon.folder, "secret.png"), "w") as f:
            f.write(SECRET_FILE)
        location = "location = /%s { reverie runware; reverie_daemon unix:%s; " + GENERATE + " }\n"
        self.nginx = self.start(harness.Nginx(
            server="listen unix:{dir}/http; server_name good.example; client_header_timeout 1s;", generate=GENERATE,
            http=f"reverie_daemon unix:{self.daemon.socket}; reverie_max_tasks 20; large_client_header_buffers 4 8k;",
            results=self.daemon.results,
            locations=location % ("cdn", self.open_daemon.socket) + location % ("loose", self.loose_daemon.socket) +
            location % ("engine", self.engine.socket)))
        self.path = os.path.join(self.nginx.folder, "http")
        # The engine loads its model before anybody looks at its memory.
        assert self.task(path="/engine", steps=1).startswith("200"), self.last

    def close(self):
        for stop in self.to_stop:
            stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what can be seen --

    def ran(self):
        """Tasks that ended with pictures, in all reverieds."""
        return sum(self.health(d)["tasks"]["done"] for d in self.daemons)

    @staticmethod
    def health(daemon):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(daemon.socket)
            s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return json.loads(s.makefile("rb").read().split(b"\r\n\r\n", 1)[1])

    def hits(self):
        """Visits that nobody allowed."""
        return [h for h in self.victims.hits if not h.startswith("127.0.0.2:")]

    def memory(self):
        """The most memory that any process here has ever had, MiB."""
        pids = [d.process.pid for d in self.daemons] + self.nginx.workers()
        most = 0
        for pid in pids:
            with open(f"/proc/{pid}/status") as f:
                most = max(most, int(re.search(r"VmHWM:\s*(\d+)", f.read())[1]) // 1024)
        return most

    def logs(self):
        with open(os.path.join(self.nginx.folder, "access.log"), errors="replace") as f:
            access = f.read()
        return self.nginx.log() + access + "".join(d.messages() for d in self.daemons)

    # -- hands --

    def raw(self, data, finish=False, more=()):
        """Sends bytes; what came back until the server closed or said all it had to."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20 * harness.SLOW)
            s.connect(self.path)
            got = b""
            try:
                s.sendall(data)
                for piece in more:
                    s.sendall(piece)
                if finish:
                    s.shutdown(socket.SHUT_WR)
                while True:
                    piece = s.recv(1 << 20)
                    if not piece:
                        break
                    got += piece
            except (BrokenPipeError, ConnectionResetError):
                pass
            self.last = got
            return got

    def statuses(self, data, **more):
        """ "400", or "200 400" for two replies, or "closed". """
        got = self.raw(data, **more)
        found = re.findall(rb"(?m)^HTTP/1\.[01] (\d\d\d) ", got)
        return b" ".join(found).decode() or "closed"

    def post(self, body, path="/generate", headers=""):
        """ "400 code" or "200". """
        body = body if isinstance(body, bytes) else body.encode()
        got = self.raw((f"POST {path} HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n"
                        f"Content-Type: application/json\r\n{headers}Content-Length: {len(body)}\r\n\r\n").encode() +
                       body)
        return self.summary(got)

    @staticmethod
    def summary(got):
        head, _, body = got.partition(b"\r\n\r\n")
        found = re.match(rb"HTTP/1\.1 (\d+)", head)
        if not found:
            return "closed"
        if b"chunked" in head:
            body = b"".join(re.findall(rb"(?s)[0-9a-f]+\r\n(.*?)\r\n", body))
        try:
            errors = json.loads(body).get("errors")
        except (ValueError, AttributeError):
            errors = None
        return found[1].decode() + (" " + errors[0]["code"] if errors else "")

    def task(self, path="/generate", headers="", **members):
        members.setdefault("model", "reverie:1@1")
        return self.post(json.dumps([task(**members)]), path, headers)

    def seed(self, url, path="/generate", **members):
        return self.task(path, seedImage=url, **members)

    def webhook(self, url):
        """A task that ends well; its webhook has been given up when this returns."""
        before = self.health(self.daemon)["webhooks"]["dead"]
        reply = self.task(webhookURL=url)
        harness.wait_until(lambda: self.health(self.daemon)["webhooks"]["dead"] > before, what="a dead webhook")
        return reply

    def get(self, target):
        return self.statuses(b"GET " + target + b" HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n")

    def item(self):
        """The first result item of the last reply."""
        return json.loads(self.last.partition(b"\r\n\r\n")[2])["data"][0]

    def redirect(self, to, code=302):
        """A URL at cdn.test that leads there."""
        path = f"/{len(self.victims.pages)}.png"
        self.victims.pages[path] = (f"HTTP/1.1 {code} Found\r\nLocation: {to}\r\nContent-Length: 0\r\n"
                                    "Connection: close\r\n\r\n").encode()
        return "http://cdn.test" + path

    def page(self, answer):
        path = f"/{len(self.victims.pages)}.png"
        self.victims.pages[path] = answer
        return "http://cdn.test" + path

    # -- WebSocket --

    def websocket(self, *frames):
        """Opens a connection, sends the frames as they are; "101 CODE" by the close frame that comes back."""
        hello = (b"GET /generate HTTP/1.1\r\nHost: good.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        got = self.raw(hello, more=frames)
        head, _, rest = got.partition(b"\r\n\r\n")
        status = head[9:12].decode()
        while len(rest) >= 2:
            size, at = rest[1] & 127, 2
            if size == 126:
                size, at = struct.unpack(">H", rest[2:4])[0], 4
            if rest[0] & 15 == 8:
                return f"{status}, close {struct.unpack('>H', rest[at:at + 2])[0]}"
            rest = rest[at + size:]
        return f"{status}, closed"


def frame(payload, first=0x81, mask=True, length=None):
    """One WebSocket frame, as wrong as wanted."""
    size = len(payload) if length is None else length
    second = 0x80 if mask else 0
    head = (bytes([first, second | size]) if size < 126 else
            bytes([first, second | 126]) + struct.pack(">H", size) if size < 65536 else
            bytes([first, second | 127]) + struct.pack(">Q", size))
    if not mask:
        return head + payload
    key = b"\1\2\3\4"
    return head + key + bytes(b ^ key[i % 4] for i, b in enumerate(payload))
