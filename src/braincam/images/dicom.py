"""DICOM -> grey slices, with pydicom, which is imported when the first such file comes.

Stored values pass through the rescale slope and intercept (or the modality table), then through the first
VOI window. Without a window they go from their own minimum..maximum to 0..255, except for unsigned 8-bit
values, which pass unchanged. MONOCHROME1 is inverted, colour becomes luma, padding becomes 0. Pixels keep
the order they are stored in. The frames of a multi-frame file are scaled together; windows given frame by
frame are not read.

Messages carry no attribute of the patient and no text of pydicom, whose messages may quote values.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from braincam.errors import ImageError
from braincam.images.grey import (
    GreyPixels,
    GreySlice,
    SizeLimits,
    check_size,
    grey_of_picture,
    stretch,
    stretch_from_min_to_max,
    to_grey,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

MAGIC_AT, MAGIC = 128, b"DICM"
INSTALL = "pip install pylibjpeg pylibjpeg-openjpeg pylibjpeg-libjpeg"
REEXPORT = "re-export it uncompressed (Explicit VR Little Endian)"


def is_dicom(head: bytes) -> bool:
    """Whether these first bytes (132 are enough) begin a DICOM file."""
    return head[MAGIC_AT : MAGIC_AT + 4] == MAGIC


def read_dicom(stream: BinaryIO, limits: SizeLimits) -> list[GreySlice]:
    """Decode a DICOM file of one or several frames."""
    import pydicom

    blob = io.BytesIO(stream.read())  # of a checked length; a false length inside the file cannot ask for more
    _refuse_deflated(blob)
    dataset = pydicom.dcmread(blob)
    _check(dataset, limits)
    frames = _frames(dataset)
    index: list[int | None] = [None] if len(frames) == 1 else list(range(len(frames)))
    if frames.ndim == 4:
        return [_colour(frame, at) for frame, at in zip(frames, index, strict=True)]
    return [GreySlice(pixels, at) for pixels, at in zip(_grey(frames, dataset), index, strict=True)]


def _refuse_deflated(blob: io.BytesIO) -> None:
    """pydicom would inflate the whole rest of such a file, however large, before anything can be checked."""
    from pydicom.filereader import read_dataset
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    blob.seek(MAGIC_AT + len(MAGIC))
    meta = read_dataset(blob, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    blob.seek(0)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise ImageError(f"expected a plain transfer syntax, got {_named(DeflatedExplicitVRLittleEndian)}; {REEXPORT}")


def _check(dataset: Dataset, limits: SizeLimits) -> None:
    """Refuse what holds no picture, is too large, or has no decoder installed, before anything is decoded."""
    from pydicom.uid import UID

    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        kind = _named(UID(str(dataset.get("SOPClassUID", ""))))
        raise ImageError(
            f"expected a DICOM image, got one without pixel data ({kind}); give the image files of the series"
        )
    needed = ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation")
    if missing := [name for name in needed if dataset.get(name) is None]:
        raise ImageError(
            f"expected a DICOM image, got pixel data without {', '.join(missing)}; export the series again"
        )
    rows, columns, count = int(dataset.Rows), int(dataset.Columns), int(dataset.get("NumberOfFrames") or 1)
    check_size(rows, columns, count, limits)
    size = rows * columns * count * int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) // 8
    if size > limits.bytes:
        raise ImageError(f"expected at most {limits.bytes:,} bytes of pixels, got {size:,}; split the file into frames")
    _check_syntax(getattr(dataset.file_meta, "TransferSyntaxUID", None))


def _check_syntax(syntax: UID | None) -> None:
    if syntax is None:
        raise ImageError(f"expected a DICOM transfer syntax, got none; {REEXPORT}")
    if syntax.is_private or not syntax.is_transfer_syntax or not syntax.is_compressed:
        return
    from pydicom.pixels.decoders.base import get_decoder

    expected = "expected uncompressed DICOM or an installed decoder"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise ImageError(f"{expected}, got {_named(syntax)}; {REEXPORT}") from error
    if not decoder.is_available:
        raise ImageError(f"{expected}, got {_named(syntax)}; {INSTALL}, or {REEXPORT}")


def _named(uid: UID) -> str:
    """A class or syntax in words; in a broken file a name may stand in its place, so only UIDs are quoted."""
    if not uid.is_valid:
        return "an invalid UID"
    return uid.name if uid.name == uid else f"{uid.name}, {uid}"


def _frames(dataset: Dataset) -> npt.NDArray[Any]:
    """Stored values: (frames, H, W), or (frames, H, W, 3) in RGB for colour."""
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        values = pixel_array(dataset)  # YBR comes out as RGB
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            values = apply_color_lut(values, dataset)[..., :3]
    except Exception as error:  # each decoder has its own exceptions
        advice = f"{INSTALL}, or {REEXPORT}" if syntax.is_compressed else "export it anew"
        raise ImageError(
            f"expected whole pixel data in {_named(syntax)}, got some that cannot be decoded "
            f"({type(error).__name__}); copy the file again, or {advice}"
        ) from error
    count = int(dataset.get("NumberOfFrames") or 1)
    return values if count > 1 else values.reshape(1, *values.shape)


def _colour(frame: npt.NDArray[Any], index: int | None) -> GreySlice:
    if frame.dtype != np.uint8:
        return GreySlice(to_grey(frame), index)
    pixels, colourful = grey_of_picture(Image.fromarray(np.ascontiguousarray(frame)))
    return GreySlice(pixels, index, colourful)


def _grey(stored: npt.NDArray[Any], dataset: Dataset) -> GreyPixels:
    """Stored values -> what the scanner's own viewer would show. Any shape -> same."""
    padding = stored == _number(dataset, "PixelPaddingValue")  # False everywhere for nan
    values = _rescaled(stored, dataset)
    window = _window(dataset)
    if window is not None:
        grey = _windowed(values, *window)
    elif values.dtype == np.uint8 and dataset.get("BitsStored") == 8:  # not so for one-bit masks
        grey = values.copy()
    else:
        grey = stretch_from_min_to_max(np.where(padding, np.nan, values))
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    grey[padding] = 0
    return grey


