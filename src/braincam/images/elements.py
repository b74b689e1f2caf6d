"""The elements of a DICOM file that are used, read no further than a limit.

pydicom keeps some 400 bytes for each element, though a file needs only 8 for it, and reads sequences in two ways: those
without a length while it walks through the file, the others when they are asked for. Here both are read at once, and
what pydicom reads is counted. Elements outside a list are passed over.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO, cast

from braincam.errors import ImageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAGIC_AT, MAGIC = 128, b"DICM"
REEXPORT = "re-export it uncompressed (Explicit VR Little Endian)"

READS = 50_000  # of pydicom: two or three for an element
READS_A_FRAME = 500  # besides: enhanced images say some hundred things of each
SHORT = 2**14  # bytes of an element that is a number, a list of numbers, or text
LONG = 2**18  # bytes of a table, which has 65,536 entries at most
NESTED = 2**22  # bytes of a sequence of such
DEPTH = 8  # sequences inside each other

_PALETTES = tuple(
    f"{segmented}{colour}PaletteColorLookupTableData"
    for segmented in ("", "Segmented")
    for colour in ("Red", "Green", "Blue", "Alpha")
)
TABLES = frozenset({"LUTData", *_PALETTES})
PIXELS = frozenset(
    {"PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"}
)
GROUPS = frozenset({"PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"})
SEQUENCES = GROUPS | frozenset(
    {
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "PixelMeasuresSequence",
        "FrameContentSequence",
        "FrameVOILUTSequence",
    }
    | {"PixelValueTransformationSequence", "ModalityLUTSequence", "VOILUTSequence"}
)
NUMBERS = frozenset(
    {"Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation"}
    | {"BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SOPClassUID", "Modality", "LUTDescriptor"}
    | {f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue", "Alpha")}
    | {"PaletteColorLookupTableUID", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept"}
    | {"WindowCenter", "WindowWidth", "VOILUTFunction", "TemporalPositionIndex", "AcquisitionNumber", "EchoNumbers"}
    | {
        "TemporalPositionIdentifier",
        "ImageType",
        "EchoTime",
        "InversionTime",
        "DiffusionBValue",
        "InstanceNumber",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
    }
)
USED = NUMBERS | SEQUENCES | TABLES | PIXELS


class _Counted:
    """A stream that can be read so often and no more."""

    def __init__(self, stream: BinaryIO, left: list[int]) -> None:
        self.stream, self.left = stream, left
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        self.left[0] -= 1
        self.check()
        return self.stream.read(size)

    def of(self, content: bytes) -> _Counted:
        """A part of it, counted with it."""
        return _Counted(io.BytesIO(content), self.left)

    def check(self) -> None:
        if self.left[0] < 0:
            raise ImageError("expected a DICOM header of fewer elements, got far too many; export the series again")


def read_elements(stream: BinaryIO, names: Iterable[str], frames: int = 0, *, pixels: bool = True) -> Dataset:
    """The elements of these names in a DICOM file of up to so many frames, sequences read; with or without its pixels.

    Raises ImageError for more elements, or longer ones, than an image has; pydicom's errors for what is damaged.
    """
    import pydicom

    counted = _Counted(stream, [READS + READS_A_FRAME * frames])
    try:
        refuse_deflated(cast("BinaryIO", counted))
        dataset = pydicom.dcmread(cast("BinaryIO", counted), stop_before_pixels=not pixels, specific_tags=sorted(names))
        _read_sequences(dataset, counted)
    except Exception:
        counted.check()  # pydicom hides what is raised while it reads a sequence
        raise
    return dataset


def refuse_deflated(stream: BinaryIO) -> None:
    """pydicom would inflate the whole rest of such a file, however large, before anything can be checked."""
    from pydicom.filereader import read_dataset
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    stream.seek(MAGIC_AT + len(MAGIC))
    meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    stream.seek(0)
    deflated = DeflatedExplicitVRLittleEndian
    if meta.get("TransferSyntaxUID") == deflated:
        raise ImageError(f"expected a plain transfer syntax, got {deflated.name}, {deflated}; {REEXPORT}")


def _read_sequences(dataset: Dataset, counted: _Counted, depth: int = 0) -> None:
    """Read the sequences that pydicom has left as bytes, and those inside them; check the length of the rest."""
    from pydicom.dataelem import DataElement, RawDataElement
    from pydicom.filereader import read_sequence

    if depth > DEPTH:
        raise ImageError(f"expected at most {DEPTH} sequences inside each other, got more; export the series again")
    names = _names()
    for element in list(dataset.values()):  # as they are: to ask for one by name converts it
        name = names.get(element.tag)
        if name is None or (depth and name in GROUPS):
            continue
        if isinstance(element, RawDataElement):
            content = element.value or b""
            _check_length(name, len(content))
            if name in SEQUENCES and element.VR in {None, "SQ", "UN"}:
                items = read_sequence(
                    cast("BinaryIO", counted.of(content)),
                    element.is_implicit_VR,
                    element.is_little_endian,
                    len(content),
                    "iso8859",
                )
                dataset[element.tag] = DataElement(element.tag, "SQ", items)
        if name in SEQUENCES:
            for item in dataset[element.tag].value:
                _read_sequences(item, counted, depth + 1)


def _check_length(name: str, length: int) -> None:
    if name in PIXELS | GROUPS:
        return
    most = LONG if name in TABLES else NESTED if name in SEQUENCES else SHORT
    if length > most:
        raise ImageError(f"expected at most {most:,} bytes in {name}, got {length:,}; export the series again")


@functools.cache
def _names() -> dict[int, str]:
    """By tag, what is used."""
    from pydicom.datadict import tag_for_keyword

    return {tag: name for name in USED if (tag := tag_for_keyword(name)) is not None}
