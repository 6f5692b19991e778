"""Tasks that outlive their client and their process: acknowledgements, getResponse, repeats, restarts."""
import base64
import io
import json
import os
import re
import signal
import subprocess
import time

from reveried import CARDS, REVERIED, SLOW, Daemon, DaemonTest, events, task, wait_until


def later(number, prompt="a fox", **more):
    return task(number, prompt, deliveryMethod="async", **more)


def ask(number):
    return {"taskType": "getResponse", "taskUUID": task(number)["taskUUID"]}


class DurableTest(DaemonTest):
    def setUp(self):
        super().setUp()
        self.daemon.start()

    def response(self, number):
        """The items of a task and its errors."""
        status, reply = self.daemon.generate(ask(number))
        self.assertEqual(status, 200, reply)
        return reply["data"], reply.get("errors", [])

    def finished(self, number):
        def ended():
            data, errors = self.response(number)
            return None if any(i["status"] == "processing" for i in data) else (data, errors)
        return wait_until(ended, 60, "the end of the task")

    def acknowledge(self, *tasks):
        status, reply = self.daemon.generate(*tasks)
        self.assertEqual(status, 200, reply)
        self.assertEqual(reply, {"data": [{"taskType": "imageInference", "taskUUID": t["taskUUID"]} for t in tasks]})

    def restart(self, sig=signal.SIGKILL):
        self.daemon.stop(sig)
        self.daemon.start()


class Async(DurableTest):
    options = ("--grace", "0")

    def test_from_acknowledgement_to_result(self):
        self.acknowledge(later(1, numberResults=3), later(2))
        data, errors = self.finished(1)
        self.assertEqual((len(data), errors), (3, []))
        self.assertEqual([i["seed"] for i in data], [7, 8, 9])
        for item in data:
            self.assertEqual((item["status"], item["taskUUID"]), ("success", task(1)["taskUUID"]))
            self.assertTrue(os.path.exists(re.sub("^file://", "", item["imageURL"])))
        self.assertEqual(self.response(1), (data, []))  # the same again
        self.finished(2)

    def test_same_picture_as_a_sync_task(self):
        self.acknowledge(later(1, outputType="base64Data", outputFormat="PNG"))
        _, reply = self.daemon.generate(task(2, outputType="base64Data", outputFormat="PNG"))
        self.assertEqual(self.finished(1)[0][0]["imageBase64Data"], reply["data"][0]["imageBase64Data"])

    def test_partial_results_and_progress(self):
        self.daemon.stop()
        self.daemon.options = ("--stub-ms", "100")
        self.daemon.start()
        self.acknowledge(later(1, numberResults=3, steps=5))
        seen = []

        def partial():
            data, _ = self.response(1)
            seen.extend(i["progress"] for i in data if "progress" in i)
            return {i["status"] for i in data} == {"success", "processing"} and seen
        wait_until(partial, what="a part of the result")
        self.assertTrue(all(0 <= p <= 100 for p in seen))
        self.finished(1)

    def test_failure(self):
        self.acknowledge(later(1, "stub:fail=safety stub:after=1", numberResults=2), later(2, "stub:fail=timeout"))
        data, errors = self.finished(1)
        self.assertEqual([i["status"] for i in data], ["success", "error"])
        self.assertEqual(data[1]["error"], errors[0])
        self.assertEqual((errors[0]["code"], errors[0]["taskUUID"]), ("contentPolicyViolation", task(1)["taskUUID"]))
        data, errors = self.finished(2)
        self.assertEqual((len(errors), errors[0]["code"]), (1, "providerTimeout"))

    def test_unknown_task(self):
        status, reply = self.daemon.generate(ask(9))
        self.assertEqual((status, reply["error"]["code"], reply["error"]["parameter"]),
                         (404, "taskNotFound", "taskUUID"))
        status, reply = self.daemon.generate({"taskType": "getResponse"})
        self.assertEqual((status, reply["error"]["code"]), (400, "missingTaskUUID"))

    def test_refused_tasks_are_not_stored(self):
        status, reply = self.daemon.generate(later(1, steps=0), later(2))
        self.assertEqual((status, len(reply["data"]), len(reply["errors"])), (200, 1, 1))
        self.assertEqual(self.daemon.generate(ask(1))[0], 404)
        self.finished(2)

    def test_client_that_leaves(self):
        s = self.daemon.begin(later(1))
        s.close()
        wait_until(lambda: self.daemon.generate(ask(1))[0] in (200, 404))
        s = self.daemon.begin(later(2, "stub:hang"))
        self.assertIn(b" 200 ", s.recv(65536))
        s.close()
        wait_until(lambda: self.daemon.live() == 1, what="the running task")
        time.sleep(0.2)
        self.assertEqual(self.daemon.live(), 1)

    def test_mixed_with_sync_tasks(self):
        status, reply = self.daemon.generate(later(1), task(2), ask(3), {"taskType": "ping", "ping": True})
        self.assertEqual(status, 200)
        self.assertEqual([sorted(i)[0:2] for i in reply["data"]],
                         [["taskType", "taskUUID"], ["imageURL", "imageUUID"], ["pong", "taskType"]])
        self.assertEqual([e["code"] for e in reply["errors"]], ["taskNotFound"])

    def test_results_expire(self):
        self.daemon.stop()
        self.daemon.options = ("--results-ttl", "1")
        self.daemon.start()
        self.acknowledge(later(1))
        wait_until(lambda: self.daemon.generate(ask(1))[1].get("error", {}).get("code") == "taskExpired",
                   what="expiry")
        self.acknowledge(later(1, "something else"))  # its name is free again


