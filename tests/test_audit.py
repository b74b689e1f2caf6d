"""An audit complains about nothing that is in order, and finds every planted fault and no other."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from pydicom.uid import CTImageStorage

from braincam.cli import main
from braincam.dataset.audit import CLOSENESS, across_parts
from braincam.dataset.audit import _class_names as class_names
from braincam.dataset.audit import _passed_over as passed_over
from braincam.dataset.audit import _twins as twins_found
from braincam.dataset.manifest import Manifest, Slice
from braincam.dataset.phantom import write_phantom
from braincam.dataset.twins import Twins
from braincam.errors import DataError
from braincam.pipeline.audit import audit
from braincam.pipeline.prepare import check_split, split
from braincam.report.audit import _probed
from dicom_files import dataset_of, written


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    write_phantom(folder, patients=60, slices_per_patient=4, seed=0)
    return folder


@pytest.fixture(scope="module")
def planted(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, set[tuple[str, str]]]]:
    """A copy of the folder with faults, and the pairs that were made."""
    data = tmp_path_factory.mktemp("planted") / "data"
    shutil.copytree(scans / "data", data)
    pictures = sorted(path.relative_to(data) for path in data.glob("*/*.png"))
    random = np.random.default_rng(0)
    random.shuffle(pictures)  # type: ignore[arg-type]
    chosen = iter(pictures)
    pairs: dict[str, set[tuple[str, str]]] = {
        "mirrored": set(),
        "re-encoded": set(),
        "cropped": set(),
        "turned": set(),
        "inverted": set(),
        "conflict": set(),
    }

    def plant(kind: str, name: str, picture: Image.Image, source: Path, **how: int) -> None:
        target = source.parent / name
        picture.save(data / target, **how)  # type: ignore[arg-type]
        pairs[kind].add(tuple(sorted((source.as_posix(), target.as_posix()))))  # type: ignore[arg-type]

    for number in range(20):
        source = next(chosen)
        with Image.open(data / source) as picture:
            plant("mirrored", f"m{number}.png", picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), source)
        source = next(chosen)
        with Image.open(data / source) as picture:
            plant("re-encoded", f"r{number}.jpg", picture.convert("L"), source, quality=int(random.integers(50, 91)))
        source = next(chosen)
        with Image.open(data / source) as picture:
            edge = int(random.integers(5, 19))
            box = (edge, edge, picture.width - edge, picture.height - edge)
            plant("cropped", f"c{number}.png", picture.crop(box), source)
    ways = (
        Image.Transpose.ROTATE_90,
        Image.Transpose.ROTATE_180,
        Image.Transpose.ROTATE_270,
        Image.Transpose.FLIP_TOP_BOTTOM,
    )
    for number, way in enumerate(ways * 2):
        source = next(chosen)
        with Image.open(data / source) as picture:
            plant("turned", f"t{number}.png", picture.transpose(way), source)
    for number in range(4):
        source = next(chosen)
        with Image.open(data / source) as picture:
            plant("inverted", f"i{number}.png", ImageOps.invert(picture.convert("L")), source)
    for number in range(3):
        source = next(chosen)
        other = next(name for name in ("glioma", "pituitary") if name != source.parent.name)
        shutil.copy(data / source, data / other / f"x{number}.png")
        pairs["conflict"].add(tuple(sorted((source.as_posix(), f"{other}/x{number}.png"))))  # type: ignore[arg-type]
    (data / "glioma" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (data / "glioma" / "empty.jpg").write_bytes(b"")
    (data / "glioma" / ".ipynb_checkpoints").mkdir()
    shutil.copy(data / pictures[0], data / "glioma" / ".ipynb_checkpoints" / "copy.png")
    return data, pairs


def test_synthetic_scans_are_in_order(scans: Path) -> None:
    found = audit(scans / "data", scans / "patients.csv")
    assert not found.complaints, [finding.title for finding in found.findings]
    assert not found.leaks
    assert found.facts["twin_pairs"]["all"] == 0
    assert main(["audit", str(scans / "data"), "--strict"]) == 0
    assert "patients_unknown" not in {finding.key for finding in found.findings}


def test_slices_whose_patient_is_unknown_are_counted(scans: Path, tmp_path: Path) -> None:
    table = (scans / "patients.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "some.csv").write_text("\n".join(table[:-5]), encoding="utf-8")
    for patients, count in ((tmp_path / "some.csv", 5), (None, len(table) - 1)):
        found = {finding.key: finding for finding in audit(scans / "data", patients).findings}
        assert (found["patients_unknown"].count, found["patients_unknown"].level) == (count, "note")


def test_one_is_not_many_and_few_patients_are_not_probed(tmp_path: Path) -> None:
    """With so few, a probe guesses: 0.250 [0.250, 0.250] would look like a clean result."""
    write_phantom(tmp_path, patients=12, slices_per_patient=1, seed=3, size=96)
    source = next((tmp_path / "data" / "glioma").glob("*.png"))
    with Image.open(source) as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(source.with_name("m.png"))
    found = audit(tmp_path / "data", out=tmp_path / "out")
    assert found.facts["probes"] == {}
    assert "1 pair of copies within one part" in [f"{item.count} {item.title}" for item in found.findings]
    page = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    assert "Nothing to complain about; too few patients for the shortcut probes (n = 12)" in page
    sheet = (tmp_path / "out" / "data.md").read_text(encoding="utf-8")
    assert "1 pair of copies among 2 slices" in sheet and "0 files repeat another" in sheet


def test_pictures_beside_the_parts_are_no_strays_to_be_deleted() -> None:
    ignored = ("extra/", "notes/", "test/.cache/")
    manifest = Manifest(Path("data"), ("a",), (Slice("train/a/1.png", "a", "Training"),), ignored, (("extra/", 16),))
    found = {finding.key: finding for finding in passed_over(manifest, [])}
    assert set(found) == {"beside_parts", "hidden", "stray"}
    assert (found["beside_parts"].count, found["stray"].examples) == (16, ("notes/",))
    assert found["beside_parts"].title == "pictures lie beside the parts, in extra/"
    assert "delete" not in found["beside_parts"].advice.lower()


def test_classes_whose_names_differ_in_case_or_separators_alone_are_named() -> None:
    slices = tuple(Slice(f"{name}/1.png", name) for name in ("Cyst", "Low Grade", "cyst", "low_grade", "other"))
    manifest = Manifest(Path("data"), tuple(sorted({item.label for item in slices})), slices)
    found = class_names(manifest)
    assert [finding.title for finding in found] == [
        "classes that may be one: Cyst, cyst", "classes that may be one: Low Grade, low_grade",
    ]  # fmt: skip


def test_every_planted_fault_is_found_and_no_other(
    planted: tuple[Path, dict[str, set[tuple[str, str]]]], tmp_path: Path
) -> None:
    data, pairs = planted
    found = audit(data, out=tmp_path)
    with (tmp_path / "twins.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = {tuple(sorted((row["path_a"], row["path_b"]))): row["kind"] for row in rows}
    assert set(kinds) == set.union(*pairs.values())
    assert all("mirrored" in kinds[pair] for pair in pairs["mirrored"])
    assert all(word in kinds[pair] for word in ("turned", "inverted") for pair in pairs[word])
    assert all(kinds[pair] == "identical" for pair in pairs["conflict"])
    conflicts = {tuple(sorted((row["path_a"], row["path_b"]))) for row in rows if row["same_label"] == "0"}
    assert conflicts == pairs["conflict"]
    facts = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    notes = [finding["meaning"] for finding in facts["findings"] if finding["key"] == "twins"]
    assert "In 8 of these pairs one slice lies upside down or turned." in notes[0]
    counts = {finding["key"]: finding["count"] for finding in facts["findings"] if finding["level"] != "note"}
    assert counts == {"label_conflicts": 3, "unreadable": 2, "hidden": 1}
    assert found.leaks
    assert main(["audit", str(data), "--strict"]) == 3
    assert main(["audit", str(data)]) == 0
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    for finding in found.findings:
        assert finding.title in page.replace("&#39;", "'")


def test_copies_and_patients_across_the_popular_parts_are_leaks(scans: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (scans / "data").iterdir())
    for name in names:
        for number, path in enumerate(sorted((scans / "data" / name).glob("*.png"))[:24]):
            part = tmp_path / "data" / ("Testing" if number % 4 == 3 else "Training") / name
            part.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, part / path.name)
            if number % 8 == 0:
                (tmp_path / "data" / "Testing" / name).mkdir(parents=True, exist_ok=True)
                with Image.open(path) as picture:
                    mirrored = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                mirrored.save(tmp_path / "data" / "Testing" / name / f"copy-{path.name}")
    rows = [
        f"{path.relative_to(tmp_path / 'data').as_posix()},{path.stem.removeprefix('copy-').rsplit('-', 1)[0]}"
        for path in (tmp_path / "data").glob("*/*/*.png")
    ]
    (tmp_path / "patients.csv").write_text("path,patient\n" + "\n".join(rows) + "\n", encoding="utf-8")
    result = audit(tmp_path / "data", tmp_path / "patients.csv", out=tmp_path / "out")
    found = {finding.key: finding for finding in result.findings}
    assert (found["twins_across_parts"].level, found["twins_across_parts"].count) == ("leak", 3 * len(names))
    assert found["patients_across_parts"].count == 9 * len(names)  # six fourth slices and three copies per class
    across = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))["across_parts"]
    assert across["by_kind"]["mirrored"] == across["with_copy"] == 3 * len(names)
    assert {name: (row["test_slices"], row["with_copy"]) for name, row in across["by_class"].items()} == dict.fromkeys(
        names, (9, 3)
    )
    assert across["known_patient"]["with_patient_in_training"] == 9 * len(names)
    sheet, page = ((tmp_path / "out" / name).read_text(encoding="utf-8") for name in ("data.md", "audit.html"))
    assert f"| {names[0]} | 9 | 3 | 3 |" in sheet and "| patient known | " in sheet
    assert f"<tr><th>{names[0]}</th><td>9</td><td>3</td><td>3</td></tr>" in page


def test_a_shortcut_is_called_one(scans: Path, tmp_path: Path) -> None:
    shutil.copytree(scans / "data", tmp_path / "data")
    for path in (tmp_path / "data" / "glioma").glob("*.png"):
        with Image.open(path) as picture:
            pixels = np.array(picture)
        pixels[:20] = 90  # a band above every glioma
        Image.fromarray(pixels).convert("RGB").save(path)
    found = {finding.key for finding in audit(tmp_path / "data", scans / "patients.csv").findings}
    assert {"colour_mode", "shortcut_border_only"} <= found


def test_what_predict_rejects_at_sight_is_a_finding(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            grey = random.integers(0, 256, (48, 48), dtype=np.uint8)
            Image.fromarray(grey).convert("RGB").save(
                tmp_path / "data" / name / f"{number}.png"
            )  # three equal channels
    colour = random.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "data" / "a" / "photo.png")
    ct = dataset_of(grey, SOPClassUID=CTImageStorage, Modality="CT")
    (tmp_path / "data" / "b" / "ct.dcm").write_bytes(written(ct))
    found = {finding.key: finding for finding in audit(tmp_path / "data").findings}
    assert (found["colourful"].count, found["colourful"].examples) == (1, ("a/photo.png",))
    assert (found["foreign"].count, found["foreign"].examples) == (1, ("b/ct.dcm",))
    assert "CT Image is not an MR image" in found["foreign"].meaning


def test_any_table_of_folds_can_be_checked(
    scans: Path,
    planted: tuple[Path, dict[str, set[tuple[str, str]]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, pairs = planted
    safe = tmp_path / "safe.csv"
    split(data, safe, folds=3)
    assert not check_split(data, safe)[1].leaks
    pictures = sorted(path.relative_to(scans / "data").as_posix() for path in (scans / "data").glob("*/*.png"))
    a, b = sorted(pairs["cropped"])[0]
    own = tmp_path / "own.csv"
    rows = [f"{name},{'x' if name == a else 'y'}" for name in sorted({*pictures, a, b})]
    own.write_text("path,fold\n" + "\n".join(rows) + "\n", encoding="utf-8")
    manifest, straddling = check_split(data, own)
    assert [{manifest.slices[i].path, manifest.slices[j].path} for i, j in straddling.twins] == [{a, b}]
    assert main(["split", str(data), "--check", str(own)]) == 3
    assert a in capsys.readouterr().out
    assert main(["split", str(data), "--check", str(safe)]) == 0
    assert main(["split", str(data)]) == 2


def test_blanks_around_a_fold_make_no_other_fold(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8))
    for name in ("a/0.png", "a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture.save(tmp_path / name)  # three copies: in two folds they would be a leak
    table = tmp_path / "own.csv"
    table.write_text("path,fold\na/0.png,0\na/1.png,0 \nb/2.png, 0\n", encoding="utf-8")
    found = check_split(tmp_path, table)[1]
    assert (found.folds, found.leaks) == (1, False)


def test_the_words_for_the_data_sheet_are_read_before_the_audit(tmp_path: Path) -> None:
    about, nowhere = tmp_path / "about.md", tmp_path / "no data"  # whose absence is noticed later
    about.write_bytes("Größe".encode("latin-1"))
    with pytest.raises(DataError, match="about.md: expected a Markdown file in UTF-8; byte 2 .* save it as UTF-8"):
        audit(nowhere, about=about, out=tmp_path / "out")
    with pytest.raises(DataError, match="absent.md: expected a Markdown file in UTF-8; No such file"):
        audit(nowhere, about=tmp_path / "absent.md", out=tmp_path / "out")
    with pytest.raises(DataError, match="with --out DIR; give both"):
        audit(nowhere, about=about)
    about.write_text("Größe", encoding="utf-8")
    with pytest.raises(DataError, match="no data"):
        audit(nowhere, about=about, out=tmp_path / "out")


def test_a_test_slice_whose_copy_has_a_copy_in_training_is_counted() -> None:
    parts = ["Training", "Testing", "Testing", "Testing"]
    slices = tuple(Slice(f"{part}/a/{row}.png", "a", part) for row, part in enumerate(parts))
    pairs = np.array([[0, 1], [1, 2]])
    twins = Twins(pairs, ("copy", "copy"), np.ones(2, np.float32), pairs[:0])
    manifest = Manifest(Path("data"), ("a",), slices)
    tally = across_parts(manifest, list("0123"), twins, [None] * 4)
    found = {finding.key: finding for finding in twins_found(manifest, twins, tally)}
    assert found["twins_across_parts"].count == 2
    assert found["twins_across_parts"].title == "of 3 test slices are copies of training slices"
    assert found["twins_across_parts"].meaning.startswith(
        "By the closest copy: 1 copy, 1 copy of a copy. By class: 2 of"
    )


def test_a_test_slice_is_counted_once_by_the_closest_of_its_copies_in_training() -> None:
    """Of 0 to 2 in training: 3 is a mirrored and a plain copy, 4 the same bytes (of so many that no pair is listed),
    5 the mirrored copy of a test slice only, 6 a cropped copy; 7 is nobody's."""
    rows = [("Training", "a", "p"), ("Training", "b", None), ("Training", "b", "q"),
            ("Testing", "a", "p"), ("Testing", "a", None), ("Testing", "b", None), ("Testing", "b", "r"),
            ("Testing", "b", None)]  # fmt: skip
    slices = tuple(Slice(f"{part}/{label}/{row}.png", label, part) for row, (part, label, _) in enumerate(rows))
    pairs = np.array([[0, 3], [1, 3], [2, 6], [3, 5]])
    twins = Twins(pairs, ("mirrored", "copy", "cropped", "mirrored"), np.ones(4, np.float32), pairs[:0])
    manifest = Manifest(Path("data"), ("a", "b"), slices)
    found = across_parts(manifest, list("01230567"), twins, [patient for _, _, patient in rows])
    assert found is not None
    none = dict.fromkeys(CLOSENESS, 0)
    assert found["by_class"] == {
        "a": {"test_slices": 2, "with_copy": 2, "by_kind": {**none, "identical": 1, "copy": 1}},
        "b": {"test_slices": 3, "with_copy": 2, "by_kind": {**none, "cropped": 1, "copy of a copy": 1}},
    }
    assert (found["test_slices"], found["with_copy"]) == (5, 4)
    assert found["by_kind"] == {**none, "identical": 1, "copy": 1, "cropped": 1, "copy of a copy": 1}
    known = {"test_slices": 2, "with_copy": 2, "by_kind": {**none, "copy": 1, "cropped": 1}}
    assert found["known_patient"] == {**known, "with_patient_in_training": 1}
    assert across_parts(manifest.keep(range(3)), list("012"), replace(twins, pairs=pairs[:0], kinds=()), []) is None


