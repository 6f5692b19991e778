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
LORA, LORA_ADDRESS = "style:1@1", "https://example.org/style.safetensors"
# A value of each parameter that is not its default.
VALUES = {"taskType": "imageInference", "taskUUID": None, "model": "test:1@1", "positivePrompt": "a heron",
          "negativePrompt": "fog", "promptWeighting": "compel", "width": 768, "height": 1360, "seed": 77, "steps": 20,
          "scheduler": "Euler Beta", "CFGScale": 3.5, "numberResults": 2, "outputType": "dataURI", "outputFormat": "WEBP",
          "outputQuality": 80, "safety": {"checkContent": True}, "deliveryMethod": "async", "ttl": 600,
          "includeCost": True, "acceleratorOptions": {"teaCache": True}, "webhookURL": None, "uploadEndpoint": None,
          "lora": [{"model": LORA, "weight": 0.5}]}
# The same for members: all others have their defaults.
MEMBERS = {"lora.model": LORA, "lora.weight": 0.5, "lora.transformer": "high",
           "acceleratorOptions.teaCache": True, "acceleratorOptions.teaCacheDistance": 0.3,
           "acceleratorOptions.fbCache": True, "acceleratorOptions.fbCacheThreshold": 0.4,
           "acceleratorOptions.dbCache": True, "acceleratorOptions.dbCacheThreshold": 0.4,
           "acceleratorOptions.dbCacheSkipInterval": 4, "acceleratorOptions.cacheStartStep": 2,
           "acceleratorOptions.cacheStartStepPercentage": 10, "acceleratorOptions.cacheEndStep": 3,
           "acceleratorOptions.cacheEndStepPercentage": 90, "acceleratorOptions.cacheMaxConsecutiveSteps": 2,
           "safety.checkContent": True, "safety.mode": "fast"}


def cells():
    """{parameter: {service: cell}}"""
    with open(os.path.join(SOURCE, "common/remote/services.md"), encoding="utf-8") as f:
        rows = [[c.strip() for c in line.strip().strip("|").split("|")] for line in f if line.startswith("|")]
    services = rows[0][1:]
    return {row[0].strip("`"): dict(zip(services, row[1:])) for row in rows[2:]}


def members(value, prefix=""):
    """{dotted path: value} of everything in a JSON object; items of lists count as the list."""
    if isinstance(value, list):
        return {path: v for item in value for path, v in members(item, prefix).items()}
    found = {}
    for name, inner in value.items() if isinstance(value, dict) else ():
        found[prefix + name] = inner
        found.update(members(inner, f"{prefix}{name}."))
    return found


