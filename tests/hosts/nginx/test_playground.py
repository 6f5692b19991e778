"""The playground page in a real browser, against nginx with the stub.

With REVERIE_URL and SHOTS=FOLDER the server there is used and pictures are taken: config/playground/README.md.
"""
import json
import os
import shutil
import unittest

from harness import SOURCE, Nginx, wait_until

try:
    from browser import Page
except ImportError:
    Page = None

CTRL = 2
URL = os.environ.get("REVERIE_URL")
SHOTS = os.environ.get("SHOTS")


@unittest.skipUnless(shutil.which("chromium"), "chromium is not installed (package group clients)")
class Playground(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # below a folder: the page must not depend on its place
        cls.server = None if URL else Nginx(
            http="reverie_executor stub delay=100ms;",
            locations="location /play/ { alias %s/config/playground/; index index.html; }"
                      "location = /play/generate { reverie runware; } location /play/v1/ { reverie openai; }" % SOURCE)
        if cls.server:
            try:
                cls.server.start()
            except BaseException:
                cls.server.stop()
                raise
        cls.url = URL + "/" if URL else f"http://127.0.0.1:{cls.server.port}/play/"

    @classmethod
    def tearDownClass(cls):
        if cls.server:
            cls.server.stop()

    def page(self, fragment="", **options):
        page = Page(**options)
        self.addCleanup(page.close)
        page.open(self.url + fragment)
        page.wait("document.querySelector('#go') && !document.querySelector('#go').disabled")
        self.addCleanup(lambda: self.assertEqual(page.problems, []))
        return page

    def shot(self, page, name):
        if SHOTS:
            page.screenshot(os.path.join(SHOTS, name + ".webp"))

    def settle(self, page):
        page.wait("document.querySelector('#stop').hidden", 120)

    def fill(self, page, **values):
        for key, value in values.items():
            page.type("#f-" + key, str(value))

    def test_a_picture_from_words_with_steps_and_preview(self):
        page = self.page()
        self.shot(page, "empty")
        self.fill(page, positivePrompt="snowy mountains on a sunny day", seed=3, **({"steps": 16} if SHOTS else {}))
        page.key("Enter", CTRL)
        page.wait("/step [3-9]/.test(document.querySelector('#status').textContent)")
        page.wait("!!document.querySelector('#canvas img.preview')")
        self.assertTrue(page.run("document.querySelector('#canvas img.preview').src.startsWith('data:image/')"))
        self.assertGreater(page.run("document.querySelector('#progress').value"), 0)
        if SHOTS:
            page.wait("/step 1[0-9]/.test(document.querySelector('#status').textContent)")
        self.shot(page, "progress")
        self.settle(page)
        self.assertRegex(page.run("document.querySelector('#status').textContent"), r"^done in \d")
        page.wait("document.querySelector('figure img').naturalWidth === 256")
        self.assertIn("seed 3", page.run("document.querySelector('figcaption').textContent"))
        for name, word in (("Command line", "reverie generate 'snowy"), ("curl", '"seed":3'), ("Lua", "seed = 3")):
            page.run(f"[...document.querySelectorAll('figure button')].find(b => b.textContent === '{name}').click()")
            self.assertIn(word, page.run("document.querySelector('figure pre').textContent"))
        page.run("[...document.querySelectorAll('figure button')].find(b => b.textContent === 'Command line').click()")
        page.run("scrollTo(0, 0)")
        if SHOTS:
            page.call("Emulation.setDeviceMetricsOverride", width=1280, height=1500, deviceScaleFactor=1, mobile=False)
        self.shot(page, "done")

    def test_problems_stand_at_their_fields(self):
        page = self.page("#" + "model=runware:97@3&positivePrompt=%22a%22" if not SHOTS else "")
        self.fill(page, width=100, height=128, steps=0)
        page.run("document.querySelector('#go').click()")
        self.settle(page)
        page.wait("!!document.querySelector('#problems li')")
        found = page.run("[...document.querySelectorAll('#problems li')].map(e => e.textContent)")
        self.assertEqual(len(found), 2, found)
        self.assertTrue(any("width" in text for text in found))
        self.assertEqual(page.run("[...document.querySelectorAll('[aria-invalid]')].map(e => e.id).sort().join()"),
                         "f-steps,f-width")
        self.assertEqual(page.run("document.activeElement.id"), "f-width")
        self.shot(page, "error")

    def test_settings_live_in_the_address(self):
        page = self.page()
        self.fill(page, positivePrompt="a calm sea & <b>", seed="9223372036854775999", steps=2)
        page.run("{ const s = document.querySelector('#f-outputFormat'); s.value = 'WEBP'; "
                 "s.dispatchEvent(new Event('input', { bubbles: true })); }")
        address = page.run("location.href")
        other = self.page(address[len(self.url):])
        self.assertEqual(other.run("document.querySelector('#f-positivePrompt').value"), "a calm sea & <b>")
        self.assertEqual(other.run("document.querySelector('#f-seed').value"), "9223372036854775999")
        self.assertEqual(other.run("document.querySelector('#f-outputFormat').value"), "WEBP")
        self.assertEqual(other.run("location.href"), address)
        other.run("document.querySelector('#go').click()")
        self.settle(other)
        self.assertIn("seed 9223372036854775999", other.run("document.querySelector('figcaption').textContent"))
        self.assertTrue(other.run("document.querySelector('figure img').src.endsWith('.webp')"))

    def test_several_pictures_and_their_settings(self):
        page = self.page()
        self.fill(page, numberResults=3, steps=2, seed=5)
        page.run("document.querySelector('#go').click()")
        self.settle(page)
        self.assertEqual(page.run("document.querySelectorAll('figure').length"), 3)
        self.assertEqual(page.run("document.querySelectorAll('#canvas img').length"), 3)
        page.run("document.querySelector('figcaption a').click()")  # the newest comes first
        page.wait("document.querySelector('#f-seed').value === '7'")
        self.assertEqual(page.run("document.querySelector('#f-numberResults').value"), "")

    def test_stopping(self):
        page = self.page()
        self.fill(page, steps=200)
        page.key("Enter", CTRL)
        page.wait("document.querySelector('#status').textContent.startsWith('step')")
        page.key("Escape")
        self.settle(page)
        self.assertEqual(page.run("document.querySelector('#status').textContent"), "stopped")
        if self.server:
            wait_until(lambda: page.run("!document.querySelector('#go').disabled"))

    def test_the_form_follows_the_model(self):
        page = self.page()
        self.assertTrue(page.run("!!document.querySelector('#f-seedImage')"))
        page.run("{ const m = document.querySelector('#model'); m.value = 'runware:97@3'; "
                 "m.dispatchEvent(new Event('change')); }")
        page.wait("!document.querySelector('#f-seedImage')")
        self.assertEqual(page.run("document.querySelector('#f-width').placeholder"), "1024")
        self.assertIn("runware", page.run("location.hash"))

    def test_lists_and_nested_options(self):
        page = self.page("#model=runware%3A97%401&positivePrompt=%22a%22&lora=%5B%7B%22model%22%3A%22local%3Aa%401%22%7D%5D"
                         "&acceleratorOptions=%7B%22teaCache%22%3Atrue%7D")
        self.assertEqual(page.run("document.querySelector('#f-lora-0-model').value"), "local:a@1")
        self.assertTrue(page.run("document.querySelector('#f-acceleratorOptions-teaCache').checked"))
        sent = dict(page.run("changed()"))
        self.assertEqual(json.loads(sent["lora"]), [{"model": "local:a@1"}])
        self.assertEqual(json.loads(sent["acceleratorOptions"]), {"teaCache": True})

    def test_a_broken_address_does_no_harm(self):
        page = self.page("#model=nothing&seed=%22x&lora=%7B&positivePrompt=%22%3Cimg%20src%3Dx%3E%22&width=[]")
        self.assertEqual(page.run("document.querySelector('#f-positivePrompt').value"), "<img src=x>")
        self.assertEqual(page.run("document.querySelectorAll('img').length"), 0)

    def test_every_control_has_a_name_and_can_be_reached(self):
        page = self.page()
        unnamed = page.run("[...document.querySelectorAll('form input, form select, form textarea')]"
                           ".filter(e => !e.labels?.length).map(e => e.id)")
        self.assertEqual(unnamed, [])
        seen = []
        for _ in range(12):
            page.key("Tab")
            seen.append(page.run("document.activeElement.id || document.activeElement.textContent"))
        self.assertEqual(len(set(seen)), len(seen), seen)

    def test_a_phone(self):
        page = self.page(width=390, height=844, touch=True)
        self.assertLessEqual(page.run("document.documentElement.scrollWidth"), 390)
        page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        self.assertLessEqual(page.run("document.documentElement.scrollWidth"), 390)
        small = page.run("[...document.querySelectorAll('button, input:not([type=checkbox]), select, summary')]"
                         ".filter(e => e.offsetParent && e.offsetHeight < 34).map(e => e.id || e.textContent)")
        self.assertEqual(small, [])
        page.run("document.querySelectorAll('details').forEach(d => { d.open = false; })")
        self.fill(page, steps=4)
        page.run("document.querySelector('#go').click(); scrollTo(0, 0)")
        self.settle(page)
        self.assertLessEqual(page.run("document.documentElement.scrollWidth"), 390)
        self.shot(page, "phone")

    def test_dark(self):
        page = self.page(dark=True)
        light, dark = "rgb(246, 244, 241)", "rgb(20, 19, 18)"
        self.assertEqual(page.run("getComputedStyle(document.body).backgroundColor"), dark)
        self.shot(page, "dark")
        page.dark(False)
        self.assertEqual(page.run("getComputedStyle(document.body).backgroundColor"), light)


if __name__ == "__main__":
    unittest.main()
