#!/usr/bin/env python3
"""Every scheduler name's way through a small field, computed here a second time, in other variables than the engine's.

Usage: scheduler_names.py > scheduler_names.json   (the stored copy; --check FILE compares and exits 1 when it differs)

Where a method is published for y = x0 + r noise ("variance exploding"), it is computed in that form and turned back by
x = y / (1 + r), r = s / (1 - s); multistep weights come from integrals of Lagrange polynomials over fine sums, not from
closed formulas.  Plain floats, no library: tests/unit/test_scheduler.c compares the engine with the result.
"""
import functools
import json
import math
import os
import struct
import sys

STEPS, SHIFT, TRAIN = 8, 3.0, 1000
START = [1.0, -0.6, 0.2]


def field(x, s):
    return math.sin(3 * x) + s - 0.5 * x


def noise(call, k):
    """Three values per call, near a normal distribution's middle; any numbers do."""
    return math.cos(1.7 * call + 2.3 * k + 0.4) * 1.3


def shifted(u, k=SHIFT):
    return k * u / (1 + (k - 1) * u)


def single(x):
    """Rounded to float, as torch, and so the engine, keeps it."""
    return struct.unpack("f", struct.pack("f", x))[0]


def line(a, b, n):
    return [a + (b - a) * i / (n - 1) for i in range(n)]


# ---- sigmas ----

def beta_quantile(p, a=0.6):
    """Quantile of Beta(a, a): t = u^(1/a) takes the pole out of the density, then the midpoint rule and halving."""
    def mass(x):
        top, n = x ** a, 4000
        return sum((1 - ((i + 0.5) / n * top) ** (1 / a)) ** (a - 1) for i in range(n)) * top / n / a
    half = mass(0.5)
    if p in (0.0, 1.0):
        return p
    if p > 0.5:
        return 1 - beta_quantile(1 - p, a)
    low, high = 0.0, 0.5
    for _ in range(50):
        mid = (low + high) / 2
        low, high = (mid, high) if mass(mid) < 2 * p * half else (low, mid)
    return (low + high) / 2


def respace(kind, first, last, n=STEPS):
    if kind == "karras":
        return [v ** 7 for v in line(first ** (1 / 7), last ** (1 / 7), n)]
    if kind == "exponential":
        return [first * (last / first) ** (i / (n - 1)) for i in range(n)]
    return [last + beta_quantile(1 - i / (n - 1)) * (first - last) for i in range(n)]


def uniform(family):
    if family == "flow":  # FlowMatchEulerDiscrete: the last of the shifted table is shifted again
        return [shifted(u) for u in line(1.0, shifted(1 / TRAIN), STEPS)]
    if family == "unipc":
        return [shifted(u) for u in line(1.0, 1 / TRAIN, STEPS + 1)[:-1]]
    signal = line(1.0, 1 / TRAIN, STEPS + 1)  # "dpm": even in the signal, listed from the picture's end
    return [shifted(1 - a) for a in signal][:0:-1]


@functools.lru_cache(None)
def grid(family, spacing):
    if spacing == "edm":
        return [1 - 1 / (1 + SHIFT * r) for r in respace("karras", 80.0, 0.002)]
    if spacing == "karras" and family == "unipc":
        kept, ratios = 1.0, []
        for i in range(TRAIN):
            kept = single(kept * single(1 - single(0.0001 + (0.02 - 0.0001) * i / (TRAIN - 1))))
            ratios.append(math.sqrt(single(single(1 - kept) / kept)))
        return [r / (1 + r) for r in respace("karras", ratios[-1], ratios[0])]
    s = uniform("dpm" if spacing == "signal" else family)
    return s if spacing in ("uniform", "signal") else respace(spacing, s[0], s[-1])


# ---- one value at a time; v(x, s) is asked through `ask`, which counts calls ----

class Walk:
    def __init__(self, family, spacing, k):
        sigmas = grid(family, spacing) + [0.0]
        if family != "flow":
            sigmas[0] = min(sigmas[0], 1 - 1e-6)
        sigmas = [single(v) for v in sigmas]
        self.s, self.k, self.x, self.calls, self.path = sigmas, k, START[k], 0, []

    def ask(self, x, s):
        self.calls += 1
        return field(x, s)

    def picture(self, x, s):
        return x - s * self.ask(x, s)

    def noise(self):
        return noise(self.calls - 1, self.k)

    def done(self, x):
        self.x = x
        self.path.append(x)


def ratio(s):
    return s / (1 - s)


