"""How a model bears what goes wrong between a scanner and a file: fifteen corruptions at five strengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from braincam.evaluation.calibration import reliability_bins
from braincam.evaluation.corruptions import CORRUPTIONS, STRENGTHS, Pixels, corrupt
from braincam.model_file.decision import prediction_sets, settled
from braincam.predict import Predictor
from braincam.progress import track
from braincam.resampling import means


@dataclass(frozen=True, eq=False)
class Borne:
    """What a model says of some slices, and what it would have answered."""

    right: NDArray[np.bool_]  # (N,) the most probable class is the true one, refused slices included
    ece: float
    rejected: float  # share
    answered: float  # share: neither rejected nor referred
    right_when_answered: float | None  # None: nothing was

    @property
    def accuracy(self) -> float:
        """Share of the slices, refused ones included."""
        return float(self.right.mean())

    def facts(self) -> dict[str, Any]:
        """All of it but which slices."""
        return {
            "accuracy": self.accuracy,
            "ece": self.ece,
            "rejected": self.rejected,
            "answered": self.answered,
            "right_when_answered": self.right_when_answered,
        }


def bear(model: Predictor, slices: Sequence[Pixels], truth: NDArray[np.int64]) -> Borne:
    """Judge slices (H, W) whose true classes are `truth` (N,)."""
    answer = model.answer_all(list(slices), cam=False)
    right = answer.probabilities.argmax(1) == truth
    refused = answer.outlier_score > model.card.outlier_threshold
    sure = ~refused & settled(
        answer.probabilities, prediction_sets(answer.probabilities, model.card.conformal_thresholds)
    )
    return Borne(
        right=right,
        ece=reliability_bins(truth, answer.probabilities).ece,
        rejected=float(refused.mean()),
        answered=float(sure.mean()),
        right_when_answered=float(right[sure].mean()) if sure.any() else None,
    )


def spoilt(slices: Sequence[Pixels], name: str, strength: int) -> list[Pixels]:
    """Every slice with one corruption, drawn anew for each and the same in every call."""
    return [corrupt(pixels, name, strength, np.random.default_rng(number)) for number, pixels in enumerate(slices)]


def robustness(
    model: Predictor, slices: Sequence[Pixels], truth: NDArray[np.int64], groups: Sequence[str]
) -> dict[str, Any]:
    """What goes into `metrics.json`: accuracy and answers as the slices are, and under each corruption and strength.

    `mean_accuracy` is over all corruptions and strengths, with its interval over `groups`.
    """
    found = {
        name: [bear(model, spoilt(slices, name, strength), truth) for strength in STRENGTHS]
        for name in track(CORRUPTIONS, "corrupting")
    }
    rights = np.stack([borne.right for several in found.values() for borne in several]).astype(np.float64)
    (mean,) = means(rights.mean(0)[:, None], groups)
    return {
        "n": len(slices),
        "n_groups": len(set(groups)),
        "as_they_are": bear(model, slices, truth).facts(),
        "mean_accuracy": mean,
        "by_corruption": {
            name: {"in_training": CORRUPTIONS[name].in_training, "strengths": [borne.facts() for borne in several]}
            for name, several in found.items()
        },
    }
