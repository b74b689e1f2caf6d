"""The benchmarks' arithmetic: what their tables say follows from what was kept."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # scripts find the modules beside them in the same way

import _kept  # noqa: E402
import ablation  # noqa: E402

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
    return pd.concat(tables, ignore_index=True).assign(learner=_kept.OURS)


def kept(folder: Path, known: pd.DataFrame, right: float, seeds: Sequence[int], salt: int = 0) -> _kept.Kept:
    file = folder / f"{right}-{len(seeds)}-{salt}.csv.gz"
    predictions(known, right, seeds, salt).to_csv(file, index=False)
    return _kept.read_kept(file, known)[_kept.OURS]


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


def test_only_slices_that_both_judged_are_compared(tmp_path: Path) -> None:
    known = truth()
    whole, part = kept(tmp_path, known, 0.9, [0]), kept(tmp_path, known[known["fold"] < 2], 0.8, [0], salt=1)
    assert _kept.difference(part, whole)["n"] == (known["fold"] < 2).sum()


def test_the_same_answers_again_do_not_narrow_the_interval(tmp_path: Path) -> None:
    once = kept(tmp_path, truth(), 0.8, [0])
    again = _kept.Kept(pd.concat([once.table, once.table.assign(seed=1)]), once.classes)
    assert again.metrics()["ci95"]["accuracy"] == pytest.approx(once.metrics()["ci95"]["accuracy"])
    assert _kept.difference(again, once)["ci95"]["accuracy"] == [0, 0]
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
    assert all(line.count("|") == lines[0].count("|") for line in lines)
