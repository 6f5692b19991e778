"""Server-sent events of ?stream=1: one by one on the wire, complete for slow readers, gone with those who leave."""
import base64
import json
import socket
import time
import unittest

import harness
from harness import Daemon, Nginx, ServerCase, http_bytes, kind, reset, task, wait_until


class Stream:
    """A request for events; iterating gives (name, data); comments are counted."""

    def __init__(self, server, *tasks, query="stream=1", version="1.1", receive_buffer=None, headers=""):
        self.socket = server.connect(30)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.sendall(http_bytes(list(tasks), "/generate?" + query, headers).replace(
            b"HTTP/1.1", b"HTTP/" + version.encode(), 1))
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        for line in iter(lambda: self.file.readline().strip(), b""):
            name, value = line.decode().split(":", 1)
            self.headers[name.lower()] = value.strip()
        self.comments = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def reset(self):
        self.file.close()
        reset(self.socket)

    def pieces(self):
        """The body's bytes as they come, without chunk sizes."""
        if self.headers.get("transfer-encoding") != "chunked":
            yield from self.file
            return
        while True:
            size = int(self.file.readline(), 16)
            data = self.file.read(size)
            self.file.readline()
            if not size:
                return
            yield data

    def __iter__(self):
        text, name = b"", None
        for piece in self.pieces():
            text += piece
            while b"\n" in text:
                line, text = text.split(b"\n", 1)
                line = line.decode()
                if line.startswith(":"):
                    self.comments += 1
                elif line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    yield name, json.loads(line[6:])


class Events(ServerCase):
    options = {"http": "reverie_executor stub delay=20ms; reverie_heartbeat 1s;"}

    def check(self, events, one):
        names = [name for name, _ in events]
        self.assertEqual(names[0], "queued")
        self.assertEqual(names[1], "started")
        self.assertEqual(names[-2:], ["end", "reply"])
        images = [data for name, data in events if name == "image"]
        self.assertEqual(len(images), one.get("numberResults", 1))
        for _, data in events[:-1]:
            self.assertEqual(data["taskUUID"], one["taskUUID"])
        reply = events[-1][1]
        self.assertEqual(reply["status"], 200)
        self.assertEqual([i["item"] for i in images], reply["body"]["data"])

    def test_a_whole_stream(self):
        one = task(steps=10, numberResults=2)
        with Stream(self.server, one) as stream:
            self.assertEqual(stream.status, 200)
            self.assertEqual(stream.headers["content-type"], "text/event-stream")
            self.assertEqual(stream.headers["cache-control"], "no-store")
            self.assertEqual(stream.headers["x-accel-buffering"], "no")
            self.assertNotIn("content-length", stream.headers)
            times, events = [], []
            for event in stream:
                times.append(time.monotonic())
                events.append(event)
        self.check(events, one)
        self.assertGreater(times[-1] - times[0], 0.2)  # not all at the end
        steps = [d for n, d in events if n == "step"]
        self.assertGreater(len(steps), 4)
        self.assertTrue(all(d["steps"] == 10 and "preview" not in d for d in steps))

    def test_previews(self):
        with Stream(self.server, task(steps=4), query="stream=1&preview=1") as stream:
            previews = [d["preview"] for n, d in stream if n == "step" and "preview" in d]
        self.assertTrue(previews)
        for uri in previews:
            self.assertTrue(uri.startswith("data:image/jpeg;base64,"))
            self.assertEqual(kind(base64.b64decode(uri.split(",")[1])), "JPG")

    def test_old_http(self):
        one = task(steps=3)
        with Stream(self.server, one, version="1.0") as stream:
            self.assertNotIn("transfer-encoding", stream.headers)
            self.check(list(stream), one)

    def test_refused_at_once(self):
        with Stream(self.server, task(width=17)) as stream:
            self.assertEqual(stream.status, 400)
            self.assertEqual(stream.headers["content-type"], "application/json")

    def test_failures_are_told_in_the_stream(self):
        with Stream(self.server, task(positivePrompt="stub:fail=safety")) as stream:
            events = list(stream)
        self.assertEqual(events[-2][1]["state"], "failed")
        self.assertGreaterEqual(events[-1][1]["status"], 400)
        self.assertTrue(events[-1][1]["body"]["errors"])

    def test_heartbeat(self):
        with Stream(self.server, task(positivePrompt="stub:hang")) as stream:
            stream.socket.settimeout(20 * harness.SLOW)
            text = b""
            while b": keep-alive" not in text:
                text += stream.file.readline()

    def test_the_connection_is_kept(self):
        with Stream(self.server, task()) as stream:
            list(stream)
            stream.socket.sendall(http_bytes([task()]))
            status, _, body = harness.read_reply(stream.file)
            self.assertEqual(status, 200)

    def test_slow_reader(self):
        """Fewer steps, every picture."""
        one = task(steps=60, numberResults=4, width=1024, height=1024)
        with Stream(self.server, one, receive_buffer=4096, query="stream=1&preview=1") as stream:
            time.sleep(1)
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            events = list(stream)
        self.check(events, one)
        print(f"# a slow reader got {sum(n == 'step' for n, _ in events)} of 240 steps")

    def test_clients_that_leave(self):
        for leave in (Stream.reset, Stream.__exit__):
            streams = [Stream(self.server, task(positivePrompt="stub:hang")) for _ in range(8)]
            for stream in streams:
                leave(stream)
            self.assertPictures(self.server.generate(*[task(seed=n) for n in range(8)]), 8)

    def test_vanishing_at_any_moment(self):
        for n in range(40):
            stream = Stream(self.server, task(steps=4, numberResults=3, width=256, height=256),
                            query="stream=1&preview=1")
            stream.socket.settimeout(10)
            for _ in range(n % 9):
                stream.file.readline()
            (Stream.reset if n % 2 else Stream.__exit__)(stream)


