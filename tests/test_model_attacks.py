"""Model files from strangers: nothing in them runs, reads another file, writes elsewhere, or takes gigabytes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors import safe_open
from safetensors.numpy import save_file

from braincam.errors import ModelFileError
from braincam.model_file.card import METADATA_KEY, Card
from braincam.model_file.export import load_model
from braincam.model_file.graph import check_graph
from braincam.model_file.zoo import ModelFile, packaged
from braincam.pipeline.export import export
from braincam.pipeline.study import with_studies
from braincam.predict import Predictor

SECRET = np.arange(4, dtype=np.float32)
Graph = onnx.ModelProto


def card() -> dict[str, object]:
    facts: dict[str, object] = json.loads(ModelFile(packaged() / "default.onnx").card().to_json())
    return facts


def graph_of(*nodes: onnx.NodeProto, tensors: tuple[TensorProto, ...] = (), domain: str = "") -> Graph:
    """A graph with the ends of a braincam model, and the packaged model's card."""
    ends = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W"])]
    names = ("probabilities", "cam", "outlier_score")
    outs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    made = [helper.make_node("Identity", ["x"], [name]) for name in names]
    graph = helper.make_graph([*nodes, *made], "g", ends, outs, list(tensors))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(card())
    return model


def tensor_in(location: str) -> TensorProto:
    tensor = TensorProto(name="x", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def constant(tensor: TensorProto, listed: bool = False) -> onnx.NodeProto:
    node = helper.make_node("Constant", [], ["x"])
    attribute = node.attribute.add()
    attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
    if listed:
        attribute.tensors.add().CopyFrom(tensor)
    else:
        attribute.t.CopyFrom(tensor)
    return node


def loop() -> onnx.NodeProto:
    flag = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    count = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    body = helper.make_graph([helper.make_node("Identity", ["go"], ["on"])], "b", [count, flag],
                             [helper.make_tensor_value_info("on", TensorProto.BOOL, [])])  # fmt: skip
    return helper.make_node("Loop", ["", "go"], [], body=body)


def boastful() -> TensorProto:
    return TensorProto(name="x", data_type=1, dims=[2**10, 2**20], raw_data=b"1234")


def with_function() -> Graph:
    model = graph_of(tensors=(numpy_helper.from_array(SECRET, "x"),))
    model.functions.append(
        helper.make_function("f", "F", ["a"], ["b"], [helper.make_node("Identity", ["a"], ["b"])], [])
    )
    return model


def sparse(at_node: bool) -> Graph:
    tensor = onnx.SparseTensorProto(values=numpy_helper.from_array(SECRET, "x"), dims=[9])
    if not at_node:
        model = graph_of()
        model.graph.sparse_initializer.add().CopyFrom(tensor)
        return model
    node = helper.make_node("Constant", [], ["x"])
    attribute = node.attribute.add()
    attribute.name, attribute.type = "sparse_value", onnx.AttributeProto.SPARSE_TENSOR
    attribute.sparse_tensor.CopyFrom(tensor)
    return graph_of(node)


HOSTILE: dict[str, tuple[Callable[[], Graph], str]] = {
    "another file": (lambda: graph_of(tensors=(tensor_in("secret.bin"),)), "in other files"),
    "another file, in a node": (lambda: graph_of(constant(tensor_in("secret.bin"))), "in other files"),
    "another file, in a list": (lambda: graph_of(constant(tensor_in("secret.bin"), True)), "in other files"),
    "a file above": (lambda: graph_of(constant(tensor_in("../secret.bin"))), "in other files"),
    "a file anywhere": (lambda: graph_of(constant(tensor_in("/etc/passwd"))), "in other files"),
    "memory of the process": (lambda: graph_of(constant(tensor_in("*/_ORT_MEM_ADDR_/*"))), "in other files"),
    "an operator of a library": (
        lambda: graph_of(helper.make_node("Anything", ["image"], ["x"], domain="evil"), domain="evil"),
        "another domain",
    ),
    "a loop": (lambda: graph_of(loop()), "graphs inside its nodes"),
    "a function": (with_function, "functions"),
    "a sparse tensor": (lambda: sparse(False), "got a sparse one"),
    "a sparse tensor, in a node": (lambda: sparse(True), "got a sparse one"),
    "a tensor that boasts": (lambda: graph_of(tensors=(boastful(),)), "states 1,073,741,824"),
}


def message(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer, by hand."""
    return bytes([number << 3 | 2, len(content)]) + content


def long_message(number: int, content: bytes) -> bytes:
    """The same for content of any length."""
    size, left = b"", len(content)
    while left > 127:
        size, left = size + bytes([left & 127 | 128]), left >> 7
    return bytes([number << 3 | 2]) + size + bytes([left]) + content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (onnx.ModelProto(ir_version=10).SerializeToString(), "no graph"),
        (bytes([7 << 3, 1]), "a number in the place of a message"),
        (bytes([7 << 3 | 3]), "no protocol buffer"),
        (bytes([7 << 3 | 2, 200]), "cut off|no protocol buffer"),
        (message(7, message(5, message(1, bytes([0x80, 0x80, 0x04, 0x80, 0x80, 0x04])))), "states 4,294,967,296"),
        (
            long_message(7, long_message(5, long_message(1, b"\x7f" * 10**6))),
            "at most 32 dimensions, got one of 1,000,000",
        ),
        (bytes([0xFF] * 12), "no protocol buffer|number"),
    ],
    ids=["no graph", "a number", "a group", "cut off", "packed sizes", "endless sizes", "an endless number"],
)
def test_bytes_that_onnx_would_not_write_are_refused(content: bytes, said: str) -> None:
    with pytest.raises(ModelFileError, match=said):
        check_graph(content, "it")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_graphs_are_refused_unloaded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, words = HOSTILE[name]
    monkeypatch.chdir(tmp_path)  # where a relative name would be looked for
    SECRET.tofile(tmp_path / "secret.bin")
    (tmp_path / "bad.onnx").write_bytes(make().SerializeToString())
    with pytest.raises(ModelFileError, match=words) as caught:
        Predictor(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)


def test_our_own_files_pass(run: Path) -> None:
    for path in (packaged() / "default.onnx", run / "model.onnx"):
        check_graph(path.read_bytes(), "it")


GREEDY = """
import resource, sys
from braincam.errors import ModelFileError
from braincam.predict import Predictor
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    predictor = Predictor(sys.argv[1])
    import numpy as np
    print(predictor.predict(np.full((64, 64), 99, np.uint8))[0].status)
except ModelFileError as error:
    print("refused")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by Linux' own numbers")
@pytest.mark.parametrize("operator", ["ConstantOfShape", "Expand", "Tile", "Resize", "Pad"])
def test_a_graph_cannot_take_gigabytes(operator: str, tmp_path: Path) -> None:
    """A few bytes that ask for 80 GB, when it is loaded or when it runs."""
    size, one = np.array([20_000_000_000], np.int64), numpy_helper.from_array(np.ones(1, np.float32), "one")
    wanted = numpy_helper.from_array(size, "size")
    ends = numpy_helper.from_array(np.array([0, size[0]]), "ends")
    times = numpy_helper.from_array(np.array([2e10], np.float32), "times")
    node = {
        "ConstantOfShape": helper.make_node("ConstantOfShape", ["size"], ["x"]),
        "Expand": helper.make_node("Expand", ["one", "size"], ["x"]),
        "Tile": helper.make_node("Tile", ["one", "size"], ["x"]),
        "Resize": helper.make_node("Resize", ["one", "", "times"], ["x"]),
        "Pad": helper.make_node("Pad", ["one", "ends"], ["x"]),
    }[operator]
    (tmp_path / "greedy.onnx").write_bytes(graph_of(node, tensors=(one, wanted, ends, times)).SerializeToString())
    done = subprocess.run(
        [sys.executable, "-c", GREEDY, str(tmp_path / "greedy.onnx")], capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (100 << 30, 100 << 30)),
    )  # fmt: skip
    outcome, megabytes = done.stdout.split()
    assert outcome in {"refused", "error"}
    assert int(megabytes) < 500
    assert not done.stderr


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["a", "a", "b", "c"]},
        {"classes": "abcd"},
        {"classes": ["a", "b", "c", "d" * 300]},
        {"classes": ["a", "b", "c", "\x1b]0;owned\x07"]},
        {"classes": ["a", "b", "c", "\ud800"]},
        {"name": "two\nlines"},
        {"name": ["list"]},
        {"temperature": 0},
        {"temperature": 10**400},
        {"outlier_threshold": None},
        {"conformal_coverage": "most"},
        {"conformal_thresholds": [0.1, 0.1, 0.1, [1]]},
        {"scores": [1]},
        {"extra": None},
        {"preprocess": {}},
        {"seen_slices": 5},
    ],
    ids=str,
)
def test_a_card_with_anything_in_it_is_refused_in_one_line(change: dict[str, object]) -> None:
    with pytest.raises(ModelFileError, match="its card is damaged") as caught:
        Card.from_metadata({METADATA_KEY: json.dumps(card() | change)}, "file")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["NaN", "[" * 100_000, '{"format": 1' + "0" * 5000 + "}", '{"temperature": NaN}', '{"scores": 1e999}']
)
def test_a_card_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ModelFileError):
        Card.from_metadata({METADATA_KEY: text}, "file")


