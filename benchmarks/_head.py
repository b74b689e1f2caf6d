"""Maps compared where the head is."""

from __future__ import annotations

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
