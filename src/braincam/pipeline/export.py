"""A trained safetensors model → the ONNX file to deploy, in float32 or with its convolutions in int8."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from braincam.dataset.fingerprints import read_one_slice
from braincam.errors import DataError, ModelFileError
from braincam.evaluation.calibration import least_units
from braincam.evaluation.crossfit import Covering, Decisions
from braincam.evaluation.evaluate import seen_before, status_counts
from braincam.evaluation.metrics import OURS, paired_difference, score
from braincam.files import as_path, read_json, write_bytes
from braincam.model_file.card import HASH_LENGTH, OUTLIER_FEATURES, Card
from braincam.model_file.decision import prediction_sets, settled
from braincam.model_file.export import export_onnx, load_model, save_model, strip, with_card
from braincam.model_file.quantise import quantise
from braincam.pipeline.evaluate import judge_rows, read_predictions
from braincam.pipeline.facts import UNSAID, headline_scores
from braincam.pipeline.out_of_fold import Answers, confidence, read_answers, source_of
from braincam.pipeline.prepare import Grouped, grouped
from braincam.predict import Predictor
from braincam.progress import say
from braincam.training.config import MACHINE

CALIBRATION = 128  # slices that set the ranges of the activations
ROUNDS = 8  # of timing, the files in turns
POOLED = ("n", "n_groups", "accuracy", "balanced_accuracy", "patient_averaged_accuracy", "nll", "brier", "ece")
CONFIDENCE = ("calibration", "prediction_sets", "referred", "rejected", "accuracy_when_ok")
AFTER_TEMPERATURE = {"nll", "brier", "ece", "auroc_macro", "tumour_auroc", "status", "confidence"}
# the same in all runs of a crossval; the card says the folder, the code and what was set aside
SAME = ("data_sha256", "folds_sha256", *UNSAID)
NOT_OF_THE_RECIPE = {"seed", *MACHINE}  # another seed or machine is the same recipe


def export(
    model: Path | str, out: Path | str, crossval: Path | str | None = None, covering: Covering = "slices"
) -> dict[str, Any]:
    """Write the ONNX file of a safetensors model (or of a run folder that holds one), checked against PyTorch first.

    With the folder of a `crossval` of the same recipe, temperature and thresholds come from its answers on all slices
    but the model's own test, and its pooled scores join the card: one fold alone holds too few patients to set or to
    certify anything. The trainable twin with the same card is written beside `out` then. `covering` says what its
    prediction sets promise to hold the truth of: 95 % of the slices, or of those of new patients, each weighing the
    same.

    Raises:
        ModelFileError: the model cannot be read, its outlier score is that of another version, `out` is no .onnx name
            or with `crossval` lies in a run folder, or the graph disagrees with PyTorch.
        DataError: the folder holds no finished crossval, or one of another recipe, of other data or that leaks.
    """
    model, out = Path(model), Path(out)
    source = model / "model.safetensors" if model.is_dir() else model
    if source.suffix == ".onnx":
        twin = source.with_suffix(".safetensors")
        raise ModelFileError(f"{source}: is an ONNX file already; expected its trainable twin, such as {twin}")
    if out.suffix != ".onnx":
        raise ModelFileError(f"{out}: expected a name that ends in .onnx")
    if crossval is not None and out.with_name("predictions.csv").exists():
        # the answers there were given at the temperature of the model there, and later crossvals read both
        raise ModelFileError(f"{out}: lies in a run folder, whose own model must stay with its answers; choose another")
    deployed, card = load_model(source)
    if card.outlier_features != OUTLIER_FEATURES:
        raise ModelFileError(
            f"{source}: its outlier score measures {card.outlier_features}, that of this version {OUTLIER_FEATURES}; "
            "use the ONNX file that was written beside it, or train it again"
        )
    if crossval is not None:
        card = recalibrated(card, Path(crossval), source.with_name("predictions.csv"), covering)
        deployed.temperature = card.temperature
        warn_of_classes_never_ruled_out(card, covering)
    difference = export_onnx(out, deployed, card)
    if crossval is not None:
        save_model(out.with_suffix(".safetensors"), deployed, card)
    return {
        "out": str(out),
        "bytes": out.stat().st_size,
        "parameters": card.parameters,
        "largest_probability_difference": difference,
    }


def warn_of_classes_never_ruled_out(card: Card, covering: Covering) -> None:
    """Say which classes had too few slices, or patients, in the cross-validation for a threshold, and what to do."""
    if names := card.never_ruled_out:
        units, otherwise = "slices", "add slices"
        if covering == "patients":
            units, otherwise = "patients or groups", "add patients, or leave --covering patients out"
        say(
            f"this model refers what it should answer: {', '.join(names)} cannot be ruled out, which takes "
            f"{least_units(card.conformal_coverage)} or more {units} of a class in the cross-validation; {otherwise}"
        )


def recalibrated(card: Card, folder: Path, own_answers: Path, covering: Covering = "slices") -> Card:
    """The card with temperature, thresholds and pooled scores of the recipe's crossval in `folder`.

    The model's `own_answers` on its test part say which slices these are: answers on them take no part, so that they
    stay a test, and the scores there are worked out again. Where that file is not there, all answers take part, and
    scores that hang on the temperature are left out.

    Raises:
        DataError: the folder holds no finished crossval, or one of another recipe.
    """
    stored = stored_crossval(folder, card)
    runs = [(row["fold"], row["seed"]) for row in stored["runs"]]
    answers = read_answers(folder, runs)
    own = read_predictions(own_answers) if own_answers.is_file() else None
    others = answers if own is None else answers.apart_from(set(own["path"]))
    decisions = others.decisions(covering)
    scores = {key: value for key, value in card.scores.items() if key not in AFTER_TEMPERATURE}
    scores["ci95"] = {key: value for key, value in scores.get("ci95", {}).items() if key not in AFTER_TEMPERATURE}
    if own is not None:
        scores |= scores_after(own, card, decisions)
    source = {**source_of(others.table), "test_apart": own is not None, "covering": covering}
    return replace(
        card,
        temperature=decisions.temperature,
        conformal_thresholds=decisions.conformal_thresholds,
        scores=scores,
        extra={**card.extra, "recipe_pooled": recipe_scores(stored, covering), "calibrated_by": source},
    )


def scores_after(table: pd.DataFrame, card: Card, decisions: Decisions) -> dict[str, Any]:
    """The scores of a model that change with its temperature and thresholds, on the slices of its headline."""
    if card.scores.get("headline") != "all":
        table = table[~table["seen_in_training"]]
    own = Answers(table.assign(temperature=card.temperature), np.zeros((0, 0), bool), card.classes)
    probabilities = decisions.probabilities(own.logits)
    sets = prediction_sets(probabilities, decisions.conformal_thresholds)
    answered = own.accepted & settled(probabilities, sets)
    status = np.where(own.accepted, np.where(answered, "ok", "refer"), "rejected")
    metrics = score(own.labels, probabilities, card.classes, own.groups)
    metrics["status"] = status_counts(status, probabilities.argmax(1) == own.labels)
    metrics["confidence"] = confidence(own, probabilities, sets)
    return headline_scores(metrics)


def stored_crossval(folder: Path, card: Card) -> dict[str, Any]:
    """What `crossval` wrote of a recipe, once it is certain that it is the card's, on the card's data.

    Raises:
        DataError: the folder holds no finished crossval, one of another recipe or of other data, or one that leaks.
    """
    try:
        found = read_json(folder / "crossval.json")
        found["pooled"][OURS], found["confidence"], found["localisation"]
        runs = [folder / f"fold{row['fold']}-seed{row['seed']}" / "run.json" for row in found["runs"]]
        facts = [read_json(run) for run in runs]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: expected the folder of a finished braincam crossval ({error!r})") from error
    for run, fact in zip(runs, facts, strict=True):
        stored = fact["config"]
        keys = sorted((set(stored) | set(card.recipe)) - NOT_OF_THE_RECIPE)
        if changed := [key for key in keys if stored.get(key) != card.recipe.get(key)]:
            raise DataError(f"{run}: expected the recipe of {card.name}; it differs in {', '.join(changed)}")
        for key in SAME:  # an older card or run does not say them all
            told = [said.get(key, UNSAID.get(key)) for said in (fact, card.training, facts[0])]
            told = [value for value in told if value is not None]
            if len(set(told)) > 1:
                raise DataError(
                    f"{run}: expected a run on the data of {card.name}, by the same version ({key} differs)"
                )
        if fact["split"]["leaks"]:
            raise DataError(f"{run}: its folds leak, which flatters what a card would say; make safe ones")
    return found


def recipe_scores(stored: dict[str, Any], covering: Covering = "slices") -> dict[str, Any]:
    """What a card says of its recipe: its crossval's scores over folds and seeds, folds calibrated by the others.

    `stored` is what `crossval.json` holds. Those of older versions do not say what sets that cover patients come to;
    such a card is silent on it.
    """
    pooled, sure, maps = stored["pooled"][OURS], stored["confidence"], stored["localisation"]
    if sure and covering == "patients":
        sure = sure.get("covering_patients")
    folds, seeds = (len({run[key] for run in stored["runs"]}) for key in ("fold", "seed"))
    return {
        "folds": folds,
        "seeds": seeds,
        "slices": pooled["n"] // seeds,  # `n` counts answers: one per slice and seed
        **{key: pooled[key] for key in POOLED},
        "ci95": {key: pooled["ci95"][key] for key in POOLED if key in pooled["ci95"]},
        "three_tumour_classes": {key: pooled["three_tumour_classes"][key] for key in ("accuracy", "ci95")}
        if pooled.get("three_tumour_classes")
        else None,
        "missed_tumours": sure["missed_tumours"] if sure else None,
        "confidence": {key: sure[key] for key in CONFIDENCE} if sure else None,
        "localisation": maps["measures"] if maps else None,
        "localisation_by_class": maps["by_class"] if maps else None,
        "erased": maps.get("erased") if maps else None,
    }


def export_int8(
    model: Path | str, out: Path | str, data: Path | str, patients: Path | str | None = None
) -> dict[str, Any]:
    """Like `export`, with the convolutions of the stages in int8, and what that costs measured and kept in the card.

    `data` is the folder the model was trained on. Slices it was trained on set the ranges; what is lost is measured on
    those it has not met, nor their patients or twins. Temperature and thresholds stay those of the float32 file; the
    scores in the card are the new file's own.

    Raises:
        ModelFileError: as for `export`.
        DataError: the folder has no slice that the model was trained on, or none that it has not met.
    """
    out, data = Path(out), Path(data)
    if out.suffix != ".onnx":
        raise ModelFileError(f"{out}: expected a name that ends in .onnx")
    with tempfile.TemporaryDirectory() as temporary:
        plain = Path(temporary) / "float32.onnx"
        export(model, plain)
        before = Predictor(plain)
        found = grouped(data, as_path(patients))
        rows = trained_on(found, before)
        say(f"setting the ranges on {len(rows)} training slices")
        graph = strip(quantise(before.file.content, batches(found, rows), str(out)))
        made = Path(temporary) / "int8.onnx"
        write_bytes(made, with_card(graph, before.card))
        after = Predictor(made)
        loss, scores = compare(before, after, found)
        loss["calibration_slices"] = len(rows)
        card = replace(
            before.card, name=f"{before.card.name}-int8", scores=scores, extra={**before.card.extra, "int8": loss}
        )
        del graph.metadata_props[:]
        write_bytes(out, with_card(graph, card))
        ratio = speed(plain, made, read_one_slice(found.manifest.file(rows[0])))
    return {"out": str(out), "bytes": out.stat().st_size, "parameters": card.parameters, "times_as_fast": ratio, **loss}


def trained_on(found: Grouped, predictor: Predictor) -> list[int]:
    """Up to `CALIBRATION` slices that the model has met, drawn from all of them."""
    met = set(predictor.card.seen_slices)
    rows = [row for row, digest in enumerate(found.digests) if digest[:HASH_LENGTH] in met]
    if not rows:
        raise DataError(
            f"{found.manifest.root}: none of its slices was met in training by {predictor.card.name}; expected the "
            "folder it was trained on, since int8 ranges are set on training slices only"
        )
    return sorted(np.random.default_rng(0).permutation(rows)[:CALIBRATION].tolist())


def batches(found: Grouped, rows: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """The slices one by one, since they may differ in size: (1, H, W)."""
    for row in rows:
        yield read_one_slice(found.manifest.file(row))[None]


def compare(before: Predictor, after: Predictor, found: Grouped) -> tuple[dict[str, Any], dict[str, Any]]:
    """What int8 changes on the slices that the model has not met, and the scores of the int8 file there."""
    seen = seen_before(found.manifest, found.digests, found.groups, before.card)
    fresh = np.flatnonzero(~seen).tolist()
    if not fresh:
        raise DataError(
            f"{found.manifest.root}: {before.card.name} has met every slice, or its patient or twin; nothing is left "
            "to measure what int8 costs; give a folder that holds its test part as well"
        )
    first, second = (judge_rows(predictor, found, fresh) for predictor in (before, after))
    labels = np.array([before.card.classes.index(item.label) for item in first.manifest.slices])
    difference = paired_difference(labels, second.probabilities, first.probabilities, np.asarray(first.groups))
    status = first.table["status"].to_numpy() == second.table["status"].to_numpy()
    same = first.probabilities.argmax(1) == second.probabilities.argmax(1)
    loss = {
        "n": difference["n"],
        "n_groups": difference["n_groups"],
        "accuracy_float32": first.metrics["accuracy"],
        "accuracy": second.metrics["accuracy"],
        "accuracy_change": difference["accuracy"],
        "accuracy_change_ci95": difference["ci95"]["accuracy"],
        "same_label": float(same.mean()),
        "same_status": float(status.mean()),
        "largest_probability_difference": float(np.abs(first.probabilities - second.probabilities).max()),
    }
    return loss, headline_scores(second.metrics)


def speed(before: Path, after: Path, pixels: NDArray[np.uint8]) -> float:
    """How many times as fast the second file answers for one slice, on one thread of this machine.

    They take turns in rows of several answers: the first ones after a turn find the other's weights in the cache.
    """
    taken: dict[Path, list[float]] = {before: [], after: []}
    predictors = {path: Predictor(path, threads=1) for path in taken}
    for _ in range(ROUNDS):
        for path, seconds in taken.items():
            for number in range(2 * ROUNDS):
                start = time.perf_counter()
                predictors[path].answer(pixels[None])
                if number >= ROUNDS:
                    seconds.append(time.perf_counter() - start)
    return float(np.median(taken[before]) / np.median(taken[after]))
