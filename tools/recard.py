"""Calibrate the packaged model by kept out-of-fold answers, and judge it again: `make weights` ends with this.

    python tools/recard.py DATA --patients patients.csv --split protocol.csv --fold 0 --masks tumour-masks \\
        --refuse flagged-notumor.csv --kept benchmarks/results/crossval-small-2.csv.gz

A validation part of one training holds a few dozen patients: too few for a temperature and a threshold per class. The
kept answers of a cross-validation of the same recipe hold hundreds. Those on the test fold take no part, so that it
stays a test. Its `crossval.json`, beside the answers under the same name, gives the card the recipe's pooled scores. It
is what `braincam export --crossval FOLDER --covering patients` does, for those who have the answers and not the runs.

The references of the outlier score and its threshold are worked out again as well, from the slices that the model was
trained on, so that a better score needs no training. Weights are not touched.

    python tools/recard.py DATA --patients patients.csv --split protocol.csv --fold 0 --refuse flagged.csv --leak

counts again what the test shares with training, as a better search for copies finds it, and changes nothing else.

    python tools/recard.py DATA --patients patients.csv --split protocol.csv --fold 0 --masks tumour-masks \
        --refuse flagged.csv --kept benchmarks/results/crossval-small-2.csv.gz --scores

measures the scores again, and takes the pooled ones from `crossval.json`; no answer changes.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from _kept import name_of, read_kept, read_truth  # noqa: E402
from braincam.evaluation.crossfit import Covering  # noqa: E402
from braincam.evaluation.metrics import OURS  # noqa: E402
from braincam.files import read_json  # noqa: E402
from braincam.model_file.card import Card  # noqa: E402
from braincam.model_file.export import export_onnx, load_model, replace_card, save_model  # noqa: E402
from braincam.network.exportable import Deployed  # noqa: E402
from braincam.pipeline.calibrate import calibrate  # noqa: E402
from braincam.pipeline.evaluate import evaluate  # noqa: E402
from braincam.pipeline.export import recipe_scores  # noqa: E402
from braincam.pipeline.facts import UNSAID, asides, headline_scores, seen_slices  # noqa: E402
from braincam.pipeline.out_of_fold import source_of  # noqa: E402
from braincam.pipeline.prepare import Grouped, grouped, set_aside  # noqa: E402
from braincam.pipeline.train import Material, gather  # noqa: E402
from braincam.training.config import from_mapping  # noqa: E402

COVERING: Covering = "patients"  # what the packaged model's prediction sets promise to hold the truth of
MODEL = ROOT / "src" / "braincam" / "models" / "default.onnx"


def main() -> None:
    """Set, judge, write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    for name in ("--patients", "--split", "--refuse"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--masks", "--kept"):
        parser.add_argument(name, type=Path, help="not needed with --leak")
    parser.add_argument("--leak", action="store_true", help="only count the leak of the split again")
    parser.add_argument("--scores", action="store_true", help="only measure the scores again")
    parser.add_argument("--fold", type=int, required=True, help="the test of the packaged model")
    parser.add_argument("--model", type=Path, default=MODEL, help="the ONNX file; its trainable twin lies beside it")
    options = parser.parse_args()
    if not options.leak and not (options.masks and options.kept):
        parser.error("give --masks and --kept, or --leak")
    deployed, card = load_model(options.model.with_suffix(".safetensors"))
    found = set_aside(grouped(options.data, options.patients, options.split), None, options.refuse)
    material = material_of(card, found, options.fold)
    card = replace(card, training={**card.training, "split": material.parts.describe()})
    if options.leak:
        replace_card(options.model, card)
        save_model(options.model.with_suffix(".safetensors"), deployed, card)
        print(f"{options.model}: {card.training['split']['verdict']}")
        return
    if options.scores:
        card = replace(card, extra={**card.extra, "recipe_pooled": pooled_scores(options.kept)})
        replace_card(options.model, card)
    else:
        deployed, card = referenced(deployed, card, material)
        card = calibrated(card, options.kept, options.split, options.fold)
        deployed.temperature = card.temperature
        write(options.model, deployed, card)
    metrics = evaluate(
        options.data,
        options.model,
        patients=options.patients,
        split=options.split,
        fold=options.fold,
        masks=options.masks,
    ).metrics
    card = replace(card, scores=headline_scores(metrics))
    replace_card(options.model, card)
    save_model(options.model.with_suffix(".safetensors"), deployed, card)
    print(f"{options.model}: temperature {card.temperature:.3f}")
    print(f"thresholds {', '.join(f'{value:.3f}' for value in card.conformal_thresholds)}")
    print(f"fold {options.fold}: {metrics['status']}")


def material_of(card: Card, found: Grouped, test: int) -> Material:
    """The slices that the model was trained on; others than those end the program."""
    material = gather(found, card.training["split"]["kind"], test, from_mapping(card.recipe), None, allow_leak=False)
    apart = any(card.training.get(key, UNSAID.get(key)) != value for key, value in asides(found).items())
    if apart or seen_slices(found, material.parts) != card.seen_slices:
        sys.exit(f"{found.manifest.root}: expected the slices that {card.name} was trained on; repeat its --refuse too")
    return material


def referenced(deployed: Deployed, card: Card, material: Material) -> tuple[Deployed, Card]:
    """The model with the references and the threshold of its outlier score worked out again from its own slices."""
    made, fields = calibrate(deployed.network, deployed.preprocess, *material.examples())
    return made, replace(card, **{key: value for key, value in fields.items() if key.startswith("outlier_")})


def calibrated(card: Card, kept: Path, split: Path, test: int) -> Card:
    """The card with what the kept answers on all folds but the test ask for, where they are from, and pooled scores."""
    answers = read_kept(kept, read_truth(split))[OURS]
    rows = answers.of_folds(sorted(set(answers.table["fold"]) - {test}))
    if tuple(rows.classes) != card.classes:
        sys.exit(f"{kept}: expected the classes {', '.join(card.classes)}, got {', '.join(rows.classes)}")
    found = rows.decisions(COVERING)
    source = {**source_of(rows.table), "test_apart": True, "covering": COVERING}
    return replace(
        card,
        temperature=found.temperature,
        conformal_thresholds=found.conformal_thresholds,
        extra={**card.extra, "recipe_pooled": pooled_scores(kept), "calibrated_by": source},
    )


def pooled_scores(kept: Path) -> dict[str, Any]:
    """What the cross-validation of the kept answers said of the recipe, from the file beside them."""
    return recipe_scores(read_json(kept.with_name(name_of(kept) + ".json")), COVERING)


def write(model: Path, deployed: Deployed, card: Card) -> None:
    """Both files with this card."""
    export_onnx(model, deployed, card)
    save_model(model.with_suffix(".safetensors"), deployed, card)


if __name__ == "__main__":
    main()
