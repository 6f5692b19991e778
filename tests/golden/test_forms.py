"""The tiny model in the forms people have models in: ComfyUI's split files, an LDM autoencoder, 8-bit floats, GGUF of
city96 and llama.cpp.  Each form must give the very bytes of the folder it was made from."""
import array
import bisect
import json
import math
import os
import shutil
import struct
import subprocess
import tempfile
import unittest

ROOT = os.environ["SOURCE_ROOT"]
REVERIE = os.path.join(os.environ["BUILD_ROOT"], "reverie")
GOLDEN = os.path.join(ROOT, "tests/golden")
MODEL = os.path.join(GOLDEN, "tiny-hidream")
PARTS = ["transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4"]


def reverie(*arguments):
    done = subprocess.run([REVERIE, *arguments], capture_output=True, timeout=300)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


# ---- tensors: name -> (dtype, shape, bytes) ----

def read_file(path):
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(size))
        data = f.read()
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])]) for name, t in header.items()}


def read_part(part):
    folder, tensors = os.path.join(MODEL, part), {}
    for name in os.listdir(folder):
        if name.endswith(".safetensors"):
            tensors.update(read_file(os.path.join(folder, name)))
    return tensors


def write_file(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, values) in sorted(tensors.items(), key=lambda t: (-len(t[1][2]) % 4, t[0])):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    return path


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


GGUF_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12,
              "Q5_K": 13, "Q6_K": 14, "BF16": 30}


def write_gguf(path, pairs, tensors):
    head, data = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(pairs)), b""
    for key, value in pairs.items():
        head += text(key)
        if isinstance(value, tuple):  # (struct's letter, list); "s": texts
            letter, values = value
            head += struct.pack("<IIQ", 9, {"s": 8, "i": 5, "f": 6, "B": 0}[letter], len(values))
            head += b"".join(map(text, values)) if letter == "s" else struct.pack(f"<{len(values)}{letter}", *values)
        else:
            head += struct.pack("<I", 8) + text(value) if isinstance(value, str) else struct.pack("<II", 4, value)
    for name, (dtype, shape, values) in tensors.items():
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += struct.pack("<IQ", GGUF_TYPES[dtype], len(data))
        data += values + bytes(-len(values) % 32)
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32) + data)
    return path


# ---- forms ----

def to_ldm(name):
    side, *rest = name.split(".")
    rest = ".".join(rest)
    if rest.startswith("conv_norm_out."):
        return f"{side}.{rest[5:]}"
    for ours, theirs in [("mid_block.resnets.0.", "mid.block_1."), ("mid_block.resnets.1.", "mid.block_2."),
                         ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
                         ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
                         ("mid_block.attentions.0.to_", "mid.attn_1.")]:
        if rest.startswith(ours):
            return f"{side}.{theirs}{rest[len(ours):]}"
    words = rest.split(".")
    if words[0] in ("down_blocks", "up_blocks"):
        way = words[0].split("_")[0]
        stage = int(words[1]) if way == "down" else 3 - int(words[1])
        inner = f"block.{words[3]}." if words[2] == "resnets" else f"{way}sample."
        return f"{side}.{way}.{stage}.{inner}" + ".".join(words[4:]).replace("conv_shortcut", "nin_shortcut")
    return name


def ldm_vae():
    out = {}
    for name, (dtype, shape, values) in read_part("vae").items():
        new = to_ldm(name)
        square = ".mid.attn_1." in new and len(shape) == 2
        out[new] = (dtype, shape + [1, 1] if square else shape, values)
    return out


def prefixed(part, prefix):
    return {prefix + name: t for name, t in read_part(part).items()}


