"""Trains the transformer and the text encoders together on latents of several sizes.

The noise level is drawn as in flow matching, the target is x0 - noise (HiDream's sign).  Run it
alone (CUDA when there is some) or as single-threaded processes with RANK and WORLD_SIZE set.
It stops after --minutes; --out.state holds everything needed to go on with --resume.
"""
import argparse
import json
import os
import pickle
import time

import numpy as np
import torch
import torch.distributed as dist

import captions
import sample
import vae as V
from model import CONFIG, TextEncoders, Transformer, tensors
from muon import Muon
from vocabulary import CLASSES, NEUTRAL, ROWS, Vocabulary

HELD_OUT = 96
# share of the steps, by phase of the training, of the sets of each kind of size
SMALL, MIDDLE, LARGE = ('128x128', '128x128', '192x128', '128x192'), \
    6 * ('256x256',) + ('320x192', '192x320', '256x192', '192x256', '384x256', '256x384'), \
    ('384x384', '512x512', '512x320', '320x512')
PHASES = ((.12, (.75, .25, 0)), (.45, (.36, .6, .04)), (1., (.2, .72, .08)))
# share of the pictures: one shape, two shapes, a landscape with up to one thing, with several
KINDS = .37, .06, .52, .05


def arguments():
    a = argparse.ArgumentParser()
    a.add_argument('--data', required=True)
    a.add_argument('--vae', required=True)
    a.add_argument('--out', required=True)
    a.add_argument('--minutes', type=float, required=True)
    a.add_argument('--tokens', type=int, default=2000, help='per process and step')
    a.add_argument('--muon', type=float, default=.02)
    a.add_argument('--lr', type=float, default=2e-3)
    a.add_argument('--ema', type=float, default=.998)
    a.add_argument('--hold', type=float, default=.5, help='share of the time at the full rate')
    a.add_argument('--grid', type=float, default=8, help='minutes between grids of pictures')
    a.add_argument('--init', default='')
    a.add_argument('--resume', action='store_true')
    return a.parse_args()


class Data:
    """Latents by size, with fresh captions, spoiled now and then the way users' texts are."""

    def __init__(self, folder, rank, shift=None, scale=None):
        self.folder, self.sets, self.kinds, self.vocabulary = folder, {}, {}, Vocabulary()
        z = self.get('128x128')[0][:2000].float()
        self.shift = z.mean().item() if shift is None else shift
        self.scale = 1 / z.std().item() if scale is None else scale
        self.rng = np.random.default_rng([1, rank])

    def get(self, name):
        if name not in self.sets:
            path = f'{self.folder}/{name}'
            with open(path + '.pkl', 'rb') as f:
                attrs = pickle.load(f)
            self.sets[name] = torch.from_numpy(np.load(path + '_z.npy', mmap_mode='c')), attrs
            kinds = np.array([kind(a) for a in attrs[:-HELD_OUT]])
            self.kinds[name] = [np.flatnonzero(kinds == k) for k in range(len(KINDS))]
        return self.sets[name]

    def latents(self, z):
        return (z.float() - self.shift) * self.scale

    def noise_words(self, n):
        rng, out = self.rng, []
        for _ in range(n):
            if rng.random() < .5:
                out.append(NEUTRAL[rng.integers(len(NEUTRAL))])
            else:
                out.append(''.join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(3, 10))))
        return out

    def caption(self, attrs):
        rng, r = self.rng, self.rng.random()
        if r < .10:
            return ' '.join(self.noise_words(rng.integers(1, 5))) if r < .015 else ''
        s = captions.caption(rng, attrs)
        if r < .20:
            words = s.split()
            at = 0 if rng.random() < .4 else rng.integers(len(words) + 1)
            words[at:at] = self.noise_words(rng.integers(1, 4))
            s = ' '.join(words)
        elif r < .26:
            s += pick_comma(rng) + ' '.join(self.noise_words(rng.integers(1, 4)))
        return s + '.' if rng.random() < .06 else s

    def fitting_caption(self, attrs, length):
        for _ in range(6):
            s = self.caption(attrs)
            if len(s.replace(',', ' ,').split()) < length - 1:
                break
        return s

    def batch(self, name, size, length, device):
        zs, attrs = self.get(name)
        index = np.array([self.rng.choice(self.kinds[name][k])
                          for k in self.rng.choice(len(KINDS), size, p=KINDS)])
        texts = [self.fitting_caption(attrs[i], length) for i in index]
        return (self.latents(zs[torch.from_numpy(index)]).to(device),
                tensors(self.vocabulary.encode(texts, length), device))


