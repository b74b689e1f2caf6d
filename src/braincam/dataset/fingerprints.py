"""What one reading of each slice leaves behind for the search for copies: hashes, textures, edges, grey levels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from braincam.dataset import likeness
from braincam.dataset.manifest import Manifest
from braincam.dataset.origin import Origin, origin_of
from braincam.errors import DataError, ImageError
from braincam.images.grey import MAX_BYTES, GreySlice
from braincam.images.reader import read_slices
from braincam.progress import track
from braincam.threads import workers

_CHUNK = 64  # slices read at once


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """What one reading of the slices leaves behind, one row per slice."""

    digests: tuple[str, ...]  # SHA-256 of the file's bytes
    textures: NDArray[np.int8]  # (N, 2, 64, 64) local contrast of the two views, see `likeness`
    descriptors: NDArray[np.float16]  # (N, 2 + Z, D) where edges run, in the views and the zooms
    thumbnails: NDArray[np.uint8]  # (N, 2, 32, 32) the two views
    histograms: NDArray[np.float32]  # (N, 16) share of pixels per range of grey
    sizes: NDArray[np.int64]  # (N, 2) height, width
    origins: tuple[Origin, ...]  # what each file says of its slice


@dataclass(frozen=True)
class Unreadable:
    """A picture that could not be read, and why."""

    path: str
    reason: str


def read_one_slice(path: Path, digest: str | None = None) -> NDArray[np.uint8]:
    """The single slice of a labelled picture, (H, W); with `digest`, of just those bytes.

    Raises:
        ImageError: it cannot be read, or is gone, or it is a volume.
        DataError: the file's bytes have not this SHA-256: it was changed since it was looked at.
    """
    if digest is None:
        return _one(path, read_slices(path)).pixels
    found, _, item = _hashed(path)
    if found != digest:
        raise DataError(changed(path))
    return item.pixels


def changed(path: Path) -> str:
    """What is said of a file that is not what it was a moment ago."""
    return f"{path}: was changed while it was being read; run the command again when nothing writes to it any more"


def gone(path: Path) -> str:
    """What is said of a file that is no longer there."""
    return (
        f"{path}: expected the picture that was there when its folder was read, found nothing; put it back, or run "
        "the command again without it"
    )


def _hashed(path: Path) -> tuple[str, bytes, GreySlice]:
    """The hash of a file's bytes, the bytes, and the slice in the very same, whatever becomes of the file meanwhile."""
    try:
        if path.stat().st_size > MAX_BYTES:
            read_slices(path)  # says so, unless it is a large volume
            raise ImageError(f"{path}: expected a picture of at most {MAX_BYTES:,} bytes; export the slice on its own")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(gone(path)) from error
    except OSError as error:  # let out, it would be taken for an error of the cache's disk
        raise ImageError(
            f"{path}: expected a readable picture, got {error.strerror or error}; check the disk and the permissions"
        ) from error
    return hashlib.sha256(content).hexdigest(), content, _one(path, read_slices(content, name=str(path)))


def _one(path: Path, slices: list[GreySlice]) -> GreySlice:
    if len(slices) != 1:
        raise ImageError(
            f"{path}: expected a single slice in a labelled folder, got a volume of {len(slices)}; export its slices"
        )
    return slices[0]


def fingerprint(manifest: Manifest) -> tuple[Manifest, Fingerprints, list[Unreadable]]:
    """Read every slice once: the manifest without unreadable pictures, its fingerprints, and what was left out."""
    total = len(manifest.slices)
    parts: list[Fingerprints] = []

    def read(start: int) -> tuple[list[ImageError | None], Fingerprints | None]:
        found = [_read(manifest.file(row)) for row in range(start, min(start + _CHUNK, total))]
        good = [item for item in found if not isinstance(item, ImageError)]
        prints = print_slices(*zip(*good, strict=True)) if good else None
        return [item if isinstance(item, ImageError) else None for item in found], prints

    def outcomes() -> Iterator[ImageError | None]:
        with workers() as pool:
            for errors, prints in pool.map(read, range(0, total, _CHUNK)):
                parts.extend([prints] if prints else [])
                yield from errors

    errors = list(track(outcomes(), "reading", total, "slices"))
    unreadable = [
        Unreadable(manifest.slices[row].path, str(error)) for row, error in enumerate(errors) if error is not None
    ]
    if not parts:
        raise DataError(f"{manifest.root}: none of its {total} pictures can be read; the first: {unreadable[0].reason}")
    return manifest.keep(row for row, error in enumerate(errors) if error is None), joined(parts), unreadable


def _read(path: Path) -> tuple[str, NDArray[np.uint8], Origin] | ImageError:
    """The hash of a file's bytes, its one slice and what it says of it, or why not."""
    try:
        digest, content, item = _hashed(path)
        return digest, item.pixels, origin_of(content, item)
    except ImageError as error:
        return error


def print_slices(
    digests: Sequence[str], slices: Sequence[NDArray[np.uint8]], origins: Sequence[Origin] | None = None
) -> Fingerprints:
    """Fingerprints of slices (H, W) of any sizes; `digests` say which files are identical."""
    views = np.stack([likeness.views(pixels) for pixels in slices])
    zooms = np.stack([likeness.zooms(pixels) for pixels in slices])
    flat = views.reshape(-1, *views.shape[2:])
    shape = (len(slices), likeness.VIEWS)
    halved = flat.reshape(-1, 32, flat.shape[1] // 32, 32, flat.shape[2] // 32).mean((2, 4))
    counts = [np.bincount(pixels.ravel() // 16, minlength=16) / pixels.size for pixels in slices]
    return Fingerprints(
        digests=tuple(digests),
        textures=likeness.textures(flat).reshape(*shape, *flat.shape[1:]),
        descriptors=np.concatenate(
            [
                likeness.descriptors(seen.reshape(-1, *seen.shape[2:])).reshape(*seen.shape[:2], -1).astype(np.float16)
                for seen in (views, zooms)
            ],
            axis=1,
        ),
        thumbnails=np.rint(halved).astype(np.uint8).reshape(*shape, 32, 32),
        histograms=np.array(counts, np.float32),
        sizes=np.array([pixels.shape for pixels in slices]),
        origins=tuple(origins or [Origin()] * len(slices)),
    )


def joined(parts: Sequence[Fingerprints]) -> Fingerprints:
    """Parts of one folder, one after the other."""
    return Fingerprints(
        digests=tuple(digest for part in parts for digest in part.digests),
        textures=np.concatenate([part.textures for part in parts]),
        descriptors=np.concatenate([part.descriptors for part in parts]),
        thumbnails=np.concatenate([part.thumbnails for part in parts]),
        histograms=np.concatenate([part.histograms for part in parts]),
        sizes=np.concatenate([part.sizes for part in parts]),
        origins=tuple(origin for part in parts for origin in part.origins),
    )
