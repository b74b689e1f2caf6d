"""Which classes cannot be ruled out, and how a probability is stated: the one definition, for answers and for what is
measured of them. NumPy only.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def stated(probability: float, style: str = ".2f") -> str:
    """A probability in a format such as `.2f` or `.0%`; never as 1 or 100 %, which no model can know: "> 0.99"."""
    text = format(probability, style)
    if text != format(1.0, style):
        return text
    digits = int(style[1:-1]) + (2 if style.endswith("%") else 0)
    return f"> {1 - 10**-digits:{style}}"


def why_referred(leading: str, members: Sequence[str], coverage: float) -> str:
    """Why a prediction set that is not exactly the leading class cannot be answered; `local/decide.js` says the same.

    Thresholds differ by class, so a class of small probability may be in the set while the leading one is not.
    """
    named = f"{coverage:.0%} prediction set"
    if not members:
        return f"too uncertain: the {named} is empty"
    if leading in members:
        return f"too uncertain: the {named} is {' and '.join(members)}"
    return f"too uncertain: the most probable class, {leading}, is not in the {named} ({' and '.join(members)})"
