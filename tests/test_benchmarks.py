"""The benchmarks' arithmetic: what their tables say follows from what was kept."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # scripts find the modules beside them in the same way

import _kept  # noqa: E402
import _plain  # noqa: E402
import ablation  # noqa: E402
import calibration as calibrating  # noqa: E402
import cells  # noqa: E402
import inference  # noqa: E402
import official as popular  # noqa: E402
import pooled  # noqa: E402
import results_table  # noqa: E402
import stress  # noqa: E402
import throughput  # noqa: E402
import time_to_accuracy as timing  # noqa: E402
import turned  # noqa: E402
import twins as searching  # noqa: E402
from braincam.dataset.manifest import read_folder  # noqa: E402
from braincam.dataset.phantom import write_phantom  # noqa: E402
from braincam.evaluation.localise import COLUMNS  # noqa: E402
from braincam.evaluation.metrics import OURS  # noqa: E402
from braincam.images.reader import read_slices  # noqa: E402
from braincam.network.attention_cnn import PixelWeights  # noqa: E402
from braincam.pipeline.crossval import KEPT  # noqa: E402
from braincam.predict import Prediction  # noqa: E402
from cells import chosen_cells  # noqa: E402

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


def truth(patients: int = 30, slices: int = 4) -> pd.DataFrame:
    """A table of folds: every patient has one class and one fold."""
    rows = [
        {"path": f"{k}-{number}.png", "label": CLASSES[k % 4], "group": f"g{k}", "fold": k % 5}
        for k in range(patients)
        for number in range(slices)
    ]
    return pd.DataFrame(rows).set_index("path")


def predictions(known: pd.DataFrame, right: float, seeds: Sequence[int], salt: int = 0) -> pd.DataFrame:
    """Answers that are right for a share of the slices."""
    tables = []
    for seed in seeds:
        random = np.random.default_rng([seed, salt])
        named = known["label"].map(CLASSES.index).to_numpy()
        named = np.where(random.random(len(known)) < right, named, (named + 1) % 4)
        probabilities = pd.DataFrame(0.1 + 0.6 * np.eye(4)[named], columns=[f"p_{name}" for name in CLASSES])
        tables.append(probabilities.assign(path=known.index, fold=known["fold"].to_numpy(), seed=seed))
    return pd.concat(tables, ignore_index=True).assign(learner=OURS)


def kept(folder: Path, known: pd.DataFrame, right: float, seeds: Sequence[int], salt: int = 0) -> _kept.Kept:
    file = folder / f"{right}-{len(seeds)}-{salt}.csv.gz"
    predictions(known, right, seeds, salt).to_csv(file, index=False)
    return _kept.read_kept(file, known)[OURS]


def test_the_difference_is_that_of_the_means_however_many_seeds_each_has(tmp_path: Path) -> None:
    known = truth()
    a, b = kept(tmp_path, known, 0.9, range(3)), kept(tmp_path, known, 0.6, [0], salt=1)
    found = _kept.difference(a, b)
    assert found["accuracy"] == pytest.approx(a.metrics()["accuracy"] - b.metrics()["accuracy"])
    assert found["n"] == len(known)
    low, high = found["ci95"]["accuracy"]
    assert 0 < low < found["accuracy"] < high
    assert _kept.difference(b, a)["accuracy"] == pytest.approx(-found["accuracy"])
    assert "worse" in ablation.verdict(b, a)


def test_folds_with_more_seeds_than_others_are_not_compared(tmp_path: Path) -> None:
    """Their slices would count for more."""
    known = truth()
    whole = kept(tmp_path, known, 0.9, [0])
    table = pd.concat([whole.table, whole.table[whole.table["fold"] == 0].assign(seed=1)])
    with pytest.raises(SystemExit, match="as many seeds on each fold"):
        _kept.difference(replace(whole, table=table), whole)


def test_only_slices_that_both_judged_are_compared(tmp_path: Path) -> None:
    known = truth()
    whole, part = kept(tmp_path, known, 0.9, [0]), kept(tmp_path, known[known["fold"] < 2], 0.8, [0], salt=1)
    assert _kept.difference(part, whole)["n"] == (known["fold"] < 2).sum()


def test_some_folds_can_be_scored_alone(tmp_path: Path) -> None:
    known = truth()
    some = kept(tmp_path, known, 0.9, range(2)).of_folds([3, 4])
    assert set(some.table["path"]) == set(known.index[known["fold"] >= 3])
    assert some.metrics()["n_groups"] == 12
    with pytest.raises(SystemExit, match="fold 7: expected one of 3 to 4"):
        some.of_folds([7])


def test_the_popular_split_can_be_told_again_from_what_was_kept(tmp_path: Path) -> None:
    known = truth()
    for seed in range(2):
        run = tmp_path / f"official-{seed}"
        run.mkdir()
        table = predictions(known, 0.8, [seed]).drop(columns="learner")
        table.assign(label=known["label"].to_numpy(), status="ok").to_csv(run / "predictions.csv", index=False)
    answers = popular.answers_of([tmp_path / "official-0", tmp_path / "official-1"], CLASSES)
    assert answers["learner"].value_counts().to_dict() == {"official-0": len(known), "official-1": len(known)}
    answers.to_csv(tmp_path / "kept.csv.gz", **KEPT)
    pd.testing.assert_frame_equal(popular.answers_of([tmp_path / "kept.csv.gz"], CLASSES), answers)


def test_seeds_of_one_recipe_are_told_from_other_learners() -> None:
    found = {"official-0": 0.9, "official-1": 0.8, "plain-0": 0.7, "border-only": 0.6, "majority": 0.5}
    assert results_table.spread_over_seeds(found) == [
        "official: accuracy 0.8500, standard deviation 0.0707, over 2 seeds\n"
    ]


def test_the_same_answers_again_do_not_narrow_the_interval(tmp_path: Path) -> None:
    once = kept(tmp_path, truth(), 0.8, [0])
    again = _kept.Kept(pd.concat([once.table, once.table.assign(seed=1)]), once.classes)
    assert again.metrics()["ci95"]["accuracy"] == pytest.approx(once.metrics()["ci95"]["accuracy"])
    low, high = _kept.difference(again, once)["ci95"]["accuracy"]
    assert low == -high and high < 0.12  # the exact bound of none of 30
    assert "not told apart" in ablation.verdict(again, once)


def test_accuracies_by_run_and_by_seed(tmp_path: Path) -> None:
    rows = kept(tmp_path, truth(), 0.8, range(3))
    assert len(rows.accuracy_by("fold", "seed")) == 15
    assert np.mean(rows.accuracy_by("seed")) == pytest.approx(rows.metrics()["accuracy"])
    assert (rows.numbers("fold"), rows.numbers("seed")) == ("0 to 4", "0 to 2")


def test_strangers_and_repeated_rows_are_refused(tmp_path: Path) -> None:
    known = truth()
    table = predictions(known, 0.9, [0])
    table.to_csv(tmp_path / "k.csv.gz", index=False)
    with pytest.raises(SystemExit, match="4 slices, such as 0-0.png, are not in the table"):
        _kept.read_kept(tmp_path / "k.csv.gz", known.iloc[4:])
    pd.concat([table, table.iloc[:1]]).to_csv(tmp_path / "twice.csv.gz", index=False)
    with pytest.raises(SystemExit, match="some twice"):
        _kept.read_kept(tmp_path / "twice.csv.gz", known)


def test_the_table_has_a_row_for_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = truth()
    known.to_csv(tmp_path / "folds.csv")
    for name, right, seeds in (("default", 0.95, range(3)), ("attention-none", 0.5, [0])):
        predictions(known, right, seeds).to_csv(tmp_path / f"{name}.csv.gz", index=False)
    files = [str(tmp_path / f"{name}.csv.gz") for name in ("default", "attention-none")]
    monkeypatch.setattr(sys, "argv", ["ablation.py", *files, "--split", str(tmp_path / "folds.csv")])
    ablation.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| default", "| attention-none"]
    assert lines[2].endswith("| – |")
    assert "worse" in lines[3]
    more = tmp_path / "more.csv.gz"
    predictions(known[known["fold"] == 0], 0.95, [3, 4]).to_csv(more, index=False)
    call = ["ablation.py", files[0], "--split", str(tmp_path / "folds.csv"), "--folds", "0", "--more"]
    monkeypatch.setattr(sys, "argv", [*call, str(more)])
    ablation.main()
    assert "| 0 to 4 |" in capsys.readouterr().out.splitlines()[2]  # seeds
    monkeypatch.setattr(sys, "argv", [*call, files[0]])
    with pytest.raises(SystemExit, match="other seeds or folds"):
        ablation.main()
    assert all(line.count("|") == lines[0].count("|") for line in lines)


def test_what_copies_in_other_folds_do_to_the_scores_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of patients 2, 6 and 14, in folds 2, 1 and 4 and without a tumour, a slice each is the same picture. All are
    named rightly, and one of them where nothing was learnt from copies is not."""
    known = truth()
    known.to_csv(tmp_path / "folds.csv")
    paths = list(known.index)
    pairs = [(paths.index(a), paths.index(b)) for a, b in (("2-0.png", "6-0.png"), ("6-0.png", "14-1.png"))]
    pairs.append((paths.index("10-0.png"), paths.index("10-1.png")))  # in one fold: nobody is met
    copies = SimpleNamespace(
        manifest=SimpleNamespace(slices=[SimpleNamespace(path=path) for path in paths]),
        twins=SimpleNamespace(pairs=np.array(pairs)),
    )
    monkeypatch.setattr(turned, "find_copies", lambda _: copies)
    monkeypatch.setattr(turned, "read_folder", lambda _: None)
    rows = turned.families(tmp_path, _kept.read_truth(tmp_path / "folds.csv"))
    assert set(rows.index[rows["met"]]) == {"2-0.png", "6-0.png", "14-1.png"}
    assert rows.loc["2-3.png", "joined"] == rows.loc["14-0.png", "joined"] != rows.loc["10-0.png", "joined"]
    assert rows["joined"].nunique() == 30 - 2

    turned.tables(rows, "notumor", tmp_path / "tables")
    assert pd.read_csv(tmp_path / "tables" / "without-fold2.csv")["path"].tolist() == ["14-1.png", "6-0.png"]
    assert pd.read_csv(tmp_path / "tables" / "without-fold0.csv").empty

    learnt = predictions(known, 0.5, [0])
    met = learnt["path"].isin(rows.index[rows["met"]])
    learnt.loc[met, [f"p_{name}" for name in CLASSES]] = [0.1, 0.1, 0.7, 0.1]
    clean = learnt.copy()
    clean.loc[clean["path"] == "2-0.png", [f"p_{name}" for name in CLASSES]] = [0.7, 0.1, 0.1, 0.1]
    for name, table in {"learnt": learnt, "clean": clean}.items():
        table.to_csv(tmp_path / f"{name}.csv.gz", index=False)
    call = ["turned.py", "scores", tmp_path, tmp_path / "learnt.csv.gz", "--clean", tmp_path / "clean.csv.gz"]
    monkeypatch.setattr(sys, "argv", [*map(str, call), "--split", str(tmp_path / "folds.csv")])
    capsys.readouterr()
    turned.main()
    text = capsys.readouterr().out
    cells_of = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in text.splitlines() if "|" in line}
    assert text.startswith("learnt: 3 of 120 slices have a copy in another fold")
    assert cells_of["as the folds are: a copy in another fold"][:2] == ["3", "1"]
    assert cells_of["as the folds are: a copy in another fold"][2] == "1.000"  # one group: no interval
    assert cells_of["copies not learnt: a copy in another fold"][2] == "0.667"
    assert cells_of["as the folds are: none"] == cells_of["copies not learnt: none"]
    assert "a copy in another fold: the copies flatter the accuracy by 33.3 points" in text
    assert "none: the copies flatter the accuracy by 0.0 points" in text


