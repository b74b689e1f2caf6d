"""Train on a labelled folder: from pictures to a judged, self-describing model file and a report."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from braincam.errors import ConfigError, DataError, TrainingError
from braincam.evaluation.baselines import baseline_probabilities
from braincam.evaluation.calibration import least_units
from braincam.evaluation.evaluate import Judged
from braincam.evaluation.metrics import score
from braincam.explain.localisation import MeanMasks
from braincam.files import as_path, write_bytes, write_json, write_text
from braincam.model_file.card import LONGEST, Card, usable_name
from braincam.model_file.export import export_onnx, replace_card, save_model
from braincam.model_file.zoo import ModelFile
from braincam.network.build import build_network
from braincam.network.classifier import Classifier
from braincam.network.preprocess import Preprocess, PreprocessConfig
from braincam.pipeline.calibrate import calibrate
from braincam.pipeline.evaluate import judge_rows, masks_of, write_results
from braincam.pipeline.facts import headline_scores, make_card, run_facts
from braincam.pipeline.pools import load
from braincam.pipeline.prepare import Grouped, Parts, divide, grouped, set_aside
from braincam.pipeline.start import Origin, find_origin
from braincam.progress import say
from braincam.report.figures import inputs, to_png
from braincam.training.batches import Pool, augment, generator, unit
from braincam.training.claim import claimed
from braincam.training.config import TrainConfig, read_config
from braincam.training.deterministic import same_bits
from braincam.training.device import describe_device, name_of, pick_device, pick_precision
from braincam.training.distributed import (
    Crew,
    HelperDone,
    crew,
    first_rank,
    keep_to_own_device,
    launch,
    own_device,
    processes,
    restarted,
)
from braincam.training.history import to_frame
from braincam.training.loop import Fit, fit

# what a training writes when it is over, or together with its checkpoint: without one these are another's
RESULTS = (
    "run.json", "metrics.json", "predictions.csv", "report.html", "model_card.md", "model.onnx", "model.safetensors",
    "history.csv", "curves.png",
)  # fmt: skip
SHOWN_CLASSES, SHOWN_SLICES = 12, 4  # in `inputs.png`, and of each class as judged and as learnt
MARKER = ".launch"  # by whom the run was begun, so that its restarts go on with it and nobody else's do


@dataclass(frozen=True, eq=False)
class Trained:
    """Where a run lies, what it scored, and how long it took."""

    folder: Path
    metrics: dict[str, Any]
    split: dict[str, Any]
    seconds: float


@dataclass(frozen=True, eq=False)
class Material:
    """What is learnt from and judged on: a labelled folder, divided, at the network's input size."""

    found: Grouped
    parts: Parts
    preprocess: Preprocess
    training: Pool
    validation: Pool
    masks: MeanMasks | None = None  # for looking at the maps afterwards; only the first process has them

    def examples(self) -> tuple[Pool, Pool, list[str]]:
        """The training and validation slices that show what a model should accept: all but those to be refused.

        And the patient or group of each of the latter.
        """
        training, validation = (
            pool.part(torch.tensor([number for number, row in enumerate(rows) if self.found.accepts(row)]))
            for pool, rows in ((self.training, self.parts.train), (self.validation, self.parts.validation))
        )
        groups = [self.found.groups[row] for row in self.parts.validation if self.found.accepts(row)]
        return training, validation, groups


