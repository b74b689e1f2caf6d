"""Nothing that belongs together is ever torn apart, and a leak is counted as it is."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

from braincam.cli import main
from braincam.dataset.fingerprints import print_slices
from braincam.dataset.groups import group
from braincam.dataset.manifest import Manifest, Slice, read_table
from braincam.dataset.origin import NOBODY, Origin, owners
from braincam.dataset.phantom import make_slices
from braincam.dataset.split import (
    COLUMNS,
    Leak,
    class_shares,
    cut_validation,
    fill_in_patients,
    find_leak,
    make_folds,
    read_split,
    verify,
    write_split,
)
from braincam.dataset.twins import Twins, find_twins
from braincam.errors import SplitError
from braincam.files import write_csv
from braincam.pipeline.prepare import check_split, divide, grouped, merge_sharing, split

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


def uneven(seed: int, folds: int) -> tuple[list[str], list[str]]:
    """Four classes of barely enough groups, whose sizes differ widely."""
    random = np.random.default_rng(seed)
    labels: list[str] = []
    groups: list[str] = []
    for label in "abcd":
        for number in range(int(random.integers(folds, folds + 3))):
            size = int(random.choice([1, 1, 2, 5, 30, 200]))
            labels += [label] * size
            groups += [f"{label}{number}"] * size
    return labels, groups


def stratified_alone(labels: list[str], groups: list[str], folds: int, seed: int) -> list[int]:
    found = np.zeros(len(labels), int)
    for number, (_, rows) in enumerate(
        StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    ):
        found[rows] = number
    return found.tolist()


def classes_in(parts: list[int], labels: list[str]) -> int:
    return len(set(zip(parts, labels, strict=True)))


def test_groups_of_widely_different_sizes_give_folds_of_every_class_too() -> None:
    """And where stratifying alone gives such folds they are just those: scores on them are published."""
    mended = 0
    for seed in range(25):
        labels, groups = uneven(seed, 5)
        fold, before = make_folds(labels, groups, 5, seed), stratified_alone(labels, groups, 5, seed)
        assert classes_in(fold, labels) == 20
        assert len(set(zip(fold, groups, strict=True))) == len(set(groups)), "groups stay whole"
        assert (fold == before) == (classes_in(before, labels) == 20)
        assert fold == make_folds(labels, groups, 5, seed)
        mended += fold != before
    assert mended


def test_validation_and_training_hold_every_class_and_are_as_stratified_where_those_do() -> None:
    mended = 0
    for seed in range(25):
        labels, groups = uneven(seed, 5)
        parts = min(10, *(len({g for g, each in zip(groups, labels, strict=True) if each == name}) for name in "abcd"))
        before = [int(number == 0) for number in stratified_alone(labels, groups, parts, seed)]
        _, validation = cut_validation(labels, groups, range(len(labels)), 0.1, seed)
        cut = [int(row in set(validation)) for row in range(len(labels))]
        assert classes_in(cut, labels) == 8
        assert (cut == before) == (classes_in(before, labels) == 8)
        mended += cut != before
    assert mended


def test_groups_of_several_classes_that_allow_no_folds_are_refused_by_name() -> None:
    labels, groups = list("abbcac"), ["x", "x", "y", "y", "z", "z"]  # one of the three is alone, and lacks a class
    with pytest.raises(SplitError, match="^class [abc]: expected folds that each hold slices of it, found no such 2 "):
        make_folds(labels, groups, 2, 0)
    with pytest.raises(SplitError, match="^validation cannot be cut from training: class [abc]: "):
        cut_validation(labels, groups, range(6), 0.5, 0)


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


@pytest.mark.parametrize(
    ("share", "part"), [(0.01, 1), (0.1, 10), (0.15, 15), (0.25, 25), (0.4, 40), (0.9, 90), (0.99, 95)]
)
def test_validation_takes_the_share_that_was_asked_for_of_every_class(share: float, part: int) -> None:
    labels = ["ab"[number % 2] for number in range(400)]  # 200 of each, every other one
    rows = list(range(100, 300))
    train, validation = cut_validation(labels, [str(number) for number in range(400)], rows, share, 3)
    assert sorted(train + validation) == rows
    assert [sum(labels[row] == name for row in validation) for name in "ab"] == [part, part]
    assert cut_validation(labels, [str(number) for number in range(400)], rows, share, 4)[1] != validation


def test_validation_is_cut_from_two_groups_and_the_smallest_class_sets_the_number_of_parts() -> None:
    labels = ["a"] * 8 + ["b"] * 2
    _, validation = cut_validation(labels, list("abcdefghij"), range(10), 0.1, 0)
    assert [sum(labels[row] == name for row in validation) for name in "ab"] == [4, 1]


@pytest.mark.parametrize("folds", [-1, 0, 1])
def test_fewer_than_two_folds_are_refused(folds: int) -> None:
    with pytest.raises(SplitError, match=f"^folds: expected at least 2, got {folds}$"):
        make_folds(["a"] * 4, list("abcd"), folds, 0)


def test_as_many_groups_as_folds_are_enough_and_any_seed_of_32_bits_is_taken() -> None:
    labels = ["a"] * 4 + ["b"] * 4
    for seed in (0, 2**32 - 1):
        assert sorted(make_folds(labels, list("abcdefgh"), 4, seed)) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_refusal_of_a_class_says_how_many_groups_it_has_and_needs() -> None:
    """Of several that are too small, the first by name."""
    with pytest.raises(
        SplitError,
        match="^class a is too small to split: expected at least 3 patients or groups of twins, got 2; add patients",
    ):
        make_folds(["b", "b", "a", "a", "c", "c", "c"], list("bqawcde"), 3, 0)


def test_a_twin_counts_whichever_of_the_two_is_named_first_and_each_slice_once() -> None:
    nobody, apart = [None] * 4, list("abcd")
    for pairs in ([[0, 2]], [[2, 0]], [[0, 2], [2, 1], [1, 2]]):
        assert find_leak([0, 1], [2, 3], nobody, apart, np.array(pairs)).with_twin_in_training == 1
    assert find_leak([0, 1], [2, 3], nobody, apart, np.array([[0, 1], [3, 2]])).with_twin_in_training == 0


@pytest.mark.parametrize(
    ("facts", "leaks"),
    [((0, 0, 0), False), ((1, 0, 0), True), ((0, 1, 0), True), ((0, 0, 1), False), ((0, 0, 2), True)],
)
def test_one_patient_or_group_is_a_leak_and_a_fiftieth_of_twins_is_not(facts: tuple[int, ...], leaks: bool) -> None:
    patient, group_, twin = facts
    assert Leak(50, 50, patient, group_, twin).leaks is leaks


def test_a_leak_says_what_was_counted() -> None:
    assert str(Leak(50, 50, 0, 0, 0)) == "no known patient and no group of the 50 test slices is in training"
    assert str(Leak(50, 40, 0, 0, 1)).endswith(
        "is in training; 1 have a near copy there all the same; patients are unknown for 10 of them"
    )
    assert str(Leak(50, 40, 3, 5, 7)) == (
        "3 of the 40 test slices with a known patient have that patient in training; "
        "5 of 50 test slices share a patient or a twin group with training; 7 have a near copy there"
    )
    assert str(Leak(50, 0, 0, 5, 7)).startswith("patients are unknown; 5 of 50")


def test_the_verifier_counts_slices_and_folds_and_names_patients_in_order() -> None:
    found = verify([3, 5, 5, 3, 9], ["q", "q", "p", "p", "alone"], NONE)
    assert (found.slices, found.folds, found.patients, found.twins) == (5, 3, ("p", "q"), ())
    assert found.leaks
    assert verify([0, 1], [None, None], np.array([[1, 0]])).twins == ((1, 0),)
    assert verify([0, 1], [None, None], np.array([[1, 0]])).leaks


def test_shares_of_the_classes_by_hand() -> None:
    found = class_shares(["a", "b", "a", "a", "c"], [1, 1, 0, 1, 1])
    assert found == {0: {"a": 1, "b": 0, "c": 0}, 1: {"a": 0.5, "b": 0.25, "c": 0.25}}
    assert list(found) == [0, 1] and list(found[1]) == ["a", "b", "c"]


def table(folder: Path, *rows: str) -> Path:
    file = folder / "folds.csv"
    file.write_text("\n".join(["path,label,patient,group,fold", *rows]) + "\n", encoding="utf-8")
    return file


def test_a_split_file_fills_in_patients_and_groups_and_leaves_out_what_it_does_not_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slices = tuple(Slice(f"a/{n}.png", "a", "Training", patient) for n, patient in enumerate(["p", "p", None, None]))
    manifest = Manifest(tmp_path, ("a", "b"), slices, ("junk",))
    file = table(tmp_path, "a/3.png,a, r ,g,12", "a/0.png,a,q,,0", "a/1.png,a,,h,0")
    again, groups, folds = read_split(file, manifest)
    assert [item.path for item in again.slices] == ["a/0.png", "a/1.png", "a/3.png"]  # in the folder's order
    assert [item.patient for item in again.slices] == ["p", "p", "r"]  # the table of patients first: it may be newer
    said = f"{file}: names another patient than the table of patients for 1 slices; the latter counts"
    assert said in capsys.readouterr().err
    assert {(item.label, item.part) for item in again.slices} == {("a", "Training")}
    assert (groups, folds) == (["a/0.png", "h", "g"], [0, 0, 12])
    assert (again.root, again.classes, again.ignored) == (tmp_path, ("a", "b"), ("junk",))


def test_a_split_file_that_agrees_or_leaves_patients_out_says_nothing_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slices = tuple(Slice(f"a/{n}.png", "a", None, patient) for n, patient in enumerate(["p", "p", None, None]))
    manifest = Manifest(tmp_path, ("a",), slices)
    again, _, _ = read_split(table(tmp_path, "a/0.png,a,p,,0", "a/1.png,a,,,1", "a/2.png,a,q,,2"), manifest)
    assert [item.patient for item in again.slices] == ["p", "p", "q"]
    said = capsys.readouterr().err
    assert "another patient" not in said
    assert f"leaves out 1 of the 4 slices in {tmp_path}, such as a/3.png" in said


def test_a_fold_has_a_number_of_at_most_nine_digits(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, ("a",), (Slice("a/0.png", "a", None, None),))
    _, _, folds = read_split(table(tmp_path, "a/0.png,a,,g,123456789"), manifest)
    assert folds == [123456789]
    with pytest.raises(SplitError, match="expected a fold number from 0"):
        read_split(table(tmp_path, "a/0.png,a,,g,1234567890"), manifest)


def test_a_split_file_with_a_strange_fold_or_path_says_which(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, ("a", "b"), (Slice("a/0.png", "a", None, None), Slice("a/1.png", "a", None, None)))
    for fold in ("-1", "x", "1.5", ""):
        with pytest.raises(SplitError, match=f"a/0.png: expected a fold number from 0, got '{fold}'"):
            read_split(table(tmp_path, f"a/0.png,a,,g,{fold}"), manifest)
    with pytest.raises(
        SplitError, match=r"2 of its 3 slices are not in .*, such as a/8\.png; expected a split made for"
    ):
        read_split(table(tmp_path, "a/0.png,a,,g,0", "a/8.png,a,,g,0", "a/9.png,a,,g,0"), manifest)


def test_copies_of_copies_count_where_the_search_lists_only_the_nearest() -> None:
    chain = np.array([[0, 1], [1, 2], [3, 4]])
    leak = find_leak([2, 5], [0, 1, 3, 4], [None] * 6, list("abcdef"), chain)
    assert (leak.with_twin_in_training, leak.chained_to_training) == (1, 2)
    assert str(leak).endswith("1 have a near copy there, 2 with copies of copies")
    assert str(replace(leak, chained_to_training=1)).endswith("1 have a near copy there")  # no more than those
    found = verify([0, 0, 1, 2, 2, 1], [None] * 6, chain)
    assert (found.twins, found.copies, found.turned) == (((1, 2),), 3, 0)


def test_turned_copies_are_counted_apart_and_said_and_do_not_void_a_split_that_is_given() -> None:
    """Slice 0 has a near copy in training, 1 a turned one; 3 is a copy of 1; 4 has a turned copy in the test alone."""
    near, turned = np.array([[0, 2], [1, 3]]), np.array([[1, 5], [0, 5], [4, 6]])
    leak = find_leak([2, 5], [0, 1, 3, 4, *range(6, 107)], [None] * 107, list(map(str, range(107))), near, turned)
    assert (leak.with_twin_in_training, leak.chained_to_training, leak.turned_in_training) == (1, 1, 2)
    assert not leak.leaks and "; 2 more lie there upside down or turned, as copies" in str(leak)
    pairs = np.concatenate((near, turned))
    found = verify([0, 0, 1, 0, 0, 1, 0], [None] * 7, pairs, np.array([False, False, True, True, True]))
    assert found.twins == ((0, 2), (1, 5), (0, 5)) and found.turned == 2 and found.leaks


def test_turned_copies_stay_in_one_fold() -> None:
    heads = [piece.pixels for piece in make_slices(patients=10, slices_per_patient=2, seed=5)]
    slices = [*heads, *(np.rot90(head, 1 + number % 3) for number, head in enumerate(heads))]
    twins = find_twins(print_slices(list(map(str, range(len(slices)))), slices))
    groups = group([None] * len(slices), list(map(str, range(len(slices)))), twins)
    assert [groups[n] == groups[n + len(heads)] for n in range(len(heads))] == [True] * len(heads)
    assert len(set(groups)) > 5


def test_known_patients_are_those_that_are_known() -> None:
    assert find_leak([0], [1, 2, 3], ["p", "q", "r", None], list("abcd"), NONE).with_known_patient == 2


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        verify([0, 1], ["p"], NONE)
    with pytest.raises(ValueError, match="zip"):
        make_folds(["a", "a", "b", "b"], list("abc"), 2, 0)


def test_the_table_of_folds_holds_what_other_programs_need(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, ("a",), (Slice("a/0.png", "a", None, "p"), Slice("a/1.png", "a", None, None)))
    write_split(tmp_path / "folds.csv", manifest, ["g", "h"], [1, 0])
    assert (tmp_path / "folds.csv").read_text(encoding="utf-8").split() == [
        "path,label,patient,group,fold,sha256",
        "a/0.png,a,p,g,1,",
        "a/1.png,a,,h,0,",
    ]
    with pytest.raises(ValueError, match="zip"):
        write_split(tmp_path / "folds.csv", manifest, ["g"], [1, 0])
    with pytest.raises(ValueError, match="zip"):
        write_split(tmp_path / "folds.csv", manifest, ["g", "h"], [1, 0], ["a" * 64])


def test_hashes_survive_the_round_trip_and_an_empty_cell_is_unknown(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, ("a",), (Slice("a/0.png", "a"), Slice("a/1.png", "a")))
    write_split(tmp_path / "folds.csv", manifest, ["g", "h"], [1, 0], ["0f" * 32, ""])
    again, _, _ = read_split(tmp_path / "folds.csv", manifest)
    assert [item.sha256 for item in again.slices] == ["0f" * 32, None]


@pytest.mark.parametrize("damaged", ["0f" * 31, "0f" * 33, "no" * 32])
def test_a_hash_that_is_none_is_refused_and_capitals_are_not(tmp_path: Path, damaged: str) -> None:
    manifest = Manifest(tmp_path, ("a",), (Slice("a/0.png", "a"),))
    file = tmp_path / "folds.csv"
    write_split(file, manifest, ["g"], [0], [damaged])
    with pytest.raises(SplitError, match=f"a/0.png: expected a SHA-256 of 64 hexadecimal digits.*got '{damaged}'"):
        read_split(file, manifest)
    write_split(file, manifest, ["g"], [0], ["0F" * 32])
    assert read_split(file, manifest)[0].slices[0].sha256 == "0f" * 32


def test_the_official_split_learns_from_validation_folders_and_tests_on_testing_alone(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for place in ("train/a", "train/b", "valid/a", "valid/b", "test/a", "test/b"):
        (tmp_path / place).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(random.integers(0, 256, (32, 32), np.uint8)).save(tmp_path / place / f"{number}.png")
    found = grouped(tmp_path)
    parts = divide(found, "official", 0, 0.5, 0)
    of = [item.path.split("/")[0] for item in found.manifest.slices]
    assert {of[row] for row in parts.test} == {"test"} and len(parts.test) == 4
    assert sorted(parts.train + parts.validation) == [row for row, part in enumerate(of) if part != "test"]


@pytest.mark.parametrize("out", ["", ".", "/", "folder"])
def test_a_folder_in_place_of_the_table_is_refused_before_the_slices_are_read(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["split", "absent", "--out", out]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"braincam: --out {Path(out)}: expected a file to write the folds to, got a folder; give ")


@pytest.fixture(scope="module")
def hashed(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of its own, and the table that `split` made of it."""
    home = tmp_path_factory.mktemp("hashed")
    shutil.copytree(scans / "data", home / "data")
    split(home / "data", home / "folds.csv", scans / "patients.csv", folds=2)
    return home / "data", home / "folds.csv"


