"""The content checker with small random weights: its nearness to stored concepts is that of a second computation, flags
follow it, and without a checker a task that wants one is refused."""
import json
import math
import os
import random
import shutil
import struct
import sys
import tempfile
import unittest

from PIL import Image

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import test_forms as forms  # noqa: E402

HIDDEN, MLP, PATCH, GRID, PROJECTION, LAYERS = 128, 64, 4, 3, 16, 2  # two heads of 64
SIDE = PATCH * GRID
V = "vision_model.vision_model."


def norm(x, weight, bias):
    mean = sum(x) / len(x)
    by = 1 / math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + 1e-5)
    return [(v - mean) * by * w + b for v, w, b in zip(x, weight, bias)]


def linear(x, weight, bias=None):
    return [sum(a * b for a, b in zip(row, x)) + (bias[i] if bias else 0) for i, row in enumerate(weight)]


def attend(q, k, v):
    out = [[0.0] * HIDDEN for _ in q]
    for first in range(0, HIDDEN, 64):
        part = slice(first, first + 64)
        for i, row in enumerate(q):
            scores = [sum(a * b for a, b in zip(row[part], other[part])) / 8 for other in k]
            exps = [math.exp(s - max(scores)) for s in scores]
            for c in range(first, first + 64):
                out[i][c] = sum(e * other[c] for e, other in zip(exps, v)) / sum(exps)
    return out