def lagrange(points, j, t):
    out = 1.0
    for m, p in enumerate(points):
        if m != j:
            out *= (t - p) / (points[j] - p)
    return out


def integral(f, a, b, n=2000):
    h = (b - a) / n
    return h / 3 * sum(f(a + i * h) * (1 if i in (0, n) else 4 if i % 2 else 2) for i in range(n + 1))


def euler(w):
    for i in range(STEPS):
        w.done(w.x + (w.s[i + 1] - w.s[i]) * w.ask(w.x, w.s[i]))


def lcm(w):
    for i in range(STEPS):
        seen = w.picture(w.x, w.s[i])
        w.done((1 - w.s[i + 1]) * seen + w.s[i + 1] * w.noise())


def tcd(w):
    for i in range(STEPS):
        s, t = w.s[i], w.s[i + 1]
        v = w.ask(w.x, s)
        seen, eps, d = w.x - s * v, w.x + (1 - s) * v, 0.7 * t
        at = (1 - d) * seen + d * eps
        # From ratio r_d to r_t the picture's share is kept and variance r_t^2 - r_d^2 is added.
        w.done((1 - t) * (at / (1 - d) + math.sqrt(ratio(t) ** 2 - ratio(d) ** 2) * w.noise()))


def renoise(w, x, s, t):
    d = t * t / s
    return (1 - t) * (x / (1 - d) + math.sqrt(ratio(t) ** 2 - ratio(d) ** 2) * w.noise()), d


def euler_ancestral(w):
    for i in range(STEPS):
        s, t = w.s[i], w.s[i + 1]
        v = w.ask(w.x, s)
        d = t * t / s
        x = w.x + (d - s) * v
        w.done(renoise(w, x, s, t)[0] if t else x)


def two_calls(w, middle, ancestral=False):
    for i in range(STEPS):
        s, t = w.s[i], w.s[i + 1]
        v = w.ask(w.x, s)
        if t == 0:
            w.done(w.x - s * v)
            return
        end = t * t / s if ancestral else t
        m = t if middle == "end" else math.sqrt(s * end)
        x = w.x + (m - s) * v
        w.path.append(x)
        u = w.ask(x, m)
        x = w.x + (end - s) * (0.5 * (v + u) if middle == "end" else u)
        w.done(renoise(w, x, s, t)[0] if ancestral else x)


def lms(w):
    slopes = []
    for i in range(STEPS):
        s, t = w.s[i], w.s[i + 1]
        slopes.insert(0, w.ask(w.x, s))
        n = 1 if t == 0 else min(4, len(slopes))
        at = [w.s[i - j] for j in range(n)]
        w.done(w.x + sum(slopes[j] * integral(lambda z, j=j: lagrange(at, j, z), s, t) for j in range(n)))


def even_weights(n):
    """Adams-Bashforth: integrals over [0, 1] of the polynomials through 0, -1, -2 ..."""
    return [integral(lambda z, j=j: lagrange([-m for m in range(n)], j, z), 0.0, 1.0) for j in range(n)]


def ipndm(w, twice=False):
    slopes = []
    for i in range(STEPS):
        s, t = w.s[i], w.s[i + 1]
        slopes.insert(0, w.ask(w.x, s))
        weights = even_weights(1 if t == 0 else min(4, len(slopes)))
        x = w.x + (t - s) * sum(a * b for a, b in zip(weights, slopes))
        if twice and i == 0:
            w.path.append(x)
            x = w.x + (t - s) * 0.5 * (slopes[0] + w.ask(x, t))
        w.done(x)


def deis(w):
    seen, at = [], []
    for i in range(STEPS):
        s, t = w.s[i], w.s[i + 1]
        v = w.ask(w.x, s)
        if t == 0:
            w.done(w.x - s * v)
            return
        seen.insert(0, w.x + (1 - s) * v)
        at.insert(0, ratio(s))
        n = min(2, len(seen))
        logs = [math.log(r) for r in at[:n]]
        # y = x / (1 - s) obeys dy/dr = eps; eps is a line in log r, integrated over log r.
        y = w.x / (1 - s) + sum(seen[j] * integral(lambda z, j=j: lagrange(logs, j, z) * math.exp(z),
                                                   math.log(ratio(s)), math.log(ratio(t)), 4000) for j in range(n))
        w.done(y * (1 - t))


def solve(a, b):
    """Gauss-Jordan."""
    n = len(b)
    m = [row[:] + [b[i]] for i, row in enumerate(a)]
    for c in range(n):
        p = max(range(c, n), key=lambda r: abs(m[r][c]))
        m[c], m[p] = m[p], m[c]
        m[c] = [z / m[c][c] for z in m[c]]
        for r in range(n):
            if r != c:
                m[r] = [z - m[r][c] * q for z, q in zip(m[r], m[c])]
    return [m[r][n] for r in range(n)]


