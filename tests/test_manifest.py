"""A labelled folder is read as its owner means it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from braincam.dataset.manifest import (
    Manifest,
    Slice,
    class_name,
    read_folder,
    read_table,
    with_patients,
    would_be_a_class,
)
from braincam.errors import DataError
from braincam.explain.save import with_overlays
from braincam.predict import Predictor


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_a_flat_folder_has_its_folder_names_as_classes(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        picture(tmp_path / name / "1.png")
    manifest = read_folder(tmp_path)
    assert manifest.classes == ("a", "b", "c")
    assert [item.path for item in manifest.slices] == ["a/1.png", "b/1.png", "c/1.png"]
    assert not manifest.has_official_split


def test_training_and_testing_become_parts_and_their_classes_are_joined(tmp_path: Path) -> None:
    for part in ("Training", "Testing"):
        for name in ("glioma", "notumor"):
            picture(tmp_path / part / name / "1.png")
    manifest = read_folder(tmp_path)
    assert manifest.classes == ("glioma", "notumor")
    assert manifest.has_official_split
    assert {item.part for item in manifest.slices} == {"Training", "Testing"}


@pytest.mark.parametrize(
    ("below", "named"),
    [
        ("archive/Training/{}", "did you mean .*archive"),
        ("archive/{}", "did you mean .*archive"),
        ("Training/archive/{}", "did you mean .*Training/archive"),
        ("all/no_{}/scans", None),
    ],
)
def test_a_folder_one_level_too_high_is_told_the_one_that_was_meant(
    below: str, named: str | None, tmp_path: Path
) -> None:
    """Else the folders in between are the classes, with every tumour in each of them."""
    for label in ("glioma", "pituitary"):
        picture(tmp_path / below.format(label) / "1.png")
    picture(tmp_path / "Training" / "glioma" / "1.png") if below.startswith("Training") else picture(
        tmp_path / "other" / "patient 1" / "1.png"
    )
    if named is None:
        assert read_folder(tmp_path).classes == ("all", "other")
    else:
        with pytest.raises(DataError, match=named):
            read_folder(tmp_path)


def test_parts_of_other_names_are_told_how_to_name_them(tmp_path: Path) -> None:
    for part in ("training set", "test set"):
        for label in ("glioma", "No Tumor"):
            picture(tmp_path / part / label / "1.png")
    with pytest.raises(
        DataError, match=r"test set/ with No Tumor/, glioma/ in it.*name the parts Training and Testing"
    ):
        read_folder(tmp_path)


def test_patients_and_their_series_are_folders_within_a_class(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for inside in ("patient 1/glioma", "patient 2/train", "test"):
            picture(tmp_path / label / inside / "1.png")
    assert len(read_folder(tmp_path).slices) == 6


def test_what_would_be_read_as_a_class_is_known_before_it_is_written(tmp_path: Path) -> None:
    picture(tmp_path / "flat" / "a" / "1.png")
    for part in ("Training", "Testing"):
        picture(tmp_path / "parts" / part / "a" / "1.png")
    flat, parts = tmp_path / "flat", tmp_path / "parts"
    assert would_be_a_class(flat, flat / "run") and would_be_a_class(flat, flat / "a" / "runs" / "1")
    assert not would_be_a_class(flat, flat / ".runs") and not would_be_a_class(flat, tmp_path / "run")
    assert would_be_a_class(parts, parts / "Training" / "run") and not would_be_a_class(parts, parts / "run")
    assert not would_be_a_class(tmp_path / "none", tmp_path / "none" / "run")
    (tmp_path / "link").symlink_to(flat)
    assert would_be_a_class(flat, tmp_path / "link" / "run")


@pytest.mark.parametrize("name", ["valid", "Validation", "val"])
def test_a_validation_folder_is_read_as_part_of_training_and_said(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", name, "test"):
        for label in ("glioma", "notumor"):
            picture(tmp_path / part / label / "1.png")
    manifest = read_folder(tmp_path)
    read = {item.path: item.part for item in manifest.slices if item.label == "glioma"}
    assert read == {
        "train/glioma/1.png": "Training",
        f"{name}/glioma/1.png": "Training",
        "test/glioma/1.png": "Testing",
    }
    assert manifest.ignored == manifest.beside == ()
    assert f"{name}/ is read as part of Training" in capsys.readouterr().err


def test_valid_is_a_class_where_no_other_part_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("valid", "invalid"):
        picture(tmp_path / label / "1.png")
    assert read_folder(tmp_path).classes == ("invalid", "valid")
    assert not capsys.readouterr().err


def test_a_validation_folder_of_anything_but_the_classes_is_named_and_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders by patient, or of unlabelled pictures, are no further classes."""
    for place in ("train/glioma", "train/notumor", "val/patient1", "val/glioma", "valid/images"):
        picture(tmp_path / place / "1.png")
    (tmp_path / "valid" / "labels").mkdir()
    manifest = read_folder(tmp_path)
    assert manifest.classes == ("glioma", "notumor") and len(manifest.slices) == 2
    assert manifest.beside == (("val/", 2), ("valid/", 1))
    assert "passed over: val/ (2 pictures), valid/ (1 picture)" in capsys.readouterr().err
    picture(tmp_path / "validation" / "no_tumor" / "1.png")  # another name of the class, and one class has none
    (tmp_path / "validation" / "glioma").mkdir()
    assert len(read_folder(tmp_path).slices) == 3


