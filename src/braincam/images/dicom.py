"""DICOM -> grey slices, with pydicom, which is imported when the first such file comes.

Stored values pass through the rescale slope and intercept (or the modality table), then through the VOI table
or the first VOI window, of the frame where frames have their own. Without either they go to 0..255 by the rule
at the head of `grey`, the frames of one file together. MONOCHROME1 is inverted, colour becomes luma, padding
becomes 0. Pixels keep the order they are stored in, clearly oblong ones are resampled to squares; frames are
ordered by position (see `volume`).

What says that it is no acquired MR image (another modality, a screenshot) is read all the same, and marked as
foreign.

Messages carry no attribute of the patient and no text of pydicom, whose messages may quote values.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from braincam.errors import ImageError, install
from braincam.images.apart import pixels_by_gdcm
from braincam.images.codestream import refuse_false_sizes
from braincam.images.elements import MAGIC, MAGIC_AT, REEXPORT, USED, read_elements
from braincam.images.grey import (
    SAMPLE,
    GreyPixels,
    GreySlice,
    SizeLimits,
    check_size,
    grey_of_picture,
    range_of_volume,
    square_pixels,
    stretch,
    stretch_from_min_to_max,
)
from braincam.images.volume import Plane, Volume, stacks

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

HERE = "where braincam runs"  # a client of a server reads it too
INSTALL = install("dicom")
MR_CLASSES = frozenset(  # MR, Enhanced MR, Enhanced MR Color, Legacy Converted Enhanced MR Image Storage
    f"1.2.840.10008.5.1.4.1.1.4{part}" for part in ("", ".1", ".3", ".4")
)
# Other modalities (PS3.3 C.7.3.1.1.1), listed so that nothing else that stands in the attribute is ever quoted.
MODALITIES = frozenset(
    {"CR", "CT", "DX", "ES", "GM", "IO", "IVOCT", "IVUS", "MG", "NM", "OCT", "OP", "OPT"}
    | {"PT", "PX", "RF", "RG", "RTDOSE", "RTIMAGE", "SEG", "SM", "US", "XA", "XC"}
)
ABSURD = 50  # ratio of a pixel's sides beyond which a single slice's spacing is an error, not a spacing


def is_dicom(head: bytes) -> bool:
    """Whether these first bytes (132 are enough) begin a DICOM file."""
    return head[MAGIC_AT : MAGIC_AT + 4] == MAGIC


def lacks_preamble(head: bytes) -> bool:
    """Whether these first bytes are those of a DICOM data set without what begins a file, as some exports write it."""
    group, element = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")
    explicit = head[4:6] in {b"UL", b"UI", b"CS", b"OB", b"SH", b"LO", b"DA"}
    length = int.from_bytes(head[4:8], "little")
    return len(head) > 8 and group in {2, 8} and element < 0x20 and (explicit or 0 < length <= 64)


def read_dicom(
    stream: BinaryIO, limits: tuple[float, float] | None = None, sizes: SizeLimits | None = None
) -> list[GreySlice]:
    """Decode a DICOM file of one or several frames.

    `limits` are the rescaled values that become black and white where the file brings no window of its own.
    """
    sizes = sizes or SizeLimits()
    dataset = _opened(stream, sizes)
    frames = _frames(dataset)
    foreign = _foreign(dataset)
    if len(frames) == 1:
        return [_squared(_slice(frames[0], dataset, 0, None, limits, foreign), dataset, 0, 1, sizes)]
    slices: list[GreySlice] = []
    for stack in stacks([plane_of(dataset, frame) for frame in range(len(frames))]):
        volume = Volume(None, stack.grid, stack.problem, first=len(slices))
        # of this stack alone: phase beside magnitude, or another echo, has greys of its own
        common = limits or _limits(frames, stack.members, dataset)
        for frame in stack.members:
            item = _slice(frames[frame], dataset, frame, len(slices), common, foreign)
            item = _squared(item, dataset, frame, len(frames), sizes)
            slices.append(replace(item, volume=volume))
    return slices


def rescaled_values(stream: BinaryIO, sizes: SizeLimits) -> npt.NDArray[np.float32] | None:
    """Every fourth rescaled value each way of a file without a window, NaN for padding; None where it has a window.

    For scaling a series as a whole.
    """
    dataset = _opened(stream, sizes)
    frames = _frames(dataset)
    if frames.ndim == 4 or brings_window(dataset):
        return None
    stored = frames[:, ::4, ::4]
    return np.where(_padding(stored, dataset), np.nan, _rescaled(stored, dataset, 0)).astype(np.float32)


def _opened(stream: BinaryIO, sizes: SizeLimits) -> Dataset:
    """What is used of the whole file, checked, with its pixels still encoded."""
    dataset = read_elements(io.BytesIO(stream.read()), USED, sizes.slices)
    _check(dataset, sizes)
    return dataset


def _check(dataset: Dataset, sizes: SizeLimits) -> None:
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
    check_size(rows, columns, count, sizes)
    size = rows * columns * count * int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) // 8
    if size > sizes.bytes:
        raise ImageError(f"expected at most {sizes.bytes:,} bytes of pixels, got {size:,}; split the file into frames")
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
        raise ImageError(
            f"{expected}, got {_named(syntax)}, which needs {_plugin(syntax)} {HERE}; {INSTALL}, or {REEXPORT}"
        )


def _plugin(syntax: UID) -> str:
    """The package, of a permissive licence, that decodes a syntax which pydicom and Pillow cannot."""
    family = syntax.name.removeprefix("High-Throughput ")
    if family.startswith("JPEG-LS"):
        return "pyjpegls"
    return "pylibjpeg-openjpeg" if family.startswith("JPEG 2000") else "python-gdcm"


def _named(uid: UID) -> str:
    """A class or syntax in words; in a broken file a name may stand in its place, so only UIDs are quoted."""
    if not uid.is_valid:
        return "an invalid UID"
    return uid.name if uid.name == uid else f"{uid.name}, {uid}"


def _frames(dataset: Dataset) -> npt.NDArray[Any]:
    """Stored values: (frames, H, W), or (frames, H, W, 3) in RGB for colour."""
    from pydicom.pixels.processing import apply_color_lut

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        if syntax.is_compressed:
            refuse_false_sizes(dataset)
        values = _decoded(dataset)  # YBR comes out as RGB
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            values = apply_color_lut(values, dataset)[..., :3]
    except ImageError:
        raise
    except Exception as error:  # each decoder has its own exceptions
        advice = (
            f"{INSTALL} (needs {_plugin(syntax)} {HERE}), or {REEXPORT}" if syntax.is_compressed else "export it anew"
        )
        raise ImageError(
            f"expected whole pixel data in {_named(syntax)}, got some that cannot be decoded "
            f"({type(error).__name__}); copy the file again, or {advice}"
        ) from error
    count = int(dataset.get("NumberOfFrames") or 1)
    return values if count > 1 else values.reshape(1, *values.shape)


def _decoded(dataset: Dataset) -> npt.NDArray[Any]:
    """Stored values by the first decoder that can; GDCM comes last, and in a process of its own."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return np.asarray(pixel_array(dataset))
    plugins = get_decoder(syntax).available_plugins
    trouble: Exception | None = None
    for plugin in sorted(set(plugins) - {"gdcm"}, reverse=True):  # pylibjpeg before Pillow
        try:
            return np.asarray(pixel_array(dataset, decoding_plugin=plugin))
        except Exception as error:  # each decoder has its own exceptions
            trouble = error
    if "gdcm" in plugins:
        return pixels_by_gdcm(dataset)
    raise trouble or ValueError("no decoder")