def test_a_split_holds_the_hash_of_every_file_and_goes_with_the_folder(
    hashed: tuple[Path, Path], tmp_path: Path
) -> None:
    data, table = hashed
    for row in read_table(table, ("path", "sha256")):
        assert row["sha256"] == hashlib.sha256((data / row["path"]).read_bytes()).hexdigest()
    shutil.copytree(data, tmp_path / "elsewhere")
    assert grouped(tmp_path / "elsewhere", split_file=table).digests == grouped(data, split_file=table).digests
    assert not check_split(tmp_path / "elsewhere", table)[1].leaks


@pytest.mark.parametrize("harm", ["another slice", "damaged", "one more byte"])
def test_a_slice_with_other_bytes_than_the_split_was_made_of_is_refused_by_name(
    hashed: tuple[Path, Path], tmp_path: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(hashed[0], data)
    victim, other = sorted(data.glob("*/*.png"))[3:5]
    before = victim.read_bytes()
    victim.write_bytes({"another slice": other.read_bytes(), "damaged": b"torn", "one more byte": before + b" "}[harm])
    hashes = [hashlib.sha256(content).hexdigest() for content in (before, victim.read_bytes())]
    with pytest.raises(SplitError, match=f"expected sha256 {hashes[0]}, got {hashes[1]}; restore") as refused:
        grouped(data, split_file=hashed[1])
    assert str(refused.value).startswith(f"{victim}: ")
    assert main(["split", str(data), "--check", str(hashed[1])]) == 2
    assert victim.name in capsys.readouterr().err
    assert grouped(data).manifest.root == data  # without the table nobody knows of other bytes


def test_a_split_without_hashes_takes_files_as_they_are(hashed: tuple[Path, Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(hashed[0], data)
    victim = min(data.glob("*/*.png"))
    victim.write_bytes(victim.read_bytes() + b" ")
    rows = read_table(hashed[1], COLUMNS)
    for place, columns in (("without", COLUMNS), ("empty", (*COLUMNS, "sha256"))):
        table = tmp_path / f"{place}.csv"
        write_csv(table, columns, [[row[name] if name in COLUMNS else "" for name in columns] for row in rows])
        assert len(grouped(data, split_file=table).digests) == len(rows)
        assert not check_split(data, table)[1].leaks


def test_the_refusal_to_cut_validation_says_what_to_do() -> None:
    with pytest.raises(SplitError) as refused:
        cut_validation(["a", "a", "b"], list("abc"), range(3), 0.1, 0)
    assert str(refused.value) == (
        "class b is too small to cut validation from training: expected at least 2 patients or groups of twins outside "
        "the test part, got 1; add patients of that class"
    )


def test_a_corrected_table_of_patients_shows_the_leak_of_an_older_split() -> None:
    slices = tuple(Slice(f"a/{n}.png", "a", None, "p") for n in range(2))
    rows = {item.path: {"patient": f"q{n}", "fold": str(n)} for n, item in enumerate(slices)}
    manifest = fill_in_patients(Manifest(Path("data"), ("a",), slices), rows, Path("folds.csv"))
    assert verify([0, 1], [item.patient for item in manifest.slices], NONE).patients == ("p",)


def test_dicom_files_of_one_patient_stay_together_unless_a_table_names_each() -> None:
    said = [("p", "s1"), ("p", "s2"), ("q", "s3"), (None, "s4"), (None, "s4"), (None, None), (None, None)]
    found = owners([Origin(patient=patient, series=series) for patient, series in said])
    assert found == [0, 0, 2, 3, 3, NOBODY, NOBODY]
    nobody: list[str | None] = [None] * 7
    groups = group(nobody, list("abcdefg"), twins_of([], []), found)
    assert [groups.index(name) for name in groups] == [0, 0, 2, 3, 3, 5, 6]
    assert len(set(group(["x", "y", *"12345"], list("abcdefg"), twins_of([], []), found))) == 7
    partly = group(["x", None, *"12345"], list("abcdefg"), twins_of([], []), found)
    assert partly[0] == partly[1]  # half a table leaves the question open
    stand_in = [Origin(patient="anonymous", series=series) for series in ("s1", "s1", "s2")]
    assert owners(stand_in) == [0, 0, 2]
