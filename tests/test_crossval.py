"""Cross-validation resumes, judges every slice once per seed, and its table can be computed again."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from braincam.dataset.phantom import write_phantom
from braincam.dataset.split import make_folds, write_split
from braincam.errors import ConfigError, DataError, ModelFileError, TrainingError
from braincam.evaluation.calibration import logits_of
from braincam.files import read_json, write_json
from braincam.model_file.export import load_model
from braincam.pipeline import crossval as module
from braincam.pipeline.crossval import crossval
from braincam.pipeline.evaluate import read_predictions
from braincam.pipeline.export import AFTER_TEMPERATURE, export
from braincam.pipeline.out_of_fold import Answers
from braincam.pipeline.prepare import grouped, split
from braincam.predict import Predictor
from braincam.report.card import model_card
from braincam.training.config import from_mapping
from pages import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import keep

QUICK = ("network=tiny", "image_size=32", "epochs=1", "batch_size=8", "threads=1", "validation_share=0.34")


def test_every_slice_is_judged_once_and_finished_runs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_phantom(tmp_path, patients=24, slices_per_patient=1, seed=0)
    data, table = tmp_path / "data", tmp_path / "folds.csv"
    split(data, table, folds=2)
    trained: list[str] = []
    real = module.train

    def counted(*arguments: object, **options: object) -> object:
        trained.append(str(arguments[1]))
        if len(trained) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train", counted)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        crossval(data, out, split_file=table, overrides=QUICK)
    found = crossval(data, out, split_file=table, overrides=QUICK)
    assert "every answer is referred, because a class is ruled out by 19 or more" in capsys.readouterr().err
    assert [Path(name).name for name in trained] == ["fold0-seed0", "fold1-seed0", "fold1-seed0"]
    own = found.pooled["this network"]
    assert own["n"] == 24
    assert own["accuracy"] == pytest.approx((found.runs["accuracy"] * found.runs["n"]).sum() / 24)
    kept = pd.read_csv(out / "predictions.csv.gz")
    assert set(kept["learner"]) == {
        "this network", "majority", "intensity histogram", "nearest neighbour", "border only",
    }  # fmt: skip
    for _, rows in kept.groupby("learner"):
        assert sorted(rows["path"]) == sorted(path.relative_to(data).as_posix() for path in data.glob("*/*.png"))
    columns = [name for name in kept if name.startswith("p_")]
    mine = kept[kept["learner"] == "this network"]
    right = mine[columns].idxmax(axis=1).str.removeprefix("p_") == mine["path"].str.split("/").str[0]
    assert right.mean() == pytest.approx(own["accuracy"])
    summary = (out / "crossval.md").read_text(encoding="utf-8")
    assert "this network" in summary and "calibrated by the other folds" in summary
    assert (out / "reliability.png").read_bytes().startswith(b"\x89PNG")
    what_one_run_alone_measured_is_no_number_in_the_others(data, out, table)
    with pytest.raises(TrainingError, match="another recipe"):
        crossval(data, out, split_file=table, overrides=(*QUICK, "learning_rate=0.1"))
    with pytest.raises(ConfigError, match="for the cross-validation alone"):
        crossval(data, out / "fold0-seed0", split_file=table, overrides=QUICK)
    runs_on_other_folds_are_not_taken_for_finished(data, out, tmp_path / "other.csv")
    the_recipes_pooled_scores_join_a_card(out, own["accuracy"], capsys)
    answers_of_finished_runs_alone_are_kept_as_those_of_all(out, mine, monkeypatch)


def answers_of_finished_runs_alone_are_kept_as_those_of_all(
    out: Path, whole: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / "fold1-seed0" / "run.json").rename(out / "run.json")  # it never ended
    monkeypatch.setattr(sys, "argv", ["x", str(out), "--out", str(out / "kept.csv.gz")])
    keep.main()
    kept = pd.read_csv(out / "kept.csv.gz")
    first = whole[whole["fold"] == 0]
    pd.testing.assert_frame_equal(kept, first[list(kept)].reset_index(drop=True))
    assert len(kept) < len(whole)
    (out / "run.json").rename(out / "fold1-seed0" / "run.json")  # now it has, and the folder of the first is gone
    (out / "fold0-seed0").rename(out / "gone")
    keep.main()
    both = pd.read_csv(out / "kept.csv.gz")
    pd.testing.assert_frame_equal(both, whole[list(both)].reset_index(drop=True))
    (out / "gone").rename(out / "fold0-seed0")
    facts = read_json(out / "fold1-seed0" / "run.json")
    write_json(out / "fold1-seed0" / "run.json", {**facts, "config": {**facts["config"], "attention": "none"}})
    with pytest.raises(SystemExit, match="in attention fold1-seed0 is not as fold0-seed0"):
        keep.main()
    write_json(out / "fold1-seed0" / "run.json", {**facts, "not_learnt_sha256": "of its own"})
    with pytest.raises(SystemExit, match="in not_learnt_sha256 fold1-seed0 is not as"):
        keep.main()
    monkeypatch.setattr(sys, "argv", ["x", str(out), "--own-without", "--out", str(out / "own.csv.gz")])
    keep.main()
    pd.testing.assert_frame_equal(pd.read_csv(out / "own.csv.gz"), both)
    write_json(out / "fold1-seed0" / "run.json", facts)
    what_a_file_keeps_is_not_mixed_with_other_recipes_nor_its_baselines_lost(out, both, monkeypatch)
    monkeypatch.setattr(sys, "argv", ["x", str(out / "fold0-seed0"), "--out", str(out / "kept.csv.gz")])
    with pytest.raises(SystemExit, match="expected finished runs named fold0-seed0"):
        keep.main()


def what_a_file_keeps_is_not_mixed_with_other_recipes_nor_its_baselines_lost(
    out: Path, both: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = out / "kept.csv.gz"
    monkeypatch.setattr(sys, "argv", ["x", str(out), "--out", str(path)])
    baseline = both[both["fold"] == 0].assign(learner="majority")  # kept under the seed of a run
    pd.concat([both, baseline]).to_csv(path, index=False)
    keep.main()
    kept = pd.read_csv(path)
    assert len(kept[kept["learner"] == "majority"]) == len(baseline) and len(kept) == len(both) + len(baseline)
    for run in ("fold0-seed0", "fold1-seed0"):
        facts = read_json(out / run / "run.json")
        write_json(out / run / "run.json", {**facts, "config": {**facts["config"], "attention": "channel"}})
    with pytest.raises(SystemExit, match="runs of its recipe, but in attention those of"):
        keep.main()
    pd.testing.assert_frame_equal(pd.read_csv(path), kept)
    for run in ("fold0-seed0", "fold1-seed0"):
        facts = read_json(out / run / "run.json")
        write_json(out / run / "run.json", {**facts, "config": {**facts["config"], "attention": "both"}})


def what_one_run_alone_measured_is_no_number_in_the_others(data: Path, out: Path, table: Path) -> None:
    path = out / "fold0-seed0" / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**metrics, "localisation": {"hit_rate": 0.5}})
    crossval(data, out, split_file=table, overrides=QUICK)
    runs = json.loads((out / "crossval.json").read_text(encoding="utf-8"))["runs"]
    assert [run["points_at_lesion"] for run in runs] == [0.5, None]
    write_json(path, metrics)


def runs_on_other_folds_are_not_taken_for_finished(data: Path, out: Path, other: Path) -> None:
    split(data, other, folds=2, seed=5)
    with pytest.raises(TrainingError, match="folds_sha256 changed"):
        crossval(data, out, split_file=other, overrides=QUICK)


def the_recipes_pooled_scores_join_a_card(out: Path, accuracy: float, capsys: pytest.CaptureFixture[str]) -> None:
    model = out.parent / "model.onnx"
    export(out / "fold0-seed0", model, crossval=out)
    card = Predictor(model).card
    pooled = card.extra["recipe_pooled"]
    assert pooled["accuracy"] == pytest.approx(accuracy)
    assert (pooled["folds"], pooled["seeds"], pooled["n"], pooled["slices"]) == (2, 1, 24, 24)
    stored = json.loads((out / "crossval.json").read_text(encoding="utf-8"))
    by_the_other = stored["confidence"]["decisions"]["0"]
    assert card.temperature == pytest.approx(by_the_other["temperature"])
    assert card.conformal_thresholds == pytest.approx(by_the_other["conformal_thresholds"])
    assert card.extra["calibrated_by"] == {
        "folds": [1],
        "seeds": 1,
        "slices": 12,
        "groups": 12,
        "test_apart": True,
        "covering": "slices",
    }
    assert pooled["confidence"]["calibration"] == stored["confidence"]["calibration"]
    the_exported_graph_answers_at_the_pooled_temperature(out, model)
    sets_that_cover_patients_are_said_to_and_change_no_probability(out, model, stored["confidence"], capsys)
    alone = (
        out.parent / "alone.safetensors"
    )  # without its answers beside it no score can be told at the new temperature
    shutil.copyfile(out / "fold0-seed0" / "model.safetensors", alone)
    export(alone, model, crossval=out)
    left = Predictor(model).card.scores
    assert {"accuracy", "macro_f1"} <= set(left) and not set(left) & AFTER_TEMPERATURE
    assert "accuracy" in left["ci95"] and not set(left["ci95"]) & AFTER_TEMPERATURE
    with pytest.raises(ModelFileError, match="lies in a run folder"):
        export(out / "fold0-seed0", out / "fold0-seed0" / "model.onnx", crossval=out)
    with pytest.raises(DataError, match="finished braincam crossval"):
        export(out / "fold0-seed0", model, crossval=out.parent)
    write_json(out / "crossval.json", {key: value for key, value in stored.items() if key != "confidence"})
    with pytest.raises(DataError, match="finished braincam crossval .*confidence"):  # as an older version wrote it
        export(out / "fold0-seed0", model, crossval=out)
    write_json(out / "crossval.json", stored)
    facts = out / "fold1-seed0" / "run.json"
    stored = json.loads(facts.read_text(encoding="utf-8"))
    for changed, complaint in (
        ({"config": {**stored["config"], "learning_rate": 1.0}}, "differs in learning_rate"),
        ({"data_sha256": "0" * 64}, "data_sha256 differs"),
        ({"folds_sha256": "0" * 64}, "folds_sha256 differs"),
        ({"revision": -1}, "revision differs"),
        ({"split": {**stored["split"], "leaks": True}}, "its folds leak"),
    ):
        facts.write_text(json.dumps({**stored, **changed}), encoding="utf-8")
        with pytest.raises(DataError, match=complaint):
            export(out / "fold0-seed0", model, crossval=out)


def sets_that_cover_patients_are_said_to_and_change_no_probability(
    out: Path, model: Path, sure: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    other = out.parent / "patients.onnx"
    capsys.readouterr()
    export(out / "fold0-seed0", other, crossval=out, covering="patients")
    said = capsys.readouterr().err
    assert "cannot be ruled out, which takes 19 or more patients or groups of a class" in said
    assert "leave --covering patients out" in said
    by_slice, by_patient = Predictor(model).card, Predictor(other).card
    assert by_patient.temperature == by_slice.temperature
    assert by_patient.extra["calibrated_by"] == {**by_slice.extra["calibrated_by"], "covering": "patients"}
    pooled = by_patient.extra["recipe_pooled"]["confidence"]["prediction_sets"]
    assert pooled == sure["covering_patients"]["prediction_sets"]
    assert "for 95 % of the slices of new patients, each patient weighing the same" in model_card(by_patient, "0" * 64)
    assert "for 95 % of the slices of each class" in model_card(by_slice, "0" * 64)


def the_exported_graph_answers_at_the_pooled_temperature(out: Path, model: Path) -> None:
    own, shipped = Predictor(out / "fold0-seed0"), Predictor(model)
    _, twin = load_model(model.with_suffix(".safetensors"))
    assert twin == shipped.card
    assert shipped.card.temperature != own.card.temperature
    pixels = np.random.default_rng(0).integers(0, 255, (1, 96, 96), np.uint8)
    logits = logits_of(own.answer(pixels).probabilities, own.card.temperature)
    expected = softmax(logits / shipped.card.temperature, axis=1)
    assert shipped.answer(pixels).probabilities == pytest.approx(expected, abs=1e-4)
    table = pd.read_csv(out / "fold0-seed0" / "predictions.csv")
    logits = logits_of(table[[f"p_{name}" for name in own.card.classes]], own.card.temperature)
    labels = table["label"].map(own.card.classes.index)
    probabilities = softmax(logits / shipped.card.temperature, axis=1)
    assert shipped.card.scores["nll"] == pytest.approx(-np.log(probabilities[np.arange(12), labels]).mean(), rel=1e-3)
    assert shipped.card.scores["accuracy"] == pytest.approx((probabilities.argmax(1) == labels).mean())


def test_a_seed_of_its_own_is_refused_since_crossval_counts_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seed=7: crossval trains the seeds 0 to"):
        crossval(tmp_path, tmp_path / "out", overrides=("seed=7",))
    assert not (tmp_path / "out").exists()


def test_a_shipped_recipe_is_named_as_for_a_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: expected a folder"):
        crossval(tmp_path / "absent", tmp_path / "out", config="demo")


def test_the_popular_split_is_none_to_cross_validate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="split=official: crossval trains on folds"):
        crossval(tmp_path, tmp_path / "out", overrides=("split=official",))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        ("leak", r"^fold 1, seed 0: the split leaks: .*--allow-leak"),
        ("class", r"^fold 1, seed 0: .*the test part has no slice of class glioma"),
    ],
)
def test_a_last_fold_that_cannot_be_tested_is_refused_before_the_first_training(
    harm: str, complaint: str, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained all the same")

    monkeypatch.setattr(module, "train", never)
    found = grouped(scans / "data", scans / "patients.csv")
    folds = make_folds([item.label for item in found.manifest.slices], found.groups, 3, 0)
    table = tmp_path / "folds.csv"
    if harm == "leak":  # fold 0 has every class, and shares nobody with the rest
        torn = next(row for row, fold in enumerate(folds) if fold == 1)
        folds[torn] = 2
    else:
        folds = [
            2 if fold == 1 and item.label == "glioma" else fold
            for item, fold in zip(found.manifest.slices, folds, strict=True)
        ]
    write_split(table, found.manifest, found.groups, folds)
    with pytest.raises(DataError, match=complaint):
        crossval(scans / "data", tmp_path / "out", patients=scans / "patients.csv", split_file=table, overrides=QUICK)


def test_a_run_judged_without_masks_is_judged_again_when_there_are_some(run: Path, scans: Path, tmp_path: Path) -> None:
    found = grouped(scans / "data", scans / "patients.csv")
    facts = read_json(run / "run.json")
    recipe, metrics = from_mapping(facts["config"]), read_json(run / "metrics.json")
    write_json(tmp_path / "run.json", facts)
    write_json(tmp_path / "metrics.json", metrics)
    assert module.finished(tmp_path, recipe, found, masked=True)
    del metrics["localisation"]
    write_json(tmp_path / "metrics.json", metrics)
    assert not module.finished(tmp_path, recipe, found, masked=True)
    assert module.finished(tmp_path, recipe, found)
    del facts["revision"]  # the first runs
    write_json(tmp_path / "run.json", facts)
    with pytest.raises(TrainingError, match="revision changed"):
        module.finished(tmp_path, recipe, found)


def test_a_run_that_learnt_from_all_slices_is_none_of_a_crossval_without_some(
    run: Path, scans: Path, tmp_path: Path
) -> None:
    found = grouped(scans / "data", scans / "patients.csv")
    facts = read_json(run / "run.json")
    recipe = from_mapping(facts["config"])
    one = frozenset({found.manifest.slices[0].path})
    for key, less in (("not_learnt", replace(found, not_learnt=one)), ("refused", replace(found, refused=one))):
        for said in (facts, {name: value for name, value in facts.items() if name != f"{key}_sha256"}):
            write_json(tmp_path / "run.json", said)
            assert module.finished(tmp_path, recipe, found)
            with pytest.raises(TrainingError, match=f"{key}_sha256 changed"):
                module.finished(tmp_path, recipe, less)


def test_answers_of_runs_on_different_folds_are_not_pooled(scans: Path, tmp_path: Path) -> None:
    found = grouped(scans / "data")
    paths = [item.path for item in found.manifest.slices]
    rows = pd.DataFrame({"path": [*paths, *paths], "seed": [0] * len(paths) + [1] * len(paths)})

    def pooled(table: pd.DataFrame) -> None:
        module.check_complete(tmp_path, Answers(table, np.zeros((0, 0), bool), ()), found)

    pooled(rows.sample(frac=1, random_state=0))
    for wrong in (rows[1:], pd.concat([rows, rows[:1]]), rows.replace({"path": {paths[0]: paths[1]}})):
        with pytest.raises(TrainingError, match="of different folds"):
            pooled(wrong)


def test_names_of_classes_and_patients_stay_words(tmp_path: Path) -> None:
    rows = {"path": ["0/a.png", "None/b.png"], "label": ["0", "None"], "patient": ["", "007"], "group": ["1.0", "nan"]}
    answers = {"predicted": ["None", "0"], "status": ["ok", "refer"], "p_0": [0.25, 1.0], "p_None": [0.75, 0.0]}
    written = pd.DataFrame({**rows, **answers, "seen_in_training": [True, False], "points_at_lesion": [None, True]})
    written.to_csv(tmp_path / "predictions.csv", index=False)
    read = read_predictions(tmp_path / "predictions.csv")
    for name in (*rows, "predicted", "status"):
        assert read[name].tolist() == written[name].tolist()
    assert read["p_None"].dtype == float and read["seen_in_training"].dtype == bool
    assert read["points_at_lesion"].isna().tolist() == [True, False]
    answered = Answers(read.assign(temperature=1.0), np.zeros((0, 0), bool), ("0", "None"))
    assert answered.labels.tolist() == [0, 1] and answered.groups == ["1.0", "nan"]


def with_maps() -> pd.DataFrame:
    """Answers of runs with masks: three groups with a measured map."""
    return pd.DataFrame(
        {
            "label": ["a", "a", "b", "b", "none"],
            "group": ["g1", "g1", "g2", "g3", "g4"],
            "points_at_lesion": [True, True, False, True, None],
            **dict.fromkeys(("energy_in_lesion", "iou_otsu", "dice_otsu", "iou_top2", "dice_top2", "lesion_area"), 0.2),
            "erased_own_class": [1.0, 0.5, None, 0.0, None],
            "erased_any_tumour": [None] * 5,  # no class means "no tumour"
        }
    )


def test_kept_answers_give_the_map_measures_again(tmp_path: Path) -> None:
    answers = with_maps().assign(path=list("uvwxy"), fold=0, seed=0, temperature=1.3, p_a=0.25, p_b=0.75)
    answers["energy_in_lesion"] = [0.123456, 1e-5, 0.0, 1.0, None]
    floors = answers[["path", "fold", "seed", "p_a", "p_b"]].assign(learner="majority")
    module.to_keep(answers, floors, ["p_a", "p_b"]).to_csv(tmp_path / "kept.csv.gz", index=False)
    kept = pd.read_csv(tmp_path / "kept.csv.gz")
    assert kept["learner"].tolist() == ["this network"] * 5 + ["majority"] * 5
    assert kept["energy_in_lesion"].tolist()[:4] == [0.1235, 1e-5, 0.0, 1.0]
    assert kept["points_at_lesion"].isna().tolist() == [False] * 4 + [True] * 6
    assert "erased_own_class" in kept and "erased_any_tumour" not in kept, "what nobody measured has no column"
    again = kept.merge(answers[["path", "label", "group"]], on="path")
    expected, found = module.localisation(answers), module.localisation(again[again["learner"] == "this network"])
    assert expected is not None and found is not None
    assert (found["n"], found["hit_rate"], found["erased"]) == (4, expected["hit_rate"], expected["erased"])
    for measure, value in expected["measures"].items():
        assert found["measures"][measure]["value"] == pytest.approx(value["value"], rel=1e-3)
        assert found["measures"][measure]["ci95"] == pytest.approx(value["ci95"], rel=1e-3)
    bare = module.to_keep(answers.drop(columns=[*module.COLUMNS, *module.ERASED]), floors, ["p_a", "p_b"])
    assert list(bare) == ["path", "fold", "seed", "learner", "p_a", "p_b", "temperature"]


def test_map_measures_are_pooled_over_the_slices_of_all_runs() -> None:
    rows = with_maps()
    found = module.localisation(rows)
    assert found is not None
    assert found["n"] == 4 and found["hit_rate"] == 0.75
    assert found["by_class"]["a"]["pointing"]["value"] == 1 and found["by_class"]["b"]["pointing"]["value"] == 0.5
    assert found["erased"]["n"] == 3 and found["erased"]["own_class"]["value"] == 0.5
    table = "\n".join(module.map_table(found))
    assert "| all 4 answers that name the tumour |" in table and "of 3 answers (by chance" in table
    assert "any tumour" not in table and "of its own class on 0.500" in table
    assert module.localisation(rows.assign(points_at_lesion=None)) is None