def test_a_temperature_from_the_other_folds_mends_answers_that_are_too_shy_and_the_picture_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = truth()
    known.to_csv(tmp_path / "folds.csv")
    predictions(known, 0.95, [0]).to_csv(tmp_path / "kept.csv.gz", index=False)  # 0.7 sure, and oftener right
    call = [
        "calibration.py",
        tmp_path / "kept.csv.gz",
        "--split",
        tmp_path / "folds.csv",
        "--picture",
        tmp_path / "picture.png",
    ]
    monkeypatch.setattr(sys, "argv", list(map(str, call)))
    calibrating.main()
    ways, sets = capsys.readouterr().out.split("\n\n")
    rows = [line.split(" | ") for line in ways.splitlines()[2:]]
    assert [line.split(" | ")[0] for line in sets.splitlines()[2:]] == ["| slices", "| patients"]
    errors = {row[0].strip("| "): float(row[2].split()[0]) for row in rows}
    assert errors["each run's validation part"] > 0.2
    assert errors["a temperature, other folds"] < 0.1
    with Image.open(tmp_path / "picture.png") as picture:
        assert min(picture.size) > 300


def schedule(epochs: int, accuracies: Sequence[float], task: str = "official") -> list[timing.Run]:
    return [
        timing.Run(
            contender=timing.OURS, task=task, seed=seed, epochs=epochs, seconds=[10.0 * epochs], accuracy=[value],
            machine="m", threads=1,
        )
        for seed, value in enumerate(accuracies)
    ]  # fmt: skip


