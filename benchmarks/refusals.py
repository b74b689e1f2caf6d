"""How often is what is no brain MRI slice refused? Share of rejected pictures by source.

    python benchmarks/refusals.py [DATA --split protocol.csv --fold 0 [--flags flags.csv]] [--ct CT.nii.gz] [--model M]

Sources: pictures that scikit-image, scikit-learn, Matplotlib and pydicom carry in their packages (those that are
installed are used), a CT volume, pages of text, noise and plain shapes made on the spot, and, with DATA, real slices
with their greys inverted. The threshold comes from real validation slices alone, so no source has tuned it.

With DATA each share stands there twice: at the model's own threshold, and at the one that exactly 1 % of the fold's
slices exceed. `--flags` leaves out of these what an audit flags, most of which is CT.

"as given" is the answer a user gets, who is also told of colour and of DICOM modality; "by score" lets the outlier
score alone decide over the grey picture. Real slices of the fold that are refused, and real slices upside down or four
in one picture, which are no far outliers, are counted below the line.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from braincam import Predictor
from braincam.dataset.fingerprints import read_one_slice
from braincam.dataset.manifest import read_folder
from braincam.dataset.split import read_split
from braincam.errors import BraincamError
from braincam.images.reader import read_slices
from braincam.predict import Prediction
from braincam.progress import track
from braincam.sources import Source

Pixels = NDArray[np.uint8]
PACKAGES = ("skimage", "sklearn", "matplotlib", "pydicom")
PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".gif", ".dcm"}
SMALLEST = 64  # pixels: icons are left out
MADE = 100  # pictures of each made kind
SCORE = "outlier score"  # in the reason of what the score rejects
EVERY = 14  # of a fold's slices, for the changed ones


def pictures_of(package: str) -> list[Path]:
    """Files with pictures inside an installed package; none where it is absent."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return []
    files = (file for file in Path(spec.origin).parent.rglob("*") if file.suffix.lower() in PICTURES)
    return [file for file in sorted(files) if grey_of(file)]


def grey_of(file: Path) -> list[Pixels]:
    """The grey slices of a file; none where it holds none of a useful size."""
    try:
        slices = read_slices(file)
    except BraincamError:
        return []
    return [item.pixels for item in slices if min(item.pixels.shape) >= SMALLEST]


def page(random: np.random.Generator) -> Pixels:
    """Lines of words, dark on bright."""
    width, height = (int(side) for side in random.integers(200, 800, 2))
    picture = Image.new("L", (width, height), int(random.integers(200, 256)))
    draw = ImageDraw.Draw(picture)
    y = 10
    while y < height - 12:
        x = 10
        while x < width - 20:
            word = "".join(chr(letter) for letter in random.integers(97, 123, random.integers(1, 9)))
            draw.text((x, y), word, fill=int(random.integers(0, 80)))
            x += int(draw.textlength(word)) + 8
        y += int(random.integers(11, 24))
    return np.asarray(picture)


def noise(random: np.random.Generator) -> Pixels:
    """White, normal, smooth, or one even grey."""
    side = int(random.integers(SMALLEST, 400))
    kind = random.integers(4)
    if kind == 0:
        return random.integers(0, 256, (side, side), np.uint8)
    if kind == 1:
        normal = random.normal(random.uniform(30, 200), random.uniform(5, 60), (side, side))
        return np.clip(normal, 0, 255).astype(np.uint8)
    if kind == 2:
        coarse = Image.fromarray(random.integers(0, 256, (12, 12), np.uint8))
        return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
    return np.full((side, side), random.integers(0, 256), np.uint8)


def shapes(random: np.random.Generator) -> Pixels:
    """A few ellipses, boxes and lines on an even ground; an ellipse on black is the shape of a head."""
    side = int(random.integers(128, 400))
    picture = Image.new("L", (side, side), int(random.choice([0, 0, 80, 255])))
    draw = ImageDraw.Draw(picture)
    for _ in range(random.integers(1, 9)):
        (left, right), (top, bottom) = (sorted(random.integers(0, side, 2).tolist()) for _ in range(2))
        kind = (draw.ellipse, draw.rectangle, draw.line)[random.integers(3)]
        kind((left, top, right + 1, bottom + 1), fill=int(random.integers(0, 256)))
    return np.asarray(picture)


def made(kind: Callable[[np.random.Generator], Pixels]) -> list[Pixels]:
    """The same pictures in every run."""
    random = np.random.default_rng(0)
    return [kind(random) for _ in range(MADE)]


