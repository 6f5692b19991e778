"""Draws the pictures the demo model learns from: flat-design landscapes and simple shapes.

A picture is decided by a dictionary of attributes (what is where, in which colour) and by a random
generator for everything that has no word.  Every length is a fraction of the canvas, so the same
attributes at 512 pixels are a sharper version of the picture at 128.  Reads no file and no network.
"""
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

COLOURS = {
    'red': (214, 40, 40), 'orange': (242, 132, 30), 'yellow': (250, 212, 50),
    'green': (46, 150, 66), 'blue': (38, 92, 214), 'purple': (128, 58, 178),
    'pink': (244, 130, 180), 'white': (244, 244, 240), 'black': (26, 26, 30),
    'brown': (128, 78, 42), 'gray': (136, 140, 146), 'teal': (24, 164, 164),
}
SHAPES = ['circle', 'square', 'triangle', 'star', 'heart']
SKIES = ['day', 'sunset', 'night', 'storm', 'dawn']
TERRAINS = ['mountains', 'hills', 'sea', 'desert', 'forest', 'city', 'snow']
OBJECTS = ['house', 'tree', 'boat', 'balloon', 'birds', 'bird', 'cactus', 'lighthouse']
IN_AIR = ('balloon', 'birds', 'bird')
SIZES = {'small': .66, 'medium': 1.0, 'large': 1.5}
OBJECT_COLOURS = {
    'house': ['red', 'orange', 'yellow', 'green', 'blue', 'purple', 'pink', 'white'],
    'boat': ['red', 'orange', 'yellow', 'green', 'blue', 'purple', 'pink', 'white'],
    'balloon': ['red', 'orange', 'yellow', 'green', 'blue', 'purple', 'pink', 'white'],
    'tree': ['green', 'green', 'orange', 'red', 'pink', 'yellow'],
    'lighthouse': ['red', 'blue', 'green', 'black'],
    'bird': ['black', 'black', 'white', 'red', 'blue'],
}
GROUND_OBJECTS = {
    'mountains': ['house', 'tree'], 'hills': ['house', 'house', 'tree'], 'sea': ['boat', 'boat',
    'lighthouse'], 'desert': ['cactus', 'cactus', 'house'], 'forest': ['house'],
    'city': ['tree'], 'snow': ['house', 'tree'],
}
# light that falls on things: multiplies their colour
TINT = {'day': (1, 1, 1), 'sunset': (.92, .68, .62), 'night': (.34, .40, .60),
        'storm': (.58, .62, .68), 'dawn': (.98, .86, .92)}
SKY_COLOURS = {
    'day': [((58, 130, 222), (150, 205, 245)), ((80, 160, 235), (200, 230, 250)),
            ((40, 110, 205), (140, 200, 240))],
    'sunset': [((92, 50, 120), (252, 150, 70)), ((150, 60, 100), (255, 190, 90)),
               ((60, 50, 120), (250, 110, 80))],
    'night': [((8, 10, 34), (34, 46, 100)), ((12, 8, 40), (50, 44, 110)),
              ((4, 14, 30), (24, 60, 96))],
    'storm': [((52, 56, 66), (120, 126, 134)), ((40, 46, 58), (104, 110, 122))],
    'dawn': [((150, 180, 230), (255, 205, 205)), ((180, 170, 225), (255, 220, 190))],
}
SEA_COLOURS = {
    'day': ((70, 160, 210), (20, 84, 160)), 'sunset': ((214, 120, 90), (70, 50, 110)),
    'night': ((30, 48, 96), (8, 14, 40)), 'storm': ((84, 100, 112), (40, 52, 64)),
    'dawn': ((190, 190, 220), (90, 130, 180)),
}
CLOUD_COLOURS = {'day': (252, 252, 252), 'sunset': (250, 160, 130), 'night': (60, 66, 104),
                 'storm': (58, 62, 72), 'dawn': (255, 236, 236)}
