"""The packaged model's thresholds come from kept answers, never from its test fold, and its graph stays as it is."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest

from braincam.model_file.card import Card
from braincam.model_file.export import load_model, safetensors_metadata
from braincam.predict import Predictor
from braincam.report.card import model_card

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "benchmarks")]

import recard  # noqa: E402

TEST = 0


def kept(folder: Path, classes: tuple[str, ...], seed: int = 0, sure_of_test: float = 1.0) -> tuple[Path, Path]:
    """Answers on five folds, and their truth; `sure_of_test` changes the answers on the test fold alone."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(classes)), 100)
    folds = np.tile(np.arange(5), len(labels) // 5)
    logits = rng.normal(0, 1, (len(labels), len(classes))) + 2 * np.eye(len(classes))[labels]
    logits[folds == TEST] *= sure_of_test
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    paths = [f"{classes[label]}/{row}.png" for row, label in enumerate(labels)]
    truth = {"path": paths, "label": [classes[label] for label in labels], "group": [f"g{row // 4}" for row in labels]}
    pd.DataFrame({**truth, "fold": folds}).to_csv(folder / "split.csv", index=False)
    columns = {f"p_{name}": probabilities[:, k] for k, name in enumerate(classes)}
    table = pd.DataFrame({"path": paths, "fold": folds, "seed": 0, "learner": "this network", **columns})
    table.to_csv(folder / "kept.csv.gz", index=False)
    return folder / "kept.csv.gz", folder / "split.csv"


@pytest.fixture
def card(run: Path) -> Card:
    return Predictor(run, threads=1).card


def test_the_test_fold_takes_no_part(card: Card, tmp_path: Path) -> None:
    found = recard.with_thresholds(card, *kept(tmp_path, card.classes), TEST)
    again = recard.with_thresholds(card, *kept(tmp_path, card.classes, sure_of_test=9.0), TEST)
    assert found.conformal_thresholds == again.conformal_thresholds
    assert all(0 < least < 1 for least in found.conformal_thresholds)
    assert found.extra["thresholds_from"]["folds"] == [1, 2, 3, 4]
    assert replace(found, conformal_thresholds=card.conformal_thresholds, extra=card.extra) == card


def test_the_answers_it_was_set_on_hold_what_was_promised(card: Card, tmp_path: Path) -> None:
    answers, split = kept(tmp_path, card.classes)
    found = recard.with_thresholds(card, answers, split, TEST)
    table = pd.read_csv(answers)
    others = table[table["fold"] != TEST]
    for name, least in zip(card.classes, found.conformal_thresholds, strict=True):
        mine = others[others["path"].str.startswith(f"{name}/")]
        assert (mine[f"p_{name}"] >= least).mean() >= card.conformal_coverage


def test_answers_of_other_classes_are_refused(card: Card, tmp_path: Path) -> None:
    answers, split = kept(tmp_path, ("a", "b", "c", "d"))
    with pytest.raises(SystemExit, match="expected the classes"):
        recard.with_thresholds(card, answers, split, TEST)


def test_the_graph_stays_and_both_files_hold_the_card(run: Path, scans: Path, tmp_path: Path) -> None:
    for ending in ("onnx", "safetensors"):
        shutil.copy(run / f"model.{ending}", tmp_path)
    model = tmp_path / "model.onnx"
    before, picture = Predictor(model, threads=1), next((scans / "data" / "glioma").iterdir())
    new = recard.with_thresholds(before.card, *kept(tmp_path, before.card.classes), TEST)
    recard.write(model, load_model(model.with_suffix(".safetensors"))[0], new)
    after = Predictor(model, threads=1)
    assert after.card == new
    twin = model.with_suffix(".safetensors")
    assert Card.from_metadata(safetensors_metadata(twin), str(twin)) == new
    assert onnx.load(model).graph == onnx.load(run / "model.onnx").graph
    assert after.predict(picture)[0].probabilities == before.predict(picture)[0].probabilities
    said = " ".join(model_card(new, after.file.sha256, packaged=False).split())
    assert "the temperature comes from it too" in said
    assert "No slice of the test part is among them" in said
