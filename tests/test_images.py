"""Pictures, arrays and faults: a slice shows what the file shows, and a fault is one line of ImageError."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFile

import braincam.images
from braincam.errors import ImageError, printable
from braincam.images import MAX_PIXELS, SUFFIXES, GreySlice, looks_readable, read_slices, to_grey
from braincam.images.grey import stretch
from braincam.images.pages import count_pages

FAST = settings(max_examples=40, deadline=None, derandomize=True)
SIDES = st.tuples(st.integers(16, 40), st.integers(16, 40))


def grey(seed: int = 0, shape: tuple[int, ...] = (24, 20), dtype: type = np.uint8) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max, shape, dtype, endpoint=True)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def only(source: bytes | Path) -> GreySlice:
    (item,) = read_slices(source)
    assert item.index is None
    assert item.pixels.dtype == np.uint8
    assert item.pixels.flags.writeable
    assert item.pixels.flags.c_contiguous
    return item


def refused(source: bytes | str | Path, *words: str) -> str:
    """The one-line message with which a source is refused, holding each of the words."""
    with pytest.raises(ImageError) as caught:
        read_slices(source)
    message = str(caught.value)
    assert "\n" not in message
    assert "expected" in message
    assert ";" in message, "what to do comes after a semicolon"
    assert message.startswith("bytes: " if isinstance(source, bytes) else printable(str(source)))
    for word in words:
        assert word in message
    return message


# --- grey values -----------------------------------------------------------------------------------------


@FAST
@given(hnp.arrays(np.uint8, SIDES), st.sampled_from(["PNG", "BMP", "TIFF", "GIF"]))
def test_eight_bit_grey_is_kept_exactly(pixels: np.ndarray, kind: str) -> None:
    np.testing.assert_array_equal(only(encoded(Image.fromarray(pixels), kind)).pixels, pixels)


@FAST
@given(hnp.arrays(np.uint8, SIDES), st.sampled_from(["PNG", "BMP", "TIFF"]))
def test_three_equal_channels_are_that_channel(pixels: np.ndarray, kind: str) -> None:
    item = only(encoded(Image.fromarray(np.dstack([pixels] * 3)), kind))
    np.testing.assert_array_equal(item.pixels, pixels)
    assert not item.colourful


@FAST
@given(hnp.arrays(np.uint16, SIDES), st.sampled_from(["PNG", "TIFF"]))
def test_sixteen_bits_keep_their_order_and_fill_the_scale(pixels: np.ndarray, kind: str) -> None:
    shown = only(encoded(Image.fromarray(pixels), kind)).pixels
    order = np.argsort(pixels, axis=None)
    assert (np.diff(shown.ravel()[order].astype(int)) >= 0).all()
    if pixels.min() < pixels.max():
        assert (shown.min(), shown.max()) == (0, 255)
        exact = (pixels - float(pixels.min())) / (float(pixels.max()) - float(pixels.min())) * 255
        assert np.abs(shown - exact).max() <= 0.5 + 1e-9
    else:
        assert not shown.any()


def big_endian_tiff(pixels: np.ndarray, *, photometric: int = 1, sample_format: int = 1, order: str = ">") -> bytes:
    """A bare one-strip TIFF, for the layouts that Pillow does not write."""
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    height, width = pixels.shape
    bits = pixels.dtype.itemsize * 8
    short, long = 3, 4
    entries = [
        (256, short, width),
        (257, short, height),
        (258, short, bits),
        (259, short, 1),
        (262, short, photometric),
    ]
    entries += [
        (273, long, 8),
        (277, short, 1),
        (278, short, height),
        (279, long, len(data)),
        (339, short, sample_format),
    ]
    packed = b"".join(
        struct.pack(order + "HHI", tag, kind, 1) + struct.pack(order + ("Hxx" if kind == short else "I"), value)
        for tag, kind, value in entries
    )
    head = (b"MM" if order == ">" else b"II") + struct.pack(order + "HI", 42, 8 + len(data))
    return head + data + struct.pack(order + "H", len(entries)) + packed + bytes(4)


@pytest.mark.parametrize(
    ("dtype", "sample_format", "order"),
    [
        (np.uint16, 1, ">"),
        (np.uint16, 1, "<"),
        (np.int16, 2, ">"),
        (np.int16, 2, "<"),
        (np.int8, 2, "<"),
        (np.int32, 2, ">"),
        (np.int32, 2, "<"),
        (np.uint32, 1, "<"),
        (np.float32, 3, ">"),
        (np.float32, 3, "<"),
    ],
)
def test_wide_and_signed_tiff_of_either_byte_order_goes_from_minimum_to_maximum(dtype, sample_format, order) -> None:
    if np.dtype(dtype).kind == "f":
        pixels = np.random.default_rng(1).normal(0, 1e4, (24, 20)).astype(dtype)
    else:
        pixels = grey(1, dtype=dtype)
    shown = only(big_endian_tiff(pixels, sample_format=sample_format, order=order)).pixels
    np.testing.assert_array_equal(shown, to_grey(pixels))
    assert shown[np.unravel_index(pixels.argmin(), pixels.shape)] == 0
    assert shown[np.unravel_index(pixels.argmax(), pixels.shape)] == 255


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_whose_zero_is_white_is_the_inverse(dtype) -> None:
    pixels = grey(2, dtype=dtype)
    plain, white = (only(big_endian_tiff(pixels, photometric=p, order="<")).pixels for p in (1, 0))
    np.testing.assert_array_equal(white, 255 - plain)


def test_one_bit_becomes_black_and_white() -> None:
    mask = grey(3) > 127
    for kind in ("PNG", "TIFF", "BMP"):
        np.testing.assert_array_equal(only(encoded(Image.fromarray(mask), kind)).pixels, mask * np.uint8(255))


def test_a_jpeg_is_close_to_its_source_and_equals_pillows_grey() -> None:
    rows, columns = np.mgrid[:64, :48]
    smooth = (rows + columns * 2).astype(np.uint8)
    for picture in (Image.fromarray(smooth), Image.fromarray(np.dstack([smooth] * 3))):
        blob = encoded(picture, "JPEG", quality=95)
        shown = only(blob).pixels
        assert np.abs(shown.astype(int) - smooth).max() <= 4
        np.testing.assert_array_equal(shown, np.asarray(Image.open(io.BytesIO(blob)).convert("L")))


# --- colour, palette, alpha ------------------------------------------------------------------------------


def test_colour_becomes_luma_green_brighter_than_red_brighter_than_blue() -> None:
    shades = {}
    for name in ("red", "lime", "blue"):
        item = only(encoded(Image.new("RGB", (20, 20), name), "PNG"))
        assert item.colourful
        shades[name] = int(item.pixels[0, 0])
    assert shades["lime"] > shades["red"] > shades["blue"] > 0


def test_a_small_coloured_mark_does_not_make_a_scan_colourful() -> None:
    pixels = np.dstack([grey(4, (100, 100))] * 3)
    pixels[:10, :10] = (255, 255, 0)
    assert not only(encoded(Image.fromarray(pixels), "PNG")).colourful
    pixels[:40, :40] = (255, 255, 0)
    assert only(encoded(Image.fromarray(pixels), "PNG")).colourful


def test_a_palette_is_looked_up_not_read_as_grey() -> None:
    indices = grey(5) % 4
    picture = Image.fromarray(indices).copy()
    picture = Image.frombytes("P", picture.size, indices.tobytes())
    levels = np.array([200, 10, 90, 255], np.uint8)
    picture.putpalette(np.repeat(levels, 3).tobytes())
    for kind in ("PNG", "GIF", "TIFF", "BMP"):
        np.testing.assert_array_equal(only(encoded(picture, kind)).pixels, levels[indices])


@FAST
@given(hnp.arrays(np.uint8, (16, 18)), hnp.arrays(np.uint8, (16, 18)), st.sampled_from(["LA", "RGBA"]))
def test_alpha_lies_over_black(shade: np.ndarray, alpha: np.ndarray, mode: str) -> None:
    layers = [shade] * (len(mode) - 1) + [alpha]
    for kind in ("PNG", "TIFF"):
        shown = only(encoded(Image.fromarray(np.dstack(layers), mode), kind)).pixels
        assert np.abs(shown - shade * (alpha / 255)).max() <= 1
        assert not shown[alpha == 0].any()
        np.testing.assert_array_equal(shown[alpha == 255], shade[alpha == 255])


def test_a_transparent_shade_is_black() -> None:
    pixels = grey(6)
    pixels[0] = 77
    shown = only(encoded(Image.fromarray(pixels), "PNG", transparency=77)).pixels
    np.testing.assert_array_equal(shown, np.where(pixels == 77, 0, pixels))


def test_cmyk_and_webp_are_read() -> None:
    assert only(encoded(Image.new("CMYK", (20, 20), (0, 0, 0, 0)), "JPEG")).pixels.min() >= 250
    pixels = np.dstack([grey(7)] * 3)
    np.testing.assert_array_equal(only(encoded(Image.fromarray(pixels), "WEBP", lossless=True)).pixels, pixels[..., 0])


# --- rotation and pages ----------------------------------------------------------------------------------


def stored_as(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Where a camera puts an upright picture: EXIF names the sides that row 0 and column 0 show."""
    side_of_row_0, side_of_column_0 = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    stored = upright if side_of_row_0 in {"top", "bottom"} else upright.T
    if side_of_row_0 in {"bottom", "right"}:
        stored = stored[::-1]
    if side_of_column_0 in {"bottom", "right"}:
        stored = stored[:, ::-1]
    return np.ascontiguousarray(stored)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "dtype"), [("PNG", np.uint8), ("TIFF", np.uint8), ("PNG", np.uint16), ("TIFF", np.uint16)]
)
def test_exif_rotation_is_undone(orientation: int, kind: str, dtype: type) -> None:
    upright = grey(8, (24, 18), dtype)
    exif = Image.Exif()
    exif[274] = orientation
    blob = encoded(
        Image.fromarray(stored_as(upright, orientation)), kind, exif=exif.tobytes() if kind == "PNG" else exif
    )
    np.testing.assert_array_equal(only(blob).pixels, to_grey(upright))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_of_a_jpeg(orientation: int) -> None:
    upright = np.zeros((32, 24), np.uint8)
    upright[:8, :8] = 250  # top left
    upright[-8:, :8] = 120  # bottom left
    exif = Image.Exif()
    exif[274] = orientation
    shown = only(encoded(Image.fromarray(stored_as(upright, orientation)), "JPEG", exif=exif, quality=95)).pixels
    assert shown.shape == upright.shape
    assert np.abs(shown.astype(int) - upright).max() < 20


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize(
    "exif",
    [
        b"garbage-" * 4,
        b"II*\0\x08\0\0\0\x01",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x02up\0\0",
    ],
)
def test_damaged_exif_is_as_good_as_none(kind: str, exif: bytes) -> None:
    options = {"exif": b"Exif\0\0" + exif, **({"lossless": True} if kind == "WEBP" else {})}
    picture = Image.fromarray(np.dstack([grey()] * 3))
    damaged, plain = encoded(picture, kind, **options), encoded(picture, kind, **(options | {"exif": b""}))
    np.testing.assert_array_equal(only(damaged).pixels, only(plain).pixels)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP"])
