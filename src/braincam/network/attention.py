"""The two attentions: which channels matter, and where.

Both only rescale their input, so they can be switched off by name without changing any shape.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ATTENTIONS = ("none", "channel", "spatial", "both")


class ChannelAttention(nn.Module):
    """Weigh each channel by what the whole slice shows: (N, C, H, W) → same. Squeeze-and-excitation, arXiv:1709.01507.

    The mean is written out because the backward pass of adaptive pooling is not deterministic on CUDA, and as a sum
    because `Tensor.mean` makes a float32 copy of a bfloat16 tensor, and a gradient in another memory layout.
    """

    def __init__(self, channels: int, reduction: int = 8):
        super().__init__()
        hidden = max(8, channels // reduction)
        self.gate = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        gate: Tensor = self.gate(x.sum((2, 3)) / (x.shape[2] * x.shape[3]))  # (N, C)
        return x * gate[:, :, None, None]


class MeanAndMaximum(torch.autograd.Function):
    """Mean and maximum over the channels: (N, C, H, W) → (N, 2, H, W), both channels-last.

    What `mean` and `amax` give. Their own backward passes took half of attention's time in a bfloat16 training step on
    a processor, for copies into other memory layouts. Here the maximum's gradient goes to one channel that has it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, 2, H, W)."""
        last = x.permute(0, 2, 3, 1)
        largest, where = last.max(3)
        ctx.save_for_backward(where)
        ctx.channels = x.shape[1]
        return torch.stack((last.sum(3) / x.shape[1], largest), dim=3).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """(N, 2, H, W) → (N, C, H, W)."""
        (where,) = ctx.saved_tensors  # (N, H, W)
        of_mean, of_largest = gradient.unsqueeze(4).unbind(1)  # (N, H, W, 1)
        share: Tensor = of_mean / ctx.channels
        spread = share.repeat(1, 1, 1, ctx.channels)  # (N, H, W, C)
        return spread.scatter_(3, where.unsqueeze(3), share + of_largest).permute(0, 3, 1, 2)


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
        if torch.is_grad_enabled():
            summary: Tensor = MeanAndMaximum.apply(x)
        else:
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
