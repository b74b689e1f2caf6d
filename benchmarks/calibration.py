"""How to calibrate: nothing, a temperature, biases or scales per class; each fold by the others, from kept answers.

    python benchmarks/calibration.py benchmarks/results/crossval-small-2.csv.gz --split protocol.csv \\
        [--picture docs/images/reliability.png]

One row per way over all answers; its last column is the calibration error of a single run, mean over folds and seeds,
which is what the user of one file meets. A second table: what sets that cover slices, or patients, hold and leave open,
refusals apart. Labels and groups come from the table of folds. Where the kept file has no
column `temperature`, the logits are those after each run's own temperature. Prediction sets are class-conditional, by
thresholds from the other folds. `--picture` draws how often answers are right against how sure they are, as kept and
with a temperature from the other folds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from _kept import Kept, read_kept, read_truth
from braincam.evaluation.calibration import COVERAGE, conformal_thresholds, reliability_bins
from braincam.evaluation.confidence import calibration, coverage_of
from braincam.evaluation.crossfit import Covering, cross_fit
from braincam.evaluation.metrics import OURS, score
from braincam.files import write_bytes
from braincam.model_file.decision import prediction_sets, settled
from braincam.report.figures import reliability, to_png
from braincam.resampling import measured, with_interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mend = Callable[[Floats, Floats], Floats]  # parameters, logits (N, K) → logits (N, K)

WAYS: dict[str, tuple[Callable[[int], Floats], Mend]] = {  # name → where the search starts, what is done
    "a temperature": (lambda _: np.ones(1), lambda found, logits: logits * found[0]),
    "a temperature, biases": (
        lambda k: np.r_[1.0, np.zeros(k)],
        lambda found, logits: logits * found[0] + found[1:],
    ),
    "a scale and a bias per class": (
        lambda k: np.r_[np.ones(k), np.zeros(k)],
        lambda found, logits: logits * found[: logits.shape[1]] + found[logits.shape[1] :],
    ),
}


def main() -> None:
    """Print one row per way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--picture", type=Path, metavar="PNG")
    options = parser.parse_args()
    kept = read_kept(options.predictions, read_truth(options.split))[OURS]
    table, classes = kept.table, kept.classes
    logits = kept.logits()
    logits -= logits.mean(1, keepdims=True)  # a constant per slice does not matter, but scales per class would see it
    labels, folds, seeds = (table[name].to_numpy() for name in ("label", "fold", "seed"))
    groups, paths = table["group"].astype(str).tolist(), table["path"].to_numpy()
    print(
        "| calibrated by | accuracy | ECE | "
        "a perfect model up to | slope, intercept | NLL | Brier | coverage | classes in a set | referred | "
        "ECE of one run |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    answers = {"each run's validation part": kept.probabilities()}
    if "temperature" in table:
        answers["nothing"] = softmax(logits, axis=1)
    answers |= {f"{name}, other folds": cross_fitted(logits, labels, folds, *way) for name, way in WAYS.items()}
    if options.picture:
        fitted = answers["a temperature, other folds"]
        drawn = reliability(labels, fitted, before=kept.probabilities(), called="own temperature")
        write_bytes(options.picture, to_png(drawn))
    for name, probabilities in answers.items():
        metrics, found = score(labels, probabilities, classes, groups), calibration(labels, probabilities, groups)
        sets = cross_conformal(probabilities, labels, folds, paths)
        held = coverage_of(sets, labels, classes, groups)
        cells = (
            f"{metrics['accuracy']:.4f}",
            with_interval(metrics, "ece"),
            f"{found['chance']['high']:.3f}",
            "–" if found["slope"] is None else f"{found['slope']:.2f}, {found['intercept']:+.2f}",
            f"{found['nll']:.4f}",
            f"{found['brier']:.4f}",
            measured(held["coverage"]),
            measured(held["mean_size"]),
            f"{1 - settled(probabilities, sets).mean():.3f}",
            f"{of_one_run(probabilities, labels, folds, seeds):.3f}",
        )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print("\n" + sets_table(kept))


def sets_table(kept: Kept) -> str:
    """What sets that cover slices, and sets that cover patients, hold and leave open; each fold by the others."""
    labels, groups, paths = kept.table["label"].to_numpy(), kept.table["group"].tolist(), kept.table["path"].tolist()
    head = (
        "| sets cover | hold the truth for, of the slices | each patient or group weighing the same | "
        "least of the classes, weighing so | classes in a set | one class, the most probable | right among these |"
    )
    rows = [head, "|---|---|---|---|---|---|---|"]
    for covering in get_args(Covering):
        fitted = cross_fit(kept.logits(), labels, kept.table["fold"], slices=paths, groups=groups, covering=covering)
        found = coverage_of(fitted.sets, labels, kept.classes, groups)
        answered = settled(fitted.probabilities, fitted.sets)
        right = (fitted.probabilities.argmax(1) == labels)[answered]
        by_class = {name: part["patient_averaged"] for name, part in found["by_class"].items()}
        least = min(by_class, key=lambda name: by_class[name]["value"])
        cells = (
            measured(found["coverage"]),
            measured(found["patient_averaged"]),
            f"{least} {measured(by_class[least])}",
            measured(found["mean_size"]),
            f"{answered.mean():.3f}",
            f"{right.mean():.3f}" if len(right) else "–",
        )
        rows.append(f"| {covering} | {' | '.join(cells)} |")
    return "\n".join(rows)


def cross_fitted(logits: Floats, labels: Ints, folds: Ints, start: Callable[[int], Floats], mend: Mend) -> Floats:
    """Probabilities (N, K), each fold mended by what lowers the log-likelihood on the other folds."""
    out = np.empty_like(logits)
    for fold in np.unique(folds):
        mine = folds == fold
        others, truth = logits[~mine], labels[~mine]

        def loss(found: Floats, others: Floats = others, truth: Ints = truth) -> float:
            return float(-log_softmax(mend(found, others), axis=1)[np.arange(len(truth)), truth].mean())

        best = minimize(loss, start(logits.shape[1]), method="L-BFGS-B").x
        out[mine] = softmax(mend(best, logits[mine]), axis=1)
    return out


def of_one_run(probabilities: Floats, labels: Ints, folds: Ints, seeds: Ints) -> float:
    """The calibration error of each fold and seed alone, mean over them."""
    runs = [(folds == fold) & (seeds == seed) for fold in np.unique(folds) for seed in np.unique(seeds)]
    return float(np.mean([reliability_bins(labels[run], probabilities[run]).ece for run in runs if run.any()]))


def cross_conformal(probabilities: Floats, labels: Ints, folds: Ints, paths: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Prediction sets (N, K), each fold's by thresholds from the other folds."""
    sets = np.zeros(probabilities.shape, bool)
    for fold in np.unique(folds):
        mine = folds == fold
        thresholds = conformal_thresholds(probabilities[~mine], labels[~mine], COVERAGE, paths[~mine].tolist())
        sets[mine] = prediction_sets(probabilities[mine], thresholds)
    return sets


if __name__ == "__main__":
    main()
