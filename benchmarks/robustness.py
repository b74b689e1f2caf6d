"""Fifteen corruptions at five strengths: accuracy, calibration, refusal, beside a second model. Markdown, a picture.

    python benchmarks/robustness.py DATA --split protocol.csv --fold 0 [--model M] [--peer M2] [--slices N] [--out DIR]
    python benchmarks/robustness.py --sheet FILE.png

Slices are drawn evenly over classes from the fold, with a fixed seed, and every corruption is drawn once per slice and
strength. The last column is the mean error of the model over that of the peer, as in ImageNet-C (arXiv:1903.12261);
below 1 is better. `--out` also keeps `robustness.json` and `robustness.png`. `--sheet` draws every corruption on a
synthetic slice.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from braincam import Predictor
from braincam.dataset.draw import evenly
from braincam.dataset.fingerprints import read_one_slice
from braincam.dataset.manifest import read_folder
from braincam.dataset.phantom import write_phantom
from braincam.dataset.split import read_split
from braincam.evaluation.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from braincam.evaluation.robustness import bear, spoilt
from braincam.files import write_bytes, write_json
from braincam.images.reader import read_slices
from braincam.progress import track
from braincam.report.figures import to_png
from braincam.resampling import ratios

Pixels = NDArray[np.uint8]


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--split", type=Path)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--model")
    parser.add_argument("--peer")
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    if options.sheet:
        contact_sheet(options.sheet)
        return
    if options.data is None or options.split is None:
        parser.error("DATA and --split are needed")
    manifest, groups, folds = read_split(options.split, read_folder(options.data))
    of_fold = [row for row, fold in enumerate(folds) if fold == options.fold]
    rows = evenly(manifest, of_fold, options.slices, np.random.default_rng(0))
    slices = [read_one_slice(manifest.file(row)) for row in rows]
    names = [groups[row] for row in rows]
    models = {"model": Predictor(options.model)} | ({"peer": Predictor(options.peer)} if options.peer else {})
    classes = models["model"].card.classes
    truth = np.array([classes.index(manifest.slices[row].label) for row in rows])
    found = {"clean": [measure(models, slices, truth)]}
    for name in track(CORRUPTIONS, "corrupting"):
        found[name] = [measure(models, spoilt(slices, name, strength), truth) for strength in STRENGTHS]
    print(f"{models['model'].card.name}, fold {options.fold}: {len(rows)} slices of {len(set(names))} groups\n")
    for line in table(found, names, bool(options.peer)):
        print(line)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        plain = {k: [{m: w for m, w in v.items() if m != "right"} for v in values] for k, values in found.items()}
        write_json(options.out / "robustness.json", plain)
        write_bytes(options.out / "robustness.png", to_png(curves(found, bool(options.peer))))


def measure(models: dict[str, Predictor], slices: list[Pixels], truth: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy and calibration of each model, and what it would have answered."""
    one: dict[str, Any] = {"right": {}}
    for name, model in models.items():
        borne = bear(model, slices, truth)
        one["right"][name] = borne.right
        one |= {f"{key}_{name}": value for key, value in borne.facts().items()}
    return one


def table(found: dict[str, list[dict[str, Any]]], names: list[str], peer: bool) -> list[str]:
    """One row per corruption, means over the strengths, and the mean of all."""
    heads = ["corruption", "accuracy 1 … 5", "mean", "ECE", "rejected", "answered", "right when answered"]
    heads += ["peer's accuracy", "error / peer's"] if peer else []
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, values in found.items():
        marked = " (in training)" if name in CORRUPTIONS and CORRUPTIONS[name].in_training else ""
        lines.append(row(name + marked, values, peer))
    everything = [value for name, values in found.items() if name != "clean" for value in values]
    lines.append(row("mean of all", everything, peer, steps=False))
    if peer:
        errors = [np.mean([~value["right"][who] for value in everything], axis=0) for who in ("model", "peer")]
        share = ratios(errors[0][:, None], errors[1][:, None], names, shares=False)[0]
        low, high = share["ci95"]
        lines += ["", f"Errors over all corruptions relative to the peer: {share['value']:.3f} [{low:.3f}, {high:.3f}]"]
    return lines


def row(name: str, values: list[dict[str, Any]], peer: bool, *, steps: bool = True) -> str:
    """Means over strengths as one line."""

    def mean(key: str) -> float:
        return float(np.mean([value[key] for value in values if value[key] is not None]))

    cells = [
        name,
        " ".join(f"{v['accuracy_model']:.3f}" for v in values) if steps else "",
        f"{mean('accuracy_model'):.3f}",
    ]
    cells += [f"{mean(f'{key}_model'):.3f}" for key in ("ece", "rejected", "answered", "right_when_answered")]
    if peer:
        errors = 1 - mean("accuracy_model"), 1 - mean("accuracy_peer")
        cells += [f"{mean('accuracy_peer'):.3f}", f"{errors[0] / errors[1]:.2f}" if errors[1] else "–"]
    return "| " + " | ".join(cells) + " |"


def curves(found: dict[str, list[dict[str, Any]]], peer: bool) -> Figure:
    """Accuracy over strength for every corruption."""
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    panels = figure.subplots(3, 5, sharex=True, sharey=True).ravel()
    clean = found["clean"][0]
    for panel, name in zip(panels, CORRUPTIONS, strict=True):
        for who, colour in (("model", "#b4305c"), ("peer", "#7a8494")):
            if who == "model" or peer:
                heights = [clean[f"accuracy_{who}"], *(value[f"accuracy_{who}"] for value in found[name])]
                panel.plot([0, *STRENGTHS], heights, "o-", ms=3.5, lw=1.5, color=colour, label=who)
        panel.set_title(name + (" *" if CORRUPTIONS[name].in_training else ""), fontsize=10)
        panel.grid(alpha=0.25)
        panel.set_ylim(0.2, 1)
    panels[0].legend(fontsize=8, loc="lower left")
    figure.supxlabel("strength (0: as it is; * like something in the training augmentation)", fontsize=10)
    figure.supylabel("accuracy", fontsize=10)
    return figure


def contact_sheet(out: Path) -> None:
    """A synthetic slice as it is, and every corruption of it at strengths 1, 3 and 5, which stand in the corners."""
    with tempfile.TemporaryDirectory() as folder:
        write_phantom(Path(folder), patients=4, slices_per_patient=1, seed=0)
        pixels = read_slices(min(Path(folder, "data").glob("meningioma/*.png")))[0].pixels
    columns = {"as it is": {"": pixels}} | {
        name: {str(strength): corrupt(pixels, name, strength, np.random.default_rng(1)) for strength in (1, 3, 5)}
        for name in CORRUPTIONS
    }
    side, gap, head, across = 150, 6, 26, 8
    tall = head + 3 * (side + gap)
    sheet = Image.new("RGB", (across * (side + gap) + gap, -(-len(columns) // across) * tall), "#101418")
    draw = ImageDraw.Draw(sheet)
    for k, (name, pictures) in enumerate(columns.items()):
        left, top = gap + k % across * (side + gap), k // across * tall
        draw.text((left + 2, top + 7), name, fill="#e6eaf0")
        for n, (strength, picture) in enumerate(pictures.items()):
            place = (left, top + head + n * (side + gap))
            sheet.paste(Image.fromarray(picture).resize((side, side)).convert("RGB"), place)
            draw.text((left + 6, place[1] + 4), strength, fill="#e6eaf0")
    sheet.quantize(64).save(out, optimize=True)


if __name__ == "__main__":
    main()
