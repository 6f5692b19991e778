"""Reload, stop, crash: of nginx's processes and of reveried; and the harness itself."""
import json
import os
import re
import signal
import socket
import threading
import time
import unittest

import harness
import basics
from harness import (Daemon, Nginx, ServerCase, SLOW, descriptors, http_bytes, is_alive, read_reply, reset, task,
                     wait_until)

SLOW_TASK = dict(width=256, height=256, steps=8)  # with delay=100ms about 0.8 s


class Waiting:
    """Requests that wait for their pictures, and their replies."""

    def __init__(self, server, count, **members):
        self.sockets = []
        for n in range(count):
            s = server.connect(60)
            s.sendall(http_bytes([task(seed=n, **members)]))
            self.sockets.append(s)

    def replies(self):
        """(status, body) of each; status 0 when the connection was cut."""
        found = []
        for s in self.sockets:
            with s, s.makefile("rb") as f:
                try:
                    status, _, body = read_reply(f)
                    found.append((status, json.loads(body)))
                except (OSError, IndexError, ValueError):
                    found.append((0, None))
        return found


METRICS = "location = /metrics { reverie_metrics; }"
AT_NGINX = r'^reverie_clients\{kind="sync"\} (\d+)|^reverie_requests_total\{api="runware",.*\} (\d+)'
AT_DAEMON = r'^reveried_queue_tasks (\d+)|^reveried_tasks_total\{outcome="done"\} (\d+)'


def wait_until_there(server, pattern, count):
    """Until so many requests or tasks have come in, by the numbers on the page of metrics: going on, or done already."""
    def arrived():
        found = re.findall(pattern, server.get("/metrics").body.decode(), re.M)
        return sum(int(n) for numbers in found for n in numbers if n) >= count
    wait_until(arrived, what=f"{count} requests in the server")


class Reloads(ServerCase):
    options = {"http": "reverie_executor stub delay=100ms;", "workers": 1}

    def assertAllAnswered(self, waiting):
        self.assertEqual([status for status, _ in waiting.replies()], [200] * len(waiting.sockets))

    def test_with_twelve_waiting(self):
        waiting = Waiting(self.server, 12, **SLOW_TASK)
        time.sleep(0.1 * SLOW)
        self.server.reload()
        self.assertPictures(self.server.generate(task()))
        self.assertAllAnswered(waiting)

    def test_three_in_a_row(self):
        waiting = Waiting(self.server, 4, **SLOW_TASK)
        for _ in range(3):
            self.server.reload()
            self.assertPictures(self.server.generate(task()))
        self.assertAllAnswered(waiting)
        wait_until(lambda: len(self.server.workers()) == 1, what="the end of the old workers")

    def test_with_a_broken_configuration(self):
        path = os.path.join(self.server.folder, "nginx.conf")
        with open(path) as f:
            good = f.read()
        for wrong in ("reverie_max_tasks 0;", "reverie_model_cards /nowhere;", "nonsense;"):
            with open(path, "w") as f:
                f.write(good.replace("reverie_executor", wrong + " reverie_executor", 1))
            before = self.server.workers()
            self.server.expected.append(r"\[emerg\]")
            seen = self.server.log().count("[emerg]")
            self.server.signal(signal.SIGHUP)
            wait_until(lambda: self.server.log().count("[emerg]") > seen, what="the refusal")
            self.assertEqual(self.server.workers(), before)
            self.assertPictures(self.server.generate(task()))
        with open(path, "w") as f:
            f.write(good)

    def test_settings_change(self):
        path = os.path.join(self.server.folder, "nginx.conf")
        with open(path) as f:
            good = f.read()
        two = [task(), task()]
        self.assertEqual(self.server.generate(*two).status, 200)
        with open(path, "w") as f:
            f.write(good.replace("reverie_executor", "reverie_max_tasks 1; reverie_executor", 1))
        self.server.reload()
        wait_until(lambda: self.server.generate(*two).status == 400, what="the new setting")
        with open(path, "w") as f:
            f.write(good)
        self.server.reload()
        wait_until(lambda: self.server.generate(*two).status == 200, what="the old setting")

    def test_idle_connections_do_not_hold_the_old_worker(self):
        old = self.server.workers()[0]
        s = self.server.connect()
        s.sendall(http_bytes([task()]))
        with s, s.makefile("rb") as f:
            self.assertEqual(read_reply(f)[0], 200)
            self.server.reload()
            wait_until(lambda: not is_alive(old), what="the end of the old worker")


