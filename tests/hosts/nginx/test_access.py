"""API keys and limits: who may come, how often, and what a refusal says."""
import hashlib
import json
import os
import signal
import time
import unittest

import harness
from harness import Nginx, ServerCase, reset, task, http_bytes, wait_until
from websocket import WebSocket

KEYS = {"alice": "key of alice 1", "bob": "key of bob 2", "carol": "key of carol 3"}


def key_file(path, limits=None, names=KEYS):
    with open(path, "w") as f:
        f.write("# keys of the test\n\n")
        for name in names:
            line = f"{name}:{hashlib.sha256(KEYS[name].encode()).hexdigest()}"
            f.write(line + (":" + limits[name] if name in (limits or {}) else "") + "\n")
    os.chmod(path, 0o640)


class WithKeys(ServerCase):
    """One server with a key file."""
    limits = {}

    @classmethod
    def setUpClass(cls):
        cls.server = Nginx(**cls.options)
        key_file(os.path.join(cls.server.folder, "keys"), cls.limits)
        try:
            cls.server.start()
        except BaseException:
            cls.server.stop()
            raise

    def with_key(self, name, *tasks, path="/generate"):
        return self.server.generate(*tasks, path=path, headers={"Authorization": "Bearer " + KEYS[name]})

    def tearDown(self):
        super().tearDown()
        for text in (self.server.log(), open(os.path.join(self.server.folder, "access.log")).read()):
            for key in KEYS.values():
                self.assertNotIn(key, text)


class Keys(WithKeys):
    options = {"http": "reverie_executor stub; reverie_auth keys={dir}/keys;",
               "locations": """
                   location /v1/ { reverie openai; }
                   location = /open { reverie runware; reverie_auth off; }
                   location = /header { reverie runware; reverie_auth keys={dir}/keys body=off; }
                   location = /either { reverie runware; satisfy any; allow 127.0.0.1; deny all; }
                   location = /neither { reverie runware; satisfy any; deny all; }
                   location = /both { reverie runware; satisfy all; deny all; }
               """}

    def test_header(self):
        for headers in ({"Authorization": "Bearer " + KEYS["alice"]}, {"authorization": "bearer " + KEYS["bob"]},
                        {"X-API-Key": KEYS["carol"]}):
            self.assertPictures(self.server.generate(task(), headers=headers))

    def test_missing(self):
        body = self.assertError(self.server.generate(task()), 401, "missingApiKey")
        self.assertEqual(body["error"]["parameter"], "apiKey")
        self.assertTrue(body["error"]["taskUUID"])

    def test_wrong(self):
        for headers in ({"Authorization": "Bearer " + KEYS["alice"] + "x"}, {"Authorization": "Bearer x"},
                        {"X-API-Key": KEYS["alice"][:-1]}, {"X-API-Key": ""}, {"X-API-Key": "x" * 600}):
            with self.subTest(str(headers)[:40]):
                self.assertError(self.server.generate(task(), headers=headers), 401, "invalidApiKey")
        self.assertError(self.server.generate(task(), headers={"Authorization": "Basic eDp5"}), 401, "missingApiKey")

    def test_in_the_body(self):
        def auth(key):
            return {"taskType": "authentication", "apiKey": key}
        reply = self.server.generate(auth(KEYS["alice"]), task())
        self.assertEqual([d["taskType"] for d in reply.json()["data"]], ["authentication", "imageInference"])
        self.assertError(self.server.generate(auth("nonsense"), task()), 401, "invalidApiKey")
        self.assertError(self.server.generate(auth(KEYS["alice"]), task(), path="/header"), 401, "missingApiKey")
        self.assertError(self.server.generate(task(), path="/header"), 401, "missingApiKey")
        self.assertPictures(self.with_key("alice", task(), path="/header"))

    def test_switched_off(self):
        self.assertPictures(self.server.generate(task(), path="/open"))

    def test_together_with_addresses(self):
        self.assertPictures(self.server.generate(task(), path="/either"))
        self.assertPictures(self.with_key("bob", task(), path="/neither"))
        self.assertError(self.server.generate(task(), path="/neither",
                                              headers={"X-API-Key": "wrong"}), 401, "invalidApiKey")
        self.assertError(self.with_key("bob", task(), path="/both"), 403, "forbidden")

    def test_websocket(self):
        with WebSocket(self.server) as ws:
            one = task()
            ws.send(one)
            error, = ws.receive()["errors"]
            self.assertEqual((error["code"], error["taskUUID"]), ("missingApiKey", one["taskUUID"]))
            ws.send({"taskType": "authentication", "apiKey": "wrong"})
            error, = ws.receive()["errors"]
            self.assertEqual((error["code"], error["taskType"]), ("invalidApiKey", "authentication"))
            ws.send({"taskType": "authentication", "apiKey": KEYS["alice"]})
            self.assertIn("connectionSessionUUID", ws.receive()["data"][0])
            ws.send(one)
            self.assertIn("data", ws.receive())
        with WebSocket(self.server, headers={"Authorization": "Bearer " + KEYS["bob"]}) as ws:
            ws.send(task())
            self.assertIn("data", ws.receive())
        with WebSocket(self.server, headers={"Authorization": "Bearer wrong"}) as ws:
            self.assertEqual(ws.status, 401)
        with WebSocket(self.server, "/header") as ws:
            self.assertEqual(ws.status, 401)

    def test_sessions_belong_to_their_key(self):
        ws = WebSocket(self.server)
        ws.send({"taskType": "authentication", "apiKey": KEYS["alice"]})
        session = ws.receive()["data"][0]["connectionSessionUUID"]
        ws.send(task(positivePrompt="stub:hang"))
        time.sleep(0.2)
        ws.reset()
        time.sleep(0.1)
        for name, same in (("bob", False), ("alice", True)):
            with WebSocket(self.server) as ws:
                ws.send({"taskType": "authentication", "apiKey": KEYS[name], "connectionSessionUUID": session})
                found = ws.receive()["data"][0]["connectionSessionUUID"]
                self.assertEqual(found == session, same)
                ws.close()

    def test_openai(self):
        def ask(**headers):
            return self.server.request("POST", "/v1/images/generations", json.dumps(
                {"prompt": "a fox", "model": harness.MODEL, "size": "128x128", "response_format": "b64_json"}),
                {"Content-Type": "application/json", **headers})
        self.assertEqual(ask(Authorization="Bearer " + KEYS["alice"]).status, 200)
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            reply = ask(**headers)
            self.assertEqual(reply.status, 401)
            self.assertIn("API key", reply.json()["error"]["message"])
        self.assertEqual(self.server.get("/v1/models").status, 401)
        self.assertEqual(self.server.get("/v1/models", Authorization="Bearer " + KEYS["bob"]).status, 200)

    def test_pictures_need_no_key(self):
        item, = self.with_key("alice", task(outputType="URL")).json()["data"]
        self.assertIsNotNone(harness.kind(harness.picture(item, self.server)))

    def test_reload_reads_the_file_again(self):
        path = os.path.join(self.server.folder, "keys")
        key_file(path, names=["alice", "bob"])
        self.server.reload()
        wait_until(lambda: self.with_key("carol", task()).status == 401, what="the end of a key")
        self.assertEqual(self.with_key("alice", task()).status, 200)
        key_file(path)
        self.server.reload()
        wait_until(lambda: self.with_key("carol", task()).status == 200, what="the new key")