def test_each_page_is_a_slice_in_order(kind: str) -> None:
    pages = [np.full((20, 30), shade, np.uint8) for shade in (10, 120, 250)]
    pictures = [Image.fromarray(np.dstack([page] * 3) if kind == "WEBP" else page) for page in pages]
    options = {"lossless": True} if kind == "WEBP" else {}
    slices = read_slices(encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], **options))
    assert [item.index for item in slices] == [0, 1, 2]
    for item, page in zip(slices, pages, strict=True):
        np.testing.assert_array_equal(item.pixels, page)


def test_pages_may_differ_in_size_and_depth() -> None:
    wide = grey(9, (30, 40), np.uint16)
    first = Image.fromarray(grey(9))
    slices = read_slices(encoded(first, "TIFF", save_all=True, append_images=[Image.fromarray(wide)]))
    np.testing.assert_array_equal(slices[0].pixels, grey(9))
    np.testing.assert_array_equal(slices[1].pixels, stretch(wide, *np.percentile(wide, (0.5, 99.5))))


def test_the_wide_pages_of_a_file_are_scaled_together() -> None:
    pages = np.stack([grey(9, (30, 40), np.uint16) // 10, grey(10, (30, 40), np.uint16)])
    first, second = (Image.fromarray(page) for page in pages)
    slices = read_slices(encoded(first, "TIFF", save_all=True, append_images=[second]))
    together = stretch(pages, *np.percentile(pages, (0.5, 99.5)))
    np.testing.assert_array_equal(np.stack([item.pixels for item in slices]), together)


# --- arrays ----------------------------------------------------------------------------------------------

ANY_NUMBERS = st.sampled_from(
    [np.uint16, np.int8, np.int16, np.int32, np.uint32, np.int64, np.uint64, np.float16, np.float64]
)


@FAST
@given(st.data(), ANY_NUMBERS)
def test_any_numeric_array_keeps_its_order(data: st.DataObject, dtype: type) -> None:
    array = data.draw(hnp.arrays(dtype, (16, 16)))
    shown = to_grey(array)
    assert shown.dtype == np.uint8
    assert shown.shape == (16, 16)
    finite = np.isfinite(array)
    assert not shown[~finite].any()
    if finite.any() and array[finite].min() < array[finite].max():
        ordered = shown[finite][np.argsort(array[finite], kind="stable")]
        assert (np.diff(ordered.astype(int)) >= 0).all()


def test_scaling_does_not_depend_on_units() -> None:
    array = np.random.default_rng(10).integers(0, 4096, (20, 20)).astype(np.float64)
    for factor, offset in ((2.0, 0.0), (0.25, -1024.0), (1e6, 5.0)):
        assert np.abs(to_grey(array * factor + offset).astype(int) - to_grey(array)).max() <= 1


def test_nan_and_infinity_count_as_the_minimum() -> None:
    array = np.linspace(1, 2, 400).reshape(20, 20)
    array[0, :3] = (np.nan, np.inf, -np.inf)
    shown = to_grey(array)
    assert list(shown[0, :3]) == [0, 0, 0]
    assert shown.max() == 255
    assert not to_grey(np.full((16, 16), np.nan)).any()


@pytest.mark.parametrize("array", [np.full((16, 16), 7.5), np.full((16, 16), 40000, np.uint16)])
def test_a_constant_wide_array_is_black(array: np.ndarray) -> None:
    assert not to_grey(array).any()


def test_numbers_at_the_ends_of_the_float_range() -> None:
    array = np.zeros((16, 16))
    array[0, 0], array[0, 1] = -1.7e308, 1.7e308
    shown = to_grey(array)
    assert (shown[0, 0], shown[0, 1], shown[1, 1]) == (0, 255, 128)
    array = np.zeros((16, 16), np.longdouble)
    array[0, 0] = np.finfo(np.longdouble).max
    assert to_grey(array).shape == (16, 16)


def test_grey_arrays_pass_and_are_not_shared() -> None:
    pixels = grey(11)
    shown = to_grey(pixels)
    np.testing.assert_array_equal(shown, pixels)
    shown[:] = 0
    assert pixels.any()


def test_an_array_and_its_file_give_the_same_slice() -> None:
    for array in (grey(12), grey(12, (20, 22, 3)), grey(12, (20, 22, 4)), grey(12, (20, 22), np.uint16)):
        np.testing.assert_array_equal(to_grey(array), only(encoded(Image.fromarray(array), "PNG")).pixels)


def test_wide_colour_follows_eight_bit_colour() -> None:
    narrow = grey(13, (20, 22, 4))
    narrow[0, 0], narrow[0, 1] = (0, 0, 0, 255), (255, 255, 255, 255)
    for wide in (narrow.astype(np.uint16) * 257, narrow / 255):
        assert np.abs(to_grey(wide).astype(int) - to_grey(narrow)).max() <= 1


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 20, 20)),
        np.zeros(400),
        np.zeros((0, 0)),
        np.zeros((15, 99), np.uint8),
        np.zeros((20, 20), complex),
        np.zeros((20, 20), object),
        np.full((20, 20), "a"),
        np.broadcast_to(np.uint8(0), (20_000, 20_000)),
    ],
)
def test_arrays_that_are_no_slice_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"expected .* got .*;"):
        to_grey(array)


