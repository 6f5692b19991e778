"""Pictures that were made before: when they are used, when not, and what replies say then."""
import json
import os
import re
import unittest
import uuid

import harness
from harness import SOURCE, Daemon, Nginx, ServerCase, picture, task, wait_until
from test_access import KEYS, key_file
from test_stream import Stream
from test_tasks import Events
from websocket import WebSocket


def example():
    """The options of the README's example, all but its places."""
    with open(os.path.join(SOURCE, "ngx_module/README.md")) as f:
        line = re.search(r"^ *reveried --socket \S+ --state \S+ (--cache .*)$", f.read(), re.M)
    return line[1].split()


class CacheCase(unittest.TestCase):
    cache = ()
    http = ""
    limits = None

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon("--stub-ms", "2", *cls.cache).start()
        cls.addClassCleanup(cls.daemon.stop)
        cls.server = Nginx(http=f"reverie_daemon unix:{cls.daemon.socket};"
                                "log_format cost '$reverie_executor $reverie_cost'; access_log {dir}/cost cost;"
                                + cls.http, results=cls.daemon.results, workers=1,
                           locations="location /v1/ { reverie openai; } location /tasks/ { reverie_tasks; }"
                                     "location /metrics { reverie_metrics; }")
        cls.addClassCleanup(cls.server.stop)
        cls.server.spare = 64
        key_file(os.path.join(cls.server.folder, "keys"), cls.limits)
        cls.server.start()

    def setUp(self):
        self.prompt = f"a fox of {uuid.uuid4()}"  # each test has pictures of its own

    def tearDown(self):
        self.server.verify()

    assertPictures = ServerCase.assertPictures

    def task(self, **members):
        return task(**{"positivePrompt": self.prompt, "steps": 4, "includeCost": True, **members})

    def run_one(self, headers="", **members):
        """(result items, executor) of a task with a new taskUUID."""
        one = self.task(**members)
        with Stream(self.server, one, headers=headers) as stream:
            events = list(stream)
        end, = [data for name, data in events if name == "end"]
        body = events[-1][1]["body"]
        self.assertEqual({item["taskUUID"] for item in body["data"]}, {one["taskUUID"]})
        cached = [data.get("cached", False) for name, data in events if name == "image"]
        self.assertEqual(set(cached), {end["executor"] == "cache"})
        self.assertEqual(any(name == "step" for name, _ in events), end["executor"] != "cache")
        return body["data"], end["executor"]

    def assertRun(self, **members):
        items, executor = self.run_one(**members)
        self.assertEqual(executor, "stub")
        self.assertTrue(all(item["cost"] > 0 for item in items), items)
        return items

    def assertKept(self, **members):
        items, executor = self.run_one(**members)
        self.assertEqual(executor, "cache")
        self.assertEqual([item["cost"] for item in items], [0] * len(items))
        return items

    def logged(self, count):
        """The last lines of the log of costs."""
        path = os.path.join(self.server.folder, "cost")

        def lines():
            with open(path) as f:
                found = f.read().splitlines()
            return found if len(found) >= count else None
        return wait_until(lines, what="the log")


