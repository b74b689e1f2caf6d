"""How well copies are found, and how the search grows.

    python benchmarks/twins.py quality DATA --truth patients.csv    recall and precision on known copies
    python benchmarks/twins.py growth [--most 100000]               seconds and memory against the number of slices
    python benchmarks/twins.py angles DATA [--degrees 5 10 ...]     copies the search does not look for: turned a bit

Quality: two slices with one `figshare_id` are copies, two with different ones are not; slices without one are left out.
The threshold is set on half of the patients and scored on the other half. Growth: synthetic fingerprints, one in ten a
copy of another. Angles: every slice, turned by an angle, is searched for among the slices as they are; what is found,
and was not connected before, is a copy that lies at about that angle. Registration makes up for one or two degrees.
"""

from __future__ import annotations

import argparse
import resource
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from braincam.dataset import twins as search
from braincam.dataset.fingerprints import Fingerprints, fingerprint, joined, print_slices, read_one_slice
from braincam.dataset.likeness import CELLS, ORIENTATIONS, SIDE, VIEWS, ZOOMS
from braincam.dataset.links import connected
from braincam.dataset.manifest import read_folder, read_table
from braincam.dataset.origin import Origin
from braincam.dataset.twins import find_twins

LOWEST = 0.7  # similarities below this are not looked at


