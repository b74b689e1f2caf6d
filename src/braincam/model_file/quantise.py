"""A float32 model file → one whose convolutions compute in int8 (onnx; no torch).

Static post-training quantisation (Jacob et al., arXiv:1712.05877) by ONNX Runtime, in QDQ form: weights int8 per
channel, activations uint8 with ranges seen on calibration slices. Only the convolutions of the network's stages are
touched, which are nearly all of its arithmetic. Preprocessing, the stem, the attentions' gates and the linear readout
stay in float32: the map stays an exact account of the score.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from braincam.errors import ModelFileError

STAGES = "network.stages."  # how the exporter names their weights
FEWEST_CHANNELS = 8  # of a convolution's input: fewer are gates, which decide much and cost little


class _Slices(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Batches of grey slices, as the calibrator asks for them."""

    def __init__(self, batches: Iterable[NDArray[np.uint8]]):
        self._batches: Iterator[NDArray[np.uint8]] = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch (N, H, W), or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def quantise(content: bytes, batches: Iterable[NDArray[np.uint8]], where: str) -> onnx.ModelProto:
    """The graph of a model file with its stages' convolutions in int8; `batches` (N, H, W) set the ranges.

    The card comes along unchanged: what it says of scores holds for the float32 file.

    Raises:
        ModelFileError: there is no float32 convolution in the network's stages.
    """
    graph = onnx.load_from_string(content)
    names = [node.name for node in quantised_nodes(graph)]
    if not names:
        raise ModelFileError(
            f"{where}: expected a float32 model file, got one without a float32 convolution in its stages"
        )
    with tempfile.TemporaryDirectory() as temporary, quiet():
        source, made = Path(temporary) / "float32.onnx", Path(temporary) / "int8.onnx"
        source.write_bytes(content)
        quantize_static(
            source,
            made,
            _Slices(batches),
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=names,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(made)


def quantised_nodes(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The stages' convolutions, and what lies right beside them: the averaging before, the rectifier behind.

    Rounding once for a neighbour and its convolution loses less than rounding twice.
    """
    channels = {tensor.name: tensor.dims[1] for tensor in graph.graph.initializer if len(tensor.dims) == 4}
    convolutions = [
        node
        for node in graph.graph.node
        if node.op_type == "Conv"
        and node.input[1].startswith(STAGES)
        and channels.get(node.input[1], 0) >= FEWEST_CHANNELS
    ]
    given, made = {node.input[0] for node in convolutions}, {node.output[0] for node in convolutions}
    beside = [
        node
        for node in graph.graph.node
        if (node.op_type == "AveragePool" and node.output[0] in given)
        or (node.op_type == "Relu" and node.input[0] in made)
    ]
    return convolutions + beside


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the quantiser's advice out of the log and of stdout; errors still raise."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
