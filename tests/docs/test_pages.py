"""The manual, done: every command of its pages runs, and brings what the page says.

Below tests/docs/installed, where the build is installed and what it does vanishes; commands are those between ```sh.
"""
import glob
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
import unittest

SOURCE = os.environ["SOURCE_ROOT"]
NGINX, LUA, GIMP = "ngx_module/README.md", "lua_binding/README.md", "gimp_plugin/README.md"
OPERATIONS, SECURITY = "common/daemon/operations.md", "common/security.md"


def read(path):
    with open(os.path.join(SOURCE, path), encoding="utf-8") as f:
        return f.read()


def pages():
    """Every page of the tree."""
    found = glob.glob(os.path.join(SOURCE, "**/*.md"), recursive=True)
    return sorted(os.path.relpath(p, SOURCE) for p in found
                  if not re.search(r"/(node_modules|build[^/]*|\.demo|golden)/", p))


def commands(page, *heading):
    script = subprocess.run([os.path.join(SOURCE, "tests/docs/blocks"), os.path.join(SOURCE, page), *heading],
                            capture_output=True, text=True, check=True).stdout
    assert script, (page, heading)
    return script


def size_of(path):
    """Width and height of a PNG, JPEG or WebP file, by the library's own reader."""
    with open(path, "rb") as f:
        head = f.read(32)
    if head.startswith(b"\x89PNG"):
        return struct.unpack(">II", head[16:24])
    out = subprocess.run(["file", path], capture_output=True, text=True).stdout
    return tuple(int(n) for n in re.findall(r"(\d+) ?x ?(\d+)", out)[-1])


@unittest.skipUnless(os.environ.get("INSTALLED"), "runs below tests/docs/installed only")
class Pages(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder, True)

    def tearDown(self):
        subprocess.run(["systemctl", "stop", "nginx", "reveried"], capture_output=True)
        for path in glob.glob("/etc/nginx/conf.d/*") + glob.glob("/etc/systemd/system/reveried.service.d/*"):
            os.remove(path)

    def do(self, script):
        """Runs commands as they stand; the first that fails ends it."""
        with open(os.path.join(self.folder, "output"), "w+") as out:
            run = subprocess.run(["bash", "-eux", "-o", "pipefail", "-c", script], cwd=self.folder, stdin=subprocess.DEVNULL,
                                 stdout=out, stderr=subprocess.STDOUT, timeout=300)
            out.seek(0)
            text = out.read()
        if run.returncode:
            log = ""
            if os.path.exists("/run/reveried.log"):
                with open("/run/reveried.log", errors="replace") as f:
                    log = f.read()[-2000:]
            raise AssertionError(f"status {run.returncode}\n{text[-4000:]}\n{log}")
        return text

    def picture(self, name):
        return size_of(os.path.join(self.folder, name))

    def test_nginx_operators_first_page(self):
        self.do(commands(NGINX, ""))
        self.assertEqual(self.picture("sea.png"), (256, 256))

    def test_readme(self):
        """What it asks of `make serve` is asked of the same locations in nginx."""
        text = self.do(commands(NGINX, "") + commands("README.md", "Serve it"))
        self.assertEqual(text.count('"imageURL":"http://127.0.0.1:8188/images/'), 1)
        self.assertIn('"size":"256x256"', text)

    def test_lua_scripters_first_page(self):
        if not shutil.which("lua5.4"):
            self.skipTest("lua5.4 is not installed (package group lua)")
        self.do(commands(LUA, "INSTALL"))
        self.assertEqual(self.picture("snow.png"), (256, 256))

    def test_gimp_painters_first_page(self):
        if not shutil.which("gimp-console"):
            self.skipTest("GIMP is not installed (package group gimp)")
        self.do(commands(GIMP))
        self.assertEqual(self.picture("house.png"), (256, 256))

    def test_operations(self):
        text = self.do(commands(NGINX, "") + commands(OPERATIONS))
        self.assertIn("\nok\n", text)  # the check of the copied queue
        self.assertIn("active", text)

    def test_capacity(self):
        text = self.do(f"cd {SOURCE}; export BUILD={os.environ['BUILD_ROOT']}\n" + commands("common/daemon/capacity.md"))
        self.assertRegex(text, r"\| Reverie demo \| 256 × 256 \| \d+ \| [\d.]+ \|")
        self.assertRegex(text, r"\| \d\.\d\d \| \d+ ms \| \d+ ms \|")

    def test_security(self):
        self.do(commands(NGINX, "") + commands(SECURITY))
        with open(os.path.join(self.folder, "models.json")) as f:
            self.assertIn("reverie:1@1", json.dumps(json.load(f)))

    def test_configurations_of_nginx(self):
        """Blocks of the kind nginx that are whole configurations are taken as they stand."""
        found = [block for page in pages() for block in re.findall(r"^```nginx\n(.*?)^```$", read(page), re.M | re.S)
                 if "http {" in block and "content_by_lua" not in block and "reverie_" in block]
        self.assertTrue(found)
        for block in found:
            path = os.path.join(self.folder, "nginx.conf")
            with open(path, "w") as f:
                f.write(block)
            self.do(f"nginx -t -c {path}")


class Links(unittest.TestCase):
    def test_nothing_points_nowhere(self):
        """Pictures and files that pages name are there."""
        missing = []
        for page in pages():
            text = re.sub(r"^```.*?^```$", "", read(page), flags=re.M | re.S)
            folder = os.path.dirname(os.path.join(SOURCE, page))
            for target in re.findall(r"!?\[[^\]]*\]\(([^)#]+)\)", text):
                if not re.match(r"\w+:", target) and not os.path.exists(os.path.join(folder, target)):
                    missing.append(f"{page}: {target}")
            for name in re.findall(r"`((?:common|ngx_module|lua_binding|gimp_plugin|tests|config)/[\w./-]+)`", text):
                if "NAME" not in name and not glob.glob(os.path.join(SOURCE, name + "*")):
                    missing.append(f"{page}: {name}")
        self.assertEqual(missing, [])


if __name__ == "__main__":
    unittest.main()