def t5_names(name):
    for ours, theirs in [("encoder.block.", "enc.blk."), (".layer.0.SelfAttention.relative_attention_bias.", ".attn_rel_b."),
                         (".layer.0.SelfAttention.", ".attn_"), (".layer.0.layer_norm.", ".attn_norm."),
                         (".layer.1.layer_norm.", ".ffn_norm."), (".layer.1.DenseReluDense.wi_0.", ".ffn_gate."),
                         (".layer.1.DenseReluDense.wi_1.", ".ffn_up."), (".layer.1.DenseReluDense.wo.", ".ffn_down."),
                         ("encoder.final_layer_norm.", "enc.output_norm."), ("shared.", "token_embd.")]:
        name = name.replace(ours, theirs)
    return name


def llama_names(name):
    for ours, theirs in [("model.layers.", "blk."), (".input_layernorm.", ".attn_norm."),
                         (".self_attn.o_proj.", ".attn_output."), (".self_attn.", ".attn_"), ("_proj.", "."),
                         (".post_attention_layernorm.", ".ffn_norm."), (".mlp.", ".ffn_"),
                         ("model.norm.", "output_norm."), ("model.embed_tokens.", "token_embd."),
                         ("lm_head.", "output.")]:
        name = name.replace(ours, theirs)
    return name


