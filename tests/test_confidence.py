"""A confidence that can be relied on is told from one that cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from braincam.evaluation.confidence import (
    before_temperature,
    calibration,
    chance_band,
    confidence_report,
    missed_tumours,
    recalibration,
    risk_by_coverage,
    risk_curve,
)


def perfect(n: int, k: int = 4, seed: int = 0, sharpness: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, k), and labels drawn from them: what a perfectly calibrated model shows."""
    random = np.random.default_rng(seed)
    probabilities = softmax(random.normal(size=(n, k)) * sharpness, axis=1)
    labels = (probabilities.cumsum(1) < random.random((n, 1))).sum(1).clip(0, k - 1)
    return labels.astype(np.int64), probabilities


def test_a_perfect_model_has_slope_one_and_lies_in_the_band_of_chance() -> None:
    labels, probabilities = perfect(20_000)
    found = calibration(labels, probabilities)
    assert found["slope"] == pytest.approx(1, abs=0.06)
    assert found["intercept"] == pytest.approx(0, abs=0.06)
    assert found["ece"] < found["chance"]["high"] * 1.1
    assert 0 < found["chance"]["mean"] < found["chance"]["high"]


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_model_that_is_too_sure_or_too_shy_is_found_out(factor: float) -> None:
    labels, probabilities = perfect(20_000)
    off = softmax(np.log(probabilities) * factor, axis=1)
    found = calibration(labels, off)
    assert found["ece"] > 3 * found["chance"]["high"]
    assert (found["slope"] < 0.75) if factor > 1 else (found["slope"] > 1.3)
    assert found["nll"] > calibration(labels, probabilities)["nll"]


@pytest.mark.parametrize("groups", [12, 40])
def test_the_band_of_chance_does_not_grow_with_the_error_of_calibration(groups: int) -> None:
    labels, probabilities = perfect(groups * 40)
    names = [str(k) for k in np.arange(groups).repeat(40)]
    off = softmax(np.log(probabilities) * 3, axis=1)
    fair, boastful = chance_band(labels, probabilities, names), chance_band(labels, off, names)
    assert boastful["high"] < 1.35 * fair["high"] < 0.6 * calibration(labels, off, names)["ece"]
    alone = chance_band(labels, probabilities, ["one"] * len(labels))
    assert alone["high"] == pytest.approx(calibration(labels, probabilities)["ece"])  # nothing else to tell it by


def test_the_band_of_chance_narrows_with_the_root_of_the_slices() -> None:
    few, many = (chance_band(*perfect(n), draws=300)["mean"] for n in (500, 8000))
    assert few / many == pytest.approx(4, rel=0.2)


def test_answers_that_err_together_do_not_narrow_the_band_of_chance() -> None:
    labels, probabilities = perfect(3000)
    once = chance_band(labels, probabilities)
    seeds = [str(k) for k in np.arange(3000).repeat(3)]
    thrice = chance_band(labels.repeat(3), probabilities.repeat(3, axis=0), seeds)
    assert thrice["high"] == pytest.approx(once["high"], rel=0.02)
    alone = chance_band(labels.repeat(3), probabilities.repeat(3, axis=0))
    assert alone["high"] == pytest.approx(once["high"] / 3**0.5, rel=0.1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.floats(0.6, 4))
def test_the_temperature_is_undone(seed: int, temperature: float) -> None:
    logits = np.random.default_rng(seed).normal(size=(20, 4))  # no probability is so small that it is rounded
    after = softmax(logits / temperature, axis=1)
    assert np.allclose(before_temperature(after, temperature), softmax(logits, axis=1), atol=1e-9)


def test_recalibration_is_undefined_where_nothing_is_wrong() -> None:
    assert recalibration([0, 1], [[0.9, 0.1], [0.2, 0.8]]) == (None, None)


@pytest.mark.parametrize("wrong", [[0], [0, 1], [39], [38, 39]], ids=str)
def test_recalibration_is_undefined_where_one_confidence_parts_right_from_wrong(wrong: list[int]) -> None:
    """The likelihood rises for ever as the slope does: whatever an optimiser stops at is not a finding."""
    confidence = np.linspace(0.55, 0.95, 40)
    labels = np.isin(np.arange(40), wrong).astype(int)
    assert recalibration(labels, np.stack([confidence, 1 - confidence], 1)) == (None, None)
    labels[20] = 1 - labels[20]  # now neither side is pure
    slope, _ = recalibration(labels, np.stack([confidence, 1 - confidence], 1))
    assert slope is not None and abs(slope) < 20


def test_errors_at_the_unsure_end_cost_the_surest_nothing() -> None:
    probabilities = np.array([[0.99, 0.01], [0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    found = risk_by_coverage([0, 0, 0, 0, 1], probabilities)
    assert found["risk_at"] == {"0.5": 0, "0.8": 0, "0.9": 0, "0.95": 0.2, "1": 0.2}
    assert found["area"] == pytest.approx(found["perfect_area"]) == pytest.approx(0.2 / 5)
    backwards = risk_by_coverage([1, 0, 0, 0, 0], probabilities)
    assert backwards["area"] > 5 * found["area"] and backwards["risk_at"]["1"] == pytest.approx(0.2)


def test_equal_confidences_have_no_order() -> None:
    probabilities = np.full((4, 2), 0.5)
    for labels in ([0, 0, 1, 1], [1, 1, 0, 0]):
        assert risk_curve(np.array(labels), probabilities) == pytest.approx([0.5] * 4)


def test_a_missed_tumour_is_one_that_is_answered_as_none_without_a_referral() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    predicted = np.array([1, 1, 0, 1, 0])  # class 1 is none: two tumours are taken for none
    answered = np.array([True, False, True, True, True])
    groups = ["a", "a", "b", "c", "d"]
    found = missed_tumours(labels, predicted, answered, 1, groups)
    assert found is not None
    assert found["n"] == 1
    assert found["of_answers"]["value"] == 0.25 and found["of_tumours"]["value"] == pytest.approx(1 / 3)
    assert missed_tumours(labels, predicted, answered, None, groups) is None


def test_a_report_says_all_of_it_and_nothing_of_no_slices() -> None:
    labels, probabilities = perfect(200)
    options = {"coverage": 0.95, "none": 2, "temperature": 1.7}
    found = confidence_report(
        labels,
        probabilities,
        list("abcd"),
        [f"g{k // 4}" for k in range(200)],
        sets=probabilities > 0.1,
        answered=probabilities.max(1) > 0.8,
        **options,  # type: ignore[arg-type]
    )
    assert found is not None
    parts = {"calibration", "before_temperature", "prediction_sets", "risk_by_coverage", "missed_tumours"}
    assert set(found) == parts
    assert found["before_temperature"]["nll"] > found["calibration"]["nll"]
    empty = np.zeros((0, 4))
    assert confidence_report([], empty, list("abcd"), [], sets=empty > 0, answered=np.zeros(0, bool), **options) is None  # type: ignore[arg-type]
