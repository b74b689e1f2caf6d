"""One run, one page: numbers with intervals, the leak beside the score, curves, mistakes, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from braincam.explain.localisation import MAP_COLUMNS
from braincam.report import figures
from braincam.report.page import data_url, write_page
from braincam.resampling import FEW

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Picture = tuple[bytes, str]  # JPEG, caption

HEADLINE = (
    ("accuracy", "Accuracy", "share of slices answered right"),
    ("balanced_accuracy", "Balanced accuracy", "mean sensitivity of the classes"),
    ("macro_f1", "Macro F1", "mean F1 of the classes"),
    ("auroc_macro", "AUROC", "one class against the rest, mean"),
)
FURTHER = (
    ("patient_averaged_accuracy", "Accuracy, each patient or group weighing the same"),
    ("mcc", "Matthews correlation, multi-class"),
    ("nll", "Negative log-likelihood, nats (lower is better)"),
    ("brier", "Brier score, summed over classes, 0 to 2 (lower is better)"),
    ("ece", "Expected calibration error, equal-mass bins (lower is better)"),
)
LOCALISATION_APART = {"pointing", "ci95", "n", "table", "by_class", "erased", "label_only"}  # shown in their own places
LEAKING = ("with_patient_in_training", "with_twin_in_training", "with_group_in_training")
LEAK_COUNTS = (  # key of `split`, words
    ("with_patient_in_training", "have their patient in training"),
    ("with_twin_in_training", "have a near copy in training"),
    ("turned_in_training", "have a copy in training that lies upside down or turned, and no other"),
    ("with_group_in_training", "have their group in training"),
    ("seen_in_training", "were met by the model in training, themselves or by a copy or their patient"),
)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a report is made from; only `title` and `metrics` must be there, the rest is left out where it is
    not.

    title: one line. command: the command line that made the run. created: ISO date and time of the run;
    model_created: of the model, where another run made it.
    metrics: what `metrics.score` returns, as in metrics.json. labels (N,), probabilities (N, K): for the ROC
    and reliability drawings; uncalibrated (N, K): the same before the temperature.
    shown_apart: name -> metrics of slices kept out of the headline (say, seen in
    training). baselines: name -> metrics on the same slices. comparison: what `metrics.paired_difference`
    returns, with `a` and `b` naming the two. split: `kind`, `verdict`, `test_slices`,
    `with_known_patient`, `with_patient_in_training`, `with_twin_in_training`, `with_group_in_training`, and
    further facts. history: one row per epoch. data_share: of a training step, what making its batch takes,
    0 to 1; None: not measured. mistakes, examples: (JPEG bytes, caption). decisions: outcome
    -> number of slices (answered, referred, rejected). localisation: `pointing`, `n`, `ci95`, `table` (kind of
    map -> measures), `by_class` (class -> measures of this model), `erased`, `label_only`, and further facts.
    card, config, environment: facts to print as they are.
    """

    title: str
    metrics: Mapping[str, Any]
    command: str = ""
    created: str = ""
    model_created: str = ""
    split: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    shown_apart: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    comparison: Mapping[str, Any] | None = None
    labels: npt.ArrayLike | None = None
    probabilities: npt.ArrayLike | None = None
    uncalibrated: npt.ArrayLike | None = None
    history: pd.DataFrame | None = None
    best_epoch: int | None = None
    data_share: float | None = None
    mistakes: Sequence[Picture] = ()
    examples: Sequence[Picture] = ()
    decisions: Mapping[str, int] | None = None
    localisation: Mapping[str, Any] | None = None


def write_run_report(out: Path, facts: RunFacts, pictures: Mapping[str, bytes]) -> None:
    """Write one HTML file that needs nothing else: no script, no network, no picture beside it.

    `pictures` are what `drawings` made of the same facts.
    """
    write_page(
        out,
        "run.html",
        facts=facts,
        metrics=facts.metrics,
        headline=HEADLINE,
        few=FEW,
        further=FURTHER,
        leak=leak_box(facts.split),
        drawings={name: data_url(png) for name, png in pictures.items()},
        comparison_rows=_comparison_rows(facts),
        where_else={k: v for k, v in (facts.localisation or {}).items() if k not in LOCALISATION_APART},
        map_columns=[*MAP_COLUMNS.items(), ("enrichment", "times the mask's area")],
    )


