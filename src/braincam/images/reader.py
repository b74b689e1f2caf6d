"""A path or bytes -> grey uint8 slices: the one door to every file format.

Files are recognised by content, not by name. pydicom and nibabel are imported only when such a file comes.
Whatever goes wrong is one ImageError in one line: what, where, expected, got, what to do.
"""

from __future__ import annotations

import importlib
import io
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from braincam.errors import ImageError
from braincam.images.dicom import is_dicom, lacks_preamble, read_dicom
from braincam.images.grey import MAX_PIXELS, GreySlice, SizeLimits, to_grey
from braincam.images.nifti import GZIP, HEADER, is_nifti, read_nifti, unpacked_head
from braincam.images.quiet import quiet
from braincam.images.raster import raster_format, read_raster
from braincam.images.volume import Volume

__all__ = ["MAX_PIXELS", "SUFFIXES", "GreySlice", "looks_readable", "read_slices", "to_grey"]

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
UNTELLING = DICOM_SUFFIXES | {"", ".mr"}  # endings, and any digits, under which the mark of DICOM is looked for
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".webp"}
    | {".nii", ".nii.gz"}
    | DICOM_SUFFIXES
)  # file endings, lower case, that folders are searched for
FORMATS = "JPEG, PNG, BMP, TIFF, GIF, WebP, DICOM or NIfTI"
_ENDINGS = tuple(SUFFIXES)
_LIBRARIES = {
    "NIfTI": ("nibabel.nifti1", "nibabel.nifti2", "nibabel.orientations", "nibabel.spatialimages"),
    "DICOM": ("pydicom", "pydicom.pixels.utils", "pydicom.pixels.processing", "pydicom.pixels.decoders.base"),
}
_loading = threading.Lock()


def stem_of(path: str) -> str:
    """A path's last name without its ending; only known endings are taken off: the last part of a DICOM UID is none."""
    stem = Path(path).name.strip("<>").removesuffix(".gz")
    return Path(stem).stem if Path(stem).suffix.lower() in SUFFIXES else stem


@dataclass(frozen=True)
class Reading:
    """How to read what leaves a choice."""

    plane: str | None = None  # NIfTI: axial, coronal or sagittal; None: as it was acquired
    volume: int = 0  # NIfTI: of a 4-D file
    limits: tuple[float, float] | None = None  # DICOM: black and white where the file has no window of its own
    sizes: SizeLimits = field(default_factory=SizeLimits)  # checked before anything is decoded


def read_slices(
    source: str | os.PathLike[str] | bytes, reading: Reading | None = None, *, name: str | None = None
) -> list[GreySlice]:
    """Read a file, or the bytes of one, as grey slices. Raises ImageError and nothing else.

    `name` is what errors call the source, by default its path, or "bytes".
    """
    where = name or ("bytes" if isinstance(source, bytes) else " ".join(os.fspath(source).split()))
    try:
        with quiet, _opened(source) as stream:
            slices = _read(stream, reading or Reading())
    except ImageError as error:
        raise ImageError(f"{where}: {error}") from error.__cause__
    except OSError as error:  # of the disk, after the file was opened
        raise ImageError(f"{where}: expected a readable file, got {_said(error)}; check the disk") from error
    if len(slices) > 1 and slices[0].volume is None:
        volume = Volume(None, None, "this format does not say where its slices lie")
        slices = [replace(item, volume=volume) for item in slices]
    return slices


def looks_readable(path: Path) -> bool:
    """Whether a folder search should take this file: by ending, else by the DICOM mark inside, or what comes after it.

    The mark is looked for where the ending tells nothing: none at all, digits, or the modality, since hospital archives
    name files `IM0001`, `1.2.840.113619.2` or `scan.MR`.
    """
    if path.name.lower().endswith(_ENDINGS):
        return True
    head = _head(path)
    return is_dicom(head) or lacks_preamble(head)


def is_dicom_file(path: Path) -> bool:
    """Whether this is a DICOM file by its mark, looked for unless the ending says that it is something else."""
    return is_dicom(_head(path))


