"""Directives: what is accepted, what is refused with which words, and how values are inherited."""
import os
import re
import subprocess
import unittest

from harness import CARDS, MODULE, Nginx, ServerCase, SOURCE, environment, task


class Checks(unittest.TestCase):
    def check(self, **pieces):
        server = Nginx(**pieces)
        self.addCleanup(server.stop)
        example = os.path.join(server.folder, "example")
        with open(example, "w") as f:
            f.write("# no keys\n")
        os.chmod(example, 0o640)
        return server.check()

    def accepts(self, **pieces):
        works, text = self.check(**pieces)
        self.assertTrue(works, text)

    def refuses(self, words, **pieces):
        works, text = self.check(**pieces)
        self.assertFalse(works, text)
        self.assertIn(words, text)

    def test_values(self):
        for line in ("reverie_daemon unix:/run/x.sock;", "reverie_daemon http://127.0.0.1:9000;",
                     "reverie_daemon off;", "reverie_executor auto;", "reverie_executor stub;",
                     "reverie_executor stub delay=10ms;", "reverie_model_cards {cards} {cards};",
                     "reverie_models runware:97@3 'hidream-*' *;", "reverie_strict off;", "reverie_max_tasks 1;",
                     "reverie_fetch public;", "reverie_fetch list; reverie_fetch_allow 10.0.0.0/8 *.example.org;",
                     "reverie_fetch off;", "reverie_fetch_deny ::1 evil.example;",
                     "reverie_max_tasks 1000;", "reverie_max_steps 1;", "reverie_queue 100000;",
                     "reverie_sync_timeout 10m;", "reverie_ignore_client_abort on;", "reverie_results_dir r;",
                     "reverie_results_url https://$host/p/;", "reverie_results_ttl 30d;",
                     "reverie_auth off;", "reverie_auth keys=example;", "reverie_auth keys=example body=off;",
                     "reverie_limits off;", "reverie_limits requests=1/s images=20/m cost=1.5/d active=3 key=$uri;",
                     "reverie_websocket off;", "reverie_websocket on;", "reverie_heartbeat 1m;",
                     "reverie_websocket on idle=1m resume=0 max_message=1k;"):
            with self.subTest(line):
                self.accepts(generate=line)

    def test_refusals(self):
        for line, words in (
                ("reverie_daemon /run/x.sock;", 'invalid address "/run/x.sock", it must be unix:PATH'),
                ("reverie_daemon unix:;", "invalid address"),
                ("reverie_daemon off; reverie_daemon off;", "is duplicate"),
                ("reverie_executor gpu;", 'invalid executor "gpu"'),
                ("reverie_executor auto delay=1s;", "invalid executor"),
                ("reverie_executor stub delay=2m;", "at most one minute"),
                ("reverie_executor stub delay=x;", "invalid delay"),
                ("reverie_executor stub wait=1;", 'invalid parameter "wait=1"'),
                ("reverie_executor stub; reverie_executor stub;", "is duplicate"),
                ("reverie_model_cards /nowhere;", "/nowhere"),
                ("reverie_models 'a b';", 'invalid model "a b"'),
                ("reverie_models ''; ", "invalid model"),
                ("reverie_models a; reverie_models b;", "is duplicate"),
                ("reverie_fetch all;", 'fetch must be "public", "list" or "off"'),
                ("reverie_fetch off; reverie_fetch off;", "is duplicate"),
                ("reverie_fetch_allow 10.0.0.0/33;", '"10.0.0.0/33" is no address'),
                ("reverie_fetch_deny 'a b';", 'invalid address "a b"'),
                ("reverie_fetch_deny a; reverie_fetch_deny b;", "is duplicate"),
                ("reverie_strict maybe;", 'it must be "on" or "off"'),
                ("reverie_max_tasks 0;", "value must be between 1 and 1000"),
                ("reverie_max_tasks 1001;", "value must be between 1 and 1000"),
                ("reverie_max_steps 0;", "value must be between 1 and 1000000"),
                ("reverie_max_steps x;", "invalid number"),
                ("reverie_queue 0;", "value must be between 1 and 100000"),
                ("reverie_sync_timeout x;", "invalid value"),
                ("reverie_ignore_client_abort 1;", 'it must be "on" or "off"'),
                ("reverie_results_dir a; reverie_results_dir b;", "is duplicate"),
                ("reverie_results_url a; reverie_results_url b;", "is duplicate"),
                ("reverie_results_ttl x;", "invalid value"),
                ("reverie_auth on;", 'invalid value "on"'),
                ("reverie_auth keys=example body=maybe;", 'invalid parameter "body=maybe"'),
                ("reverie_auth off; reverie_auth off;", "is duplicate"),
                ("reverie_limits images=5;", 'invalid limit "images=5"'),
                ("reverie_limits images=0/s;", "invalid limit"),
                ("reverie_limits active=0;", "invalid limit"),
                ("reverie_limits cost=0.00001/d;", "invalid limit"),
                ("reverie_limits off images=5/s;", 'invalid limit "off"'),
                ("reverie_limits key=$nothing;", 'unknown "nothing" variable'),
                ("reverie_limits off; reverie_limits off;", "is duplicate"),
                ("reverie_zone 1m;", "is not allowed here"),
                ("reverie_websocket maybe;", 'invalid value "maybe"'),
                ("reverie_websocket off idle=1s;", 'invalid value "off"'),
                ("reverie_websocket on idle=0;", 'invalid parameter "idle=0"'),
                ("reverie_websocket on max_message=0;", 'invalid parameter "max_message=0"'),
                ("reverie_websocket on; reverie_websocket on;", "is duplicate"),
                ("reverie_heartbeat x;", "invalid value"),
                ("reverie_no_such_thing on;", "unknown directive")):
            with self.subTest(line):
                self.refuses(words, generate=line)

    def test_zone(self):
        self.accepts(http="reverie_executor stub; reverie_zone 64k;")
        for size in ("1k", "x", "-1"):
            self.refuses(f'invalid size "{size}"', http=f"reverie_executor stub; reverie_zone {size};")

    def test_handlers(self):
        self.refuses('invalid protocol "smtp"', locations="location /x { reverie smtp; }")
        self.refuses("has another handler already", generate="reverie_health;")
        self.refuses("has another handler already", generate="reverie runware;")
        self.refuses("has another handler already", locations="location /x/ { reverie_health; reverie_results; }")
        self.refuses("has another handler already",
                     locations="location /x/ { proxy_pass http://127.0.0.1:1; reverie runware; }")
        self.refuses("is not allowed here", server="reverie runware;")
        for place in ("= /y/", "/y", "~ ^/y/"):
            self.refuses('must be in a prefix location that ends in "/"',
                         locations=f"location {place} {{ reverie_results; }}")

    def test_nowhere_to_store(self):
        other = "server { listen 127.0.0.1:%d; location /g { reverie runware; %s } }"
        self.refuses("has no place for pictures asked for by URL", http="reverie_executor stub;" + other % (1, ""))
        self.accepts(http="reverie_executor stub;" + other % (1, "reverie_results_url http://x/;"))

    def test_results_without_a_folder(self):
        template = Nginx.template.replace("reverie_results_dir {results};", "")
        self.refuses('needs "reverie_results_dir"', template=template)

    def test_messages_say_where(self):
        works, text = self.check(generate="reverie_model_cards /nowhere;")
        self.assertRegex(text, r"nginx\.conf:\d+ cannot be used")

    def test_a_broken_card(self):
        server = Nginx(generate="reverie_model_cards {dir}/bad.json;")
        self.addCleanup(server.stop)
        with open(os.path.join(server.folder, "bad.json"), "w") as f:
            f.write('{"id": 3')
        works, text = server.check()
        self.assertFalse(works)
        self.assertIn("bad.json", text)

    def test_no_http_block(self):
        server = Nginx(template="load_module {module}; error_log {dir}/error.log; pid {dir}/pid; events {{ }}")
        self.addCleanup(server.stop)
        works, text = server.check()
        self.assertTrue(works, text)

    def test_the_examples(self):
        """config/nginx as it is shipped, with the names of this machine."""
        with open(os.path.join(SOURCE, "config/nginx/nginx.conf")) as f:
            text = f.read()
        for old, new in (("modules/ngx_http_reverie_module.so", MODULE), ("user www-data;", "user root;"),
                         ("include mime.types", "include /etc/nginx/mime.types"), ("listen 80", "listen 127.0.0.1:8"),
                         ("/usr/share/reverie/models", CARDS),
                         ("include reverie.conf", f"include {SOURCE}/config/nginx/reverie.conf")):
            self.assertIn(old, text)
            text = text.replace(old, new)
        if os.getuid() != 0:
            text = text.replace("user root;", "")
        server = Nginx()
        self.addCleanup(server.stop)
        server.check()
        with open(os.path.join(server.folder, "nginx.conf"), "w") as f:
            f.write(text.replace("events {", f"pid {server.folder}/pid; events {{"))
        run = subprocess.run(server.command("-t"), capture_output=True, text=True, env=environment())
        self.assertEqual(run.returncode, 0, run.stderr)

    def test_documented(self):
        """Every directive has its own section in the module's README, and the README knows no others."""
        with open(os.path.join(SOURCE, "ngx_module/ngx_http_reverie_module.c")) as f:
            real = set(re.findall(r'ngx_string\("(reverie\w*)"\),\n\s+NGX_HTTP', f.read()))
        with open(os.path.join(SOURCE, "ngx_module/README.md")) as f:
            told = set(re.findall(r"^### (reverie\w*)", f.read(), re.M))
        self.assertEqual(real, told)

    def test_examples_of_the_readme(self):
        """Each directive's section ends with an example that nginx accepts."""
        with open(os.path.join(SOURCE, "ngx_module/README.md")) as f:
            sections = re.split(r"^### ", f.read().split("\n## Directives")[1].split("\n## ")[0], flags=re.M)[1:]
        for section in sections:
            name = section.split()[0]
            blocks = re.findall(r"(?:^    .*\n)+", section, re.M)
            with self.subTest(name):
                self.assertGreaterEqual(len(blocks), 2, "a synopsis and an example")
                example = blocks[-1]
                self.assertIn(name, example)
                for path in re.findall(r"/(?:etc|usr/share|var/lib)/reverie[\w./-]*", example):
                    example = example.replace(path, "{cards}" if "models" in path else "{dir}/example")
                if re.match(r"\s+location", example):
                    example = re.sub(r"location (= )?/(generate|images|healthz|metrics|tasks/)", r"location \1/example/\2", example)
                    self.accepts(locations=example)
                elif "http" in section.split("Context:")[-1].split(".")[0] and "Context: http" in section:
                    self.accepts(http="reverie_executor stub;" + example)
                else:
                    self.accepts(locations="location /example { reverie runware; %s }" % example)


