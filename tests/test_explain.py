"""Overlays land where they should, and other heat maps come from torchcam."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from braincam import cli
from braincam.errors import ConfigError, ModelFileError
from braincam.explain.cam import METHODS, torchcam_map, with_torchcam
from braincam.explain.save import with_overlays
from braincam.images.volume import Volume
from braincam.model_file.export import load_model, save_model
from braincam.pipeline.earlier import telling_what_stays
from braincam.predict import Prediction, Predictor
from braincam.printing import print_predictions


def test_pictures_keep_the_whole_uid_and_do_not_overwrite_each_other_where_case_is_ignored(
    run: Path, scans: Path, tmp_path: Path
) -> None:
    picture = next(iter((scans / "data" / "pituitary").iterdir()))
    answer = next(item for item in Predictor(run).predict(picture.parent) if item.label is not None)
    names = ["a/1.2.840.113", "a/1.2.840.114", "a/Scan.PNG", "b/scan.png", "c/brain.nii.gz"]
    answers = [replace(answer, path=name, slice=7 if "nii" in name else None) for name in names]
    written = [Path(item.overlay or "").name for item in with_overlays(answers, tmp_path)]
    assert written == [
        "1.2.840.113-evidence.png", "1.2.840.114-evidence.png", "Scan-evidence.png", "scan-evidence_2.png",
        "brain-evidence-007.png",
    ]  # fmt: skip


def test_a_method_that_adds_noise_draws_the_same_map_each_time(run: Path) -> None:
    pytest.importorskip("torchcam")
    model, _ = load_model(run / "model.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, second = (torchcam_map(model, pixels, 0, "smoothgradcampp") for _ in range(2))
    assert np.array_equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)  # and a training beside it draws what it would have drawn


def test_no_file_is_replaced_that_an_earlier_call_did_not_write(run: Path, scans: Path, tmp_path: Path) -> None:
    source = next(iter((scans / "data" / "pituitary").iterdir()))
    answer = next(item for item in Predictor(run).predict(source.parent) if item.label is not None)
    for name in ("scan.png", "scan-evidence.png", "scan.jpg"):  # the scans lie where the pictures go
        (tmp_path / name).write_bytes(source.read_bytes())
    volume = replace(answer, slice=3, volume=Volume(None, None, None), path="brain.nii")
    for _ in range(2):  # again into the same folder: the pictures are made anew
        made = list(with_overlays([replace(answer, path=str(tmp_path / "scan.png")), volume], tmp_path))
        assert [Path(item.overlay or "").name for item in made] == ["scan-evidence_2.png", "brain-evidence-003.jpg"]
    for name in ("scan.png", "scan-evidence.png", "scan.jpg"):
        assert (tmp_path / name).read_bytes() == source.read_bytes()
    assert len(list(tmp_path.iterdir())) == 5


def test_an_input_that_gets_no_picture_now_keeps_none_of_the_call_before(
    run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the paths of its rows: two scans of one name are two inputs, and what could not be read was not answered."""
    source = next(iter((scans / "data" / "pituitary").iterdir()))
    answer = next(item for item in Predictor(run).predict(source.parent) if item.label is not None)
    rejected = replace(answer, status="rejected", label=None)
    error = replace(rejected, status="error")

    def call(*answers: Prediction) -> set[str]:
        with telling_what_stays(tmp_path):
            print_predictions(with_overlays(answers, tmp_path), "json", tmp_path)
        return {path.name for path in tmp_path.glob("*.png")}

    names = ("a/scan.png", "b/scan.png", "other.png")
    assert call(*(replace(answer, path=name) for name in names)) == {
        "scan-evidence.png", "scan-evidence_2.png", "other-evidence.png",
    }  # fmt: skip
    (tmp_path / "third-evidence.png").write_bytes(source.read_bytes())  # no picture of ours
    kept = {"scan-evidence_2.png", "other-evidence.png", "third-evidence.png"}
    rows = (replace(rejected, path="a/scan.png"), replace(answer, path="b/scan.png"), replace(error, path="other.png"))
    assert call(*rows, replace(rejected, path="third.png")) == kept
    assert "removed scan-evidence.png from before" in capsys.readouterr().err
    assert call(replace(rejected, path="c/other.png")) == kept
    assert "still holds 2 files such as other-evidence.png" in capsys.readouterr().err


