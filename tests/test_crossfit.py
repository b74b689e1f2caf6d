"""Temperature and thresholds from the other folds: honest, and right where one validation part is too small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from braincam.errors import DataError
from braincam.evaluation.calibration import logits_of
from braincam.evaluation.confidence import calibration, coverage_of
from braincam.evaluation.crossfit import cross_fit, fit_decisions


def answers(n: int, seed: int = 0, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, 4) and labels; at `sharpness` 1 the labels are drawn from the softmax of the logits."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(n, 4))
    labels = (softmax(logits, axis=1).cumsum(1) < random.random((n, 1))).sum(1).clip(0, 3)
    return logits * sharpness, labels.astype(np.int64)


@pytest.mark.parametrize("sharpness", [0.5, 2.5])
def test_the_other_folds_mend_what_is_too_sure_or_too_shy(sharpness: float) -> None:
    logits, labels = answers(5000, sharpness=sharpness)
    found = cross_fit(logits, labels, np.arange(5000) % 5)
    before, after = calibration(labels, softmax(logits, axis=1)), calibration(labels, found.probabilities)
    assert after["ece"] < 0.02 < before["ece"]
    assert after["slope"] == pytest.approx(1, abs=0.15)
    assert all(part.temperature == pytest.approx(sharpness, rel=0.1) for part in found.by_fold.values())


def test_sets_hold_the_true_class_as_often_as_asked() -> None:
    logits, labels = answers(6000, seed=3)
    sets = cross_fit(logits, labels, np.arange(6000) % 5, 0.9).sets
    found = coverage_of(sets, labels, list("abcd"), [str(k) for k in range(6000)])
    assert found["coverage"]["value"] == pytest.approx(0.9, abs=0.015)
    assert all(part["coverage"]["value"] == pytest.approx(0.9, abs=0.025) for part in found["by_class"].values())
    assert 1 < found["mean_size"]["value"] < 4


def test_a_fold_has_no_part_in_its_own_temperature_and_thresholds() -> None:
    logits, labels = answers(300, seed=1)
    folds = np.arange(300) % 3
    changed = labels.copy()
    changed[folds == 0] = (changed[folds == 0] + 1) % 4
    before, after = (cross_fit(logits, truth, folds) for truth in (labels, changed))
    assert before.by_fold[0] == after.by_fold[0] and before.by_fold[1] != after.by_fold[1]
    assert (before.sets[folds == 0] == after.sets[folds == 0]).all()
    assert (before.probabilities[folds == 0] == after.probabilities[folds == 0]).all()
    with pytest.raises(DataError, match="two folds"):
        cross_fit(logits, labels, np.zeros(300))


def test_what_ships_is_what_all_folds_say() -> None:
    logits, labels = answers(400, seed=2, sharpness=3)
    found = fit_decisions(logits, labels)
    by_fold = cross_fit(logits, labels, np.arange(400) % 4).by_fold.values()
    assert min(part.temperature for part in by_fold) < found.temperature < max(part.temperature for part in by_fold)
    probabilities = found.probabilities(logits)
    kept = [probabilities[labels == k, k] >= found.conformal_thresholds[k] for k in range(4)]
    assert all(share.mean() >= 0.95 for share in kept)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.floats(0.6, 4))
def test_logits_come_back_from_probabilities_up_to_a_constant(seed: int, temperature: float) -> None:
    logits = np.random.default_rng(seed).normal(size=(20, 4))  # no probability is so small that it is rounded
    found = logits_of(softmax(logits / temperature, axis=1), np.full((20, 1), temperature))
    assert np.allclose(found - found.mean(1, keepdims=True), logits - logits.mean(1, keepdims=True), atol=1e-9)


def test_the_temperature_does_not_matter_that_the_answers_were_made_with() -> None:
    logits, labels = answers(500, seed=4)
    folds = np.arange(500) % 5
    hot = logits_of(softmax(logits / 3, axis=1), 3.0)
    assert np.allclose(cross_fit(logits, labels, folds).probabilities, cross_fit(hot, labels, folds).probabilities)


def test_one_rounded_zero_does_not_rule_over_the_temperature() -> None:
    logits, labels = answers(2000, seed=5)
    exact = softmax(logits, axis=1)
    surest = exact.max(1).argmax()
    labels[surest] = exact[surest].argmin()  # the true class of one slice was kept as 0
    rounded = np.round(exact, 6)
    rounded[surest] = np.eye(4)[exact[surest].argmax()]
    found = fit_decisions(logits_of(rounded), labels).temperature
    assert found == pytest.approx(fit_decisions(logits, labels).temperature, rel=0.02)


def test_sets_may_cover_slices_or_patients_and_no_probability_hangs_on_it() -> None:
    random = np.random.default_rng(0)
    patients = np.repeat(np.arange(600), np.where(np.arange(600) < 120, 20, 1))  # 2,400 slices of 120, 480 of as many
    labels, folds = patients % 4, patients // 4 % 3
    skill = np.where(patients < 120, 3.0, 1.0)  # patients of many slices are the easier ones
    logits = random.normal(size=(len(patients), 4)) + skill[:, None] * np.eye(4)[labels]
    found = {}
    for covering in ("slices", "patients"):
        fitted = cross_fit(logits, labels, folds, groups=patients.tolist(), covering=covering)
        found[covering] = coverage_of(fitted.sets, labels, list("abcd"), patients.astype(str).tolist())
        assert (fitted.probabilities == cross_fit(logits, labels, folds, groups=patients.tolist()).probabilities).all()
    assert found["slices"]["coverage"]["value"] == pytest.approx(0.95, abs=0.02)
    assert found["slices"]["patient_averaged"]["value"] < 0.85
    assert found["patients"]["patient_averaged"]["value"] == pytest.approx(0.95, abs=0.02)
    assert found["patients"]["mean_size"]["value"] > found["slices"]["mean_size"]["value"]


def test_sets_cannot_cover_patients_that_nobody_names() -> None:
    logits, labels = answers(60)
    with pytest.raises(DataError, match="the patient or group of each row"):
        fit_decisions(logits, labels, covering="patients")


def test_seeds_of_one_slice_are_one_slice_in_the_thresholds_of_every_fold() -> None:
    logits = np.tile(np.where(np.eye(2, dtype=bool)[np.arange(60) % 2], 1.0, 0.0), (3, 1))
    labels, folds = np.tile(np.arange(60) % 2, 3), np.tile(np.arange(60) // 2 % 2, 3)
    slices = [f"{row}.png" for row in range(60)] * 3  # 15 of each class in a fold, 45 answers
    blind = cross_fit(logits, labels, folds).by_fold.values()
    aware = cross_fit(logits, labels, folds, slices=slices).by_fold.values()
    assert all(min(part.conformal_thresholds) > 0 for part in blind)
    assert all(part.conformal_thresholds == (0, 0) for part in aware)
    assert min(fit_decisions(logits, labels, slices=slices).conformal_thresholds) > 0  # 30 are enough
