"""The cluster bootstrap: groups are drawn whole, and what is undefined is said to be."""

from __future__ import annotations

import numpy as np
import pytest

from braincam.errors import DataError
from braincam.resampling import (
    CHUNK,
    divide,
    group_numbers,
    interval,
    mean_over_groups,
    means,
    measured,
    ratios,
    resamples,
    with_interval,
)


def test_groups_are_numbered_by_name_and_slices_without_names_stand_alone() -> None:
    assert group_numbers(["b", "a", "b", "c"], 4).tolist() == [1, 0, 1, 2]
    assert group_numbers([10, 2, 10], 3).tolist() == [0, 1, 0]
    assert group_numbers(None, 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("unknown", [None, "", float("nan")])
def test_unknown_groups_do_not_become_one(unknown: object) -> None:
    with pytest.raises(DataError, match="row 1"):
        group_numbers(np.array(["a", unknown, "b"], object), 3)
    with pytest.raises(DataError, match="one per slice"):
        group_numbers(["a", "b"], 3)


def test_every_resample_draws_as_many_groups_as_there_are() -> None:
    chunks = list(resamples(7, 2 * CHUNK + 50, seed=0))
    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK, 50]
    drawn = np.concatenate(chunks)
    assert (drawn.sum(axis=1) == 7).all()
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.2)
    np.testing.assert_array_equal(drawn, np.concatenate(list(resamples(7, 2 * CHUNK + 50, seed=0))))
    assert not np.array_equal(drawn, np.concatenate(list(resamples(7, 2 * CHUNK + 50, seed=1))))


def test_one_group_or_no_resample_draws_nothing() -> None:
    assert not list(resamples(1, 100, seed=0))
    assert not list(resamples(5, 0, seed=0))
    with pytest.raises(DataError, match="n_boot"):
        list(resamples(5, -1, seed=0))


def test_an_interval_needs_most_of_its_values() -> None:
    values = np.arange(1001, dtype=np.float64)
    assert interval(values) == [25.0, 975.0]
    values[:400] = np.nan
    assert interval(values) == pytest.approx([415.0, 985.0])
    values[:501] = np.nan
    assert interval(values) is None
    assert interval(None) is None


def test_a_ratio_is_that_of_the_sums_and_its_interval_holds_it() -> None:
    right = np.array([[1.0], [1], [0], [1], [0], [1]])
    (found,) = ratios(right, np.ones_like(right), ["a", "a", "b", "c", "c", "d"])
    assert found["value"] == pytest.approx(4 / 6)
    low, high = found["ci95"]
    assert 0 <= low < 4 / 6 < high <= 1


def test_a_share_that_no_group_leaves_keeps_the_bound_of_so_many_groups() -> None:
    names = np.repeat(np.arange(40), 3)
    never, seldom = ratios(np.zeros((120, 2)), np.stack([np.ones(120), names < 10], 1), names)
    assert never["ci95"][0] == seldom["ci95"][0] == 0
    assert (1 - never["ci95"][1]) ** 40 == pytest.approx(0.025)
    assert (1 - seldom["ci95"][1]) ** 10 == pytest.approx(0.025)
    (always,) = means(np.ones((120, 1)), names)
    assert always["ci95"] == pytest.approx([1 - never["ci95"][1], 1])
    (size,) = means(np.ones((120, 1)), names, shares=False)
    assert size["ci95"] == [1, 1]  # no share: a mean of other numbers
    (one,) = means(np.ones((3, 1)), ["a", "a", "a"])
    assert one["ci95"] is None


def test_in_a_mean_over_groups_each_group_weighs_the_same() -> None:
    found = mean_over_groups([1, 1, 1, 1, 0, 0.5], ["a", "a", "a", "a", "b", "c"])
    assert found["value"] == pytest.approx(0.5)
    low, high = found["ci95"]
    assert low < 0.5 < high
    assert mean_over_groups([1.0] * 40, [str(k // 2) for k in range(40)])["ci95"] == [pytest.approx(0.83, abs=0.005), 1]


def test_slices_of_one_patient_do_not_count_as_independent() -> None:
    """Copies of each slice add nothing: the interval stays as wide as without them."""
    values = np.random.default_rng(0).random((30, 1))
    (alone,) = means(values, np.arange(30))
    (copied,) = means(np.repeat(values, 4, axis=0), np.repeat(np.arange(30), 4))
    (taken_as_independent,) = means(np.repeat(values, 4, axis=0), np.arange(120))
    assert copied["ci95"] == pytest.approx(alone["ci95"])
    assert np.ptp(taken_as_independent["ci95"]) < 0.7 * np.ptp(alone["ci95"])


def test_what_is_undefined_is_none() -> None:
    above, below = np.array([[1.0, 0, 1], [0, 0, 0]]), np.array([[1.0, 0, 1], [1, 0, 0]])
    both, nothing, one_group = ratios(above, below, ["a", "b"])
    assert both["value"] == 0.5
    assert both["ci95"] is not None
    assert (nothing["value"], nothing["ci95"]) == (None, None)
    assert (one_group["value"], one_group["ci95"]) == (1.0, None), "one group bears on it: nothing to draw from"
    (lone,) = means(np.array([[1.0], [0]]), ["a", "a"])
    assert (lone["value"], lone["ci95"]) == (0.5, None)
    np.testing.assert_array_equal(divide(np.array([1.0, 1]), np.array([2.0, 0])), [0.5, np.nan])


def test_scores_are_said_with_their_interval_where_they_have_one() -> None:
    assert with_interval({"f1": 0.5, "ci95": {"f1": [0.25, 0.75]}}, "f1") == "0.500 [0.250, 0.750]"
    assert with_interval({"f1": 0.5, "ci95": None}, "f1") == "0.500"
    assert with_interval({"f1": None}, "f1") == "undefined"
    assert measured({"value": 0.5, "ci95": [0.25, 0.75]}) == "0.500 [0.250, 0.750]"
    assert measured({"value": None, "ci95": None}) == "undefined"
