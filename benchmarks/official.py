"""The popular split with and without byte-identical copies, for finished runs on it and for the cheap baselines.

    python benchmarks/official.py DATA RUN... [--patients patients.csv] [--keep FILE.csv.gz]
    python benchmarks/official.py DATA FILE.csv.gz [--patients patients.csv]    # the same again, without the runs

Intervals are over patients where a table names them, else over groups of copies. A test slice is clean when no training
or validation slice has the same bytes. Clean of copies is not clean of patients. Runs whose names differ only behind
the last hyphen, such as official-0 and official-1, are seeds of one recipe: their spread stands below the table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from braincam.evaluation.metrics import score
from braincam.files import replacing
from braincam.pipeline.crossval import KEPT
from braincam.pipeline.evaluate import read_predictions
from braincam.pipeline.prepare import grouped
from braincam.pipeline.train import baseline_answers
from braincam.resampling import with_interval
from braincam.training.config import TrainConfig
from results_table import spread_over_seeds


def answers_of(sources: Iterable[Path], classes: tuple[str, ...]) -> pd.DataFrame:
    """Path, learner and one probability per class: of run folders, and of tables that `--keep` wrote."""
    columns = ["path", "learner", *(f"p_{name}" for name in classes)]
    tables = [
        read_predictions(source / "predictions.csv").assign(learner=source.resolve().name)
        if source.is_dir()
        else pd.read_csv(source)
        for source in sources
    ]
    return pd.concat([table[columns] for table in tables], ignore_index=True)


def main() -> None:
    """Print one row per learner."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run folder, or what --keep wrote")
    parser.add_argument("--patients", type=Path)
    parser.add_argument("--keep", type=Path, metavar="FILE.csv.gz", help="the runs' answers, to print the table from")
    options = parser.parse_args()
    found = grouped(options.data, options.patients)
    slices, classes = found.manifest.slices, found.manifest.classes
    test = [row for row, item in enumerate(slices) if item.part == "Testing"]
    train = [row for row, item in enumerate(slices) if item.part == "Training"]
    paths = [slices[row].path for row in test]
    met = {found.digests[row] for row in train}
    clean = np.array([found.digests[row] not in met for row in test])
    labels = np.array(found.manifest.labels)[test]
    groups = np.array(found.groups)[test]
    answers = answers_of(options.runs, classes)
    for name, table in answers.groupby("learner"):
        if sorted(table["path"]) != sorted(paths):
            sys.exit(f"{name}: expected one answer for each of the {len(paths)} slices of Testing/")
    if options.keep:
        with replacing(options.keep) as temporary:
            answers.to_csv(temporary, **KEPT)

    def row(name: str, probabilities: NDArray[np.float64]) -> None:
        cells = []
        for keep in (np.ones(len(test), bool), clean):
            metrics = score(labels[keep], probabilities[keep], classes, groups[keep])
            cells += [
                with_interval(metrics, "accuracy"),
                with_interval(metrics["three_tumour_classes"] or {}, "accuracy"),
            ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)

    print(f"| learner | all {len(test)} | their tumours | {clean.sum()} without identical copies | their tumours |")
    print("|---|---|---|---|---|")
    accuracies = {}
    for name, table in answers.groupby("learner", sort=False):
        probabilities = table.set_index("path").loc[paths, [f"p_{label}" for label in classes]].to_numpy()
        accuracies[str(name)] = float((probabilities.argmax(1) == labels).mean())
        row(str(name), probabilities)
    for name, probabilities in baseline_answers(found, train, test, TrainConfig()).items():
        row(name, probabilities)
    print("", *spread_over_seeds(accuracies), sep="\n")


if __name__ == "__main__":
    main()
