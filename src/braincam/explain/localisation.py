"""Does the heat lie on the lesion? Measured against masks that training never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from braincam.errors import DataError
from braincam.explain.overlay import resize_map
from braincam.images.reader import read_slices


@dataclass(frozen=True)
class Pointing:
    """The pointing game without tolerance (Zhang et al., 2016), on correctly classified slices that have a mask."""

    n: int  # slices
    n_groups: int  # patients or groups
    hit_rate: float  # share whose hottest pixel lies in the mask
    ci95: tuple[float, float] | None  # bootstrap over patients or groups
    mean_area: float  # mean share of the picture that the masks cover: what a random pixel reaches


def hits(cam: NDArray[np.floating], mask: NDArray[np.bool_]) -> bool:
    """Whether the hottest pixel of a map (h, w), enlarged to the mask's (H, W), lies in the mask."""
    heat = resize_map(cam, (mask.shape[0], mask.shape[1]))
    return bool(mask[np.unravel_index(int(heat.argmax()), heat.shape)])


def pointing_game(
    hit: Sequence[bool], area: Sequence[float], groups: Sequence[str], *, n_boot: int = 1000, seed: int = 0
) -> Pointing | None:
    """Sum up single hits, with an interval over whole patients or groups; None where there is nothing to sum up."""
    if not hit:
        return None
    names, number = np.unique(np.asarray(groups), return_inverse=True)
    hits_of = np.bincount(number, weights=np.asarray(hit, float))
    slices_of = np.bincount(number)
    ci95 = None
    if len(names) > 1:
        drawn = np.random.default_rng(seed).integers(0, len(names), (n_boot, len(names)))
        rates = hits_of[drawn].sum(1) / slices_of[drawn].sum(1)
        low, high = np.quantile(rates, (0.025, 0.975))
        ci95 = (float(low), float(high))
    return Pointing(len(hit), len(names), float(np.mean(hit)), ci95, float(np.mean(area)))


def read_mask(folder: Path, path: str) -> NDArray[np.bool_] | None:
    """The lesion mask (H, W) of the slice at relative `path`; None if there is none.

    Masks lie at the same relative paths below `folder`, as PNG, white on black.

    Raises:
        DataError: the mask is not a single picture.
    """
    file = (folder / path).with_suffix(".png")
    if not file.is_file():
        return None
    slices = read_slices(file)
    if len(slices) != 1:
        raise DataError(f"{file}: expected a mask as a single picture, got {len(slices)} slices")
    return slices[0].pixels > 127
