"""Stored tasks whose process is killed while a service works: what was paid is fetched, nothing is paid twice."""
import json
import os
import signal
import sys
import threading
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../daemon")]
from fakes import Fakes  # noqa: E402
from reveried import DaemonTest, task, wait_until  # noqa: E402

MODELS = {"runware": "runware:97@3", "lumenfall": "hidream-i1-fast", "fal": "fal-ai/hidream-i1-fast",
          "replicate": "prunaai/hidream-l1-fast"}


class Interrupted(DaemonTest):
    options = ("--fetch-allow", "127.0.0.1", "--fetch-ports", "*", "--service-pause-ms", "20", "--grace", "0")

    def setUp(self):
        os.environ["FAKE_KEY"] = "key"
        self.fakes = Fakes()
        self.addCleanup(self.fakes.close)
        self.released = threading.Event()
        self.addCleanup(self.released.set)
        super().setUp()
        self.daemon.cards = os.path.join(self.folder, "cards")
        os.mkdir(self.daemon.cards)

    def entry(self, service, place="a", **more):
        return dict({"name": service, "url": f"{self.fakes.url}/{service}/{place}", "model": MODELS[service],
                     "key_env": "FAKE_KEY", "adapt": True}, **more)

    def cards(self, *entries):
        with open(os.path.join(self.daemon.cards, "card.json"), "w") as f:
            json.dump({"id": "test:1@1", "name": "interrupted", "family": "hidream", "executors": entries,
                       "parameters": {"CFGScale": {"default": 0}, "steps": {"default": 16}}}, f)

    def begin(self, *entries, **more):
        self.cards(*entries)
        self.daemon.start()
        status, reply = self.daemon.generate(task(1, model="test:1@1", steps=16, deliveryMethod="async", **more))
        self.assertEqual(status, 200, reply)

    def kill(self):
        self.daemon.stop(signal.SIGKILL)
        self.released.set()
        self.daemon.start()

    def finished(self):
        question = {"taskType": "getResponse", "taskUUID": task(1)["taskUUID"]}

        def ended():
            _, reply = self.daemon.generate(question)
            waits = any(i["status"] == "processing" for i in reply["data"])
            return None if waits else reply
        return wait_until(ended, 60, "the end of the task")

    def charges(self):
        return sum(self.fakes.charges.values())

    def counted(self, service, phase, at_least=1):
        wait_until(lambda: self.fakes.counts[(service, "a"), phase] >= at_least, what=f"{phase} at {service}")

    def hold(self, then=None):
        """The service does the work and says nothing until the test lets it."""
        def fault(h, phase, number):
            if phase != "submit" or number:
                return False
            if then:
                then(h)
            h.charge()
            self.released.wait(60)
            h.drop()
            return True
        self.fakes.faults["a"] = fault

    def test_what_has_no_name_is_not_sent_again(self):
        self.hold()
        self.begin(self.entry("lumenfall"), self.entry("fal", "b"), {"name": "engine"})
        self.counted("lumenfall", "submit")
        wait_until(self.charges, what="the charge")
        self.kill()
        reply = self.finished()
        self.assertEqual(reply["errors"][0]["code"], "taskInterrupted", reply)
        self.assertIn("Lumenfall", reply["errors"][0]["message"])
        self.assertEqual((self.charges(), self.fakes.counts[("lumenfall", "a"), "submit"]), (1, 1))

    def test_runware_knows_the_task_again(self):
        self.hold(lambda h: self.fakes.known.update({(h.place, json.loads(h.body)[0]["taskUUID"]): json.loads(h.body)[0]}))
        self.begin(self.entry("runware"), self.entry("fal", "b"))
        wait_until(self.charges, what="the charge")
        self.kill()
        self.assertEqual([i["status"] for i in self.finished()["data"]], ["success"])
        self.assertEqual(self.charges(), 1)

    def work_until_released(self, service):
        def fault(h, phase, number):
            if phase != "poll" or self.released.is_set():
                return False
            name = h.rest.rsplit("/", 1)[-1]
            h.send(200, {"status": "IN_PROGRESS" if service == "fal" else "processing", "id": name})
            return True
        self.fakes.faults["a"] = fault

    def test_fal_is_asked_by_its_own_name(self):
        self.work_until_released("fal")
        self.begin(self.entry("lumenfall", "b", max_cost=0, price={"base": 1}), self.entry("fal"), numberResults=2)
        self.counted("fal", "poll", 2)
        self.kill()
        reply = self.finished()
        self.assertEqual([(i["status"], i["seed"]) for i in reply["data"]], [("success", 7), ("success", 8)], reply)
        self.assertEqual((self.charges(), self.fakes.counts[("fal", "a"), "submit"]), (2, 1))

    def test_replicate_goes_on_where_it_was(self):
        """Two of three predictions are paid when the process dies: one is done, one at work."""
        def fault(h, phase, number):
            if phase != "poll" or self.released.is_set() or not h.rest.endswith("p1"):
                return False
            h.send(200, {"status": "processing", "id": "p1"})
            return True
        self.fakes.faults["a"] = fault
        self.begin(self.entry("replicate"), width=1024, height=1024, numberResults=3)
        self.counted("replicate", "submit", 2)
        self.counted("replicate", "poll", 4)
        self.kill()
        reply = self.finished()
        self.assertEqual([(i["status"], i["seed"]) for i in reply["data"]],
                         [("success", 7), ("success", 8), ("success", 9)], reply)
        self.assertEqual(self.charges(), 3)

    def test_service_that_is_gone_from_the_card(self):
        self.work_until_released("fal")
        self.begin(self.entry("fal"))
        self.counted("fal", "poll")
        self.cards(self.entry("lumenfall", "b"))
        self.kill()
        self.assertEqual(self.finished()["errors"][0]["code"], "taskInterrupted")
        self.assertEqual(self.charges(), 1)

    def test_refused_by_one_is_not_in_doubt(self):
        """A service that did nothing leaves no trace: the next one is killed, and its task is the one that counts."""
        self.fakes.faults["down"] = lambda h, phase, number: phase == "submit" and (h.send(503, {}), True)[1]
        self.work_until_released("fal")
        self.begin(self.entry("lumenfall", "down"), self.entry("fal"))
        self.counted("fal", "poll")
        self.kill()
        self.assertEqual([i["status"] for i in self.finished()["data"]], ["success"])
        self.assertEqual(dict(self.fakes.charges), {("fal", "a"): 1})

    def test_killed_before_anything_was_sent(self):
        """The engine had it: it simply runs again, and the service behind it is not asked."""
        self.begin({"name": "engine"}, self.entry("fal"), positivePrompt="a heron", numberResults=1)
        self.kill()
        self.assertEqual([i["status"] for i in self.finished()["data"]], ["success"])
        self.assertEqual(self.charges(), 0)


if __name__ == "__main__":
    unittest.main()
