"""Two nodes, each with its nginx and its reveried, on one Valkey: any node answers for any task."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from harness import Daemon, Nginx, free_port, task, wait_until
from test_tasks import Events

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../daemon"))
from reveried import Connection  # noqa: E402


class Node:
    def __init__(self, queue):
        self.daemon = Daemon("--stub-ms", "50", "--grace", "0", "--queue", queue).start()
        self.server = Nginx(http=f"reverie_daemon unix:{self.daemon.socket};", results=self.daemon.results,
                            locations="location /tasks/ { reverie_tasks; }")
        self.server.spare = 64
        self.server.start()

    def running(self):
        c = Connection(self.daemon.socket)
        c.request("GET", "/healthz")
        health = json.loads(c.getresponse().read())
        c.close()
        return health["queue"]["live"]

    def get(self, which):
        return self.server.get(f"/tasks/{which}")

    def cancel(self, which):
        return self.server.request("DELETE", f"/tasks/{which}").json()["data"][0]["cancelled"]

    def events(self, which):
        return Events(self.server, f"/tasks/{which}/events")

    def stop(self):
        self.server.stop()
        self.daemon.stop()


@unittest.skipUnless(shutil.which("valkey-server"), "valkey-server is not installed")
class TwoNodes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="nodes-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.port = free_port()
        cls.valkey = subprocess.Popen(["valkey-server", "--port", str(cls.port), "--bind", "127.0.0.1", "--dir",
                                       cls.folder, "--save", "", "--appendonly", "yes"], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL)
        cls.addClassCleanup(cls.end_valkey)
        wait_until(lambda: cls.command("PING") == "PONG", what="Valkey")
        cls.nodes = []
        for _ in range(2):
            cls.nodes.append(Node(f"redis://127.0.0.1:{cls.port}/0?lease=1500"))
            cls.addClassCleanup(cls.nodes[-1].stop)

    @classmethod
    def end_valkey(cls):
        cls.valkey.kill()
        cls.valkey.wait()

    @classmethod
    def command(cls, *words):
        run = subprocess.run(["valkey-cli", "-p", str(cls.port), *words], capture_output=True, text=True)
        return run.stdout.strip()

    def tearDown(self):
        for node in self.nodes:
            node.server.verify()

    def start(self, **members):
        """A task that runs: its taskUUID, the node that runs it, and the other one."""
        one = task(deliveryMethod="async", outputType="URL", **members)
        self.assertEqual(self.nodes[0].server.generate(one).status, 200)
        wait_until(lambda: any(n.running() for n in self.nodes), what="the beginning of the task")
        here, there = self.nodes if self.nodes[0].running() else reversed(self.nodes)
        return one["taskUUID"], here, there

    def test_events_of_the_other_node(self):
        which, here, there = self.start(steps=40, numberResults=2)
        with there.events(which) as stream:
            events = list(stream)
        names = [name for name, _ in events]
        self.assertEqual((names[0], names[-2:]), ("started", ["end", "reply"]))
        self.assertEqual(names.count("image"), 2)
        steps = [(data["index"], data["step"]) for name, data in events if name == "step"]
        self.assertEqual(steps, sorted(set(steps)))
        self.assertGreater(len(steps), 4)
        self.assertEqual({data["taskUUID"] for name, data in events if name != "reply"}, {which})
        data = events[-1][1]["body"]["data"]
        self.assertEqual([item["status"] for item in data], ["success"] * 2)
        self.assertEqual([here.get(which).json()["data"], there.get(which).json()["data"]], [data] * 2)
        print(f"# {len(steps)} of 80 steps seen from the other node")

    def test_events_begin_before_the_task(self):
        """Asked for while it waits: everything is told, wherever it will run."""
        held = [self.start(positivePrompt="stub:hang")[0] for _ in range(8)]  # all threads of both nodes
        one = task(deliveryMethod="async", outputType="URL", steps=20)
        self.assertEqual(self.nodes[0].server.generate(one).status, 200)
        with self.nodes[0].events(one["taskUUID"]) as first, self.nodes[1].events(one["taskUUID"]) as second:
            for which in held:
                self.assertTrue(self.nodes[0].cancel(which))
            for stream in (first, second):
                names = [name for name, _ in stream]
                self.assertEqual((names[0], names[-3:]), ("queued", ["image", "end", "reply"]))
                self.assertIn("step", names)

    def test_status_tells_the_progress(self):
        which, _, there = self.start(steps=60)
        seen = set()

        def done():
            item, = there.get(which).json()["data"]
            seen.add(item.get("progress"))
            return item["status"] == "success"
        wait_until(done, what="the end")
        self.assertGreater(len(seen - {None}), 2, seen)

    def test_cancel_through_the_other_node(self):
        which, here, there = self.start(positivePrompt="stub:hang")
        with here.events(which) as watched, there.events(which) as stream:
            self.assertTrue(there.cancel(which))
            self.assertEqual(dict(stream)["end"]["state"], "stopped")
            self.assertEqual(dict(watched)["end"]["state"], "stopped")
        self.assertFalse(there.cancel(which))
        for node in self.nodes:
            reply = node.get(which)
            self.assertEqual(reply.status, 200)
            self.assertEqual(reply.json()["errors"][0]["code"], "taskCancelled")
        wait_until(lambda: not here.running(), what="the end of the work")

    def test_cancelled_while_its_node_dies(self):
        """Nobody is left to hear of it: whoever takes the task over ends it instead of running it again."""
        which, here, there = self.start(positivePrompt="stub:hang")
        here.daemon.kill()
        try:
            self.assertTrue(there.cancel(which))
            wait_until(lambda: there.get(which).json().get("errors"), what="the end of the task")
            self.assertEqual(there.get(which).json()["errors"][0]["code"], "taskCancelled")
        finally:
            here.daemon.start()
            wait_until(lambda: here.server.get("/healthz").json()["daemon"] == "up", what="the node")

    def test_without_the_doorbell(self):
        """A lost connection to the channel costs time, not events."""
        which, _, there = self.start(steps=60)
        with there.events(which) as stream:
            self.assertEqual(self.command("CLIENT", "KILL", "TYPE", "pubsub"), "2")
            names = [name for name, _ in stream]
        self.assertEqual((names[0], names[-3:]), ("started", ["image", "end", "reply"]))


if __name__ == "__main__":
    unittest.main()
