"""The model card: what a model file says about itself, in Markdown that a radiologist can read. No torch.

Written from facts alone, by the template `card.md`; what no program can know is named as unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Undefined

from braincam.model_file.card import Card
from braincam.report.checklists import CLAIM, TRIPOD_AI, unanswered
from braincam.report.page import CAUTION, fact
from braincam.resampling import measured, with_interval
from braincam.study import tumour_classes

ITEMS = {  # section → items of CLAIM 2024, of TRIPOD+AI
    "use": ("1, 3, 41", "1, 3b, 27b"),
    "misuse": ("41", "26"),
    "data": ("9, 35", "7, 20a"),
    "split": ("19, 20, 26", "12a, 21"),
    "model": ("22, 23, 24, 25, 27", "12b, 12c, 15, 22"),
    "scores": ("28, 29, 32, 37, 38", "12e, 23a"),
    "calibration": ("28, 29", "12e"),
    "refusals": ("41", "15, 27a"),
    "maps": ("31", "12e"),
    "failures": ("39", "23a"),
    "limits": ("30, 33, 40", "14, 26"),
    "provenance": ("23, 43", "18f, 22"),
}
MEASURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "patient_averaged_accuracy": "accuracy, mean over patients or groups",
    "auroc_macro": "area under the ROC curve, mean of the classes",
    "tumour_auroc": "any tumour against none (may be confounded with source and sequence)",
}
RECIPE = (
    "epochs", "batch_size", "learning_rate", "schedule", "weight_decay", "label_smoothing", "augment", "class_weights",
    "seed",
)  # fmt: skip
DIVIDED = {
    "grouped": "patients and groups of copies were kept together by the program",
    "file": "by a table of folds; patients and files of the same bytes were kept together",
    "official": "the popular Training/ and Testing/ folders, **which leak**",
}
PROMISED = {  # what prediction sets cover
    "slices": "the slices of each class",
    "patients": "the slices of new patients, each patient weighing the same, in each class",
}
FLOORS = ("random", "centre", "label only")  # kinds of map that see nothing


def model_card(card: Card, sha256: str, *, evaluated: Mapping[str, Any] | None = None, packaged: bool = False) -> str:
    """The card as Markdown.

    `sha256` is the ONNX file's; `evaluated` are the metrics of an evaluation, told in place of the card's own scores;
    `packaged` says that it is the model inside the package, whose data and benchmarks are described in ``docs/``.
    """
    scores: Mapping[str, Any] = evaluated or card.scores
    pooled: Mapping[str, Any] = card.extra.get("recipe_pooled") or {}
    split = card.training.get("split") or {}
    part = (evaluated or {}).get("split") or {}
    source = card.extra.get("calibrated_by")
    covering = (source or {}).get("covering", "slices")  # what older files cover
    text = environment().get_template("card.md").render(
        card=card,
        sha256=sha256,
        packaged=packaged,
        caution=CAUTION,
        training=card.training,
        split=split,
        divided=DIVIDED.get(str(split.get("kind")), str(split.get("kind"))),
        recipe="; ".join(f"{key.replace('_', ' ')} {fact(card.recipe[key])}" for key in RECIPE if key in card.recipe),
        versions=", ".join(f"{name} {number}" for name, number in card.versions.items()),
        empty=[name for name in card.classes if name not in tumour_classes(card)],
        scores=scores,
        leaky=scores.get("headline") == "all",
        apart="were not recognised from training" if part.get("kind") == "evaluation" else "training never met",
        where=part.get("part", "the test part of its training"),
        pooled=pooled,
        columns=columns(scores, pooled),
        measures=MEASURES,
        per_class=by_class(scores),
        calibrated_by=source,
        covering=covering,
        promised=PROMISED.get(covering, covering),
        subgroups=(evaluated or {}).get("by"),
        spoilt=(evaluated or {}).get("corruptions"),
        **calibration_facts(columns(scores, pooled)),
        **map_facts(scores, pooled),
        answered=ITEMS,
        open_claim=unanswered(CLAIM, {number for claim, _ in ITEMS.values() for number in claim.split(", ")}),
        open_tripod=unanswered(TRIPOD_AI, {number for _, tripod in ITEMS.values() for number in tripod.split(", ")}),
    )  # fmt: skip
    return re.sub(r"\n{3,}", "\n\n", text.strip()) + "\n"


def environment() -> Environment:
    """The templates as plain Markdown: what a stranger's file says cannot become a table's border or a page's tag."""
    made = Environment(  # noqa: S701 - Markdown, not HTML; `plain` takes care of tags
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=plain,
    )
    made.filters |= {"score": score, "measured": told, "known": known, "share": share}
    return made


