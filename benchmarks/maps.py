"""The built-in map against other kinds of map: how well they point at lesions, whose they are, and what they cost.

    python benchmarks/maps.py DATA --split protocol.csv --fold 0 --masks MASKS [--model RUN] [--out out/maps]

Rightly named tumours of one fold that have a mask, drawn evenly from the classes with a fixed seed. Kinds that take
many forward passes per slice see the first `--costly` of them, the destroyed networks the first `--destroyed`. Needs
the trainable twin (`model.safetensors`) beside the model, and the extra `bench`.

All kinds are worked out in PyTorch on one thread, in turns, slice by slice; the cost is processor time, everything
included that the map needs, beside a whole answer of the exported model with its map. Written: `maps.md`, and
`maps.png`, which shows slices of DATA: where these must not be published, neither must the picture.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from _head import over_the_head, strangers
from braincam import Predictor
from braincam.dataset.draw import evenly
from braincam.dataset.fingerprints import read_one_slice
from braincam.dataset.manifest import Manifest, read_folder
from braincam.dataset.split import read_split
from braincam.explain.cam import over_the_slice, torchcam_map
from braincam.explain.localisation import Overlap, centre_map, compare, mask_file, random_map, read_mask, summarise
from braincam.explain.overlay import resize_map
from braincam.explain.randomise import cascade, without_readouts
from braincam.files import write_text
from braincam.model_file.export import load_model
from braincam.network.attention import SpatialAttention
from braincam.network.attention_cnn import AttentionCNN
from braincam.network.exportable import Deployed
from braincam.network.framing import lay_back
from braincam.progress import say, track
from braincam.report.figures import to_png
from braincam.resampling import means, measured

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]
Maker = Callable[[Deployed, Pixels, int], Map]  # model, slice (H, W), class → map (h, w) over the whole slice

OWN = "built in"
WINDOW, STRIDE = 8, 16  # of occlusion: parts of the side


@dataclass(frozen=True, eq=False)
class Case:
    """One tumour that the model names rightly."""

    path: str
    pixels: Pixels
    mask: NDArray[np.bool_]
    label: int
    group: str


@dataclass(eq=False)
class Found:
    """What one kind of map reached, slice by slice."""

    overlaps: list[Overlap] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    maps: list[Map] = field(default_factory=list)


# -- the kinds ---------------------------------------------------------------------------------------------------------


def built_in(model: Deployed, pixels: Pixels, label: int) -> Map:
    """The exact map, from a whole answer of the model."""
    with torch.inference_mode():
        return np.asarray(model(torch.from_numpy(pixels)[None]).cam[0, label].numpy())


def by_torchcam(method: str, stage: int) -> Maker:
    """One of torchcam's methods at one of the network's stages; -1 is the last."""

    def make(model: Deployed, pixels: Pixels, label: int) -> Map:
        return torchcam_map(model, pixels, label, method, None if stage == -1 else stage_of(model, stage))

    return make


def stage_of(model: Deployed, stage: int) -> nn.Module:
    """A stage of the network by its number."""
    stages = model.network.get_submodule("stages")
    assert isinstance(stages, nn.ModuleList)
    return stages[stage]


def occlusion(model: Deployed, pixels: Pixels, label: int) -> Map:
    """How far the logit falls when a window is set to the mean grey value, averaged over the windows that hold a pixel.

    Zeiler and Fergus 2014, arXiv:1311.2901. Windows of an eighth of the side, half a window apart.
    """
    with torch.inference_mode():
        scaled, frames = model.preprocess.scale(torch.from_numpy(pixels)[None])
        inputs = model.preprocess.standardise(scaled)  # its mean grey value is 0
        side = inputs.shape[-1]
        places = range(0, side - side // WINDOW + 1, max(1, side // STRIDE))
        corners = [(top, left) for top in places for left in places]
        drops, cells = torch.zeros(side, side), torch.zeros(side, side)
        before = model.network(inputs)[0, label]
        for part in torch.arange(len(corners)).split(32):
            batch = inputs.repeat(len(part), 1, 1, 1)
            for row, number in enumerate(part.tolist()):
                batch[row][window(corners[number], side)] = 0
            for number, after in zip(part.tolist(), model.network(batch)[:, label], strict=True):
                drops[window(corners[number], side)[1:]] += before - after
                cells[window(corners[number], side)[1:]] += 1
        heat = lay_back((drops / cells.clamp(min=1))[None, None], frames)
    return np.asarray(heat[0, 0].numpy())


def window(corner: tuple[int, int], side: int) -> tuple[slice, slice, slice]:
    """All channels of a window at a corner."""
    top, left = corner
    return slice(None), slice(top, top + side // WINDOW), slice(left, left + side // WINDOW)


def spatial_attention(stage: int) -> Maker:
    """The gate of a stage's spatial attention: the same for every class."""

    def make(model: Deployed, pixels: Pixels, label: int) -> Map:  # noqa: ARG001
        gates: list[Tensor] = []
        attention = next(part for part in stage_of(model, stage).modules() if isinstance(part, SpatialAttention))
        conv = next(part for part in attention.modules() if isinstance(part, nn.Conv2d))
        hook = conv.register_forward_hook(lambda _module, _inputs, output: gates.append(torch.sigmoid(output)))
        try:
            return of_one_pass(model, pixels, gates)
        finally:
            hook.remove()

    return make


