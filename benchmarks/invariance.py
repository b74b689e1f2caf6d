"""Does the answer stay when what is no anatomy changes? Share of test slices that keep their label under each change.

    python benchmarks/invariance.py DATA --split protocol.csv --fold 0 [--model M]

Changes: colour mode, JPEG quality, black padding of the canvas, window, size. The floor that the border alone reaches
with and without framing stands in docs/results.md.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from braincam import Predictor
from braincam.dataset.fingerprints import read_one_slice
from braincam.dataset.manifest import read_folder
from braincam.dataset.split import read_split
from braincam.images.reader import read_slices
from braincam.progress import track

Pixels = NDArray[np.uint8]


def through_file(pixels: Pixels, mode: str, kind: str, **how: int) -> Pixels:
    """Save in a colour mode and a format, and read as a user's file is read."""
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **how)
    return read_slices(file.getvalue())[0].pixels


def padded(pixels: Pixels, share: float) -> Pixels:
    """Black on all four sides, `share` of the side in all along each axis."""
    height, width = (round(side * share / 2) for side in pixels.shape)
    return np.pad(pixels, ((height, height), (width, width)))


def windowed(pixels: Pixels, level: float, width: float) -> Pixels:
    """Another window: its centre and its width change by shares of the full range."""
    low, high = 127.5 * (1 + 2 * level - (1 + width)), 127.5 * (1 + 2 * level + (1 + width))
    return np.clip(np.rint((pixels - low) / (high - low) * 255), 0, 255).astype(np.uint8)


def resized(pixels: Pixels, side: int) -> Pixels:
    """Square, bilinear with anti-aliasing."""
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "RGB in place of grey": lambda p: through_file(p, "RGB", "PNG"),
    "palette in place of grey": lambda p: through_file(p, "P", "PNG"),
    "JPEG quality 90": lambda p: through_file(p, "L", "JPEG", quality=90),
    "JPEG quality 70": lambda p: through_file(p, "L", "JPEG", quality=70),
    "JPEG quality 50": lambda p: through_file(p, "L", "JPEG", quality=50),
    "padding 10 %": lambda p: padded(p, 0.1),
    "padding 20 %": lambda p: padded(p, 0.2),
    "padding 20 % on one side": lambda p: np.pad(p, ((0, 0), (0, round(p.shape[1] * 0.2)))),
    "window 10 % wider": lambda p: windowed(p, 0, 0.1),
    "window 10 % narrower": lambda p: windowed(p, 0, -0.1),
    "window 10 % higher": lambda p: windowed(p, 0.1, 0),
    "window 10 % lower": lambda p: windowed(p, -0.1, 0),
    "size 128": lambda p: resized(p, 128),
    "size 160": lambda p: resized(p, 160),
    "size 320": lambda p: resized(p, 320),
    "size 512": lambda p: resized(p, 512),
}


def labels(predictor: Predictor, slices: list[Pixels]) -> NDArray[np.int64]:
    """The most probable class of each slice."""
    return np.asarray(predictor.answer_all(slices, cam=False).probabilities.argmax(1))


def main() -> None:
    """Print one line per change."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path)
    options.add_argument("--split", type=Path, required=True)
    options.add_argument("--fold", type=int, default=0)
    options.add_argument("--model")
    chosen = options.parse_args()
    predictor = Predictor(chosen.model)
    manifest, _, folds = read_split(chosen.split, read_folder(chosen.data))
    rows = [row for row, fold in enumerate(folds) if fold == chosen.fold]
    slices = [read_one_slice(manifest.file(row)) for row in rows]
    truth = np.array([predictor.card.classes.index(manifest.slices[row].label) for row in rows])
    before = labels(predictor, slices)
    print(f"{predictor.card.name}, fold {chosen.fold}, {len(rows)} slices: accuracy {np.mean(before == truth):.3f}\n")
    print("| change | label kept | accuracy |\n|---|---|---|")
    for name, change in track(CHANGES.items(), "changing"):
        after = labels(predictor, [change(pixels) for pixels in slices])
        print(f"| {name} | {np.mean(after == before):.3f} | {np.mean(after == truth):.3f} |", flush=True)


if __name__ == "__main__":
    main()
