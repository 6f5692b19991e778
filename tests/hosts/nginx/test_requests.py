"""One worker, the stub inside: what goes in, what comes out, and what must never come out."""
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import unittest

from harness import (CARDS, MODEL, Nginx, ServerCase, SLOW, http_bytes, kind, picture, read_reply, reset, task,
                     wait_until)

try:
    from PIL import Image
except ImportError:
    Image = None


class Pictures(ServerCase):
    def test_every_type_and_format(self):
        for form in ("PNG", "JPG", "WEBP"):
            for way in ("base64Data", "dataURI", "URL"):
                with self.subTest(form=form, way=way):
                    item, = self.assertPictures(self.server.generate(task(outputType=way, outputFormat=form)))
                    key = {"base64Data": "imageBase64Data", "dataURI": "imageDataURI", "URL": "imageURL"}[way]
                    self.assertIn(key, item)
                    data = picture(item, self.server)
                    self.assertEqual(kind(data), form)
                    if Image:
                        image = Image.open(io.BytesIO(data))
                        image.load()
                        self.assertEqual(image.size, (128, 128))

    def test_same_bytes_whatever_the_type(self):
        for form in ("PNG", "JPG", "WEBP"):
            found = {picture(self.assertPictures(self.server.generate(task(outputType=w, outputFormat=form)))[0],
                             self.server) for w in ("base64Data", "dataURI", "URL", "base64Data")}
            self.assertEqual(len(found), 1, form)

    def test_many_tasks_in_order(self):
        tasks = [task(seed=n, numberResults=1 + n % 2) for n in range(10)]
        data = self.assertPictures(self.server.generate(*tasks), 15)
        wanted = [t["taskUUID"] for t in tasks for _ in range(t["numberResults"])]
        self.assertEqual([item["taskUUID"] for item in data], wanted)
        self.assertEqual([d["seed"] for d in data[:3]], [0, 1, 2])

    def test_good_and_bad_together(self):
        good, bad = task(), task(width=17)
        reply = self.server.generate(bad, good)
        self.assertEqual(reply.status, 200)
        body = reply.json()
        self.assertEqual([d["taskUUID"] for d in body["data"]], [good["taskUUID"]])
        self.assertTrue(all(e["taskUUID"] == bad["taskUUID"] for e in body["errors"]))
        self.assertNotIn("error", body)

    def test_a_task_that_fails_while_running(self):
        good, bad = task(), task(positivePrompt="stub:fail=serverError")
        body = self.server.generate(bad, good).json()
        self.assertEqual(len(body["data"]), 1)
        self.assertEqual(body["errors"][0]["taskUUID"], bad["taskUUID"])
        reply = self.server.generate(bad)
        self.assertError(reply, 500, "internalServerError")

    def test_seed_of_twenty_digits_survives(self):
        item, = self.assertPictures(self.server.generate(task(seed=9223372036854775809)))
        self.assertEqual(item["seed"], 9223372036854775809)

    def test_ping(self):
        reply = self.server.generate({"taskType": "ping", "ping": True})
        self.assertEqual(reply.json(), {"data": [{"taskType": "ping", "pong": True}]})

    def test_many_clients_at_once(self):
        failed = []

        def one(n):
            try:
                for k in range(4):
                    self.assertPictures(self.server.generate(task(seed=100 * n + k)))
            except BaseException as e:
                failed.append(e)
        threads = [threading.Thread(target=one, args=(n,)) for n in range(25)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertFalse(failed, failed[:1])


class Refusals(ServerCase):
    def test_bodies_that_are_no_tasks(self):
        for body in ("", " ", "{", "[]", "null", "3", '"x"', "[{]", "\xff", "[" * 5000, "{}", "[{}]", "[[]]",
                     '[{"taskType":"dance"}]', "\0" * 100):
            with self.subTest(body=body[:20]):
                reply = self.server.request("POST", "/generate", body.encode("latin-1"),
                                            {"Content-Type": "application/json"})
                self.assertEqual(reply.status, 400)
                self.assertTrue(reply.json()["errors"])

    def test_all_problems_at_once(self):
        reply = self.server.generate(task(width=17, height=5000, steps=0, positivePrompt="", outputFormat="GIF"))
        self.assertEqual(reply.status, 400)
        named = {e["parameter"] if isinstance(e.get("parameter"), str) else None for e in reply.json()["errors"]}
        self.assertLessEqual({"width", "height", "steps", "positivePrompt", "outputFormat"}, named)

    def test_unknown_model(self):
        self.assertError(self.server.generate(task(model="nobody:1@1")), 404, "modelNotFound")

    def test_methods(self):
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
            with self.subTest(method):
                reply = self.server.request(method, "/generate", b"[]" if method != "GET" else None)
                self.assertError(reply, 405, "unsupportedTaskType")
                self.assertEqual(reply.headers["Allow"], "POST")
                self.assertIn("POST", reply.json()["errors"][0]["message"])

    def test_head(self):
        reply = self.server.request("HEAD", "/generate")
        self.assertEqual((reply.status, reply.body), (405, b""))
        self.assertGreater(int(reply.headers["Content-Length"]), 0)

    def test_content_types(self):
        body = json.dumps([task()])
        for accepted in ("application/json", "application/json; charset=utf-8", "Application/JSON;x=y", "text/plain",
                         None):
            with self.subTest(accepted):
                headers = {"Content-Type": accepted} if accepted else {}
                self.assertPictures(self.server.request("POST", "/generate", body, headers))
        for refused in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx",
                        "text/html"):
            with self.subTest(refused):
                reply = self.server.request("POST", "/generate", body, {"Content-Type": refused})
                self.assertError(reply, 415, "unsupportedMediaType")

    def test_content_encodings(self):
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        self.assertError(self.server.request("POST", "/generate", b"\x1f\x8b", headers), 415, "unsupportedMediaType")
        headers["Content-Encoding"] = "identity"
        self.assertPictures(self.server.request("POST", "/generate", json.dumps([task()]), headers))

    def test_connection_is_kept(self):
        c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30 * SLOW)
        c.connect()
        first = c.sock
        self.assertPictures(self.server.generate(task(), connection=c))
        self.assertEqual(self.server.generate(task(width=1), connection=c).status, 400)
        self.assertEqual(self.server.request("GET", "/generate", connection=c).status, 405)
        self.assertEqual(self.server.request("GET", "/images/none.png", connection=c).status, 404)
        self.assertPictures(self.server.generate(task(), connection=c))
        self.assertIs(c.sock, first)
        c.close()

    def test_request_ids_differ(self):
        ids = {self.server.generate(task(width=1)).headers["X-Request-Id"] for _ in range(5)}
        self.assertEqual(len(ids), 5)


