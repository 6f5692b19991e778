"""Runs an exported folder from its files alone and compares every part with the training model.

usage: check_export.py CHECKPOINT.pt VAE.pt FOLDER

A second implementation in the published form (token ids from the tokenizer files, separate q/k/v,
interleaved rope, diffusers' parameter names, settings from the config files); shares no code with
model.py.  Exits with 1 when a part differs by more than the rounding of its number format allows.
"""
import json
import math
import re
import sys

import numpy as np
import torch
import torch.nn.functional as F

import sample
from model import tensors

PROMPTS = ['A red house on green hills at sunset, masterpiece', '',
           'zebra at night with xylophones and a full moon on the left.']


class Files:
    def __init__(self, folder):
        self.folder, self.half = folder, False

    def json(self, path):
        with open(f'{self.folder}/{path}') as f:
            return json.load(f)

    def weights(self, part, name='model'):
        with open(f'{self.folder}/{part}/{name}.safetensors', 'rb') as f:
            b = f.read()
        n = int.from_bytes(b[:8], 'little')
        header, kinds = json.loads(b[8:8 + n]), {'F32': np.float32, 'F16': np.float16}
        self.half |= any(v['dtype'] == 'F16' for v in header.values())
        return {k: torch.from_numpy(np.frombuffer(
            b[8 + n + v['data_offsets'][0]:8 + n + v['data_offsets'][1]],
            kinds[v['dtype']]).reshape(v['shape']).astype(np.float32))
            for k, v in header.items()}


def linear(w, x, k):
    return F.linear(x, w[k + '.weight'], w.get(k + '.bias'))


def rms(w, x, k, eps):
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps) * w[k + '.weight']


def layer_norm(w, x, k, eps):
    return F.layer_norm(x, (x.shape[-1],), w[k + '.weight'], w[k + '.bias'], eps)


def heads(x, n):
    return x.unflatten(-1, (n, -1)).transpose(1, 2)


def attend(q, k, v, n, mask, scale=None):
    q, k, v = (heads(t, n) for t in (q, k, v))
    s = q @ k.transpose(2, 3) * (scale or q.shape[-1] ** -.5)
    return (s + mask).softmax(-1).matmul(v).transpose(1, 2).flatten(2)


# ------------------------------------------------------------------------------------ tokenizers
def bytes_as_text(s):
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = {b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in keep)}
    return [other.get(b, chr(b)) for b in s.encode()]


def pair_up(parts, ranks):
    while True:
        best = min((ranks.get((a, b), 1 << 30), i) for i, (a, b) in
                   enumerate(zip(parts, parts[1:]))) if len(parts) > 1 else (1 << 30, 0)
        if best[0] == 1 << 30:
            return parts
        i = best[1]
        parts = parts[:i] + [parts[i] + parts[i + 1]] + parts[i + 2:]


def clip_ids(files, part, text, n):
    vocab = files.json(f'{part}/vocab.json')
    with open(f'{files.folder}/{part}/merges.txt') as f:
        ranks = {tuple(q.split()): i for i, q in enumerate(f.read().split('\n')[1:]) if q}
    config = files.json(f'{part}/tokenizer_config.json')
    out = []
    for w in re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]+", text.lower()):
        parts = bytes_as_text(w)
        out += [vocab[p] for p in pair_up(parts[:-1] + [parts[-1] + '</w>'], ranks)]
    ids = [vocab[config['bos_token']]] + out[:n - 2] + [vocab[config['eos_token']]]
    return ids + [vocab[config['pad_token']]] * (n - len(ids))


def t5_ids(files, text, n):
    j = files.json('tokenizer_3/tokenizer.json')
    table = {p: (s, i) for i, (p, s) in enumerate(j['model']['vocab']) if i > 2}
    out = []
    for w in text.split():
        w = '\u2581' + w
        best = [(0., [])] + [(-1e9, [])] * len(w)
        for e in range(1, len(w) + 1):
            for b in range(e):
                s, i = table.get(w[b:e], (-100., 2) if e - b == 1 else (-1e9, 2))
                if best[b][0] + s > best[e][0]:
                    best[e] = best[b][0] + s, best[b][1] + [i]
        out += best[-1][1]
    ids = out[:n - 1] + [1]
    return ids + [0] * (n - len(ids)), len(ids)


def llama_ids(files, text, n):
    j = files.json('tokenizer_4/tokenizer.json')
    vocab = j['model']['vocab']
    ranks = {tuple(q.split()): i for i, q in enumerate(j['model']['merges'])}
    special = {t['content']: t['id'] for t in j['added_tokens']}
    out = []
    for w in re.findall(r"[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]{1,3}| ?[^\sA-Za-z0-9]+|\s+", text):
        parts = bytes_as_text(w)
        whole = ''.join(parts)
        out += [vocab[whole]] if whole in vocab else [vocab[p] for p in pair_up(parts, ranks)]
    ids = [special['<|begin_of_text|>']] + out[:n - 1]
    return ids + [special['<|eot_id|>']] * (n - len(ids)), len(ids)


