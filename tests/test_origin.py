"""What labelled DICOM files say of whose they are keeps slices together, and leaks nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from braincam.cli import main
from braincam.dataset.manifest import read_folder
from braincam.dataset.origin import NOBODY, Origin, is_stand_in, owners
from braincam.pipeline.audit import audit
from braincam.pipeline.prepare import grouped
from braincam.pipeline.reading import find_copies
from dicom_files import dataset_of, written


def write(folder: Path, patients: int, slices: int = 2) -> None:
    """A labelled folder of DICOM slices of noise, in two classes."""
    random = np.random.default_rng(0)
    for number in range(patients):
        path = folder / "ab"[number % 2]
        path.mkdir(parents=True, exist_ok=True)
        for k in range(slices):
            stored = random.integers(0, 4096, (48, 48)).astype(np.uint16)
            dataset = dataset_of(stored, PatientID=f"SECRET{number}", SeriesInstanceUID=f"1.2.{number}.{k + 1}")
            (path / f"{number}-{k}.dcm").write_bytes(written(dataset))


def test_dicom_slices_of_one_patient_share_a_group_and_a_table_that_tears_them_apart_leaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINCAM_CACHE", str(tmp_path / "cache"))
    data, table = tmp_path / "data", tmp_path / "folds.csv"
    write(data, patients=6)
    found = grouped(data)
    assert len(set(found.groups)) == 6
    assert all(len(set(found.groups[row : row + 2])) == 1 for row in range(0, 12, 2))
    assert find_copies(read_folder(data)).owners == [row // 2 * 2 for row in range(12)]  # as remembered
    rows = [f"{item.path},{k % 2}" for k, item in enumerate(found.manifest.slices)]
    table.write_text("path,fold\n" + "\n".join(rows) + "\n", encoding="utf-8")
    assert main(["split", str(data), "--check", str(table)]) == 3
    assert "6 patients lie in more than one fold: that of a/0-0.dcm" in capsys.readouterr().out
    assert main(["split", str(data), "--out", str(table), "--folds", "3"]) == 0
    text = capsys.readouterr().out
    assert "no known patient and no group of copies straddles a fold" in text
    assert "patients are unknown for 12 slices" in text
    assert main(["split", str(data), "--check", str(table)]) == 0
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or path.suffix == ".dcm" or b"SECRET" not in path.read_bytes()


def origin(patient: str | None, series: str | None) -> Origin:
    return Origin(patient=patient, series=series)


def test_one_series_has_one_owner_whatever_patients_its_files_name() -> None:
    numbered = [origin(f"anon{k}", f"series{k // 3}") for k in range(6)]
    assert owners(numbered) == [0, 0, 0, 3, 3, 3]
    assert owners([origin("a", "s"), origin(None, "s"), origin("b", "t"), origin(None, None)]) == [0, 0, 2, NOBODY]
    assert owners([origin("a", "s"), origin("b", "t"), origin("a", "u")]) == [0, 1, 0], "one patient, two series"
    assert owners([origin("one for all", "s"), origin("one for all", "t")]) == [0, 1]
    assert owners([origin("a", "one for all"), origin("b", "one for all")]) == [0, 1]
    assert owners([origin(None, None)] * 2) == [NOBODY] * 2
    assert owners([origin("a", "s")] * 3) == owners([origin(None, "s")] * 3) == [0, 0, 0], "one head, and nothing else"


@pytest.mark.parametrize("stand_in", ["ANONYMOUS", "anon", "Anonymized", "0000", "UNKNOWN", "NoName", "xxx", "n/a", ""])
def test_what_anonymisers_write_for_everybody_names_nobody(stand_in: str) -> None:
    assert is_stand_in(stand_in)
    assert not any(map(is_stand_in, ("anon0001", "SECRET1", "10", "P0", "patient 7", "Anonym Müller")))


def test_the_audit_sees_a_dicom_patient_on_both_sides(tmp_path: Path) -> None:
    write(tmp_path / "Training", patients=4)
    write(tmp_path / "Testing", patients=3, slices=3)
    for part in ("Training", "Testing"):
        Image.fromarray(np.eye(48, dtype=np.uint8)).save(tmp_path / part / "a" / "whose.png")
    found = {finding.key: finding for finding in audit(tmp_path).findings}
    assert found["patients_across_parts"].count == 9
    assert found["patients_across_parts"].title.startswith("of 9 test slices with a known patient")


def test_slices_that_predict_would_scale_otherwise_are_a_finding(tmp_path: Path) -> None:
    write(tmp_path, patients=4)
    path = tmp_path / "a" / "windowed.dcm"
    path.write_bytes(written(dataset_of(np.eye(48, dtype=np.uint16), WindowCenter=1, WindowWidth=2)))
    (tmp_path / "a" / "narrow.dcm").write_bytes(written(dataset_of(np.eye(48, dtype=np.uint8))))
    found = {finding.key: finding for finding in audit(tmp_path).findings}
    assert found["windowless"].count == 8
