"""An int8 file answers nearly as its float32 file does, and its card says how nearly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from braincam.cli import main
from braincam.errors import DataError, ModelFileError
from braincam.model_file.quantise import quantise
from braincam.model_file.zoo import ModelFile
from braincam.pipeline.export import export_int8


@pytest.fixture(scope="module")
def int8(run: Path, scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int8") / "model.onnx"
    export_int8(run, out, scans / "data", scans / "patients.csv")
    return out


def test_the_card_holds_what_was_lost_and_the_scores_of_the_file_itself(run: Path, int8: Path) -> None:
    before, after = ModelFile(run / "model.onnx").card(), ModelFile(int8).card()
    facts = after.extra["int8"]
    assert after.name == f"{before.name}-int8"
    assert facts["n"] == before.scores["n"] == after.scores["n"]  # the test part, which neither has met
    assert facts["accuracy_float32"] == pytest.approx(before.scores["accuracy"])
    assert facts["accuracy"] == after.scores["accuracy"]
    assert facts["accuracy_change"] == pytest.approx(facts["accuracy"] - facts["accuracy_float32"])
    assert 0 < facts["calibration_slices"] <= 128
    assert facts["largest_probability_difference"] < 0.2
    assert facts["same_label"] > 0.8
    assert (after.temperature, after.outlier_threshold) == (before.temperature, before.outlier_threshold)
    assert after.seen_slices == before.seen_slices


def test_the_stages_compute_in_int8_and_what_the_map_rests_on_does_not(run: Path, int8: Path) -> None:
    plain, graph = onnx.load(run / "model.onnx").graph, onnx.load(int8).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    weights = [name for name in kinds if name.endswith("_quantized") and kinds[name] == onnx.TensorProto.INT8]
    assert len(weights) == 9  # two convolutions and a shortcut in each of three stages
    assert all(name.startswith("network.stages.") for name in weights)
    left = [
        node for node in graph.node if node.op_type == "Conv" and not node.input[1].endswith("DequantizeLinear_Output")
    ]
    assert len(left) == sum(node.op_type == "Conv" for node in plain.node) - 9
    assert int8.stat().st_size < (run / "model.onnx").stat().st_size


def test_the_map_is_still_an_exact_account(int8: Path) -> None:
    file = ModelFile(int8)
    slices = np.random.default_rng(0).integers(0, 256, (3, 90, 110), dtype=np.uint8)
    probabilities, cam = file.session().run(["probabilities", "cam"], {"image": slices})
    logits = cam.mean((2, 3)) / file.card().temperature
    expected = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(probabilities, expected / expected.sum(1, keepdims=True), atol=1e-4)


def test_it_is_not_quantised_twice(int8: Path) -> None:
    with pytest.raises(ModelFileError, match="expected a float32 model file"):
        quantise(int8.read_bytes(), iter(()), "model.onnx")


def test_a_folder_that_the_model_never_met_cannot_set_its_ranges(run: Path, tmp_path: Path) -> None:
    from braincam.dataset.phantom import write_phantom

    write_phantom(tmp_path, patients=8, slices_per_patient=1, seed=99, size=64)
    with pytest.raises(DataError, match="none of its slices was met in training"):
        export_int8(run, tmp_path / "x.onnx", tmp_path / "data")
    assert not (tmp_path / "x.onnx").exists()


def test_the_verb_says_what_it_costs(
    run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["export", str(run), "--out", str(tmp_path / "int8.onnx"), "--patients", str(scans / "patients.csv")]
    assert main(call) == 2
    assert "--patients belongs to --int8" in capsys.readouterr().err
    assert main([*call, "--int8", str(scans / "data")]) == 0
    said = capsys.readouterr().out
    assert "in int8" in said
    assert "slices not met in training" in said
    assert "times as fast" in said
