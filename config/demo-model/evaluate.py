"""Scores pictures of held-out prompts by what can be read from their pixels.

usage: evaluate.py reader FOLDER READER.pt            trains the reader of scenes on drawn pictures
       evaluate.py truth READER.pt VAE.pt             ceilings: drawn pictures, and after the VAE
       evaluate.py CHECKPOINT.pt READER.pt VAE.pt [--size N --steps N --cfg X --shift X --grid FILE]
       evaluate.py MODEL READER.pt build/reverie [...]   the same, painted by the engine

Shapes are read by rules (colours by the nearest name, place by the centroid, shape by silhouette);
scenes by a small network that has only ever seen drawn pictures.  Prompts use fixed seeds of their
own; none of the sentences was picked by hand.
"""
import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image, ImageFilter

import captions
import sample
import scenes
import vae as V

COLOUR_NAMES = list(scenes.COLOURS)
PALETTE = np.array(list(scenes.COLOURS.values()), np.float32)
HEADS = {
    'sky': scenes.SKIES, 'terrain': scenes.TERRAINS, 'object': [''] + scenes.OBJECTS,
    'colour': [''] + COLOUR_NAMES, 'side': ['', 'left', 'center', 'right'],
    'light': ['', 'sun', 'full moon', 'crescent moon'],
    'light_side': ['', 'left', 'center', 'right'],
}


# ---------------------------------------------------------------------------------------- shapes
def nearest(colour):
    return COLOUR_NAMES[int(((PALETTE - np.asarray(colour, np.float32)) ** 2).sum(1).argmin())]


def silhouette(mask):
    ys, xs = np.nonzero(mask)
    if len(ys) < 20:
        return None
    cut = mask[ys.min():ys.max() + 1, xs.min():xs.max() + 1]
    return np.asarray(Image.fromarray((cut * 255).astype(np.uint8)).resize(
        (32, 32), Image.BOX)).astype(np.float32) / 255


def templates():
    out = {}
    for shape in scenes.SHAPES:
        c = scenes.Canvas(np.zeros((128, 128, 3), np.float32))
        scenes.draw_shape(c, shape, 64, 64, 40, (255, 255, 255))
        out[shape] = silhouette(c.array()[..., 0] > 128)
    return out


TEMPLATES = templates()


def read_shape(picture, item, back):
    """picture: 128 x 128 (or a 64 wide half) -> which of the asked facts hold"""
    f = picture.astype(np.float32)
    corners = [f[:12, :12], f[:12, -12:], f[-12:, :12], f[-12:, -12:]]
    ground = np.median(np.concatenate([c.reshape(-1, 3) for c in corners]), 0)
    out = dict(background=nearest(ground) == back, colour=False, shape=False, place=False)
    mask = ((f - ground) ** 2).sum(-1) > 45 ** 2
    im = Image.fromarray((mask * 255).astype(np.uint8))
    mask = np.asarray(im.filter(ImageFilter.MinFilter(3)).filter(ImageFilter.MaxFilter(3))) > 128
    if mask.sum() < 60:
        return out
    out['colour'] = nearest(np.median(f[mask], 0)) == item['colour']
    form = silhouette(mask)
    out['shape'] = form is not None and min(
        TEMPLATES, key=lambda s: np.abs(TEMPLATES[s] - form).mean()) == item['shape']
    ys, xs = np.nonzero(mask)
    h, w = mask.shape

    def third(v, low, high):
        return low if v < .41 else high if v > .59 else 'center'
    out['place'] = third(xs.mean() / w, 'left', 'right') == item['x'] and \
        third(ys.mean() / h, 'top', 'bottom') == item['y']
    return out


def shape_prompts(n, seed=11):
    rng, out = np.random.default_rng(seed), []
    for k in range(n):
        names = [COLOUR_NAMES[i] for i in rng.permutation(len(COLOUR_NAMES))]
        x, y = [('center', 'center'), ('left', 'center'), ('right', 'center'), ('center', 'top'),
                ('center', 'bottom')][rng.integers(5)]
        item = dict(shape=scenes.SHAPES[k % len(scenes.SHAPES)], colour=names[1], size='medium',
                    x=x, y=y)
        word = x if x != 'center' else y
        place = '' if word == 'center' else \
            f' on the {word}' if word in ('left', 'right') else f' at the {word}'
        out.append((f'{captions.article(names[1])} {item["shape"]}{place} on '
                    f'{captions.article(names[0])} background',
                    dict(kind='shapes', background=names[0], items=[item])))
    return out


def pair_prompts(n, seed=12):
    rng, out = np.random.default_rng(seed), []
    for _ in range(n):
        names = [COLOUR_NAMES[i] for i in rng.permutation(len(COLOUR_NAMES))]
        items = [dict(shape=scenes.pick(rng, scenes.SHAPES), colour=c, size='medium', x=x,
                      y='center') for c, x in ((names[1], 'left'), (names[2], 'right'))]
        text = ' and '.join(f'{captions.article(i["colour"])} {i["shape"]} on the {i["x"]}'
                            for i in items)
        out.append((f'{text} on {captions.article(names[0])} background',
                    dict(kind='shapes', background=names[0], items=items)))
    return out


