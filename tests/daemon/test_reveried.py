"""reveried as its clients see it: answers, streams, limits, vanishing clients, restarts, the service manager."""
import base64
import json
import os
import re
import signal
import socket
import stat
import subprocess
import time

from reveried import CARDS, REVERIE, REVERIED, SLOW, SOURCE, Daemon, DaemonTest, events, task, wait_until


class Answers(DaemonTest):
    def setUp(self):
        super().setUp()
        self.daemon.start()

    def test_health_and_models(self):
        health = self.daemon.health()
        self.assertEqual((health["status"], health["engine"]["executor"]), ("ok", "stub"))
        self.assertIn(health["queue"].pop("waiting"), (None, 0))  # counted each ten seconds
        self.assertEqual(health["queue"], {"live": 0, "limit": 64})
        status, models = self.daemon.get("/v1/models")
        self.assertEqual((status, models["object"]), (200, "list"))
        self.assertIn("runware:97@3", [m["id"] for m in models["data"]])

    def test_the_openai_protocol(self):
        def post(path, **members):
            body = {"prompt": "a fox", "size": "128x128", "steps": 4, "response_format": "b64_json", **members}
            status, headers, reply = self.daemon.request("POST", "/v1/images/" + path, json.dumps(body))
            return status, headers["Content-Type"], reply
        status, kind, reply = post("generations", seed=3, n=2)
        self.assertEqual((status, kind), (200, "application/json"))
        self.assertEqual([d["seed"] for d in json.loads(reply)["data"]], [3, 4])
        data = json.loads(reply)["data"][0]["b64_json"]
        status, _, reply = post("edits", image=data)
        self.assertEqual(status, 200, reply)
        status, kind, reply = post("generations", stream=True, partial_images=1)
        names = [line[7:] for line in reply.decode().splitlines() if line.startswith("event: ")]
        self.assertEqual((status, kind, names[-1]), (200, "text/event-stream", "image_generation.completed"))
        status, _, reply = post("generations", stream=True, prompt="stub:fail=serverError")
        self.assertIn(b"event: error\ndata: {\"error\":", reply)
        status, _, reply = post("generations", size="1x1")
        self.assertEqual((status, json.loads(reply)["error"]["param"]), (400, "size"))
        self.assertTrue(json.loads(post("generations?dryRun=1")[2])["estimated"])
        self.assertEqual(self.daemon.get("/v1/models/hidream-i1-fast?schema=true")[1]["schema"]["required"], ["prompt"])
        self.assertEqual(self.daemon.get("/v1/models/nothing")[0], 404)
        self.assertEqual(self.daemon.get("/v1/images/generations")[0], 405)

    def test_picture_by_url(self):
        status, reply = self.daemon.generate(task(1, ttl=60), headers={"Reverie-Results-URL": "http://h:1/r/"})
        self.assertEqual(status, 200, reply)
        match = re.fullmatch(r"http://h:1/r/([a-z2-7]{26}-([0-9a-f]+)\.jpg)", reply["data"][0]["imageURL"])
        self.assertTrue(match, reply)
        self.assertLess(abs(int(match.group(2), 16) - time.time() - 60), 60 * SLOW)
        path = os.path.join(self.daemon.state, "results", match.group(1))
        with open(path, "rb") as f:
            self.assertEqual(f.read(2), b"\xff\xd8")
        self.assertEqual(os.listdir(os.path.dirname(path)), [match.group(1)])

    def test_bad_prefix_is_refused(self):
        for prefix in ["ftp://h/", "http://h/\" onload=", "x"]:
            status, reply = self.daemon.generate(task(1), headers={"Reverie-Results-URL": prefix})
            self.assertEqual((status, reply["error"]["code"]), (400, "invalidRequestBody"))

    def test_errors(self):
        status, reply = self.daemon.generate(task(1, steps=0), task(2, width=130))
        self.assertEqual(status, 400)
        self.assertEqual([e["parameter"] for e in reply["errors"]], ["steps", "width"])
        status, reply = self.daemon.generate(task(1, "stub:fail=serverError"), task(2))
        self.assertEqual((status, len(reply["data"]), len(reply["errors"])), (200, 1, 1))
        status, headers, body = self.daemon.request("POST", "/generate", json.dumps([task(1, "stub:fail=busy")]))
        self.assertEqual((status, headers["Retry-After"]), (503, "2"))

    def test_paths_and_methods(self):
        for method, path, expected in [("GET", "/", 404), ("GET", "/generate", 405), ("POST", "/healthz", 405),
                                       ("PUT", "/generate", 405), ("POST", "/nowhere", 404)]:
            status, _, body = self.daemon.request(method, path, "x" if method != "GET" else None)
            self.assertEqual(status, expected)
            self.assertIn("error", json.loads(body))
        status, _, body = self.daemon.request("HEAD", "/healthz")
        self.assertEqual((status, body), (200, b""))

    def test_connection_is_kept(self):
        c = self.daemon.connect()
        for i in range(5):
            c.request("POST", "/generate", json.dumps([task(i, outputType="base64Data")]))
            r = c.getresponse()
            self.assertEqual((r.status, len(json.loads(r.read())["data"])), (200, 1))
        c.close()

    def test_pipelined(self):
        body = json.dumps([task(1, outputType="base64Data")]).encode()
        one = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        s = self.daemon.raw(one + one + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = b""
        while chunk := s.recv(65536):
            got += chunk
        self.assertEqual(got.count(b"HTTP/1.1 200"), 3)

    def test_chunked_body(self):
        parts = [json.dumps([task(1, outputType="base64Data")])[i:i + 10].encode() for i in range(0, 400, 10)]
        status, _, body = self.daemon.request("POST", "/generate", iter(parts), {"Transfer-Encoding": "chunked"})
        self.assertEqual(status, 200, body)

    def test_no_prompt_in_the_log(self):
        self.daemon.generate(task(1, "SECRETWORD"), task(2, "SECRETWORD", steps=0))
        self.daemon.generate(task(3, "stub:fail=safety SECRETWORD"))
        self.daemon.stop()
        log = self.daemon.log()
        self.assertNotIn("SECRETWORD", log)
        self.assertRegex(log, r"task=00000000-0000-4000-8000-000000000001 model=runware:97@3 state=done code=-")
        self.assertRegex(log, r"state=failed code=contentPolicyViolation")


class Streams(DaemonTest):
    def setUp(self):
        super().setUp()
        self.daemon.start()

    def stream(self, *tasks):
        c = self.daemon.connect()
        self.addCleanup(c.close)
        c.request("POST", "/generate?stream=1", json.dumps(tasks))
        return c.getresponse()

    def test_order(self):
        r = self.stream(task(1, numberResults=2))
        self.assertEqual((r.status, r.headers["Content-Type"]), (200, "text/event-stream"))
        seen = list(events(r))
        names = [name for name, _ in seen]
        self.assertEqual(names[:2], ["queued", "started"])
        self.assertEqual(names[-2:], ["end", "reply"])
        self.assertEqual(names.count("image"), 2)
        reply = seen[-1][1]
        self.assertEqual(reply["status"], 200)
        items = [data["item"] for name, data in seen if name == "image"]
        self.assertEqual(items, reply["body"]["data"])

    def test_previews_for_those_who_ask(self):
        self.daemon.stop()
        self.daemon.options = ("--preview-steps", "2")
        self.daemon.start()
        for i, (query, wanted) in enumerate((("?stream=1", False), ("?stream=1&preview=1", True))):
            c = self.daemon.connect()
            self.addCleanup(c.close)
            c.request("POST", "/generate" + query, json.dumps([task(i)]))
            previews = [data["preview"] for name, data in events(c.getresponse()) if "preview" in data]
            self.assertEqual(bool(previews), wanted)
            for text in previews:
                kind, _, content = text.partition(",")
                self.assertEqual(kind, "data:image/jpeg;base64")
                self.assertEqual(base64.b64decode(content, validate=True)[:3], b"\xff\xd8\xff")

    def test_failure_comes_in_the_reply(self):
        seen = list(events(self.stream(task(1, "stub:fail=safety"))))
        self.assertEqual(seen[-2][1]["state"], "failed")
        self.assertEqual(seen[-1][1]["status"], 400)
        self.assertEqual(seen[-1][1]["body"]["error"]["code"], "contentPolicyViolation")

    def test_refusal_is_plain_json(self):
        r = self.stream(task(1, steps=0))
        self.assertEqual((r.status, r.headers["Content-Type"]), (400, "application/json"))
        self.assertIn("errors", json.loads(r.read()))

    def test_slow_reader_costs_little(self):
        """A client that never reads does not hold up others; its steps are merged."""
        s = self.daemon.begin(task(1, steps=1000, numberResults=20, outputType="base64Data"), stream=True)
        self.assertEqual(self.daemon.generate(task(2))[0], 200)
        wait_until(lambda: self.daemon.health()["tasks"]["done"] == 2, what="the end of both tasks")
        got = b""
        while b"event: reply" not in got or not got.endswith(b"0\r\n\r\n"):
            got += s.recv(1 << 20)
        self.assertEqual(got.count(b"event: image"), 20)
        s.close()


class Vanishing(DaemonTest):
    options = ("--queue", "100")

    def setUp(self):
        super().setUp()
        self.daemon.start()

    def vanish(self, stream, count):
        sockets = [self.daemon.begin(task(i, "stub:hang"), stream=stream) for i in range(count)]
        wait_until(lambda: self.daemon.live() == count, what="all tasks")
        for i, s in enumerate(sockets):
            if i % 2:
                s.shutdown(socket.SHUT_WR)
            else:
                s.close()
        wait_until(lambda: self.daemon.live() == 0, what="the end of all tasks")
        for s in sockets:
            s.close()
        self.assertEqual(self.daemon.health()["tasks"]["stopped"], count)
        wait_until(lambda: self.daemon.connections() == 0, what="closed sockets")
        self.assertEqual(self.daemon.log().count("code=clientLeft"), count)

    def test_waiting_for_the_reply(self):
        self.vanish(False, 20)  # some run, most are queued

    def test_in_a_stream(self):
        self.vanish(True, 20)

    def test_in_the_body(self):
        for _ in range(10):
            self.daemon.raw(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n[{").close()
        wait_until(lambda: self.daemon.connections() == 0, what="closed sockets")
        self.assertEqual(self.daemon.generate(task(1))[0], 200)

    def test_waiting_costs_no_time(self):
        s = [self.daemon.begin(task(i, "stub:hang"), stream=i > 0) for i in range(2)]
        wait_until(lambda: self.daemon.live() == 2)

        def ticks():
            with open(f"/proc/{self.daemon.process.pid}/stat") as f:
                return sum(int(n) for n in f.read().rsplit(")", 1)[1].split()[11:13])
        before = ticks()
        time.sleep(1)
        self.assertLess((ticks() - before) / os.sysconf("SC_CLK_TCK"), 0.4)
        for one in s:
            one.close()


class Limits(DaemonTest):
    options = ("--queue", "2")

    def setUp(self):
        super().setUp()
        self.daemon.start()

    def test_full_queue(self):
        s = self.daemon.begin(task(1, "stub:hang"), task(2, "stub:hang"))
        wait_until(lambda: self.daemon.live() == 2)
        status, headers, body = self.daemon.request("POST", "/generate", json.dumps([task(3)]))
        self.assertEqual((status, json.loads(body)["error"]["code"]), (429, "rateLimitExceeded"))
        self.assertTrue(int(headers["Retry-After"]) > 0)
        s.close()
        wait_until(lambda: self.daemon.live() == 0)
        self.assertEqual(self.daemon.generate(task(3))[0], 200)

    def test_announced_oversize(self):
        s = self.daemon.raw(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n[")
        self.assertIn(b" 413 ", s.recv(65536).split(b"\r\n")[0])
        s.close()
        self.assertEqual(self.daemon.generate(task(3))[0], 200)

    def test_unannounced_oversize(self):
        blank = b" " * (1 << 20)
        status, _, body = self.daemon.request("POST", "/generate", (blank for _ in range(70)),
                                              {"Transfer-Encoding": "chunked"})
        self.assertEqual((status, json.loads(body)["error"]["code"]), (413, "maxRequestSize"))

    def test_malformed_http(self):
        for text in [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n",
                     b"POST /generate HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                     b"POST /generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                     b"G" * 100000 + b"\r\n\r\n", b"\x00" * 5000, b"GET /healthz HTTP/9.9\r\n\r\n"]:
            s = self.daemon.raw()
            try:
                s.sendall(text)
                s.shutdown(socket.SHUT_WR)
                answer = s.recv(65536)
            except OSError:
                answer = b""
            s.close()
            self.assertNotIn(b" 200 ", answer.split(b"\r\n")[0])
        self.assertEqual(self.daemon.health()["status"], "ok")


class Socket(DaemonTest):
    def run_second(self, *options):
        return subprocess.run([REVERIED, "--socket", self.daemon.socket, "--state", self.daemon.state,
                               "--executor", "stub", "--models", CARDS, *options],
                              capture_output=True, text=True, timeout=60 * SLOW)

    def test_mode(self):
        self.daemon.start()
        self.assertEqual(stat.S_IMODE(os.stat(self.daemon.socket).st_mode), 0o660)

    def test_living_socket_is_not_taken(self):
        self.daemon.start()
        second = self.run_second()
        self.assertEqual(second.returncode, 1)
        self.assertIn("another reveried uses this socket", second.stderr)
        self.assertEqual(self.daemon.health()["status"], "ok")

    def test_foreign_listener_is_not_taken(self):
        s = socket.socket(socket.AF_UNIX)
        s.bind(self.daemon.socket)
        s.listen(1)
        second = self.run_second()
        s.close()
        self.assertEqual(second.returncode, 1)
        self.assertIn("another process listens", second.stderr)

    def test_stale_socket_is_replaced(self):
        self.daemon.start()
        self.daemon.stop(signal.SIGKILL)
        self.assertTrue(os.path.exists(self.daemon.socket))
        self.daemon.start()
        self.assertEqual(self.daemon.generate(task(1))[0], 200)

    def test_other_file_is_left_alone(self):
        with open(self.daemon.socket, "w") as f:
            f.write("mine")
        second = self.run_second()
        self.assertEqual(second.returncode, 1)
        self.assertIn("is not a socket", second.stderr)
        with open(self.daemon.socket) as f:
            self.assertEqual(f.read(), "mine")

    def test_wrong_usage(self):
        for options in [["--queue", "x"], ["--nonsense"], ["extra"], ["--executor", "x"]]:
            self.assertEqual(self.run_second(*options).returncode, 2)
        bad = subprocess.run([REVERIED, "--socket", self.daemon.socket, "--state", "/proc/nowhere"],
                             capture_output=True, text=True)
        self.assertEqual(bad.returncode, 1)
        self.assertIn("/proc/nowhere", bad.stderr)


class Ending(DaemonTest):
    options = ("--stub-ms", "100", "--grace", "60")

    def test_running_task_finishes(self):
        self.daemon.start()
        s = self.daemon.begin(task(1, steps=10))
        wait_until(lambda: self.daemon.live() == 1)
        self.daemon.process.send_signal(signal.SIGTERM)
        answer = s.recv(65536)
        self.assertIn(b"HTTP/1.1 200", answer)
        s.close()
        self.assertEqual(self.daemon.process.wait(60 * SLOW), 0)
        self.assertFalse(os.path.exists(self.daemon.socket))

    def test_second_signal_ends_at_once(self):
        self.daemon.start()
        sockets = [self.daemon.begin(task(i, "stub:hang"), stream=i > 0) for i in range(2)]
        wait_until(lambda: self.daemon.live() == 2)
        self.daemon.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in self.daemon.log())
        self.daemon.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.daemon.process.wait(60 * SLOW), 0)
        self.assertEqual(self.daemon.log().count("code=daemonStops"), 2)
        for s in sockets:
            s.close()

    def test_grace_is_bounded(self):
        self.daemon.options = ("--grace", "1")
        self.daemon.start()
        s = self.daemon.begin(task(1, "stub:hang"))
        wait_until(lambda: self.daemon.live() == 1)
        self.assertEqual(self.daemon.stop(), 0)
        s.close()


class Storage(DaemonTest):
    def test_start_sweeps(self):
        results = os.path.join(self.daemon.state, "results")
        os.makedirs(results)
        expired, kept, partial, foreign = (os.path.join(results, name) for name in (
            "a" * 26 + "-66f0a1b2.png", "b" * 26 + "-0.png", ".writing-" + "c" * 26, "notes.txt"))
        for path in (expired, kept, partial, foreign):
            open(path, "w").close()
        os.utime(partial, (1, 1))
        self.daemon.start()
        wait_until(lambda: not os.path.exists(expired) and not os.path.exists(partial), what="the sweep")
        self.assertTrue(os.path.exists(kept) and os.path.exists(foreign))


class Manager(DaemonTest):
    """What a service manager gives and gets."""

    def test_activation_and_notification(self):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.daemon.socket)
        listener.listen(8)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(os.path.join(self.folder, "notify"))
        notify.settimeout(60 * SLOW)
        saved = os.dup(3) if os.path.exists("/proc/self/fd/3") else None
        command = 'exec 3<&%d; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"' % listener.fileno()
        env = dict(os.environ, NOTIFY_SOCKET=os.path.join(self.folder, "notify"))
        with open(self.daemon.log_path, "wb") as log:
            self.daemon.process = subprocess.Popen(
                ["sh", "-c", command, "sh", REVERIED, "--state", self.daemon.state, "--models", CARDS,
                 "--executor", "stub"], stderr=log, env=env, pass_fds=[listener.fileno()])
        if saved is not None:
            os.close(saved)
        self.assertEqual(notify.recv(100), b"READY=1")
        self.assertEqual(self.daemon.generate(task(1))[0], 200)
        self.daemon.process.send_signal(signal.SIGTERM)
        states = [notify.recv(100)]
        while states[-1] == b"WATCHDOG=1":
            states.append(notify.recv(100))
        self.assertEqual(states[-1], b"STOPPING=1")
        self.assertEqual(self.daemon.process.wait(60 * SLOW), 0)
        self.assertTrue(os.path.exists(self.daemon.socket))  # the manager's, not ours
        listener.close()
        notify.close()


class Engine(DaemonTest):
    """The built-in engine with the tiny model."""

    def setUp(self):
        super().setUp()
        self.model = os.path.join(SOURCE, "tests/golden/tiny-hidream")
        self.daemon.options = ("--model", self.model, "--preload")
        self.daemon.executor = "auto"
        self.daemon.start()

    def picture(self, name, *more):
        output = os.path.join(self.folder, name)
        command = [REVERIE, "generate", "a red house", "-o", output, "--models", CARDS, "--model", self.model]
        return output, subprocess.Popen([*command, "--width", "128", "--height", "128", "--seed", "1", *more],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def test_same_picture_here_and_there(self):
        wait_until(lambda: self.daemon.health()["engine"]["loaded"], what="the loaded model")
        files = []
        for where in ([], ["--daemon", "unix:" + self.daemon.socket]):
            output, p = self.picture("p%d.png" % len(where), "--steps", "2", *where)
            stderr = p.communicate(timeout=120 * SLOW)[1]
            self.assertEqual(p.returncode, 0, stderr)
            with open(output, "rb") as f:
                files.append(f.read())
        self.assertEqual(*files)

    def test_client_leaves_a_long_task(self):
        _, p = self.picture("p.png", "--steps", "1000", "--daemon", "unix:" + self.daemon.socket)
        self.assertIn("step 1/1000", p.stderr.readline())
        p.kill()
        p.communicate()
        wait_until(lambda: self.daemon.live() == 0, what="the end of the task")
        self.assertEqual(self.daemon.health()["tasks"]["stopped"], 1)

    def test_priority_and_environment(self):
        pid = self.daemon.process.pid
        with open(f"/proc/{pid}/stat") as f:
            nice = int(f.read().rsplit(")", 1)[1].split()[16])
        self.assertEqual(nice, min(os.nice(0) + 10, 19))
        with open(f"/proc/{pid}/environ") as f:
            self.assertIn("OMP_WAIT_POLICY=passive", f.read().split("\0"))


class CommandLine(DaemonTest):
    options = ("--stub-ms", "5")

    def reverie(self, *arguments, **how):
        return subprocess.run([REVERIE, "generate", "--models", CARDS, *arguments], capture_output=True, text=True,
                              cwd=self.folder, timeout=60 * SLOW, **how)

    def small(self, prompt, output, *more):
        return self.reverie(prompt, "-o", output, "--model", "runware:97@3", "--width", "128", "--height", "128",
                            "--steps", "3", "--seed", "5", *more)

    def read(self, name):
        with open(os.path.join(self.folder, name), "rb") as f:
            return f.read()

    def test_here_and_there_are_the_same(self):
        self.daemon.start()
        for ext in ("png", "jpg", "webp"):
            here = self.small("a fox", "here." + ext, "--stub")
            there = self.small("a fox", "there." + ext, "--daemon", "unix:" + self.daemon.socket)
            self.assertEqual((here.returncode, there.returncode), (0, 0), here.stderr + there.stderr)
            self.assertEqual(self.read("here." + ext), self.read("there." + ext))
            self.assertIn("step 3/3", there.stderr)
            self.assertRegex(there.stdout, r"there\.\w+  128x128  seed 5  ")

    def test_pictures_as_input(self):
        demo = ("--model", "reverie-demo", "--width", "128", "--height", "128", "--steps", "2", "--stub", "--seed", "1")
        self.assertEqual(self.reverie("a fox", "-o", "a.png", *demo).returncode, 0)
        p = self.reverie("a fox", "-o", "b.png", "--image", "a.png", "--mask", "a.png", "--strength", "0.5", *demo)
        self.assertEqual((p.returncode, os.path.exists(os.path.join(self.folder, "b.png"))), (0, True), p.stderr)
        p = self.reverie("a fox", "--mask", "a.png", *demo)
        self.assertEqual(p.returncode, 1)
        self.assertIn("seedImage is required with maskImage", p.stderr)
        with open(os.path.join(self.folder, "words"), "w") as f:
            f.write("no picture")
        p = self.reverie("a fox", "--image", "words", *demo)
        self.assertEqual(p.returncode, 1)
        self.assertIn("seedImage must be", p.stderr)
        p = self.reverie("a fox", "--image", "nowhere.png", *demo)
        self.assertEqual(p.returncode, 1)
        self.assertIn("nowhere.png: No such file", p.stderr)

    def test_several_pictures(self):
        done = self.small("a fox", "p.png", "--stub", "--number", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotEqual(self.read("p-1.png"), self.read("p-2.png"))

    def test_messages(self):
        done = self.small("a fox", "p.png", "--stub", "--width", "130", "--cfg", "x")
        self.assertEqual(done.returncode, 1)
        self.assertIn("width must be a multiple of 16 (nearest: 128)", done.stderr)
        self.assertIn("CFGScale", done.stderr)
        self.assertEqual(self.small("a fox", "p.gif", "--stub").returncode, 2)
        self.assertEqual(self.reverie().returncode, 2)
        self.assertEqual(self.reverie("a", "--nonsense").returncode, 2)
        self.assertEqual(self.reverie("--help").returncode, 0)
        done = self.small("a fox", "/proc/nowhere/p.png", "--stub")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/proc/nowhere/p.png", done.stderr)

    def test_daemon_is_away(self):
        done = self.small("a fox", "p.png", "--daemon", "unix:" + self.daemon.socket)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot be reached", done.stderr)

    def test_interrupt(self):
        self.daemon.start()
        for where in (["--stub"], ["--daemon", "unix:" + self.daemon.socket]):
            command = [REVERIE, "generate", "stub:hang", "-o", "p.png", "--models", CARDS, "--steps", "1", *where]
            p = subprocess.Popen([*command, "--model", "runware:97@3"], cwd=self.folder, stderr=subprocess.PIPE)
            if len(where) == 2:
                wait_until(lambda: self.daemon.live() == 1)
            else:
                wait_until(lambda: len(os.listdir(f"/proc/{p.pid}/task")) > 1, what="worker threads")
            p.send_signal(signal.SIGINT)
            _, stderr = p.communicate(timeout=60 * SLOW)
            self.assertEqual((p.returncode, stderr), (130, b"reverie: cancelled\n"))
        wait_until(lambda: self.daemon.live() == 0)

    def test_help_and_version(self):
        for arguments in (["--help"], ["version"], ["--version"], ["models"]):
            done = subprocess.run([REVERIE, *arguments], capture_output=True, text=True, timeout=60 * SLOW)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(subprocess.run([REVERIE, "nonsense"], capture_output=True).returncode, 2)