class Repeats(DurableTest):
    def test_async(self):
        self.acknowledge(later(1))
        self.acknowledge(later(1))
        first, _ = self.finished(1)
        self.acknowledge(later(1))
        self.assertEqual(self.finished(1)[0], first)
        shouted = later(1)
        shouted["taskUUID"] = shouted["taskUUID"].upper()
        self.assertEqual(self.daemon.generate(shouted)[0], 200)
        for other in (later(1, "another fox"), later(1, seed=8), task(1)):
            status, reply = self.daemon.generate(other)
            self.assertEqual((status, reply["error"]["code"], reply["error"]["parameter"]),
                             (400, "conflictTaskUUID", "taskUUID"))

    def test_seed_that_nobody_chose(self):
        body = later(1)
        del body["seed"]
        self.acknowledge(body)
        self.acknowledge(body)
        first, _ = self.finished(1)
        self.acknowledge(body)
        self.assertEqual(self.finished(1)[0], first)
        self.assertEqual(self.daemon.generate(later(1, seed=first[0]["seed"]))[0], 400)

    def test_sync(self):
        first = self.daemon.generate(task(1))
        self.assertEqual(self.daemon.generate(task(1)), first)
        self.restart()
        self.assertEqual(self.daemon.generate(task(1)), first)
        other = self.daemon.generate(task(1, "another fox"))  # what ended makes way
        self.assertEqual(other[0], 200)
        self.assertNotEqual(other, first)

    def test_sync_while_it_runs(self):
        self.daemon.stop()
        self.daemon.options = ("--stub-ms", "100")
        self.daemon.start()
        sockets = [self.daemon.begin(task(1), stream=i == 1) for i in range(3)]
        wait_until(lambda: self.daemon.live() >= 1)
        status, reply = self.daemon.generate(task(1, "another fox"))
        self.assertEqual((status, reply["error"]["code"]), (400, "conflictTaskUUID"))
        sockets[0].close()  # the others still want it
        texts = []
        for s in sockets[1:]:
            got = b""
            while b"imageURL" not in got or not got.endswith((b"}", b"0\r\n\r\n")):
                got += s.recv(65536)
            texts.append(got)
            s.close()
        urls = {re.search(rb'"imageURL":"([^"]+)"', t).group(1) for t in texts}
        self.assertEqual(len(urls), 1)
        self.assertIn(b"event: image", texts[0])

    def test_failed_sync_task_runs_again(self):
        for _ in range(2):
            self.assertEqual(self.daemon.generate(task(1, "stub:fail=busy"))[0], 503)
        self.assertEqual(self.daemon.generate(task(1))[0], 200)


def png(colour=(200, 30, 30), size=(64, 48)):
    from PIL import Image
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def pixels(reply):
    from PIL import Image
    return Image.open(io.BytesIO(base64.b64decode(reply["data"][0]["imageBase64Data"]))).tobytes()


def upload(number, picture):
    return {"taskType": "imageUpload", "taskUUID": task(number)["taskUUID"], "image": picture}


