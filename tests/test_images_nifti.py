"""NIfTI: the picture depends on the anatomy, not on how the voxels happen to be stored."""

from __future__ import annotations

import gzip
import itertools
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braincam.errors import ImageError
from braincam.images import read_slices

FAST = settings(max_examples=60, deadline=None, derandomize=True)
SHAPE = (20, 24, 28)  # right, anterior, superior
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}


def affine_of(spacing: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-7, 11, 5)
    return affine


def packed(
    array: np.ndarray,
    affine: np.ndarray,
    kind: type = nib.Nifti1Image,
    slope: tuple[float, float] | None = None,
) -> bytes:
    image = kind(array, affine)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    return image.to_bytes()


def pictures(blob: bytes) -> np.ndarray:
    slices = read_slices(blob)
    assert [item.index for item in slices] == list(range(len(slices)))
    return np.stack([item.pixels for item in slices])


def spacing_for(plane: str) -> tuple[float, float, float]:
    return tuple(4.0 if axis == AXES[plane] else 1.0 for axis in range(3))  # type: ignore[return-value]


RANDOM = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)
TURNS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


@FAST
@given(st.sampled_from(TURNS), st.sampled_from(sorted(AXES)))
def test_the_storage_order_does_not_show(turn: tuple[tuple[int, ...], tuple[int, ...]], plane: str) -> None:
    canonical = nib.Nifti1Image(RANDOM, affine_of(spacing_for(plane)))
    turned = canonical.as_reoriented(np.column_stack(turn))
    assert nib.aff2axcodes(turned.affine) != ("R", "A", "S") or turn == ((0, 1, 2), (1, 1, 1))
    np.testing.assert_array_equal(pictures(turned.to_bytes()), pictures(canonical.to_bytes()))


@pytest.mark.parametrize(
    ("plane", "spacing"),
    [
        ("sagittal", (4, 1, 1)),
        ("coronal", (1, 4, 1)),
        ("axial", (1, 1, 4)),
        ("axial", (1, 1, 1)),
        ("axial", (0.7, 0.667, 0.667)),  # nearly isotropic
        ("axial", (1, 1, 0.5)),
        ("sagittal", (1.2, 1, 1)),
    ],
)
def test_slices_lie_in_the_acquisition_plane(plane: str, spacing: tuple[float, float, float]) -> None:
    assert len(pictures(packed(RANDOM, affine_of(spacing)))) == SHAPE[AXES[plane]]


def lit(right: int, anterior: int, superior: int, plane: str) -> tuple[int, int, int]:
    """Slice, row and column where one bright voxel of a canonical volume shows up."""
    volume = np.zeros(SHAPE, np.float32)
    volume[right, anterior, superior] = 100
    shown = pictures(packed(volume, affine_of(spacing_for(plane))))
    assert (shown == 255).sum() == 1
    return tuple(int(k) for k in np.argwhere(shown == 255)[0])  # type: ignore[return-value]


def test_the_patients_left_is_on_the_right_and_anterior_is_up_in_axial_slices() -> None:
    number, row, column = lit(right=2, anterior=21, superior=10, plane="axial")  # small x: the patient's left
    assert number == 10
    assert row < SHAPE[1] / 4
    assert column > SHAPE[0] * 3 / 4


def test_the_patients_left_is_on_the_right_and_superior_is_up_in_coronal_slices() -> None:
    number, row, column = lit(right=2, anterior=7, superior=25, plane="coronal")
    assert number == 7
    assert row < SHAPE[2] / 4
    assert column > SHAPE[0] * 3 / 4


def test_superior_is_up_and_anterior_is_left_in_sagittal_slices() -> None:
    number, row, column = lit(right=5, anterior=22, superior=25, plane="sagittal")
    assert number == 5
    assert row < SHAPE[2] / 4
    assert column < SHAPE[1] / 4


def test_an_oblique_scan_is_cut_along_its_own_axes() -> None:
    angle = np.deg2rad(20)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    straight = affine_of((1, 1, 4))
    np.testing.assert_array_equal(pictures(packed(RANDOM, tilt @ straight)), pictures(packed(RANDOM, straight)))


# --- grey values -----------------------------------------------------------------------------------------


def test_the_volume_is_scaled_once_from_its_half_percent_tails() -> None:
    volume = np.random.default_rng(1).normal(500, 100, SHAPE).astype(np.float32)
    volume[:, :, 3] *= 0.1
    volume[0, 0, 0] = 1e6
    shown = pictures(packed(volume, affine_of((1, 1, 4))))
    low, high = np.percentile(volume, (0.5, 99.5))
    expected = np.clip((volume - low) / (high - low), 0, 1) * 255
    canonical = np.moveaxis(shown, 0, 2)[::-1, ::-1].swapaxes(0, 1)  # undo the picture orientation
    assert np.abs(canonical - expected).max() <= 0.5 + 1e-3
    assert shown[3].mean() < shown[4].mean() / 4, "a dark slice stays dark"