def plain_run(accuracies: Sequence[float], seed: int = 0) -> timing.Run:
    return timing.Run(
        contender="plain-resnet18", task="official", seed=seed, epochs=None, machine="m", threads=1,
        seconds=[600.0 * (epoch + 1) for epoch in range(len(accuracies))], accuracy=list(accuracies),
    )  # fmt: skip


def test_a_level_is_reached_by_the_shortest_schedule_whose_mean_over_all_seeds_does() -> None:
    runs = schedule(8, [0.97] * 5) + schedule(4, [0.96, 0.94, 0.95, 0.95, 0.95]) + schedule(2, [0.99])
    reached = timing.ours(runs, 0.95, seeds=5)
    assert reached is not None
    assert (reached.seconds, reached.at_least) == (40.0, False)  # one lucky seed of the schedule of 2 does not count
    longest = timing.ours(runs, 0.98, seeds=5)
    assert longest is not None
    assert (longest.seconds, longest.at_least) == (80.0, True)
    assert timing.ours(schedule(4, [0.99]), 0.95, seeds=5) is None


def test_the_plain_loop_gets_its_first_good_epoch_or_more_than() -> None:
    jumping = plain_run([0.90, 0.96, 0.93, 0.975])
    for level, seconds, at_least in ((0.95, 1200, False), (0.97, 2400, False), (0.98, 2400, True)):
        reached = timing.plain([jumping], level)
        assert reached is not None
        assert (reached.seconds, reached.at_least) == (seconds, at_least)
    both = timing.plain([jumping, plain_run([0.90, 0.90, 0.99], seed=1)], 0.95)
    assert both is not None
    assert both.seconds == 1800  # 0.93 and 0.99: the mean, not the luckier
    assert timing.plain([], 0.95) is None