@dataclass(frozen=True)
class Machine:
    """Where a training runs, and whether its files must be the same in every byte each time."""

    device: torch.device
    precision: torch.dtype
    deterministic: bool = False

    def facts(self, fitted: Fit) -> dict[str, Any]:
        """What a card says of where a training ran, in all its sessions."""
        # all of it, or none: a session without it rounds as it likes
        facts: dict[str, Any] = {
            "deterministic": all(session.get("deterministic", self.deterministic) for session in fitted.machines)
        }
        for key in ("device", "processes", "precision"):
            values = list(dict.fromkeys(session[key] for session in fitted.machines))
            facts[key] = values[0] if len(values) == 1 else ", then ".join(map(str, values))
        if not facts["deterministic"]:  # no two take as long
            facts["seconds"] = round(fitted.seconds, 1)
        return facts


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
    deterministic: bool = False,
    without: Path | str | None = None,
    refuse: Path | str | None = None,
    start_from: Path | str | None = None,
) -> Trained:
    """Train on `data` and fill the folder `out` with the model files, curves, metrics and report.

    `config` is a TOML file, the name of a shipped recipe, or a `TrainConfig`; `overrides` are ``key=value`` strings.
    Without `split` a patient- and twin-safe split is made; fold `fold` is the test. `masks` are used after training
    only, to see whether the maps point at lesions. `without` and `refuse` are tables whose column ``path`` names
    slices, as the ``flags.csv`` of an audit does: not to learn from, or to learn from and refuse what is like them; the
    test keeps both. `start_from` is a model whose weights are begun with, as `find_origin` takes it; what it has met
    is never in the headline. With `deterministic` the same call gives the same bytes of ``model.onnx`` and
    ``model.safetensors`` each time, on one machine with the same versions and `threads`.

    Started by ``torchrun``, several processes train together; all but the first end with `HelperDone` after that.

    Raises:
        BraincamError: any of its kinds; the message says what to do.
    """
    data, out, patients, split, masks = Path(data), Path(out), as_path(patients), as_path(split), as_path(masks)
    name = out.resolve().name if name is None else name
    if not usable_name(name):
        raise ConfigError(f"name: expected up to {LONGEST} printable characters, got {name!r}; give another by --name")
    recipe = config if isinstance(config, TrainConfig) else read_config(as_path(config), overrides)
    if split is not None and recipe.split == "official":
        raise ConfigError("--split and split=official exclude each other; give one of them")
    if fold and recipe.split == "official":
        raise ConfigError(f"--fold {fold} and split=official exclude each other: the test is Testing/; leave one out")
    started = time.perf_counter()
    origin = None if start_from is None else find_origin(start_from)
    if origin:
        origin.check(recipe)
    if deterministic and processes() > 1:
        raise ConfigError("--deterministic: expected one process; gradients are added up in the order they arrive")
    with claimed(out) if first_rank() else nullcontext():
        resume = may_begin(out, resume)
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        keep_to_own_device(recipe.device)
        device = own_device(pick_device(recipe.device))
        machine = Machine(device, pick_precision(recipe.precision, device), deterministic)
        with same_bits(deterministic), crew(device) as together:
            with together.in_turn():  # the others find in the cache what the first one read
                found = set_aside(grouped(data, patients, split), as_path(without), as_path(refuse))
                kind = "file" if split is not None else recipe.split
                material = gather(found, kind, fold, recipe, masks if together.leads else None, allow_leak)
            if origin:
                parts = replace(material.parts, met_by_origin=origin.met_of_test(found, material.parts))
                material = replace(material, parts=parts)
            announce(material, machine, together.size, recipe.validation_share)
            begun = time.perf_counter()
            fitted = learn(out, material, recipe, machine, together, resume=resume, origin=origin)
            if not together.leads:
                raise HelperDone
            learnt = time.perf_counter()
            facts = machine.facts(fitted)
            judged, metrics, card = finish(name, out, material, recipe, fitted, facts, origin)

        # as if all epochs had been trained in this session
        seconds = begun - started + fitted.seconds + time.perf_counter() - learnt
        run = run_facts(data, material.found, material.parts, recipe, card, fitted, seconds=seconds, origin=origin)
        write_results(
            out,
            judged,
            metrics,
            ModelFile(out / "model.onnx"),
            title=f"Training run {card.name}",
            history=to_frame(fitted.history),
            best_epoch=fitted.best,
            run=run,
        )
        write_json(out / "run.json", run)
        warn_of_classes_never_ruled_out(card, material)
        return Trained(out, metrics, material.parts.describe(), seconds)


