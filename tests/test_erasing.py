"""Heads are found, holes are filled from their rim, and a model that looks at the lesion is told from a blind one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from braincam.evaluation.erasing import BATCH, Erasing, elsewhere, erased_pair, widened
from braincam.explain.head import fill_in, head_mask


def disc(side: int, centre: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2


def slice_with(centre: tuple[float, float] = (50, 62)) -> tuple[np.ndarray, np.ndarray]:
    """A grey head with a dark middle, and in it a bright lesion: pixels, mask."""
    rng = np.random.default_rng(0)
    head, lesion = disc(100, (50, 50), 38), disc(100, centre, 7)
    pixels = np.where(head, 110, 3) + rng.integers(-3, 4, (100, 100))
    pixels[disc(100, (50, 40), 6)] = 10  # a ventricle: dark, yet inside the head
    pixels[lesion] = 230
    return pixels.clip(0, 255).astype(np.uint8), lesion


def test_the_head_holds_its_ventricles_and_not_the_letters_beside_it() -> None:
    pixels, _ = slice_with()
    pixels[3:8, 3:8] = 255
    found = head_mask(pixels)
    assert found[50, 40] and not found[5, 5]
    assert found.sum() == pytest.approx(disc(100, (50, 50), 38).sum(), rel=0.03)
    assert head_mask(np.zeros((20, 20), np.uint8)).all()


def test_a_hole_in_a_plane_is_filled_with_the_plane() -> None:
    plane = np.add.outer(np.arange(40) * 2, np.arange(40)).astype(np.uint8)
    hole = disc(40, (20, 20), 8)
    damaged = plane.copy()
    damaged[hole] = 255
    assert np.abs(fill_in(damaged, hole).astype(int) - plane).max() <= 1
    edge = np.zeros_like(hole)
    edge[:5, :7] = True
    filled = fill_in(damaged, edge)
    assert (filled[~edge] == damaged[~edge]).all()
    assert filled[edge].min() >= damaged[edge | np.roll(edge, 1, 0) | np.roll(edge, 1, 1)].min()
    assert (fill_in(plane, np.ones_like(hole)) == round(float(plane.mean()))).all()
    assert (fill_in(plane, np.zeros_like(hole)) == plane).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_other_place_is_equal_in_area_inside_the_head_and_apart(seed: int) -> None:
    pixels, mask = slice_with()
    hole, head = widened(mask), head_mask(pixels)
    other = elsewhere(hole, head, np.random.default_rng(seed))
    assert other is not None
    assert other.sum() == hole.sum() > mask.sum()
    assert not (other & hole).any() and not (other & ~head).any()


def test_a_lesion_as_large_as_the_head_has_no_other_place() -> None:
    pixels, _ = slice_with()
    assert erased_pair(pixels, disc(100, (50, 50), 33), np.random.default_rng(0)) is None


def test_a_model_that_sees_the_lesion_is_told_from_one_that_does_not() -> None:
    pictures = [slice_with((50 + k % 9 - 4, 62)) for k in range(BATCH + 3)]  # answered in two goes
    groups = [f"g{k // 2}" for k in range(len(pictures))]

    def sees(slices: list[np.ndarray]) -> np.ndarray:
        bright = np.array([(pixels > 200).mean() * 5 for pixels in slices])
        return np.stack([bright, 1 - bright], 1)

    def blind(slices: list[np.ndarray]) -> np.ndarray:
        return np.full((len(slices), 2), 0.5)

    def erasing(none: int | None, model: Callable[[list[np.ndarray]], np.ndarray]) -> Erasing:
        made = Erasing(model, none)
        for pixels, mask in pictures:
            made.add(pixels, mask, 0)
        return made

    found, outcomes = erasing(1, sees).summary(groups)
    assert found is not None
    assert found["any_tumour"]["value"] == found["own_class"]["value"] == 1
    assert found["n"] == len(pictures) and found["n_groups"] == len(set(groups))
    even, _ = erasing(None, blind).summary(groups)
    assert even is not None
    assert even["own_class"] == {"value": 0.5, "ci95": [0.5, 0.5]}
    assert "any_tumour" not in even
    assert outcomes == {kind: [1.0] * len(pictures) for kind in ("own_class", "any_tumour")}
    assert Erasing(sees, 1).summary([])[0] is None
