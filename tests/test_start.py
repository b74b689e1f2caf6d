"""A training that begins with another model's weights: lent by class, and what that model met is never its test."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from braincam.dataset.phantom import write_phantom
from braincam.errors import ConfigError, DataError, ModelFileError, TrainingError
from braincam.evaluation.evaluate import seen_before
from braincam.model_file.export import load_model
from braincam.model_file.zoo import ModelFile
from braincam.pipeline.facts import make_card
from braincam.pipeline.prepare import divide, grouped
from braincam.pipeline.start import Origin, find_origin
from braincam.pipeline.train import train, untrained
from braincam.report.card import model_card
from braincam.training.config import read_config
from conftest import QUICK

SETS = (*QUICK, "epochs=1", "learning_rate=1e-6")


@pytest.fixture(scope="module")
def origin(run: Path) -> Origin:
    return find_origin(run)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients that the model has not met."""
    folder = tmp_path_factory.mktemp("others")
    write_phantom(folder, patients=40, slices_per_patient=1, seed=77, size=96)
    table = folder / "patients.csv"
    head, *rows = table.read_text(encoding="utf-8").split()  # a patient is known again by the name
    table.write_text("\n".join([head, *(row.replace(",patient-", ",other-") for row in rows)]), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "classes", [("glioma", "meningioma", "notumor", "pituitary"), ("abscess", "glioma", "pituitary")]
)
def test_what_is_lent_gives_the_same_scores_for_the_classes_that_are_known(
    origin: Origin, classes: tuple[str, ...]
) -> None:
    network = untrained(read_config(Path("demo"), QUICK), len(classes)).eval()
    origin.lend(network, classes)
    x = torch.rand(3, 1, 64, 64)
    with torch.inference_mode():
        mine, theirs = network(x), origin.network(x)
    for column, name in enumerate(classes):
        if name in origin.card.classes:
            assert torch.allclose(mine[:, column], theirs[:, origin.card.classes.index(name)], atol=1e-5)


def test_a_training_goes_on_from_a_model_and_says_so(run: Path, origin: Origin, others: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapted"
    facts = {"patients": others / "patients.csv", "config": Path("demo"), "overrides": SETS}
    metrics = train(others / "data", out, **facts, start_from=run).metrics
    assert metrics["n_seen_in_training"] == metrics["split"]["seen_in_training"] == 0
    began = dict(origin.network.named_parameters())
    for name, weights in load_model(out / "model.safetensors")[0].network.named_parameters():
        assert (weights - began[name]).abs().max() < 1e-3, "at so low a rate weights stay where they began"
    card = ModelFile(out / "model.onnx").card()
    assert card.training["started_from"] == origin.facts()
    assert set(origin.card.seen_slices) < set(card.seen_slices)
    assert card.training["slices"] < len(card.seen_slices)
    assert f"from the weights of {origin.card.name}" in model_card(card, "0" * 64)
    assert "from random weights" in model_card(origin.card, "0" * 64)
    stored = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert stored["started_from_sha256"] == origin.sha256
    with pytest.raises(TrainingError, match="began with other weights; repeat its --from"):
        train(others / "data", out, **facts, resume=True)


def test_slices_that_the_first_model_met_are_no_test_of_the_second(run: Path, scans: Path, tmp_path: Path) -> None:
    facts = {"patients": scans / "patients.csv", "config": Path("demo"), "overrides": SETS, "start_from": run}
    with pytest.raises(DataError, match="it was trained on all 16 test slices.*by another --fold"):
        train(scans / "data", tmp_path / "fold1", **facts, fold=1)
    rows = (scans / "patients.csv").read_text(encoding="utf-8").split()[1:]
    paths = [row.partition(",")[0] for row in rows]
    lines = [f"{path},{path.partition('/')[0]},,{path},{number % 2}" for number, path in enumerate(paths)]
    torn = tmp_path / "torn.csv"  # the two slices of every patient lie in two folds
    torn.write_text("\n".join(["path,label,patient,group,fold", *lines]), encoding="utf-8")
    with pytest.raises(DataError, match="expected a split that does not leak"):
        train(scans / "data", tmp_path / "torn", **facts, split=torn, allow_leak=True)


def test_of_a_mixed_folder_what_was_met_is_counted_and_inherited(
    origin: Origin, scans: Path, others: Path, tmp_path: Path
) -> None:
    shutil.copytree(others / "data", tmp_path / "data")
    known = grouped(scans / "data", scans / "patients.csv")
    met = seen_before(known.manifest, known.digests, known.groups, origin.card)
    chosen = [known.manifest.slices[row] for row in np.flatnonzero(met)[::9]]
    for number, item in enumerate(chosen):  # the same patients, other pictures: only their names tell
        with Image.open(scans / "data" / item.path) as picture:
            picture.rotate(90).save(tmp_path / "data" / item.label / f"again-{number}.png")
    table = (others / "patients.csv").read_text(encoding="utf-8")
    named = [f"{item.label}/again-{number}.png,{item.label},{item.patient}" for number, item in enumerate(chosen)]
    (tmp_path / "patients.csv").write_text("\n".join([table, *named]), encoding="utf-8")
    found = grouped(tmp_path / "data", tmp_path / "patients.csv")
    recipe = read_config(Path("demo"), SETS)
    counted = 0
    for fold in range(5):
        parts = divide(found, "grouped", fold, recipe.validation_share, 0)
        counted += origin.met_of_test(found, parts)
    assert counted == len(chosen)
    parts = replace(parts, met_by_origin=1)
    assert parts.describe()["seen_in_training"] == 1 and "begins with had met 1 of them" in parts.describe()["verdict"]
    model, card = load_model(Path(str(files("braincam") / "models" / "default.safetensors")))
    fitted = {key: getattr(card, key) for key in ("temperature", "outlier_threshold", "outlier_false_refusals")}
    fitted["conformal_thresholds"] = card.conformal_thresholds
    made = make_card("adapted", found, replace(parts, train=[], validation=[]), recipe, model, fitted, origin)
    inherited = seen_before(found.manifest, found.digests, found.groups, made)
    assert {found.manifest.slices[row].path for row in np.flatnonzero(inherited)} == {
        f"{item.label}/again-{number}.png" for number, item in enumerate(chosen)
    }


def test_a_recipe_for_another_network_is_refused_by_its_keys(run: Path, others: Path, tmp_path: Path) -> None:
    wider = (*SETS, "network=small", "image_size=96")
    with pytest.raises(ConfigError, match="network is 'tiny' there, 'small' in the recipe, image_size is 64 there, 96"):
        train(others / "data", tmp_path / "run", config=Path("demo"), overrides=wider, start_from=run)
    assert not (tmp_path / "run").exists()


def test_the_packaged_model_is_found_by_its_names_and_a_file_without_a_twin_is_not(run: Path, tmp_path: Path) -> None:
    by_name, by_card = find_origin("default"), find_origin("braincam-small-2")
    assert by_name.sha256 == by_card.sha256
    alone = tmp_path / "alone.onnx"
    alone.write_bytes((run / "model.onnx").read_bytes())
    with pytest.raises(ModelFileError, match=r"alone\.safetensors: no such file"):
        find_origin(alone)
