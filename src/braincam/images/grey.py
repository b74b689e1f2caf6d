"""What every reader hands over: grey uint8 slices, one scaling rule, and the limits on what is read.

The scaling rule, for files and arrays alike:

* 8-bit grey passes unchanged, 1-bit becomes 0 and 255;
* 8-bit colour becomes luma (ITU-R 601), so that three equal channels are kept exactly; alpha is laid over
  black;
* anything wider (16- or 32-bit integers, signed data, floats) goes linearly from its own minimum..maximum
  to 0..255; NaN and infinity count as the minimum, and a constant picture becomes all 0;
* the slices of a volume are scaled together, from the 0.5 and 99.5 percentiles of its finite values. The tails
  beyond them are clipped on purpose, since a few hot voxels (vessels, ghosts) would else darken the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from braincam.errors import ImageError
from braincam.images.volume import Volume

MIN_SIDE = 16  # pixels: below it there is no anatomy to see
MAX_PIXELS = 64_000_000  # in one slice; below Pillow's own limit, so that its global state can stay as it is
MAX_VOXELS = 512_000_000  # in one volume, all slices together
MAX_FRAMES = 4096  # pages or frames in one file
MAX_BYTES = 2**30  # of a file or of a decoded volume held in memory

TAILS = (0.5, 99.5)  # percentiles of a volume that become black and white
SAMPLE = 2**22  # values that the percentiles are taken from: all, or evenly spaced ones in a larger volume
SQUARE = 1.1  # ratio of the pixel's sides above which a slice is resampled to square pixels

_PART = 2**15  # values stretched at a time: they stay in the processor's cache

CHROMA = 24  # levels between a pixel's strongest and weakest channel before an eye sees colour ...
CHROMA_SHARE = 0.05  # ... in this share of the pixels: photographs are above it, scans with coloured marks below

GreyPixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class GreySlice:
    """One grey picture, with its place in the volume it came from."""

    pixels: GreyPixels  # (H, W), writable, owned by this slice
    index: int | None  # slice, page or frame number in its volume; None for a single picture
    colourful: bool = False  # a colour raster with visible chroma before it was made grey
    foreign: str | None = None  # why its file says it is no MR slice: another modality, a screenshot
    volume: Volume | None = None  # shared by the slices of a volume; None for a single picture


@dataclass(frozen=True, kw_only=True)
class SizeLimits:
    """How much one file may hold, checked before it is decoded. A server allows less than a user's own call does."""

    pixels: int = MAX_PIXELS  # in one slice
    voxels: int = MAX_VOXELS  # in one file, all slices together
    slices: int = MAX_FRAMES  # in one file
    bytes: int = MAX_BYTES  # of the file, and of its decoded values
    advice: str = "split the file"  # to who gave more slices or voxels


def check_size(height: int, width: int, count: int = 1, limits: SizeLimits | None = None) -> None:
    """Refuse slices too small to show a brain, or too large to be an MRI slice. Raises ImageError."""
    limits = limits or SizeLimits()
    size = f"got {width:,} x {height:,}"
    if min(height, width) < MIN_SIDE:
        raise ImageError(f"expected at least {MIN_SIDE} x {MIN_SIDE} pixels, {size}; give a whole brain slice")
    if height * width > limits.pixels:
        raise ImageError(
            f"expected at most {limits.pixels:,} pixels, {size}; export the slice at the scanner's resolution"
        )
    if count > limits.slices or height * width * count > limits.voxels:
        raise ImageError(
            f"expected at most {limits.slices:,} slices and {limits.voxels:,} pixels in all, {size} x {count:,}; "
            f"{limits.advice}"
        )


def stretch(values: npt.NDArray[Any], low: float, high: float) -> GreyPixels:
    """Map low..high linearly to 0..255, clip what lies outside; NaN and infinity become 0. Any shape -> same.

    Where high <= low, values above low become 255: the limit of an ever narrower window.
    """
    if values.dtype.kind in "iu" and 2 ** (8 * values.dtype.itemsize) <= values.size:  # a table is less work
        first, last = int(values.min()), int(values.max())
        table = _stretch(np.arange(first, last + 1), low, high)
        grey: GreyPixels = table[np.subtract(values, first, dtype=np.int64)]
        return grey
    flat, parts = values.reshape(-1), np.empty(values.size, np.uint8)
    for start in range(0, flat.size, _PART):
        parts[start : start + _PART] = _stretch(flat[start : start + _PART], low, high)
    return parts.reshape(values.shape)


def _stretch(values: npt.NDArray[Any], low: float, high: float) -> GreyPixels:
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float64)
    numbers[~np.isfinite(numbers)] = -np.inf
    span = high / 2 - low / 2  # halves, since the difference of two large floats can overflow
    if span <= 0:
        return np.where(numbers > low, np.uint8(255), np.uint8(0))
    with np.errstate(over="ignore"):
        numbers /= 2
        numbers -= low / 2
        numbers /= span
        numbers *= 255
        np.rint(numbers, out=numbers)
        np.clip(numbers, 0, 255, out=numbers)
    return numbers.astype(np.uint8)


