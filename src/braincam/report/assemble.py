"""From what was judged to the pictures and the page of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braincam.evaluation.confidence import before_temperature
from braincam.evaluation.evaluate import Judged
from braincam.explain.overlay import overlay
from braincam.files import write_bytes
from braincam.model_file.card import Card
from braincam.model_file.decision import stated
from braincam.predict import Prediction
from braincam.report.page import jpeg
from braincam.report.run import RunFacts, drawings, write_run_report


def write_pictures_and_report(
    out: Path,
    judged: Judged,
    metrics: Mapping[str, Any],
    card: Card,
    *,
    title: str,
    command: str,
    history: pd.DataFrame | None = None,
    best_epoch: int | None = None,
    run: Mapping[str, Any] | None = None,
) -> None:
    """Write `report.html` and its drawings beside it, as PNG: confusion, roc, reliability, risk, curves.

    A picture that cannot be drawn, for want of slices or of a history, is left out.
    """
    rows = np.ones(len(judged.seen), bool) if metrics["headline"] == "all" else ~judged.seen
    labels = np.array([card.classes.index(item.label) for item in judged.manifest.slices])[rows]
    probabilities = judged.probabilities[rows]
    facts = RunFacts(
        title=title,
        metrics=metrics,
        command=command,
        created="" if run is None else str(run["created"]),
        model_created=card.created if run is None else "",
        split=dict(metrics.get("split") or {}),
        card=card_facts(card),
        config=card.recipe,
        environment=environment_facts(card, run),
        baselines=metrics.get("baselines") or {},
        shown_apart=shown_apart(metrics),
        comparison=metrics.get("against"),
        labels=labels,
        probabilities=probabilities,
        uncalibrated=before_temperature(probabilities, card.temperature),
        history=history,
        best_epoch=best_epoch,
        data_share=None if run is None else run["data_share"],
        mistakes=[picture(answer, truth) for answer, truth in judged.mistakes],
        examples=[picture(answer, truth) for answer, truth in judged.successes],
        decisions={
            "answered": metrics["status"]["ok"],
            "referred": metrics["status"]["refer"],
            "rejected": metrics["status"]["rejected"],
        },
        localisation=localisation_facts(metrics),
    )
    pictures = drawings(facts)
    for name, png in pictures.items():
        write_bytes(out / f"{name}.png", png)
    write_run_report(out / "report.html", facts, pictures)


def shown_apart(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of the slices that the headline leaves out, or takes in, under the page's names for them."""
    names = {"unseen": "not seen in training", "seen": "seen in training", "all": "everything asked for"}
    cuts = {name: metrics[key] for key, name in names.items() if metrics.get(key) and metrics["headline"] != key}
    by = metrics.get("by") or {"values": {}}
    return cuts | {f"{by['column']}: {value}": scores for value, scores in by["values"].items()}


def picture(answer: Prediction, truth: str) -> tuple[bytes, str]:
    """An overlay as JPEG bytes, and its caption."""
    if answer.cam is None or answer.pixels is None or answer.probabilities is None:
        raise ValueError("a picture needs the slice and its map")
    label = max(answer.probabilities, key=answer.probabilities.__getitem__)
    drawn = overlay(answer.pixels, answer.cam, label=label, probability=answer.confidence or 0.0)
    outcome = "right" if label == truth else f"the reference says {truth}"
    return (
        jpeg(drawn),
        f"{Path(answer.path).name}: {label} {stated(answer.confidence or 0.0, '.0%')}, {outcome} ({answer.status})",
    )


def card_facts(card: Card) -> dict[str, Any]:
    """What the page says of the model."""
    return {
        "name": card.name,
        "classes": list(card.classes),
        "network": network_name(card),
        "parameters": f"{card.parameters:,}",
        "input": f"{card.preprocess['image_size']} x {card.preprocess['image_size']} pixels, "
        f"{len(card.preprocess['mean'])} channel(s)",
        "temperature": round(card.temperature, 3),
        "outlier_threshold": round(card.outlier_threshold, 3),
        "conformal_coverage": card.conformal_coverage,
        "license": card.license,
        "created": card.created,
    }


def network_name(card: Card) -> str:
    """The network in words; a peer has no attention to speak of."""
    facts = card.network
    return f"AttentionCNN {facts['size']}, attention: {facts['attention']}" if "attention" in facts else facts["size"]


def environment_facts(card: Card, run: Mapping[str, Any] | None) -> dict[str, Any]:
    """Where, when and with what the model was made."""
    facts: dict[str, Any] = {
        key: card.training[key] for key in ("device", "precision", "seconds") if key in card.training
    }
    if run is not None:
        facts |= {key: run[key] for key in ("machine", "threads", "seconds", "training_seconds", "data_sha256")}
    return {**facts, "versions": card.versions}


def localisation_facts(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The pointing game in the page's words."""
    game = metrics.get("localisation")
    if not game:
        return None
    return {
        "pointing": game["hit_rate"],
        "n": game["n"],
        "ci95": game["ci95"],
        "patients_or_groups": game["n_groups"],
        "a_random_pixel_reaches": round(game["mean_area"], 4),
        "table": game.get("maps"),
        "by_class": {name: part["maps"]["this model"] for name, part in (game.get("by_class") or {}).items()},
        "erased": game.get("erased"),
        "label_only": game.get("label_only_fitted_on"),
    }