class OpenAIRepeats(DurableTest):
    """The same in the OpenAI protocol, by taskUUID or by the header Idempotency-Key."""

    def ask(self, key=None, **members):
        body = {"prompt": "a fox", "model": "runware:97@3", "size": "128x128", "n": 2, "steps": 2, **members}
        status, _, text = self.daemon.request("POST", "/v1/images/generations", json.dumps(body),
                                              {"Idempotency-Key": key} if key else {})
        return status, text

    def test_first_answer(self):
        for form in ("b64_json", "url"):
            for key, members in ((None, {"taskUUID": task(len(form))["taskUUID"]}), ("key " + form, {})):
                (status, one), (_, two) = (self.ask(key, response_format=form, **members) for _ in range(2))
                self.assertEqual(status, 200, one)
                one, two = json.loads(one), json.loads(two)
                self.assertEqual((one["id"], one["data"], one["metadata"]["cost"]),
                                 (two["id"], two["data"], two["metadata"]["cost"]))
                self.assertEqual(len(one["data"]), 2)

    def test_stream(self):
        one, two = (events(self.ask("stream", stream=True)[1].splitlines()) for _ in range(2))
        one, two = ([(name, data["b64_json"], data["seed"]) for name, data in found] for found in (one, two))
        self.assertEqual([name for name, _, _ in one], ["image_generation.completed"] * 2)
        self.assertEqual(one, two)

    def test_another_body(self):
        self.assertEqual(self.ask("other")[0], 200)
        fox, hare = (json.loads(self.ask("other", prompt=words, seed=7)[1])["data"] for words in ("a fox", "a hare"))
        self.assertNotEqual(fox, hare)
        self.assertEqual(json.loads(self.ask("other", prompt="a hare", seed=7)[1])["data"], hare)


class Uploads(DurableTest):
    def setUp(self):
        self.options = ("--executor", "auto", "--preload")
        super().setUp()

    def paint(self, number, picture, headers=None, **more):
        return self.daemon.generate({"taskType": "imageInference", "taskUUID": task(number)["taskUUID"],
                                     "model": "reverie:1@1", "positivePrompt": "a calm sea", "steps": 2, "seed": 3,
                                     "strength": 0.5, "seedImage": picture, "outputType": "base64Data",
                                     "outputFormat": "PNG", **more}, headers=headers)

    def test_picture_of_an_upload(self):
        text = base64.b64encode(png()).decode()
        status, reply = self.daemon.generate(upload(1, "data:image/png;base64," + text),
                                             headers={"Reverie-Results-URL": "http://h/r/"})
        self.assertEqual(status, 200, reply)
        item, = reply["data"]
        self.assertEqual((item["taskType"], item["taskUUID"]), ("imageUpload", task(1)["taskUUID"]))
        self.assertRegex(item["imageURL"], r"^http://h/r/[a-z2-7]{26}-[0-9a-f]+\.png$")
        status, painted = self.paint(2, item["imageUUID"])
        self.assertEqual(status, 200, painted)
        _, same = self.paint(3, text)
        self.assertEqual(pixels(painted), pixels(same))
        _, result = self.paint(4, painted["data"][0]["imageUUID"])  # a result can be the start of the next
        self.assertIn("data", result)
        self.restart()
        _, again = self.paint(5, item["imageUUID"].upper())
        self.assertIn("data", again, again)
        self.assertEqual(pixels(again), pixels(same))
        self.assertEqual(self.daemon.generate(upload(1, "data:image/png;base64," + text))[1]["data"], [item])

    def test_whose_picture_it_is(self):
        text = base64.b64encode(png()).decode()
        _, reply = self.daemon.generate(upload(1, text), headers={"Reverie-Owner": "me"})
        picture = reply["data"][0]["imageUUID"]
        self.assertEqual(self.paint(2, picture, headers={"Reverie-Owner": "me"})[0], 200)
        for headers in ({"Reverie-Owner": "you"}, {"Reverie-Owner": "m"}, {}):
            status, reply = self.paint(3, picture, headers=headers)
            self.assertEqual((status, reply["error"]["code"]), (400, "invalidSeedImage"))

    def test_refusals(self):
        for picture, code in (("x", "invalidImage"), ("", "invalidImage"), (base64.b64encode(b"GIF89a").decode(),
                              "invalidImage"), (task(1)["taskUUID"], "invalidImage"), (None, "missingImage"),
                              ("http://127.0.0.1:1/x.png", "invalidImage")):
            status, reply = self.daemon.generate(upload(1, picture))
            self.assertEqual((status, reply["error"]["code"]), (400, code), picture)