def _slice(
    frame: npt.NDArray[Any],
    dataset: Dataset,
    number: int,
    index: int | None,
    limits: tuple[float, float] | None,
    foreign: str | None,
) -> GreySlice:
    """One frame of stored values, (H, W) or (H, W, 3), as a slice."""
    if frame.ndim == 2:
        return GreySlice(_grey(frame, dataset, number, limits), index, foreign=foreign)
    if frame.dtype != np.uint8:
        # a palette's entries fill their type, whatever the depth of the pixels that choose among them
        palette = dataset.PhotometricInterpretation == "PALETTE COLOR"
        bits = frame.dtype.itemsize * 8 if palette else int(dataset.get("BitsStored") or dataset.BitsAllocated)
        frame = stretch(frame, 0, 2**bits - 1)
    pixels, colourful = grey_of_picture(Image.fromarray(np.ascontiguousarray(frame)))
    return GreySlice(pixels, index, colourful, foreign)


def _squared(item: GreySlice, dataset: Dataset, number: int, count: int, sizes: SizeLimits) -> GreySlice:
    """A grey frame, one of `count`, with square pixels; colour stays as it is stored, as does absurd spacing."""
    spacing = plane_of(dataset, number).spacing
    if spacing is None or int(dataset.SamplesPerPixel) > 1:
        return item
    if count == 1 and max(spacing) > ABSURD * min(spacing):
        return item
    return replace(item, pixels=square_pixels(item.pixels, *spacing, count, sizes))