def stretch_from_min_to_max(values: npt.NDArray[Any]) -> GreyPixels:
    """Map the least..largest finite value to 0..255, a constant picture to all 0. Any shape -> same."""
    with np.errstate(over="ignore"):  # a long double may not fit; it then counts as infinite
        numbers = values.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    if not finite.size or finite.min() == finite.max():
        return np.zeros(values.shape, np.uint8)
    return stretch(numbers, float(finite.min()), float(finite.max()))


def range_of_volume(values: npt.NDArray[Any]) -> tuple[float, float]:
    """The values that become black and white: the tails, or minimum and maximum where those are equal (a mask)."""
    flat = values.reshape(-1)
    with np.errstate(over="ignore"):  # a long double may not fit; it then counts as infinite
        sample = flat[:: max(1, math.ceil(flat.size / SAMPLE))].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 0.0
    low, high = np.percentile(sample, TAILS)
    if low == high:
        low, high = sample.min(), sample.max()
    return float(low), float(high)


def square_pixels(
    pixels: GreyPixels, between_rows: float, between_columns: float, count: int = 1, limits: SizeLimits | None = None
) -> GreyPixels:
    """A slice of clearly oblong pixels, resampled (bilinear) to square ones of the shorter side. (H, W) -> (H', W').

    Anatomy keeps its shape so: a coronal cut through thick axial slices would else be a narrow band. `count` slices
    of this size must keep to the limits: a false spacing in a small file would else ask for any amount of memory.
    """
    height, width = squared_size(pixels.shape[0], pixels.shape[1], between_rows, between_columns)
    if (height, width) == pixels.shape:
        return pixels
    check_size(height, width, count, limits)
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def squared_size(height: int, width: int, between_rows: float, between_columns: float) -> tuple[int, int]:
    """Height and width that `square_pixels` gives: never less than it is given."""
    ratio = between_rows / between_columns
    if 1 / SQUARE <= ratio <= SQUARE or not math.isfinite(ratio):
        return height, width
    return (round(height * ratio), width) if ratio > 1 else (height, round(width / ratio))


def grey_of_picture(picture: Image.Image) -> tuple[GreyPixels, bool]:
    """A decoded Pillow picture of any mode -> its grey pixels (H, W), and whether it had visible chroma."""
    if picture.mode == "L" and "transparency" not in picture.info:
        return np.array(picture), False
    if picture.mode.startswith(("I", "F")):
        return to_grey(np.array(picture)), False  # convert("L") would clip these to white
    if picture.mode == "1":
        return np.array(picture.convert("L")), False
    if picture.has_transparency_data or picture.mode in {"La", "RGBa"}:
        picture = _over_black(picture)
    elif picture.mode != "RGB":
        picture = picture.convert("RGB")  # palette, CMYK, YCbCr, HSV, RGBX
    return np.array(picture.convert("L")), _is_colourful(np.asarray(picture))


def to_grey(array: np.ndarray) -> GreyPixels:
    """Any numeric (H, W) or (H, W, 3 or 4) array -> (H, W) uint8, by the rule at the head of this module.

    As `grey_of_array`, without asking for colour. Raises ImageError.
    """
    return grey_of_array(array)[0]


def grey_of_array(array: np.ndarray) -> tuple[GreyPixels, bool]:
    """Any numeric (H, W) or (H, W, 3 or 4) array -> its grey pixels (H, W), and whether it had visible chroma.

    A fourth channel is alpha, full at the largest integer of its type, or at 1.0 for floats. Raises
    ImageError.
    """
    array = np.asarray(array)
    if array.dtype.kind not in "buif":
        raise ImageError(f"expected an array of integers or floats, got dtype {array.dtype}; convert it to float32")
    if array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in {3, 4}):
        raise ImageError(
            f"expected an array of shape (H, W), (H, W, 3) or (H, W, 4), got {array.shape}; pass one slice"
        )
    check_size(*array.shape[:2])
    if array.dtype.kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint8:
        return grey_of_picture(Image.fromarray(np.ascontiguousarray(array)))
    if array.ndim == 2:
        return stretch_from_min_to_max(array), False
    channels = _wide_over_black(array)
    with np.errstate(over="ignore", invalid="ignore"):  # non-finite results are dealt with by the stretch
        luma = channels[..., 0] * 0.299 + channels[..., 1] * 0.587 + channels[..., 2] * 0.114
    return stretch_from_min_to_max(luma), _is_colourful(stretch_from_min_to_max(channels))


def _over_black(picture: Image.Image) -> Image.Image:
    """Lay a picture with alpha over black: multiply each channel by it. Any mode with transparency -> RGB."""
    if picture.mode == "La":
        return picture.getchannel("L").convert("RGB")
    premultiplied = picture if picture.mode == "RGBa" else picture.convert("RGBA").convert("RGBa")
    return Image.merge("RGB", premultiplied.split()[:3])


def _wide_over_black(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The channels of a colour array wider than 8 bits, over black where it has alpha. (H, W, 3 or 4) -> (H, W, 3)."""
    full = float(np.iinfo(array.dtype).max) if array.dtype.kind in "ui" else 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        channels = array.astype(np.float64)
        if array.shape[2] == 4:
            channels[..., :3] *= np.clip(channels[..., 3:] / full, 0, 1)
    return channels[..., :3]


def _is_colourful(rgb: npt.NDArray[np.uint8]) -> bool:
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    chroma = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return bool(np.count_nonzero(chroma > CHROMA) > CHROMA_SHARE * chroma.size)
