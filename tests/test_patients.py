"""Patients are told by names: of folders by default, else by a pattern, and what may be wrong is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from braincam.cli import main
from braincam.dataset.manifest import read_folder
from braincam.dataset.patients import name_patients
from braincam.errors import DataError


def folder(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_a_folder_in_a_class_names_its_patient_in_either_layout(tmp_path: Path) -> None:
    flat = folder(tmp_path / "flat", "a/P1/1.png", "a/P1/deep/2.png", "b/P2/1.png", "b/loose.png")
    named = name_patients(read_folder(flat))
    assert named.patients == {"a/P1/1.png": "P1", "a/P1/deep/2.png": "P1", "b/P2/1.png": "P2", "b/loose.png": None}
    assert (named.counts, named.unknown) == ({"P1": 2, "P2": 1}, ["b/loose.png"])
    parts = folder(tmp_path / "parts", "Training/a/P1/1.png", "Testing/a/P1/2.png", "Training/b/P3/1.png")
    assert set(name_patients(read_folder(parts)).patients.values()) == {"P1", "P3"}


def test_a_pattern_names_by_its_first_group_or_by_all_of_it(tmp_path: Path) -> None:
    data = read_folder(folder(tmp_path, "a/TCGA_07_1.png", "a/TCGA_07_2.png", "b/TCGA_12_1.png", "b/other.png"))
    by_group, whole = name_patients(data, r"TCGA_(\d+)_"), name_patients(data, r"TCGA_\d+")
    assert list(by_group.patients.values()) == ["07", "07", "12", None]
    assert list(whole.patients.values()) == ["TCGA_07", "TCGA_07", "TCGA_12", None]


def test_numbers_that_begin_anew_in_each_class_are_told_apart(tmp_path: Path) -> None:
    data = read_folder(folder(tmp_path, "a/1/x.png", "b/1/y.png", "b/2/z.png"))
    assert name_patients(data).several == ("1",)
    apart = name_patients(data, per_class=True)
    assert (list(apart.patients.values()), apart.several) == (["a/1", "b/1", "b/2"], ())


@pytest.mark.parametrize(
    ("pattern", "words"), [("(", "regular expression"), (r"P\d+", "such as x.png"), ("( *)", "such as x.png")]
)
def test_a_pattern_that_tells_nobody_is_refused(tmp_path: Path, pattern: str, words: str) -> None:
    data = read_folder(folder(tmp_path, "a/x.png", "b/y.png"))
    with pytest.raises(DataError, match=words):
        name_patients(data, pattern)


def test_the_table_is_what_the_other_verbs_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = folder(tmp_path / "data", "a/P1/1.png", "a/P1/2.png", "b/P2/1.png", "b/P1/3.png", "b/4.png")
    assert main(["patients", "data", "--out", "patients.csv"]) == 0
    said = capsys.readouterr().out
    assert "4 of 5 slices have a patient: 2 patients, 1 to 3 slices each; a/P1/1.png is of P1" in said
    assert "do not tell: 1, such as b/4.png" in said and "classes: 1, such as P1; where numbers begin anew" in said
    known = {item.path: item.patient for item in read_folder(data, tmp_path / "patients.csv").slices}
    assert known == name_patients(read_folder(data)).patients
    assert main(["patients", "data", "--pattern", r".*?(\d+)\.png", "--out", "patients.csv"]) == 0
    assert "every slice has" not in capsys.readouterr().out, "1.png is there twice"
    (tmp_path / "patients.csv").write_text("path,patient\na/P1/1.png,by hand\n")
    assert main(["patients", "data", "--pattern", r".+", "--out", "patients.csv"]) == 0
    assert "by hand" in (tmp_path / "patients.csv.before").read_text()
    assert "does the pattern match the numbers of slices?" in capsys.readouterr().out
    assert main(["patients", "data", "--out", "data"]) == 2
    assert "expected a file, got a folder" in capsys.readouterr().err
