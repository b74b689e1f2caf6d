"""The popular split with and without byte-identical copies, for finished runs on it and for the cheap baselines.

    python benchmarks/official.py DATA RUN... [--patients patients.csv]

Intervals are over patients where a table names them, else over groups of copies. A test slice is clean when no training
or validation slice has the same bytes. Clean of copies is not clean of patients.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from braincam.evaluation.metrics import score
from braincam.pipeline.prepare import grouped
from braincam.pipeline.train import baseline_answers
from braincam.resampling import with_interval
from braincam.training.config import TrainConfig


def main() -> None:
    """Print one row per learner."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--patients", type=Path)
    options = parser.parse_args()
    found = grouped(options.data, options.patients)
    slices = found.manifest.slices
    test = [row for row, item in enumerate(slices) if item.part == "Testing"]
    train = [row for row, item in enumerate(slices) if item.part == "Training"]
    met = {found.digests[row] for row in train}
    clean = np.array([found.digests[row] not in met for row in test])
    labels = np.array(found.manifest.labels)[test]
    groups = np.array(found.groups)[test]
    classes = found.manifest.classes

    def row(name: str, probabilities: NDArray[np.float64]) -> None:
        cells = []
        for keep in (np.ones(len(test), bool), clean):
            metrics = score(labels[keep], probabilities[keep], classes, groups[keep])
            cells += [with_interval(metrics, "accuracy"), with_interval(metrics["three_tumour_classes"], "accuracy")]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)

    print(f"| learner | all {len(test)} | their tumours | {clean.sum()} without identical copies | their tumours |")
    print("|---|---|---|---|---|")
    for run in options.runs:
        table = pd.read_csv(run / "predictions.csv").set_index("path").loc[[slices[k].path for k in test]]
        row(run.name, table[[f"p_{name}" for name in classes]].to_numpy())
    for name, probabilities in baseline_answers(found, train, test, TrainConfig()).items():
        row(name, probabilities)


if __name__ == "__main__":
    main()