def pixel_weights(model: Deployed, pixels: Pixels, label: int) -> Map:  # noqa: ARG001
    """How much each pixel's evidence counts: the same for every class."""
    weights: list[Tensor] = []
    where = model.network.get_submodule("where")
    hook = where.register_forward_hook(lambda _module, _inputs, output: weights.append(output))
    try:
        return of_one_pass(model, pixels, weights)
    finally:
        hook.remove()


def of_one_pass(model: Deployed, pixels: Pixels, caught: list[Tensor]) -> Map:
    """What a hook catches of one forward pass, laid back over the slice."""
    with torch.inference_mode():
        scaled, frames = model.preprocess.scale(torch.from_numpy(pixels)[None])
        model.network(model.preprocess.standardise(scaled))
        return over_the_slice(model, caught[0][0, 0], frames)


def kinds(model: Deployed) -> tuple[dict[str, Maker], dict[str, Maker]]:
    """Name → maker: of one forward and perhaps a backward pass, and of very many."""
    cheap: dict[str, Maker] = {OWN: built_in}
    for method, name in (
        ("gradcam", "Grad-CAM"),
        ("gradcampp", "Grad-CAM++"),
        ("smoothgradcampp", "Smooth Grad-CAM++"),
        ("xgradcam", "XGrad-CAM"),
        ("layercam", "Layer-CAM"),
    ):
        cheap[name] = by_torchcam(method, -1)
    network = model.network
    if isinstance(network, AttentionCNN):
        cheap["Grad-CAM, finest stage"] = by_torchcam("gradcam", 0)
        cheap["Layer-CAM, finest stage"] = by_torchcam("layercam", 0)
    if isinstance(network, AttentionCNN) and network.config.attention in ("spatial", "both"):
        cheap |= {f"spatial attention, stage {stage + 1}": spatial_attention(stage) for stage in range(3)}
    if isinstance(network, AttentionCNN) and network.where is not None:
        cheap["pixel weights"] = pixel_weights
    costly = {"Score-CAM": by_torchcam("scorecam", -1), "IS-CAM": by_torchcam("iscam", -1), "occlusion": occlusion}
    return cheap, costly


# -- measuring ---------------------------------------------------------------------------------------------------------


