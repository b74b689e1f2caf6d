"""What a model has seen never flatters its headline."""

from __future__ import annotations

import csv
import io
import json
import shutil
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from braincam import cli
from braincam.dataset.split import make_folds
from braincam.errors import ConfigError, DataError, SplitError, TrainingError
from braincam.evaluation.corruptions import CORRUPTIONS
from braincam.explain.localisation import perfect_map, read_mask
from braincam.model_file.export import load_model
from braincam.model_file.zoo import ModelFile
from braincam.pipeline.crossval import crossval
from braincam.pipeline.evaluate import evaluate
from braincam.pipeline.facts import identity
from braincam.pipeline.prepare import FOLDS, divide, grouped, set_aside
from braincam.pipeline.train import gather, train
from braincam.predict import BATCH, Prediction, Predictor
from braincam.report.card import MEASURES, model_card
from braincam.training.config import TrainConfig
from conftest import QUICK
from dicom_files import write_series

RUN_FILES = {
    "config.toml", "history.csv", "curves.png", "last.ckpt", "model.safetensors", "model.onnx", "metrics.json",
    "report.html", "model_card.md", "run.json", "predictions.csv", "inputs.png",
}  # fmt: skip


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_a_run_holds_every_documented_file(run: Path) -> None:
    assert {path.name for path in run.iterdir()} >= RUN_FILES
    assert not [path.name for path in run.iterdir() if path.name.endswith(".tmp")]