def kind(attrs):
    """The picture's place in KINDS."""
    if attrs['kind'] == 'shapes':
        return len(attrs['items']) - 1
    return 3 if len(attrs['objects']) > 1 else 2


def pick_comma(rng):
    return ', ' if rng.random() < .7 else ' '


def split_parameters(net):
    """Matrices of the blocks' attention and feed-forward go to Muon, the rest to AdamW."""
    muon, adam = [], []
    for name, p in net.named_parameters():
        if name.startswith('blocks.') and p.dim() == 2 and 'gate' not in name and 'ada' not in name:
            muon.append((p, 3 if 'qkv' in name else 2 if 'w13' in name else 1))
        else:
            adam.append(p)
    return muon, adam


def noise_levels(n, tokens, device):
    u = (torch.randperm(n) + torch.rand(n)) / n
    s = torch.sigmoid(torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4)))
    # the layout is decided under much noise, and large pictures keep it visible longer
    k = 1.5 * (tokens / 64) ** .35
    return (k * s / (1 + (k - 1) * s)).to(device)


def velocity_loss(net, text, z, ids, s, noise):
    t5, llama, pooled = text(ids)
    sb = s[:, None, None, None]
    y = net((1 - sb) * z + sb * noise, s, t5, llama, pooled)
    return (y - (z - noise)).square().mean((1, 2, 3))


class Validation:
    """The loss on pictures never trained on, always with the same noise and captions."""

    def __init__(self, data, names=('128x128', '256x256')):
        self.parts, g, rng = {}, torch.Generator().manual_seed(3), np.random.default_rng(5)
        for name in names:
            zs, attrs = data.get(name)
            z = data.latents(zs[-HELD_OUT:])
            texts = [captions.caption(rng, a) for a in attrs[-HELD_OUT:]]
            self.parts[name] = (z, tensors(data.vocabulary.encode(texts, ROWS)),
                                (torch.arange(len(z)) % 16 + .5) / 16,
                                torch.randn(z.shape, generator=g))

    @torch.no_grad()
    def __call__(self, net, text):
        out = []
        for name, (z, ids, s, noise) in self.parts.items():
            e = torch.cat([velocity_loss(net, text, z[j], {k: (a[j], b[j]) for k, (a, b)
                                                           in ids.items()}, s[j], noise[j])
                           for j in (slice(i, i + 16) for i in range(0, len(z), 16))])
            q = [f'{e[(s > a) & (s < a + .25)].mean():.3f}' for a in (0, .25, .5, .75)]
            out.append(f'{name} {e.mean():.4f} ({" ".join(q)})')
        return 'held out ' + ', '.join(out)


