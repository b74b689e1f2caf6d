"""Every fold in turn as the test, with one or several seeds: resumable, and summed up in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.special import softmax

from braincam.errors import ConfigError, DataError, TrainingError
from braincam.evaluation.erasing import shares
from braincam.evaluation.localise import COLUMNS, ERASED
from braincam.evaluation.metrics import OURS, score
from braincam.explain.localisation import MAP_COLUMNS, Overlap, summarise
from braincam.files import as_path, read_json, replacing, write_bytes, write_json, write_text
from braincam.pipeline.evaluate import OF_A_TRAINING, check_no_training, masks_of
from braincam.pipeline.facts import UNSAID, identity
from braincam.pipeline.out_of_fold import Answers, describe_confidence, pooled_confidence, read_answers
from braincam.pipeline.prepare import FOLDS, Grouped, divide, grouped, set_aside, split
from braincam.pipeline.train import baseline_answers, train
from braincam.progress import say
from braincam.report.figures import reliability, to_png
from braincam.resampling import measured, with_interval
from braincam.training.claim import claimed
from braincam.training.config import TrainConfig, read_config
from braincam.training.loop import check_same_recipe

# how answers are kept: small, and the same bytes each time
KEPT: dict[str, Any] = {"index": False, "float_format": "%.5g", "compression": {"method": "gzip", "mtime": 0}}


@dataclass(frozen=True, eq=False)
class Crossval:
    """What was found: one row per run, and the scores pooled over all folds."""

    folder: Path
    runs: pd.DataFrame
    pooled: dict[str, dict[str, Any]]  # learner → metrics over every slice, each judged by a model that never met it
    summary: str  # Markdown


def crossval(
    data: Path | str,
    out: Path | str,
    *,
    patients: Path | str | None = None,
    split_file: Path | str | None = None,
    seeds: int = 1,
    config: Path | str | TrainConfig | None = None,
    overrides: Sequence[str] = (),
    masks: Path | str | None = None,
    allow_leak: bool = False,
    without: Path | str | None = None,
    refuse: Path | str | None = None,
) -> Crossval:
    """Train and score each fold with seeds 0 to `seeds` - 1; finished runs in `out` are kept, a broken one goes on.

    Without `split_file`, safe folds are made and kept in ``out/folds.csv``. `config`, `overrides`, `without` and
    `refuse` are as for `train`; all slices are judged. Writes `crossval.json`, `crossval.md`, `reliability.png`,
    `runs.csv` and `predictions.csv.gz` (path, fold, seed, learner, probabilities as each run gave them, the temperature
    it gave them at, and with `masks` how its maps lie on the lesions), from which every figure can be computed again.
    Pooled scores are of answers that were calibrated by the other folds.

    Raises:
        BraincamError: any of its kinds; the message says what to do.
    """
    data, out, patients, masks = Path(data), Path(out), as_path(patients), as_path(masks)
    recipe = config if isinstance(config, TrainConfig) else read_config(as_path(config), overrides)
    if recipe.seed:
        raise ConfigError(f"seed={recipe.seed}: crossval trains the seeds 0 to --seeds less 1; leave it out")
    if recipe.split == "official":
        raise ConfigError("split=official: crossval trains on folds; leave it out, or use `braincam train`")
    check_no_training(out, "the cross-validation", OF_A_TRAINING)
    table = Path(split_file) if split_file else out / "folds.csv"
    with claimed(out):
        if not split_file and not table.exists():
            split(data, table, patients, FOLDS, recipe.seed)
        found = set_aside(grouped(data, patients, table), as_path(without), as_path(refuse))
        masks_of(found, masks)  # a wrong folder is noticed before the first training, and where all are finished
        folds = sorted(set(found.folds or ()))
        waiting = []
        for seed, fold in product(range(seeds), folds):
            run, one = out / f"fold{fold}-seed{seed}", replace(recipe, seed=seed)
            if finished(run, one, found, masked=masks is not None):
                say(f"{run.name}: finished already")
            else:
                waiting.append((run, one, fold))
        for _, one, fold in waiting:  # what the last fold lacks is noticed before the first training
            check_divides(found, fold, one, allow_leak=allow_leak)
        for run, one, fold in waiting:
            say(f"{run.name}: training")
            train(
                data,
                run,
                patients=patients,
                split=table,
                fold=fold,
                config=one,
                resume=(run / "last.ckpt").exists(),
                allow_leak=allow_leak,
                masks=masks,
                without=without,
                refuse=refuse,
            )
        return sum_up(out, found, folds, seeds, recipe)


def check_divides(found: Grouped, fold: int, recipe: TrainConfig, *, allow_leak: bool) -> None:
    """Whether a fold can be trained and tested, as `train` will find: whole patients, every class in every part.

    Raises:
        DataError: it cannot; the message says which fold.
    """
    try:
        divide(found, "file", fold, recipe.validation_share, recipe.seed, allow_leak=allow_leak)
    except DataError as error:
        raise type(error)(f"fold {fold}, seed {recipe.seed}: {error}") from error


def finished(run: Path, recipe: TrainConfig, found: Grouped, *, masked: bool = False) -> bool:
    """Whether a run folder holds a finished run of this recipe, on these slices in these folds.

    With `masked` it must have been judged with masks too; else it is judged again, from its last checkpoint.

    Raises:
        TrainingError: it holds one of another recipe, of other slices or of other folds.
    """
    if not (run / "run.json").exists():
        return False
    stored = read_json(run / "run.json")
    check_same_recipe(stored["config"], recipe, run)
    # what else the first runs do not say is taken as the same; `check_complete` sees most of what that lets pass
    stored = {**UNSAID, **stored}
    if changed := [key for key, value in identity(found).items() if stored.get(key, value) != value]:
        raise TrainingError(
            f"{run}: finished on other slices or folds, or by another version of braincam ({', '.join(changed)} "
            "changed); repeat its data, --patients, --split, --without and --refuse exactly, or use a new --out folder"
        )
    return not masked or "localisation" in read_json(run / "metrics.json")


def check_complete(out: Path, answers: Answers, found: Grouped) -> None:
    """Pooled scores are of every slice, once for each seed.

    Raises:
        TrainingError: a slice was answered twice, or never, or is not of the folder: the runs are of different folds.
    """
    paths = sorted(item.path for item in found.manifest.slices)
    for seed, rows in answers.table.groupby("seed"):
        if sorted(rows["path"]) != paths:
            raise TrainingError(
                f"{out}: the runs of seed {seed} hold {len(rows)} answers, and not one for each of the {len(paths)} "
                "slices in the table of folds: they are of different folds; use a new --out folder"
            )


def sum_up(out: Path, found: Grouped, folds: Sequence[int], seeds: int, recipe: TrainConfig) -> Crossval:
    """Collect the predictions of finished runs, add the baselines, and write the table."""
    columns = [f"p_{name}" for name in found.manifest.classes]
    runs = []
    for seed in range(seeds):
        for fold in folds:
            folder = out / f"fold{fold}-seed{seed}"
            metrics, run = read_json(folder / "metrics.json"), read_json(folder / "run.json")
            low, high = metrics["ci95"]["accuracy"] or (None, None)
            runs.append(
                {
                    "fold": fold, "seed": seed, "n": metrics["n"], "groups": metrics["n_groups"],
                    "accuracy": metrics["accuracy"], "low": low, "high": high,
                    "balanced_accuracy": metrics["balanced_accuracy"],
                    "three_tumour_classes": (metrics.get("three_tumour_classes") or {}).get("accuracy"),
                    "ece": metrics["ece"],
                    "points_at_lesion": (metrics.get("localisation") or {}).get("hit_rate"),
                    "with_twin_in_training": metrics["split"].get("with_twin_in_training"),
                    "turned_in_training": metrics["split"].get("turned_in_training"),
                    "leaks": metrics["split"]["leaks"],
                    "minutes": run["seconds"] / 60,
                }
            )  # fmt: skip
    answers = read_answers(out, [(row["fold"], row["seed"]) for row in runs])
    check_complete(out, answers, found)
    fitted = answers.cross_fitted()
    floors = pd.concat([baseline_table(found, fold, recipe, columns) for fold in folds])
    pooled = {
        OURS: score(answers.labels, fitted.probabilities, answers.classes, answers.groups),
        **pool(floors, found, columns),
    }
    facts, sure = localisation(answers.table), pooled_confidence(answers, fitted)
    table = pd.DataFrame(runs)
    summary = describe(table, pooled, facts, seeds) + describe_confidence(sure)
    with replacing(out / "predictions.csv.gz") as temporary:
        to_keep(answers.table, floors, columns).to_csv(temporary, **KEPT)
    with replacing(out / "runs.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
    write_json(
        out / "crossval.json",
        {"pooled": pooled, "localisation": facts, "confidence": sure, "runs": runs},
    )
    write_text(out / "crossval.md", summary)
    drawn = reliability(answers.labels, fitted.probabilities, before=softmax(answers.logits, axis=1))
    write_bytes(out / "reliability.png", to_png(drawn))
    return Crossval(out, table, pooled, summary)


def to_keep(answers: pd.DataFrame, floors: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The rows of `predictions.csv.gz`: the network's, then the baselines'.

    What the maps measured, 4 digits of it, stands in columns of its own where the runs had masks.
    """
    rows = pd.concat([answers.assign(learner=OURS), floors.assign(temperature=1.0)], ignore_index=True)
    of_maps = [name for name in (*COLUMNS, *ERASED) if name in rows and rows[name].notna().any()]
    rows = rows.assign(**{name: rows[name].astype(float).map("{:.4g}".format, na_action="ignore") for name in of_maps})
    return rows[["path", "fold", "seed", "learner", *columns, "temperature", *of_maps]]