def test_the_table_gives_ratios_only_where_we_reach_the_level() -> None:
    lines = timing.table([*schedule(4, [0.96] * 5), plain_run([0.94, 0.955])], seeds=5).splitlines()
    at95, at97 = (next(line for line in lines if f"official | {level}%" in line) for level in (95, 97))
    assert "| 0.7 (4 epochs: 0.960 ± 0.000, 5 seeds) | 20.0 (epoch 2: 0.955) | 30.0 |" in at95
    assert "| more than 0.7 (4 epochs" in at97
    assert "more than 20.0 (best 0.955) | – |" in at97
    assert timing.ratio(timing.Reached(40, False, ""), timing.Reached(1200, True, "")) == "> 30.0"
    assert "not measured" in at95  # the other contender


def test_only_what_is_missing_is_measured_and_the_ladder_ends_when_every_level_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kept.jsonl"
    measured: list[tuple[int, int]] = []

    def instead(options: object, task: str, epochs: int, seed: int) -> timing.Run:
        measured.append((epochs, seed))
        if len(measured) == 3:
            raise KeyboardInterrupt
        return replace(schedule(epochs, [0.97 if epochs == 4 else 0.995], task)[0], seed=seed)

    monkeypatch.setattr(timing, "measure_schedule", instead)
    monkeypatch.setattr(timing, "machine", lambda: "m")
    call = ["x", str(tmp_path), "--kept", str(file), "--seeds", "2", "--only", "braincam", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", call)
    with pytest.raises(KeyboardInterrupt):
        timing.main()
    timing.main()
    assert measured == [(4, 0), (4, 1), (8, 0), (8, 0), (8, 1)]  # what was cut off begins anew; 12 is not needed
    assert [run.accuracy for run in timing.read_runs(file)] == [[0.97], [0.97], [0.995], [0.995]]
    monkeypatch.setattr(timing, "machine", lambda: "another")
    with pytest.raises(SystemExit, match="was measured on m, 1 threads"):
        timing.main()


def test_a_quick_try_is_kept_and_does_not_count_as_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kept.jsonl"
    runs = [*schedule(4, [0.96, 0.96]), plain_run([0.955])]
    file.write_text("".join(f"{json.dumps(asdict(run))}\n" for run in runs), encoding="utf-8")
    tried: list[int] = []

    def instead(options: argparse.Namespace, task: str, epochs: int, seed: int) -> timing.Run:
        tried.append(seed)
        apart = timing.other(options, timing.OURS, task)
        return replace(schedule(epochs, [0.995], task)[0], seed=seed, other=apart)

    monkeypatch.setattr(timing, "measure_schedule", instead)
    monkeypatch.setattr(timing, "machine", lambda: "m")
    kept = ["x", "--kept", str(file), "--seeds", "2"]
    call = [*kept, str(tmp_path), "--epochs", "4", "--only", "braincam", "--threads", "1", "--set", "network=tiny"]
    monkeypatch.setattr(sys, "argv", call)
    timing.main()
    assert tried == [0, 1] and len(timing.read_runs(file)) == 5
    assert "official | 99% | 0.7 (4 epochs: 0.995" in (shown := capsys.readouterr().out)
    assert "epoch 1: 0.955" in shown  # the plain loop has none of our settings
    monkeypatch.setattr(sys, "argv", kept)
    timing.main()
    shown = capsys.readouterr().out
    assert "official | 95% | 0.7 (4 epochs: 0.960" in shown and "official | 99% | more than 0.7" in shown


def test_the_plain_loop_sees_the_named_pictures_with_their_labels(scans: Path) -> None:
    data = scans / "data"
    manifest = read_folder(data)
    wanted = [item.path for item in manifest.slices][::3]
    dataset = _plain.pictures(data, wanted, _plain.transform(32, 1, training=False))
    batches = _plain.loader(dataset, 8, 0, shuffle=False)
    labels = [int(label) for _, batch in batches for label in batch]
    assert labels == list(manifest.labels)[::3]
    assert next(iter(batches))[0].shape == (8, 1, 32, 32)
    network, side, channels = _plain.our_network(4)
    assert (side, channels) == (128, 1)
    before = [parameter.clone() for parameter in network.parameters()]
    _plain.train_epoch(network, batches, _plain.torch.optim.Adam(network.parameters()))
    assert any((a != b).any() for a, b in zip(before, network.parameters(), strict=True))
    assert 0 <= _plain.accuracy(network, batches) <= 1


def official(folder: Path) -> pd.DataFrame:
    """Synthetic scans in Training/ and Testing/, and their table of folds: Testing/ is fold 0."""
    write_phantom(folder / "drawn", patients=24, slices_per_patient=1, seed=0)
    rows = []
    for label in CLASSES:
        for number, file in enumerate(sorted((folder / "drawn" / "data" / label).iterdir())):
            part = "Testing" if number < 2 else "Training"
            target = folder / "data" / part / label / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            file.rename(target)
            path = f"{part}/{label}/{file.name}"
            rows.append({"path": path, "label": label, "patient": "", "group": file.name, "fold": number // 2})
    pd.DataFrame(rows).to_csv(folder / "folds.csv", index=False)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("contender", "epochs"), [("plain-our-network", None), pytest.param("braincam", 1, marks=pytest.mark.slow)]
)
def test_times_are_measured_and_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    contender: str,
    epochs: int | None,
) -> None:
    official(tmp_path)
    quick = ("network=tiny", "image_size=32", "batch_size=8", "device=cpu", "validation_share=0.34")
    call = [
        "x", str(tmp_path / "data"), "--split", str(tmp_path / "folds.csv"), "--kept", str(tmp_path / "kept.jsonl"),
        "--threads", "1", "--epochs", "1", "--seeds", "1", "--minutes", "0", "--tasks", "by patient",
        "--only", contender,
    ]  # fmt: skip
    for setting in quick:
        call += ["--set", setting]
    monkeypatch.setattr(sys, "argv", call)
    threads = timing.torch.get_num_threads()
    try:
        timing.main()
    finally:
        timing.torch.set_num_threads(threads)
    [found] = timing.read_runs(tmp_path / "kept.jsonl")
    assert (found.contender, found.epochs, found.task) == (contender, epochs, "by patient")
    assert len(found.seconds) == len(found.accuracy) == 1  # also of the plain loop, whose time is over at once
    assert found.seconds[0] > 0 and 0 <= found.accuracy[0] <= 1
    assert "| by patient | 90% |" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["x", "--kept", str(tmp_path / "kept.jsonl"), "--seeds", "1"])
    timing.main()
    assert "| by patient | 90% |" in capsys.readouterr().out