def score_shapes(pictures, prompts):
    rows = []
    for p, (_, a) in zip(pictures, prompts):
        if len(a['items']) == 1:
            rows.append(read_shape(p, a['items'][0], a['background']))
        else:
            halves = [read_shape(h, dict(i, x='center'), a['background'])
                      for h, i in zip((p[:, :64], p[:, 64:]), a['items'])]
            rows.append({k: all(h[k] for h in halves) for k in halves[0]})
    out = {k: np.mean([r[k] for r in rows]) for k in rows[0]}
    asked = ('background', 'colour', 'place')
    out['all but the shape'] = np.mean([all(r[k] for k in asked) for r in rows])
    return out


# ---------------------------------------------------------------------------------------- scenes
class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        c, stride = (3, 24, 48, 96, 96), (2, 2, 2, 1)
        self.body = nn.Sequential(*[m for i in range(4) for m in (
            nn.Conv2d(c[i], c[i + 1], 3, stride[i], 1, bias=False), nn.BatchNorm2d(c[i + 1]),
            nn.ReLU())])
        self.join = nn.Linear(64 * 96, 128)
        self.heads = nn.ModuleDict({k: nn.Linear(128, len(v)) for k, v in HEADS.items()})

    def forward(self, x):
        h = F.relu(self.join(self.body(x).flatten(1)))
        return {k: head(h) for k, head in self.heads.items()}


def small(pictures):
    """Bytes of any size -> float 64 x 64"""
    x = V.to_float(np.ascontiguousarray(pictures))
    return F.adaptive_avg_pool2d(x, 64)


def labels(a):
    first = a['objects'][0] if a['objects'] else dict(kind='', colour='', side='')
    return {'sky': a['sky'], 'terrain': a['terrain'], 'object': first['kind'],
            'colour': first['colour'], 'side': first['side'], 'light': a['light'],
            'light_side': a['light_side']}


def train_reader(folder, out, epochs=5):
    xs, attrs = [], []
    for name in ('128x128', '256x256'):
        pictures = np.load(f'{folder}/{name}.npy', mmap_mode='r')
        with open(f'{folder}/{name}.pkl', 'rb') as f:
            every = pickle.load(f)
        keep = [i for i, a in enumerate(every) if a['kind'] == 'scene' and len(a['objects']) < 2]
        xs += [small(pictures[keep[i:i + 250]]).half() for i in range(0, len(keep), 250)]
        attrs += [labels(every[i]) for i in keep]
    x = torch.cat(xs)
    y = {k: torch.tensor([v.index(a[k]) for a in attrs]) for k, v in HEADS.items()}
    torch.manual_seed(0)
    order = torch.randperm(len(x))
    train, test, net = order[:-500], order[-500:], Reader()
    steps = epochs * (len(train) // 64)
    adam = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, 3e-3, steps)
    for step in range(steps):
        j = train[torch.randint(len(train), (64,))]
        b = x[j].float()
        b = b + .06 * torch.randn_like(b) * torch.rand(len(j), 1, 1, 1)
        if step % 3 == 0:       # used to soft pictures
            b = F.interpolate(F.avg_pool2d(b, 2), scale_factor=2, mode='bilinear')
        loss = sum(F.cross_entropy(v, y[k][j]) for k, v in net(b).items())
        adam.zero_grad()
        loss.backward()
        adam.step()
        rate.step()
    net.eval()
    with torch.no_grad():
        o = net(x[test].float())
    print({k: round((v.argmax(1) == y[k][test]).float().mean().item(), 3) for k, v in o.items()})
    torch.save(net.state_dict(), out)


def scene_prompts(n, seed=21):
    """Sentences of the plain kind; what they leave out is None and not scored."""
    rng, out = np.random.default_rng(seed), []
    while len(out) < n:
        a = scenes.sample_scene(rng)
        if len(a['objects']) > 1:
            continue
        land, sky = captions.TERRAIN[a['terrain']][0], captions.SKY[a['sky']][0]
        text = f'{land} {sky}'
        if a['objects']:
            item = a['objects'][0] = dict(a['objects'][0], size='medium')
            noun = (item['colour'] + ' ' + captions.NOUN[item['kind']][0]).strip()
            noun = noun if item['kind'] == 'birds' else captions.article(noun)
            where = 'over' if item['kind'] in scenes.IN_AIR else captions.PLACE[a['terrain']][0]
            text = f'{noun}{captions.SIDE[item["side"]][0]} {where} {land} {sky}'
        if a['light'] and rng.random() < .6:
            name = 'the sun' if a['light'] == 'sun' else 'a ' + a['light']
            text += f' and {name}{captions.SIDE[a["light_side"]][0]}'
        else:
            a['light'] = None
        out.append((text, a))
    return out


