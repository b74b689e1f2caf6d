"""Temperature, prediction sets and reliability mean what they promise."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from braincam.errors import DataError
from braincam.evaluation.calibration import (
    ROUNDED,
    TEMPERATURE_BOUNDS,
    conformal_thresholds,
    equal_mass_bins,
    fit_temperature,
    losses,
    reliability_bins,
)
from braincam.evaluation.outliers import fit_outliers
from braincam.model_file.decision import prediction_sets


def calibrated(seed=0, n=4000, k=4):
    """Logits whose softmax is the very probability that the labels are drawn from."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k)) * 2
    p = softmax(logits, axis=1)
    labels = (rng.random(n)[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(0, k - 1)
    return logits, labels


def test_a_probability_rounded_to_zero_costs_no_more_than_it_may_have_been():
    nll, brier = losses(np.array([[1.0, 0.0], [1 - 4e-7, 4e-7], [0.5, 0.5]]), np.array([1, 1, 0]))
    assert nll == pytest.approx([-np.log(ROUNDED), -np.log(ROUNDED), -np.log(0.5)])
    assert brier[0] == 2


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found_again(temperature):
    logits, labels = calibrated()
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.06)


def test_temperature_keeps_to_its_bounds():
    labels = np.arange(4000) % 4
    logits = np.eye(4)[labels]
    assert fit_temperature(logits * 0.1, labels) == pytest.approx(TEMPERATURE_BOUNDS[0])
    assert fit_temperature(-logits * 20, labels) == pytest.approx(TEMPERATURE_BOUNDS[1])
    assert fit_temperature(np.zeros((4, 4)), [0, 1, 2, 3]) == pytest.approx(1, abs=1e-4)  # says nothing
    assert np.isfinite(fit_temperature(logits * 1e6, labels))


def test_a_few_patients_without_a_mistake_do_not_make_a_model_endlessly_sure():
    """They are what a small validation part often holds, even of a model that is no better than it says."""
    labels = np.arange(120) % 4
    logits = np.eye(4)[labels] * 4.0  # 0.95 for the right class
    one_patient_each = fit_temperature(logits, labels, np.arange(120) // 10)
    assert 0.6 < one_patient_each < 1
    many = fit_temperature(np.tile(logits, (50, 1)), np.tile(labels, 50))
    assert one_patient_each > fit_temperature(logits, labels) > many


@pytest.mark.parametrize("n", [200, 20_000])
def test_of_many_patients_the_temperature_is_the_likeliest(n):
    rng = np.random.default_rng(1)
    logits, labels = calibrated(2, n=n)
    logits = logits * 5 + rng.normal(size=logits.shape)

    def nll(t):
        return -np.log(softmax(logits / t, axis=1)[np.arange(n), labels]).mean()

    assert nll(fit_temperature(logits, labels)) <= min(nll(t) for t in np.linspace(0.25, 10, 200)) + 1 / n


def test_ece_of_a_calibrated_predictor_is_small_and_of_a_boastful_one_large():
    logits, labels = calibrated()
    assert reliability_bins(labels, softmax(logits, axis=1)).ece < 0.03
    assert reliability_bins(labels, softmax(logits * 5, axis=1)).ece > 0.1


def test_reliability_worked_out_by_hand():
    p = [[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]]
    bins = reliability_bins([0, 1, 0, 0], p, n_bins=2)
    assert bins.confidence.tolist() == pytest.approx([0.6, 0.9])
    assert bins.accuracy.tolist() == [1.0, 0.5]
    assert bins.count.tolist() == [2, 2]
    assert bins.ece == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=80), st.integers(1, 20))
def test_bins_are_ordered_and_equal_values_share_one(values, n_bins):
    confidence = np.array(values)
    bins = equal_mass_bins(confidence, n_bins)
    assert bins.min() >= 0 and bins.max() < n_bins
    order = np.argsort(confidence, kind="stable")
    assert (np.diff(bins[order]) >= 0).all()
    for value in np.unique(confidence):
        assert len(set(bins[confidence == value])) == 1


