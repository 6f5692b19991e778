"""What lies between us and a service: connections of HTTP/2 that end, proxies of the environment, authorities."""
import json
import os
import sys
import unittest
from unittest import mock

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../daemon")]
from certificates import authority, certificate  # noqa: E402
from fakes import Fakes  # noqa: E402
from http2 import INTERNAL_ERROR, LAST, REFUSED_STREAM, Http2  # noqa: E402
from proxy import Proxy  # noqa: E402
from reveried import DaemonTest, task  # noqa: E402

MODELS = {"runware": "runware:97@3", "lumenfall": "hidream-i1-fast", "fal": "fal-ai/hidream-i1-fast"}
KEY = "key-that-no-proxy-may-see"
PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")


class NetworkTest(DaemonTest):
    """A daemon whose cards lead to services of this machine; "ours" is the authority of those that speak TLS."""
    options = ("--fetch-allow", "127.0.0.1", "--fetch-ports", "*", "--service-silence", "2", "--service-pause-ms", "20")

    def setUp(self):
        super().setUp()
        plain = {name: value for name, value in os.environ.items() if name not in PROXIES}
        environment = mock.patch.dict(os.environ, dict(plain, FAKE_KEY=KEY), clear=True)
        environment.start()
        self.addCleanup(environment.stop)
        self.daemon.cards = os.path.join(self.folder, "cards")
        os.mkdir(self.daemon.cards)
        self.asked = 0

    def path(self, name):
        return os.path.join(self.folder, name)

    def certify(self):
        authority(self.folder, "ours")
        certificate(self.folder, "server", "ours")
        return self.path("server.crt"), self.path("server.key")

    def trust(self, name):
        self.daemon.options = (*self.options, "--ca-file", self.path(name))

    def start(self, *entries, **environment):
        """Entries are pairs of a service's name and its address."""
        os.environ.update(environment)
        card = {"id": "test:1@1", "name": "network", "family": "hidream",
                "parameters": {"CFGScale": {"default": 0}, "steps": {"default": 16}},
                "executors": [{"name": name, "url": url, "model": MODELS[name], "key_env": "FAKE_KEY"} for name, url in entries]}
        with open(os.path.join(self.daemon.cards, "card.json"), "w") as f:
            json.dump(card, f)
        self.daemon.start()

    def ask(self):
        self.asked += 1
        _, reply = self.daemon.generate(task(self.asked, model="test:1@1", steps=16, outputType="base64Data"))
        return reply

    def assert_error(self, reply, part):
        self.assertIn("errors", reply)
        self.assertIn(part, reply["errors"][0]["message"])
        self.assertNotIn(KEY, json.dumps(reply) + self.daemon.log())


class Goaway(NetworkTest):
    """A server that sends GOAWAY says what it has looked at: the rest may be asked again, nothing else may."""

    def serve(self, service, script):
        server = Http2(*self.certify(), script)
        self.addCleanup(server.close)
        self.trust("ours.crt")
        self.start((service, f"{server.url}/{service}"))
        return server

    def test_streams_share_a_connection(self):
        server = self.serve("runware", lambda stream, number: stream.answer())
        for _ in range(3):
            self.assertIn("data", self.ask())
        self.assertEqual((server.protocols, server.requests, len(server.charged)), (["h2"], 3, 3))

    def test_after_the_answer(self):
        """The kept connection is gone when the next task comes."""
        def script(stream, number):
            stream.answer()
            stream.go_away(stream.number)
            stream.close()
        server = self.serve("runware", script)
        for _ in range(3):
            self.assertIn("data", self.ask())
        self.assertEqual((server.connections, server.requests, len(server.charged)), (3, 3, 3))

    def test_before_the_answer(self):
        """A server that ends in peace: no new streams, but those that are there are answered."""
        def script(stream, number):
            stream.go_away(LAST)
            stream.answer()
            stream.go_away(stream.number)
            stream.close()
        server = self.serve("lumenfall", script)
        for _ in range(2):
            self.assertIn("data", self.ask())
        self.assertEqual((server.requests, len(server.charged)), (2, 2))

    def unseen(self, end):
        """The first request was not looked at, which the server says: it goes out again, whatever the service."""
        for service in ("runware", "lumenfall"):
            with self.subTest(service=service):
                server = self.serve(service, lambda stream, number: stream.answer() if number else end(stream))
                reply = self.ask()
                self.assertIn("data", reply, reply)
                self.assertEqual((server.requests, len(server.charged)), (2, 1))
                self.daemon.stop()

    def test_instead_of_the_answer(self):
        def end(stream):
            stream.go_away(0)
            stream.close()
        self.unseen(end)

    def test_a_stream_that_is_refused(self):
        self.unseen(lambda stream: stream.reset(REFUSED_STREAM))

    def in_doubt(self, end):
        """It was looked at and is charged: only a service that knows the taskUUID again is asked again."""
        def script(stream, number):
            if number:
                return stream.answer()
            stream.charge()
            return end(stream)
        server = self.serve("lumenfall", script)
        self.assert_error(self.ask(), "may have done and charged")
        self.assertEqual((server.requests, len(server.charged)), (1, 1))
        self.daemon.stop()
        server = self.serve("runware", script)
        self.assertIn("data", self.ask())
        self.assertEqual((server.requests, len(server.charged)), (2, 1))

    def test_in_the_middle_of_the_work(self):
        def end(stream):
            stream.go_away(stream.number, INTERNAL_ERROR)
            stream.close()
        self.in_doubt(end)

    def test_a_stream_that_breaks(self):
        self.in_doubt(lambda stream: stream.reset(INTERNAL_ERROR))


