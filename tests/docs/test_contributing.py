"""The diffs of CONTRIBUTING.md, applied to a copy of the tree, built, and what they add put to use.

Run by tests/docs/overlay, so that the copy costs nothing and lies where the tree lies.
"""
import base64
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

SOURCE = os.environ["SOURCE_ROOT"]
BUILD = os.environ["BUILD_ROOT"]
REVERIE = os.path.join(BUILD, "reverie")
sys.path.insert(0, os.path.join(SOURCE, "tests/hosts/nginx"))
sys.path.insert(0, os.path.join(SOURCE, "tests/remote"))


def run(*command, check=True, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done


def read(path, mode="r"):
    with open(os.path.join(SOURCE, path), mode) as f:
        return f.read()


def blocks(kind):
    """{heading: text} of the blocks of one kind."""
    found, heading = {}, ""
    for part in re.findall(rf"^## [^\n]*|^```{kind}\n.*?^```$", read("CONTRIBUTING.md"), re.M | re.S):
        if part.startswith("##"):
            heading = part[3:]
        else:
            found[heading] = part.split("\n", 1)[1][:-3]
    return found


def schema(model="reverie:1@1"):
    return json.loads(run(REVERIE, "schema", model).stdout)["properties"]


def check(**fields):
    """Issues of a task, by parameter."""
    task = {"taskType": "imageInference", "taskUUID": "6ba7b814-9dad-41d1-80b4-00c04fd430c8", "model": "reverie:1@1",
            "positivePrompt": "a fox", **fields}
    out = run(REVERIE, "check", "-", check=False, input=json.dumps([task])).stdout
    return {issue.get("parameter"): issue for issue in json.loads(out)}


class Contributing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """All diffs at once, then the command of the page."""
        if os.environ.get("OVERLAY") != "1":
            raise unittest.SkipTest("runs below tests/docs/overlay only")
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        diffs = blocks("diff")
        if len(diffs) != 5:
            raise AssertionError(f"five diffs are promised, not {list(diffs)}")
        for heading, diff in diffs.items():
            run("patch", "-p1", "--fuzz=0", "--no-backup-if-mismatch", input=diff, cwd=SOURCE)
        commands = blocks("sh")[""].splitlines()
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
        for command in commands:
            run("sh", "-c", f"{command} BUILD={BUILD}", cwd=SOURCE, env=env)

    def generate(self, name, *options):
        path = os.path.join(self.folder, name)
        run(REVERIE, "generate", "a calm sea at sunset", "-o", path, "--seed", "1", "--width", "128", "--height", "128",
            *options, env=dict(os.environ, REVERIE_MODELS=os.path.join(SOURCE, "config/models")))
        with open(path, "rb") as f:
            return f.read()

    def test_diffs_are_few_lines(self):
        for heading, diff in blocks("diff").items():
            added = [line for line in diff.splitlines() if line.startswith("+") and not line.startswith("+++")]
            self.assertLessEqual(len(added), 60 if "provider" in heading else 25, heading)

    def test_a_parameter(self):
        self.assertEqual(schema()["shift"]["maximum"], 12)
        self.assertEqual(check(shift=99)["shift"]["nearest"], 12)
        self.assertNotIn("shift", check(shift=2.5))
        for page in ("common/request/parameters.md", "lua_binding/docs/request.md", "lua_binding/types/reverie.lua",
                     "common/remote/services.md"):
            self.assertRegex(read(page), r"\bshift\b", page)

    def test_a_parameter_acts(self):
        script = """local reverie = require "reverie"
for shift in ("1 9"):gmatch("%S+") do
  local image = assert(reverie.generate { positivePrompt = "a calm sea at sunset", seed = 1, steps = 4, width = 128,
    height = 128, shift = tonumber(shift) })[1]
  print((image:pixels()))
end"""
        env = dict(os.environ, LUA_PATH=f"{SOURCE}/lua_binding/lua/?.lua;{SOURCE}/lua_binding/lua/?/init.lua",
                   LUA_CPATH=f"{BUILD}/lua_binding/abi/5.4/?.so", REVERIE_MODELS=f"{SOURCE}/config/models")
        out = subprocess.run(["lua5.4", "-e", script], env=env, capture_output=True)
        self.assertEqual(out.returncode, 0, out.stderr)
        size = 128 * 128 * 3
        self.assertEqual(len(out.stdout), 2 * size + 2)
        self.assertNotEqual(out.stdout[:size], out.stdout[size + 1:-1])

    def test_a_parameter_in_the_web_form(self):
        if not shutil.which("chromium"):
            self.skipTest("chromium is not installed (package group clients)")
        from browser import Page
        from harness import Nginx
        server = Nginx(locations=f"location /play/ {{ alias {SOURCE}/config/playground/; index index.html; }}"
                       "location = /play/generate { reverie runware; } location /play/v1/ { reverie openai; }").start()
        self.addCleanup(server.stop)
        page = Page()
        self.addCleanup(page.close)
        page.open(f"http://127.0.0.1:{server.port}/play/")
        page.wait("document.querySelector('#go') && !document.querySelector('#go').disabled")
        self.assertIn("Shift", page.run("document.body.textContent"))

    def test_a_model(self):
        self.assertIn("Quick sketches", run(REVERIE, "models").stdout)
        self.assertEqual(schema("quick")["steps"]["maximum"], 12)
        self.assertEqual(check(model="quick", steps=13)["steps"]["nearest"], 12)
        self.assertEqual(self.generate("quick.png", "--model", "quick")[:4], b"\x89PNG")

    def test_a_provider(self):
        from fakes import PICTURE
        asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                asked.append((self.path, self.headers["Authorization"], json.loads(body)))
                answer = json.dumps({"pictures": [base64.b64encode(PICTURE).decode()]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.addCleanup(server.server_close)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        cards = os.path.join(self.folder, "cards")
        os.mkdir(cards)
        with open(os.path.join(cards, "far.json"), "w") as f:
            json.dump({"id": "far:1@1", "name": "Far", "family": "hidream", "executors": [
                {"name": "gallery", "model": "oil", "url": f"http://127.0.0.1:{server.server_port}/v1",
                 "key_env": "FAR_KEY"}]}, f)
        out = os.path.join(self.folder, "far.png")
        run(REVERIE, "generate", "a heron", "-o", out, "--models", cards, "--model", "far:1@1", "--width", "128",
            "--height", "128", "--steps", "9", "--seed", "4", env=dict(os.environ, FAR_KEY="k123"))
        with open(out, "rb") as f:
            self.assertEqual(f.read(4), b"\x89PNG")
        self.assertEqual(asked, [("/v1/pictures", "Bearer k123", {
            "model": "oil", "text": "a heron", "width": 128, "height": 128, "passes": 9, "seed": 4, "count": 1})])
        self.assertRegex(read("common/remote/services.md"), r"\| parameter \|.* gallery \|")

    def test_a_scheduler(self):
        self.assertIn("Euler Cosine", schema()["scheduler"]["enum"])
        self.assertIn("`Euler Cosine`", read("common/engine/schedulers.md"))
        self.assertNotEqual(self.generate("a.png", "--steps", "6", "--scheduler", "Euler Cosine"),
                            self.generate("b.png", "--steps", "6", "--scheduler", "Euler"))

    def test_a_directive(self):
        from harness import Nginx, task
        server = Nginx(locations="location /strict { reverie runware; reverie_strict_uuid on; }").start()
        self.addCleanup(server.stop)
        old = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"  # version 1
        self.assertEqual(server.generate({**task(), "taskUUID": old}).status, 200)
        refused = server.generate({**task(), "taskUUID": old}, path="/strict")
        self.assertEqual(refused.status, 400)
        self.assertEqual(refused.json()["errors"][0]["parameter"], "taskUUID")

    def test_the_tests_that_are_there_still_pass(self):
        """Nothing else had to be changed: the suites that look at tables, pages and directives agree."""
        names = ["table", "scheduler", "setup", "commands", "scheduler-names", "nginx configuration",
                 "gimp translation"]
        listed = run("meson", "test", "-C", BUILD, "--list", "--no-rebuild").stdout
        names = [n for n in names if re.search(rf"(^|[ /]){re.escape(n)}$", listed, re.M)]
        self.assertIn("table", names)
        run("meson", "test", "-C", BUILD, "--no-rebuild", "--print-errorlogs", *names)
        run(sys.executable, "tests/hosts/tap.py", "tests/remote/test_cells.py", cwd=SOURCE)


if __name__ == "__main__":
    unittest.main()
