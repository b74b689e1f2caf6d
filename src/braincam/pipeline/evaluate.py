"""Judge a model file on a labelled folder and write the numbers, the table and the report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braincam.dataset.draw import evenly
from braincam.dataset.fingerprints import read_one_slice
from braincam.dataset.manifest import read_rows
from braincam.dataset.split import Leak
from braincam.errors import ConfigError, DataError
from braincam.evaluation.evaluate import Judged, judge, seen_before
from braincam.evaluation.metrics import paired_difference, score
from braincam.evaluation.robustness import robustness
from braincam.explain.localisation import MeanMasks, mean_masks
from braincam.files import as_path, replacing, write_json, write_text
from braincam.model_file.card import Card
from braincam.model_file.zoo import ModelFile, is_default
from braincam.pipeline.prepare import Grouped, grouped
from braincam.predict import Predictor
from braincam.progress import say
from braincam.report.assemble import write_pictures_and_report
from braincam.report.card import model_card

MOST_SUBGROUPS = 30
OF_A_TRAINING = ("run.json", "last.ckpt")
OF_TRAININGS = (*OF_A_TRAINING, "crossval.json")  # whose folder's other files belong with what is in them
WORDS = ("path", "label", "patient", "group", "predicted", "status")  # columns of predictions.csv that hold no numbers


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found; `out` is None where nothing was written."""

    metrics: dict[str, Any]
    judged: Judged
    out: Path | None


def evaluate(
    data: Path | str,
    model: Path | str | None = None,
    *,
    patients: Path | str | None = None,
    split: Path | str | None = None,
    fold: int | None = None,
    masks: Path | str | None = None,
    against: Path | str | None = None,
    by: str | None = None,
    corruptions: int = 0,
    out: Path | str | None = None,
) -> Evaluation:
    """Score a model on fold `fold` of `split`; without a split on Testing/ if there is one, else on everything.

    `against` is a second model: the paired difference on the same slices is added. `by` is a further column of
    `patients`, such as the scanner: the scores of each of its values are added. With `corruptions` so many of the
    slices are judged once more under each corruption at each strength (75 times). An earlier evaluation in `out` is
    replaced; what a training wrote never is.

    Raises:
        BraincamError: any of its kinds; the message says what to do.
    """
    data, patients, split, out = Path(data), as_path(patients), as_path(split), as_path(out)
    if (split is None) != (fold is None):
        raise DataError("evaluate: --split and --fold belong together; give both or neither")
    if by is not None and patients is None:
        raise DataError(f"evaluate: --by {by} belongs to --patients, whose column it is; give both")
    if out is not None:
        check_no_training(out, "the evaluation")
    predictor = Predictor(model)
    found = grouped(data, patients, split, least_classes=1)  # patients of one class are a common external test
    rows = rows_to_judge(found, fold)
    values = None if by is None or patients is None else column_of(found, patients, by, rows)
    judged = judge_rows(predictor, found, rows, masks=masks_of(found, as_path(masks)))
    metrics = dict(judged.metrics)
    torn = copies_of_seen(predictor, found, rows)
    known = sum(found.manifest.slices[row].patient is not None for row in rows)
    metrics["split"] = {
        "kind": "evaluation",
        "part": part_name(found, fold),
        "test_slices": len(rows),
        "with_known_patient": known,
        "seen_in_training": metrics["n_seen_in_training"],
        "with_twin_in_training": torn and torn.with_twin_in_training,
        "turned_in_training": torn and torn.turned_in_training,
        "verdict": verdict(metrics, torn, len(rows) - known),
    }
    if values is not None:
        metrics["by"] = {"column": by, "values": subgroups(judged, values, predictor.card)}
    if corruptions:
        metrics["corruptions"] = spoilt_slices(judged, predictor, found, rows, corruptions)
    if against is not None:
        metrics["against"] = compare(judged, predictor, Predictor(against), found, rows)
    if out is not None:
        write_results(out, judged, metrics, predictor.file, title=f"Evaluation of {predictor.card.name}")
    return Evaluation(metrics, judged, out)


def check_no_training(out: Path, what: str, signs: Sequence[str] = OF_TRAININGS) -> None:
    """Results of something else must not take the place of a run's own, which `crossval` and `export` read as such.

    Raises:
        ConfigError: the folder holds a training or a cross-validation.
    """
    if there := [name for name in signs if (out / name).exists()]:
        raise ConfigError(
            f"--out {out}: expected a folder for {what} alone, got one of a training, which holds {there[0]} "
            "and results that would be replaced; choose another --out"
        )