def test_both_splits_hold_every_slice_once(tmp_path: Path) -> None:
    table = official(tmp_path)
    options = argparse.Namespace(data=tmp_path / "data", split=tmp_path / "folds.csv", fold=0)
    for task in timing.LEVELS:
        train, test = timing.parts(options, task)
        assert sorted(test) == sorted(table["path"][table["fold"] == 0])
        assert sorted(train + test) == sorted(table["path"])


def test_throughput_is_measured_in_turns_and_has_a_row_for_each_size(
    scans: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(throughput, "PRODUCT", 64)
    monkeypatch.setattr(sys, "argv", ["x", str(scans / "data"), "--threads", "1", "--images", "4", "--rounds", "1"])
    threads = throughput.torch.get_num_threads()
    try:
        throughput.main()
    finally:
        throughput.torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("4 slices, ") and lines[0].endswith("1 threads, median of 1 rounds in turns")
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("| ")]
    rows = {name: values for name, *values in cells if values[0] != "images per second"}
    sizes = [name.split(", ")[-1] for name in rows if name.startswith("braincam, ") and name.endswith(" pixels")]
    assert sizes == ["128 pixels", "112 pixels", "96 pixels", "80 pixels"]
    assert sum("whole schedule of 40 epochs" in name for name in rows) == 1
    assert {"braincam, with maps, mirror image included", "plain: loader and eager PyTorch, no map"} <= set(rows)
    assert all(float(value) >= 0 for values in rows.values() for value in values)


