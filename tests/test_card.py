"""A model card says what its file says, names the unknown as unknown, and is never a stranger's page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from braincam.cli import main
from braincam.model_file.card import NOTICE, Card
from braincam.model_file.zoo import find_model
from braincam.printing import print_model_scores
from braincam.report.card import ITEMS, model_card
from braincam.report.checklists import CLAIM, TRIPOD_AI

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def card() -> Card:
    return find_model().card()


def value(number: float) -> dict[str, object]:
    return {"value": number, "ci95": [number - 0.1, number + 0.1]}


def test_the_page_in_the_docs_is_that_of_the_packaged_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--card"]) == 0
    printed = capsys.readouterr().out
    assert printed == (DOCS / "model-card.md").read_text(encoding="utf-8"), "the packaged model has changed: make card"
    assert main(["models", "--card", "default"]) == 0
    assert capsys.readouterr().out == printed
    assert find_model().sha256 in printed and NOTICE in printed


def test_how_often_the_map_misses_stands_at_the_top_and_among_the_failures(card: Card) -> None:
    scores = {**card.scores, "localisation": {"hit_rate": 0.3, "ci95": [0.2, 0.4], "mean_area": 0.02}}
    text = model_card(replace(card, scores=scores, extra={}), "0" * 64)
    assert text.index("misses the tumour in 70 %") < text.index("## Intended use")
    assert "misses the tumour in 70 %" in text[text.index("## Failures") :]
    assert "| this file | 0.300 [0.200, 0.400] | – | – |" in text


def test_scores_of_the_recipe_stand_beside_those_of_the_file(card: Card) -> None:
    pooled = {
        "folds": 5, "seeds": 2, "n": 100, "n_groups": 20, "accuracy": 0.9, "ece": 0.011, "nll": 0.2, "brier": 0.1,
        "ci95": {"accuracy": [0.8, 0.95]},
        "confidence": {
            "calibration": {"chance": {"high": 0.009}, "slope": 1.1, "intercept": -0.2},
            "prediction_sets": {
                "asked": 0.95, "coverage": value(0.951), "patient_averaged": value(0.9), "mean_size": value(1.05),
            },
        },
        "missed_tumours": {"of_answers": value(0.2), "of_tumours": value(0.3)},
        "localisation": {"pointing": value(0.6), "energy": value(0.3), "iou_otsu": value(0.25)},
    }  # fmt: skip
    source = {"folds": [1, 2], "seeds": 2, "slices": 40, "groups": 15, "test_apart": True}
    made = replace(card, scores={}, extra={"recipe_pooled": pooled, "calibrated_by": source})
    text = model_card(made, "0" * 64)
    assert "| accuracy | 0.900 [0.800, 0.950] |" in text
    assert "on patients or groups that training never met, as far as known" in text
    assert "each calibrated by the others" in text and "| 0.009 |" in text and "1.10, -0.20" in text
    assert "seeds | 0.951 [0.851, 1.051] | 0.900 [0.800, 1.000] | 1.050 [0.950, 1.150] |" in text
    assert "this file" not in text[text.index("## Calibration") : text.index("## Refusals")]
    assert "misses the tumour in 40 %" in text and "0.200 [0.100, 0.300] of the answers with status `ok`" in text
    assert "temperature and thresholds come from it too" not in text  # of the validation part
    assert "| 100 (50 slices × 2 seeds); 20 |" in text
    said = " ".join(text.split())
    assert "to 40 slices of 15 patients or groups" in said and "No slice of the test part is among them" in said
    assert "may be among them" in model_card(
        replace(made, extra={"calibrated_by": {**source, "test_apart": False}}), ""
    )


def test_pooled_scores_of_an_older_file_are_not_said_to_be_calibrated_across_folds(card: Card) -> None:
    pooled = {"folds": 5, "seeds": 2, "n": 100, "n_groups": 20, "accuracy": 0.9, "ece": 0.011, "nll": 0.2, "brier": 0.1,
              "ci95": {}}  # fmt: skip
    text = model_card(replace(card, scores={}, extra={"recipe_pooled": pooled}), "0" * 64)
    assert "each run calibrated on its own validation part" in text and "each calibrated by the others" not in text


def test_calibration_and_coverage_of_the_file_stand_beside_those_of_its_recipe(card: Card) -> None:
    """A file may be calibrated worse than its recipe is on average, and its sets may hold less than was asked."""
    pooled = {"folds": 5, "seeds": 2, "n": 100, "n_groups": 20, "accuracy": 0.9, "ece": 0.011, "nll": 0.2, "brier": 0.1,
              "ci95": {}}  # fmt: skip
    by_class = {"glioma": {"n": 9, "coverage": value(0.85)}, "notumor": {"n": 9, "coverage": value(0.96)}}
    missed = {"n": 8, "of_answers": value(0.5), "of_tumours": value(0.6)}
    sets = {
        "prediction_sets": {"asked": 0.95, "coverage": value(0.907), "mean_size": value(1.3), "by_class": by_class},
        "missed_tumours": missed,
    }
    pooled["missed_tumours"] = {"of_answers": value(0.2), "of_tumours": value(0.3)}
    status = {"ok": 68, "refer": 30, "rejected": 2, "accuracy_when_ok": 0.97}
    scores = {**card.scores, "ece": 0.039, "ci95": {}, "status": status, "confidence": sets}
    text = model_card(replace(card, scores=scores, extra={"recipe_pooled": pooled}), "0" * 64)
    assert "| calibration error (ECE), equal-mass bins | 0.011 | 0.039 |" in text
    assert "| this file | 0.907 [0.807, 1.007] | – | 1.300 [1.200, 1.400] |" in text
    assert "| – glioma | 0.850 [0.750, 0.950] | – | – |" in text, "the promise is per class"
    said = " ".join(text.split())
    for found, of in ("0.200 [0.100, 0.300]", "its recipe, 5 folds × 2 seeds"), ("0.500 [0.400, 0.600]", "this file"):
        assert f"{found} of the answers with status `ok`" in said and f"of the tumours ({of})" in said
    assert "This file is right for" in text[: text.index("## Intended use")]
    assert "68 (68 %) answered, 97.0 % of these rightly;\n  30 (30 %) referred, 2 (2 %) rejected" in text
    unnoted = model_card(replace(card, scores={**scores, "confidence": None}, extra={}), "0" * 64)
    assert "the sets of this file hold the true class is not noted" in unnoted and "Not measured." not in unnoted


def test_what_was_not_measured_is_not_claimed(card: Card) -> None:
    bare = replace(card, scores={}, extra={}, training={})
    text = model_card(bare, "0" * 64)
    for said in (
        "It has not been measured",
        "Not measured.",
        "was not measured",
        "divided is unknown",
        "unknown slices",
    ):
        assert said in text
    assert "undefined" not in text and "None" not in text and "nan" not in text
    assert "misses the tumour" not in text


def test_an_evaluation_is_told_in_place_of_the_cards_own_scores(card: Card) -> None:
    metrics = {**card.scores, "accuracy": 0.123, "ci95": {}, "split": {"part": "fold 3", "verdict": "unmet"}}
    text = model_card(replace(card, extra={}), "0" * 64, evaluated=metrics)
    assert "| accuracy | 0.123 |" in text and "measured on fold 3" in text


def test_a_score_on_a_leaky_split_is_not_called_clean(card: Card, capsys: pytest.CaptureFixture[str]) -> None:
    for headline, clean in (("unseen", True), ("all", False)):
        told = replace(card, scores={**card.scores, "headline": headline}, extra={})
        assert ("On slices that training never met" in model_card(told, "0" * 64)) == clean
        assert ("which flatters it" in model_card(told, "0" * 64)) != clean
        print_model_scores(told)
        assert ("held-out" in capsys.readouterr().out) == clean


def test_near_copies_between_training_and_validation_are_told(card: Card) -> None:
    split = {**card.training["split"], "validation_with_twin_in_training": 7}
    told = model_card(replace(card, training={**card.training, "split": split}), "0" * 64)
    assert "Validation slices with a near copy in training, which the table of folds put into another group: 7." in told
    split["validation_with_twin_in_training"] = 0
    none = model_card(replace(card, training={**card.training, "split": split}), "0" * 64)
    assert "Validation slices with a near copy" not in none


def test_a_class_that_can_never_be_ruled_out_is_named(card: Card) -> None:
    assert card.never_ruled_out == () and "is in every such set" not in model_card(card, "0" * 64)
    few = replace(card, conformal_thresholds=(0.1, 0.0, *card.conformal_thresholds[2:]))
    assert few.never_ruled_out == (card.classes[1],)
    source = {"folds": [1], "seeds": 1, "slices": 40, "groups": 15, "test_apart": True, "covering": "patients"}
    said = model_card(replace(few, extra={"calibrated_by": source}), "0" * 64)
    assert "there were too few patients or groups of it" in said and "without `--covering patients`" in said
    assert f"**`{card.classes[1]}` is in every such set**" in model_card(few, "0" * 64)


def test_names_from_a_strangers_file_stay_words(card: Card) -> None:
    classes = ("<script>alert(1)</script>", "a|b", *card.classes[2:])
    text = model_card(replace(card, name="<img src=x>", classes=classes), "0" * 64)
    assert "<script>" not in text and "<img" not in text and "a\\|b" in text


def test_every_item_of_both_lists_is_answered_or_left_open(card: Card) -> None:
    assert list(CLAIM) == [str(number) for number in range(1, 45)]
    assert len(TRIPOD_AI) == 52
    text = model_card(card, "0" * 64)
    left_open = text[text.index("## What needs people") :]
    for place, items in enumerate((CLAIM, TRIPOD_AI)):
        answered = {number for both in ITEMS.values() for number in both[place].split(", ")}
        assert answered <= set(items)
        assert all((f"{number} {words}" in left_open) != (number in answered) for number, words in items.items())


def test_a_card_is_markdown_and_a_list_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--card", "--format", "json"]) == 2
    assert "--card is Markdown" in capsys.readouterr().err
    assert main(["models", "--card", "nothing-of-that-name"]) == 2
