"""Is the lesion what the score came from? Erase it, and see whether the score falls more than when an equal area
elsewhere in the head is erased.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import fftconvolve

from braincam.explain.head import fill_in, head_mask
from braincam.resampling import means

RIM = 0.01  # of the side: the hole reaches this far beyond the mask, so that the lesion's edge is not what fills it

BATCH = 64  # slices that are filled in before a model answers for them

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


@dataclass(eq=False)
class Erasing:
    """On what share of the tumour slices does the score fall more without the lesion than without an equal area?

    `answers` is a model: slices → probabilities (N, K); `none` the number of the no-tumour class. `any_tumour` looks at
    p(any tumour), `own_class` at the probability of the true class. An equal fall counts half, so that a model that
    looks elsewhere reaches 0.5. Of the pictures no more than a batch is held.
    """

    answers: Callable[[list[Pixels]], NDArray[np.floating]]
    none: int | None
    seed: int = 0
    outcomes: dict[str, list[float | None]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    _waiting: list[tuple[int, int, tuple[Pixels, Pixels]]] = field(default_factory=list)  # number, class, without

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)

    def add(self, pixels: Pixels, mask: Mask, own: int) -> None:
        """One more slice (H, W) with its mask and the number of its true class."""
        number = len(self.outcomes["own_class"])
        for outcome in self.outcomes.values():
            outcome.append(None)
        pair = erased_pair(pixels, mask, self._random)
        if pair is not None:
            self._waiting.append((number, own, pair))
        if len(self._waiting) == BATCH:
            self._answer()

    def _answer(self) -> None:
        """The outcomes of the slices that wait: 1, a half or 0."""
        if not self._waiting:
            return
        numbers, classes, pairs = zip(*self._waiting, strict=True)
        self._waiting.clear()
        without, control = (self.answers([pair[side] for pair in pairs]).astype(np.float64) for side in (0, 1))
        at, own = np.arange(len(numbers)), np.array(classes)
        wins = {"own_class": _less(without[at, own], control[at, own])}
        if self.none is not None:  # p(no tumour) itself: 1 - p would round a sure tumour to 1
            wins["any_tumour"] = _less(control[:, self.none], without[:, self.none])
        for kind, outcome in wins.items():
            for number, value in zip(numbers, outcome.tolist(), strict=True):
                self.outcomes[kind][number] = value

    def summary(self, groups: Sequence[str]) -> tuple[dict[str, Any] | None, dict[str, list[float | None]]]:
        """The shares with their intervals over the `groups` of the slices, and the outcome of each for each kind.

        None for the shares where there is nothing to measure, and for a slice where no equal area fits elsewhere.
        """
        self._answer()
        rows = [row for row, outcome in enumerate(self.outcomes["own_class"]) if outcome is not None]
        if not rows:
            return None, self.outcomes
        kinds = KINDS if self.none is not None else KINDS[:1]
        of = [groups[row] for row in rows]
        facts = {"n": len(rows), "n_groups": len(set(of)), "without_room_elsewhere": len(groups) - len(rows)}
        wins = {kind: np.array([self.outcomes[kind][row] for row in rows], np.float64) for kind in kinds}
        return {**facts, **shares(wins, of)}, self.outcomes


def shares(outcomes: Mapping[str, npt.ArrayLike], groups: Sequence[str]) -> dict[str, Any]:
    """The mean of each kind's outcomes (N,) with its interval over the groups."""
    values = np.stack([np.asarray(outcome, np.float64) for outcome in outcomes.values()], 1)
    return dict(zip(outcomes, means(values, groups), strict=True))


def _less(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where one is less than the other, a half where they are equal."""
    return np.where(one < other, 1.0, np.where(one == other, 0.5, 0.0))
