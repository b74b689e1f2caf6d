"""How unlike the training scans a slice is: the parameters of the distance in feature space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf


def fit_outliers(
    features: NDArray[np.float32], labels: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A whitening matrix (D, D) of features (N, D), and the class means (K, D) already whitened by it.

    Between whitened features, Euclidean distances are Mahalanobis distances.

    The covariance is shared by the classes and shrunk (Ledoit and Wolf, 2004), so that it can be inverted however few
    slices there are; where they do not differ at all within a class, distances are as if they differed by a millionth.
    """
    wide = features.astype(np.float64)
    centres = np.stack([wide[labels == k].mean(0) for k in range(classes)])
    covariance, _ = ledoit_wolf(wide - centres[labels], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    whitening = vectors / np.sqrt(np.maximum(values, max(values.max() * 1e-6, 1e-12)))
    return (centres @ whitening).astype(np.float32), whitening.astype(np.float32)


def rejection_threshold(scores: NDArray[np.float32], false_refusals: float) -> float:
    """The outlier score that this share of real slices exceeds."""
    return float(np.quantile(scores, 1 - false_refusals))
