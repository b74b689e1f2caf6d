"""The report is one page that needs nothing else, and says what metrics.json says."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from braincam.errors import DataError
from braincam.evaluation.metrics import SCALARS, paired_difference, score
from braincam.report import figures
from braincam.report.page import fact
from braincam.report.run import RunFacts, drawings, leak_box, write_run_report

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
OFFICIAL = {
    "kind": "official",
    "test_slices": 1311,
    "with_known_patient": 788,
    "with_patient_in_training": 788,
    "with_twin_in_training": 884,
    "verdict": "Compare with the patient-wise number.",
}
CLEAN = {
    "kind": "patient- and twin-safe",
    "test_slices": 60,
    "with_patient_in_training": 0,
    "with_known_patient": 40,
}


def sample(seed=0, n=90, strength=3.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), labels] += strength
    p = np.exp(logits)
    return labels, p / p.sum(axis=1, keepdims=True), rng.integers(0, 25, n)


def history(epochs=5):
    e = np.arange(1, epochs + 1)
    return pd.DataFrame(
        {
            "epoch": e,
            "train_loss": 1 / e,
            "val_loss": 1.1 / e,
            "train_accuracy": 1 - 0.5 / e,
            "val_accuracy": 1 - 0.6 / e,
        }
    )


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "png")
    return buffer.getvalue()


def full_facts(**change):
    labels, p, groups = sample()
    metrics = score(labels, p, CLASSES, groups, n_boot=50)
    facts = {
        "title": "A run",
        "metrics": metrics,
        "command": "braincam train $DATA --out run",
        "created": "2026-11-23T05:00:00+00:00",
        "split": OFFICIAL,
        "card": {"licence": "Apache-2.0"},
        "config": {"epochs": 5, "class_weights": None, "ema": True, "learning_rate": 0.001},
        "environment": {"device": "cpu"},
        "baselines": {"majority": score(labels, np.full_like(p, 0.25), CLASSES, groups, n_boot=50)},
        "shown_apart": {"seen in training": metrics},
        "comparison": {
            "a": "this",
            "b": "that",
            **paired_difference(labels, p, p[:, ::-1], groups, n_boot=50),
        },
        "labels": labels,
        "probabilities": p,
        "history": history(),
        "best_epoch": 4,
        "mistakes": [(png(), "says glioma")],
        "examples": [(png(), "says pituitary")],
        "decisions": {"answered": 80, "referred": 10},
        "localisation": {"pointing": 0.4, "n": 31, "ci95": [0.3, 0.5], "map": "28 x 28"},
    }
    return RunFacts(**(facts | change))


def written(tmp_path, facts):
    out = tmp_path / "deep" / "report.html"
    write_run_report(out, facts, drawings(facts))
    assert [p.name for p in out.parent.iterdir()] == ["report.html"]
    return out.read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a browser would load, the numbers under their metric's name, and whether the tags close."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.numbers, self.open, self.tags, self.text = [], {}, [], set(), []
        self.metric = None
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        named = dict(attributes)
        self.loads += [v for k, v in named.items() if k in {"src", "href", "srcset", "action", "data", "poster"}]
        if tag not in {"meta", "img", "br", "link", "input"}:
            self.open.append((tag, named.get("data-metric")))
        if tag == "data":
            metric = next((m for _, m in reversed(self.open) if m), None)
            self.numbers.setdefault(metric, float(named["value"]))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_share_of_a_step_that_is_data_is_told_where_it_was_measured(tmp_path):
    said = "7 % of a training step was making the batch"
    assert said in (page := written(tmp_path / "cpu", full_facts(data_share=0.0712)))
    assert "await the device" not in page
    on_device = full_facts(data_share=0.0712, environment={"device": "cuda:0 (some)"})
    assert "does not await the device" in written(tmp_path / "cuda", on_device)
    assert "of a training step" not in written(tmp_path / "old", full_facts())


def test_nothing_is_loaded_and_nothing_runs(tmp_path):
    text = written(tmp_path, full_facts())
    page = Page(text)
    assert page.loads and all(v.startswith("data:image/png;base64,") for v in page.loads)
    assert not {"script", "link", "iframe", "object"} & page.tags
    assert "@import" not in text and "url(" not in text and "http://" not in text and "https://" not in text
    assert "prefers-color-scheme: dark" in text and "@media print" in text and "viewport" in text


def test_the_numbers_are_those_of_metrics_json(tmp_path):
    facts = full_facts()
    page = Page(written(tmp_path, facts))
    m = facts.metrics
    for key in SCALARS:
        assert page.numbers[key] == m[key]
    assert page.numbers["three_tumour_classes.accuracy"] == m["three_tumour_classes"]["accuracy"]
    for name in CLASSES:
        for key in ("sensitivity", "specificity", "ppv", "f1"):
            assert page.numbers[f"per_class.{name}.{key}"] == m["per_class"][name][key]
    text = "".join(page.text)
    low, high = m["ci95"]["accuracy"]
    assert f"{low:.3f} to {high:.3f}" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert f"{m['n']} slices of {m['n_groups']} patients or groups" in text


def test_the_research_notice_stands_at_both_ends(tmp_path):
    text = written(tmp_path, full_facts())
    notice = "Research use only. Not a medical device; not for diagnosis."
    assert text.index(notice) < text.index("<main>") and text.rindex(notice) > text.index("<footer>")


def test_a_leak_stands_beside_the_score(tmp_path):
    text = written(tmp_path, full_facts())
    box = text[text.index('class="box warn"') :]
    assert "788 of 788" in box and "884 of 1,311" in box and "flattered by leakage" in box
    assert text.index('data-metric="accuracy"') < text.index('class="box warn"') < text.index("Class by class")
    assert "may be confounded with source and sequence" in text, "of a stranger's data nobody knows it"


def test_the_date_of_the_model_is_not_taken_for_that_of_the_evaluation(tmp_path):
    text = written(tmp_path, full_facts(created="", model_created="2026-11-23T05:00:00+00:00"))
    assert "model made <time" in text and ">2026-11-23</time>" in text
    assert "model made" not in written(tmp_path, full_facts())


def test_a_clean_split_is_said_to_be_clean_and_an_uncounted_one_is_not(tmp_path):
    assert "No known patient and no group of copies straddles the split" in written(tmp_path, full_facts(split=CLEAN))
    assert leak_box(CLEAN)["colour"] == "good"
    assert leak_box({"kind": "random"})["colour"] == "plain"
    assert leak_box(CLEAN | {"with_group_in_training": 1})["colour"] == "warn"
    nameless = leak_box(CLEAN | {"with_known_patient": 0})
    assert nameless is not None
    assert nameless["colour"] == "plain" and "patients are unknown" in nameless["title"]
    few = leak_box(CLEAN | {"leaks": False, "with_twin_in_training": 1})
    assert few is not None
    assert (few["colour"], few["title"]) == ("plain", "A few near copies straddle the split")
    for kind in ("file", "evaluation"):
        turned = leak_box({"kind": kind, "test_slices": 9, "leaks": False, "turned_in_training": 3})
        assert turned is not None
        assert turned["colour"] == "warn" and "upside down" in turned["title"]
        assert [line["count"] for line in turned["lines"]] == [3]
    met = leak_box({"kind": "evaluation", "test_slices": 9, "seen_in_training": 4})
    assert met is not None
    assert met["title"] == "Slices the model has met are kept out of the headline"
    assert met["lines"][0]["count"] == 4
    strange = leak_box({"kind": "evaluation", "test_slices": 9, "with_known_patient": 9, "seen_in_training": 0})
    assert strange is not None
    assert strange["colour"] == "plain", "the training slices were not there to be compared with"
    assert "recognised" in strange["title"]
    assert leak_box({}) is None


def test_names_are_escaped(tmp_path):
    evil = "<script>alert('x')</script>"
    labels, p, groups = sample()
    facts = full_facts(
        title=evil,
        metrics=score(labels, p, [evil, "a$b$", "notumor", '"quoted" & co'], groups, n_boot=10),
        command=evil,
        config={evil: evil},
        mistakes=[(png(), f'"{evil}')],
        split={"kind": evil, "verdict": evil},
        baselines={evil: score(labels, p, CLASSES, groups, n_boot=10)},
    )
    text = written(tmp_path, facts)
    assert "<script" not in text and "&lt;script&gt;" in text
    Page(text)


def test_only_the_title_and_the_metrics_are_needed(tmp_path):
    labels, p, _ = sample()
    text = written(tmp_path, RunFacts(title="bare", metrics=score(labels, p, CLASSES, n_boot=10)))
    optional = ("Beside the baselines", "How it was learnt", "Worst mistakes", "Configuration", "Shown apart")
    for absent in (*optional, 'class="box'):
        assert absent not in text
    Page(text)


@pytest.mark.parametrize("n", [0, 1])
def test_undefined_numbers_are_dashes(tmp_path, n):
    metrics = score([0] * n, np.full((n, 2), 0.5), ["a", "b"])
    labels, p = [0] * n, np.full((n, 2), 0.5)
    text = written(tmp_path, RunFacts(title="few", metrics=metrics, labels=labels, probabilities=p))
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).lower() and "None" not in text
    assert "undefined here" in text and "no interval" in text


def test_pictures_and_captions_are_in_the_page(tmp_path):
    text = written(tmp_path, full_facts())
    assert "says glioma" in text and "says pituitary" in text
    assert text.count("<img") == 2 + 5  # two in the galleries; confusion, ROC, reliability, risk, curves


def test_facts_are_readable():
    assert fact(None) == "–" and fact(True) == "yes" and fact(0.1 + 0.2) == "0.3"
    assert fact([1, "a"]) == "1, a" and fact({"k": [0.5]}) == "k: 0.5"
    assert fact("") == "" and fact(3) == "3"


def size(figure):
    return Image.open(io.BytesIO(figures.to_png(figure))).size


def test_curves_draw_both_losses_and_both_accuracies_and_mark_the_best_epoch():
    figure = figures.curves(history(), best_epoch=4)
    loss, accuracy = figure.axes
    for axes, what in ((loss, "loss"), (accuracy, "accuracy")):
        drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
        assert np.allclose(drawn["training"], history()[f"train_{what}"])
        assert np.allclose(drawn["validation"], history()[f"val_{what}"])
        assert any("best epoch 4" in text.get_text() for text in axes.texts)
    assert size(figure)[0] > 1000


@pytest.mark.parametrize("best", [None, 1, 99])
def test_curves_of_one_epoch_and_of_missing_columns(best):
    assert size(figures.curves(history(1), best))
    assert size(figures.curves(history().drop(columns=["val_loss", "val_accuracy"]), best))
    assert size(figures.curves(history().assign(val_loss=np.nan), 4))
    with pytest.raises(DataError, match="epoch"):
        figures.curves(pd.DataFrame({"loss": [1.0]}))


def test_the_roc_curve_carries_the_area_of_the_metrics():
    labels, p, _ = sample(strength=1)
    figure = figures.roc(labels, p, CLASSES)
    shown = [float(line.get_label().split()[-1]) for line in figure.axes[0].lines[1:]]
    assert np.mean(shown) == pytest.approx(score(labels, p, CLASSES, n_boot=0)["auroc_macro"], abs=0.001)
    assert size(figures.roc([1, 1], [[0.5, 0.5]] * 2, ["a", "b"]))  # no curve to draw


def test_the_confusion_matrix_shows_its_counts():
    figure = figures.confusion([[3, 1], [0, 0]], ["a", "b$x$ <b>"])
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert texts == ["3", "75.0%", "1", "25.0%", "0", "0.0%", "0", "0.0%"]
    assert size(figure)
    with pytest.raises(DataError, match=r"\(2, 2\)"):
        figures.confusion([[1]], ["a", "b"])


def test_the_risk_ends_at_the_error_rate_and_is_never_below_that_of_who_knows_the_errors():
    random = np.random.default_rng(0)
    labels, p = random.integers(0, 3, 60), random.dirichlet([1, 1, 1], 60)
    (axes,) = figures.risk(labels, p).axes
    perfect, found = (line.get_ydata() for line in axes.lines)
    assert found[-1] == pytest.approx((p.argmax(1) != labels).mean()) == perfect[-1]
    assert (np.asarray(found) >= np.asarray(perfect) - 1e-12).all()
    assert f"{np.mean(found):.3f}" in axes.get_title(loc="left")
    figures.risk([], np.zeros((0, 3)))


def test_reliability_has_the_ece_in_its_title():
    labels, p, _ = sample()
    figure = figures.reliability(labels, p)
    assert f"{score(labels, p, CLASSES, n_boot=0)['ece']:.3f}" in figure.axes[0].get_title(loc="left")
    assert size(figure)


def test_drawing_leaves_matplotlib_as_it_was():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figures.to_png(figures.confusion([[1, 0], [0, 1]], ["a", "b"]))
    assert dict(mpl.rcParams) == before


def test_the_same_facts_give_the_same_page(tmp_path):
    facts = full_facts()
    assert written(tmp_path / "a", facts) == written(tmp_path / "b", facts)
