"""Learning rates as a pure function of progress."""

from __future__ import annotations

import math

SCHEDULES = ("constant", "cosine")
WARM_UP = 0.1  # share of the training spent rising to the peak
FLOOR = 0.01  # share of the peak at the end


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
