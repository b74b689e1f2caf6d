"""Can a stated confidence be relied on? Recalibration, the chance band, prediction sets, referral, missed tumours.

Pure functions of arrays: labels (N,) integers below K, probabilities (N, K), groups (N,) patients or groups of copies.
Intervals are those of the cluster bootstrap in `braincam.resampling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax

from braincam.errors import DataError
from braincam.evaluation.calibration import (
    ECE_BINS,
    Bools,
    Floats,
    Ints,
    equal_mass_bins,
    labelled_rows,
    logits_of,
    losses,
    reliability_bins,
)
from braincam.resampling import group_numbers, mean_over_groups, means, ratios

CHANCE_DRAWS = 1000
SHARES_ANSWERED = (0.5, 0.8, 0.9, 0.95, 1.0)  # at which the risk is told
NEVER_SURE = 1e-6  # confidences are kept this far from 0 and 1 where their log-odds are taken


def confidence_report(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    groups: Sequence[str],
    *,
    sets: Bools,
    coverage: float,
    answered: Bools,
    none: int | None,
    temperature: float | None = None,
) -> dict[str, Any] | None:
    """What `metrics.json` says under `confidence`; None without slices.

    `sets` (N, K) are the prediction sets, of which `coverage` was asked; `answered` (N,) the slices with status `ok`;
    `none` the number of the no-tumour class. With `temperature` also the calibration before it was applied.
    """
    values, truth = labelled_rows(probabilities, labels, "probabilities")
    if not len(truth):
        return None
    report: dict[str, Any] = {"calibration": calibration(truth, values, groups)}
    if temperature is not None:
        report["before_temperature"] = calibration(truth, before_temperature(values, temperature), groups)
    report["prediction_sets"] = {"asked": coverage, **coverage_of(sets, truth, classes, groups)}
    report["risk_by_coverage"] = risk_by_coverage(truth, values)
    report["missed_tumours"] = missed_tumours(truth, values.argmax(axis=1), answered, none, groups)
    return report


def calibration(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, groups: Sequence[str] | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """Calibration error with the band that chance alone gives a perfect model, slope and intercept, NLL and Brier.

    `ece`: equal-mass bins of the highest probability. `chance`: see `chance_band`; without `groups` (N,) each slice is
    its own. `slope` and `intercept`: see `recalibration`.
    """
    values, truth = labelled_rows(probabilities, labels, "probabilities")
    if not len(truth):
        raise DataError("calibration: need at least one labelled slice, got 0")
    nll, brier = losses(values, truth)
    slope, intercept = recalibration(truth, values)
    return {
        "ece": reliability_bins(truth, values).ece,
        "chance": chance_band(truth, values, groups, seed=seed),
        "slope": slope,
        "intercept": intercept,
        "nll": float(nll.mean()),
        "brier": float(brier.mean()),
    }


def chance_band(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    draws: int = CHANCE_DRAWS,
    seed: int = 0,
) -> dict[str, float]:
    """ECE that a perfect model shows by chance on such slices (N,), (N, K), (N,): its mean and its 95th percentile.

    What each group is more often right than others of the same confidence, or more seldom, gets a random sign: were the
    confidence perfect, it would be either equally often. What all of them have in common is the error of calibration
    itself, and is taken away first. Slices of one patient, and answers of several seeds on one slice, err together, so
    the band is as wide as so few groups make it (a wild cluster bootstrap; Cameron et al. 2008, doi
    10.1162/rest.90.3.414).
    """
    values, truth = labelled_rows(probabilities, labels, "probabilities")
    confidence = values.max(axis=1)
    group, bins = group_numbers(groups, len(truth)), equal_mass_bins(confidence)
    gap = (values.argmax(axis=1) == truth) - confidence
    slices = np.zeros((group.max(initial=-1) + 1, ECE_BINS))  # (G, B)
    np.add.at(slices, (group, bins), 1)
    members = (slices > 0).sum(axis=0)  # (B,) groups in each bin; of one alone nothing is in common
    common = np.divide(np.bincount(bins, gap, ECE_BINS), slices.sum(axis=0), out=np.zeros(ECE_BINS), where=members > 1)
    gaps = np.zeros_like(slices)
    np.add.at(gaps, (group, bins), gap - common[bins])
    gaps *= np.sqrt(members / np.maximum(members - 1, 1))  # the mean took its share of the spread
    random = np.random.default_rng(seed)
    found = np.array([np.abs(random.choice((-1.0, 1.0), len(gaps)) @ gaps).sum() for _ in range(draws)]) / len(truth)
    return {"mean": float(found.mean()), "high": float(np.percentile(found, 95))}


def recalibration(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[float | None, float | None]:
    """Slope and intercept of the logistic regression of "the answer is right" on the log-odds of its confidence.

    Cox 1958, Biometrika 45:562; Van Calster et al. 2019, doi 10.1186/s12916-019-1466-7. A perfect model has slope 1 and
    intercept 0; a slope below 1 says that it is too sure. None where all answers are right, or all wrong, or where some
    confidence parts the right ones from the wrong ones: there the likelihood has no maximum, and any slope would do.
    """
    values, truth = labelled_rows(probabilities, labels, "probabilities")
    right = (values.argmax(axis=1) == truth).astype(np.float64)
    odds = logit(values.max(axis=1).clip(NEVER_SURE, 1 - NEVER_SURE))
    if parted(odds[right == 1], odds[right == 0]):
        return None, None
    design = np.stack([odds, np.ones_like(odds)], 1)  # (N, 2)

    def loss(weights: Floats) -> tuple[float, Floats]:
        score = design @ weights
        value = float(np.mean(np.logaddexp(0, score) - right * score))
        return value, design.T @ (expit(score) - right) / len(right)

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS")
    return float(found.x[0]), float(found.x[1])


def parted(a: Floats, b: Floats) -> bool:
    """Whether some value has all of `a` on one side and all of `b` on the other; also where one of them is empty."""
    return bool(a.min(initial=np.inf) >= b.max(initial=-np.inf) or a.max(initial=-np.inf) <= b.min(initial=np.inf))


def before_temperature(probabilities: npt.ArrayLike, temperature: float) -> Floats:
    """The probabilities (N, K) that the network gave before they were divided by the temperature as logits."""
    found: Floats = softmax(logits_of(probabilities, temperature), axis=1)
    return found


def missed_tumours(
    labels: Ints, predicted: Ints, answered: Bools, none: int | None, groups: Sequence[str]
) -> dict[str, Any] | None:
    """The worst error: a tumour that is answered as none without a referral. None without a no-tumour class.

    `of_answers`: among the plain answers; `of_tumours`: among the tumour slices; each with its interval over groups.
    """
    if none is None or not len(labels):
        return None
    missed = answered & (labels != none) & (predicted == none)
    above = np.stack([missed, missed], 1).astype(np.float64)
    below = np.stack([answered, labels != none], 1).astype(np.float64)
    of_answers, of_tumours = ratios(above, below, groups)
    return {"n": int(missed.sum()), "of_answers": of_answers, "of_tumours": of_tumours}


def coverage_of(sets: Bools, labels: Ints, classes: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
    """How often the sets (N, K) hold the true class, and how large they are; intervals over patients or groups.

    `patient_averaged`: the mean over patients or groups of the share of their slices whose set holds the true class.
    Those with many slices are often the easier ones, so it may be lower than the share of all slices.
    """
    held = sets[np.arange(len(labels)), labels]
    size = sets.sum(axis=1)
    share = np.stack([held, size == 1], 1).astype(np.float64)
    coverage, single = means(share, groups)
    (mean_size,) = means(size[:, None], groups, shares=False)
    by_class = {}
    for number, name in enumerate(classes):
        rows = labels == number
        if rows.any():
            of = np.asarray(groups)[rows]
            (its_coverage,), (its_size,) = means(share[rows, :1], of), means(size[rows, None], of, shares=False)
            by_class[name] = {
                "n": int(rows.sum()),
                "coverage": its_coverage,
                "patient_averaged": mean_over_groups(share[rows, 0], of),
                "mean_size": its_size,
            }
    return {
        "n": len(labels),
        "coverage": coverage,
        "patient_averaged": mean_over_groups(share[:, 0], groups),
        "mean_size": mean_size,
        "one_class": single,
        "by_class": by_class,
    }


def risk_by_coverage(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> dict[str, Any]:
    """Share of wrong answers when only the surest are given (El-Yaniv and Wiener 2010): at some shares, and the area.

    `area` is the mean risk over all shares (AURC); `perfect_area` that of a model with as many errors that knows them.
    """
    values, truth = labelled_rows(probabilities, labels, "probabilities")
    if not len(truth):
        raise DataError("risk_by_coverage: need at least one labelled slice, got 0")
    risk = risk_curve(truth, values)
    return {
        "area": float(risk.mean()),
        "perfect_area": float(perfect_risk_curve(truth, values).mean()),
        "risk_at": {f"{share:g}": float(risk[max(1, round(share * len(risk))) - 1]) for share in SHARES_ANSWERED},
    }


def risk_curve(labels: Ints, probabilities: Floats) -> Floats:
    """Share of wrong answers among the 1, 2, ..., N surest: (N,). Equal confidences count their mean."""
    confidence = probabilities.max(axis=1)
    wrong = (probabilities.argmax(axis=1) != labels).astype(np.float64)
    _, inverse = np.unique(confidence, return_inverse=True)
    tied = (np.bincount(inverse, wrong) / np.bincount(inverse))[inverse]
    order = np.argsort(-confidence, kind="stable")
    risk: Floats = np.cumsum(tied[order]) / np.arange(1, len(wrong) + 1)
    return risk


def perfect_risk_curve(labels: Ints, probabilities: Floats) -> Floats:
    """The same of a model with as many errors, all of them among its least sure answers: (N,)."""
    n, errors = len(labels), int((probabilities.argmax(axis=1) != labels).sum())
    risk: Floats = np.maximum(np.arange(1, n + 1) - (n - errors), 0) / np.arange(1, n + 1)
    return risk