def _grey(stored: npt.NDArray[Any], dataset: Dataset, number: int, limits: tuple[float, float] | None) -> GreyPixels:
    """Stored values of one frame -> what the scanner's own viewer would show. (H, W) -> same."""
    padding = _padding(stored, dataset)
    values = _rescaled(stored, dataset, number)
    table, window = _voi_table(dataset, number), _window(dataset, number)
    if table is not None:
        grey = stretch(*_looked_up(values, table, signed=_may_be_negative(dataset, number)))
    elif window is not None:
        grey = _windowed(values, *window)
    elif values.dtype == np.uint8 and dataset.get("BitsStored") == 8:  # not so for one-bit masks
        grey = values.copy()
    elif limits is not None:
        grey = stretch(values, *limits)
    else:
        grey = stretch_from_min_to_max(np.where(padding, np.nan, values))
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    grey[padding] = 0
    return grey


def _limits(frames: npt.NDArray[Any], members: Sequence[int], dataset: Dataset) -> tuple[float, float] | None:
    """The range of some frames, those that bring no window, padding apart; None where each has one, or for colour."""
    if frames.ndim == 4:
        return None
    bare = [k for k in members if not brings_window(dataset, k)]
    if not bare:
        return None
    every = max(1, math.ceil((len(bare) * frames[0].size / SAMPLE) ** 0.5))  # pixels each way
    parts = []
    for k in bare:
        stored = frames[k, ::every, ::every]
        parts.append(np.where(_padding(stored, dataset), np.nan, _rescaled(stored, dataset, k)))
    return range_of_volume(np.stack(parts))


