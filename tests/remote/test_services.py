"""Tasks through services that fail in every way: each ends with the right picture or the right error, and is charged
once at most."""
import json
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../daemon"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fakes import PICTURE, Fakes  # noqa: E402
from reveried import DaemonTest, task, wait_until  # noqa: E402

SERVICES = ("runware", "lumenfall", "fal", "replicate")
MODELS = {"runware": "runware:97@3", "lumenfall": "hidream-i1-fast", "fal": "fal-ai/hidream-i1-fast",
          "replicate": "prunaai/hidream-l1-fast"}
KEY = "key-that-nobody-may-see-0123456789"


def once(answer, phase="submit"):
    """The first request of a phase gets this; later ones go through."""
    return lambda h, p, n: p == phase and n == 0 and (answer(h), True)[1]


def always(answer, phase="submit"):
    return lambda h, p, n: p == phase and (answer(h), True)[1]


def status(code, body=None, headers=()):
    return lambda h: h.send(code, body if body is not None else {"error": {"message": "no"}}, headers)


def charged(then):
    """The service does the work, and its answer gets lost."""
    def answer(h):
        h.charge()
        then(h)
    return answer


def drip(h):
    h.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"da")
    h.close_connection = False
    time.sleep(2.5)
    h.drop()


def endless(h):
    h.raw(b"HTTP/1.1 200 OK\r\n\r\n{\"a\":\"")
    block = b"x" * (1 << 20)
    for _ in range(400):
        h.wfile.write(block)


