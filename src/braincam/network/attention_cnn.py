"""The classifier: a small residual CNN with attention, read out at three scales.

Each scale is averaged over its pixels and goes through one linear layer; the logits are the sum. Averaging and
the linear layers commute, so applying the same linear layers to every pixel gives class activation maps
(arXiv:1512.04150) whose mean *is* the logit: an exact account of the score, without a backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braincam.errors import ConfigError
from braincam.network.attention import ATTENTIONS, attention

SIZES: dict[str, tuple[int, int, int, int]] = {
    "tiny": (16, 32, 64, 128),
    "small": (24, 48, 96, 192),
    "base": (32, 64, 128, 256),
}


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What the network is built from.

    Sizes with one input channel and four classes (parameters; multiply-adds at 128 × 128):
    see `docs/recipe.md`, made by `python benchmarks/network_sizes.py`.
    """

    classes: int = 4
    size: str = "small"
    attention: str = "both"
    channels: int = 1
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ConfigError(f"network size: expected one of {', '.join(SIZES)}, got {self.size!r}")
        if self.attention not in ATTENTIONS:
            raise ConfigError(f"attention: expected one of {', '.join(ATTENTIONS)}, got {self.attention!r}")
        if self.classes < 2:
            raise ConfigError(f"classes: expected at least 2, got {self.classes}")


class Reading(NamedTuple):
    """Everything one forward pass knows about a batch."""

    logits: Tensor  # (N, K) before softmax
    features: Tensor  # (N, D) the pooled features of all scales
    cam: Tensor  # (N, K, h, w) evidence per pixel; its mean over h and w is `logits`


class AttentionBlock(nn.Module):
    """Two 3 × 3 convolutions, attention, and a shortcut: (N, C, H, W) → (N, C', H/stride, W/stride)."""

    def __init__(self, channels: int, out: int, stride: int, attention_name: str):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.attention = attention(attention_name, out)
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(stride), nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C', H/stride, W/stride)."""
        return F.relu(self.shortcut(x) + self.attention(self.branch(x)))


class AttentionCNN(nn.Module):
    """Standardised slices (N, C, S, S) → logits (N, K); S a multiple of 16.

    A stem at half resolution, then three stages at 1/4, 1/8 and 1/16, each read out by a linear layer. With the
    default 128-pixel input the finest map has 32 × 32 cells.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        widths = SIZES[config.size]
        self.stem = nn.Sequential(
            nn.Conv2d(config.channels, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.stages = nn.ModuleList(
            AttentionBlock(before, after, 2, config.attention) for before, after in pairwise(widths)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.heads = nn.ModuleList(nn.Linear(width, config.classes) for width in widths[1:])

    def scales(self, x: Tensor) -> list[Tensor]:
        """(N, C, S, S) → the three feature maps (N, C', S/4, S/4), (N, C'', S/8, S/8), (N, C''', S/16, S/16)."""
        maps = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, S, S) → logits (N, K), before softmax."""
        logits = [
            head(self.dropout(scale.mean((2, 3))))
            for head, scale in zip(self.heads, self.scales(x), strict=True)
        ]
        return torch.stack(logits).sum(0)

    def read(self, x: Tensor) -> Reading:
        """(N, C, S, S) → logits, pooled features and the exact class activation maps, in one forward pass."""
        scales = self.scales(x)
        pooled = [scale.mean((2, 3)) for scale in scales]
        evidence = []
        for head, scale in zip(self.heads, scales, strict=True):
            # head.weight (K, C) as a 1 × 1 convolution; the bias is spread over the pixels
            evidence.append(F.conv2d(scale, head.weight[:, :, None, None], head.bias))
        cam = evidence[0]
        for coarse in evidence[1:]:
            # Bilinear enlargement by a whole factor repeats the edge, so it keeps the mean: the sum stays exact.
            cam = cam + F.interpolate(
                coarse, scale_factor=cam.shape[-1] // coarse.shape[-1], mode="bilinear", align_corners=False
            )
        logits = torch.stack([head(p) for head, p in zip(self.heads, pooled, strict=True)]).sum(0)
        return Reading(logits=logits, features=torch.cat(pooled, 1), cam=cam)