# --- faults ----------------------------------------------------------------------------------------------


def test_text_named_jpg(tmp_path: Path) -> None:
    file = tmp_path / "scan.jpg"
    file.write_text("Dear colleague,\nplease find attached\n", encoding="utf-8")
    refused(file, "got text", "JPEG")


def test_empty_and_unknown_files(tmp_path: Path) -> None:
    file = tmp_path / "empty.png"
    file.touch()
    refused(file, "an empty file")
    refused(b"", "an empty file")
    refused(b"PK\3\4" + bytes(99), "a zip archive")
    refused(bytes(range(1, 200)), "unknown bytes")
    refused(gzip.compress(b"not a volume" * 99), "gzip")
    refused(gzip.compress(b"cut")[:12], "gzip")


def test_a_name_does_not_decide(tmp_path: Path) -> None:
    file = tmp_path / "really.jpg"
    file.write_bytes(encoded(Image.fromarray(grey(14)), "PNG"))
    np.testing.assert_array_equal(only(file).pixels, grey(14))
    np.testing.assert_array_equal(read_slices(str(file))[0].pixels, grey(14))


def test_folder_missing_path_and_odd_paths(tmp_path: Path) -> None:
    refused(tmp_path, "got a folder")
    refused(tmp_path / "nowhere.png", "found nothing there")
    refused("a\0b", "expected a readable file")
    refused(str(tmp_path / ("x" * 5000)), "expected a readable file")
    with pytest.raises(ImageError) as caught:
        read_slices(tmp_path / "two\nlines.png")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders exist on POSIX only")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    message = refused(tmp_path / "pipe.png", "a pipe or a device")
    assert message.count("expected") == 1  # it stood inside another
    assert refused(tmp_path, "a folder").count("expected") == 1


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "locked.png"
    file.write_bytes(encoded(Image.fromarray(grey()), "PNG"))

    def locked(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "open", locked)  # root may read everything, so the refusal is played
    refused(file, "permission denied")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_pictures_are_errors(kind: str, share: float) -> None:
    blob = encoded(Image.fromarray(grey(15, (64, 64))), kind)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    refused(blob[: max(16, int(len(blob) * share))], kind)


