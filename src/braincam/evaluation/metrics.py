"""How good the answers are: pure functions from labels and probabilities to JSON-ready numbers with
intervals.

Axes: N slices, G groups (patients, or clusters of twins where the patient is unknown), K classes, B
resamples. A confusion matrix is counts[true, predicted]. All scores lie in [0, 1] except `nll` (nats, >= 0),
`brier` (0 to 2) and `mcc` (-1 to 1). What is undefined, say the sensitivity of a class without slices, is
None.

Intervals are percentile intervals of the cluster bootstrap: whole groups are drawn with replacement (Field
and Welsh 2007, doi 10.1111/j.1467-9868.2007.00593.x), so slices of one patient never count as independent.
Each number is a function of sums over groups, so a resample is one row of a (B, G) weight matrix, and all of
them together are one matrix product. Where no group errs, a share has the exact bound of so many groups, and what has
no such bound has no interval: [1, 1] would claim a certainty that few groups cannot give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from braincam.dataset.manifest import means_no_tumour
from braincam.errors import DataError
from braincam.evaluation.calibration import ECE_BINS, Floats, Ints, equal_mass_bins, labelled_rows, losses
from braincam.resampling import FEW, difference_interval, divide, group_numbers, interval, resamples, share_interval

TUMOUR_AUROC_NOTE = "may be confounded with source and sequence"
SCALARS = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "auroc_macro",
    "tumour_auroc",
    "patient_averaged_accuracy",
    "nll",
    "brier",
    "ece",
    "mcc",
)
PER_CLASS = ("sensitivity", "specificity", "ppv", "f1")
SHARES = {"accuracy", "patient_averaged_accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv"}
NO_BOUND = {"macro_f1", "f1", "auroc_macro", "tumour_auroc", "mcc"}  # where no group errs: no exact bound is known
NEED_CLASSES = {"balanced_accuracy", "macro_f1", "auroc_macro", "tumour_auroc", "mcc"}  # each class in two groups
OURS = "this network"  # the learner that was trained, in tables that hold the baselines too

Values = dict[str, Floats]  # name -> (...,) or (..., K), nan where undefined


def score(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    groups: npt.ArrayLike | None = None,
    *,
    n_boot: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything `metrics.json` holds, from labels (N,), probabilities (N, K) and group of each slice (N,).

    Without `groups` every slice is its own group, and the intervals are those of independent slices.
    The prediction is the class of highest probability. Definitions:

    - `balanced_accuracy`: mean sensitivity over the classes that have slices; `macro_f1`: mean F1 over the
      classes that occur as reference or prediction; `mcc`: the multi-class R_K (Gorodkin 2004).
    - `patient_averaged_accuracy`: mean over groups of the accuracy within the group, so each group weighs
      the same.
    - `auroc_macro`: mean over classes of one class against the rest, ties counted half.
    - `tumour_auroc`: 1 - p(notumor), any tumour against none; only where a class means none by its name
      (notumor, No Tumour, ...). In the public data the two sides come from other collections and sequences: hence
      `tumour_auroc_note`.
    - `three_tumour_classes`: among the true tumour slices, with p(notumor) removed and the rest renormalised.
    - `nll`: mean -ln p(true class), with p >= 5e-7, since answers are rounded; `brier`: mean over slices of the
      *sum over classes* of (p - [true])^2, from 0 to 2; `ece`: 15 equal-mass bins of the highest probability.
    - `ci95`: the same keys -> [low, high]. None where fewer than two groups bear on the number, or where it
      is undefined in more than half of the resamples. Where no group errs, shares have the exact bound of that
      many groups (`braincam.resampling`; balanced accuracy that of the class with the fewest), and F1, MCC and
      AUROC, for which there is none, have None. The error of calibration grows with noise, so its
      resamples lie too high on average; they are shifted down by their mean excess, not below 0.
    """
    names = _class_names(classes)
    sample = _Sample.of(labels, probabilities, groups, len(names))
    none = no_tumour_class(names)
    statistics = _Statistics(sample, none)
    point = statistics.values(np.ones((1, sample.n_groups)))
    resampled = _stack([statistics.values(w) for w in resamples(sample.n_groups, n_boot, seed)])
    counts = statistics.counts.sum(axis=0)
    seen = sample.slices_per_group_and_class()

    result: dict[str, Any] = {"n": sample.n, "n_groups": sample.n_groups}
    result |= {key: _number(point[key][0]) for key in SCALARS if key in point}
    result.setdefault("tumour_auroc", None)
    result["tumour_auroc_note"] = None if none is None else TUMOUR_AUROC_NOTE
    result["three_tumour_classes"] = _tumours_only(sample, names, none, n_boot, seed)
    result["per_class"] = {
        name: {key: _number(point[key][0, k]) for key in PER_CLASS}
        | {"n": int(counts[k].sum()), "n_groups": int((seen[:, k] > 0).sum())}
        for k, name in enumerate(names)
    }
    result["confusion_matrix"] = counts.astype(int).tolist()
    result["ci95"] = _intervals(names, point, resampled, statistics)
    result["ci95_method"] = _method(sample.n_groups, groups is None, n_boot, seed)
    result["classes"] = names
    return result