class Proxies(NetworkTest):
    """Services are asked through the proxies of the environment, as curl reads it.  Pictures are not fetched through
    them: the guard must see the address that a connection leads to."""

    def setUp(self):
        super().setUp()
        self.proxy = Proxy()
        self.addCleanup(self.proxy.close)
        self.through = f"http://user:word@127.0.0.1:{self.proxy.port}"

    def fakes(self, tls=None):
        fakes = Fakes(tls)
        self.addCleanup(fakes.close)
        return fakes

    def test_plain(self):
        fakes = self.fakes()
        self.start(("lumenfall", f"{fakes.url}/lumenfall/a"), http_proxy=self.through, https_proxy="http://127.0.0.1:1")
        self.assertIn("data", self.ask())
        self.assertEqual(self.proxy.lines, [f"POST {fakes.url}/lumenfall/a/images/generations"])
        self.assertEqual(self.proxy.passwords, ["Basic dXNlcjp3b3Jk"])
        self.assertEqual(fakes.charges["lumenfall", "a"], 1)
        self.assertNotIn("word", self.daemon.log())

    def test_pictures_come_without_it(self):
        fakes = self.fakes()
        self.start(("fal", f"{fakes.url}/fal/a"), http_proxy=self.through)
        self.assertIn("data", self.ask())
        self.assertTrue(all("file.png" not in line for line in self.proxy.lines), self.proxy.lines)
        self.assertEqual(len(self.proxy.lines), len(fakes.requests["fal", "a"]) - 1)
        self.assertEqual(fakes.charges["fal", "a"], 1)

    def test_tls_is_a_tunnel(self):
        fakes = self.fakes(self.certify())
        self.trust("ours.crt")
        self.start(("lumenfall", f"{fakes.url}/lumenfall/a"), https_proxy=self.through, http_proxy="http://127.0.0.1:1")
        self.assertIn("data", self.ask())
        self.assertEqual(self.proxy.lines, [f"CONNECT 127.0.0.1:{fakes.port}"])
        self.assertEqual(fakes.requests["lumenfall", "a"][0][2]["Authorization"], "Bearer " + KEY)
        self.assertGreater(len(self.proxy.passed), 500)
        self.assertNotIn(KEY.encode(), self.proxy.passed)

    def test_hosts_without_proxy(self):
        fakes = self.fakes()
        self.start(("lumenfall", f"{fakes.url}/lumenfall/a"), http_proxy=self.through, no_proxy="127.0.0.1,example.org")
        self.assertIn("data", self.ask())
        self.assertEqual(self.proxy.lines, [])

    def test_upper_case_is_not_read_for_http(self):
        """HTTP_PROXY may be a header of a CGI request, so curl does not look at it."""
        fakes = self.fakes()
        self.start(("lumenfall", f"{fakes.url}/lumenfall/a"), HTTP_PROXY=self.through)
        self.assertIn("data", self.ask())
        self.assertEqual(self.proxy.lines, [])

    def test_tunnel_that_is_refused(self):
        """The service has not seen the task, so the next one may have it."""
        fakes = self.fakes(self.certify())
        self.trust("ours.crt")
        self.proxy.fault = lambda h: "CONNECT" in h.command and (h.send_error(502), True)[1]
        other = self.fakes()
        self.start(("lumenfall", f"{fakes.url}/lumenfall/a"), ("fal", f"{other.url}/fal/b"), https_proxy=self.through)
        reply = self.ask()
        self.assertIn("data", reply, reply)
        self.assertEqual((sum(fakes.charges.values()), sum(other.charges.values())), (0, 1))

    def test_proxy_that_is_not_there(self):
        fakes = self.fakes()
        self.start(("lumenfall", f"{fakes.url}/lumenfall/a"), http_proxy="http://127.0.0.1:1")
        reply = self.ask()
        self.assert_error(reply, "127.0.0.1")
        self.assertEqual(fakes.requests, {})


class Authorities(NetworkTest):
    def setUp(self):
        super().setUp()
        self.fakes = Fakes(self.certify())
        self.addCleanup(self.fakes.close)
        self.entry = "lumenfall", f"{self.fakes.url}/lumenfall/a"

    def refused(self, part):
        self.start(self.entry)
        self.assert_error(self.ask(), part)
        self.assertEqual(self.fakes.requests, {})

    def test_the_systems_do_not_know_ours(self):
        self.refused("certificate")

    def test_another_authority_does_not_count(self):
        authority(self.folder, "strangers")
        self.trust("strangers.crt")
        self.refused("certificate")

    def test_a_file_that_is_not_there(self):
        self.trust("missing.crt")
        self.refused("missing.crt")

    def test_a_file_that_holds_no_certificate(self):
        with open(self.path("text.crt"), "w") as f:
            f.write("no certificate\n")
        self.trust("text.crt")
        self.refused("text.crt")

    def test_ours_among_several(self):
        authority(self.folder, "strangers")
        with open(self.path("both.crt"), "w") as both:
            for name in ("strangers", "ours"):
                with open(self.path(name + ".crt")) as f:
                    both.write(f.read())
        self.trust("both.crt")
        self.start(self.entry)
        self.assertIn("data", self.ask())


if __name__ == "__main__":
    unittest.main()