def test_bins_hold_equally_many():
    bins = equal_mass_bins(np.random.default_rng(0).random(1500), 15)
    assert np.bincount(bins).tolist() == [100] * 15


def test_no_slices_no_reliability():
    bins = reliability_bins([], np.zeros((0, 3)))
    assert len(bins.count) == 0 and np.isnan(bins.ece)


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_prediction_sets_hold_the_true_class_as_often_as_promised(coverage):
    """In each class, averaged over many calibration samples of a badly calibrated, imbalanced predictor."""
    rng = np.random.default_rng(0)
    held = np.zeros((150, 3))
    for trial in range(150):
        labels = rng.choice(3, 400, p=[0.6, 0.25, 0.15])
        logits = rng.normal(size=(400, 3)) * 4
        logits[np.arange(400), labels] += 3
        p = softmax(logits, axis=1)
        thresholds = conformal_thresholds(p[:200], labels[:200], coverage)
        sets = prediction_sets(p[200:], thresholds)
        for k in range(3):
            held[trial, k] = sets[labels[200:] == k, k].mean()
    assert (held.mean(axis=0) >= coverage - 0.012).all()
    assert (held.mean(axis=0) <= coverage + 0.04).all()  # not by always saying everything


def test_conformal_ranks_worked_out_by_hand():
    scores = np.arange(1, 20) / 20  # 19 slices of class 0: rank (19 + 1) x 0.05 = 1, the lowest
    p = np.stack([scores, 1 - scores], axis=1)
    assert conformal_thresholds(p, np.zeros(19, int), 0.95)[0] == pytest.approx(1 / 20)
    assert conformal_thresholds(p, np.zeros(19, int), 0.90)[0] == pytest.approx(2 / 20)


def test_a_class_with_too_few_slices_is_never_ruled_out():
    p = np.full((18, 2), 0.5)
    thresholds = conformal_thresholds(p, np.zeros(18, int), 0.95)
    assert thresholds.tolist() == [0.0, 0.0]
    assert prediction_sets([[1.0, 0.0]], thresholds).all()


def test_more_seeds_on_the_same_slices_are_no_more_slices():
    slices = [f"{number}.png" for number in range(12)] * 3  # 36 answers would be enough, 12 slices are not
    p = np.full((36, 2), [0.6, 0.4])
    assert conformal_thresholds(p, np.zeros(36, int))[0] == 0.6  # taken for 36 slices
    assert conformal_thresholds(p, np.zeros(36, int), units=slices)[0] == 0
    with pytest.raises(DataError, match="the unit of each of 36 rows, got 12"):
        conformal_thresholds(p, np.zeros(36, int), units=slices[:12])


def test_seeds_that_agree_change_no_threshold_and_slices_named_once_change_nothing():
    p = softmax(np.random.default_rng(0).normal(size=(200, 2)), axis=1)
    labels = np.arange(200) % 2
    once = conformal_thresholds(p, labels)
    assert (conformal_thresholds(p, labels, units=range(200)) == once).all()
    thrice = conformal_thresholds(np.tile(p, (3, 1)), np.tile(labels, 3), units=list(range(200)) * 3)
    assert (thrice == once).all()


@pytest.mark.parametrize("n", [13, 33])
def test_pooled_seeds_keep_the_promise_for_small_classes(n):
    """Three seeds that agree on what is hard: taken for 3 n slices, they promise more than n slices can hold."""
    rng = np.random.default_rng(n)
    held = {True: [], False: []}
    for _ in range(3000):
        p = 1 / (1 + np.exp(-(rng.normal(size=(n + 1, 1)) + 0.05 * rng.normal(size=(n + 1, 3)))))  # the last is new
        known = np.stack([p[:n].ravel(), 1 - p[:n].ravel()], 1)
        slices = np.repeat(np.arange(n), 3).tolist()
        for named in held:
            least = conformal_thresholds(known, np.zeros(3 * n, int), 0.95, slices if named else None)[0]
            held[named].append((p[n] >= least).mean())
    assert np.mean(held[True]) >= 0.95 > np.mean(held[False]) + 0.004


