"""Every cell of common/remote/services.md that is about a parameter of HiDream: what it says is what is sent."""
import json
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../daemon"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fakes import Fakes  # noqa: E402
from reveried import REVERIE, SOURCE, DaemonTest, task, wait_until  # noqa: E402

KEY = "key-of-the-cells"
MODELS = {"fal": "fal-ai/hidream-i1-full", "replicate": "prunaai/hidream-l1-fast"}
# A value of each parameter that is not its default.
VALUES = {"taskType": "imageInference", "taskUUID": None, "model": "test:1@1", "positivePrompt": "a heron",
          "negativePrompt": "fog", "promptWeighting": "compel", "width": 768, "height": 1360, "seed": 77, "steps": 20,
          "scheduler": "Euler Beta", "CFGScale": 3.5, "numberResults": 2, "outputType": "dataURI", "outputFormat": "WEBP",
          "outputQuality": 80, "safety": {"checkContent": True}, "deliveryMethod": "async", "ttl": 600,
          "includeCost": True, "acceleratorOptions": {"teaCache": True}, "webhookURL": None, "uploadEndpoint": None,
          "lora": [{"model": "style:1@1", "weight": 0.5}]}


def cells():
    """{parameter: {service: cell}}"""
    with open(os.path.join(SOURCE, "common/remote/services.md"), encoding="utf-8") as f:
        rows = [[c.strip() for c in line.strip().strip("|").split("|")] for line in f if line.startswith("|")]
    services = rows[0][1:]
    return {row[0].strip("`"): dict(zip(services, row[1:])) for row in rows[2:]}


def members(value, prefix=""):
    """Every dotted path of a JSON object, lists left out."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield prefix + name
            yield from members(inner, f"{prefix}{name}.")


class Cells(DaemonTest):
    options = ("--fetch-allow", "127.0.0.1", "--fetch-ports", "*", "--service-pause-ms", "20")

    def setUp(self):
        os.environ["FAKE_KEY"] = KEY
        self.table = cells()
        self.fakes = Fakes()
        self.addCleanup(self.fakes.close)
        super().setUp()
        self.daemon.cards = os.path.join(self.folder, "cards")
        os.mkdir(self.daemon.cards)
        self.services = list(self.table["model"])
        for number, service in enumerate(self.services, 1):
            entry = {"name": service, "url": f"{self.fakes.url}/{service}/cell", "key_env": "FAKE_KEY",
                     "model": MODELS.get(service, "hidream-i1-full")}
            if service == "replicate":
                entry["adapt"] = True
            card = {"id": f"test:{number}@1", "name": service, "family": "hidream", "executors": [entry],
                    "parameters": {"CFGScale": {"default": 0}, "steps": {"default": 16}}}
            with open(os.path.join(self.daemon.cards, f"{service}.json"), "w") as f:
                json.dump(card, f)
        self.daemon.start()

    def names(self):
        """The parameters of the HiDream pages."""
        out = subprocess.run([REVERIE, "schema", "runware:97@1"], capture_output=True, check=True).stdout
        return [name for name in re.findall(r'"(\w+)":\{"type"', out.decode()) if name in self.table]

    def sent(self, service, number, parameter):
        """(reply, what the service was asked for or None)"""
        value = VALUES[parameter]
        fields = {"outputType": "base64Data", "model": f"test:{1 + self.services.index(service)}@1"}
        if service == "replicate":
            fields.update(width=768, height=1360)
        if parameter in ("width", "height"):
            fields.update(width=768, height=1360)
        elif parameter in ("webhookURL", "uploadEndpoint"):
            fields[parameter] = f"{self.fakes.url}/file/{parameter}/x"
        elif parameter not in ("taskType", "taskUUID", "model"):
            fields[parameter] = value
        place = service, "cell"
        self.fakes.requests[place].clear()
        _, reply = self.daemon.generate(task(number, **fields))
        if parameter == "deliveryMethod":
            self.wait_for(number)
        asked = [r for r in self.fakes.requests[place] if r[0] == "POST"]
        if not asked:
            return reply, None
        body = json.loads(asked[0][3])
        return reply, (body[0] if isinstance(body, list) else body.get("input", body), asked[0][2])

    def wait_for(self, number):
        question = [{"taskType": "getResponse", "taskUUID": task(number)["taskUUID"]}]
        wait_until(lambda: '"success"' in json.dumps(self.daemon.generate(*question)[1]), what="the picture")

    def test_every_cell(self):
        number = 0
        names = self.names()
        self.assertGreaterEqual(len(names), 20)
        self.assertEqual(set(names) - set(VALUES), set(), "a value for each parameter")
        for parameter in names:
            for service in self.services:
                number += 1
                with self.subTest(parameter=parameter, service=service, cell=self.table[parameter][service]):
                    self.check_cell(service, number, parameter)

    def check_cell(self, service, number, parameter):
        cell = self.table[parameter][service]
        reply, asked = self.sent(service, number, parameter)
        if cell == "refused":
            self.assertEqual(reply["errors"][0]["parameter"].split(".")[0], parameter, reply)
            self.assertEqual(reply["errors"][0]["code"], "unsupportedParameter")
            self.assertIsNone(asked, "nothing may be sent")
            return
        if "names are addresses" in cell and asked is None:  # a name that is none is refused, too
            self.assertEqual(reply["errors"][0]["parameter"].split(".")[0].split("[")[0], parameter, reply)
            return
        self.assertNotIn("errors", reply)
        body, headers = asked
        name = re.match(r"`([^`]+)`", cell)
        if name:
            self.assertIn(name.group(1), list(members(body)))
        elif "Idempotency-Key" in cell:
            self.assertTrue(headers.get("Idempotency-Key"))
        elif parameter not in ("outputType", "deliveryMethod", "includeCost"):  # those we ask for on our own account
            self.assertNotIn(parameter, body)


if __name__ == "__main__":
    unittest.main()
