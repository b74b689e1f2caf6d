"""Maps are measured as documented: worked out by hand, with the floors and the ceiling where they must lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from braincam.errors import BraincamError, DataError
from braincam.evaluation.localise import of_shape
from braincam.explain.localisation import (
    MEASURES,
    centre_map,
    compare,
    mask_file,
    mean_masks,
    otsu_threshold,
    perfect_map,
    random_map,
    read_mask,
    report,
    summarise,
)


def square(side: int = 40, low: int = 20, high: int = 30) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    mask[low:high, low:high] = True
    return mask


def test_the_hottest_pixel_counts_and_no_tolerance_is_given() -> None:
    inside, outside = np.zeros((10, 10)), np.zeros((10, 10))
    inside[6, 6] = outside[2, 6] = 1
    assert compare(inside, square()).hit == 1
    assert compare(outside, square()).hit == 0


def test_energy_and_overlap_worked_out_by_hand() -> None:
    mask = square()  # 100 of 1,600 pixels
    heat = np.zeros((40, 40), np.float32)
    heat[20:30, 20:25] = 3  # half of the mask
    heat[0:10, 0:5] = 1  # as many pixels outside
    heat[30:, 30:] = -50  # against the class: counts for nothing
    found = compare(heat, mask)
    assert found.energy == pytest.approx(150 / 200)
    assert found.area == pytest.approx(100 / 1600)
    assert found.iou_otsu == pytest.approx(50 / 100)  # Otsu parts the 3 from the rest
    assert found.dice_otsu == pytest.approx(2 * 50 / 150)
    assert found.iou_top2 == pytest.approx(32 / 100)  # 2 % are 32 pixels, all of them threes
    assert found.dice_top2 == pytest.approx(2 * 32 / 132)


def test_a_map_that_is_the_mask_is_perfect_and_one_without_evidence_is_nothing() -> None:
    mask = square()
    best = compare(mask.astype(np.float32), mask)
    assert (best.hit, best.energy, best.iou_otsu, best.dice_otsu) == (1, 1, 1, 1)
    none = compare(np.full((10, 10), -1.0), mask)
    assert (none.energy, none.iou_otsu, none.dice_otsu) == (0, 0, 0)
    flat = compare(np.ones((10, 10)), mask)
    assert flat.energy == pytest.approx(flat.area)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 1000))
def test_measures_stay_in_range_and_do_not_depend_on_the_map_s_unit(seed: int, unit: float) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((24, 30)) < 0.2
    mask[3, 4] = True
    heat = rng.normal(size=(6, 7)).astype(np.float32)
    found = compare(heat, mask)
    assert all(0 <= value <= 1 for value in found)
    assert found.dice_otsu >= found.iou_otsu and found.dice_top2 >= found.iou_top2
    assert compare(heat * unit, mask) == pytest.approx(found, abs=0.02)


def test_otsu_parts_two_heaps_between_them() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(2, 0.3, 900), rng.normal(8, 0.3, 100)]).clip(0)
    assert 3 < otsu_threshold(values) < 7
    assert otsu_threshold(np.zeros(5)) == 0


def test_the_ceiling_falls_with_the_map_s_resolution_and_the_floors_lie_far_below() -> None:
    mask = square(112, 43, 52)
    by_size = [compare(perfect_map(mask, (side, side)), mask) for side in (7, 14, 28)]
    energies = [found.energy for found in by_size]
    assert energies == sorted(energies) and energies[0] < 0.4 and energies[-1] > 0.6
    rng = np.random.default_rng(0)
    noise = [compare(random_map((28, 28), rng), mask) for _ in range(50)]
    assert np.mean([found.energy for found in noise]) == pytest.approx(mask.mean(), rel=0.05)
    assert centre_map((28, 28)).argmax() in (13 * 28 + 13, 13 * 28 + 14, 14 * 28 + 13, 14 * 28 + 14)


def test_the_label_only_map_leaves_out_the_slice_s_own_group(tmp_path: Path) -> None:
    (tmp_path / "glioma").mkdir()
    for number, corner in enumerate([(0, 0), (0, 0), (32, 32)]):
        mask = np.zeros((64, 64), np.uint8)
        mask[corner[0] : corner[0] + 8, corner[1] : corner[1] + 8] = 255
        Image.fromarray(mask).save(tmp_path / "glioma" / f"{number}.png")
    paths = [f"glioma/{number}.jpg" for number in range(4)]  # the last has no mask
    found = mean_masks(tmp_path, paths, ["glioma"] * 4, ["a", "a", "b", "c"])
    assert found.grids.shape[0] == 3
    for group, place in (("a", (32, 32)), ("b", (0, 0))):
        prior = found.without("glioma", group)
        assert prior is not None
        assert np.unravel_index(prior.argmax(), prior.shape) == place
        assert (prior > 0).sum() == 64
    assert found.without("meningioma", "a") is None


def test_masks_that_mark_nothing_are_told_beside_those_that_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "glioma").mkdir()
    white = np.zeros((16, 16, 3), np.uint8)
    white[2:4, 2:4] = 255
    red = white * np.array([1, 0, 0], np.uint8)  # as some tools draw a mask: too dark to count
    for number, picture in enumerate((white, red)):
        Image.fromarray(picture).save(tmp_path / "glioma" / f"{number}.png")
    found = mean_masks(tmp_path, ["glioma/0.jpg", "glioma/1.jpg"], ["glioma"] * 2, ["a", "b"])
    assert found.grids.shape[0] == 1
    said = capsys.readouterr().err
    assert "1 of 2 masks mark nothing" in said and "1.png" in said and "nearly white" in said


@pytest.mark.parametrize(("shape", "factor"), [((20, 30), 2.0), ((20, 30), 0.5), ((224, 224), 512 / 224)])
def test_a_mask_of_another_resolution_lies_where_the_lesion_is(shape: tuple[int, int], factor: float) -> None:
    mask = np.zeros([round(side * factor) for side in shape], bool)
    mask[: mask.shape[0] // 2, mask.shape[1] // 2 :] = True
    found = of_shape(mask, shape)
    assert found is not None and found.shape == shape
    assert found[: shape[0] // 2, shape[1] // 2 + 1 :].all() and found.mean() == pytest.approx(0.25, abs=0.02)
    assert of_shape(np.ones(shape, bool), shape) is not None


def test_a_mask_that_is_turned_or_of_another_picture_fits_no_slice() -> None:
    assert of_shape(np.ones((30, 20), bool), (20, 30)) is None
    assert of_shape(np.ones((512, 512), bool), (224, 200)) is None
    assert of_shape(np.ones((336, 300), bool), (224, 200)) is not None


def test_a_folder_that_holds_no_mask_is_an_error_that_says_where_masks_belong(tmp_path: Path) -> None:
    def refused(folder: Path) -> str:
        with pytest.raises(DataError) as found:
            mean_masks(folder, ["glioma/0.jpg", "glioma/1.jpg"], ["glioma"] * 2, ["a", "b"])
        return str(found.value)

    folder = tmp_path / "masks"
    assert f"{folder}: expected a folder of lesion masks with the same sub-folders as the data, got nothing" in (
        refused(folder)
    )
    (folder / "glioma").mkdir(parents=True)
    assert f"such as {folder / 'glioma' / '0.png'}; got none for 2 slices" in refused(folder)
    Image.new("L", (16, 16)).save(folder / "glioma" / "0.png")
    assert "got 1 that mark nothing for 2 slices" in refused(folder)
    assert "got a file" in refused(folder / "glioma" / "0.png")
    (folder / "glioma" / "1.png").write_bytes(b"no picture")
    with pytest.raises(BraincamError, match=r"1\.png"):
        mean_masks(folder, ["glioma/1.jpg"], ["glioma"], ["a"])


def test_intervals_are_over_groups_and_enrichment_is_a_ratio_of_means() -> None:
    mask = square()
    good, bad = compare(mask.astype(np.float32), mask), compare((~mask).astype(np.float32), mask)
    overlaps, groups = [good] * 8 + [bad] * 2, ["a"] * 8 + ["b"] * 2
    found = summarise(overlaps, groups)
    assert set(found) == set(MEASURES)
    assert found["pointing"] == {"value": 0.8, "ci95": [0.0, 1.0]}  # two groups: either may be drawn twice
    assert found["enrichment"]["value"] == pytest.approx(0.8 / mask.mean())
    assert summarise(overlaps, ["a"] * 10)["pointing"]["ci95"] is None
    facts = report({"this model": overlaps}, ["glioma"] * 8 + ["pituitary"] * 2, groups)
    assert facts is not None
    assert (facts["n"], facts["n_groups"], facts["hit_rate"], facts["ci95"]) == (10, 2, 0.8, [0.0, 1.0])
    assert facts["by_class"]["pituitary"]["maps"]["this model"]["pointing"]["value"] == 0
    assert report({"this model": []}, [], []) is None


def test_two_slices_whose_names_differ_in_their_endings_cannot_share_a_mask(tmp_path: Path) -> None:
    (tmp_path / "glioma").mkdir()
    Image.fromarray(square().astype(np.uint8) * 255).save(tmp_path / "glioma" / "0.png")
    with pytest.raises(DataError, match=r"got that of glioma/0\.jpg and of glioma/0\.png"):
        mean_masks(tmp_path, ["glioma/0.jpg", "glioma/0.png"], ["glioma"] * 2, ["a", "b"])
    assert len(mean_masks(tmp_path, ["glioma/0.jpg", "glioma/1.png"], ["glioma"] * 2, ["a", "b"]).labels) == 1


def test_a_slice_without_a_mask_has_none_and_a_volume_is_no_mask(tmp_path: Path) -> None:
    assert read_mask(tmp_path, "absent.jpg") is None
    Image.fromarray(square().astype(np.uint8) * 255).save(tmp_path / "a.png")
    found = read_mask(tmp_path, "a.jpg")
    assert found is not None and (found == square()).all()
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 255)]
    frames[0].save(tmp_path / "b.tif", save_all=True, append_images=frames[1:])
    (tmp_path / "b.tif").rename(tmp_path / "b.png")
    with pytest.raises(BraincamError, match="b.png"):
        read_mask(tmp_path, "b.jpg")


def test_slices_named_by_uid_have_a_mask_each(tmp_path: Path) -> None:
    assert mask_file(tmp_path, "glioma/1.2.840.101") == tmp_path / "glioma" / "1.2.840.101.png"
    assert mask_file(tmp_path, "glioma/1.2.840.102") == tmp_path / "glioma" / "1.2.840.102.png"
    assert mask_file(tmp_path, "glioma/a.b.jpg") == tmp_path / "glioma" / "a.b.png"
