"""What the runs of a cross-validation answered on slices they had never met, and what follows for their recipe.

Everything is read from the run folders, so that it can be worked out long after the trainings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braincam.evaluation.calibration import COVERAGE, Bools, Floats, Ints, logits_of
from braincam.evaluation.confidence import confidence_report
from braincam.evaluation.crossfit import Covering, CrossFit, Decisions, cross_fit, fit_decisions
from braincam.evaluation.metrics import no_tumour_class
from braincam.model_file.card import Card
from braincam.model_file.decision import prediction_sets, settled
from braincam.model_file.export import safetensors_metadata
from braincam.pipeline.evaluate import read_predictions
from braincam.resampling import measured


@dataclass(frozen=True, eq=False)
class Answers:
    """Out-of-fold answers: one row per slice and seed."""

    table: pd.DataFrame  # as in predictions.csv, with fold, seed and temperature
    sets: Bools  # (N, K) prediction sets by each run's own thresholds
    classes: tuple[str, ...]

    @property
    def probabilities(self) -> Floats:
        """As each run gave them, (N, K)."""
        return self.table[[f"p_{name}" for name in self.classes]].to_numpy(np.float64)

    @property
    def logits(self) -> Floats:
        """Before each run's own temperature, (N, K)."""
        return logits_of(self.probabilities, self.table[["temperature"]].to_numpy())

    @property
    def labels(self) -> Ints:
        """Numbers of the true classes, (N,)."""
        return self.table["label"].map(self.classes.index).to_numpy(np.int64)

    @property
    def groups(self) -> list[str]:
        """Patients or groups, N."""
        return self.table["group"].astype(str).tolist()

    @property
    def slices(self) -> list[str]:
        """Which slice each answer is on, N: every seed answered all of them."""
        return self.table["path"].tolist()

    @property
    def accepted(self) -> Bools:
        """Which slices were not refused as unlike a brain MRI slice, (N,): no calibration changes that."""
        return np.asarray(self.table["status"] != "rejected", bool)

    def cross_fitted(self, covering: Covering = "slices") -> CrossFit:
        """Each fold calibrated by the others; the seeds are pooled."""
        folds = self.table["fold"].to_numpy()
        return cross_fit(self.logits, self.labels, folds, slices=self.slices, groups=self.groups, covering=covering)

    def decisions(self, covering: Covering = "slices") -> Decisions:
        """What a model of this recipe should ship with: the temperature and thresholds that these answers ask for."""
        return fit_decisions(self.logits, self.labels, slices=self.slices, groups=self.groups, covering=covering)

    def apart_from(self, slices: Collection[str]) -> Answers:
        """The answers on all other slices."""
        rows = np.asarray(~self.table["path"].isin(slices), bool)
        return Answers(self.table[rows], self.sets[rows], self.classes)


def source_of(table: pd.DataFrame) -> dict[str, Any]:
    """What a card says of the answers that its model was calibrated by: folds, and numbers of seeds, slices, groups."""
    return {
        "folds": sorted(int(fold) for fold in set(table["fold"])),
        "seeds": int(table["seed"].nunique()),
        "slices": int(table["path"].nunique()),
        "groups": int(table["group"].nunique()),
    }


def read_answers(folder: Path, runs: Iterable[tuple[int, int]]) -> Answers:
    """The answers of the runs (fold, seed) in the folder of a cross-validation."""
    tables: list[pd.DataFrame] = []
    sets: list[Bools] = []
    classes: tuple[str, ...] = ()
    for fold, seed in runs:
        run = folder / f"fold{fold}-seed{seed}"
        card = Card.from_metadata(safetensors_metadata(run / "model.safetensors"), str(run / "model.safetensors"))
        table = read_predictions(run / "predictions.csv")
        classes = card.classes
        tables.append(table.assign(fold=fold, seed=seed, temperature=card.temperature))
        sets.append(prediction_sets(table[[f"p_{name}" for name in classes]], card.conformal_thresholds))
    return Answers(pd.concat(tables, ignore_index=True), np.concatenate(sets), classes)


