"""The Markdown tables of docs/results-runs.md, from the folders of finished runs; nothing is trained or predicted.

    python benchmarks/results_table.py RUN...

Runs whose names differ only behind the last hyphen, such as official-0 and official-1, are seeds of one recipe.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from braincam.evaluation.metrics import OURS
from braincam.files import read_json
from braincam.resampling import with_interval

Run = tuple[str, dict[str, Any], dict[str, Any]]  # name, metrics.json, run.json


def main(folders: list[Path]) -> None:
    """Print every table."""
    runs: list[Run] = [
        (folder.name, read_json(folder / "metrics.json"), read_json(folder / "run.json")) for folder in folders
    ]
    table(
        "run | test slices | patients or groups | accuracy | balanced accuracy | three tumour classes | ECE",
        scores(runs),
    )
    print(*spread_over_seeds({name: metrics["accuracy"] for name, metrics, _ in runs}), sep="\n")
    table("run | class | sensitivity | specificity | ppv | f1 | n", by_class(runs))
    table("run | learner | accuracy | balanced accuracy", baselines(runs))
    table("run | answered | referred | rejected | right when answered | hottest pixel in the lesion", decisions(runs))
    table("run | device | precision | epochs (best) | training minutes | minutes in all | leak", costs(runs))
    print("\n".join(f"- {name}: `{run['command']}`" for name, _, run in runs))


def table(header: str, rows: list[list[object]]) -> None:
    """Print a Markdown table and an empty line."""
    print(f"| {header} |\n|{'---|' * (header.count('|') + 1)}")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print()


def scores(runs: list[Run]) -> list[list[object]]:
    """The headline; for a run that leaks, also the slices that it had not met."""
    rows: list[list[object]] = []
    for name, metrics, _ in runs:
        blocks = {name: metrics}
        if metrics["headline"] == "all" and metrics["unseen"]["n"]:
            blocks[f"{name}, not met in training"] = metrics["unseen"]
        for title, block in blocks.items():
            three = with_interval(three, "accuracy") if (three := block["three_tumour_classes"]) and three["n"] else "–"
            ece = f"{block['ece']:.3f}"
            accuracies = with_interval(block, "accuracy"), with_interval(block, "balanced_accuracy")
            rows.append([title, block["n"], block["n_groups"], *accuracies, three, ece])
    return rows


def spread_over_seeds(accuracies: Mapping[str, float]) -> list[str]:
    """Mean and standard deviation of the accuracy for each recipe with several seeds, from the runs' names."""
    values: dict[str, list[float]] = defaultdict(list)
    for name, accuracy in accuracies.items():
        values[name.rsplit("-", 1)[0]].append(accuracy)
    return [
        f"{name}: accuracy {statistics.mean(seeds):.4f}, standard deviation {statistics.stdev(seeds):.4f}, "
        f"over {len(seeds)} seeds\n"
        for name, seeds in values.items()
        if len(seeds) > 1
    ]


def by_class(runs: list[Run]) -> list[list[object]]:
    """Sensitivity and the rest for each class."""
    keys = ("sensitivity", "specificity", "ppv", "f1")
    return [
        [name, label, *(f"{row[key]:.3f}" for key in keys), row["n"]]
        for name, metrics, _ in runs
        for label, row in metrics["per_class"].items()
    ]


def baselines(runs: list[Run]) -> list[list[object]]:
    """The network beside the learners that look for no lesion."""
    return [
        [name, learner, with_interval(block, "accuracy"), with_interval(block, "balanced_accuracy")]
        for name, metrics, _ in runs
        for learner, block in {OURS: metrics, **metrics["baselines"]}.items()
    ]


def decisions(runs: list[Run]) -> list[list[object]]:
    """How often it answered, referred and refused, and how often the map's hottest pixel lies in the lesion."""
    rows: list[list[object]] = []
    for name, metrics, _ in runs:
        status, game = metrics["status"], metrics.get("localisation")
        points = "–"
        if game:
            low, high = game["ci95"]
            points = f"{game['hit_rate']:.3f} [{low:.3f}, {high:.3f}] of {game['n']} (random {game['mean_area']:.3f})"
        right = f"{status['accuracy_when_ok']:.3f}"
        rows.append([name, status["ok"], status["refer"], status["rejected"], right, points])
    return rows


def costs(runs: list[Run]) -> list[list[object]]:
    """Where and how long."""
    rows: list[list[object]] = []
    for name, metrics, run in runs:
        minutes = f"{run['training_seconds'] / 60:.1f}", f"{run['seconds'] / 60:.1f}"
        epochs = f"{run['epochs_trained']} ({run['best_epoch']})"
        rows.append([name, run["device"], run["precision"], epochs, *minutes, metrics["split"]["verdict"]])
    return rows


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
