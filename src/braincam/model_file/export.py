"""Writing model files: safetensors to train on from, ONNX to deploy, the same card in both (torch)."""

from __future__ import annotations

import json
import logging
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from pathlib import Path

import onnx
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from braincam.errors import ModelFileError
from braincam.files import write_bytes
from braincam.model_file.card import METADATA_KEY, Card
from braincam.model_file.parity import check_parity
from braincam.model_file.zoo import check_bytes
from braincam.network.build import build_network
from braincam.network.classifier import Classifier
from braincam.network.exportable import Deployed
from braincam.network.preprocess import LARGEST_SIDE, Preprocess, PreprocessConfig

OPSET = 20
SIDE = 64  # pixels that any network here can read
OUTPUTS = ("probabilities", "cam", "outlier_score")


def save_model(path: Path, model: Deployed, card: Card) -> None:
    """Write the trainable twin: every tensor of `model` and the card, as safetensors."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_bytes(path, save(tensors, metadata={METADATA_KEY: card.to_json()}))


def load_model(path: Path) -> tuple[Deployed, Card]:
    """Rebuild the model that `save_model` wrote, in evaluation mode on the CPU; no code in the file is run.

    Raises:
        ModelFileError: the file is missing, damaged, or not a braincam model.
    """
    try:
        check_bytes(path)
        tensors = load_file(path)
        card = Card.from_metadata(safetensors_metadata(path), str(path))
    except FileNotFoundError:
        raise ModelFileError(f"{path}: no such file; expected the model.safetensors of a run") from None
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{path}: expected a safetensors file, got: {error}") from error
    try:
        check_fit(card, tensors)
        model = build(card, tensors["centres"], tensors["whitening"])
        model.load_state_dict(tensors)
    except (ArithmeticError, AttributeError, KeyError, TypeError, RuntimeError, ValueError) as error:
        detail = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelFileError(f"{path}: its tensors do not fit its card ({detail}); get the file anew") from error
    return model.eval(), card


def check_fit(card: Card, tensors: dict[str, Tensor]) -> None:
    """Refuse a card that describes another network than its tensors, before memory is taken for what it describes.

    Raises:
        ValueError: it does, or it asks for slices of a size that no network here was trained on.
    """
    with torch.device("meta"):  # shapes only: a card may state any number of channels
        network = build_network(card.network).eval()
        reading = network.read(torch.zeros(1, network.config.channels, SIDE, SIDE))
    expected = network.state_dict()
    for name, value in expected.items():
        found = tensors.get(f"network.{name}")
        if found is None or found.shape != value.shape or found.dtype != value.dtype:
            raise ValueError(f"network.{name} should be {tuple(value.shape)} of {value.dtype}")
    (classes,), (features,) = reading.logits.shape[1:], reading.features.shape[1:]
    centres, whitening = tensors["centres"].shape, tensors["whitening"].shape
    if centres != (len(card.classes), *whitening[1:]) or whitening[:-1] != (features,) or classes != len(card.classes):
        raise ValueError(f"centres {tuple(centres)} and whitening {tuple(whitening)} for {features} features")
    side, channels = card.preprocess["image_size"], network.config.channels
    if not isinstance(side, int) or not 16 <= side <= LARGEST_SIDE:
        raise ValueError(f"image_size should be 16 to {LARGEST_SIDE}, not {side!r}")
    for numbers in (card.preprocess["mean"], card.preprocess["std"]):
        if len(numbers) != channels or not all(isinstance(number, int | float) for number in numbers):
            raise ValueError(f"mean and std should be {channels} numbers each")


def build(card: Card, centres: Tensor, whitening: Tensor) -> Deployed:
    """An untrained model of the card's shape."""
    preprocess = PreprocessConfig(
        image_size=card.preprocess["image_size"],
        frame=card.preprocess.get("frame", False),  # absent from the cards of the first models
        subtract_black=card.preprocess["subtract_black"],
        mean=tuple(card.preprocess["mean"]),
        std=tuple(card.preprocess["std"]),
    )
    return Deployed(
        Preprocess(preprocess),
        build_network(card.network),
        card.temperature,
        centres,
        whitening,
    )


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The string metadata in a safetensors header."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(min(length, 100_000_000)))
    metadata: dict[str, str] = header.get("__metadata__", {})
    return metadata


def export_onnx(path: Path, model: Deployed, card: Card) -> float:
    """Write the deployable file after comparing it with PyTorch; returns the largest difference in probability.

    Raises:
        ModelFileError: the graph and PyTorch disagree; nothing is written then.
    """
    model = model.cpu().eval()
    example = torch.zeros(2, 200, 180, dtype=torch.uint8)
    shapes = {
        "image": {
            0: torch.export.Dim("N", min=1, max=65_536),
            1: torch.export.Dim("H", min=2, max=65_536),
            2: torch.export.Dim("W", min=2, max=65_536),
        }
    }
    with quiet(), torch.no_grad():  # with gradients attention takes another way to the same numbers
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(OUTPUTS),
            verbose=False,
        )
    if program is None:
        raise ModelFileError(f"{path}: torch made no ONNX program; update torch and onnxscript")
    content = with_card(strip(program.model_proto), card)
    difference = check_parity(model, content, str(path))
    write_bytes(path, content)
    return difference


def replace_card(path: Path, card: Card) -> None:
    """Give an ONNX file that has passed its parity check another card; the graph stays as it is."""
    graph = onnx.load(path)
    del graph.metadata_props[:]
    write_bytes(path, with_card(graph, card))


def with_card(graph: onnx.ModelProto, card: Card) -> bytes:
    """The bytes of a graph with the card in its metadata."""
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, card.to_json()
    content: bytes = graph.SerializeToString()
    return content


def strip(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what the exporter notes about the machine that built the file: source paths and stack traces."""
    onnx.checker.check_model(graph)
    del graph.metadata_props[:]
    graph.doc_string = ""
    graph.producer_name, graph.producer_version = "braincam", ""
    parts: list[onnx.GraphProto | onnx.FunctionProto] = [graph.graph, *graph.functions]
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""
        for node in part.node:
            del node.metadata_props[:]
            node.doc_string = ""
        for value in part.value_info:
            del value.metadata_props[:]
            value.doc_string = ""
    for value in (*graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    return graph


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's chatter out of stdout, which machines read; errors still raise."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), Path(os.devnull).open("w") as sink, redirect_stdout(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def network_facts(model: Classifier) -> tuple[dict[str, object], int]:
    """What a card says of the network: its config and its number of parameters."""
    return asdict(model.config), sum(parameter.numel() for parameter in model.parameters())
