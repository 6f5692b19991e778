"""The OpenAI images protocol through one worker with the stub inside."""
import base64
import http.client
import json
import socket
import time
import unittest

from harness import Beside, Daemon, Nginx, ServerCase, kind, picture, png, read_reply, reset, wait_until

SMALL = {"prompt": "a fox", "size": "128x128", "steps": 2, "seed": 7}
ROUTES = "location /v1/ { reverie openai; %s }"


def form(*parts):
    """A multipart body of (name, value) or (name, file name, bytes)."""
    body = b""
    for part in parts:
        body += b"--cut\r\nContent-Disposition: form-data; name=\"%s\"" % part[0].encode()
        if len(part) == 3:
            body += b"; filename=\"%s\"\r\nContent-Type: image/png\r\n\r\n%s\r\n" % (part[1].encode(), part[2])
        else:
            body += b"\r\n\r\n%s\r\n" % str(part[1]).encode()
    return body + b"--cut--\r\n", {"Content-Type": "multipart/form-data; boundary=cut"}


def events(body):
    """(event, data) of an event stream."""
    found = []
    for block in body.decode().strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((lines["event"], json.loads(lines["data"])))
    return found


class OpenAICase(ServerCase):
    options = {"locations": ROUTES % ""}

    def post(self, path="generations", body=None, headers=None, **members):
        whole = {k: v for k, v in {**SMALL, **members}.items() if v is not None}
        return self.server.request("POST", "/v1/images/" + path, body if body is not None else json.dumps(whole),
                                   headers or {"Content-Type": "application/json"})

    def assertRefused(self, reply, status, code, param=None):
        self.assertEqual(reply.status, status, reply.body[:500])
        self.assertEqual(reply.headers["Content-Type"], "application/json")
        self.assertTrue(reply.headers["X-Request-Id"])
        error = reply.json()["error"]
        self.assertEqual((error["code"], error["param"]), (code, param), error)
        self.assertTrue(error["message"])
        return error


class Answers(OpenAICase):
    def test_url_and_base64_are_the_same_picture(self):
        for name, magic in (("png", "PNG"), ("jpeg", "JPG"), ("webp", "WEBP")):
            reply = self.post(output_format=name)
            self.assertEqual(reply.status, 200, reply.body)
            url = picture({"imageURL": reply.json()["data"][0]["url"]}, self.server)
            data = self.post(output_format=name, response_format="b64_json").json()["data"][0]["b64_json"]
            self.assertEqual(kind(url), magic)
            self.assertEqual(base64.b64decode(data), url)

    def test_the_whole_answer(self):
        reply = self.post(n=3, response_format="b64_json", quality="high")
        body = reply.json()
        self.assertEqual([d["seed"] for d in body["data"]], [7, 8, 9])
        self.assertEqual((body["size"], body["output_format"], body["quality"]), ("128x128", "png", "high"))
        self.assertLess(abs(body["created"] - time.time()), 60)
        self.assertEqual(body["usage"]["output_tokens"], 3 * 64)
        self.assertEqual(body["metadata"]["executed_model"], "reverie:1@1")
        self.assertEqual(reply.headers["X-Lumenfall-Provider"], "reverie")
        self.assertEqual(reply.headers["Cache-Control"], "no-store")

    def test_models(self):
        ids = [m["id"] for m in self.server.get("/v1/models").json()["data"]]
        self.assertIn("hidream-i1-fast", ids)
        self.assertIn("runware:97@3", ids)
        for name in ("hidream-i1-fast", "runware:97@3", "fal%2Fhidream-i1-fast", "fal-ai/hidream-i1-fast"):
            model = self.server.get("/v1/models/" + name).json()
            self.assertEqual((model["object"], model["root"]), ("model", "runware:97@3"))
        schema = self.server.get("/v1/models/runware:97@3?schema=true").json()["schema"]
        self.assertEqual(schema["required"], ["prompt"])
        self.assertEqual(schema["properties"]["n"]["maximum"], 10)
        self.assertIn("positivePrompt", self.server.get("/v1/models/runware:97@3?schema=runware").json()["schema"]
                      ["properties"])
        self.assertRefused(self.server.get("/v1/models/nothing"), 404, "MODEL_NOT_FOUND")
        self.assertEqual(self.server.request("HEAD", "/v1/models").body, b"")

    def test_estimate(self):
        reply = self.server.request("POST", "/v1/images/generations?dryRun=true",
                                    json.dumps({"prompt": "p", "model": "hidream-i1-full"}))
        self.assertEqual(reply.json()["total_cost_micros"], 9000)

    def test_stream(self):
        reply = self.post(stream=True, partial_images=2, steps=20)
        self.assertEqual(reply.headers["Content-Type"], "text/event-stream")
        found = events(reply.body)
        self.assertEqual(found[-1][0], "image_generation.completed")
        self.assertEqual(kind(base64.b64decode(found[-1][1]["b64_json"])), "PNG")
        for index, (name, data) in enumerate(found[:-1]):
            self.assertEqual((name, data["partial_image_index"]), ("image_generation.partial_image", index))
            self.assertEqual(kind(base64.b64decode(data["b64_json"])), "PNG")

    def test_stream_of_a_task_that_fails(self):
        found = events(self.post(prompt="stub:fail=serverError", stream=True).body)
        self.assertEqual(found[-1][0], "error")
        self.assertEqual(found[-1][1]["error"]["code"], "INTERNAL_ERROR")


