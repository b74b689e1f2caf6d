"""Nothing that belongs together is ever torn apart, and a leak is counted as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braincam.dataset.manifest import Manifest, Slice
from braincam.dataset.split import cut_validation, find_leak, make_folds, read_split, write_split
from braincam.dataset.twins import Fingerprints, group, near_twins, thumbnail
from braincam.errors import SplitError
from braincam.pipeline.prepare import merge_sharing


def smooth(seed: int, size: int = 96) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 12)).astype(float)
    return np.kron(coarse, np.ones((size // 12, size // 12))).astype(np.uint8)


def prints(*pixels: np.ndarray) -> Fingerprints:
    return Fingerprints(tuple(str(hash(p.tobytes())) for p in pixels), np.stack([thumbnail(p) for p in pixels]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 5))
def test_no_group_straddles_a_fold_and_every_fold_has_every_class(seed: int, folds: int, most: int) -> None:
    random = np.random.default_rng(seed)
    labels: list[str] = []
    groups: list[str] = []
    for number in range(folds * 4 * 3):
        size = int(random.integers(1, most + 1))
        labels += ["abc"[number % 3]] * size
        groups += [f"g{number}"] * size
    fold = make_folds(labels, groups, folds, seed)
    assert all(len({f for f, g in zip(fold, groups, strict=True) if g == name}) == 1 for name in set(groups))
    assert {(f, label) for f, label in zip(fold, labels, strict=True)} == {
        (f, label) for f in range(folds) for label in "abc"
    }
    assert fold == make_folds(labels, groups, folds, seed)
    rows = [row for row in range(len(labels)) if fold[row] != 0]
    train, validation = cut_validation(labels, groups, rows, 0.2, seed) if folds > 2 else (rows, [])
    assert sorted(train + validation) == rows
    assert not {groups[row] for row in train} & {groups[row] for row in validation}


def test_another_seed_gives_another_split() -> None:
    labels = ["ab"[number % 2] for number in range(200)]
    groups = [str(number) for number in range(200)]
    assert make_folds(labels, groups, 5, 0) != make_folds(labels, groups, 5, 1)


def test_a_class_too_small_to_split_is_named() -> None:
    with pytest.raises(SplitError, match="class b is too small"):
        make_folds(["a"] * 10 + ["b"] * 10, [str(n) for n in range(10)] + ["same"] * 10, 5, 0)


def test_a_leak_is_counted_by_hand() -> None:
    patients = ["p1", "p1", "p2", None, None]
    groups = ["a", "a", "b", "c", "c"]
    leak = find_leak([0, 2, 3], [1, 4], patients, groups)
    assert (leak.test_slices, leak.with_known_patient, leak.with_patient_in_training) == (2, 1, 1)
    assert leak.with_group_in_training == 2
    assert leak.leaks
    assert not find_leak([2], [3, 4], patients, groups).leaks


def test_mirrored_and_brightened_copies_are_twins_and_others_are_not() -> None:
    original, other = smooth(0), smooth(1)
    mirrored = original[:, ::-1].copy()
    brighter = (original * 0.7 + 40).astype(np.uint8)
    pairs = near_twins(prints(original, other, mirrored, brighter).thumbnails)
    assert {tuple(pair) for pair in pairs.tolist()} == {(0, 2), (0, 3), (2, 3)}


def test_constant_pictures_are_not_twins_of_everything() -> None:
    blank = np.zeros((64, 64), np.uint8)
    assert len(near_twins(prints(blank, blank + 9, smooth(0)).thumbnails)) == 0


def test_groups_join_patients_identical_bytes_and_likeness_of_unknown_patients_only() -> None:
    original = smooth(0)
    found = group(
        ["p1", "p2", None, "p1", None],
        prints(original, original[:, ::-1].copy(), smooth(5), smooth(6), smooth(5)),
    )
    assert found[0] == found[3]  # one patient
    assert found[0] != found[1]  # alike, but known to be two
    assert found[2] == found[4]  # identical
    found = group([None, "p2"], prints(original, original[:, ::-1].copy()))
    assert found[0] == found[1]  # alike, and one is unknown


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(8)))
def test_groups_do_not_depend_on_the_order_of_slices(order: list[int]) -> None:
    pixels = [smooth(n % 5) for n in range(8)]
    names = ["a", "b", None, None, None, None, "a", None]
    base = group(names, prints(*pixels))
    shuffled = group([names[n] for n in order], prints(*[pixels[n] for n in order]))
    together = {(i, j) for i in range(8) for j in range(8) if base[i] == base[j]}
    assert {(order[i], order[j]) for i in range(8) for j in range(8) if shuffled[i] == shuffled[j]} == together


def test_identical_files_join_the_groups_of_a_split_file() -> None:
    joined = merge_sharing(["a", "a", "b", "c"], ["1", "2", "2", "3"])
    assert joined[0] == joined[1] == joined[2] != joined[3]


def test_a_split_file_survives_the_round_trip_and_a_foreign_one_is_refused(tmp_path: Path) -> None:
    slices = tuple(Slice(f"{'ab'[n % 2]}/{n}.png", "ab"[n % 2], None, f"p{n}" if n else None) for n in range(6))
    manifest = Manifest(tmp_path, ("a", "b"), slices)
    file = tmp_path / "folds.csv"
    write_split(file, manifest, [f"g{n}" for n in range(6)], [0, 1, 0, 1, 2, 2])
    again, groups, folds = read_split(file, manifest)
    assert again == manifest
    assert (groups, folds) == ([f"g{n}" for n in range(6)], [0, 1, 0, 1, 2, 2])
    with pytest.raises(SplitError, match="not in"):
        read_split(file, manifest.keep([0, 1]))
    file.write_text(file.read_text().replace("a/0.png,a", "a/0.png,b"))
    with pytest.raises(SplitError, match="labelled b"):
        read_split(file, manifest)


def test_slices_of_one_patient_or_one_file_share_a_group_whatever_a_split_file_says() -> None:
    assert merge_sharing(["a", "b", "c", "d"], ["p", None, "p", None]) == ["a", "b", "a", "d"]
    assert merge_sharing(["a", "b", "b", "c"], ["x", "x", "y", "y"]) == ["a", "a", "a", "a"]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(SplitError, match="seed"):
        make_folds(["a", "b"] * 4, [str(n) for n in range(8)], 2, seed)