class KeyFiles(unittest.TestCase):
    def refuses(self, words, text, mode=0o640):
        server = Nginx(http="reverie_executor stub; reverie_auth keys={dir}/keys;")
        self.addCleanup(server.stop)
        path = os.path.join(server.folder, "keys")
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        works, said = server.check()
        self.assertFalse(works, text)
        self.assertIn(words, said)

    def test_bad_files(self):
        digest = "ab" * 32
        for words, text in (("line 1 must be name:sha256", "alice"), ("line 2 must be", "# x\nalice:" + digest[:-1]),
                            ("line 1 must be", "alice:" + "g" * 64), ("line 1 must be", ":" + digest),
                            ("line 1 must be", "a b:" + digest), ("line 1 must be", f"alice:{digest} x"),
                            ('line 1: invalid limit "images=x"', f"alice:{digest}:images=x"),
                            ('invalid limit "images=3/w"', f"alice:{digest}:images=3/w"),
                            ('invalid limit "speed=3/s"', f"alice:{digest}:active=3 speed=3/s"),
                            ('already, as "alice"', f"alice:{digest}\nbob:{digest}")):
            with self.subTest(text[:30]):
                self.refuses(words, text)

    def test_modes(self):
        for mode in (0o644, 0o660, 0o602):
            self.refuses("is open to others", "", mode)

    def test_absent(self):
        server = Nginx(http="reverie_executor stub; reverie_auth keys={dir}/nothing;")
        self.addCleanup(server.stop)
        works, said = server.check()
        self.assertFalse(works)
        self.assertIn("cannot be read", said)


