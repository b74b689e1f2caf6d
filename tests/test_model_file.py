"""A model file says everything about itself, answers as PyTorch does, and runs nothing when loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from braincam.errors import ModelFileError
from braincam.model_file import export as exporting
from braincam.model_file.card import METADATA_KEY, NOTICE, Card
from braincam.model_file.export import export_onnx, load_model, save_model
from braincam.model_file.parity import check_parity
from braincam.model_file.zoo import ModelFile, find_model, models
from braincam.network import preprocess
from braincam.network.preprocess import Preprocess
from braincam.pipeline.export import export
from pages import ROOT


def test_both_files_carry_the_same_card(run: Path) -> None:
    model, card = load_model(run / "model.safetensors")
    assert card == ModelFile(run / "model.onnx").card()
    assert card.classes == ("glioma", "meningioma", "notumor", "pituitary")
    assert card.notice == NOTICE
    assert card.parameters == sum(p.numel() for p in model.network.parameters())
    assert card.scores["n"] > 0
    assert set(card.scores["ci95"]) >= {"accuracy", "balanced_accuracy"}


def test_the_file_answers_as_torch_for_two_hundred_slices_of_assorted_sizes(run: Path) -> None:
    model, _ = load_model(run / "model.safetensors")
    session = ModelFile(run / "model.onnx").session()
    random = np.random.default_rng(0)
    sizes = [(224, 224), (512, 512), (96, 300), (181, 217), (64, 64), (333, 100), (17, 40), (128, 128)]
    for number in range(200):
        height, width = sizes[number % len(sizes)]
        coarse = torch.from_numpy(random.random((1, 1, 7, 7), dtype=np.float32))
        slices = (torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[:, 0] * 255).to(
            torch.uint8
        )
        with torch.inference_mode():
            ours = model(slices)
        probabilities, cam, outlier = session.run(["probabilities", "cam", "outlier_score"], {"image": slices.numpy()})
        assert np.abs(ours.probabilities.numpy() - probabilities).max() <= 1e-4
        assert np.abs(ours.cam.numpy() - cam).max() <= 1e-3
        assert np.abs(ours.outlier_score.numpy() - outlier).max() <= 1e-2
        assert probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_the_mean_of_the_exported_map_and_the_temperature_give_the_probabilities(run: Path) -> None:
    file = ModelFile(run / "model.onnx")
    session = file.session()
    slices = np.random.default_rng(1).integers(0, 256, (3, 90, 110), dtype=np.uint8)
    probabilities, cam = session.run(["probabilities", "cam"], {"image": slices})
    logits = cam.mean((2, 3)) / file.card().temperature
    expected = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(probabilities, expected / expected.sum(1, keepdims=True), atol=1e-4)


def test_no_path_of_the_building_machine_is_in_the_bytes(run: Path) -> None:
    for name in ("model.onnx", "model.safetensors"):
        content = (run / name).read_bytes()
        for trace in (
            str(Path.home()),
            str(Path.cwd()),
            str(run.parent),
            "site-packages",
            "stack_trace",
            ".py",
        ):
            assert trace.encode() not in content, f"{name} holds {trace}"


def test_the_graph_is_what_the_documentation_says(run: Path) -> None:
    graph = onnx.load(run / "model.onnx").graph
    assert [value.name for value in graph.input] == ["image"]
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [value.name for value in graph.output] == ["probabilities", "cam", "outlier_score"]


def test_weights_survive_the_round_trip_bit_for_bit(run: Path, tmp_path: Path) -> None:
    model, card = load_model(run / "model.safetensors")
    save_model(tmp_path / "again.safetensors", model, card)
    again, same = load_model(tmp_path / "again.safetensors")
    assert same == card
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.mark.parametrize("fault", ["no frame", "frame moved", "darkest grey left"])
def test_a_graph_that_prepares_slices_otherwise_is_refused(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On pictures that fill their canvas, and have black in them, none of it would show."""
    folder = ROOT / "src" / "braincam" / "models"
    model, _ = load_model(folder / "default.safetensors")
    content = (folder / "default.onnx").read_bytes()
    assert check_parity(model, content, "it") < 1e-4
    config = model.preprocess.config
    assert config.frame and config.subtract_black
    if fault == "frame moved":
        rightly = preprocess.frame_around
        monkeypatch.setattr(preprocess, "frame_around", lambda *of: rightly(*of) + torch.tensor([0.03, 0, 0, 0]))
    else:
        off = {"frame": False} if fault == "no frame" else {"subtract_black": False}
        model.preprocess = Preprocess(replace(config, **off))
    with pytest.raises(ModelFileError, match="differs from PyTorch"):
        check_parity(model, content, "it")


def test_a_graph_whose_outlier_score_alone_is_off_is_refused(run: Path) -> None:
    model, _ = load_model(run / "model.safetensors")
    content = (run / "model.onnx").read_bytes()
    assert check_parity(model, content, "it") < 1e-4
    model.centres.mul_(1.1)
    with pytest.raises(ModelFileError, match=r"maps by \S+ \(at most 0.001\), outlier scores by 0"):
        check_parity(model, content, "it")


