"""WebSocket at /generate: what official clients do, what hostile ones do, and what a reload does to both."""
import base64
import json
import signal
import struct
import time
import unittest
import uuid

import harness
from harness import Beside, Daemon, Nginx, ServerCase, kind, picture, png, task, wait_until
from websocket import BINARY, CLOSE, PING, PONG, TEXT, Closed, WebSocket, frame


def authentication(key="any key", **more):
    return {"taskType": "authentication", "apiKey": key, **more}


class Handshake(ServerCase):
    def test_answer(self):
        with WebSocket(self.server, "/generate?sdk=js&version=1.3.2") as ws:
            self.assertEqual(ws.status, 101)
            self.assertEqual(ws.headers["upgrade"].lower(), "websocket")
            self.assertEqual(ws.headers["connection"].lower(), "upgrade")
            self.assertNotIn("sec-websocket-extensions", ws.headers)
            self.assertEqual(ws.close(), 1000)

    def test_refused(self):
        for name, headers in (("old version", {"Sec-WebSocket-Version": "8"}),
                              ("no version", {"Sec-WebSocket-Version": None}),
                              ("no key", {"Sec-WebSocket-Key": None}),
                              ("short key", {"Sec-WebSocket-Key": "abc"}),
                              ("with a body", {"Content-Length": "3"})):
            with self.subTest(name), WebSocket(self.server, headers=headers, early=b"abc") as ws:
                self.assertEqual(ws.status, 426)
                self.assertEqual(ws.headers["upgrade"], "websocket")
                self.assertEqual(ws.headers["sec-websocket-version"], "13")
                body = json.loads(ws.file.read(int(ws.headers["content-length"])))
                self.assertEqual(body["errors"][0]["code"], "upgradeRequired")

    def test_without_upgrade(self):
        reply = self.server.get("/generate")
        self.assertError(reply, 405, "unsupportedTaskType")
        self.assertIn("WebSocket", reply.json()["errors"][0]["message"])

    def test_frames_that_come_with_the_request(self):
        early = frame(json.dumps([{"taskType": "ping", "ping": True}]).encode())
        for cut in (len(early), len(early) - 3, 1):
            with WebSocket(self.server, early=early[:cut]) as ws:
                ws.raw(early[cut:])
                self.assertEqual(ws.receive(), {"data": [{"taskType": "ping", "pong": True}]})


