"""JPEG, PNG, BMP, TIFF, GIF and WebP -> grey slices, with Pillow.

Every page of a TIFF and every frame of an animation is a slice. EXIF rotation is applied. Pillow reads
16-bit *colour* at 8 bits (the upper byte); 16-bit grey keeps its depth and is scaled by the rule at the head of
`grey`, the pages of one TIFF together.
"""

from __future__ import annotations

import importlib
import math
import os
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from braincam.errors import ImageError
from braincam.images.grey import (
    SAMPLE,
    GreyPixels,
    GreySlice,
    SizeLimits,
    check_size,
    grey_of_picture,
    range_of_volume,
    stretch,
    to_grey,
)
from braincam.images.pages import count_pages

ORIENTATION, PHOTOMETRIC, SAMPLE_FORMAT = 274, 262, 339  # tags of EXIF and TIFF
DEFLATE = 1032  # bytes that one packed byte can stand for at most (https://www.zlib.net/zlib_tech.html)
WHITE_IS_ZERO, UNSIGNED, SIGNED = 0, 1, 2

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF
    (b"MM\0+", "TIFF"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
)
_PLUGINS = {
    "TIFF": "PIL.TiffImagePlugin",
    "WEBP": "PIL.WebPImagePlugin",
}  # those that Image.open does not load first


def raster_format(head: bytes) -> str | None:
    """Pillow's name for the format that these first bytes announce, or None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return next((name for signature, name in _SIGNATURES if head.startswith(signature)), None)


def read_raster(stream: BinaryIO, name: str, limits: SizeLimits) -> list[GreySlice]:
    """Decode a picture of the format `name` (of `raster_format`); its size is checked first."""
    if name in _PLUGINS:
        importlib.import_module(_PLUGINS[name])  # else Pillow would load all of its forty plugins to find this one
    counted = count_pages(stream, name, limits.slices)
    with _opened(stream, name, limits) as picture:
        check_size(picture.height, picture.width, 1, limits)
        if name == "PNG":
            _check_content(picture, stream)
        # further pictures in a JPEG are previews
        many = 1 if name == "JPEG" else counted or int(getattr(picture, "n_frames", 1))
        if counted and counted > limits.slices:
            raise ImageError(f"expected at most {limits.slices:,} slices, got more pages than that; {limits.advice}")
        if many == 1:
            return [_slice_of(picture, None)]
        check_size(picture.height, picture.width, many, limits)
        scale = _range_of_pages(picture, many, limits) if name == "TIFF" else None
        return [_slice_of(_page(picture, number, limits), number, scale) for number in range(many)]


def _opened(stream: BinaryIO, name: str, limits: SizeLimits) -> Image.Image:
    try:
        return Image.open(stream, formats=[name])
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"expected at most {limits.pixels:,} pixels, got many more; export it at the scanner's resolution"
        ) from error


def _check_content(picture: Image.Image, stream: BinaryIO) -> None:
    """Refuse a PNG that states more pixels than its bytes can unpack to, before memory is taken for them."""
    at = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(at)
    if picture.height * picture.width // 8 > DEFLATE * size:  # one bit to a pixel at least
        raise ImageError(
            f"expected whole PNG data, got {size:,} bytes for {picture.width:,} x {picture.height:,} pixels; "
            "export or copy it again"
        )


def _page(picture: Image.Image, number: int, limits: SizeLimits) -> Image.Image:
    picture.seek(number)
    check_size(picture.height, picture.width, 1, limits)
    return picture


def _range_of_pages(picture: Image.Image, count: int, limits: SizeLimits) -> tuple[float, float] | None:
    """What becomes black and white in the pages wider than 8 bits, all together; None where there is no such page."""
    samples = []
    for number in range(count):
        values = _wide(_page(picture, number, limits))
        if values is not None:  # pages are decoded twice, rather than held all at once
            every = max(1, math.ceil(values.size * count / SAMPLE))
            samples.append(values.reshape(-1)[::every].astype(np.float64))
    return range_of_volume(np.concatenate(samples)) if samples else None


def _slice_of(picture: Image.Image, index: int | None, scale: tuple[float, float] | None = None) -> GreySlice:
    """The page that a picture stands at; `scale` is that of its volume, if it has one."""
    picture.load()
    pixels, colourful = _grey_of_tiff(picture, scale) if picture.format == "TIFF" else grey_of_picture(picture)
    return GreySlice(_upright(pixels, _orientation(picture)), index, colourful)


def _orientation(picture: Image.Image) -> int:
    """The rotation that EXIF states; damaged EXIF is as good as none, as in the browser: the pixels are whole."""
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # Pillow raises several kinds
        return 1


def _grey_of_tiff(picture: Image.Image, scale: tuple[float, float] | None) -> tuple[GreyPixels, bool]:
    values = _wide(picture)
    if values is None:
        return grey_of_picture(picture)
    grey = to_grey(values) if scale is None else stretch(values, *scale)
    white_is_zero = picture.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO  # type: ignore[attr-defined]
    return (255 - grey if white_is_zero else grey), False  # Pillow inverts 8 bits itself, wide data it does not


def _wide(picture: Image.Image) -> npt.NDArray[Any] | None:
    """The values of a TIFF page beyond 8 bits without sign, else None; Pillow gives some of them a wrong sign."""
    sample_format = (picture.tag_v2.get(SAMPLE_FORMAT) or (UNSIGNED,))[0]  # type: ignore[attr-defined]
    if picture.mode == "L" and sample_format == SIGNED:
        return np.array(picture).view(np.int8)
    if not picture.mode.startswith(("I", "F")):
        return None
    values = np.array(picture)
    return values.view(np.uint32) if values.dtype == np.int32 and sample_format == UNSIGNED else values


def _upright(pixels: GreyPixels, orientation: int) -> GreyPixels:
    """Undo the rotation that EXIF numbers 1 to 8; any other counts as upright. (H, W) -> same or (W, H)."""
    if orientation not in range(2, 9):
        return pixels
    if orientation >= 5:
        pixels = pixels.T
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
