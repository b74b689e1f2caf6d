"""Maps compared where the head is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from braincam.explain.faithfulness import rank_correlation
from braincam.explain.head import head_mask
from braincam.explain.overlay import resize_map


def over_the_head(first: NDArray[np.floating], second: NDArray[np.floating], pixels: NDArray[np.uint8]) -> float:
    """Rank correlation where the head is: the empty rim of every map would make strangers agree."""
    head = head_mask(pixels)
    shape = (head.shape[0], head.shape[1])
    return rank_correlation(resize_map(first, shape), resize_map(second, shape), head)


def strangers(
    maps: Sequence[NDArray[np.floating]], slices: Sequence[NDArray[np.uint8]], groups: Sequence[str]
) -> list[float]:
    """Rank correlation of each map with that of the next slice of another patient or group, over its own head.

    What maps show that have nothing in common but that they lie on heads. Empty where all are of one group.
    """
    found = []
    for row, (own, pixels) in enumerate(zip(maps, slices, strict=True)):
        later = [(row + step) % len(maps) for step in range(1, len(maps))]
        other = next((number for number in later if groups[number] != groups[row]), None)
        if other is not None:
            found.append(over_the_head(own, maps[other], pixels))
    return found