def _rescaled(stored: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[Any]:
    if "ModalityLUTSequence" in dataset:
        from pydicom.pixels.processing import apply_modality_lut

        return np.asarray(apply_modality_lut(stored, dataset))
    slope, intercept = _number(dataset, "RescaleSlope", 1.0), _number(dataset, "RescaleIntercept", 0.0)
    return stored if (slope, intercept) == (1, 0) else stored * slope + intercept


def _window(dataset: Dataset) -> tuple[float, float, str] | None:
    """Centre, width and shape of the first VOI window; None where there is none, or one without width."""
    centre, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    shape = str(dataset.get("VOILUTFunction") or "LINEAR")
    usable = math.isfinite(centre) and (width >= 1 or (width > 0 and shape != "LINEAR"))
    return (centre, width, shape) if usable else None


def _windowed(values: npt.NDArray[Any], centre: float, width: float, shape: str) -> GreyPixels:
    """DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, onto 0..255. Any shape -> same."""
    if shape == "SIGMOID":
        with np.errstate(over="ignore"):
            return stretch(1 / (1 + np.exp(-4 * (values - centre) / width)), 0, 1)
    if shape == "LINEAR_EXACT":
        return stretch(values, centre - width / 2, centre + width / 2)
    return stretch(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def _number(dataset: Dataset, name: str, default: float = math.nan) -> float:
    """The first value of a numeric attribute; the default where it is absent, empty or not finite."""
    value = dataset.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, (str, bytes)):
        raise ImageError(f"expected a number in the attribute {name}, got text; export the series again")
    first = np.ravel(np.asarray(value, np.float64))[:1]
    return float(first[0]) if first.size and np.isfinite(first[0]) else default