def first_order(x, s, t, seen, sde):
    """y' = (r'/r)^p y + the rest of the picture seen, p = 2 for the SDE; with it h = p log(r / r')."""
    p = 2 if sde else 1
    h = math.log(ratio(s) / ratio(t)) * p
    return x / (1 - s) * math.exp(-h) + seen * (1 - math.exp(-h)), h


def dpm(w, order, sde=False):
    pictures, at = [], []
    for i in range(STEPS):
        s, t = w.s[i], w.s[i + 1]
        pictures.insert(0, w.picture(w.x, s))
        if t == 0:
            w.done(pictures[0])
            return
        at.insert(0, -math.log(ratio(s)))
        n = min(order, len(pictures), 2 if STEPS - i == 2 and STEPS < 15 else order)
        y, h = first_order(w.x, s, t, pictures[0], sde)
        step = -math.log(ratio(t)) - at[0]
        if n == 2:  # midpoint: half of the first difference, weighed like the picture
            y += 0.5 * (pictures[0] - pictures[1]) / (at[0] - at[1]) * step * (1 - math.exp(-h))
        if n == 3:  # k-diffusion's third order: derivatives of the parabola through three pictures, times phi 2 and 3
            d0 = (pictures[0] - pictures[1]) / (at[0] - at[1])
            d1 = (pictures[1] - pictures[2]) / (at[1] - at[2])
            second = (d0 - d1) / (at[0] - at[2])
            first = d0 + second * (at[0] - at[1])
            # phi2 = int_0^1 e^{-h(1-z)} z dz * h, phi3 the same with z^2 / 2; by sums, not by formula.
            phi2 = integral(lambda z: math.exp(-h * (1 - z)) * z * h, 0.0, 1.0)
            phi3 = integral(lambda z: math.exp(-h * (1 - z)) * z * z / 2 * h, 0.0, 1.0)
            y += first * step * phi2 + second * step * step * phi3
        x = y * (1 - t)
        if sde:
            x += t * math.sqrt(1 - math.exp(-h)) * w.noise()
        w.done(x)


