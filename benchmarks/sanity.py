"""Are the maps the network's own, and does its score follow them? Tables in Markdown, on one fold.

    python benchmarks/sanity.py maps DATA --split protocol.csv --fold 0 [--model RUN] [--others MODEL...] [--slices 60]
    python benchmarks/sanity.py shuffle DATA --split protocol.csv --out SHUFFLED

`maps` needs the trainable twin (`model.safetensors`) beside the model. `--others` are models whose maps are compared
with these, class by class: one trained on shuffled labels must agree with them no more than chance, a second seed
should.
`shuffle` copies a folder with the labels exchanged between groups, and its table of folds, for such a training:
`braincam train SHUFFLED --split SHUFFLED/folds.csv --fold 0 --out shuffled`.

Slices are drawn evenly over classes, with a fixed seed. Intervals are 95 %, over patients or groups.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from _head import over_the_head, strangers
from braincam import Predictor
from braincam.dataset.draw import evenly
from braincam.dataset.fingerprints import read_one_slice
from braincam.dataset.manifest import Manifest, read_folder
from braincam.dataset.split import read_split, write_split
from braincam.evaluation.metrics import no_tumour_class
from braincam.explain.faithfulness import (
    MOVES,
    area_under,
    deletion,
    follows,
    insertion,
    moved,
    outside,
    road,
    tumour_evidence,
)
from braincam.explain.head import head_mask
from braincam.explain.localisation import centre_map, random_map
from braincam.explain.randomise import cascade
from braincam.model_file.export import load_model
from braincam.predict import Answer
from braincam.progress import say, track
from braincam.resampling import means, measured

Pixels = NDArray[np.uint8]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True, dest="verb")
    for name in ("maps", "shuffle"):
        verb = verbs.add_parser(name)
        verb.add_argument("data", type=Path)
        verb.add_argument("--split", type=Path, required=True)
    verbs.choices["maps"].add_argument("--fold", type=int, default=0)
    verbs.choices["maps"].add_argument("--model")
    verbs.choices["maps"].add_argument("--others", nargs="*", default=[])
    verbs.choices["maps"].add_argument(
        "--slices", type=int, default=60, help="for the costly curves; else ten times that"
    )
    verbs.choices["shuffle"].add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    manifest, groups, folds = read_split(options.split, read_folder(options.data))
    if options.verb == "shuffle":
        shuffle(manifest, groups, folds, options.out)
    else:
        maps(manifest, groups, folds, options)


def shuffle(manifest: Manifest, groups: Sequence[str], folds: Sequence[int], out: Path) -> None:
    """Copy every slice into the folder of another group's label."""
    names = sorted(set(groups))
    first = {name: item.label for name, item in zip(reversed(groups), reversed(manifest.slices), strict=True)}
    order = np.random.default_rng(0).permutation(len(names))
    label = {name: first[names[k]] for name, k in zip(names, order.tolist(), strict=True)}
    slices = []
    for row, (item, name) in enumerate(zip(manifest.slices, groups, strict=True)):
        target = f"{label[name]}/{row:06d}{Path(item.path).suffix}"
        (out / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(manifest.file(row), out / target)
        slices.append(type(item)(target, label[name], "", item.patient))
    changed = Manifest(out, manifest.classes, tuple(slices), ())
    write_split(out / "folds.csv", changed, groups, folds)
    kept = np.mean([new.label == old.label for new, old in zip(slices, manifest.slices, strict=True)])
    print(f"{out}: {len(slices)} slices, {kept:.0%} of them with their own label by chance")


def maps(manifest: Manifest, groups: Sequence[str], folds: Sequence[int], options: argparse.Namespace) -> None:
    """Print every table."""
    predictor = Predictor(options.model)
    classes = predictor.card.classes
    random = np.random.default_rng(0)
    of_fold = [row for row, fold in enumerate(folds) if fold == options.fold]
    rows = random.permutation(evenly(manifest, of_fold, 10 * options.slices, random)).tolist()
    slices = [read_one_slice(manifest.file(row)) for row in track(rows, "reading")]
    names = [groups[row] for row in rows]
    truth = np.array([classes.index(manifest.slices[row].label) for row in rows])
    answers = predictor.answer_all(slices)
    print(f"{predictor.card.name}, fold {options.fold}: {len(rows)} slices of {len(set(names))} patients or groups\n")
    destroyed(predictor, slices, answers, names)
    for other in options.others:
        agreement(predictor, other, slices, answers, names)
    if (none := no_tumour_class(classes)) is not None:
        emptiness(answers, truth, none)
    placed(slices, answers, names)
    movements(predictor, slices[:: max(1, len(slices) // 200)], names[:: max(1, len(slices) // 200)])
    few = list(range(0, len(slices), max(1, len(slices) // options.slices)))
    curves(predictor, [slices[k] for k in few], own_maps(answers)[few], answers, few, names)


def own_maps(answers: Answer) -> NDArray[np.float32]:
    """The map of the class answered: (N, h, w)."""
    assert answers.cam is not None
    return answers.cam[np.arange(len(answers.cam)), answers.probabilities.argmax(1)]


def mean(values: Sequence[float] | NDArray[np.floating], names: Sequence[str]) -> str:
    """Mean with its interval over groups; undefined without values."""
    return measured(means(np.asarray(values)[:, None], names[: len(values)], shares=False)[0])


def destroyed(predictor: Predictor, slices: list[Pixels], answers: Answer, names: Sequence[str]) -> None:
    """Cascading randomisation of the weights; each slice with a shuffle of its own, since one may be any."""
    twin = predictor.file.path.with_suffix(".safetensors")
    if not twin.is_file():
        say(f"{twin}: not there; the randomisation of weights is left out")
        return
    model, _ = load_model(twin)
    trained, answered = model.network, answers.probabilities.argmax(1)
    ranks: dict[str, list[float]] = {}
    for row, (pixels, own) in enumerate(zip(track(slices, "shuffling"), own_maps(answers), strict=True)):
        for name, model.network in cascade(trained, seed=row):
            with torch.inference_mode():
                after = model(torch.from_numpy(pixels)[None]).cam[0, answered[row]].numpy()
            ranks.setdefault(name, []).append(over_the_head(own, after, pixels))
    print("| shuffled, from the output down to | rank correlation with the trained map, over the head | its size |")
    print("|---|---|---|")
    for name, values in ranks.items():
        print(f"| {name} | {mean(values, names)} | {mean(np.abs(values), names)} |")
    floor = strangers(own_maps(answers), slices, names)
    print(f"| nothing; the map of another slice | {mean(floor, names)} | {mean(np.abs(floor), names)} |\n")


def agreement(predictor: Predictor, other: str, slices: list[Pixels], answers: Answer, names: Sequence[str]) -> None:
    """Rank correlation with another model's maps of the same classes, over the head."""
    second = Predictor(other)
    theirs = second.answer_all(slices).cam
    assert theirs is not None
    order = [second.card.classes.index(name) for name in predictor.card.classes]
    chosen = theirs[np.arange(len(theirs)), np.array(order)[answers.probabilities.argmax(1)]]
    values = [
        over_the_head(own, their, pixels) for pixels, own, their in zip(slices, own_maps(answers), chosen, strict=True)
    ]
    print(
        f"Rank correlation with the maps of {second.card.name}, over the head: {mean(values, names)}; "
        f"its size {mean(np.abs(values), names)}\n"
    )


def emptiness(answers: Answer, truth: NDArray[np.int64], none: int) -> None:
    """Evidence for a tumour in slices without one, beside that in tumour slices."""
    assert answers.cam is not None
    evidence = [tumour_evidence(c, p, none) for c, p in zip(answers.cam, answers.probabilities.tolist(), strict=True)]
    empty = truth == none
    print("| evidence for a tumour over none | median, notumor | median, tumours | notumor : tumours | AUROC |")
    print("|---|---|---|---|---|")
    for name, values in (
        ("hottest pixel", np.array([heat.max() for heat in evidence])),
        ("mean over the picture", np.array([heat.mean() for heat in evidence])),
    ):
        without, with_tumour = np.median(values[empty]), np.median(values[~empty])
        area = roc_auc_score(~empty, values)
        print(f"| {name} | {without:.3f} | {with_tumour:.3f} | {without / with_tumour:.3f} | {area:.3f} |")
    print()


def placed(slices: list[Pixels], answers: Answer, names: Sequence[str]) -> None:
    """Evidence outside the head, beside the area there."""
    heads = [head_mask(pixels) for pixels in slices]
    shares = [outside(heat, head) for heat, head in zip(own_maps(answers), heads, strict=True)]
    print(f"Positive evidence outside the head: {mean(shares, names)} of it; that area is ", end="")
    print(f"{mean([1 - head.mean() for head in heads], names)} of the picture\n")


def movements(predictor: Predictor, slices: list[Pixels], names: Sequence[str]) -> None:
    """Do the maps move with the picture?"""
    answers = predictor.answer_all(slices)
    best = answers.probabilities.argmax(1)
    before = own_maps(answers)
    print("| move | rank correlation with the moved map | hottest pixels within 5 % of the side | label kept |")
    print("|---|---|---|---|")
    for name, move in MOVES.items():
        after = predictor.answer_all([moved(pixels, move) for pixels in slices])
        assert after.cam is not None
        maps_after = after.cam[np.arange(len(slices)), best]
        found = [
            follows(a, b, move, head_mask(pixels)) for a, b, pixels in zip(before, maps_after, slices, strict=True)
        ]
        near = mean([float(apart <= 0.05) for _, apart in found], names)
        kept = mean((after.probabilities.argmax(1) == best).astype(float), names)
        print(f"| {name} | {mean([rank for rank, _ in found], names)} | {near} | {kept} |", flush=True)
    print()


def curves(
    predictor: Predictor,
    slices: list[Pixels],
    own: NDArray[np.float32],
    answers: Answer,
    rows: Sequence[int],
    names: Sequence[str],
) -> None:
    """Insertion, deletion and ROAD, against random and centre maps."""
    random = np.random.default_rng(0)
    values: dict[str, list[tuple[float, float, float]]] = {"this model": [], "random": [], "centre": []}
    for pixels, heat, row in track(list(zip(slices, own, rows, strict=True)), "removing pixels", unit="slices"):
        label = int(answers.probabilities[row].argmax())

        def score(pictures: list[Pixels], label: int = label) -> NDArray[np.floating]:
            return predictor.answer_all(pictures, cam=False).probabilities[:, label]

        shape = (heat.shape[0], heat.shape[1])
        for name, candidate in (
            ("this model", heat),
            ("random", random_map(shape, random)),
            ("centre", centre_map(shape)),
        ):
            hottest, coldest = road(pixels, candidate, score, random)
            values[name].append(
                (
                    area_under(insertion(pixels, candidate, score)),
                    area_under(deletion(pixels, candidate, score)),
                    float((coldest - hottest).mean()),
                )
            )
    few = [names[row] for row in rows]
    print(f"{len(rows)} slices; probability of the class answered\n")
    print("| map | insertion (high is good) | deletion (low is good) | ROAD gap (high is good) |\n|---|---|---|---|")
    for name, found in values.items():
        print(f"| {name} | {' | '.join(mean([row[k] for row in found], few) for k in range(3))} |")
    for name in ("random", "centre"):
        gaps = [np.subtract(a, b) for a, b in zip(values["this model"], values[name], strict=True)]
        print(f"| this model minus {name} | {' | '.join(mean([gap[k] for gap in gaps], few) for k in range(3))} |")


if __name__ == "__main__":
    main()
