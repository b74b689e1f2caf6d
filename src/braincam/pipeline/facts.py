"""What a card and ``run.json`` say of a training: what it was made from, by which recipe, on which machine."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from braincam.evaluation.calibration import COVERAGE
from braincam.model_file.card import HASH_LENGTH, Card, patient_hash
from braincam.model_file.export import network_facts
from braincam.network.exportable import Deployed
from braincam.pipeline.evaluate import command_line
from braincam.pipeline.prepare import Grouped, Parts, digest_of
from braincam.pipeline.start import Origin
from braincam.training.config import FIRST_REVISION, REVISION, TrainConfig
from braincam.training.loop import Fit


def make_card(
    name: str,
    found: Grouped,
    parts: Parts,
    recipe: TrainConfig,
    model: Deployed,
    thresholds: dict[str, Any],
    origin: Origin | None = None,
) -> Card:
    """The model's facts before it has been judged. What its `origin` has met, it has met too."""
    network, parameters = network_facts(model.network)
    met = [*parts.train, *parts.validation]
    slices = found.manifest.slices
    patients = {name for name in (slices[row].patient for row in met) if name is not None}
    data_hash = found.data_sha256
    # patients are hashed with their folder, so those that the origin has met are looked up by its own hash
    known = {item.patient for item in slices if item.patient is not None}
    inherited = {patient_hash(name, data_hash) for name in known if origin and origin.has_met(name)}
    return Card(
        name=name,
        classes=found.manifest.classes,
        preprocess=asdict(model.preprocess.config),
        network=network,
        parameters=parameters,
        conformal_coverage=COVERAGE,
        training={
            "data_sha256": data_hash,
            "revision": REVISION,
            **asides(found, origin),
            **({"started_from": origin.facts()} if origin else {}),
            "slices": len(met),
            "patients_known": len(patients),
            "groups": len({found.groups[row] for row in met}),
            "split": parts.describe(),
        },
        scores={},
        recipe=asdict(recipe),
        versions=versions(),
        created=now(),
        seen_slices=tuple(sorted({*seen_slices(found, parts), *(origin.card.seen_slices if origin else ())})),
        seen_groups=tuple(sorted({*(patient_hash(name, data_hash) for name in patients), *inherited})),
        **thresholds,
    )


def seen_slices(found: Grouped, parts: Parts) -> tuple[str, ...]:
    """Short hashes of the training and validation files, as a card keeps them."""
    return tuple(sorted({found.digests[row][:HASH_LENGTH] for row in (*parts.train, *parts.validation)}))


def headline_scores(metrics: dict[str, Any]) -> dict[str, Any]:
    """The part of the metrics that a card carries."""
    keys = (
        "n", "n_groups", "accuracy", "balanced_accuracy", "patient_averaged_accuracy", "macro_f1", "per_class",
        "three_tumour_classes", "auroc_macro", "tumour_auroc", "tumour_auroc_note", "nll", "brier", "ece", "ci95",
        "ci95_method", "headline", "status", "localisation", "confidence",
    )  # fmt: skip
    return {key: metrics[key] for key in keys if key in metrics}


def run_facts(
    data: Path,
    found: Grouped,
    parts: Parts,
    recipe: TrainConfig,
    card: Card,
    fitted: Fit,
    *,
    seconds: float,
    origin: Origin | None = None,
) -> dict[str, Any]:
    """`run.json`: what it takes to understand and repeat the run."""
    return {
        "command": command_line(),
        "created": now(),
        "data": str(data),
        **identity(found, origin),
        "started_from": origin.facts() if origin else None,
        "unreadable": [asdict(item) for item in found.unreadable],
        "ignored": list(found.manifest.ignored),
        "split": parts.describe(),
        "config": asdict(recipe),
        "epochs_trained": len(fitted.history),
        "best_epoch": fitted.best,
        "stopped_early": fitted.stopped_early,
        "seconds": round(seconds, 1),
        "training_seconds": round(fitted.seconds, 1),
        "data_share": None if fitted.data_share is None else round(fitted.data_share, 3),
        "device": card.training["device"],
        "precision": card.training["precision"],
        "deterministic": card.training["deterministic"],
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": versions(),
    }


# what runs and cards of before do not say
UNSAID: Mapping[str, Any] = {
    "revision": FIRST_REVISION,
    "not_learnt_sha256": "",
    "refused_sha256": "",
    "started_from_sha256": "",
}


def identity(found: Grouped, origin: Origin | None = None) -> dict[str, Any]:
    """What runs must share, beside their recipe, to be runs of one cross-validation."""
    facts: dict[str, Any] = {"data_sha256": found.data_sha256, "revision": REVISION, **asides(found, origin)}
    return facts if found.folds is None else {**facts, "folds_sha256": found.fold_digest()}


def asides(found: Grouped, origin: Origin | None = None) -> dict[str, str]:
    """Hashes of what was set aside, and of the model that was begun with; empty for nothing."""
    return {
        "not_learnt_sha256": digest_of(found.not_learnt),
        "refused_sha256": digest_of(found.refused),
        "started_from_sha256": origin.sha256 if origin else "",
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("braincam", "torch", "torchvision", "numpy", "onnxruntime", "scikit-learn", "pillow")
    return {name: importlib.metadata.version(name) for name in names}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