class Tasks(ServerCase):
    options = {"http": "reverie_executor stub delay=20ms;"}

    def test_authentication_and_ping(self):
        with WebSocket(self.server) as ws:
            ws.send(authentication())
            item, = ws.receive()["data"]
            self.assertEqual(item["taskType"], "authentication")
            self.assertEqual(uuid.UUID(item["connectionSessionUUID"]).version, 4)
            ws.send({"taskType": "ping", "ping": True})
            self.assertEqual(ws.receive(), {"data": [{"taskType": "ping", "pong": True}]})

    def test_every_output_type(self):
        with WebSocket(self.server) as ws:
            for way in ("base64Data", "dataURI", "URL"):
                one = task(outputType=way)
                ws.send(one)
                message = ws.receive()
                self.assertEqual(list(message), ["data"])
                item, = message["data"]
                self.assertEqual(item["taskUUID"], one["taskUUID"])
                self.assertEqual(kind(picture(item, self.server)), "PNG")

    def test_same_picture_as_by_post(self):
        one = task(seed=11)
        with WebSocket(self.server) as ws:
            ws.send(one)
            here = ws.receive()["data"][0]
        there, = self.assertPictures(self.server.generate(dict(one, taskUUID=str(uuid.uuid4()))))
        self.assertEqual(here["imageBase64Data"], there["imageBase64Data"])

    def test_pictures_come_one_by_one(self):
        """Each in a message of its own, the first long before the last."""
        with WebSocket(self.server) as ws:
            one = task(numberResults=4, steps=10, seed=5)
            ws.send(one)
            times, seeds = [], []
            for _ in range(4):
                item, = ws.receive()["data"]
                times.append(time.monotonic())
                seeds.append(item["seed"])
        self.assertEqual(seeds, [5, 6, 7, 8])
        self.assertGreater(times[-1] - times[0], 0.3)

    def test_several_tasks_in_a_frame(self):
        """The quick one overtakes; messages never mix tasks, nor data and errors."""
        slow, quick, bad = task(steps=20), task(), task(width=17)
        broken = task(positivePrompt="stub:fail=safety")
        with WebSocket(self.server) as ws:
            ws.send(slow, quick, bad, broken)
            found = [ws.receive() for _ in range(4)]
        order = []
        for message in found:
            self.assertEqual(len(message), 1, message.keys())
            uuids = {entry["taskUUID"] for entries in message.values() for entry in entries}
            self.assertEqual(len(uuids), 1)
            order.append((list(message)[0], uuids.pop()))
        self.assertEqual(order[0], ("errors", bad["taskUUID"]))
        self.assertEqual(set(order), {("errors", bad["taskUUID"]), ("errors", broken["taskUUID"]),
                                      ("data", slow["taskUUID"]), ("data", quick["taskUUID"])})
        self.assertEqual(order[-1], ("data", slow["taskUUID"]))

    def test_all_problems_of_a_task_in_one_message(self):
        with WebSocket(self.server) as ws:
            ws.send(task(width=17, steps=0, outputFormat="GIF"))
            message = ws.receive()
            self.assertEqual(list(message), ["errors"])
            self.assertLessEqual({"width", "steps", "outputFormat"},
                                 {e["parameter"] for e in message["errors"] if isinstance(e["parameter"], str)})

    def test_messages_that_are_no_tasks(self):
        with WebSocket(self.server) as ws:
            for text in ("", "{", "[]", "null", "3", "[" * 5000, "[{}]", "[3]"):
                ws.raw(frame(text.encode()))
                self.assertTrue(ws.receive()["errors"][0]["code"], text[:20])
            ws.send(task())  # and the connection still works
            self.assertIn("data", ws.receive())

    def test_warnings_stand_beside_the_last_picture(self):
        with WebSocket(self.server) as ws:
            ws.send(task(positivePrompt="stub:warn", numberResults=2))
            first, last = ws.receive(), ws.receive()
        self.assertNotIn("warnings", first)
        self.assertTrue(last["warnings"])
        self.assertEqual(len(last["data"]), 1)

    def test_dry_run(self):
        for path in ("/generate?dryRun=1", "/generate?dryRun=true&sdk=js"):
            with WebSocket(self.server, path) as ws:
                good, bad = task(numberResults=3), task(width=17)
                ws.send(good, bad)
                answers = [ws.receive(), ws.receive()]
                data = [m for m in answers if "data" in m][0]["data"]
                self.assertEqual([d["dryRun"] for d in data], [True] * 3)
                self.assertEqual({d["taskUUID"] for d in data}, {good["taskUUID"]})
                self.assertTrue([m for m in answers if "errors" in m])
        reply = self.server.generate(task(), path="/generate?dryRun=1")
        self.assertTrue(reply.json()["data"][0]["dryRun"])
        self.assertNotIn("imageBase64Data", reply.json()["data"][0])

    def test_fifty_at_once(self):
        tasks = [task(seed=n) for n in range(50)]
        with WebSocket(self.server) as ws:
            for one in tasks:
                ws.send(one)
            found = {}
            for _ in tasks:
                item, = ws.receive()["data"]
                found[item["taskUUID"]] = item["seed"]
        self.assertEqual(found, {t["taskUUID"]: t["seed"] for t in tasks})

    def test_answers_of_many_megabytes_to_a_slow_reader(self):
        tasks = [task(width=1024, height=1024, seed=n) for n in range(4)]
        with WebSocket(self.server, receive_buffer=65536) as ws:
            ws.send(*tasks)
            time.sleep(0.5)
            sizes = []
            for _ in tasks:
                item, = ws.receive()["data"]
                sizes.append(len(item["imageBase64Data"]))
        print(f"# {sum(sizes)} bytes to a slow reader")


