"""The classifier: a small residual CNN with attention, read out at three scales.

One linear layer per scale turns every pixel's features into evidence for each class; the three maps of evidence are
enlarged to the finest grid and added, and their mean over the pixels is the logit. So the class activation maps
(arXiv:1512.04150) are an exact account of the score, without a backward pass.

With pooling "attention" the evidence is first multiplied by learned pixel weights of mean 1: the mean of the product is
still the logit, and the evidence has to be where the weights are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braincam.errors import ConfigError
from braincam.network.attention import ATTENTIONS, attention
from braincam.network.classifier import Classifier, ClassifierConfig

SIZES: dict[str, tuple[int, int, int, int]] = {
    "tiny": (16, 32, 64, 128),
    "small": (24, 48, 96, 192),
    "base": (32, 64, 128, 256),
}

POOLINGS = ("mean", "attention")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(ClassifierConfig):
    """What the attention CNN is built from.

    Sizes with one input channel and four classes (parameters; multiply-adds at 128 × 128):
    see `docs/recipe.md`, made by `python benchmarks/network_sizes.py`.
    """

    size: str = "small"
    attention: str = "both"
    pooling: str = "attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size not in SIZES:
            raise ConfigError(f"network size: expected one of {', '.join(SIZES)}, got {self.size!r}")
        if self.attention not in ATTENTIONS:
            raise ConfigError(f"attention: expected one of {', '.join(ATTENTIONS)}, got {self.attention!r}")
        if self.pooling not in POOLINGS:
            raise ConfigError(f"pooling: expected one of {', '.join(POOLINGS)}, got {self.pooling!r}")


class AttentionBlock(nn.Module):
    """Halve the resolution, then two 3 × 3 convolutions, attention, and a shortcut: (N, C, H, W) → (N, C', H/2, W/2).

    Averaging 2 × 2 pixels halves without moving the picture. A 3 × 3 convolution of stride 2 would shift it by half a
    pixel each time, and the maps with it: by 7.5 input pixels in the last stage.
    """

    def __init__(self, channels: int, out: int, attention_name: str):
        super().__init__()
        self.halve = nn.AvgPool2d(2)
        self.branch = nn.Sequential(
            nn.Conv2d(channels, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.attention = attention(attention_name, out)
        self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C', H/2, W/2)."""
        x = self.halve(x)
        return F.relu(self.shortcut(x) + self.attention(self.branch(x)))


class PixelWeights(nn.Module):
    """How much each pixel's evidence counts: (N, C, h, w) → (N, 1, h, w), positive, with mean 1 over the pixels.

    Attention pooling (Ilse et al., arXiv:1802.04712). The weights come from the finest features, which see a small
    neighbourhood only: evidence from afar cannot be put in a convenient place. Averaging 3 × 3 scores favours the
    middle of a lesion over its edge. Half of the weight is shared out equally, so that no part of the head goes unread:
    without that the network learns its training patients by heart sooner. The logit stays an exact mean over pixels, of
    evidence times weight.
    """

    EQUAL_SHARE = 0.5

    def __init__(self, channels: int):
        super().__init__()
        self.score = nn.Sequential(nn.Conv2d(channels, 32, 1), nn.Tanh(), nn.Conv2d(32, 1, 1))
        self.smooth = nn.AvgPool2d(3, 1, 1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) → (N, 1, h, w)."""
        score: Tensor = self.smooth(self.score(x).float())
        chosen = torch.softmax(score.flatten(2), dim=2).view_as(score) * (score.shape[2] * score.shape[3])
        return self.EQUAL_SHARE + (1 - self.EQUAL_SHARE) * chosen


class AttentionCNN(Classifier):
    """Standardised slices (N, C, S, S) → logits (N, K); S a multiple of 16.

    A stem at half resolution, then three stages at 1/4, 1/8 and 1/16, each read out by a linear layer. With the
    default 128-pixel input the finest map has 32 × 32 cells.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        widths = SIZES[config.size]
        self.stem = nn.Sequential(
            nn.Conv2d(config.channels, widths[0], 4, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.stages = nn.ModuleList(
            AttentionBlock(before, after, config.attention) for before, after in pairwise(widths)
        )
        self.dropout = nn.Dropout2d(config.dropout)  # whole channels, so that it commutes with averaging
        self.heads = nn.ModuleList(nn.Linear(width, config.classes) for width in widths[1:])
        self.where = PixelWeights(widths[1]) if config.pooling == "attention" else None

    @property
    def last_stage(self) -> nn.Module:
        """The stage at 1/16."""
        return self.stages[-1]

    @property
    def readouts(self) -> list[nn.Linear]:
        """One for each stage."""
        return [cast("nn.Linear", head) for head in self.heads]

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
        scales = self.scales(x)
        if self.where is not None:
            return self.evidence(scales).mean((2, 3))
        # the same logits, for less: averaging commutes with the linear layers and with the enlargement
        pooled = [self.dropout(scale.mean((2, 3), keepdim=True)).flatten(1) for scale in scales]
        return torch.stack([head(p) for head, p in zip(self.heads, pooled, strict=True)]).sum(0)

    def evidence(self, scales: list[Tensor]) -> Tensor:
        """Class activation maps (N, K, S/4, S/4) of the three feature maps; the biases are spread over the pixels."""
        heads = self.readouts
        # head.weight (K, C) acts on every pixel as a 1 × 1 convolution
        maps = [
            F.conv2d(self.dropout(scale), head.weight[:, :, None, None])
            for head, scale in zip(heads, scales, strict=True)
        ]
        total = maps[0]
        for coarse in maps[1:]:
            # Bilinear enlargement by a whole factor repeats the edge, so it keeps the mean: the sum stays exact.
            factor = total.shape[-1] // coarse.shape[-1]
            total = total + F.interpolate(coarse, scale_factor=factor, mode="bilinear", align_corners=False)
        if self.where is not None:
            total = total * self.where(scales[0])
        bias = torch.stack([head.bias for head in heads]).sum(0)  # (K,)
        return total + bias[:, None, None]
