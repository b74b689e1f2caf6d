"""Does the score follow the map, and does the map follow the picture?

Everything is a pure function of grey slices (H, W), maps (h, w) that cover them, and a `Score`. NumPy and SciPy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import rankdata

from braincam.explain.head import fill_in
from braincam.explain.overlay import resize_map

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Map = NDArray[np.floating]
Score = Callable[[list[Pixels]], NDArray[np.floating]]  # slices → one number each, higher = more of the class

STEPS = 10  # of insertion and deletion, each a tenth of the pixels
ROAD_SHARES = (0.1, 0.3, 0.5, 0.7)  # of the pixels removed
ROAD_NOISE = 2.55  # grey levels, 1 % of the range: what is filled in smoothly must not be told by its smoothness
BLUR = 1 / 16  # of the side: standard deviation of the picture without detail


def rank_correlation(one: Map, other: Map, where: NDArray[np.bool_] | None = None) -> float:
    """Spearman's correlation of two maps of one shape over the pixels `where`; 0 where one of them is flat."""
    chosen = np.ones(one.shape, bool) if where is None else where
    first, second = (rankdata(values[chosen]) for values in (one, other))
    first, second = first - first.mean(), second - second.mean()
    size = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / size if size > 0 else 0.0


def order_of(heat: Map, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Pixel numbers of a picture (H, W) from the hottest to the coldest: (H * W,)."""
    return np.argsort(-resize_map(heat, shape).ravel(), kind="stable").astype(np.int64)


def deletion(pixels: Pixels, heat: Map, score: Score) -> Floats:
    """The score while the hottest pixels lose their detail, a tenth at a time: (11,), from all to nothing.

    RISE (Petsiuk et al., arXiv:1806.07421), with a blurred picture in place of black: black is a strong signal in MRI.
    A good map makes the score fall early.
    """
    return _replace(pixels, _blurred(pixels), heat, score)


def insertion(pixels: Pixels, heat: Map, score: Score) -> Floats:
    """The score while the hottest pixels come back into a blurred picture: (11,). A good map makes it rise early."""
    return _replace(_blurred(pixels), pixels, heat, score)


def area_under(curve: Floats) -> float:
    """Mean height of a curve over equal steps."""
    return float((curve[:-1] + curve[1:]).mean() / 2)


def _blurred(pixels: Pixels) -> Pixels:
    smooth = ndimage.gaussian_filter(pixels.astype(np.float64), BLUR * min(pixels.shape))
    return np.clip(np.rint(smooth), 0, 255).astype(np.uint8)


def _replace(before: Pixels, after: Pixels, heat: Map, score: Score) -> Floats:
    order = order_of(heat, (before.shape[0], before.shape[1]))
    pictures = []
    for step in range(STEPS + 1):
        picture = before.copy()
        chosen = order[: round(step / STEPS * len(order))]
        picture.flat[chosen] = after.flat[chosen]
        pictures.append(picture)
    return np.asarray(score(pictures), np.float64)


def road(pixels: Pixels, heat: Map, score: Score, random: np.random.Generator) -> tuple[Floats, Floats]:
    """The score without its hottest, and without its coldest pixels, at each of `ROAD_SHARES`: two (4,).

    Remove and debias (Rong et al., arXiv:2202.00449): what is removed is filled in from its rim, with a little noise,
    so that the shape of the hole tells the network nothing. Here each filled pixel is the mean of its four neighbours.
    The gap between the two, coldest minus hottest removed, is what counts: a map that knows nothing has none.
    """
    order = order_of(heat, (pixels.shape[0], pixels.shape[1]))
    pictures = []
    for ranked in (order, order[::-1]):
        for share in ROAD_SHARES:
            hole = np.zeros(pixels.shape, bool)
            hole.flat[ranked[: round(share * pixels.size)]] = True
            filled = fill_in(pixels, hole)
            noisy = filled[hole] + random.normal(0, ROAD_NOISE, int(hole.sum()))
            filled[hole] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
            pictures.append(filled)
    scores = np.asarray(score(pictures), np.float64)
    return scores[: len(ROAD_SHARES)], scores[len(ROAD_SHARES) :]


def outside(heat: Map, head: NDArray[np.bool_]) -> float:
    """Share of the positive evidence that lies outside the head (H, W); 0 without any."""
    positive = np.maximum(resize_map(heat, (head.shape[0], head.shape[1])), 0)
    total = float(positive.sum())
    return float(positive[~head].sum()) / total if total > 0 else 0.0


def mirror(picture: NDArray[np.floating]) -> Floats:
    """Left and right exchanged."""
    return picture[:, ::-1].astype(np.float64)


def turn_over(picture: NDArray[np.floating]) -> Floats:
    """Up and down exchanged."""
    return picture[::-1].astype(np.float64)


def shift(picture: NDArray[np.floating]) -> Floats:
    """An eighth of the side to the right, a sixteenth down; black comes in."""
    height, width = picture.shape
    return ndimage.shift(picture.astype(np.float64), (round(height / 16), round(width / 8)), order=1)


def rotate(picture: NDArray[np.floating]) -> Floats:
    """Ten degrees about the middle; black comes in."""
    return ndimage.rotate(picture.astype(np.float64), 10, reshape=False, order=1)


MOVES: dict[str, Callable[[NDArray[np.floating]], Floats]] = {
    "mirror, left-right": mirror,
    "mirror, up-down": turn_over,
    "shift": shift,
    "rotation, 10°": rotate,
}


def moved(pixels: Pixels, move: Callable[[NDArray[np.floating]], Floats]) -> Pixels:
    """A slice after a move, in whole grey levels."""
    return np.clip(np.rint(move(pixels.astype(np.float64))), 0, 255).astype(np.uint8)


def follows(
    before: Map, after: Map, move: Callable[[NDArray[np.floating]], Floats], head: NDArray[np.bool_]
) -> tuple[float, float]:
    """How well the map moved with the picture: rank correlation of the moved map with the map of the moved slice,
    over the moved head, and how far their hottest pixels lie apart, as a share of the side.

    `head` (H, W) is that of the slice before the move.
    """
    shape = (head.shape[0], head.shape[1])
    expected, got = move(resize_map(before, shape)), resize_map(after, shape).astype(np.float64)
    there = move(head.astype(np.float64)) > 0.5
    peaks = [np.unravel_index(int(np.where(there, heat, -np.inf).argmax()), shape) for heat in (expected, got)]
    apart = math.dist([int(place) for place in peaks[0]], [int(place) for place in peaks[1]]) / min(shape)
    return rank_correlation(expected, got, there), apart


def tumour_evidence(cam: Map, probabilities: Sequence[float], none: int) -> NDArray[np.float32]:
    """Evidence for the likeliest tumour over no tumour, positive part: (K, h, w), (K,) → (h, w).

    The difference, because a constant added to the maps of all classes changes no answer.
    """
    chances = np.array(probabilities, np.float64)
    chances[none] = -1
    evidence: NDArray[np.float32] = np.maximum(cam[int(chances.argmax())] - cam[none], 0).astype(np.float32)
    return evidence
