"""Latents (the means, float16) of sets of pictures: NAME.npy -> NAME_z.npy.

usage: encode.py VAE.pt FOLDER NAME ...
"""
import os
import sys

import numpy as np
import torch

import vae as V


@torch.no_grad()
def encode(vae, path):
    pictures = np.load(path + '.npy', mmap_mode='r')
    device = next(vae.parameters()).device
    n, h, w, _ = pictures.shape
    out = np.lib.format.open_memmap(path + '_part.npy', 'w+', np.float16,
                                    (n, V.LATENT, h // 8, w // 8))
    step = max(1, 256 * 256 * (512 if device.type == 'cuda' else 4) // (h * w))
    for i in range(0, n, step):
        x = V.to_float(np.ascontiguousarray(pictures[i:i + step])).to(device)
        out[i:i + step] = vae.moments(x)[0].cpu().numpy()
    out.flush()
    os.replace(path + '_part.npy', path + '_z.npy')
    some = out[:500].astype(np.float32)
    print(f'{path}: {out.shape} mean {some.mean():.4f} deviation {some.std():.4f}', flush=True)


if __name__ == '__main__':
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if device == 'cpu':
        torch.set_num_threads(1)
    model = V.load(sys.argv[1]).to(device)
    for name in sys.argv[3:]:
        encode(model, f'{sys.argv[2]}/{name}')