class Limits(WithKeys):
    options = {"http": "reverie_executor stub; reverie_auth keys={dir}/keys; reverie_limits images=4/h;",
               "workers": 2,
               "locations": """
                   location = /requests { reverie runware; reverie_auth off; reverie_limits requests=2/h
                                          key=$http_x_client; }
                   location = /active { reverie runware; reverie_auth off; reverie_limits active=2
                                        key=a$http_x_client; }
                   location = /cost { reverie runware; reverie_auth off; reverie_limits cost=0.0030/d
                                      key=c$http_x_client; }
                   location = /many { reverie runware; reverie_auth off; reverie_limits off; }
                   location = /address { reverie runware; reverie_auth off; }
                   location = /fast { reverie runware; reverie_auth off; reverie_limits images=5/s key=fast; }
               """}
    limits = {"bob": "images=2/h active=9", "carol": "images=100/s"}

    def client(self, name, *tasks, path):
        return self.server.generate(*tasks, path=path, headers={"X-Client": name})

    def assertLimited(self, reply, code="rateLimitExceeded", status=429, least=1):
        self.assertError(reply, status, code)
        self.assertGreaterEqual(int(reply.headers["Retry-After"]), least)

    def test_pictures_count_not_requests(self):
        self.assertPictures(self.with_key("alice", task(numberResults=2), task()), 3)
        self.assertLimited(self.with_key("alice", task(), task()), least=500)
        self.assertPictures(self.with_key("alice", task()))
        self.assertLimited(self.with_key("alice", task()), least=500)

    def test_a_key_has_its_own(self):
        self.assertPictures(self.with_key("bob", task(numberResults=2)), 2)
        self.assertLimited(self.with_key("bob", task()))
        self.assertPictures(self.with_key("carol", *[task(seed=n) for n in range(10)]), 10)

    def test_what_can_never_fit_has_no_retry(self):
        reply = self.client("x", task(numberResults=6), path="/fast")
        self.assertError(reply, 400, "maxResultsExceeded")
        self.assertIsNone(reply.headers["Retry-After"])

    @unittest.skipIf(harness.WRAP, "below valgrind a request takes longer than the rate allows for five")
    def test_it_comes_back_with_time(self):
        self.assertPictures(self.client("x", task(numberResults=5), path="/fast"), 5)
        self.assertEqual(self.client("x", task(numberResults=5), path="/fast").status, 429)
        wait_until(lambda: self.client("x", task(), path="/fast").status == 200, 10)

    def test_requests(self):
        for _ in range(2):
            self.assertPictures(self.client("r", task(numberResults=3), path="/requests"), 3)
        self.assertLimited(self.client("r", task(), path="/requests"), least=1000)
        self.assertPictures(self.client("s", task(), path="/requests"))
        self.assertEqual(self.client("r", {"taskType": "ping"}, path="/requests").status, 200)

    def test_refused_tasks_cost_nothing(self):
        for _ in range(5):
            self.assertEqual(self.client("q", task(width=17), path="/requests").status, 400)
        self.assertPictures(self.client("q", task(), path="/requests"))

    def test_failed_tasks_are_given_back(self):
        for _ in range(20):
            reply = self.server.generate(task(positivePrompt="stub:fail=safety"), path="/address")
            self.assertError(reply, 400, "contentPolicyViolation")
        self.assertPictures(self.server.generate(task(), path="/address"))

    def test_active(self):
        hanging = [self.server.connect() for _ in range(2)]
        for s in hanging:
            s.sendall(http_bytes([task(positivePrompt="stub:hang")], "/active", "X-Client: h\r\n"))
        time.sleep(0.3 * harness.SLOW)
        self.assertLimited(self.client("h", task(), path="/active"))
        self.assertPictures(self.client("other", task(), task(), path="/active"), 2)
        self.assertEqual(self.client("third", task(), task(), task(), path="/active").status, 429)
        for s in hanging:
            reset(s)
        wait_until(lambda: self.client("h", task(), path="/active").status == 200, what="a free place")

    def test_a_dead_worker_holds_no_places(self):
        self.server.expected.append("exited on signal 9")
        sockets = [self.server.connect() for _ in range(2)]
        for s in sockets:
            s.sendall(http_bytes([task(positivePrompt="stub:hang")], "/active", "X-Client: d\r\n"))
        time.sleep(0.3 * harness.SLOW)
        self.assertLimited(self.client("d", task(), path="/active"))
        for pid in self.server.workers():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.works("d"), what="places of the dead")
        for s in sockets:
            reset(s)
        self.server.baseline = {}

    def works(self, name):
        try:
            return self.client(name, task(), path="/active").status == 200
        except OSError:
            return False

    def test_cost(self):
        reply = self.client("m", task(steps=4), path="/cost")
        self.assertPictures(reply)
        for _ in range(3):
            reply = self.client("m", task(steps=4), path="/cost")
        self.assertLimited(reply, "insufficientCredits", 402, 1000)
        self.assertIn("budget", reply.json()["error"]["message"])

    def test_websocket(self):
        with WebSocket(self.server, "/requests", headers={"X-Client": "w"}) as ws:
            for wanted in ("data", "data", "errors"):
                one = task()
                ws.send(one)
                message = ws.receive()
                self.assertIn(wanted, message)
            self.assertEqual((message["errors"][0]["code"], message["errors"][0]["taskUUID"]),
                             ("rateLimitExceeded", one["taskUUID"]))

    def test_limits_survive_a_reload(self):
        self.assertPictures(self.client("l", task(), path="/requests"))
        self.assertPictures(self.client("l", task(), path="/requests"))
        self.server.reload()
        self.assertLimited(self.client("l", task(), path="/requests"))


class ManyClients(ServerCase):
    """More clients than the zone holds: the oldest are forgotten, nobody is refused for it."""
    options = {"http": "reverie_executor stub; reverie_zone 64k;",
               "generate": "reverie_limits images=5/h key=$http_x_client;"}

    def test_it(self):
        for n in range(400):
            reply = self.server.generate(task(), path="/generate?dryRun=1", headers={"X-Client": f"client {n}"})
            self.assertEqual(reply.status, 200)


if __name__ == "__main__":
    unittest.main()
