"""Muon: momentum whose matrices are replaced by the nearest orthogonal ones.

Here a parameter may be cut in row blocks (fused matrices, each handled by itself) and the work is
shared out over data-parallel processes.  The learning rate is in param_groups[0]['lr'].
"""
import torch
import torch.distributed as dist


def orthogonal(x, steps=5):
    """Newton-Schulz on a batch of matrices of one shape."""
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.transpose(1, 2)
        x = torch.baddbmm(3.4445 * x, torch.baddbmm(-4.7750 * a, a, a, alpha=2.0315), x)
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, items, lr=.02, momentum=.95):
        """items: (parameter, number of row blocks); kernels count as matrices (out, rest)."""
        super().__init__([p for p, _ in items], dict(lr=lr))
        self.items, self.momentum = items, momentum
        for p, _ in items:
            self.state[p]['mean'] = torch.zeros_like(p)

    @torch.no_grad()
    def step(self, rank=0, world=1):
        parts = []
        for p, n in self.items:
            mean = self.state[p]['mean']
            mean.lerp_(p.grad, 1 - self.momentum)
            g = p.grad.lerp(mean, self.momentum).flatten(1)
            parts += zip(g.chunk(n, 0), p.data.flatten(1).chunk(n, 0))
        mine, out = {}, [None] * len(parts)
        for i in range(rank, len(parts), world):
            mine.setdefault(tuple(parts[i][0].shape), []).append(i)
        for index in mine.values():
            for i, x in zip(index, orthogonal(torch.stack([parts[i][0] for i in index]))):
                out[i] = x
        if world > 1:
            self.share(parts, out)
        lr = self.param_groups[0]['lr']
        for (g, p), o in zip(parts, out):
            p.add_(o, alpha=-lr * max(1, g.shape[0] / g.shape[1]) ** .5)

    @staticmethod
    def share(parts, out):
        flat = torch.cat([torch.zeros(g.numel()) if o is None else o.reshape(-1)
                          for (g, _), o in zip(parts, out)])
        dist.all_reduce(flat)
        at = 0
        for i, (g, _) in enumerate(parts):
            out[i] = flat[at:at + g.numel()].view(g.shape)
            at += g.numel()
