"""Many DICOM files -> series in order of position, from their headers; and the files that a DICOMDIR names.

Only the attributes listed here are read: none of them says who the patient is. A series is named by the folder
of its files, as the caller gave it, never by an identifier inside them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from braincam.errors import ImageError
from braincam.images.dicom import brings_window, is_dicom, plane_of, refuse_deflated, rescaled_values
from braincam.images.grey import MAX_BYTES, range_of_volume
from braincam.images.quiet import quiet
from braincam.images.volume import Plane, Volume, stacks

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
    "TemporalPositionIndex",
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

    path: Path
    number: int
    volume: Volume
    limits: tuple[float, float] | None  # what becomes black and white where files bring no window


@dataclass(frozen=True)
class _Header:
    path: Path
    series: tuple[str, ...]  # UIDs of the study, the frame of reference and the series; never shown
    instance: str  # the UID of this very slice, "" where it has none; never shown
    plane: Plane
    windowed: bool


def in_series(paths: Sequence[Path], headers: Iterable[_Header | None]) -> Iterator[Path | SeriesSlice]:
    """Group DICOM files by series and stack; what stands alone, has several frames or cannot be read stays a path.

    A series comes where its first file stood, its slices in order of position. A second copy of a slice is no second
    slice there: copies make a series of their own.
    """
    groups: dict[tuple[tuple[str, ...], int], list[_Header]] = {}
    copies: dict[tuple[tuple[str, ...], str, str], int] = {}
    order: list[Path | tuple[tuple[str, ...], int]] = []
    for path, header in zip(paths, headers, strict=True):
        if header is None:
            order.append(path)
            continue
        # by place too: some anonymisers write one UID into every slice
        slice_ = (header.series, header.instance, str(header.plane.position))
        copy = copies.get(slice_, 0) if header.instance else 0
        copies[slice_] = copy + 1
        series = (header.series, copy)
        if series not in groups:
            order.append(series)
        groups.setdefault(series, []).append(header)
    arranged = {
        series: [
            (tuple(members[k] for k in stack.members), stack.grid, stack.problem)
            for stack in stacks([header.plane for header in members])
        ]
        for series, members in groups.items()
    }
    folders = [_folder(stack) for found in arranged.values() for stack, _, _ in found if len(stack) > 1]
    counted: dict[str, int] = {}
    for entry in order:
        if isinstance(entry, Path):
            yield entry
            continue
        for members, grid, problem in arranged[entry]:
            if len(members) == 1:
                yield members[0].path
                continue
            folder = _folder(members)
            counted[folder] = counted.get(folder, 0) + 1
            name = f"{folder} (series {counted[folder]})" if folders.count(folder) > 1 else folder
            volume = Volume(name, grid, problem)
            limits = _common_scale(members)
            yield from (SeriesSlice(header.path, k, volume, limits) for k, header in enumerate(members))


def read_header(path: Path) -> _Header | None:
    """What sorting needs of one file; None where it has no series, no picture, several frames, or a damaged header."""
    import pydicom

    try:
        with quiet, path.open("rb") as file:  # to the end: pydicom complains of values when they are asked for
            refuse_deflated(file)
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
            # all three: careless anonymising gives two examinations one series, and positions compare within a frame
            series = tuple(str(dataset.get(name) or "") for name in _SERIES)
            if not series[-1] or int(dataset.get("NumberOfFrames") or 1) > 1 or not dataset.get("Rows"):
                return None
            instance = str(dataset.get("SOPInstanceUID") or "")
            return _Header(path, series, instance, plane_of(dataset), brings_window(dataset))
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


def _folder(members: Sequence[_Header]) -> str:
    try:
        return os.path.commonpath([header.path.parent for header in members]) or "."
    except ValueError:  # relative and absolute paths, or two drives
        return str(members[0].path.parent)


def _common_scale(members: Sequence[_Header]) -> tuple[float, float] | None:
    """Black and white for the files of a series that have no window, from evenly spaced ones; None where all have."""
    bare = [header.path for header in members if not header.windowed]
    if not bare:
        return None
    chosen = np.unique(np.linspace(0, len(bare) - 1, SAMPLED).round().astype(int))
    values = []
    for k in chosen:
        with suppress(Exception), quiet, bare[k].open("rb") as file:  # said when it is read as a picture
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                continue
            found = rescaled_values(file)
            if found is not None:
                values.append(found.reshape(-1))
    return range_of_volume(np.concatenate(values)) if values else None