def load_reader(path):
    net = Reader()
    net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval()


@torch.no_grad()
def read(net, pictures):
    o = net(small(pictures))
    best = {k: v.argmax(1).tolist() for k, v in o.items()}
    return [{k: HEADS[k][best[k][i]] for k in HEADS} for i in range(len(pictures))]


def score_scenes(net, pictures, prompts):
    rows, whole = {k: [] for k in HEADS}, []
    for got, (_, a) in zip(read(net, pictures), prompts):
        want, ok = labels(a), True
        for k in HEADS:
            if k in ('light', 'light_side') and a['light'] is None:
                continue
            if k in ('colour', 'side') and not want[k]:
                continue
            good = got[k] == want[k]
            rows[k].append(good)
            ok &= good
        whole.append(ok)
    return {**{k: np.mean(v) for k, v in rows.items()}, 'everything': np.mean(whole)}


# ------------------------------------------------------------------------------------------ runs
def show(title, result):
    print(f'{title}: ' + ', '.join(f'{k} {100 * v:.0f} %' for k, v in result.items()), flush=True)


def shrink(pictures):
    return np.stack([np.asarray(Image.fromarray(p).resize((128, 128), Image.BOX))
                     for p in pictures])


def truth(reader, vae):
    rng, vae, net = np.random.default_rng(4), V.load(vae), load_reader(reader)

    def through(x):
        with torch.no_grad():
            return np.concatenate([V.to_bytes(vae.decoder(vae.moments(V.to_float(x[i:i + 8]))[0]))
                                   for i in range(0, len(x), 8)])
    for title, prompts in (('one shape', shape_prompts(100)), ('two shapes', pair_prompts(48))):
        x = np.stack([scenes.render(rng, a, 128, 128) for _, a in prompts])
        show(title + ', drawn', score_shapes(x, prompts))
        show(title + ', after the VAE', score_shapes(through(x), prompts))
    prompts = scene_prompts(96)
    x = np.stack([scenes.render(rng, dict(a, light=a['light'] or ''), 128, 128)
                  for _, a in prompts])
    show('scenes, drawn', score_scenes(net, x, prompts))
    show('scenes, after the VAE', score_scenes(net, through(x), prompts))


class Engine:
    """Paints with the program, one call per picture; size and steps only when they are given."""

    def __init__(self, model, program):
        self.model, self.program = model, program

    def __call__(self, prompts, w, h, seed, **k):
        out = []
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'picture.png')
            for i, prompt in enumerate(prompts):
                subprocess.run([self.program, 'generate', prompt, '-o', path, '--model', self.model,
                                '--width', str(w), '--height', str(h), '--seed', str(seed + i),
                                '--steps', str(k['steps']), '--cfg', str(k['cfg'])],
                               check=True, capture_output=True)
                out.append(np.asarray(Image.open(path).convert('RGB')))
        return np.stack(out)


def main():
    a = argparse.ArgumentParser()
    a.add_argument('checkpoint')
    a.add_argument('reader')
    a.add_argument('vae')
    for name, kind, default in (('size', int, 256), ('steps', int, 16), ('cfg', float, 4.),
                                ('shift', float, 3.), ('seed', int, 0), ('threads', int, 1),
                                ('grid', str, ''), ('part', float, 1.)):
        a.add_argument('--' + name, type=kind, default=default)
    o = a.parse_args()
    torch.set_num_threads(o.threads)
    if o.checkpoint.endswith('.pt'):
        sampler = sample.Sampler(o.checkpoint, o.vae)
    else:
        sampler = Engine(o.checkpoint, o.vae)
    net, begun = load_reader(o.reader), time.time()
    print(f'{o.size}x{o.size}, {o.steps} steps, guidance {o.cfg}, shift {o.shift}')

    def draw(prompts):
        return sampler([p for p, _ in prompts], o.size, o.size, o.seed, steps=o.steps, cfg=o.cfg,
                       shift=o.shift)
    one, two, many = (f(round(n * o.part)) for f, n in
                      ((shape_prompts, 100), (pair_prompts, 48), (scene_prompts, 96)))
    a, b, c = draw(one), draw(two), draw(many)
    show('one shape', score_shapes(shrink(a), one))
    show('two shapes', score_shapes(shrink(b), two))
    show('scenes', score_scenes(net, c, many))
    print(f'{(time.time() - begun) / (len(a) + len(b) + len(c)):.2f} s per picture')
    if o.grid:
        sample.grid(np.concatenate([c[:48], a[:10], b[:6]]), 8, o.grid)
        print('\n'.join(p for p, _ in many[:48] + one[:10] + two[:6]))


if __name__ == '__main__':
    if sys.argv[1] == 'reader':
        torch.set_num_threads(1)
        train_reader(*sys.argv[2:4])
    elif sys.argv[1] == 'truth':
        truth(*sys.argv[2:4])
    else:
        main()
