"""Batches as whole tensors: shuffled, augmented on the device, never touching a file.

The slices are decoded and resized once; an epoch then costs no decoding. Augmentation works on the batch, not
picture by picture, and draws from a generator that is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Pool:
    """Labelled slices, already resized and framed: they are not preprocessed again.

    `store` may be shared by several pools and mapped from disk; `rows` says which of its slices are in this one.
    """

    store: Tensor  # (M, S, S) uint8
    labels: Tensor  # (N,) int64
    rows: Tensor | None = None  # (N,) int64; None: all, in order

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Pool:
        """The same slices on another device; only these are copied there."""
        if self.labels.device == device:
            return self
        return Pool(self.pixels.to(device), self.labels.to(device))

    @property
    def pixels(self) -> Tensor:
        """All slices, (N, S, S) uint8, in memory."""
        return self.store if self.rows is None else self.store[self.rows]

    def take(self, which: Tensor) -> Tensor:
        """Slices by their number in this pool: (B,) → (B, S, S) uint8."""
        return self.store[which if self.rows is None else self.rows[which]]

    def part(self, which: Tensor) -> Pool:
        """Some of the slices, by their number in this pool, as a pool."""
        return Pool(self.store, self.labels[which], which if self.rows is None else self.rows[which])

    def pieces(self, size: int) -> Iterator[Tensor]:
        """All slices in order, `size` at a time: (B, S, S) uint8."""
        for which in torch.arange(len(self), device=self.labels.device).split(size):
            yield self.take(which)


def batches(pool: Pool, batch_size: int, seed: int, epoch: int, least: int = 2) -> Iterator[Tensor]:
    """Yield numbers of slices in the pool, (B,) int64, each once; the order depends on seed and epoch alone.

    A last batch of fewer than `least` slices is dropped: batch normalisation cannot train on one.
    """
    order = torch.randperm(len(pool), generator=generator(seed, epoch)).to(pool.labels.device)
    for rows in order.split(batch_size):
        if len(rows) >= least:
            yield rows


def seed_of(seed: int, epoch: int, rank: int = 0) -> int:
    """A number for each seed, epoch and process. They differ in their low 32 bits: on the CPU torch reads no others."""
    return seed * 1_000_003 + epoch + rank * 2_654_435_761


def generator(seed: int, epoch: int, device: torch.device | str = "cpu", rank: int = 0) -> torch.Generator:
    """A fresh source of randomness for one epoch, so that a resumed run needs no stored random state."""
    return torch.Generator(device).manual_seed(seed_of(seed, epoch, rank))


BENDS = 5  # places along each side that `augment` moves by themselves; in between the picture bends smoothly
BENT = 0.015  # of the side, the most that any of them is moved


def unit(pixels: Tensor) -> Tensor:
    """What `Preprocess.scale` gave, from a pool: uint8 (N, S, S) → float32 (N, 1, S, S) in [0, 1]."""
    return pixels.unsqueeze(1).float() / 255


def augment(x: Tensor, random: torch.Generator) -> Tensor:
    """Vary what differs between heads and scanners: float32 (N, 1, S, S) in [0, 1] → same.

    Each slice gets its own left-right mirror, rotation (± 20°), zoom (0.8 to 1.2, each axis a little apart), shift
    (± 8 %), bending, window, gamma and gain, smooth brightness field, blur and noise. Labels survive all of them; an
    up-down mirror is left out because heads do not come that way.
    """
    x = _move(x, random)  # a copy: the others may work in place, which takes a third less time
    x = _recolour(x, random)
    return _degrade(x, random)


def shrink(x: Tensor, side: int) -> Tensor:
    """Bilinear and anti-aliased: (N, 1, S, S) → (N, 1, side, side)."""
    if side == x.shape[-1]:
        return x
    rows = _resizing(x.shape[-1], side).to(x)
    return rows @ x @ rows.T


@cache
def _resizing(before: int, after: int) -> Tensor:
    """Resizing along one axis as a matrix (after, before): products run, and repeat, on every device."""
    unchanged = torch.eye(before)[None, None]
    shrunk = F.interpolate(unchanged, (after, before), mode="bilinear", antialias=True, align_corners=False)
    return shrunk[0, 0]


def _uniform(n: int, low: float, high: float, like: Tensor, random: torch.Generator) -> Tensor:
    return torch.rand(n, generator=random, device=like.device) * (high - low) + low


def _move(x: Tensor, random: torch.Generator) -> Tensor:
    n = len(x)
    angle = _uniform(n, -20, 20, x, random) * (math.pi / 180)
    zoom = _uniform(n, 0.8, 1.2, x, random)
    stretch = _uniform(n, 0.92, 1.08, x, random)
    mirror = torch.where(_uniform(n, -1, 1, x, random) < 0, -1.0, 1.0)
    cos, sin = torch.cos(angle), torch.sin(angle)
    shift_x, shift_y = _uniform(n, -0.16, 0.16, x, random), _uniform(n, -0.16, 0.16, x, random)
    rows = torch.stack(
        (
            torch.stack((cos * zoom * stretch * mirror, -sin * zoom, shift_x), 1),
            torch.stack((sin * zoom * mirror, cos * zoom / stretch, shift_y), 1),
        ),
        1,
    )  # (N, 2, 3)
    grid = affine_grid(rows, x.shape[-1]).add_(_bend(x, random))
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _bend(x: Tensor, random: torch.Generator) -> Tensor:
    """How far each pixel of (N, 1, S, S) is moved by itself, smoothly over the picture: (N, S, S, 2), sides span 2."""
    places = _uniform(len(x) * 2 * BENDS**2, -2 * BENT, 2 * BENT, x, random).view(len(x), 2, BENDS, BENDS)
    rows = _bending(x.shape[-1]).to(x)
    return (rows @ places @ rows.T).permute(0, 2, 3, 1)


@cache
def _bending(side: int) -> Tensor:
    """Bicubic interpolation between places along one axis as a matrix (side, BENDS)."""
    places = torch.eye(BENDS)[None, None]
    return F.interpolate(places, (side, BENDS), mode="bicubic", align_corners=True)[0, 0]


def affine_grid(rows: Tensor, side: int) -> Tensor:
    """What `F.affine_grid` gives for (N, 2, 3) and square slices: (N, side, side, 2), corners not aligned.

    Its batched product of (side², 3) and (3, 2) matrices takes ten times as long on a processor as these sums.
    """
    centres = (torch.arange(side, device=rows.device) * 2 + 1) / side - 1  # of pixels, in [-1, 1]
    x, y = (
        row[:, 0, None, None] * centres + (row[:, 1, None] * centres + row[:, 2, None])[:, :, None]
        for row in rows.unbind(1)
    )
    return torch.stack((x, y), dim=3)


def smooth(x: Tensor) -> Tensor:
    """The mean of 3 x 3 pixels, the edge repeated: (N, 1, S, S) → same.

    Of slices with one channel, sums of shifted slices take a sixth of the time of average pooling.
    """
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    rows = (padded[:, :, :-2] + padded[:, :, 1:-1]).add_(padded[:, :, 2:])
    return (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).div_(9)


def _recolour(x: Tensor, random: torch.Generator) -> Tensor:
    """In place."""
    n = len(x)

    def per_slice(low: float, high: float) -> Tensor:
        return _uniform(n, low, high, x, random)[:, None, None, None]

    black = per_slice(-0.15, 0.15).clamp_min(0)  # half of the slices lose their darkest greys, as a higher window does
    gamma = torch.exp(per_slice(-0.4, 0.4))
    gain = per_slice(0.75, 1.25)
    x.sub_(black).clamp_min_(1e-4).pow_(gamma).mul_(gain)
    # a smooth field over the slice, as coils leave it: four random corners, blended
    corners = torch.rand((n, 1, 2, 2), generator=random, device=x.device) * 0.4 + 0.8
    field = F.interpolate(corners, x.shape[-2:], mode="bilinear", align_corners=True)
    return x.mul_(field).clamp_(0, 1)


def _degrade(x: Tensor, random: torch.Generator) -> Tensor:
    n = len(x)
    share = _uniform(n, -1, 0.8, x, random).clamp_min(0)[:, None, None, None]  # half of the slices stay sharp
    x = torch.lerp(x, smooth(x), share)
    strength = _uniform(n, -0.03, 0.05, x, random).clamp_min(0)[:, None, None, None]
    noise = torch.randn(x.shape, generator=random, device=x.device)
    return x.add_(noise.mul_(strength)).clamp_(0, 1)
