"""Which slices are copies of each other, found among their fingerprints.

`find_twins` looks in three steps: byte-identical files; the nearest neighbours of each slice by descriptor, mirrored,
turned or neither; and for those, how well their textures fit, as they lie or, unless turned, once one is laid onto the
other. Where a slice has so many copies that they are all its nearest neighbours, one of them is asked again for those
that are not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, pairwise, product

import numpy as np
from numpy.typing import NDArray

from braincam.dataset import likeness
from braincam.dataset.fingerprints import Fingerprints
from braincam.dataset.likeness import POSES, Pose
from braincam.dataset.links import Pairs, connected
from braincam.dataset.neighbours import Index
from braincam.progress import track
from braincam.threads import workers

TWIN = 0.87  # correlation of textures from which two slices are one; chosen by benchmarks/twins.py
ALIKE = 0.95  # correlation of thumbnails from which two slices may be neighbours in one head
NEIGHBOURS = 3  # per slice, mirror image and view or zoom: how many are looked at
PROMISING = 0.6  # correlation of descriptors from which a neighbour is looked at; copies reach 0.7 and more
LIKELY = 0.6  # correlation after rough registration from which a pair is registered finely
DIMENSIONS = 64  # of the descriptors' principal components, for the search alone

_ROUGH, _FINE = 16, 32  # sides at which pairs are registered
_BATCH = 256  # pairs compared at once: more do not fit into a core's cache; with fewer, threads wait for each other
_ASKING = 16_384  # slices that ask for their neighbours at once; more take more memory
_MOST_LISTED = 50  # identical files of which all pairs are listed; of more, a chain

_UPRIGHT = [pose for pose in POSES if not pose.quarters]
_ASKED = [pose for pose in POSES if pose != Pose(False, 3)]
TURNED, INVERTED = "turned", "inverted"
# what was done to one of two twins; turned by a quarter or upside down, inverted: white for black
KINDS = (
    "identical", "copy", "mirrored", "cropped", "mirrored and cropped", TURNED, f"mirrored and {TURNED}", INVERTED,
    f"mirrored and {INVERTED}", f"{TURNED} and {INVERTED}", f"mirrored and {TURNED} and {INVERTED}",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Twins:
    """Pairs of copies, with what kind of copy each is, and looser pairs that only grouping heeds."""

    pairs: Pairs  # sorted
    kinds: tuple[str, ...]  # (M,) of `KINDS`
    similarity: NDArray[np.float32]  # (M,) correlation of textures; 1 for identical bytes
    alike: Pairs  # thumbnails correlate at `ALIKE` or more: perhaps slices of one head

    @property
    def turned(self) -> NDArray[np.bool_]:
        """(M,) whether one of the two lies turned by a quarter or upside down."""
        return np.array([TURNED in kind for kind in self.kinds], bool)


def find_twins(prints: Fingerprints) -> Twins:
    """Every pair of copies among the slices, as far as their nearest neighbours tell.

    Identical files are found by hash, and only one of them takes part in the search. N^1.5 work for N slices. Of a
    family of many copies not every pair is listed, but all are connected.
    """
    identical, copies_of = _identical(prints.digests)
    unique = np.array(sorted(copies_of))
    found: dict[tuple[int, int], tuple[float, str]] = {}
    alike = []
    small = _softened(prints.textures)
    asking, families = np.arange(len(unique)), np.arange(len(unique), dtype=np.int32)
    while len(asking):
        for pose, pairs in _neighbours(prints.descriptors, unique, families, asking).items():
            if pose in _UPRIGHT:
                alike.append(pairs[_alike(prints.thumbnails, pairs, pose)])
            similarity, inverted, moved = _compare(prints.textures, small, pairs, pose)
            for row in np.flatnonzero(similarity >= TWIN):
                a, b = pairs[row].tolist()
                if similarity[row] > found.get((a, b), (0.0, ""))[0]:
                    found[a, b] = float(similarity[row]), _kind(pose, bool(inverted[row]), bool(moved[row]))
        before = families
        links = np.array(sorted(found), np.int64).reshape(-1, 2)
        families = connected(len(unique), np.searchsorted(unique, links))
        asking = _crowded(before, families)
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


def _crowded(before: NDArray[np.int32], families: NDArray[np.int32]) -> NDArray[np.int64]:
    """Who has to be asked again, (N,) → (M,): one of each family that grew and fills the places of all neighbours."""
    sizes = np.bincount(families)[families]
    crowded = np.flatnonzero((sizes > NEIGHBOURS) & (sizes > np.bincount(before)[before]))
    return crowded[np.unique(families[crowded], return_index=True)[1]]


def _neighbours(
    descriptors: NDArray[np.float16],
    unique: NDArray[np.int64],
    families: NDArray[np.int32],
    asking: NDArray[np.int64],
) -> dict[Pose, Pairs]:
    """Those who ask, in every pose, with their nearest neighbours by descriptor that are not of their family.

    In either view and, unless turned, among the zooms; by one quarter and not by three, since who is found by three
    finds by one. `families` are those of the `unique` slices, `asking` are some of these. Of each pair the second is
    the one that lies in the pose.
    """
    n = len(unique)
    found: dict[Pose, list[NDArray[np.int64]]] = {pose: [] for pose in POSES}  # first x n + second: half the memory

    def ask(index: Index, view: int, axes: NDArray[np.float32], pose: Pose, some: slice) -> tuple[Pose, Pairs]:
        queries = _projected(descriptors, unique[asking[some]], view, axes, pose)
        rows, products = index.nearest(queries, NEIGHBOURS, kin=(families, families[asking[some]]))
        near = products.ravel() >= PROMISING
        return pose, np.stack((rows.ravel()[near], np.repeat(asking[some], rows.shape[1])[near]))

    for place in range(descriptors.shape[1]):
        axes = _principal_axes(descriptors[unique[:: max(1, len(unique) // 20_000)], place])
        index = Index(_projected(descriptors, unique, place, axes, Pose()))
        view, poses = (place, _ASKED) if place < likeness.VIEWS else (0, _UPRIGHT)
        jobs = zip(*product(poses, _chunks(len(asking), _ASKING)), strict=True)
        with workers() as pool:
            for pose, (first, second) in pool.map(partial(ask, index, view, axes), *jobs):
                ordered = first < second
                found[pose].append((first * n + second)[ordered])
                found[pose.inverse].append((second * n + first)[~ordered])
        del index  # before the next one is made
    return {pose: unique[np.stack(np.divmod(np.unique(np.concatenate(found.pop(pose))), n), 1)] for pose in POSES}


def _principal_axes(rows: NDArray[np.float16]) -> NDArray[np.float32]:
    """Directions in which descriptors differ most: (N, D) → (D, R). Products change little and cost less."""
    some = rows.astype(np.float32)
    _, vectors = np.linalg.eigh(some.T @ some)
    return np.ascontiguousarray(vectors[:, ::-1][:, :DIMENSIONS], np.float32)


def _projected(
    descriptors: NDArray[np.float16], unique: NDArray[np.int64], place: int, axes: NDArray[np.float32], pose: Pose
) -> NDArray[np.float32]:
    """Descriptors of some slices along the axes, (N, R) of norm 1; a chunk at a time, to hold little in float32."""
    found = np.empty((len(unique), axes.shape[1]), np.float32)
    for chunk in _chunks(len(unique), 4096):
        rows = descriptors[unique[chunk], place].astype(np.float32)
        along = likeness.posed_descriptors(rows, pose) @ axes
        found[chunk] = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    return found


def _alike(thumbnails: NDArray[np.uint8], pairs: Pairs, pose: Pose) -> NDArray[np.bool_]:
    """Whether the thumbnails of each pair correlate at `ALIKE` or more in either view."""

    def standard(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        values = thumbnails[rows].astype(np.float32)
        values -= values.mean((2, 3), keepdims=True)
        norm = np.sqrt(np.square(values).sum((2, 3), keepdims=True))
        return np.asarray(np.divide(values, norm, out=np.zeros_like(values), where=norm > 1), np.float32)

    alike = np.zeros(len(pairs), bool)
    for chunk in _chunks(len(pairs)):
        first, second = standard(pairs[chunk, 0]), standard(pairs[chunk, 1])
        alike[chunk] = np.einsum("nvij,nvij->nv", first, likeness.posed(second, pose)).max(1) >= ALIKE
    return alike


def _softened(textures: NDArray[np.int8]) -> NDArray[np.float16]:
    """Whole pictures for rough registration; in half precision, to hold 100,000 slices in 2 GiB."""
    small = np.empty((len(textures), _ROUGH, _ROUGH), np.float16)

    def soften(rows: slice) -> None:
        small[rows] = likeness.soften(textures[rows, 0], _ROUGH)

    _in_chunks(len(textures), soften, "softening")
    return small


def _compare(
    textures: NDArray[np.int8], small: NDArray[np.float16], pairs: Pairs, pose: Pose
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """How well the textures of each pair fit, and whether one had to be inverted, or moved or stretched, for that.

    First as they lie, in either view. What is open then, and not turned, is registered as a whole: roughly, and finely
    where that was of use.
    """
    similarity = np.zeros(len(pairs), np.float32)
    inverted, moved = np.zeros(len(pairs), bool), np.zeros(len(pairs), bool)
    rough = np.zeros(len(pairs), np.float32)
    warps = likeness.unmoved(len(pairs))

    def as_they_lie(chunk: slice) -> None:
        for view in range(likeness.VIEWS):
            one, other = textures[pairs[chunk, 0], view], textures[pairs[chunk, 1], view]
            fit = likeness.correlation(one, likeness.posed(other, pose))  # of local contrast: -1 for a negative
            inverted[chunk] = np.where(np.abs(fit) > similarity[chunk], fit < 0, inverted[chunk])
            similarity[chunk] = np.maximum(similarity[chunk], np.abs(fit))
        if pose.quarters:
            return
        first, second = (small[pairs[chunk, side]].astype(np.float32) for side in (0, 1))
        warps[chunk], rough[chunk] = likeness.register(first, likeness.posed(second, pose), warps[chunk])

    _in_chunks(len(pairs), as_they_lie, "comparing")
    chosen = np.flatnonzero((similarity < TWIN) & (rough >= LIKELY))

    def laid_onto(chunk: slice) -> None:
        rows = chosen[chunk]
        # the crop is laid onto the whole: the other way round what is missing there misleads the fit
        crop_first = warps[rows, :2].prod(1) < 1
        whole, crop = np.where(crop_first[:, None], pairs[rows, ::-1], pairs[rows]).T
        first, second = textures[whole, 0], textures[crop, 0]
        second = likeness.posed(second, pose)
        start = np.where(crop_first[:, None], likeness.inverse(warps[rows], pose.mirrored), warps[rows])
        finer, _ = likeness.register(likeness.soften(first, _FINE), likeness.soften(second, _FINE), start)
        similarity[rows] = np.maximum(similarity[rows], likeness.registered_correlation(first, second, finer))
        moved[rows] = similarity[rows] >= TWIN
        inverted[rows] &= ~moved[rows]

    _in_chunks(len(chosen), laid_onto, "registering")
    return similarity, inverted, moved


def _kind(pose: Pose, inverted: bool, cropped: bool) -> str:
    """What was done to one of two copies."""
    done = {"mirrored": pose.mirrored, TURNED: pose.quarters > 0, INVERTED: inverted, "cropped": cropped}
    return " and ".join(word for word, was in done.items() if was) or "copy"


def _in_chunks(total: int, work: Callable[[slice], None], what: str) -> None:
    """Do the work for chunks of the rows, several at a time."""
    chunks = _chunks(total)
    with workers() as pool:
        for _ in track(pool.map(work, chunks), what, len(chunks), f"batches of {_BATCH}"):
            pass


def _chunks(total: int, size: int = _BATCH) -> list[slice]:
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]
