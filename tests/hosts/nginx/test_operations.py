"""What an operator sees: metrics, health, log variables, the error log."""
import json
import os
import re
import signal
import time
import unittest

import harness
from harness import Daemon, Nginx, ServerCase, reset, http_bytes, task, wait_until
from test_access import KEYS, WithKeys
from test_stream import Stream
from websocket import WebSocket

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABELS = r'(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"(?:,|(?=\})))*'


def parse(text):
    """Prometheus' text format, strictly: {name: {labels: value}}.  Raises AssertionError on anything doubtful."""
    found, types, helps, last = {}, {}, {}, None
    assert text.endswith("\n"), "the last line must end"
    for line in text.splitlines():
        if line.startswith("# "):
            kind, name, rest = re.fullmatch(rf"# (HELP|TYPE) ({NAME}) (.+)", line).groups()
            seen = helps if kind == "HELP" else types
            assert name not in seen, f"{kind} of {name} twice"
            assert not any(base(n, types) == name for n in found), f"{kind} of {name} after its samples"
            seen[name] = rest
            assert kind == "HELP" or rest in ("counter", "gauge", "histogram"), line
            continue
        name, labels, value = re.fullmatch(rf"({NAME})(?:\{{({LABELS})\}})? (\S+)", line).groups()
        family = base(name, types)
        assert family in types and family in helps, f"{name} has no TYPE or HELP"
        assert last == family or family not in {base(n, types) for n in found}, f"{family} is not in one piece"
        assert types[family] != "counter" or family.endswith("_total") or "uptime" in family, family
        last = family
        samples = found.setdefault(name, {})
        key = frozenset(re.findall(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"', labels or ""))
        assert key not in samples, f"twice: {line}"
        samples[key] = float(value)
    for family, kind in types.items():
        if kind == "histogram":
            check_histogram(found, family)
    return found


def base(name, types):
    for end in ("_bucket", "_sum", "_count"):
        if name.endswith(end) and types.get(name[:-len(end)]) == "histogram":
            return name[:-len(end)]
    return name


def check_histogram(found, family):
    groups = {}
    for key, value in found[family + "_bucket"].items():
        labels = dict(key)
        bound = float(labels.pop("le"))
        groups.setdefault(frozenset(labels.items()), []).append((bound, value))
    for key, buckets in groups.items():
        buckets.sort()
        assert buckets[-1][0] == float("inf")
        values = [v for _, v in buckets]
        assert values == sorted(values), f"{family} is not cumulative"
        assert found[family + "_count"][key] == values[-1]
        assert key in found[family + "_sum"]


def value(found, name, **labels):
    return found.get(name, {}).get(frozenset(labels.items()), 0)


class TheParser(unittest.TestCase):
    def test_it_refuses_nonsense(self):
        head = "# HELP a_total A.\n# TYPE a_total counter\n"
        self.assertEqual(value(parse(head + "a_total 3\n"), "a_total"), 3)
        for text in ("a_total 3\n", head + "a_total 3", head + "a_total x\n", head + "a_total{x=3} 3\n",
                     head + "a_total 3\na_total 3\n", head + 'a_total{x="1" 3\n', head + head):
            with self.assertRaises((AssertionError, AttributeError, ValueError), msg=text):
                parse(text)


LOG = ('log_format told "$status task=$reverie_task n=$reverie_tasks made=$reverie_results model=$reverie_model '
       'cost=$reverie_cost key=$reverie_key error=$reverie_error by=$reverie_delivery queue=$reverie_queue_time '
       'run=$reverie_run_time who=$reverie_executor tries=$reverie_attempts"; access_log {dir}/told.log told;')


class Metrics(WithKeys):
    options = {"http": "reverie_executor stub delay=20ms;" + LOG, "workers": 2,
               "locations": """
                   location = /metrics { reverie_metrics; access_log off; }
                   location = /keys { reverie runware; reverie_auth keys={dir}/keys; reverie_limits images=2/h; }
                   location /v1/ { reverie openai; }
               """}

    def metrics(self):
        reply = self.server.get("/metrics")
        self.assertEqual(reply.status, 200)
        self.assertEqual(reply.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
        return parse(reply.body.decode())

    def setUp(self):
        self.old = len(self.lines())

    def lines(self):
        """Those of tasks; the harness asks for other pages too."""
        with open(os.path.join(self.server.folder, "told.log")) as f:
            return [line for line in f if " n=- " not in line or " by=- " not in line]

    def told(self, count):
        """The lines that the test's own requests left; they are written after the reply was sent."""
        wait_until(lambda: len(self.lines()) >= self.old + count, what="the log's lines")
        return [dict(part.split("=", 1) for part in line.split()[1:] if "=" in part) | {"status": line.split()[0]}
                for line in self.lines()[self.old:]]

    def grown(self, do):
        before = self.metrics()
        do()
        time.sleep(0.05 * harness.SLOW)  # a request is counted after its answer was sent
        after = self.metrics()
        return lambda name, **labels: value(after, name, **labels) - value(before, name, **labels)

    def test_tasks_and_pictures(self):
        grown = self.grown(lambda: self.assertPictures(self.server.generate(task(numberResults=2), task(steps=10)), 3))
        self.assertEqual(grown("reverie_tasks_total", delivery="sync", outcome="done"), 2)
        self.assertEqual(grown("reverie_images_total"), 3)
        self.assertEqual(grown("reverie_requests_total", api="runware", status="200"), 1)
        self.assertGreater(grown("reverie_cost_total"), 0)
        self.assertEqual(grown("reverie_task_seconds_count", part="run"), 2)
        self.assertEqual(grown("reverie_task_seconds_count", part="queue"), 2)
        self.assertGreater(grown("reverie_task_seconds_sum", part="run"), 0.1)
        line, = self.told(1)
        self.assertEqual((line["n"], line["made"], line["model"], line["by"]), ("2", "3", harness.MODEL, "sync"))
        self.assertEqual((line["who"], line["tries"]), ("stub", "2"))
        self.assertGreater(float(line["run"]), 0.1)
        self.assertGreater(float(line["cost"]), 0)

    def test_failures(self):
        def fail():
            self.server.generate(task(positivePrompt="stub:fail=safety"))
            self.server.generate(task(width=17))
        grown = self.grown(fail)
        self.assertEqual(grown("reverie_tasks_total", delivery="sync", outcome="failed"), 1)
        self.assertEqual(grown("reverie_requests_total", api="runware", status="400"), 2)
        self.assertEqual([line["error"] for line in self.told(2)], ["contentPolicyViolation",
                                                                        "invalidCustomWidth"])

    def test_cancelled(self):
        def leave():
            s = self.server.connect()
            s.sendall(http_bytes([task(positivePrompt="stub:hang")]))
            time.sleep(0.2)
            reset(s)
            wait_until(lambda: "499 task=" in open(os.path.join(self.server.folder, "told.log")).read())
        grown = self.grown(leave)
        self.assertEqual(grown("reverie_tasks_total", delivery="sync", outcome="cancelled"), 1)
        self.assertEqual(grown("reverie_requests_total", api="runware", status="499"), 1)

    def test_deliveries_and_clients(self):
        def talk():
            with WebSocket(self.server) as ws:
                ws.send(task())
                ws.receive()
                with Stream(self.server, task(positivePrompt="stub:hang")):
                    for kind in ("websocket", "stream"):  # counted just after the header was sent
                        wait_until(lambda: value(self.metrics(), "reverie_clients", kind=kind) == 1, what=kind)
                ws.close()
            wait_until(lambda: value(self.metrics(), "reverie_clients", kind="stream") == 0)
        grown = self.grown(talk)
        self.assertEqual(grown("reverie_tasks_total", delivery="websocket", outcome="done"), 1)
        self.assertEqual(grown("reverie_tasks_total", delivery="stream", outcome="cancelled"), 1)
        self.assertEqual({line["by"] for line in self.told(2)}, {"websocket", "stream"})
        wait_until(lambda: value(self.metrics(), "reverie_clients", kind="websocket") == 0)

    def test_keys_and_refusals(self):
        def ask():
            self.with_key("alice", task(numberResults=2), path="/keys")
            self.with_key("alice", task(), path="/keys")
            self.server.generate(task(), path="/keys")
        grown = self.grown(ask)
        self.assertEqual(grown("reverie_refused_total", reason="rate"), 1)
        self.assertEqual(grown("reverie_refused_total", reason="auth"), 1)
        lines = self.told(3)
        self.assertEqual([line["key"] for line in lines], ["alice", "alice", "-"])
        self.assertEqual([line["error"] for line in lines], ["-", "rateLimitExceeded", "missingApiKey"])

    def test_openai_counts_too(self):
        grown = self.grown(lambda: self.server.request(
            "POST", "/v1/images/generations", json.dumps({"prompt": "a fox", "size": "128x128", "n": 2,
                                                          "model": harness.MODEL}),
            {"Content-Type": "application/json"}))
        self.assertEqual(grown("reverie_images_total"), 2)
        self.assertEqual(grown("reverie_requests_total", api="openai", status="200"), 1)

    def test_nothing_a_client_sends_becomes_a_label(self):
        for one in (task(model="x\"}\n1@1"), task(taskUUID="\n\"x")):
            self.server.generate(one)
        self.metrics()

    def test_methods(self):
        self.assertEqual(self.server.request("POST", "/metrics", b"x").status, 405)
        self.assertEqual(self.server.request("HEAD", "/metrics").status, 200)

    def test_counters_survive_a_reload(self):
        self.server.generate(task())
        before = value(self.metrics(), "reverie_images_total")
        self.server.reload()
        self.assertGreaterEqual(value(self.metrics(), "reverie_images_total"), before)

    def test_prompts_are_in_no_log(self):
        self.server.generate(task(positivePrompt="very secret words"))
        self.server.generate(task(positivePrompt="very secret words stub:fail=safety", width=17))
        for name in ("told.log", "error.log", "access.log"):
            path = os.path.join(self.server.folder, name)
            if os.path.exists(path):
                with open(path) as f:
                    self.assertNotIn("secret", f.read())

    def test_failures_have_a_line(self):
        one = task(positivePrompt="stub:fail=serverError")
        self.server.generate(one)
        line = wait_until(lambda: [text for text in self.server.log().splitlines() if one["taskUUID"] in text])[-1]
        self.assertRegex(line, r'\[error\].*reverie: refused status=500 code=internalServerError key=127\.0\.0\.1 '
                               r'tasks="[0-9a-f-]{36}" made=0 of=1')


class WithDaemon(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon("--stub-ms", "20")
        self.addCleanup(self.daemon.stop)
        self.server = Nginx(http=f"reverie_daemon unix:{self.daemon.socket};", results=self.daemon.results,
                            locations="location = /metrics { reverie_metrics; }")
        self.server.spare = 48
        self.addCleanup(self.server.stop)
        self.daemon.start()
        self.server.start()

    def metrics(self):
        return parse(self.server.get("/metrics").body.decode())

    def test_its_numbers_are_there(self):
        self.assertEqual(self.server.generate(task()).status, 200)
        found = self.metrics()
        self.assertEqual(value(found, "reverie_daemon_up"), 1)
        self.assertEqual(value(found, "reveried_tasks_total", outcome="done"), 1)
        self.server.verify()

    def test_health_is_what_the_daemon_says(self):
        self.assertEqual(self.server.generate(task()).status, 200)
        time.sleep(1.1)
        reply = self.server.get("/healthz")
        self.assertEqual((reply.status, reply.json()["daemon"]), (200, "up"))
        self.assertEqual(reply.json()["engine"]["tasks"]["done"], 1)
        self.assertEqual(reply.json()["engine"]["engine"]["executor"], "stub")
        self.assertEqual(self.server.request("HEAD", "/healthz").status, 200)

    def test_a_daemon_that_sleeps_or_died(self):
        self.daemon.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(1.1)
            started = time.monotonic()
            reply = self.server.get("/healthz")
            self.assertEqual((reply.status, reply.json()["daemon"]), (503, "down"))
            self.assertLess(time.monotonic() - started, 5)
            self.assertEqual(value(self.metrics(), "reverie_daemon_up"), 0)
        finally:
            self.daemon.process.send_signal(signal.SIGCONT)
        wait_until(lambda: self.server.get("/healthz").status == 200, what="health")
        self.daemon.kill()
        wait_until(lambda: self.server.get("/healthz").status == 503, what="the news")
        self.assertEqual(value(self.metrics(), "reverie_daemon_up"), 0)
        self.assertEqual(self.server.get("/healthz?live").status, 200)

    def test_askers_that_leave(self):
        self.daemon.process.send_signal(signal.SIGSTOP)
        try:
            for _ in range(20):
                s = self.server.connect()
                s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                reset(s)
            self.assertEqual(self.server.get("/").status, 200)
        finally:
            self.daemon.process.send_signal(signal.SIGCONT)
        self.server.verify()


if __name__ == "__main__":
    unittest.main()