def test_nan_and_infinity_are_black() -> None:
    volume = np.random.default_rng(2).uniform(10, 20, SHAPE).astype(np.float32)
    volume[3, 4, 5], volume[3, 4, 6], volume[3, 4, 7] = np.nan, np.inf, -np.inf
    shown = pictures(packed(volume, affine_of((1, 1, 4))))
    row, column = SHAPE[1] - 1 - 4, SHAPE[0] - 1 - 3
    assert [shown[k, row, column] for k in (5, 6, 7)] == [0, 0, 0]
    assert shown.max() == 255
    assert not pictures(packed(np.full(SHAPE, np.nan, np.float32), affine_of())).any()


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64]
)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_voxel_type_byte_order_and_version_do_not_show(dtype: type, order: str, kind: type) -> None:
    volume = RANDOM % 100
    image = kind(volume.astype(dtype), affine_of((1, 1, 4)), header=kind.header_class(endianness=order), dtype=dtype)
    np.testing.assert_array_equal(pictures(image.to_bytes()), pictures(packed(volume, affine_of((1, 1, 4)))))


def test_slope_and_intercept_change_nothing_but_a_negative_slope_inverts() -> None:
    def stored(slope: float, inter: float) -> np.ndarray:
        header = nib.Nifti1Header()
        blob = bytearray(packed(RANDOM, affine_of((1, 1, 4))))
        at = header.template_dtype.fields["scl_slope"][1]
        blob[at : at + 8] = np.array([slope, inter], "<f4").tobytes()
        return pictures(bytes(blob)).astype(int)

    plain = stored(1, 0)
    for slope, inter in ((0, 0), (2.5, -1000), (np.nan, np.nan)):
        np.testing.assert_array_equal(stored(slope, inter), plain)
    assert np.abs(stored(-3, 10) - (255 - plain)).max() <= 1


def test_a_sparse_mask_is_seen_and_a_constant_volume_is_black() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[5:7, 5:7, 5:7] = 1
    shown = pictures(packed(mask, affine_of()))
    assert sorted(np.unique(shown)) == [0, 255]
    assert (shown == 255).sum() == 8
    assert not pictures(packed(np.full(SHAPE, 9, np.int16), affine_of())).any()


# --- files -----------------------------------------------------------------------------------------------


def test_packed_and_plain_files_under_any_name(tmp_path: Path) -> None:
    blob = packed(RANDOM, affine_of((1, 1, 4)))
    expected = pictures(blob)
    for name, content in (
        ("a.nii", blob),
        ("a.nii.gz", gzip.compress(blob)),
        ("b.nii", gzip.compress(blob)),
        ("c.jpg", blob),
    ):
        (tmp_path / name).write_bytes(content)
        slices = read_slices(tmp_path / name)
        np.testing.assert_array_equal(np.stack([item.pixels for item in slices]), expected)
        assert slices[0].pixels.flags.writeable
        assert slices[0].pixels.flags.c_contiguous


def test_a_series_gives_its_first_volume_and_needs_no_more_of_the_file() -> None:
    series = np.stack([RANDOM, RANDOM[::-1], RANDOM * 2], axis=-1)
    blob = packed(series, affine_of((1, 1, 4)))
    np.testing.assert_array_equal(pictures(blob), pictures(packed(RANDOM, affine_of((1, 1, 4)))))
    np.testing.assert_array_equal(pictures(blob[: 352 + RANDOM.nbytes]), pictures(blob))


@pytest.mark.parametrize("axis", range(3))
def test_a_single_slice_is_cut_across_its_thin_axis(axis: int) -> None:
    shape = [24, 24, 24]
    shape[axis] = 1
    assert pictures(packed(np.ones(shape, np.int16), affine_of())).shape == (1, 24, 24)


def test_extensions_before_the_voxels_are_passed_over() -> None:
    image = nib.Nifti1Image(RANDOM, affine_of((1, 1, 4)))
    plain = pictures(image.to_bytes())
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    np.testing.assert_array_equal(pictures(image.to_bytes()), plain)


def refused(blob: bytes, *words: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ImageError) as caught:
        read_slices(blob)
    assert time.perf_counter() - started < 5
    message = str(caught.value)
    assert "\n" not in message
    for word in ("bytes: expected", "got", ";", *words):
        assert word in message


def patched(name: str, value: object, array: np.ndarray = RANDOM) -> bytes:
    """A whole volume with one field of its header changed."""
    image = nib.Nifti1Image(array, affine_of())
    blob = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(blob[:348]), check=False)
    header[name] = value
    blob[:348] = header.binaryblock
    return bytes(blob)


def test_bombs_are_refused_from_the_header() -> None:
    huge = [3, 20_000, 20_000, 20_000, 1, 1, 1, 1]
    refused(patched("dim", huge), "512,000,000 voxels", "20,000")
    refused(gzip.compress(patched("dim", huge) + bytes(10_000_000)), "512,000,000 voxels")
    refused(gzip.compress(patched("vox_offset", 3e9)), "to begin within")
    refused(patched("dim", [3, 30_000, 30_000, 1, 1, 1, 1, 1]), "voxels")
    refused(patched("dim", [3, 500, 500, 500, 1, 1, 1, 1]), "cut off")