def gather(found: Grouped, kind: str, fold: int, recipe: TrainConfig, masks: Path | None, allow_leak: bool) -> Material:
    """Divide the slices and read them. A wrong folder of masks is noticed now, not after the training."""
    for label in found.manifest.classes:
        if not usable_name(label):
            raise DataError(
                f"{found.manifest.root}: expected class folders whose names are up to {LONGEST} printable characters, "
                f"got {label!r}; rename that folder"
            )
    parts = divide(found, kind, fold, recipe.validation_share, recipe.seed, allow_leak=allow_leak)
    preprocess = preprocessing(recipe)
    return Material(
        found=found,
        parts=parts,
        preprocess=preprocess,
        masks=masks_of(found, masks),
        training=load(found, parts.train, preprocess),
        validation=load(found, parts.validation, preprocess),
    )


def may_begin(out: Path, resume: bool) -> bool:
    """Whether the folder's training is to be gone on with: asked for, or restarted by the launcher that began it.

    Raises:
        TrainingError: it holds a training, and nobody said to go on; or results that no checkpoint there belongs to.
    """
    marker = out / MARKER
    began_with = marker.read_text(encoding="utf-8") if marker.exists() else None
    resume = resume or (restarted(began_with) and (out / "last.ckpt").exists())
    if (out / "last.ckpt").exists() and not resume:
        raise TrainingError(f"{out}: holds a training already; say --resume to go on with it, or choose another --out")
    if not resume and (others := results_of_others(out)):
        raise TrainingError(
            f"{out}: holds {', '.join(others)}, which a training would replace, and no last.ckpt to go on from; choose "
            "another --out, or move what is there"
        )
    return resume


def results_of_others(out: Path) -> list[str]:
    """What a new training would replace in a folder without a checkpoint.

    A recipe is none of it: a training that was stopped before its first epoch ended leaves one, and begins again.
    """
    recipe = out / "config.toml"
    foreign = [recipe.name] if recipe.exists() and not is_recipe(recipe) else []
    return foreign + [name for name in RESULTS if (out / name).exists()]


def is_recipe(path: Path) -> bool:
    """Whether a file is a recipe of braincam, of whatever version, and not some other program's."""
    try:
        stored = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return not {field.name for field in fields(TrainConfig)}.isdisjoint(stored)


def draw_inputs(material: Material, recipe: TrainConfig) -> bytes:
    """A sheet of what the network is given, as PNG: a head that is framed wrongly, or not at all, shows here."""
    pool, rows = material.training, []
    for number, name in enumerate(material.found.manifest.classes[:SHOWN_CLASSES]):
        of_class = torch.nonzero(pool.labels == number).flatten()
        chosen = of_class[torch.linspace(0, len(of_class) - 1, min(SHOWN_SLICES, len(of_class))).long()]
        pixels = pool.take(chosen)
        learnt = None
        if recipe.augment == "standard":
            learnt = (augment(unit(pixels), generator(recipe.seed, 0))[:, 0] * 255).round().byte().numpy()
        rows.append((name, pixels.numpy(), learnt))
    return to_png(inputs(rows))


def learn(
    out: Path,
    material: Material,
    recipe: TrainConfig,
    machine: Machine,
    together: Crew,
    *,
    resume: bool,
    origin: Origin | None = None,
) -> Fit:
    """Make the run folder say what is begun in it, and train."""
    out.mkdir(parents=True, exist_ok=True)
    if together.leads and not resume:  # a refused resume must not change what the run says of itself
        write_text(out / "config.toml", recipe.to_toml())
        write_bytes(out / "inputs.png", draw_inputs(material, recipe))
    if together.leads and (name_of_launch := launch()):
        write_text(out / MARKER, name_of_launch)
    classes = material.found.manifest.classes
    network = untrained(recipe, len(classes))
    if origin:
        origin.lend(network, classes)
    return fit(
        network,
        material.preprocess,
        material.training,
        material.validation,
        recipe,
        device=machine.device,
        precision=machine.precision,
        folder=out,
        resume=resume,
        crew=together,
        began_with=origin.sha256 if origin else "",
    )


