"""The answers of finished runs, kept as `braincam crossval` keeps those of a whole one; nothing is trained.

    python benchmarks/keep.py FOLDER [--own-without] --out benchmarks/results/NAME.csv.gz

FOLDER holds runs named fold<F>-seed<S>, as `braincam crossval` makes them and `braincam train --fold F --set seed=S
--out FOLDER/fold<F>-seed<S>` does. Of a cross-validation that is unfinished, or was never meant to have all folds, this
keeps what there is. Runs that the file holds already and FOLDER lacks stay in it, since run folders do not last; what
recipe they are of stands beside the file, and runs of another one end the program. The other benchmarks read the file,
and compare on the slices that it holds.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from _kept import name_of
from braincam.evaluation.metrics import OURS
from braincam.files import read_json, replacing, write_json
from braincam.pipeline.crossval import KEPT, to_keep
from braincam.pipeline.export import NOT_OF_THE_RECIPE, SAME
from braincam.pipeline.facts import UNSAID
from braincam.pipeline.out_of_fold import read_answers
from braincam.progress import say

RUN = re.compile(r"fold(\d+)-seed(\d+)")


def finished_runs(folder: Path) -> list[tuple[int, int]]:
    """Fold and seed of each run that ended; `run.json` is written at its end."""
    named = ((RUN.fullmatch(run.name), run) for run in folder.iterdir() if (run / "run.json").exists())
    return sorted((int(match[1]), int(match[2])) for match, _ in named if match)


def recipe_of(folder: Path, runs: list[tuple[int, int]], own_without: bool = False) -> dict[str, Any]:
    """One file is of one recipe, on the same data in the same folds; another run in the folder ends the program."""
    same = [key for key in SAME if not (own_without and key == "not_learnt_sha256")]
    first: dict[str, Any] = {}
    for fold, seed in runs:
        name = f"fold{fold}-seed{seed}"
        facts = read_json(folder / name / "run.json")
        recipe = {key: value for key, value in facts["config"].items() if key not in NOT_OF_THE_RECIPE}
        told = {**recipe, **{key: facts.get(key, UNSAID.get(key)) for key in same}}
        first = first or told
        if differ := differing(first, told):
            sys.exit(
                f"{folder}: expected runs of one recipe on the same folds, but in {', '.join(differ)} {name} is not as "
                f"fold{runs[0][0]}-seed{runs[0][1]}; keep them apart"
            )
    return first


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what two runs do not have in common."""
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def beside(kept: Path) -> Path:
    """Where the recipe of kept answers stands."""
    return kept.with_name(f"{name_of(kept)}.recipe.json")


def main() -> None:
    """Read what is finished, write one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv.gz")
    parser.add_argument("--own-without", action="store_true", help="each fold was trained with a --without of its own")
    options = parser.parse_args()
    runs = finished_runs(options.folder)
    if not runs:
        sys.exit(f"{options.folder}: expected finished runs named fold0-seed0 and so on, got none")
    recipe = recipe_of(options.folder, runs, options.own_without)
    answers = read_answers(options.folder, runs)
    rows = to_keep(answers.table, pd.DataFrame(), [f"p_{name}" for name in answers.classes])
    if options.out.exists():
        before = pd.read_csv(options.out)
        if list(before) != list(rows):
            sys.exit(
                f"{options.out}: expected the columns {', '.join(rows)}, got {', '.join(before)}; give another --out"
            )
        if not beside(options.out).exists():
            say(f"{options.out}: nothing beside it says of which recipe it is; taken to be that of {options.folder}")
        elif differ := differing(read_json(beside(options.out)), recipe):
            sys.exit(
                f"{options.out}: expected runs of its recipe, but in {', '.join(differ)} those of {options.folder} are "
                "not; give another --out"
            )
        again = pd.MultiIndex.from_frame(before[["fold", "seed"]]).isin(runs) & (before["learner"] == OURS)
        rows = pd.concat([before[~again], rows], ignore_index=True).sort_values(["fold", "seed"], kind="stable")
    write_json(beside(options.out), recipe)
    with replacing(options.out) as temporary:
        rows.to_csv(temporary, **KEPT)
    held = sorted({(int(fold), int(seed)) for fold, seed in zip(rows["fold"], rows["seed"], strict=True)})
    print(f"{options.out}: {len(rows)} answers of {len(held)} runs: {', '.join(f'fold {f} seed {s}' for f, s in held)}")


if __name__ == "__main__":
    main()