def quality(data: Path, truth: Path) -> None:
    """Recall and precision on the half of the patients that did not set the threshold."""
    table = {row["path"]: row for row in read_table(truth, ("path", "patient", "figshare_id"))}
    manifest, prints, _ = fingerprint(read_folder(data))
    known = [table[item.path]["figshare_id"] for item in manifest.slices]
    half = [zlib.crc32(table[item.path]["patient"].encode()) % 2 for item in manifest.slices]
    shipped, search.TWIN = search.TWIN, LOWEST
    started = time.perf_counter()
    found = find_twins(prints)
    seconds = time.perf_counter() - started
    search.TWIN = shipped
    similarity = {(a, b): s for (a, b), s in zip(found.pairs.tolist(), found.similarity.tolist(), strict=True)}
    by_id: dict[str, list[int]] = {}
    for row, name in enumerate(known):
        if name:
            by_id.setdefault(name, []).append(row)
    true = {pair for rows in by_id.values() for pair in combinations(rows, 2)}

    def score(part: int, threshold: float) -> tuple[float, float, int]:
        real = {pair for pair in true if half[pair[0]] == part}
        said = {
            pair
            for pair, value in similarity.items()
            if value >= threshold and known[pair[0]] and known[pair[1]] and part in (half[pair[0]], half[pair[1]])
        }
        return len(said & real) / len(real), len(said & real) / max(len(said), 1), len(real)

    def worse(threshold: float) -> float:
        recall, precision, _ = score(0, threshold)
        return min(recall, precision)

    thresholds = np.round(np.arange(LOWEST, 0.99, 0.01), 2)
    best = max(map(worse, thresholds))
    good = [float(t) for t in thresholds if worse(t) == best]
    middle = good[len(good) // 2]
    print(f"search: {seconds:.1f} s for {len(known)} slices")
    print(f"first half: min(recall, precision) = {best:.4f} from {good[0]:.2f} to {good[-1]:.2f}; shipped {shipped}")
    for name, threshold in (("set on the first half", middle), ("shipped", shipped)):
        recall, precision, pairs = score(1, threshold)
        print(
            f"second half, threshold {threshold:.2f} ({name}): recall {recall:.4f}, precision {precision:.4f}", end=""
        )
        print(f", {pairs} pairs of copies")


def growth(most: int) -> None:
    """Seconds, and the most memory that a process held which did nothing else."""
    print("| slices | seconds | seconds x N^-1.5, relative | memory, GiB |\n|---|---|---|---|")
    first: float | None = None
    for n in (6_250, 25_000, most):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            seconds, memory, found = alone.submit(one_search, n).result()
        first = first or seconds / n**1.5
        print(f"| {n} | {seconds:.1f} | {seconds / n**1.5 / first:.2f} | {memory:.2f} |", flush=True)
        if found < 0.09 * n:
            raise SystemExit(f"only {found} of {n // 10} planted copies were found")


def one_search(n: int) -> tuple[float, float, int]:
    """Seconds, GiB held at most, and pairs found among `n` synthetic fingerprints."""
    prints = synthetic(n)
    started = time.perf_counter()
    found = len(find_twins(prints).pairs)
    seconds = time.perf_counter() - started
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, found


def synthetic(n: int, seed: int = 0) -> Fingerprints:
    """Random fingerprints of `n` slices around a few hundred kinds; every tenth is a copy of the one before."""
    random = np.random.default_rng(seed)
    places = VIEWS + len(ZOOMS)
    kinds = random.normal(size=(400, places, ORIENTATIONS * CELLS**2)).astype(np.float32)
    textures = np.empty((n, VIEWS, SIDE, SIDE), np.int8)
    descriptors = np.empty((n, places, kinds.shape[2]), np.float16)
    for start in range(0, n, 1000):
        rows = slice(start, min(start + 1000, n))
        count = rows.stop - rows.start
        textures[rows] = random.normal(0, 24, (count, VIEWS, SIDE, SIDE)).clip(-127, 127)
        found = kinds[random.integers(0, len(kinds), count)] + random.normal(0, 1, (count, *kinds.shape[1:]))
        descriptors[rows] = found / np.linalg.norm(found, axis=2, keepdims=True)
    copies = np.arange(9, n, 10)
    textures[copies], descriptors[copies] = textures[copies - 1], descriptors[copies - 1]
    return Fingerprints(
        digests=tuple(map(str, range(n))),
        textures=textures,
        descriptors=descriptors,
        thumbnails=random.integers(0, 256, (n, VIEWS, 32, 32), dtype=np.uint8),
        histograms=np.zeros((n, 16), np.float32),
        sizes=np.full((n, 2), 224),
        origins=(Origin(),) * n,
    )


def angles(data: Path, degrees: list[float]) -> None:
    """Pairs of slices that are copies once one of them is turned, beyond those that are found anyway."""
    manifest, prints, _ = fingerprint(read_folder(data))
    n = len(manifest.slices)
    family = connected(n, find_twins(prints).pairs)
    pictures = [Image.fromarray(read_one_slice(manifest.file(row))) for row in range(n)]
    print("| degrees | pairs | slices | classes |\n|---|---|---|---|")
    for angle in degrees:
        turned = [np.asarray(picture.rotate(angle, Image.Resampling.BILINEAR)) for picture in pictures]
        names = [f"{digest} turned" for digest in prints.digests]
        parts = [print_slices(names[start : start + 256], turned[start : start + 256]) for start in range(0, n, 256)]
        pairs = find_twins(joined([prints, *parts])).pairs
        across = pairs[(pairs[:, 0] < n) & (pairs[:, 1] >= n)] % n
        new = np.unique(np.sort(across[family[across[:, 0]] != family[across[:, 1]]], axis=1), axis=0)
        classes = sorted({manifest.slices[row].label for row in new.ravel().tolist()})
        print(f"| {angle:g} | {len(new)} | {len(np.unique(new))} | {', '.join(classes)} |", flush=True)


def main() -> None:
    """One of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    one = what.add_parser("quality")
    one.add_argument("data", type=Path)
    one.add_argument("--truth", type=Path, required=True)
    other = what.add_parser("growth")
    other.add_argument("--most", type=int, default=100_000)
    third = what.add_parser("angles")
    third.add_argument("data", type=Path)
    third.add_argument("--degrees", type=float, nargs="+", default=[4, 7, 10, 13, 16, 20, 25, 30, 35, 40, 45])
    options = parser.parse_args()
    if options.what == "quality":
        quality(options.data, options.truth)
    elif options.what == "growth":
        growth(options.most)
    else:
        angles(options.data, options.degrees)


if __name__ == "__main__":
    main()
