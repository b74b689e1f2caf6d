"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz) -> grey slices, with nibabel, imported when the first one
comes.

nibabel reads the header and the affine; the voxels are read here, so that bytes work like a file, only the
first volume of a series is unpacked, and nothing is unpacked before its size is known.

Slices lie in the acquisition plane: across the axis whose voxels are clearly (10 %) thicker than along the
others. A volume of nearly equal spacings is cut axially, one of a single slice across its axis of length 1.
Slices are shown as a radiologist sees them: axial with anterior up, coronal and sagittal with superior up,
the patient's left on the right, and in sagittal slices anterior on the left. Their order and numbers are
those of the closest canonical (RAS+) volume: from left to right, from posterior to anterior, or from
inferior to superior.

Another plane can be asked for. Slices of oblong voxels are resampled to square pixels. Of a series (4-D) the
first volume is read, or the one asked for. The volume is scaled as a whole (see `grey`).
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from braincam.errors import ImageError
from braincam.images.grey import (
    GreyPixels,
    GreySlice,
    SizeLimits,
    check_size,
    range_of_volume,
    square_pixels,
    squared_size,
    stretch,
)
from braincam.images.volume import Form, Grid, Volume

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}  # the canonical axis that slices of a plane are stacked along
THICKER = 1.1  # times the other spacings, before an axis counts as the one the slices were stacked along
MAX_OFFSET = 2**26  # bytes of header and extensions before the voxels
HEADER = 540  # bytes, the longer of the two versions
GZIP = b"\x1f\x8b"


def is_nifti(head: bytes) -> bool:
    """Whether these bytes (348 are enough, unpacked) begin a NIfTI header, alone or with its voxels."""
    return head[344:348] in {b"n+1\0", b"ni1\0"} or head[4:8] in {b"n+2\0", b"ni2\0"}


def unpacked_head(stream: BinaryIO) -> bytes:
    """The first bytes inside a gzip stream, or none where it is damaged; the stream is rewound."""
    try:
        return gzip.GzipFile(fileobj=stream).read(HEADER)
    except (OSError, EOFError, zlib.error):
        return b""
    finally:
        stream.seek(0)


def read_nifti(
    stream: BinaryIO, packed: bool, plane: str | None = None, number: int = 0, sizes: SizeLimits | None = None
) -> list[GreySlice]:
    """Decode volume `number` of the file, `packed` when the stream is gzipped; `plane` of `PLANES`, or as acquired."""
    from nibabel.orientations import apply_orientation, io_orientation

    sizes = sizes or SizeLimits()
    source: Any = gzip.GzipFile(fileobj=stream) if packed else stream
    header = _header(source.read(HEADER))
    shape = _shape(header, sizes)
    affine = header.get_best_affine()
    orientation = io_orientation(affine)  # type: ignore[no-untyped-call]
    if not np.isfinite(orientation).all():
        raise ImageError("expected a NIfTI affine with three directions, got a flat one; set its sform or qform")
    spacing = np.empty(3)
    spacing[orientation[:, 0].astype(int)] = np.sqrt((affine[:3, :3] ** 2).sum(0))  # canonical order, mm
    voxels = _voxels(source, header, shape, number, packed)
    grey = _grey(voxels, _slope(header) < 0).reshape(shape, order="F")
    # (x, y, z), RAS+
    canonical = apply_orientation(grey, orientation)  # type: ignore[no-untyped-call]
    axis = _slice_axis(canonical.shape, spacing) if plane is None else PLANES[plane]
    planes = np.moveaxis(canonical, axis, 0)
    between_columns, between_rows = np.delete(spacing, axis)
    # of the pictures, not of the voxels: a few thick slices are enough to cut through
    check_size(*squared_size(planes.shape[2], planes.shape[1], between_rows, between_columns), len(planes), sizes)
    grid = replace(_grid(shape, affine, orientation, axis), forms=(_qform(header), _sform(header)))
    count = _count(header)
    oriented = any(code for _, code in grid.forms or ())
    volume = Volume(None, grid, chosen=(number, count) if count > 1 else None, oriented=oriented)
    return [
        GreySlice(square_pixels(_upright(cut), between_rows, between_columns, len(planes), sizes), index, volume=volume)
        for index, cut in enumerate(planes)
    ]


def _grid(shape: tuple[int, int, int], affine: Any, orientation: npt.NDArray[Any], axis: int) -> Grid:
    """How pictures across canonical `axis` lie among the stored voxels; `_upright` turns rows and columns round."""
    columns, rows = (other for other in range(3) if other != axis)
    of_picture = {axis: 0, rows: 1, columns: 2}
    canonical = [int(line[0]) for line in orientation]
    x, y, z = (of_picture[k] for k in canonical)
    turned = [(k != axis) != (line[1] < 0) for k, line in zip(canonical, orientation, strict=True)]
    return Grid(shape, np.asarray(affine, np.float64), (x, y, z), (turned[0], turned[1], turned[2]))


def _qform(header: Any) -> Form:
    """None where its numbers are no rotation: the sform said the place then."""
    try:
        affine, code = header.get_qform(coded=True)
    except ValueError:
        return None, 0
    return (affine, int(code)) if affine is not None and np.isfinite(affine).all() else (None, 0)