def interleave(t, heads):
    """Rows of each head from halves to pairs, as llama.cpp's converter does."""
    dtype, (rows, width), values = t
    size, each = len(values) // rows, rows // heads
    order = [h * each + half * each // 2 + j for h in range(heads) for j in range(each // 2) for half in (0, 1)]
    return dtype, [rows, width], b"".join(values[r * size:(r + 1) * size] for r in order)


def llama_gguf(tensors=None):
    out = {}
    for name, t in (tensors or read_part("text_encoder_4")).items():
        if "q_proj" in name or "k_proj" in name:
            t = interleave(t, 4 if "q_proj" in name else 2)
        out[llama_names(name)] = t
    out["rope_freqs.weight"] = ("F32", [16], struct.pack("<16f", *[1.0] * 16))
    return out


LLAMA = {"general.architecture": "llama", "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2}


# ---- tokenizers, as llama.cpp's converter writes them ----

def fields(data):
    """(number, value) of a protocol buffer."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            value, shift, at = value | (data[at] & 127) << shift, shift + 7, at + 1
            if data[at - 1] < 128:
                return value
    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            size = varint() if key & 7 == 2 else 4 if key & 7 == 5 else 8
            at += size
            yield key >> 3, data[at - size:at]


def t5_words():
    with open(os.path.join(MODEL, "tokenizer_3/spiece.model"), "rb") as f:
        model = list(fields(f.read()))
    pieces = [dict(fields(v)) for n, v in model if n == 1]
    charsmap = dict(fields(next(v for n, v in model if n == 3))).get(2, b"")
    filler = [f"[PAD{i}]" for i in range(7)]
    return {"general.architecture": "t5encoder", "tokenizer.ggml.model": "t5",
            "tokenizer.ggml.tokens": ("s", [p[1].decode() for p in pieces] + filler),
            "tokenizer.ggml.scores": ("f", [struct.unpack("<f", p.get(2, bytes(4)))[0] for p in pieces] + [-1000.0] * 7),
            "tokenizer.ggml.token_type": ("i", [p.get(3, 1) for p in pieces] + [5] * 7),
            "tokenizer.ggml.precompiled_charsmap": ("B", list(charsmap))}


def llama_words(pre="llama-bpe"):
    with open(os.path.join(MODEL, "tokenizer_4/tokenizer.json"), encoding="utf-8") as f:
        tokenizer = json.load(f)
    with open(os.path.join(MODEL, "tokenizer_4/tokenizer_config.json"), encoding="utf-8") as f:
        config = json.load(f)
    ids = {**tokenizer["model"]["vocab"], **{t["content"]: t["id"] for t in tokenizer["added_tokens"]}}
    special = {t["content"] for t in tokenizer["added_tokens"]}
    tokens = sorted(ids, key=ids.get)
    return {**LLAMA, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": ("s", tokens),
            "tokenizer.ggml.token_type": ("i", [3 if t in special else 1 for t in tokens]),
            "tokenizer.ggml.merges": ("s", [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]),
            "tokenizer.ggml.bos_token_id": ids[config["bos_token"]], "tokenizer.ggml.eos_token_id": ids[config["eos_token"]]}


# ---- 8-bit floats ----

def decode(code):
    e, m = code >> 3 & 15, code & 7
    return math.nan if code & 127 == 127 else (-1) ** (code >> 7) * (m / 8 * 2 ** -6 if e == 0 else (1 + m / 8) * 2 ** (e - 7))


POSITIVE = [decode(c) for c in range(127)]


def encode(v):
    size, sign = abs(v), 128 if v < 0 else 0
    i = min(bisect.bisect_left(POSITIVE, size), 126)
    if i and size - POSITIVE[i - 1] < POSITIVE[i] - size:
        i -= 1
    return sign | i


def floats(t):
    dtype, _, values = t
    if dtype == "F32":
        return array.array("f", values)
    if dtype == "BF16":
        return array.array("f", b"".join(b"\0\0" + values[i:i + 2] for i in range(0, len(values), 2)))
    return array.array("f", struct.unpack(f"<{len(values) // 2}e", values))


def single(v):
    return struct.unpack("<f", struct.pack("<f", v))[0]


def to_float8(t, scaled):
    """(the tensor in e4m3, its scale, the F32 tensor it means)"""
    values = floats(t)
    scale = single((max(map(abs, values)) or 1.0) / 448) if scaled else 1.0
    codes = bytes(encode(v / scale) for v in values)
    meant = array.array("f", [single(decode(c) * scale) for c in codes])
    return ("F8_E4M3", t[1], codes), scale, ("F32", t[1], meant.tobytes())


def scalar(v):
    return "F32", [], struct.pack("<f", v)


class Forms(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="reverie-forms-")
        cls.expected = cls.quantized(MODEL)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def at(cls, name):
        path = os.path.join(cls.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    @classmethod
    def quantized(cls, model):
        """The whole model as one F32 file: every name, shape, value and configuration."""
        path = os.path.join(cls.folder, "out.gguf")
        status, _, err = reverie("quantize", model, path, "f32")
        if status:
            raise AssertionError(err)
        with open(path, "rb") as f:
            return f.read()

    def listed(self, **files):
        """The model with some parts from other files."""
        return json.dumps({**{p: os.path.join(MODEL, p) for p in PARTS}, "config": MODEL, **files})

    def refused(self, model, *words):
        status, _, err = reverie("quantize", model, self.at("refused.gguf"), "f32")
        self.assertEqual(status, 1, err)
        for word in words:
            self.assertIn(word, err)

    def same(self, model):
        self.assertTrue(self.quantized(model) == self.expected)

    def picture(self, name, weights):
        card = {"id": "local:forms@1", "name": "forms", "family": "hidream", "executors": [{"name": "engine"}],
                "engine": {"weights": weights}}
        with open(self.at(f"{name}.json"), "w") as f:
            json.dump(card, f)
        out = self.at(f"{name}.png")
        status, _, err = reverie("generate", "a red ball", "-o", out, "--model", self.at(f"{name}.json"), "--seed", "7",
                                 "--steps", "2", "--width", "128", "--height", "128")
        self.assertEqual(status, 0, err)
        with open(out, "rb") as f:
            return f.read()

    def test_listed_folders(self):
        self.same(self.listed())

    def comfy(self, name):
        root = self.at(f"{name}/model_index.json")[:-len("/model_index.json")]
        for folder, _, files in os.walk(MODEL):
            for f in files:
                if "safetensors" not in f:
                    to = os.path.join(root, os.path.relpath(folder, MODEL), f)
                    os.makedirs(os.path.dirname(to), exist_ok=True)
                    shutil.copy(os.path.join(folder, f), to)
        prefix = "model.diffusion_model."
        write_file(self.at(f"{name}/diffusion_models/hidream_i1_tiny.safetensors"), prefixed("transformer", prefix))
        write_file(self.at(f"{name}/vae/ae.safetensors"), ldm_vae())
        for part, file in [("text_encoder", "clip_l_hidream"), ("text_encoder_2", "clip_g_hidream"),
                           ("text_encoder_3", "t5xxl"), ("text_encoder_4", "llama_3.1")]:
            write_file(self.at(f"{name}/text_encoders/{file}.safetensors"), read_part(part))
        return root

    def test_comfy_folder(self):
        root = self.comfy("comfy")
        self.same(root)
        self.assertEqual(self.picture("from_comfy", root), self.picture("from_folder", MODEL))
        write_file(self.at("comfy/diffusion_models/hidream_other.safetensors"), {})
        self.refused(root, "several files could be the transformer")

    def test_comfy_parity(self):
        files = {"vae": write_file(self.at("ae.safetensors"), ldm_vae()),
                 "text_encoder_4": write_gguf(self.at("llama.gguf"), LLAMA, llama_gguf())}
        status, out, err = reverie("parity", self.listed(**files), GOLDEN, "vae", "text_encoders")
        self.assertEqual(status, 0, out[-2000:] + err)

    def test_ldm_vae(self):
        file = write_file(self.at("ldm.safetensors"), ldm_vae())
        self.same(self.listed(vae=file))
        status, out, _ = reverie("inspect", file)
        self.assertIn("names of LDM", out)
        self.assertIn('takes it as "vae"', out)

    def test_gguf(self):
        files = {
            "transformer": write_gguf(self.at("t.gguf"), {"general.architecture": "hidream"}, read_part("transformer")),
            "text_encoder_3": write_gguf(self.at("t5.gguf"), {"general.architecture": "t5encoder"},
                                         {t5_names(n): t for n, t in read_part("text_encoder_3").items()}),
            "text_encoder_4": write_gguf(self.at("l.gguf"), LLAMA, llama_gguf()),
        }
        self.same(self.listed(**files))
        self.assertEqual(self.picture("from_gguf", json.loads(self.listed(**files))), self.picture("from_folder", MODEL))
        for part, file in files.items():
            status, out, _ = reverie("inspect", file)
            self.assertEqual(status, 0)
            self.assertIn(f'takes it as "{part}"', out)

    def test_words_of_gguf(self):
        """Tokenizers out of the files of T5 and Llama: no folders for them, the same ids, the same picture."""
        config = self.at("config/model_index.json")[:-len("/model_index.json")]
        for folder, _, files in os.walk(MODEL):
            for f in files:
                to = os.path.join(config, os.path.relpath(folder, MODEL), f)
                if "safetensors" not in f and "tokenizer_3" not in folder and "tokenizer_4" not in folder:
                    os.makedirs(os.path.dirname(to), exist_ok=True)
                    shutil.copy(os.path.join(folder, f), to)
        t5 = {t5_names(n): t for n, t in read_part("text_encoder_3").items()}
        files = {"text_encoder_3": write_gguf(self.at("t5_words.gguf"), t5_words(), t5),
                 "text_encoder_4": write_gguf(self.at("l_words.gguf"), llama_words(), llama_gguf()), "config": config}
        self.assertEqual(self.picture("from_words", json.loads(self.listed(**files))),
                         self.picture("from_parts", json.loads(self.listed())))
        # T5's own tokenizer for this: SentencePiece differs from it where special tokens are typed as text
        os.makedirs(os.path.join(config, "tokenizer_3"))
        for f in os.listdir(os.path.join(MODEL, "tokenizer_3")):
            shutil.copy(os.path.join(MODEL, "tokenizer_3", f), os.path.join(config, "tokenizer_3"))
        status, out, err = reverie("parity", self.listed(**files), GOLDEN, "tokenizers")
        self.assertEqual(status, 0, out[-2000:] + err)
        shutil.rmtree(os.path.join(config, "tokenizer_3"))
        files["text_encoder_4"] = write_gguf(self.at("l_other.gguf"), llama_words("qwen2"), llama_gguf())
        card = {"id": "local:other@1", "name": "other", "family": "hidream", "executors": [{"name": "engine"}]}
        with open(self.at("other.json"), "w") as f:
            json.dump({**card, "engine": {"weights": json.loads(self.listed(**files))}}, f)
        status, _, err = reverie("generate", "x", "-o", self.at("no.png"), "--model", self.at("other.json"))
        self.assertEqual(status, 1)
        self.assertIn("there is no tokenizer_4/;", err)

    def test_gguf_refused(self):
        self.refused(self.listed(text_encoder_4=write_gguf(self.at("h.gguf"), {"general.architecture": "llama"},
                                                           llama_gguf())),
                     "model.layers.", "_proj.weight", "head_count")

    def test_own_file_as_part(self):
        whole = self.at("whole.gguf")
        self.assertEqual(reverie("quantize", MODEL, whole, "f32")[0], 0)
        self.same(json.dumps({**{p: whole for p in PARTS}, "config": whole}))

    def test_float8(self):
        scaled, meant = {"scaled_fp8": ("F8_E4M3", [0], b"")}, {}
        for name, t in read_part("transformer").items():
            if len(t[1]) == 2 and "_blocks.1." not in name:  # a file may mix types
                scaled[name], scale, meant[name] = to_float8(t, True)
                scaled[name[:-len("weight")] + "scale_weight"] = scalar(scale)
            else:
                scaled[name] = meant[name] = t
        plain, plain_meant = {}, {}
        for name, t in read_part("text_encoder_3").items():
            plain[name] = plain_meant[name] = t
            if "block.1." not in name and "block.2." not in name:
                plain[name], _, plain_meant[name] = to_float8(t, False)
        files = {"transformer": write_file(self.at("f8.safetensors"), scaled),
                 "text_encoder_3": write_file(self.at("t5_f8.safetensors"), plain)}
        same = {"transformer": write_file(self.at("f32.safetensors"), meant),
                "text_encoder_3": write_file(self.at("t5_f32.safetensors"), plain_meant)}
        self.assertTrue(self.quantized(self.listed(**files)) == self.quantized(self.listed(**same)))
        self.assertEqual(self.picture("f8", json.loads(self.listed(**files))),
                         self.picture("f32", json.loads(self.listed(**same))))
        status, out, _ = reverie("inspect", files["transformer"])
        self.assertIn("8-bit floats are unpacked", out)
        self.hostile(scaled)

    def hostile(self, tensors):
        name = "final_layer.linear.scale_weight"
        for value, word in [(("F32", [2], bytes(8)), "one number"), (scalar(0.0), "positive"),
                            (scalar(math.nan), "positive"), (scalar(-1.0), "positive"),
                            (("BF16", [], bytes(2)), "one number")]:
            self.refused(self.listed(transformer=write_file(self.at("bad.safetensors"), {**tensors, name: value})),
                         name, word)
        bias = {"x_embedder.proj.scale_weight": scalar(2.0),
                "x_embedder.proj.weight": ("F32", [1], bytes(4))}
        self.refused(self.listed(transformer=write_file(self.at("bad.safetensors"), {**tensors, **bias})),
                     "x_embedder.proj.weight", "no 8-bit float")
        about = {"final_layer.linear.comfy_quant": ("U8", [20], b'{"format": "nvfp4"} ')}
        self.refused(self.listed(transformer=write_file(self.at("bad.safetensors"), {**tensors, **about})),
                     "final_layer.linear.comfy_quant", "format")

    def test_refused(self):
        self.refused('{"transformer": 7}', "expected a path")
        self.refused('{"unet": "x"}', "unet", "no part")
        self.refused('{"transformer": "/absent.safetensors"}', "/absent.safetensors")
        self.refused("{", "byte")

    def test_published_shapes_need_no_configuration(self):
        """Files with two tensors of the published shapes each, as holes: all that lacks are words."""
        shapes = {
            "transformer": {"single_stream_blocks.31.block.ff_i.experts.3.w2.weight": [1, 1],
                            "caption_projection.48.linear.weight": [2560, 4096],
                            "caption_projection.0.linear.weight": [1, 1]},
            "vae": {"decoder.up_blocks.3.resnets.2.conv2.weight": [1], "decoder.conv_in.weight": [512, 16, 3, 3]},
            "text_encoder": {"text_model.encoder.layers.11.mlp.fc2.weight": [1],
                             "text_model.embeddings.position_embedding.weight": [248, 768]},
            "text_encoder_2": {"text_model.encoder.layers.31.mlp.fc2.weight": [1],
                               "text_model.embeddings.position_embedding.weight": [218, 1280]},
            "text_encoder_3": {"encoder.block.23.layer.1.DenseReluDense.wo.weight": [1],
                               "encoder.block.0.layer.0.SelfAttention.q.weight": [4096, 4096]},
            "text_encoder_4": {"model.layers.31.mlp.down_proj.weight": [1],
                               "model.layers.0.self_attn.k_proj.weight": [1024, 4096]}}
        paths = {}
        for part, tensors in shapes.items():
            paths[part] = self.at(f"{part}.safetensors")
            header, size = {}, 0
            for name, shape in tensors.items():
                header[name] = {"dtype": "F8_E4M3", "shape": shape, "data_offsets": [size, size + math.prod(shape)]}
                size += math.prod(shape)
            head = json.dumps(header).encode()
            with open(paths[part], "wb") as f:
                f.write(struct.pack("<Q", len(head)) + head)
                f.truncate(8 + len(head) + size)
        card = {"id": "local:big@1", "name": "big", "family": "hidream", "executors": [{"name": "engine"}]}
        with open(self.at("big.json"), "w") as f:
            json.dump({**card, "engine": {"weights": paths}}, f)
        status, _, err = reverie("generate", "x", "-o", self.at("no.png"), "--model", self.at("big.json"))
        self.assertEqual(status, 1)
        self.assertIn("there is no scheduler/scheduler_config.json, tokenizer/, tokenizer_2/, tokenizer_3/, tokenizer_4/;",
                      err)

    def test_missing_configuration(self):
        paths = json.loads(self.listed())
        del paths["config"]
        with open(self.at("bare.json"), "w") as f:
            json.dump({"id": "local:bare@1", "name": "bare", "family": "hidream", "executors": [{"name": "engine"}],
                       "engine": {"weights": paths}}, f)
        status, _, err = reverie("generate", "x", "-o", self.at("no.png"), "--model", self.at("bare.json"))
        self.assertNotEqual(status, 0)
        for word in ["scheduler/scheduler_config.json", "tokenizer_4/", '"config"']:
            self.assertIn(word, err)


class Device(unittest.TestCase):
    """What makes the products: the card says it, or the option, or the environment; a missing one is named."""

    def generate(self, card, option=None, environment=None):
        with tempfile.TemporaryDirectory(prefix="reverie-device-") as folder:
            path = os.path.join(folder, "card.json")
            with open(path, "w") as f:
                json.dump({"id": "local:device@1", "name": "device", "family": "hidream",
                           "executors": [{"name": "engine"}],
                           "engine": {"weights": MODEL, **({"device": card} if card else {})}}, f)
            done = subprocess.run([REVERIE, "generate", "x", "-o", os.path.join(folder, "x.png"), "--model", path,
                                   "--steps", "1", "--width", "128", "--height", "128",
                                   *(["--device", option] if option else [])],
                                  env={**os.environ, **({"REVERIE_DEVICE": environment} if environment else {})},
                                  capture_output=True, timeout=300)
        return done.returncode, done.stderr.decode()

    def test_missing(self):
        for where in [("Absent7",), (None, "Absent7"), (None, None, "Absent7")]:
            status, err = self.generate(*where)
            self.assertEqual(status, 1)
            self.assertIn('there is no device "Absent7" (there are: ', err)

    def test_order(self):
        for where in [("cpu", "Absent7"), ("CPU", None, "Absent7"), (None, "cpu", "Absent7")]:
            self.assertEqual(self.generate(*where)[0], 0)


if __name__ == "__main__":
    unittest.main()
