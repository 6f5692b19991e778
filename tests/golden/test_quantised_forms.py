"""Quantised weights, ours and those of others, on the tiny model.  Weights are unpacked while they are used, so a
quantised model makes the very picture of the same model written out as float32, with LoRAs and without."""
import json
import os
import random
import shutil
import struct
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import test_forms as forms  # noqa: E402
import test_lora as lora  # noqa: E402

TYPES = ["f32", "f16", "bf16", "q8_0", "q6_K", "q5_K", "q4_K", "q4_0"]
# Values and bytes of a block, and where its scales are, which are half precision numbers.
BLOCKS = {"Q4_0": (32, 18, [0]), "Q4_1": (32, 20, [0, 2]), "Q5_0": (32, 22, [0]), "Q5_1": (32, 24, [0, 2]),
          "Q8_0": (32, 34, [0]), "Q2_K": (256, 84, [80, 82]), "Q3_K": (256, 110, [108]), "Q4_K": (256, 144, [0, 2]),
          "Q5_K": (256, 176, [0, 2]), "Q6_K": (256, 210, [208])}
# The published mixtures: most of it, what is raised, and the type of rows that 256 does not divide.
MIXTURES = [("Q2_K", "Q3_K", "Q4_0"), ("Q3_K", "Q5_K", "Q4_1"), ("Q4_K", "Q6_K", "Q5_0"), ("Q5_K", "Q6_K", "Q5_1"),
            ("Q4_0", "Q4_0", "Q4_0"), ("Q8_0", "Q8_0", "Q8_0")]


def blocks(draw, dtype, shape):
    """A tensor of random blocks with small scales."""
    values, size, scales = BLOCKS[dtype]
    count, data = shape[0] * shape[1] // values, bytearray()
    for _ in range(count):
        block = bytearray(draw.randbytes(size))
        for at in scales:
            block[at:at + 2] = struct.pack("<e", draw.uniform(0.0001, 0.0002))
        data += block
    return dtype, shape, bytes(data)


def city96(draw, most, raised, rest):
    """The transformer as city96's converter writes it: small and sensitive tensors in F32 or F16, to_v and w2 raised."""
    out = {}
    for name, t in forms.read_part("transformer").items():
        shape = t[1]
        keep = len(shape) != 2 or any(w in name for w in ("p_embedder", "t_embedder", "x_embedder", "final_layer",
                                                          "ff_i.gate", "caption_projection"))
        if keep:
            small = len(shape) == 1 or "ff_i.gate" in name
            values = forms.floats(t)
            out[name] = ("F32", shape, values.tobytes()) if small else (
                "F16", shape, struct.pack(f"<{len(values)}e", *values))
            continue
        dtype = raised if ".to_v" in name or name.endswith(".w2.weight") else most
        out[name] = blocks(draw, dtype if shape[1] % BLOCKS[dtype][0] == 0 else rest, shape)
    return out


def q8_0(t):
    """(the tensor in q8_0, the F32 tensor it means)"""
    values, data, meant = forms.floats(t), bytearray(), []
    for at in range(0, len(values), 32):
        part = values[at:at + 32]
        scale = struct.unpack("<e", struct.pack("<e", (max(map(abs, part)) or 1.0) / 127))[0]
        codes = [max(-127, min(127, round(v / scale))) for v in part]
        data += struct.pack("<e32b", scale, *codes)
        meant += [forms.single(scale * c) for c in codes]
    return ("Q8_0", t[1], bytes(data)), ("F32", t[1], struct.pack(f"<{len(meant)}f", *meant))


