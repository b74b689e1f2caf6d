"""Set the packaged model's thresholds on kept out-of-fold answers, and judge it again: `make weights` ends with this.

    python tools/recard.py DATA --patients patients.csv --split protocol.csv --fold 0 --masks tumour-masks \\
        --kept benchmarks/results/crossval-0.1.0.csv.gz

A validation part of one training holds a few dozen patients, which is too few for a threshold per class. The kept
answers of a cross-validation of the same recipe hold hundreds. Those on the test fold take no part, so that it stays a
test. The temperature stays the file's own: over the fifteen kept runs, one from the other folds changed the calibration
error of a single run from 0.031 to 0.030 only (`benchmarks/calibration.py`, last column), and the answers were kept
after each run's own. Weights and graph are not touched.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import onnx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from _kept import read_kept, read_truth  # noqa: E402
from braincam.evaluation.calibration import conformal_thresholds  # noqa: E402
from braincam.evaluation.metrics import OURS  # noqa: E402
from braincam.files import write_bytes  # noqa: E402
from braincam.model_file.card import Card  # noqa: E402
from braincam.model_file.export import load_model, save_model, with_card  # noqa: E402
from braincam.network.exportable import Deployed  # noqa: E402
from braincam.pipeline.evaluate import evaluate  # noqa: E402
from braincam.pipeline.facts import headline_scores  # noqa: E402
from braincam.predict import Predictor  # noqa: E402

MODEL = ROOT / "src" / "braincam" / "models" / "default.onnx"


def main() -> None:
    """Set, judge, write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    for name in ("--patients", "--split", "--masks", "--kept"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--fold", type=int, required=True, help="the test of the packaged model")
    parser.add_argument("--model", type=Path, default=MODEL, help="the ONNX file; its trainable twin lies beside it")
    options = parser.parse_args()
    deployed, _ = load_model(options.model.with_suffix(".safetensors"))
    card = with_thresholds(Predictor(options.model).card, options.kept, options.split, options.fold)
    write(options.model, deployed, card)
    metrics = evaluate(
        options.data,
        options.model,
        patients=options.patients,
        split=options.split,
        fold=options.fold,
        masks=options.masks,
    ).metrics
    write(options.model, deployed, replace(card, scores=headline_scores(metrics)))
    print(f"{options.model}: thresholds {', '.join(f'{value:.3f}' for value in card.conformal_thresholds)}")
    print(f"fold {options.fold}: {metrics['status']}")


def with_thresholds(card: Card, kept: Path, split: Path, test: int) -> Card:
    """The card with a threshold per class from the kept answers on all folds but the test, and where they are from."""
    answers = read_kept(kept, read_truth(split))[OURS]
    rows = answers.of_folds(sorted(set(answers.table["fold"]) - {test}))
    if tuple(rows.classes) != card.classes:
        sys.exit(f"{kept}: expected the classes {', '.join(card.classes)}, got {', '.join(rows.classes)}")
    thresholds = conformal_thresholds(
        rows.probabilities(), rows.table["label"], card.conformal_coverage, rows.table["path"].tolist()
    )
    source = {
        "folds": sorted(int(fold) for fold in set(rows.table["fold"])),
        "seeds": int(rows.table["seed"].nunique()),
        "slices": int(rows.table["path"].nunique()),
        "groups": int(rows.table["group"].nunique()),
    }
    return replace(
        card, conformal_thresholds=tuple(thresholds.tolist()), extra={**card.extra, "thresholds_from": source}
    )


def write(model: Path, deployed: Deployed, card: Card) -> None:
    """The card into the ONNX file and its twin; the graph stays as it is, byte for byte."""
    graph = onnx.load(model)
    del graph.metadata_props[:]
    write_bytes(model, with_card(graph, card))
    save_model(model.with_suffix(".safetensors"), deployed, card)


if __name__ == "__main__":
    main()
