"""The demo does the whole main job, here on a handful of patients."""

from __future__ import annotations

from pathlib import Path

import pytest

from braincam import cli
from braincam.pipeline.demo import run_demo
from braincam.predict import Predictor


def test_the_demo_leaves_everything_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    code = run_demo(out, patients=40, overrides=("epochs=2", "image_size=64", "threads=1"))
    assert code == 0
    printed = capsys.readouterr().out
    for name in ("run/report.html", "run/curves.png", "run/model.onnx", "overlays", "study/study.html"):
        assert str(out / name) in printed
        assert (out / name).exists()
    assert "nothing about patients" in printed
    assert cli.main(["demo", "--out", str(out)]) == 2
    assert "holds a demo already" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "folds.csv").write_text("mine")
    assert cli.main(["demo", "--out", str(tmp_path / "mine")]) == 2
    assert "expected a new or an empty folder, got one with folds.csv" in capsys.readouterr().err


@pytest.mark.slow
def test_the_full_demo_learns_and_points_at_lesions(tmp_path: Path) -> None:
    import json

    assert run_demo(tmp_path / "demo") == 0
    metrics = json.loads((tmp_path / "demo" / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["balanced_accuracy"] >= 0.95
    assert metrics["localisation"]["hit_rate"] >= 0.85
    model = Predictor(tmp_path / "demo" / "run")
    for head in sorted((tmp_path / "demo" / "scans" / "volumes").iterdir()):  # a volume has its own window
        answers = model.predict(head)
        assert sum(item.status == "ok" for item in answers) >= 20
        truth = head.name.removesuffix(".nii.gz")
        named = [item.label for item in answers if item.status == "ok" and item.label != "notumor"]
        assert set(named) <= {truth}
        assert named or truth == "notumor"