BUILDING = {'day': (120, 136, 160), 'sunset': (96, 64, 96), 'night': (30, 34, 58),
            'storm': (78, 84, 96), 'dawn': (150, 140, 170)}
WINDOW = {'day': (190, 214, 236), 'sunset': (255, 214, 120), 'night': (255, 220, 120),
          'storm': (240, 214, 140), 'dawn': (250, 226, 190)}


def pick(rng, items):
    return items[rng.integers(len(items))]


def jitter(rng, colour, amount=10):
    return np.clip(np.array(colour, np.float32) + rng.normal(0, amount * .5, 3), 0, 255)


def scale(colour, by):
    return np.asarray(colour, np.float32) * np.asarray(by, np.float32)


def mix(a, b, t):
    return np.asarray(a, np.float32) * (1 - t) + np.asarray(b, np.float32) * t


def gradient(h, w, top, bottom):
    t = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    return np.broadcast_to(mix(top, bottom, t), (h, w, 3)).copy()


def ridge(rng, w, waves, amplitude, base):
    """The height of a smooth skyline, one y per column."""
    x = np.arange(w, dtype=np.float32) / w
    y = np.zeros(w, np.float32)
    for k in range(1, waves + 1):
        y += np.sin(2 * np.pi * (x * k * rng.uniform(.6, 1.1) + rng.uniform())) / k
    return base + amplitude * y


class Canvas:
    """A picture under construction; array() and back cost one copy."""

    def __init__(self, a):
        self.im = Image.fromarray(np.clip(a, 0, 255).astype(np.uint8))
        self.draw = ImageDraw.Draw(self.im)

    def poly(self, points, colour):
        self.draw.polygon([(float(x), float(y)) for x, y in points], fill=rgb(colour))

    def ellipse(self, x, y, rx, ry, colour):
        self.draw.ellipse([x - rx, y - ry, x + rx, y + ry], fill=rgb(colour))

    def rect(self, x0, y0, x1, y1, colour):
        self.draw.rectangle([x0, y0, x1, y1], fill=rgb(colour))

    def line(self, points, colour, width):
        self.draw.line([(float(x), float(y)) for x, y in points], fill=rgb(colour),
                       width=max(1, int(width)), joint='curve')

    def paste(self, colour, mask):
        self.im.paste(Image.new('RGB', self.im.size, rgb(colour)), (0, 0), mask)

    def array(self):
        return np.asarray(self.im).astype(np.float32)

    def ground(self, y, top, bottom):
        """Fills everything below the skyline y with a gradient."""
        a = self.array()
        h = a.shape[0]
        d = np.arange(h, dtype=np.float32)[:, None] - y[None, :]
        m = np.clip(d + .5, 0, 1)[:, :, None]
        t = np.clip(d / max(8, h - y.min()), 0, 1)[:, :, None]
        self.__init__(a * (1 - m) + mix(top, bottom, t) * m)


def rgb(colour):
    return tuple(int(max(0, min(255, v))) for v in colour)


def side_x(rng, side):
    lo, hi = {'left': (.17, .31), 'right': (.69, .83), 'center': (.45, .55)}[side]
    return rng.uniform(lo, hi)


# ------------------------------------------------------------------------------------------- sky
class Sky:
    """What the sky hands down to the ground: its kind, colours and where its light stands."""

    def __init__(self, rng, w, h, kind, light, x):
        low = kind in ('sunset', 'dawn')
        self.kind, self.light, self.u = kind, light, min(w, h)
        self.x, self.y = x * w, h * (rng.uniform(.40, .50) if low else rng.uniform(.14, .25))
        self.r = self.u * (rng.uniform(.085, .115) if low else rng.uniform(.065, .09))
        self.tint = np.array(TINT[kind], np.float32)
        self.soft = .45 + .55 * self.tint


def draw_stars(rng, c, w, h, u):
    for _ in range(int(rng.integers(34, 52) * w * h / (u * u))):
        x, y = rng.uniform(.01, .99) * w, rng.uniform(.01, .55) * h
        r = u * rng.uniform(.0035, .0085)
        b = rng.uniform(150, 255)
        c.ellipse(x, y, r, r, (b, b, min(255, b * 1.04)))


