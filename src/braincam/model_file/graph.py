"""What an ONNX file may hold: looked at before ONNX Runtime sees it. A model file comes from strangers.

ONNX Runtime loads a model from bytes without a folder, yet a tensor inside a *node* may still name a file, which is
then read relative to the working directory (onnxruntime 1.32). So the bytes are walked here, without the onnx package,
which the runtime wing does not have; how: https://protobuf.dev/programming-guides/encoding, and onnx.proto.

What a graph computes cannot be judged beforehand; how much memory it may take is bounded by `zoo`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from braincam.errors import ModelFileError

Field = tuple[int, int | memoryview]  # number; a whole number, or the bytes of a message, string or packed list

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; groups (3, 4) do not occur in ONNX
GRAPH, TRAINING, FUNCTIONS = 7, 20, 25  # of a ModelProto
NODE, INITIALIZER, SPARSE_INITIALIZER = 1, 5, 15  # of a GraphProto
OPERATOR, ATTRIBUTE, DOMAIN = 4, 5, 7  # of a NodeProto
TENSOR, SUBGRAPH, TENSORS, SUBGRAPHS, SPARSE, SPARSES = 5, 6, 10, 11, 22, 23  # of an AttributeProto
DIMENSIONS, EXTERNAL, LOCATION = 1, 13, 14  # of a TensorProto
STANDARD = (b"", b"ai.onnx")  # domains of operators
MOST_DIMENSIONS = 32  # of a tensor, far more than any network has


def check_graph(content: bytes, where: str) -> None:
    """Refuse what an ONNX file of braincam never holds and a hostile one may.

    That is: data in other files, operators outside the ONNX standard, graphs within graphs (loops need never end),
    functions, training graphs, and tensors that state more values than they have.

    Raises:
        ModelFileError: it holds such a thing, or is no ONNX file.
    """
    try:
        _check_model(memoryview(content))
    except ValueError as error:
        if isinstance(error, ModelFileError):
            raise ModelFileError(f"{where}: {error}; use a file that braincam wrote") from None
        raise ModelFileError(f"{where}: expected an ONNX model, got: {error}; copy the file again") from error


def _check_model(content: memoryview) -> None:
    graphs = 0
    for number, value in _fields(content):
        if number in {TRAINING, FUNCTIONS}:
            raise ModelFileError("expected a plain graph, got one with functions or a training graph")
        if number == GRAPH:
            graphs += 1
            _check_graph(_message(value))
    if not graphs:
        raise ValueError("no graph")


def _check_graph(content: memoryview) -> None:
    for number, value in _fields(content):
        if number == NODE:
            _check_node(_message(value))
        elif number == INITIALIZER:
            _check_tensor(_message(value))
        elif number == SPARSE_INITIALIZER:
            raise ModelFileError("expected plain tensors, got a sparse one")


def _check_node(content: memoryview) -> None:
    for number, value in _fields(content):
        if number == DOMAIN and bytes(_message(value)) not in STANDARD:
            raise ModelFileError("expected operators of the ONNX standard, got one of another domain")
        if number == ATTRIBUTE:
            _check_attribute(_message(value))


def _check_attribute(content: memoryview) -> None:
    for number, value in _fields(content):
        if number in {TENSOR, TENSORS}:
            _check_tensor(_message(value))
        elif number in {SUBGRAPH, SUBGRAPHS}:
            raise ModelFileError("expected a plain graph, got one with graphs inside its nodes")
        elif number in {SPARSE, SPARSES}:
            raise ModelFileError("expected plain tensors, got a sparse one")


def _check_tensor(content: memoryview) -> None:
    sizes: list[int] = []
    for number, value in _fields(content):
        if number == EXTERNAL or (number == LOCATION and value != 0):
            raise ModelFileError("expected a whole model, got one whose tensors lie in other files")
        if number == DIMENSIONS:
            sizes += [value] if isinstance(value, int) else _packed(value)
    if len(sizes) > MOST_DIMENSIONS:  # the product of a million of them would take minutes
        raise ModelFileError(f"expected tensors of at most {MOST_DIMENSIONS} dimensions, got one of {len(sizes):,}")
    if math.prod(sizes) > 2 * len(content):  # the smallest values take half a byte
        raise ModelFileError(
            f"expected tensors with their values, got one that states {math.prod(sizes):,} and has fewer"
        )


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number in the place of a message")  # noqa: TRY004 - a damaged file, not a wrong call
    return value


def _fields(content: memoryview) -> Iterator[Field]:
    """The fields of one message, in order. Raises ValueError where the bytes are no protocol buffer."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(content, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = _varint(content, at)
        elif kind in {FIXED32, FIXED64}:
            size = 4 if kind == FIXED32 else 8
        else:
            raise ValueError("bytes that are no protocol buffer")
        if size > len(content) - at:
            raise ValueError("a file that is cut off, or no protocol buffer")
        yield number, content[at : at + size]
        at += size


def _packed(content: memoryview) -> list[int]:
    """A packed list of whole numbers."""
    at, numbers = 0, []
    while at < len(content):
        number, at = _varint(content, at)
        numbers.append(number)
    return numbers


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at a place, and the place behind it."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            break
        byte = content[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & (2**64 - 1), at
    raise ValueError("a file that is cut off, or no protocol buffer")
