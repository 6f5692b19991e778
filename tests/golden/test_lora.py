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


def matrix(draw, rows, columns, size):
    return [[draw.uniform(-size, size) for _ in range(columns)] for _ in range(rows)]


def tensor(rows):
    return "F32", [len(rows), len(rows[0])], f32(rows)


def product(a, b):
    return [[sum(x * y[j] for x, y in zip(row, b)) for j in range(len(b[0]))] for row in a]


def added(w, change, by):
    return [[x + by * y for x, y in zip(row, add)] for row, add in zip(w, change)]


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

    def merged(self, part="transformer", change=None):
        """The model with change(module, W) as the matrices of `part`, or the pairs added."""
        tensors = forms.read_part(part)
        for module in [n[:-7] for n in tensors if n.endswith(".weight")]:
            shape = tensors[module + ".weight"][1]
            if len(shape) != 2 or not (change or module in self.pairs):
                continue
            w = forms.floats(tensors[module + ".weight"])
            rows = [w[i * shape[1]:(i + 1) * shape[1]] for i in range(shape[0])]
            new = change(module, rows) if change else added(rows, product(*self.pairs[module][::-1]), WEIGHT * ALPHA / RANK)
            if new:
                tensors[module + ".weight"] = ("F32", shape, f32(new))
        file = forms.write_file(self.at("merged.bin"), tensors)
        paths = {p: os.path.join(forms.MODEL, p) for p in forms.PARTS}
        return {**paths, part: file, "config": forms.MODEL}

    def check_merged(self, tensors, change, part="transformer", weight=WEIGHT):
        """A file's picture is that of the model with change(module, W) as its matrices, and not the plain one."""
        forms.write_file(self.at("other.safetensors"), tensors)
        got, want = self.picture(weight, name="other"), self.picture(None, self.merged(part, change))
        self.assertLessEqual(distance(got, want), 1)
        self.assertGreater(distance(got, self.plain), 3)

    def test_lokr(self):
        q, w1 = "double_stream_blocks.0.block.attn1.to_q", "single_stream_blocks.1.block.ff_i.shared_experts.w3"
        draw, tensors, changes = random.Random(7), {}, {}
        for module, full in [(q, True), (w1, False)]:
            out, width = self.model[module + ".weight"][1]
            k1, a = matrix(draw, 4, 8, 1), matrix(draw, out // 4, 2, 0.3)
            b = matrix(draw, 2, width // 8, 0.3)
            k2, flat = product(a, b), "lycoris_" + module.replace(".", "_")
            tensors[flat + ".lokr_w1"] = tensor(k1)
            if full:
                tensors[flat + ".lokr_w2"] = tensor(k2)
            else:
                tensors[flat + ".lokr_w2_a"], tensors[flat + ".lokr_w2_b"] = tensor(a), tensor(b)
            tensors[flat + ".alpha"] = ("F32", [], struct.pack("<f", ALPHA))
            by = WEIGHT * (1 if full else ALPHA / 2)  # without a rank alpha means nothing
            changes[module] = [[by * k1[i // len(k2)][j // len(k2[0])] * k2[i % len(k2)][j % len(k2[0])]
                                for j in range(width)] for i in range(out)]
        self.check_merged(tensors, lambda m, w: added(w, changes[m], 1) if m in changes else None)

    def test_loha(self):
        module, draw = "double_stream_blocks.0.block.ff_i.experts.1.w1", random.Random(8)
        out, width = self.model[module + ".weight"][1]
        f = [matrix(draw, out, 2, 1), matrix(draw, 2, width, 1), matrix(draw, out, 3, 1), matrix(draw, 3, width, 1)]
        names = ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"]
        one, two = product(f[0], f[1]), product(f[2], f[3])
        change = [[x * y for x, y in zip(a, b)] for a, b in zip(one, two)]
        flat = "lora_unet_" + module.replace(".", "_")
        self.check_merged({f"{flat}.{n}": tensor(t) for n, t in zip(names, f)},
                          lambda m, w: added(w, change, WEIGHT) if m == module else None)

    def test_dora(self):
        draw, tensors, parts = random.Random(9), {}, {}
        for i, module in enumerate(["double_stream_blocks.0.block.attn1.to_q", "single_stream_blocks.1.block.attn1.to_k"]):
            out, width = self.model[module + ".weight"][1]
            a, b = matrix(draw, RANK, width, 0.2), matrix(draw, out, RANK, 0.2)
            m = [draw.uniform(0.5, 3) for _ in range(out)]
            key = f"transformer.{module}." if i else f"base_model.model.{module}."
            tensors[key + "lora_A.weight"], tensors[key + "lora_B.weight"] = tensor(a), tensor(b)
            tensors[key + ("dora_scale" if i else "lora_magnitude_vector.weight")] = (
                "F32", [out, 1] if i else [out], f32([m]))
            parts[module] = (product(b, a), m)

        def change(module, w):
            if module not in parts:
                return None
            new = []
            for row, add, length in zip(w, *parts[module]):
                v = [x + y for x, y in zip(row, add)]
                g = length / math.sqrt(sum(x * x for x in v))
                new.append([x + WEIGHT * (g * y - x) for x, y in zip(row, v)])
            return new
        self.check_merged(tensors, change)

    def test_text_encoders(self):
        for part, key, flat, module in [
                ("text_encoder", "text_encoder.", "lora_te1_", "text_model.encoder.layers.1.self_attn.v_proj"),
                ("text_encoder_2", "text_encoder_2.", "lora_te2_", "text_projection"),
                ("text_encoder_3", "text_encoder_3.", "lora_te3_", "encoder.block.1.layer.0.SelfAttention.o"),
                ("text_encoder_4", "text_encoder_4.", "lora_te4_", "model.layers.0.mlp.down_proj")]:
            with self.subTest(part):
                out, width = forms.read_part(part)[module + ".weight"][1]
                draw = random.Random(10)
                a, b = matrix(draw, RANK, width, 1), matrix(draw, out, RANK, 1)
                for down, up in [(key + module + ".lora_A.weight", key + module + ".lora_B.weight"),
                                 (flat + module.replace(".", "_") + ".lora_down.weight",
                                  flat + module.replace(".", "_") + ".lora_up.weight")]:
                    self.check_merged({down: tensor(a), up: tensor(b)},
                                      lambda m, w: added(w, product(b, a), WEIGHT) if m == module else None, part)

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
                          ("lora_te3_encoder_block_0.lora_down.weight", "text encoder has no such"),
                          ("text_encoder_4.model.embed_tokens.lora_A.weight", "table"),
                          (q + "dora_scale", "fit the model's shape"),
                          ("lycoris_x_embedder_proj.lokr_w1", "another kind"),
                          ("lycoris_x_embedder_proj.lokr_t2", "convolution"),
                          ("transformer.single_stream_blocks.0.block.attn1.to_q.hada_w1_a", "other half"),
                          ("transformer.single_stream_blocks.0.block.attn1.to_q.lokr_w2", "other half"),
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
        self.refused("no matrix",
                     **{"transformer.double_stream_blocks.0.block.attn1.q_rms_norm.lora_A.weight": one})
        self.refused(q + "dora_scale", "columns", **{q + "dora_scale": ("F32", [1, 128], bytes(512))})
        k = "transformer.single_stream_blocks.0.block.attn1.to_q.lokr_w"
        self.refused(k + "2", "model's shape", **{k + "1": ("F32", [4, 4], bytes(64)), k + "2": ("F32", [4, 4], bytes(64))})
        self.refused(k + "1", "says again", **{k + "1": one, k + "1_a": one, k + "2": one})
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
