"""A study is counted, never diagnosed; its map lies where the scan lies; nothing of a patient is written."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from braincam import cli
from braincam.dataset.phantom_volume import make_volume, write_volumes
from braincam.errors import DataError
from braincam.explain.map_volume import evidence_volume, write_evidence
from braincam.explain.montage import SIDE, montage, tile
from braincam.images import read_slices
from braincam.images.volume import Grid, Volume
from braincam.model_file.card import Card
from braincam.pipeline.study import _caption, _free_stem, with_studies
from braincam.predict import Prediction, Predictor
from braincam.report.study import VolumeSection, profile, write_study_page
from braincam.study import EVIDENCE, NO_EVIDENCE, REFUSED, UNCLEAR, Study, summarise, top_slices
from dicom_files import enhanced, write_series, written

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
FAST = settings(max_examples=100, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def card(run: Path) -> Card:
    return replace(Predictor(run, threads=1).card, classes=CLASSES, conformal_coverage=0.95)


def answer(number: int, status: str, label: str | None = None, sure: float = 0.9) -> Prediction:
    """What the model might say of one slice."""
    best = label or "notumor"
    rest = (1 - sure) / 3
    return Prediction(
        path="head.nii.gz",
        slice=number,
        status=status,
        label=label if status in {"ok", "refer"} else None,
        probabilities=None if status == "error" else {name: sure if name == best else rest for name in CLASSES},
        prediction_set=[best] if status == "ok" else [],
        confidence=None if status == "error" else sure,
        outlier_score=1.0,
        reason="unlike the training scans: outlier score 3.00, accepted up to 2.00" if status == "rejected" else None,
        overlay=None,
        model={"name": "m", "sha256": "0"},
    )


def study(card: Card, *groups: tuple[int, str, str | None]) -> Study:
    """A volume of runs of slices: how many, status, label."""
    made: list[Prediction] = []
    for count, status, label in groups:
        made += [answer(len(made) + k, status, label) for k in range(count)]
    return summarise("head.nii.gz", made, card)


def test_most_of_the_evidence_and_more_than_may_be_wrong_names_a_class(card: Card) -> None:
    found = study(card, (70, "ok", "notumor"), (8, "ok", "glioma"), (2, "ok", "pituitary"), (20, "ok", "notumor"))
    assert (found.finding, found.label, found.allowed) == (EVIDENCE, "glioma", 5)
    assert "glioma in 8 of 100 judged slices" in found.statement
    assert "also pituitary in 2" in found.statement
    leading = found.evidence[0]
    assert leading.slices == tuple(range(70, 78))
    assert leading.runs == [(70, 77)]
    assert leading.share == 0.08
    assert leading.probability == (0.9, 0.9, 0.9)


def test_no_more_evidence_than_may_be_wrong_is_unclear(card: Card) -> None:
    found = study(card, (95, "ok", "notumor"), (5, "ok", "glioma"))
    assert (found.finding, found.label, found.closest) == (UNCLEAR, None, "glioma")
    assert "up to 5 may be wrong" in found.statement


def test_evidence_for_two_classes_alike_is_unclear(card: Card) -> None:
    found = study(card, (10, "ok", "glioma"), (10, "ok", "meningioma"), (10, "ok", "notumor"))
    assert (found.finding, found.label) == (UNCLEAR, None)
    assert "no class has most of it" in found.statement


def test_no_study_states_a_certain_probability(card: Card, tmp_path: Path) -> None:
    answers = [answer(k, "ok", "glioma", sure=0.9999) for k in range(4)]
    study = summarise("head", answers, card)
    assert "probability > 0.99 on these slices" in study.statement
    assert profile(answers, card)[0]["words"].endswith("glioma > 0.99")
    assert _caption(answers[0], "glioma") == "slice 0: glioma > 0.99"
    section = VolumeSection(study=study, profile=profile(answers, card), tiles=[], scale=None, files={}, no_map=None)
    write_study_page(tmp_path / "study.html", [section], card, answers[0].model)
    assert "&gt; 0.99, &gt; 0.99, &gt; 0.99" in (tmp_path / "study.html").read_text(encoding="utf-8")


def test_no_more_than_one_volume_waits_to_be_written(
    card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that waits holds its slices and maps; and what cannot be written is heard of before the last is judged."""
    judged = 0

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("braincam.pipeline.study._write", full)

    def answers() -> Iterator[Prediction]:
        nonlocal judged
        for number in range(20):
            judged += 1
            yield replace(answer(0, "ok", "glioma"), volume=Volume(f"head-{number}", None, "none"))

    with pytest.raises(OSError, match="No space"):
        list(with_studies(answers(), card, tmp_path, []))
    assert judged < 6