class Bodies(ServerCase):
    """client_body_buffer_size is 16k, client_max_body_size 2m."""

    def padded(self, size):
        text = json.dumps([task()])
        return (text[:-1] + " " * (size - len(text)) + "]").encode()

    def post(self, body, **headers):
        return self.server.request("POST", "/generate", body, {"Content-Type": "application/json", **headers})

    def test_in_one_buffer_and_in_a_file(self):
        for size in (1000, 16384, 16385, 40000, 300000, 2 << 20):
            with self.subTest(size):
                self.assertPictures(self.post(self.padded(size)))

    def test_in_two_buffers(self):
        body = self.padded(12000)
        head = (f"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n").encode()
        with self.server.connect() as s, s.makefile("rb") as f:
            s.sendall(head + body[:700])
            wait_until(lambda: True)
            time.sleep(0.05)
            s.sendall(body[700:])
            self.assertEqual(read_reply(f)[0], 200)

    def test_chunked(self):
        for size in (900, 30000, 500000):
            with self.subTest(size):
                body = self.padded(size)
                pieces = iter([body[k:k + 7777] for k in range(0, size, 7777)])
                self.assertPictures(self.post(pieces))

    def test_chunked_empty(self):
        reply = self.post(iter([]))
        self.assertError(reply, 400, "invalidRequestBody")

    def test_damaged_chunks(self):
        with self.server.connect() as s, s.makefile("rb") as f:
            s.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
            status, headers, body = read_reply(f)
        self.assertEqual(status, 400)
        self.assertEqual(json.loads(body)["errors"][0]["code"], "invalidRequestBody")

    def test_byte_by_byte(self):
        data = http_bytes([task()])
        with self.server.connect() as s, s.makefile("rb") as f:
            for k in range(len(data)):
                s.sendall(data[k:k + 1])
            self.assertEqual(read_reply(f)[0], 200)

    def test_too_large(self):
        for headers in ({}, {"Expect": "100-continue"}):
            reply = self.post(b"[" + b" " * ((2 << 20) + 10), **headers)
            body = self.assertError(reply, 413, "maxRequestSize")
            self.assertIn("2097152", body["errors"][0]["message"])
            self.assertIn("client_max_body_size", body["errors"][0]["message"])

    def test_too_large_chunked(self):
        def pieces():
            for _ in range(400):
                yield b" " * 8192
        try:
            reply = self.post(pieces())
        except (BrokenPipeError, ConnectionResetError):
            return  # the answer came before the end of the body
        self.assertError(reply, 413, "maxRequestSize")

    def test_expect_continue(self):
        data = http_bytes([task()], extra="Expect: 100-continue\r\n")
        head, body = data.split(b"\r\n\r\n", 1)
        with self.server.connect() as s, s.makefile("rb") as f:
            s.sendall(head + b"\r\n\r\n")
            self.assertIn(b"100", f.readline())
            f.readline()
            s.sendall(body)
            self.assertEqual(read_reply(f)[0], 200)

    def test_many_tasks_up_to_the_limit(self):
        self.assertPictures(self.server.generate(*[task(seed=n) for n in range(20)]), 20)
        reply = self.server.generate(*[task(seed=n) for n in range(21)])
        self.assertError(reply, 400, "arrayTooLarge")