@pytest.mark.parametrize(("qform", "place"), [(1, 0), (1, 1), (0, 1), (1, 3)])
def test_sizes_that_nibabel_mends_give_the_picture_that_nibabel_gives(qform: int, place: int) -> None:
    image = nib.Nifti1Image(RANDOM, affine_of((1, 1, 4)))
    image.set_sform(None, 0)
    image.set_qform(affine_of((1, 1, 4)), qform)
    blob = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(blob[:348]), check=False)
    header["pixdim"][place] = 0 if place == 0 else -header["pixdim"][place]
    blob[:348] = header.binaryblock
    mended = nib.Nifti1Image.from_bytes(bytes(blob))
    np.testing.assert_array_equal(pictures(bytes(blob)), pictures(packed(RANDOM, mended.affine)))
    np.testing.assert_allclose(read_slices(bytes(blob))[0].volume.grid.affine, mended.affine)  # type: ignore[union-attr]


@pytest.mark.parametrize("field", ["quatern_b", "qoffset_x"])
@pytest.mark.parametrize("value", [5e9, np.nan, np.inf])
def test_a_qform_of_no_sense_is_left_out_where_the_sform_says_the_place(field: str, value: float) -> None:
    image = nib.Nifti1Image(RANDOM, affine_of())
    image.set_qform(affine_of(), 1)
    blob = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(blob[:348]), check=False)
    header[field] = value
    blob[:348] = header.binaryblock
    grid = read_slices(bytes(blob))[0].volume.grid  # type: ignore[union-attr]
    assert grid is not None
    assert grid.sform[1] > 0
    nib.Nifti1Header().set_qform(*grid.qform)


def test_an_unknown_code_of_an_affine_is_none() -> None:
    image = nib.Nifti1Image(RANDOM, affine_of((1, 1, 4)))
    image.set_qform(affine_of((1, 1, 4)), 1)
    image.set_sform(np.diag([4.0, 1, 1, 1]), 1)
    blob = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(blob[:348]), check=False)
    header["sform_code"] = 77
    blob[:348] = header.binaryblock
    np.testing.assert_array_equal(pictures(bytes(blob)), pictures(packed(RANDOM, affine_of((1, 1, 4)))))


def test_damaged_headers_are_refused() -> None:
    refused(patched("dim", [0, 20, 24, 28, 1, 1, 1, 1]), "dimensions")
    refused(patched("dim", [1, 20, 24, 28, 1, 1, 1, 1]), "dimensions")
    refused(patched("dim", [9, 20, 24, 28, 1, 1, 1, 1]), "header")
    refused(patched("dim", [3, 20, -24, 28, 1, 1, 1, 1]), "sizes")
    refused(patched("datatype", 77), "code 77")
    refused(patched("datatype", 128), "grey")  # RGB
    refused(patched("sizeof_hdr", 17), "header")
    refused(patched("srow_x", 0.0), "affine")
    refused(patched("srow_y", np.nan), "got")
    refused(patched("vox_offset", np.nan), "got")
    refused(patched("magic", b"ni1"), "pair")


def test_cut_off_files() -> None:
    blob = packed(RANDOM, affine_of())
    refused(blob[:-1], "cut off")
    refused(blob[:350], "got")
    refused(gzip.compress(blob)[:-2000], "got")
    refused(packed(np.ones((20, 20, 10), np.int16), affine_of((9, 1, 1))), "at least 16 x 16")


@settings(FAST, max_examples=150)
@given(st.data(), st.booleans())
def test_mutated_files_only_raise_image_errors(data: st.DataObject, zipped: bool) -> None:
    blob = bytearray(packed(RANDOM[:16, :16, :16], affine_of()))
    if zipped:
        blob = bytearray(gzip.compress(blob, 1, mtime=0))
    for _ in range(data.draw(st.integers(1, 6))):
        blob[data.draw(st.integers(0, min(351, len(blob) - 1)))] = data.draw(st.integers(0, 255))
    try:
        slices = read_slices(bytes(blob))
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert all(item.pixels.dtype == np.uint8 and item.pixels.ndim == 2 for item in slices)


def test_libraries_are_loaded_by_one_thread_at_a_time() -> None:
    """nibabel's modules import each other: of two first volumes at once, one met half-made ones and was refused."""
    from braincam.images import reader

    content = nib.Nifti1Image(np.zeros((20, 20, 2), np.uint8), np.eye(4)).to_bytes()
    read: list[int] = []
    thread = threading.Thread(target=lambda: read.append(len(read_slices(content))))
    with reader._loading:  # as while another thread loads
        thread.start()
        thread.join(0.3)
        assert not read
    thread.join(10)
    assert len(read) == 1


def test_a_header_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(np.zeros((16, 16, 2), np.uint8), np.eye(4)), tmp_path / "head.nii")
    with pytest.raises(ImageError, match="expected a NIfTI header of 540 bytes, got 400; copy the file again"):
        read_slices((tmp_path / "head.nii").read_bytes()[:400])
