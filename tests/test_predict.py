"""Every input gets an answer, bad ones cost the others nothing, and torch stays out."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from braincam import cli
from braincam.errors import ImageError
from braincam.model_file.decision import stated, why_referred
from braincam.predict import Prediction, Predictor
from dicom_files import write_series

FIELDS = {
    "path", "slice", "status", "label", "probabilities", "prediction_set", "confidence", "outlier_score", "reason",
    "overlay", "model", "notice",
}  # fmt: skip


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return Predictor(run, threads=1)


def accepting(predictor: Predictor, **changes: object) -> Predictor:
    """The same model with other thresholds in its card."""
    other = object.__new__(Predictor)
    other.__dict__.update(predictor.__dict__)
    other.card = replace(predictor.card, **changes)  # type: ignore[arg-type]
    return other


def a_scan(scans: Path) -> Path:
    return sorted((scans / "data" / "glioma").glob("*.png"))[0]


def bomb(path: Path, side: int = 20_000) -> None:
    """A valid PNG of side x side pixels in a few hundred kilobytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (side + 1) * side, 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def test_one_object_with_every_field(predictor: Predictor, scans: Path) -> None:
    (answer,) = predictor.predict(a_scan(scans))
    row = json.loads(json.dumps(answer.to_json()))
    assert set(row) == FIELDS
    assert row["status"] in {"ok", "refer", "rejected"}
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert row["confidence"] == max(row["probabilities"].values())
    assert row["model"] == {"name": "quick", "sha256": predictor.file.sha256}
    assert row["overlay"] is None
    assert answer.cam is not None
    assert answer.cam.ndim == 2


def test_paths_bytes_arrays_and_lists_of_them_agree(predictor: Predictor, scans: Path) -> None:
    path = a_scan(scans)
    pixels = np.asarray(Image.open(path))
    answers = predictor.predict([path, str(path), path.read_bytes(), pixels])
    assert len(answers) == 4
    assert len({json.dumps(answer.probabilities) for answer in answers}) == 1
    volume = predictor.predict(np.stack([pixels, pixels[::-1]]))
    assert [answer.slice for answer in volume] == [0, 1]
    assert volume[0].probabilities == answers[0].probabilities


