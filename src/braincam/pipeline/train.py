"""Train on a labelled folder: from pictures to a judged, self-describing model file and a report."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from braincam.errors import ConfigError, TrainingError
from braincam.evaluation.baselines import baseline_probabilities
from braincam.evaluation.calibration import conformal_thresholds, fit_temperature
from braincam.evaluation.evaluate import Judged
from braincam.evaluation.metrics import score
from braincam.evaluation.outliers import fit_outliers, rejection_threshold
from braincam.files import as_path, write_json, write_text
from braincam.model_file.card import HASH_LENGTH, Card, patient_hash
from braincam.model_file.export import export_onnx, network_facts, replace_card, save_model
from braincam.network.attention_cnn import AttentionCNN, NetworkConfig
from braincam.network.exportable import Deployed
from braincam.network.preprocess import Preprocess, PreprocessConfig
from braincam.pipeline.evaluate import command_line, judge_rows, write_results
from braincam.pipeline.pools import load
from braincam.pipeline.prepare import Grouped, Parts, divide, grouped
from braincam.progress import say
from braincam.training.batches import Pool, unit
from braincam.training.config import TrainConfig, read_config
from braincam.training.device import describe_device, pick_device, pick_precision
from braincam.training.history import to_frame
from braincam.training.loop import EVALUATION_BATCH, Fit, fit

FALSE_REFUSALS = 0.01  # share of real validation slices that may be refused as outliers
COVERAGE = 0.95  # share of prediction sets that should hold the true class


@dataclass(frozen=True, eq=False)
class Trained:
    """Where a run lies, what it scored, and how long it took."""

    folder: Path
    metrics: dict[str, Any]
    split: dict[str, Any]
    seconds: float


def train(
    data: Path | str,
    out: Path | str,
    *,
    patients: Path | str | None = None,
    split: Path | str | None = None,
    fold: int = 0,
    config: Path | str | TrainConfig | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    allow_leak: bool = False,
    masks: Path | str | None = None,
    name: str | None = None,
) -> Trained:
    """Train on `data` and fill the folder `out` with the model files, curves, metrics and report.

    `config` is a TOML file, the name of a shipped recipe, or a `TrainConfig`; `overrides` are ``key=value`` strings.
    Without `split` a patient- and twin-safe split is made; fold `fold` is the test. `masks` are used after training
    only, to see whether the maps point at lesions.

    Raises:
        BraincamError: any of its kinds; the message says what to do.
    """
    data, out, patients, split, masks = Path(data), Path(out), as_path(patients), as_path(split), as_path(masks)
    started = time.perf_counter()
    recipe = config if isinstance(config, TrainConfig) else read_config(as_path(config), overrides)
    if split is not None and recipe.split == "official":
        raise ConfigError("--split and split=official exclude each other; give one of them")
    if (out / "last.ckpt").exists() and not resume:
        raise TrainingError(f"{out}: holds a training already; say --resume to go on with it, or choose another --out")
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    device = pick_device(recipe.device)
    precision = pick_precision(recipe.precision, device)

    found = grouped(data, patients, split)
    kind = "file" if split is not None else recipe.split
    parts = divide(found, kind, fold, recipe.validation_share, recipe.seed, allow_leak=allow_leak)
    announce(found, parts, device, precision)
    out.mkdir(parents=True, exist_ok=True)
    if not resume:  # a refused resume must not change what the run says of itself
        write_text(out / "config.toml", recipe.to_toml())

    preprocess = preprocessing(recipe)
    training, validation = load(found, parts.train, preprocess), load(found, parts.validation, preprocess)
    torch.manual_seed(recipe.seed)
    network = AttentionCNN(
        NetworkConfig(
            classes=len(found.manifest.classes),
            size=recipe.network,
            attention=recipe.attention,
            channels=len(recipe.mean),
            dropout=recipe.dropout,
            pooling=recipe.pooling,
            mirror=recipe.mirror,
        )
    )
    fitted = fit(
        network,
        preprocess,
        training,
        validation,
        recipe,
        device=device,
        precision=precision,
        folder=out,
        resume=resume,
    )
    training_seconds = time.perf_counter() - started

    model, thresholds = calibrate(fitted, preprocess, training, validation)
    card = make_card(name or out.resolve().name, found, parts, recipe, model, thresholds)
    card = replace(
        card,
        training={
            **card.training,
            "device": describe_device(device),
            "precision": str(precision).removeprefix("torch."),
            "seconds": round(training_seconds, 1),
            "epochs_trained": len(fitted.history),
            "best_epoch": fitted.best,
        },
    )
    say("checking the exported graph against PyTorch")
    # written before the test, so that the graph users get is what is judged; the scores join its card afterwards
    export_onnx(out / "model.onnx", model, card)
    judged = judge_rows(out / "model.onnx", found, parts.test, masks=masks, headline_includes_seen=parts.leak.leaks)
    metrics = {**judged.metrics, "split": parts.describe()}
    say("scoring the baselines that see no lesion")
    metrics["baselines"] = baselines(found, parts, judged, preprocess, training, validation)
    card = replace(card, scores=headline_scores(metrics))
    replace_card(out / "model.onnx", card)
    save_model(out / "model.safetensors", model, card)

    seconds = time.perf_counter() - started
    run = run_facts(data, found, parts, recipe, seconds, card, fitted)
    write_results(
        out,
        judged,
        metrics,
        card,
        title=f"Training run {card.name}",
        history=to_frame(fitted.history),
        best_epoch=fitted.best,
        run=run,
    )
    write_json(out / "run.json", run)
    return Trained(out, metrics, parts.describe(), seconds)


def announce(found: Grouped, parts: Parts, device: torch.device, precision: torch.dtype) -> None:
    """Say on stderr what is about to be trained on, and whether the split leaks."""
    counts = dict.fromkeys(found.manifest.classes, 0)
    for item in found.manifest.slices:
        counts[item.label] += 1
    say(f"{found.manifest.root}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    made = {
        "grouped": "patient- and twin-safe split made here",
        "official": "official split: Testing/ is the test",
        "file": "split from file",
    }[parts.kind]
    say(
        f"{made}: {len(parts.train)} training, {len(parts.validation)} validation, {len(parts.test)} test slices; "
        f"{parts.leak}"
    )
    say(f"training on {describe_device(device)} in {str(precision).removeprefix('torch.')}")


def preprocessing(recipe: TrainConfig) -> Preprocess:
    """What the recipe does to a slice before the network sees it."""
    return Preprocess(
        PreprocessConfig(
            image_size=recipe.image_size, frame=recipe.frame, level=recipe.level, mean=recipe.mean, std=recipe.std
        )
    )


def baseline_answers(
    found: Grouped, train_rows: Sequence[int], test_rows: Sequence[int], recipe: TrainConfig
) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Probabilities (N, K) of the learners that see no lesion, on what the network would see of the test rows."""
    preprocess = preprocessing(recipe)
    train, test = load(found, train_rows, preprocess), load(found, test_rows, preprocess)
    return baseline_probabilities(
        train.pixels.numpy(), train.labels.numpy(), test.pixels.numpy(), len(found.manifest.classes)
    )