def test_each_patient_weighs_the_same_where_the_promise_is_for_patients():
    """20 patients of one class; the one with 100 slices is as hard as any, and its slices are no majority."""
    patients = ["big"] * 100 + [f"p{number}" for number in range(19)]
    right = np.r_[np.linspace(0.2, 0.3, 100), np.linspace(0.5, 0.9, 19)]
    p = np.stack([right, 1 - right], 1)
    truth = np.zeros(119, int)
    by_patient, by_slice = (conformal_thresholds(p, truth, 0.9, units)[0] for units in (patients, None))
    assert by_patient == right[100]  # 21 x 0.1 - 1 = 1.1 patients may be missed: all of "big", and no other
    assert by_slice == np.sort(right)[11]
    assert conformal_thresholds(p, truth, 0.96, patients)[0] == 0  # 20 patients promise no more than 20 / 21
    order = np.random.default_rng(0).permutation(119)
    assert conformal_thresholds(p[order], truth, 0.9, [patients[row] for row in order])[0] == by_patient


def test_sets_for_patients_keep_the_promise_for_a_new_one_and_sets_for_slices_do_not():
    """Patients with many slices are the easier ones, as in real data: half a percent of them hold most slices."""
    rng = np.random.default_rng(0)
    held = {"patients": [], "slices": []}
    for _ in range(1500):
        many = rng.random(61) < 0.2
        sizes = np.where(many, 20, 2)
        patients = np.repeat(np.arange(61), sizes)
        skill = np.where(many, 2.5, 1.0) + 0.7 * rng.normal(size=61)
        p = 1 / (1 + np.exp(-(skill[patients] + 0.5 * rng.normal(size=len(patients)))))
        known = patients < 60  # the last is new
        rows = np.stack([p[known], 1 - p[known]], 1)
        for name, units in (("patients", patients[known].tolist()), ("slices", None)):
            least = conformal_thresholds(rows, np.zeros(known.sum(), int), 0.95, units)[0]
            held[name].append((p[~known] >= least).mean())
    assert 0.945 < np.mean(held["patients"]) < 0.98
    assert np.mean(held["slices"]) < 0.92


def test_a_set_may_be_empty():
    assert prediction_sets([[0.5, 0.5], [0.9, 0.1]], [0.8, 0.8]).tolist() == [[False, False], [True, False]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: fit_temperature(np.zeros((0, 4)), []),
        lambda: fit_temperature(np.zeros(4), [0]),
        lambda: fit_temperature([[np.inf, 0.0]], [0]),
        lambda: fit_temperature([["a", "b"]], [0]),
        lambda: conformal_thresholds([[0.5, 0.5]], [0], 1.0),
        lambda: conformal_thresholds([[0.5, 0.5]], [7]),
        lambda: prediction_sets([[0.5, 0.5]], [0.1]),
        lambda: equal_mass_bins(np.zeros(3), 0),
    ],
)
def test_wrong_input_is_refused(call):
    with pytest.raises(DataError):
        call()


def test_slices_that_do_not_differ_within_their_class_have_outlier_references_all_the_same():
    """One slice of a class, or a broken export of blank pictures."""
    features = np.repeat(np.eye(3, 5, dtype=np.float32), [1, 2, 1], axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        centres, whitening = fit_outliers(features, np.array([0, 1, 1, 2]), 3)
    assert np.isfinite(centres).all() and np.isfinite(whitening).all()
    distance = np.linalg.norm(features @ whitening - centres[[0, 1, 1, 2]], axis=1)
    assert distance.max() < 1 < np.linalg.norm(features[0] @ whitening - centres[1])
