"""Which slices belong together: the same patient, the same bytes, or copies of each other.

`find_twins` looks for copies in three steps: byte-identical files; the nearest neighbours of each slice by descriptor,
mirrored or not; and for those, how well their textures fit, as they lie or once one is laid onto the other. A group is
whatever patients, twins and look-alikes connect; it must never straddle a split.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits

from braincam.dataset import likeness
from braincam.dataset.manifest import Manifest
from braincam.dataset.neighbours import nearest
from braincam.dataset.origin import NOBODY, Origin, origin_of, unsettled
from braincam.errors import DataError, ImageError
from braincam.images.grey import MAX_BYTES, GreySlice
from braincam.images.reader import read_slices
from braincam.progress import track

TWIN = 0.87  # correlation of textures from which two slices are one; chosen by benchmarks/twins.py
ALIKE = 0.95  # correlation of thumbnails from which two slices may be neighbours in one head
NEIGHBOURS = 3  # per slice, mirror image and view or zoom: how many are looked at
PROMISING = 0.6  # correlation of descriptors from which a neighbour is looked at; copies reach 0.7 and more
LIKELY = 0.6  # correlation after rough registration from which a pair is registered finely
DIMENSIONS = 64  # of the descriptors' principal components, for the search alone

_ROUGH, _FINE = 16, 32  # sides at which pairs are registered
_CHUNK = 64  # slices read at once
_BATCH = 512  # pairs compared at once; fewer, and threads wait for each other
_MOST_LISTED = 50  # identical files of which all pairs are listed; of more, a chain

Pairs = NDArray[np.int64]  # (M, 2) row numbers, the first below the second

# what was done to one of two twins
KINDS = ("identical", "copy", "mirrored", "cropped", "mirrored and cropped")


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


@dataclass(frozen=True, eq=False)
class Twins:
    """Pairs of copies, with what kind of copy each is, and looser pairs that only grouping heeds."""

    pairs: Pairs  # sorted
    kinds: tuple[str, ...]  # (M,) of `KINDS`
    similarity: NDArray[np.float32]  # (M,) correlation of textures; 1 for identical bytes
    alike: Pairs  # thumbnails correlate at `ALIKE` or more: perhaps slices of one head


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
        with threadpool_limits(1, "blas"), ThreadPoolExecutor() as pool:
            for errors, prints in pool.map(read, range(0, total, _CHUNK)):
                parts.extend([prints] if prints else [])
                yield from errors

    errors = list(track(outcomes(), "reading", total, "slices"))
    unreadable = [
        Unreadable(manifest.slices[row].path, str(error)) for row, error in enumerate(errors) if error is not None
    ]
    if not parts:
        raise DataError(f"{manifest.root}: none of its {total} pictures can be read; the first: {unreadable[0].reason}")
    return manifest.keep(row for row, error in enumerate(errors) if error is None), _joined(parts), unreadable


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


def _joined(parts: Sequence[Fingerprints]) -> Fingerprints:
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


# -- the search --------------------------------------------------------------------------------------------------------


def find_twins(prints: Fingerprints) -> Twins:
    """Every pair of copies among the slices, as far as their nearest neighbours tell.

    Identical files are found by hash, and only one of them takes part in the search. N^1.5 work for N slices.
    """
    identical, copies_of = _identical(prints.digests)
    unique = np.array(sorted(copies_of))
    found: dict[tuple[int, int], tuple[float, str]] = {}
    alike = []
    small = _softened(prints.textures)
    for mirrored in (False, True):
        pairs = _neighbours(prints.descriptors, unique, mirrored)
        alike.append(pairs[_alike(prints.thumbnails, pairs, mirrored)])
        similarity, moved = _compare(prints.textures, small, pairs, mirrored)
        for row in np.flatnonzero(similarity >= TWIN):
            a, b = pairs[row].tolist()
            if similarity[row] > found.get((a, b), (0.0, ""))[0]:
                found[a, b] = float(similarity[row]), _kind(mirrored, bool(moved[row]))
    for (a, b), fact in list(found.items()):  # what holds for one of several identical files holds for each
        found |= {(min(pair), max(pair)): fact for pair in product(copies_of[a], copies_of[b])}
    found |= dict.fromkeys([(a, b) for a, b in identical.tolist()], (1.0, "identical"))
    ordered = sorted(found)
    return Twins(
        pairs=np.array(ordered, np.int64).reshape(-1, 2),
        kinds=tuple(found[pair][1] for pair in ordered),
        similarity=np.array([found[pair][0] for pair in ordered], np.float32),
        alike=np.unique(np.concatenate(alike), axis=0),
    )


def _identical(digests: Sequence[str]) -> tuple[Pairs, dict[int, list[int]]]:
    """Pairs of files with the same bytes; and for the first row of each content, (at most 50 of) its rows."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        rows_of[digest].append(row)
    pairs = [
        pair
        for rows in rows_of.values()
        for pair in (combinations(rows, 2) if len(rows) <= _MOST_LISTED else pairwise(rows))
    ]
    return np.array(pairs, np.int64).reshape(-1, 2), {rows[0]: rows[:_MOST_LISTED] for rows in rows_of.values()}


