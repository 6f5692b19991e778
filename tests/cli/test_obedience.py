"""The model that ships does what the words say: read from the pixels, without any classifier.

A hundred sentences of the shape family (background, the shape's colour, its place) and forty of the scene family (the
sky's tint by time of day, a horizon where one belongs, sun or moon on the side that was asked for), at the default
steps.  The sentences come from a fixed seed; none was picked.
"""
import concurrent.futures
import os
import random
import subprocess
import tempfile
import unittest

from PIL import Image

REVERIE = os.path.join(os.environ["BUILD_ROOT"], "reverie")
CARDS = os.path.join(os.environ["SOURCE_ROOT"], "config/models")
COLOURS = {"red": (220, 40, 40), "orange": (250, 140, 20), "yellow": (250, 220, 50), "green": (40, 150, 60),
           "teal": (20, 170, 170), "blue": (30, 90, 220), "purple": (130, 50, 190), "pink": (245, 130, 180),
           "brown": (130, 80, 40), "white": (245, 245, 245), "gray": (135, 140, 145), "black": (25, 22, 25)}
PLACES = {"on the left": (-1, 0), "on the right": (1, 0), "at the top": (0, -1), "at the bottom": (0, 1),
          "in the middle": (0, 0)}
SIDE = 64  # pictures are read at this size


def paint(prompt, seed, folder):
    """The picture as rows of (r, g, b), SIDE x SIDE."""
    path = os.path.join(folder, f"{seed}.png")
    subprocess.run([REVERIE, "generate", prompt, "-o", path, "--seed", str(seed), "--models", CARDS, "--threads", "1"],
                   check=True, capture_output=True, timeout=300)
    pixels = list(Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.BOX).getdata())
    return [pixels[i:i + SIDE] for i in range(0, SIDE * SIDE, SIDE)]


def paint_all(prompts):
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda i: paint(prompts[i], 1000 + i, folder), range(len(prompts))))


def distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b)) ** 0.5


def name_of(colour):
    return min(COLOURS, key=lambda n: distance(COLOURS[n], colour))


def mean(pixels):
    return tuple(sum(p[i] for p in pixels) / len(pixels) for i in range(3))


def read_shape(rows):
    """(background, colour, place) by the nearest names."""
    corners = [rows[y][x] for y in (1, 2, SIDE - 3, SIDE - 2) for x in (1, 2, SIDE - 3, SIDE - 2)]
    ground = mean(corners)
    shape = [(x, y) for y in range(SIDE) for x in range(SIDE) if distance(rows[y][x], ground) > 60]
    if len(shape) < 20:
        return name_of(ground), None, None
    inner = [rows[y][x] for x, y in shape if all(distance(rows[v][u], ground) > 60 for u, v in
             ((max(x - 1, 0), y), (min(x + 1, SIDE - 1), y), (x, max(y - 1, 0)), (x, min(y + 1, SIDE - 1))))]
    at = [sum(p[i] for p in shape) / len(shape) / SIDE * 2 - 1 for i in (0, 1)]
    place = min(PLACES, key=lambda n: abs(PLACES[n][0] * .5 - at[0]) + abs(PLACES[n][1] * .5 - at[1]))
    return name_of(ground), name_of(mean(inner or [rows[y][x] for x, y in shape])), place


def light(p):
    return .3 * p[0] + .59 * p[1] + .11 * p[2]


def read_sky(rows):
    r, g, b = mean([p for row in rows[:SIDE // 4] for p in row])
    bright, spread = light((r, g, b)), max(r, g, b) - min(r, g, b)
    if bright < 65:
        return "storm" if spread < 22 else "night"
    if bright < 125 and spread < 30:
        return "storm"
    if b > r + 45:
        return "day"
    return "dawn" if bright > 165 and b > r - 30 else "sunset"


def has_horizon(rows):
    """A step between sky and land: one row where the mean colour changes more than anywhere in the sky above it."""
    means = [mean(row) for row in rows]
    steps = [distance(means[y], means[y + 3]) for y in range(SIDE - 3)]
    best = max(range(SIDE // 4, SIDE - 6), key=lambda y: steps[y])
    return steps[best] > 12


def side_of_light(rows):
    """Where in the upper part what stands out by its brightness lies: left, middle or right."""
    sky = [(light(rows[y][x]) + .6 * (rows[y][x][0] - rows[y][x][2]), x) for y in range(SIDE * 5 // 9) for x in range(SIDE)]
    top = sorted(sky, reverse=True)[:40]
    at = sum(x for _, x in top) / len(top) / SIDE
    return "on the left" if at < .4 else "on the right" if at > .6 else "in the middle"


class Obedience(unittest.TestCase):
    def test_shapes(self):
        draw = random.Random(20261)
        asked = []
        while len(asked) < 100:
            ground, colour = draw.sample(sorted(COLOURS), 2)
            asked.append((ground, colour, draw.choice(sorted(PLACES)), draw.choice(["circle", "square", "triangle"])))
        found = [read_shape(p) for p in paint_all([f"a {c} {s} {p} on a {g} background" for g, c, p, s in asked])]
        for i, what in enumerate(("background", "colour", "place")):
            right = sum(a[i] == f[i] for a, f in zip(asked, found))
            print(f"# shapes, {what}: {right} of {len(asked)}")
            self.assertGreaterEqual(right, 90, what)
        right = sum(a[:3] == f for a, f in zip(asked, found))
        print(f"# shapes, all three: {right} of {len(asked)}")
        self.assertGreaterEqual(right, 90)

    def test_scenes(self):
        draw = random.Random(20262)
        times = {"day": "on a sunny day", "sunset": "at sunset", "night": "at night", "storm": "in a storm",
                 "dawn": "at dawn"}
        lands = ["green hills", "the sea", "a desert", "a snowy field"]
        asked = []
        for i in range(40):
            sky = list(times)[i % len(times)]
            body = {"day": "the sun", "sunset": "the sun", "night": "a full moon"}.get(sky)
            asked.append((sky, draw.choice(lands), body, draw.choice(["on the left", "on the right"])))
        found = paint_all([f"{land} {times[sky]}" + (f" and {body} {side}" if body else "") for sky, land, body, side in asked])
        sky = [read_sky(p) == a[0] for p, a in zip(found, asked)]
        horizon = [has_horizon(p) for p in found]
        side = [side_of_light(p) == a[3] for p, a in zip(found, asked) if a[2]]
        for what, right in (("sky", sky), ("horizon", horizon), ("side of sun or moon", side)):
            print(f"# scenes, {what}: {sum(right)} of {len(right)}")
        for what, right in (("sky", sky), ("horizon", horizon), ("side of sun or moon", side)):
            self.assertGreaterEqual(sum(right), .8 * len(right), what)


if __name__ == "__main__":
    unittest.main()
