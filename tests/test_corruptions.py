"""Every corruption changes the slice, more so the stronger it is, and repeats with its seed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from braincam.dataset.phantom import write_phantom
from braincam.evaluation.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from braincam.images.reader import read_slices


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    folder = tmp_path_factory.mktemp("scans")
    write_phantom(folder, patients=4, slices_per_patient=1, seed=0)
    return read_slices(min((folder / "data").glob("meningioma/*.png")))[0].pixels


def distance(pixels: np.ndarray, name: str, strength: int) -> float:
    """Mean change in grey levels, over several draws; a crop is stretched back over the slice."""
    found = []
    for seed in range(6):
        other = corrupt(pixels, name, strength, np.random.default_rng(seed)).astype(float)
        rows, columns = (np.arange(side) * there // side for side, there in zip(pixels.shape, other.shape, strict=True))
        found.append(np.abs(other[np.ix_(rows, columns)] - pixels).mean())
    return float(np.mean(found))


def test_there_are_fifteen_at_five_strengths() -> None:
    assert len(CORRUPTIONS) == 15 and len(STRENGTHS) == 5
    assert {name for name, kind in CORRUPTIONS.items() if not kind.in_training} >= {"motion", "ghosting", "spike"}


def test_the_smallest_slice_that_is_read_bears_all_of_them() -> None:
    slice_ = np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8)
    for name in CORRUPTIONS:
        for strength in STRENGTHS:
            assert corrupt(slice_, name, strength, np.random.default_rng(0)).size


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_stronger_is_further_from_the_slice(name: str, pixels: np.ndarray) -> None:
    distances = [distance(pixels, name, strength) for strength in STRENGTHS]
    assert distances[0] > 0.1
    assert all(later > earlier for earlier, later in pairwise(distances)), distances


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_repeats_with_its_seed_and_leaves_the_slice_alone(name: str, pixels: np.ndarray) -> None:
    before = pixels.copy()
    one, other = (corrupt(pixels, name, 3, np.random.default_rng(5)) for _ in range(2))
    assert one.dtype == np.uint8 and (one == other).all()
    assert (pixels == before).all()


def test_noise_in_the_dark_is_rician_not_normal(pixels: np.ndarray) -> None:
    noisy = corrupt(np.zeros_like(pixels), "Rician noise", 5, np.random.default_rng(0))
    # the magnitude of two normal channels: Rayleigh, with mean sqrt(pi / 2) of the level
    assert noisy.mean() / 255 == pytest.approx(0.13 * np.sqrt(np.pi / 2), rel=0.03)


@pytest.mark.parametrize("name", ["ghosting", "ringing", "dropped lines"])
def test_what_is_lost_in_k_space_keeps_the_overall_brightness(name: str, pixels: np.ndarray) -> None:
    after = corrupt(pixels, name, 2, np.random.default_rng(1))
    assert after.mean() == pytest.approx(pixels.mean(), rel=0.15)