class LargeMessages(ServerCase):
    """Parsed on threads, while the connection is not read from and may end."""
    options = {"main": "thread_pool reverie threads=2;", "generate": "client_max_body_size 16m;"}

    def large(self, **members):
        text = "data:image/png;base64," + base64.b64encode(png(1280, 1024)).decode()
        self.assertGreater(len(text), 5_000_000)
        return task(**{"model": "reverie:1@1", "seedImage": text, "strength": 0.8, "steps": 2, **members})

    def test_the_same_pictures_as_without_threads(self):
        plain = Nginx(generate="client_max_body_size 16m;")
        self.addCleanup(plain.stop)
        plain.start()
        tasks = [self.large(seed=n) for n in range(3)]
        wanted = {one["taskUUID"]: self.assertPictures(plain.generate(one))[0]["imageBase64Data"] for one in tasks}
        found = {}
        with Beside(self.server) as light, WebSocket(self.server) as ws:
            for one in tasks:
                ws.send(one)
            for _ in tasks:
                item, = ws.receive()["data"]
                found[item["taskUUID"]] = item["imageBase64Data"]
        self.assertEqual(found, wanted)
        light.report("3 messages of 5 MB")

    def test_order(self):
        """What comes behind a large message waits for it, whether it was read together with it or not."""
        bad = self.large(width=17)
        pings = [frame(json.dumps([{"taskType": "ping", "ping": True}]).encode())] * 100
        with WebSocket(self.server) as ws:
            for _ in range(2):
                ws.raw(frame(json.dumps([bad]).encode()) + b"".join(pings))
                self.assertEqual({e["taskUUID"] for e in ws.receive()["errors"]}, {bad["taskUUID"]})
                for _ in pings:
                    self.assertEqual(ws.receive(), {"data": [{"taskType": "ping", "pong": True}]})
            self.assertEqual(ws.close(), 1000)

    def test_fragments(self):
        one = self.large()
        text = json.dumps([one]).encode()
        with WebSocket(self.server) as ws:
            for start in range(0, len(text), 1 << 20):
                ws.raw(frame(text[start:start + (1 << 20)], TEXT if not start else 0, start + (1 << 20) >= len(text)))
                ws.raw(frame(b"between", PING))
            self.assertEqual(ws.receive()["data"][0]["taskUUID"], one["taskUUID"])

    def test_no_json(self):
        with WebSocket(self.server) as ws:
            ws.raw(frame(b"[" + b" " * 300_000))
            self.assertEqual(ws.receive()["errors"][0]["code"], "invalidRequestBody")

    def test_goodbye_behind_it(self):
        """The tasks are given up, as those of every client that says goodbye."""
        with WebSocket(self.server) as ws:
            ws.raw(frame(json.dumps([self.large()]).encode()) + frame(b"\x03\xe8", CLOSE))
            self.assertEqual(ws.close_code(answer=False), 1000)

    def test_broken_frame_behind_it(self):
        with WebSocket(self.server) as ws:
            ws.raw(frame(json.dumps([self.large()]).encode()) + frame(b"x", 3))
            self.assertEqual(ws.close_code(), 1002)

    def test_clients_that_leave(self):
        text = frame(json.dumps([self.large()]).encode())
        for n in range(12):
            ws = WebSocket(self.server)
            ws.raw(text + frame(b"", PING) * (n % 2))
            if n % 3:
                ws.reset()
            else:
                ws.__exit__()
        with WebSocket(self.server) as ws:
            ws.send(task())
            self.assertEqual(kind(picture(ws.receive()["data"][0])), "PNG")

    def test_reload_meanwhile(self):
        """The worker that leaves parses to the end; another task keeps it until all of the message has come."""
        one = self.large()
        with WebSocket(self.server) as ws:
            ws.send(task(positivePrompt="stub:hang"))
            ws.send({"taskType": "ping", "ping": True})
            self.assertEqual(ws.receive(), {"data": [{"taskType": "ping", "pong": True}]})
            ws.send(one)
            self.server.reload()
            self.assertEqual(ws.receive()["data"][0]["taskUUID"], one["taskUUID"])
            self.assertEqual(ws.close(), 1000)
        self.server.baseline = {}


