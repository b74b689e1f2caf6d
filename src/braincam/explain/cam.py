"""Other heat maps by name, through torchcam (extra ``cam``); the exact map needs none of this (torch)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from braincam.errors import ConfigError, MissingDependencyError, ModelFileError, install
from braincam.model_file.card import Card
from braincam.model_file.export import load_model
from braincam.network.exportable import Deployed
from braincam.network.framing import lay_back
from braincam.predict import Prediction, Predictor

UNIT = "relative, 0 to 1"  # of these maps, each from its own least to its own most
METHODS = {
    "gradcam": "GradCAM",
    "gradcampp": "GradCAMpp",
    "layercam": "LayerCAM",
    "smoothgradcampp": "SmoothGradCAMpp",
    "xgradcam": "XGradCAM",
    "scorecam": "ScoreCAM",
    "sscam": "SSCAM",
    "iscam": "ISCAM",
}


class _Logits(nn.Module):
    """The network alone, standardised input → logits, with the last stage as a named layer to hook."""

    def __init__(self, model: Deployed):
        super().__init__()
        self.network = model.network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


def torchcam_map(
    model: Deployed, pixels: NDArray[np.uint8], target: int, method: str, layer: nn.Module | None = None
) -> NDArray[np.float32]:
    """The map of class `target` for one slice (H, W) uint8: (S/4, S/4) in [0, 1] over the whole slice.

    Made at the output of `layer`, which must belong to the network; None is the last stage. S is the network's side.

    Raises:
        ConfigError: torchcam has no such method.
        MissingDependencyError: torchcam is not installed.
    """
    if method not in METHODS:
        raise ConfigError(f"--cam: expected one of {', '.join(METHODS)}, got {method!r}")
    try:
        from torchcam import methods
    except ModuleNotFoundError as missing:
        raise MissingDependencyError(f"--cam {method} needs {missing.name}; {install('cam')}") from missing
    network = _Logits(model).eval()
    scaled, frames = model.preprocess.scale(torch.from_numpy(pixels)[None])
    inputs = model.preprocess.standardise(scaled).detach().requires_grad_()
    extractor: Any = getattr(methods, METHODS[method])
    with torch.random.fork_rng(devices=[]), extractor(network, target_layer=layer or network.network.last_stage) as cam:
        torch.manual_seed(0)  # some add noise to the picture: the same one each time
        logits = network(inputs)
        (heat,) = cam(target, logits)
    return over_the_slice(model, heat.detach().reshape(heat.shape[-2:]), frames)


def over_the_slice(model: Deployed, cells: Tensor, frames: Tensor) -> NDArray[np.float32]:
    """A map of a stage (h, w), of the framed slice, laid over the whole slice: (S/4, S/4).

    It is enlarged before: on its own few cells it would be blurred once more, and what it says of places would suffer.
    """
    fine = model.network.enlarged(cells[None, None].float(), model.preprocess.config.image_size)
    return np.asarray(lay_back(fine, frames)[0, 0].numpy(), np.float32)


def _training(card: Card) -> tuple[Any, ...]:
    """What both files of one training have in common, and files of two have not; thresholds may be set later."""
    return card.name, card.classes, card.recipe, card.training.get("data_sha256"), card.seen_slices


def with_torchcam(answers: Iterable[Prediction], predictor: Predictor, method: str) -> Iterator[Prediction]:
    """Pass answers on with their maps replaced; the trainable twin must lie beside the ONNX file.

    Raises:
        ModelFileError: there is no twin, or the file beside it is that of another training.
    """
    twin = predictor.file.path.with_suffix(".safetensors")
    if not twin.is_file():
        raise ModelFileError(f"--cam {method}: needs the trainable twin {twin}, which is not there; use the exact map")
    if method not in METHODS:
        raise ConfigError(f"--cam: expected one of {', '.join(METHODS)}, got {method!r}")
    model, card = load_model(twin)
    if _training(card) != _training(predictor.card):
        raise ModelFileError(
            f"--cam {method}: expected {twin} to be the trainable twin of {predictor.file.path} "
            f"({predictor.card.name}), got that of another training ({card.name}); "
            "give --model the run folder of this model, or leave --cam out"
        )
    for answer in answers:
        if answer.pixels is None or answer.label is None:
            yield answer
        else:
            heat = torchcam_map(model, answer.pixels, card.classes.index(answer.label), method)
            yield replace(answer, cam=heat)
