"""The autoencoder: AutoencoderKL as diffusers lays it out (parameter names too), but tiny.

Four levels (8x), mid attention, no quantisation convolutions, like the one HiDream-I1 uses.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

CHANNELS, LATENT, GROUPS, LAYERS = (16, 32, 48, 64), 16, 8, 1


class Resnet(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, i, eps=1e-6)
        self.conv1 = nn.Conv2d(i, o, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, o, eps=1e-6)
        self.conv2 = nn.Conv2d(o, o, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(i, o, 1) if i != o else None

    def forward(self, x):
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + h


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.group_norm = nn.GroupNorm(GROUPS, c, eps=1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(c, c) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(c, c)])

    def forward(self, x):
        h = self.group_norm(x).flatten(2).transpose(1, 2)[:, None]
        h = F.scaled_dot_product_attention(self.to_q(h), self.to_k(h), self.to_v(h))[:, 0]
        return x + self.to_out[0](h).transpose(1, 2).reshape(x.shape)


class Mid(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.attentions = nn.ModuleList([Attention(c)])
        self.resnets = nn.ModuleList([Resnet(c, c), Resnet(c, c)])

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Down(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode='nearest'))


class Level(nn.Module):
    def __init__(self, i, o, layers, resample, name):
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(i if k == 0 else o, o) for k in range(layers)])
        self.name = name if resample else ''
        if resample:
            setattr(self, name, nn.ModuleList([resample(o)]))

    def forward(self, x):
        for r in self.resnets:
            x = r(x)
        return getattr(self, self.name)[0](x) if self.name else x


class Encoder(nn.Module):
    def __init__(self, ch=CHANNELS):
        super().__init__()
        n = len(ch)
        self.conv_in = nn.Conv2d(3, ch[0], 3, padding=1)
        self.down_blocks = nn.ModuleList([
            Level(ch[max(0, k - 1)], ch[k], LAYERS, Down if k < n - 1 else None, 'downsamplers')
            for k in range(n)])
        self.mid_block = Mid(ch[-1])
        self.conv_norm_out = nn.GroupNorm(GROUPS, ch[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(ch[-1], 2 * LATENT, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for b in self.down_blocks:
            x = b(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self, ch=CHANNELS[::-1]):
        super().__init__()
        n = len(ch)
        self.conv_in = nn.Conv2d(LATENT, ch[0], 3, padding=1)
        self.mid_block = Mid(ch[0])
        self.up_blocks = nn.ModuleList([
            Level(ch[max(0, k - 1)], ch[k], LAYERS + 1, Up if k < n - 1 else None, 'upsamplers')
            for k in range(n)])
        self.conv_norm_out = nn.GroupNorm(GROUPS, ch[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(ch[-1], 3, 3, padding=1)

    def forward(self, x):
        x = self.mid_block(self.conv_in(x))
        for b in self.up_blocks:
            x = b(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()

    def moments(self, x):
        """Mean and log variance of the latents of pictures in -1..1."""
        mean, log_var = self.encoder(x).chunk(2, 1)
        return mean, log_var.clamp(-30, 20)


def load(path):
    vae = VAE()
    vae.load_state_dict(torch.load(path, weights_only=True))
    return vae.eval()


def to_float(pictures):
    """Bytes, channels last -> float in -1..1, channels first."""
    return torch.tensor(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(x):
    return ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