@pytest.mark.parametrize("size", [(1, 1), (15, 200), (200, 15)])
def test_too_small(size: tuple[int, int]) -> None:
    refused(encoded(Image.new("L", size), "PNG"), "at least 16 x 16", f"got {size[0]} x {size[1]}")


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header claims a size; its zeros are packed about a thousand to one."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    rows = packer.compress(bytes(1_000_000)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(8001, 8000), (10_000, 9_500), (20_000, 20_000)])
def test_a_bomb_is_refused_from_its_header(size: tuple[int, int]) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    refused(png_of(*size), f"at most {MAX_PIXELS:,} pixels", "resolution")
    assert limit == Image.MAX_IMAGE_PIXELS


def chain(pages: int, *, order: str = "<", big: bool = False, back: bool = False) -> bytes:
    """A TIFF whose directories follow each other, all of one 16 x 16 picture; the last may lead back to the first."""
    head, number, tag, place = (16, "Q", "HHQHHL", "Q") if big else (8, "H", "HHLHH", "L")
    tags = [(256, 16), (257, 16), (258, 8), (259, 1), (262, 1), (273, head), (278, 16), (279, 256)]
    step = struct.calcsize(f"<{number}{tag * len(tags)}{place}")
    first = head + 256
    out = bytearray(b"II" if order == "<" else b"MM")
    out += struct.pack(f"{order}HHHQ", 43, 8, 0, first) if big else struct.pack(f"{order}HL", 42, first)
    out += b"\x55" * 256
    for page in range(1, pages + 1):
        out += struct.pack(f"{order}{number}", len(tags))
        for key, value in tags:
            out += struct.pack(f"{order}{tag}", key, 3, 1, value, *[0] * (len(tag) - 4))
        out += struct.pack(f"{order}{place}", first + step * page if page < pages else first * back)
    return bytes(out)


