"""Nothing that belongs together is ever torn apart, and a leak is counted as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braincam.dataset.manifest import Manifest, Slice
from braincam.dataset.split import cut_validation, find_leak, make_folds, read_split, verify, write_split
from braincam.dataset.twins import Twins, group
from braincam.errors import SplitError
from braincam.pipeline.prepare import merge_sharing

NONE = np.empty((0, 2), np.int64)


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
    leak = find_leak([0, 2, 3], [1, 4], patients, groups, np.array([[2, 4], [0, 3]]))
    assert (leak.test_slices, leak.with_known_patient, leak.with_patient_in_training) == (2, 1, 1)
    assert leak.with_group_in_training == 2
    assert leak.with_twin_in_training == 1
    assert leak.leaks
    assert not find_leak([2], [3, 4], patients, groups, NONE).leaks


@pytest.mark.parametrize(("copies", "leaks"), [(2, False), (3, True)])
def test_a_few_missed_copies_are_said_and_many_void_a_split(copies: int, leaks: bool) -> None:
    train, test = list(range(100)), list(range(100, 200))
    twins = np.array([[n, 100 + n] for n in range(copies)])
    leak = find_leak(train, test, [None] * 200, [str(n) for n in range(200)], twins)
    assert leak.with_twin_in_training == copies
    assert leak.leaks == leaks
    assert f"{copies} have a near copy" in str(leak)


def test_the_verifier_trusts_no_group_and_finds_patients_and_twins_across_folds() -> None:
    found = verify([0, 1, 0, 1], ["p", "p", "q", None], np.array([[0, 2], [2, 3]]))
    assert found.patients == ("p",)
    assert found.twins == ((2, 3),)
    assert found.leaks
    assert not verify([0, 0, 1, 1], ["p", "p", "q", None], np.array([[0, 1], [2, 3]])).leaks


def twins_of(pairs: list[tuple[int, int]], alike: list[tuple[int, int]]) -> Twins:
    def rows(some: list[tuple[int, int]]) -> np.ndarray:
        return np.array(some, np.int64).reshape(-1, 2)

    return Twins(rows(pairs), ("copy",) * len(pairs), np.ones(len(pairs), np.float32), rows(alike))


def test_groups_join_patients_identical_bytes_twins_and_look_alikes_of_unknown_patients_only() -> None:
    patients = ["p1", "p2", None, "p1", None, "p3", "p4"]
    found = group(patients, list("abcdcef"), twins_of([(5, 6)], [(0, 1), (1, 4)]))
    assert found[0] == found[3]  # one patient
    assert found[0] != found[1]  # alike, but known to be two
    assert found[2] == found[4]  # identical
    assert found[1] == found[4]  # alike, and one is unknown
    assert found[5] == found[6]  # a copy is a copy, whatever the patients are called


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


def test_validation_is_cut_from_small_classes_too_and_one_group_is_refused() -> None:
    labels = ["a"] * 20 + ["b"] * 3
    groups = [str(number) for number in range(23)]
    train, validation = cut_validation(labels, groups, range(23), 0.1, 0)
    assert {labels[row] for row in train} == {labels[row] for row in validation} == {"a", "b"}
    with pytest.raises(SplitError, match="class b is too small to cut validation"):
        cut_validation(labels, [*groups[:20], "same", "same", "same"], range(23), 0.1, 0)