def draw_light(rng, c, sky):
    x, y, r = sky.x, sky.y, sky.r
    if sky.light == 'sun':
        c.ellipse(x, y, r, r, {'day': (255, 226, 90), 'sunset': (255, 214, 110),
                               'dawn': (255, 226, 150)}.get(sky.kind, (240, 220, 140)))
    elif sky.light == 'full moon':
        c.ellipse(x, y, r, r, (242, 242, 226))
        for _ in range(3):
            angle, q = rng.uniform(0, 6.3), rng.uniform(.2, .6) * r
            c.ellipse(x + q * math.cos(angle), y + q * math.sin(angle), r * .17, r * .17,
                      (218, 218, 205))
    elif sky.light == 'crescent moon':
        r *= 1.2
        m = Image.new('L', c.im.size, 0)
        d = ImageDraw.Draw(m)
        d.ellipse([x - r, y - r, x + r, y + r], fill=255)
        d.ellipse([x - r * .35, y - r * 1.12, x + r * 1.65, y + r * .88], fill=0)
        c.paste((248, 246, 214), m)


def draw_clouds(rng, c, w, h, sky):
    storm = sky.kind == 'storm'
    m = Image.new('L', (w, h), 0)
    d = ImageDraw.Draw(m)
    n = rng.integers(5, 8) if storm else rng.integers(2, 4)
    for _ in range(max(1, round(n * w / max(w, h)))):
        x = rng.uniform(0, w)
        y = h * (rng.uniform(.02, .30) if storm else rng.uniform(.08, .36))
        s = sky.u * rng.uniform(.08, .13) * (1.5 if storm else 1)
        for k in range(5):
            dx, r = (k - 2) * s * .55, s * (.36 + .28 * (2 - abs(k - 2)) / 2)
            d.ellipse([x + dx - r, y - r * .8, x + dx + r, y + r * .55], fill=225)
    m = m.filter(ImageFilter.GaussianBlur(sky.u / 80))
    c.paste(jitter(rng, CLOUD_COLOURS[sky.kind], 6), m)


def draw_sky(rng, w, h, sky, clouds):
    top, bottom = pick(rng, SKY_COLOURS[sky.kind])
    horizon = int(h * .72)
    a = np.empty((h, w, 3), np.float32)
    a[:horizon] = gradient(horizon, w, jitter(rng, top), jitter(rng, bottom))
    a[horizon:] = a[horizon - 1]
    if sky.light:
        yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
        glow = np.exp(-((xx - sky.x) ** 2 + (yy - sky.y) ** 2) / (2 * (sky.r * 2.4) ** 2))
        colour = {'day': (70, 60, 30), 'sunset': (90, 60, 10), 'dawn': (60, 50, 30)}
        a += glow[:, :, None] * np.array(colour.get(sky.kind, (40, 44, 60)), np.float32)
    sky.backdrop = a.copy()
    c = Canvas(a)
    if sky.kind == 'night':
        draw_stars(rng, c, w, h, sky.u)
    draw_light(rng, c, sky)
    if clouds or sky.kind == 'storm':
        draw_clouds(rng, c, w, h, sky)
    if sky.kind == 'storm':
        x, y = w * rng.uniform(.2, .8), h * .2
        points = [(x, y)]
        for _ in range(5):
            x += rng.uniform(-.06, .06) * sky.u
            y += h * .075
            points.append((x, y))
        c.line(points, (255, 246, 170), sky.u * .018)
    return c


