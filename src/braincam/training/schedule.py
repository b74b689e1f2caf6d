"""Learning rate and resolution as pure functions of progress."""

from __future__ import annotations

import math
from collections.abc import Sequence

SCHEDULES = ("constant", "cosine")
WARM_UP = 0.1  # share of the training spent rising to the peak
FLOOR = 0.01  # share of the peak at the end
MULTIPLE = 16  # pixels: sides that the network can halve four times
LEAST = 32  # pixels a side


def learning_rate_at(progress: float, peak: float, schedule: str) -> float:
    """Learning rate at `progress` in [0, 1].

    "constant" is `peak` throughout; "cosine" rises linearly over the first tenth, then falls along half a cosine to
    a hundredth of `peak` (SGDR without restarts, arXiv:1608.03983).
    """
    if schedule == "constant":
        return peak
    if progress < WARM_UP:
        return peak * max(progress / WARM_UP, FLOOR)
    fall = (progress - WARM_UP) / (1 - WARM_UP)
    return peak * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * fall)))


def side_at(progress: float, image_size: int, steps: Sequence[float]) -> int:
    """Side of the training slices in the epoch that ends at `progress` in (0, 1]: equal times for each of `steps`.

    Rounded down to what the network can halve. Small pictures first cost less and teach coarse shapes
    (progressive resizing, arXiv:1710.10196 and 2104.00298); the last step is the size that is judged.
    """
    share = steps[max(0, math.ceil(progress * len(steps) - 1e-9) - 1)]
    return min(image_size, max(LEAST, int(image_size * share) // MULTIPLE * MULTIPLE))
