"""What each attention earns, and ResNet-18 in the same recipe, from kept predictions; nothing is trained.

    python benchmarks/ablation.py DEFAULT.csv.gz OTHER.csv.gz... --split protocol.csv [--folds 0 1] [--more MORE.csv.gz]

Each file is the `predictions.csv.gz` of one `braincam crossval`, renamed to what was trained, such as
`attention-none.csv.gz`; its name, without its ending, is the row's. The commands that make them:

    braincam crossval $DATA --patients patients.csv --split protocol.csv --seeds 3 --out default
    braincam crossval $DATA --patients patients.csv --split protocol.csv --seeds 3 --set attention=none --out none
    braincam crossval $DATA --patients patients.csv --split protocol.csv --set network=resnet18 --out resnet18

Two folds with five seeds say enough of an attention, and cost less than five folds do: trainings of single folds and
seeds, whose answers `benchmarks/keep.py` keeps, with the same `--refuse` as the default's:

    braincam train $DATA --patients patients.csv --split protocol.csv --fold 0 --set attention=none --set seed=0 \\
        --refuse flagged-notumor.csv --out none/fold0-seed0
    python benchmarks/keep.py none --out benchmarks/results/attention-none.csv.gz

`--more` adds seeds of the first file's network on some folds, kept in a file of their own.

The last column is the paired difference in accuracy to the first file on the slices that both judged, each slice's mean
over the seeds against the other's: 95 % interval over patients or groups, in points. "Better" or "worse" is said only
where it excludes zero.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

from _kept import Kept, difference, mean_and_spread, name_of, points, read_kept, read_truth
from braincam.evaluation.metrics import OURS
from braincam.resampling import measured, with_interval

WEAK_CLASS = "meningioma"
HEADER = (
    "network", "folds", "seeds", "slices", "patients or groups", "accuracy", "mean over patients",
    f"{WEAK_CLASS} recall", "hottest pixel in the lesion", "over folds and seeds", "pooled, by seed",
    "against the first, points",
)  # fmt: skip


def together(one: Kept, other: Kept) -> Kept:
    """The answers of both, of one network; a slice that both judged with one seed ends the program."""
    table = pd.concat([one.table, other.table], ignore_index=True)
    if one.classes != other.classes or table.duplicated(["path", "seed"]).any():
        sys.exit("--more: expected other seeds or folds of the same classes as the first file's")
    return replace(one, table=table)


def row(name: str, kept: Kept, first: Kept) -> list[object]:
    """One network as the cells of a row."""
    metrics = kept.metrics()
    recall = metrics["per_class"][WEAK_CLASS]["sensitivity"] if WEAK_CLASS in kept.classes else None
    return [
        name,
        kept.numbers("fold"),
        kept.numbers("seed"),
        kept.table["path"].nunique(),
        metrics["n_groups"],
        with_interval(metrics, "accuracy"),
        with_interval(metrics, "patient_averaged_accuracy"),
        "–" if recall is None else f"{recall:.3f}",
        measured(maps["measures"]["pointing"]) if (maps := kept.maps()) else "–",
        mean_and_spread(kept.accuracy_by("fold", "seed")),
        mean_and_spread(kept.accuracy_by("seed")),
        "–" if kept is first else verdict(kept, first),
    ]


def verdict(kept: Kept, first: Kept) -> str:
    """The paired difference in points, and what it allows to say."""
    found = difference(kept, first)
    if not found["n"]:
        return "no slice in common"
    text = points(found)
    if found["ci95"]["accuracy"]:
        better = "better" if found["accuracy"] > 0 else "worse"
        text += f" {better}" if found["excludes_zero"]["accuracy"] else " not told apart"
    return f"{text}, on {found['n']} slices"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, nargs="+", metavar="PREDICTIONS.csv.gz")
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="+", help="score these alone")
    parser.add_argument("--more", type=Path, metavar="MORE.csv.gz", help="more seeds of the first")
    options = parser.parse_args()
    truth = read_truth(options.split)
    kept = {name_of(path): read_kept(path, truth)[OURS] for path in options.predictions}
    if options.more:
        name = name_of(options.predictions[0])
        kept[name] = together(kept[name], read_kept(options.more, truth)[OURS])
    if options.folds:
        kept = {name: rows.of_folds(options.folds) for name, rows in kept.items()}
    first = next(iter(kept.values()))
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    for name, rows in kept.items():
        print(f"| {' | '.join(map(str, row(name, rows, first)))} |")


if __name__ == "__main__":
    main()