def _sform(header: Any) -> Form:
    affine, code = header.get_sform(coded=True)
    return affine, int(code)


def _header(head: bytes) -> Any:
    """The header of either version and byte order."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    if b"ni" in {head[344:346], head[4:6]}:
        raise ImageError("expected NIfTI in one file, got the header of a pair (.hdr and .img); convert it to .nii.gz")
    kind: Any = Nifti2Header if head[4:6] == b"n+" else Nifti1Header
    size = kind.template_dtype.itemsize
    if len(head) < size:
        raise ImageError(f"expected a NIfTI header of {size} bytes, got {len(head)}; copy the file again")
    header = kind(head[:size], check=False)  # its own checks would log to stderr
    if header["sizeof_hdr"] != size:
        raise ImageError(f"expected a NIfTI header of {size} bytes, got {header['sizeof_hdr']}; convert it anew")
    _mend(header)
    return header


def _mend(header: Any) -> None:
    """What nibabel, as other readers, mends in the fields that an affine is made from."""
    from nibabel.nifti1 import xform_codes

    sizes = header["pixdim"]
    sizes[0] = sizes[0] if sizes[0] in {-1, 1} else 1
    sizes[1:4] = np.where(sizes[1:4] == 0, 1, np.abs(sizes[1:4]))
    for form in ("qform_code", "sform_code"):
        if int(header[form]) not in xform_codes.value_set():
            header[form] = 0


def _shape(header: Any, sizes: SizeLimits) -> tuple[int, int, int]:
    """Size of the first volume, checked before any voxel is read."""
    count = int(header["dim"][0])
    if not 2 <= count <= 7:
        raise ImageError(f"expected a NIfTI volume of 2 to 7 dimensions, got {count}; convert it to 3-D")
    x, y, z = (int(header["dim"][k]) if k <= count else 1 for k in (1, 2, 3))
    if min(x, y, z) < 1:
        raise ImageError(f"expected NIfTI sizes of at least 1, got {x} x {y} x {z}; convert the volume anew")
    dtype = _dtype(header)
    if x * y * z > sizes.voxels or x * y * z * dtype.itemsize > sizes.bytes:
        raise ImageError(
            f"expected at most {sizes.voxels:,} voxels and {sizes.bytes:,} bytes, got {x:,} x {y:,} x {z:,} "
            f"of {dtype}; crop or resample it"
        )
    return x, y, z


def _dtype(header: Any) -> np.dtype[Any]:
    from nibabel.spatialimages import HeaderDataError

    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise ImageError(
            f"expected NIfTI voxels of a known type, got code {int(header['datatype'])}; convert to float32"
        ) from error
    if dtype.kind not in "iuf":
        raise ImageError(f"expected grey NIfTI voxels, got {dtype}; convert the volume to integers or floats")
    return dtype


def _voxels(source: Any, header: Any, shape: tuple[int, int, int], number: int, packed: bool) -> npt.NDArray[Any]:
    """The stored values of one volume, flat, first axis fastest."""
    dtype = _dtype(header)
    start = float(header["vox_offset"])
    start = header.template_dtype.itemsize + 4 if start == 0 else start
    if not HEADER // 2 <= start <= MAX_OFFSET:
        raise ImageError(f"expected NIfTI voxels to begin within {MAX_OFFSET:,} bytes, got {start:g}; convert it anew")
    expected = math.prod(shape) * dtype.itemsize
    count = _count(header)
    if number >= count:
        raise ImageError(f"expected a volume from 0 to {count - 1}, got {number}; ask for one of the file's volumes")
    begin = int(start) + number * expected
    there = expected if packed else max(0, source.seek(0, os.SEEK_END) - begin)
    source.seek(begin)
    blob = source.read(min(expected, there))  # a file takes memory for all that is asked of it before it is read
    if len(blob) < expected:
        raise ImageError(
            f"expected {expected:,} bytes of NIfTI voxels, got {len(blob):,}; it is cut off, copy it again"
        )
    return np.frombuffer(blob, dtype)


def _count(header: Any) -> int:
    """How many volumes the file holds: its sizes along the fourth axis and further."""
    return math.prod(max(int(size), 1) for size in header["dim"][4 : int(header["dim"][0]) + 1])


def _slope(header: Any) -> float:
    """Slope and intercept cancel in the scaling, all but the slope's sign."""
    slope = float(header["scl_slope"])
    return slope if math.isfinite(slope) and slope != 0 else 1.0


def _slice_axis(shape: tuple[int, ...], spacing: npt.NDArray[np.float64]) -> int:
    """The canonical axis that the slices were stacked along."""
    if shape.count(1) == 1:
        return shape.index(1)
    axis = int(spacing.argmax())
    return axis if spacing[axis] > THICKER * np.delete(spacing, axis).max() else 2


def _grey(voxels: npt.NDArray[Any], negative: bool) -> GreyPixels:
    """The stored values on the grey scale, inverted where the slope of the file is negative. Any shape -> same."""
    low, high = range_of_volume(voxels)
    return stretch(-voxels.astype(np.float64), -high, -low) if negative else stretch(voxels, low, high)


def _upright(plane: GreyPixels) -> GreyPixels:
    """One plane of the canonical volume, transposed and turned so that row 0 is anterior or superior."""
    return np.ascontiguousarray(plane[::-1, ::-1].T)