# --------------------------------------------------------------------------------------- terrain
def peaks(rng, c, w, base, height, colour, n, snow, sky):
    places = sorted((rng.uniform(.6, 1), (i + rng.uniform(.15, .85)) / n) for i in range(n))
    for tall, fx in places:
        x, up = fx * w, height * tall
        top = base - up
        wl, wr = up * rng.uniform(.8, 1.25), up * rng.uniform(.8, 1.25)
        c.poly([(x - wl, base), (x, top), (x + wr, base)], colour)
        mx = x + rng.uniform(-.1, .16) * wr
        c.poly([(x, top), (x + wr, base), (mx, base)], scale(colour, .78))
        if not snow:
            continue
        f = rng.uniform(.32, .44)
        yl, u = top + up * f, sky.u
        xl, xr, xm = x - wl * f, x + wr * f, x + (mx - x) * f
        c.poly([(x, top), (xl, yl), (xl + (xm - xl) * .33, yl - u * .02),
                (xl + (xm - xl) * .62, yl + u * .025), (xm, yl - u * .012)],
               scale((250, 250, 255), sky.soft))
        c.poly([(x, top), (xm, yl - u * .012), (xm + (xr - xm) * .4, yl + u * .02),
                (xm + (xr - xm) * .7, yl - u * .02), (xr, yl)],
               scale((205, 214, 232), sky.soft))


def pine(c, x, y, s, colour):
    c.rect(x - s * .06, y - s * .15, x + s * .06, y, scale((90, 60, 40), np.mean(colour) / 90))
    for k, (half, low, top) in enumerate([(.34, .12, .55), (.27, .36, .78), (.19, .60, 1.0)]):
        c.poly([(x - s * half, y - s * low), (x, y - s * top), (x + s * half, y - s * low)],
               scale(colour, 1 - .05 * k))


def mountains(rng, c, w, h, sky, haze, snow):
    wide = max(1., w / h) ** .5
    base = h * rng.uniform(.74, .80)
    rock = jitter(rng, pick(rng, [(96, 110, 140), (110, 100, 130), (90, 104, 120), (120, 104, 96)]))
    u, foot = min(h, w * 1.4), h * .04
    peaks(rng, c, w, base + foot, foot + u * rng.uniform(.36, .46),
          mix(scale(rock, sky.tint), haze, .45), round(4 * wide), snow, sky)
    peaks(rng, c, w, base + foot, foot + u * rng.uniform(.26, .36), scale(rock, sky.tint),
          round(3 * wide), snow, sky)
    grass = jitter(rng, (84, 140, 72))
    c.ground(ridge(rng, w, 2, h * .015, base), scale(grass, sky.tint),
             scale(grass, sky.tint * .7))
    return base + h * .1


def hills(rng, c, w, h, sky, haze):
    base = h * rng.uniform(.56, .62)
    grass = jitter(rng, pick(rng, [(98, 170, 70), (80, 155, 60), (120, 175, 80)]))
    for k in range(3):
        g = mix(scale(grass, (1 - .16 * k) * sky.tint), haze, (.35, .12, 0)[k])
        c.ground(ridge(rng, w, 2, h * .035, base + k * h * .12), g, scale(g, .8))
    return base + h * .27


def snowfield(rng, c, w, h, sky, haze):
    base = h * rng.uniform(.56, .62)
    white = jitter(rng, (232, 238, 248), 4)
    for k in range(3):
        g = mix(scale(white, (.88 + .06 * k) * sky.soft), haze, (.35, .12, 0)[k])
        c.ground(ridge(rng, w, 2, h * .035, base + k * h * .12), g, scale(g, .8))
    for _ in range(rng.integers(3, 6)):
        pine(c, rng.uniform(.04, .96) * w, base + h * rng.uniform(.10, .18),
             sky.u * rng.uniform(.14, .22), scale((60, 110, 90), sky.tint))
    return base + h * .27