def four_in_one(slices: list[Pixels]) -> list[Pixels]:
    """Pages of a film: each slice with the next three of its size."""
    largest = max({item.shape for item in slices}, key=[item.shape for item in slices].count)
    same = [item for item in slices if item.shape == largest]
    return [np.block([[a, b], [c, d]]) for a, b, c, d in zip(same, same[1:], same[2:], same[3:], strict=False)]


def slices_of(data: Path, split: Path, fold: int, flags: Path | None, *, others: bool = False) -> list[Pixels]:
    """The slices of a fold, or of all others, without those that an audit flags."""
    manifest, _, folds = read_split(split, read_folder(data))
    flagged = set(pd.read_csv(flags)["path"]) if flags else set()
    rows = [
        row
        for row, (item, number) in enumerate(zip(manifest.slices, folds, strict=True))
        if (number == fold) != others and item.path not in flagged
    ]
    return [read_one_slice(manifest.file(row)) for row in track(rows, "decoding", len(rows), "slices")]


def far_from_heads(ct: Path | None, real: list[Pixels]) -> dict[str, tuple[list[Source], list[Pixels]]]:
    """Source → its pictures as a user would give them, and in grey."""
    far: dict[str, tuple[list[Source], list[Pixels]]] = {}
    for package in PACKAGES:
        if files := pictures_of(package):
            far[f"pictures in {package}"] = ([*files], [grey for file in files for grey in grey_of(file)])
    if ct:
        far["CT volume"] = ([ct], grey_of(ct))
    for name, kind in (("pages of text", page), ("noise", noise), ("shapes", shapes)):
        pictures = made(kind)
        far[name] = ([*pictures], pictures)
    if real:
        inverted = [255 - item for item in real[::EVERY]]
        far["real slices, greys inverted"] = ([*inverted], inverted)
    return far


def answered(predictor: Predictor, sources: list[Source]) -> list[Prediction]:
    """The answers to all pictures that can be read."""
    return [one for one in predictor.stream(sources, cam=False) if one.status != "error"]


def refused(answers: list[Prediction], threshold: float) -> list[bool]:
    """For each answer, whether its picture is rejected: at this threshold, or for another reason."""
    return [
        is_above(one, threshold) or (one.status == "rejected" and SCORE not in (one.reason or "")) for one in answers
    ]


def is_above(answer: Prediction, threshold: float) -> bool:
    """Whether the outlier score alone rejects it."""
    return answer.outlier_score is not None and answer.outlier_score > threshold


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--split", type=Path)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--flags", type=Path)
    parser.add_argument("--ct", type=Path)
    parser.add_argument("--model")
    args = parser.parse_args()
    predictor = Predictor(args.model)

    real = slices_of(args.data, args.split, args.fold, args.flags) if args.data else []
    far = far_from_heads(args.ct, real)
    thresholds = {"": predictor.card.outlier_threshold}
    if real:
        inside = answered(predictor, [*real])
        scores = [one.outlier_score for one in inside]
        thresholds[", at 1 % of the fold"] = float(np.quantile([score for score in scores if score is not None], 0.99))
    print(f"model {predictor.card.name}, threshold {', '.join(f'{value:.2f}' for value in thresholds.values())}\n")
    heads = [f"{how}{at}" for at in thresholds for how in ("rejected as given", "by score")]
    print(f"| source | pictures | {' | '.join(heads)} |\n|---|---|{'---|' * len(heads)}")
    shares = []
    for name, (sources, greys) in far.items():
        both = answered(predictor, sources), answered(predictor, [*greys])
        ways = [refused(answers, threshold) for threshold in thresholds.values() for answers in both]
        shares.append([np.mean(way) for way in ways])
        print(line(name, len(ways[1]), shares[-1]), flush=True)
    print(line("mean over the sources", None, np.mean(shares, 0)))
    if real:
        some = real[::EVERY]
        upside_down = [np.ascontiguousarray(item[::-1]) for item in some]
        for name, answers in (
            ("real slices of the fold", inside),
            ("the same, upside down", answered(predictor, [*upside_down])),
            ("the same, four in one picture", answered(predictor, [*four_in_one(some)])),
        ):
            ways = [refused(answers, threshold) for threshold in thresholds.values()]
            print(line(name, len(ways[0]), [cell for way in ways for cell in (None, np.mean(way))]), flush=True)


def line(name: str, count: int | None, shares: Sequence[float | None]) -> str:
    """A row of the table; None is an empty cell."""
    cells = ["" if share is None else f"{share:.3f}" for share in shares]
    return f"| {' | '.join([name, '' if count is None else str(count), *cells])} |"


if __name__ == "__main__":
    main()