class Protocol(ServerCase):
    options = {"server": "http2 on;", "main": "", "locations": """
        location /ssi.html { ssi on; root {dir}/html; }
        location /mirrored { mirror /generate; mirror_request_body on; root {dir}/html; try_files /ssi.html =404; }
    """}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with open(os.path.join(cls.server.folder, "html", "ssi.html"), "w") as f:
            f.write('<!--#include virtual="/healthz" -->|<!--#include virtual="/generate" -->|end')

    def test_http_1_0(self):
        body = json.dumps([task()]).encode()
        with self.server.connect() as s, s.makefile("rb") as f:
            s.sendall(b"POST /generate HTTP/1.0\r\nContent-Type: application/json\r\n"
                      b"Content-Length: %d\r\n\r\n" % len(body) + body)
            status, headers, body = read_reply(f)
            self.assertEqual(f.read(), b"")  # closed by the server
        self.assertEqual(status, 200)
        self.assertEqual(len(json.loads(body)["data"]), 1)

    def test_pipelined(self):
        """The second waits behind the first, which is slower."""
        slow, fast = task(width=512, height=512), task(width=1)
        with self.server.connect() as s, s.makefile("rb") as f:
            s.sendall(http_bytes([slow]) + http_bytes([fast]) + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" +
                      http_bytes([slow]))
            first, second, third, fourth = (read_reply(f) for _ in range(4))
        self.assertEqual(json.loads(first[2])["data"][0]["taskUUID"], slow["taskUUID"])
        self.assertEqual(json.loads(second[2])["errors"][0]["taskUUID"], fast["taskUUID"])
        self.assertEqual((third[0], fourth[0]), (200, 200))

    def test_slow_reader_of_a_large_reply(self):
        tasks = [task(width=768, height=768, seed=n) for n in range(8)]
        with self.server.connect(60) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            s.sendall(http_bytes(tasks, extra="Connection: close\r\n"))
            got = bytearray()
            while True:
                piece = s.recv(65536)
                if not piece:
                    break
                got += piece
                if len(got) < 500000:
                    time.sleep(0.002)
        body = json.loads(bytes(got).split(b"\r\n\r\n", 1)[1])
        self.assertEqual(len(body["data"]), 8)

    def curl(self, *arguments, **options):
        return subprocess.run(["curl", "-sS", "--http2-prior-knowledge", *arguments], capture_output=True,
                              timeout=60 * SLOW, **options)

    def test_http_2(self):
        run = self.curl("-w", "%{http_version} %{http_code}", "-H", "Content-Type: application/json", "-d",
                        json.dumps([task()]), f"http://127.0.0.1:{self.server.port}/generate")
        self.assertTrue(run.stdout.endswith(b"2 200"), run.stdout[-100:] + run.stderr)
        run = self.curl("-w", "%{http_version} %{http_code}", "-d", "[]", "-H", "Content-Type: application/json",
                        f"http://127.0.0.1:{self.server.port}/generate")
        self.assertTrue(run.stdout.endswith(b"2 400"), run.stdout)

    def test_http_2_client_leaves(self):
        """More clients than the stub has threads ask for what never ends, and leave."""
        clients = [subprocess.Popen(["curl", "-sS", "--http2-prior-knowledge", "-d",
                                     json.dumps([task(positivePrompt="stub:hang")]), "-H",
                                     "Content-Type: application/json",
                                     f"http://127.0.0.1:{self.server.port}/generate"],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(6)]
        time.sleep(0.3)
        for c in clients:
            c.kill()
            c.wait()
        self.assertPictures(self.server.generate(task()))

    def test_http_2_stream_resets(self):
        """curl's own time limit resets the stream and keeps nothing."""
        run = self.curl("--max-time", "0.3", "-d", json.dumps([task(positivePrompt="stub:hang")]), "-H",
                        "Content-Type: application/json", f"http://127.0.0.1:{self.server.port}/generate")
        self.assertEqual(run.returncode, 28)
        self.assertPictures(self.server.generate(task()))

    def test_subrequests(self):
        reply = self.server.get("/ssi.html")
        self.assertEqual(reply.status, 200)
        self.assertIn(b'"status":"ok"', reply.body)
        self.assertTrue(reply.body.endswith(b"|end"), reply.body)

    def test_mirrored_body(self):
        reply = self.server.generate(task(), path="/mirrored")
        self.assertIn(reply.status, (200, 405))
        self.assertPictures(self.server.generate(task()))


class Lua(ServerCase):
    """A task as a Lua subrequest, where that module is installed."""

    options = {"main": "load_module {modules}/ndk_http_module.so; load_module {modules}/ngx_http_lua_module.so;",
               "locations": """
        location /by-lua {
            lua_need_request_body on;
            content_by_lua_block {
                local r = ngx.location.capture("/generate", {method = ngx.HTTP_POST, body = ngx.var.request_body})
                ngx.status = r.status
                ngx.print(#r.body, " ", r.header["Content-Type"])
            }
        }
        """}

    @classmethod
    def setUpClass(cls):
        if not os.path.exists("/usr/lib/nginx/modules/ngx_http_lua_module.so"):
            raise unittest.SkipTest("the Lua module of nginx is not installed")
        super().setUpClass()

    def test_capture(self):
        for body, status in ([task()], 200), ([task(width=1)], 400):
            reply = self.server.generate(*body, path="/by-lua")
            self.assertEqual(reply.status, status, reply.body)
            self.assertIn(b"application/json", reply.body)

    def test_client_of_a_capture_leaves(self):
        for _ in range(6):
            s = self.server.connect()
            s.sendall(http_bytes([task(positivePrompt="stub:hang")], "/by-lua"))
            time.sleep(0.05)
            reset(s)
        self.assertPictures(self.server.generate(task()))


class Leaving(ServerCase):
    """Clients that go away, politely and not, in every phase.

    The stub has four threads: if one hanging task were not cancelled by its client's leaving, later ones would wait.
    """

    options = {"locations": """
        location = /patient { reverie runware; reverie_ignore_client_abort on; reverie_sync_timeout 2s; }
        location = /hurried { reverie runware; reverie_sync_timeout 300ms; }
    """}

    ways = (reset, socket.socket.close)

    def all_free(self):
        """Four tasks at once prove that no thread of the stub is still busy."""
        self.assertPictures(self.server.generate(*[task(seed=n) for n in range(8)]), 8)

    def test_in_the_header(self):
        for close in self.ways:
            s = self.server.connect()
            s.sendall(b"POST /generate HTTP/1.1\r\nHos")
            close(s)
        self.all_free()

    def test_in_the_body(self):
        for close in self.ways:
            for size in (300, 30000):
                s = self.server.connect()
                s.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                          b"Content-Length: 100000\r\n\r\n" + b"[" + b" " * size)
                time.sleep(0.02)
                close(s)
        self.all_free()

    def test_while_it_runs(self):
        for close in self.ways:
            open_ones = []
            for _ in range(12):  # some run, some wait in the queue
                s = self.server.connect()
                s.sendall(http_bytes([task(positivePrompt="stub:hang"), task()]))
                open_ones.append(s)
            time.sleep(0.2)
            for s in open_ones:
                close(s)
            self.all_free()

    def test_at_random_moments(self):
        for n in range(60):
            s = self.server.connect()
            s.sendall(http_bytes([task(steps=2, width=256, height=256)]))
            time.sleep(0.0007 * (n % 20))
            self.ways[n % 2](s)
        self.all_free()

    def test_while_the_reply_is_sent(self):
        for close in self.ways:
            s = self.server.connect(60)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.sendall(http_bytes([task(width=768, height=768, seed=n) for n in range(6)]))
            s.recv(1000)
            close(s)
        self.all_free()

    def test_half_closed(self):
        """A client that only stops sending counts as gone, as everywhere in nginx."""
        s = self.server.connect()
        s.sendall(http_bytes([task(positivePrompt="stub:hang")]))
        time.sleep(0.1)
        s.shutdown(socket.SHUT_WR)
        self.assertEqual(s.recv(100), b"")
        s.close()
        self.all_free()

    def test_pipelined_behind_a_hanging_one(self):
        s = self.server.connect()
        s.sendall(http_bytes([task(positivePrompt="stub:hang")]) + http_bytes([task()]))
        time.sleep(0.1)
        reset(s)
        self.all_free()

    def test_sync_timeout(self):
        for _ in range(5):
            reply = self.server.generate(task(positivePrompt="stub:hang"), path="/hurried")
            self.assertError(reply, 504, "providerTimeout")
        self.all_free()

    def test_sync_timeout_names_each_task(self):
        """Clients find the task by its taskUUID; one that could not run keeps its own reason."""
        tasks = [task(positivePrompt="stub:hang"), task(), task(steps=-1), task(positivePrompt="stub:hang")]
        body = self.assertError(self.server.generate(*tasks, path="/hurried"), 504, "providerTimeout")
        self.assertEqual([(e["taskType"], e["taskUUID"]) for e in body["errors"]],
                         [("imageInference", t["taskUUID"]) for t in tasks])
        codes = [e["code"] for e in body["errors"]]
        self.assertEqual([code == "providerTimeout" for code in codes], [True, True, False, True], codes)
        self.assertNotIn("data", body)
        self.all_free()

    def test_a_task_that_goes_on_without_its_client(self):
        """With reverie_ignore_client_abort only the time limit ends it."""
        s = self.server.connect()
        s.sendall(http_bytes([task(positivePrompt="stub:hang")], "/patient"))
        time.sleep(0.1)
        reset(s)
        wait_until(lambda: "cancelled by reverie_sync_timeout" in self.server.log(), 10)
        self.all_free()


