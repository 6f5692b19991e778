"""LoRAs on the tiny model: every style of keys gives the picture of the merged weights; zero is nothing; wrong files are
refused by their first wrong key."""
import json
import math
import os
import random
import shutil
import struct
import sys
import tempfile
import unittest
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import test_forms as forms  # noqa: E402

RANK, ALPHA, WEIGHT = 3, 6.0, 0.5
MODULES = ["x_embedder.proj", "caption_projection.1.linear", "t_embedder.timestep_embedder.linear_2",
           "double_stream_blocks.0.block.adaLN_modulation.1", "double_stream_blocks.0.block.attn1.to_q",
           "double_stream_blocks.1.block.attn1.to_q_t", "double_stream_blocks.1.block.attn1.to_out_t",
           "double_stream_blocks.0.block.ff_t.w1", "double_stream_blocks.0.block.ff_i.experts.1.w1",
           "double_stream_blocks.1.block.ff_i.experts.2.w2", "single_stream_blocks.0.block.ff_i.experts.0.w3",
           "single_stream_blocks.1.block.ff_i.shared_experts.w3", "single_stream_blocks.1.block.ff_i.gate",
           "final_layer.linear"]


def f32(rows):
    return struct.pack(f"<{sum(map(len, rows))}f", *[v for row in rows for v in row])