class Resume(ServerCase):
    options = {"http": "reverie_executor stub delay=100ms; reverie_websocket on resume=20s;"}

    def session(self, ws, **more):
        ws.send(authentication(**more))
        return ws.receive()["data"][0]["connectionSessionUUID"]

    def test_answers_wait_for_the_client(self):
        one = task(steps=8)
        ws = WebSocket(self.server)
        first = self.session(ws)
        ws.send(one)
        time.sleep(0.2)
        ws.reset()
        with WebSocket(self.server) as ws:
            self.assertEqual(self.session(ws, connectionSessionUUID=first), first)
            item, = ws.receive()["data"]
            self.assertEqual(item["taskUUID"], one["taskUUID"])

    def test_a_session_in_use_is_not_given_away(self):
        with WebSocket(self.server) as ws, WebSocket(self.server) as thief:
            first = self.session(ws)
            self.assertNotEqual(self.session(thief, connectionSessionUUID=first), first)

    def test_a_goodbye_cancels(self):
        """With code 1000 nobody comes back: the queue is free at once."""
        with WebSocket(self.server) as ws:
            first = self.session(ws)
            ws.send(task(positivePrompt="stub:hang"))
            time.sleep(0.2)
            self.assertEqual(ws.close(), 1000)
        self.assertPictures(self.server.generate(*[task(seed=n) for n in range(8)]), 8)
        with WebSocket(self.server) as ws:
            self.assertNotEqual(self.session(ws, connectionSessionUUID=first), first)

    def test_it_ends_when_nobody_comes(self):
        server = Nginx(http="reverie_executor stub; reverie_websocket on resume=300ms;")
        self.addCleanup(server.stop)
        server.start()
        ws = WebSocket(server)
        ws.send(*[task(positivePrompt="stub:hang") for _ in range(8)])
        time.sleep(0.2)
        ws.reset()
        self.assertPictures(server.generate(*[task(seed=n) for n in range(8)]), 8)
        server.verify()


class Rules(ServerCase):
    """Close codes of RFC 6455 for what breaks it; the worker lives on."""
    options = {"http": "reverie_executor stub; reverie_websocket on idle=120s max_message=64k; reverie_heartbeat 1s;"}

    def code(self, *frames):
        with WebSocket(self.server) as ws:
            for data in frames:
                ws.raw(data)
            return ws.close_code()

    def test_close_codes(self):
        ping = json.dumps([{"taskType": "ping"}]).encode()
        for name, code, frames in (
                ("unmasked", 1002, [frame(ping, mask=False)]),
                ("reserved bit", 1002, [frame(ping, rsv=4)]),
                ("unknown opcode", 1002, [frame(ping, 3)]),
                ("unknown control", 1002, [frame(b"", 11)]),
                ("fragmented ping", 1002, [frame(b"", PING, fin=False)]),
                ("long ping", 1002, [frame(b"x" * 126, PING)]),
                ("continuation of nothing", 1002, [frame(ping, 0)]),
                ("two beginnings", 1002, [frame(b"[", fin=False), frame(ping)]),
                ("binary", 1003, [frame(ping, BINARY)]),
                ("not UTF-8", 1007, [frame(b'["\xff\xfe"]')]),
                ("too big", 1009, [frame(b" " * 70000)]),
                ("too big in pieces", 1009, [frame(b" " * 40000, fin=False), frame(b" " * 40000, 0)]),
                ("too many pieces", 1008, [frame(b"", fin=False)] + [frame(b"", 0, fin=False)] * 1100),
                ("close without a code", None, [frame(b"", CLOSE)]),
                ("close with an impossible code", 1002, [frame(struct.pack("!H", 1005), CLOSE)]),
                ("goodbye", 1000, [frame(struct.pack("!H", 1000) + b"bye", CLOSE)]),
                ("going away", 1001, [frame(struct.pack("!H", 1001), CLOSE)])):
            with self.subTest(name):
                self.assertEqual(self.code(*frames), code, name)

    def test_a_huge_announcement_takes_no_memory(self):
        head = bytes([0x81, 0x80 | 127]) + struct.pack("!Q", 1 << 62) + b"mask"
        with WebSocket(self.server) as ws:
            ws.raw(head + b"x" * 100)
            self.assertEqual(ws.close_code(), 1009)

    def test_fragments_and_pings_between_them(self):
        text = json.dumps([{"taskType": "ping", "ping": True}]).encode()
        with WebSocket(self.server) as ws:
            for i in range(len(text)):
                ws.raw(frame(text[i:i + 1], 1 if i == 0 else 0, fin=i == len(text) - 1) + frame(b"%d" % i, PING))
            pongs, message = 0, None
            while pongs < len(text) or message is None:
                opcode, payload, _ = ws.read_frame()
                pongs += opcode == PONG
                message = json.loads(payload) if opcode == 1 else message
            self.assertEqual(message, {"data": [{"taskType": "ping", "pong": True}]})

    def test_byte_by_byte(self):
        with WebSocket(self.server) as ws:
            for byte in frame(json.dumps([{"taskType": "ping", "ping": True}]).encode()):
                ws.raw(bytes([byte]))
            self.assertIn("data", ws.receive())

    def test_heartbeat(self):
        with WebSocket(self.server) as ws:
            opcode, payload, _ = ws.read_frame()
            self.assertEqual((opcode, payload), (PING, b""))

    def test_a_flood_of_pings_from_one_who_does_not_read(self):
        ws = WebSocket(self.server, receive_buffer=4096)
        ws.socket.setblocking(False)
        flood, sent = frame(b"x" * 100, PING) * 1000, 0
        end = time.monotonic() + 2
        while time.monotonic() < end and sent < 64 << 20:
            try:
                sent += ws.socket.send(flood)
            except BlockingIOError:
                time.sleep(0.02)
        with open(f"/proc/{self.server.workers()[0]}/status") as f:
            rss = [int(line.split()[1]) for line in f if line.startswith("VmRSS")][0]
        print(f"# after {sent} bytes of pings the worker has {rss} KiB")
        self.assertLess(rss, 200 * 1024 if harness.sanitizer() is None else 1 << 30)
        self.assertEqual(self.server.get("/").status, 200)
        ws.reset()

    def test_clients_that_vanish(self):
        for close in (WebSocket.reset, WebSocket.__exit__):
            for data in (b"", frame(b"[", fin=False), b"\x81", frame(json.dumps([task()]).encode()),
                         frame(json.dumps([task(positivePrompt="stub:hang")]).encode())):
                ws = WebSocket(self.server)
                ws.raw(data)
                close(ws)
        self.assertEqual(self.server.get("/").status, 200)


