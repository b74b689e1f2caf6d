"""Shortcut probes: how well classifiers do that look for no lesion, cross-validated by group.

What they reach, a network can reach without having learnt anything about tumours. A probe is trained and tested on
different groups, so copies do not help it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from braincam.evaluation.baselines import border_mask, gradient_boosting, nearest_neighbour, standardised
from braincam.evaluation.metrics import score
from braincam.threads import workers

FOLDS = 3
FEWEST = 2 * FOLDS  # patients or groups of each class, below which a probe has nothing to learn from
LEAF = 20  # slices in a leaf of the boosted trees, at least: fewer than twice as many cannot be told apart at all
# Balanced accuracy above chance, lower end of the interval, from which a probe is a finding. A bright lesion moves a
# histogram, so that probe may do better before it says anything of scanners and windows.
WARNS = {"file facts": 0.15, "global intensity": 0.4, "border only": 0.15}

# name → what it sees, and what it means when it does well
PROBES = {
    "file facts": ("colour mode, width, height, bytes per pixel", "the file's format tells the class"),
    "global intensity": ("a 16-bin histogram of grey", "scanner, sequence or window tell the class"),
    "border only": ("the outer 12 % of the picture", "the background, the margin or the crop tell the class"),
}
LOOK_UP = "nearest neighbour"  # sees everything, learns nothing: a floor, not a shortcut

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]


def probe(
    labels: Sequence[int],
    groups: Sequence[str],
    classes: Sequence[str],
    *,
    file_facts: Floats,
    histograms: Floats,
    thumbnails: npt.NDArray[np.uint8],
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Metrics of each probe, out of fold, over slices (N,); `thumbnails` are (N, 32, 32) grey.

    Empty where there are too few groups or slices: a probe would guess, and its interval would look like a result.
    """
    truth = np.asarray(labels)
    names = np.asarray(groups)
    few = min(len(set(names[truth == k])) for k in range(len(classes))) < FEWEST
    if few or len(truth) * (FOLDS - 1) // FOLDS < 2 * LEAF:
        return {}
    small = standardised(thumbnails)
    tables = {"file facts": file_facts, "global intensity": histograms, "border only": small[:, border_mask()]}
    answers = {name: np.zeros((len(truth), len(classes))) for name in (*tables, LOOK_UP)}
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)

    def answer(part: tuple[Ints, Ints], name: str) -> None:
        train, test = part
        table = tables[name]
        answers[name][test] = gradient_boosting(table[train], truth[train], table[test], len(classes), seed)

    parts = list(splitter.split(truth, truth, names))
    widest_first = sorted(tables, key=lambda name: -tables[name].shape[1])  # the longest work must not begin last
    with workers() as pool:
        for done in [pool.submit(answer, part, name) for name in widest_first for part in parts]:
            done.result()
    for train, test in parts:
        answers[LOOK_UP][test] = nearest_neighbour(small[train], truth[train], small[test], len(classes))
    return {name: score(truth, found, classes, names) for name, found in answers.items()}


def suspicious(name: str, metrics: dict[str, Any]) -> bool:
    """Whether a probe does clearly better than one that looks for no lesion should."""
    interval = metrics["ci95"]["balanced_accuracy"]
    return bool(interval and interval[0] > 1 / len(metrics["classes"]) + WARNS[name])
