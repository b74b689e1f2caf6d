"""Many DICOM files -> series in order of position, from their headers; and the files that a DICOMDIR names.

Only the attributes listed here are read: none of them says who the patient is. A series is named by the folder
of its files, as the caller gave it, never by an identifier inside them.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from braincam.errors import ImageError
from braincam.images.dicom import brings_window, is_dicom, plane_of, rescaled_values
from braincam.images.elements import SEQUENCES, read_elements, refuse_deflated
from braincam.images.grey import SizeLimits, range_of_volume
from braincam.images.quiet import quiet
from braincam.images.reader import load_library
from braincam.images.volume import Plane, Stack, Volume, stacks

DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage: a DICOMDIR
SAMPLED = 12  # files of a series without windows that its common scale is taken from
MAX_RECORDS = 100_000  # entries of a DICOMDIR

_SERIES = ("StudyInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID")
_TAGS = [
    *_SERIES,
    "SOPClassUID",
    "SOPInstanceUID",
    "AcquisitionNumber",
    "EchoNumbers",
    "InstanceNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "ImageType",
    "EchoTime",
    "InversionTime",
    "DiffusionBValue",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
]


@dataclass(frozen=True, eq=False)
class SeriesSlice:
    """One file of a series: the slice with this number, counted along the normal."""

    path: str | os.PathLike[str]
    number: int
    volume: Volume
    limits: tuple[float, float] | None  # what becomes black and white where files bring no window


@dataclass(frozen=True)
class Header:
    """What sorting needs of one file."""

    series: tuple[str, ...]  # UIDs of the study, the frame of reference and the series; never shown
    instance: str  # the UID of this very slice, "" where it has none; never shown
    plane: Plane
    windowed: bool


def in_series(paths: Sequence[Path], headers: Iterable[Header | None]) -> Iterator[Path | SeriesSlice]:
    """Group DICOM files by series and stack; what stands alone, has several frames or cannot be read stays a path.

    A series comes where its first file stood, its slices in order of position. A second copy of a slice is no second
    slice there: copies make a series of their own.
    """
    known = list(headers)
    found = _stacks(known)
    folders = [_folder([paths[k] for k in stack.members]) for stack in found if len(stack.members) > 1]
    counted: dict[str, int] = {}
    for stack in found:
        files = [paths[k] for k in stack.members]
        if len(files) == 1:
            yield files[0]
            continue
        folder = _folder(files)
        counted[folder] = counted.get(folder, 0) + 1
        name = f"{folder} (series {counted[folder]})" if folders.count(folder) > 1 else folder
        volume = Volume(name, stack.grid, stack.problem)
        limits = common_scale([paths[k] for k in _bare(stack, known)])
        yield from (SeriesSlice(path, number, volume, limits) for number, path in enumerate(files))


@dataclass(frozen=True, eq=False)
class Series:
    """Some files in memory that make one volume, by their numbers among all, in order of position."""

    members: tuple[int, ...]
    bare: tuple[int, ...]  # those that bring no window: they share one range of values, see `common_scale`
    pixels: int  # of all together, as their headers say
    volume: Volume


def series_among(names: Sequence[str], headers: Sequence[Header | None]) -> list[Series]:
    """The series of several files, where the first of each stands; files are grouped as in `in_series`.

    A series is named by its first and its last file.
    """
    return [
        Series(
            members=stack.members,
            bare=_bare(stack, headers),
            pixels=sum(math.prod(header.plane.shape) for k in stack.members if (header := headers[k]) is not None),
            volume=Volume(f"{names[stack.members[0]]} to {names[stack.members[-1]]}", stack.grid, stack.problem),
        )
        for stack in _stacks(headers)
        if len(stack.members) > 1
    ]


def _stacks(headers: Sequence[Header | None]) -> list[Stack]:
    """The stacks of each series, by the numbers of their files, where its first file stands; the rest stands alone."""
    groups: dict[tuple[tuple[str, ...], int] | int, list[int]] = {}
    copies: dict[tuple[tuple[str, ...], str, str], int] = {}
    for number, header in enumerate(headers):
        if header is None:
            groups[number] = [number]
            continue
        # by place too: some anonymisers write one UID into every slice
        slice_ = (header.series, header.instance, str(header.plane.position))
        copy = copies.get(slice_, 0) if header.instance else 0
        copies[slice_] = copy + 1
        groups.setdefault((header.series, copy), []).append(number)
    found = []
    for members in groups.values():
        planes = [header.plane for k in members if (header := headers[k]) is not None]
        if not planes:
            found.append(Stack(tuple(members), None, None))
        found += [replace(stack, members=tuple(members[k] for k in stack.members)) for stack in stacks(planes)]
    return found


def _bare(stack: Stack, headers: Sequence[Header | None]) -> tuple[int, ...]:
    """The files of a stack that bring no window."""
    return tuple(k for k in stack.members if (header := headers[k]) is not None and not header.windowed)


def read_header(source: Path | bytes) -> Header | None:
    """What sorting needs of one file; None where it has no series, no picture, several frames, or a damaged header."""
    try:
        load_library("DICOM")
        with quiet, _opened(source) as file:  # to the end: pydicom complains of values when they are asked for
            dataset = read_elements(file, _TAGS, pixels=False)
            # all three: careless anonymising gives two examinations one series, and positions compare within a frame
            series = tuple(str(dataset.get(name) or "") for name in _SERIES)
            if not series[-1] or int(dataset.get("NumberOfFrames") or 1) > 1 or not dataset.get("Rows"):
                return None
            if "ImagePositionPatient" not in dataset:  # an enhanced image says of its frame what others say of the file
                file.seek(0)
                dataset = read_elements(file, [*_TAGS, *SEQUENCES], 1, pixels=False)
            instance = str(dataset.get("SOPInstanceUID") or "")
            return Header(series, instance, plane_of(dataset), brings_window(dataset))
    except Exception:  # whatever is wrong is said when the file is read as a picture
        return None


def is_directory_of_media(path: Path) -> bool:
    """Whether this is a DICOMDIR, by content."""
    with suppress(OSError, ValueError), path.open("rb") as file:
        head = file.read(1024)
        return is_dicom(head) and DIRECTORY.encode() in head
    return False


def files_of_directory(path: Path) -> list[Path]:
    """The image files that a DICOMDIR names, in its order. Raises ImageError where it names none or is damaged."""
    import pydicom

    try:
        with quiet, path.open("rb") as file:
            refuse_deflated(file)
            records = pydicom.dcmread(file).DirectoryRecordSequence[:MAX_RECORDS]
            parts = [record.get("ReferencedFileID") for record in records]
    except Exception as error:
        raise ImageError(
            f"{path}: expected a whole DICOMDIR, got a damaged one ({type(error).__name__}); give its folder instead"
        ) from error
    names = [[part] if isinstance(part, str) else list(part) for part in parts if part]
    files = [_below(path.parent, name) for name in names]
    if not files:
        raise ImageError(f"{path}: expected a DICOMDIR that names files, got none; give its folder instead")
    return files


def _below(folder: Path, name: list[str]) -> Path:
    """The file that a directory record means; copies of discs often have their names in lower case."""
    parts = [str(part) for part in name]
    if any(part in {"", ".", ".."} or "/" in part or "\\" in part or "\0" in part for part in parts):
        raise ImageError(f"{folder}: its DICOMDIR names a file outside this folder; give the folder instead")
    wanted = folder.joinpath(*parts)
    lower = folder.joinpath(*(part.lower() for part in parts))
    return lower if not wanted.exists() and lower.exists() else wanted


def _opened(source: Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _folder(paths: Sequence[Path]) -> str:
    try:
        return os.path.commonpath([path.parent for path in paths]) or "."
    except ValueError:  # relative and absolute paths, or two drives
        return str(paths[0].parent)


def common_scale(
    bare: Sequence[Path | bytes], sizes: SizeLimits | None = None, check: Callable[[], None] = lambda: None
) -> tuple[float, float] | None:
    """Black and white for the files of a series that have no window, from evenly spaced ones; None where all have.

    `check` is called before each file is decoded, and may end this by raising.
    """
    if not bare:
        return None
    sizes = sizes or SizeLimits()
    chosen = np.unique(np.linspace(0, len(bare) - 1, SAMPLED).round().astype(int))
    values = []
    for k in chosen:
        check()
        with suppress(Exception), quiet, _opened(bare[k]) as file:  # said when it is read as a picture
            if file.seek(0, os.SEEK_END) > sizes.bytes:
                continue
            file.seek(0)
            found = rescaled_values(file, sizes)
            if found is not None:
                values.append(found.reshape(-1))
    return range_of_volume(np.concatenate(values)) if values else None