@torch.inference_mode()
def readings(fitted: Fit, preprocess: Preprocess, pool: Pool) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and pooled features (N, D) of a pool's slices, on the CPU in float32."""
    logits, features = [], []
    network = fitted.model
    device = next(network.parameters()).device
    for slices in pool.pieces(EVALUATION_BATCH):
        inputs = preprocess.standardise(unit(slices.to(device))).contiguous(memory_format=torch.channels_last)
        reading = network.read(inputs)
        logits.append(reading.logits.cpu())
        features.append(reading.features.cpu())
    return torch.cat(logits), torch.cat(features)


def calibrate(fitted: Fit, preprocess: Preprocess, training: Pool, validation: Pool) -> tuple[Deployed, dict[str, Any]]:
    """Fit everything that turns logits into decisions: on the validation part, except the outlier score's geometry."""
    logits, features = readings(fitted, preprocess, validation)
    labels = validation.labels.numpy()
    temperature = fit_temperature(logits.numpy(), labels)
    _, training_features = readings(fitted, preprocess, training)
    classes = fitted.model.config.classes
    centres, whitening = fit_outliers(training_features.numpy(), training.labels.numpy(), classes)
    model = Deployed(
        preprocess, fitted.model.cpu(), temperature, torch.from_numpy(centres), torch.from_numpy(whitening)
    ).eval()
    probabilities, outliers = (answer.numpy() for answer in model.judge(logits, features))
    threshold = rejection_threshold(outliers, FALSE_REFUSALS)
    return model, {
        "temperature": temperature,
        "outlier_threshold": threshold,
        "outlier_false_refusals": float((outliers > threshold).mean()),
        "conformal_thresholds": tuple(float(value) for value in conformal_thresholds(probabilities, labels, COVERAGE)),
    }


