"""What is asked for → grey slices with their names: folders, patterns, DICOM series, bytes and arrays."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from braincam.ahead import ahead
from braincam.errors import ImageError
from braincam.images.grey import check_size, grey_of_array, range_of_volume, stretch
from braincam.images.ours import is_ours
from braincam.images.reader import GreySlice, Reading, is_dicom_file, looks_readable, read_slices
from braincam.images.series import (
    SeriesSlice,
    files_of_directory,
    in_series,
    is_directory_of_media,
    read_header,
)
from braincam.images.volume import Volume
from braincam.progress import track
from braincam.threads import usable_cores

AHEAD = 64  # files decoded before they are asked for
AHEAD_PIXELS = 2**26  # and no further ones while these wait: volumes are large
SHOWN = 80  # characters of a path that is too long to be one

Source = str | os.PathLike[str] | bytes | NDArray[Any]
_Job = Source | SeriesSlice | ImageError  # one file to decode


@dataclass(frozen=True, eq=False)
class Unread:
    """What stands in the place of a slice that could not be read."""

    reason: str
    slice: int | None = None  # its number, where it is one of a series
    volume: Volume | None = None


def read_sources(sources: Iterable[Source], reading: Reading) -> Iterator[tuple[str, GreySlice | Unread]]:
    """Every slice of the sources with its file's name, in order; files are decoded ahead on other threads.

    A folder stands for the pictures in it, a pattern for what it matches, a DICOMDIR for the files it names. Files of
    one DICOM series that follow each other are put in order of position. Nothing is raised for bad input.
    """
    for job, outcome in _decoded(_gather(expand(sources)), reading):
        name = _name(job)
        if not isinstance(outcome, ImageError):
            yield from ((name, item) for item in outcome)
        elif isinstance(job, SeriesSlice):
            yield name, Unread(str(outcome), job.number, job.volume)
        else:
            yield name, Unread(str(outcome))


def expand(sources: Iterable[Source]) -> Iterator[Source | ImageError]:
    """Replace folders and patterns by the files they stand for; one that stands for none becomes an error.

    Pictures and maps of evidence are passed over there, one by one: scans may lie in a folder of answers too.
    """
    for source in sources:
        if isinstance(source, bytes | np.ndarray):
            yield source
            continue
        try:
            given = os.fspath(source)
        except TypeError:
            kind = type(source).__name__
            why = f"<{kind}>: expected a path, bytes or an array, got {kind}; give a picture as np.asarray(picture)"
            yield _nothing(f"<{kind}>", why)
            continue
        if not given:  # Path would take it for the folder at hand
            yield _nothing("", "expected a file, folder or pattern, got an empty path")
            continue
        path = Path(source)
        try:
            folder, there = path.is_dir(), path.exists()
        except OSError as error:  # a name longer than the file system allows
            shown = given if len(given) <= SHOWN else f"{given[:SHOWN]}..."
            yield _nothing(source, f"{shown}: not a usable path ({error.strerror}); expected a file, folder or pattern")
            continue
        if folder:
            found = list(_walk(path))
            unread = [item for item in found if isinstance(item, ImageError)]
            files = [file for file in found if isinstance(file, Path) and _is_scan(file)]
            files.sort(key=is_dicom_file)  # together, at the end: a series may lie in several folders
            yield from unread
            if not files and not unread:
                yield _nothing(path, f"{path}: no pictures in this folder; expected png, jpg, tif, dcm, nii, ...")
            yield from files
        elif not there and glob.has_magic(str(path)):
            matches = _matches(path)
            if not matches:
                yield _nothing(path, f"{path}: no picture matches this pattern; check it, or give a file or folder")
            yield from expand(matches)
        elif _is_index(path):
            try:
                yield from files_of_directory(path)
            except ImageError as error:
                yield _nothing(path, str(error))
        else:
            yield source  # its answer names it as it was given


def _matches(pattern: Path) -> list[Path]:
    """What a pattern stands for, sorted; nothing twice, although `**` also names what lies in a folder that it names.

    A last part of wildcards alone asks for whatever is there, as a folder does; any other, as `*.png` or `IM*`, names
    its files, which are tried.
    """
    everything = set(pattern.name) <= set("*?.")
    found = [Path(match) for match in sorted(glob.glob(str(pattern), recursive=True))]
    folders = {match for match in found if match.is_dir()}
    return [
        match
        for match in found
        if folders.isdisjoint(match.parents)
        and (match in folders or (_is_scan(match) if everything else not is_ours(match)))
    ]


def _is_scan(file: Path) -> bool:
    """Whether a file that was come upon should be read: neither an index nor a picture of evidence."""
    return looks_readable(file) and not _is_index(file) and not is_ours(file)


def _nothing(path: str | os.PathLike[str], why: str) -> ImageError:
    """The error that stands for a path without a picture."""
    error = ImageError(why)
    error.path = os.fspath(path)
    return error


def _is_index(path: Path) -> bool:
    """Whether this is a DICOMDIR, which names pictures and is none."""
    return path.name.upper().startswith("DICOMDIR") and is_directory_of_media(path)


def _gather(sources: Iterator[Source | ImageError]) -> Iterator[_Job]:
    """Put runs of DICOM files in order, series by series."""
    run: list[str | os.PathLike[str]] = []
    for source in sources:
        if isinstance(source, str | os.PathLike) and is_dicom_file(Path(source)):
            run.append(source)
            continue
        yield from _sorted(run)
        run = []
        yield source
    yield from _sorted(run)


def _sorted(run: list[str | os.PathLike[str]]) -> Iterator[_Job]:
    if len(run) < 2:
        yield from run
    else:
        paths = [Path(path) for path in run]
        given = dict(zip(paths, run, strict=True))  # an answer names its file as it was given
        headers = (read_header(path) for path in track(paths, "sorting DICOM files", unit="files"))
        for job in in_series(paths, headers):
            yield replace(job, path=given[Path(job.path)]) if isinstance(job, SeriesSlice) else given[job]


def _walk(folder: Path) -> Iterator[Path | ImageError]:
    """Visible files below a folder, sorted, and an error for each folder whose pictures are not among them."""
    closed: list[OSError] = []
    for where, folders, names in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(where) / name for name in sorted(names) if not name.startswith("."))
        for link in (Path(where) / name for name in folders):
            # not followed, since it may lead in a circle; what it leads to below this folder is met there
            if link.is_symlink() and not link.resolve().is_relative_to(folder.resolve()):
                yield _nothing(
                    link, f"{link}: expected a folder, got a link to one, which is not followed; give it by name"
                )
    for error in closed:
        why = f"{error.filename}: this folder cannot be read ({error.strerror}); change its rights or copy it"
        yield _nothing(error.filename, why)


def _decoded(jobs: Iterator[_Job], reading: Reading) -> Iterator[tuple[_Job, list[GreySlice] | ImageError]]:
    """Read in order, several ahead; an error takes the place of the slices."""
    read = partial(_read, reading=reading)
    return ahead(jobs, read, _pixels, threads=usable_cores(), most=AHEAD, room=AHEAD_PIXELS)


def _pixels(outcome: list[GreySlice] | ImageError) -> int:
    return 0 if isinstance(outcome, ImageError) else sum(item.pixels.size for item in outcome)


def _read(job: _Job, reading: Reading) -> list[GreySlice] | ImageError:
    try:
        if isinstance(job, ImageError):
            return job
        if isinstance(job, np.ndarray):
            return _from_array(job)
        if isinstance(job, SeriesSlice):
            slices = read_slices(job.path, replace(reading, limits=job.limits))
            return [replace(item, index=job.number, volume=job.volume) for item in slices]
        return read_slices(job, reading)
    except ImageError as error:
        return error


def _from_array(array: NDArray[Any]) -> list[GreySlice]:
    """(H, W), (H, W, 1) or (H, W, 3) is one slice; (N, H, W) is a volume, scaled as a whole."""
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[:, :, 0]
    if array.ndim == 3 and array.shape[-1] not in (3, 4) and array.size:
        if array.dtype.kind not in "buif":
            grey_of_array(array[0])  # says what is wrong
        check_size(*array.shape[1:])  # of each slice; a volume of many is no bomb
        grey = array if array.dtype == np.uint8 else stretch(array, *range_of_volume(array))
        volume = Volume(None, None, "an array does not say where its slices lie")
        return [GreySlice(np.ascontiguousarray(plane), k, volume=volume) for k, plane in enumerate(grey)]
    pixels, colourful = grey_of_array(array)
    return [GreySlice(pixels, None, colourful)]


def _name(job: _Job) -> str:
    if isinstance(job, ImageError):
        return str(job).partition(": ")[0] if job.path is None else job.path
    if isinstance(job, bytes):
        return "<bytes>"
    if isinstance(job, SeriesSlice):
        return os.fspath(job.path)
    return "<array>" if isinstance(job, np.ndarray) else os.fspath(job)
