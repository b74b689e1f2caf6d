"""The floors: each sees what it says it sees, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from braincam.errors import DataError
from braincam.evaluation.baselines import (
    baseline_probabilities,
    border_mask,
    intensity_histograms,
    nearest_neighbour,
    thumbnails,
)

NAMES = {"majority", "intensity histogram", "nearest neighbour", "border only"}


def noise(n, seed=0, low=0, high=256, side=48):
    return np.random.default_rng(seed).integers(low, high, (n, side, side), dtype=np.uint8)


def accuracy(probabilities, labels):
    return float((probabilities.argmax(axis=1) == labels).mean())


def test_each_answers_with_probabilities():
    labels = np.arange(80) % 3
    found = baseline_probabilities(noise(80), labels, noise(20, 1), 4)
    assert found.keys() == NAMES
    for p in found.values():
        assert p.shape == (20, 4)
        assert np.allclose(p.sum(axis=1), 1) and (p >= 0).all()
        assert (p[:, 3] == 0).all()  # a class nobody has shown


def test_the_majority_is_the_share_in_training():
    found = baseline_probabilities(noise(8), [0, 0, 0, 1, 1, 2, 0, 0], noise(2, 1), 3)
    assert found["majority"].tolist() == [[5 / 8, 2 / 8, 1 / 8]] * 2


def test_only_the_histogram_sees_brightness():
    """Classes that differ in grey values alone: thumbnails are standardised, so the others are lost."""
    labels = np.arange(200) % 2
    pixels = np.where(labels[:, None, None] == 0, noise(200, 0, 60, 120), noise(200, 1, 120, 180))
    pixels = pixels.astype(np.uint8)
    found = baseline_probabilities(pixels[:120], labels[:120], pixels[120:], 2)
    assert accuracy(found["intensity histogram"], labels[120:]) == 1.0
    assert accuracy(found["nearest neighbour"], labels[120:]) < 0.75


def test_only_the_border_sees_the_border():
    """A mark that comes in the outer ring or in the middle; the histogram cannot tell."""
    labels = np.arange(200) % 2
    pixels = noise(200, 0, 90, 110, 64)
    rows = np.where(labels == 0, 2, 30)
    for picture, row in zip(pixels, rows, strict=True):
        picture[row : row + 4, 20:44] = 255
    found = baseline_probabilities(pixels[:120], labels[:120], pixels[120:], 2)
    assert accuracy(found["border only"], labels[120:]) > 0.95
    assert accuracy(found["intensity histogram"], labels[120:]) < 0.75


def test_the_neighbour_finds_the_twin_in_another_window():
    train = noise(40)
    twin = (train[7:8] // 2 + 30).astype(np.uint8)
    found = baseline_probabilities(train, np.arange(40) % 4, twin, 4)
    assert found["nearest neighbour"].argmax() == 7 % 4


def test_the_features():
    assert intensity_histograms(np.full((1, 4, 4), 17, np.uint8)).tolist() == [[0, 1] + [0] * 14]
    small = thumbnails(noise(3))
    assert small.shape == (3, 32, 32)
    assert np.allclose(small.mean(axis=(1, 2)), 0, atol=1e-5)
    assert np.allclose(small.std(axis=(1, 2)), 1, atol=1e-4)
    assert not thumbnails(np.full((1, 50, 50), 9, np.uint8)).any()  # flat, not nan
    ring = border_mask()
    assert ring[:4].all() and ring[:, -4:].all() and not ring[4:-4, 4:-4].any()


def test_the_same_seed_gives_the_same_answers():
    args = (noise(60), np.arange(60) % 3, noise(9, 1), 3)
    one, two = (baseline_probabilities(*args, seed=5) for _ in range(2))
    assert all((one[name] == two[name]).all() for name in NAMES)


def test_one_class_or_no_test_slices_are_no_trouble():
    only = baseline_probabilities(noise(5), [1] * 5, noise(2, 1), 3)
    assert all((p == [0, 1, 0]).all() for p in only.values())
    none = baseline_probabilities(list(noise(6)), [0, 1] * 3, [], 2)
    assert all(p.shape == (0, 2) for p in none.values())


@pytest.mark.parametrize(
    ("pixels", "labels"),
    [
        (noise(3), [0, 1]),
        (noise(0), []),
        (noise(2), [0, 9]),
        (noise(2).astype(float), [0, 1]),
        (noise(2)[0], [0] * 48),
    ],
)
def test_wrong_input_is_refused(pixels, labels):
    with pytest.raises(DataError, match="baselines"):
        baseline_probabilities(pixels, labels, noise(2), 2)


def test_the_nearest_neighbour_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    train, test = random.standard_normal((12, 4, 4)), random.standard_normal((7, 4, 4))
    labels = random.integers(0, 3, 12)
    whole = nearest_neighbour(train, labels, test, 4)
    monkeypatch.setattr("braincam.evaluation.baselines._BLOCK", 3)
    np.testing.assert_allclose(nearest_neighbour(train, labels, test, 4), whole)
    assert nearest_neighbour(train, labels, test[:0], 4).shape == (0, 4)