def test_pooled_scores_have_a_table_of_maps_where_the_runs_had_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = truth()
    known.to_csv(tmp_path / "folds.csv")
    table = predictions(known, 0.9, [0])
    table.to_csv(tmp_path / "bare.csv.gz", index=False)
    measured = table["path"].str.startswith("0-") | table["path"].str.startswith("1-")  # a glioma and a meningioma
    hit = table["path"].str.startswith("0-").where(measured)
    others = dict.fromkeys(list(COLUMNS)[1:], measured.map({True: 0.25, False: None}))
    table.assign(points_at_lesion=hit.astype(float), **others).to_csv(tmp_path / "maps.csv.gz", index=False)
    printed = {}
    for name in ("bare", "maps"):
        file = str(tmp_path / f"{name}.csv.gz")
        monkeypatch.setattr(sys, "argv", ["x", file, "--split", str(tmp_path / "folds.csv")])
        pooled.main()
        printed[name] = capsys.readouterr().out
    assert "| maps |" not in printed["bare"]
    scores, _, maps = printed["maps"].partition("\n| maps |")
    assert scores == printed["bare"], "the scores are the same with and without the columns of the maps"
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:3] for line in maps.splitlines()[2:]}
    assert rows["all 8 answers that name the tumour"] == ["0.500 [0.000, 1.000]", "0.250 [0.250, 0.250]"]
    assert rows["glioma"][0].startswith("1.000") and rows["meningioma"][0].startswith("0.000")


