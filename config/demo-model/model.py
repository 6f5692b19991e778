"""The HiDream-I1 transformer and its four text encoders, tiny, in a form that trains fast.

Differs from the published form only in layout: q/k/v and w1/w3 are fused and rope rotates halves
instead of neighbours; export.py undoes both.  Nothing here depends on the size of the picture.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

CONFIG = dict(dim=128, head=32, double=2, single=4, expert=128, shared=128, text_ff=256, experts=4,
              active=2, latent=16, axes=(8, 12, 12), clip=64, clip_layers=2, t5=96, t5_layers=2,
              llama=96, llama_layers=4, llama_map=(0, 1, 2, 2, 3, 3), length=32)


class Normalise(torch.autograd.Function):
    """RMS normalisation in few passes over memory; autograd's own takes twice as many."""

    @staticmethod
    def forward(ctx, x, weight):
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        scale = square.div_(x.shape[-1]).add_(1e-5).rsqrt_()
        unit = x * scale
        ctx.save_for_backward(unit, weight, scale)
        return unit * weight

    @staticmethod
    def backward(ctx, grad):
        unit, weight, scale = ctx.saved_tensors
        both = grad * unit
        along = (both @ weight)[..., None].div_(-unit.shape[-1])
        return (torch.addcmul(grad * weight, unit, along).mul_(scale),
                both.flatten(0, -2).sum(0))


class RMSNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return Normalise.apply(x, self.weight)


