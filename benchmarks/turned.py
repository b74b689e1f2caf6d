"""What copies across the borders of fixed folds, most of them upside down, do to the scores.

    python benchmarks/turned.py tables DATA --split protocol.csv --label notumor --out turned
    braincam train DATA --patients patients.csv --split protocol.csv --fold 0 --without turned/without-fold0.csv \\
        --refuse flagged-notumor.csv --out turned/fold0-seed0    # and so on for each fold
    python benchmarks/keep.py turned --own-without --out clean.csv.gz
    python benchmarks/turned.py scores DATA KEPT.csv.gz --clean clean.csv.gz --split protocol.csv

`tables` writes for each fold which slices of the other folds are copies, or copies of copies, of its own, however they
lie; with `--label` those of one class. `scores` sets the kept answers to slices with a copy in another fold beside
those to all others, and beside answers of networks that learnt nothing from such copies (`--clean`). Groups are those
of the table of folds, joined where copies connect them; intervals are over these.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from _kept import Kept, difference, name_of, read_kept, read_truth
from braincam.dataset.links import connected
from braincam.dataset.manifest import read_folder
from braincam.evaluation.metrics import OURS, no_tumour_class
from braincam.files import write_csv
from braincam.pipeline.reading import find_copies
from braincam.report.card import by_class
from braincam.resampling import with_interval

HEADER = ("answers", "slices", "groups", "accuracy", "sensitivity, no tumour", "three tumour classes")


def families(data: Path, truth: pd.DataFrame) -> pd.DataFrame:
    """By path: the `fold` and `group` of the table, the `family` of copies, and the group `joined` by copies."""
    copies = find_copies(read_folder(data))
    paths = [item.path for item in copies.manifest.slices]
    row_of = {path: row for row, path in enumerate(paths)}
    rows = truth[truth.index.isin(row_of)].copy()
    place = np.array([row_of[path] for path in rows.index])
    rows["family"] = connected(len(paths), copies.twins.pairs)[place]
    # as `merge_sharing` does, but numbered in the order of the families: the draws behind the kept intervals follow it
    family, group = (pd.factorize(rows[name])[0] for name in ("family", "group"))
    links = np.stack((family, family.max() + 1 + group), 1)
    rows["joined"] = connected(int(links.max()) + 1, links)[family]
    rows["met"] = rows.groupby("family")["fold"].transform("nunique") > 1
    return rows


def tables(rows: pd.DataFrame, label: str | None, out: Path) -> None:
    """One CSV per fold."""
    rows = rows if label is None else rows[rows["label"] == label]
    out.mkdir(parents=True, exist_ok=True)
    for fold in sorted(set(rows["fold"])):
        own = set(rows.loc[rows["fold"] == fold, "family"])
        others = rows[(rows["fold"] != fold) & rows["family"].isin(own)]
        write_csv(out / f"without-fold{fold}.csv", ("path",), [(path,) for path in sorted(others.index)])
        print(f"fold {fold}: {len(others)} slices of other folds are copies of its own")


def scores(kept: Kept, clean: Kept | None, rows: pd.DataFrame) -> None:
    """One row for each kind of slices and network, and the paired differences."""

    def of(answers: Kept, met: bool | None) -> Kept:
        table = answers.table.assign(group=answers.table["path"].map(rows["joined"]).astype(str))
        return replace(answers, table=table if met is None else table[table["path"].map(rows["met"]) == met])

    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    kinds = {"all slices": None, "a copy in another fold": True, "none": False}
    for learner, answers in {"as the folds are": kept, "copies not learnt": clean}.items():
        for kind, met in kinds.items():
            if answers is not None:
                print(f"| {learner}: {kind} | {' | '.join(cells(of(answers, met)))} |")
    if clean is not None:
        for kind, met in kinds.items():
            found = difference(of(kept, met), of(clean, met))
            low, high = (100 * end for end in found["ci95"]["accuracy"] or (np.nan, np.nan))
            print(
                f"\n{kind}: the copies flatter the accuracy by {100 * found['accuracy']:.1f} points "
                f"[{low:.1f}, {high:.1f}], on {found['n']} slices"
            )


def cells(answers: Kept) -> list[str]:
    """The columns of one row."""
    metrics = answers.metrics()
    none = answers.classes[no_tumour_class(answers.classes) or 0]
    three = metrics["three_tumour_classes"]
    return [
        f"{answers.table['path'].nunique():,}",
        str(metrics["n_groups"]),
        with_interval(metrics, "accuracy"),
        with_interval(by_class(metrics)[none], "sensitivity"),
        with_interval(three, "accuracy") if three and three["n"] else "–",
    ]


def main() -> None:
    """One of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    one, other = what.add_parser("tables"), what.add_parser("scores")
    for verb in (one, other):
        verb.add_argument("data", type=Path)
        verb.add_argument("--split", type=Path, required=True)
    one.add_argument("--label")
    one.add_argument("--out", type=Path, required=True)
    other.add_argument("predictions", type=Path)
    other.add_argument("--clean", type=Path)
    options = parser.parse_args()
    truth = read_truth(options.split)
    rows = families(options.data, truth)
    if options.what == "tables":
        tables(rows, options.label, options.out)
        return
    kept, clean = (
        None if path is None else read_kept(path, truth)[OURS] for path in (options.predictions, options.clean)
    )
    assert kept is not None
    met = f"{int(rows['met'].sum()):,} of {len(rows):,}"
    print(f"{name_of(options.predictions)}: {met} slices have a copy in another fold\n")
    scores(kept, clean, rows)


if __name__ == "__main__":
    main()