def test_a_peer_has_a_row_of_its_own_beside_the_pooled_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = truth()
    known.to_csv(tmp_path / "folds.csv")
    files = {"ours": tmp_path / "ours.csv.gz", "resnet18": tmp_path / "resnet18.csv.gz"}
    predictions(known, 1.0, [0, 1]).to_csv(files["ours"], index=False)
    predictions(known, 0.5, [0], salt=1).to_csv(files["resnet18"], index=False)
    argv = ["x", str(files["ours"]), "--split", str(tmp_path / "folds.csv"), "--peer", str(files["resnet18"])]
    monkeypatch.setattr(sys, "argv", argv)
    pooled.main()
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    (header, *rows) = lines[: 1 + len(files)]
    assert [cells[0] for cells in rows] == [OURS, "resnet18"]
    accuracy, better = header.index("accuracy"), header.index("this network is better by, points")
    ours, peer = (float(cells[accuracy].split()[0]) for cells in rows)
    assert (ours, rows[0][better]) == (1, "–")
    assert float(rows[1][better].split()[0]) == pytest.approx(100 * (1 - peer), abs=0.1)


def test_a_row_is_measured_in_a_process_of_its_own_or_says_why_not(tmp_path: Path) -> None:
    options = argparse.Namespace(runs=3, model=None)
    of_graph = next(number for number, row in enumerate(inference.ROWS) if row.group == "graph")
    found = inference.in_a_process(of_graph, 1, tmp_path, options)
    assert isinstance(found, dict)
    assert 0 < found["p50"] <= found["p90"] <= found["p99"]
    assert found["offline"] > 0
    reason = inference.in_a_process(0, 1, tmp_path, options)  # no graph has been written there
    assert isinstance(reason, str)
    assert "braincam.onnx" in reason


def test_the_four_windows_of_the_stress_test_differ_in_what_becomes_white(tmp_path: Path) -> None:
    voxels = np.zeros((3, 20, 20))
    voxels[0], voxels[1, :, :10], voxels[2, 0, 0] = 10, 50, 1000
    whitest = {
        name: stress.windowed(voxels, white(voxels)).max((1, 2)).tolist() for name, white in stress.WINDOWS.items()
    }
    assert whitest["each slice's maximum"] == [255, 255, 255]
    assert whitest["volume's maximum"] == [round(10 / 1000 * 255), round(50 / 1000 * 255), 255]
    assert whitest["volume, 99.5th percentile"][1:] == [255, 255]  # one bright voxel in 1,200 is cut off
    assert stress.shows_a_head(voxels).tolist() == [True, True, False]


def test_the_stress_test_shows_slices_as_the_reader_does(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    stored = random.integers(0, 200, (24, 20, 4)).astype(np.int16)
    affine = np.diag([-1.0, 1, 5, 1])  # stored from right to left, as scanners do
    nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / "scan.nii.gz")  # type: ignore[attr-defined]
    ours = stress.read_volume(tmp_path / "scan.nii.gz")
    theirs = np.stack([item.pixels for item in read_slices(tmp_path / "scan.nii.gz")])
    assert ours.shape == theirs.shape
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999


