"""Scores over all folds, computed again from kept predictions; nothing is trained.

    python benchmarks/pooled.py benchmarks/results/crossval-0.1.0.csv.gz --split protocol.csv [--without flags.csv]

Predictions hold path, fold, seed, learner and probabilities (written by `braincam crossval`); labels and groups come
from the table of folds. `--without` leaves out the slices that a table names.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from braincam.evaluation.metrics import score
from braincam.printing import with_interval


def main() -> None:
    """Print one row per learner."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--without", type=Path)
    options = parser.parse_args()
    table = pd.read_csv(options.split, dtype=str).set_index("path")
    kept = pd.read_csv(options.predictions)
    if options.without:
        kept = kept[~kept["path"].isin(pd.read_csv(options.without)["path"])]
    columns = [name for name in kept if name.startswith("p_")]
    classes = [name.removeprefix("p_") for name in columns]
    print("| learner | slices | patients or groups | accuracy | balanced accuracy | three tumour classes | ECE |")
    print("|---|---|---|---|---|---|---|")
    for learner, rows in kept.groupby("learner", sort=False):
        labels = rows["path"].map(table["label"]).map(classes.index)
        metrics = score(labels, rows[columns].to_numpy(), classes, rows["path"].map(table["group"]))
        scores = (
            with_interval(metrics, "accuracy"),
            with_interval(metrics, "balanced_accuracy"),
            with_interval(metrics["three_tumour_classes"], "accuracy"),
            f"{metrics['ece']:.3f}",
        )
        print(f"| {learner} | {metrics['n']} | {metrics['n_groups']} | {' | '.join(scores)} |")


if __name__ == "__main__":
    main()
