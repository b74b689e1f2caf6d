"""JPEG, PNG, BMP, TIFF, GIF and WebP -> grey slices, with Pillow.

Every page of a TIFF and every frame of an animation is a slice. EXIF rotation is applied. Pillow reads
16-bit *colour* at 8 bits (the upper byte); 16-bit grey keeps its depth and goes from its own
minimum..maximum to 0..255.
"""

from __future__ import annotations

import importlib
import os
from typing import BinaryIO

import numpy as np
from PIL import Image

from braincam.errors import ImageError
from braincam.images.grey import GreyPixels, GreySlice, SizeLimits, check_size, grey_of_picture, to_grey

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
    with _opened(stream, name, limits) as picture:
        check_size(picture.height, picture.width, 1, limits)
        if name == "PNG":
            _check_content(picture, stream)
        # further pictures in a JPEG are previews
        many = 1 if name == "JPEG" else int(getattr(picture, "n_frames", 1))
        if many == 1:
            return [_slice_of(picture, None)]
        check_size(picture.height, picture.width, many, limits)
        return [_page(picture, number, limits) for number in range(many)]


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


def _page(picture: Image.Image, number: int, limits: SizeLimits) -> GreySlice:
    picture.seek(number)
    check_size(picture.height, picture.width, 1, limits)
    return _slice_of(picture, number)


def _slice_of(picture: Image.Image, index: int | None) -> GreySlice:
    picture.load()
    pixels, colourful = _grey_of_tiff(picture) if picture.format == "TIFF" else grey_of_picture(picture)
    return GreySlice(_upright(pixels, picture.getexif().get(ORIENTATION, 1)), index, colourful)


def _grey_of_tiff(picture: Image.Image) -> tuple[GreyPixels, bool]:
    """Mend what Pillow leaves undone: signed bytes, unsigned 32-bit values, wide data where white is zero."""
    tags = picture.tag_v2  # type: ignore[attr-defined]
    sample_format = (tags.get(SAMPLE_FORMAT) or (UNSIGNED,))[0]
    if picture.mode == "L" and sample_format == SIGNED:
        return to_grey(np.array(picture).view(np.int8)), False
    if not picture.mode.startswith(("I", "F")):
        return grey_of_picture(picture)
    values = np.array(picture)
    if values.dtype == np.int32 and sample_format == UNSIGNED:
        values = values.view(np.uint32)
    grey = to_grey(values)
    return (255 - grey if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else grey), False


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