def pooled_confidence(answers: Answers, fitted: CrossFit) -> dict[str, Any] | None:
    """Whether the recipe's confidence can be relied on, calibrated across folds; beside it, as the runs were trained.

    `covering_patients` is the same with sets whose promise is for patients (`conformal_thresholds`).
    `decisions` are those of each fold, by the others: what `braincam export --crossval` gives to a model tested on it.
    """
    found = confidence(answers, fitted.probabilities, fitted.sets)
    if found is None:
        return None
    found["covering_patients"] = confidence(answers, fitted.probabilities, answers.cross_fitted("patients").sets)
    found["as_trained"] = confidence(answers, answers.probabilities, answers.sets)
    found["decisions"] = {str(fold): asdict(part) for fold, part in fitted.by_fold.items()}
    return found


def confidence(answers: Answers, probabilities: Floats, sets: Bools) -> dict[str, Any] | None:
    """Whether some probabilities (N, K) of these answers, and prediction sets (N, K), can be relied on."""
    answered = answers.accepted & settled(probabilities, sets)
    found = confidence_report(
        answers.labels,
        probabilities,
        answers.classes,
        answers.groups,
        sets=sets,
        coverage=COVERAGE,
        answered=answered,
        none=no_tumour_class(answers.classes),
    )
    if found is not None:
        right = probabilities.argmax(1) == answers.labels
        found["referred"] = float((answers.accepted & ~answered).mean())
        found["rejected"] = float((~answers.accepted).mean())
        found["accuracy_when_ok"] = float(right[answered].mean()) if answered.any() else None
    return found


def describe_confidence(found: dict[str, Any] | None) -> str:
    """Calibration, prediction sets and missed tumours as Markdown, beside those of the runs as they were trained."""
    if found is None:
        return ""
    columns = [_column(part) for part in (found, found["covering_patients"], found["as_trained"])]
    head = (
        "| confidence, pooled | calibrated by the other folds | the same, sets that cover patients | "
        "by each run's validation part |"
    )
    rows = [f"| {name} | {' | '.join(column.get(name, '–') for column in columns)} |" for name in columns[0]]
    by_fold = ", ".join(f"{made['temperature']:.2f}" for made in found["decisions"].values())
    said = (
        f"Temperature by fold, from the others: {by_fold}. `braincam export --crossval` gives a model that of its test."
    )
    return "\n".join(["", head, "|---|---|---|---|", *rows, "", said]) + "\n"


def _column(found: dict[str, Any]) -> dict[str, str]:
    now, sets, risk = found["calibration"], found["prediction_sets"], found["risk_by_coverage"]["risk_at"]
    right = found["accuracy_when_ok"]
    rows = {
        "calibration error; of a perfect model up to": f"{now['ece']:.3f}; {now['chance']['high']:.3f}",
        "slope, intercept": "–" if now["slope"] is None else f"{now['slope']:.2f}, {now['intercept']:+.2f}",
        "negative log-likelihood, Brier score": f"{now['nll']:.3f}, {now['brier']:.3f}",
        f"sets at {sets['asked']:g} hold the true class": measured(sets["coverage"]),
        "the same, each patient or group weighing the same": measured(sets["patient_averaged"]),
        "classes in a set": measured(sets["mean_size"]),
        "sets of one class": measured(sets["one_class"]),
        "referred, rejected": f"{found['referred']:.3f}, {found['rejected']:.3f}",
        "right, of the answers with status ok": "–" if right is None else f"{right:.3f}",
        **{
            f"error rate of the {float(share):.0%} with the highest probability": f"{value:.3f}"
            for share, value in risk.items()
        },
    }
    for name, part in sets["by_class"].items():
        rows[f"sets of {name}: coverage, size"] = f"{measured(part['coverage'])}, {measured(part['mean_size'])}"
    if missed := found["missed_tumours"]:
        rows["tumours answered as none, of the answers with status ok"] = (
            f"{missed['n']}: {measured(missed['of_answers'])}"
        )
    return rows