def _padding(stored: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[np.bool_]:
    """Where pixels were added round the scan: PixelPaddingValue, or up to PixelPaddingRangeLimit."""
    value = _signed(_number(dataset, "PixelPaddingValue"), dataset)  # nan where there is none: False everywhere
    limit = _signed(_number(dataset, "PixelPaddingRangeLimit", value), dataset)
    return np.asarray((stored >= min(value, limit)) & (stored <= max(value, limit)))


def _signed(value: float, dataset: Dataset) -> float:
    """A stored value that some scanners write without its sign beside signed pixels: 63536 for -2000 in 16 bits."""
    bits = int(dataset.BitsAllocated)
    unsigned = dataset.get("PixelRepresentation") == 1 and value >= 2 ** (bits - 1)
    return value - 2**bits if unsigned else value


def _rescaled(stored: npt.NDArray[Any], dataset: Dataset, number: int) -> npt.NDArray[Any]:
    home = _functional(dataset, number, "PixelValueTransformationSequence")
    if "ModalityLUTSequence" in home:
        from pydicom.pixels.processing import apply_modality_lut

        return np.asarray(apply_modality_lut(stored, home))
    slope, intercept = _number(home, "RescaleSlope", 1.0), _number(home, "RescaleIntercept", 0.0)
    return stored if (slope, intercept) == (1, 0) else stored * slope + intercept


def brings_window(dataset: Dataset, number: int = 0) -> bool:
    """Whether a frame says itself what becomes black and white."""
    return _window(dataset, number) is not None or _voi_table(dataset, number) is not None


def _window(dataset: Dataset, number: int) -> tuple[float, float, str] | None:
    """Centre, width and shape of the first VOI window; None where there is none, or one without width."""
    home = _functional(dataset, number, "FrameVOILUTSequence")
    centre, width = _number(home, "WindowCenter"), _number(home, "WindowWidth")
    shape = str(home.get("VOILUTFunction") or "LINEAR")
    usable = math.isfinite(centre) and (width >= 1 or (width > 0 and shape != "LINEAR"))
    return (centre, width, shape) if usable else None


def _voi_table(dataset: Dataset, number: int) -> Dataset | None:
    """The first VOI table, which goes before windows, as in pydicom; None where there is none."""
    tables = _functional(dataset, number, "FrameVOILUTSequence").get("VOILUTSequence")
    return tables[0] if tables else None


def _may_be_negative(dataset: Dataset, number: int) -> bool:
    """Whether the header allows for negative values; not whether there are any: slices of a series must not differ."""
    home = _functional(dataset, number, "PixelValueTransformationSequence")
    slope, intercept = _number(home, "RescaleSlope", 1.0), _number(home, "RescaleIntercept", 0.0)
    return dataset.get("PixelRepresentation") == 1 or slope < 0 or intercept < 0


def _looked_up(values: npt.NDArray[Any], table: Dataset, signed: bool) -> tuple[npt.NDArray[Any], float, float]:
    """Values through a VOI table (PS3.3 C.11.2.1.1), and the outputs that are black and white.

    `signed`: the values may be negative, and so may what the table begins with.
    """
    entries, first, bits = (int(number) for number in table.LUTDescriptor)
    entries = entries or 65536
    data = table.get("LUTData")
    if data in (None, b"") or not np.size(data):
        raise ImageError("expected a VOI table with entries, got an empty one; export the series again")
    if isinstance(data, bytes):
        # an odd number of bytes has one more, so that the element's length is even
        data = np.frombuffer(data, np.uint8 if bits <= 8 and len(data) in (entries, entries + entries % 2) else "<u2")
    outputs = np.atleast_1d(np.asarray(data, np.float64))[:entries]
    if first >= 32768 and signed:
        first -= 65536  # often written without its sign
    place = np.nan_to_num(np.asarray(values, np.float64)) - first
    white = 2 ** int(outputs.max()).bit_length() - 1  # the bits that the descriptor states are often too many
    return outputs[np.clip(place, 0, len(outputs) - 1).astype(np.int64)], 0.0, float(white)


def _windowed(values: npt.NDArray[Any], centre: float, width: float, shape: str) -> GreyPixels:
    """DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, onto 0..255. Any shape -> same."""
    if shape == "SIGMOID":
        with np.errstate(over="ignore"):
            return stretch(1 / (1 + np.exp(-4 * (values - centre) / width)), 0, 1)
    if shape == "LINEAR_EXACT":
        return stretch(values, centre - width / 2, centre + width / 2)
    return stretch(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def _foreign(dataset: Dataset) -> str | None:
    """Why this is no acquired MR image, in the words of its class and modality; None where it may be one."""
    from pydicom.uid import UID

    kind, modality = UID(str(dataset.get("SOPClassUID") or "")), str(dataset.get("Modality") or "")
    known = kind.is_valid and kind.name != kind
    if known and "Secondary Capture" in kind.name:
        return f"a {kind.name.removesuffix(' Storage')}: a screenshot or a derived picture, not an acquired MR slice"
    if known and kind not in MR_CLASSES:
        return f"{kind.name.removesuffix(' Storage')} is not an MR image"
    if modality != "MR" and modality in MODALITIES:
        return f"its modality is {modality}, not MR"
    return None


def plane_of(dataset: Dataset, number: int = 0) -> Plane:
    """Where a frame says it lies; attributes that are absent or no numbers count as unknown."""
    position = _vector(_functional(dataset, number, "PlanePositionSequence"), "ImagePositionPatient", 3)
    directions = _vector(_functional(dataset, number, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    spacing = _vector(_functional(dataset, number, "PixelMeasuresSequence"), "PixelSpacing", 2)
    if directions is not None and np.linalg.norm(np.cross(directions[:3], directions[3:])) < 0.5:
        directions = None
    content = _functional(dataset, number, "FrameContentSequence")
    return Plane(
        shape=(int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)),
        order=(
            _counter(content, "TemporalPositionIndex") or _counter(dataset, "TemporalPositionIdentifier"),
            _counter(dataset, "AcquisitionNumber"),
            _counter(dataset, "EchoNumbers"),
            _counter(dataset, "InstanceNumber"),
            number,
        ),
        contrast=_contrast(dataset),
        position=position,
        directions=None if directions is None or position is None else directions.reshape(2, 3),
        spacing=None if spacing is None or min(spacing) <= 0 else (float(spacing[0]), float(spacing[1])),
    )


def _contrast(dataset: Dataset) -> tuple[str, ...]:
    """What tells magnitude from phase, or one diffusion weight from another, where their numbers do not."""
    told = []
    for name in ("EchoTime", "InversionTime", "DiffusionBValue", "ImageType"):
        value = ""
        with suppress(Exception):  # a damaged one tells nothing, and is no reason not to read the pixels
            value = str(dataset.get(name) or "")
        told.append(value)
    return tuple(told)


def _functional(dataset: Dataset, number: int, sequence: str) -> Dataset:
    """Where a frame's attributes of one kind stand: its own group, the shared one, or the dataset itself."""
    for groups, at in (("PerFrameFunctionalGroupsSequence", number), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups)
        if items and at < len(items) and items[at].get(sequence):
            item: Dataset = items[at][sequence][0]
            return item
    return dataset


def _counter(dataset: Dataset, name: str) -> float:
    """A number that only orders slices; 0 where it is absent or no number."""
    try:
        return _number(dataset, name, 0.0)
    except (ImageError, TypeError, ValueError):
        return 0.0


def _vector(dataset: Dataset, name: str, length: int) -> npt.NDArray[np.float64] | None:
    try:
        vector = np.asarray(dataset.get(name), np.float64)
    except (TypeError, ValueError):  # text, or nothing
        return None
    return vector if vector.shape == (length,) and np.isfinite(vector).all() else None


def _number(dataset: Dataset, name: str, default: float = math.nan) -> float:
    """The first value of a numeric attribute; the default where it is absent, empty or not finite."""
    value = dataset.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, (str, bytes)):
        raise ImageError(f"expected a number in the attribute {name}, got text; export the series again")
    first = np.ravel(np.asarray(value, np.float64))[:1]
    return float(first[0]) if first.size and np.isfinite(first[0]) else default