def test_shares_tell_the_leading_class_from_the_answer() -> None:
    def answer(status: str, label: str | None, glioma: float) -> Prediction:
        return Prediction(
            path="", slice=None, status=status, label=label, prediction_set=None, confidence=None, outlier_score=None,
            reason=None, overlay=None, model={}, probabilities={"glioma": glioma, "notumor": 1 - glioma},
        )  # fmt: skip

    found = stress.shares(
        [
            answer("ok", "glioma", 0.9),
            answer("refer", "glioma", 0.6),
            answer("rejected", None, 0.7),
            answer("ok", "notumor", 0.1),
        ],
        ["glioma"],
    )
    assert found == {
        "most probable: any tumour": 0.75, "most probable: glioma": 0.75,
        "answered: a tumour": 0.25, "answered: no tumour": 0.25, "refer": 0.25, "rejected": 0.25,
    }  # fmt: skip


def test_chosen_cells_are_as_many_as_the_weight_is_spread_over() -> None:
    weights = torch.full((3, 1, 8, 8), PixelWeights.EQUAL_SHARE)
    weights[0, 0, 2, 3] += 32  # the other half of 64 cells on one
    weights[1, 0, 2:4, 3:5] += 8
    weights[2] += 0.5
    assert torch.allclose(weights.mean((1, 2, 3)), torch.ones(3))
    assert chosen_cells(weights).tolist() == pytest.approx([1, 4, 64])


def test_cells_are_told_for_each_run(
    run: Path, scans: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", str(scans / "data"), str(run), str(run), "--slices", "3"])
    cells.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"| {run.name} |")]
    assert len(rows) == 2 and rows[0] == rows[1]
    shares = [float(cell) for cell in rows[0].strip("| ").split("|")[1:]]
    assert 1 <= shares[0] <= shares[-1] <= 16 * 16 and shares == sorted(shares)


def test_kept_answers_of_a_finer_table_of_folds_have_the_intervals_of_patients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A group for each slice, some of them empty, labels in other spellings, and only two classes."""
    known = truth()
    known["patient"] = known["group"]
    known["label"] = ["no_tumor" if label == "notumor" else "tumor" for label in known["label"]]
    known["group"] = ["" if k % 5 == 0 else f"s{k}" for k in range(len(known))]
    known.to_csv(tmp_path / "folds.csv")
    read = _kept.read_truth(tmp_path / "folds.csv")
    assert read["group"].nunique() == 30 and set(read["label"]) == {"notumor", "tumor"}
    rows = [
        {"path": path, "fold": row["fold"], "seed": 0, "learner": OURS, "p_notumor": p, "p_tumor": 1 - p}
        for k, (path, row) in enumerate(read.iterrows())
        for p in [0.9 if (row["label"] == "notumor") == (k % 7 > 0) else 0.2]
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "kept.csv.gz", index=False)
    given = ["pooled.py", str(tmp_path / "kept.csv.gz"), "--split", str(tmp_path / "folds.csv")]
    monkeypatch.setattr(sys, "argv", given)
    pooled.main()
    assert f"| {OURS} | 120 | 30 |" in capsys.readouterr().out


def test_copies_turned_by_an_angle_are_counted_at_that_angle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_phantom(tmp_path, patients=8, slices_per_patient=2, seed=5)
    data = tmp_path / "data"
    head = next(iter(sorted((data / "glioma").iterdir())))
    with Image.open(head) as picture:
        picture.rotate(-13, Image.Resampling.BILINEAR).save(data / "glioma" / "turned.png")
    searching.angles(data, [13, 40])
    rows = capsys.readouterr().out.splitlines()
    assert rows[-2:] == ["| 13 | 1 | 2 | glioma |", "| 40 | 0 | 0 |  |"]