# ---------------------------------------------------------------------------------- text encoders
def clip(files, part, ids):
    w, c = files.weights(part), files.json(part + '/config.json')
    p, n = 'text_model.', ids.shape[1]
    x = w[p + 'embeddings.token_embedding.weight'][ids] + \
        w[p + 'embeddings.position_embedding.weight'][:n]
    mask = torch.full((n, n), -math.inf).triu(1)
    for i in range(c['num_hidden_layers']):
        k = f'{p}encoder.layers.{i}.'
        y = layer_norm(w, x, k + 'layer_norm1', c['layer_norm_eps'])
        q = [linear(w, y, f'{k}self_attn.{a}_proj') for a in 'qkv']
        x = x + linear(w, attend(*q, c['num_attention_heads'], mask), k + 'self_attn.out_proj')
        y = linear(w, layer_norm(w, x, k + 'layer_norm2', c['layer_norm_eps']), k + 'mlp.fc1')
        x = x + linear(w, y * torch.sigmoid(1.702 * y), k + 'mlp.fc2')
    x = layer_norm(w, x, p + 'final_layer_norm', c['layer_norm_eps'])
    end = (ids == c['eos_token_id']).int().argmax(1)
    return linear(w, x[torch.arange(len(x)), end], 'text_projection')


def t5(files, ids, lengths):
    w, c = files.weights('text_encoder_3'), files.json('text_encoder_3/config.json')
    n, eps, h = ids.shape[1], c['layer_norm_epsilon'], c['num_heads']
    half = c['relative_attention_num_buckets'] // 2
    r = torch.arange(n)[None] - torch.arange(n)[:, None]
    bucket = (r > 0) * half + r.abs()
    assert r.abs().max() < half // 2
    key = 'encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight'
    mask = w[key][bucket].permute(2, 0, 1)[None].repeat(len(ids), 1, 1, 1)
    for i, m in enumerate(lengths):
        mask[i, :, :, m:] = torch.finfo(torch.float32).min
    x = w['shared.weight'][ids]
    for i in range(c['num_layers']):
        k = f'encoder.block.{i}.layer.'
        y = rms(w, x, k + '0.layer_norm', eps)
        q = [linear(w, y, f'{k}0.SelfAttention.{a}') for a in 'qkv']
        x = x + linear(w, attend(*q, h, mask, 1.), k + '0.SelfAttention.o')
        y, k = rms(w, x, k + '1.layer_norm', eps), k + '1.DenseReluDense.'
        y = F.gelu(linear(w, y, k + 'wi_0'), approximate='tanh') * linear(w, y, k + 'wi_1')
        x = x + linear(w, y, k + 'wo')
    return rms(w, x, 'encoder.final_layer_norm', eps)


def llama(files, ids, lengths):
    w, c = files.weights('text_encoder_4'), files.json('text_encoder_4/config.json')
    n, eps, d = ids.shape[1], c['rms_norm_eps'], c['head_dim']
    a = torch.arange(n)[:, None] / c['rope_theta'] ** (torch.arange(0, d, 2) / d)
    cos, sin = (torch.cat([f, f], -1)[:, None] for f in (a.cos(), a.sin()))

    def turn(x):
        x = x.unflatten(-1, (-1, d))
        p, q = x.chunk(2, -1)
        return (x * cos + torch.cat([-q, p], -1) * sin).flatten(2)
    mask = torch.full((n, n), -math.inf).triu(1)[None, None].repeat(len(ids), 1, 1, 1)
    for i, m in enumerate(lengths):
        mask[i, :, :, m:] = -math.inf
    x, out = w['model.embed_tokens.weight'][ids], []
    for i in range(c['num_hidden_layers']):
        k = f'model.layers.{i}.'
        y = rms(w, x, k + 'input_layernorm', eps)
        q, key, v = (linear(w, y, f'{k}self_attn.{s}_proj') for s in 'qkv')
        y = attend(turn(q), turn(key), v, c['num_attention_heads'], mask)
        x = x + linear(w, y, k + 'self_attn.o_proj')
        y, k = rms(w, x, k + 'post_attention_layernorm', eps), k + 'mlp.'
        y = F.silu(linear(w, y, k + 'gate_proj')) * linear(w, y, k + 'up_proj')
        x = x + linear(w, y, k + 'down_proj')
        out.append(x)
    out[-1] = rms(w, x, 'model.norm', eps)
    return out