def plain(value: Any) -> Any:
    """A value as it is printed in Markdown."""
    return value.replace("<", "&lt;").replace("|", "\\|") if isinstance(value, str) else value


def known(value: Any) -> Any:
    """The value, or that it is unknown."""
    return "unknown" if value is None or isinstance(value, Undefined) else value


def score(found: Mapping[str, Any], key: str) -> str:
    """A score with its interval; a dash where there is none."""
    return "–" if found.get(key) is None else with_interval(dict(found), key)


def told(found: Mapping[str, Any]) -> str:
    """A value with its interval; a dash where there is none."""
    return "–" if found["value"] is None else measured(dict(found))


def share(count: int, of: int) -> str:
    """A count and the share that it is."""
    return f"{count} ({100 * count / of:.0f} %)" if of else str(count)


def columns(scores: Mapping[str, Any], pooled: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What was measured: of the recipe over all folds, and of this file."""
    made: list[tuple[str, Mapping[str, Any]]] = []
    if pooled:
        made.append((f"its recipe, {pooled['folds']} folds × {pooled['seeds']} seeds", pooled))
    if scores.get("accuracy") is not None:
        made.append(("this file", scores))
    return [(name, {"three_tumour_classes": None, **found}) for name, found in made]


def by_class(scores: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The scores of each class with their intervals, the class most often missed first."""
    intervals = (scores.get("ci95") or {}).get("per_class") or {}
    parts = {name: {**part, "ci95": intervals.get(name)} for name, part in (scores.get("per_class") or {}).items()}
    return dict(sorted(parts.items(), key=lambda item: item[1].get("sensitivity") or 0.0))


def calibration_facts(measured_of: list[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Calibration and prediction sets in the columns of the scores: of the recipe over all folds, and of this file."""
    details = {name: found.get("confidence") or {} for name, found in measured_of}
    calibration = {name: part.get("calibration") or {} for name, part in details.items()}
    return {
        "calibrated": [(name, found) for name, found in measured_of if found.get("ece") is not None],
        "chance": {name: part.get("chance") for name, part in calibration.items()},
        "slope": {name: part for name, part in calibration.items() if part.get("slope") is not None},
        "sets": {name: part.get("prediction_sets") for name, part in details.items()},
        "missed": {
            name: found.get("missed_tumours") or details[name].get("missed_tumours") for name, found in measured_of
        },
    }


def map_facts(scores: Mapping[str, Any], pooled: Mapping[str, Any]) -> dict[str, Any]:
    """How the maps lie on tumours: of this file beside maps that see nothing, and of its recipe in all and by class."""
    maps: dict[str, Mapping[str, Any]] = {}
    own, recipe = scores.get("localisation"), pooled.get("localisation")
    if own:
        kinds = dict(own.get("maps") or {})
        unmeasured = {"value": None, "ci95": None}
        pointing = {"value": own["hit_rate"], "ci95": own["ci95"]}
        maps["this file"] = kinds.get("this model") or {
            "pointing": pointing,
            "energy": unmeasured,
            "iou_otsu": unmeasured,
        }
        maps |= {f"a map that sees nothing: {name}": kinds[name] for name in FLOORS if name in kinds}
    if recipe:
        maps["its recipe"] = recipe
        maps |= {f"its recipe: {name}": part for name, part in (pooled.get("localisation_by_class") or {}).items()}
    first = next(iter(maps.values()), None)
    return {
        "maps": maps,
        "pointing": first["pointing"]["value"] if first else None,
        "area": (own or {}).get("mean_area"),
    }