def nested(parameter, value):
    """The top-level parameter with just this member."""
    top, _, name = parameter.partition(".")
    if top == "lora":
        return {"lora": [{"model": LORA, name: value}]}
    return {top: {name: value}}


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
            if service == "fal":
                entry["loras"] = {LORA: LORA_ADDRESS}
            card = {"id": f"test:{number}@1", "name": service, "family": "hidream", "executors": [entry],
                    "parameters": {"CFGScale": {"default": 0}, "steps": {"default": 16}}}
            with open(os.path.join(self.daemon.cards, f"{service}.json"), "w") as f:
                json.dump(card, f)
        self.daemon.start()

    def names(self):
        """The parameters of the HiDream pages, and the members of those that are objects."""
        out = subprocess.run([REVERIE, "schema", "runware:97@1"], capture_output=True, check=True).stdout
        names = []
        for name, about in json.loads(out)["properties"].items():
            if name not in self.table:
                continue
            names.append(name)
            inner = about.get("items", about).get("properties", {})
            names += [f"{name}.{member}" for member in inner]
        return names

    def sent(self, service, number, parameter):
        """(reply, what the service was asked for or None)"""
        fields = {"outputType": "base64Data", "model": f"test:{1 + self.services.index(service)}@1"}
        if service == "replicate":
            fields.update(width=768, height=1360)
        if parameter in ("width", "height"):
            fields.update(width=768, height=1360)
        elif parameter in ("webhookURL", "uploadEndpoint"):
            fields[parameter] = f"{self.fakes.url}/file/{parameter}/x"
        elif "." in parameter:
            fields.update(nested(parameter, MEMBERS[parameter]))
        elif parameter not in ("taskType", "taskUUID", "model"):
            fields[parameter] = VALUES[parameter]
        return self.outcome(service, number, fields, is_async=parameter == "deliveryMethod")

    def outcome(self, service, number, fields, is_async=False):
        place = service, "cell"
        self.fakes.requests[place].clear()
        _, reply = self.daemon.generate(task(number, **fields))
        if is_async:
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
        self.assertEqual(set(names), set(VALUES.keys() | MEMBERS.keys()) - {"promptWeighting"}, "a value for each")
        self.assertEqual([n for n in self.table if "." in n], [n for n in names if "." in n], "a row for each member")
        for parameter in names:
            for service in self.services:
                number += 1
                with self.subTest(parameter=parameter, service=service, cell=self.table[parameter][service]):
                    self.check_cell(service, number, parameter)

    def check_cell(self, service, number, parameter):
        cell = self.table[parameter][service]
        reply, asked = self.sent(service, number, parameter)
        if cell == "refused":
            name = re.sub(r"\[\d+\]", "", reply["errors"][0]["parameter"])
            # checkContent and mode are one fact in two spellings; a list is refused as a whole.
            family = "safety" if parameter.startswith("safety.") else parameter
            parameter = re.sub(r"^lora\..*", "lora", parameter) if self.table["lora"][service] == "refused" else parameter
            self.assertIn(name, (parameter, *(m for m in MEMBERS if m.startswith(family + "."))), reply)
            self.assertEqual(reply["errors"][0]["code"], "unsupportedParameter")
            self.assertIsNone(asked, "nothing may be sent")
            return
        self.assertNotIn("errors", reply)
        body, headers = asked
        name = re.match(r"`([^`]+)`", cell)
        if name:
            found = members(body)
            self.assertIn(name.group(1), found)
            if name.group(1) == parameter and parameter in MEMBERS:
                self.assertEqual(found[parameter], MEMBERS[parameter])
        elif "Idempotency-Key" in cell:
            self.assertTrue(headers.get("Idempotency-Key"))
        elif parameter not in ("outputType", "deliveryMethod", "includeCost"):  # those we ask for on our own account
            self.assertNotIn(parameter, body)

    def test_defaults_are_no_request(self):
        """What asks for nothing is not refused where it cannot be said."""
        nothing = [{"acceleratorOptions": {"teaCache": False}}, {"acceleratorOptions": {}},
                   {"acceleratorOptions": {"fbCache": False, "fbCacheThreshold": 0.25, "dbCacheSkipInterval": 5}},
                   {"safety": {"checkContent": False}}, {"safety": {"mode": "none"}}, {"safety": {}},
                   {"scheduler": "Default"}, {"CFGScale": 0}]
        number = 5000
        for fields in nothing:
            for service in self.services:
                number += 1
                with self.subTest(service=service, fields=fields):
                    size = {"width": 768, "height": 1360, "model": f"test:{1 + self.services.index(service)}@1",
                            "outputType": "base64Data"}
                    reply, asked = self.outcome(service, number, {**size, **fields})
                    self.assertIn("data", reply, reply)
                    self.assertIsNotNone(asked)

    def test_loras_without_an_address_are_refused_by_name(self):
        model = f"test:{1 + self.services.index('fal')}@1"
        lora = [{"model": LORA, "weight": 1}, {"model": "other:1@1"}]
        reply, asked = self.outcome("fal", 6000, {"model": model, "lora": lora})
        self.assertEqual(reply["errors"][0]["parameter"], "lora[1].model")
        self.assertIsNone(asked)


if __name__ == "__main__":
    unittest.main()