def _neighbours(descriptors: NDArray[np.float16], unique: NDArray[np.int64], mirrored: bool) -> Pairs:
    """Each slice, perhaps mirrored, with its nearest neighbours by descriptor: in either view, and among the zooms."""
    found = []
    for place in range(descriptors.shape[1]):
        axes = _principal_axes(descriptors[unique[:: max(1, len(unique) // 20_000)], place])
        rows = _projected(descriptors, unique, place, axes, False)
        queries = _projected(descriptors, unique, place if place < likeness.VIEWS else 0, axes, mirrored)
        index, products = nearest(rows, queries, NEIGHBOURS + 1)
        pairs = np.stack((np.repeat(np.arange(len(unique)), index.shape[1]), index.ravel()), 1)
        found.append(pairs[(products.ravel() >= PROMISING) & (pairs[:, 0] != pairs[:, 1])])
    pairs = unique[np.unique(np.sort(np.concatenate(found), 1), axis=0)]
    return np.asarray(pairs, np.int64)


def _principal_axes(rows: NDArray[np.float16]) -> NDArray[np.float32]:
    """Directions in which descriptors differ most: (N, D) → (D, R). Products change little and cost less."""
    some = rows.astype(np.float32)
    _, vectors = np.linalg.eigh(some.T @ some)
    return np.ascontiguousarray(vectors[:, ::-1][:, :DIMENSIONS], np.float32)


def _projected(
    descriptors: NDArray[np.float16], unique: NDArray[np.int64], place: int, axes: NDArray[np.float32], mirrored: bool
) -> NDArray[np.float32]:
    """Descriptors of some slices along the axes, (N, R) of norm 1; a chunk at a time, to hold little in float32."""
    parts = []
    for chunk in _chunks(len(unique), 4096):
        rows = descriptors[unique[chunk], place].astype(np.float32)
        parts.append((likeness.mirrored(rows) if mirrored else rows) @ axes)
    along = np.concatenate(parts)
    return np.asarray(along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6), np.float32)


def _alike(thumbnails: NDArray[np.uint8], pairs: Pairs, mirrored: bool) -> NDArray[np.bool_]:
    """Whether the thumbnails of each pair correlate at `ALIKE` or more in either view."""

    def standard(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        values = thumbnails[rows].astype(np.float32)
        values -= values.mean((2, 3), keepdims=True)
        norm = np.sqrt(np.square(values).sum((2, 3), keepdims=True))
        return np.asarray(np.divide(values, norm, out=np.zeros_like(values), where=norm > 1), np.float32)

    alike = np.zeros(len(pairs), bool)
    for chunk in _chunks(len(pairs)):
        first, second = standard(pairs[chunk, 0]), standard(pairs[chunk, 1])
        second = second[..., ::-1] if mirrored else second
        alike[chunk] = np.einsum("nvij,nvij->nv", first, second).max(1) >= ALIKE
    return alike


def _softened(textures: NDArray[np.int8]) -> NDArray[np.float16]:
    """Whole pictures for rough registration; in half precision, to hold 100,000 slices in 2 GiB."""
    small = np.empty((len(textures), _ROUGH, _ROUGH), np.float16)

    def soften(rows: slice) -> None:
        small[rows] = likeness.soften(textures[rows, 0], _ROUGH)

    _in_chunks(len(textures), soften, "softening")
    return small


def _compare(
    textures: NDArray[np.int8], small: NDArray[np.float16], pairs: Pairs, mirrored: bool
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """How well the textures of each pair fit, and whether one had to be moved or stretched for that.

    First as they lie, in either view. What is open then is registered as a whole: roughly, and finely where that
    was of use.
    """
    similarity = np.zeros(len(pairs), np.float32)
    rough = np.zeros(len(pairs), np.float32)
    warps = likeness.unmoved(len(pairs))

    def as_they_lie(chunk: slice) -> None:
        for view in range(likeness.VIEWS):
            one, other = textures[pairs[chunk, 0], view], textures[pairs[chunk, 1], view]
            other = other[..., ::-1] if mirrored else other
            similarity[chunk] = np.maximum(similarity[chunk], likeness.correlation(one, other))
        first, second = (small[pairs[chunk, side]].astype(np.float32) for side in (0, 1))
        second = second[..., ::-1] if mirrored else second
        warps[chunk], rough[chunk] = likeness.register(first, second, warps[chunk])

    _in_chunks(len(pairs), as_they_lie, "comparing")
    chosen = np.flatnonzero((similarity < TWIN) & (rough >= LIKELY))
    moved = np.zeros(len(pairs), bool)

    def laid_onto(chunk: slice) -> None:
        rows = chosen[chunk]
        # the crop is laid onto the whole: the other way round what is missing there misleads the fit
        crop_first = warps[rows, :2].prod(1) < 1
        whole, crop = np.where(crop_first[:, None], pairs[rows, ::-1], pairs[rows]).T
        first, second = textures[whole, 0], textures[crop, 0]
        second = second[..., ::-1] if mirrored else second
        start = np.where(crop_first[:, None], likeness.inverse(warps[rows], mirrored), warps[rows])
        finer, _ = likeness.register(likeness.soften(first, _FINE), likeness.soften(second, _FINE), start)
        similarity[rows] = np.maximum(similarity[rows], likeness.registered_correlation(first, second, finer))
        moved[rows] = similarity[rows] >= TWIN

    _in_chunks(len(chosen), laid_onto, "registering")
    return similarity, moved


def _kind(mirrored: bool, cropped: bool) -> str:
    """What was done to one of two copies."""
    return " and ".join([*(["mirrored"] if mirrored else []), *(["cropped"] if cropped else [])]) or "copy"


# -- groups ------------------------------------------------------------------------------------------------------------


def group(
    patients: Sequence[str | None], digests: Sequence[str], twins: Twins, owners: Sequence[int] = ()
) -> list[str]:
    """A group name for each slice; slices of one group must stay together in every split.

    Slices are linked by patient, by identical bytes, as twins, and, where a patient is unknown, as look-alikes and by
    the owners that DICOM files name: heads are alike, and two known patients are two however alike they look.
    """
    names = np.array([name or "" for name in patients], dtype=object)
    unknown = (names[twins.alike] == "").any(1)
    owned = _chain(unsettled(patients, owners or [NOBODY] * len(patients)))
    links = np.concatenate((_chain(patients), _chain(digests), twins.pairs, twins.alike[unknown], owned))
    return [f"g{number:05d}" for number in connected(len(patients), links)]


def connected(n: int, links: Pairs) -> NDArray[np.int32]:
    """A number for each of n rows, the same for all that links connect. (M, 2) → (n,)"""
    graph = coo_array((np.ones(len(links), np.int8), (links[:, 0], links[:, 1])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], np.int32)


def _chain(keys: Sequence[str | None]) -> Pairs:
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


def _in_chunks(total: int, work: Callable[[slice], None], what: str) -> None:
    """Do the work for chunks of the rows, several at a time, each on one thread: else they fight for the cores."""
    chunks = _chunks(total)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor() as pool:
        for _ in track(pool.map(work, chunks), what, len(chunks), f"batches of {_BATCH}"):
            pass


def _chunks(total: int, size: int = _BATCH) -> list[slice]:
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]
