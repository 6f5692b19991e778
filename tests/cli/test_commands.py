"""reverie check, schema and models as a shell sees them: output, exit status, broken files."""
import json
import os
import subprocess
import tempfile
import unittest

ROOT = os.environ["SOURCE_ROOT"]
REVERIE = os.path.join(os.environ["BUILD_ROOT"], "reverie")
TASK = {"taskType": "imageInference", "taskUUID": "a770f077-f413-47de-9dac-be0b26a35da6",
        "model": "runware:97@3", "positivePrompt": "a quiet harbour"}


def reverie(*arguments, stdin=b""):
    done = subprocess.run([REVERIE, *arguments], input=stdin, capture_output=True, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class Check(unittest.TestCase):
    def check(self, value, *options):
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        return reverie("check", *options, "-", stdin=text)

    def test_examples(self):
        folder = os.path.join(ROOT, "tests/requests")
        with open(os.path.join(folder, "expected.json")) as f:
            expected = json.load(f)
        self.assertEqual({f"{name}.json" for name in expected} | {"expected.json", "README.md"},
                         set(os.listdir(folder)))
        for name, issues in expected.items():
            with self.subTest(name):
                status, out, err = reverie("check", os.path.join(folder, f"{name}.json"))
                self.assertEqual((status, err), (1 if issues else 0, ""))
                self.assertEqual([[i["code"], i["parameter"]] for i in json.loads(out)], issues)

    def test_issue(self):
        status, out, _ = self.check([{**TASK, "width": 1000, "height": 768}])
        self.assertEqual(status, 1)
        self.assertEqual(json.loads(out), [{
            "task": 0, "paths": ["/0/width"], "parameter": "width", "code": "invalidCustomWidth", "rule": "step",
            "message": "width must be a multiple of 16 (nearest: 1008)", "nearest": 1008, "type": "integer",
            "min": 128, "max": 2048, "multiplier": 16,
            "documentation": "https://runware.ai/docs/models/hidream-i1-fast#request-width",
            "taskType": "imageInference", "taskUUID": TASK["taskUUID"]}])

    def test_warning_is_clean(self):
        status, out, _ = self.check([{**TASK, "negativePrompt": "fog"}])
        self.assertEqual(status, 0)
        self.assertEqual([i["warning"] for i in json.loads(out)], [True])

    def test_cost(self):
        status, out, err = self.check([{**TASK, "width": 1024, "height": 1024, "steps": 16, "numberResults": 2},
                                       {**TASK, "taskUUID": TASK["taskUUID"][:-1] + "7", "steps": 22},
                                       {"taskType": "ping", "ping": True}], "--cost")
        self.assertEqual((status, err), (0, ""))
        first, second = map(json.loads, out.splitlines())
        self.assertEqual({k: first[k] for k in ("task", "taskUUID", "model", "results", "cost")},
                         {"task": 0, "taskUUID": TASK["taskUUID"], "model": "runware:97@3", "results": 2,
                          "cost": 0.0076})
        self.assertEqual({e["name"]: e["cost"] for e in first["executors"]},
                         {"engine": 0.0076, "runware": 0.0076, "fal": 0.021, "replicate": 0.01})
        self.assertEqual((second["task"], second["cost"]), (1, 0.0051))

    def test_cost_of_what_is_wrong_or_has_no_price(self):
        self.assertEqual(self.check([{**TASK, "width": 1000, "height": 768}], "--cost")[:2], (1, ""))
        status, out, _ = self.check([{**TASK, "model": "reverie-demo"}], "--cost")
        self.assertEqual((status, json.loads(out)["cost"]), (0, None))

    def test_not_json(self):
        for text in [b"", b"[", b"\xff", b"[]]", b"\xef\xbb\xbf[]"]:
            status, out, _ = self.check(text)
            self.assertEqual(status, 1)
            self.assertEqual(json.loads(out)[0]["code"], "invalidRequestBody")

    def test_options(self):
        task = [{**TASK, "taskUUID": "a1b2c3d4-e5f6-7890-abcd-ef1234567890", "stepz": 1}]
        self.assertEqual(len(json.loads(self.check(task)[1])), 1)
        self.assertEqual(len(json.loads(self.check(task, "--strict-uuid")[1])), 2)
        self.assertEqual(self.check(task, "--lenient")[0], 0)
        status, out, _ = self.check(task, "--lenient", "--normal")
        self.assertEqual((status, json.loads(out)["steps"]), (0, 16))

    def test_models_of_the_command_line(self):
        with tempfile.TemporaryDirectory() as folder:
            card = os.path.join(folder, "x.json")
            with open(card, "w") as f:
                json.dump({"id": "local:x@1", "name": "X", "parameters": {"steps": {"default": 3}}}, f)
            status, out, _ = self.check([{**TASK, "model": "local:x@1"}], "--models", folder, "--normal")
            self.assertEqual((status, json.loads(out)["steps"]), (0, 3))
            self.assertEqual(self.check([TASK], "--models", folder)[0], 1)
            with open(card, "w") as f:
                f.write("{}")
            status, _, err = self.check([TASK], "--models", folder)
            self.assertEqual(status, 2)
            self.assertIn("x.json: id and name are required", err)

    def test_unreadable(self):
        for path in ["/nowhere/at/all", ROOT]:
            status, out, err = reverie("check", path)
            self.assertEqual((status, out), (2, ""))
            self.assertIn(path, err)

    def test_misuse(self):
        for arguments in [[], ["a", "b"], ["--color", "a"], ["--models"]]:
            status, out, err = reverie("check", *arguments)
            self.assertEqual((status, out), (2, ""))
            self.assertIn("usage:", err)
        self.assertEqual(reverie("check", "--help")[0], 0)

    def test_large_body(self):
        picture = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA" + "A" * (16 << 20)
        status, out, _ = self.check([{**TASK, "seedImage": picture}])
        self.assertEqual((status, [i["code"] for i in json.loads(out)]), (1, ["unsupportedParameter"]))


class Schema(unittest.TestCase):
    def test_model(self):
        status, out, _ = reverie("schema", "hidream-i1-full")
        self.assertEqual(status, 0)
        schema = json.loads(out)
        self.assertEqual(schema["$schema"], "https://json-schema.org/draft/2020-12/schema")
        self.assertEqual(schema["properties"]["steps"]["default"], 30)
        self.assertEqual(schema["properties"]["width"]["multipleOf"], 16)
        self.assertGreaterEqual(len(schema["properties"]["scheduler"]["enum"]), 75)

    def test_unknown(self):
        status, out, err = reverie("schema", "nobody")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("nobody", err)
        self.assertEqual(reverie("schema")[0], 2)
        self.assertEqual(reverie("schema", "--color")[0], 2)

    def test_copies_in_the_tree(self):
        for option, path in [("--docs", "common/request/parameters.md"), ("--schedulers", "common/engine/schedulers.md"),
                             ("--services", "common/remote/services.md")]:
            with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                self.assertEqual(reverie("schema", option)[1], f.read())


if __name__ == "__main__":
    unittest.main()
