"""The engine is dead, the first service is down, the second one answers: one picture, one charge, and no long wait."""
import http.client
import json
import os
import shutil
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../hosts/nginx")]
from fakes import Fakes  # noqa: E402
from harness import SLOW, Daemon, Nginx  # noqa: E402

MODELS = {"runware": "runware:97@3", "lumenfall": "hidream-i1-fast", "fal": "fal-ai/hidream-i1-fast"}


def task(number, prompt="a heron"):
    return {"taskType": "imageInference", "taskUUID": f"00000000-0000-4000-8000-{number:012d}", "model": "test:1@1",
            "positivePrompt": prompt, "width": 128, "height": 128, "steps": 4, "seed": 7, "outputType": "base64Data",
            "includeCost": True}


class Fallback(unittest.TestCase):
    """nginx with a card of three executors; its daemon knows what `daemon_entries` says."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="fallback-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.fakes = Fakes()
        self.addCleanup(self.fakes.close)
        self.fakes.faults["down"] = lambda h, phase, number: phase == "submit" and (h.send(503, {}), True)[1]

    def entry(self, service, place):
        return {"name": service, "url": f"{self.fakes.url}/{service}/{place}", "model": MODELS[service]}

    def cards(self, name, *entries):
        folder = os.path.join(self.folder, name)
        os.makedirs(folder)
        with open(os.path.join(folder, "card.json"), "w") as f:
            json.dump({"id": "test:1@1", "name": "fallback", "family": "hidream", "executors": list(entries),
                       "parameters": {"CFGScale": {"default": 0}, "steps": {"default": 16}}}, f)
        return folder

    def serve(self, *daemon_entries):
        ours = self.cards("ours", {"name": "engine"}, self.entry("runware", "down"), self.entry("lumenfall", "up"))
        self.daemon = Daemon("--models", self.cards("daemon's", *daemon_entries)).start()
        self.addCleanup(self.daemon.stop)
        self.nginx = Nginx(http=f"reverie_daemon unix:{self.daemon.socket};", results=self.daemon.results,
                           template=Nginx.template.replace("{cards}", ours)).start()
        self.addCleanup(self.nginx.stop)
        self.nginx.spare = 16  # two clients, each with a thread of its own

    def assert_served(self, reply, started):
        delay = time.monotonic() - started
        print(f"# answered {delay * 1000:.0f} ms after the engine was gone", file=sys.stderr)
        self.assertEqual(reply.status, 200, str(reply.body)[:300])
        self.assertEqual((len(reply.json()["data"]), reply.json()["data"][0]["cost"]), (1, 0.01))
        self.assertEqual(dict(self.fakes.charges), {("lumenfall", "up"): 1})
        self.assertGreaterEqual(self.fakes.counts[("runware", "down"), "submit"], 1)
        self.assertLess(delay, 1 + 10 * SLOW)  # 1 s on a quiet machine; the usual pauses alone would be longer
        self.nginx.verify()

    def test_killed_before_the_task(self):
        self.serve({"name": "engine"})
        self.daemon.kill()
        started = time.monotonic()
        self.assert_served(self.nginx.generate(task(1)), started)

    def test_killed_in_the_middle_of_the_task(self):
        self.serve({"name": "engine"})
        connection = self.begin(task(1, "stub:hang"))
        self.daemon.kill()
        started = time.monotonic()
        self.assert_served(self.end(connection), started)

    def test_killed_where_it_may_have_asked_a_service(self):
        """The daemon could have paid for the task already, so nobody else is asked."""
        self.serve({"name": "engine"}, self.entry("lumenfall", "daemon's"))
        connection = self.begin(task(1, "stub:hang"))
        self.daemon.kill()
        reply = self.end(connection)
        self.assertEqual(reply.status, 503)
        self.assertIn("went away", reply.json()["errors"][0]["message"])
        self.assertEqual(sum(self.fakes.charges.values()), 0)

    def test_living_daemon_is_what_runs(self):
        self.serve({"name": "engine"})
        reply = self.nginx.generate(task(1))
        self.assertEqual((reply.status, self.fakes.requests), (200, {}))

    def test_what_the_daemon_refuses_is_refused(self):
        """Its word counts: a service of ours would be charged for what the daemon may have paid for already."""
        self.serve(self.entry("runware", "down"))
        reply = self.nginx.generate(task(1))
        self.assertGreaterEqual(reply.status, 400)
        self.assertEqual(sum(self.fakes.charges.values()), 0)

    def begin(self, *tasks):
        """An event stream whose task is known to run."""
        connection = http.client.HTTPConnection("127.0.0.1", self.nginx.port, timeout=60 * SLOW)
        connection.request("POST", "/generate?stream=1", json.dumps(tasks), {"Content-Type": "application/json"})
        events = connection.getresponse()
        self.addCleanup(connection.close)
        while events.readline() != b"event: started\n":
            pass
        return events

    def end(self, events):
        for line in events:
            if line == b"event: reply\n":
                return Told(json.loads(events.readline().removeprefix(b"data: ")))
        raise AssertionError("a stream without reply")


class Told:
    """The reply that an event stream ends with."""

    def __init__(self, event):
        self.status, self.body = event["status"], event["body"]

    def json(self):
        return self.body


if __name__ == "__main__":
    unittest.main()
