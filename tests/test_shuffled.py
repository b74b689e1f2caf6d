"""Labels are exchanged between groups as wholes; small trainings show that maps go with them."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import sanity
import shuffled
from braincam.dataset.fingerprints import read_one_slice
from braincam.dataset.manifest import read_folder
from braincam.dataset.phantom import write_phantom
from braincam.dataset.split import read_split
from braincam.pipeline.prepare import split


def test_groups_change_their_labels_as_wholes_and_keep_their_folds(scans: Path, tmp_path: Path) -> None:
    table = tmp_path / "folds.csv"
    split(scans / "data", table, scans / "patients.csv", folds=2)
    manifest, groups, folds = read_split(table, read_folder(scans / "data"))
    sanity.shuffle(manifest, groups, folds, tmp_path / "other")
    made = pd.read_csv(tmp_path / "other" / "folds.csv", dtype=str)
    assert made["group"].tolist() == list(groups) and made["fold"].astype(int).tolist() == list(folds)
    assert (made.groupby("group")["label"].nunique() == 1).all()
    before = [item.label for item in manifest.slices]
    assert 0.1 < (made["label"] == before).mean() < 0.6  # a quarter by chance
    for row in (0, len(before) - 1):
        assert (tmp_path / "other" / made["path"][row]).read_bytes() == manifest.file(row).read_bytes()


def test_the_table_compares_every_training_with_the_first(scans: Path, run: Path) -> None:
    slices = [read_one_slice(file) for file in sorted((scans / "data" / "glioma").glob("*.png"))[:6]]
    runs = dict.fromkeys((shuffled.TRUE, shuffled.AGAIN, shuffled.SHUFFLED), run)
    lines = shuffled.table(runs, slices, [f"g{k}" for k in range(6)]).splitlines()
    assert all("| 1.000 [1.000, 1.000] |" in line for line in lines[3:5])  # the same maps


@pytest.mark.slow
def test_shuffled_labels_destroy_the_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_phantom(tmp_path, patients=120, slices_per_patient=2, seed=0, size=96)
    split(tmp_path / "data", tmp_path / "folds.csv", tmp_path / "patients.csv", folds=3)
    call = [
        "shuffled.py",
        str(tmp_path / "data"),
        "--split",
        str(tmp_path / "folds.csv"),
        "--out",
        str(tmp_path / "out"),
    ]
    monkeypatch.setattr(sys, "argv", [*call, "--set", "ema_decay=0.9", "--set", "batch_size=16"])
    shuffled.main()
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in capsys.readouterr().out.splitlines()}
    again, lost = (float(rows[name].split(" | ")[3].split(" ")[0]) for name in (shuffled.AGAIN, shuffled.SHUFFLED))
    assert again > lost + 0.15
