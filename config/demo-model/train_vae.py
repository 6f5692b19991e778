"""Trains the autoencoder: both halves first, then the decoder alone on slightly noisy latents.

usage: train_vae.py full FOLDER OUT.pt MINUTES [START.pt]       on the set 128x128
       train_vae.py decoder FOLDER OUT.pt MINUTES START.pt      on every set that has latents

L1 + L2 + the L1 of the picture's differences (sharp edges); "full" adds a weak pull of the latents
towards a standard normal.  Weights are averaged; the averaged ones are written every two minutes.
"""
import glob
import math
import os
import sys
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image

import vae as V
from muon import Muon

HELD_OUT = 96
KL, EMA = .002, .99


def differences(x):
    return x[:, :, 1:] - x[:, :, :-1], x[:, :, :, 1:] - x[:, :, :, :-1]


def picture_loss(y, x, edges):
    e = y - x
    dx, dy = differences(e)
    square = e.square().mean()
    return e.abs().mean() + square + edges * (dx.abs().mean() + dy.abs().mean()), square


class Full:
    """Crops of the small pictures; a quarter of the steps decode latents averaged down by two."""
    muon, adam, edges = .02, 3e-3, .5

    def __init__(self, folder, vae, rank):
        self.pictures, self.vae = np.load(f'{folder}/128x128.npy', mmap_mode='r'), vae
        self.rng, self.count = np.random.default_rng(rank), 0
        self.device = next(vae.parameters()).device

    def parameters(self):
        return list(self.vae.named_parameters())

    def loss(self):
        rng, whole = self.rng, self.count % 6 == 0
        self.count += 1
        n, s = (1, 128) if whole else (4, 64)
        n *= 16 if self.device.type == 'cuda' else 1
        x = np.empty((n, s, s, 3), np.uint8)
        for k, i in enumerate(rng.integers(0, len(self.pictures) - HELD_OUT, n)):
            a, b = rng.integers(0, 129 - s, 2)
            x[k] = self.pictures[i, a:a + s, b:b + s][:, ::rng.choice([-1, 1])]
        x = V.to_float(x).to(self.device)
        mean, log_var = self.vae.moments(x)
        z = mean + torch.exp(.5 * log_var) * torch.randn_like(mean)
        if not whole and rng.random() < .25:
            z, x = F.avg_pool2d(z, 2), F.avg_pool2d(x, 2)
        loss, square = picture_loss(self.vae.decoder(z), x, self.edges)
        return loss + KL * .5 * (mean.square() + log_var.exp() - 1 - log_var).mean(), square

    def check(self, vae):
        x = V.to_float(self.pictures[-8:]).to(self.device)
        return x, vae.decoder(vae.moments(x)[0])


class DecoderOnly:
    """Whole pictures of every size, their latents with a little noise as the sampler leaves it."""
    muon, adam, edges, noise = .012, 1.5e-3, .7, .12

    def __init__(self, folder, vae, rank):
        self.sets, self.vae, self.rng = [], vae, np.random.default_rng(rank + 50)
        self.device = next(vae.parameters()).device
        for path in sorted(glob.glob(folder + '/*_z.npy')):
            x, z = np.load(path[:-6] + '.npy', mmap_mode='r'), np.load(path, mmap_mode='r')
            area = x.shape[1] * x.shape[2] / 65536
            self.sets.append((x, z, max(1, round(1 / area)), 1 if area < 1.6 else .12))
        share = np.array([s[3] for s in self.sets])
        self.share = share / share.sum()

    def parameters(self):
        return list(self.vae.decoder.named_parameters(prefix='decoder'))

    def loss(self):
        x, z, n, _ = self.sets[self.rng.choice(len(self.sets), p=self.share)]
        n *= 16 if self.device.type == 'cuda' else 1
        index = np.sort(self.rng.integers(0, len(z) - HELD_OUT, n))
        x, z = V.to_float(x[index]).to(self.device), torch.tensor(z[index]).float().to(self.device)
        z = z + self.noise * torch.rand(n, 1, 1, 1, device=z.device) * torch.randn_like(z)
        return picture_loss(self.vae.decoder(z), x, self.edges)

    def check(self, vae):
        x, z = next((s[0], s[1]) for s in self.sets if s[0].shape[1:3] == (128, 128))
        x, z = V.to_float(x[-HELD_OUT:]), torch.tensor(z[-HELD_OUT:]).float()
        return x.to(self.device), vae.decoder(z.to(self.device))


def optimisers(task):
    matrices = [(p, 1) for name, p in task.parameters() if p.dim() == 4 and 'conv_in' not in name
                and name != 'decoder.conv_out.weight']
    taken = {id(p) for p, _ in matrices}
    rest = [p for _, p in task.parameters() if id(p) not in taken]
    return Muon(matrices), torch.optim.AdamW(rest, betas=(.9, .98), weight_decay=0.)


@torch.no_grad()
def write(task, ema, out):
    torch.save({k: v.cpu() for k, v in ema.items()}, out)
    vae = V.VAE().to(task.device)
    vae.load_state_dict(ema)
    x, y = task.check(vae)
    rows = [np.concatenate(list(V.to_bytes(q[-8:])), 1) for q in (x, y)]
    Image.fromarray(np.concatenate(rows, 0)).save(out[:-3] + '.png')
    print(f'held out {10 * math.log10(4 / (x - y).square().mean().item()):.2f} dB', flush=True)


def main(kind, folder, out, minutes, start=''):
    rank, world = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
    device = 'cuda' if torch.cuda.is_available() and world == 1 else 'cpu'
    if device == 'cpu':
        torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group('gloo')
    torch.manual_seed(0)
    vae = V.load(start) if start else V.VAE()
    task = (Full if kind == 'full' else DecoderOnly)(folder, vae.to(device), rank)
    torch.manual_seed(100 + rank)
    muon, adam = optimisers(task)
    params = [p for _, p in task.parameters()]
    ema = {k: p.detach().clone() for k, p in vae.state_dict().items()}
    begun, step, next_write, sums = time.time(), 0, 2., []
    while True:
        spent = torch.tensor((time.time() - begun) / 60)
        if world > 1:
            dist.broadcast(spent, 0)
        f = spent.item() / float(minutes)
        if f >= 1:
            break
        rate = min(1, (step + 1) / 50) * (1 if f < .3 else .5 * (1 + math.cos(
            math.pi * (f - .3) / .7)) + .01)
        muon.param_groups[0]['lr'], adam.param_groups[0]['lr'] = task.muon * rate, task.adam * rate
        loss, square = task.loss()
        vae.zero_grad(set_to_none=True)
        loss.backward()
        if world > 1:
            flat = torch.cat([p.grad.flatten() for p in params])
            dist.all_reduce(flat)
            at = 0
            for p in params:
                p.grad.copy_(flat[at:at + p.numel()].view_as(p) / world)
                at += p.numel()
        torch.nn.utils.clip_grad_norm_(params, 1.)
        muon.step(rank, world)
        adam.step()
        step += 1
        sums.append(square.item())
        with torch.no_grad():
            d = min(EMA, (1 + step) / (10 + step))
            for k, p in vae.state_dict().items():
                ema[k].lerp_(p, 1 - d)
        if rank == 0 and step % 100 == 0:
            print(f'{spent.item():.1f} min, step {step}, '
                  f'{10 * math.log10(4 / np.mean(sums[-100:])):.2f} dB', flush=True)
        if rank == 0 and spent.item() > next_write:
            next_write += 2
            write(task, ema, out)
    if rank == 0:
        write(task, ema, out)


if __name__ == '__main__':
    main(*sys.argv[1:])
