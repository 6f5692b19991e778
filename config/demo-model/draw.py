"""Draws one set of training pictures of one size: NAME.npy (bytes) and NAME.pkl (attributes).

usage: draw.py FOLDER COUNT WIDTH HEIGHT SEED PROCESSES.  The same arguments give the same pictures.
"""
import pickle
import sys
from multiprocessing import Pool

import numpy as np

import scenes

CHUNK = 100
SHAPES = .27


def draw(job):
    seed, k, w, h = job
    rng = np.random.default_rng([seed, k, w, h])
    attrs = [scenes.sample(rng, SHAPES) for _ in range(CHUNK)]
    return k, np.stack([scenes.render(rng, a, w, h) for a in attrs]), attrs


def main(folder, count, w, h, seed, processes):
    n = count // CHUNK
    path = f'{folder}/{w}x{h}'
    out = np.lib.format.open_memmap(path + '.npy', 'w+', np.uint8, (n * CHUNK, h, w, 3))
    attrs = [None] * n
    with Pool(processes) as pool:
        for k, pictures, a in pool.imap_unordered(draw, [(seed, k, w, h) for k in range(n)]):
            out[k * CHUNK:(k + 1) * CHUNK] = pictures
            attrs[k] = a
    out.flush()
    with open(path + '.pkl', 'wb') as f:
        pickle.dump([a for part in attrs for a in part], f)
    print(f'{path}: {n * CHUNK} pictures', flush=True)


if __name__ == '__main__':
    main(sys.argv[1], *(int(v) for v in sys.argv[2:7]))
