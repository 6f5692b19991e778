"""Webhooks and uploads: what arrives, how often it is tried, what survives the death of the process, and what never
leaves it."""
import base64
import hashlib
import hmac
import http.server
import json
import os
import re
import signal
import subprocess
import threading
import time
import unittest

from reveried import REVERIE, SLOW, DaemonTest, task, wait_until

SECRETS = ["first secret", "second"]


class Receiver:
    """A server that keeps what it is sent and answers as it is told, path by path."""

    def __init__(self):
        self.got = []
        self.answers = {}  # path: list of (status, headers); the last one stays; else 200
        self.lock = threading.Lock()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def receive(self):
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                if len(body) < length:
                    return  # who sent it was killed
                path = self.path.split("?")[0]
                with receiver.lock:
                    answers = receiver.answers.get(path, [(200, {})])
                    status, headers = answers.pop(0) if len(answers) > 1 else answers[0]
                    receiver.got.append(dict(method=self.command, target=self.path, headers=dict(self.headers),
                                             body=body, time=time.monotonic(), status=status))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                try:
                    self.end_headers()
                    self.wfile.write(b"ok")
                except OSError:
                    pass  # who asked was killed
            do_POST = do_PUT = do_GET = receive

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def of(self, path):
        with self.lock:
            return [g for g in self.got if g["target"].split("?")[0] == path]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class DeliveryTest(DaemonTest):
    more = ()

    def setUp(self):
        super().setUp()
        secrets = os.path.join(self.folder, "secrets")
        with open(secrets, "w") as f:
            os.chmod(secrets, 0o600)
            f.write("\n".join(SECRETS) + "\n")
        self.receiver = Receiver()
        self.addCleanup(self.receiver.close)
        self.daemon.options = ("--fetch-allow", "127.0.0.1", "--fetch-ports", "*", "--webhook-secret", secrets,
                               "--grace", "1", *self.more)
        self.daemon.start()

    def url(self, path):
        return self.receiver.url + path

    def arrived(self, path, count=1, seconds=60):
        wait_until(lambda: len(self.receiver.of(path)) >= count, seconds, f"{count} requests for {path}")
        return self.receiver.of(path)

    def counts(self, kind):
        return self.daemon.health()[kind]

    def settled(self, kind, name, count=1):
        wait_until(lambda: self.counts(kind)[name] >= count, 60, f"{count} {kind} {name}")

    def outbox(self, *words):
        run = subprocess.run([REVERIE, "outbox", "--daemon", "unix:" + self.daemon.socket, *words],
                             capture_output=True, text=True, timeout=60 * SLOW)
        return run.returncode, run.stdout + run.stderr

    def finished(self, number):
        def ended():
            _, reply = self.daemon.generate({"taskType": "getResponse", "taskUUID": task(number)["taskUUID"]})
            return None if any(i["status"] == "processing" for i in reply["data"]) else reply
        return wait_until(ended, 60, "the end of the task")


