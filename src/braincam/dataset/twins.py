"""Which slices belong together: the same patient, the same bytes, or near copies of each other.

Near copies are found on small thumbnails, as they are and mirrored. A group is whatever such links connect; it must
never straddle a split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from braincam.dataset.manifest import Manifest
from braincam.errors import DataError, ImageError
from braincam.images.reader import read_slices
from braincam.progress import track

SIDE = 32  # thumbnail side in pixels
NEAR = 0.95  # correlation from which two thumbnails count as copies
BLOCK = 2048  # rows compared at once: 2048 × N correlations in memory


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """What the twin search compares, one row per slice."""

    digests: tuple[str, ...]  # SHA-256 of the file's bytes
    thumbnails: NDArray[np.float32]  # (N, SIDE, SIDE), each with mean 0 and norm 1


@dataclass(frozen=True)
class Unreadable:
    """A picture that could not be read, and why."""

    path: str
    reason: str


def read_one_slice(path: Path) -> NDArray[np.uint8]:
    """The single slice of a labelled picture, (H, W).

    Raises:
        ImageError: it cannot be read, or it is a volume.
    """
    slices = read_slices(path)
    if len(slices) != 1:
        raise ImageError(
            f"{path}: expected a single slice in a labelled folder, got a volume of {len(slices)}; export its slices"
        )
    return slices[0].pixels


def fingerprint(manifest: Manifest) -> tuple[Manifest, Fingerprints, list[Unreadable]]:
    """Read every slice once: the manifest without unreadable pictures, its fingerprints, and what was left out."""

    def one(row: int) -> tuple[str, NDArray[np.float32]] | ImageError:
        path = manifest.file(row)
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest(), thumbnail(read_one_slice(path))
        except ImageError as error:
            return error
        except OSError as error:
            return ImageError(f"{path}: cannot be read ({error.strerror}); check the disk and the permissions")

    with ThreadPoolExecutor() as pool:
        results = list(track(pool.map(one, range(len(manifest.slices))), "reading", len(manifest.slices), "slices"))
    good = [row for row, result in enumerate(results) if not isinstance(result, ImageError)]
    unreadable = [
        Unreadable(manifest.slices[row].path, str(result))
        for row, result in enumerate(results)
        if isinstance(result, ImageError)
    ]
    if not good:
        raise DataError(
            f"{manifest.root}: none of its {len(results)} pictures can be read; the first: {unreadable[0].reason}"
        )
    pairs = [result for result in results if not isinstance(result, ImageError)]
    prints = Fingerprints(tuple(digest for digest, _ in pairs), np.stack([thumb for _, thumb in pairs]))
    return manifest.keep(good), prints, unreadable


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) uint8 → (SIDE, SIDE) with mean 0 and norm 1; a constant picture becomes all zero."""
    small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(small, np.float32)
    values = values - values.mean()
    norm = float(np.linalg.norm(values))
    return np.asarray(values / norm if norm > 1e-6 else values * 0, np.float32)


def near_twins(thumbnails: NDArray[np.float32], threshold: float = NEAR) -> NDArray[np.int64]:
    """Pairs (M, 2), first below second, whose thumbnails correlate at `threshold` or more, mirrored or not."""
    flat = thumbnails.reshape(len(thumbnails), -1)
    mirrored = thumbnails[:, :, ::-1].reshape(len(thumbnails), -1)
    pairs = []
    for start in range(0, len(flat), BLOCK):
        block = flat[start : start + BLOCK]
        rest, rest_mirrored = flat[start:], mirrored[start:]
        alike = np.maximum(block @ rest.T, block @ rest_mirrored.T) >= threshold
        first, second = np.nonzero(np.triu(alike, 1))
        pairs.append(np.stack((first + start, second + start), 1))
    return np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64)


def group(patients: Sequence[str | None], prints: Fingerprints) -> list[str]:
    """A group name for each slice; slices of one group must stay together in every split.

    Slices are linked by patient, by identical bytes, and by near-identical thumbnails. Two slices whose patients are
    both known and differ are not linked by likeness: heads are alike, and their patients say they are two.
    """
    n = len(patients)
    links: list[NDArray[np.int64]] = [
        _chain(patients),
        _chain(prints.digests),
    ]
    names = np.array([name or "" for name in patients], dtype=object)
    near = near_twins(prints.thumbnails)
    one_unknown = (names[near[:, 0]] == "") | (names[near[:, 1]] == "")
    links.append(near[one_unknown])
    edges = np.concatenate(links)
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    return [f"g{number:05d}" for number in component]


def _chain(keys: Sequence[str | None]) -> NDArray[np.int64]:
    """Links between each row and the previous one with the same key; None links to nothing."""
    last: dict[str, int] = {}
    links = []
    for row, key in enumerate(keys):
        if key is None:
            continue
        if key in last:
            links.append((last[key], row))
        last[key] = row
    return np.array(links, np.int64).reshape(-1, 2)