class Many(DurableTest):
    def test_tasks_that_end_at_once(self):
        """However ends and claims meet, the next task is always taken."""
        for round in range(10):
            numbers = range(100 * round, 100 * round + 40)
            self.acknowledge(*[later(i, steps=1) for i in numbers])
            for i in numbers:
                self.assertEqual(self.finished(i)[1], [])


class Tasks(DurableTest):
    """Paths by taskUUID."""
    options = ("--stub-ms", "30", "--grace", "0")

    def path(self, number, more=""):
        return f"/tasks/{task(number)['taskUUID']}{more}"

    def stream(self, number, query="", headers=None):
        c = self.daemon.connect()
        self.addCleanup(c.close)
        c.request("GET", self.path(number, "/events" + query), headers=headers or {})
        return c.getresponse()

    def names(self, stream):
        return [(name, data) for name, data in events(stream)]

    def test_status(self):
        self.acknowledge(later(1))
        self.finished(1)
        self.assertEqual(self.daemon.get(self.path(1)), self.daemon.generate(ask(1)))
        self.assertEqual(self.daemon.get(self.path(2))[1]["error"]["code"], "taskNotFound")
        self.assertEqual(self.daemon.get("/tasks/x")[1]["error"]["code"], "invalidTaskUUID")
        self.assertEqual(self.daemon.get(self.path(1, "/other"))[0], 404)
        self.assertEqual(self.daemon.request("POST", self.path(1), "x")[0], 405)

    def check_stream(self, seen, pictures, state="done"):
        names = [name for name, _ in seen]
        self.assertEqual((names.count("image"), names.count("end"), names.count("reply")), (pictures, 1, 1), names)
        self.assertLessEqual(names.count("queued"), 2)  # in the store, then before a worker
        self.assertEqual(seen[-2][1]["state"], state)
        self.assertEqual(names[-1], "reply")
        return seen[-1][1]

    def test_events_of_a_running_task(self):
        self.acknowledge(later(1, numberResults=2, steps=8))
        wait_until(lambda: self.response(1)[0][0]["status"] == "success", what="the first picture")
        reply = self.check_stream(self.names(self.stream(1)), 2)
        self.assertEqual((reply["status"], reply["body"]["data"]), (200, self.finished(1)[0]))

    def test_events_of_a_waiting_task(self):
        self.acknowledge(*[later(i, steps=10) for i in range(8)])
        seen = self.names(self.stream(7))
        self.check_stream(seen, 1)
        self.assertIn("step", [name for name, _ in seen])

    def test_events_of_a_finished_task(self):
        self.acknowledge(later(1, numberResults=2), later(2, "stub:fail=safety"))
        self.finished(1)
        self.finished(2)
        reply = self.check_stream(self.names(self.stream(1)), 2)
        self.assertEqual(reply["body"]["data"], self.response(1)[0])
        reply = self.check_stream(self.names(self.stream(2)), 0, "failed")
        self.assertEqual(reply["body"]["errors"][0]["code"], "contentPolicyViolation")
        self.assertEqual(self.names(self.stream(3))[-1][1]["status"], 404)

    def test_events_of_a_sync_task(self):
        s = self.daemon.begin(task(1, steps=20))
        wait_until(lambda: self.daemon.live() == 1)
        reply = self.check_stream(self.names(self.stream(1)), 1)
        got = s.recv(1 << 20)
        s.close()
        self.assertIn(reply["body"]["data"][0]["imageURL"].encode(), got)

    def test_watching_does_not_keep_or_end_a_task(self):
        self.acknowledge(later(1, "stub:hang"))
        wait_until(lambda: self.daemon.live() == 1)
        watchers = [self.stream(1) for _ in range(5)]
        for w in watchers:
            self.assertIn(b"event", w.readline())
            w.close()
        self.assertEqual(self.response(1)[0][0]["status"], "processing")

    def cancel(self, number, headers=None):
        status, _, body = self.daemon.request("DELETE", self.path(number), headers=headers)
        return status, json.loads(body)

    def test_cancel(self):
        self.acknowledge(later(1, "stub:hang"), later(2, "stub:hang"), later(3, "stub:hang"), later(4, "stub:hang"),
                         later(5), later(6))
        wait_until(lambda: self.daemon.live() == 4)
        watched = self.stream(1)
        for number in (1, 5):  # one that runs, one that waits
            self.assertEqual(self.cancel(number), (200, {"data": [{
                "taskType": "imageInference", "taskUUID": task(number)["taskUUID"], "cancelled": True}]}))
            data, errors = self.finished(number)
            self.assertEqual((data[0]["status"], errors[0]["code"]), ("error", "taskCancelled"))
            self.assertFalse(self.cancel(number)[1]["data"][0]["cancelled"])
        self.assertEqual(self.check_stream(self.names(watched), 0, "stopped")["body"]["errors"][0]["code"],
                         "taskCancelled")
        self.finished(6)
        self.assertFalse(self.cancel(6)[1]["data"][0]["cancelled"])
        self.assertEqual(self.finished(6)[0][0]["status"], "success")
        self.assertEqual(self.cancel(9)[0], 404)

    def test_cancel_of_a_sync_task(self):
        s = self.daemon.begin(task(1, "stub:hang"))
        wait_until(lambda: self.daemon.live() == 1)
        self.assertTrue(self.cancel(1)[1]["data"][0]["cancelled"])
        self.assertIn(b"taskCancelled", s.recv(65536))
        s.close()

    def test_owners(self):
        mine, yours = {"Reverie-Owner": "me"}, {"Reverie-Owner": "you"}
        self.assertEqual(self.daemon.generate(later(1, "stub:hang"), headers=mine)[0], 200)
        self.assertEqual(self.daemon.generate(ask(1), headers=mine)[0], 200)
        for other in (yours, {}):
            self.assertEqual(self.daemon.generate(ask(1), headers=other)[0], 404)
            self.assertEqual(self.cancel(1, other)[0], 404)
            self.assertEqual(self.names(self.stream(1, headers=other))[-1][1]["status"], 404)
            self.assertEqual(self.daemon.generate(later(1, "a fox"), headers=other)[0], 200)  # a name of its own
        self.assertTrue(self.cancel(1, mine)[1]["data"][0]["cancelled"])
        for bad in ("a b", "a/b", "x" * 300, ""):
            self.assertEqual(self.daemon.generate(ask(1), headers={"Reverie-Owner": bad})[0], 400)


