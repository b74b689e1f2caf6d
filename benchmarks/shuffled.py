"""Shuffled labels must destroy the maps: three small trainings side by side, on one fold.

    python benchmarks/shuffled.py DATA --split protocol.csv --fold 0 --out out/shuffled [--set epochs=12] [--masks DIR]

One training on the labels as they are, one with another seed, one on labels exchanged between patients or groups. The
maps of the second and the third are compared with those of the first, class by class, over the head: maps that come
from what was learnt agree between two seeds, and are lost with the labels (Adebayo et al., arXiv:1810.03292). What
becomes of them with the weights, `sanity.py` measures.

`--out` holds a copy of DATA under other labels, and the run folders; finished runs are kept. The recipe is the default
one, made small by `--set` (see `SMALL`): it takes minutes, and its accuracy is not the recipe's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _head import over_the_head, strangers
from braincam import Predictor
from braincam.dataset.draw import evenly
from braincam.dataset.fingerprints import read_one_slice
from braincam.dataset.manifest import Manifest, read_folder
from braincam.dataset.split import read_split
from braincam.files import read_json
from braincam.pipeline.train import train
from braincam.progress import say, track
from braincam.resampling import means, measured
from sanity import shuffle

SMALL = ("network=tiny", "image_size=64", "epochs=12", "patience=0", "threads=1")
TRUE, AGAIN, SHUFFLED = "true labels", "true labels, another seed", "shuffled labels"

Pixels = NDArray[np.uint8]
Maps = NDArray[np.float32]


def main() -> None:
    """Train what is not there yet, compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--masks", type=Path, help="whether the maps point at lesions joins the table")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--slices", type=int, default=200)
    options = parser.parse_args()
    manifest, groups, folds = read_split(options.split, read_folder(options.data))
    runs = trained(manifest, groups, folds, options)
    of_fold = [row for row, fold in enumerate(folds) if fold == options.fold]
    rows = evenly(manifest, of_fold, options.slices, np.random.default_rng(0))
    slices = [read_one_slice(manifest.file(row)) for row in track(rows, "reading")]
    print(f"Fold {options.fold}, {len(rows)} slices; {', '.join([*SMALL, *options.set])}\n")
    print(table(runs, slices, [groups[row] for row in rows]))


def trained(
    manifest: Manifest, groups: Sequence[str], folds: Sequence[int], options: argparse.Namespace
) -> dict[str, Path]:
    """The three run folders by name, each trained unless it is finished."""
    out: Path = options.out
    runs = {TRUE: out / "true", AGAIN: out / "again", SHUFFLED: out / "shuffled"}
    if not (out / "data" / "folds.csv").exists():
        shuffle(manifest, groups, folds, out / "data")
    for name, folder in runs.items():
        if (folder / "run.json").exists():
            say(f"{folder}: finished already")
            continue
        changed = name == SHUFFLED
        train(
            out / "data" if changed else options.data,
            folder,
            split=out / "data" / "folds.csv" if changed else options.split,
            fold=options.fold,
            overrides=[*SMALL, *options.set, f"seed={int(name == AGAIN)}"],
            resume=(folder / "last.ckpt").exists(),
            masks=None if changed else options.masks,
        )
    return runs


def table(runs: dict[str, Path], slices: Sequence[Pixels], groups: Sequence[str]) -> str:
    """What each training scored on the labels it was given, and how far its maps agree with the first one's."""
    answers = Predictor(runs[TRUE]).answer_all(slices)
    answered = answers.probabilities.argmax(1)
    first = maps_of(runs[TRUE], slices, answered)
    lines = [
        "| network | accuracy on its own labels | hottest pixel in the lesion | rank correlation | its size |",
        "|---|---|---|---|---|",
    ]
    for name, folder in runs.items():
        metrics = read_json(folder / "metrics.json")
        scores = measured({"value": metrics["accuracy"], "ci95": metrics["ci95"]["accuracy"]})
        points = (metrics.get("localisation") or {}).get("hit_rate")
        agreed = "1 | 1"
        if name != TRUE:
            theirs = maps_of(folder, slices, answered)
            agreed = agreement([over_the_head(*three) for three in zip(first, theirs, slices, strict=True)], groups)
        lines.append(f"| {name} | {scores} | {'–' if points is None else f'{points:.3f}'} | {agreed} |")
    floor = agreement(strangers(first, slices, groups), groups)
    return "\n".join([*lines, f"| none; the map of another slice | – | – | {floor} |"])


def maps_of(run: Path, slices: Sequence[Pixels], classes: NDArray[np.int64]) -> Maps:
    """A run's maps of one class per slice: (N, h, w)."""
    cams = Predictor(run).answer_all(slices).cam
    assert cams is not None
    return cams[np.arange(len(cams)), classes]


def agreement(ranks: Sequence[float], groups: Sequence[str]) -> str:
    """Mean of rank correlations and of their size, with intervals over patients or groups; undefined without any."""
    both = means(np.stack([ranks, np.abs(ranks)], 1), groups[: len(ranks)], shares=False)
    return " | ".join(measured(found) for found in both)


if __name__ == "__main__":
    main()