class Fetch(ServerCase):
    """Where URLs of requests may lead, over three levels; nothing listens there."""

    options = {"http": "reverie_executor stub; reverie_fetch_deny 127.0.0.2;",
               "server": "reverie_fetch list; reverie_fetch_allow 127.0.0.1 127.0.0.2;",
               "locations": """
                   location = /own { reverie runware; reverie_fetch_allow 127.0.0.3; reverie_fetch_deny 127.0.0.4; }
                   location = /off { reverie runware; reverie_fetch off; }
               """}

    def is_allowed(self, path, address):
        reply = self.server.generate(task(model="reverie:1@1", seedImage=f"http://{address}:8443/x.png"), path=path)
        self.assertEqual(reply.status, 400)
        return "the address is not allowed" not in reply.json()["error"]["message"]

    def test_three_levels(self):
        allowed = {path: [n for n in (1, 2, 3) if self.is_allowed(path, f"127.0.0.{n}")]
                   for path in ("/generate", "/own", "/off")}
        self.assertEqual(allowed, {"/generate": [1], "/own": [3], "/off": []})


class Inheritance(ServerCase):
    """http, server, location: the nearest value counts; a child's list replaces its parent's."""

    options = {
        "http": "reverie_executor stub; reverie_max_tasks 3; reverie_models nobody:1@1; reverie_strict off;"
                "reverie_max_steps 5;",
        "server": "reverie_max_tasks 2; reverie_models runware:97@3;",
        "locations": """
            location = /own { reverie runware; reverie_max_tasks 1; reverie_models runware:97@1; reverie_strict on;
                              reverie_max_steps 2; }
            location /outer/ {
                reverie_max_tasks 1;
                location = /outer/inner { reverie runware; reverie_strict on; }
            }
        """}

    def status(self, path, *tasks):
        return self.server.generate(*tasks, path=path).status

    def test_max_tasks(self):
        full = dict(model="runware:97@1")
        self.assertEqual(self.status("/generate", task(), task()), 200)
        self.assertEqual(self.status("/generate", task(), task(), task()), 400)
        self.assertEqual(self.status("/own", task(**full)), 200)
        self.assertEqual(self.status("/own", task(**full), task(**full)), 400)
        self.assertEqual(self.status("/outer/inner", task()), 200)
        self.assertEqual(self.status("/outer/inner", task(), task()), 400)

    def test_models(self):
        self.assertEqual(self.status("/generate", task()), 200)
        self.assertEqual(self.status("/generate", task(model="runware:97@1")), 404)
        self.assertEqual(self.status("/own", task(model="runware:97@1")), 200)
        self.assertEqual(self.status("/own", task()), 404)
        self.assertEqual(self.status("/outer/inner", task()), 200)

    def test_strict(self):
        self.assertEqual(self.status("/generate", task(colour=1)), 200)
        self.assertEqual(self.status("/own", task(colour=1, model="runware:97@1")), 400)
        self.assertEqual(self.status("/outer/inner", task(colour=1)), 400)

    def test_max_steps(self):
        self.assertEqual(self.status("/generate", task(steps=5)), 200)
        self.assertEqual(self.status("/generate", task(steps=6)), 400)
        self.assertEqual(self.status("/own", task(steps=3, model="runware:97@1")), 400)
        self.assertEqual(self.status("/outer/inner", task(steps=5)), 200)


if __name__ == "__main__":
    unittest.main()