class Results(ServerCase):
    def stored(self, **members):
        item, = self.assertPictures(self.server.generate(task(outputType="URL", **members)))
        return "/" + item["imageURL"].split("/", 3)[3]

    def test_headers(self):
        for form, mime in ("PNG", "image/png"), ("JPG", "image/jpeg"), ("WEBP", "image/webp"):
            path = self.stored(outputFormat=form)
            reply = self.server.get(path)
            self.assertEqual(reply.status, 200)
            self.assertEqual(reply.headers["Content-Type"], mime)
            self.assertEqual(reply.headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(reply.headers["Content-Security-Policy"], "default-src 'none'; sandbox")
            self.assertEqual(reply.headers["Cross-Origin-Resource-Policy"], "cross-origin")
            self.assertEqual(reply.headers["Access-Control-Allow-Origin"], "*")
            self.assertRegex(reply.headers["Cache-Control"], r"^public, max-age=\d+, immutable$")
            self.assertEqual(reply.headers["Content-Disposition"],
                             f'inline; filename="{os.path.basename(path)}"')
            self.assertTrue(reply.headers["X-Request-Id"])
            self.assertEqual(len(reply.headers.get_all("Cache-Control")), 1)
            self.assertEqual(int(reply.headers["Content-Length"]), len(reply.body))

    def test_ttl(self):
        age = int(self.server.get(self.stored(ttl=60)).headers["Cache-Control"].split("=")[1].split(",")[0])
        self.assertTrue(40 <= age <= 60, age)
        age = int(self.server.get(self.stored()).headers["Cache-Control"].split("=")[1].split(",")[0])
        self.assertTrue(604700 <= age <= 604800, age)

    def test_expired(self):
        name = os.path.basename(self.stored(outputFormat="PNG"))
        random = name.split("-")[0]
        for expiry, status in ("1", 410), (f"{int(time.time()) - 5:x}", 410), ("0", 200), \
                              (f"{int(time.time()) + 500:x}", 200):
            old = f"{random}-{expiry}.png"
            shutil.copy(os.path.join(self.server.results, name), os.path.join(self.server.results, old))
            reply = self.server.get("/images/" + old)
            self.assertEqual(reply.status, status)
            if status == 410:
                self.assertError(reply, 410, "imageExpired")
                os.remove(os.path.join(self.server.results, old))
                self.assertError(self.server.get("/images/" + old), 410, "imageExpired")  # known by its name
        self.assertIn("max-age=31536000", self.server.get(f"/images/{random}-0.png").headers["Cache-Control"])

    def test_names_that_are_none(self):
        with open(os.path.join(self.server.results, "secret.png"), "w") as f:
            f.write("secret")
        os.makedirs(os.path.join(self.server.results, "a" * 26 + "-0.png"), exist_ok=True)
        good = "a" * 26
        for name in ("../nginx.conf", "%2e%2e/nginx.conf"):  # outside the location: the light page
            self.assertEqual(self.server.get("/images/" + name).body, b"light\n")
        for name in ("", "secret.png", "..%2fnginx.conf%00", f"{good}.png", f"{good}-.png",
                     f"{good}-0", f"{good}-0.", f"{good}-0.gif", f"{good}-0.png.png", f"{good}-0.pngx",
                     f"{good}-g.png", f"{good[1:]}-0.png", f"{good}a-0.png", f"{good}-{'f' * 16}.png",
                     f"{good.upper()}-0.png", f"x/{good}-0.png", f"{good}-0.png/", f"{good}-0.png%00", f"1{good[1:]}-0.png",
                     f"{good}-0.PNG", "b" * 26 + "-0.png", good + "-0.png"):
            with self.subTest(name):
                reply = self.server.get("/images/" + name)
                self.assertIn(reply.status, (400, 404))
                self.assertNotIn(b"secret", reply.body)
                if reply.status == 404:
                    self.assertError(reply, 404, "imageNotFound")

    def test_methods(self):
        path = self.stored()
        head = self.server.request("HEAD", path)
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(head.headers["Content-Length"], str(len(self.server.get(path).body)))
        reply = self.server.request("POST", path, b"x")
        self.assertError(reply, 405, "unsupportedTaskType")
        self.assertEqual(reply.headers["Allow"], "GET, HEAD")

    def test_ranges(self):
        path = self.stored()
        whole = self.server.get(path)
        part = self.server.get(path, Range="bytes=10-19")
        self.assertEqual((part.status, part.body), (206, whole.body[10:20]))
        wrong = self.server.get(path, Range="bytes=9999999-")
        self.assertError(wrong, 416, "invalidRequestBody")
        self.assertEqual(len(wrong.headers.get_all("X-Request-Id")), 1)
        self.assertEqual(len(wrong.headers.get_all("Cache-Control")), 1)

    def test_not_modified(self):
        path = self.stored()
        etag = self.server.get(path).headers["ETag"]
        self.assertEqual(self.server.get(path, If_None_Match=etag).status, 304)
        self.assertEqual(self.server.get(path, If_None_Match='"x"').status, 200)
        self.assertEqual(self.server.get(path, If_Match='"x"').status, 412)

    def test_nobody_plants_links(self):
        """The Host header is believed only when it names the server."""
        reply = self.server.generate(task(outputType="URL"), headers={"Host": "evil.example"})
        self.assertTrue(reply.json()["data"][0]["imageURL"].startswith(f"http://127.0.0.1:{self.server.port}/images/"))


class Names(ServerCase):
    options = {"server": "server_name pictures.example;", "locations": """
        location = /fixed { reverie runware; reverie_results_url https://cdn.example/p; }
        location = /variable { reverie runware; reverie_results_url http://$http_x_cdn/; }
    """}

    def url(self, path, **headers):
        reply = self.server.generate(task(outputType="URL"), path=path, headers=headers)
        return reply.json()["data"][0]["imageURL"]

    def test_where_pictures_are(self):
        port = self.server.port
        self.assertTrue(self.url("/generate", Host=f"pictures.example:{port}")
                        .startswith(f"http://pictures.example:{port}/images/"))
        self.assertTrue(self.url("/generate", Host="PICTURES.example")
                        .startswith(f"http://pictures.example:{port}/images/"))
        self.assertTrue(self.url("/generate", Host="other.example").startswith(f"http://127.0.0.1:{port}/images/"))
        self.assertRegex(self.url("/fixed"), r"^https://cdn\.example/p/[a-z2-7]{26}-")
        self.assertRegex(self.url("/variable", **{"X-CDN": "one.example"}), r"^http://one\.example/[a-z2-7]{26}-")


class Errors(ServerCase):
    """Pages nginx makes itself become JSON in our locations, and only there."""

    options = {"http": "reverie_executor stub; limit_req_zone $binary_remote_addr zone=z:1m rate=1r/m; "
                       "limit_req_status 429;",
               "locations": """
        location = /limited { reverie runware; limit_req zone=z; }
        location = /closed { reverie runware; deny all; }
        location = /locked { reverie runware; auth_basic pictures; auth_basic_user_file {dir}/users; }
        location = /busy { reverie runware; if ($arg_busy) { return 503; } }
        location = /teapot { reverie runware; if ($arg_busy) { return 418; } }
        location = /own-page { reverie runware; client_max_body_size 10; error_page 413 =413 /page; }
        location = /posts { reverie runware; limit_except POST { deny all; } }
        location = /page { return 413 "own page"; }
        location /other/ { root {dir}/html; }
    """}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with open(os.path.join(cls.server.folder, "users"), "w") as f:
            f.write("me:{PLAIN}secret\n")

    def test_too_many(self):
        replies = [self.server.generate(task(), path="/limited") for _ in range(3)]
        self.assertPictures(replies[0])
        self.assertError(replies[1], 429, "rateLimitExceeded")
        self.assertEqual(replies[1].headers["Retry-After"], "1")

    def test_forbidden(self):
        self.assertError(self.server.generate(task(), path="/closed"), 403, "forbidden")

    def test_unauthorized(self):
        reply = self.server.generate(task(), path="/locked")
        self.assertError(reply, 401, "invalidApiKey")
        self.assertIn("pictures", reply.headers["WWW-Authenticate"])
        self.assertPictures(self.server.generate(task(), path="/locked",
                                                 headers={"Authorization": "Basic bWU6c2VjcmV0"}))

    def test_returned(self):
        reply = self.server.generate(task(), path="/busy?busy=1")
        self.assertError(reply, 503, "serviceUnavailable")
        self.assertEqual(reply.headers["Retry-After"], "1")
        self.assertPictures(self.server.generate(task(), path="/busy"))
        self.assertError(self.server.generate(task(), path="/teapot?busy=1"), 418, "invalidRequestBody")

    def test_limit_except(self):
        self.assertPictures(self.server.generate(task(), path="/posts"))
        self.assertError(self.server.get("/posts"), 403, "forbidden")

    def test_own_pages_win(self):
        reply = self.server.generate(task(), path="/own-page")
        self.assertEqual((reply.status, reply.body), (413, b"own page"))

    def test_other_locations_keep_theirs(self):
        reply = self.server.get("/other/none")
        self.assertEqual(reply.status, 404)
        self.assertIn(b"<html>", reply.body)

    def test_head_of_an_error(self):
        reply = self.server.request("HEAD", "/closed")
        self.assertEqual((reply.status, reply.body), (403, b""))
        self.assertEqual(reply.headers["Content-Type"], "application/json")


class Two(ServerCase):
    """Two servers of one nginx with different settings."""

    options = {"locations": """
        location = /small { reverie runware; reverie_max_tasks 1; reverie_max_steps 3; reverie_strict off; }
        location = /fast-only { reverie runware; reverie_models hidream-i1-f*t nothing; }
        location = /no-model { reverie runware; reverie_models nobody:*; }
        location = /narrow { reverie runware; reverie_queue 1; }
        location = /short { reverie runware; reverie_results_ttl 100s; }
        """}

    def test_strictness(self):
        self.assertEqual(self.server.generate(task(colour="red")).status, 400)
        self.assertPictures(self.server.generate(task(colour="red"), path="/small"))

    def test_steps(self):
        self.assertPictures(self.server.generate(task(steps=4)))
        reply = self.server.generate(task(steps=4), path="/small")
        self.assertError(reply, 400, "invalidSteps")

    def test_tasks(self):
        self.assertError(self.server.generate(task(), task(), path="/small"), 400, "arrayTooLarge")
        self.assertPictures(self.server.generate(task(), path="/small"))

    def test_models(self):
        self.assertPictures(self.server.generate(task(), path="/fast-only"))
        self.assertPictures(self.server.generate(task(model="hidream-i1-fast"), path="/fast-only"))
        self.assertError(self.server.generate(task(model="runware:97@1"), path="/fast-only"), 404, "modelNotFound")
        self.assertPictures(self.server.generate(task(model="runware:97@1")))
        self.assertError(self.server.generate(task(), path="/no-model"), 404, "modelNotFound")

    def test_queue(self):
        body = self.server.generate(*[task(seed=n, width=512, height=512) for n in range(6)], path="/narrow").json()
        self.assertGreaterEqual(len(body["data"]), 1)
        self.assertEqual(body["errors"][0]["code"], "rateLimitExceeded")
        with self.server.connect() as s:
            s.sendall(http_bytes([task(positivePrompt="stub:hang")], "/narrow"))
            time.sleep(0.2)
            reply = self.server.generate(task(), path="/narrow")
            self.assertError(reply, 429, "rateLimitExceeded")
            self.assertGreaterEqual(int(reply.headers["Retry-After"]), 1)

    def test_ttl(self):
        item, = self.assertPictures(self.server.generate(task(outputType="URL"), path="/short"))
        left = int(item["imageURL"].rsplit("-", 1)[1].split(".")[0], 16) - time.time()
        self.assertTrue(60 < left <= 101, left)


class Light(ServerCase):
    """The worker never waits: other requests go on while pictures are made."""

    def test_static_requests_while_pictures_are_made(self):
        name = os.path.join(self.server.folder, "html")
        done, slowest, failed = [], [], []
        busy = [self.server.connect(120) for _ in range(4)]
        for s in busy:
            s.sendall(http_bytes([task(width=1024, height=1024, numberResults=2, steps=3)]))

        def get():
            try:
                started = time.monotonic()
                with self.server.connect() as s, s.makefile("rb") as f:
                    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    self.assertEqual(read_reply(f)[::2], (200, b"light\n"))
                slowest.append(time.monotonic() - started)
            except BaseException as e:
                failed.append(e)
        threads = [threading.Thread(target=get) for _ in range(200)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for s in busy:
            with s, s.makefile("rb") as f:
                done.append(read_reply(f)[0])
        self.assertFalse(failed, failed[:1])
        self.assertEqual((len(slowest), done), (200, [200] * 4))
        print(f"# 200 light requests beside 4 pictures: median {sorted(slowest)[100] * 1e3:.1f} ms, "
              f"slowest {max(slowest) * 1e3:.1f} ms")


class LargeBodies(ServerCase):
    """Parsed on threads: in one buffer, in a file, by clients that leave meanwhile."""
    options = {"main": "thread_pool reverie threads=2;", "workers": 1,
               "locations": "location = /buffered { reverie runware; client_body_buffer_size 4m; }"}

    def body(self, size, **members):
        return json.dumps([task(**members)]) + " " * size

    def send(self, path, body):
        return self.server.request("POST", path, body, {"Content-Type": "application/json"})

    def test_pictures(self):
        for path in ("/generate", "/buffered"):
            for size in (300_000, 1_500_000):
                self.assertPictures(self.send(path, self.body(size)))

    def test_refusals(self):
        for path in ("/generate", "/buffered"):
            self.assertError(self.send(path, self.body(300_000, width=17)), 400, "invalidCustomWidth")
            self.assertError(self.send(path, "[" + " " * 300_000), 400, "invalidRequestBody")

    def test_streams(self):
        reply = self.send("/generate?stream=1", self.body(400_000))
        self.assertEqual(reply.headers["Content-Type"], "text/event-stream")
        self.assertIn(b"event: reply", reply.body)

    def test_clients_that_leave(self):
        tasks = self.body(1_000_000)
        for n in range(60):
            s = self.server.connect()
            s.sendall((f"POST /{'generate' if n % 2 else 'buffered'} HTTP/1.1\r\nHost: x\r\nContent-Length: "
                       f"{len(tasks)}\r\n\r\n" + tasks).encode())
            if n % 3:
                reset(s)
            else:
                s.close()
        self.assertPictures(self.send("/generate", self.body(300_000)))

    def test_reload_meanwhile(self):
        sockets = []
        for n in range(6):
            s = self.server.connect()
            body = self.body(1_000_000)
            s.sendall((f"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                       + body).encode())
            sockets.append(s)
        self.server.reload()
        for s in sockets:
            with s, s.makefile("rb") as f:
                self.assertEqual(read_reply(f)[0], 200)
        self.server.baseline = {}


if __name__ == "__main__":
    unittest.main()