def cases(options: argparse.Namespace, predictor: Predictor) -> list[Case]:
    """Up to `--slices` tumours of the fold that have a mask and are named rightly, in random order."""
    manifest, groups, folds = read_split(options.split, read_folder(options.data))
    classes = predictor.card.classes
    rows = [row for row, fold in enumerate(folds) if fold == options.fold and has_mask(manifest, row, options.masks)]
    random = np.random.default_rng(0)
    found = []
    for row in random.permutation(evenly(manifest, rows, options.slices, random)).tolist():
        item = manifest.slices[row]
        pixels, mask = read_one_slice(manifest.file(row)), read_mask(options.masks, item.path)
        label = classes.index(item.label)
        if (
            mask is not None
            and mask.any()
            and predictor.answer(pixels[None], cam=False).probabilities.argmax() == label
        ):
            found.append(Case(item.path, pixels, mask, label, groups[row]))
    return found


def has_mask(manifest: Manifest, row: int, masks: Path) -> bool:
    """Whether there is a file; whether it is empty is seen when it is read."""
    return mask_file(masks, manifest.slices[row].path).is_file()


def measure(model: Deployed, chosen: Sequence[Case], makers: dict[str, Maker]) -> dict[str, Found]:
    """Every kind on every slice, in turns; the first slice is done twice, since first calls set things up."""
    found = {name: Found() for name in makers}
    for number, case in track(list(enumerate([chosen[0], *chosen])), "making maps", unit="slices"):
        for name, make in makers.items():
            start = time.process_time()
            heat = make(model, case.pixels, case.label)
            seconds = time.process_time() - start
            if number:
                found[name].seconds.append(seconds)
                found[name].maps.append(heat)
                found[name].overlaps.append(compare(heat, case.mask))
    return found


def destroyed(model: Deployed, seed: int) -> Iterator[tuple[str, Deployed]]:
    """The model with its linear readouts shuffled, nothing else, and with all its weights shuffled."""
    broken = copy.deepcopy(model)
    broken.network = without_readouts(model.network, seed)
    yield "linear layers shuffled", broken
    *_, (_, broken.network) = cascade(model.network, seed)
    yield "all weights shuffled", broken


def agreement(
    model: Deployed, chosen: Sequence[Case], makers: dict[str, Maker], found: dict[str, Found]
) -> dict[str, dict[str, list[float]]]:
    """Size of the rank correlation of the maps with those of destroyed networks: how far destroyed → kind → slices.

    Its size, since a shuffled layer may turn a map over as well as lose it, unless a method knows no negative evidence.
    Beside it that with the maps of other slices, which have nothing to do with each other. Each slice has a shuffle of
    its own: with one for all, the mean would be that of one shuffle, which may be any.
    """
    ranks: dict[str, dict[str, list[float]]] = {}
    for row, case in enumerate(track(chosen, "maps of destroyed networks", unit="slices")):
        for how, broken in destroyed(model, row):
            of_kinds = ranks.setdefault(how, {name: [] for name in makers})
            for name, make in makers.items():
                after = make(broken, case.pixels, case.label)
                of_kinds[name].append(abs(over_the_head(found[name].maps[row], after, case.pixels)))
    pixels, groups = [case.pixels for case in chosen], [case.group for case in chosen]
    for name in makers:
        floor = strangers(found[name].maps[: len(chosen)], pixels, groups)
        ranks.setdefault("of another slice", {})[name] = np.abs(floor).tolist()
    return ranks


