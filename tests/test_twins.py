"""A copy is found whatever was done to it, and nothing else is taken for one."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from braincam.dataset import likeness, twins
from braincam.dataset.fingerprints import print_slices
from braincam.dataset.links import connected
from braincam.dataset.neighbours import Index
from braincam.dataset.phantom import make_slices
from braincam.dataset.twins import KINDS, Twins, find_twins

Pixels = np.ndarray


@pytest.fixture(scope="module")
def heads() -> list[Pixels]:
    """Slices of which none is a copy of another, though some are of one patient."""
    return [piece.pixels for piece in make_slices(patients=16, slices_per_patient=4, seed=3)]


def search(slices: list[Pixels]) -> Twins:
    return find_twins(print_slices([str(number) for number in range(len(slices))], slices))


def through(picture: Pixels, change: Callable[[Image.Image], Image.Image]) -> Pixels:
    return np.asarray(change(Image.fromarray(picture)).convert("L"))


def as_jpeg(picture: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("L"))


def rewindowed(picture: Pixels, low: float, high: float) -> Pixels:
    return np.clip((picture - low * 255.0) / (high - low), 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "re-encoded": lambda p: as_jpeg(p, 50),
    "smaller": lambda p: through(p, lambda i: i.resize((128, 128))),
    "larger": lambda p: through(p, lambda i: i.resize((400, 400))),
    "mirrored": lambda p: p[:, ::-1].copy(),
    "brighter": lambda p: (255 * (p / 255) ** 0.6).astype(np.uint8),
    "darker": lambda p: (255 * (p / 255) ** 1.6).astype(np.uint8),
    "another window": lambda p: rewindowed(p, 0.05, 0.8),
    "edges enhanced": lambda p: through(p, lambda i: i.filter(ImageFilter.EDGE_ENHANCE)),
    "sharpened": lambda p: through(p, lambda i: i.filter(ImageFilter.UnsharpMask(3, 200, 0))),
    "padded": lambda p: np.pad(p, 40),
    "padded to one side": lambda p: np.pad(p, ((0, 20), (0, 60))),
    "cropped": lambda p: p[11:-11, 11:-11].copy(),
    "cropped hard": lambda p: p[22:-22, 22:-22].copy(),
    "cropped, mirrored and brighter": lambda p: CHANGES["brighter"](p[9:-12, 14:-6][:, ::-1]),
    "turned": lambda p: np.rot90(p).copy(),
    "turned the other way": lambda p: np.rot90(p, 3).copy(),
    "turned upside down": lambda p: p[::-1, ::-1].copy(),
    "mirrored top to bottom": lambda p: p[::-1].copy(),
    "mirrored about a diagonal": lambda p: p.T.copy(),
    "turned upside down, re-encoded and smaller": lambda p: CHANGES["smaller"](as_jpeg(p[::-1, ::-1], 50)),
    "turned and padded": lambda p: np.pad(np.rot90(p), 40),
    "turned upside down and brighter": lambda p: CHANGES["brighter"](p[::-1, ::-1]),
    "inverted": lambda p: 255 - p,
    "inverted, re-encoded and smaller": lambda p: CHANGES["smaller"](as_jpeg(255 - p, 50)),
    "inverted and mirrored": lambda p: 255 - p[:, ::-1],
    "inverted and turned": lambda p: 255 - np.rot90(p),
}  # fmt: skip


def test_heads_of_other_patients_and_other_slices_of_one_are_no_copies(heads: list[Pixels]) -> None:
    assert len(search(heads).pairs) == 0


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_only_that(heads: list[Pixels], change: str) -> None:
    originals = range(0, len(heads), 8)
    found = search([*heads, *(CHANGES[change](heads[number]) for number in originals)])
    assert [tuple(pair) for pair in found.pairs.tolist()] == [(n, len(heads) + k) for k, n in enumerate(originals)]
    assert all((word in kind) == (word in change) for kind in found.kinds for word in ("mirrored", "inverted"))
    turned = any(word in change for word in ("turned", "top to bottom", "diagonal"))
    assert found.turned.tolist() == [turned] * len(found.kinds)
    assert set(found.kinds) <= set(KINDS)


@pytest.mark.parametrize("pose", likeness.POSES)
def test_a_pose_moves_pictures_and_descriptors_alike_and_its_inverse_undoes_it(
    heads: list[Pixels], pose: likeness.Pose
) -> None:
    pictures = np.stack([np.asarray(Image.fromarray(head).resize((64, 64))) for head in heads[:5]])
    moved = likeness.posed(pictures, pose)
    np.testing.assert_array_equal(likeness.posed(moved, pose.inverse), pictures)
    found = likeness.posed_descriptors(likeness.descriptors(pictures), pose)
    np.testing.assert_allclose(found, likeness.descriptors(np.ascontiguousarray(moved)), atol=1e-5)
    assert len({likeness.posed(pictures, other).tobytes() for other in likeness.POSES}) == 8


def test_a_large_family_of_copies_does_not_hide_another_of_the_same_slice(heads: list[Pixels]) -> None:
    """Twelve of one kind, each nearest to the others of its kind: those of the other kind are copies all the same."""
    slices, origin = [], []
    for number, head in enumerate(heads[:40:5]):
        sharp = CHANGES["sharpened"](head)
        for kind in (head, sharp):
            slices += [as_jpeg(kind, quality) for quality in (96, 94, 92, 90, 88, 86, 84, 82, 80, 78, 76, 74)]
        origin += [number] * 24
    family = connected(len(slices), search(slices).pairs)
    assert [len(set(family[np.array(origin) == number])) for number in set(origin)] == [1] * 8
    assert len(set(family)) == 8


def test_what_is_found_of_one_identical_file_holds_for_all(heads: list[Pixels]) -> None:
    slices = [heads[0], heads[0], heads[0][:, ::-1].copy(), *heads[1:20]]
    found = find_twins(print_slices(["same", "same", *map(str, range(len(slices) - 2))], slices))
    kinds = dict(zip(map(tuple, found.pairs.tolist()), found.kinds, strict=True))
    assert kinds == {(0, 1): "identical", (0, 2): "mirrored", (1, 2): "mirrored"}


def test_even_pictures_are_copies_of_nothing(heads: list[Pixels]) -> None:
    even = [np.full((64, 80), level, np.uint8) for level in (0, 9, 255)]
    assert len(search([*even, *heads[:5]]).pairs) == 0
    assert len(search(even[:1]).pairs) == 0


def test_how_many_are_compared_at_once_does_not_matter(heads: list[Pixels], monkeypatch: pytest.MonkeyPatch) -> None:
    slices = [*heads, *(CHANGES[change](head) for change, head in zip(CHANGES, heads, strict=False))]
    at_once = search(slices)
    assert len(at_once.pairs) > 10
    monkeypatch.setattr(twins, "_ASKING", 50)
    monkeypatch.setattr(twins, "_BATCH", 20)
    in_parts = search(slices)
    np.testing.assert_array_equal(in_parts.pairs, at_once.pairs)
    np.testing.assert_allclose(in_parts.similarity, at_once.similarity, atol=1e-5)
    assert in_parts.kinds == at_once.kinds


@given(st.integers(8, 128), st.floats(0.3, 9.0))
def test_no_weight_of_a_filter_is_denormal(side: int, sigma: float) -> None:
    """A matrix product with denormal weights takes twenty times as long."""
    weights = likeness._gaussian(side, sigma)
    assert not ((weights > 0) & (weights < np.finfo(np.float32).tiny)).any()
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    spread = weights[side // 2] @ np.square(np.arange(side) - side // 2)
    assert spread <= sigma**2 * 1.01  # cut off at the edges, and nowhere else:
    assert (weights[side // 2, side // 2 :][: int(5 * sigma)] > 0).all()


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(12)))
def test_the_order_of_slices_does_not_matter(order: list[int]) -> None:
    heads = [piece.pixels for piece in make_slices(patients=4, slices_per_patient=2, seed=3)]
    slices = [*heads, *(head[:, ::-1].copy() for head in heads[:4])]
    pairs = {frozenset(order[n] for n in pair) for pair in search([slices[n] for n in order]).pairs.tolist()}
    assert pairs == {frozenset((n, 8 + n)) for n in range(4)}


def test_registration_undoes_nearly_every_warp(heads: list[Pixels]) -> None:
    random = np.random.default_rng(0)
    textures = np.concatenate([likeness.textures(likeness.views(head)[:1]) for head in heads])
    scale, ratio = random.uniform(1.0, 1.25, len(heads)), random.uniform(0.95, 1.05, len(heads))
    true = np.column_stack((scale, scale * ratio, random.uniform(-0.12, 0.12, (len(heads), 2)))).astype(np.float32)
    warped = likeness.warp(textures.astype(np.float32), true).astype(np.int8)
    warps = likeness.unmoved(len(heads))
    for side in (16, 32):
        warps, _ = likeness.register(likeness.soften(warped, side), likeness.soften(textures, side), warps)
    assert (likeness.registered_correlation(warped, textures, warps) > 0.87).mean() > 0.95
    assert np.median(np.abs(warps - true)) < 0.01


def test_neighbours_by_cells_are_nearly_those_by_comparing_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    from braincam.dataset import neighbours

    random = np.random.default_rng(0)
    centres = random.normal(size=(60, 16))
    rows = (centres[random.integers(0, 60, 1500)] + 0.3 * random.normal(size=(1500, 16))).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    exact, products = Index(rows).nearest(rows, 4)
    np.testing.assert_array_equal(exact[:, 0], np.arange(1500))
    np.testing.assert_allclose(products, np.sort(rows @ rows.T, 1)[:, :-5:-1], atol=1e-6)
    monkeypatch.setattr(neighbours, "EXACT", 100)
    by_cells, _ = Index(rows).nearest(rows, 4)
    assert np.mean([len(set(a) & set(b)) / 4 for a, b in zip(exact.tolist(), by_cells.tolist(), strict=True)]) > 0.97
    np.testing.assert_array_equal(by_cells, Index(rows).nearest(rows, 4)[0])