def rewritten(source: Path, target: Path, change: Callable[[dict[str, object], dict[str, np.ndarray]], None]) -> Path:
    """A safetensors file with another card or other tensors."""
    with safe_open(source, "np") as file:
        facts = json.loads(file.metadata()[METADATA_KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    change(facts, tensors)
    save_file(tensors, target, metadata={METADATA_KEY: json.dumps(facts)})
    return target


@pytest.mark.parametrize(
    "change",
    [
        lambda facts, _: facts["network"].update(channels=10**9),
        lambda facts, _: facts["network"].update(channels=10**30),
        lambda facts, _: facts["network"].update(classes=10**9),
        lambda facts, _: facts["network"].update(classes="four"),
        lambda facts, _: facts["network"].update(size="resnet18"),
        lambda facts, _: facts["network"].update(surprise=1),
        lambda facts, _: facts["network"].update(dropout="much"),
        lambda facts, _: facts["preprocess"].update(image_size=10**6),
        lambda facts, _: facts["preprocess"].update(std=[]),
        lambda facts, _: facts["preprocess"].pop("subtract_black"),
        lambda _, tensors: tensors.pop("centres"),
        lambda _, tensors: tensors.update(centres=np.zeros((3, 3), np.float32)),
    ],
)  # fmt: skip
def test_a_card_that_describes_another_network_is_refused_before_it_is_built(
    run: Path, tmp_path: Path, change: Callable[[dict[str, object], dict[str, np.ndarray]], None]
) -> None:
    path = rewritten(run / "model.safetensors", tmp_path / "model.safetensors", change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelFileError) as caught:
        export(path, tmp_path / "out.onnx")
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes
    assert not (tmp_path / "out.onnx").exists()


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "owned"),)

    import torch

    torch.save({"centres": Evil()}, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError):
        load_model(tmp_path / "model.safetensors")
    assert not (tmp_path / "owned").exists()


def test_class_names_stay_inside_the_folder(tmp_path: Path) -> None:
    """A class may be called like a path: what is written for it lies where it was asked for."""
    names = ["../../outside", "/outside", "..\\outside", "con"]
    model = onnx.load(packaged() / "default.onnx")
    facts = card() | {"classes": names, "outlier_threshold": 1e9, "conformal_thresholds": [0.3] * 4}
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(facts)
    onnx.save(model, tmp_path / "paths.onnx")
    predictor = Predictor(tmp_path / "paths.onnx")
    from braincam.dataset.phantom_volume import write_volumes
    from braincam.explain.save import with_overlays

    volume = write_volumes(tmp_path / "phantom", 0)[0]
    out = tmp_path / "deep" / "out"
    before = set(tmp_path.rglob("*"))
    answers = with_overlays(predictor.stream([volume]), out)
    found: list[object] = []
    list(with_studies(answers, predictor.card, out, found))  # type: ignore[arg-type]
    written = set(tmp_path.rglob("*")) - before - {out, out.parent}
    assert found
    assert {path.parent for path in written} == {out}
    assert any("outside" in path.name or "con" in path.name for path in written)
