"""Judge a model file on labelled slices: the numbers a user of that file will meet.

Predictions come from the ONNX graph, as they do for users. Slices that the model has seen, and slices of patients or
twin groups it has seen, are counted, kept out of the headline and shown apart.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from braincam.dataset.manifest import Manifest
from braincam.errors import DataError
from braincam.evaluation.confidence import confidence_report
from braincam.evaluation.localise import Localisation
from braincam.evaluation.metrics import no_tumour_class, score
from braincam.explain.localisation import MeanMasks
from braincam.model_file.card import HASH_LENGTH, Card, patient_hash
from braincam.predict import Prediction, Predictor
from braincam.progress import track

GALLERY = 8  # pictures kept for the report, of mistakes and of right answers


@dataclass(frozen=True, eq=False)
class Judged:
    """A model's answers on labelled slices, one row per slice, and what was summed up from them."""

    manifest: Manifest
    groups: list[str]
    seen: NDArray[np.bool_]  # (N,) the model has met this slice, its patient or its twin
    probabilities: NDArray[np.float64]  # (N, K)
    table: pd.DataFrame  # predictions.csv
    metrics: dict[str, Any]  # metrics.json
    mistakes: list[tuple[Prediction, str]]  # most confident first, with the true class
    successes: list[tuple[Prediction, str]]


def seen_before(manifest: Manifest, digests: Sequence[str], groups: Sequence[str], card: Card) -> NDArray[np.bool_]:
    """Which slices the model has met: by their bytes, their patient, or a group that holds one of those. (N,)

    `digests` are SHA-256 in hexadecimal; the card keeps their first digits.
    """
    slices, patients = set(card.seen_slices), set(card.seen_groups)
    data = str(card.training.get("data_sha256"))
    direct = [
        digest[:HASH_LENGTH] in slices or (item.patient is not None and patient_hash(item.patient, data) in patients)
        for digest, item in zip(digests, manifest.slices, strict=True)
    ]
    met = {name for name, hit in zip(groups, direct, strict=True) if hit}
    by_group = [name in met for name in groups]
    return np.array([one or other for one, other in zip(direct, by_group, strict=True)], dtype=bool)


def class_numbers(manifest: Manifest, card: Card, where: str) -> list[int]:
    """Each slice's class as the model numbers it.

    Raises:
        DataError: the folder has a class that the model does not know.
    """
    known = [unicodedata.normalize("NFC", name) for name in card.classes]  # as the manifest writes accents
    if strange := sorted(set(manifest.classes) - set(known)):
        raise DataError(
            f"{manifest.root}: {where} does not know the class {', '.join(strange)}; it knows {', '.join(card.classes)}"
        )
    return [known.index(item.label) for item in manifest.slices]


def judge(
    predictor: Predictor,
    manifest: Manifest,
    groups: Sequence[str],
    seen: NDArray[np.bool_],
    *,
    masks: MeanMasks | None = None,
    headline_includes_seen: bool = False,
) -> Judged:
    """Predict every slice and score the answers.

    With `masks` the maps of rightly named tumours are measured too.

    The headline leaves out what the model has seen, unless `headline_includes_seen`: the popular split, where a leaky
    number is what was asked for. Both are always in the metrics, under "unseen" and "all".

    Pixels and maps do not outlive a batch, except the few pictures of the report.
    """
    card = predictor.card
    labels = np.array(class_numbers(manifest, card, card.name))
    headline = np.ones(len(labels), dtype=bool) if headline_includes_seen else ~seen
    maps = None if masks is None else Localisation(predictor, masks, manifest, groups)
    predictions: list[Prediction] = [None] * len(labels)  # type: ignore[list-item]  # each is filled in
    probabilities = np.empty((len(labels), len(card.classes)))
    sets = np.zeros(probabilities.shape, bool)  # as they were given: the probabilities of an answer are rounded
    for row, answer in _answers(predictor, manifest, range(len(labels))):
        assert answer.probabilities is not None
        probabilities[row] = [answer.probabilities[name] for name in card.classes]
        sets[row] = [name in (answer.prediction_set or ()) for name in card.classes]
        if maps is not None and headline[row] and probabilities[row].argmax() == labels[row]:
            maps.add(row, answer)
        predictions[row] = replace(answer, cam=None, cams=None, pixels=None, volume=None)
    predicted = probabilities.argmax(1)
    status = np.array([p.status for p in predictions])
    metrics = _metrics(card, labels, probabilities, sets, status, np.asarray(groups), seen, headline)
    metrics["headline"] = "all" if headline_includes_seen else "unseen"
    columns: dict[str, list[Any]] = {}
    if maps is not None:
        metrics["localisation"], columns = maps.summary()
    table = pd.DataFrame(
        {
            "path": [item.path for item in manifest.slices],
            "label": [item.label for item in manifest.slices],
            "patient": [item.patient or "" for item in manifest.slices],
            "group": list(groups),
            "predicted": [card.classes[k] for k in predicted],
            "status": status,
            "seen_in_training": seen,
            "outlier_score": [p.outlier_score for p in predictions],
            **{f"p_{name}": probabilities[:, k] for k, name in enumerate(card.classes)},
            **columns,
        }
    )
    mistakes, successes = _gallery(predictions, manifest, headline, predicted == labels)
    shown = {
        row: (replace(predictions[row], cam=again.cam, pixels=again.pixels), manifest.slices[row].label)
        for row, again in _answers(predictor, manifest, [*mistakes, *successes])
    }
    return Judged(
        manifest,
        list(groups),
        seen,
        probabilities,
        table,
        metrics,
        [shown[row] for row in mistakes],
        [shown[row] for row in successes],
    )


