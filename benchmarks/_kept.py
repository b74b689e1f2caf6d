"""Kept predictions, as `braincam crossval` writes them: path, fold, seed, learner and one probability per class; of
runs with masks also how each map lies on its lesion, which the first files lack.

Every slice may be judged by several seeds. Scores run over all rows, so they are means over the seeds, but for the
calibration error, in which errors of one seed may undo those of another; intervals come from resampling patients or
groups, with all their slices and seeds, so more seeds do not narrow them.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from braincam.dataset.manifest import class_name, known_name
from braincam.evaluation.calibration import logits_of
from braincam.evaluation.crossfit import Covering, Decisions, cross_fit, fit_decisions
from braincam.evaluation.metrics import paired_difference, score
from braincam.pipeline.crossval import localisation
from braincam.pipeline.prepare import merge_sharing


@dataclass(frozen=True, eq=False)
class Kept:
    """The answers of one learner with their truth: one row per slice and seed."""

    table: pd.DataFrame  # path, fold, seed, label (a number), group, the columns p_<class> and those of the maps
    classes: list[str]

    def probabilities(self) -> NDArray[np.float64]:
        """(N, K)"""
        return self.table[[f"p_{name}" for name in self.classes]].to_numpy()

    def logits(self) -> NDArray[np.float64]:
        """Before each run's own temperature, (N, K); after it where a file, such as the first, does not say which."""
        temperature = self.table[["temperature"]].to_numpy() if "temperature" in self.table else 1.0
        return logits_of(self.probabilities(), temperature)

    def decisions(self, covering: Covering = "slices") -> Decisions:
        """The calibration and thresholds that these answers ask for."""
        slices, groups = (self.table[name].tolist() for name in ("path", "group"))
        return fit_decisions(self.logits(), self.table["label"], slices=slices, groups=groups, covering=covering)

    def cross_fitted(self) -> Kept:
        """The same answers, each fold calibrated by the others, as `braincam crossval` reports them."""
        groups = self.table["group"].tolist()
        fitted = cross_fit(self.logits(), self.table["label"], self.table["fold"], groups=groups)
        return Kept(
            self.table.assign(**{f"p_{name}": fitted.probabilities[:, k] for k, name in enumerate(self.classes)}),
            self.classes,
        )

    def of_folds(self, folds: Sequence[int]) -> Kept:
        """The answers on some folds alone; a fold that nobody answered ends the program."""
        if missing := sorted(set(folds) - set(self.table["fold"])):
            sys.exit(f"fold {missing[0]}: expected one of {self.numbers('fold')}")
        return replace(self, table=self.table[self.table["fold"].isin(folds)])

    def metrics(self) -> dict[str, Any]:
        """Scores over all slices and seeds, with intervals over patients or groups."""
        return score(self.table["label"], self.probabilities(), self.classes, self.table["group"])

    def maps(self) -> dict[str, Any] | None:
        """How the maps lie on the lesions, with intervals over patients or groups; None where nothing was measured."""
        return localisation(self.table.assign(label=self.table["label"].map(dict(enumerate(self.classes)))))

    def accuracy_by(self, *columns: str) -> list[float]:
        """Accuracy within each value of some columns: ("seed",) is pooled over the folds, ("fold", "seed") is a run."""
        right = self.probabilities().argmax(1) == self.table["label"]
        return [float(share) for share in right.groupby([self.table[name] for name in columns]).mean()]

    def numbers(self, column: str) -> str:
        """The folds or seeds in the table, such as "0 to 4"."""
        found = sorted({int(number) for number in self.table[column]})
        if len(found) > 1 and found == list(range(found[0], found[-1] + 1)):
            return f"{found[0]} to {found[-1]}"
        return ", ".join(map(str, found))


def read_kept(path: Path, truth: pd.DataFrame) -> dict[str, Kept]:
    """Learner → its answers. `truth` is `read_truth`'s; a slice that it lacks, or a row met twice, ends the program."""
    table = pd.read_csv(path)
    classes = [name.removeprefix("p_") for name in table if name.startswith("p_")]
    if unknown := set(table["path"]) - set(truth.index):
        sys.exit(f"{path}: {len(unknown)} slices, such as {min(unknown)}, are not in the table of folds")
    if table.duplicated(["path", "seed", "learner"]).any():
        sys.exit(f"{path}: expected one row per slice, seed and learner, got some twice")
    table["label"] = table["path"].map(truth["label"]).map(classes.index)
    table["group"] = table["path"].map(truth["group"])
    return {str(name): Kept(rows, classes) for name, rows in table.groupby("learner", sort=False)}


def name_of(path: Path) -> str:
    """What a file of kept predictions is called in a table: its name, without its ending."""
    return path.name.removesuffix(".csv.gz")


def read_truth(split: Path) -> pd.DataFrame:
    """The table of folds, by path: label and group of every slice, joined by patient and bytes as `train` does it."""
    table = pd.read_csv(split, dtype=str, keep_default_na=False).set_index("path")
    table["label"] = table["label"].map(class_name)
    groups = [group or path for path, group in table["group"].items()]
    if "patient" in table:
        groups = merge_sharing(groups, [known_name(patient) for patient in table["patient"]])
    if "sha256" in table:
        groups = merge_sharing(groups, [digest or None for digest in table["sha256"]])
    return table.assign(group=groups)


def difference(a: Kept, b: Kept) -> dict[str, Any]:
    """A minus B on the slices that both judged, resampled together by patient or group.

    Every seed of A meets every seed of B, so that the means of both over their seeds are compared, however many each
    has. A fold with more seeds than another would count for more: that ends the program.
    """
    for kept in (a, b):
        seeds = kept.table.groupby("fold")["seed"].nunique()
        if seeds.nunique() > 1:
            sys.exit(f"expected as many seeds on each fold, got {seeds.to_dict()}; name complete folds by --folds")
    pairs = a.table.merge(b.table, on="path", suffixes=("_a", "_b"))
    sides = [pairs[[f"p_{name}_{side}" for name in a.classes]].to_numpy() for side in ("a", "b")]
    found = paired_difference(pairs["label_a"], *sides, pairs["group_a"])
    return {**found, "n": pairs["path"].nunique()}


def points(found: dict[str, Any]) -> str:
    """A paired difference in accuracy, in points, with its interval over patients or groups where there is one."""
    interval = found["ci95"]["accuracy"]
    return f"{100 * found['accuracy']:+.1f}" + (
        f" [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]" if interval else ""
    )


def mean_and_spread(values: list[float]) -> str:
    """Mean and standard deviation; of one value there is no spread."""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"