def baseline_table(found: Grouped, fold: int, recipe: TrainConfig, columns: Sequence[str]) -> pd.DataFrame:
    """The floors' answers on one fold, fitted on all the others."""
    say(f"fold {fold}: the baselines that look for no lesion")
    parts = divide(found, "file", fold, recipe.validation_share, recipe.seed, allow_leak=True)
    answers = baseline_answers(found, [*parts.train, *parts.validation], parts.test, recipe)
    paths = [found.manifest.slices[row].path for row in parts.test]
    return pd.concat(
        [
            pd.DataFrame(probabilities, columns=list(columns)).assign(path=paths, fold=fold, seed=0, learner=name)
            for name, probabilities in answers.items()
        ]
    )


def pool(predictions: pd.DataFrame, found: Grouped, columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Metrics of each baseline over all folds."""
    slices = found.manifest.slices
    number = {item.path: label for item, label in zip(slices, found.manifest.labels, strict=True)}
    group = {item.path: name for item, name in zip(slices, found.groups, strict=True)}
    return {
        str(learner): score(
            rows["path"].map(number), rows[list(columns)].to_numpy(), found.manifest.classes, rows["path"].map(group)
        )
        for learner, rows in predictions.groupby("learner", sort=False)
    }


def localisation(predictions: pd.DataFrame) -> dict[str, Any] | None:
    """How the maps lie on the lesions, over all rightly named tumours that have a mask, with intervals over groups.

    Also what erasing the lesions does, where the runs measured it.
    """
    if "points_at_lesion" not in predictions:
        return None
    known = predictions[predictions["points_at_lesion"].notna()]
    if known.empty:
        return None
    table = known[list(COLUMNS)].astype(float).to_numpy()
    overlaps = [Overlap(**dict(zip(COLUMNS.values(), row, strict=True))) for row in table.tolist()]
    groups = known["group"].astype(str)
    measures = summarise(overlaps, groups.tolist())
    facts = {"hit_rate": measures["pointing"]["value"], "n": len(known), "measures": measures}
    facts["by_class"] = {
        str(label): summarise([overlaps[row] for row in rows], groups.iloc[rows].tolist())
        for label, rows in known.groupby("label").indices.items()
    }
    kinds = {name: kind for name, kind in ERASED.items() if name in known and known[name].notna().any()}
    if kinds:
        tried = known.dropna(subset=list(kinds))
        outcomes = {kind: tried[name].astype(float).to_numpy() for name, kind in kinds.items()}
        facts["erased"] = {"n": len(tried), **shares(outcomes, tried["group"].astype(str).tolist())}
    return facts


def describe(table: pd.DataFrame, pooled: dict[str, dict[str, Any]], facts: dict[str, Any] | None, seeds: int) -> str:
    """The table as Markdown."""
    lines = [
        "| learner | accuracy | balanced accuracy | three tumour classes | ECE |",
        "|---|---|---|---|---|",
    ]
    for name, metrics in pooled.items():
        three = metrics.get("three_tumour_classes")
        lines.append(
            f"| {name} | {with_interval(metrics, 'accuracy')} | {with_interval(metrics, 'balanced_accuracy')} | "
            f"{with_interval(three, 'accuracy') if three else '–'} | {metrics['ece']:.3f} |"
        )
    own = pooled[OURS]
    times = f"{seeds} seed{'s' if seeds > 1 else ''}"
    lines += [
        "",
        f"Pooled over {table['fold'].nunique()} folds and {times}: every slice is judged by models that met none of",
        f"its group; {own['n'] // seeds} slices, {own['n_groups']} patients or groups, 95 % intervals over these.",
        f"Over the {len(table)} runs: accuracy {table['accuracy'].mean():.3f}, standard deviation",
        f"{table['accuracy'].std():.3f} (a spread, not an interval).",
    ]
    if near := int(table["with_twin_in_training"].fillna(0).sum()):
        lines += ["", f"{near} of the answers are to slices that have a near copy in another fold."]
    if turned := int(table["turned_in_training"].fillna(0).sum()):
        lines += [
            "",
            f"**{turned} of the answers are to slices of which a copy lies upside down or turned in another fold: they",
            "flatter the scores.**",
        ]
    if leaking := sorted(set(table.loc[table["leaks"], "fold"])):
        lines = [f"**The folds leak ({', '.join(map(str, leaking))}): these scores are flattered.**", "", *lines]
    if facts:
        lines += ["", *map_table(facts)]
    names = ["fold", "seed", "test slices", "groups", "accuracy", "balanced accuracy", "three tumour classes", "ECE"]
    names += ["hottest pixel in the lesion", "minutes"]
    lines += ["", f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    lines += [run_line(row) for row in table.to_dict("records")]
    return "\n".join(lines) + "\n"


def map_table(facts: dict[str, Any]) -> list[str]:
    """How the maps lie on the lesions, pooled over the runs, as Markdown."""
    parts = {f"all {facts['n']} answers that name the tumour": facts["measures"], **facts["by_class"]}
    lines = [f"| maps | {' | '.join(MAP_COLUMNS.values())} |", "|" + "---|" * (len(MAP_COLUMNS) + 1)]
    lines += [
        f"| {name} | {' | '.join(measured(measures[key]) for key in MAP_COLUMNS)} |" for name, measures in parts.items()
    ]
    if erased := facts.get("erased"):
        words = {"any_tumour": "of any tumour", "own_class": "of its own class"}
        falls = " and ".join(f"{words[kind]} on {measured(erased[kind])}" for kind in words if kind in erased)
        text = "With the lesion erased, the probability falls more than with an equal area elsewhere:"
        lines += ["", f"{text} {falls} of {erased['n']} answers (by chance: 0.5)."]
    return lines


def run_line(row: dict[Any, Any]) -> str:
    """One run as a row of the table."""

    def number(key: str) -> str:
        return "–" if pd.isna(row[key]) else f"{row[key]:.3f}"

    interval = "" if pd.isna(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
    scores = " | ".join(map(number, ("balanced_accuracy", "three_tumour_classes", "ece", "points_at_lesion")))
    return (
        f"| {row['fold']} | {row['seed']} | {row['n']} | {row['groups']} | {number('accuracy')}{interval} | "
        f"{scores} | {row['minutes']:.1f} |"
    )