def pixels(png):
    """The bytes of an 8-bit RGB PNG without interlacing."""
    at, data = 8, b""
    width, height = struct.unpack(">II", png[16:24])
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at:at + 8])
        data += png[at + 8:at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    raw, row, out = zlib.decompress(data), [0] * (3 * width), []
    for y in range(height):
        line = raw[y * (3 * width + 1):(y + 1) * (3 * width + 1)]
        last, row = row, []
        for i, v in enumerate(line[1:]):
            a, b, c = row[i - 3] if i > 2 else 0, last[i], last[i - 3] if i > 2 else 0
            p = min([(abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c)])[2]
            row.append(v + [0, a, b, (a + b) // 2, p][line[0]] & 255)
        out += row
    return out


def distance(a, b):
    return max(abs(x - y) for x, y in zip(a, b))


class Lora(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="reverie-lora-")
        cls.model = forms.read_part("transformer")
        cls.pairs = {}
        draw = random.Random(5)
        for module in MODULES:
            out, width = cls.model[module + ".weight"][1]
            down = [[draw.uniform(-1, 1) / math.sqrt(width) for _ in range(width)] for _ in range(RANK)]
            up = [[draw.uniform(-0.4, 0.4) for _ in range(RANK)] for _ in range(out)]
            cls.pairs[module] = ([list(struct.unpack(f"<{width}f", f32([r]))) for r in down],
                                 [list(struct.unpack(f"<{RANK}f", f32([r]))) for r in up])
        cls.style = cls.write("kohya", "lora_unet_{flat}.lora_down.weight", "lora_unet_{flat}.lora_up.weight",
                              "lora_unet_{flat}.alpha")
        cls.plain = cls.picture(None, forms.MODEL)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def at(cls, name):
        return os.path.join(cls.folder, name)

    @classmethod
    def tensors(cls, down, up, alpha=None):
        out, factor = {}, 1 if alpha else ALPHA / RANK  # without a key for alpha its part goes into the matrix
        for module, (a, b) in cls.pairs.items():
            names = {"module": module, "flat": module.replace(".", "_")}
            out[down.format(**names)] = ("F32", [RANK, len(a[0])], f32(a))
            out[up.format(**names)] = ("F32", [len(b), RANK], f32([[v * factor for v in row] for row in b]))
            if alpha:
                out[alpha.format(**names)] = ("F32", [], struct.pack("<f", ALPHA))
        return out

    @classmethod
    def write(cls, name, *styles):
        forms.write_file(cls.at(f"{name}.safetensors"), cls.tensors(*styles))
        return name

    @classmethod
    def run_model(cls, weights, *loras):
        """(status, what stderr says, picture)"""
        card = {"id": "local:base@1", "name": "base", "family": "hidream", "executors": [{"name": "engine"}],
                "engine": {"weights": weights, "lora_folder": ".",
                           "loras": {f"local:{n[:-12]}@1": n for n in os.listdir(cls.folder) if "safetensors" in n}}}
        with open(cls.at("card.json"), "w") as f:
            json.dump(card, f)
        out = cls.at("out.png")
        options = [o for lora in loras for o in ("--lora", lora)]
        status, _, err = forms.reverie("generate", "a blue door", "-o", out, "--model", cls.at("card.json"), "--seed", "3",
                                       "--steps", "1", "--width", "128", "--height", "128", *options)
        if status:
            return status, err, []
        with open(out, "rb") as f:
            return status, err, pixels(f.read())  # the file also has the request in it

    @classmethod
    def picture(cls, weight, model=forms.MODEL, name="kohya"):
        status, err, picture = cls.run_model(model, *([] if weight is None else [f"local:{name}@1={weight}"]))
        if status:
            raise AssertionError(err)
        return picture

    def merged(self):
        tensors = dict(self.model)
        for module, (a, b) in self.pairs.items():
            _, (out, width), _ = tensors[module + ".weight"]
            w = forms.floats(tensors[module + ".weight"])
            rows = [[w[i * width + k] + WEIGHT * ALPHA / RANK * sum(b[i][r] * a[r][k] for r in range(RANK))
                     for k in range(width)] for i in range(out)]
            tensors[module + ".weight"] = ("F32", [out, width], f32(rows))
        file = forms.write_file(self.at("merged.bin"), tensors)
        paths = {p: os.path.join(forms.MODEL, p) for p in forms.PARTS}
        return {**paths, "transformer": file, "config": forms.MODEL}

    def test_is_the_merged_model(self):
        got, want = self.picture(WEIGHT), self.picture(None, self.merged())
        self.assertLessEqual(distance(got, want), 1)
        self.assertGreater(distance(got, self.plain), 8)

    def test_styles(self):
        want = self.picture(WEIGHT)
        for name, styles in {
            "diffusers": ["transformer.{module}.lora_A.weight", "transformer.{module}.lora_B.weight"],
            "comfy": ["diffusion_model.{module}.lora_A.weight", "diffusion_model.{module}.lora_B.weight",
                      "diffusion_model.{module}.alpha"],
            "peft": ["base_model.model.{module}.lora_A.default.weight", "base_model.model.{module}.lora_B.default.weight"],
            "onetrainer": ["lora_transformer_{flat}.lora_down.weight", "lora_transformer_{flat}.lora_up.weight",
                           "lora_transformer_{flat}.alpha"],
            "simpletuner": ["lycoris_{flat}.lora_down.weight", "lycoris_{flat}.lora_up.weight", "lycoris_{flat}.alpha"],
        }.items():
            with self.subTest(name):
                self.write(name, *styles)
                self.assertLessEqual(distance(self.picture(WEIGHT, name=name), want), 0 if len(styles) == 3 else 1)

    def test_half_precision_and_quantised_base(self):
        half = {name: ("F16", shape, struct.pack(f"<{len(v) // 4}e", *struct.unpack(f"<{len(v) // 4}f", v)))
                for name, (_, shape, v) in self.tensors("transformer.{module}.lora_A.weight",
                                                        "transformer.{module}.lora_B.weight").items()}
        forms.write_file(self.at("half.safetensors"), half)
        self.assertLessEqual(distance(self.picture(WEIGHT, name="half"), self.picture(WEIGHT)), 3)
        base = self.at("base.gguf")
        self.assertEqual(forms.reverie("quantize", forms.MODEL, base, "q8_0")[0], 0)
        self.assertGreater(distance(self.picture(WEIGHT, base), self.picture(None, base)), 8)

    def test_nothing(self):
        self.assertEqual(self.picture(0), self.plain)
        shutil.copy(self.at("kohya.safetensors"), self.at("again.safetensors"))
        one, other = "local:kohya@1=", "local:again@1="
        self.assertEqual(self.run_model(forms.MODEL, one + "0.7", one + "-0.7")[2], self.plain)
        self.assertLessEqual(distance(self.run_model(forms.MODEL, one + "0.7", other + "-0.7")[2], self.plain), 1)
        self.assertEqual(self.run_model(forms.MODEL, one + "0.25", one + "0.25")[2], self.picture(WEIGHT))
        self.assertLessEqual(distance(self.run_model(forms.MODEL, one + "0.25", other + "0.25")[2],
                                      self.picture(WEIGHT)), 1)

    def refused(self, *words, remove=None, name="local:bad@1", **tensors):
        whole = {**self.tensors("transformer.{module}.lora_A.weight", "transformer.{module}.lora_B.weight"), **tensors}
        whole.pop(remove, None)
        forms.write_file(self.at("bad.safetensors"), whole)
        status, err, _ = self.run_model(forms.MODEL, name)
        self.assertEqual(status, 1)
        for word in words:
            self.assertIn(word, err)

    def test_refused(self):
        one, number = ("F32", [1, 1], bytes(4)), ("F32", [], bytes(4))
        q = "transformer.double_stream_blocks.0.block.attn1.to_q."
        for key, word in [("transformer.double_stream_blocks.7.block.attn1.to_q.lora_A.weight", "no such module"),
                          ("lora_unet_double_stream_blocks_0_block_attn1_to_x.alpha", "no such module"),
                          ("lora_te3_encoder_block_0.lora_down.weight", "text encoder"),
                          (q + "dora_scale", "DoRA"), ("lycoris_x_embedder_proj.lokr_w1", "LoKr"),
                          ("something", "not the key of a LoRA")]:
            self.refused(f'key "{key}"', word, **{key: one})
        self.refused(q + "lora_B.weight", "other half", remove=q + "lora_A.weight")
        self.refused(q + "lora_A.weight", "halves do not fit", **{q + "lora_A.weight": ("F32", [2, 128], bytes(1024))})
        self.refused(q + "lora_A.weight", "model's shape", **{q + "lora_A.weight": ("F32", [3, 64], bytes(768))})
        self.refused(q + "lora_B.weight", "model's shape", **{q + "lora_B.weight": ("F32", [64, 3], bytes(768))})
        self.refused("says again", **{"diffusion_model.x_embedder.proj.lora_A.weight": ("F32", [3, 64], bytes(768))})
        self.refused(q + "alpha", "one number", **{q + "alpha": ("F32", [2], bytes(8))})
        self.refused(q + "alpha", "finite", **{q + "alpha": ("F32", [], struct.pack("<f", math.nan))})
        self.refused("to_q_rms_norm", **{"transformer.double_stream_blocks.0.block.attn1.to_q_rms_norm.alpha": number})
        self.refused("other half",
                     **{"transformer.double_stream_blocks.0.block.attn1.q_rms_norm.lora_A.weight": one})
        self.refused("lora[0].model", name="local:absent@1")

    def test_alpha_in_the_metadata(self):
        tensors = self.tensors("transformer.{module}.lora_A.weight", "transformer.{module}.lora_B.weight", "x")
        del tensors["x"]
        path = forms.write_file(self.at("told.safetensors"), tensors)
        with open(path, "rb") as f:
            size, = struct.unpack("<Q", f.read(8))
            header, data = json.loads(f.read(size)), f.read()
        header["__metadata__"] = {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": ALPHA})}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(path, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text + data)
        self.assertEqual(self.picture(WEIGHT, name="told"), self.picture(WEIGHT))


if __name__ == "__main__":
    unittest.main()
