"""What the compressed frames of a DICOM file would unpack to, read from their first bytes before any is decoded.

Decoders take as much memory as a codestream asks for, whatever Rows and Columns say: without this a file of a
kilobyte has gigabytes written.
"""

from __future__ import annotations

import math
import re
import struct
from itertools import pairwise
from typing import TYPE_CHECKING

from braincam.errors import ImageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Size = tuple[int, int, int]  # rows, columns, samples to a pixel

JPEG = b"\xff\xd8"
JPEG_2000 = b"\xff\x4f\xff\x51"  # start of codestream, then its size at once
_MARKER = re.compile(rb"\xff([\x01-\xfe])", re.DOTALL)  # filling and rubbish before it are skipped, as libjpeg does
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment
_LAST = frozenset({0xD9, 0xDA})  # end of image, start of scan: after them comes no size
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xDE, 0xF7}  # with DHP, as Pillow; and JPEG-LS
MARKERS = 10_000  # before the size: more is no header
TILES = 4096  # of JPEG 2000: a decoder takes 10 kB for each, be it a single pixel

RLE_HEADER = 64
PACKED = 64  # bytes that one byte of RLE can stand for at most
ROOM = 2**24  # bytes that a segment of RLE may unpack to beyond its own: some are padded, and few are worth counting


def refuse_false_sizes(dataset: Dataset) -> None:
    """Compare each compressed frame's own size with the header's.

    Raises:
        ImageError: a frame would unpack to another size than the header's or is in too many tiles, or there are more
            frames than the header says.
        ValueError: a frame does not say its size, or pydicom cannot tell the frames apart.
    """
    from pydicom.encaps import generate_frames
    from pydicom.uid import RLELossless

    size = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    count = int(dataset.get("NumberOfFrames") or 1)
    offsets, lengths = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    known = offsets is not None and lengths is not None and len(offsets) == len(lengths)  # as pydicom sees it
    frames = generate_frames(
        dataset.PixelData, number_of_frames=count, extended_offsets=(offsets, lengths) if known else None
    )
    for number, frame in enumerate(frames):
        if number == count:  # pydicom would decode them all
            raise ImageError(
                f"expected as many frames as the header says, {count:,}, got more; export the series again"
            )
        if dataset.file_meta.TransferSyntaxUID == RLELossless:
            _check_runs(frame, size[0] * size[1])
            continue
        for found in _stated(frame):
            if found != size:
                raise ImageError(
                    f"expected compressed pixels of {_said(size)}, as the header says, got {_said(found)}; "
                    "export the series again"
                )


def _said(size: Size) -> str:
    rows, columns, samples = size
    return f"{columns:,} x {rows:,} x {samples:,}"


def _stated(frame: bytes) -> list[Size]:
    """Every size that some decoder might take for this frame's own. Raises ValueError where there is none."""
    try:
        sizes = _sizes_of_jpeg(frame) if frame.startswith(JPEG) else _sizes_of_jpeg_2000(frame)
    except struct.error as error:
        raise ValueError("a codestream that ends before its size") from error
    if not sizes:
        raise ValueError("a codestream without a size")
    return sizes


def _sizes_of_jpeg(frame: bytes) -> list[Size]:
    """From the frame headers of JPEG and JPEG-LS before the first scan: one, unless somebody means to deceive."""
    sizes: list[Size] = []
    at = len(JPEG)
    for _ in range(MARKERS):
        found = _MARKER.search(frame, at)
        if found is None or found[1][0] in _LAST:
            break
        code, at = found[1][0], found.end()
        if code in _ALONE:
            continue
        (length,) = struct.unpack_from(">H", frame, at)
        if code in _FRAMES:
            sizes.append(struct.unpack_from(">xHHB", frame, at + 2))  # after the bits to a sample
        at += length
    return sizes


def _sizes_of_jpeg_2000(frame: bytes) -> list[Size]:
    """From the SIZ segment; where boxes of JP2 come first, from all that might be one."""
    sizes: list[Size] = []
    at = frame.find(JPEG_2000)
    last = 0 if at == 0 else len(frame)
    while 0 <= at <= last:
        right, bottom, left, top, across, down, first, upper, samples = struct.unpack_from(">8LH", frame, at + 8)
        tiles = math.ceil((right - first) / max(across, 1)) * math.ceil((bottom - upper) / max(down, 1))
        if tiles > TILES:
            raise ImageError(f"expected JPEG 2000 of at most {TILES:,} tiles, got {tiles:,}; export the series again")
        sizes.append((bottom - top, right - left, samples))
        at = frame.find(JPEG_2000, at + 1)
    return sizes


def _check_runs(frame: bytes, expected: int) -> None:
    """Refuse RLE of which a segment, one byte of each pixel, would unpack to much more than the `expected` bytes."""
    if len(frame) < RLE_HEADER:
        raise ValueError("RLE that ends in its header")
    many, *starts = struct.unpack_from("<16L", frame)
    most = expected + ROOM
    for start, end in pairwise([*starts[:many], len(frame)]):
        packed = min(end, len(frame)) - start
        if packed > 2 * most or (PACKED * packed > most and _unpacked(frame, start, end, most) > most):
            raise ImageError(
                f"expected RLE segments of {expected:,} bytes, as the header says, got one of more than {most:,}; "
                "export the series again"
            )


def _unpacked(frame: bytes, at: int, end: int, most: int) -> int:
    """The bytes that a segment of RLE (PS3.5 G.3) unpacks to, counted until they are more than `most`."""
    total, end = 0, min(end, len(frame))
    while at < end and total <= most:
        code = frame[at]
        if code < 128:
            total += code + 1
            at += code + 2
        else:
            total += 257 - code if code > 128 else 0
            at += 2 if code > 128 else 1
    return total