def _method(n_groups: int, of_slices: bool, n_boot: int, seed: int) -> str:
    """How intervals were made, and whether that is to be trusted."""
    unit = "slices" if of_slices else "patients or groups"
    few = f"; with fewer than {FEW} it is too narrow" if n_groups < FEW else ""
    return f"percentile bootstrap over {n_groups} {unit}, {n_boot} resamples, seed {seed}{few}"


def paired_difference(
    labels: npt.ArrayLike,
    prob_a: npt.ArrayLike,
    prob_b: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    n_boot: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Is A better than B on the same slices? A - B in accuracy and balanced accuracy, resampling both
    together.

    labels (N,), probabilities (N, K) of each, group of each slice (N,). "Better" means that the interval over
    groups excludes zero, and that there are enough of them for that to mean something (`FEW`). Where both have the same
    right answers, the interval is as wide as the share of groups in which they may yet differ. `mcnemar_p` is the
    exact two-sided binomial test on the slices that only one of the two got right; it takes slices for independent,
    which those of one patient are not, so it stands beside, not above.
    """
    first = np.asarray(prob_a)
    second = np.asarray(prob_b)
    if first.shape != second.shape:
        raise DataError(f"paired_difference: need two arrays of one shape, got {first.shape} and {second.shape}")
    k = first.shape[1] if first.ndim == 2 else 0
    both = [_Sample.of(labels, p, groups, k, canonical=False) for p in (first, second)]
    tallies = [_confusion_per_group(s) for s in both]
    n_groups = both[0].n_groups

    def differences(weights: Floats) -> Values:
        a, b = (_from_counts(_weighted(weights, tally), tally.sum(axis=0)) for tally in tallies)
        return {key: a[key] - b[key] for key in ("accuracy", "balanced_accuracy")}

    point = differences(np.ones((1, n_groups)))
    resampled = _stack([differences(w) for w in resamples(n_groups, n_boot, seed)])
    right_a, right_b = (s.predicted == s.labels for s in both)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    bearing = {"accuracy": n_groups, "balanced_accuracy": both[0].fewest_groups_of_a_class()}
    ci95 = {key: difference_interval(resampled.get(key), n) if n >= 2 else None for key, n in bearing.items()}
    return {
        "n": both[0].n,
        "n_groups": n_groups,
        **{key: _number(value[0]) for key, value in point.items()},
        "ci95": ci95,
        "ci95_method": _method(n_groups, groups is None, n_boot, seed),
        "excludes_zero": {key: bool(n_groups >= FEW and ci and (ci[0] > 0 or ci[1] < 0)) for key, ci in ci95.items()},
        "only_a_right": only_a,
        "only_b_right": only_b,
        "mcnemar_p": float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0,
    }


@dataclass(frozen=True)
class _Sample:
    """Checked input: labels, predicted, group (N,) as numbers from 0, probabilities (N, K)."""

    labels: Ints
    probabilities: Floats
    predicted: Ints
    group: Ints
    n_groups: int

    @classmethod
    def of(
        cls,
        labels: npt.ArrayLike,
        probabilities: npt.ArrayLike,
        groups: npt.ArrayLike | None,
        k: int,
        canonical: bool = True,
    ) -> _Sample:
        rows, truth = labelled_rows(probabilities, labels, "probabilities")
        if rows.shape[1] != k:
            raise DataError(f"probabilities: need one column per class ({k}), got {rows.shape[1]}")
        if rows.size and (rows.min() < -1e-6 or np.abs(rows.sum(axis=1) - 1).max() > 0.01):
            worst = int(np.abs(rows.sum(axis=1) - 1).argmax())
            raise DataError(
                f"probabilities: need rows >= 0 that add up to 1, got row {worst} = {rows[worst].tolist()}; "
                "are these logits?"
            )
        group = group_numbers(groups, len(truth))
        if canonical:  # the order of the slices must not matter, not even to the random draws
            order = np.lexsort((*rows.T, truth, *(() if groups is None else (group,))))
            rows, truth = rows[order], truth[order]
            group = group if groups is None else group[order]
        return cls(truth, rows, rows.argmax(axis=1), group, int(group.max()) + 1 if len(group) else 0)

    @property
    def n(self) -> int:
        return len(self.labels)

    def per_group(self, values: npt.ArrayLike) -> Floats:
        """Sum of values (N,) or (N, F) within each group: -> (G, F)."""
        columns = np.atleast_2d(np.asarray(values, np.float64).T)
        return np.stack([np.bincount(self.group, c, self.n_groups) for c in columns], axis=1)

    def slices_per_group_and_class(self) -> Floats:
        """(G, K)"""
        return self.per_group(np.eye(self.probabilities.shape[1])[self.labels])

    def fewest_groups_of_a_class(self) -> int:
        """How many groups have slices of a class, of the class that the fewest have; empty classes do not count."""
        groups = (self.slices_per_group_and_class() > 0).sum(axis=0)
        return int(groups[groups > 0].min()) if self.n else 0


class _Statistics:
    """All scores as functions of group weights; what can be summed over groups beforehand is summed here."""

    def __init__(self, sample: _Sample, none: int | None):
        self.sample = sample
        right = (sample.predicted == sample.labels).astype(np.float64)
        confidence = sample.probabilities.max(axis=1) if sample.n else np.zeros(0)
        bins = np.eye(ECE_BINS)[equal_mass_bins(confidence)]
        one_hot = np.eye(sample.probabilities.shape[1])[sample.labels]
        size = sample.per_group(np.ones(sample.n))
        self.counts = _confusion_per_group(sample)  # (G, K, K)
        # slices, nll, brier, the group's own accuracy, 1, and the calibration gap of each bin
        self.sums = np.hstack(
            [
                size,
                sample.per_group(np.stack(losses(sample.probabilities, sample.labels), axis=1)),
                sample.per_group(right) / np.maximum(size, 1),
                np.ones_like(size),
                sample.per_group(bins * (right - confidence)[:, None]),
            ]
        )
        positives = [(one_hot[:, k] > 0, sample.probabilities[:, k]) for k in range(one_hot.shape[1])]
        self.rankings = [_Ranking(sample.group, *p) for p in positives]
        self.tumour = None
        if none is not None:
            self.tumour = _Ranking(sample.group, sample.labels != none, 1 - sample.probabilities[:, none])

    def values(self, weights: Floats) -> Values:
        """Group weights (B, G) -> each scalar (B,) and each per-class score (B, K)."""
        found = _from_counts(_weighted(weights, self.counts), self.counts.sum(axis=0))
        sums = weights @ self.sums
        slices, groups = sums[:, 0], sums[:, 4]
        found["nll"] = divide(sums[:, 1], slices)
        found["brier"] = divide(sums[:, 2], slices)
        found["patient_averaged_accuracy"] = divide(sums[:, 3], groups)
        found["ece"] = divide(np.abs(sums[:, 5:]).sum(axis=1), slices)
        ranked = [r.auroc(weights) for r in self.rankings if r.defined]
        found["auroc_macro"] = np.mean(ranked, axis=0) if ranked else np.full(len(weights), np.nan)
        if self.tumour is not None:
            found["tumour_auroc"] = self.tumour.auroc(weights)
        return found


class _Ranking:
    """Area under the ROC curve of one score for many weightings of the groups at once; ties count half."""

    def __init__(self, group: Ints, positive: npt.NDArray[np.bool_], scores: Floats):
        self.defined = bool(positive.any() and not positive.all())
        negatives = np.sort(scores[~positive])
        self.negative_group = group[~positive][np.argsort(scores[~positive], kind="stable")]
        self.positive_group = group[positive]
        self.below = np.searchsorted(negatives, scores[positive], side="left")
        self.up_to = np.searchsorted(negatives, scores[positive], side="right")

    def auroc(self, weights: Floats) -> Floats:
        """(B, G) -> (B,)"""
        passed = np.zeros((len(weights), len(self.negative_group) + 1))
        np.cumsum(weights[:, self.negative_group], axis=1, out=passed[:, 1:])
        positives = weights[:, self.positive_group]
        beaten = np.einsum("bp,bp->b", positives, passed[:, self.below] + passed[:, self.up_to]) / 2
        return divide(beaten, positives.sum(axis=1) * passed[:, -1])


def _from_counts(counts: Floats, whole: Floats) -> Values:
    """Scores of confusion matrices (B, K, K); `whole` (K, K) says which classes the macro means run over.

    A resample that lost a class of the whole sample has no macro mean: nan.
    """
    true, predicted = counts.sum(axis=2), counts.sum(axis=1)  # (B, K)
    hit = np.einsum("bkk->bk", counts)
    total = counts.sum(axis=(1, 2))
    sensitivity = divide(hit, true)
    f1 = divide(2 * hit, true + predicted)
    present = whole.sum(axis=1) > 0
    occurring = present | (whole.sum(axis=0) > 0)
    covariance = hit.sum(axis=1) * total - (true * predicted).sum(axis=1)
    spread = (total**2 - (true**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1))
    return {
        "accuracy": divide(hit.sum(axis=1), total),
        "balanced_accuracy": _row_means(sensitivity[:, present]),
        "macro_f1": _row_means(f1[:, occurring]),
        "mcc": divide(covariance, np.sqrt(np.maximum(spread, 0))),
        "sensitivity": sensitivity,
        "specificity": divide(total[:, None] - true - predicted + hit, total[:, None] - true),
        "ppv": divide(hit, predicted),
        "f1": f1,
    }


def _intervals(names: list[str], point: Values, resampled: Values, statistics: _Statistics) -> dict[str, Any]:
    if "ece" in resampled:
        excess = max(float(np.mean(resampled["ece"]) - point["ece"][0]), 0.0)
        resampled = resampled | {"ece": np.maximum(resampled["ece"] - excess, 0.0)}
    sample = statistics.sample
    fewest = sample.fewest_groups_of_a_class()
    bearing = {key: fewest if key in NEED_CLASSES else sample.n_groups for key in SCALARS}
    found: dict[str, Any] = {key: _between(key, resampled.get(key), bearing[key]) for key in SCALARS}
    counts = statistics.counts
    true, predicted = counts.sum(axis=2), counts.sum(axis=1)  # (G, K)
    slices = {
        "sensitivity": true,
        "specificity": true.sum(axis=1, keepdims=True) - true,
        "ppv": predicted,
        "f1": true + predicted,
    }
    groups = {key: (below > 0).sum(axis=0).tolist() for key, below in slices.items()}
    found["per_class"] = {
        name: {
            key: _between(key, resampled[key][:, k], groups[key][k]) if key in resampled else None for key in PER_CLASS
        }
        for k, name in enumerate(names)
    }
    return found


def _between(key: str, values: Floats | None, bearing: int) -> list[float] | None:
    """The interval of one score from its resamples (B,); None where fewer than two groups bear on it."""
    if bearing < 2:
        return None
    found = share_interval(values, bearing) if key in SHARES else interval(values)
    return None if key in NO_BOUND and found in ([0.0, 0.0], [1.0, 1.0]) else found


def _tumours_only(sample: _Sample, names: list[str], none: int | None, n_boot: int, seed: int) -> dict[str, Any] | None:
    """The second headline: which tumour, given that there is one; without any tumour mass a row is wrong."""
    if none is None or len(names) < 3:
        return None
    keep = sample.labels != none
    labels = sample.labels[keep] - (sample.labels[keep] > none)
    mass = np.delete(sample.probabilities[keep], none, axis=1)
    total = mass.sum(axis=1, keepdims=True)
    wrong = (1 - np.eye(mass.shape[1])[labels]) / (mass.shape[1] - 1)
    rest = np.where(total > 0, mass / np.where(total > 0, total, 1), wrong)
    tumours = [name for k, name in enumerate(names) if k != none]
    found = score(labels, rest, tumours, sample.group[keep], n_boot=n_boot, seed=seed)
    keys = ("accuracy", "balanced_accuracy", "macro_f1")
    return (
        {key: found[key] for key in ("n", "n_groups", *keys, "confusion_matrix", "classes")}
        | {"sensitivity": {name: found["per_class"][name]["sensitivity"] for name in tumours}}
        | {"ci95": {key: found["ci95"][key] for key in keys}}
    )


def _confusion_per_group(sample: _Sample) -> Floats:
    """counts[group, true, predicted]: (G, K, K)"""
    k = sample.probabilities.shape[1]
    cell = (sample.group * k + sample.labels) * k + sample.predicted
    return np.bincount(cell, minlength=sample.n_groups * k * k).reshape(-1, k, k).astype(np.float64)


def _weighted(weights: Floats, per_group: Floats) -> Floats:
    """(B, G), (G, K, K) -> (B, K, K)"""
    flat: Floats = weights @ per_group.reshape(len(per_group), per_group.shape[1] * per_group.shape[2])
    return flat.reshape(-1, *per_group.shape[1:])


def _stack(chunks: list[Values]) -> Values:
    return {key: np.concatenate([c[key] for c in chunks]) for key in (chunks[0] if chunks else {})}


def _row_means(values: Floats) -> Floats:
    """Mean over the last axis; nan where there is nothing to average."""
    return values.mean(axis=-1) if values.shape[-1] else np.full(values.shape[:-1], np.nan)


def _number(value: np.floating[Any] | float) -> float | None:
    return None if np.isnan(value) else float(value)


def _class_names(classes: Sequence[str]) -> list[str]:
    names = [str(name) for name in classes]
    if len(names) < 2 or len(set(names)) != len(names):
        raise DataError(f"classes: need at least two different names, got {names}")
    return names


def no_tumour_class(names: Sequence[str]) -> int | None:
    """The number of the class without a tumour, by its name; None where there is none."""
    return next((k for k, name in enumerate(names) if means_no_tumour(name)), None)
