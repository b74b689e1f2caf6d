"""The one definition of how a grey slice becomes the network's input.

Training, evaluation, prediction and the exported graph all run this module, so they cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from braincam.network.framing import cut, find_head, frame_around, paste

LARGEST_SIDE = 2048  # pixels of a network's input; MR slices have fewer
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """Input size, black, framing and standardisation; as many means as there are equal input channels."""

    image_size: int = 128
    frame: bool = True  # cut out the head; without it the whole canvas is squeezed into the square
    subtract_black: bool = True  # the darkest grey becomes zero; without it grey values are taken as they come
    mean: tuple[float, ...] = (0.18,)
    std: tuple[float, ...] = (0.19,)


class Preprocess(nn.Module):
    """Grey uint8 slices of any size → the network's standardised input: (N, H, W) → (N, C, S, S).

    First the geometry (`scale`: resize with torchvision, bilinear and anti-aliased, and frame the head), then the
    intensities (`standardise`). The halves are public: training keeps scaled slices and augments between the two.

    With `subtract_black`, a window that lifts black off zero gives the same input: the darkest grey is taken away
    before the head is looked for.
    """

    def __init__(self, config: PreprocessConfig):
        super().__init__()
        self.config = config
        # a frame is cut from a picture of twice its side, so that enlarging a small head loses little
        side = config.image_size * (2 if config.frame else 1)
        self._resize = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Resize((side, side), antialias=True)])
        self._normalise = v2.Normalize(list(config.mean), list(config.std))

    def scale(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """Uint8 (N, H, W) in 0..255 → float32 (N, 1, S, S) in [0, 1], and the frames (N, 4) they were cut from."""
        resized: Tensor = self._resize(slices.unsqueeze(1))
        if self.config.subtract_black:
            resized = resized - resized.amin((2, 3), keepdim=True)
        if not self.config.frame:
            whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=resized.device)
            return resized, whole.expand(resized.shape[0], 4)  # len() would fix the batch size in the graph
        frames = frame_around(find_head(resized), slices.shape[1], slices.shape[2])
        return cut(resized, frames, self.config.image_size), frames

    def standardise(self, scaled: Tensor) -> Tensor:
        """Float32 (N, 1, S, S) in [0, 1] → float32 (N, C, S, S), C equal channels standardised one by one."""
        standardised: Tensor = self._normalise(scaled.expand(-1, len(self.config.mean), -1, -1))
        return standardised

    def paste(self, maps: Tensor, frames: Tensor) -> Tensor:
        """Evidence over what the network saw → over the whole slices, means kept: (N, K, h, h) → (N, K, h, h)."""
        return paste(maps, frames) if self.config.frame else maps

    def forward(self, slices: Tensor) -> Tensor:
        """Uint8 (N, H, W) → float32 (N, C, S, S)."""
        return self.standardise(self.scale(slices)[0])
