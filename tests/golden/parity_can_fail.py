#!/usr/bin/env python3
"""parity_can_fail.py REVERIE MODEL GOLDENS: a comparison that cannot fail proves nothing.  Runs the cheapest stage on
copies of the goldens that are wrong in one way each."""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

reverie, model, goldens = sys.argv[1:]


def read(path):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + n]), bytearray(data[8 + n:])


def write(path, header, data):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def run(change):
    """The lines of a run over goldens that `change` (header, data, manifest, folder) has altered."""
    with tempfile.TemporaryDirectory() as folder:
        header, data = read(os.path.join(goldens, "rng.safetensors"))
        manifest = json.load(open(os.path.join(goldens, "manifest.json")))
        manifest["files"] = {"rng.safetensors": manifest["files"]["rng.safetensors"]}
        change(header, data, manifest, folder)
        write(os.path.join(folder, "rng.safetensors"), header, data)
        with open(os.path.join(folder, "manifest.json"), "w") as f:
            json.dump(manifest, f)
        done = subprocess.run([reverie, "parity", model, folder, "rng"], stdout=subprocess.PIPE, text=True)
        return done.returncode, done.stdout.splitlines()


def alter(value):
    def change(header, data, manifest, folder):
        at = header["randn.42.100"]["data_offsets"][0] + 4 * 50
        old = struct.unpack_from("<f", data, at)[0]
        struct.pack_into("<f", data, at, old + value)
    return change


def add_tensor(header, data, manifest, folder):
    header["new.tensor"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}
    data += bytes(4)
    entry = manifest["files"]["rng.safetensors"]["tensors"]
    entry["new.tensor"] = {"shape": [1], "dtype": "float32"}


def only_in_manifest(header, data, manifest, folder):
    manifest["files"]["rng.safetensors"]["tensors"]["new.tensor"] = {"shape": [1], "dtype": "float32"}


def other_shape(header, data, manifest, folder):
    manifest["files"]["rng.safetensors"]["tensors"]["seq.a"]["shape"] = [1, 16, 16, 17]


def new_section(header, data, manifest, folder):
    manifest["new_cases"] = {}


def new_file(header, data, manifest, folder):
    write(os.path.join(folder, "new.safetensors"), {}, b"")


def new_stage(header, data, manifest, folder):
    new_file(header, data, manifest, folder)
    manifest["files"]["new.safetensors"] = {"tensors": {}}


def other_format(header, data, manifest, folder):
    manifest["format"] = 2


def nothing(header, data, manifest, folder):
    pass


code, lines = run(nothing)
assert code == 0 and all(line.startswith(("PASS", "parity:")) for line in lines), lines
assert len(lines) > 20, lines

for change, word in [(alter(1e-5), "rng/randn.42.100"), (alter(float("nan")), "not finite"),
                     (alter(float("inf")), "not finite"), (add_tensor, "new.tensor"),
                     (only_in_manifest, "not in the file"), (other_shape, "rng/seq.a"), (new_section, "new_cases"),
                     (new_file, "new.safetensors"), (new_stage, "new.safetensors"), (other_format, "format 1")]:
    code, lines = run(change)
    failed = [line for line in lines if line.startswith("FAIL")]
    assert code == 1 and any(word in line for line in failed), (word, code, failed)

code, lines = run(alter(1e-6))  # within the limit
assert code == 0, lines

empty = tempfile.mkdtemp()
try:
    done = subprocess.run([reverie, "parity", model, empty], stdout=subprocess.PIPE)
    assert done.returncode == 1
    done = subprocess.run([reverie, "parity", empty, goldens], stdout=subprocess.PIPE)
    assert done.returncode == 1
finally:
    shutil.rmtree(empty)
print("parity fails when it should")