def animation(frames: int, between: bytes = b"") -> bytes:
    """A GIF of empty 16 x 16 frames."""
    frame = b"," + struct.pack("<HHHHB", 0, 0, 16, 16, 0x80) + bytes(6) + b"\x02\x02\x4c\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0x80, 0, 0) + bytes(6) + (between + frame) * frames + b";,"


@pytest.mark.parametrize(
    "blob",
    [
        *(chain(n, order=order) for n in (1, 2, 7) for order in "<>"),
        *(chain(n, big=True) for n in (1, 7)),
        chain(3, back=True),
        animation(1),
        animation(5, b"!\xfe\3,,,\2;;\0!\xf9\4\0\1\0\0\0"),  # a comment, and a delay
        encoded(Image.fromarray(grey(9)), "GIF", save_all=True, append_images=[Image.fromarray(grey(10))] * 3),
        *(encoded(Image.fromarray(grey(9)), kind) for kind in ("TIFF", "GIF")),
    ],
    ids=lambda blob: blob[:3].decode(),
)
def test_pages_are_counted_as_pillow_counts_them_and_no_further_than_asked(blob: bytes) -> None:
    with Image.open(io.BytesIO(blob)) as picture:
        many, kind = picture.n_frames, picture.format
    assert count_pages(io.BytesIO(blob), kind, 4096) == many
    assert count_pages(io.BytesIO(blob), kind, 1) == min(many, 2)
    if kind == "TIFF":
        assert len(read_slices(blob)) == many


