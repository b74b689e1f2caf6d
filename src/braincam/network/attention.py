"""The two attentions: which channels matter, and where.

Both only rescale their input, so they can be switched off by name without changing any shape.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ATTENTIONS = ("none", "channel", "spatial", "both")


class ChannelAttention(nn.Module):
    """Weigh each channel by what the whole slice shows: (N, C, H, W) → same. Squeeze-and-excitation, arXiv:1709.01507.

    The mean is written out because the backward pass of adaptive pooling is not deterministic on CUDA.
    """

    def __init__(self, channels: int, reduction: int = 8):
        super().__init__()
        hidden = max(8, channels // reduction)
        self.gate = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        gate: Tensor = self.gate(x.mean((2, 3)))  # (N, C)
        return x * gate[:, :, None, None]


class SpatialAttention(nn.Module):
    """Weigh each pixel by its channels' mean and maximum: (N, C, H, W) → same. CBAM, arXiv:1807.06521.

    Deviation: the gate starts at 0.88 everywhere (bias 2), not at 0.5, so that an untrained gate lets the
    picture through.
    """

    def __init__(self, kernel_size: int = 7):
        super().__init__()
        self.mix = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)
        nn.init.constant_(self.mix.bias, 2.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        summary = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), dim=1)  # (N, 2, H, W)
        return x * torch.sigmoid(self.mix(summary))


def attention(name: str, channels: int) -> nn.Module:
    """Build the attention called `name` (one of `ATTENTIONS`) for `channels` channels; channel before spatial."""
    parts: dict[str, tuple[nn.Module, ...]] = {
        "none": (),
        "channel": (ChannelAttention(channels),),
        "spatial": (SpatialAttention(),),
        "both": (ChannelAttention(channels), SpatialAttention()),
    }
    return nn.Sequential(*parts[name])
