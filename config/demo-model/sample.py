"""Prompts to pictures with a training checkpoint: Euler steps, classifier-free guidance.

The sigmas are those of FlowMatchEulerDiscreteScheduler, so that the engine's pictures agree.
"""
import numpy as np
import torch
from PIL import Image

import vae as V
from model import TextEncoders, Transformer, tensors
from vocabulary import CLASSES, ROWS, Vocabulary

PROMPTS = [
    'a red house on green hills on a sunny day', 'snowy mountains at sunset',
    'a white sailboat on the sea at sunset with the sun on the right',
    'a city skyline at night with a full moon on the left',
    'a cactus on the right in the desert on a clear day',
    'a yellow hot air balloon on the left over a pine forest under a bright sky',
    'a house in a snowy field at night under the stars with a crescent moon on the right',
    'a red lighthouse on the left on the sea under a stormy sky',
    'a pink tree in the middle on rolling hills at sunrise',
    'flying birds over the ocean at sunset and the sun on the right',
    'a red circle on a blue background', 'a yellow star on a purple background',
    'a small green square on the left on a white background',
    'a big pink heart on a black background',
    'a blue triangle on the left and an orange circle on the right on a gray background',
    'a purple balloon over a city at dawn',
]


def sigmas(steps, shift):
    def warp(s):
        return shift * s / (1 + (shift - 1) * s)
    s = warp(np.linspace(1, warp(.001), steps))
    return [*s.tolist(), 0.]


class Sampler:
    def __init__(self, checkpoint, vae):
        c = checkpoint
        if isinstance(c, str):
            c = torch.load(c, weights_only=False)
        self.c, self.vocabulary = c['config'], Vocabulary()
        self.net, self.text = Transformer(self.c).eval(), TextEncoders(CLASSES, self.c).eval()
        self.net.load_state_dict(c['transformer'])
        self.text.load_state_dict(c['text'])
        self.shift, self.scale = c['shift'], c['scale']
        self.vae = V.load(vae) if isinstance(vae, str) else vae

    @torch.no_grad()
    def latents(self, prompts, w, h, steps=16, cfg=4., seed=0, shift=3., negative='', noise=None):
        n = len(prompts)
        x = noise
        if x is None:
            x = torch.randn(n, 16, h // 8, w // 8, generator=torch.Generator().manual_seed(seed))
        guided = cfg > 1
        texts = list(prompts) + ([negative] * n if guided else [])
        t5, llama, pooled = self.text(tensors(self.vocabulary.encode(texts, ROWS)))
        s = sigmas(steps, shift)
        for now, then in zip(s, s[1:]):
            both = torch.cat([x, x]) if guided else x
            v = -self.net(both, torch.full((len(both),), now), t5, llama, pooled)
            if guided:
                yes, no = v.chunk(2)
                v = no + cfg * (yes - no)
            x = x + (then - now) * v
        return x

    @torch.no_grad()
    def decode(self, z):
        return V.to_bytes(self.vae.decoder(z / self.scale + self.shift))

    def __call__(self, prompts, w=256, h=256, seed=0, **k):
        step = max(1, 32 * 128 * 128 // (w * h))
        return np.concatenate([
            self.decode(self.latents(prompts[i:i + step], w, h, seed=seed + i, **k))
            for i in range(0, len(prompts), step)])


def grid(pictures, columns, path):
    rows = [np.concatenate(list(pictures[i:i + columns]), 1)
            for i in range(0, len(pictures) - columns + 1, columns)]
    Image.fromarray(np.concatenate(rows, 0)).save(path)


if __name__ == '__main__':
    import argparse
    import time
    a = argparse.ArgumentParser()
    a.add_argument('checkpoint')
    a.add_argument('vae')
    a.add_argument('out')
    a.add_argument('prompts', nargs='*')
    for name, kind, default in (('width', int, 256), ('height', int, 256), ('steps', int, 16),
                                ('cfg', float, 4.), ('shift', float, 3.), ('seed', int, 0),
                                ('columns', int, 4), ('threads', int, 1), ('negative', str, '')):
        a.add_argument('--' + name, type=kind, default=default)
    o = a.parse_args()
    torch.set_num_threads(o.threads)
    start = time.time()
    ims = Sampler(o.checkpoint, o.vae)(
        o.prompts or PROMPTS, o.width, o.height, o.seed, steps=o.steps, cfg=o.cfg, shift=o.shift,
        negative=o.negative)
    print(f'{(time.time() - start) / len(ims):.2f} s per picture')
    grid(ims, min(o.columns, len(ims)), o.out)