class Edits(OpenAICase):
    options = {"locations": ROUTES % "client_max_body_size 8m;"}

    def test_forms(self):
        body, headers = form(("prompt", "a fox"), ("n", 2), ("seed", 5), ("steps", 1), ("image", "a.png", png()),
                             ("mask", "m.png", png(alpha=True)))
        answer = self.post("edits", body, headers).json()
        self.assertEqual([d["seed"] for d in answer["data"]], [5, 6])
        self.assertEqual(kind(base64.b64decode(answer["data"][0]["b64_json"])), "PNG")
        self.assertEqual(answer["size"], "160x128")
        self.assertEqual(answer["usage"]["input_tokens_details"]["image_tokens"], 80)

    def test_a_body_that_passes_through_a_file(self):
        body, headers = form(("prompt", "a fox"), ("steps", 1), ("size", "128x128"), ("image", "a.png", png(1024, 768)))
        self.assertGreater(len(body), 2 << 20)
        self.assertEqual(self.post("edits", body, headers).status, 200)

    def test_json(self):
        text = "data:image/png;base64," + base64.b64encode(png()).decode()
        for image in (text, [text], {"image_url": text}, [{"image_url": {"url": text}}]):
            self.assertEqual(self.post("edits", image=image).status, 200, image)

    def test_variations_need_no_prompt(self):
        body, headers = form(("n", 2), ("steps", 1), ("image", "a.png", png()))
        self.assertEqual(len(self.post("variations", body, headers).json()["data"]), 2)

    def test_wrong_pictures(self):
        for parts, param in (((("prompt", "p"),), "image"), ((("prompt", "p"), ("image", "a.gif", b"GIF89a")), "image"),
                             ((("image", "a.png", png()),), "prompt"),
                             ((("prompt", "p"), ("image", "a.png", png()), ("mask", "m", b"x")), "mask"),
                             ((("prompt", "p"), ("image", "a.png", png(alpha=True)[:60])), "image")):
            body, headers = form(*parts)
            self.assertRefused(self.post("edits", body, headers), 400, "INVALID_REQUEST", param)
        body, headers = form(("prompt", "p"), ("image", "a.png", png()), ("model", "hidream-i1-fast"))
        self.assertRefused(self.post("edits", body, headers), 400, "INVALID_REQUEST", "image")

    def test_broken_forms(self):
        body, headers = form(("prompt", "p"), ("image", "a.png", png()))
        for cut in (0, 3, 30, 60, len(body) // 2, len(body) - 9):
            self.assertRefused(self.post("edits", body[:cut], headers), 400, "INVALID_REQUEST")
        self.assertRefused(self.post("edits", body, {"Content-Type": "multipart/form-data"}), 415,
                           "UNSUPPORTED_MEDIA_TYPE")


class LargeBodies(OpenAICase):
    """Parsed on threads, forms and JSON, with headers that mean something, by clients that leave meanwhile."""
    options = {"main": "thread_pool reverie threads=2;",
               "locations": ROUTES % "client_max_body_size 16m;" + "location /buffered/v1/ { reverie openai; "
               "client_max_body_size 16m; client_body_buffer_size 8m; }"}

    def large(self, *more, seed=5):
        more += (("seed", seed),) if seed else ()
        return form(("prompt", "a fox"), ("steps", 2), ("size", "128x128"), ("n", 2),
                    ("image", "a.png", png(1600, 1100)), *more)

    def send(self, server, path, body, headers):
        return server.request("POST", path, body, headers)

    def test_the_same_pictures_as_without_threads(self):
        plain = Nginx(locations=ROUTES % "client_max_body_size 16m;")
        self.addCleanup(plain.stop)
        plain.start()
        body, headers = self.large()
        self.assertGreater(len(body), 5 << 20)
        text = "data:image/png;base64," + base64.b64encode(png(1280, 1024)).decode()
        as_json = json.dumps({**SMALL, "image": text})
        for sent in ((body, headers), (as_json, {"Content-Type": "application/json"})):
            wanted = self.send(plain, "/v1/images/edits", *sent).json()["data"]
            for prefix in ("", "/buffered"):
                with Beside(self.server) as light:
                    reply = self.send(self.server, prefix + "/v1/images/edits", *sent)
                    found = [self.send(self.server, prefix + "/v1/images/edits", *sent).json()["data"], reply.json()["data"]]
                self.assertEqual(found, [wanted] * 2)
                light.report(f"{prefix}/v1/images/edits of {len(sent[0]) >> 20} MiB")

    def test_refusals(self):
        body, headers = self.large(("output_format", "gif"))
        self.assertRefused(self.post("edits", body, headers), 400, "INVALID_REQUEST", "output_format")
        body, headers = self.large()
        self.assertRefused(self.post("edits", body[:-9], headers), 400, "INVALID_REQUEST")
        self.assertRefused(self.post("edits", "[" + " " * 300_000), 400, "INVALID_REQUEST")

    def test_streams(self):
        body, headers = self.large(("stream", "true"), ("partial_images", 1))
        reply = self.post("edits", body, headers)
        self.assertEqual(reply.headers["Content-Type"], "text/event-stream")
        self.assertEqual([name for name, _ in events(reply.body)][-1], "image_edit.completed")

    def test_idempotency_key(self):
        """The key and the form's boundary are read on the thread, long after the headers."""
        daemon = Daemon()
        self.addCleanup(daemon.stop)
        daemon.start()
        server = Nginx(main=self.options["main"], http=f"reverie_daemon unix:{daemon.socket};",
                       locations=self.options["locations"], results=daemon.results)
        self.addCleanup(server.stop)
        server.start()
        body, headers = self.large(seed=None)
        first, again, other = (self.send(server, "/v1/images/edits", body, {**headers, "Idempotency-Key": key}).json()
                               for key in ("one", "one", "two"))
        self.assertEqual(first["data"], again["data"])
        self.assertNotEqual(first["data"], other["data"])

    def test_clients_that_leave(self):
        body, headers = self.large()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        for n in range(12):
            s = self.server.connect()
            s.sendall((f"POST {'/buffered' if n % 2 else ''}/v1/images/edits HTTP/1.1\r\nHost: x\r\n{lines}"
                       f"Content-Length: {len(body)}\r\n\r\n").encode() + body)
            if n % 3:
                reset(s)
            else:
                s.close()
        self.assertEqual(self.post("edits", body, headers).status, 200)


class Refusals(OpenAICase):
    options = {"locations": ROUTES % "client_max_body_size 10k;"
               + "location /limited/v1/ { reverie openai; limit_except GET { deny all; } }"}

    def test_values(self):
        self.assertRefused(self.post(size="100x100"), 400, "INVALID_REQUEST", "size")
        self.assertRefused(self.post(n=11), 400, "INVALID_REQUEST", "n")
        self.assertRefused(self.post(prompt=None), 400, "INVALID_REQUEST", "prompt")
        self.assertRefused(self.post(model="no-such-model"), 404, "MODEL_NOT_FOUND", "model")
        self.assertRefused(self.post(body="{"), 400, "INVALID_REQUEST")
        self.assertRefused(self.post(body=""), 400, "INVALID_REQUEST")
        error = self.assertRefused(self.post(size="1x1", output_format="gif"), 400, "INVALID_REQUEST", "output_format")
        self.assertGreaterEqual(len(error["details"]), 3)
        self.assertEqual(self.post(n=11).headers["x-should-retry"], "false")

    def test_while_running(self):
        self.assertRefused(self.post(prompt="stub:fail=safety"), 400, "CONTENT_POLICY_VIOLATION")
        reply = self.post(prompt="stub:fail=busy")
        self.assertRefused(reply, 503, "SERVICE_UNAVAILABLE")
        self.assertTrue(reply.headers["Retry-After"])
        self.assertIsNone(reply.headers["x-should-retry"])

    def test_what_nginx_refuses_itself(self):
        self.assertRefused(self.post(body="x" * 20000), 413, "REQUEST_TOO_LARGE")
        self.assertRefused(self.server.get("/v1/images/generations"), 405, "METHOD_NOT_ALLOWED")
        self.assertRefused(self.server.get("/v1/chat/completions"), 404, "NOT_FOUND")
        self.assertRefused(self.post(headers={"Content-Type": "text/html"}), 415, "UNSUPPORTED_MEDIA_TYPE")
        self.assertRefused(self.post(headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}), 415,
                           "UNSUPPORTED_MEDIA_TYPE")
        self.assertRefused(self.server.request("POST", "/limited/v1/images/generations", "{}"), 403,
                           "PERMISSION_DENIED")