class Trainer:
    def __init__(self, o):
        self.o = o
        self.rank, self.world = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
        self.device = 'cuda' if torch.cuda.is_available() and self.world == 1 else 'cpu'
        if self.device == 'cpu':
            torch.set_num_threads(1)
        if self.world > 1:
            dist.init_process_group('gloo')
        torch.manual_seed(1)
        self.net, self.text = Transformer(CONFIG), TextEncoders(CLASSES, CONFIG)
        start = torch.load(o.init, weights_only=False) if o.init else {}
        if start:
            self.net.load_state_dict(start['transformer'])
            self.text.load_state_dict(start['text'])
        self.data = Data(o.data, self.rank, start.get('shift'), start.get('scale'))
        self.both = torch.nn.ModuleList([self.net, self.text]).to(self.device)
        self.params = list(self.both.parameters())
        muon, adam = split_parameters(self.net)
        self.muon = Muon(muon)
        self.adam = torch.optim.AdamW(adam + list(self.text.parameters()), betas=(.9, .98),
                                      weight_decay=0.)
        self.ema = [p.detach().clone() for p in self.params]
        self.step, self.spent, self.seen, self.losses = 0, 0., 0, []
        if o.resume:
            self.load(torch.load(o.out + '.state', weights_only=False))
        torch.manual_seed(1000 * self.rank + self.step)
        self.data.rng = np.random.default_rng([1, self.rank, self.step])
        self.validation = Validation(self.data) if self.rank == 0 else None

    def weights(self):
        """The averaged weights, as sample.py and export.py read them."""
        e = iter(self.ema)
        out = {part: {k: next(e).cpu().clone() for k, _ in m.named_parameters()}
               for part, m in (('transformer', self.net), ('text', self.text))}
        return dict(out, config=CONFIG, shift=self.data.shift, scale=self.data.scale)

    def save(self):
        torch.save(self.weights(), self.o.out + '.pt')
        state = dict(both=self.both.state_dict(), ema=self.ema, adam=self.adam.state_dict(),
                     muon=[self.muon.state[p]['mean'] for p, _ in self.muon.items],
                     step=self.step, spent=self.spent, seen=self.seen, shift=self.data.shift,
                     scale=self.data.scale)
        torch.save(state, self.o.out + '.state.tmp')
        os.replace(self.o.out + '.state.tmp', self.o.out + '.state')

    def load(self, s):
        self.both.load_state_dict(s['both'])
        self.adam.load_state_dict(s['adam'])
        for e, saved in zip(self.ema, s['ema']):
            e.copy_(saved)
        for (p, _), mean in zip(self.muon.items, s['muon']):
            self.muon.state[p]['mean'].copy_(mean)
        self.step, self.spent, self.seen = s['step'], s['spent'], s['seen']
        self.data.shift, self.data.scale = s['shift'], s['scale']

    def size(self, fraction):
        """The same set on every process: one size per step."""
        rng = np.random.default_rng([7, self.step])
        share = next(p for until, p in PHASES if fraction < until or until == 1.)
        sizes = (SMALL, MIDDLE, LARGE)[rng.choice(3, p=share)]
        return sizes[rng.integers(len(sizes))]

    def train_step(self, fraction):
        o, name = self.o, self.size(fraction)
        w, h = (int(v) for v in name.split('x'))
        tokens = w * h // 256
        n = max(1, round(o.tokens / (tokens * (1 + tokens / 4000) + 3 * ROWS)))
        z, ids = self.data.batch(name, n, ROWS, self.device)
        loss = velocity_loss(self.net, self.text, z, ids, noise_levels(n, tokens, self.device),
                             torch.randn_like(z)).mean()
        balance = sum(b.ff_i.balance for b in self.net.blocks) / len(self.net.blocks)
        self.both.zero_grad(set_to_none=True)
        (loss + .01 * balance).backward()
        if self.world > 1:
            flat = torch.cat([p.grad.flatten() for p in self.params])
            dist.all_reduce(flat)
            flat /= self.world
            at = 0
            for p in self.params:
                p.grad = flat[at:at + p.numel()].view_as(p)
                at += p.numel()
        torch.nn.utils.clip_grad_norm_(self.params, 1.)
        f = min(1, (self.step + 1) / 50)
        f *= 1 if fraction < o.hold else max(.02, (1 - fraction) / (1 - o.hold))
        self.muon.param_groups[0]['lr'], self.adam.param_groups[0]['lr'] = o.muon * f, o.lr * f
        self.muon.step(self.rank, self.world)
        self.adam.step()
        self.step += 1
        self.seen += n * self.world
        self.losses.append(loss.item())
        d = min(o.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.ema, [p.data for p in self.params], 1 - d)

    def report(self, minutes, check):
        line = (f'{minutes:.1f} min, step {self.step}, {self.seen} pictures, loss '
                f'{np.mean(self.losses[-50:]):.4f}, cpu {time.process_time() / 60:.1f} min')
        if check:
            live = [p.data for p in self.params]
            for p, e in zip(self.params, self.ema):
                p.data = e
            self.both.eval()
            line += ', ' + self.validation(self.net, self.text)
            self.both.train()
            for p, q in zip(self.params, live):
                p.data = q
        print(line, flush=True)

    def run(self):
        o, begun, before = self.o, time.time(), self.spent
        grid_at, save_at = self.spent + o.grid, self.spent + 3
        while True:
            minutes = torch.tensor(before + (time.time() - begun) / 60)
            if self.world > 1:
                dist.broadcast(minutes, 0)
            minutes = self.spent = minutes.item()
            if minutes >= o.minutes:
                break
            self.train_step(minutes / o.minutes)
            if self.rank:
                continue
            if self.step % 50 == 0:
                self.report(minutes, self.device == 'cpu' and self.step % 400 == 0)
            if minutes > save_at:
                self.save()
                save_at = minutes + 3
            if minutes > grid_at:
                grid_at = minutes + o.grid
                self.pictures(f'{o.out}_{round(minutes):03d}.png')
        if self.rank == 0:
            self.report(minutes, self.device == 'cpu')
            self.save()
            self.pictures(o.out + '_end.png')

    def pictures(self, path):
        s = sample.Sampler(self.weights(), V.load(self.o.vae))
        sample.grid(s(sample.PROMPTS, 192, 192), 8, path)


if __name__ == '__main__':
    options = arguments()
    if int(os.environ.get('RANK', 0)) == 0:
        print(json.dumps(vars(options)), flush=True)
    Trainer(options).run()
