"""The model whose weights a training begins with, in place of random ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from braincam.errors import ConfigError, DataError
from braincam.evaluation.evaluate import seen_before
from braincam.model_file.card import Card, patient_hash
from braincam.model_file.export import load_model
from braincam.model_file.zoo import find_model
from braincam.network.classifier import Classifier
from braincam.pipeline.prepare import Grouped, Parts
from braincam.progress import say
from braincam.training.config import TrainConfig

# what weights are for: with another value they are another network's, or meant for other pixels
OF_THE_NETWORK = ("network", "attention", "pooling", "image_size", "frame", "subtract_black", "mean", "std")

KINDS = ("weight", "bias")  # of a linear layer


@dataclass(frozen=True, eq=False)
class Origin:
    """A trained model that another training goes on from."""

    network: Classifier
    card: Card
    sha256: str  # of its file

    def facts(self) -> dict[str, Any]:
        """What a card says of it."""
        return {"name": self.card.name, "sha256": self.sha256, "slices": len(self.card.seen_slices)}

    def has_met(self, patient: str | None) -> bool:
        """Whether a patient is known, and one that it was trained on."""
        known = str(self.card.training.get("data_sha256"))
        return patient is not None and patient_hash(patient, known) in self.card.seen_groups

    def check(self, recipe: TrainConfig) -> None:
        """Raises ConfigError where the recipe is for another network, or for other pixels."""
        asked = {key: getattr(recipe, key) for key in OF_THE_NETWORK}
        own = {key: tuple(v) if isinstance(v := self.card.recipe.get(key), list) else v for key in OF_THE_NETWORK}
        if changed := [key for key in OF_THE_NETWORK if own[key] != asked[key]]:
            detail = ", ".join(f"{key} is {own[key]!r} there, {asked[key]!r} in the recipe" for key in changed)
            raise ConfigError(
                f"--from {self.card.name}: {detail}; its weights fit no other: set the recipe to the same"
            )

    def lend(self, network: Classifier, classes: Sequence[str]) -> None:
        """Copy its weights into an untrained network for `classes`; a class that it does not know keeps random ones."""
        own = self.network.state_dict()
        read_out = {
            f"{name}.{kind}" for name, layer in network.named_modules() if layer in network.readouts for kind in KINDS
        }
        network.load_state_dict({**network.state_dict(), **{k: v for k, v in own.items() if k not in read_out}})
        known = [(row, self.card.classes.index(name)) for row, name in enumerate(classes) if name in self.card.classes]
        with torch.no_grad():
            for layer, source in zip(network.readouts, self.network.readouts, strict=True):
                for row, there in known:
                    layer.weight[row] = source.weight[there]
                    layer.bias[row] = source.bias[there]

    def met_of_test(self, found: Grouped, parts: Parts) -> int:
        """How many of the test slices it has met, themselves or by a copy or their patient; said, and of validation.

        Raises:
            DataError: all of them, or the split leaks: what is left of the headline could not be told.
        """
        if parts.leak.leaks:
            raise DataError(
                f"--from {self.card.name}: expected a split that does not leak, so that what either training has met "
                f"can be kept out of the headline; got: {parts.leak}"
            )
        met = seen_before(found.manifest, found.digests, found.groups, self.card)
        tested, chosen_on = int(met[parts.test].sum()), int(met[parts.validation].sum())
        if tested == len(parts.test):
            raise DataError(
                f"--from {self.card.name}: it was trained on all {tested} test slices, their patients or copies; "
                "nothing is left to judge by: hold out others, by another --fold (patients are known again by their "
                "names: give other people other names)"
            )
        if tested:
            say(f"{self.card.name} has met {tested} of the {len(parts.test)} test slices: these are told apart")
        if chosen_on:
            say(
                f"{self.card.name} has met {chosen_on} of the {len(parts.validation)} validation slices: probabilities "
                "and thresholds that are set on these are too sure"
            )
        return tested


def find_origin(source: Path | str) -> Origin:
    """The trainable twin of a model: a run folder, a model.safetensors, an .onnx file beside one, or a model at hand.

    Raises:
        ModelFileError: there is none.
    """
    path = Path(source)
    if path.is_dir():
        path = path / "model.safetensors"
    elif path.suffix != ".safetensors":
        path = find_model(source).path.with_suffix(".safetensors")
    model, card = load_model(path)
    return Origin(model.network, card, hashlib.sha256(path.read_bytes()).hexdigest())