def test_pictures_beside_the_parts_are_named_and_other_folders_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("train/a", "train/b", "test/a", "test/b", "extra/a", "extra/b", "a", "extra/.hidden"):
        picture(tmp_path / place / "1.png")
    picture(tmp_path / "val" / "1.png")  # of no class
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.txt").write_text("me")
    manifest = read_folder(tmp_path)
    assert [item.path for item in manifest.slices] == ["test/a/1.png", "test/b/1.png", "train/a/1.png", "train/b/1.png"]
    assert manifest.beside == (("a/", 1), ("extra/", 2), ("val/", 1))
    assert manifest.ignored == ("a/", "extra/", "notes/", "val/")
    (said,) = capsys.readouterr().err.splitlines()
    assert (
        "passed over: a/ (1 picture), extra/ (2 pictures), val/ (1 picture); of this folder test/, train/ are" in said
    )


def test_hidden_and_foreign_files_are_counted_but_never_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / name / "1.png")
    picture(tmp_path / "a" / ".ipynb_checkpoints" / "1-checkpoint.png")
    picture(tmp_path / "__MACOSX" / "a" / "1.png")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "a" / "notes.txt").write_text("hello")
    manifest = read_folder(tmp_path)
    assert [item.path for item in manifest.slices] == ["a/1.png", "b/1.png"]
    assert {"a/.ipynb_checkpoints/", "a/notes.txt", ".DS_Store"} <= set(manifest.ignored)


def test_what_lies_in_a_part_and_in_no_class_is_counted(tmp_path: Path) -> None:
    for place in ("Training/a", "Training/b", "Testing/a", "Testing/b", "val/a", "Training/.trash"):
        picture(tmp_path / place / "1.png")
    for loose in ("Training/2.png", "val/3.png", "4.png"):
        picture(tmp_path / loose)
    (tmp_path / "Training" / "read.txt").write_text("me")
    (tmp_path / ".git").mkdir()
    manifest = read_folder(tmp_path)
    assert len(manifest.slices) == 5
    assert manifest.ignored == (".git/", "4.png", "Training/.trash/", "Training/2.png", "val/3.png")


@pytest.mark.parametrize(
    ("folder", "meant"),
    [("no_tumor", "notumor"), ("No Tumour", "notumor"), ("glioma_tumor", "glioma"), ("pituitary", "pituitary"),
     ("Meningioma-Tumor", "meningioma"), ("cyst", "cyst"), ("Cat_tumor", "Cat_tumor"),
     ("me\u0301ningiome", "m\u00e9ningiome")],
)  # fmt: skip
def test_other_copies_of_the_data_set_name_the_classes_otherwise(folder: str, meant: str) -> None:
    assert class_name(folder) == meant


def test_folders_that_cannot_be_learned_from_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing at that path"):
        read_folder(tmp_path / "absent")
    with pytest.raises(DataError, match="no pictures found"):
        read_folder(tmp_path)
    picture(tmp_path / "only" / "1.png")
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="expected pictures of class void, got none"):
        read_folder(tmp_path)
    (tmp_path / "void").rmdir()
    with pytest.raises(DataError, match="at least two classes"):
        read_folder(tmp_path)


def test_patients_fill_in_by_path_and_a_foreign_table_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / name / "1.png")
    table = tmp_path / "patients.csv"
    table.write_text("path,patient\na/1.png,P7\n", encoding="utf-8")
    assert [item.patient for item in read_folder(tmp_path, table).slices] == ["P7", None]
    table.write_text("path,patient\nelsewhere/1.png,P7\n", encoding="utf-8")
    with pytest.raises(DataError, match="none of its 1 paths"):
        read_folder(tmp_path, table)