def table(chosen: Sequence[Case], found: dict[str, Found], ranks: dict[str, dict[str, list[float]]]) -> str:
    """One row per kind, then the floors; in brackets 95 % intervals over patients or groups."""
    groups = [case.group for case in chosen]
    own = found[OWN]
    head = ["map", "slices", "hottest pixel in the lesion", "built in minus it"]
    head += ["energy in the lesion", "IoU (Otsu)"]
    head += [f"likeness, {how}" for how in ranks] + ["ms of a core per slice", "times the built-in answer"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, kind in {**found, **floors(chosen)}.items():
        n = len(kind.overlaps)
        summary = summarise(kind.overlaps, groups[:n])
        gap = [[a.hit - b.hit] for a, b in zip(own.overlaps, kind.overlaps, strict=False)]
        cells = [
            name,
            str(n),
            measured(summary["pointing"]),
            "–" if kind is own else measured(means(gap, groups[:n], shares=False)[0]),
            measured(summary["energy"]),
            measured(summary["iou_otsu"]),
            *(
                measured(means(np.reshape(part[name], (-1, 1)), groups[: len(part[name])], shares=False)[0])
                if part.get(name)
                else "–"
                for part in ranks.values()
            ),
            f"{1000 * np.median(kind.seconds):.1f}" if kind.seconds else "–",
            f"{np.median(kind.seconds) / np.median(own.seconds[:n]):.2f}" if kind.seconds else "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def floors(chosen: Sequence[Case]) -> dict[str, Found]:
    """Maps that see nothing."""
    random = np.random.default_rng(0)
    return {
        "random": Found([compare(random_map((32, 32), random), case.mask) for case in chosen]),
        "centre": Found([compare(centre_map((32, 32)), case.mask) for case in chosen]),
    }


def picture(chosen: Sequence[Case], found: dict[str, Found], classes: Sequence[str]) -> bytes:
    """One slice per class under every kind, the lesion outlined."""
    least = min(len(kind.maps) for kind in found.values())
    first = {case.label: row for row, case in reversed(list(enumerate(chosen[:least])))}
    rows = sorted(first.values(), key=lambda row: chosen[row].label)
    figure, axes = plt.subplots(
        len(rows),
        len(found) + 1,
        figsize=(1.5 * (len(found) + 1), 1.7 * len(rows)),
        squeeze=False,
        layout="constrained",
    )
    for line, row in zip(axes, rows, strict=True):
        case = chosen[row]
        for place, (name, kind) in zip(line, {"slice": None, **found}.items(), strict=True):
            place.imshow(case.pixels, cmap="gray", vmin=0, vmax=255)
            if kind is not None:
                heat = np.maximum(resize_map(kind.maps[row], (case.mask.shape[0], case.mask.shape[1])), 0)
                place.imshow(heat, cmap="inferno", alpha=0.6)
            place.contour(case.mask, levels=[0.5], colors="cyan", linewidths=0.8)
            place.set_title(name if row == rows[0] else "", fontsize=6, wrap=True)
            place.set_xticks([])
            place.set_yticks([])
        line[0].set_ylabel(classes[case.label], fontsize=7)
    return to_png(figure)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument(
        "--costly", type=int, default=40, help="slices for kinds of very many passes; 0 leaves them out"
    )
    parser.add_argument("--destroyed", type=int, default=20, help="slices for the maps of destroyed networks")
    parser.add_argument("--out", type=Path, default=Path("out/maps"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    predictor = Predictor(options.model, threads=1)
    model, card = load_model(predictor.file.path.with_suffix(".safetensors"))
    chosen = cases(options, predictor)
    if not chosen:
        parser.error(f"fold {options.fold} holds no rightly named tumour with a mask in {options.masks}")
    cheap, costly = kinds(model)
    found = measure(model, chosen, cheap)
    few = chosen[: options.costly]
    found |= measure(model, few, costly) if few else {}
    makers = {**cheap, **(costly if few else {})}
    ranks = agreement(model, chosen[: min(options.destroyed, len(few) or len(chosen))], makers, found)
    title = f"{card.name}, fold {options.fold}: {len(chosen)} slices of "
    title += f"{len({case.group for case in chosen})} patients or groups"
    text = f"{title}\n\n{table(chosen, found, ranks)}\n"
    print(text)
    write_text(options.out / "maps.md", text)
    (options.out / "maps.png").write_bytes(picture(chosen, found, card.classes))
    say(f"written: {options.out / 'maps.md'}, maps.png")


if __name__ == "__main__":
    main()
