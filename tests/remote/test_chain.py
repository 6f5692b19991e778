"""One Reverie generates through another: nginx and reveried as they are run, each the client of the next."""
import base64
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../hosts/nginx")]
import harness  # noqa: E402
from certificates import authority, certificate  # noqa: E402
from harness import Daemon, Nginx, wait_until  # noqa: E402

REVERIE = os.path.join(harness.BUILD, "reverie")
V1 = "location /v1/ { reverie openai; client_max_body_size 64m; }"
SMALL = ("--width", "128", "--height", "192", "--steps", "2", "--seed", "77", "--models", harness.CARDS,
         "--model", harness.MODEL)


class Chain(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="chain-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def daemon(self, *options, executor="stub"):
        d = Daemon(*options, executor=executor)
        self.addCleanup(d.stop)
        return d.start()

    def nginx(self, daemon, **pieces):
        server = Nginx(http=f"reverie_daemon unix:{daemon.socket};", results=daemon.results,
                       locations=V1, **pieces)
        self.addCleanup(server.stop)
        return server.start()

    def reverie(self, *words, **env):
        return subprocess.run([REVERIE, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=120 * harness.SLOW, env=dict(os.environ, **env))

    def picture(self, name, *words):
        run = self.reverie("generate", "a heron", "-o", self.path(name), *SMALL, *words)
        self.assertEqual(run.returncode, 0, run.stderr)
        with open(self.path(name), "rb") as f:
            return f.read()


class Remote(Chain):
    """reverie generate --remote, in all its forms, is the local run."""

    def setUp(self):
        super().setUp()
        self.server = self.nginx(self.daemon())

    def lines(self):
        with open(os.path.join(self.server.folder, "access.log")) as f:
            return [line for line in f if '"POST ' in line]

    def test_same_pictures(self):
        url = f"http://127.0.0.1:{self.server.port}"
        forms = {"/generate": "/generate", "": "/generate", "/v1": "/v1/images/generations",
                 "/v1/": "/v1/images/generations", "/v1/images/generations": "/v1/images/generations"}
        for ext in ("png", "jpg", "webp"):
            here = self.picture("here." + ext, "--stub")
            for form, path in forms.items():
                with self.subTest(form=form, ext=ext):
                    seen = len(self.lines())
                    self.assertEqual(self.picture("there." + ext, "--remote", url + form), here)
                    wait_until(lambda n=seen: len(self.lines()) > n, what="the request in the log")
                    self.assertIn(f'"POST {path}', self.lines()[-1])
        self.server.verify()

    def test_several_pictures(self):
        url = f"http://127.0.0.1:{self.server.port}/v1"
        for name, where in (("here", ("--stub",)), ("there", ("--remote", url))):
            run = self.reverie("generate", "a heron", "-o", self.path(name + ".png"), *SMALL, "--number", "3", *where)
            self.assertEqual(run.returncode, 0, run.stderr)
        for i in (1, 2, 3):
            with open(self.path(f"here-{i}.png"), "rb") as a, open(self.path(f"there-{i}.png"), "rb") as b:
                self.assertEqual(a.read(), b.read())

    def test_errors_keep_their_parameter(self):
        run = self.reverie("generate", "stub:fail=contentPolicyViolation a heron", "-o", self.path("x.png"), *SMALL, "--remote",
                           f"http://127.0.0.1:{self.server.port}/v1")
        self.assertEqual(run.returncode, 1)
        self.assertIn("Reverie: ", run.stderr)
        self.assertFalse(os.path.exists(self.path("x.png")))


class Silent:
    """A TLS server that counts the bytes of requests that reach it."""

    def __init__(self, certificate, key):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.socket.getsockname()[1]}/v1"
        self.connections = self.received = 0
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            peer.settimeout(5)
            try:
                with self.context.wrap_socket(peer, server_side=True) as s:
                    self.received += len(s.recv(65536))
            except (OSError, ssl.SSLError):
                peer.close()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(10)


class Secure(Chain):
    """The second server speaks TLS, with a certificate of an authority that only ca_file names."""

    def setUp(self):
        super().setUp()
        authority(self.folder, "ours")
        certificate(self.folder, "server", "ours")

    def first(self, url):
        """nginx and reveried whose card leads to url."""
        cards = self.path("cards")
        os.makedirs(cards, exist_ok=True)
        with open(os.path.join(cards, "card.json"), "w") as f:
            json.dump({"id": "test:1@1", "name": "chain", "family": "hidream", "parameters": {"CFGScale": {"default": 0}},
                       "executors": [{"name": "reverie", "url": url, "model": harness.MODEL}]}, f)
        daemon = self.daemon("--models", cards, "--ca-file", self.path("ours.crt"), "--service-pause-ms", "20")
        return daemon, self.nginx(daemon, template=Nginx.template.replace("{cards}", cards))

    def ask(self, server, **more):
        reply = server.request("POST", "/v1/images/generations", json.dumps(dict(
            {"model": "test:1@1", "prompt": "a heron", "size": "128x192", "steps": 2, "seed": 77,
             "output_format": "png", "response_format": "b64_json"}, **more)), {"Content-Type": "application/json"})
        return reply.status, reply.json()

    def test_one_generates_through_another(self):
        port = harness.free_port()
        second = self.nginx(self.daemon(), server=f"listen 127.0.0.1:{port} ssl; ssl_certificate "
                            f"{self.path('server.crt')}; ssl_certificate_key {self.path('server.key')};")
        daemon, first = self.first(f"https://127.0.0.1:{port}/v1")
        status, through = self.ask(first)
        self.assertEqual(status, 200, through)
        status, direct = self.ask(second, model=harness.MODEL)
        self.assertEqual(status, 200, direct)
        self.assertEqual(through["data"][0]["seed"], 77)
        self.assertEqual(pixels(through), pixels(direct))
        self.assertEqual((through["metadata"]["provider"], through["metadata"]["attempts"]), ("reverie", 1))
        wait_until(lambda: "executor=reverie attempts=1 " in daemon.messages(), what="the daemon's line")
        first.verify()
        second.verify()

    def test_bad_certificates_get_nothing(self):
        authority(self.folder, "strangers")
        certificate(self.folder, "strange", "strangers")
        certificate(self.folder, "other", "ours", "DNS:other.example")
        for name in ("strange", "other"):
            with self.subTest(certificate=name):
                silent = Silent(self.path(name + ".crt"), self.path(name + ".key"))
                self.addCleanup(silent.close)
                _, first = self.first(silent.url)
                status, reply = self.ask(first)
                self.assertGreaterEqual(status, 500, reply)
                self.assertIn("certificate", reply["error"]["message"].lower())
                self.assertGreater(silent.connections, 0)
                self.assertEqual(silent.received, 0)


def pixels(reply):
    """The picture without its text chunks."""
    data = base64.b64decode(reply["data"][0]["b64_json"], validate=True)
    at, kept = 8, []
    while at < len(data):
        size, kind = int.from_bytes(data[at:at + 4], "big"), data[at + 4:at + 8]
        if kind in (b"IHDR", b"IDAT"):
            kept.append(data[at + 8:at + 8 + size])
        at += 12 + size
    return kept


if __name__ == "__main__":
    unittest.main()