@pytest.mark.parametrize(
    "blob", [chain(100_000), chain(100_000, big=True), animation(100_000)], ids=["TIFF", "BigTIFF", "GIF"]
)
def test_too_many_pages_are_refused_without_walking_to_the_last(blob: bytes) -> None:
    start = time.process_time()
    refused(blob, "at most 4,096 slices", "got more pages", "split the file")
    assert time.process_time() - start < 1


def test_directories_that_overlap_cannot_bring_thousands_of_times_the_file_in_tags() -> None:
    blob, size = bytearray(chain(1)), 2 + 12 * 65_535
    first = len(blob) + len(blob) % 2
    blob[-4:] = struct.pack("<L", first)
    blob += b"\xff" * (first - len(blob) + size + 12 * 1000)  # at each 12th byte: 65,535 tags of no known kind
    for page in range(1000):
        blob[first + 12 * page + size : first + 12 * page + size + 4] = struct.pack("<L", first + 12 * (page + 1))
    start = time.process_time()
    refused(bytes(blob), "at most 262,144 tags")
    assert time.process_time() - start < 1


def test_a_gif_of_countless_blocks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("braincam.images.pages.BLOCKS", 1000)
    refused(animation(1, b"!\xfe\0" * 1000), "at most 1,000 blocks")


def test_a_page_that_is_announced_and_lacking_is_an_error() -> None:
    blob = chain(2)
    refused(blob[:-102], "damaged")  # the whole second directory


SEEDS = [encoded(Image.fromarray(grey(16, (32, 32))), kind) for kind in ("JPEG", "PNG", "BMP", "TIFF", "GIF")]
SEEDS += [
    encoded(Image.fromarray(grey(16, (32, 32, 3))), "WEBP"),
    big_endian_tiff(grey(16, (32, 32), np.uint16)),
]
SEEDS += [encoded(Image.fromarray(grey(16, (32, 32))), "TIFF", compression=c) for c in ("tiff_lzw", "tiff_deflate")]


def answers_or_refuses(blob: bytes) -> None:
    try:
        slices = read_slices(blob)
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert all(item.pixels.dtype == np.uint8 and item.pixels.ndim == 2 for item in slices)