class Restarts(DurableTest):
    options = ("--stub-ms", "20", "--grace", "5")

    def test_killed_while_tasks_wait_and_run(self):
        tasks = [later(i, seed=100 + i, numberResults=2) for i in range(20)]
        self.acknowledge(*tasks)
        for _ in range(3):
            wait_until(lambda: self.daemon.live() > 0)
            self.restart()
        for i in range(20):
            data, errors = self.finished(i)
            self.assertEqual(([d["seed"] for d in data], errors), ([100 + i, 101 + i], []))
            self.assertTrue(all(os.path.exists(d["imageURL"][7:]) for d in data))

    def test_items_that_were_seen_stay(self):
        self.acknowledge(later(1, numberResults=4, steps=10))
        part = wait_until(lambda: [i for i in self.response(1)[0] if i["status"] == "success"], what="a first item")
        self.restart()
        data, _ = self.finished(1)
        self.assertEqual(data[:len(part)], part)

    def test_graceful_stop_keeps_what_waits(self):
        self.acknowledge(*[later(i, steps=20) for i in range(30)])
        self.assertEqual(self.daemon.stop(signal.SIGTERM), 0)
        self.daemon.start()
        for i in range(30):
            self.assertEqual(self.finished(i)[1], [])

    def test_hard_stop_while_running(self):
        self.acknowledge(later(1, "stub:hang"), later(2))
        self.finished(2)
        self.daemon.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in self.daemon.log())
        self.assertEqual(self.daemon.stop(signal.SIGTERM), 0)
        self.daemon.start()
        self.assertEqual(self.response(1)[0][0]["status"], "processing")

    def test_task_that_kills_its_process(self):
        self.daemon.stop()
        self.daemon.options = ("--attempts", "2", "--grace", "0")
        self.daemon.start()
        self.acknowledge(later(1, "stub:hang"))
        for _ in range(2):
            wait_until(lambda: self.daemon.live() > 0)
            self.restart()
        data, errors = self.finished(1)
        self.assertEqual((data[0]["status"], errors[0]["code"]), ("error", "taskFailed"))
        self.acknowledge(later(2))
        self.finished(2)

    def test_model_that_is_gone(self):
        self.acknowledge(later(1, "stub:hang"))
        wait_until(lambda: self.daemon.live() > 0)
        self.daemon.stop(signal.SIGKILL)
        self.daemon.options = ("--model", os.path.join(CARDS, "reverie-demo.json"))
        cards, self.daemon.cards = self.daemon.cards, self.daemon.folder
        self.daemon.start()
        _, errors = self.finished(1)
        self.assertEqual(errors[0]["code"], "modelNotFound")
        self.daemon.cards = cards