class Safety(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="reverie-safety-")
        draw, cls.w = random.Random(11), {}

        def put(name, *shape, size=0.3, around=0.0):
            n = math.prod(shape)
            values = [struct.unpack("<f", struct.pack("<f", around + draw.uniform(-size, size)))[0] for _ in range(n)]
            cls.w[name] = (list(shape), values)
        put(V + "embeddings.class_embedding", HIDDEN)
        put(V + "embeddings.patch_embedding.weight", HIDDEN, 3, PATCH, PATCH)
        put(V + "embeddings.position_embedding.weight", GRID * GRID + 1, HIDDEN)
        for name in ["pre_layrnorm", "post_layernorm"] + [f"encoder.layers.{i}.layer_norm{k}"
                                                          for i in range(LAYERS) for k in (1, 2)]:
            put(V + name + ".weight", HIDDEN, around=1.0)
            put(V + name + ".bias", HIDDEN)
        for i in range(LAYERS):
            for name, out, width in [("self_attn.q_proj", HIDDEN, HIDDEN), ("self_attn.k_proj", HIDDEN, HIDDEN),
                                     ("self_attn.v_proj", HIDDEN, HIDDEN), ("self_attn.out_proj", HIDDEN, HIDDEN),
                                     ("mlp.fc1", MLP, HIDDEN), ("mlp.fc2", HIDDEN, MLP)]:
                put(f"{V}encoder.layers.{i}.{name}.weight", out, width, size=0.15)
                put(f"{V}encoder.layers.{i}.{name}.bias", out)
        put("visual_projection.weight", PROJECTION, HIDDEN)
        put("concept_embeds", 2, PROJECTION, size=1)
        put("special_care_embeds", 1, PROJECTION, size=1)
        cls.path = os.path.join(cls.folder, "out.png")
        cls.near = None

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def rows(cls, name):
        (_, *rest), values = cls.w[name][0], cls.w[name][1]
        width = math.prod(rest)
        return [values[i:i + width] for i in range(0, len(values), width)]

    @classmethod
    def look(cls, image):
        """Cosines with the concepts and with the special one."""
        image = image.convert("RGB").resize((SIDE, SIDE), Image.BICUBIC)
        mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        places, kernel = cls.rows(V + "embeddings.position_embedding.weight"), cls.rows(V + "embeddings.patch_embedding.weight")
        x = [[a + b for a, b in zip(cls.w[V + "embeddings.class_embedding"][1], places[0])]]
        for p in range(GRID * GRID):
            left, top = p % GRID * PATCH, p // GRID * PATCH
            patch = [(image.getpixel((left + i, top + j))[c] / 255 - mean[c]) / deviation[c]
                     for c in range(3) for j in range(PATCH) for i in range(PATCH)]
            x.append([a + b for a, b in zip(linear(patch, kernel), places[p + 1])])

        def normed(x, name):
            return [norm(r, cls.w[V + name + ".weight"][1], cls.w[V + name + ".bias"][1]) for r in x]

        def through(x, name):
            return [linear(r, cls.rows(V + name + ".weight"), cls.w[V + name + ".bias"][1]) for r in x]
        x = normed(x, "pre_layrnorm")
        for i in range(LAYERS):
            at = f"encoder.layers.{i}."
            y = normed(x, at + "layer_norm1")
            y = through(attend(*[through(y, f"{at}self_attn.{n}_proj") for n in "qkv"]), at + "self_attn.out_proj")
            x = [[a + b for a, b in zip(r, s)] for r, s in zip(x, y)]
            y = through(normed(x, at + "layer_norm2"), at + "mlp.fc1")
            y = through([[v / (1 + math.exp(-1.702 * v)) for v in r] for r in y], at + "mlp.fc2")
            x = [[a + b for a, b in zip(r, s)] for r, s in zip(x, y)]
        e = linear(normed(x[:1], "post_layernorm")[0], cls.rows("visual_projection.weight"))

        def cosines(name):
            return [sum(a * b for a, b in zip(e, c)) / math.hypot(*e) / math.hypot(*c) for c in cls.rows(name)]
        return cosines("concept_embeds"), cosines("special_care_embeds")

    def generate(self, limits=None, folder=False, check=False):
        """(status, stderr, NSFWContent)"""
        engine = {"weights": forms.MODEL}
        if limits:
            concepts, special = limits
            tensors = {n: ("F32", s, struct.pack(f"<{len(v)}f", *v)) for n, (s, v) in self.w.items()}
            tensors["concept_embeds_weights"] = ("F32", [2], struct.pack("<2f", *concepts))
            tensors["special_care_embeds_weights"] = ("F32", [1], struct.pack("<f", special))
            tensors["vision_model.vision_model.embeddings.position_ids"] = ("I32", [1, 1], bytes(4))
            os.makedirs(os.path.join(self.folder, "checker"), exist_ok=True)
            file = forms.write_file(os.path.join(self.folder, "checker", "model.safetensors"), tensors)
            engine["safety_checker"] = "checker" if folder else file
        card = {"id": "local:checked@1", "name": "checked", "family": "hidream", "executors": [{"name": "engine"}],
                "engine": engine}
        with open(os.path.join(self.folder, "card.json"), "w") as f:
            json.dump(card, f)
        status, out, err = forms.reverie("generate", "a red ball", "-o", self.path, "--seed", "7", "--steps", "1",
                                         "--width", "128", "--height", "128", "--model",
                                         os.path.join(self.folder, "card.json"), *(["--safety"] if check else []))
        return status, err, "flagged" in out

    def test_flags(self):
        self.assertEqual(self.generate()[0], 0)
        (a, b), special = self.look(Image.open(self.path))
        far, by = 2.0, 0.02
        for limits, flagged in [(((far, far), far), False), (((a - by, far), far), True),
                                (((a + by, far), far), False), (((far, b - by), far), True), (((far, b + by), far), False),
                                (((far, far), special[0] - by), False)]:  # special concepts flag nothing alone ...
            status, err, got = self.generate(limits, folder=flagged, check=True)
            self.assertEqual(status, 0, err)
            self.assertEqual(got, flagged, limits)
        low, high = a - by, a + by  # ... but count 0.01 for the others: where the flag turns moves by that
        while high - low > 0.001:
            middle = (low + high) / 2
            low, high = (middle, high) if self.generate(((middle, far), far), check=True)[2] else (low, middle)
        self.assertFalse(self.generate(((high + 0.005, far), far), check=True)[2])
        self.assertTrue(self.generate(((high + 0.005, far), special[0] - by), check=True)[2])

    def test_not_installed(self):
        status, err, _ = self.generate(check=True)
        self.assertEqual(status, 1)
        self.assertIn("no content checker is installed", err)
        self.assertEqual(err.count("safety."), 1, err)  # the parameter is named once

    def test_damaged(self):
        self.w["visual_projection.weight"], whole = ([PROJECTION, HIDDEN // 2],
                                                     self.w["visual_projection.weight"][1][::2]), self.w["visual_projection.weight"]
        status, err, _ = self.generate(((1, 1), 1), check=True)
        self.w["visual_projection.weight"] = whole
        self.assertEqual(status, 1)
        self.assertIn("visual_projection.weight", err)


if __name__ == "__main__":
    unittest.main()