class Vanishing(OpenAICase):
    options = {"locations": ROUTES % "", "http": "reverie_executor stub delay=20ms;"}

    def open(self, **members):
        body = json.dumps({**SMALL, "steps": 100, **members}).encode()
        s = self.server.connect()
        s.sendall(b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return s

    def test_clients_that_leave_a_stream(self):
        for leave in (socket.socket.close, reset):
            for wait in (0, 0.05, 0.5):
                s = self.open(stream=True, partial_images=3)
                time.sleep(wait)
                leave(s)

    def test_a_client_that_reads_slowly(self):
        s = self.open(stream=True, partial_images=3, n=2, steps=10, size="512x512")
        time.sleep(1)
        status, headers, body = read_reply(s.makefile("rb"))
        s.close()
        self.assertEqual([name for name, _ in events(body)][-1], "image_generation.completed")

    def test_reload_in_a_stream(self):
        s = self.open(stream=True, partial_images=1, steps=50)
        time.sleep(0.2)
        self.server.reload()
        status, headers, body = read_reply(s.makefile("rb"))
        s.close()
        self.assertEqual(events(body)[-1][0], "image_generation.completed")
        self.server.remember()


class TooLong(OpenAICase):
    options = {"locations": ROUTES % "reverie_sync_timeout 300ms;", "http": "reverie_executor stub delay=20ms;"}

    def test_timeout(self):
        self.assertRefused(self.post(steps=500), 504, "UPSTREAM_TIMEOUT")
        with self.assertRaises(http.client.IncompleteRead):
            self.post(steps=500, stream=True)


class Repeats(unittest.TestCase):
    """A key of the client's stands for the task, which the daemon knows again."""

    def test_idempotency_key(self):
        daemon = Daemon()
        server = Nginx(http=f"reverie_daemon unix:{daemon.socket};", locations=ROUTES % "", results=daemon.results)
        server.spare = 64

        def post(key, prompt="a fox"):
            return server.request("POST", "/v1/images/generations", json.dumps(
                {"prompt": prompt, "size": "128x128", "steps": 1, "response_format": "b64_json"}),
                {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})})
        try:
            daemon.start()
            server.start()
            first, again = post("order 17"), post("order 17")
            self.assertEqual((first.status, again.status), (200, 200), again.body[:500])
            self.assertEqual(first.json()["data"], again.json()["data"])
            self.assertNotEqual(first.json()["data"], post("order 18").json()["data"])
            self.assertNotEqual(first.json()["data"], post(None).json()["data"])
            self.assertNotEqual(first.json()["data"], post("order 17", "a hedgehog").json()["data"])
            server.verify()
        finally:
            server.stop()
            daemon.stop()


if __name__ == "__main__":
    unittest.main()