def sea(rng, c, w, h, sky):
    y0 = int(h * rng.uniform(.56, .62))
    a = c.array()
    top, bottom = (jitter(rng, q) for q in SEA_COLOURS[sky.kind])
    a[y0:] = gradient(h - y0, w, top, bottom)
    if sky.light:
        yy, xx = np.mgrid[y0:h, 0:w].astype(np.float32)
        width = sky.r * .55 + (yy - y0) * .16
        g = np.exp(-((xx - sky.x) / width) ** 2) * .75
        g *= .55 + .45 * np.sin((yy - y0) / sky.u * 95)
        colour = (255, 225, 150) if sky.light == 'sun' else (210, 214, 230)
        a[y0:] = mix(a[y0:], np.array(colour, np.float32), g[:, :, None])
    c.__init__(a)
    for _ in range(int(rng.integers(8, 14) * max(1, w / h))):
        d = rng.uniform(.08, .97)
        y, x, half = y0 + (h - y0) * d, rng.uniform(0, w), sky.u * (.03 + .10 * d)
        c.line([(x - half, y), (x + half, y)], mix(mix(top, bottom, d), (255, 255, 255), .22),
               sky.u * .008)
    return y0 + h * .16


def desert(rng, c, w, h, sky, haze):
    base = h * rng.uniform(.58, .64)
    sand = jitter(rng, pick(rng, [(236, 196, 120), (228, 170, 96), (240, 206, 140)]))
    for k in range(3):
        g = mix(scale(sand, (1 - .09 * k) * sky.tint), haze, (.25, .08, 0)[k])
        c.ground(ridge(rng, w, 2, h * .05, base + k * h * .12), g, scale(g, .84))
    return base + h * .26


def forest(rng, c, w, h, sky, haze):
    base = h * rng.uniform(.62, .68)
    g = jitter(rng, (44, 104, 56))
    c.ground(ridge(rng, w, 2, h * .02, base), scale(g, sky.tint * .9), scale(g, sky.tint * .6))
    for k in range(3):
        n = max(3, round((9 - k * 2) * w / sky.u))
        y, s = base + h * (.04 + .10 * k), sky.u * (.22 + .07 * k)
        for i in range(n):
            pine(c, (i + rng.uniform(.1, .9)) / n * w, y + rng.uniform(-.02, .02) * h,
                 s * rng.uniform(.8, 1.15),
                 mix(scale(g, sky.tint * (1.05 - .22 * k)), haze, (.35, .15, 0)[k]))
    c.ground(ridge(rng, w, 2, h * .012, h * .84), scale(g, sky.tint * .62),
             scale(g, sky.tint * .45))
    return h * .93


def city(rng, c, w, h, sky, haze):
    base, u, lit = h * .84, sky.u, WINDOW[sky.kind]
    for near in (False, True):
        x = -u * rng.uniform(.02, .1)
        wall = mix(jitter(rng, BUILDING[sky.kind], 8), haze, 0 if near else .45)
        while x < w:
            wide = u * rng.uniform(.12, .2)
            tall = min(h, 1.4 * u) * (rng.uniform(.20, .42) if near else rng.uniform(.34, .56))
            c.rect(x, base - tall, x + wide - u * .012, base, scale(wall, rng.uniform(.88, 1.12)))
            step = u * .052
            if near:
                for y in np.arange(base - tall + step * .6, base - step, step * 1.2):
                    for q in np.arange(x + step * .4, x + wide - step * .8, step):
                        if rng.random() < (.65 if sky.kind != 'night' else .5):
                            c.rect(q, y, q + step * .48, y + step * .6, lit)
            x += wide
    road = jitter(rng, (70, 74, 80))
    c.rect(0, base, w, h, scale(road, sky.tint))
    c.rect(0, base + h * .075, w, base + h * .088, scale((200, 200, 190), sky.tint))
    return h * .95