class Webhooks(DeliveryTest):
    def check_item(self, got, item):
        self.assertEqual(json.loads(got["body"]), item)
        self.assertEqual((got["method"], got["headers"]["Content-Type"]), ("POST", "application/json"))
        stamp, *signatures = got["headers"]["Reverie-Signature"].split(",")
        wanted = ["v1=" + hmac.new(s.encode(), stamp[2:].encode() + b"." + got["body"], hashlib.sha256).hexdigest()
                  for s in SECRETS]
        self.assertEqual(signatures, wanted)
        self.assertLess(abs(int(stamp[2:]) - time.time()), 600)
        self.assertTrue(got["headers"]["webhook-id"].startswith(item["taskUUID"] + "-"))

    def test_one_post_per_item_of_a_sync_task(self):
        status, reply = self.daemon.generate(task(1, numberResults=3, webhookURL=self.url("/hook?key=geheim")))
        self.assertEqual((status, len(reply["data"])), (200, 3))
        got = self.arrived("/hook", 3)
        by_uuid = {json.loads(g["body"])["imageUUID"]: g for g in got}
        for item in reply["data"]:
            self.check_item(by_uuid[item["imageUUID"]], item)
        self.assertEqual({g["target"] for g in got}, {"/hook?key=geheim"})
        self.assertEqual(len({g["headers"]["webhook-id"] for g in got}), 3)
        self.settled("webhooks", "sent", 3)
        self.assertEqual(len(self.receiver.of("/hook")), 3)
        self.assertNotIn("geheim", self.daemon.log())

    def test_an_async_task(self):
        self.daemon.generate(task(1, deliveryMethod="async", outputType="base64Data", webhookURL=self.url("/hook")))
        item = dict(self.finished(1)["data"][0])
        del item["status"]
        self.check_item(self.arrived("/hook")[0], item)

    def test_a_failure_is_told_flat(self):
        for number, how in [(1, "sync"), (2, "async")]:
            self.daemon.generate(task(number, "stub:fail=safety", deliveryMethod=how,
                                      webhookURL=self.url(f"/{how}")))
            error = json.loads(self.arrived(f"/{how}")[0]["body"])
            self.assertEqual((error["code"], error["taskUUID"]), ("contentPolicyViolation", task(number)["taskUUID"]))

    def test_repeats_until_it_is_taken(self):
        self.receiver.answers["/hook"] = [(500, {}), (302, {"Location": self.url("/elsewhere")}),
                                          (429, {"Retry-After": "2"}), (204, {})]
        self.daemon.generate(task(1, webhookURL=self.url("/hook")))
        got = self.arrived("/hook", 4)
        self.settled("webhooks", "sent")
        self.assertEqual(len({g["body"] for g in got}), 1)
        self.assertEqual(len({g["headers"]["webhook-id"] for g in got}), 1)
        self.assertGreater(got[1]["time"] - got[0]["time"], 0.15)
        self.assertGreater(got[3]["time"] - got[2]["time"], 1.9)
        self.assertEqual(self.receiver.of("/elsewhere"), [])
        self.assertEqual(self.counts("webhooks")["repeated"], 3)

    def test_dead_ones_are_listed_and_sent_again(self):
        self.receiver.answers["/hook"] = [(410, {})]
        self.daemon.generate(task(1, numberResults=2, webhookURL=self.url("/hook?key=geheim")))
        self.settled("webhooks", "dead", 2)
        self.assertEqual(len(self.receiver.of("/hook")), 2)
        code, text = self.outbox()
        self.assertEqual((code, len(text.splitlines())), (0, 2), text)
        self.assertIn("HTTP status 410", text)
        self.assertIn(task(1)["taskUUID"], text)
        self.assertNotIn("geheim", text)
        row = text.split()[0]
        self.receiver.answers["/hook"] = [(200, {})]
        self.assertEqual(self.outbox("send", row), (0, "1 will be sent again\n"))
        self.arrived("/hook", 3)
        self.settled("webhooks", "sent")
        self.assertEqual(self.outbox("send", row)[0], 1)
        self.assertEqual(self.outbox("drop", "all"), (0, "1 dropped\n"))
        self.assertEqual(self.outbox(), (0, ""))
        self.assertEqual(self.outbox("send", "x")[0], 2)

    def test_closed_addresses(self):
        """What can be seen in the text is refused at once; a name is refused at the socket, and nobody is visited."""
        for members in [dict(webhookURL="http://127.0.0.2/x"), dict(webhookURL="http://[::1]/"),
                        dict(uploadEndpoint="http://10.0.0.1/x"), dict(uploadEndpoint="http://a:b@example.org/")]:
            for how in ["sync", "async"]:
                status, reply = self.daemon.generate(task(1, deliveryMethod=how, **members))
                name = next(iter(members))
                self.assertEqual((status, reply["error"]["code"]), (400, "invalid" + name[0].upper() + name[1:]))
        self.daemon.stop()
        self.daemon.options = (*self.daemon.options, "--fetch-allow", "", "--fetch-deny", "127.0.0.1")
        self.daemon.start()
        self.daemon.generate(task(2, webhookURL=f"http://localhost:{self.receiver.port}/hook"))
        self.settled("webhooks", "dead")
        self.assertIn("the address is not allowed", self.outbox()[1])
        self.assertEqual(self.receiver.got, [])

    def test_bad_secret_files(self):
        path = os.path.join(self.folder, "bad")
        for content, mode in [(b"", 0o600), (b"\n\n", 0o600), (b"x", 0o644), (b"a\0b", 0o600), (b"x" * 5000, 0o600)]:
            with open(path, "wb") as f:
                f.write(content)
            os.chmod(path, mode)
            self.daemon.stop()
            self.daemon.options = ("--webhook-secret", path)
            self.daemon.start(wait=False)
            self.assertEqual(self.daemon.process.wait(60 * SLOW), 1)
            self.assertIn(path, self.daemon.log())
        self.daemon.process = None


