#!/usr/bin/env python3
"""Steps of the middle-sized transformer of bench_engine.c against PyTorch on the same CPU.

Engine and PyTorch make steps in turns, so that the load of the machine meets both.  Medians are
printed; a ratio is the median of the rounds' ratios, and a line beside it tells the least and the
largest of them.  PyTorch's model is that of config/demo-model/model.py (fused projections, experts as
sorted blocks, scaled_dot_product_attention), with the texts projected beforehand as the engine does.
Resident memory is that of a process that has one model and has made steps.

THREADS="2 4" ROUNDS=7 change what is measured; VERBOSE=1 prints every step.
"""
import os
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ENGINE = os.path.join(os.environ.get('BUILD', os.path.join(ROOT, 'build')), 'tests/bench/bench_engine')
SIDE, TEXT = 64, 128
CONFIG = dict(dim=640, head=128, double=4, single=8, expert=1792, shared=1024, text_ff=1792, experts=4,
              active=2, latent=16, axes=(64, 32, 32), clip=1024, t5=640, llama=640)


def resident_megabytes():
    with open('/proc/self/statm', encoding='ascii') as f:
        return int(f.read().split()[1]) * os.sysconf('SC_PAGESIZE') // 2 ** 20


def serve(threads, kind):
    """The PyTorch side: a step for each line that comes in."""
    import torch
    sys.path.insert(0, os.path.join(ROOT, 'config/demo-model'))
    import model
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    dtype = {'float32': torch.float32, 'bfloat16': torch.bfloat16}[kind]
    with torch.inference_mode():
        net = model.Transformer(CONFIG).eval()
        net.cap = torch.nn.ModuleList([torch.nn.Identity()] * (CONFIG['double'] + CONFIG['single'] + 1))
        net = net.to(dtype)
        net.t_embedder.register_forward_pre_hook(lambda _, given: (given[0].to(dtype),))
        net.tables = {(SIDE // 2, SIDE // 2): tuple(t.to(dtype) for t in
                                                    model.rope_table(SIDE // 2, SIDE // 2, CONFIG['axes']))}
        z = torch.randn(1, 16, SIDE, SIDE, dtype=dtype)
        text = torch.randn(1, TEXT, CONFIG['dim'], dtype=dtype)
        llama = [text] * (CONFIG['double'] + CONFIG['single'])
        pooled, sigma = torch.randn(1, 2048, dtype=dtype), torch.full((1,), .5, dtype=dtype)
        for _ in sys.stdin:
            start = time.perf_counter()
            net(z, sigma, text, llama, pooled)
            print(f'{time.perf_counter() - start:.5f} {resident_megabytes()}', flush=True)


def bfloat16_pays(threads):
    """Without instructions for it a product takes many times as long as in float32: not worth waiting for."""
    import torch
    torch.set_num_threads(threads)
    took = {}
    with torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16):
            x, w = torch.randn(256, 640, dtype=dtype), torch.randn(1792, 640, dtype=dtype)
            took[dtype] = []
            for _ in range(4):
                start_time = time.perf_counter()
                x @ w.T
                took[dtype].append(time.perf_counter() - start_time)
    return min(took[torch.bfloat16]) < 3 * min(took[torch.float32])


def start(*command):
    return subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def step(process):
    process.stdin.write('\n')
    process.stdin.flush()
    seconds, megabytes = process.stdout.readline().split()
    return float(seconds), int(megabytes)


def measure(threads, rounds):
    peers = {f'{maker} {kind}': start(*command, threads, kind)
             for maker, command, kinds in (('engine', (ENGINE, 'steps'), ('float32', 'fast')),
                                           ('torch', (sys.executable, __file__), ('float32', 'bfloat16')))
             for kind in kinds if kind != 'bfloat16' or bfloat16_pays(threads)}
    took, memory = {name: [] for name in peers}, {}
    try:
        for _ in range(rounds):
            for name, process in peers.items():
                if name == 'torch bfloat16' and took[name] and took[name][0] > 1.5 * took['torch float32'][0]:
                    continue  # no instructions for it: once is enough
                seconds, memory[name] = step(process)
                took[name].append(seconds)
                if os.environ.get('VERBOSE'):
                    print(f'# {name}: {seconds:.3f} s, {memory[name]} MB', flush=True)
    finally:
        for process in peers.values():
            process.stdin.close()
            process.wait()
            process.stdout.close()
    report(threads, took, memory)


def report(threads, took, memory):
    """The first round warms up: memory is touched and weights are packed for the first time."""
    took = {name: values[1:] or values for name, values in took.items()}
    both = took.get('torch bfloat16', [])
    best = ([min(pair) for pair in zip(took['torch float32'], both)] if len(both) == len(took['torch float32'])
            else took['torch float32'])
    for kind, peer, values in (('float32', 'pytorch float32', took['torch float32']), ('fast', 'best of pytorch', best)):
        own = took['engine ' + kind]
        ratios = [a / b for a, b in zip(own, values)]
        print(f'bench torch_{kind}_{threads}_threads: {statistics.median(own):.3f} s/step | {peer} '
              f'{statistics.median(values):.3f} s/step | ratio {statistics.median(ratios):.2f}')
        print(f'# {len(ratios)} rounds: ratios {min(ratios):.2f} to {max(ratios):.2f}, '
              f'least times {min(own):.3f} and {min(values):.3f} s')
    bfloat16 = f'{statistics.median(both):.3f} s/step' if both else 'over three times float32'
    print(f'# pytorch bfloat16: {bfloat16} at {threads} threads')
    for kind in ('float32', 'fast'):
        own, peer = memory['engine ' + kind], memory['torch float32']
        print(f'bench torch_memory_{kind}_{threads}_threads: {own} MB | pytorch float32 {peer} MB | '
              f'ratio {own / peer:.2f}')
    sys.stdout.flush()


def main():
    os.environ.pop('OPENBLAS_CORETYPE', None)
    if len(sys.argv) == 3:
        return serve(int(sys.argv[1]), sys.argv[2])
    try:
        import torch  # noqa: F401
    except ImportError:
        print('# bench torch: PyTorch is not installed (config/box -g train)')
        return None
    for threads in os.environ.get('THREADS', '2 4').split():
        measure(int(threads), int(os.environ.get('ROUNDS', '7')))
    return None


if __name__ == '__main__':
    main()