def _head(path: Path) -> bytes:
    """Where DICOM has its mark; nothing of a file whose ending says that it is something else."""
    ending = path.suffix.lower()
    if ending not in UNTELLING and not ending[1:].isdigit():
        return b""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(132)
    except (OSError, ValueError):
        return b""


@contextmanager
def _opened(source: str | os.PathLike[str] | bytes) -> Iterator[BinaryIO]:
    """The source as a stream. Only plain files are opened: a pipe or a device might wait for ever."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        _check_mode(Path(source).stat().st_mode)
        file = Path(source).open("rb")  # noqa: SIM115 - closed below; errors while it is read are not errors of opening it
    except ImageError:  # a ValueError too, but said already
        raise
    except FileNotFoundError as error:
        raise ImageError("expected a picture file, found nothing there; check the path") from error
    except PermissionError as error:
        raise ImageError("expected a readable file, got permission denied; change its rights or copy it") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"expected a readable file, got {_said(error)}; check the path and the disk") from error
    with file:
        yield file


def _check_mode(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise ImageError("expected a picture file, got a folder; give the files in it one by one")
    if not stat.S_ISREG(mode):
        raise ImageError("expected a picture file, got a pipe or a device; save it to a file first")


def _read(stream: BinaryIO, reading: Reading) -> list[GreySlice]:
    """Recognise the format by its first bytes and decode; the libraries' exceptions are caught here only."""
    head = stream.read(HEADER)
    stream.seek(0)
    packed = head.startswith(GZIP)
    raster = raster_format(head)
    if is_dicom(head):
        kind = "DICOM"
    elif is_nifti(unpacked_head(stream) if packed else head):
        kind = "NIfTI"
    elif raster:
        kind = raster
    else:
        if lacks_preamble(head):
            raise ImageError(
                "expected a DICOM file, got what looks like one without the 132 bytes that begin it; write it again, "
                "with pydicom: dcmread(FILE, force=True).save_as(FILE, enforce_file_format=True)"
            )
        raise ImageError(f"expected {FORMATS} content, got {_guess(head)}; export the slice as PNG or DICOM")
    try:
        load_library(kind)
        if kind == "NIfTI":
            return read_nifti(stream, packed, reading.plane, reading.volume, reading.sizes)
        _check_bytes(stream, reading.sizes)
        if not isinstance(stream, io.BytesIO):  # now of a checked length: a false one inside cannot ask for more
            stream = io.BytesIO(stream.read())
        if kind == "DICOM":
            return read_dicom(stream, reading.limits, reading.sizes)
        return read_raster(stream, kind, reading.sizes)
    except ImageError:
        raise
    except Exception as error:
        said = type(error).__name__ if kind == "DICOM" else _said(error)  # pydicom may quote a patient's data
        raise ImageError(
            f"expected whole {kind} data, got damaged or unsupported ones ({said}); export or copy it again"
        ) from error


def load_library(kind: str) -> None:
    """Import a format's library, in one thread at a time: its modules import each other, and a second thread that
    comes while they do meets half-made ones.
    """
    with _loading:
        for module in _LIBRARIES.get(kind, ()):
            importlib.import_module(module)


def _check_bytes(stream: BinaryIO, sizes: SizeLimits) -> None:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if size > sizes.bytes:
        raise ImageError(f"expected a file of at most {sizes.bytes:,} bytes, got {size:,}; split it into slices")


def _said(error: Exception) -> str:
    """An exception of a library in a few words, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split()) or type(error).__name__
    if type(error).__name__ == "UnidentifiedImageError":
        text = "its header cannot be read"  # Pillow names the stream object instead
    return text if len(text) <= 120 else text[:117] + "..."


def _guess(head: bytes) -> str:
    """What the bytes of an unknown file look like."""
    if not head:
        return "an empty file"
    if head.startswith(GZIP):
        return "a gzip file without NIfTI inside, or a damaged one"
    if head.startswith(b"PK"):
        return "a zip archive"
    if head.startswith(b"%PDF"):
        return "a PDF"
    controls = sum(byte < 32 and byte not in b"\t\n\r\f" for byte in head)
    return "text" if not controls else "unknown bytes"