def _metrics(
    card: Card,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    sets: NDArray[np.bool_],
    status: NDArray[np.str_],
    groups: NDArray[np.str_],
    seen: NDArray[np.bool_],
    headline: NDArray[np.bool_],
) -> dict[str, Any]:
    """Scores of the headline, beside those of what the model has seen and has not, and what its confidence is worth."""

    def scored(rows: NDArray[np.bool_]) -> dict[str, Any]:
        return score(labels[rows], probabilities[rows], card.classes, groups[rows])

    metrics = scored(headline)
    metrics["n_seen_in_training"] = int(seen.sum())
    if seen.any():
        metrics["all"] = scored(np.ones(len(labels), dtype=bool))
        metrics["unseen"] = scored(~seen)
        metrics["seen"] = scored(seen)
    metrics["status"] = status_counts(status[headline], probabilities[headline].argmax(1) == labels[headline])
    metrics["confidence"] = confidence_report(
        labels[headline],
        probabilities[headline],
        card.classes,
        groups[headline].tolist(),
        sets=sets[headline],
        coverage=card.conformal_coverage,
        answered=status[headline] == "ok",
        none=no_tumour_class(card.classes),
        temperature=card.temperature,
    )
    return metrics


def _answers(predictor: Predictor, manifest: Manifest, rows: Sequence[int]) -> Iterator[tuple[int, Prediction]]:
    """Rows and what is predicted for them, maps included; every slice was readable when it was listed.

    DICOM files of a series are answered in order of position, not of name: an answer is told by its path.
    """
    row_of = {str(manifest.file(row)): row for row in rows}
    for answer in track(predictor.stream(list(row_of)), "evaluating", len(row_of), "slices"):
        if answer.status == "error":
            raise DataError(
                f"{answer.reason}; it was readable when it was listed: check the disk and the memory, and start again"
            )
        yield row_of[answer.path], answer


def status_counts(status: NDArray[np.str_], correct: NDArray[np.bool_]) -> dict[str, Any]:
    """How often the model answered, referred and refused, and how often its plain answers were right."""
    answered = status == "ok"
    return {
        "ok": int(answered.sum()),
        "refer": int((status == "refer").sum()),
        "rejected": int((status == "rejected").sum()),
        "accuracy_when_ok": float(correct[answered].mean()) if answered.any() else None,
    }


def _gallery(
    predictions: Sequence[Prediction], manifest: Manifest, rows: NDArray[np.bool_], correct: NDArray[np.bool_]
) -> tuple[list[int], list[int]]:
    """Rows of the most confident mistakes, and of the most typical right answers, class by class."""

    def confidence(row: int) -> float:
        return predictions[row].confidence or 0.0

    wrong = sorted(np.flatnonzero(rows & ~correct).tolist(), key=confidence, reverse=True)[:GALLERY]
    right: list[int] = []
    by_class = {
        name: [row for row in np.flatnonzero(rows & correct).tolist() if manifest.slices[row].label == name]
        for name in manifest.classes
    }
    each = max(1, GALLERY // len(manifest.classes))
    for members in by_class.values():
        # the middle of the confidence range: neither cherries nor accidents
        ranked = sorted(members, key=confidence)
        start = max(0, len(ranked) // 2 - each // 2)
        right += ranked[start : start + each]
    return wrong, right