@settings(FAST, max_examples=100)
@given(
    st.binary(max_size=600),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"GIF89a"]),
)
def test_random_bytes_only_raise_image_errors(blob: bytes, start: bytes) -> None:
    answers_or_refuses(start + blob)


@settings(FAST, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(SEEDS))
def test_mutated_pictures_only_raise_image_errors(data: st.DataObject, seed: bytes) -> None:
    blob = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 8))):
        blob[data.draw(st.integers(0, min(len(blob) - 1, 300)))] = data.draw(st.integers(0, 255))
    answers_or_refuses(bytes(blob[: data.draw(st.integers(1, len(blob)))] if data.draw(st.booleans()) else blob))


# --- manners ---------------------------------------------------------------------------------------------


def test_warnings_stay_inside_and_filters_are_restored_also_with_threads() -> None:
    noisy = encoded(Image.fromarray(grey(17)), "TIFF") + b"tail"
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [answers_or_refuses(noisy[:k]) for k in range(100, 140)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", UserWarning, stacklevel=1)


def test_importing_and_reading_a_picture_loads_no_medical_library(tmp_path: Path) -> None:
    file = tmp_path / "scan.png"
    file.write_bytes(encoded(Image.fromarray(grey(18)), "PNG"))
    program = (
        "import sys; from braincam.images import read_slices; read_slices(sys.argv[1]); "
        "print(sorted({'pydicom', 'nibabel', 'torch', 'scipy'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(file)]
    home = {**os.environ, "PYTHONPATH": str(Path(braincam.images.__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=home)
    assert done.stdout.strip() == "[]"
    assert not done.stderr


def test_looks_readable_goes_by_ending_or_by_the_dicom_mark(tmp_path: Path) -> None:
    assert {".dcm", ".nii", ".nii.gz", ".jpg", ".png", ".tif"} <= SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)
    for name in ("a.JPG", "a.nii.gz", "a.Nii", "b.tiff", "c.DCM"):
        assert looks_readable(tmp_path / name)
    for name in ("a.txt", "a.csv", "a.gz", "README"):
        assert not looks_readable(tmp_path / name)
    for name in ("IM0001", "1.2.840.113619.2", "scan.MR"):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM")
        assert looks_readable(tmp_path / name)
    (tmp_path / "Makefile").write_bytes(bytes(300))
    assert not looks_readable(tmp_path / "Makefile")
    (tmp_path / "names.mr").write_text("Mr. Doe")
    assert not looks_readable(tmp_path / "names.mr")
    (tmp_path / "notes.txt").write_bytes(bytes(128) + b"DICM")
    assert not looks_readable(tmp_path / "notes.txt")
    (tmp_path / "folder").mkdir()
    assert not looks_readable(tmp_path / "folder")


def test_a_caller_may_allow_less_than_the_readers_do() -> None:
    from braincam.images import Reading, SizeLimits

    content = png_of(32, 32)
    assert read_slices(content, Reading(sizes=SizeLimits(pixels=1024)))
    with pytest.raises(ImageError, match=r"^scan: expected at most 1,023 pixels"):
        read_slices(content, Reading(sizes=SizeLimits(pixels=1023)), name="scan")
    with pytest.raises(ImageError, match=r"^bytes: expected a file of at most 10 bytes"):
        read_slices(content, Reading(sizes=SizeLimits(bytes=10)))


def test_wide_colour_without_alpha_and_grey_with_premultiplied_alpha_are_laid_over_black() -> None:
    narrow = grey(14, (20, 22, 3))
    narrow[0, 0], narrow[0, 1] = 0, 255  # wide values are stretched from the least to the largest
    assert np.abs(to_grey(narrow.astype(np.uint16) * 257).astype(int) - to_grey(narrow)).max() <= 1
    seen = Image.fromarray(np.dstack([grey(15), grey(16)]), "LA")
    (expected, _), (shown, _) = (braincam.images.grey.grey_of_picture(item) for item in (seen, seen.convert("La")))
    assert np.abs(shown.astype(int) - expected).max() <= 1


def test_a_mask_is_black_and_white() -> None:
    mask = grey(17) > 127
    np.testing.assert_array_equal(to_grey(mask), mask * 255)
