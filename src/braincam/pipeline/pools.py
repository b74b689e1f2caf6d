"""A folder's slices at the network's input size: decoded and scaled once, kept on disk, mapped into memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray
from torch import Tensor

from braincam.cache import cached, key_of
from braincam.dataset.fingerprints import read_one_slice
from braincam.network.preprocess import Preprocess
from braincam.pipeline.prepare import Grouped
from braincam.pipeline.reading import made_by
from braincam.progress import track
from braincam.training.batches import Pool

_CHUNK = 64  # slices decoded at once
_PIXELS = 2**24  # scaled at once: large pictures go one by one


def load(found: Grouped, rows: Sequence[int], preprocess: Preprocess) -> Pool:
    """Some of a folder's slices, as `Preprocess.scale` gives them in uint8.

    The first call decodes the whole folder; later ones, also in other runs, find it on disk. The pool is mapped from
    there, and read as it is needed.
    """
    side = preprocess.config.image_size
    total = len(found.manifest.slices)

    def make(folder: Path) -> None:
        # written as it comes, not through a mapping: there a full disk would end the process without a word
        with (folder / "pixels.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (total, side, side)}
            write_array_header_1_0(file, header)
            for pixels in track(scaled(found, preprocess), "decoding", -(-total // _CHUNK), "batches"):
                file.write(pixels.tobytes())

    geometry = (side, preprocess.config.frame, preprocess.config.subtract_black)  # means and spreads are applied later
    code = ("images", "network", "dataset/fingerprints.py", "pipeline/pools.py")
    recipe = made_by(*code, libraries=("numpy", "pillow", "pydicom", "nibabel", "torch", "torchvision"))
    pixels = cached("slices", key_of([*recipe, geometry, *found.digests]), make)["pixels"]
    labels = found.manifest.labels
    return Pool(torch.from_numpy(pixels), torch.tensor([labels[row] for row in rows]), torch.tensor(rows))


def scaled(found: Grouped, preprocess: Preprocess) -> Iterator[NDArray[np.uint8]]:
    """All slices in order at the network's input size, (M, S, S) uint8 at a time."""
    total, side = len(found.manifest.slices), preprocess.config.image_size
    with ThreadPoolExecutor() as pool:
        for start in range(0, total, _CHUNK):
            rows = range(start, min(start + _CHUNK, total))
            files = [found.manifest.file(row) for row in rows]
            decoded = list(pool.map(read_one_slice, files, found.digests[start : start + len(rows)]))
            by_size = defaultdict(list)
            for place, pixels in enumerate(decoded):
                by_size[pixels.shape].append(place)
            out = np.empty((len(rows), side, side), np.uint8)
            for (height, width), same in by_size.items():
                step = max(1, _PIXELS // (height * width))
                for places in (same[first : first + step] for first in range(0, len(same), step)):
                    slices = torch.from_numpy(np.stack([decoded[place] for place in places]))
                    out[places] = to_bytes(preprocess.scale(slices)[0])
            yield out


def to_bytes(scaled_slices: Tensor) -> NDArray[np.uint8]:
    """Float32 (N, 1, S, S) in [0, 1] → uint8 (N, S, S)."""
    rounded: NDArray[np.uint8] = (scaled_slices[:, 0] * 255).round().to(torch.uint8).numpy()
    return rounded