class Ends(unittest.TestCase):
    def serve(self, **options):
        server = Nginx(**options)
        self.addCleanup(server.stop)
        return server.start()

    def test_one_that_never_reads_is_cut(self):
        server = self.serve(http="reverie_executor stub; send_timeout 1s;")
        stream = Stream(server, *[task(width=2048, height=2048, seed=n, numberResults=2) for n in range(4)],
                        receive_buffer=4096)
        wait_until(lambda: "does not read its events" in server.log(), what="the end of patience")
        stream.reset()
        server.verify()

    def test_reload_in_mid_stream(self):
        server = self.serve(http="reverie_executor stub delay=50ms;")
        one = task(steps=20)
        with Stream(server, one) as stream:
            events = iter(stream)
            next(events)
            server.reload()
            names = [name for name, _ in events]
        self.assertEqual(names[-2:], ["end", "reply"])
        server.verify()

    def test_gzip_does_not_hold_events_back(self):
        server = self.serve(http="reverie_executor stub delay=50ms; gzip on; gzip_types *; gzip_min_length 1;")
        with Stream(server, task(steps=10), headers="Accept-Encoding: gzip\r\n") as stream:
            times = [time.monotonic() for _ in stream.pieces()]
        self.assertGreater(times[-1] - times[0], 0.2)
        server.verify()

    def test_with_the_daemon(self):
        daemon = Daemon("--stub-ms", "20", "--preview-steps", "1")
        self.addCleanup(daemon.stop)
        daemon.start()
        server = self.serve(http=f"reverie_daemon unix:{daemon.socket};", results=daemon.results)
        server.spare = 48
        one = task(steps=8, outputType="URL")
        with Stream(server, one, query="stream=1&preview=1") as stream:
            events = list(stream)
        self.assertTrue(any("preview" in d for n, d in events if n == "step"))
        self.assertEqual(events[-1][1]["status"], 200)
        with Stream(server, dict(one, taskUUID=task()["taskUUID"])) as stream:
            self.assertFalse(any("preview" in d for _, d in stream))
        server.verify()

    def test_our_library_is_a_client_of_it(self):
        """nginx speaks what reveried speaks: one nginx may run its tasks through another."""
        inner = self.serve(http="reverie_executor stub delay=5ms;")
        outer = self.serve(http=f"reverie_daemon http://127.0.0.1:{inner.port};")
        outer.spare = inner.spare = 48
        one = task(steps=5)
        with Stream(outer, one, query="stream=1&preview=1") as stream:
            events = list(stream)
        self.assertEqual(events[-1][1]["status"], 200)
        self.assertTrue(any("preview" in d for n, d in events if n == "step"))
        outer.verify()
        inner.verify()


if __name__ == "__main__":
    unittest.main()
