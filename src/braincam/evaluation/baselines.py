"""What needs no network: the floors that every reported number stands beside.

| name | sees | why |
|---|---|---|
| `majority` | nothing | the share of the largest class |
| `intensity histogram` | 16 bins of grey values | the floor that counts: how far grey values alone go |
| `nearest neighbour` | 32 x 32 thumbnails | how far look-up goes; high where twins straddle the split |
| `border only` | the outer 12 % of the thumbnail | what the background and the crop give away |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from braincam.errors import DataError

Floats = npt.NDArray[np.float64]
Thumbnails = npt.NDArray[np.float32]
Pixels = Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8]

THUMBNAIL = 32  # pixels a side
BINS = 16  # of grey values
BORDER = 0.12  # share of the side that counts as border, on each edge
_BLOCK = 1024  # test slices compared at once
_SHARPNESS = 0.02  # correlation that makes a neighbour e times as probable


def baseline_probabilities(
    train_pixels: Pixels,
    train_labels: npt.ArrayLike,
    test_pixels: Pixels,
    n_classes: int,
    seed: int = 0,
) -> dict[str, Floats]:
    """Class probabilities of four learners that look for no lesion: uint8 slices (N, S, S) -> name -> (N_test, K).

    A class without training slices gets probability 0. Give it the training part of the split that the
    network was trained on, never the test part.
    """
    labels = np.asarray(train_labels)
    if len(labels) == 0 or len(labels) != len(train_pixels):
        raise DataError(
            "baselines: need as many training labels as slices, at least one, "
            f"got {len(labels)} and {len(train_pixels)}"
        )
    if labels.min() < 0 or labels.max() >= n_classes:
        raise DataError(f"baselines: need labels from 0 to {n_classes - 1}, got {labels.min()} to {labels.max()}")
    train, test = thumbnails(train_pixels), thumbnails(test_pixels)
    ring = border_mask()
    frequency = np.bincount(labels, minlength=n_classes) / len(labels)
    return {
        "majority": np.tile(frequency, (len(test_pixels), 1)),
        "intensity histogram": gradient_boosting(
            intensity_histograms(train_pixels), labels, intensity_histograms(test_pixels), n_classes, seed
        ),
        "nearest neighbour": nearest_neighbour(train, labels, test, n_classes),
        "border only": gradient_boosting(train[:, ring], labels, test[:, ring], n_classes, seed),
    }


def intensity_histograms(pixels: Pixels) -> Floats:
    """Share of the pixels in each of 16 equal ranges of grey: (N, S, S) uint8 -> (N, 16)."""
    counts = [np.bincount((p // (256 // BINS)).ravel(), minlength=BINS) / p.size for p in map(_grey, pixels)]
    return np.array(counts, np.float64).reshape(-1, BINS)


def thumbnails(pixels: Pixels) -> Thumbnails:
    """Area-averaged, each of mean 0 and spread 1: (N, S, S) uint8 -> (N, 32, 32); a flat one is 0."""
    size = (THUMBNAIL, THUMBNAIL)
    small = [Image.fromarray(_grey(p)).resize(size, Image.Resampling.BOX) for p in pixels]
    return standardised(np.array([np.asarray(picture) for picture in small], np.float32).reshape(-1, *size))


def standardised(pictures: npt.NDArray[Any]) -> Thumbnails:
    """Each of mean 0 and spread 1, a flat one 0: (N, S, S) -> (N, S, S)."""
    stack = np.array(pictures, np.float32)
    stack -= stack.mean(axis=(1, 2), keepdims=True)
    spread = stack.std(axis=(1, 2), keepdims=True)
    np.divide(stack, spread, out=stack, where=spread > 0)
    return stack


def border_mask() -> npt.NDArray[np.bool_]:
    """The outer ring of a thumbnail: bool (32, 32)."""
    width = round(THUMBNAIL * BORDER)
    mask = np.ones((THUMBNAIL, THUMBNAIL), bool)
    mask[width:-width, width:-width] = False
    return mask


def nearest_neighbour(train: Thumbnails, labels: npt.NDArray[Any], test: Thumbnails, k: int) -> Floats:
    """Correlation with the most similar slice of each class, as probabilities; the argmax is plain 1-NN."""
    pixels = train.shape[1] * train.shape[2]
    rows = test.reshape(len(test), pixels)
    best = np.full((len(test), k), -np.inf)
    for c in np.unique(labels):
        of_class = train[labels == c].reshape(-1, pixels).T
        for start in range(0, len(test), _BLOCK):  # at once, a large folder would not fit into memory
            block = slice(start, start + _BLOCK)
            best[block, c] = (rows[block] @ of_class / pixels).max(axis=1)
    odds = np.exp((best - best.max(axis=1, keepdims=True, initial=-2.0)) / _SHARPNESS)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float64)


def gradient_boosting(
    train: npt.NDArray[Any], labels: npt.NDArray[Any], test: npt.NDArray[Any], k: int, seed: int
) -> Floats:
    """Gradient-boosted trees on feature rows (N, F) -> probabilities (N_test, K).

    On one thread: the threads of so small trees wait for each other after every split, and on a busy machine they wait
    for long. Several calls may run side by side.
    """
    found = np.zeros((len(test), k))
    known = np.unique(labels)
    if len(known) == 1 or len(test) == 0:
        found[:, known[0]] = 1.0
        return found
    trees = HistGradientBoostingClassifier(
        max_iter=100, learning_rate=0.1, max_leaf_nodes=15, early_stopping=False, random_state=seed
    )
    with threadpool_limits(1, "openmp"):
        found[:, known] = trees.fit(train, labels).predict_proba(test)
    return found


def _grey(picture: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if picture.ndim != 2 or picture.dtype != np.uint8:
        raise DataError(f"baselines: need grey uint8 slices (S, S), got {picture.dtype} {picture.shape}")
    return picture