def test_metrics_hold_every_documented_key_and_the_card_the_same_scores(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    documented = {
        "n", "accuracy", "balanced_accuracy", "macro_f1", "per_class", "confusion_matrix", "auroc_macro",
        "tumour_auroc", "nll", "brier", "ece", "ci95", "classes",
    }  # fmt: skip
    assert set(metrics) >= documented
    assert set(metrics["per_class"]["glioma"]) >= {"sensitivity", "specificity", "ppv", "f1", "n"}
    assert set(metrics["baselines"]) >= {"majority", "intensity histogram", "nearest neighbour", "border only"}
    assert ModelFile(run / "model.onnx").card().scores["accuracy"] == metrics["accuracy"]
    table = rows_of(run / "predictions.csv")
    right = sum(row["label"] == row["predicted"] for row in table)
    assert right / len(table) == pytest.approx(metrics["accuracy"])


def test_the_held_out_part_shares_no_patient_with_what_the_model_met(run: Path, scans: Path) -> None:
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert facts["split"]["leaks"] is False
    assert 0 < facts["data_share"] < 1
    held_out = {row["patient"] for row in rows_of(run / "predictions.csv")}
    found = grouped(scans / "data", scans / "patients.csv")
    parts = divide(found, "grouped", 0, 0.2, 0)
    met = {found.manifest.slices[row].patient for row in parts.train + parts.validation}
    assert held_out == {found.manifest.slices[row].patient for row in parts.test}
    assert not held_out & met


def test_evaluating_the_whole_folder_keeps_seen_slices_out_of_the_headline(
    run: Path, scans: Path, tmp_path: Path
) -> None:
    trained = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    metrics = evaluate(scans / "data", run, patients=scans / "patients.csv", out=tmp_path / "out").metrics
    assert metrics["n"] == trained["n"]
    assert metrics["accuracy"] == pytest.approx(trained["accuracy"])
    assert metrics["all"]["n"] == 80
    assert metrics["seen"]["n"] == 80 - trained["n"] == metrics["n_seen_in_training"]
    assert (tmp_path / "out" / "report.html").is_file()
    assert (tmp_path / "out" / "model_card.md").read_text(encoding="utf-8").startswith("# Model card: ")


def test_scores_of_subgroups_are_those_of_their_slices(
    run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "patients.csv"
    rows = rows_of(scans / "patients.csv")
    scanner = {name: "AB|C"[number % 4] for number, name in enumerate(sorted({row["patient"] for row in rows}))}
    lines = [f"{row['path']},{row['patient']},{scanner[row['patient']].strip('C')}" for row in rows]
    table.write_text("\n".join(["path,patient,scanner", *lines]), encoding="utf-8")
    call = ["evaluate", str(scans / "data"), "--model", str(run), "--patients", str(table)]
    assert cli.main([*call, "--by", "scanner", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    found = metrics["by"]["values"]
    assert set(found) <= {"A", "B", "|", "unknown"} and len(found) > 1
    assert sum(part["n"] for part in found.values()) == metrics["n"]
    for value, part in found.items():
        own = [
            row for row in rows_of(tmp_path / "out" / "predictions.csv")
            if (scanner[row["patient"]].strip("C") or "unknown") == value and row["seen_in_training"] == "False"
        ]  # fmt: skip
        assert part["accuracy"] == pytest.approx(sum(row["label"] == row["predicted"] for row in own) / len(own))
        assert f"  {value:<24}accuracy " in said
        assert f"scanner: {value}" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "**Subgroups by scanner**" in (tmp_path / "out" / "model_card.md").read_text(encoding="utf-8")
    assert cli.main([*call, "--by", "age"]) == 2
    assert cli.main([*call[:4], "--by", "scanner"]) == 2
    assert cli.main([*call, "--by", "path"]) == 2
    missing, without, many = capsys.readouterr().err.splitlines()[-3:]
    assert "age missing" in missing and "belongs to --patients" in without and "into bands" in many


def test_spoilt_slices_are_judged_beside_what_they_were(
    run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["evaluate", str(scans / "data"), "--model", str(run), "--patients", str(scans / "patients.csv")]
    assert cli.main([*call, "--corruptions", "8", "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["corruptions"]
    assert found["n"] == 8, "two of each class, none that was met in training"
    assert set(found["by_corruption"]) == set(CORRUPTIONS)
    accuracies = [[one["accuracy"] for one in part["strengths"]] for part in found["by_corruption"].values()]
    assert np.mean(accuracies) == pytest.approx(found["mean_accuracy"]["value"])
    assert {len(values) for values in accuracies} == {5}
    assert "spoilt slices           accuracy" in capsys.readouterr().out
    assert "When the picture is spoilt" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Under fifteen corruptions" in (tmp_path / "out" / "model_card.md").read_text(encoding="utf-8")


def test_a_model_is_judged_on_patients_of_one_class(run: Path, scans: Path, tmp_path: Path) -> None:
    """An external cohort often has one diagnosis; what takes two classes to be defined is left out, and drawn not."""
    shutil.copytree(scans / "data" / "meningioma", tmp_path / "data" / "meningioma")
    judged = evaluate(tmp_path / "data", run, out=tmp_path / "out")
    whole, (row,) = judged.metrics["all"], [row for row in judged.metrics["all"]["per_class"].values() if row["n"]]
    assert whole["n"] == row["n"] == len(list((tmp_path / "data" / "meningioma").iterdir()))
    assert whole["accuracy"] == pytest.approx(row["sensitivity"])
    assert whole["auroc_macro"] is whole["tumour_auroc"] is None
    assert ">nan" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8").lower()
    assert (tmp_path / "out" / "model_card.md").is_file()


def test_a_renamed_copy_of_a_training_slice_is_recognised_without_patients(
    run: Path, scans: Path, tmp_path: Path
) -> None:
    found = grouped(scans / "data", scans / "patients.csv")
    parts = divide(found, "grouped", 0, 0.2, 0)
    for number, row in enumerate([*parts.train[:6], *parts.test]):
        item = found.manifest.slices[row]
        target = tmp_path / item.label / f"{number}.png"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(found.manifest.file(row), target)
    metrics = evaluate(tmp_path, run).metrics
    assert metrics["n_seen_in_training"] >= 6
    assert metrics["all"]["n"] == 6 + len(parts.test)


def test_copies_that_a_table_of_folds_tore_from_the_training_slices_are_counted(
    run: Path, scans: Path, tmp_path: Path
) -> None:
    found = grouped(scans / "data", scans / "patients.csv")
    parts = divide(found, "grouped", 0, 0.2, 0)
    source = found.manifest.file(parts.train[0])
    mirrored = tmp_path / "data" / found.manifest.slices[parts.train[0]].label / "mirrored.png"
    shutil.copytree(scans / "data", tmp_path / "data")
    with Image.open(source) as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored)
    named = zip(found.manifest.slices, found.groups, strict=True)
    rows = [f"{item.path},{item.label},,{group},1" for item, group in named]
    rows.append(f"{mirrored.relative_to(tmp_path / 'data').as_posix()},{mirrored.parent.name},,alone,0")
    table = "\n".join(["path,label,patient,group,fold", *rows])
    (tmp_path / "folds.csv").write_text(table, encoding="utf-8")
    split = evaluate(tmp_path / "data", run, split=tmp_path / "folds.csv", fold=0).metrics["split"]
    assert (split["seen_in_training"], split["with_twin_in_training"]) == (0, 1)
    assert "; 1 in the headline have a near copy that was; one that was encoded anew would not be. " in split["verdict"]
    assert "The patient of 1 slice is unknown" in split["verdict"]


def test_names_that_no_card_may_hold_are_refused_before_the_training(scans: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give another by --name"):
        train(scans / "data", tmp_path / "a\u200cb")
    shutil.copytree(scans / "data", tmp_path / "data")
    (tmp_path / "data" / "notumor").rename(tmp_path / "data" / "no\u00a0tumor")
    with pytest.raises(DataError, match="rename that folder"):
        train(tmp_path / "data", tmp_path / "run", config=Path("demo"), overrides=QUICK)


def test_one_fold_leaves_nothing_to_learn_from(scans: Path, tmp_path: Path) -> None:
    found = grouped(scans / "data", scans / "patients.csv")
    whole = replace(found, folds=[0] * len(found.groups))
    with pytest.raises(SplitError, match="fold 0 holds every slice"):
        divide(whole, "file", 0, 0.2, 0)


def test_a_model_against_itself_differs_by_nothing(run: Path, scans: Path) -> None:
    metrics = evaluate(scans / "data", run, patients=scans / "patients.csv", against=run).metrics
    assert metrics["against"]["accuracy"] == 0
    assert metrics["against"]["mcnemar_p"] == 1
    assert metrics["against"]["b_sha256"][:8] in metrics["against"]["b"]  # two equal names would tell nothing
    assert not any(metrics["against"]["excludes_zero"].values())


def test_an_unknown_class_and_a_wrong_fold_are_named(run: Path, scans: Path, tmp_path: Path) -> None:
    shutil.copytree(scans / "data", tmp_path / "data")
    (tmp_path / "data" / "glioma").rename(tmp_path / "data" / "cyst")
    with pytest.raises(DataError, match="does not know the class cyst"):
        evaluate(tmp_path / "data", run)
    folds = tmp_path / "folds.csv"
    assert cli.main(["split", str(scans / "data"), "--patients", str(scans / "patients.csv"), "--out", str(folds)]) == 0
    with pytest.raises(DataError, match="fold 9: expected one of 0, 1, 2, 3, 4"):
        evaluate(scans / "data", run, split=folds, fold=9)


def test_a_split_file_that_leaks_is_refused_unless_allowed_and_then_counted(scans: Path, tmp_path: Path) -> None:
    folds = tmp_path / "folds.csv"
    cli.main(["split", str(scans / "data"), "--patients", str(scans / "patients.csv"), "--out", str(folds)])
    rows = rows_of(folds)
    moved = next(row for row in rows if row["fold"] == "1")
    moved["fold"] = "0"
    with folds.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = grouped(scans / "data", None, folds)
    with pytest.raises(SplitError, match="the split leaks: 1 of the"):
        divide(found, "file", 0, 0.2, 0)
    assert divide(found, "file", 0, 0.2, 0, allow_leak=True).leak.with_patient_in_training == 1


def test_what_the_card_prints_is_among_what_it_carries(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    scores = ModelFile(run / "model.onnx").card().scores
    for key in MEASURES:
        assert scores[key] == metrics[key]


def test_the_seed_cuts_validation_and_leaves_the_test_alone(scans: Path) -> None:
    found = grouped(scans / "data", scans / "patients.csv")
    first, second = (divide(found, "grouped", 0, 0.2, seed) for seed in (0, 1))
    assert first.test == second.test  # or two seeds would be judged on different patients
    assert first.validation != second.validation
    labels = [item.label for item in found.manifest.slices]
    assert first.test == [row for row, fold in enumerate(make_folds(labels, found.groups, FOLDS, 0)) if fold == 0]


def test_a_fold_of_the_popular_split_is_refused(scans: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--fold 3 and split=official exclude each other"):
        train(scans / "data", tmp_path / "out", fold=3, overrides=("split=official",))


def test_near_copies_of_validation_slices_in_training_are_counted(scans: Path, tmp_path: Path) -> None:
    folds = tmp_path / "folds.csv"
    cli.main(["split", str(scans / "data"), "--patients", str(scans / "patients.csv"), "--out", str(folds)])
    found = grouped(scans / "data", None, folds)
    clean = divide(found, "file", 0, 0.2, 0)
    assert clean.describe()["validation_with_twin_in_training"] == 0
    torn = np.array([[clean.train[0], clean.validation[0]], [clean.validation[1], clean.train[0]]])
    assert divide(replace(found, twins=torn), "file", 0, 0.2, 0).describe()["validation_with_twin_in_training"] == 2


def test_nothing_is_learnt_from_named_slices_and_they_are_judged_all_the_same(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = grouped(scans / "data", scans / "patients.csv")
    before = divide(found, "grouped", 0, 0.2, 0)
    paths = [item.path for item in found.manifest.slices]
    named = [*before.train[:3], before.validation[0], *before.test[:2]]
    table = tmp_path / "flags.csv"
    table.write_text("path,label\n" + "".join(f"{paths[row]},x\n" for row in named), encoding="utf-8")
    after = divide(set_aside(found, table), "grouped", 0, 0.2, 0)
    assert "flags.csv: 6 slices are kept out of training and validation" in capsys.readouterr().err
    assert after.test == before.test
    assert {*after.train, *after.validation} == {*before.train, *before.validation} - set(named)
    assert after.describe()["not_learnt"] == 4 and before.describe()["not_learnt"] == 0
    assert identity(found)["not_learnt_sha256"] == "" != identity(set_aside(found, table))["not_learnt_sha256"]
    table.write_text("path\n" + "\n".join(paths), encoding="utf-8")
    with pytest.raises(DataError, match="every slice is kept out of training"):
        divide(set_aside(found, table), "grouped", 0, 0.2, 0)
    table.write_text("path\nglioma/nobody.png\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"flags\.csv: glioma/nobody\.png is not in"):
        set_aside(found, table)


def test_a_training_without_some_slices_has_not_met_them_and_its_card_says_how_many(
    scans: Path, tmp_path: Path
) -> None:
    parts = divide(grouped(scans / "data", scans / "patients.csv"), "grouped", 0, 0.1, 0)
    paths = [item.path for item in grouped(scans / "data", scans / "patients.csv").manifest.slices]
    table = tmp_path / "flags.csv"
    table.write_text("path\n" + paths[parts.train[0]] + "\n", encoding="utf-8")
    call = ["train", str(scans / "data"), "--patients", str(scans / "patients.csv"), "--without", str(table)]
    call += ["--out", str(tmp_path / "run"), *(word for key in QUICK for word in ("--set", key))]
    assert cli.main([*call, "--set", "epochs=1"]) == 0
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert run["split"]["not_learnt"] == 1
    card = ModelFile(tmp_path / "run" / "model.onnx").card()
    assert card.training["slices"] == len(parts.train) + len(parts.validation) - 1
    assert card.training["not_learnt_sha256"] == run["not_learnt_sha256"] != ""
    said = (tmp_path / "run" / "model_card.md").read_text(encoding="utf-8")
    assert "Nothing was learnt from slices that its makers named (1 of them)" in said


def test_slices_to_refuse_are_learnt_and_are_no_examples_of_what_to_accept(scans: Path, tmp_path: Path) -> None:
    """The same weights, another idea of what a brain MRI slice is."""
    found = grouped(scans / "data", scans / "patients.csv")
    parts = divide(found, "grouped", 0, 0.1, 0)
    paths = [item.path for item in found.manifest.slices]
    table = tmp_path / "no-mri.csv"
    named = [row for row in parts.train if found.manifest.slices[row].label == "notumor"][:4]
    table.write_text("path\n" + "".join(f"{paths[row]}\n" for row in named), encoding="utf-8")
    call = ["train", str(scans / "data"), "--patients", str(scans / "patients.csv"), "--name", "one"]
    call += [word for key in (*QUICK, "epochs=1") for word in ("--set", key)]
    assert cli.main([*call, "--out", str(tmp_path / "all")]) == 0
    assert cli.main([*call, "--refuse", str(table), "--out", str(tmp_path / "refusing")]) == 0
    (plain, first), (refusing, second) = (
        load_model(tmp_path / name / "model.safetensors") for name in ("all", "refusing")
    )
    for name, weights in plain.network.state_dict().items():
        assert torch.equal(weights, refusing.network.state_dict()[name]), name
    assert not torch.equal(plain.centres, refusing.centres)
    assert first.seen_slices == second.seen_slices
    assert second.training["split"]["refused"] == 4 and first.training["split"]["refused"] == 0
    assert second.training["refused_sha256"] != first.training["refused_sha256"] == ""
    assert "Slices that its makers named to be refused (4 of them)" in model_card(second, "0" * 64)


def test_slices_to_refuse_do_not_set_the_threshold(scans: Path) -> None:
    found = grouped(scans / "data", scans / "patients.csv")
    parts = divide(found, "grouped", 0, 0.1, 0)
    named = frozenset(found.manifest.slices[row].path for row in (parts.train[1], parts.validation[0]))
    less = replace(found, refused=named)
    material = gather(less, "grouped", 0, TrainConfig(image_size=32), None, allow_leak=False)
    training, validation, witnesses = material.examples()
    assert witnesses == [found.groups[row] for row in parts.validation[1:]]
    assert (len(training), len(validation)) == (len(parts.train) - 1, len(parts.validation) - 1)
    assert torch.equal(training.pixels[1], material.training.pixels[2])
    everything = replace(
        found, refused=frozenset(item.path for item in found.manifest.slices if item.label == "glioma")
    )
    with pytest.raises(DataError, match="all training slices of class glioma are to be refused"):
        divide(everything, "grouped", 0, 0.1, 0)


def test_identical_files_across_the_folds_of_a_file_are_a_leak(scans: Path, tmp_path: Path) -> None:
    shutil.copytree(scans / "data", tmp_path / "data")
    original = sorted((tmp_path / "data" / "glioma").iterdir())[0]
    shutil.copyfile(original, original.with_name("copy.png"))
    folds = tmp_path / "folds.csv"
    lines = ["path,label,patient,group,fold"]
    for number, path in enumerate(sorted((tmp_path / "data").rglob("*.png"))):
        relative = path.relative_to(tmp_path / "data").as_posix()
        fold = {"copy.png": 0, original.name: 1}.get(path.name, number % 2)
        lines.append(f"{relative},{path.parent.name},,g{number},{fold}")
    folds.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SplitError, match="leaks"):
        divide(grouped(tmp_path / "data", None, folds), "file", 0, 0.2, 0)


def test_one_broken_picture_is_left_out_and_named(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(scans / "data", tmp_path / "data")
    (tmp_path / "data" / "glioma" / "broken.png").write_text("no picture")
    found = grouped(tmp_path / "data")
    assert len(found.manifest.slices) == 80
    assert "broken.png" in capsys.readouterr().err


def test_a_run_that_is_judged_again_and_stopped_keeps_its_model(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, tmp_path / "run")

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("braincam.pipeline.train.judge_rows", stopped)
    before = (tmp_path / "run" / "model.onnx").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        train(
            scans / "data", tmp_path / "run", patients=scans / "patients.csv", config=Path("demo"), overrides=QUICK,
            masks=scans / "masks", resume=True,
        )  # fmt: skip
    assert (tmp_path / "run" / "model.onnx").read_bytes() == before


def test_a_finished_run_is_not_overwritten(run: Path, scans: Path) -> None:
    with pytest.raises(TrainingError, match="say --resume"):
        train(scans / "data", run, overrides=["epochs=1"])


@pytest.mark.parametrize("name", ["run.json", "last.ckpt", "crossval.json"])
def test_an_evaluation_never_replaces_what_a_training_wrote(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "metrics.json").write_text("of the training")
    call = ["evaluate", str(tmp_path / "absent"), "--out", str(out)]
    assert cli.main(call) == 2
    assert "absent: expected a folder" in capsys.readouterr().err, "an earlier evaluation may be replaced"
    (out / name).write_text("{}")
    assert cli.main(call) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"braincam: --out {out}: ") and f"holds {name}" in said and "choose another --out" in said
    assert (out / "metrics.json").read_text() == "of the training"


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "report.html", "model.onnx", "config.toml"])
def test_a_training_never_replaces_results_that_are_not_its_own(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("[server]\nport = 80\n")
    with pytest.raises(TrainingError, match=f"holds {name}, which a training would replace.*choose another --out"):
        train(tmp_path / "absent", out)
    assert (out / name).read_text() == "[server]\nport = 80\n"


def test_a_training_that_was_stopped_before_its_first_epoch_begins_again_in_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("of the user")
    for recipe in (TrainConfig(epochs=7).to_toml(), "epochs = 7\nkey_of_another_version = 1\n"):
        (out / "config.toml").write_text(recipe)
        with pytest.raises(DataError, match="absent: expected a folder"):
            train(tmp_path / "absent", out)


def test_maps_are_measured_beside_the_floors_and_the_ceiling(
    run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Knowing(Predictor):
        """Always right, its maps the masks, blurred by the grid."""

        def stream(self, sources: Iterable[Any], *, cam: bool = True) -> Iterator[Prediction]:
            for answer in super().stream(sources, cam=cam):
                path = Path(answer.path)
                chances = {name: float(name == path.parent.name) for name in self.card.classes}
                mask = read_mask(scans / "masks", f"{path.parent.name}/{path.name}")
                heat = np.zeros((16, 16), np.float32) if mask is None else perfect_map(mask, (16, 16))
                yield replace(answer, label=path.parent.name, probabilities=chances, cam=heat)

    monkeypatch.setattr("braincam.pipeline.evaluate.Predictor", Knowing)
    out = tmp_path / "out"
    call = ["evaluate", str(scans / "data"), "--patients", str(scans / "patients.csv"), "--model", str(run)]
    assert cli.main([*call, "--masks", str(scans / "masks"), "--out", str(out)]) == 0
    found = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["localisation"]
    table = [row for row in rows_of(out / "predictions.csv") if row["points_at_lesion"]]
    assert len(table) == found["n"]
    assert np.mean([row["points_at_lesion"] == "True" for row in table]) == pytest.approx(found["hit_rate"])
    assert np.mean([float(row["energy_in_lesion"]) for row in table]) == pytest.approx(
        found["maps"]["this model"]["energy"]["value"], rel=1e-4
    )
    assert list(found["maps"]) == ["this model", "random", "centre", "label only", "perfect"]
    assert found["maps"]["this model"] == found["maps"]["perfect"]
    assert found["hit_rate"] > 0.9
    assert found["maps"]["random"]["energy"]["value"] == pytest.approx(found["mean_area"], rel=0.2)
    assert found["maps"]["perfect"]["energy"]["value"] > found["maps"]["label only"]["energy"]["value"]
    assert found["erased"]["n"] + found["erased"]["without_room_elsewhere"] == found["n"]
    printed = capsys.readouterr().out
    assert "label only" in printed and "lesion erased" in printed
    assert "The maps against the masks" in (out / "report.html").read_text(encoding="utf-8")


def test_masks_in_the_wrong_place_are_noticed_before_any_work(
    run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("began to work")

    monkeypatch.setattr("braincam.pipeline.evaluate.judge", never)
    monkeypatch.setattr("braincam.pipeline.train.learn", never)
    typo = scans / "mask"
    data, patients = scans / "data", scans / "patients.csv"
    with pytest.raises(DataError, match="mask: expected a folder of lesion masks"):
        evaluate(data, run, patients=patients, masks=typo)
    with pytest.raises(DataError, match="mask: expected a folder of lesion masks"):
        train(data, tmp_path / "run", patients=patients, config=Path("demo"), overrides=QUICK, masks=typo)
    with pytest.raises(DataError, match="mask: expected a folder of lesion masks"):
        crossval(data, tmp_path / "folds", patients=patients, config=Path("demo"), overrides=QUICK, masks=typo)
    with pytest.raises(DataError, match="got none for 80 slices; give the folder that holds the same sub-folders"):
        evaluate(data, run, patients=patients, masks=scans)  # one level too high
    with pytest.raises(AssertionError, match="began to work"):
        evaluate(data, run, patients=patients, masks=scans / "masks")
    marked = len(list((scans / "masks").rglob("*.png")))
    assert f"{marked} of the 80 slices have a mask" in capsys.readouterr().err


def test_judging_holds_no_more_pictures_for_more_slices(
    run: Path, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    most = [0]

    class Watched(Predictor):
        def stream(self, sources: Iterable[Any], *, cam: bool = True) -> Iterator[Prediction]:  # type: ignore[override]
            for answer in super().stream(sources, cam=cam):
                alive.extend(weakref.ref(array) for array in (answer.pixels, answer.cam) if array is not None)
                most[0] = max(most[0], sum(held() is not None for held in alive))
                yield answer

    monkeypatch.setattr("braincam.pipeline.evaluate.Predictor", Watched)
    judged = evaluate(scans / "data", run, patients=scans / "patients.csv").judged
    shown = [*judged.mistakes, *judged.successes]
    assert len(alive) == 2 * (80 + len(shown))  # pixels and a map of each, and of those in the report once more
    assert most[0] <= 2 * (BATCH + len(shown) + 2) < 2 * 80
    for answer, truth in shown:
        assert Path(answer.path).parent.name == truth and answer.cam is not None and answer.pixels is not None


def test_dicom_slices_get_their_own_answers_whatever_order_their_names_are_in(
    run: Path, scans: Path, tmp_path: Path
) -> None:
    for name in ("glioma", "notumor"):
        pictures = sorted((scans / "data" / name).iterdir())[:6]
        planes = np.stack([np.asarray(Image.open(path).convert("L")) for path in pictures]).astype(np.uint16)
        write_series(tmp_path / name, planes, WindowCenter=128, WindowWidth=256)  # read the same alone and together
    judged = evaluate(tmp_path, run).judged
    alone = Predictor(run)
    files = [judged.manifest.file(row) for row in range(len(judged.manifest.slices))]
    expected = [alone.predict(path)[0].probabilities or {} for path in files]
    assert len(files) == 12
    assert np.allclose(judged.probabilities, [list(chances.values()) for chances in expected], atol=1e-5)
    assert [Path(answer.path).parent.name for answer, _ in judged.successes] == [name for _, name in judged.successes]


def test_a_refused_resume_leaves_the_run_as_it_was(run: Path, scans: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    before = (folder / "config.toml").read_bytes()
    config, other = folder / "config.toml", ["learning_rate=0.5"]
    with pytest.raises(TrainingError, match="another recipe"):
        train(scans / "data", folder, patients=scans / "patients.csv", config=config, overrides=other, resume=True)
    assert config.read_bytes() == before