def test_overlays_and_lines_are_written_and_agree(
    run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = scans / "data" / "pituitary"
    code = cli.main(["predict", str(folder), "--model", str(run), "--format", "json", "--out", str(tmp_path)])
    assert code == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(printed) == len(list(folder.iterdir()))
    kept = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert kept == printed
    for row in printed:
        assert (row["overlay"] is None) == (row["status"] == "rejected")
        if row["overlay"]:
            with Image.open(row["overlay"]) as picture:
                assert picture.width > 400
    pictures = [row["overlay"] for row in printed if row["overlay"]]
    assert len(set(pictures)) == len(pictures)


def test_slices_of_the_same_name_do_not_overwrite_each_other(run: Path, scans: Path, tmp_path: Path) -> None:
    source = sorted((scans / "data" / "notumor").iterdir())[0]
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "scan.png").write_bytes(source.read_bytes())
    cli.main(
        ["predict", str(tmp_path / "one"), str(tmp_path / "two"), "--model", str(run), "--out", str(tmp_path / "out")]
    )
    rows = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    written = [row["overlay"] for row in rows if row["overlay"]]
    assert len(set(written)) == len(written) == len(list((tmp_path / "out").glob("*.png")))


def test_without_an_output_folder_nothing_is_written(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", str(scans / "data" / "glioma"), "--model", str(run), "--format", "csv"]) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["gradcam", "gradcampp", "layercam", "xgradcam"])
def test_torchcam_maps_are_maps_and_leave_the_model_alone(method: str, run: Path) -> None:
    model, _ = load_model(run / "model.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
    heat = torchcam_map(model, pixels, 1, method)
    assert heat.ndim == 2
    assert np.isfinite(heat).all()
    assert heat.min() >= 0
    assert not [module for module in model.modules() if module._forward_hooks]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_another_map_needs_its_twin_and_a_name_that_exists(run: Path, tmp_path: Path, scans: Path) -> None:
    (tmp_path / "alone.onnx").write_bytes((run / "model.onnx").read_bytes())
    with pytest.raises(ModelFileError, match="trainable twin"):
        next(with_torchcam([], Predictor(tmp_path / "alone.onnx"), "gradcam"))
    with pytest.raises(ConfigError, match=", ".join(METHODS)):
        next(with_torchcam([], Predictor(run), "nonsense"))
    answers = Predictor(run).predict(sorted((scans / "data" / "glioma").iterdir())[:2])
    replaced = list(with_torchcam(answers, Predictor(run), "gradcam"))
    assert [answer.probabilities for answer in replaced] == [answer.probabilities for answer in answers]


def test_the_twin_of_another_training_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes((run / "model.onnx").read_bytes())
    model, card = load_model(run / "model.safetensors")
    twin = tmp_path / "model.safetensors"
    for foreign in (
        {"name": "other"},
        {"recipe": card.recipe | {"seed": 99}},
        {"training": card.training | {"data_sha256": "0" * 64}},
    ):
        save_model(twin, model, replace(card, **foreign))  # type: ignore[arg-type]
        with pytest.raises(ModelFileError, match="another training .*--model"):
            next(with_torchcam([], Predictor(tmp_path), "gradcam"))
    save_model(twin, model, replace(card, temperature=2.0, outlier_threshold=9.0))  # set later: the same training
    assert not list(with_torchcam([], Predictor(tmp_path), "gradcam"))


def test_the_picture_of_another_map_does_not_call_it_logits(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = []
    monkeypatch.setattr("braincam.explain.overlay.colour_bar", lambda *arguments: units.append(arguments[-1]))
    for extra, unit in (["--cam", "layercam"], "relative, 0 to 1"), ([], "logit per pixel"):
        units.clear()
        scan = scans / "data" / "pituitary"
        assert cli.main(["predict", str(scan), "--model", str(run), "--out", str(tmp_path / unit), *extra]) == 0
        assert set(units) == {unit}


def test_long_names_are_cut_so_that_the_files_beside_them_fit(run: Path, scans: Path, tmp_path: Path) -> None:
    source = next((scans / "data").rglob("*.png"))
    names = ["я" * 122 + ".png", "я" * 121 + "ю.png"]  # of 248 bytes; 255 is what file systems take
    for name in names:
        (tmp_path / name).write_bytes(source.read_bytes())
    answers = Predictor(run / "model.onnx").stream([tmp_path / name for name in names])
    shown = [answer.overlay for answer in with_overlays(answers, tmp_path / "out")]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {Path(path).name for path in shown if path} == written
    assert len(written) == sum(path is not None for path in shown)
