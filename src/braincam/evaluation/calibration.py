"""Probabilities that mean what they say: temperature, prediction sets with a promised coverage, reliability.

Everything here is a pure function of arrays: logits and probabilities are (N, K), labels (N,) integers below
K.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from braincam.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

TEMPERATURE_BOUNDS = (0.25, 10.0)
ECE_BINS = 15
COVERAGE = 0.95  # share of prediction sets that should hold the true class

ROUNDED = 5e-7  # what an answer's probability of 0 may have been: answers are kept to six digits


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike, groups: Sequence[Hashable] | None = None) -> float:
    """The T at which softmax(logits / T) explains the labels best: (N, K), (N,) -> T in [0.25, 10].

    Guo et al. 2017, arXiv:1706.04599. Where no slice is wrong, the likelihood alone would ask for T = 0, for endless
    confidence from a few patients. So it is the most probable T, where before any slice log T is normal with mean 0 and
    spread 1, and each patient or group counts as one witness, however many slices it has: of 12 patients that matters,
    of hundreds it does not. `groups` (N,) names them; without, each slice is its own.
    """
    scores, truth = labelled_rows(logits, labels, "logits")
    if len(truth) == 0:
        raise DataError("fit_temperature: need at least one labelled slice, got 0; calibrate on a validation part")
    witnesses = len(set(range(len(truth)) if groups is None else groups))
    scores = scores - scores.max(axis=1, keepdims=True)
    chosen = scores[np.arange(len(truth)), truth]

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        fit = np.mean(logsumexp(scores * inverse, axis=1) - chosen * inverse)
        return float(fit + log_temperature**2 / (2 * witnesses))

    low, high = np.log(TEMPERATURE_BOUNDS)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    best = min((float(found.x), float(low), float(high)), key=loss)
    return float(np.exp(best))


def logits_of(probabilities: npt.ArrayLike, temperature: npt.ArrayLike = 1.0) -> Floats:
    """Logits, up to a constant per row, behind probabilities (N, K) made at a temperature, a number or (N, 1).

    Smaller probabilities than `ROUNDED` count as much: the logarithm of a rounded 0 would be an invention, and a single
    one for the true class would rule over a temperature.
    """
    found: Floats = np.log(np.maximum(np.asarray(probabilities, np.float64), ROUNDED)) * np.asarray(temperature)
    return found


def least_units(coverage: float) -> int:
    """How many slices, or patients, of a class set its threshold at least: n promise no more than n / (n + 1)."""
    return math.ceil((1 - 1e-9) / (1 - coverage) - 1)


def conformal_thresholds(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    coverage: float = COVERAGE,
    units: Sequence[Hashable] | None = None,
) -> Floats:
    """Smallest p(class) at which each class enters a prediction set: (N, K), (N,) -> (K,).

    Split conformal prediction per class (Vovk 2012, arXiv:1209.2673): for new slices exchangeable with
    these, the set holds the true class with probability >= `coverage` *within each class*. The rank is
    corrected for the finite sample: the floor((n + 1)(1 - coverage))-th smallest p(true class). A class with
    too few slices for the promise (see `least_units`, 19 at 0.95) gets 0.0: it is in
    every set.

    `units` (N,) names what the promise is about, where a row is only a part of it; each unit weighs the same, however
    many rows it has. The slice, where several models answered the same ones: more answers on one are no more evidence,
    and the promise is for the answer of one of those models, at random. Or the patient: the promise is then for a slice
    of a new patient, both at random (hierarchical conformal prediction: Lee et al. 2023, arXiv:2306.06342).
    """
    if not 0 < coverage < 1:
        raise DataError(f"conformal_thresholds: coverage must lie between 0 and 1, got {coverage}")
    values, truth = labelled_rows(probabilities, labels, "probabilities")
    names = range(len(truth)) if units is None else units
    if len(names) != len(truth):
        raise DataError(f"conformal_thresholds: need the unit of each of {len(truth)} rows, got {len(names)}")
    thresholds = np.zeros(values.shape[1])
    for k in range(values.shape[1]):
        rows = np.flatnonzero(truth == k)
        rows = rows[np.argsort(values[rows, k], kind="stable")]
        members = Counter(names[row] for row in rows.tolist())
        if len(members) >= least_units(coverage):
            # A new unit weighs 1 as well, and all of it may lie below the threshold: that much is left for the others.
            spare = (len(members) + 1) * (1 - coverage) - 1
            below = np.cumsum([1 / members[names[row]] for row in rows.tolist()])
            thresholds[k] = values[rows[np.searchsorted(below, spare + 1e-9, side="right")], k]
    return thresholds


def losses(probabilities: Floats, labels: Ints) -> tuple[Floats, Floats]:
    """Negative log-likelihood (nats) and Brier score (summed over classes) of each slice: (N, K), (N,) -> two (N,).

    A probability of 0 counts as `ROUNDED`, which it may have been: else one such slice would rule over a mean.
    """
    nll: Floats = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], ROUNDED))
    brier: Floats = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)
    return nll, brier


@dataclass(frozen=True)
class ReliabilityBins:
    """Mean confidence, accuracy and number of slices of each bin, from unsure to sure: three (B,) arrays."""

    confidence: Floats
    accuracy: Floats
    count: Ints

    @property
    def ece(self) -> float:
        """Expected calibration error, mean |accuracy - confidence| over slices; nan without slices."""
        total = self.count.sum()
        if total == 0:
            return float("nan")
        return float(np.sum(self.count * np.abs(self.accuracy - self.confidence)) / total)


def reliability_bins(labels: npt.ArrayLike, probabilities: npt.ArrayLike, n_bins: int = ECE_BINS) -> ReliabilityBins:
    """Equal-mass bins of the highest probability against how often it is right: (N,), (N, K) -> <= n_bins
    bins.

    Equal mass, because nearly all slices of a good network crowd into the last of ten equal widths
    (Nixon et al. 2019, arXiv:1904.01685).
    """
    values, truth = labelled_rows(probabilities, labels, "probabilities")
    confidence = values.max(axis=1)
    right = values.argmax(axis=1) == truth
    bins = equal_mass_bins(confidence, n_bins)
    count = np.bincount(bins, minlength=n_bins).astype(np.int64)
    filled = count > 0
    count = count[filled]
    return ReliabilityBins(
        confidence=np.bincount(bins, confidence, n_bins)[filled] / count,
        accuracy=np.bincount(bins, right.astype(np.float64), n_bins)[filled] / count,
        count=count,
    )


def equal_mass_bins(confidence: Floats, n_bins: int = ECE_BINS) -> Ints:
    """Bin number of each value, about N / n_bins values a bin: (N,) -> (N,). Equal values share a bin."""
    if n_bins < 1:
        raise DataError(f"equal_mass_bins: need at least one bin, got {n_bins}")
    if len(confidence) == 0:
        return np.zeros(0, np.int64)
    starts = np.arange(1, n_bins) * len(confidence) // n_bins
    edges = np.sort(confidence)[starts]
    return np.searchsorted(edges, confidence, side="right").astype(np.int64)


def labelled_rows(values: npt.ArrayLike, labels: npt.ArrayLike, what: str) -> tuple[Floats, Ints]:
    """Check that finite `values` (N, K) and integer `labels` (N,) belong together; return them as arrays."""
    rows: npt.NDArray[Any] = np.asarray(values)
    truth: npt.NDArray[Any] = np.asarray(labels)
    if rows.ndim != 2 or rows.shape[1] < 1 or not np.issubdtype(rows.dtype, np.number):
        raise DataError(f"{what}: need numbers of shape (N, K), got {rows.dtype} {rows.shape}")
    if truth.shape != rows.shape[:1]:
        raise DataError(f"labels: need one per row of {what} ({len(rows)}), got shape {truth.shape}")
    if truth.size and not np.issubdtype(truth.dtype, np.integer):
        raise DataError(f"labels: need integer class numbers, got {truth.dtype}; map names to positions in `classes`")
    rows = rows.astype(np.float64)
    if not np.isfinite(rows).all():
        bad = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise DataError(f"{what}: need finite numbers, got {rows[bad].tolist()} in row {bad}")
    if truth.size and not (truth.min() >= 0 and truth.max() < rows.shape[1]):
        raise DataError(f"labels: need class numbers from 0 to {rows.shape[1] - 1}, got {truth.min()} to {truth.max()}")
    return rows, truth.astype(np.int64)