def baselines(
    found: Grouped, parts: Parts, judged: Judged, preprocess: Preprocess, training: Pool, validation: Pool
) -> dict[str, Any]:
    """Metrics of the floors on the headline's slices: learners that see no lesion, fitted on all but the test part."""
    test = load(found, parts.test, preprocess)
    rows = ~judged.seen if judged.metrics["headline"] == "unseen" else np.ones(len(judged.seen), bool)
    if not rows.any():
        return {}
    classes = found.manifest.classes
    answers = baseline_probabilities(
        torch.cat((training.pixels, validation.pixels)).numpy(),
        torch.cat((training.labels, validation.labels)).numpy(),
        test.pixels.numpy()[rows],
        len(classes),
    )
    groups = np.asarray(judged.groups)[rows]
    labels = test.labels.numpy()[rows]
    return {name: score(labels, probabilities, classes, groups) for name, probabilities in answers.items()}


def make_card(
    name: str, found: Grouped, parts: Parts, recipe: TrainConfig, model: Deployed, thresholds: dict[str, Any]
) -> Card:
    """The model's facts before it has been judged."""
    network, parameters = network_facts(model.network)
    met = [*parts.train, *parts.validation]
    slices = found.manifest.slices
    patients = {name for name in (slices[row].patient for row in met) if name is not None}
    data_hash = found.manifest.digest()
    return Card(
        name=name,
        classes=found.manifest.classes,
        preprocess=asdict(model.preprocess.config),
        network=network,
        parameters=parameters,
        conformal_coverage=COVERAGE,
        training={
            "data_sha256": data_hash,
            "slices": len(met),
            "patients_known": len(patients),
            "groups": len({found.groups[row] for row in met}),
            "split": parts.describe(),
        },
        scores={},
        recipe=asdict(recipe),
        versions=versions(),
        created=now(),
        seen_slices=tuple(sorted({found.digests[row][:HASH_LENGTH] for row in met})),
        seen_groups=tuple(sorted(patient_hash(name, data_hash) for name in patients)),
        **thresholds,
    )


def headline_scores(metrics: dict[str, Any]) -> dict[str, Any]:
    """The part of the metrics that a card carries."""
    keys = (
        "n", "n_groups", "accuracy", "balanced_accuracy", "macro_f1", "per_class", "three_tumour_classes",
        "auroc_macro", "tumour_auroc", "tumour_auroc_note", "nll", "brier", "ece", "ci95", "ci95_method", "headline",
        "status", "localisation",
    )  # fmt: skip
    return {key: metrics[key] for key in keys if key in metrics}


def run_facts(
    data: Path,
    found: Grouped,
    parts: Parts,
    recipe: TrainConfig,
    seconds: float,
    card: Card,
    fitted: Fit,
) -> dict[str, Any]:
    """`run.json`: what it takes to understand and repeat the run."""
    return {
        "command": command_line(),
        "created": now(),
        "data": str(data),
        "data_sha256": found.manifest.digest(),
        "unreadable": [asdict(item) for item in found.unreadable],
        "ignored": list(found.manifest.ignored),
        "split": parts.describe(),
        "config": asdict(recipe),
        "epochs_trained": len(fitted.history),
        "best_epoch": fitted.best,
        "stopped_early": fitted.stopped_early,
        "seconds": round(seconds, 1),
        "training_seconds": card.training["seconds"],
        "device": card.training["device"],
        "precision": card.training["precision"],
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("braincam", "torch", "torchvision", "numpy", "onnxruntime", "scikit-learn", "pillow")
    return {name: importlib.metadata.version(name) for name in names}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
