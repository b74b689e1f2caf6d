"""Temperature and thresholds from out-of-fold answers: every fold by those of the others, and what ships by all.

A validation part of one training holds a few dozen patients: too few for a temperature, let alone for a threshold per
class. Out of fold, every patient of a cross-validation is such a witness. To report honestly, the answers on fold k
are calibrated by what the other folds say (cross-fitting; for the sets, cross-conformal prediction, Vovk 2015, doi
10.1007/s10472-013-9368-4). The folds' networks differ, so the promise of coverage is approximate.

A temperature and nothing more: on the kept answers of three seeds it halves the calibration error, biases per class
do not lower the log-likelihood further, and scales per class lower it by 0.002 at the price of larger sets
(`benchmarks/calibration.py`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from braincam.errors import DataError
from braincam.evaluation.calibration import (
    COVERAGE,
    Bools,
    Floats,
    conformal_thresholds,
    fit_temperature,
    labelled_rows,
)
from braincam.model_file.decision import prediction_sets

Covering = Literal["slices", "patients"]  # what the promise of prediction sets is about


@dataclass(frozen=True)
class Decisions:
    """What turns logits into answers: their temperature, and per class the least probability in a prediction set."""

    temperature: float
    conformal_thresholds: tuple[float, ...]

    def probabilities(self, logits: npt.ArrayLike) -> Floats:
        """(N, K) → calibrated (N, K)."""
        calibrated: Floats = softmax(np.asarray(logits, np.float64) / self.temperature, axis=1)
        return calibrated


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Out-of-fold answers, each fold's calibrated by the answers on the other folds."""

    probabilities: Floats  # (N, K)
    sets: Bools  # (N, K) prediction sets
    by_fold: dict[int, Decisions]


def fit_decisions(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    coverage: float = COVERAGE,
    *,
    slices: Sequence[Hashable] | None = None,
    groups: Sequence[Hashable] | None = None,
    covering: Covering = "slices",
) -> Decisions:
    """One temperature, and at that temperature one conformal threshold per class: (N, K), (N,).

    `slices` names the slice of each row, where several seeds answered the same ones; `groups` its patient or group
    (`fit_temperature`). `covering` says which of the two the promise is about (`conformal_thresholds`).

    Raises:
        DataError: the arguments do not belong together, or patients should be covered and `groups` is missing.
    """
    if covering == "patients" and groups is None:
        raise DataError("fit_decisions: sets that cover patients need the patient or group of each row")
    temperature = fit_temperature(logits, labels, groups)
    probabilities = softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    units = groups if covering == "patients" else slices
    return Decisions(temperature, tuple(conformal_thresholds(probabilities, labels, coverage, units).tolist()))


def cross_fit(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    folds: npt.ArrayLike,
    coverage: float = COVERAGE,
    *,
    slices: Sequence[Hashable] | None = None,
    groups: Sequence[Hashable] | None = None,
    covering: Covering = "slices",
) -> CrossFit:
    """Calibrate the answers on each fold by those on all other folds: (N, K), (N,), (N,); the rest as `fit_decisions`.

    Raises:
        DataError: the arguments do not belong together, or there is only one fold.
    """
    scores, truth = labelled_rows(logits, labels, "logits")
    fold = np.asarray(folds)
    if fold.shape != truth.shape or len(np.unique(fold)) < 2:
        raise DataError(f"cross_fit: need a fold for each of {len(truth)} slices, and at least two folds")
    names = range(len(truth)) if slices is None else slices
    witnesses = names if groups is None else groups
    probabilities, sets, by_fold = np.empty_like(scores), np.zeros(scores.shape, bool), {}
    for number in np.unique(fold).tolist():
        mine = fold == number
        others = np.flatnonzero(~mine).tolist()
        found = by_fold[int(number)] = fit_decisions(
            scores[~mine], truth[~mine], coverage,
            slices=[names[row] for row in others], groups=[witnesses[row] for row in others],
            covering=covering,
        )  # fmt: skip
        probabilities[mine] = found.probabilities(scores[mine])
        sets[mine] = prediction_sets(probabilities[mine], found.conformal_thresholds)
    return CrossFit(probabilities, sets, by_fold)