def dpm_single(w):
    orders = [1, 2] * (STEPS // 2 - 1) + [1, 1] if STEPS % 2 == 0 else [1, 2] * (STEPS // 2) + [1]
    start = before = None
    for i in range(STEPS):
        s, t = w.s[i], w.s[i + 1]
        seen = w.picture(w.x, s)
        if t == 0:
            w.done(seen)
            return
        if orders[i] == 1:
            start, before = (w.x, s), seen
            y, _ = first_order(w.x, s, t, seen, False)
        else:
            y, h = first_order(start[0], start[1], t, before, False)
            r = math.log(ratio(start[1]) / ratio(s)) / h
            y += (seen - before) / (2 * r) * (1 - math.exp(-h))
        w.done(y * (1 - t))


def dpm_sde(w):
    for i in range(STEPS):
        s, t = w.s[i], w.s[i + 1]
        seen = w.picture(w.x, s)
        if t == 0:
            w.done(seen)
            return
        middle = math.sqrt(ratio(s) * ratio(t))
        m = middle / (1 + middle)
        y, h = first_order(w.x, s, m, seen, True)
        first = w.noise()
        x = (1 - m) * y + m * math.sqrt(1 - math.exp(-h)) * first
        w.path.append(x)
        seen = w.picture(x, m)
        second = w.noise()
        y, h2 = first_order(w.x, s, t, seen, True)
        # One Wiener path with the clock e^(2 lambda): the parts of the two halves add up.
        lam = [-math.log(ratio(q)) for q in (s, m, t)]
        clock = [math.exp(2 * q) for q in lam]
        parts = [math.sqrt(clock[1] - clock[0]) * first, math.sqrt(clock[2] - clock[1]) * second]
        w.done((1 - t) * (y + sum(parts) * ratio(t) * math.exp(-lam[2])))


def unipc(w, order):
    pictures, at, last = [], [], None
    for i in range(STEPS):
        s, t = w.s[i], w.s[i + 1]
        now = -math.log(ratio(s))
        seen, x = w.picture(w.x, s), w.x
        if last:
            x = unipc_update(last[0], last[1], s, pictures, at, last[2], seen)
        pictures.insert(0, seen)
        at.insert(0, now)
        if t == 0:
            w.done(seen)
            return
        n = min(order, STEPS - i, len(pictures))
        last = (x, s, n)
        w.done(unipc_update(x, s, t, pictures, at, n, None))


def unipc_update(x, s, t, pictures, at, order, newest):
    h = -math.log(ratio(t)) - at[0]
    y = x / (1 - s) * math.exp(-h) + pictures[0] * (1 - math.exp(-h))
    places = [(at[j] - at[0]) / h for j in range(1, order)]
    changes = [pictures[j] - pictures[0] for j in range(1, order)]
    if newest is not None:
        places.append(1.0)
        changes.append(newest - pictures[0])
    if not places:
        return y * (1 - t)
    b = 1 - math.exp(-h)
    if len(places) == 1:
        return (y + b * 0.5 * changes[0] / places[0]) * (1 - t)
    # The weights make the powers z, z^2 ... of the way through the step exact.
    rows = [[r ** k for r in places] for k in range(len(places))]
    sums = [integral(lambda z, k=k: math.exp(-h * (1 - z)) * z ** (k + 1) * h, 0.0, 1.0) / b
            for k in range(len(places))]
    weights = solve(rows, sums)
    return (y + b * sum(q * c / r for q, c, r in zip(weights, changes, places))) * (1 - t)


# ---- names ----

def names():
    """Those of the request's table that make a picture, but for the model's own."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../common/engine/schedulers.md")
    with open(path, encoding="utf-8") as f:
        rows = [[c.strip() for c in line.strip().strip("|").split("|")] for line in f if line.startswith("| ")]
    rows = rows[[row[0] for row in rows].index("name") + 1:]
    return [row[0].strip("`") for row in rows if row[3] and row[0].strip("`") != "Default"]


def meaning(name):
    """(family of sigmas, sampler) by the words of a name."""
    order = 3 if "3M" in name else 2
    sde = "SDE" in name
    for start, family, sampler in [
            ("DDIM", "flow", euler), ("DDPM", "dpm", lambda w: dpm(w, 1, True)), ("DEIS", "dpm", deis),
            ("DPM++ SDE", "dpm", dpm_sde), ("DPM++", "dpm", lambda w: dpm(w, order, sde)),
            ("DPMSolverSingle", "dpm", dpm_single), ("DPMSolverMulti", "dpm", lambda w: dpm(w, 2)),
            ("EDMDPM", "dpm", lambda w: dpm(w, 2)), ("EDMEuler", "flow", euler), ("Euler a", "flow", euler_ancestral),
            ("EulerAncestral", "flow", euler_ancestral), ("Euler", "flow", euler), ("FlowMatchEuler", "flow", euler),
            ("Heun", "flow", lambda w: two_calls(w, "end")), ("IPNDM", "flow", ipndm),
            ("KDPM2Ancestral", "flow", lambda w: two_calls(w, "mean", True)),
            ("KDPM2", "flow", lambda w: two_calls(w, "mean")), ("LCM", "flow", lcm), ("LMS", "flow", lms),
            ("PNDM", "flow", lambda w: ipndm(w, True)), ("TCD", "flow", tcd), ("UniPC", "unipc", lambda w: unipc(w, order))]:
        if name.startswith(start):
            return family, sampler
    raise KeyError(name)


def spacing(name):
    if name.startswith("EDM"):
        return "edm"
    for word in ("Karras", "Exponential", "Beta"):
        if word in name:
            return word.lower()
    return "signal" if name.startswith("UniPC") and "Uniform" in name else "uniform"


def main():
    rows = []
    for name in names():
        family, sampler = meaning(name)
        walks = []
        for k in range(len(START)):
            walk = Walk(family, spacing(name), k)
            sampler(walk)
            walks.append([round(x, 7) for x in walk.path])
        rows.append(json.dumps({"name": name, "calls": len(walks[0]), "x": list(zip(*walks))}))
    text = ('{"steps": %d, "shift": %s, "start": %s, "cases": [\n%s\n]}\n'
            % (STEPS, SHIFT, json.dumps(START), ",\n".join(rows)))
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        with open(sys.argv[2], encoding="utf-8") as f:
            stored, fresh = json.load(f), json.loads(text)
        far = [a["name"] for a, b in zip(stored["cases"], fresh["cases"])
               if a["name"] != b["name"] or any(abs(p - q) > 1e-6 for u, v in zip(a["x"], b["x"]) for p, q in zip(u, v))]
        if far or len(stored["cases"]) != len(fresh["cases"]):
            sys.exit("other than %s: %s" % (sys.argv[2], ", ".join(far) or "number of cases"))
        return
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
