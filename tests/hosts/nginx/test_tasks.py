"""Tasks by taskUUID through nginx and reveried: asynchronous ones, their events, their end."""
import os
import unittest
import uuid

import harness
from harness import Daemon, Nginx, ServerCase, task, wait_until
from test_access import KEYS, key_file
from test_stream import Stream
from websocket import WebSocket


class Events(Stream):
    """GET of a task's events."""

    def __init__(self, server, path, headers=""):
        self.socket = server.connect(30)
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        for line in iter(lambda: self.file.readline().strip(), b""):
            name, value = line.decode().split(":", 1)
            self.headers[name.lower()] = value.strip()
        self.comments = 0


class Tasks(unittest.TestCase):
    keys = ""

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon("--stub-ms", "50", "--grace", "0").start()
        cls.server = Nginx(http=f"reverie_daemon unix:{cls.daemon.socket};{cls.keys}", results=cls.daemon.results,
                           workers=2, locations="location /tasks/ { reverie_tasks; }")
        cls.server.spare = 64
        key_file(os.path.join(cls.server.folder, "keys"))
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.daemon.stop()

    def tearDown(self):
        self.server.verify()

    assertError = ServerCase.assertError

    def start(self, headers=None, **members):
        one = task(deliveryMethod="async", outputType="URL", **members)
        reply = self.server.generate(one, headers=headers)
        self.assertEqual(reply.status, 200, reply.body)
        self.assertEqual(reply.json()["data"], [{"taskType": "imageInference", "taskUUID": one["taskUUID"]}])
        return one["taskUUID"]

    def response(self, which, **headers):
        return self.server.generate({"taskType": "getResponse", "taskUUID": which}, headers=headers)

    def finished(self, which, **headers):
        def done():
            data = self.response(which, **headers).json().get("data", [])
            return data if data and all(d["status"] != "processing" for d in data) else None
        return wait_until(done, what="the result")


class ByUUID(Tasks):
    def test_async(self):
        which = self.start(numberResults=2)
        data = self.finished(which)
        self.assertEqual(len(data), 2)
        for item in data:
            self.assertIsNotNone(harness.kind(harness.picture(item, self.server)))
        reply = self.server.get(f"/tasks/{which}")
        self.assertEqual((reply.status, reply.json()["data"]), (200, data))

    def test_events_of_a_task_started_elsewhere(self):
        which = self.start(steps=20)
        with Events(self.server, f"/tasks/{which}/events") as stream:
            self.assertEqual((stream.status, stream.headers["content-type"]), (200, "text/event-stream"))
            events = list(stream)
        names = [name for name, _ in events]
        self.assertIn("step", names)
        self.assertEqual(names[-3:], ["image", "end", "reply"])
        self.assertEqual(events[-1][1]["body"]["data"][0]["status"], "success")
        with Events(self.server, f"/tasks/{which}/events") as stream:  # after the end: the same end again
            self.assertEqual([name for name, _ in stream][-2:], ["end", "reply"])

    def test_two_watchers_and_one_that_leaves(self):
        which = self.start(steps=20)
        with Events(self.server, f"/tasks/{which}/events") as first:
            Events(self.server, f"/tasks/{which}/events").reset()
            self.assertEqual([name for name, _ in first][-1], "reply")
        self.assertEqual(self.finished(which)[0]["status"], "success")

    def test_cancel(self):
        which = self.start(positivePrompt="stub:hang")
        with Events(self.server, f"/tasks/{which}/events") as stream:
            reply = self.server.request("DELETE", f"/tasks/{which}")
            self.assertEqual((reply.status, reply.json()["data"][0]["cancelled"]), (200, True), reply.body)
            self.assertEqual(dict(stream)["end"]["state"], "stopped")
        self.assertFalse(self.server.request("DELETE", f"/tasks/{which}").json()["data"][0]["cancelled"])

    def test_unknown(self):
        nobody = uuid.uuid4()
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
            self.assertError(self.server.request(method, f"/tasks/{nobody}{path}"), 404, "taskNotFound")

    def test_paths_and_methods(self):
        for path in ("", "x", "x/events", f"{uuid.uuid4()}x", f"{uuid.uuid4()}/event", f"{uuid.uuid4()}/events/",
                     f"{uuid.uuid4()}/", str(uuid.uuid4()).replace("-", "0")):
            self.assertError(self.server.get("/tasks/" + path), 404, "taskNotFound")
        for method, path in (("POST", ""), ("PUT", ""), ("DELETE", "/events"), ("HEAD", "/events")):
            reply = self.server.request(method, f"/tasks/{uuid.uuid4()}{path}")
            self.assertEqual(reply.status, 405)
            self.assertEqual(reply.headers["Allow"], "GET, HEAD, DELETE")

    def test_websocket(self):
        with WebSocket(self.server) as ws:
            one = task(deliveryMethod="async", outputType="URL", numberResults=2)
            ws.send(one)
            self.assertEqual(ws.receive()["data"], [{"taskType": "imageInference", "taskUUID": one["taskUUID"]}])
            self.finished(one["taskUUID"])
            ws.send({"taskType": "getResponse", "taskUUID": one["taskUUID"]})
            message = ws.receive()
            self.assertEqual(list(message), ["data"])
            self.assertEqual([d["status"] for d in message["data"]], ["success"] * 2)
            ws.send({"taskType": "getResponse", "taskUUID": str(uuid.uuid4())})
            self.assertEqual(ws.receive()["errors"][0]["code"], "taskNotFound")

    def test_reload_in_mid_task(self):
        which = self.start(steps=20)
        with Events(self.server, f"/tasks/{which}/events") as stream:
            self.server.reload()
            self.assertEqual([name for name, _ in stream][-1], "reply")
        self.server.baseline = {}


class Owners(Tasks):
    keys = "reverie_auth keys={dir}/keys;"

    def test_tasks_belong_to_their_key(self):
        alice, bob = ({"Authorization": "Bearer " + KEYS[name]} for name in ("alice", "bob"))
        which = self.start(alice)
        self.assertEqual(self.finished(which, **alice)[0]["status"], "success")
        self.assertError(self.response(which, **bob), 404, "taskNotFound")
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
            self.assertError(self.server.request(method, f"/tasks/{which}{path}", headers=bob), 404, "taskNotFound")
            self.assertError(self.server.request(method, f"/tasks/{which}{path}"), 401, "missingApiKey")
        self.assertEqual(self.server.request("GET", f"/tasks/{which}", headers=alice).status, 200)


if __name__ == "__main__":
    unittest.main()
