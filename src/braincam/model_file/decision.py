"""Which classes cannot be ruled out: the one definition, for answers and for what is measured of them. NumPy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from braincam.errors import DataError


def prediction_sets(probabilities: npt.ArrayLike, thresholds: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which classes cannot be ruled out: (N, K), (K,) -> bool (N, K); an empty row is like no class seen."""
    values = np.asarray(probabilities, np.float64)
    limits = np.asarray(thresholds, np.float64)
    if values.ndim != 2 or limits.shape != values.shape[1:]:
        raise DataError(
            f"prediction_sets: need probabilities (N, K) and thresholds (K,), got {values.shape} and {limits.shape}"
        )
    return values >= limits


def settled(probabilities: npt.ArrayLike, sets: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether a set holds the leading class and no other, so that it can be answered: (N, K), (N, K) -> bool (N,)."""
    leading = np.asarray(probabilities).argmax(axis=1)
    alone: npt.NDArray[np.bool_] = (sets.sum(axis=1) == 1) & sets[np.arange(len(sets)), leading]
    return alone
