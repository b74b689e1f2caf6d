"""Finding the head and framing it, so that the canvas around it carries no label.

The classes of the popular data set come from collections with different margins; a learner that sees the outer ring of
the picture alone tells them apart. Everything here is plain tensor arithmetic, part of the exported graph.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TISSUE = 0.25  # of the picture's typical bright level: tissue is brighter, noise and JPEG ringing are darker
LINE_SHARE = 0.08  # of the tissue in the fullest line: lines with less cross no head, but a letter or a speck
MARGIN = 1.04  # the frame is a little larger than the head
SMALLEST = 0.2  # of the picture: a smaller frame would enlarge a speck


def find_head(pictures: Tensor) -> Tensor:
    """Where the head lies: float32 (N, 1, R, R) in [0, 1] → (N, 4) left, top, right, bottom as shares of the picture.

    The threshold follows the intensity-weighted mean intensity, which neither a black margin nor a change of contrast
    moves. A picture without tissue is its own frame.
    """
    flat = pictures.flatten(1)
    typical = flat.square().sum(1) / flat.sum(1).clamp_min(1e-6)
    tissue = (pictures[:, 0] > TISSUE * typical[:, None, None]).float()  # (N, R, R)
    left, right = _extent(tissue.mean(1))
    top, bottom = _extent(tissue.mean(2))
    return torch.stack((left, top, right, bottom), 1)


def _extent(share: Tensor) -> tuple[Tensor, Tensor]:
    """First and last line with enough tissue: tissue per line (N, R) → two (N,) shares of the side."""
    side = share.shape[1]
    places = torch.arange(side, device=share.device, dtype=share.dtype)
    enough = share > LINE_SHARE * share.amax(1, keepdim=True)
    first = torch.where(enough, places, float(side)).amin(1)
    last = torch.where(enough, places + 1, 0.0).amax(1)
    none = last <= first
    return torch.where(none, 0.0, first / side), torch.where(none, 1.0, last / side)


def frame_around(box: Tensor, height: int, width: int) -> Tensor:
    """The square frame around a box: (N, 4) → (N, 4) centre x, centre y, half width, half height.

    In units in which the picture spans [-1, 1]. Square in the pixels of the slice, so that a head keeps its
    proportions whatever the canvas.
    """
    left, top, right, bottom = (box[:, i] for i in range(4))
    side = torch.maximum((right - left) * width, (bottom - top) * height) * MARGIN
    half_width = (side / width).clamp_min(SMALLEST)
    half_height = (side / height).clamp_min(SMALLEST)
    return torch.stack((left + right - 1, top + bottom - 1, half_width, half_height), 1)


def cut(pictures: Tensor, frames: Tensor, side: int) -> Tensor:
    """Sample the frames: (N, C, R, R), (N, 4) → (N, C, side, side); black outside the picture."""
    return _sample(pictures, frames[:, 2:], frames[:, :2], side)


def paste(maps: Tensor, frames: Tensor) -> Tensor:
    """Maps of the frames → maps of the whole pictures with the same means: (N, K, h, h), (N, 4) → (N, K, h, h).

    Evidence grows denser or thinner as the frame is smaller or larger than the picture. What the new grid
    rounds away, or what lay in a part of the frame outside the picture, is spread evenly over the picture.
    """
    area = (frames[:, 2] * frames[:, 3])[:, None, None, None]  # of the frame, as a share of the picture's
    pasted = lay_back(maps, frames) / area
    return pasted + (maps.mean((2, 3)) - pasted.mean((2, 3)))[:, :, None, None]


def lay_back(maps: Tensor, frames: Tensor) -> Tensor:
    """Maps of the frames where they lie in the pictures, zero elsewhere: (N, K, h, h), (N, 4) → (N, K, h, h)."""
    return _sample(maps, 1 / frames[:, 2:], -frames[:, :2] / frames[:, 2:], maps.shape[-1])


def _sample(maps: Tensor, scale: Tensor, shift: Tensor, side: int) -> Tensor:
    """Bilinear samples at ``scale * grid + shift`` for a centred grid over [-1, 1]: (N, C, side, side).

    Nothing turns, so each axis has its own row of places. `F.affine_grid` multiplies a matrix for every pixel instead,
    which took a fifth of the time of an answer in ONNX Runtime, and a third of one in int8.
    """
    places = (torch.arange(side, device=maps.device, dtype=maps.dtype) * 2 + 1) / side - 1  # (side,)
    x = scale[:, :1] * places + shift[:, :1]  # (N, side)
    y = scale[:, 1:] * places + shift[:, 1:]
    grid = torch.stack((x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)), 3)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
