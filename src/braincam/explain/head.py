"""Which pixels of a slice are head, and filling a part of it in. NumPy and SciPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import spsolve

TISSUE = 0.25  # of the picture's typical bright level, as in network.framing
SMALLEST = 0.02  # of the picture: less is no head but a speck
REACH = 0.02  # of the side: gaps this wide in the skull are closed


def head_mask(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The head with everything inside it: grey (H, W) → bool (H, W). All of the picture where no head stands out."""
    grey = pixels.astype(np.float64) - pixels.min()
    if not grey.any():
        return np.ones(pixels.shape, bool)
    tissue = grey > TISSUE * np.square(grey).sum() / grey.sum()
    steps = max(1, round(REACH * min(pixels.shape)))
    closed = ndimage.binary_closing(np.pad(tissue, steps), iterations=steps)[steps:-steps, steps:-steps]
    parts, _ = ndimage.label(ndimage.binary_fill_holes(closed))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    if sizes.max() < SMALLEST * pixels.size:
        return np.ones(pixels.shape, bool)
    largest: NDArray[np.bool_] = parts == sizes.argmax()
    return largest


def fill_in(pixels: NDArray[np.uint8], hole: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The picture with a hole (H, W) filled smoothly from its rim: each pixel in it the mean of its four neighbours.

    The discrete Laplace equation with the surroundings as boundary, solved exactly. A hole without a rim, the whole
    picture, becomes its mean.
    """
    if not hole.any():
        return pixels.copy()
    if hole.all():
        return np.full_like(pixels, round(float(pixels.mean())))
    number = np.full(hole.shape, -1)
    number[hole] = np.arange(hole.sum())
    rows, columns = np.nonzero(hole)
    inside = np.arange(len(rows))
    known = np.zeros(len(rows))
    neighbours = np.zeros(len(rows))
    at, to = [], []
    for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        y, x = rows + down, columns + right
        there = (y >= 0) & (y < hole.shape[0]) & (x >= 0) & (x < hole.shape[1])  # at the picture's edge there are fewer
        neighbours += there
        other = np.full(len(rows), -2)
        other[there] = number[y[there], x[there]]
        unknown = other >= 0
        at.append(inside[unknown])
        to.append(other[unknown])
        rim = other == -1
        known[rim] += pixels[y[rim], x[rim]]
    data = np.concatenate([neighbours, *(np.full(len(a), -1.0) for a in at)])
    matrix = csr_matrix((data, (np.concatenate([inside, *at]), np.concatenate([inside, *to]))))
    filled = pixels.copy()
    filled[hole] = np.clip(np.rint(spsolve(matrix, known)), 0, 255).astype(np.uint8)
    return filled
