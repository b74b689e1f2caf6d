"""Scores over all folds, computed again from kept predictions; nothing is trained.

    python benchmarks/pooled.py benchmarks/results/crossval-small-2.csv.gz --split protocol.csv \\
        [--peer benchmarks/results/resnet18.csv.gz] [--folds 3 4]

Labels and groups come from the table of folds. Each fold of a network is calibrated by the other folds. `--peer` adds
the network of another cross-validation, under its file's name. `--folds` scores some folds alone, `--without flags.csv`
leaves out the slices that a table names. With several seeds the scores are means over them, but for the ECE, which is
that of all answers together; the lines below the table say how far seeds and folds spread. Where the runs had masks, a
second table says how the maps lie on the lesions.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd

from _kept import difference, mean_and_spread, name_of, points, read_kept, read_truth
from braincam.evaluation.metrics import OURS
from braincam.pipeline.crossval import map_table
from braincam.report.card import by_class
from braincam.resampling import with_interval


def main() -> None:
    """Print one row per learner."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--peer", type=Path, action="append", default=[], metavar="PREDICTIONS.csv.gz")
    parser.add_argument("--folds", type=int, nargs="+")
    parser.add_argument("--without", type=Path)
    options = parser.parse_args()
    truth = read_truth(options.split)
    floors = read_kept(options.predictions, truth)
    networks = {OURS: floors.pop(OURS), **{name_of(path): read_kept(path, truth)[OURS] for path in options.peer}}
    kept = {**networks, **floors}
    if options.without:
        left_out = set(pd.read_csv(options.without)["path"])
        kept = {
            name: replace(rows, table=rows.table[~rows.table["path"].isin(left_out)]) for name, rows in kept.items()
        }
    for name in networks:  # before folds are left out: each is calibrated by all the others
        kept[name] = kept[name].cross_fitted()
    if options.folds:
        kept = {name: rows.of_folds(options.folds) for name, rows in kept.items()}
    print(
        "| learner | slices | patients or groups | accuracy | this network is better by, points | balanced accuracy | "
        "three tumour classes | tumour against none, AUROC | mean over patients | ECE |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for learner, rows in kept.items():
        metrics = rows.metrics()
        scores = (
            with_interval(metrics, "accuracy"),
            "–" if learner == OURS else points(difference(kept[OURS], rows)),
            with_interval(metrics, "balanced_accuracy"),
            with_interval(metrics["three_tumour_classes"] or {}, "accuracy"),
            with_interval(metrics, "tumour_auroc"),
            with_interval(metrics, "patient_averaged_accuracy"),
            f"{metrics['ece']:.3f}",
        )
        print(f"| {learner} | {rows.table['path'].nunique()} | {metrics['n_groups']} | {' | '.join(scores)} |")
    ours = kept[OURS]
    classes = by_class(ours.metrics())
    recalls = [f"{name} {with_interval(classes[name], 'sensitivity')}" for name in ours.classes]
    print(f"\nSensitivity of {OURS}: {', '.join(recalls)}.")
    runs, seeds = ours.accuracy_by("fold", "seed"), ours.accuracy_by("seed")
    print(f"\n{OURS}: accuracy over the {len(runs)} runs of folds and seeds {mean_and_spread(runs)}; pooled over the")
    print(
        f"folds, by seed: {', '.join(f'{value:.3f}' for value in seeds)}. ± is a standard deviation, not an interval."
    )
    if maps := ours.maps():
        print("\n" + "\n".join(map_table(maps)))


if __name__ == "__main__":
    main()