# ----------------------------------------------------------------------------------- transformer
class HiDream:
    def __init__(self, files):
        part = 'transformer'
        self.w = files.weights(part, 'diffusion_pytorch_model')
        self.c = files.json(part + '/config.json')
        self.h = self.c['num_attention_heads']

    def ff(self, x, k):
        w = self.w
        return linear(w, F.silu(linear(w, x, k + '.w1')) * linear(w, x, k + '.w3'), k + '.w2')

    def moe(self, x, k):
        p = F.linear(x, self.w[k + '.gate.weight']).softmax(-1)
        best, index = p.topk(self.c['num_activated_experts'], -1)
        y = self.ff(x, k + '.shared_experts')
        for e in range(self.c['num_routed_experts']):
            y = y + self.ff(x, f'{k}.experts.{e}') * (best * (index == e)).sum(-1, keepdim=True)
        return y

    def attention(self, streams, k, angle, suffixes):
        w, q, key, v = self.w, [], [], []
        for x, s in zip(streams, suffixes):
            q.append(rms(w, linear(w, x, f'{k}.to_q{s}'), f'{k}.q_rms_norm{s}', 1e-5))
            key.append(rms(w, linear(w, x, f'{k}.to_k{s}'), f'{k}.k_rms_norm{s}', 1e-5))
            v.append(linear(w, x, f'{k}.to_v{s}'))
        cos, sin = angle.cos()[None, :, None], angle.sin()[None, :, None]

        def turn(parts):
            x = torch.cat(parts, 1).unflatten(-1, (self.h, -1))
            a, b = x[..., 0::2], x[..., 1::2]
            return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-3)
        o = attend(turn(q), turn(key), torch.cat(v, 1), self.h, 0.)
        n = streams[0].shape[1]
        parts = [o[:, :n], o[:, n:]] if len(streams) == 2 else [o]
        return [linear(w, p, f'{k}.to_out{s}') for p, s in zip(parts, suffixes)]

    def __call__(self, z, sigma, t5_rows, states, pooled):
        w, c = self.w, self.c
        b, ch, hh, ww = z.shape
        h, wd = hh // 2, ww // 2
        n = h * wd
        assert hh == ww or n >= c['max_resolution'][0] * c['max_resolution'][1] // 4
        x = linear(w, z.view(b, ch, h, 2, wd, 2).permute(0, 2, 4, 3, 5, 1).reshape(b, n, 4 * ch),
                   'x_embedder.proj')
        a = sigma[:, None] * 1000 * torch.exp(-math.log(10000) * torch.arange(128) / 128)

        def mlp(v, k):
            return linear(w, F.silu(linear(w, v, k + '.linear_1')), k + '.linear_2')
        cond = F.silu(mlp(torch.cat([a.cos(), a.sin()], -1), 't_embedder.timestep_embedder') +
                      mlp(pooled, 'p_embedder.pooled_embedder'))
        count = len(c['llama_layers'])
        own = [linear(w, states[layer], f'caption_projection.{i}.linear')
               for i, layer in enumerate(c['llama_layers'])]
        text = torch.cat([linear(w, t5_rows, f'caption_projection.{count}.linear'), own[-1]], 1)
        rows = text.shape[1]
        place = torch.zeros(n + rows + own[0].shape[1], 3)
        place[:n, 1] = torch.arange(h).repeat_interleave(wd)
        place[:n, 2] = torch.arange(wd).repeat(h)
        angle = torch.cat([place[:, i:i + 1] / 10000. ** (torch.arange(0, d, 2) / d)
                           for i, d in enumerate(c['axes_dims_rope'])], -1)

        def normed(v, shift, scale):
            return F.layer_norm(v, (v.shape[-1],), eps=1e-6) * (1 + scale) + shift
        for i in range(c['num_layers']):
            k = f'double_stream_blocks.{i}.block'
            m = linear(w, cond, k + '.adaLN_modulation.1')[:, None].chunk(12, -1)
            y = torch.cat([text, own[i]], 1)
            p, q = self.attention([normed(x, m[0], m[1]), normed(y, m[6], m[7])], k + '.attn1',
                                  angle, ['', '_t'])
            x, y = x + m[2] * p, y + m[8] * q
            x = x + m[5] * self.moe(normed(x, m[3], m[4]), k + '.ff_i')
            y = y + m[11] * self.ff(normed(y, m[9], m[10]), k + '.ff_t')
            text = y[:, :rows]
        x = torch.cat([x, text], 1)
        for i in range(c['num_single_layers']):
            k = f'single_stream_blocks.{i}.block'
            m = linear(w, cond, k + '.adaLN_modulation.1')[:, None].chunk(6, -1)
            y = torch.cat([x, own[c['num_layers'] + i]], 1)
            y = y + m[2] * self.attention([normed(y, m[0], m[1])], k + '.attn1', angle, [''])[0]
            x = (y + m[5] * self.moe(normed(y, m[3], m[4]), k + '.ff_i'))[:, :n + rows]
        shift, scale = linear(w, cond, 'final_layer.adaLN_modulation.1')[:, None].chunk(2, -1)
        x = linear(w, normed(x[:, :n], shift, scale), 'final_layer.linear')
        return x.view(b, h, wd, 2, 2, ch).permute(0, 5, 1, 3, 2, 4).reshape(b, ch, hh, ww)