class Uploads(DeliveryTest):
    def test_the_bytes_of_the_picture(self):
        for number, (output, form, mime) in enumerate([("URL", "PNG", "image/png"), ("base64Data", "JPG", "image/jpeg"),
                                                       ("dataURI", "WEBP", "image/webp")]):
            _, reply = self.daemon.generate(task(number, outputType=output, outputFormat=form,
                                                 uploadEndpoint=self.url(f"/{number}?X-Sig=a%2fb+c~&x=")))
            item = reply["data"][0]
            if output == "URL":
                with open(re.sub("^file://", "", item["imageURL"]), "rb") as f:
                    data = f.read()
            else:
                data = base64.b64decode((item.get("imageBase64Data") or item["imageDataURI"]).split(",")[-1])
            got, = self.receiver.of(f"/{number}")  # the answer came after the upload
            self.assertEqual((got["method"], got["body"]), ("PUT", data))
            self.assertEqual(got["target"], f"/{number}?X-Sig=a%2fb+c~&x=")
            names = {n.lower() for n in got["headers"]}
            self.assertEqual(names, {"host", "content-type", "content-length", "user-agent"})
            self.assertEqual(got["headers"]["Content-Type"], mime)

    def test_several_pictures(self):
        _, reply = self.daemon.generate(task(1, numberResults=4, uploadEndpoint=self.url("/one")),
                                        task(2, numberResults=3, uploadEndpoint=self.url("/{index}-{imageUUID}.jpg")))
        self.assertEqual([g["method"] for g in self.receiver.of("/one")], ["PUT"] * 4)
        for index, item in enumerate(reply["data"][4:]):
            self.assertEqual(len(self.receiver.of(f"/{index}-{item['imageUUID']}.jpg")), 1)
        with open(re.sub("^file://", "", reply["data"][3]["imageURL"]), "rb") as f:
            self.assertEqual(self.receiver.of("/one")[3]["body"], f.read())

    def test_repeats(self):
        self.receiver.answers["/up"] = [(503, {}), (429, {}), (200, {})]
        _, reply = self.daemon.generate(task(1, uploadEndpoint=self.url("/up")))
        self.assertNotIn("errors", reply)
        self.assertEqual(len(self.receiver.of("/up")), 3)

    def test_failure_stands_beside_the_result(self):
        self.receiver.answers["/up"] = [(403, {})]
        status, reply = self.daemon.generate(task(1, numberResults=2, uploadEndpoint=self.url("/up")))
        self.assertEqual((status, len(reply["data"]), len(reply["errors"])), (200, 2, 2), reply)
        self.assertEqual({(e["code"], e["parameter"], e["taskUUID"]) for e in reply["errors"]},
                         {("uploadFailed", "uploadEndpoint", task(1)["taskUUID"])})
        self.assertIn("HTTP status 403", reply["errors"][0]["message"])
        self.assertNotIn("warnings", reply)
        self.assertEqual(len(self.receiver.of("/up")), 2)
        self.assertEqual(self.counts("uploads"), {"sent": 0, "repeated": 0, "dead": 2})

    def test_failure_of_an_async_task(self):
        self.receiver.answers["/up"] = [(404, {})]
        self.daemon.generate(task(1, deliveryMethod="async", uploadEndpoint=self.url("/up")))
        self.settled("uploads", "dead")
        reply = self.finished(1)
        self.assertEqual(reply["data"][0]["status"], "success")
        self.assertEqual(reply["errors"][0]["code"], "uploadFailed")

    def test_client_that_leaves_while_it_is_tried(self):
        self.receiver.answers["/up"] = [(503, {})]
        s = self.daemon.begin(task(1, uploadEndpoint=self.url("/up")))
        self.arrived("/up")
        s.close()
        wait_until(lambda: self.daemon.live() == 0, what="the end of the task")
        self.receiver.answers["/up"] = [(200, {})]
        self.settled("uploads", "sent")


class Death(DeliveryTest):
    more = ("--stub-ms", "2")

    def test_nothing_is_lost(self):
        """Tasks come while reveried is killed again and again and the receiver fails every other time: every picture
        of an acknowledged task arrives at least once, and always as the same item."""
        uuids, number = [], 0
        self.receiver.answers["/hook"] = [(500, {}), (200, {})] * 200 + [(200, {})]
        for _ in range(8):
            for _ in range(4):
                number += 1
                status, _ = self.daemon.generate(task(number, deliveryMethod="async", numberResults=2,
                                                      webhookURL=self.url("/hook"), uploadEndpoint=self.url("/up")))
                self.assertEqual(status, 200)
                uuids.append(task(number)["taskUUID"])
            time.sleep(0.05)
            self.daemon.stop(signal.SIGKILL)
            self.daemon.start()
        wanted = {(u, s) for u in uuids for s in (7, 8)}

        def taken(path):
            return [json.loads(g["body"]) for g in self.receiver.of(path) if g["status"] == 200]
        wait_until(lambda: {(i["taskUUID"], i["seed"]) for i in taken("/hook")} >= wanted, 120, "all webhooks")
        items = {}
        for i in taken("/hook"):
            self.assertEqual(items.setdefault((i["taskUUID"], i["seed"]), i["imageUUID"]), i["imageUUID"])
        self.assertEqual(set(items), wanted)
        wait_until(lambda: self.counts("uploads")["sent"] + len(self.receiver.of("/up")) >= len(wanted), 60)
        self.assertEqual(self.outbox(), (0, ""))

    def test_a_stop_in_between(self):
        """What was under way when the daemon stopped is sent by the next one, without waiting for its turn."""
        self.receiver.answers["/hook"] = [(500, {})]
        self.daemon.generate(task(1, webhookURL=self.url("/hook")))
        self.arrived("/hook", 3)
        self.assertEqual(self.daemon.stop(), 0, self.daemon.log())
        self.receiver.answers["/hook"] = [(200, {})]
        self.daemon.start()
        self.settled("webhooks", "sent")


if __name__ == "__main__":
    unittest.main()