class Ends(unittest.TestCase):
    """How nginx stops."""

    def serve(self, **options):
        server = Nginx(**{"http": "reverie_executor stub delay=100ms;", **options})
        self.addCleanup(server.stop)
        return server.start()

    def ended(self, server):
        server.process.wait(30 * SLOW)
        for line in server.log().splitlines():
            if harness.ALARM.search(line) and not any(p in line for p in server.expected):
                self.fail(line)

    def test_quit_answers_everybody(self):
        server = self.serve(locations=METRICS)
        waiting = Waiting(server, 6, **SLOW_TASK)
        wait_until_there(server, AT_NGINX, 6)
        server.signal(signal.SIGQUIT)
        self.assertEqual([status for status, _ in waiting.replies()], [200] * 6)
        self.ended(server)

    def test_stop_with_hanging_tasks(self):
        server = self.serve()
        waiting = Waiting(server, 6, positivePrompt="stub:hang")
        time.sleep(0.2 * SLOW)
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        self.ended(server)
        self.assertEqual([status for status, _ in waiting.replies()], [0] * 6)
        print(f"# stop with 6 hanging tasks: {time.monotonic() - started:.2f} s")

    def test_shutdown_timeout(self):
        """The configured end of patience: clients are cut, the worker leaves without an alarm."""
        server = self.serve(main="")
        path = os.path.join(server.folder, "nginx.conf")
        with open(path) as f:
            text = f.read()
        with open(path, "w") as f:
            f.write(text.replace("worker_shutdown_timeout 60s", "worker_shutdown_timeout 1s"))
        server.reload()
        wait_until(lambda: len(server.workers()) == 1)
        waiting = Waiting(server, 2, positivePrompt="stub:hang")
        time.sleep(0.2 * SLOW)
        server.signal(signal.SIGQUIT)
        self.ended(server)
        self.assertEqual([status for status, _ in waiting.replies()], [0, 0])

    def test_worker_killed(self):
        server = self.serve(workers=2)
        server.expected.append("exited on signal 9")
        waiting = Waiting(server, 3, positivePrompt="stub:hang")
        time.sleep(0.2 * SLOW)
        first, second = server.workers()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(server.workers()) == 2 and first not in server.workers(), what="a new worker")
        self.assertEqual(server.generate(task()).status, 200)
        for s in waiting.sockets:
            reset(s)
        server.baseline = {}
        server.verify()

    def test_worker_at_its_descriptor_limit(self):
        """Too many clients for the worker: some are turned away, it lives on."""
        server = self.serve(connections=24)
        server.expected.append("worker_connections are not enough")
        sockets = []
        for _ in range(40):
            s = socket.create_connection(("127.0.0.1", server.port), 10)
            s.sendall(http_bytes([task(positivePrompt="stub:hang")]))
            sockets.append(s)
        time.sleep(0.2 * SLOW)
        for s in sockets:
            reset(s)
        wait_until(lambda: self.works(server), what="service after the rush")
        server.verify()

    def works(self, server):
        try:
            return server.generate(task()).status == 200
        except OSError:
            return False

    def test_single_process(self):
        server = Nginx(main="master_process off;")
        self.addCleanup(server.stop)
        server.pieces["workers"] = 0  # no children
        server.start()
        self.assertEqual(server.generate(task(), task()).status, 200)
        server.signal(signal.SIGTERM)
        self.ended(server)