def test_no_evidence_is_counted_and_never_called_no_tumour(card: Card) -> None:
    found = study(card, (90, "ok", "notumor"), (6, "refer", "glioma"), (4, "rejected", None))
    assert (found.finding, found.label) == (NO_EVIDENCE, None)
    assert found.statement == (
        "No evidence above the threshold in 90 of 100 slices; 6 too uncertain, 4 not judged. No evidence is not "
        '"no tumour": the model knows only glioma, meningioma, pituitary, and misses some.'
    )
    assert found.not_judged == {"unlike the training scans": 4}


def test_mostly_unjudged_is_refused_and_mostly_uncertain_is_unclear(card: Card) -> None:
    refused = study(card, (51, "rejected", None), (49, "ok", "glioma"))
    assert (refused.finding, refused.label) == (REFUSED, None)
    assert "51 of 100" in refused.statement
    unclear = study(card, (60, "refer", "glioma"), (20, "ok", "glioma"), (20, "ok", "notumor"))
    assert (unclear.finding, unclear.label) == (UNCLEAR, None)
    assert study(card, (3, "error", None)).finding == REFUSED


@FAST
@given(st.lists(st.tuples(st.sampled_from(["ok", "refer", "rejected", "error"]), st.sampled_from(CLASSES)), min_size=1))
def test_counts_add_up_and_nothing_is_ever_ruled_out(card: Card, slices: list[tuple[str, str]]) -> None:
    made = [answer(k, status, label) for k, (status, label) in enumerate(slices)]
    found = summarise("x", made, card)
    assert found.slices == len(made) == found.judged + sum(found.not_judged.values())
    assert found.judged == found.without + found.uncertain + sum(len(item.slices) for item in found.evidence)
    assert "no tumour" not in found.statement.replace('No evidence is not "no tumour"', "").lower()
    assert "healthy" not in found.statement.lower()
    assert (found.label is not None) == (found.finding == EVIDENCE)
    assert summarise("x", made[::-1], card).to_json() == found.to_json(), "the order they come in does not matter"
    json.dumps(found.to_json(), allow_nan=False)


def test_top_slices_are_the_likeliest_in_their_order(card: Card) -> None:
    made = [answer(k, "ok", "glioma", 0.5 + k % 5 / 10) for k in range(10)]
    assert [item.slice for item in top_slices([*made, answer(10, "rejected")], "glioma", 4)] == [3, 4, 8, 9]


def test_top_slices_are_those_with_evidence_where_there_are_any(card: Card) -> None:
    made = [answer(0, "refer", "glioma", 0.99), answer(1, "ok", "glioma", 0.8), answer(2, "ok", "notumor")]
    assert [item.slice for item in top_slices(made, "glioma", 12)] == [1]
    assert [item.slice for item in top_slices([made[0], made[2]], "glioma", 12)] == [0, 2]


# --- the map ---------------------------------------------------------------------------------------------

GRID = Grid((24, 20, 6), np.diag([1.0, 1.0, 4.0, 1.0]), (2, 1, 0), (True, False, False))


