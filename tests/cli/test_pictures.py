"""The README's commands give the README's pictures: the model that ships, through the command line."""
import math
import os
import re
import shlex
import subprocess
import tempfile
import unittest

from PIL import Image

ROOT = os.environ["SOURCE_ROOT"]
REVERIE = os.path.join(os.environ["BUILD_ROOT"], "reverie")
PICTURES = os.path.join(ROOT, "config/demo-model/pictures")


def psnr(a, b):
    """Decibels between two pictures of one size; infinite when they are equal."""
    a, b = (Image.open(p).convert("RGB") for p in (a, b))
    assert a.size == b.size, f"{a.size} and {b.size}"
    squares = sum((x - y) ** 2 for x, y in zip(a.tobytes(), b.tobytes()))
    return math.inf if squares == 0 else 10 * math.log10(255 ** 2 * len(a.tobytes()) / squares)


def commands():
    with open(os.path.join(ROOT, "README.md")) as f:
        lines = re.findall(r'^    build/reverie (generate ".*" -o \w+\.png --seed \d+)$', f.read(), re.M)
    return [shlex.split(line) for line in lines]


class Pictures(unittest.TestCase):
    """Equal to the last bit on the kind of machine that made them; 40 dB allow for another one's rounding."""

    def test_readme(self):
        self.assertEqual(sorted(c[c.index("-o") + 1] for c in commands()), sorted(os.listdir(PICTURES)))
        with tempfile.TemporaryDirectory() as folder:
            for command in commands():
                name = command[command.index("-o") + 1]
                subprocess.run([REVERIE, *command], cwd=folder, check=True, capture_output=True, timeout=300)
                with self.subTest(name):
                    self.assertGreater(psnr(os.path.join(folder, name), os.path.join(PICTURES, name)), 40)


if __name__ == "__main__":
    unittest.main()