class Idle(unittest.TestCase):
    def serve(self, **options):
        server = Nginx(**options)
        self.addCleanup(server.stop)
        return server.start()

    def test_silence_ends_it(self):
        server = self.serve(http="reverie_executor stub; reverie_websocket on idle=1s;")
        with WebSocket(server) as ws:
            self.assertEqual(ws.close_code(), 1001)
        server.verify()

    def test_switched_off(self):
        server = self.serve(generate="reverie_websocket off;")
        with WebSocket(server) as ws:
            self.assertEqual(ws.status, 405)

    def test_reload_says_goodbye_and_finishes_tasks(self):
        server = self.serve(http="reverie_executor stub delay=100ms;")
        idle, busy = WebSocket(server), WebSocket(server)
        one = task(steps=20)
        busy.send(one)
        old = server.workers()[0]
        time.sleep(0.2)
        server.reload()
        self.assertEqual(idle.close_code(), 1001)
        self.assertEqual(busy.receive()["data"][0]["taskUUID"], one["taskUUID"])
        self.assertEqual(busy.close_code(), 1001)
        wait_until(lambda: not harness.is_alive(old), what="the end of the old worker")
        server.verify()

    def test_stop_while_tasks_run(self):
        server = self.serve()
        ws = WebSocket(server)
        ws.send(task(positivePrompt="stub:hang"))
        time.sleep(0.2)
        server.signal(signal.SIGTERM)
        server.process.wait(30 * harness.SLOW)
        self.assertIsNone(ws.close_code())
        for line in server.log().splitlines():
            self.assertIsNone(harness.ALARM.search(line), line)

    def test_with_the_daemon(self):
        daemon = Daemon("--stub-ms", "20")
        self.addCleanup(daemon.stop)
        daemon.start()
        server = self.serve(http=f"reverie_daemon unix:{daemon.socket};", results=daemon.results)
        server.spare = 48
        with WebSocket(server) as ws:
            ws.send(authentication())
            ws.receive()
            tasks = [task(seed=n, numberResults=2, outputType="URL") for n in range(5)]
            for one in tasks:
                ws.send(one)
            seen = {}
            for _ in range(10):
                item, = ws.receive()["data"]
                seen.setdefault(item["taskUUID"], []).append(item["seed"])
                self.assertEqual(kind(picture(item, server)), "PNG")
            self.assertEqual(seen, {t["taskUUID"]: [t["seed"], t["seed"] + 1] for t in tasks})
            daemon.kill()
            ws.send(task())
            self.assertEqual(ws.receive()["errors"][0]["code"], "serviceUnavailable")
        server.verify()


if __name__ == "__main__":
    unittest.main()