def test_evidence_comes_back_from_the_file_where_it_was(tmp_path: Path) -> None:
    cams = np.full((4, 10, 12), -1, np.float32)
    cams[0, 5, 3] = 8  # covers rows 10 and 11, columns 6 and 7
    judged = replace(answer(4, "ok", "glioma"), cams=cams)
    refused = replace(answer(2, "rejected"), cams=cams)
    stored, step = evidence_volume([judged, refused], 0, GRID)
    write_evidence(tmp_path / "map.nii.gz", stored, step, GRID, "glioma")
    image = nib.load(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(image.affine, GRID.affine)
    read = image.get_fdata()
    np.testing.assert_allclose(read, stored * step, rtol=1e-6)
    assert read.max() == pytest.approx(0.75**2 * 8 - (1 - 0.75**2), rel=1e-3)  # bilinear, a quarter off the centre
    assert image.shape == GRID.shape
    assert read.min() == 0, "what speaks against is left out, as in the pictures"
    hottest = np.argwhere(read > 0.9 * read.max())
    assert set(map(tuple, hottest)) == {(i, j, 4) for i in (16, 17) for j in (10, 11)}  # columns run backwards
    assert not read[:, :, 2].any(), "a refused slice carries none"


@pytest.mark.parametrize(("qform", "sform"), [(1, 4), (2, 0), (0, 3), (0, 0)])
def test_the_map_says_its_place_as_the_scan_does(tmp_path: Path, qform: int, sform: int) -> None:
    turn = np.array([[0, -2.0, 0, 7], [2, 0, 0, -3], [0, 0, 4, 5], [0, 0, 0, 1]])
    scan = nib.Nifti1Image(np.random.default_rng(0).integers(0, 99, (20, 24, 6), np.int16), None)
    scan.set_qform(turn if qform else None, qform)
    scan.set_sform(np.diag([-2.5, 2, 4, 1]) if sform else None, sform)
    (tmp_path / "scan.nii").write_bytes(scan.to_bytes())
    grid = read_slices(tmp_path / "scan.nii")[0].volume.grid  # type: ignore[union-attr]
    assert grid is not None
    write_evidence(tmp_path / "map.nii.gz", *evidence_volume([], 0, grid), grid, "glioma")
    scan, image = nib.load(tmp_path / "scan.nii"), nib.load(tmp_path / "map.nii.gz")
    np.testing.assert_allclose(image.affine, scan.affine)
    for form in ("get_qform", "get_sform"):
        (expected, code), (place, other) = (getattr(item, form)(coded=True) for item in (scan, image))
        assert code == other
        if code:
            np.testing.assert_allclose(place, expected, atol=1e-6)


def test_a_sheared_place_has_no_qform(tmp_path: Path) -> None:
    shear = np.array([[1.0, 0, 0, 0], [0, 1, 0.7, 0], [0, 0, 4, 0], [0, 0, 0, 1]])
    sheared = replace(GRID, affine=shear)
    write_evidence(tmp_path / "map.nii.gz", *evidence_volume([], 0, sheared), sheared, "glioma")
    image = nib.load(tmp_path / "map.nii.gz")
    assert (image.get_qform(coded=True)[1], image.get_sform(coded=True)[1]) == (0, 1)
    np.testing.assert_allclose(image.affine, shear, atol=1e-6)


def test_an_empty_map_is_all_zero(tmp_path: Path) -> None:
    stored, step = evidence_volume([], 0, GRID)
    write_evidence(tmp_path / "map.nii.gz", stored, step, GRID, "glioma")
    assert not nib.load(tmp_path / "map.nii.gz").get_fdata().any()


def test_tiles_keep_the_shape_of_the_slice_and_share_one_scale() -> None:
    pixels = np.full((100, 50), 200, np.uint8)
    plain = np.asarray(tile(pixels, None, 0))
    assert plain.shape == (SIDE, SIDE, 3)
    assert not plain[:, : SIDE // 4 - 1].any()
    heat = np.zeros((4, 4), np.float32)
    heat[0] = 5
    hot, mild = (np.asarray(tile(pixels, heat, scale)).astype(int) for scale in (5.0, 50.0))
    assert np.abs(hot - plain).sum() > 2 * np.abs(mild - plain).sum() > 0
    page = montage("evidence: glioma", "note", [(tile(pixels, heat, 5.0), "slice 1")] * 5, 5.0)
    assert page.width > 4 * SIDE


def study_of(card: Card, out: Path, label: str) -> tuple[dict[str, Any], str, np.ndarray]:
    """study.json, study.html and the montage of a volume whose slices all carry that label and weak evidence."""
    volume = Volume(name="head", grid=GRID)
    cams = np.full((4, 8, 8), 0.01, np.float32)
    pixels = np.full(GRID.pictures[1:], 120, np.uint8)
    made = [replace(answer(k, "ok", label), volume=volume, cams=cams, pixels=pixels) for k in range(6)]
    list(with_studies(made, card, out, [], maps=True))
    (one,) = json.loads((out / "study.json").read_text(encoding="utf-8"))["studies"]
    with Image.open(one["montage"]) as picture:
        return one, (out / "study.html").read_text(encoding="utf-8"), np.asarray(picture.convert("RGB")).astype(int)


def spread_of_colour(picture: np.ndarray) -> int:
    """0 where every pixel is grey; a heat map reaches far more than the bluish ink of the page."""
    return int((picture.max(-1) - picture.min(-1)).max())


def test_without_evidence_nothing_glows_and_the_page_warns(card: Card, tmp_path: Path) -> None:
    found, page, picture = study_of(card, tmp_path / "none", "notumor")
    assert (found["finding"], found["map"], found["map_class"]) == (NO_EVIDENCE, None, None)
    assert found["no_map"] == "no slice carries evidence"
    assert not list((tmp_path / "none").glob("*.nii.gz"))
    assert spread_of_colour(picture) < 40
    assert "Slices of the volume, without a map" in page
    assert '<div class="box warn">' in page
    assert "slice 0: notumor 0.90" in page

    found, page, picture = study_of(card, tmp_path / "some", "glioma")
    assert (found["finding"], found["map_class"]) == (EVIDENCE, "glioma")
    assert spread_of_colour(picture) > 100
    assert "The likeliest slices for glioma" in page
    assert '<div class="box plain">' in page


def test_a_long_note_is_written_whole_above_the_tiles() -> None:
    tiles = [(tile(np.zeros((4, 4), np.uint8), None, 0), "slice 0")]
    assert montage("t", "word " * 80, tiles, None).height > montage("t", "word", tiles, None).height


# --- the command -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def open_model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the quick model that answers for anything: its outlier threshold is out of reach."""
    import onnx

    path = tmp_path_factory.mktemp("open") / "model.onnx"
    model = onnx.load(run / "model.onnx")
    for item in model.metadata_props:
        if item.key == "braincam.card":
            facts = json.loads(item.value)
            facts["outlier_threshold"] = 1e9
            item.value = json.dumps(facts)
    onnx.save(model, path)
    return path


def outputs(out: Path) -> dict[str, bytes]:
    """Every file that was written, maps unpacked."""
    return {
        path.name: gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in out.iterdir()
    }


def test_what_was_written_among_the_scans_is_not_judged_the_second_time_nor_takes_a_name(
    open_model: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes(tmp_path / "drawn")
    folder = tmp_path / "scans"
    folder.mkdir()
    (tmp_path / "drawn" / "volumes" / "glioma.nii.gz").rename(folder / "head.nii.gz")
    shutil.copy(next((scans / "data" / "glioma").iterdir()), folder / "slice.png")
    (folder / "head-montage.png").write_bytes(b"of somebody else")
    before, names = {path.name for path in folder.iterdir()}, []
    for _ in range(2):
        said = cli.main(["predict", str(folder), "--model", str(open_model), "--out", str(folder), "--format", "csv"])
        assert said == 1  # for the one that is no picture
        rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
        assert {Path(row["path"]).name for row in rows} == {"head.nii.gz", "slice.png", "head-montage.png"}
        assert len(rows) == 26
        names.append(sorted(path.name for path in folder.iterdir()))
    assert names[0] == names[1]
    assert (folder / "head-montage.png").read_bytes() == b"of somebody else"
    assert {"head_2-montage.png", "slice-evidence.png"} <= set(names[0]) - before
    assert any(re.fullmatch(r"head_2-evidence-\w+\.nii\.gz", name) for name in names[0])
    cli.main(["predict", f"{folder}/*.png", "--model", str(open_model), "--format", "csv"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + 2  # so is a pattern


def test_a_nifti_volume_gets_a_summary_a_page_a_montage_and_a_map_on_its_grid(
    open_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes(tmp_path)
    head, out = tmp_path / "volumes" / "glioma.nii.gz", tmp_path / "out"
    assert cli.main(["predict", str(head), "--model", str(open_model), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    summary = json.loads((out / "study.json").read_text(encoding="utf-8"))
    (one,) = summary["studies"]
    assert one["path"] == str(head)
    assert one["slices"] == len(one["per_slice"]) == 24
    assert one["statement"] in printed
    assert "Research use only" in summary["notice"]
    assert all(Path(row["overlay"]).is_file() for row in one["per_slice"])
    scan, evidence = nib.load(head), nib.load(one["map"])
    assert evidence.shape == scan.shape
    np.testing.assert_array_equal(evidence.affine, scan.affine)
    assert one["map_class"] in CLASSES
    with Image.open(one["montage"]) as picture:
        assert picture.width > 2 * SIDE
    page = (out / "study.html").read_text(encoding="utf-8")
    assert one["statement"] in page
    assert "Research use only" in page
    assert "no confidence interval" in " ".join(page.split())
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", page)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_the_map_of_a_series_lies_on_its_slices_and_nothing_of_the_patient_is_written(
    open_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, _ = make_volume("meningioma", slices=6, size=96)
    planes = pixels.astype(np.int16) * 4
    secrets = {"StudyDescription": "HeadOfDoe", "InstitutionName": "StMercy", "PatientBirthDate": "19660101"}
    write_series(tmp_path / "study", planes, series="1.2.840.77777", **secrets)
    out = tmp_path / "out"
    call = ["predict", str(tmp_path / "study"), "--model", str(open_model), "--out", str(out), "--format", "json"]
    assert cli.main(call) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 6, "stdout stays machine-readable"
    (one,) = json.loads((out / "study.json").read_text(encoding="utf-8"))["studies"]
    assert one["path"] == str(tmp_path / "study")
    assert [row["slice"] for row in one["per_slice"]] == list(range(6))
    image = nib.load(one["map"])
    assert image.shape == (96, 96, 6)
    expected = [-(-30 + 5 * 1.25), -(-40 + 7 * 1.5), 50 + 2 * 4]
    np.testing.assert_allclose((image.affine @ [5, 7, 2, 1])[:3], expected, atol=1e-4)
    everything = outputs(out)
    everything["stdout"], everything["stderr"] = captured.out.encode(), captured.err.encode()
    for name, content in everything.items():
        for secret in ("Doe^Jane", "HeadOfDoe", "StMercy", "19660101", "1.2.840.77777"):
            assert secret.encode() not in content, (name, secret)
            assert secret not in name


def test_each_volume_of_one_file_gets_its_own_map(open_model: Path, tmp_path: Path) -> None:
    pixels, _ = make_volume("meningioma", slices=3, size=64)
    stored = np.concatenate([pixels, pixels[::-1]]).astype(np.int16) * 4
    (tmp_path / "two.dcm").write_bytes(written(enhanced(stored, [0, 1, 2, 0, 1, 2])))
    out = tmp_path / "out"
    assert cli.main(["predict", str(tmp_path / "two.dcm"), "--model", str(open_model), "--out", str(out)]) == 0
    studies = json.loads((out / "study.json").read_text(encoding="utf-8"))["studies"]
    assert [[row["slice"] for row in one["per_slice"]] for one in studies] == [[0, 1, 2], [3, 4, 5]]
    for one in studies:
        evidence = nib.load(one["map"]).get_fdata()
        labelled = [row["label"] is not None for row in one["per_slice"]]
        assert evidence.shape == (64, 64, 3)
        assert evidence.any(axis=(0, 1)).tolist() == labelled


def test_another_modality_is_rejected_slice_by_slice_and_the_study_is_refused(
    open_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, _ = make_volume("notumor", slices=4, size=96)
    write_series(tmp_path / "ct", pixels.astype(np.int16), SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    out = tmp_path / "out"
    code = cli.main(
        ["predict", str(tmp_path / "ct"), "--model", str(open_model), "--out", str(out), "--format", "json"]
    )
    assert code == 0, "a refusal is an answer"
    for line in capsys.readouterr().out.splitlines():
        row = json.loads(line)
        assert (row["status"], row["label"]) == ("rejected", None)
        assert "CT Image is not an MR image" in row["reason"]
    (one,) = json.loads((out / "study.json").read_text(encoding="utf-8"))["studies"]
    assert (one["finding"], one["map"]) == (REFUSED, None)
    assert one["not_judged"] == {"not an MR slice: CT Image is not an MR image": 4}


def test_two_volumes_of_one_name_keep_their_files_apart(open_model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        pixels, _ = make_volume("glioma", slices=3, size=64)
        write_series(tmp_path / name / "scan", pixels.astype(np.int16), seed=ord(name))
    out = tmp_path / "out"
    cli.main(["predict", str(tmp_path / "a"), str(tmp_path / "b"), "--model", str(open_model), "--out", str(out)])
    studies = json.loads((out / "study.json").read_text(encoding="utf-8"))["studies"]
    assert len({one["map"] for one in studies}) == len(studies) == 2
    assert all(Path(one["map"]).is_file() for one in studies)


def test_pictures_alone_make_no_study_and_without_maps_there_is_no_map(
    open_model: Path, scans: Path, tmp_path: Path
) -> None:
    cli.main(["predict", str(scans / "data" / "glioma"), "--model", str(open_model), "--out", str(tmp_path / "one")])
    assert not (tmp_path / "one" / "study.json").exists()
    write_volumes(tmp_path)
    call = ["predict", str(tmp_path / "volumes" / "notumor.nii.gz"), "--model", str(open_model)]
    cli.main([*call, "--out", str(tmp_path / "two"), "--no-cam"])
    (one,) = json.loads((tmp_path / "two" / "study.json").read_text(encoding="utf-8"))["studies"]
    assert one["map"] is None
    assert one["no_map"]


def test_evidence_of_an_earlier_call_is_removed_with_its_input_or_told(
    open_model: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes(tmp_path)
    head, out = tmp_path / "volumes" / "glioma.nii.gz", tmp_path / "out"
    picture = min((scans / "data" / "glioma").iterdir())
    call = ["predict", "--model", str(open_model), "--out", str(out)]

    def told(*more: str) -> list[str]:
        cli.main([*call, *more])
        return [line for line in capsys.readouterr().err.splitlines() if "from before" in line]

    assert not told(str(head)), "a folder of its own holds nothing from before"
    assert not told(str(head)), "and what is written anew is not from before"
    pictures = list(out.glob("glioma-evidence-*.jpg"))
    assert pictures
    (map_of_one,) = out.glob("glioma-evidence-*.nii.gz")
    shutil.copy(map_of_one, out / "glioma-evidence-another.nii.gz")  # as if the volume had been called so
    summary = (out / "study.json").read_text(encoding="utf-8")
    (out / "study.json").write_text(
        summary.replace(map_of_one.name, "glioma-evidence-another.nii.gz"), encoding="utf-8"
    )
    (removed,) = told(str(head))
    assert removed.startswith(f"{out}: removed glioma-evidence-another.nii.gz from before, since the same input")
    (holds,) = told(str(picture))
    count = len(pictures) + len(["map", "montage", "study.html", "study.json"])
    assert f"{out}: still holds {count} files such as glioma-evidence-" in holds and "give a new --out" in holds
    assert {*pictures, map_of_one} <= set(out.iterdir()), "they belong to another input"
    removed, holds = told(str(head), "--no-cam")
    assert f"removed {len(pictures) + 1} files" in removed and not list(out.glob("glioma-evidence-*"))
    assert f"still holds {picture.stem}-evidence.png from before" in holds
    assert (out / "glioma-montage.png").exists() and (out / "study.html").exists()


def test_a_plane_can_be_asked_for_and_its_map_keeps_the_grid(open_model: Path, tmp_path: Path) -> None:
    write_volumes(tmp_path)
    head, out = tmp_path / "volumes" / "pituitary.nii.gz", tmp_path / "out"
    volume = nib.load(head)
    nib.save(nib.Nifti1Image(np.asarray(volume.dataobj)[::7, ::7], np.diag([7.0, 7, 5, 1])), tmp_path / "small.nii.gz")
    call = ["predict", str(tmp_path / "small.nii.gz"), "--model", str(open_model), "--out", str(out)]
    assert cli.main([*call, "--plane", "coronal"]) == 0
    (one,) = json.loads((out / "study.json").read_text(encoding="utf-8"))["studies"]
    assert one["slices"] == 32
    assert nib.load(one["map"]).shape == (32, 32, 24)


def test_of_several_volumes_in_one_file_it_is_said_which_was_read(
    open_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = np.stack([make_volume("glioma")[0][..., 10:14], make_volume("pituitary")[0][..., 10:14]], axis=-1)
    nib.save(nib.Nifti1Image(stored, np.eye(4)), tmp_path / "series.nii.gz")  # type: ignore[no-untyped-call]
    call = ["predict", str(tmp_path / "series.nii.gz"), "--model", str(open_model), "--out", str(tmp_path / "out")]
    for options, number in (([], 0), (["--volume", "1"], 1)):
        assert cli.main([*call, *options]) == 0
        said = f"Volume {number} of 2, counted from 0, was read; --volume reads another."
        assert said in capsys.readouterr().err
        (study,) = json.loads((tmp_path / "out" / "study.json").read_text())["studies"]
        assert study["volume"] == {"number": number, "of": 2}
        assert said in (tmp_path / "out" / "study.html").read_text()


def test_of_a_file_that_does_not_say_how_it_lies_it_is_said_what_was_assumed(
    open_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = nib.Nifti1Image(make_volume("glioma")[0][..., 10:14], None)  # type: ignore[no-untyped-call]
    for code in (0, 1):
        image.set_sform(np.eye(4), code)
        image.set_qform(np.eye(4), code)
        nib.save(image, tmp_path / "head.nii.gz")  # type: ignore[no-untyped-call]
        cli.main(["predict", str(tmp_path / "head.nii.gz"), "--model", str(open_model), "--out", str(tmp_path / "out")])
        (study,) = json.loads((tmp_path / "out" / "study.json").read_text())["studies"]
        told = "does not say how it lies"
        places = capsys.readouterr().err, (tmp_path / "out" / "study.html").read_text(), " ".join(study["remarks"])
        assert [told in place for place in places] == [code == 0] * 3


@pytest.mark.parametrize("option", [["--plane", "coronal"], ["--volume", "1"]])
def test_an_option_for_nifti_volumes_that_met_none_is_said_to_have_done_nothing(
    option: list[str], open_model: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = str(next(scans.rglob("*.png")))
    cli.main(["predict", scan, "--model", str(open_model), *option])
    assert f"{option[0]} changes how NIfTI volumes are read, and there was none" in capsys.readouterr().err
    stored = np.stack([make_volume("glioma")[0][..., 10:14]] * 2, axis=-1)
    nib.save(nib.Nifti1Image(stored, np.eye(4)), tmp_path / "one.nii")  # type: ignore[no-untyped-call]
    cli.main(["predict", scan, str(tmp_path / "one.nii"), "--model", str(open_model), *option])
    assert "there was none" not in capsys.readouterr().err


def test_a_missing_volume_number_is_an_error_row(open_model: Path, tmp_path: Path) -> None:
    write_volumes(tmp_path)
    assert (
        cli.main(["predict", str(tmp_path / "volumes" / "glioma.nii.gz"), "--model", str(open_model), "--volume", "3"])
        == 1
    )


def test_synthetic_heads_are_not_written_over(tmp_path: Path) -> None:
    heads = write_volumes(tmp_path, seed=1)
    assert [path.name for path in heads] == [f"{name}.nii.gz" for name in CLASSES]
    mask = nib.load(tmp_path / "volume-masks" / "glioma.nii.gz").get_fdata()
    assert 0 < mask.mean() < 0.1
    assert not (tmp_path / "volume-masks" / "notumor.nii.gz").exists()
    with pytest.raises(DataError, match="another folder"):
        write_volumes(tmp_path)


def test_a_single_picture_imports_no_reader_of_volumes_and_no_templates(open_model: Path, scans: Path) -> None:
    picture = next((scans / "data" / "glioma").glob("*.png"))
    program = (
        "import sys; from braincam.cli import main\n"
        "main(sys.argv[1:])\n"
        "print(*{'pydicom', 'nibabel', 'jinja2', 'torch'} & set(sys.modules), file=sys.stderr)"
    )
    call = [sys.executable, "-c", program, "predict", str(picture), "--model", str(open_model)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""


def test_a_volume_of_another_kind_says_why_it_has_no_map(open_model: Path, tmp_path: Path) -> None:
    pixels, _ = make_volume("glioma", slices=3, size=64)
    first, *rest = (Image.fromarray(plane) for plane in pixels)
    first.save(tmp_path / "pages.tif", save_all=True, append_images=rest)
    answers = Predictor(open_model).predict(tmp_path / "pages.tif")
    assert answers[0].volume is answers[2].volume
    assert isinstance(answers[0].volume, Volume)
    assert "where its slices lie" in (answers[0].volume.problem or "")


def test_the_files_of_a_second_volume_in_one_file_are_named_without_its_ending(tmp_path: Path) -> None:
    taken: set[str] = set()
    names = ["a/enh.dcm", "a/enh.dcm (2)", "b/enh.dcm", "scan (2).nii.gz"]
    assert [_free_stem(name, taken, tmp_path) for name in names] == ["enh", "enh-2", "enh_2", "scan-2"]
