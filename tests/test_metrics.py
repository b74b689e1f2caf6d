"""What the numbers of metrics.json mean."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from braincam.dataset.manifest import means_no_tumour
from braincam.errors import DataError
from braincam.evaluation.metrics import PER_CLASS, SCALARS, paired_difference, score
from braincam.study import tumour_classes

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]


def simulated(seed=0, n=400, k=4, strength=2.0, n_groups=60):
    """Labels, probabilities and groups of a middling network."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += strength
    p = np.exp(logits)
    return labels, p / p.sum(axis=1, keepdims=True), rng.integers(0, n_groups, n)


def one_hot(labels, k):
    return np.eye(k)[labels]


def test_a_case_worked_out_by_hand():
    labels = [0, 0, 0, 1, 1, 2]
    predicted = [0, 0, 1, 1, 1, 0]
    m = score(labels, one_hot(predicted, 3), ["a", "b", "c"], [1, 1, 2, 2, 3, 4])
    assert (m["n"], m["n_groups"]) == (6, 4)
    assert m["confusion_matrix"] == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert m["accuracy"] == pytest.approx(4 / 6)
    assert m["balanced_accuracy"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert m["patient_averaged_accuracy"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert m["per_class"]["a"] == {
        "sensitivity": pytest.approx(2 / 3),
        "specificity": pytest.approx(2 / 3),
        "ppv": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
        "n": 3,
        "n_groups": 2,
    }
    assert m["per_class"]["c"]["ppv"] is None  # nobody was called c
    assert m["brier"] == pytest.approx(2 * 2 / 6)  # two wrong answers, each off by 1 in two classes
    assert m["tumour_auroc"] is None and m["three_tumour_classes"] is None


def test_probabilistic_scores_worked_out_by_hand():
    m = score([0, 1], [[0.8, 0.2], [0.6, 0.4]], ["a", "b"])
    assert m["nll"] == pytest.approx(-(np.log(0.8) + np.log(0.4)) / 2)
    assert m["brier"] == pytest.approx((0.04 + 0.04 + 0.36 + 0.36) / 2)
    assert m["auroc_macro"] == 1.0  # the order is right even where the answer is not
    assert m["ece"] == pytest.approx((abs(1 - 0.8) + abs(0 - 0.6)) / 2)


def test_scikit_learn_agrees():
    labels, p, groups = simulated()
    m = score(labels, p, CLASSES, groups, n_boot=0)
    predicted = p.argmax(axis=1)
    assert m["auroc_macro"] == pytest.approx(reference.roc_auc_score(labels, p, multi_class="ovr"))
    assert m["tumour_auroc"] == pytest.approx(reference.roc_auc_score(labels != 2, 1 - p[:, 2]))
    assert m["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(labels, predicted))
    assert m["macro_f1"] == pytest.approx(reference.f1_score(labels, predicted, average="macro"))
    assert m["mcc"] == pytest.approx(reference.matthews_corrcoef(labels, predicted))
    assert m["nll"] == pytest.approx(reference.log_loss(labels, p))
    assert m["confusion_matrix"] == reference.confusion_matrix(labels, predicted).tolist()


def test_tied_scores_count_half_in_the_auroc():
    labels, p, _ = simulated(n=300)
    coarse = np.round(p, 1)
    coarse /= coarse.sum(axis=1, keepdims=True)
    m = score(labels, coarse, CLASSES, n_boot=0)
    assert m["auroc_macro"] == pytest.approx(reference.roc_auc_score(labels, coarse, multi_class="ovr"))
    flat = score(labels, np.full((300, 4), 0.25), CLASSES, n_boot=0)
    assert flat["auroc_macro"] == 0.5


def test_the_resampled_auroc_is_the_auroc_of_the_resample():
    """The weighted formula against scikit-learn on slices that are really repeated."""
    from braincam.evaluation.metrics import _Ranking

    labels, p, groups = simulated(n=120, n_groups=15)
    scores = np.round(p[:, 0], 1)  # with ties
    weights = np.random.default_rng(1).integers(0, 4, (5, 15)).astype(float)
    found = _Ranking(groups, labels == 0, scores).auroc(weights)
    for row, value in zip(weights, found, strict=True):
        expected = reference.roc_auc_score(labels == 0, scores, sample_weight=row[groups])
        assert value == pytest.approx(expected)


def test_a_perfect_predictor_scores_one():
    labels, _, groups = simulated(n=80)
    m = score(labels, one_hot(labels, 4), CLASSES, groups)
    for key in SCALARS:
        assert m[key] == pytest.approx(0.0 if key in {"nll", "brier", "ece"} else 1.0), key
    assert m["three_tumour_classes"]["accuracy"] == 1.0


def test_where_no_group_errs_few_groups_claim_less_than_many():
    """An error that a twentieth of all groups make goes unseen in G of them with a chance of 0.95^G."""

    def perfect(n_groups):
        labels = np.arange(12 * n_groups) % 4
        return score(labels, one_hot(labels, 4), CLASSES, np.arange(12 * n_groups) // 12, n_boot=200)["ci95"]

    for n_groups in (5, 20, 60, 100):
        found = perfect(n_groups)
        for key in ("accuracy", "balanced_accuracy", "patient_averaged_accuracy"):
            low, high = found[key]
            assert high == 1 and low**n_groups == pytest.approx(0.025), key
            assert (low < 0.95) == (0.95**n_groups > 0.025)
        assert found["per_class"]["glioma"]["sensitivity"] == pytest.approx(found["accuracy"])
        assert found["per_class"]["glioma"]["ppv"] == pytest.approx(found["accuracy"])
        assert [found[key] for key in ("macro_f1", "mcc", "auroc_macro", "tumour_auroc")] == [None] * 4
        assert found["per_class"]["glioma"]["f1"] is None


def test_a_class_that_is_never_found_has_the_bound_of_its_own_groups():
    labels = np.repeat([0, 0, 1], 10)
    m = score(labels, one_hot(np.zeros(30, int), 2), ["a", "b"], np.arange(30))
    low, high = m["ci95"]["per_class"]["b"]["sensitivity"]
    assert low == 0 and (1 - high) ** 10 == pytest.approx(0.025)
    assert m["ci95"]["balanced_accuracy"] == [0.5, 0.5]  # by construction, whichever groups are drawn


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_the_order_of_the_slices_changes_nothing(seed, grouped):
    labels, p, groups = simulated(seed, n=60, n_groups=12)
    order = np.random.default_rng(seed).permutation(60)
    args = (groups,) if grouped else (None,)
    shuffled = (groups[order],) if grouped else (None,)
    assert score(labels, p, CLASSES, *args, n_boot=50) == score(labels[order], p[order], CLASSES, *shuffled, n_boot=50)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_copies_of_slices_within_their_group_add_no_certainty(seed):
    """Twice the slices, the same patients: the same scores and the same intervals."""
    labels, p, groups = simulated(seed, n=60, n_groups=12)
    once = score(labels, p, CLASSES, groups, n_boot=50)
    twice = score(np.tile(labels, 2), np.tile(p, (2, 1)), CLASSES, np.tile(groups, 2), n_boot=50)
    for key in SCALARS:
        assert twice[key] == pytest.approx(once[key]), key
        assert twice["ci95"][key] == pytest.approx(once["ci95"][key]), key


def test_more_groups_narrow_the_interval_by_the_square_root():
    labels, p, groups = simulated(n=400, n_groups=100)
    few = score(labels, p, CLASSES, groups)["ci95"]["accuracy"]
    many = score(
        np.tile(labels, 4), np.tile(p, (4, 1)), CLASSES, np.concatenate([groups + 1000 * i for i in range(4)])
    )["ci95"]["accuracy"]
    assert (few[1] - few[0]) / (many[1] - many[0]) == pytest.approx(2, rel=0.2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 5), st.integers(8, 80))
def test_the_interval_contains_the_estimate(seed, strength, n_groups):
    labels, p, groups = simulated(seed, n=200, strength=strength, n_groups=n_groups)
    m = score(labels, p, CLASSES, groups, n_boot=300)
    for key in SCALARS:
        if m["ci95"][key] is not None:
            low, high = m["ci95"][key]
            assert low - 1e-9 <= m[key] <= high + 1e-9, key


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Patients who are wholly right or wholly wrong, 80 % right: 95 % of the intervals hold 0.8."""
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(120):
        right = np.repeat(rng.random(80) < 0.8, 5)
        labels = rng.integers(0, 2, 400)
        p = one_hot(np.where(right, labels, 1 - labels), 2)
        groups = np.repeat(np.arange(80), 5)
        low, high = score(labels, p, ["a", "b"], groups, n_boot=300, seed=seed)["ci95"]["accuracy"]
        held += low <= 0.8 <= high
    assert 0.88 <= held / 120 <= 1.0


def test_slices_of_one_patient_are_not_independent():
    """Where whole patients are right or wrong, intervals over slices are far too narrow."""
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(40), 20)
    right = np.repeat(rng.random(40) < 0.8, 20)
    labels = rng.integers(0, 2, 800)
    p = one_hot(np.where(right, labels, 1 - labels), 2)
    wide = score(labels, p, ["a", "b"], groups)["ci95"]["accuracy"]
    narrow = score(labels, p, ["a", "b"])["ci95"]["accuracy"]
    assert (wide[1] - wide[0]) > 3 * (narrow[1] - narrow[0])


def test_the_second_headline_forgets_the_class_without_tumour():
    labels = [0, 0, 1, 2, 3]
    p = [
        [0.3, 0.1, 0.5, 0.1],  # says notumor; among tumours glioma: right
        [0.1, 0.3, 0.5, 0.1],  # among tumours meningioma: wrong
        [0.0, 0.0, 1.0, 0.0],  # leaves nothing to choose from: wrong
        [0.9, 0.0, 0.1, 0.0],  # no tumour: not counted
        [0.1, 0.0, 0.0, 0.9],
    ]
    m = score(labels, p, CLASSES)
    assert m["accuracy"] == pytest.approx(1 / 5)
    three = m["three_tumour_classes"]
    assert three["classes"] == ["glioma", "meningioma", "pituitary"]
    assert (three["n"], three["accuracy"]) == (4, pytest.approx(2 / 4))
    assert three["balanced_accuracy"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert m["tumour_auroc_note"] == "may be confounded with source and sequence"


@pytest.mark.parametrize("name", ["notumor", "no_tumor", "No Tumour", "NO-TUMOR", "non_tumor", "no.tumor"])
def test_the_class_without_tumour_is_known_by_its_names_to_scores_and_studies_alike(name):
    assert means_no_tumour(name)
    assert not any(map(means_no_tumour, ["glioma", "tumor", "none"]))
    assert tumour_classes(SimpleNamespace(classes=("glioma", name))) == ["glioma"]
    labels, p, _ = simulated(n=40)
    assert score(labels, p, ["glioma", "meningioma", name, "pituitary"], n_boot=0)["tumour_auroc"] is not None
    assert score(labels, p, list("abcd"), n_boot=0)["tumour_auroc"] is None


def no_nan(value):
    json.dumps(value, allow_nan=False)
    return value


def test_what_is_undefined_is_null_and_nothing_warns():
    empty = no_nan(score([], np.zeros((0, 4)), CLASSES))
    assert empty["n"] == 0 and all(empty[key] is None for key in SCALARS)

    one_class = no_nan(score([1, 1, 1], one_hot([1, 1, 0], 4), CLASSES, ["p", "q", "q"]))
    assert one_class["per_class"]["pituitary"]["sensitivity"] is None
    assert one_class["per_class"]["meningioma"]["specificity"] is None
    assert one_class["auroc_macro"] is None and one_class["accuracy"] == pytest.approx(2 / 3)
    assert one_class["balanced_accuracy"] == pytest.approx(2 / 3)

    constant = no_nan(score([0, 1, 2, 3], np.tile([0.4, 0.2, 0.2, 0.2], (4, 1)), CLASSES))
    assert constant["mcc"] is None and constant["auroc_macro"] == 0.5


def test_one_patient_gives_no_interval():
    labels, p, _ = simulated(n=30)
    m = no_nan(score(labels, p, CLASSES, ["same"] * 30))
    assert m["n_groups"] == 1
    assert all(m["ci95"][key] is None for key in SCALARS)
    two = score([0, 0, 1, 1], one_hot([0, 0, 1, 0], 2), ["a", "b"], ["p", "q", "r", "r"])
    assert two["ci95"]["accuracy"] is not None
    assert two["ci95"]["per_class"]["b"]["sensitivity"] is None  # all of b comes from one patient


def test_the_dictionary_has_the_promised_keys_and_survives_json():
    labels, p, groups = simulated()
    m = score(labels, p, CLASSES, groups, n_boot=20)
    assert json.loads(json.dumps(m, allow_nan=False)) == m
    assert {"n", "n_groups", "confusion_matrix", "per_class", "ci95", "classes", *SCALARS} <= m.keys()
    assert set(SCALARS) <= m["ci95"].keys()
    for name in CLASSES:
        assert set(PER_CLASS) == m["ci95"]["per_class"][name].keys()


def test_seven_thousand_slices_take_seconds():
    labels, p, groups = simulated(n=7000, n_groups=706)
    start = time.process_time()
    score(labels, p, CLASSES, groups)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("labels", "probabilities", "groups", "said"),
    [
        ([0, 1], [[0.5, 0.5]], None, "one per row"),
        ([0], [[0.5, 0.2, 0.3]], None, "one column per class"),
        ([2], [[0.5, 0.5]], None, "from 0 to 1"),
        ([-1], [[0.5, 0.5]], None, "from 0 to 1"),
        ([0.0], [[0.5, 0.5]], None, "integer"),
        ([0], [[float("nan"), 0.5]], None, "row 0"),
        ([0], [[3.0, -2.0]], None, r"; are these logits\?$"),
        ([0, 1], [[0.5, 0.5], [0.1, 0.1]], None, "got row 1 ="),
        ([0], [0.5], None, "^probabilities: .*shape"),
        ([0, 1], [[0.5, 0.5]] * 2, ["p"], "one per slice"),
        ([0, 1], [[0.5, 0.5]] * 2, ["p", ""], "row 1"),
        ([0, 1], [[0.5, 0.5]] * 2, [1.0, float("nan")], "row 1"),
        ([0, 1], [[0.5, 0.5]] * 2, [None, "p"], "row 0"),
    ],
)
def test_wrong_input_is_refused_with_its_reason(labels, probabilities, groups, said):
    with pytest.raises(DataError, match=said):
        score(labels, probabilities, ["a", "b"], groups)


def test_class_names_must_differ():
    with pytest.raises(DataError, match="different names"):
        score([0], [[0.5, 0.5]], ["a", "a"])


def test_a_paired_difference_worked_out_by_hand():
    labels = [0, 0, 1, 1]
    found = paired_difference(labels, one_hot([0, 0, 1, 0], 2), one_hot([0, 1, 0, 0], 2))
    assert found["accuracy"] == pytest.approx(3 / 4 - 1 / 4)
    assert found["balanced_accuracy"] == pytest.approx(0.75 - 0.25)
    assert (found["only_a_right"], found["only_b_right"]) == (2, 0)
    assert found["mcnemar_p"] == pytest.approx(0.5)  # 2 x (1/2)^2


def test_a_model_is_no_better_than_itself_and_better_than_a_worse_one():
    labels, good, groups = simulated(strength=4)
    _, bad, _ = simulated(strength=0)
    same = paired_difference(labels, good, good, groups)
    assert same["accuracy"] == 0 and same["mcnemar_p"] == 1.0 and not same["excludes_zero"]["accuracy"]
    better = paired_difference(labels, good, bad, groups)
    worse = paired_difference(labels, bad, good, groups)
    assert better["ci95"]["accuracy"][0] > 0 and better["excludes_zero"]["accuracy"]
    assert worse["ci95"]["accuracy"] == pytest.approx([-x for x in reversed(better["ci95"]["accuracy"])])
    json.dumps(better, allow_nan=False)


def test_few_patients_are_never_enough_to_call_one_better():
    labels = np.zeros(190, int)
    good, bad = one_hot(labels, 2), one_hot([int(k % 10 == 0) for k in range(190)], 2)
    few = paired_difference(labels, good, bad, [str(k // 10) for k in range(190)])
    assert few["ci95"]["accuracy"][0] > 0 and not few["excludes_zero"]["accuracy"]
    assert "too narrow" in few["ci95_method"]
    enough = paired_difference(labels, good, bad, [str(k // 9) for k in range(190)])
    assert enough["excludes_zero"]["accuracy"] and "too narrow" not in enough["ci95_method"]
    same = paired_difference(labels, bad, bad, [str(k // 9) for k in range(190)])
    assert same["ci95"]["accuracy"] == pytest.approx([-0.1544, 0.1544], abs=1e-3)  # of 0 of 22
    assert not same["excludes_zero"]["accuracy"]


def test_pairing_narrows_the_interval_of_two_like_models():
    labels, p, groups = simulated(n=600)
    other = p.copy()
    other[:10] = np.roll(other[:10], 1, axis=1)
    low, high = paired_difference(labels, p, other, groups)["ci95"]["accuracy"]
    alone = score(labels, p, CLASSES, groups)["ci95"]["accuracy"]
    assert high - low < 0.5 * (alone[1] - alone[0])


def test_a_pair_must_have_one_shape():
    with pytest.raises(DataError, match="one shape"):
        paired_difference([0], [[0.5, 0.5]], [[0.5, 0.2, 0.3]])


def test_every_number_says_how_its_interval_was_made_and_the_defaults_are_a_thousand_and_seed_zero():
    labels, p, groups = simulated(n=60, n_groups=9)
    said = score(labels, p, CLASSES, groups)
    assert said["ci95_method"] == (
        "percentile bootstrap over 9 patients or groups, 1000 resamples, seed 0; with fewer than 20 it is too narrow"
    )
    assert score(labels, p, CLASSES, groups, n_boot=1000, seed=0) == said
    alone = score(labels, p, CLASSES, n_boot=7, seed=5)
    assert alone["ci95_method"] == "percentile bootstrap over 60 slices, 7 resamples, seed 5"
    assert score(labels, p, CLASSES, groups, seed=1)["ci95"] != said["ci95"]
    pair = paired_difference(labels, p, p[:, ::-1], groups)
    assert paired_difference(labels, p, p[:, ::-1], groups, n_boot=1000, seed=0) == pair
    assert paired_difference(labels, p, p[:, ::-1], groups, seed=1)["ci95"] != pair["ci95"]
    assert paired_difference(labels, p, p[:, ::-1], groups, n_boot=0)["ci95"] == {
        "accuracy": None,
        "balanced_accuracy": None,
    }


@pytest.mark.parametrize("none", [0, 1, 3])
def test_the_second_headline_is_the_score_of_the_tumours_alone_wherever_their_class_stands(none):
    labels, p, groups = simulated(n=200)
    names = [f"t{k}" for k in range(4)]
    names[none] = "notumor"
    found = score(labels, p, names, groups, n_boot=400, seed=3)["three_tumour_classes"]
    keep = labels != none
    rest = np.delete(p[keep], none, axis=1)
    rest /= rest.sum(axis=1, keepdims=True)
    tumours = [name for name in names if name != "notumor"]
    numbers = np.array([tumours.index(names[k]) for k in labels[keep]])
    alone = score(numbers, rest, tumours, groups[keep], n_boot=400, seed=3)
    for key in ("n", "n_groups", "accuracy", "balanced_accuracy", "macro_f1"):
        assert found[key] == pytest.approx(alone[key]), key
    assert (found["confusion_matrix"], found["classes"]) == (alone["confusion_matrix"], tumours)
    assert found["sensitivity"] == {name: alone["per_class"][name]["sensitivity"] for name in tumours}
    for key in ("accuracy", "balanced_accuracy", "macro_f1"):  # other draws, of the same groups
        assert found["ci95"][key] == pytest.approx(alone["ci95"][key], abs=0.03), key
    assert set(found["ci95"]) == {"accuracy", "balanced_accuracy", "macro_f1"}
    other, none_drawn = (
        score(labels, p, names, groups, **how)["three_tumour_classes"]["ci95"]
        for how in ({"n_boot": 400, "seed": 4}, {"n_boot": 0})
    )
    assert other != found["ci95"] and set(none_drawn.values()) == {None}


def test_there_is_no_second_headline_with_one_tumour_class_and_there_is_with_two():
    p = [[0.6, 0.4], [0.3, 0.7]]
    assert score([0, 1], p, ["notumor", "glioma"], n_boot=0)["three_tumour_classes"] is None
    three = score([0, 1, 2], np.eye(3), ["notumor", "glioma", "other"], n_boot=0)["three_tumour_classes"]
    assert (three["n"], three["accuracy"], three["classes"]) == (2, 1.0, ["glioma", "other"])


def test_a_row_without_any_tumour_mass_is_wrong_and_spread_over_the_others():
    found = score([0, 1, 2], [[0, 1, 0], [0, 1, 0], [1, 0, 0]], ["a", "notumor", "b"], n_boot=0)["three_tumour_classes"]
    assert found["confusion_matrix"] == [[0, 1], [1, 0]]


@pytest.mark.parametrize("name", PER_CLASS)
def test_a_class_has_an_interval_where_two_groups_bear_on_the_number(name):
    """Class a: its slices in two groups, all but one named a; class c: slices in one group, named c in one."""
    labels = [0, 0, 0, 1, 1, 2, 2]
    said = [0, 0, 1, 1, 1, 2, 1]
    found = score(labels, one_hot(said, 3), list("abc"), [1, 2, 2, 1, 2, 3, 3], n_boot=200)["ci95"]["per_class"]
    assert found["a"][name] is not None
    assert found["b"][name] is not None  # b is named in three groups
    assert (found["c"][name] is None) == (name != "specificity")  # who is not c stands in two groups
    assert set(found["a"]) == set(PER_CLASS)


def test_macro_intervals_want_every_class_in_two_groups_and_the_others_two_groups():
    labels, p = [0, 0, 1, 1], one_hot([0, 0, 1, 0], 2)
    thin = score(labels, p, ["notumor", "b"], ["p", "q", "r", "r"])["ci95"]
    missing = {key for key in SCALARS if thin[key] is None}
    assert missing == {"balanced_accuracy", "macro_f1", "auroc_macro", "tumour_auroc", "mcc"}
    full = score(labels, p, ["notumor", "b"], ["p", "q", "r", "s"])["ci95"]
    assert all(full[key] is not None for key in SCALARS)


def test_a_class_lost_in_a_resample_leaves_the_macro_mean_undefined_there():
    """Two groups hold all of b: a quarter of the resamples of two draws hold none of it."""
    from braincam.evaluation.metrics import _Sample, _Statistics

    sample = _Sample.of([0, 0, 1, 1], one_hot([0, 1, 1, 1], 2), ["p", "q", "r", "s"], 2)
    values = _Statistics(sample, None).values(np.array([[1.0, 1, 0, 0], [1, 1, 1, 0]]))
    assert np.isnan(values["balanced_accuracy"][0]) and values["balanced_accuracy"][1] == pytest.approx(0.75)
    assert values["accuracy"] == pytest.approx([0.5, 2 / 3])
    assert values["patient_averaged_accuracy"] == pytest.approx([0.5, 2 / 3])
    assert np.isnan(values["auroc_macro"][0])


def test_weights_count_groups_as_often_as_they_are_drawn():
    """A group drawn twice is the same as its slices written twice under another name."""
    from braincam.evaluation.metrics import _Sample, _Statistics

    labels, p, groups = simulated(n=60, n_groups=6)
    drawn = _Statistics(_Sample.of(labels, p, groups, 4), 2).values(np.array([[2.0, 1, 1, 1, 1, 1]]))
    again = groups == 0
    more = score(
        np.r_[labels, labels[again]], np.r_[p, p[again]], CLASSES, np.r_[groups, np.full(again.sum(), 6)], n_boot=0
    )
    for key in SCALARS:
        if key != "ece":  # its bins are those of the whole sample
            assert drawn[key][0] == pytest.approx(more[key]), key


def test_the_calibration_error_of_the_resamples_is_moved_down_to_the_estimate_and_not_below_zero():
    labels, p, groups = simulated(n=120, n_groups=12)
    m = score(labels, p, CLASSES, groups)
    low, high = m["ci95"]["ece"]
    assert 0 <= low <= m["ece"] <= high
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 300)
    drawn = (p.cumsum(axis=1) > rng.random((300, 1))).argmax(axis=1)  # a calibrated model, whose error is all noise
    m = score(drawn, p, CLASSES, np.arange(300))
    assert np.mean(m["ci95"]["ece"]) == pytest.approx(m["ece"], abs=0.01)
    perfect = score([0, 1] * 20, one_hot([0, 1] * 20, 2), ["a", "b"])
    assert perfect["ci95"]["ece"] == [0, 0]


def test_a_paired_difference_by_groups_worked_out_by_hand():
    labels = [0, 0, 1, 1, 1]
    a, b = one_hot([0, 0, 1, 1, 0], 2), one_hot([0, 1, 0, 1, 1], 2)
    found = paired_difference(labels, a, b, ["p", "q", "r", "r", "s"])
    assert (found["n"], found["n_groups"]) == (5, 4)
    assert found["accuracy"] == pytest.approx(4 / 5 - 3 / 5)
    assert found["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2 - (1 / 2 + 2 / 3) / 2)
    assert (found["only_a_right"], found["only_b_right"], found["mcnemar_p"]) == (2, 1, 1.0)
    assert found["ci95"]["accuracy"] is not None and found["ci95"]["balanced_accuracy"] is not None
    thin = paired_difference(labels, a, b, ["p", "q", "r", "r", "r"])
    assert thin["ci95"]["accuracy"] is not None and thin["ci95"]["balanced_accuracy"] is None
    one = paired_difference(labels, a, b, ["p"] * 5)
    assert one["ci95"] == {"accuracy": None, "balanced_accuracy": None}
    assert one["excludes_zero"] == {"accuracy": False, "balanced_accuracy": False}


@pytest.mark.parametrize("flat", [[0.5, 0.5], [[[0.5, 0.5]]]])
def test_a_pair_that_is_no_table_is_refused(flat):
    with pytest.raises(DataError):
        paired_difference([0], flat, flat)


@pytest.mark.parametrize(("row", "fine"), [([1.009, 0], True), ([1.011, 0], False), ([1 + 9e-7, -9e-7], True)])
def test_rounded_rows_pass_and_what_does_not_add_up_is_shown(row, fine):
    if fine:
        assert score([0], [row], ["a", "b"], n_boot=0)["accuracy"] == 1
        return
    with pytest.raises(DataError, match=r"got row 1 = \[1\.011, 0\.0\]"):
        score([0, 0, 0], [[0.5, 0.5], row, [0.5, 0.505]], ["a", "b"])
    with pytest.raises(DataError, match="row 0"):
        score([0], [[1.005, -0.005]], ["a", "b"])


def test_one_class_is_no_choice():
    with pytest.raises(DataError, match=r"^classes: need at least two different names, got \['a'\]$"):
        score([0], [[1.0]], ["a"])


def test_a_pair_is_compared_slice_by_slice_however_sure_each_is():
    """Sorted by their own probabilities the two would look alike."""
    found = paired_difference([0, 0], [[0.9, 0.1], [0.4, 0.6]], [[0.4, 0.6], [0.9, 0.1]])
    assert (found["only_a_right"], found["only_b_right"], found["accuracy"]) == (1, 1, 0)
    assert not found["excludes_zero"]["accuracy"] and found["ci95"]["accuracy"] == [-1, 1]


def test_two_groups_are_enough_for_an_interval_and_a_difference():
    labels, p = [0, 1, 0, 1], one_hot([0, 1, 1, 0], 2)
    found = score(labels, p, ["a", "b"], ["p", "p", "q", "q"])["ci95"]
    assert found["accuracy"] == [0, 1] and found["nll"] is not None
    same = paired_difference(labels, p, p, ["p", "p", "q", "q"])["ci95"]["accuracy"]
    assert same == pytest.approx([-0.842, 0.842], abs=1e-3)  # Clopper-Pearson of 0 of 2


def test_what_bears_on_a_number_is_counted_by_group():
    """Class b: slices in two groups, named in one. Class a: all that is not a stands in one group."""
    found = score([1, 1, 0, 1], one_hot([1, 0, 0, 0], 3), list("abc"), ["p", "q", "r", "r"])["ci95"]["per_class"]
    assert found["b"]["sensitivity"] is not None and found["b"]["ppv"] is None and found["b"]["f1"] is not None
    one_sided = score([0, 0, 0, 1], one_hot([0, 0, 0, 0], 2), ["a", "b"], ["p", "q", "r", "r"])["ci95"]["per_class"]
    assert one_sided["a"]["specificity"] is None and one_sided["a"]["sensitivity"] is not None
    assert one_sided["b"]["specificity"] is not None and one_sided["b"]["ppv"] is None


def test_every_bin_counts_and_every_resample_has_a_calibration_error_of_its_own():
    from braincam.evaluation.metrics import _Sample, _Statistics

    sure = np.linspace(0.55, 0.97, 15)  # one slice to a bin, all right
    p = np.stack([sure, 1 - sure], axis=1)
    assert score([0] * 15, p, ["a", "b"], n_boot=0)["ece"] == pytest.approx(np.mean(1 - sure))
    statistics = _Statistics(_Sample.of([0] * 15, p, None, 2), None)
    weights = np.random.default_rng(0).integers(0, 3, (4, 15)).astype(float)
    together = statistics.values(weights)["ece"]
    assert together == pytest.approx([statistics.values(row[None])["ece"][0] for row in weights])
    assert len(set(together.round(9))) == 4


def test_counts_are_whole_numbers_and_the_note_stands_only_beside_its_number():
    labels, p, _ = simulated(n=40)
    with_none, without = (score(labels, p, names, n_boot=0) for names in (CLASSES, list("abcd")))
    assert {type(count) for row in with_none["confusion_matrix"] for count in row} == {int}
    assert (with_none["tumour_auroc"] is None, with_none["tumour_auroc_note"] is None) == (False, False)
    assert (without["tumour_auroc"], without["tumour_auroc_note"]) == (None, None)


def test_a_class_without_slices_takes_no_interval_from_the_others():
    labels, p, groups = simulated(n=90, k=3, n_groups=12)
    padded = np.hstack([p, np.zeros((90, 1))])
    found = score(labels, padded, list("abcd"), groups, n_boot=100)
    assert found["ci95"]["balanced_accuracy"] is not None and found["ci95"]["auroc_macro"] is not None
    assert found["auroc_macro"] == pytest.approx(score(labels, p, list("abc"), groups, n_boot=0)["auroc_macro"])


def test_macro_f1_runs_over_every_class_that_is_true_or_answered():
    answers = one_hot([0, 1, 1], 4)  # the second class is answered and never true, the others are neither
    assert score([0, 0, 0], answers, CLASSES, n_boot=10)["macro_f1"] == pytest.approx((0.5 + 0) / 2)
    answers = one_hot([0, 0, 1], 4)  # by one slice alone
    assert score([0, 0, 0], answers, CLASSES, n_boot=10)["macro_f1"] == pytest.approx((0.8 + 0) / 2)


def test_slices_that_differ_by_their_group_alone_come_in_any_order_too():
    labels, p, groups = np.array([0, 0, 1, 1]), np.array([[0.7, 0.3]] * 4), np.array(["a", "b", "b", "a"])
    swapped = score(labels, p, ["x", "y"], groups[[1, 0, 3, 2]], n_boot=50)
    assert swapped == score(labels[[1, 0, 3, 2]], p, ["x", "y"], groups, n_boot=50)