def test_export_refuses_a_graph_that_disagrees_and_writes_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, card = load_model(run / "model.safetensors")
    real = exporting.strip

    def sabotage(graph: onnx.ModelProto) -> onnx.ModelProto:
        for tensor in graph.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 4:
                values = onnx.numpy_helper.to_array(tensor) * 1.5
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return real(graph)

    monkeypatch.setattr(exporting, "strip", sabotage)
    with pytest.raises(ModelFileError, match="differs from PyTorch"):
        export_onnx(tmp_path / "bad.onnx", model, card)
    assert not list(tmp_path.iterdir())


def test_the_export_verb_makes_the_same_model_again(run: Path, tmp_path: Path) -> None:
    facts = export(run, tmp_path / "again.onnx")
    assert facts["largest_probability_difference"] <= 1e-4
    slices = np.random.default_rng(0).integers(0, 256, (2, 70, 70), dtype=np.uint8)
    first = ModelFile(run / "model.onnx").session().run(None, {"image": slices})
    second = ModelFile(tmp_path / "again.onnx").session().run(None, {"image": slices})
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    with pytest.raises(ModelFileError, match=r"ends in \.onnx"):
        export(run, tmp_path / "again.bin")
    with pytest.raises(ModelFileError, match="ONNX file already"):
        export(run / "model.onnx", tmp_path / "x.onnx")


def test_a_model_whose_outlier_score_measured_something_else_is_not_exported(run: Path, tmp_path: Path) -> None:
    model, card = load_model(run / "model.safetensors")
    older = {key: value for key, value in json.loads(card.to_json()).items() if key != "outlier_features"}
    save_model(tmp_path / "older.safetensors", model, Card.from_metadata({METADATA_KEY: json.dumps(older)}, "it"))
    with pytest.raises(ModelFileError, match="measures pooled features, that of this version square roots"):
        export(tmp_path / "older.safetensors", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_damaged_and_foreign_files_are_refused_in_one_line(run: Path, tmp_path: Path) -> None:
    whole = (run / "model.safetensors").read_bytes()
    for name, content in {"cut": whole[:2000], "empty": b"", "text": b"hello" * 100}.items():
        file = tmp_path / f"{name}.safetensors"
        file.write_bytes(content)
        with pytest.raises(ModelFileError) as caught:
            load_model(file)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelFileError, match="no such file"):
        load_model(tmp_path / "absent.safetensors")
    (tmp_path / "bad.onnx").write_bytes(b"hello")
    with pytest.raises(ModelFileError, match="expected an ONNX model"):
        find_model(tmp_path / "bad.onnx").session()
    foreign = onnx.load(run / "model.onnx")
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(ModelFileError, match="without a braincam card"):
        find_model(tmp_path / "foreign.onnx").card()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "last.ckpt").write_bytes(b"")
    with pytest.raises(ModelFileError, match="has not finished; .*--resume"):
        find_model(tmp_path / "begun")
    with pytest.raises(ModelFileError, match="braincam export .*model.safetensors"):
        find_model(run / "model.safetensors")
    with pytest.raises(ModelFileError, match="no such model"):
        find_model("nothing-of-that-name")


@pytest.mark.parametrize(
    "change", [{"classes": ["a"]}, {"temperature": "hot"}, {"format": "other"}, {"conformal_thresholds": []}]
)
def test_a_damaged_card_is_refused(run: Path, change: dict[str, object]) -> None:
    raw = json.loads(ModelFile(run / "model.onnx").card().to_json()) | change
    with pytest.raises(ModelFileError):
        Card.from_metadata({METADATA_KEY: json.dumps(raw)}, "file")


def test_a_card_of_a_newer_minor_version_with_more_fields_is_read(run: Path) -> None:
    card = ModelFile(run / "model.onnx").card()
    raw = json.loads(card.to_json()) | {"a_later_field": 1}
    assert Card.from_metadata({METADATA_KEY: json.dumps(raw)}, "file") == card
    assert replace(card).summary()["seen_slices"] == len(card.seen_slices)


def test_models_beside_the_package_are_found_by_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.onnx").write_bytes((run / "model.onnx").read_bytes())
    monkeypatch.setenv("BRAINCAM_MODELS", str(tmp_path))
    assert "mine" in [model.path.stem for model in models()]
    assert find_model("mine").card().name == "quick"
    assert find_model("quick").path == tmp_path / "mine.onnx", "answers call a model by the name in its card"
    assert find_model(run).path == run / "model.onnx"


def test_one_bad_file_does_not_hide_the_other_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from braincam.cli import main

    (tmp_path / "broken.onnx").write_bytes(b"no model")
    monkeypatch.setenv("BRAINCAM_MODELS", str(tmp_path))
    assert main(["models", "--format", "json"]) == 1
    said = capsys.readouterr()
    assert [row["name"] for row in json.loads(said.out)] == ["default"]
    assert "broken.onnx" in said.err


def test_no_picture_is_turned_about_in_the_graph(run: Path) -> None:
    """Training reads the channels last; a graph traced that way would lay every feature map out anew."""
    assert "Transpose" not in {node.op_type for node in onnx.load(run / "model.onnx").graph.node}
