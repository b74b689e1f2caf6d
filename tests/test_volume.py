"""Grids, series and stacks: a pixel keeps its place in the patient, whatever order files and axes come in."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braincam.errors import ConfigError
from braincam.images import read_slices, series
from braincam.images.grey import square_pixels, stretch
from braincam.images.reader import Reading
from braincam.images.series import SeriesSlice, files_of_directory, in_series, is_directory_of_media, read_header
from braincam.images.volume import LPS_TO_RAS, Plane, stacks
from braincam.predict import Prediction, Predictor
from dicom_files import enhanced, write_index, write_series, written

FAST = settings(max_examples=40, deadline=None, derandomize=True)
SHAPE = (18, 20, 24)
PLANES = ("axial", "coronal", "sagittal")
TURNS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return Predictor(run, threads=1)


def a_volume(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1000, shape).astype(np.int16)


def windowed(volume: np.ndarray) -> np.ndarray:
    return stretch(volume, *np.percentile(volume, (0.5, 99.5)))


# --- NIfTI -----------------------------------------------------------------------------------------------


@FAST
@given(st.sampled_from(TURNS), st.sampled_from((None, *PLANES)))
def test_pictures_go_back_to_where_they_are_stored(
    turn: tuple[tuple[int, ...], tuple[int, ...]], plane: str | None
) -> None:
    canonical = nib.Nifti1Image(a_volume(), np.diag([1.0, 1.0, 1.0, 1.0]))
    turned = canonical.as_reoriented(np.column_stack(turn))
    slices = read_slices(turned.to_bytes(), Reading(plane=plane))
    grid = slices[0].volume.grid  # type: ignore[union-attr]
    assert grid is not None
    assert all(item.volume is slices[0].volume for item in slices)
    pictures = np.stack([item.pixels for item in slices])
    assert pictures.shape == grid.pictures
    np.testing.assert_array_equal(grid.store(pictures), windowed(np.asarray(turned.dataobj)))
    np.testing.assert_allclose(grid.affine, turned.affine)


@pytest.mark.parametrize(("plane", "count"), [("axial", 24), ("coronal", 20), ("sagittal", 18), (None, 24)])
def test_a_plane_can_be_asked_for(plane: str | None, count: int) -> None:
    blob = nib.Nifti1Image(a_volume(), np.eye(4)).to_bytes()
    assert len(read_slices(blob, Reading(plane=plane))) == count


def test_any_volume_of_a_series_can_be_asked_for_and_no_other() -> None:
    volumes = [a_volume(seed) for seed in range(3)]
    blob = nib.Nifti1Image(np.stack(volumes, axis=-1), np.eye(4)).to_bytes()
    for number, volume in enumerate(volumes):
        slices = read_slices(blob, Reading(volume=number))
        np.testing.assert_array_equal(
            slices[0].volume.grid.store(np.stack([s.pixels for s in slices])),  # type: ignore[union-attr]
            windowed(volume),
        )
        assert {s.volume.chosen for s in slices} == {(number, 3)}  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="from 0 to 2, got 3"):
        read_slices(blob, Reading(volume=3))


def test_a_cut_through_thick_slices_keeps_the_shape_of_the_head() -> None:
    blob = nib.Nifti1Image(a_volume(), np.diag([1.0, 1.0, 4.0, 1.0])).to_bytes()
    coronal = read_slices(blob, Reading(plane="coronal"))
    assert coronal[0].pixels.shape == (4 * SHAPE[2], SHAPE[0])
    assert coronal[0].volume.grid.pictures == (SHAPE[1], SHAPE[2], SHAPE[0])  # type: ignore[union-attr]


def test_a_few_thick_slices_are_enough_to_cut_through() -> None:
    few = a_volume(shape=(18, 20, 6))
    coronal = read_slices(nib.Nifti1Image(few, np.diag([1.0, 1.0, 4.0, 1.0])).to_bytes(), Reading(plane="coronal"))
    assert [item.pixels.shape for item in coronal] == [(24, 18)] * 20
    with pytest.raises(ValueError, match="at least 16 x 16 pixels, got 18 x 12"):
        read_slices(nib.Nifti1Image(few, np.diag([1.0, 1.0, 2.0, 1.0])).to_bytes(), Reading(plane="coronal"))
    with pytest.raises(ValueError, match="at most"):
        read_slices(nib.Nifti1Image(few, np.diag([1.0, 1.0, 1e9, 1.0])).to_bytes(), Reading(plane="coronal"))


def test_only_clearly_oblong_pixels_are_resampled() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30), np.uint8)
    assert square_pixels(pixels, 1.05, 1.0) is pixels
    assert square_pixels(pixels, 1.0, 2.0).shape == (40, 60)


def test_a_wrong_plane_or_number_is_an_error_at_once(predictor: Predictor) -> None:
    for wrong in ({"plane": "oblique"}, {"volume": -1}):
        with pytest.raises(ConfigError, match="expected"):
            predictor.stream([], **wrong)  # type: ignore[arg-type]


# --- DICOM series ----------------------------------------------------------------------------------------


def turned_about(axis: np.ndarray, degrees: float, vector: np.ndarray) -> np.ndarray:
    axis = axis / np.linalg.norm(axis)
    t = np.deg2rad(degrees)
    return vector * np.cos(t) + np.cross(axis, vector) * np.sin(t) + axis * (axis @ vector) * (1 - np.cos(t))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.2), st.floats(-90, 90), st.booleans())
def test_every_pixel_of_a_series_has_its_place_in_the_patient(
    run: Path, tmp_path_factory: pytest.TempPathFactory, axis: tuple[float, float, float], angle: float, tilted: bool
) -> None:
    folder = tmp_path_factory.mktemp("series")
    row, column = (turned_about(np.array(axis), angle, np.eye(3)[k]) for k in range(2))
    step = 4 * np.cross(row, column) + (0.7 * column if tilted else 0)  # a tilted gantry shears the volume
    planes = a_volume(1, (5, 20, 24))
    paths = write_series(folder, planes, along_row=tuple(row), down_column=tuple(column), step=tuple(step))
    answers = Predictor(run, threads=1).predict(folder)
    assert [answer.path for answer in answers] == [str(path) for path in paths]
    assert [answer.slice for answer in answers] == list(range(5))
    grid = answers[0].volume.grid  # type: ignore[union-attr]
    assert grid is not None
    assert grid.shape == (24, 20, 5)
    number = np.random.default_rng(2)
    for _ in range(10):
        k, r, c = (int(number.integers(size)) for size in planes.shape)
        lps = np.array([-30, -40, 50]) + k * step + r * 1.5 * column + c * 1.25 * row
        ras = grid.affine @ [c, r, k, 1]
        np.testing.assert_allclose(ras[:3], lps * [-1, -1, 1], atol=1e-3)


def names(answers: list[Prediction]) -> list[str]:
    """The volume of each answer, neighbours joined."""
    found = [answer.volume.name if answer.volume else "alone" for answer in answers]
    return [str(name) for name, _ in itertools.groupby(found)]


def test_series_of_one_folder_are_told_apart(predictor: Predictor, tmp_path: Path) -> None:
    first = write_series(tmp_path / "study", a_volume(1, (4, 20, 24)), seed=1)
    second = write_series(tmp_path / "other", a_volume(2, (5, 20, 24)), seed=2)
    for path in second:
        shutil.move(path, tmp_path / "study" / f"Z{path.name}")
    answers = predictor.predict(tmp_path / "study")
    assert [answer.slice for answer in answers] == [*range(4), *range(5)]
    assert names(answers) == [f"{tmp_path / 'study'} (series 1)", f"{tmp_path / 'study'} (series 2)"]
    assert [answer.path for answer in answers[:4]] == [str(path) for path in first]


def test_a_series_given_file_by_file_or_over_several_folders_is_one(predictor: Predictor, tmp_path: Path) -> None:
    paths = write_series(tmp_path / "a", a_volume(1, (4, 20, 24)), series="1.2.3")
    more = write_series(tmp_path / "b", a_volume(2, (3, 20, 24)), series="1.2.3", origin=(-30, -40, 66))
    for sources in (tmp_path, [*paths[::-1], *more]):
        answers = predictor.predict(sources)  # type: ignore[arg-type]
        assert [answer.path for answer in answers] == [str(path) for path in (*paths, *more)]
        assert names(answers) == [str(tmp_path)]


def test_a_bad_value_in_a_header_is_heard_of_nowhere(
    predictor: Predictor, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for path in write_series(tmp_path, a_volume(1, (3, 20, 24)), AcquisitionNumber=77777777):
        path.write_bytes(path.read_bytes().replace(b"77777777", b"Doe^Jane"))  # pydicom warns of it, quoting it
    caplog.clear()
    answers = predictor.predict(tmp_path)
    assert [answer.slice for answer in answers] == [0, 1, 2], "it does not cost the series its order"
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    assert not any("Doe" in (answer.reason or "") for answer in answers)


def test_relative_and_absolute_paths_may_be_mixed(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = write_series(Path("scan"), a_volume(1, (2, 20, 24)))
    answers = predictor.predict([first, second.resolve()])
    assert [answer.slice for answer in answers] == [0, 1]
    assert names(answers) == ["scan"]


def test_a_lone_file_stays_a_single_picture_and_pictures_beside_a_series_do_not_split_it(
    predictor: Predictor, scans: Path, tmp_path: Path
) -> None:
    paths = write_series(tmp_path, a_volume(1, (3, 20, 24)))
    assert predictor.predict(paths[0])[0].slice is None
    shutil.copy(next((scans / "data" / "glioma").glob("*.png")), tmp_path / "IM0001.png")
    answers = predictor.predict(tmp_path)
    assert [answer.slice for answer in answers] == [None, 0, 1, 2]


def test_echoes_at_the_same_places_make_volumes_of_their_own(predictor: Predictor, tmp_path: Path) -> None:
    write_series(tmp_path / "1", a_volume(1, (4, 20, 24)), series="1.2.3", AcquisitionNumber=1)
    write_series(tmp_path / "2", a_volume(2, (4, 20, 24)), series="1.2.3", AcquisitionNumber=2)
    answers = predictor.predict(tmp_path)
    assert [answer.slice for answer in answers] == [*range(4), *range(4)]
    assert {Path(answer.path).parent.name for answer in answers[:4]} == {"1"}


@pytest.mark.parametrize("told_apart_by", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_two_examinations_with_one_series_number_are_not_interleaved(
    predictor: Predictor, tmp_path: Path, told_apart_by: str
) -> None:
    for name, height in (("1", 50), ("2", 52)):
        planes = a_volume(int(name), (4, 20, 24))
        place = {"origin": (-30, -40, height), told_apart_by: f"1.2.{name}"}
        write_series(tmp_path / name, planes, series="1.2.3", **place)  # type: ignore[arg-type]
    answers = predictor.predict(tmp_path)
    assert [answer.slice for answer in answers] == [*range(4), *range(4)]
    assert names(answers) == [str(tmp_path / "1"), str(tmp_path / "2")]


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize(
    "told_by",
    [
        *("AcquisitionNumber", "EchoNumbers", "TemporalPositionIdentifier", "EchoTime", "InversionTime"),
        *("DiffusionBValue", "ImageType"),
    ],
)
def test_a_missing_file_does_not_interleave_two_echoes(
    predictor: Predictor, tmp_path: Path, told_by: str, lost: int
) -> None:
    kinds = {1: ["ORIGINAL", "PRIMARY", "M"], 2: ["ORIGINAL", "PRIMARY", "P"]}
    values: dict[int, Any] = kinds if told_by == "ImageType" else {1: 1, 2: 2}
    echoes = [
        write_series(tmp_path / str(k), a_volume(k, (4, 20, 24)), series="1.2.3", **{told_by: values[k]})  # type: ignore[arg-type]
        for k in (1, 2)
    ]
    echoes[lost].pop(1).unlink()
    answers = predictor.predict(tmp_path)
    assert [answer.path for answer in answers] == [str(path) for echo in echoes for path in echo]
    whole, part = (answers[:4], answers[4:]) if lost else (answers[3:], answers[:3])
    assert whole[0].volume is not None
    assert whole[0].volume.grid is not None
    assert problem(part) == "some of its slices are missing"


def test_stacks_of_one_file_have_their_own_greys_as_files_of_their_own_have(predictor: Predictor) -> None:
    """Phase beside magnitude: its values reach ten times as far."""
    magnitude, phase = a_volume(1, (3, 20, 24)), a_volume(2, (3, 20, 24)) * 10
    together = predictor.predict(written(enhanced(np.concatenate([magnitude, phase]), [0, 1, 2, 0, 1, 2])))
    for stack, own in zip((together[:3], together[3:]), (magnitude, phase), strict=True):
        alone = predictor.predict(written(enhanced(own, [0, 1, 2])))
        for one, other in zip(stack, alone, strict=True):  # each frame is rescaled in its own way, and rounded
            assert one.pixels is not None and other.pixels is not None
            np.testing.assert_allclose(one.pixels.astype(int), other.pixels.astype(int), atol=1)


def test_visits_that_nothing_tells_apart_are_taken_in_turn_and_have_no_map(
    predictor: Predictor, tmp_path: Path
) -> None:
    for k in (1, 2):
        write_series(tmp_path / str(k), a_volume(k, (4, 20, 24)), series="1.2.3", seed=k)[k].unlink()
    answers = predictor.predict(tmp_path)
    assert [answer.slice for answer in answers] == [*range(4), *range(2)]
    assert "nothing tells which belong together" in (problem(answers[:4]) or "")


def test_a_copied_file_is_no_second_slice_at_its_place(predictor: Predictor, tmp_path: Path) -> None:
    paths = write_series(tmp_path, a_volume(1, (4, 20, 24)))
    shutil.copy(paths[2], tmp_path / "copy")
    answers = predictor.predict(tmp_path)
    assert [(answer.path, answer.slice) for answer in answers if answer.slice is not None] == [
        (str(path), k) for k, path in enumerate(paths)
    ]
    assert all(answer.volume.grid is not None for answer in answers if answer.volume)
    assert len(answers) == 5, "the copy is answered alone"


def test_one_identifier_in_every_slice_does_not_take_a_series_apart(predictor: Predictor, tmp_path: Path) -> None:
    for path in write_series(tmp_path, a_volume(1, (4, 20, 24))):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        path.write_bytes(written(dataset))
    assert [answer.slice for answer in predictor.predict(tmp_path)] == [0, 1, 2, 3]


def test_a_localiser_in_the_series_stands_apart(predictor: Predictor, tmp_path: Path) -> None:
    write_series(tmp_path, a_volume(1, (4, 20, 24)), series="1.2.3")
    (other,) = write_series(tmp_path / "x", a_volume(2, (1, 20, 24)), series="1.2.3", along_row=(0, 1, 0),
                            down_column=(0, 0, -1))  # fmt: skip
    answers = predictor.predict(tmp_path)
    assert [answer.slice for answer in answers if answer.path == str(other)] == [None]
    assert sum(answer.slice is not None for answer in answers) == 4


def problem(answers: list[Prediction]) -> str:
    assert answers[0].volume is not None
    assert answers[0].volume.grid is None
    return answers[0].volume.problem or ""


def test_a_series_with_a_gap_or_without_places_has_no_grid_but_is_answered(
    predictor: Predictor, tmp_path: Path
) -> None:
    paths = write_series(tmp_path / "gap", a_volume(1, (6, 20, 24)))
    paths[2].unlink()
    answers = predictor.predict(tmp_path / "gap")
    assert [answer.path for answer in answers] == [str(path) for path in (*paths[:2], *paths[3:])]
    assert "evenly" in problem(answers)
    for path in write_series(tmp_path / "lost", a_volume(1, (4, 20, 24))):
        dataset = pydicom.dcmread(path)
        del dataset.ImagePositionPatient
        path.write_bytes(written(dataset))
    answers = predictor.predict(tmp_path / "lost")
    assert [Path(answer.path).name for answer in answers] == ["IM0000", "IM0001", "IM0002", "IM0003"]
    assert "where they lie" in problem(answers)


@pytest.mark.parametrize(
    ("spacing", "said"),
    [
        ([0.4688, 0.4688], None),
        ([0.5, 0.46875], "its slices do not share one pixel spacing"),
        (None, "its slices do not say how far apart their pixels lie"),
    ],
)
def test_a_spacing_that_is_only_rounded_differently_costs_no_map(
    predictor: Predictor, tmp_path: Path, spacing: list[float] | None, said: str | None
) -> None:
    paths = write_series(tmp_path, a_volume(1, (4, 20, 24)), spacing=(0.46875, 0.46875))
    dataset = pydicom.dcmread(paths[2])
    dataset.PixelSpacing = spacing
    paths[2].write_bytes(written(dataset))
    volume = predictor.predict(tmp_path)[0].volume
    assert volume is not None
    assert (volume.grid is None, volume.problem) == (said is not None, said)


def test_a_damaged_file_costs_the_series_one_slice(predictor: Predictor, tmp_path: Path) -> None:
    paths = write_series(tmp_path, a_volume(1, (5, 20, 24)))
    paths[2].write_bytes(paths[2].read_bytes()[:-200])
    answers = predictor.predict(tmp_path)
    assert [answer.status == "error" for answer in answers] == [False, False, True, False, False]
    assert [answer.slice for answer in answers] == list(range(5))


def test_a_series_without_windows_is_scaled_as_a_whole_and_its_own_windows_count(
    predictor: Predictor, tmp_path: Path
) -> None:
    planes = a_volume(3, (6, 40, 48))
    planes[0] //= 10
    write_series(tmp_path / "bare", planes)
    answers = predictor.predict(tmp_path / "bare")
    means = [float(answer.pixels.mean()) for answer in answers if answer.pixels is not None]
    assert means[0] < means[1] / 5, "a dark slice stays dark"
    assert np.ptp(means[1:]) < 10
    write_series(tmp_path / "own", planes, spacing=(1, 1), WindowCenter=500, WindowWidth=1001)
    shown = predictor.predict(tmp_path / "own")
    for answer, plane in zip(shown, planes, strict=True):
        np.testing.assert_allclose(answer.pixels, plane / 1000 * 255, atol=0.7)


def test_a_file_that_vanishes_while_a_series_is_sorted_costs_no_other_its_answer(tmp_path: Path) -> None:
    paths = write_series(tmp_path, a_volume(3, (4, 40, 48)))
    headers = [read_header(path) for path in paths]
    paths[1].unlink()
    found = [item for item in in_series(paths, headers) if isinstance(item, SeriesSlice)]
    assert [item.path for item in found] == paths
    assert found[0].limits is not None, "the others have their common scale"


def test_one_file_with_a_window_does_not_take_the_common_scale_from_the_others(
    predictor: Predictor, tmp_path: Path
) -> None:
    planes = a_volume(3, (6, 40, 48))
    planes[0] //= 10
    paths = write_series(tmp_path, planes, spacing=(1, 1))
    dataset = pydicom.dcmread(paths[3])
    dataset.WindowCenter, dataset.WindowWidth = 500, 1001
    paths[3].write_bytes(written(dataset))
    means = [float(answer.pixels.mean()) for answer in predictor.predict(tmp_path) if answer.pixels is not None]
    assert means[0] < means[1] / 5, "a dark slice stays dark"


def test_a_file_of_a_series_that_vanishes_after_sorting_is_a_row(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_series(tmp_path, a_volume(3, (4, 40, 48)))

    def meanwhile(given: list[Path], headers: Iterable[Any]) -> object:
        found = list(headers)
        paths[2].unlink()
        return series.in_series(given, found)

    monkeypatch.setattr("braincam.sources.in_series", meanwhile)
    answers = predictor.predict(tmp_path)
    assert [answer.status == "error" for answer in answers] == [False, False, True, False]
    assert "found nothing there" in (answers[2].reason or "")


def test_one_head_as_dicom_and_as_nifti_is_the_same_volume(predictor: Predictor, tmp_path: Path) -> None:
    planes = a_volume(4, (12, 40, 48))  # twelve slices: every file is sampled for the common scale
    write_series(tmp_path, planes, spacing=(1.5, 1.0))
    answers = predictor.predict(tmp_path)
    grid = answers[0].volume.grid  # type: ignore[union-attr]
    assert grid is not None
    blob = nib.Nifti1Image(grid.store(planes), grid.affine).to_bytes()
    slices = read_slices(blob)  # of the same directions: axial, from below upwards
    for item, answer in zip(slices, answers, strict=True):
        assert item.pixels.shape == (60, 48), "oblong pixels become square"
        assert answer.pixels is not None
        # a sixteenth of the pixels sets the scale of the series
        assert np.abs(item.pixels.astype(int) - answer.pixels).max() <= 8


# --- enhanced multi-frame --------------------------------------------------------------------------------


def test_frames_are_ordered_by_place_and_have_their_own_rescale_and_window() -> None:
    stored = np.stack([a_volume(k, (1, 20, 24))[0] for k in range(4)])
    order = [2, 0, 3, 1]
    slices = read_slices(written(enhanced(stored, order)))
    assert [item.index for item in slices] == [0, 1, 2, 3]
    for place, item in enumerate(slices):
        frame = order.index(place)
        np.testing.assert_allclose(item.pixels, np.clip(stored[frame] / 1000 * 255, 0, 255), atol=0.8)
    grid = slices[0].volume.grid  # type: ignore[union-attr]
    assert grid is not None
    np.testing.assert_allclose(grid.affine, LPS_TO_RAS @ np.diag([1, 1, 4, 1]))


def test_enhanced_files_of_one_frame_each_are_a_series_in_order(predictor: Predictor, tmp_path: Path) -> None:
    places = [3, 0, 4, 1, 2]
    for number, place in enumerate(places):
        dataset = enhanced(a_volume(number, (1, 20, 24)), [place])
        dataset.NumberOfFrames, dataset.SeriesInstanceUID, dataset.InstanceNumber = 1, "1.2.3", number
        dataset.SOPInstanceUID = f"1.2.3.{number}"
        (tmp_path / f"IM{number}").write_bytes(written(dataset))
    answers = predictor.predict(tmp_path)
    assert [Path(answer.path).name for answer in answers] == [f"IM{places.index(place)}" for place in range(5)]
    assert answers[0].volume is not None
    assert answers[0].volume.grid is not None, answers[0].volume.problem


def test_frames_at_repeated_places_are_two_volumes_numbered_on() -> None:
    stored = np.stack([a_volume(k, (1, 20, 24))[0] for k in range(6)])
    slices = read_slices(written(enhanced(stored, [0, 1, 2, 0, 1, 2])))
    assert [item.index for item in slices] == list(range(6))
    assert len({id(item.volume) for item in slices}) == 2
    assert slices[0].volume is slices[2].volume
    assert [item.volume.first for item in slices] == [0, 0, 0, 3, 3, 3]  # type: ignore[union-attr]


# --- DICOMDIR --------------------------------------------------------------------------------------------


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """A folder with a DICOMDIR and one series of four slices."""
    paths = write_series(tmp_path / "disc" / "DICOM", a_volume(1, (4, 20, 24)))
    write_index(tmp_path / "disc" / "DICOMDIR", [["DICOM", path.name] for path in paths])
    return tmp_path / "disc"


def test_a_dicomdir_stands_for_its_files(predictor: Predictor, disc: Path) -> None:
    answers = predictor.predict(disc / "DICOMDIR")
    assert [answer.slice for answer in answers] == [0, 1, 2, 3]
    assert all(answer.status != "error" for answer in answers)
    whole = predictor.predict(disc)  # found by the search, it is passed over
    assert [answer.path for answer in whole] == [answer.path for answer in answers]


def test_names_in_lower_case_are_found(predictor: Predictor, disc: Path) -> None:
    (disc / "DICOM").rename(disc / "dicom")
    for path in (disc / "dicom").iterdir():
        path.rename(path.with_name(path.name.lower()))
    assert [answer.status == "error" for answer in predictor.predict(disc / "DICOMDIR")] == [False] * 4


def test_a_dicomdir_whose_files_are_gone_or_damaged_is_an_error_row(predictor: Predictor, disc: Path) -> None:
    index = disc / "DICOMDIR"
    gone = files_of_directory(index)[1]
    gone.unlink()
    answers = predictor.predict(index)
    assert [answer.status for answer in answers].count("error") == 1
    assert next(answer for answer in answers if answer.status == "error").path == str(gone)
    write_index(index, [])
    assert is_directory_of_media(index)
    (row,) = predictor.predict(index)
    assert row.status == "error"
    assert "DICOMDIR" in (row.reason or "")


def test_a_dicomdir_cannot_name_files_elsewhere(predictor: Predictor, disc: Path) -> None:
    index = disc / "DICOMDIR"
    write_index(index, [["..", "elsewhere", "IM0000"]])
    (row,) = predictor.predict(index)
    assert row.status == "error"
    assert "outside" in (row.reason or "")


def test_slices_at_one_place_and_slices_of_another_shape_are_told_apart() -> None:
    here = Plane(
        shape=(20, 24), order=(0.0,) * 5, contrast=(), position=np.zeros(3), directions=np.eye(3)[:2], spacing=None
    )
    (found,) = stacks([here, here])
    assert (found.members, found.grid) == ((0, 1), None)
    assert "at one position" in (found.problem or "")
    assert len(stacks([here, replace(here, shape=(24, 20))])) == 2
    assert len(stacks([here, replace(here, position=None)])) == 2
    assert len(stacks([here, replace(here, directions=None)])) == 2