class FourWorkers(ServerCase):
    options = {"workers": 4}

    def test_all_of_them_answer(self):
        failed = []

        def run(n):
            try:
                for k in range(5):
                    self.assertPictures(self.server.generate(task(seed=10 * n + k)))
            except BaseException as e:
                failed.append(e)
        threads = [threading.Thread(target=run, args=(n,)) for n in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertFalse(failed, failed[:1])


class WithDaemon(unittest.TestCase):
    """nginx in front of a real reveried with the stub."""

    def setUp(self):
        self.daemon = Daemon("--stub-ms", "20")
        self.addCleanup(self.daemon.stop)
        self.server = Nginx(http=f"reverie_daemon unix:{self.daemon.socket};", results=self.daemon.results)
        self.server.spare = 48  # idle connections to the daemon are kept for the next tasks
        self.addCleanup(self.server.stop)

    def start(self):
        self.daemon.start()
        self.server.start()

    def tearDown(self):
        if self.server.process:
            self.server.verify()

    assertError = ServerCase.assertError
    assertPictures = ServerCase.assertPictures

    def test_every_type_and_format(self):
        self.start()
        for form in ("PNG", "JPG", "WEBP"):
            for way in ("base64Data", "dataURI", "URL"):
                with self.subTest(form=form, way=way):
                    item, = self.assertPictures(self.server.generate(task(outputType=way, outputFormat=form)))
                    self.assertEqual(harness.kind(harness.picture(item, self.server)), form)
                    if way == "URL":
                        self.assertTrue(item["imageURL"].startswith(f"http://127.0.0.1:{self.server.port}/images/"))

    def test_good_and_bad_together(self):
        self.start()
        reply = self.server.generate(task(), task(width=17), task(positivePrompt="stub:fail=safety"), task())
        self.assertEqual(reply.status, 200)
        self.assertEqual(len(reply.json()["data"]), 2)
        self.assertIn("contentPolicyViolation", {e["code"] for e in reply.json()["errors"]})

    def test_many_at_once(self):
        self.start()
        waiting = Waiting(self.server, 40)
        self.assertEqual([status for status, _ in waiting.replies()], [200] * 40)

    def test_clients_that_leave_free_the_daemon(self):
        self.start()
        for close in (reset, socket.socket.close):
            waiting = Waiting(self.server, 8, positivePrompt="stub:hang")
            time.sleep(0.3 * SLOW)
            for s in waiting.sockets:
                close(s)
            self.assertPictures(self.server.generate(*[task(seed=n) for n in range(8)]), 8)

    def test_absent(self):
        self.server.start()
        reply = self.server.generate(task())
        body = self.assertError(reply, 503, "serviceUnavailable")
        print("# absent:", body["error"]["message"])
        self.assertGreaterEqual(int(reply.headers["Retry-After"]), 1)
        self.assertEqual(self.server.generate(task(width=17)).status, 400)  # checked here, without the daemon
        health = self.server.get("/healthz")
        self.assertEqual((health.status, health.json()["daemon"]), (503, "down"))
        self.assertEqual(self.server.get("/healthz?live").status, 200)
        self.daemon.start()
        wait_until(lambda: self.server.generate(task()).status == 200, what="service with the daemon")
        wait_until(lambda: self.server.get("/healthz").json()["daemon"] == "up", what="health")

    def test_killed_while_it_paints(self):
        self.start()
        for round in range(3):
            waiting = Waiting(self.server, 5, positivePrompt="stub:hang")
            time.sleep(0.3 * SLOW)
            self.daemon.kill()
            for status, body in waiting.replies():
                self.assertEqual(status, 503, body)
                self.assertEqual(body["errors"][0]["code"], "serviceUnavailable")
                self.assertTrue(body["errors"][0]["taskUUID"])
                self.assertTrue(body["error"]["message"])
            if round == 0:
                print("# killed:", body["error"]["message"])
            self.assertEqual(self.server.generate(task()).status, 503)
            self.daemon.start()
            wait_until(lambda: self.server.generate(task()).status == 200, what="service after the restart")

    def test_stopped_kindly(self):
        """SIGTERM: what runs is finished first."""
        self.server.pieces["locations"] = METRICS
        self.start()
        waiting = Waiting(self.server, 3, steps=10)
        wait_until_there(self.server, AT_DAEMON, 3)
        self.daemon.kill(signal.SIGTERM)
        self.assertEqual([status for status, _ in waiting.replies()], [200] * 3)

    def test_asleep(self):
        """SIGSTOP: the sync limit answers, nothing is stuck afterwards."""
        self.server.pieces["generate"] = f"reverie_sync_timeout {max(1, round(SLOW))}s;"
        self.start()
        self.assertPictures(self.server.generate(task()))
        self.daemon.process.send_signal(signal.SIGSTOP)
        try:
            self.assertError(self.server.generate(task()), 504, "providerTimeout")
            self.assertEqual(self.server.get("/").status, 200)
        finally:
            self.daemon.process.send_signal(signal.SIGCONT)
        wait_until(lambda: self.server.generate(task()).status == 200, what="service after the sleep")

    def test_reload_while_it_paints(self):
        self.start()
        waiting = Waiting(self.server, 6, steps=30)
        time.sleep(0.2 * SLOW)
        self.server.reload()
        self.assertEqual([status for status, _ in waiting.replies()], [200] * 6)

    def test_models_only_the_daemon_lacks(self):
        """nginx has the card, the daemon has not: its refusal arrives as one."""
        self.daemon.options = ["--executor", "stub", "--models", self.daemon.folder]
        self.start()
        reply = self.server.generate(task())
        self.assertGreaterEqual(reply.status, 400)
        self.assertTrue(reply.json()["errors"][0]["message"])


class TheHarness(unittest.TestCase):
    """What would prove a failure is seen: each of these must fail when planted."""

    def test_an_alarm_in_the_log(self):
        server = Nginx().start()
        self.addCleanup(server.stop)
        server.verify()
        with open(os.path.join(server.folder, "error.log"), "a") as f:
            f.write("2026/01/01 00:00:00 [alert] 1#1: planted\n")
        with self.assertRaisesRegex(AssertionError, "planted"):
            server.verify()

    def test_a_sanitizer_report(self):
        server = Nginx().start()
        self.addCleanup(server.stop)
        with open(os.path.join(server.folder, "output"), "a") as f:
            f.write("==1==ERROR: AddressSanitizer: heap-use-after-free\n")
        with self.assertRaisesRegex(AssertionError, "heap-use-after-free"):
            server.verify()

    def test_a_worker_that_dies(self):
        server = Nginx().start()
        self.addCleanup(server.stop)
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_until(lambda: "exited on signal 9" in server.log())
        with self.assertRaisesRegex(AssertionError, "signal 9"):
            server.verify()

    def test_a_server_that_ended(self):
        server = Nginx().start()
        self.addCleanup(server.stop)
        server.signal(signal.SIGTERM)
        server.process.wait(30 * SLOW)
        with self.assertRaisesRegex(AssertionError, "ended"):
            server.verify()

    def test_descriptors_that_stay(self):
        """Many idle connections look like a leak to a verification that gives up early."""
        server = Nginx().start()
        self.addCleanup(server.stop)
        held = [server.connect() for _ in range(server.spare + 12)]
        wait_until(lambda: len(descriptors(server.workers()[0])) > server.baseline[server.workers()[0]] + server.spare)
        patience, basics.SLOW = basics.SLOW, 0.02
        try:
            with self.assertRaisesRegex(AssertionError, "descriptors grew"):
                server.verify()
        finally:
            basics.SLOW = patience
            for s in held:
                s.close()


if __name__ == "__main__":
    unittest.main()