def finish(
    name: str,
    out: Path,
    material: Material,
    recipe: TrainConfig,
    fitted: Fit,
    facts: dict[str, Any],
    origin: Origin | None = None,
) -> tuple[Judged, dict[str, Any], Card]:
    """Calibrate what was learnt, write both model files, and judge the one that users get."""
    found, parts = material.found, material.parts
    model, thresholds = calibrate(fitted.model, material.preprocess, *material.examples())
    card = make_card(name, found, parts, recipe, model, thresholds, origin)
    learnt = {"epochs_trained": len(fitted.history), "best_epoch": fitted.best}
    card = replace(card, training={**card.training, **facts, **learnt})
    if facts["deterministic"]:
        card = replace(card, created="")
    say("checking the exported graph against PyTorch")
    # the graph that users get is what is judged, and takes its place once the scores are in its card
    with TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        export_onnx(graph, model, card)
        judged = judge_rows(graph, found, parts.test, masks=material.masks, headline_includes_seen=parts.leak.leaks)
        metrics = {**judged.metrics, "split": parts.describe()}
        say("scoring the baselines that look for no lesion")
        metrics["baselines"] = baselines(material, judged)
        card = replace(card, scores=headline_scores(metrics))
        replace_card(graph, card)
        write_bytes(out / "model.onnx", graph.read_bytes())
    save_model(out / "model.safetensors", model, card)
    return judged, metrics, card


def untrained(recipe: TrainConfig, classes: int) -> Classifier:
    """The untrained network of a recipe; its weights depend on the seed alone."""
    torch.manual_seed(recipe.seed)
    return build_network(recipe.network_facts(classes))


def announce(material: Material, machine: Machine, processes: int, asked: float) -> None:
    """Say on stderr what is about to be trained on, and whether the split leaks; `asked` is the validation share."""
    found, parts = material.found, material.parts
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
    share = len(parts.validation) / (len(parts.train) + len(parts.validation))
    if share > 1.5 * asked:
        say(
            f"validation takes {share:.0%} of what is not the test, more than the {asked:.0%} of validation_share: it "
            "is cut by whole patients or groups, and some class has few"
        )
    if parts.validation_twins:
        say(f"{parts.validation_twins} of the validation slices have a near copy in training")
    times = f", {processes} processes" if processes > 1 else ""
    say(f"training on {describe_device(machine.device)}{times} in {name_of(machine.precision)}")


def warn_of_classes_never_ruled_out(card: Card, material: Material) -> None:
    """Say which classes had too few validation slices for a conformal threshold, and what to do about it."""
    slices, validation = material.found.manifest.slices, material.parts.validation
    if not (names := card.never_ruled_out):
        return
    counts = [sum(slices[row].label == name and material.found.accepts(row) for row in validation) for name in names]
    few = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
    every = "every answer is" if len(names) > 1 else f"every answer but {names[0]} is"
    least = least_units(card.conformal_coverage)
    say(
        f"this model refers what it should answer: {every} referred, because a class is ruled out by {least} or more "
        f"validation slices, and there are fewer ({few}); raise validation_share, add slices, or set thresholds by "
        "braincam export --crossval"
    )


def preprocessing(recipe: TrainConfig) -> Preprocess:
    """What the recipe does to a slice before the network sees it."""
    return Preprocess(
        PreprocessConfig(
            image_size=recipe.image_size,
            frame=recipe.frame,
            subtract_black=recipe.subtract_black,
            mean=recipe.mean,
            std=recipe.std,
        )
    )


def baseline_answers(
    found: Grouped, train_rows: Sequence[int], test_rows: Sequence[int], recipe: TrainConfig
) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Probabilities (N, K) of the learners that look for no lesion, on what the network would see of the test rows."""
    preprocess = preprocessing(recipe)
    train, test = load(found, train_rows, preprocess), load(found, test_rows, preprocess)
    return baseline_probabilities(
        train.pixels.numpy(), train.labels.numpy(), test.pixels.numpy(), len(found.manifest.classes)
    )


def baselines(material: Material, judged: Judged) -> dict[str, Any]:
    """Metrics of the floors on the headline's slices: they look for no lesion, fitted on all but the test part."""
    found, training, validation = material.found, material.training, material.validation
    test = load(found, material.parts.test, material.preprocess)
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