class FeedForward(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.w13 = nn.Linear(d, 2 * h, bias=False)
        self.w2 = nn.Linear(h, d, bias=False)

    def forward(self, x):
        a, b = self.w13(x).chunk(2, -1)
        return self.w2(F.silu(a) * b)


class MoE(nn.Module):
    """Top-k experts by softmax probability (not renormalised) beside one shared expert."""

    def __init__(self, c):
        super().__init__()
        d = c['dim']
        self.shared_experts = FeedForward(d, c['shared'])
        self.experts = nn.ModuleList([FeedForward(d, c['expert']) for _ in range(c['experts'])])
        self.gate = nn.Parameter(torch.randn(c['experts'], d) / math.sqrt(d))
        self.k, self.balance = c['active'], 0.

    def forward(self, x):
        shape, n = x.shape, len(self.experts)
        x = x.reshape(-1, shape[-1])
        p = F.linear(x, self.gate).softmax(-1)
        weight, index = p.topk(self.k, -1)
        if self.training:
            share = F.one_hot(index, n).sum(1).float().mean(0) * n / self.k
            self.balance = (p.mean(0) * share).sum()
        # rows sorted by expert, so that each expert reads one block of memory
        expert = index.flatten()
        order = expert.argsort()
        parts = x[order // self.k].split(torch.bincount(expert, minlength=n).tolist())
        y = torch.cat([e(part) for e, part in zip(self.experts, parts)])[order.argsort()]
        y = torch.einsum('nkd,nk->nd', y.view(-1, self.k, shape[-1]), weight)
        return (self.shared_experts(x) + y).reshape(shape)


def rope_table(h, w, axes):
    """cos and sin of every image token: no rotation on the first axis, then row, then column."""
    def speed(d):
        return 1 / 10000. ** (torch.arange(0, d, 2).float() / d)
    row = torch.arange(h).float()[:, None].expand(h, w).reshape(-1, 1)
    col = torch.arange(w).float()[None].expand(h, w).reshape(-1, 1)
    still = torch.zeros(h * w, axes[0] // 2)
    a = torch.cat([still, row * speed(axes[1]), col * speed(axes[2])], -1)
    return a.cos(), a.sin()


def rope(x, table):
    a, b = x.chunk(2, -1)
    c, s = table[0][None, :, None], table[1][None, :, None]
    return torch.cat([a * c - b * s, a * s + b * c], -1)


def norm(x):
    return F.layer_norm(x, (x.shape[-1],), eps=1e-6)


def modulate(x, shift, scale):
    return torch.addcmul(shift, norm(x), 1 + scale)


class JointAttention(nn.Module):
    def __init__(self, c, dual):
        super().__init__()
        d = c['dim']
        self.head, self.dual = c['head'], dual
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.qn, self.kn = RMSNorm(d), RMSNorm(d)
        if dual:
            self.qkv_t, self.out_t = nn.Linear(d, 3 * d), nn.Linear(d, d)
            self.qn_t, self.kn_t = RMSNorm(d), RMSNorm(d)

    def split(self, x, qkv, qn, kn):
        q, k, v = qkv(x).chunk(3, -1)
        return [t.unflatten(-1, (-1, self.head)) for t in (qn(q), kn(k), v)]

    def forward(self, x, t, table, n):
        q, k, v = self.split(x, self.qkv, self.qn, self.kn)
        if self.dual:
            q2, k2, v2 = self.split(t, self.qkv_t, self.qn_t, self.kn_t)
        else:
            (q, q2), (k, k2) = ((a[:, :n], a[:, n:]) for a in (q, k))
        q, k = torch.cat([rope(q, table), q2], 1), torch.cat([rope(k, table), k2], 1)
        v = torch.cat([v, v2], 1) if self.dual else v
        o = F.scaled_dot_product_attention(*(a.transpose(1, 2) for a in (q, k, v)))
        o = o.transpose(1, 2).flatten(2)
        return (self.out(o[:, :n]), self.out_t(o[:, n:])) if self.dual else (self.out(o), None)


class Block(nn.Module):
    def __init__(self, c, dual):
        super().__init__()
        self.dual, self.attn, self.ff_i = dual, JointAttention(c, dual), MoE(c)
        if dual:
            self.ff_t = FeedForward(c['dim'], c['text_ff'])
        self.ada = nn.Linear(c['dim'], (12 if dual else 6) * c['dim'])

    def forward(self, x, t, cond, table, n):
        m = self.ada(cond)[:, None].chunk(12 if self.dual else 6, -1)
        y = modulate(x, m[0], m[1])
        a, b = self.attn(y, modulate(t, m[6], m[7]) if self.dual else None, table, n)
        x = torch.addcmul(x, m[2], a)
        x = torch.addcmul(x, m[5], self.ff_i(modulate(x, m[3], m[4])))
        if self.dual:
            t = torch.addcmul(t, m[8], b)
            t = torch.addcmul(t, m[11], self.ff_t(modulate(t, m[9], m[10])))
        return x, t


class Embedder(nn.Module):
    def __init__(self, i, d):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(i, d), nn.Linear(d, d)

    def forward(self, x):
        return self.linear_2(F.silu(self.linear_1(x)))


class Transformer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, d = c, c['dim']
        n = c['double'] + c['single']
        self.x_embedder = nn.Linear(c['latent'] * 4, d)
        self.t_embedder, self.p_embedder = Embedder(256, d), Embedder(c['clip'] * 2, d)
        self.cap = nn.ModuleList([nn.Linear(c['llama'], d, bias=False) for _ in range(n)] +
                                 [nn.Linear(c['t5'], d, bias=False)])
        self.blocks = nn.ModuleList([Block(c, i < c['double']) for i in range(n)])
        self.fada, self.final = nn.Linear(d, 2 * d), nn.Linear(d, c['latent'] * 4)
        self.tables = {}
        self.start()

    def start(self):
        for name, p in self.named_parameters():
            parts = 3 if 'qkv' in name else 1
            if name.endswith('bias') or 'ada.' in name or name.startswith('final.'):
                nn.init.zeros_(p)
            elif p.dim() == 2 and 'gate' not in name:
                for part in p.data.chunk(parts, 0):
                    nn.init.xavier_uniform_(part)

    def table(self, h, w, device):
        if (h, w) not in self.tables:
            self.tables[h, w] = tuple(t.to(device) for t in rope_table(h, w, self.c['axes']))
        return self.tables[h, w]

    def forward(self, z, sigma, t5, llama, pooled):
        """z: noisy latents, sigma: noise level 0..1, llama: one tensor per block.  -> x0 - noise"""
        b, ch, hh, ww = z.shape
        h, w = hh // 2, ww // 2
        n = h * w
        x = z.view(b, ch, h, 2, w, 2).permute(0, 2, 4, 3, 5, 1).reshape(b, n, 4 * ch)
        f = torch.exp(-math.log(10000) * torch.arange(128, device=z.device) / 128)
        a = sigma[:, None] * 1000 * f
        time = self.t_embedder(torch.cat([a.cos(), a.sin()], -1))
        cond = F.silu(time + self.p_embedder(pooled))
        x, table = self.x_embedder(x), self.table(h, w, z.device)
        own = [cap(l) for cap, l in zip(self.cap, llama)]
        text = torch.cat([self.cap[-1](t5), own[-1]], 1)
        rows, double = text.shape[1], self.c['double']
        for block, mine in zip(self.blocks[:double], own):
            x, t = block(x, torch.cat([text, mine], 1), cond, table, n)
            text = t[:, :rows]
        x = torch.cat([x, text], 1)
        for block, mine in zip(self.blocks[double:], own[double:]):
            x = block(torch.cat([x, mine], 1), None, cond, table, n)[0][:, :n + rows]
        shift, scale = self.fada(cond)[:, None].chunk(2, -1)
        x = self.final(modulate(x[:, :n], shift, scale))
        return x.view(b, h, w, 2, 2, ch).permute(0, 5, 1, 3, 2, 4).reshape(b, ch, hh, ww)


class TextBlock(nn.Module):
    """clip: LayerNorm, quick gelu.  t5: RMSNorm, gated gelu.  llama: RMSNorm, rope, SwiGLU."""

    def __init__(self, d, kind):
        super().__init__()
        clip = kind == 'clip'
        self.kind = kind
        self.n1, self.n2 = (nn.LayerNorm(d) if clip else RMSNorm(d) for _ in range(2))
        self.qkv, self.o = nn.Linear(d, 3 * d, bias=clip), nn.Linear(d, d, bias=clip)
        self.f1 = nn.Linear(d, 2 * d if clip else 4 * d, bias=clip)
        self.f2 = nn.Linear(2 * d, d, bias=clip)

    def forward(self, x, mask, table=None):
        q, k, v = (t.unflatten(-1, (-1, 32)) for t in self.qkv(self.n1(x)).chunk(3, -1))
        if self.kind == 'llama':
            q, k = rope(q, table), rope(k, table)
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
                                           mask, scale=1. if self.kind == 't5' else None)
        x = x + self.o(o.transpose(1, 2).flatten(2))
        h = self.f1(self.n2(x))
        if self.kind == 'clip':
            return x + self.f2(h * torch.sigmoid(1.702 * h))
        a, b = h.chunk(2, -1)
        a = F.silu(a) if self.kind == 'llama' else F.gelu(a, approximate='tanh')
        return x + self.f2(a * b)


class TextEncoders(nn.Module):
    """CLIP twice (pooled at the end token), T5 (all rows), Llama (all rows after every layer)."""

    def __init__(self, classes, c):
        super().__init__()
        self.c, n = c, c['length']

        def stack(width, count, kind):
            return nn.ModuleList([TextBlock(width, kind) for _ in range(count)])
        self.ec = nn.ModuleList([nn.Embedding(classes, c['clip']) for _ in range(2)])
        self.pc = nn.ParameterList([nn.Parameter(.02 * torch.randn(n, c['clip']))
                                    for _ in range(2)])
        self.bc = nn.ModuleList([stack(c['clip'], c['clip_layers'], 'clip') for _ in range(2)])
        self.nc = nn.ModuleList([nn.LayerNorm(c['clip']) for _ in range(2)])
        self.prj = nn.ModuleList([nn.Linear(c['clip'], c['clip'], bias=False) for _ in range(2)])
        self.et, self.bt = nn.Embedding(classes, c['t5']), stack(c['t5'], c['t5_layers'], 't5')
        self.nt, self.rel = RMSNorm(c['t5']), nn.Parameter(torch.zeros(c['t5'] // 32, 2 * n - 1))
        self.el = nn.Embedding(classes, c['llama'])
        self.bl = stack(c['llama'], c['llama_layers'], 'llama')
        self.nl = RMSNorm(c['llama'])
        for e in [*self.ec, self.et, self.el]:
            nn.init.normal_(e.weight, std=.5)
        for b in self.bt:
            b.qkv.weight.data[:c['t5']] *= 32 ** -.5
        i = torch.arange(n)
        self.register_buffer('distance', i[None] - i[:, None] + n - 1, persistent=False)
        a = i[:, None].float() / 10000 ** (torch.arange(0, 32, 2).float() / 32)
        self.register_buffer('cos', a.cos(), persistent=False)
        self.register_buffer('sin', a.sin(), persistent=False)

    def forward(self, ids):
        """ids: name -> (class ids, lengths), as tensors"""
        (clip, ends), (t5, t5_len), (llama, llama_len) = (ids[k] for k in ('clip', 't5', 'llama'))
        n = clip.shape[1]
        place = torch.arange(n, device=clip.device)
        causal = (place[None] <= place[:, None])[None, None]
        pooled, rows = [], torch.arange(len(clip), device=clip.device)
        for k in range(2):
            x = self.ec[k](clip) + self.pc[k][:n]
            for b in self.bc[k]:
                x = b(x, causal)
            pooled.append(self.prj[k](self.nc[k](x)[rows, ends - 1]))
        mask = self.rel[:, self.distance[:n, :n]][None].masked_fill(
            (place[None] >= t5_len[:, None])[:, None, None], -1e9)
        x = self.et(t5)
        for b in self.bt:
            x = b(x, mask)
        t5, x, states = self.nt(x), self.el(llama), []
        mask, table = causal & (place[None] < llama_len[:, None])[:, None, None], \
            (self.cos[:n], self.sin[:n])
        for b in self.bl:
            x = b(x, mask, table)
            states.append(x)
        states[-1] = self.nl(x)
        return t5, [states[j] for j in self.c['llama_map']], torch.cat(pooled, -1)


def tensors(ids, device='cpu'):
    return {k: tuple(torch.tensor(v, device=device) for v in pair) for k, pair in ids.items()}
