"""The packaged model is calibrated by kept answers, never by those on its test fold; its weights stay as they are."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from scipy.special import softmax

from braincam.evaluation.calibration import logits_of
from braincam.evaluation.metrics import OURS, score
from braincam.files import write_json
from braincam.model_file.card import Card
from braincam.model_file.export import load_model, safetensors_metadata
from braincam.pipeline.prepare import grouped, set_aside
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
    truth = {
        "path": paths,
        "label": [classes[label] for label in labels],
        "group": [f"g{row // 4}" for row in range(len(labels))],
    }
    pd.DataFrame({**truth, "fold": folds}).to_csv(folder / "split.csv", index=False)
    columns = {f"p_{name}": probabilities[:, k] for k, name in enumerate(classes)}
    table = pd.DataFrame({"path": paths, "fold": folds, "seed": 0, "learner": OURS, **columns})
    table.to_csv(folder / "kept.csv.gz", index=False)
    metrics = score(labels, probabilities, classes, truth["group"], n_boot=20)
    runs = [{"fold": fold, "seed": 0} for fold in range(5)]
    stored = {"pooled": {OURS: metrics}, "confidence": None, "localisation": None, "runs": runs}
    write_json(folder / "kept.json", stored)
    return folder / "kept.csv.gz", folder / "split.csv"


@pytest.fixture
def card(run: Path) -> Card:
    return Predictor(run, threads=1).card


def test_the_test_fold_takes_no_part(card: Card, tmp_path: Path) -> None:
    found = recard.calibrated(card, *kept(tmp_path, card.classes), TEST)
    again = recard.calibrated(card, *kept(tmp_path, card.classes, sure_of_test=9.0), TEST)
    assert found.conformal_thresholds == again.conformal_thresholds and found.temperature == again.temperature
    pooled = found.extra["recipe_pooled"]
    assert (pooled["folds"], pooled["seeds"], pooled["slices"]) == (5, 1, 100 * len(card.classes))
    assert all(0 < least < 1 for least in found.conformal_thresholds)
    assert found.extra["calibrated_by"]["folds"] == [1, 2, 3, 4]
    as_before = {name: getattr(card, name) for name in ("temperature", "conformal_thresholds", "extra")}
    assert replace(found, **as_before) == card  # type: ignore[arg-type]


def test_the_answers_it_was_set_on_hold_what_was_promised(card: Card, tmp_path: Path) -> None:
    answers, split = kept(tmp_path, card.classes)
    found = recard.calibrated(card, answers, split, TEST)
    table = pd.read_csv(answers)
    others = table[table["fold"] != TEST]
    before = others[[f"p_{name}" for name in card.classes]]
    probabilities = softmax(logits_of(before) / found.temperature, axis=1)
    for k, (name, least) in enumerate(zip(card.classes, found.conformal_thresholds, strict=True)):
        mine = others["path"].str.startswith(f"{name}/")
        assert (probabilities[mine, k] >= least).mean() >= card.conformal_coverage


def test_the_references_of_the_outlier_score_are_those_of_the_training(run: Path, scans: Path, tmp_path: Path) -> None:
    deployed, card = load_model(run / "model.safetensors")
    given = scans / "data", scans / "patients.csv"
    slices = torch.randint(0, 256, (4, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores = deployed(slices).outlier_score
    deployed.centres.zero_()
    deployed.whitening.zero_()
    stale = replace(card, outlier_threshold=0.0, outlier_false_refusals=1.0)
    made, found = recard.referenced(deployed, stale, recard.material_of(stale, grouped(*given), TEST))
    with torch.no_grad():  # the matrices themselves may be turned: only distances are settled
        assert torch.allclose(made(slices).outlier_score, scores, rtol=1e-3)
    assert found.outlier_threshold == pytest.approx(card.outlier_threshold, rel=1e-5)
    assert replace(found, outlier_threshold=card.outlier_threshold) == card
    flagged = tmp_path / "flags.csv"
    pd.DataFrame({"path": [grouped(*given).manifest.slices[0].path]}).to_csv(flagged, index=False)
    with pytest.raises(SystemExit, match="trained on"):
        recard.material_of(card, set_aside(grouped(*given), None, flagged), TEST)


def test_only_the_leak_is_counted_again(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ending in ("onnx", "safetensors"):
        shutil.copy(run / f"model.{ending}", tmp_path)
    model, flagged = tmp_path / "model.onnx", tmp_path / "none.csv"
    flagged.write_text("path\n")
    before, weights = Predictor(model, threads=1).card, load_file(model.with_suffix(".safetensors"))
    found = grouped(scans / "data", scans / "patients.csv")
    parts = recard.material_of(before, found, TEST).parts
    better = replace(found, turned=np.array([[parts.train[0], parts.test[0]]]))  # as a better search finds it
    monkeypatch.setattr(recard, "grouped", lambda *_: better)
    given = ["--patients", "p.csv", "--split", "s.csv", "--refuse", str(flagged), "--fold", str(TEST)]
    monkeypatch.setattr(sys, "argv", ["recard.py", str(scans / "data"), *given, "--model", str(model), "--leak"])
    recard.main()
    after = Predictor(model, threads=1).card
    assert (before.training["split"]["turned_in_training"], after.training["split"]["turned_in_training"]) == (0, 1)
    assert "1 more lies there upside down or turned" in after.training["split"]["verdict"]
    assert replace(after, training=before.training) == before
    assert Card.from_metadata(safetensors_metadata(model.with_suffix(".safetensors")), str(model)) == after
    assert all((value == weights[name]).all() for name, value in load_file(model.with_suffix(".safetensors")).items())


def test_answers_of_other_classes_are_refused(card: Card, tmp_path: Path) -> None:
    answers, split = kept(tmp_path, ("a", "b", "c", "d"))
    with pytest.raises(SystemExit, match="expected the classes"):
        recard.calibrated(card, answers, split, TEST)


def test_the_weights_stay_and_both_files_hold_the_card_and_answer_by_it(run: Path, scans: Path, tmp_path: Path) -> None:
    for ending in ("onnx", "safetensors"):
        shutil.copy(run / f"model.{ending}", tmp_path)
    model = tmp_path / "model.onnx"
    twin = model.with_suffix(".safetensors")
    before, picture = Predictor(model, threads=1), next((scans / "data" / "glioma").iterdir())
    first, weights = before.predict(picture)[0].probabilities, load_file(twin)
    new = recard.calibrated(before.card, *kept(tmp_path, before.card.classes), TEST)
    deployed, _ = load_model(twin)
    deployed.temperature = new.temperature
    recard.write(model, deployed, new)
    after = Predictor(model, threads=1)
    assert after.card == new
    assert Card.from_metadata(safetensors_metadata(twin), str(twin)) == new
    assert all((value == weights[name]).all() for name, value in load_file(twin).items())
    names = list(new.classes)
    logits = logits_of([first[name] for name in names], before.card.temperature)
    expected = softmax(logits / new.temperature)
    found = after.predict(picture)[0].probabilities
    assert [found[name] for name in names] == pytest.approx(expected, abs=1e-4)
    said = " ".join(model_card(new, after.file.sha256, packaged=False).split())
    assert "No slice of the test part is among them" in said
