"""Is the lesion what the score came from? Erase it, and see whether the score falls more than when an equal area
elsewhere in the head is erased.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import fftconvolve

from braincam.explain.head import fill_in, head_mask
from braincam.resampling import means

RIM = 0.01  # of the side: the hole reaches this far beyond the mask, so that the lesion's edge is not what fills it

KINDS = ("own_class", "any_tumour")

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]


def widened(mask: Mask) -> Mask:
    """The mask with a narrow rim around it: (H, W)."""
    steps = max(1, round(RIM * min(mask.shape)))
    wider: Mask = ndimage.binary_dilation(mask, iterations=steps)
    return wider


def elsewhere(hole: Mask, head: Mask, random: np.random.Generator) -> Mask | None:
    """The hole moved, unturned, to a random place that lies wholly in the head and does not touch it: (H, W).

    None where there is no such place.
    """
    rows, columns = np.nonzero(hole)
    shape = hole[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    blocked = ~head | ndimage.binary_dilation(hole)
    # pixels of the shape on blocked ones, for each place of its upper left corner
    covered = fftconvolve(blocked.astype(np.float64), shape[::-1, ::-1].astype(np.float64), mode="valid")
    free = np.argwhere(covered < 0.5)
    if not len(free):
        return None
    top, left = free[random.integers(len(free))]
    moved = np.zeros_like(hole)
    moved[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
    return moved


def erased_pair(pixels: Pixels, mask: Mask, random: np.random.Generator) -> tuple[Pixels, Pixels] | None:
    """The slice without its lesion, and without an equal area elsewhere, both filled in smoothly; None without room."""
    hole = widened(mask)
    other = elsewhere(hole, head_mask(pixels), random)
    return None if other is None else (fill_in(pixels, hole), fill_in(pixels, other))


def erasing(
    pictures: Sequence[tuple[Pixels, Mask]],
    classes: NDArray[np.int64],
    groups: Sequence[str],
    none: int | None,
    answers: Callable[[list[Pixels]], NDArray[np.floating]],
    *,
    seed: int = 0,
) -> tuple[dict[str, Any] | None, dict[str, list[float | None]]]:
    """On what share of the tumour slices does the score fall more without the lesion than without an equal area?

    `pictures` are slices with their masks, `classes` their true classes, `none` the number of the no-tumour class,
    `answers` a model: slices → probabilities (N, K). `any_tumour` looks at p(any tumour), `own_class` at the
    probability of the true class. An equal fall counts half, so that a model that looks elsewhere reaches 0.5.

    Returns the shares with their intervals over `groups` (None without a slice to measure), and for each of the two
    the outcome per picture: 1, a half or 0, None where no equal area fits elsewhere.
    """
    random = np.random.default_rng(seed)
    rows, pairs = [], []
    for row, (pixels, mask) in enumerate(pictures):
        pair = erased_pair(pixels, mask, random)
        if pair is not None:
            rows.append(row)
            pairs.append(pair)
    outcomes: dict[str, list[float | None]] = {kind: [None] * len(pictures) for kind in KINDS}
    if not rows:
        return None, outcomes
    without, control = (answers([pair[side] for pair in pairs]).astype(np.float64) for side in (0, 1))
    own, at = classes[rows], np.arange(len(rows))
    wins = {"own_class": _less(without[at, own], control[at, own])}
    if none is not None:  # p(no tumour) itself: 1 - p would round a sure tumour to 1
        wins["any_tumour"] = _less(control[:, none], without[:, none])
    for kind, outcome in wins.items():
        for row, value in zip(rows, outcome.tolist(), strict=True):
            outcomes[kind][row] = value
    facts = {"n": len(rows), "n_groups": len({groups[row] for row in rows})}
    facts |= {"without_room_elsewhere": len(pictures) - len(rows), **shares(wins, [groups[row] for row in rows])}
    return facts, outcomes


def shares(outcomes: Mapping[str, npt.ArrayLike], groups: Sequence[str]) -> dict[str, Any]:
    """The mean of each kind's outcomes (N,) with its interval over the groups."""
    values = np.stack([np.asarray(outcome, np.float64) for outcome in outcomes.values()], 1)
    return dict(zip(outcomes, means(values, groups), strict=True))


def _less(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where one is less than the other, a half where they are equal."""
    return np.where(one < other, 1.0, np.where(one == other, 0.5, 0.0))