def leak_box(split: Mapping[str, Any]) -> dict[str, Any] | None:
    """What stands right beside the score: how many test slices the training has met before. None: nothing
    known.

    `colour` is "warn" when any slice leaks, "good" when leaks were counted and there
    are none, "plain" when they are a few near copies, no patient is known, or nothing was counted.
    """
    if not split:
        return None
    counted = [(key, words) for key, words in LEAK_COUNTS if split.get(key) is not None]
    total = split.get("test_slices")
    lines = []
    for key, words in counted:
        of = split.get("with_known_patient") if key == "with_patient_in_training" else total
        whose = "test slices whose patient is known" if of is not total else "test slices"
        lines.append({"count": int(split[key]), "of": of, "words": f"{whose} {words}"})
    leaking = split.get("leaks", any(split[key] for key in LEAKING if split.get(key) is not None))
    met = bool(split.get("seen_in_training"))
    if leaking:
        colour, title = "warn", "These scores are flattered by leakage"
    elif met:
        colour, title = "warn", "Slices the model has met are kept out of the headline"
    elif split.get("turned_in_training"):
        colour, title = "warn", "Copies that lie upside down or turned straddle the split, and flatter these scores"
    elif split.get("kind") == "evaluation":  # without the training slices, one that was encoded anew is not recognised
        colour, title = "plain", "None of these slices was recognised from training, by its bytes or its patient's name"
    elif split.get("with_twin_in_training"):
        colour, title = "plain", "A few near copies straddle the split"
    elif split.get("with_known_patient") == 0:
        colour, title = "plain", "No group of copies straddles the split; patients are unknown, and may"
    elif lines:
        colour, title = "good", "No known patient and no group of copies straddles the split"
    else:
        colour, title = "plain", "Leakage was not counted"
    return {
        "colour": colour,
        "title": title,
        "kind": split.get("kind"),
        "lines": lines,
        "verdict": split.get("verdict"),
    }


def _comparison_rows(facts: RunFacts) -> list[dict[str, Any]]:
    """This model first, then the baselines from best to worst; bar positions in per cent."""
    ranked = sorted(facts.baselines.items(), key=lambda item: -(item[1].get("accuracy") or 0.0))
    rows = []
    for name, metrics in [("This model", facts.metrics), *ranked]:
        value, ci = metrics.get("accuracy"), (metrics.get("ci95") or {}).get("accuracy")
        rows.append(
            {
                "name": name,
                "metrics": metrics,
                "own": metrics is facts.metrics,
                "at": None if value is None else round(100 * value, 2),
                "low": None if ci is None else round(100 * ci[0], 2),
                "width": None if ci is None else round(100 * (ci[1] - ci[0]), 2),
            }
        )
    return rows


def drawings(facts: RunFacts) -> dict[str, bytes]:
    """Name -> PNG of each drawing that can be made from what is there: confusion, roc, reliability, risk, curves."""
    made: dict[str, Figure] = {}
    classes = list(facts.metrics["classes"])
    if facts.metrics.get("n"):
        made["confusion"] = figures.confusion(facts.metrics["confusion_matrix"], classes)
        if facts.labels is not None and facts.probabilities is not None:
            made["roc"] = figures.roc(facts.labels, facts.probabilities, classes)
            made["reliability"] = figures.reliability(facts.labels, facts.probabilities, before=facts.uncalibrated)
            made["risk"] = figures.risk(facts.labels, facts.probabilities)
    if facts.history is not None and len(facts.history):
        made["curves"] = figures.curves(facts.history, facts.best_epoch)
    return {name: figures.to_png(figure) for name, figure in made.items()}