DONE, FAILED = "done", "failed"
DEEP = b"[" * 100000
# name: fault, what the task comes to ("done" or "failed"), most that may be charged for one picture
FAULTS = {
    "none": (None, DONE),
    "429": (once(status(429)), DONE),
    "429-retry-after": (once(status(429, headers=[("Retry-After", "1")])), DONE),
    "429-for-hours": (always(status(429, headers=[("Retry-After", "7200")])), FAILED),
    "429-for-ever": (always(status(429)), FAILED),
    "500": (once(status(500)), DONE),
    "500-for-ever": (always(status(500)), FAILED),
    "503": (once(status(503)), DONE),
    "503-html": (once(lambda h: h.send(503, b"<html>busy</html>", kind="text/html")), DONE),
    "503-empty": (once(status(503, b"")), DONE),
    "502-in-doubt": (once(charged(status(502))), None),
    "504-in-doubt": (once(charged(status(504))), None),
    "400": (always(status(400)), FAILED),
    "401": (always(status(401)), FAILED),
    "402": (always(status(402)), FAILED),
    "403": (always(status(403)), FAILED),
    "404": (always(status(404)), FAILED),
    "413": (always(status(413)), FAILED),
    "418": (always(status(418)), FAILED),
    "422": (always(status(422, {"detail": [{"loc": ["body", "prompt"], "msg": "no", "type": "value_error"}]})), FAILED),
    "policy": (always(status(422, {"detail": [{"type": "content_policy_violation", "msg": "no"}]})), FAILED),
    "redirect-private": (always(status(302, {}, [("Location", "http://10.0.0.1/")])), FAILED),
    "redirect-metadata": (always(status(307, {}, [("Location", "http://169.254.169.254/latest/")])), FAILED),
    "reset-before": (once(lambda h: h.drop()), None),
    "reset-after": (once(charged(lambda h: h.drop())), None),
    "closed-after": (once(charged(lambda h: h.drop(reset=False))), None),
    "half-headers": (once(charged(lambda h: h.raw(b"HTTP/1.1 200 OK\r\nContent-Le"))), None),
    "half-body": (once(charged(lambda h: h.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"data\":"))), None),
    "not-http": (once(charged(lambda h: h.raw(b"hello there, this is no HTTP\r\n\r\n"))), None),
    "bad-chunk": (once(charged(lambda h: h.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"))), None),
    "huge-header": (once(charged(lambda h: h.raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 400000 + b"\r\n\r\n"))), None),
    "silence": (once(charged(drip)), None),
    "endless": (always(endless), FAILED),
    "empty": (once(charged(status(200, b""))), None),
    "no-content": (once(charged(lambda h: h.raw(b"HTTP/1.1 204 No Content\r\n\r\n"))), None),
    "array": (once(charged(status(200, b"[1,2,3]"))), None),
    "number": (once(charged(status(200, b"7"))), None),
    "truncated-json": (once(charged(status(200, b"{\"data\":[{\"b64_json\":\"AAAA"))), None),
    "deep-json": (once(charged(status(200, DEEP))), None),
    "bad-utf8": (once(charged(status(200, b"{\"a\":\"\xff\xfe\"}"))), None),
    "wrong-members": (always(status(200, {"data": "nothing", "status": 7, "id": {}, "request_id": []})), FAILED),
    "no-pictures": (always(status(200, {"data": [], "status": "?", "id": "x/../y", "request_id": "../../a"})), FAILED),
    "poll-500": (once(status(500), "poll"), DONE),
    "poll-503": (once(status(503), "poll"), DONE),
    "poll-reset": (once(lambda h: h.drop(), "poll"), DONE),
    "poll-garbage": (once(status(200, b"{\"stat"), "poll"), DONE),
    "poll-gone": (always(status(404), "poll"), FAILED),
    "poll-failed": (always(status(200, {"status": "failed", "error": "out of luck", "errors": [
        {"code": "inferenceError", "message": "out of luck"}]}), "poll"), FAILED),
    "download-reset": (once(lambda h: h.drop(), "download"), DONE),
    "download-404": (always(status(404), "download"), FAILED),
    "download-html": (always(lambda h: h.send(200, b"<html>", kind="text/html"), "download"), FAILED),
    "download-half": (always(lambda h: h.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n" + PICTURE[:60]),
                             "download"), FAILED),
    "download-damaged": (always(lambda h: h.send(200, PICTURE[:90], kind="image/png"), "download"), FAILED),
    "download-private": (None, FAILED),
    "download-metadata": (None, FAILED),
    "download-file": (None, FAILED),
    "bad-base64": (None, FAILED),
    "text-as-picture": (None, FAILED),
}
URLS = {"download-private": "http://10.0.0.1:80/x.png", "download-metadata": "http://169.254.169.254/x.png",
        "download-file": "file:///etc/passwd"}
TEXTS = {"bad-base64": "!!!not base64!!!", "text-as-picture": "aGVsbG8gd29ybGQ="}
POLLS = ("runware", "fal", "replicate")
KEPT = 16  # connections that a client without many tasks at once keeps


def fits(service, fault):
    """Faults of a phase that a service does not have are left out."""
    if fault.startswith("poll"):
        return service in POLLS
    if fault in TEXTS:
        return service in ("runware", "lumenfall")
    return True


def card(number, service, fault, url):
    entry = {"name": service, "url": f"{url}/{service}/{fault}", "model": MODELS[service], "key_env": "FAKE_KEY"}
    if service == "replicate":
        entry["adapt"] = True
    if service == "runware" and fault.startswith("poll"):
        entry["delivery"] = "async"
    return {"id": f"test:{number}@1", "name": f"{service} {fault}", "family": "hidream",
            "parameters": {"CFGScale": {"default": 0}, "steps": {"default": 16}}, "executors": [entry]}


class Services(DaemonTest):
    options = ("--fetch-allow", "127.0.0.1", "--fetch-ports", "*", "--service-silence", "1", "--service-pause-ms", "20",
               "--service-connect-ms", "2000")

    def setUp(self):
        os.environ["FAKE_KEY"] = KEY
        self.fakes = Fakes()
        self.addCleanup(self.fakes.close)
        self.fakes.faults = {name: f[0] for name, f in FAULTS.items() if f[0]}
        self.fakes.result_urls, self.fakes.texts = URLS, TEXTS
        super().setUp()
        self.daemon.cards = os.path.join(self.folder, "cards")
        os.mkdir(self.daemon.cards)
        self.make_cards(self.daemon.cards)
        self.daemon.start()

    def make_cards(self, folder):
        self.numbers = {}
        for service in SERVICES:
            for fault in FAULTS:
                if fits(service, fault):
                    number = 1000 + len(self.numbers)
                    self.numbers[service, fault] = number
                    self.write_card(folder, card(number, service, fault, self.fakes.url))

    def write_card(self, folder, content):
        with open(os.path.join(folder, content["id"].replace(":", "-").replace("@", "-") + ".json"), "w") as f:
            json.dump(content, f)

    def ask(self, service, fault, **more):
        number = self.numbers[service, fault]
        return self.daemon.generate(task(number, model=f"test:{number}@1", steps=16, outputType="base64Data",
                                         outputFormat="PNG", includeCost=True, **more))

    def outcome(self, service, fault):
        http, reply = self.ask(service, fault)
        expected = FAULTS[fault][1]
        if expected is None:  # lost answers: only who knows a taskUUID again can go on
            expected = DONE if service == "runware" else FAILED
        self.assertEqual("data" in reply, expected == DONE, f"{service} {fault}: {http} {json.dumps(reply)[:300]}")
        if expected == FAILED:
            error = reply["errors"][0]
            self.assertTrue(error["code"] and error["message"], reply)
            self.assertGreaterEqual(http, 400)
            self.assertNotIn(KEY, json.dumps(reply))
        # Runware's fake charges a task once whatever comes; "charged" faults add one where the answer was lost.
        limit = 2 if service == "runware" and FAULTS[fault][1] is None else 1
        self.assertLessEqual(self.fakes.charges[service, fault], limit, f"{service} {fault}")
        return reply

    def test_every_fault_of_every_service(self):
        for service in SERVICES:  # what is opened once, for all tasks, is open now
            self.ask(service, "none")
        self.fakes.charges.clear()
        before = self.daemon.descriptors()
        for service, fault in self.numbers:
            with self.subTest(service=service, fault=fault):
                self.outcome(service, fault)
        self.assertGreaterEqual(len(self.numbers), 4 * 40)
        wait_until(lambda: self.no_more_than(before), what="closed descriptors")
        self.assertNotIn(KEY, self.daemon.log())

    def no_more_than(self, before):
        """Whether nothing stayed open but the connections that are kept for later tasks."""
        after = self.daemon.descriptors()
        kept = after.pop("socket") - before["socket"]
        return kept <= KEPT and not after - before

    def test_keys_go_out_and_seeds_and_costs_come_back(self):
        for service, form in (("runware", "Bearer "), ("lumenfall", "Bearer "), ("fal", "Key "), ("replicate", "Bearer ")):
            with self.subTest(service=service):
                _, reply = self.ask(service, "none", seed=77)
                item = reply["data"][0]
                self.assertEqual(item["seed"], 77)
                if service in ("runware", "lumenfall"):
                    self.assertEqual(item["cost"], {"runware": 0.0013, "lumenfall": 0.01}[service])
                sent = self.fakes.requests[service, "none"][0]
                self.assertEqual(sent[2].get("Authorization"), form + KEY)

    def test_several_pictures(self):
        for service in SERVICES:
            with self.subTest(service=service):
                _, reply = self.ask(service, "none", numberResults=3, seed=5)
                self.assertEqual([i["seed"] for i in reply["data"]], [5, 6, 7])
                self.assertEqual(self.fakes.charges[service, "none"], 3)

    def test_cancel_tells_the_service(self):
        self.fakes.faults["none"] = lambda h, p, n: p == "poll" and (h.send(200, {"status": "IN_PROGRESS" if h.place[0] ==
                                                                     "fal" else "processing", "id": "p0"}), True)[1]
        for service in ("fal", "replicate"):
            number = self.numbers[service, "none"]
            connection = self.daemon.begin(task(number, model=f"test:{number}@1", steps=16))
            wait_until(lambda s=service: self.fakes.counts[(s, "none"), "poll"] > 0, what="a poll")
            connection.close()
            wait_until(lambda s=service: (s, "none") in self.fakes.cancelled, what="the cancel request")


class Routes(DaemonTest):
    """A card with several executors: the order, what makes the next one take over, and what must not."""
    options = ("--fetch-allow", "127.0.0.1", "--fetch-ports", "*", "--service-pause-ms", "20", "--service-silence", "1")
    executor = "stub"

    def setUp(self):
        os.environ["FAKE_KEY"] = KEY
        self.fakes = Fakes()
        self.addCleanup(self.fakes.close)
        super().setUp()
        self.daemon.cards = os.path.join(self.folder, "cards")
        os.mkdir(self.daemon.cards)

    def entry(self, service, fault, **more):
        return dict({"name": service, "url": f"{self.fakes.url}/{service}/{fault}", "model": MODELS[service],
                     "key_env": "FAKE_KEY"}, **more)

    def ask(self, entries, **more):
        with open(os.path.join(self.daemon.cards, "card.json"), "w") as f:
            json.dump({"id": "test:1@1", "name": "routes", "family": "hidream", "executors": entries,
                       "parameters": {"CFGScale": {"default": 0}}}, f)
        self.daemon.start()
        self.asked = getattr(self, "asked", 0) + 1
        _, reply = self.daemon.generate(task(self.asked, model="test:1@1", steps=16, outputType="base64Data",
                                             includeCost=True, **more))
        return reply

    def test_first_entry_is_used(self):
        reply = self.ask([self.entry("runware", "a"), self.entry("fal", "b")])
        self.assertEqual(reply["data"][0]["cost"], 0.0013)
        self.assertEqual(dict(self.fakes.charges), {("runware", "a"): 1})

    def test_failing_service_hands_over_and_one_is_charged(self):
        self.fakes.faults["down"] = always(status(503))
        started = time.monotonic()
        reply = self.ask([self.entry("runware", "down"), self.entry("fal", "b")])
        self.assertIn("data", reply)
        self.assertEqual(sum(self.fakes.charges.values()), 1)
        self.assertLess(time.monotonic() - started, 30)

    def test_replies_and_logs_say_who_served(self):
        self.fakes.faults["down"] = always(status(503))
        self.ask([self.entry("runware", "down"), self.entry("fal", "b")])
        tries = self.fakes.counts[("runware", "down"), "submit"]
        self.assertGreater(tries, 1)
        _, headers, body = self.daemon.request("POST", "/v1/images/generations", json.dumps(
            {"model": "test:1@1", "prompt": "a fox", "size": "128x128", "response_format": "b64_json"}))
        told = json.loads(body)["metadata"]
        again = self.fakes.counts[("runware", "down"), "submit"] - tries
        self.assertEqual((told["provider"], told["provider_name"], told["attempts"]), ("fal", "fal", again + 1))
        wait_until(lambda: f"executor=fal attempts={tries + 1} " in self.daemon.log(), what="the line of the first task")
        wait_until(lambda: f"executor=fal attempts={again + 1} " in self.daemon.log(), what="the line of the second")

    def test_totals_by_executor(self):
        self.fakes.faults["down"] = always(status(503))
        self.ask([self.entry("runware", "down"), self.entry("lumenfall", "b")], numberResults=2)
        self.daemon.generate(task(9, model="test:1@1", steps=16))
        _, _, body = self.daemon.request("GET", "/metrics")
        told = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
        self.assertEqual(told['reveried_executor_tasks_total{executor="lumenfall",outcome="done"}'], "2")
        self.assertEqual(told['reveried_executor_images_total{executor="lumenfall"}'], "3")
        self.assertEqual(told['reveried_executor_cost_total{executor="lumenfall"}'], "0.030000")
        self.assertNotIn("runware", body.decode())

    def test_our_own_pictures_are_ours(self):
        self.ask([{"name": "engine"}, self.entry("fal", "b")])
        _, _, body = self.daemon.request("POST", "/v1/images/generations", json.dumps(
            {"model": "test:1@1", "prompt": "a fox", "size": "128x128", "response_format": "b64_json"}))
        told = json.loads(body)["metadata"]
        self.assertEqual((told["provider"], told["provider_name"], told["attempts"]), ("reverie", "Reverie", 1))
        wait_until(lambda: self.daemon.log().count("executor=stub attempts=1 ") == 2, what="the lines of both tasks")

    def test_unreachable_service_hands_over(self):
        dead = dict(self.entry("fal", "a"), url="http://127.0.0.1:1/fal")
        self.assertIn("data", self.ask([dead, self.entry("lumenfall", "b")]))

    def test_refusal_does_not_hand_over(self):
        self.fakes.faults["bad"] = always(status(400, {"errors": [{"code": "invalidSteps", "message": "no",
                                                                   "parameter": "steps"}]}))
        reply = self.ask([self.entry("runware", "bad"), self.entry("fal", "b")])
        self.assertEqual((reply["errors"][0]["code"], reply["errors"][0]["parameter"]), ("invalidSteps", "steps"))
        self.assertEqual(sum(self.fakes.charges.values()), 0)

    def test_what_may_be_charged_does_not_hand_over(self):
        self.fakes.faults["lost"] = once(charged(lambda h: h.drop()))
        reply = self.ask([self.entry("fal", "lost"), self.entry("lumenfall", "b")])
        self.assertIn("errors", reply)
        self.assertIn("may have done and charged", reply["errors"][0]["message"])
        self.assertEqual(sum(self.fakes.charges.values()), 1)

    def test_service_that_cannot_say_it_is_passed_over(self):
        reply = self.ask([self.entry("fal", "a"), self.entry("runware", "b")], scheduler="Euler Beta")
        self.assertIn("data", reply)
        self.assertEqual(dict(self.fakes.charges), {("runware", "b"): 1})

    def test_refused_by_name_when_none_can(self):
        reply = self.ask([self.entry("fal", "a")], scheduler="Euler Beta")
        self.assertEqual(reply["errors"][0]["parameter"], "scheduler")
        self.assertEqual(self.fakes.requests, {})

    def test_conditions(self):
        dear = self.entry("fal", "a", price={"base": 1}, max_cost=0.5)
        reply = self.ask([dear, self.entry("lumenfall", "b", only=["lora"]), self.entry("runware", "c")])
        self.assertIn("data", reply)
        self.assertEqual(dict(self.fakes.charges), {("runware", "c"): 1})

    def test_services_hand_over_to_ourselves(self):
        self.fakes.faults["down"] = always(status(429))
        reply = self.ask([self.entry("fal", "down"), {"name": "engine"}])
        self.assertIn("data", reply)
        self.assertEqual(sum(self.fakes.charges.values()), 0)

    def test_without_key_the_entry_does_not_count(self):
        del os.environ["FAKE_KEY"]
        reply = self.ask([self.entry("fal", "a"), {"name": "engine"}])
        self.assertIn("data", reply)
        self.assertEqual(self.fakes.requests, {})

    def test_key_file_must_be_private(self):
        path = os.path.join(self.folder, "key")
        with open(path, "w") as f:
            f.write(KEY + "\n")
        os.chmod(path, 0o644)
        entry = self.entry("fal", "a", key_file=path)
        self.assertIn("data", self.ask([entry, {"name": "engine"}]))
        self.assertEqual(self.fakes.requests, {})
        self.daemon.stop()
        os.chmod(path, 0o600)
        self.assertIn("data", self.ask([entry]))
        self.assertEqual(self.fakes.requests["fal", "a"][0][2]["Authorization"], "Key " + KEY)


if __name__ == "__main__":
    unittest.main()