class Quantised(lora.Lora):
    """Uses the LoRA of its base class; the tests of that are its own."""

    def whole(self, model, name):
        """The model as one F32 file."""
        path = self.at(name)
        status, _, err = forms.reverie("quantize", model, path, "f32")
        self.assertEqual(status, 0, err)
        return path

    def test_every_type(self):
        sizes = {}
        for kind in TYPES:
            with self.subTest(kind):
                path = self.at(f"{kind}.gguf")
                status, out, err = forms.reverie("quantize", forms.MODEL, path, kind)
                self.assertEqual(status, 0, err)
                status, about, _ = forms.reverie("inspect", path)
                self.assertEqual(status, 0)
                self.assertIn("a model in one GGUF file", about)
                self.assertRegex(about, rf"(?m)^  transformer .* {kind}:\d+")
                self.assertNotIn("missing:", about)
                sizes[kind] = os.path.getsize(path)
                same = self.whole(path, "same.gguf")
                self.assertEqual(self.picture(None, path), self.picture(None, same))
        for less, more in [("q4_0", "q8_0"), ("q8_0", "f16"), ("q4_K", "q5_K"), ("q5_K", "q6_K"), ("q6_K", "f16"),
                           ("bf16", "f32")]:
            self.assertLess(sizes[less], sizes[more])
        for kind, word in [("q3_K", "TYPE (f32 f16"), ("", "TYPE")]:
            status, _, err = forms.reverie("quantize", forms.MODEL, self.at("no.gguf"), kind)
            self.assertEqual(status, 2)
            self.assertIn(word, err)
        self.assertFalse(os.path.exists(self.at("no.gguf")))

    def test_lora(self):
        """On a quantised base: what it is on the same values in float32; weight 0 and +w with -w are nothing."""
        for kind in ["q8_0", "q4_K"]:
            with self.subTest(kind):
                base = self.at("base.gguf")
                self.assertEqual(forms.reverie("quantize", forms.MODEL, base, kind)[0], 0)
                plain, changed = self.picture(None, base), self.picture(lora.WEIGHT, base)
                self.assertEqual(changed, self.picture(lora.WEIGHT, self.whole(base, "same.gguf")))
                self.assertGreater(lora.distance(changed, plain), 8)
                self.assertEqual(self.picture(0, base), plain)
                one, other = "local:kohya@1=", "local:again@1="
                self.assertEqual(self.run_model(base, one + "4", one + "-4")[2], plain)
                shutil.copy(self.at("kohya.safetensors"), self.at("again.safetensors"))
                self.assertLessEqual(lora.distance(self.run_model(base, one + "0.7", other + "-0.7")[2], plain), 1)

    def test_city96(self):
        for mixture in MIXTURES:
            with self.subTest(mixture):
                tensors = city96(random.Random(3), *mixture)
                file = forms.write_gguf(self.at("hidream-i1.gguf"), {"general.architecture": "hidream",
                                                                     "general.quantization_version": 2}, tensors)
                status, about, _ = forms.reverie("inspect", file)
                self.assertEqual(status, 0)
                for word in ["architecture: hidream", "the HiDream transformer", 'takes it as "transformer"',
                             mixture[1].lower().replace("_k", "_K") + ":"]:
                    self.assertIn(word, about)
                paths = {**{p: os.path.join(forms.MODEL, p) for p in forms.PARTS}, "transformer": file,
                         "config": forms.MODEL}
                self.assertEqual(self.picture(lora.WEIGHT, paths),
                                 self.picture(lora.WEIGHT, self.whole(json.dumps(paths), "same.gguf")))

    def test_llama_cpp(self):
        """Llama with its rows turned for rope, and T5, both in q8_0."""
        files, meant = {}, {}
        for part, names in [("text_encoder_3", forms.t5_names), ("text_encoder_4", None)]:
            stored, means = {}, {}
            for name, t in forms.read_part(part).items():
                stored[name] = means[name] = ("F32", t[1], forms.floats(t).tobytes())
                if len(t[1]) == 2 and t[1][1] % 32 == 0 and "norm" not in name:
                    stored[name], means[name] = q8_0(t)
            files[part] = forms.write_gguf(
                self.at(part + ".gguf"), forms.LLAMA if names is None else {"general.architecture": "t5encoder"},
                forms.llama_gguf(stored) if names is None else {names(n): t for n, t in stored.items()})
            meant[part] = forms.write_file(self.at(part + ".bin"), means)
            status, about, _ = forms.reverie("inspect", files[part])
            self.assertEqual(status, 0)
            self.assertIn("names of llama.cpp", about)
            self.assertIn(f'takes it as "{part}"', about)
            self.assertIn("q8_0:", about)
        paths = {**{p: os.path.join(forms.MODEL, p) for p in forms.PARTS}, "config": forms.MODEL}
        self.assertEqual(self.picture(None, {**paths, **files}), self.picture(None, {**paths, **meant}))

    def test_comfy_float8(self):
        """Text encoders as ComfyUI ships them: one byte a number, a scale per layer, old and new names."""
        for names in [("scale_weight", "scale_input"), ("weight_scale", "input_scale")]:
            files, meant = {}, {}
            for part in ["text_encoder_3", "text_encoder_4"]:
                stored, means = {}, {}
                for name, t in forms.read_part(part).items():
                    stored[name] = means[name] = t
                    if len(t[1]) == 2 and ("proj" in name or "SelfAttention" in name or "Dense" in name) \
                            and "relative" not in name:
                        stored[name], scale, means[name] = forms.to_float8(t, True)
                        layer = name[:-len("weight")]
                        stored[layer + names[0]], stored[layer + names[1]] = forms.scalar(scale), forms.scalar(1.0)
                if names[0] == "scale_weight":
                    stored["scaled_fp8"] = ("F8_E4M3", [0], b"")
                files[part] = forms.write_file(self.at(part + ".fp8"), stored)
                meant[part] = forms.write_file(self.at(part + ".bin"), means)
                status, about, _ = forms.reverie("inspect", files[part])
                self.assertEqual(status, 0)
                self.assertIn("8-bit floats are unpacked", about)
                self.assertIn(f'takes it as "{part}"', about)
            paths = {**{p: os.path.join(forms.MODEL, p) for p in forms.PARTS}, "config": forms.MODEL}
            self.assertEqual(self.picture(None, {**paths, **files}), self.picture(None, {**paths, **meant}))

    def test_inspect_explains(self):
        """What people point it at by mistake."""
        cut, empty, words = self.at("cut.safetensors"), self.at("empty.gguf"), self.at("readme.txt")
        with open(os.path.join(forms.MODEL, "vae/diffusion_pytorch_model.safetensors"), "rb") as f, open(cut, "wb") as g:
            g.write(f.read()[:-100])
        with open(empty, "wb"):
            pass
        with open(words, "w") as f:
            f.write("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n" * 5)
        other = forms.write_file(self.at("unet.safetensors"), {"model.diffusion_model.input_blocks.0.0.weight":
                                                               ("F32", [1], bytes(4))})
        for path, words_of in {cut: [cut], empty: ["empty"], words: [words, "git lfs pull"], self.at("nowhere"): ["No such file"]}.items():
            status, _, err = forms.reverie("inspect", path)
            self.assertEqual(status, 1, path)
            for word in words_of:
                self.assertIn(word, err)
        status, about, _ = forms.reverie("inspect", other)
        self.assertEqual(status, 0)
        self.assertIn("it looks like nothing that is known here", about)
        for part in forms.PARTS:
            status, about, _ = forms.reverie("inspect", os.path.join(forms.MODEL, part))
            self.assertEqual(status, 0)
            self.assertIn("one part of a model", about)


for inherited in [n for n in dir(lora.Lora) if n.startswith("test") and n not in vars(Quantised)]:
    setattr(Quantised, inherited, None)
del lora.Lora  # its own file runs it


if __name__ == "__main__":
    unittest.main()