class Kept(CacheCase):
    cache = example()

    def test_the_same_again(self):
        first, = self.assertRun()
        second, = self.assertKept()
        self.assertEqual(picture(first), picture(second))
        self.assertEqual(first["seed"], second["seed"])
        self.assertNotEqual(first["imageUUID"], second["imageUUID"])

    def test_in_another_form(self):
        """By URL, as data URI, in other formats: it is the same picture."""
        for form in ("PNG", "JPG", "WEBP"):
            for way in ("base64Data", "dataURI", "URL"):
                members = {"outputFormat": form, "outputType": way}
                first, = self.assertRun(positivePrompt=f"{self.prompt} {form} {way}", **members)
                second, = self.assertKept(positivePrompt=f"{self.prompt} {form} {way}", **members)
                self.assertEqual(picture(first, self.server), picture(second, self.server))
                third, = self.assertKept(positivePrompt=f"{self.prompt} {form} {way}", outputFormat="PNG")
                self.assertEqual(harness.kind(picture(third, self.server)), "PNG")
                self.assertNotEqual(first.get("imageURL", 1), second.get("imageURL", 2))

    def test_what_makes_another_picture(self):
        self.assertRun()
        for members in ({"seed": 8}, {"width": 256}, {"steps": 5}, {"positivePrompt": self.prompt + "!"},
                        {"negativePrompt": "x"}, {"model": "runware:97@1"}, {"safety": {"checkContent": True}}):
            with self.subTest(members):
                self.assertRun(**members)
        self.assertKept()

    def test_random_seeds_never(self):
        first, = self.assertRun(seed=None)
        second, = self.assertRun(seed=None)
        self.assertNotEqual(first["seed"], second["seed"])
        self.assertRun(seed=first["seed"])  # what a drawn seed made is not kept
        self.assertKept(seed=first["seed"])

    def test_several_results(self):
        many = self.assertRun(numberResults=3, seed=20)
        one, = self.assertKept(seed=21)
        self.assertEqual(picture(one), picture(many[1]))
        self.assertEqual([picture(i) for i in self.assertKept(numberResults=2, seed=21)],
                         [picture(i) for i in many[1:]])
        self.assertRun(numberResults=2, seed=22)  # one of them is not there

    def test_failures_and_flags(self):
        for _ in range(2):
            reply = self.server.generate(self.task(positivePrompt="stub:fail=safety " + self.prompt))
            self.assertEqual(reply.json()["errors"][0]["code"], "contentPolicyViolation")
        flagged = {"positivePrompt": "stub:nsfw " + self.prompt, "safety": {"checkContent": True}}
        self.assertTrue(self.assertRun(**flagged)[0]["NSFWContent"])
        self.assertTrue(self.assertKept(**flagged)[0]["NSFWContent"])
        warned = {"positivePrompt": "stub:warn " + self.prompt}
        self.assertRun(**warned)
        self.assertRun(**warned)  # the second client must be warned too

    def test_async(self):
        first, = self.assertRun()
        one = self.task(deliveryMethod="async", outputType="URL")
        self.assertEqual(self.server.generate(one).status, 200)

        def done():
            data = self.server.get(f"/tasks/{one['taskUUID']}").json()["data"]
            return data if data[0]["status"] == "success" else None
        item, = wait_until(done, what="the result")
        self.assertEqual((item["cost"], item["taskUUID"], item["seed"]), (0, one["taskUUID"], 7))
        self.assertEqual(picture(item, self.server), picture(first))
        with Events(self.server, f"/tasks/{one['taskUUID']}/events") as stream:
            self.assertEqual(list(stream)[-1][0], "reply")

    def test_async_tasks_fill_it(self):
        drawn = self.task(deliveryMethod="async", outputType="URL", seed=None)
        one = self.task(deliveryMethod="async", outputType="URL")
        for which in (drawn, one):
            self.assertEqual(self.server.generate(which).status, 200)

        def done(which):
            data = self.server.get(f"/tasks/{which['taskUUID']}").json()["data"]
            return data[0] if data[0]["status"] == "success" else None
        wait_until(lambda: done(one), what="the result")
        self.assertKept()
        self.assertRun(seed=wait_until(lambda: done(drawn), what="the result")["seed"])

    def test_websocket(self):
        self.assertRun()
        with WebSocket(self.server) as ws:
            one = self.task()
            ws.send(one)
            item, = ws.receive()["data"]
        self.assertEqual((item["cost"], item["taskUUID"]), (0, one["taskUUID"]))

    def test_openai(self):
        body = {"prompt": self.prompt, "model": "runware:97@3", "size": "128x128", "seed": 7,
                "response_format": "b64_json", "n": 2}
        first, second = (self.server.request("POST", "/v1/images/generations", json.dumps(body),
                                             {"Content-Type": "application/json"}).json() for _ in range(2))
        self.assertEqual([d["b64_json"] for d in first["data"]], [d["b64_json"] for d in second["data"]])
        self.assertGreater(first["metadata"]["cost"], 0)
        self.assertEqual(second["metadata"]["cost"], 0)
        self.assertNotEqual(first["id"], second["id"])

    def test_what_nginx_counts(self):
        def spent():
            return float(re.search(r"^reverie_cost_total (\S+)", self.server.get("/metrics").body.decode(), re.M)[1])
        before, lines = spent(), len(self.logged(0) or [])
        self.assertRun()
        between = spent()
        self.assertGreater(between, before)
        self.assertKept()
        self.assertEqual(spent(), between)
        tasks = [line for line in self.logged(lines + 2)[lines:] if not line.startswith("-")]
        self.assertEqual(tasks[0].split()[0], "stub")
        self.assertEqual(tasks[1].split(), ["cache", "0.0000"])


class Bounded(CacheCase):
    cache = ("--cache", "2", "--cache-size", str(1 << 20))  # 21 pictures of 128 x 128

    def test_age(self):
        self.assertRun()
        self.assertKept()
        wait_until(lambda: self.run_one()[1] == "stub", what="the end of its life")

    def test_size(self):
        for seed in range(30):
            self.run_one(seed=100 + seed, steps=1)
        self.assertRun(seed=100, steps=1)
        self.assertRun(width=1024, height=512)  # larger than all the room
        self.assertRun(width=1024, height=512)


class Off(CacheCase):
    def test_off(self):
        self.assertRun()
        self.assertRun()


class Owners(CacheCase):
    cache = ("--cache", "60")
    http = "reverie_zone 1m; reverie_auth keys={dir}/keys;"
    limits = {"alice": "cost=0.001/d"}

    def test_keys_share_nothing(self):
        alice, bob = (f"Authorization: Bearer {KEYS[name]}\r\n" for name in ("alice", "bob"))
        self.assertRun(headers=alice, steps=1)
        self.assertRun(headers=bob, steps=1)
        for _ in range(8):  # the budget of four tasks is not touched
            self.assertKept(headers=alice, steps=1)


if __name__ == "__main__":
    unittest.main()