class Limits(DurableTest):
    options = ("--backlog", "3", "--grace", "0")

    def test_full_backlog(self):
        hanging = [later(i, "stub:hang") for i in range(4)]  # as many as the stub runs at once
        for i, one in enumerate(hanging):
            self.acknowledge(one)
            wait_until(lambda: self.daemon.live() == i + 1)
        self.acknowledge(*[later(i) for i in range(10, 13)])
        status, headers, body = self.daemon.request("POST", "/generate", json.dumps([later(13)]))
        self.assertEqual((status, json.loads(body)["error"]["code"]), (429, "rateLimitExceeded"))
        self.assertGreater(int(headers["Retry-After"]), 0)
        self.acknowledge(later(12))  # what is known is no new task


class Trouble(DaemonTest):
    def test_full_disk(self):
        """The limit on file sizes stands for a disk: writes fail, then there is room again."""
        d = self.daemon
        d.start()
        self.assertEqual(d.generate(later(1))[0], 200)
        wait_until(lambda: d.live() == 0)
        pid = str(d.process.pid)
        size = max(os.path.getsize(os.path.join(d.state, n)) for n in os.listdir(d.state))
        subprocess.run(["prlimit", "--pid", pid, f"--fsize={size}:unlimited"], check=True)
        filler = "x" * 9000
        status, reply = 200, None
        for i in range(2, 60):
            status, reply = d.generate(later(i, filler))
            if status != 200:
                break
        self.assertEqual((status, reply["error"]["code"]), (503, "insufficientStorage"), reply)
        self.assertEqual(d.generate(ask(1))[0], 200)  # reads go on
        subprocess.run(["prlimit", "--pid", pid, "--fsize=unlimited:unlimited"], check=True)
        self.assertEqual(d.generate(later(100))[0], 200)
        wait_until(lambda: all(i["status"] == "success" for i in d.generate(ask(100))[1]["data"]), 60)
        self.assertIn("the disk of the queue is full", d.log())

    def start_fails(self):
        d = self.daemon
        done = subprocess.run([REVERIED, "--socket", d.socket, "--state", d.state, "--executor", "stub",
                               "--models", CARDS], capture_output=True, text=True, timeout=60 * SLOW)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(len([line for line in done.stderr.splitlines() if "queue" in line]), 1, done.stderr)
        return done.stderr

    def test_damaged_database(self):
        self.daemon.start()
        self.daemon.generate(later(1))
        self.daemon.stop()
        path = os.path.join(self.daemon.state, "queue.db")
        with open(path, "r+b") as f:
            f.write(b"x" * 4096)
        self.assertRegex(self.start_fails(), r"queue\.db is damaged or not a queue")
        os.remove(path)
        self.daemon.start()
        self.assertEqual(self.daemon.generate(later(1))[0], 200)

    def test_database_of_another_process(self):
        self.daemon.start()
        other = Daemon(os.path.join(self.folder, "other"))
        os.mkdir(other.folder)
        other.state = self.daemon.state
        self.assertRaisesRegex(AssertionError, "in use by another process", other.start)

    def test_foreign_file(self):
        os.mkdir(self.daemon.state)
        os.mkdir(os.path.join(self.daemon.state, "queue.db"))
        self.assertRegex(self.start_fails(), r"queue\.db: unable to open")


if __name__ == "__main__":
    import unittest
    unittest.main()