def rows_to_judge(found: Grouped, fold: int | None) -> list[int]:
    """The rows asked for."""
    slices = found.manifest.slices
    if found.folds is not None:
        rows = [row for row, number in enumerate(found.folds) if number == fold]
        if not rows:
            raise DataError(f"fold {fold}: expected one of {', '.join(map(str, sorted(set(found.folds))))}")
        return rows
    if found.manifest.has_official_split:
        return [row for row, item in enumerate(slices) if item.part == "Testing"]
    return list(range(len(slices)))


def column_of(found: Grouped, table: Path, column: str, rows: Sequence[int]) -> list[str]:
    """What a further column of the table of patients says of some slices; "unknown" where it says nothing.

    Raises:
        DataError: there is no such column, or it holds too many values to be one of subgroups.
    """
    told = read_rows(table, ("path", column), found.manifest)
    paths = [found.manifest.slices[row].path for row in rows]
    values = [told.get(path, {}).get(column, "").strip() or "unknown" for path in paths]
    if (count := len(set(values))) > MOST_SUBGROUPS:
        raise DataError(
            f"{table}: expected at most {MOST_SUBGROUPS} values in the column {column}, got {count}; put numbers, such "
            "as ages, into bands first"
        )
    return values


def subgroups(judged: Judged, values: Sequence[str], card: Card) -> dict[str, dict[str, Any]]:
    """The scores of each value's slices, those that the model has met left out."""
    labels = np.array([card.classes.index(item.label) for item in judged.manifest.slices])
    groups, of = np.asarray(judged.groups), np.asarray(values)
    scores = {}
    for value in sorted(set(values)):
        rows = (of == value) & ~judged.seen
        if rows.any():
            scores[value] = score(labels[rows], judged.probabilities[rows], card.classes, groups[rows])
    return scores


def spoilt_slices(
    judged: Judged, model: Predictor, found: Grouped, rows: Sequence[int], number: int
) -> dict[str, Any] | None:
    """How the model bears corruptions of about `number` slices it has not met, evenly of the classes; None of none."""
    unseen = [row for row, seen in zip(rows, judged.seen.tolist(), strict=True) if not seen]
    drawn = evenly(found.manifest, unseen, number, np.random.default_rng(0))
    if not drawn:
        return None
    slices = [read_one_slice(found.manifest.file(row), found.digests[row]) for row in drawn]
    truth = np.array([model.card.classes.index(found.manifest.slices[row].label) for row in drawn])
    return robustness(model, slices, truth, [found.groups[row] for row in drawn])


def part_name(found: Grouped, fold: int | None) -> str:
    """What was judged, in words."""
    if fold is not None:
        return f"fold {fold}"
    return "Testing/" if found.manifest.has_official_split else "the whole folder"


def copies_of_seen(model: Predictor, found: Grouped, rows: Sequence[int]) -> Leak | None:
    """What the judged slices that count as unseen share with those that the model has met.

    Only a table of folds can tear copies apart; its groups are heeded, so that its folds stay what they are. None
    where the model has met nothing of the folder: copies are sought within it alone.
    """
    met = seen_before(found.manifest, found.digests, found.groups, model.card)
    if not met.any():
        return None
    return found.leak(np.flatnonzero(met).tolist(), [row for row in rows if not met[row]])


def verdict(metrics: dict[str, Any], torn: Leak | None, strangers: int) -> str:
    """Whether the model had seen what it was judged on, in a sentence or two.

    `torn` counts the slices that have a copy which it has seen; of `strangers` the patient is unknown.
    """
    seen = metrics["n_seen_in_training"]
    near, turned = (torn.with_twin_in_training, torn.turned_in_training) if torn else (0, 0)
    copies = f"; {near} in the headline have a near copy that was" * bool(near)
    copies += f"; {turned} in the headline have one, upside down or turned, that was" * bool(turned)
    said = (
        f"{seen} of these slices, or their patients or groups, were met in training: "
        f"they are kept out of the headline and shown apart{copies}"
        if seen
        else f"none of these slices was recognised from training, by its bytes or its patient's name{copies}; "
        "one that was encoded anew would not be"
    )
    return f"{said}. {unknown_patients(strangers)}" if strangers else said


