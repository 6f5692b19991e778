"""Tasks that outlive their client and their process: acknowledgements, getResponse, repeats, restarts."""
import json
import os
import re
import signal
import subprocess
import time

from reveried import CARDS, REVERIED, SLOW, Daemon, DaemonTest, task, wait_until


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
