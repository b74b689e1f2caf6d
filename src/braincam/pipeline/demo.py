"""The whole main job on labelled synthetic scans: no data, no network, no GPU, one to two minutes on two cores."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from braincam.dataset.phantom import CLASSES, write_phantom
from braincam.dataset.phantom_volume import write_volumes
from braincam.errors import DataError
from braincam.explain.save import with_overlays
from braincam.files import write_text
from braincam.pipeline.audit import audit
from braincam.pipeline.evaluate import read_predictions
from braincam.pipeline.prepare import split
from braincam.pipeline.study import with_studies
from braincam.pipeline.train import train
from braincam.predict import Predictor
from braincam.study import Study
from braincam.training.config import read_config, shipped

PATIENTS = 160
OVERLAYS_PER_CLASS = 3
VOLUME = "meningioma"  # the class of the volume that is answered


def run_demo(out: Path, *, patients: int = PATIENTS, overrides: tuple[str, ...] = ()) -> int:
    """Make scans, split, train, judge, explain and predict; prints where everything is and returns the exit code 0.

    Raises:
        DataError: the folder holds a demo already, or anything else.
    """
    started = time.perf_counter()
    if (out / "scans").exists() and (out / "folds.csv").exists() and (out / "run").exists():
        raise DataError(f"{out}: holds a demo already; remove it or choose another --out")
    if out.exists() and (there := sorted(entry.name for entry in out.iterdir())):
        raise DataError(f"{out}: expected a new or an empty folder, got one with {there[0]}; choose another --out")
    scans = out / "scans"
    print("1/5  synthetic scans: four classes, several slices per patient, with lesion masks")
    count = write_phantom(scans, patients=patients)
    data, table, masks = scans / "data", scans / "patients.csv", scans / "masks"
    print(f"     {count} slices of {patients} patients\n2/5  an audit: copies, leaks, conflicts, shortcuts")
    complaints = audit(data, table, out=out / "audit").complaints
    print(f"     {complaints or 'nothing'} to complain about\n3/5  a split that no patient and no copy straddles")
    facts = split(data, out / "folds.csv", table)
    print(f"     {facts['groups']} groups in five folds\n4/5  training, and judging on patients held out")
    recipe = read_config(shipped("demo"), overrides)
    trained = train(
        data,
        out / "run",
        patients=table,
        split=out / "folds.csv",
        fold=0,
        config=recipe,
        masks=masks,
        name="demo",
    )
    print("5/5  answers with heat maps for some of the held-out scans, and for a volume")
    written = overlays(trained.folder, data, out / "overlays")
    statement = study(trained.folder, write_volumes(scans)[CLASSES.index(VOLUME)], out / "study")
    lines = [
        "",
        *score_lines(trained.metrics),
        "",
        f"audit     {out / 'audit' / 'audit.html'}",
        f"report    {trained.folder / 'report.html'}",
        f"curves    {trained.folder / 'curves.png'}",
        f"model     {trained.folder / 'model.onnx'}",
        f"overlays  {out / 'overlays'}  ({written} pictures)",
        f"study     {out / 'study' / 'study.html'}  (a drawn {VOLUME}: {statement})",
        "",
        f"next      braincam predict {data / 'glioma'} --model {trained.folder}",
        f"took {time.perf_counter() - started:.0f} s",
        "The scans are synthetic: these scores say that the tool works, nothing about patients.",
    ]
    print("\n".join(lines))
    write_text(out / "summary.txt", "\n".join(lines).strip() + "\n")
    return 0


def score_lines(metrics: dict[str, Any]) -> list[str]:
    """The two figures that say whether the demo worked."""
    low, high = metrics["ci95"]["balanced_accuracy"]
    patients = f"over {metrics['n_groups']} held-out patients"
    lines = [f"balanced accuracy  {metrics['balanced_accuracy']:.3f}  [{low:.3f}, {high:.3f}] {patients}"]
    if game := metrics["localisation"]:
        lines.append(
            f"hottest pixel      inside the lesion for {game['hit_rate']:.0%} of {game['n']} rightly named tumours"
        )
    return lines


def overlays(run: Path, data: Path, out: Path) -> int:
    """Write overlay pictures for a few test slices of each class; returns how many."""
    table = read_predictions(run / "predictions.csv")
    chosen = table.groupby("label").head(OVERLAYS_PER_CLASS)
    answers = Predictor(run / "model.onnx").stream([data / path for path in chosen["path"]])
    return sum(answer.overlay is not None for answer in with_overlays(answers, out))


def study(run: Path, volume: Path, out: Path) -> str:
    """Answer one volume as `braincam predict VOLUME --out` does; returns what is said of it."""
    predictor, found = Predictor(run / "model.onnx"), list[Study]()
    for _ in with_studies(with_overlays(predictor.stream([volume]), out), predictor.card, out, found):
        pass
    return found[0].statement
