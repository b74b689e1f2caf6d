"""The one definition of how a grey slice becomes the network's input.

Training, evaluation, prediction and the exported graph all run this module, so they cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """Input size and standardisation; the number of means is the number of equal input channels."""

    image_size: int = 128
    mean: tuple[float, ...] = (0.18,)
    std: tuple[float, ...] = (0.19,)


class Preprocess(nn.Module):
    """Grey uint8 slices of any size → the network's standardised input: (N, H, W) → (N, C, S, S).

    The steps are torchvision's: scale to [0, 1], resize (bilinear, anti-aliased) and normalise. The two
    halves are public because training keeps resized slices in memory and augments between them.
    """

    def __init__(self, config: PreprocessConfig):
        super().__init__()
        self.config = config
        side = config.image_size
        self._resize = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Resize((side, side), antialias=True)])
        self._normalise = v2.Normalize(list(config.mean), list(config.std))

    def resize(self, slices: Tensor) -> Tensor:
        """Uint8 (N, H, W) in 0..255 → float32 (N, 1, S, S) in [0, 1]."""
        resized: Tensor = self._resize(slices.unsqueeze(1))
        return resized

    def standardise(self, scaled: Tensor) -> Tensor:
        """Float32 (N, 1, S, S) in [0, 1] → float32 (N, C, S, S), C equal channels standardised one by one."""
        standardised: Tensor = self._normalise(scaled.expand(-1, len(self.config.mean), -1, -1))
        return standardised

    def forward(self, slices: Tensor) -> Tensor:
        """Uint8 (N, H, W) → float32 (N, C, S, S)."""
        return self.standardise(self.resize(slices))
