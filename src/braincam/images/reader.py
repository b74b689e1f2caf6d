"""A path or bytes -> grey uint8 slices: the one door to every file format.

Files are recognised by content, not by name. pydicom and nibabel are imported only when such a file comes.
Whatever goes wrong is one ImageError in one line: what, where, expected, got, what to do.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from braincam.errors import ImageError
from braincam.images.dicom import is_dicom, read_dicom
from braincam.images.grey import MAX_PIXELS, GreySlice, SizeLimits, to_grey
from braincam.images.nifti import GZIP, HEADER, is_nifti, read_nifti, unpacked_head
from braincam.images.raster import raster_format, read_raster

__all__ = ["MAX_PIXELS", "SUFFIXES", "GreySlice", "looks_readable", "read_slices", "to_grey"]

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".webp"}
    | {".dcm", ".dicom", ".ima", ".nii", ".nii.gz"}
)  # file endings, lower case, that folders are searched for
FORMATS = "JPEG, PNG, BMP, TIFF, GIF, WebP, DICOM or NIfTI"
_ENDINGS = tuple(SUFFIXES)


def read_slices(
    source: str | os.PathLike[str] | bytes, *, name: str | None = None, limits: SizeLimits | None = None
) -> list[GreySlice]:
    """Read a file, or the bytes of one, as grey slices. Raises ImageError and nothing else.

    `name` is what errors call the source, by default its path, or "bytes".
    """
    where = name or ("bytes" if isinstance(source, bytes) else " ".join(os.fspath(source).split()))
    try:
        with _quiet, _opened(source) as stream:
            return _read(stream, limits or SizeLimits())
    except ImageError as error:
        raise ImageError(f"{where}: {error}") from error.__cause__


def looks_readable(path: Path) -> bool:
    """Whether a folder search should take this file: by ending, else by the DICOM mark inside.

    The mark is looked for where the ending tells nothing: none at all, or digits, since hospital archives
    name files `IM0001` or `1.2.840.113619.2`.
    """
    if path.name.lower().endswith(_ENDINGS):
        return True
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return is_dicom(file.read(132))
    except (OSError, ValueError):
        return False


@contextmanager
def _opened(source: str | os.PathLike[str] | bytes) -> Iterator[BinaryIO]:
    """The source as a stream. Only plain files are opened: a pipe or a device might wait for ever."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        mode = Path(source).stat().st_mode
        if stat.S_ISDIR(mode):
            raise ImageError("expected a picture file, got a folder; give the files in it one by one")
        if not stat.S_ISREG(mode):
            raise ImageError("expected a picture file, got a pipe or a device; save it to a file first")
        file = Path(source).open("rb")  # noqa: SIM115 - closed below; errors while it is read are not errors of opening it
    except FileNotFoundError as error:
        raise ImageError("expected a picture file, found nothing there; check the path") from error
    except PermissionError as error:
        raise ImageError("expected a readable file, got permission denied; change its rights or copy it") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"expected a readable file, got {_said(error)}; check the path and the disk") from error
    with file:
        yield file


def _read(stream: BinaryIO, limits: SizeLimits) -> list[GreySlice]:
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
        raise ImageError(f"expected {FORMATS} content, got {_guess(head)}; export the slice as PNG or DICOM")
    try:
        if kind == "NIfTI":
            return read_nifti(stream, packed, limits)
        _check_bytes(stream, limits)
        return read_dicom(stream, limits) if kind == "DICOM" else read_raster(stream, kind, limits)
    except ImageError:
        raise
    except Exception as error:
        said = type(error).__name__ if kind == "DICOM" else _said(error)  # pydicom may quote a patient's data
        raise ImageError(
            f"expected whole {kind} data, got damaged or unsupported ones ({said}); export or copy it again"
        ) from error


def _check_bytes(stream: BinaryIO, limits: SizeLimits) -> None:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if size > limits.bytes:
        raise ImageError(f"expected a file of at most {limits.bytes:,} bytes, got {size:,}; split it into slices")


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


class _Quiet:
    """Silences the libraries' warnings and logs while any thread reads; pydicom's may quote a patient's data.

    The first reader in changes the filters, the last one out restores them. A `catch_warnings` per call is
    not safe with threads: interleaved exits would leave the filters changed.
    """

    LOGGERS = ("pydicom", "PIL")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._restore = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._restore.enter_context(warnings.catch_warnings(action="ignore"))
                for logger in map(logging.getLogger, self.LOGGERS):
                    self._restore.callback(setattr, logger, "disabled", logger.disabled)
                    logger.disabled = True
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._restore.close()


_quiet = _Quiet()