def unknown_patients(slices: int) -> str:
    """What it means for the intervals."""
    whose = "The patient of 1 slice is" if slices == 1 else f"The patients of {slices} slices are"
    return (
        f"{whose} unknown: each such slice, or its group of copies, counts as a patient, so the intervals may be too "
        "narrow; --patients names them"
    )


def masks_of(found: Grouped, folder: Path | None) -> MeanMasks | None:
    """The masks of a whole labelled folder, and a word on how many there are; None where none are given.

    To be called before the work whose maps they will measure.

    Raises:
        DataError: there is no such folder, or no slice has a mask there.
        ImageError: a mask is damaged.
    """
    if folder is None:
        return None
    slices = found.manifest.slices
    masks = mean_masks(folder, [item.path for item in slices], [item.label for item in slices], found.groups)
    say(f"{folder}: {len(masks.labels)} of the {len(slices)} slices have a mask")
    return masks


def judge_rows(
    model: Predictor | Path,
    found: Grouped,
    rows: Sequence[int],
    *,
    masks: MeanMasks | None = None,
    headline_includes_seen: bool = False,
) -> Judged:
    """Judge some rows; what the model has met is found over the whole folder, so groups of training slices count."""
    predictor = model if isinstance(model, Predictor) else Predictor(model)
    seen = seen_before(found.manifest, found.digests, found.groups, predictor.card)
    return judge(
        predictor,
        found.manifest.keep(rows),
        [found.groups[row] for row in rows],
        seen[list(rows)],
        masks=masks,
        headline_includes_seen=headline_includes_seen,
    )


def compare(judged: Judged, first: Predictor, second: Predictor, found: Grouped, rows: Sequence[int]) -> dict[str, Any]:
    """The first model minus the second on the slices that neither has seen."""
    if second.card.classes != first.card.classes:
        raise DataError(
            f"{second.card.name}: expected the classes {', '.join(first.card.classes)}, "
            f"got {', '.join(second.card.classes)}"
        )
    other = judge_rows(second, found, rows)
    fresh = ~(judged.seen | other.seen)
    if not fresh.any():
        raise DataError("against: every slice was seen in training by one of the two models; nothing can be compared")
    labels = np.array([first.card.classes.index(item.label) for item in judged.manifest.slices])
    difference = paired_difference(
        labels[fresh],
        judged.probabilities[fresh],
        other.probabilities[fresh],
        np.asarray(judged.groups)[fresh],
    )
    names = [predictor.card.name for predictor in (first, second)]
    if names[0] == names[1]:  # two seeds of one recipe, say: the files' hashes tell them apart
        names = [f"{predictor.card.name} ({predictor.file.sha256[:8]})" for predictor in (first, second)]
    return {
        "a": names[0],
        "b": names[1],
        "b_sha256": second.file.sha256,
        **difference,
    }


def write_results(
    out: Path,
    judged: Judged,
    metrics: dict[str, Any],
    model: ModelFile,
    *,
    title: str,
    history: pd.DataFrame | None = None,
    best_epoch: int | None = None,
    run: dict[str, Any] | None = None,
) -> None:
    """Write `metrics.json`, `predictions.csv`, `report.html`, `model_card.md` and the pictures that can be drawn."""
    card = model.card()
    out.mkdir(parents=True, exist_ok=True)
    evaluated = metrics if metrics["n"] else None  # of no slices there is nothing to tell
    write_text(out / "model_card.md", model_card(card, model.sha256, evaluated=evaluated, packaged=is_default(model)))
    write_json(out / "metrics.json", metrics)
    with replacing(out / "predictions.csv") as temporary:
        judged.table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
    write_pictures_and_report(
        out,
        judged,
        metrics,
        card,
        title=title,
        command=command_line(),
        history=history,
        best_epoch=best_epoch,
        run=run,
    )


def read_predictions(path: Path) -> pd.DataFrame:
    """A `predictions.csv` as `write_results` wrote it: names stay words, be they 0, 1.0 or None."""
    numbers = [str(name) for name in pd.read_csv(path, nrows=0) if name not in WORDS]
    return pd.read_csv(
        path, dtype=dict.fromkeys(WORDS, str), keep_default_na=False, na_values=dict.fromkeys(numbers, "")
    )


def command_line() -> str:
    """The command as it was typed, for people who want to repeat it; from a program there is none."""
    if Path(sys.argv[0]).stem not in ("braincam", "__main__"):
        return "(called from Python)"
    return shlex.join(["braincam", *sys.argv[1:]])