def test_a_class_without_a_readable_slice_is_a_finding_and_no_traceback(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in "abc":
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(random.integers(0, 256, (48, 48), dtype=np.uint8)).save(
                tmp_path / "data" / name / f"{number}.png"
            )
    for path in (tmp_path / "data" / "c").iterdir():
        path.write_bytes(b"")
    result = audit(tmp_path / "data", out=tmp_path / "out")
    assert "readable slices of class c" in [finding.title for finding in result.findings]
    assert result.facts["classes"]["c"]["mean_intensity"] == []
    assert "NaN" not in (tmp_path / "out" / "audit.json").read_text(encoding="utf-8")


def test_a_probe_without_an_interval_stands_in_the_data_sheet() -> None:
    metrics = {"accuracy": 0.5, "balanced_accuracy": 0.4, "ci95": {"balanced_accuracy": None}}
    assert _probed({"probes": {"border only": metrics}})[-1] == "| border only | 0.500 | 0.400 |"


def test_patients_of_several_classes_are_shown_by_their_slices_and_never_by_name(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = ["path,patient"]
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            path = tmp_path / "data" / name / f"{number}.png"
            Image.fromarray(random.integers(0, 256, (48, 48), dtype=np.uint8)).save(path)
            rows.append(f"{name}/{number}.png,{'SECRET' if number else name}")
    (tmp_path / "patients.csv").write_text("\n".join(rows), encoding="utf-8")
    found = audit(tmp_path / "data", tmp_path / "patients.csv", out=tmp_path / "out")
    several = next(finding for finding in found.findings if finding.key == "patients_with_several_labels")
    assert (several.count, several.examples) == (1, ("a/1.png", "b/1.png"))
    assert not any(b"SECRET" in path.read_bytes() for path in (tmp_path / "out").iterdir())