def test_tables_are_checked(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("path,label\na,b\n")
    with pytest.raises(DataError, match="patient missing"):
        read_table(table, ("path", "patient"))
    table.write_text("path,patient\na,1\na,2\n")
    with pytest.raises(DataError, match="more than once"):
        read_table(table, ("path", "patient"))
    with pytest.raises(DataError, match="UTF-8 CSV"):
        read_table(tmp_path / "absent.csv", ("path",))
    table.write_text("path,patient\r\n.\\Training\\a.png,1\r\n")
    assert read_table(table, ("path", "patient"))[0]["path"] == "Training/a.png"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_spreadsheets_are_read_and_what_means_nobody_is_nobody(tmp_path: Path, separator: str) -> None:
    rows = [("path", " patient"), ("a/1.png", "P, 1"), ("a/2.png", "NA"), ("b/3.png", "unknown"), ("b/4.png", "P2")]
    for path, _ in rows[1:]:
        picture(tmp_path / "data" / path)
    lines = (separator.join(f'"{cell}"' if separator in cell else cell for cell in row) for row in rows)
    (tmp_path / "patients.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    found = read_folder(tmp_path / "data", tmp_path / "patients.csv")
    assert [item.patient for item in found.slices] == ["P, 1", None, None, "P2"]


def test_a_table_in_another_encoding_is_told_how_to_be_saved(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_bytes("path,patient\na/1.png,Müller".encode("cp1252"))
    with pytest.raises(DataError, match="CSV UTF-8"):
        read_table(tmp_path / "patients.csv", ("path", "patient"))


def test_one_path_spelled_two_ways_stands_there_twice(tmp_path: Path) -> None:
    picture(tmp_path / "data" / "a" / "é.png")
    picture(tmp_path / "data" / "b" / "1.png")
    (tmp_path / "patients.csv").write_text("path,patient\na/\u00e9.png,A\na/e\u0301.png,B\n", encoding="utf-8")
    with pytest.raises(DataError, match="more than once"):
        read_folder(tmp_path / "data", tmp_path / "patients.csv")


def test_a_table_that_mostly_misses_the_files_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        for number in (1, 2):
            picture(tmp_path / name / f"{number}.png")
    table = tmp_path / "patients.csv"
    table.write_text("path,patient\na/1.png,p\nA/2.png,q\nB/1.png,q\n", encoding="utf-8")
    read_folder(tmp_path, table)
    said = capsys.readouterr().err
    assert "2 of its 3 rows match no file, such as A/2.png; 3 of 4 slices have no patient" in said
    table.write_text("path,patient\na/1.png,p\na/2.png,p\nb/1.png,q\nb/2.png,q\n", encoding="utf-8")
    read_folder(tmp_path, table)
    assert not capsys.readouterr().err


def test_accents_match_composed_or_not(tmp_path: Path) -> None:
    composed, apart = "a/\u00e9.png", "a/e\u0301.png"
    for on_disk, in_table in ((composed, apart), (apart, composed)):
        slices = (Slice(on_disk, "a", None, None), Slice("b/1.png", "b", None, None))
        table = tmp_path / "patients.csv"
        table.write_text(f"path,patient\n{in_table},p\n", encoding="utf-8")
        manifest = with_patients(Manifest(tmp_path, ("a", "b"), slices), table)
        assert [item.patient for item in manifest.slices] == ["p", None]


def test_a_folder_that_cannot_be_entered_is_refused_and_a_link_to_one_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "data" / name / "1.png")
    picture(tmp_path / "data" / "a" / "deep" / "2.png")
    picture(tmp_path / "elsewhere" / "3.png")
    (tmp_path / "data" / "a" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    manifest = read_folder(tmp_path / "data")
    assert [item.path for item in manifest.slices] == ["a/1.png", "a/deep/2.png", "b/1.png"]
    assert manifest.ignored == ("a/link/",)
    assert "1 link to a folder was not followed, such as a/link:" in capsys.readouterr().err
    listed = os.scandir

    def locked(where: str | Path) -> Iterator[os.DirEntry[str]]:  # a real lock does not hold for root
        if Path(where).name == "deep":
            raise PermissionError(errno.EACCES, "Permission denied", str(where))
        return listed(where)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(DataError, match="deep: expected a folder that can be listed, got: Permission denied"):
        read_folder(tmp_path / "data")


def test_a_name_that_is_not_utf_8_is_refused_where_tables_would_name_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / name / "1.png")
    odd = os.fsdecode(b"caf\xe9")
    try:
        (tmp_path / "a" / f"{odd}.txt").write_text("no picture")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert read_folder(tmp_path).ignored == ("a/caf\\udce9.txt",)
    picture(tmp_path / "a" / f"{odd}.png")
    with pytest.raises(DataError, match=r"the name of a/caf\\udce9\.png is not UTF-8"):
        read_folder(tmp_path)


def test_pictures_of_evidence_among_the_slices_are_left_out(scans: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(scans / "data", tmp_path / "data")
    before = read_folder(tmp_path / "data")
    folder = tmp_path / "data" / "pituitary"
    written = [item.overlay for item in with_overlays(Predictor(run).predict(folder), folder) if item.overlay]
    assert written
    after = read_folder(tmp_path / "data")
    assert after.slices == before.slices
    assert set(after.ignored) == {f"pituitary/{Path(path).name}" for path in written}