def test_answers_keep_the_order_whatever_the_sizes(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    source = Image.open(a_scan(scans))
    paths = []
    for number in range(40):
        side = (64, 96, 97)[number % 3]
        path = tmp_path / f"{number:02d}.png"
        source.resize((side, side)).save(path)
        paths.append(path)
    answers = predictor.predict(paths)
    assert [answer.path for answer in answers] == [str(path) for path in paths]
    alone = [predictor.predict(path)[0] for path in paths[:4]]
    for together, single in zip(answers, alone, strict=False):
        assert together.confidence == pytest.approx(single.confidence, abs=1e-4)


def test_bad_inputs_become_rows_and_the_others_are_answered(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    good = a_scan(scans)
    (tmp_path / "text.jpg").write_text("this is not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    jpeg = tmp_path / "whole.jpg"
    Image.open(good).save(jpeg)
    (tmp_path / "cut.jpg").write_bytes(jpeg.read_bytes()[:1500])
    Image.new("L", (1, 1)).save(tmp_path / "dot.png")
    bomb(tmp_path / "bomb.png")
    (tmp_path / "folder").mkdir()
    bad = [
        tmp_path / name
        for name in (
            "text.jpg",
            "empty.png",
            "cut.jpg",
            "dot.png",
            "bomb.png",
            "folder",
            "absent.png",
            "no*match.png",
        )
    ]
    mixed = [path for pair in zip(bad, [good] * len(bad), strict=True) for path in pair]
    answers = predictor.predict(mixed)
    assert [answer.status == "error" for answer in answers] == [True, False] * len(bad)
    for answer, path in zip(answers[::2], bad, strict=True):
        assert answer.path == str(path)
        assert answer.probabilities is None
        assert answer.label is None
        assert answer.reason
        assert "\n" not in answer.reason


def test_folders_stand_for_their_pictures_and_hidden_ones_are_skipped(
    predictor: Predictor, scans: Path, tmp_path: Path
) -> None:
    for name in ("b.png", "a.png", ".hidden.png", "sub/c.png", ".cache/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(a_scan(scans).read_bytes())
    (tmp_path / "notes.txt").write_text("hello")
    answers = predictor.predict(tmp_path)
    assert [Path(answer.path).name for answer in answers] == ["a.png", "b.png", "c.png"]
    assert len(predictor.predict(str(tmp_path / "*.png"))) == 2


def test_a_pattern_names_a_picture_once_and_no_file_that_is_none(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "odd.xyz", "sub/b.png", "sub/deep/c.png"):
        (tmp_path / "study" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "study" / name).write_bytes(a_scan(scans).read_bytes())
    for name in ("predictions.jsonl", "notes.txt", "broken.png"):
        (tmp_path / "study" / name).write_text("no picture")
    monkeypatch.chdir(tmp_path / "study")

    def named(pattern: str) -> dict[str, bool]:
        rows = predictor.predict(pattern)
        assert len({row.path for row in rows}) == len(rows)
        return {Path(row.path).as_posix(): row.status != "error" for row in rows}

    everything = {"a.png": True, "broken.png": False, "sub/b.png": True, "sub/deep/c.png": True}
    assert named("**") == named("**/*") == named("*") == everything
    assert named("../study/**") == {f"../study/{name}": read for name, read in everything.items()}
    assert named("*/**") == {"sub/b.png": True, "sub/deep/c.png": True}
    assert named("**/*.png") == everything
    assert named("o*") == {"odd.xyz": True}  # named by its beginning: tried, whatever its ending
    assert named("*.txt") == {"notes.txt": False}
    (tmp_path / "study" / "sub" / "deep" / "c.png").rename("c.png")
    assert named("sub/deep/*") == {"sub/deep/*": False}


def test_the_path_of_an_answer_is_the_one_that_was_given(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a: b").mkdir()
    (tmp_path / "keep.png").write_bytes(a_scan(scans).read_bytes())
    monkeypatch.chdir(tmp_path)
    given = ["./keep.png", "./absent.png", "a: b", "c: d*.png", ""]
    rows = predictor.predict(given)
    assert [row.path for row in rows] == given
    assert [row.status == "error" for row in rows] == [False, True, True, True, True]  # "" is not the folder at hand
    assert "empty path" in (rows[-1].reason or "")


def test_the_slices_of_a_series_are_named_as_they_were_given(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever joins answers to a table by path finds each of them, in the order of the series."""
    names = [path.name for path in write_series(tmp_path / "series", np.full((4, 64, 64), 90, np.int16))]
    monkeypatch.chdir(tmp_path)
    given = [f"./series/{name}" for name in sorted(names)]
    assert [row.path for row in predictor.predict(given)] == [f"./series/{name}" for name in names]


def test_what_is_no_source_is_an_error_row_that_says_what_to_give(predictor: Predictor, scans: Path) -> None:
    good = a_scan(scans)
    with Image.open(good) as picture:
        rows = predictor.predict([picture, None, good])  # type: ignore[list-item]
    assert [row.status == "error" for row in rows] == [True, True, False]
    assert "np.asarray(picture)" in (rows[0].reason or "") and "got NoneType" in (rows[1].reason or "")


def test_one_channel_in_an_axis_of_its_own_is_one_slice(predictor: Predictor, scans: Path) -> None:
    with Image.open(a_scan(scans)) as picture:
        pixels = np.asarray(picture.convert("L"))
    (plain,), (apart,) = predictor.predict(pixels), predictor.predict(pixels[:, :, None])
    assert plain.probabilities == apart.probabilities and apart.slice is None


def test_what_a_terminal_would_obey_is_written_out(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names come from downloads and archives: one could set a window's title, or look like another row."""
    good, bad = "new\nline\x1b[31mred.png", "title\x1b]0;owned\x07 \u202egnp.png"
    (tmp_path / good).write_bytes(a_scan(scans).read_bytes())
    (tmp_path / bad).write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", good, bad]) == 1
    said = capsys.readouterr()
    assert "new\\nline\\x1b[31mred.png" in said.out and "title\\x1b]0;owned\\x07 \\u202egnp.png" in said.err
    for text in (said.out, said.err):
        assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert len(said.out.splitlines()) == 4, "a header, two rows and the notice"


def test_answers_are_not_judged_in_their_turn_but_scans_that_lie_beside_them_are(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("study/1/a.png", "study/2/b.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(a_scan(scans).read_bytes())
    volume = [Image.open(a_scan(scans)).resize((64, 64)) for _ in range(3)]
    volume[0].save(tmp_path / "study/1/v.tif", save_all=True, append_images=volume[1:])
    monkeypatch.chdir(tmp_path)
    call = ["predict", "--model", str(run), "--format", "json", "--out"]
    judged = []
    for source, out in (("study/1", "study/1"), ("study", "study/answers"), ("study", "study/answers")):
        assert cli.main([*call, out, source]) == 0
        lines = capsys.readouterr().out.splitlines()
        judged.append({Path(json.loads(line)["path"]).as_posix() for line in lines})
    first = {"study/1/a.png", "study/1/v.tif"}
    assert judged == [first, first | {"study/2/b.png"}, first | {"study/2/b.png"}]
    written = {path.name for path in (tmp_path / "study").rglob("*")}
    assert {"predictions.jsonl", "a-evidence.png", "v-montage.png", "study.html"} <= written


def test_a_sub_folder_whose_pictures_cannot_be_reached_is_a_row(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("study/a.png", "study/locked/b.png", "elsewhere/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(a_scan(scans).read_bytes())
    study, scandir = tmp_path / "study", os.scandir
    (study / "link").symlink_to(tmp_path / "elsewhere")
    (study / "circle").symlink_to(study)  # its pictures are met where they are

    def locked(path: str) -> object:  # root may enter every folder, so the refusal is played
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    rows = predictor.predict(study)
    reasons = {str(Path(row.path).relative_to(study)): row.reason for row in rows if row.status == "error"}
    assert set(reasons) == {"link", "locked"}
    assert "Permission denied" in (reasons["locked"] or "")
    assert "not followed" in (reasons["link"] or "")
    assert [Path(row.path).name for row in rows if row.status != "error"] == ["a.png"]
    assert [row.path for row in predictor.predict(study / "locked")] == [str(study / "locked")]


def test_refused_referred_and_answered(predictor: Predictor, scans: Path) -> None:
    path = a_scan(scans)
    classes = len(predictor.card.classes)
    strict = accepting(predictor, outlier_threshold=0.0).predict(path)[0]
    assert (strict.status, strict.label) == ("rejected", None)
    assert strict.probabilities
    assert "outlier score" in (strict.reason or "")
    torn = accepting(predictor, outlier_threshold=1e9, conformal_thresholds=(0.0,) * classes).predict(path)[0]
    assert torn.status == "refer"
    assert torn.label is not None
    assert torn.prediction_set == list(predictor.card.classes)
    best = torn.confidence or 0  # rounded
    others = tuple(2.0 if name == torn.label else 0.0 for name in predictor.card.classes)
    astray = accepting(predictor, outlier_threshold=1e9, conformal_thresholds=others).predict(path)[0]
    assert astray.status == "refer"
    lone = next(name for name in predictor.card.classes if name != torn.label)
    only = tuple(0.0 if name == lone else 2.0 for name in predictor.card.classes)
    elsewhere = accepting(predictor, outlier_threshold=1e9, conformal_thresholds=only).predict(path)[0]
    assert (elsewhere.status, elsewhere.prediction_set) == ("refer", [lone])  # one class, but not the leading one
    assert elsewhere.reason == why_referred(elsewhere.label or "", [lone], predictor.card.conformal_coverage)
    sure = accepting(predictor, outlier_threshold=1e9, conformal_thresholds=(best - 1e-6,) * classes).predict(path)[0]
    assert (sure.status, sure.reason) == ("ok", None)
    assert sure.prediction_set == [sure.label]
    none = accepting(predictor, outlier_threshold=1e9, conformal_thresholds=(1.1,) * classes).predict(path)[0]
    assert none.status == "refer"
    assert none.prediction_set == []


def test_a_referral_says_what_the_prediction_set_holds() -> None:
    assert why_referred("notumor", ["meningioma"], 0.95) == (
        "too uncertain: the most probable class, notumor, is not in the 95% prediction set (meningioma)"
    )
    assert why_referred("notumor", ["glioma", "notumor"], 0.9) == (
        "too uncertain: the 90% prediction set is glioma and notumor"
    )
    assert why_referred("notumor", [], 0.95) == "too uncertain: the 95% prediction set is empty"


def test_a_colour_picture_is_no_scan(predictor: Predictor) -> None:
    colourful = np.zeros((64, 64, 3), np.uint8)
    colourful[:, :32] = (220, 30, 30)
    colourful[:, 32:] = (20, 60, 230)
    content = io.BytesIO()
    Image.fromarray(colourful).save(content, "PNG")
    answer = accepting(predictor, outlier_threshold=1e9).predict(content.getvalue())[0]
    assert answer.status == "rejected"
    assert "coloured" in (answer.reason or "")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_an_array_in_colour_is_no_scan_either(predictor: Predictor, scans: Path, kind: type) -> None:
    grey = np.asarray(Image.open(a_scan(scans)))
    full = 1 if kind is np.float32 else np.iinfo(kind).max
    coloured = (np.stack([grey, 255 - grey, grey], axis=2) / 255 * full).astype(kind)
    three_equal = np.repeat(coloured[..., :1], 3, axis=2)
    open_to_all = accepting(predictor, outlier_threshold=1e9)
    rejected, answered = open_to_all.predict([coloured, three_equal])
    assert rejected.status == "rejected"
    assert "coloured" in (rejected.reason or "")
    assert answered.status != "rejected"
    transparent = np.concatenate([coloured, np.zeros_like(coloured[..., :1])], axis=2)
    assert open_to_all.predict(transparent)[0].status != "rejected", "what is not seen has no colour"


def test_answers_that_are_replaced_are_counted(
    run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = [Image.open(a_scan(scans)).resize((64, 64)) for _ in range(3)]
    volume, out = tmp_path / "v.tif", tmp_path / "out"
    pages[0].save(volume, save_all=True, append_images=pages[1:])
    call = ["predict", str(volume), "--model", str(run), "--out", str(out), "--no-cam"]
    said = []
    for _ in range(2):
        assert cli.main(call) == 0
        said.append(capsys.readouterr().err)
    assert "replaces" not in said[0]
    assert f"{out / 'predictions.jsonl'}: replaces 3 answers of an earlier call" in said[1]
    assert f"{out / 'study.json'}: replaces 1 study of an earlier call" in said[1]


@pytest.mark.parametrize(
    ("value", "style", "said"),
    [
        (0.994, ".0%", "99%"), (0.995001, ".0%", "> 99%"), (1.0, ".0%", "> 99%"), (0.94, ".0%", "94%"),
        (0.994, ".2f", "0.99"), (0.999, ".2f", "> 0.99"), (1.0, ".3f", "> 0.999"), (0.0, ".2f", "0.00"),
    ],
)  # fmt: skip
def test_no_probability_is_stated_as_certain(value: float, style: str, said: str) -> None:
    assert stated(value, style) == said


def test_without_maps_the_answer_is_the_same(predictor: Predictor, scans: Path) -> None:
    with_map, without = predictor.predict(a_scan(scans))[0], predictor.predict(a_scan(scans), cam=False)[0]
    assert without.cam is None
    assert with_map.probabilities == without.probabilities


@pytest.mark.parametrize("call", ["predict", "split", "models", "version"])
def test_torch_is_never_imported(call: str, run: Path, scans: Path, tmp_path: Path) -> None:
    arguments = {
        "predict": [
            "predict",
            str(a_scan(scans)),
            "--model",
            str(run),
            "--out",
            str(tmp_path / "o"),
            "--format",
            "json",
        ],
        "split": ["split", str(scans / "data"), "--out", str(tmp_path / "s.csv")],
        "models": ["models", "--format", "json"],
        "version": ["--version"],
    }[call]
    program = (
        "import sys; from braincam.cli import main\n"
        "try:\n    code = main(sys.argv[1:])\nexcept SystemExit as end:\n    code = end.code\n"
        "sys.exit(40 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_predictions_do_not_depend_on_the_number_of_threads(run: Path, scans: Path) -> None:
    def probabilities(answer: Prediction) -> list[float]:
        return list((answer.probabilities or {}).values())

    one, two = (Predictor(run, threads=n).predict(a_scan(scans))[0] for n in (1, 2))
    assert probabilities(one) == pytest.approx(probabilities(two), abs=1e-5)


def test_a_path_that_no_file_system_takes_is_a_row_and_costs_the_others_nothing(scans: Path, run: Path) -> None:
    good = next((scans / "data").rglob("*.png"))
    rows = Predictor(run / "model.onnx").predict(["x" * 5000, good])
    assert [row.status == "error" for row in rows] == [True, False]


def test_a_volume_is_bounded_by_the_size_of_its_slices_not_of_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    from braincam import sources
    from braincam.images import grey

    monkeypatch.setattr(grey, "SizeLimits", partial(grey.SizeLimits, pixels=1000))
    volume = np.linspace(0, 1, 12 * 30 * 30, dtype=np.float32).reshape(12, 30, 30)
    slices = sources._from_array(volume)
    assert len(slices) == 12
    assert (slices[0].pixels.min(), slices[-1].pixels.max()) == (0, 255)  # scaled as a whole
    volume[0, 0, 0] = 100
    hot = sources._from_array(volume)[5].pixels.astype(int)
    assert np.abs(hot - slices[5].pixels).max() <= 1, "one hot voxel does not darken the rest"
    with pytest.raises(ImageError, match="pixels"):
        sources._from_array(np.zeros((2, 40, 40), np.float32))


def test_what_was_answered_before_an_interruption_is_kept(
    predictor: Predictor, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from braincam.printing import print_predictions

    def interrupted() -> Iterator[Prediction]:
        yield from predictor.predict(a_scan(scans))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        print_predictions(interrupted(), "json", tmp_path)
    kept = (tmp_path / "predictions.jsonl").read_text(encoding="utf-8")
    assert kept == capsys.readouterr().out
    assert len(kept.splitlines()) == 1


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="names of any bytes exist on Linux only")
def test_a_name_that_is_no_text_costs_no_answers(run: Path, scans: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"M\xfcller.png")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / name).write_bytes(a_scan(scans).read_bytes())
    (tmp_path / "study" / "z.png").write_bytes(a_scan(scans).read_bytes())
    call = ["predict", str(tmp_path / "study"), "--model", str(run), "--out", str(tmp_path / "out"), "--format", "json"]
    done = subprocess.run([sys.executable, "-m", "braincam", *call], capture_output=True, text=True, check=True)
    assert [Path(json.loads(line)["path"]).name for line in done.stdout.splitlines()] == [name, "z.png"]
    assert (tmp_path / "out" / "predictions.jsonl").read_text(encoding="utf-8") == done.stdout


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="names of any bytes exist on Linux only")
def test_a_volume_whose_name_is_no_text_gets_its_page(run: Path, tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((64, 64), 40 * k, np.uint8)) for k in range(3)]
    path = tmp_path / os.fsdecode(b"M\xfcller.tif")
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert cli.main(["predict", str(path), "--model", str(run), "--out", str(tmp_path / "out")]) == 0
    studies = json.loads((tmp_path / "out" / "study.json").read_text(encoding="utf-8"))["studies"]
    assert [Path(study["path"]) for study in studies] == [path]
    assert (tmp_path / "out" / "study.html").is_file()


def test_a_slice_on_which_the_graph_fails_is_a_row_and_costs_the_others_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(run)
    sound = predictor.answer

    def fails(slices: np.ndarray, *, cam: bool = True) -> object:
        if (slices[:, 0, 0] == 7).any():
            raise RuntimeError("bad allocation\nsomewhere deep")
        return sound(slices, cam=cam)

    monkeypatch.setattr(predictor, "answer", fails)
    slices = np.random.default_rng(0).integers(8, 200, (5, 64, 64), dtype=np.uint8)
    slices[2, 0, 0] = 7
    rows = predictor.predict(slices)
    assert [row.status == "error" for row in rows] == [False, False, True, False, False]
    assert [row.slice for row in rows] == [0, 1, 2, 3, 4]
    assert rows[2].reason is not None
    assert "64 x 64" in rows[2].reason
    assert "deep" not in rows[2].reason


def test_large_slices_are_not_held_in_large_batches(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(run)
    sound, sizes = predictor.answer, []

    def counted(slices: np.ndarray, *, cam: bool = True) -> object:
        sizes.append(len(slices))
        return sound(slices, cam=cam)

    monkeypatch.setattr(predictor, "answer", counted)
    monkeypatch.setattr("braincam.predict.BATCH_PIXELS", 3 * 40 * 40)
    assert len(predictor.predict(np.random.default_rng(0).integers(0, 255, (7, 40, 40), dtype=np.uint8))) == 7
    assert sizes == [3, 3, 1]


def test_nothing_is_sent_or_kept_by_the_runtime(scans: Path, tmp_path: Path) -> None:
    """ONNX Runtime's official builds keep a device number, and send usage, unless they are told not to."""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    changed = {"HOME": str(home), "USERPROFILE": str(home), "XDG_CACHE_HOME": str(home), "TMPDIR": str(temporary)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "CI"))} | changed
    done = subprocess.run(
        [sys.executable, "-m", "braincam", "predict", str(a_scan(scans))],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