# ------------------------------------------------------------------------------------------- VAE
def decode(files, z):
    w, c = files.weights('vae', 'diffusion_pytorch_model'), files.json('vae/config.json')
    groups = c['norm_num_groups']

    def conv(x, k):
        kernel = w[k + '.weight']
        return F.conv2d(x, kernel, w[k + '.bias'], padding=kernel.shape[-1] // 2)

    def group(x, k):
        return F.group_norm(x, groups, w[k + '.weight'], w[k + '.bias'], 1e-6)

    def resnet(x, k):
        y = conv(F.silu(group(x, k + '.norm1')), k + '.conv1')
        y = conv(F.silu(group(y, k + '.norm2')), k + '.conv2')
        return y + (conv(x, k + '.conv_shortcut') if k + '.conv_shortcut.weight' in w else x)
    x = conv(z / c['scaling_factor'] + c['shift_factor'], 'decoder.conv_in')
    x = resnet(x, 'decoder.mid_block.resnets.0')
    k = 'decoder.mid_block.attentions.0'
    y = group(x, k + '.group_norm').flatten(2).transpose(1, 2)
    y = attend(*(linear(w, y, f'{k}.to_{a}') for a in 'qkv'), 1, 0.)
    x = x + linear(w, y, k + '.to_out.0').transpose(1, 2).reshape(x.shape)
    x = resnet(x, 'decoder.mid_block.resnets.1')
    levels = len(c['block_out_channels'])
    for i in range(levels):
        for r in range(c['layers_per_block'] + 1):
            x = resnet(x, f'decoder.up_blocks.{i}.resnets.{r}')
        if i < levels - 1:
            x = conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3),
                     f'decoder.up_blocks.{i}.upsamplers.0.conv')
    return conv(F.silu(group(x, 'decoder.conv_norm_out')), 'decoder.conv_out')


@torch.no_grad()
def main(checkpoint, vae, folder):
    torch.set_num_threads(1)
    files, s = Files(folder), sample.Sampler(checkpoint, vae)
    n, failed = s.c['length'], False
    files.weights('vae', 'diffusion_pytorch_model')

    def compare(name, a, b, limit):
        nonlocal failed
        d = ((a - b).square().mean() / b.square().mean()).sqrt().item()
        failed |= not d < limit
        print(f'{name}: relative difference {d:.1e}{"" if d < limit else "  TOO MUCH"}')
    limit = 2e-2 if files.half else 1e-4
    t5_ref, llama_ref, pooled_ref = s.text(tensors(s.vocabulary.encode(PROMPTS, n)))
    pooled = torch.cat([clip(files, f'text_encoder{k}', torch.tensor(
        [clip_ids(files, f'tokenizer{k}', p, n) for p in PROMPTS])) for k in ('', '_2')], -1)
    compare('CLIP', pooled, pooled_ref, limit)
    ids, lengths = zip(*(t5_ids(files, p, n) for p in PROMPTS))
    rows = t5(files, torch.tensor(ids), lengths)
    compare('T5', rows, t5_ref, limit)
    ids, lengths = zip(*(llama_ids(files, p, n) for p in PROMPTS))
    states = llama(files, torch.tensor(ids), lengths)
    layers = files.json('transformer/config.json')['llama_layers']
    for i, (layer, b) in enumerate(zip(layers, llama_ref)):
        compare(f'Llama, block {i}', states[layer], b, limit)
    net, g = HiDream(files), torch.Generator().manual_seed(1)
    for h, w in ((16, 16), (16, 24), (32, 20)):
        z = torch.randn(3, 16, h, w, generator=g)
        sigma = torch.tensor([.95, .5, .1])
        # an expert that changes by rounding is no error: the published form gets the same texts
        compare(f'transformer {w * 8}x{h * 8}', net(z, sigma, rows, states, pooled),
                s.net(z, sigma, t5_ref, llama_ref, pooled_ref), max(limit, 2e-3))
    z = torch.randn(2, 16, 16, 24, generator=g)
    compare('VAE decoder', decode(files, z), s.vae.decoder(z / s.scale + s.shift), limit)
    return failed


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