def draw_terrain(rng, c, w, h, kind, sky, snow):
    haze = mix(sky.backdrop[int(h * .7), w // 2], (255, 255, 255), .05)
    if kind == 'sea':
        return sea(rng, c, w, h, sky)
    if kind == 'mountains':
        return mountains(rng, c, w, h, sky, haze, snow)
    draw = {'hills': hills, 'snow': snowfield, 'desert': desert, 'forest': forest, 'city': city}
    return draw[kind](rng, c, w, h, sky, haze)


# --------------------------------------------------------------------------------------- objects
def house(rng, c, x, y, u, colour, light, name, kind):
    s = u * rng.uniform(.24, .29)
    roof = scale((120, 60, 44) if name not in ('red', 'brown', 'orange') else (74, 66, 72), light)
    c.rect(x - s * .5, y - s * .6, x + s * .5, y, colour)
    c.rect(x + s * .22, y - s * 1.06, x + s * .34, y - s * .7, roof * .85)
    c.poly([(x - s * .66, y - s * .58), (x, y - s * 1.12), (x + s * .66, y - s * .58)], roof)
    c.rect(x - s * .12, y - s * .36, x + s * .10, y, scale((84, 54, 36), light))
    glass = (255, 226, 130) if kind in ('night', 'sunset', 'storm') else (200, 228, 245)
    for dx in (-.32, .31):
        c.rect(x + (dx - .10) * s, y - s * .42, x + (dx + .10) * s, y - s * .22, glass)


def tree(rng, c, x, y, u, colour, light):
    s = u * rng.uniform(.28, .36)
    c.rect(x - s * .06, y - s * .45, x + s * .06, y, scale((104, 70, 44), light))
    for dx, dy, r in ((-.2, .55, .21), (.2, .55, .21), (0, .76, .25), (0, .52, .2)):
        c.ellipse(x + dx * s, y - dy * s, r * s, r * s, colour)
    c.ellipse(x - .07 * s, y - .80 * s, .13 * s, .12 * s, mix(colour, (255, 255, 255), .16))


def boat(rng, c, x, y, u, colour, light):
    s = u * rng.uniform(.28, .34)
    y += u * .02
    c.rect(x - s * .02, y - s * .9, x + s * .02, y - s * .1, scale((90, 62, 40), light))
    c.poly([(x + s * .04, y - s * .9), (x + s * .04, y - s * .2), (x + s * .44, y - s * .2)],
           colour)
    c.poly([(x - s * .04, y - s * .8), (x - s * .04, y - s * .2), (x - s * .34, y - s * .2)],
           mix(colour, (255, 255, 255), .25))
    c.poly([(x - s * .48, y - s * .14), (x + s * .5, y - s * .14), (x + s * .34, y + s * .06),
            (x - s * .34, y + s * .06)], scale((110, 66, 40), light))


def balloon(rng, c, x, y, u, colour, light, name):
    s = u * rng.uniform(.14, .17)
    c.ellipse(x, y, s, s * 1.08, colour)
    c.poly([(x - s * .8, y + s * .66), (x + s * .8, y + s * .66), (x + s * .22, y + s * 1.5),
            (x - s * .22, y + s * 1.5)], colour)
    stripe = scale((220, 90, 80), light) if name == 'white' else mix(colour, (255, 255, 255), .45)
    c.ellipse(x, y, s * .36, s * 1.07, stripe)
    c.rect(x - s * .2, y + s * 1.62, x + s * .2, y + s * 1.95, scale((120, 76, 40), light))
    for dx in (-.18, .18):
        c.line([(x + dx * s, y + s * 1.45), (x + dx * s, y + s * 1.65)], (70, 50, 40), u * .01)


def wings(c, x, y, s, tilt, colour):
    """One flying bird: two bent wings with a little body."""
    for q in (-1, 1):
        c.poly([(x, y + s * .16), (x + q * s * .45, y - s * (.34 + tilt * q)),
                (x + q * s * 1.05, y - s * (.12 + tilt * q)),
                (x + q * s * .48, y - s * (.10 + tilt * q)), (x, y + s * .42)], colour)
    c.ellipse(x, y + s * .27, s * .17, s * .2, colour)


def cactus(rng, c, x, y, u, light):
    s = u * rng.uniform(.26, .34)
    green, w = scale(jitter(rng, (50, 130, 70)), light), s * .09

    def limb(x0, y0, x1, y1):
        c.line([(x0, y0), (x1, y1)], green, w * 2)
        c.ellipse(x1, y1, w, w, green)
        c.ellipse(x0, y0, w, w, green)
    limb(x, y, x, y - s)
    limb(x, y - s * .4, x - s * .3, y - s * .4)
    limb(x - s * .3, y - s * .4, x - s * .3, y - s * .7)
    limb(x, y - s * .5, x + s * .3, y - s * .5)
    limb(x + s * .3, y - s * .5, x + s * .3, y - s * .8)


def lighthouse(rng, c, x, y, u, colour, light):
    s = u * rng.uniform(.38, .46)
    y += u * .04
    c.ellipse(x, y + s * .05, s * .42, s * .14, scale((90, 88, 86), light))
    for k in range(5):
        y0, y1 = y - s * .15 * k, y - s * .15 * (k + 1)
        w0, w1 = s * (.19 - .012 * k), s * (.19 - .012 * (k + 1))
        c.poly([(x - w0, y0), (x + w0, y0), (x + w1, y1), (x - w1, y1)],
               colour if k % 2 == 0 else scale((244, 244, 240), light))
    c.rect(x - s * .09, y - s * .89, x + s * .09, y - s * .75, (255, 236, 150))
    c.poly([(x - s * .14, y - s * .88), (x, y - s * 1.02), (x + s * .14, y - s * .88)],
           scale((60, 56, 60), light))


def draw_object(rng, c, w, h, item, ground, sky):
    kind, name = item['kind'], item['colour']
    u = min(w, h) * SIZES[item['size']]
    light = sky.tint * .55 + .45
    colour = scale(jitter(rng, COLOURS[name], 8), light) if name else None
    x = side_x(rng, item['side']) * w
    if kind == 'house':
        house(rng, c, x, ground, u, colour, light, name, sky.kind)
    elif kind == 'tree':
        tree(rng, c, x, ground, u, colour, light)
    elif kind == 'boat':
        boat(rng, c, x, ground, u, colour, light)
    elif kind == 'lighthouse':
        lighthouse(rng, c, x, ground, u, colour, light)
    elif kind == 'cactus':
        cactus(rng, c, x, ground, u, light)
    elif kind == 'balloon':
        balloon(rng, c, x, h * rng.uniform(.25, .34), u, colour, light, name)
    elif kind == 'bird':
        wings(c, x, h * rng.uniform(.22, .36), u * rng.uniform(.11, .14), rng.uniform(-.12, .12),
              colour)
    else:
        dark = (24, 24, 32) if sky.kind != 'night' else (190, 196, 214)
        n = rng.integers(3, 6)
        for k in range(n):
            wings(c, x + (k - (n - 1) / 2) * u * .115 + rng.uniform(-.02, .02) * u,
                  h * rng.uniform(.14, .36), u * rng.uniform(.048, .066),
                  rng.uniform(-.12, .12), dark)


# ---------------------------------------------------------------------------------------- shapes
def draw_shape(c, shape, x, y, r, colour):
    if shape == 'circle':
        c.ellipse(x, y, r, r, colour)
    elif shape == 'square':
        c.rect(x - r * .86, y - r * .86, x + r * .86, y + r * .86, colour)
    elif shape == 'triangle':
        c.poly([(x, y - r), (x + r, y + r * .8), (x - r, y + r * .8)], colour)
    elif shape == 'star':
        rs = [r * (1.15 if k % 2 == 0 else .48) for k in range(10)]
        c.poly([(x + q * math.sin(k * math.pi / 5), y - q * math.cos(k * math.pi / 5))
                for k, q in enumerate(rs)], colour)
    else:
        t = np.linspace(0, 2 * np.pi, 60)
        c.poly(list(zip(x + r * np.sin(t) ** 3, y - r / 16 * (
            13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)))), colour)


def draw_shapes(rng, w, h, attrs):
    u, back = min(w, h), jitter(rng, COLOURS[attrs['background']], 8)
    c = Canvas(gradient(h, w, np.clip(back * 1.06 + 4, 0, 255), back * .92))
    for item in attrs['items']:
        lo, hi = {'small': (.11, .14), 'large': (.27, .33), 'medium': (.18, .23)}[item['size']]
        r = u * rng.uniform(lo, hi)
        place = {'left': (.24, .30), 'right': (.70, .76), 'top': (.24, .30), 'bottom': (.70, .76),
                 'center': (.47, .53)}
        x, y = w * rng.uniform(*place[item['x']]), h * rng.uniform(*place[item['y']])
        draw_shape(c, item['shape'], x, y, r, jitter(rng, COLOURS[item['colour']], 8))
    return c


# ------------------------------------------------------------------------------------ attributes
def sample_shapes(rng):
    names = list(COLOURS)
    back, one, two = (names[i] for i in rng.permutation(len(names))[:3])

    def item(colour, size, x, y):
        return dict(shape=pick(rng, SHAPES), colour=colour, size=size, x=x, y=y)
    if rng.random() < .75:
        x, y = pick(rng, [('center', 'center')] * 4 + [('left', 'center'), ('right', 'center'),
                                                       ('center', 'top'), ('center', 'bottom')])
        size = pick(rng, ['medium', 'medium', 'small', 'large'])
        if (x, y) != ('center', 'center') and size == 'large':
            size = 'medium'
        items = [item(one, size, x, y)]
    else:
        items = [item(one, 'medium', 'left', 'center'), item(two, 'medium', 'right', 'center')]
    return dict(kind='shapes', background=back, items=items)


def sample_object(rng, kind, side, plain=False):
    colour = pick(rng, OBJECT_COLOURS[kind]) if kind in OBJECT_COLOURS else ''
    size = 'medium' if plain or kind == 'birds' else pick(rng, ['small', 'medium', 'medium',
                                                                'medium', 'large'])
    return dict(kind=kind, colour=colour, side=side, size=size)


def sample_scene(rng):
    sky = SKIES[rng.choice(5, p=[.28, .25, .25, .10, .12])]
    terrain = pick(rng, TERRAINS)
    sides = [('left', 'center', 'right')[i] for i in rng.permutation(3)]
    items, r = [], rng.random()
    if r < .52:
        items.append(sample_object(rng, pick(rng, GROUND_OBJECTS[terrain]), sides[0]))
    elif r < .78:
        items.append(sample_object(rng, pick(rng, IN_AIR), sides[0]))
    if items and rng.random() < .16:
        other = pick(rng, GROUND_OBJECTS[terrain] if items[0]['kind'] in IN_AIR else IN_AIR)
        items.append(sample_object(rng, other, sides[1], True))
    for item in items:
        if item['kind'] == 'bird' and item['colour'] == 'black' and sky == 'night':
            item['colour'] = 'white'
    light = pick(rng, {'day': ['sun', 'sun', ''], 'sunset': ['sun', 'sun', 'sun', ''],
                       'night': ['full moon', 'crescent moon', ''], 'storm': [''],
                       'dawn': ['sun', '']}[sky])
    busy = [i['side'] for i in items if i['kind'] in IN_AIR]
    free = [s for s in sides if s not in busy]
    return dict(kind='scene', sky=sky, terrain=terrain, objects=items, light=light,
                light_side=pick(rng, free) if light else '', clouds=bool(rng.random() < .4),
                snow=bool(rng.random() < .8))


def sample(rng, shapes=.3):
    return sample_shapes(rng) if rng.random() < shapes else sample_scene(rng)


def render(rng, attrs, w, h):
    """Draws at twice the size and averages down: w x h x 3 bytes."""
    bw, bh = w * 2, h * 2
    if attrs['kind'] == 'shapes':
        c = draw_shapes(rng, bw, bh, attrs)
    else:
        x = side_x(rng, attrs['light_side']) if attrs['light'] else .5
        sky = Sky(rng, bw, bh, attrs['sky'], attrs['light'], x)
        c = draw_sky(rng, bw, bh, sky, attrs['clouds'])
        ground = draw_terrain(rng, c, bw, bh, attrs['terrain'], sky, attrs['snow'])
        for item in attrs['objects']:
            draw_object(rng, c, bw, bh, item, ground, sky)
    return np.asarray(c.im.resize((w, h), Image.BOX))
