"""How far can one slice's answer move when nothing of it changes? The largest differences, each beside its bound.

    python benchmarks/numerics.py [MODEL] [--patients 32] [--without-torch]

MODEL is a run folder, an .onnx file or a name (default: the packaged model). Synthetic slices of four sizes are
answered by ONNX Runtime on one thread, one by one, and then by other numbers of threads, in batches, in batches of
another order, without maps, and by PyTorch from the trainable twin beside the model, if it is there. The browser has
bounds of its own, held by tests/test_page_alone.py. The exit code says whether all bounds hold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from braincam import Predictor
from braincam.dataset.phantom import make_slices
from braincam.model_file.export import load_model
from braincam.network.exportable import Deployed
from braincam.predict import Answer

Pixels = NDArray[np.uint8]
SIZES = (224, 160, 97, 320)


@dataclass(frozen=True)
class Bounds:
    """The most that two answers for one slice may differ by."""

    probability: float
    cam: float  # relative to the map's own largest value, or to 1 where that is smaller
    outlier_score: float  # relative to the score


ONE_ENGINE = Bounds(probability=1e-5, cam=1e-5, outlier_score=1e-5)  # ONNX Runtime, however it is asked
TWO_ENGINES = Bounds(probability=1e-4, cam=1e-3, outlier_score=1e-3)  # PyTorch beside ONNX Runtime


@dataclass(frozen=True)
class Differences:
    """The largest differences between two series of answers for the same slices."""

    probability: float
    cam: float | None  # None where one of them has no maps
    outlier_score: float
    labels: int  # slices whose most probable class differs

    def within(self, bounds: Bounds) -> bool:
        """Whether no bound is passed; what is not a number passes every bound."""
        return (
            self.probability <= bounds.probability
            and (self.cam is None or self.cam <= bounds.cam)
            and self.outlier_score <= bounds.outlier_score
        )


def differences(first: Answer, second: Answer) -> Differences:
    """Compare answers for N slices, row by row."""
    cam = None
    if first.cam is not None and second.cam is not None:
        scale = np.maximum(1, np.abs(first.cam).max((1, 2, 3)))
        cam = float((np.abs(first.cam - second.cam).max((1, 2, 3)) / scale).max())
    outliers = np.abs(first.outlier_score - second.outlier_score) / first.outlier_score
    return Differences(
        probability=float(np.abs(first.probabilities - second.probabilities).max()),
        cam=cam,
        outlier_score=float(outliers.max()),
        labels=int((first.probabilities.argmax(1) != second.probabilities.argmax(1)).sum()),
    )


def one_by_one(predictor: Predictor, slices: Sequence[Pixels]) -> Answer:
    """Each slice in a batch of its own."""
    return joined([predictor.answer(pixels[None]) for pixels in slices])


def in_batches(predictor: Predictor, slices: Sequence[Pixels], size: int) -> Answer:
    """`size` slices at a time, neighbours of one shape together."""
    starts = range(0, len(slices), size)
    return joined([predictor.answer_all(slices[start : start + size]) for start in starts])


def in_another_order(predictor: Predictor, slices: Sequence[Pixels], size: int, seed: int) -> Answer:
    """In batches whose members are drawn anew within each shape, and put back in order."""
    random = np.random.default_rng(seed)
    shapes = [pixels.shape for pixels in slices]
    order = np.concatenate(
        [random.permutation([k for k, own in enumerate(shapes) if own == shape]) for shape in dict.fromkeys(shapes)]
    )
    answer = in_batches(predictor, [slices[k] for k in order], size)
    back = np.argsort(order)
    assert answer.cam is not None
    return Answer(answer.probabilities[back], answer.outlier_score[back], answer.cam[back])


def without_maps(predictor: Predictor, slices: Sequence[Pixels]) -> Answer:
    """The graph is cut short where the map is not asked for."""
    return joined([predictor.answer(pixels[None], cam=False) for pixels in slices])


@torch.inference_mode()
def by_torch(model: Deployed, slices: Sequence[Pixels]) -> Answer:
    """The trainable twin, in float32 on the CPU."""
    found = [model(torch.from_numpy(pixels[None])) for pixels in slices]
    return joined([Answer(a.probabilities.numpy(), a.outlier_score.numpy(), a.cam.numpy()) for a in found])


def joined(answers: Sequence[Answer]) -> Answer:
    """Batches of answers as one."""
    maps = [answer.cam for answer in answers if answer.cam is not None]
    return Answer(
        np.concatenate([answer.probabilities for answer in answers]),
        np.concatenate([answer.outlier_score for answer in answers]),
        np.concatenate(maps) if maps else None,
    )


def synthetic(patients: int, seed: int = 0) -> list[Pixels]:
    """Two slices of each patient, the first quarter of them at the first size, and so on."""
    drawn = make_slices(patients, 2, seed, SIZES[0])
    sides = [SIZES[number * len(SIZES) // (2 * patients)] for number in range(2 * patients)]
    return [
        np.array(Image.fromarray(item.pixels).resize((side, side), Image.Resampling.BILINEAR))
        for item, side in zip(drawn, sides, strict=True)
    ]


def comparisons(
    model: str | Path | None, slices: Sequence[Pixels], twin: Deployed | None
) -> Iterator[tuple[str, Bounds, Differences]]:
    """Each way of asking, its bounds, and how far its answers lie from those of one thread, one slice at a time."""
    single = Predictor(model, threads=1)
    plain = one_by_one(single, slices)
    ways: dict[str, tuple[Bounds, Callable[[], Answer]]] = {
        "asked again": (ONE_ENGINE, lambda: one_by_one(single, slices)),
        "2 threads": (ONE_ENGINE, lambda: one_by_one(Predictor(model, threads=2), slices)),
        "4 threads": (ONE_ENGINE, lambda: one_by_one(Predictor(model, threads=4), slices)),
        "batches of 2": (ONE_ENGINE, lambda: in_batches(single, slices, 2)),
        "batches of 16": (ONE_ENGINE, lambda: in_batches(single, slices, 16)),
        "batches of 16 in another order, 2 threads": (
            ONE_ENGINE,
            lambda: in_another_order(Predictor(model, threads=2), slices, 16, seed=1),
        ),
        "without maps": (ONE_ENGINE, lambda: without_maps(single, slices)),
    }
    if twin is not None:
        ways["PyTorch"] = (TWO_ENGINES, lambda: by_torch(twin, slices))
    for name, (bounds, ask) in ways.items():
        yield name, bounds, differences(plain, ask())


def main() -> int:
    """Print one line per way of asking."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a run folder, an .onnx file or a name (default: the packaged model)")
    parser.add_argument("--patients", type=int, default=32, help="synthetic ones, two slices each (default: 32)")
    parser.add_argument("--without-torch", action="store_true", help="leave the trainable twin out")
    chosen = parser.parse_args()
    predictor, slices = Predictor(chosen.model), synthetic(chosen.patients)
    beside = predictor.file.path.with_suffix(".safetensors")
    twin = load_model(beside)[0] if beside.is_file() and not chosen.without_torch else None
    print(f"{predictor.card.name}, {len(slices)} synthetic slices; largest differences from one thread, one by one\n")
    print("| asked by | probability | map | outlier score | other label | bounds hold |\n|---|---|---|---|---|---|")
    held = True
    for name, bounds, found in comparisons(chosen.model, slices, twin):
        good = found.within(bounds)
        held &= good
        cam = "" if found.cam is None else f"{found.cam:.1e}"
        row = f"{found.probability:.1e} | {cam} | {found.outlier_score:.1e} | {found.labels}"
        print(f"| {name} | {row} | {'yes' if good else 'NO'} |", flush=True)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
