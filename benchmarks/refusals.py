"""How often is what is no brain MRI slice refused? Share of rejected pictures by source.

    python benchmarks/refusals.py [DATA --split protocol.csv --fold 0] [--ct CT.nii.gz] [--model M]

Sources: pictures that scikit-image, scikit-learn, Matplotlib and pydicom carry in their packages (those that are
installed are used), a CT volume, pages of text, noise and plain shapes made on the spot, and, with DATA, real slices
with their greys inverted. The threshold comes from real validation slices alone, so no source has tuned it.

"as given" is the answer a user gets, who is also told of colour and of DICOM modality; "by score" lets the outlier
score alone decide over the grey picture. Real slices of the fold that are refused, and real slices upside down or four
in one picture, which are no far outliers, are counted below the line.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from braincam import Predictor
from braincam.dataset.manifest import read_folder
from braincam.dataset.split import read_split
from braincam.dataset.twins import read_one_slice
from braincam.errors import BraincamError
from braincam.images.reader import read_slices
from braincam.predict import Source
from braincam.progress import track

Pixels = NDArray[np.uint8]
PACKAGES = ("skimage", "sklearn", "matplotlib", "pydicom")
PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".gif", ".dcm"}
SMALLEST = 64  # pixels: icons are left out
MADE = 100  # pictures of each made kind
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


def refused(predictor: Predictor, sources: list[Source]) -> tuple[int, int]:
    """Rejected answers, and answers in all; files that cannot be read do not count."""
    answers = [one for one in predictor.stream(sources, cam=False) if one.status != "error"]
    return sum(one.status == "rejected" for one in answers), len(answers)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--split", type=Path)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--ct", type=Path)
    parser.add_argument("--model")
    args = parser.parse_args()
    predictor = Predictor(args.model)

    far: dict[str, tuple[list[Source], list[Pixels]]] = {}
    for package in PACKAGES:
        files = pictures_of(package)
        if files:
            far[f"pictures in {package}"] = ([*files], [grey for file in files for grey in grey_of(file)])
    if args.ct:
        far["CT volume"] = ([args.ct], grey_of(args.ct))
    for name, kind in (("pages of text", page), ("noise", noise), ("shapes", shapes)):
        pictures = made(kind)
        far[name] = ([*pictures], pictures)
    real: list[Pixels] = []
    if args.data:
        manifest, _, folds = read_split(args.split, read_folder(args.data))
        rows = [row for row, fold in enumerate(folds) if fold == args.fold]
        real = [read_one_slice(manifest.file(row)) for row in track(rows, "decoding", len(rows), "slices")]
        inverted = [255 - item for item in real[::EVERY]]
        far["real slices, greys inverted"] = ([*inverted], inverted)

    print(f"model {predictor.card.name}\n")
    print("| source | pictures | rejected as given | rejected by score |\n|---|---|---|---|")
    shares = []
    for name, (sources, greys) in far.items():
        given, n = refused(predictor, sources)
        by_score, m = refused(predictor, [*greys])
        shares.append((given / n, by_score / m))
        print(f"| {name} | {m} | {given / n:.3f} | {by_score / m:.3f} |")
    print(f"| mean over the sources | | {np.mean(shares, 0)[0]:.3f} | {np.mean(shares, 0)[1]:.3f} |")
    if real:
        some = real[::EVERY]
        for name, slices in (
            ("real slices of the fold", real),
            ("the same, upside down", [np.ascontiguousarray(item[::-1]) for item in some]),
            ("the same, four in one picture", four_in_one(some)),
        ):
            by_score, n = refused(predictor, [*slices])
            print(f"| {name} | {n} | | {by_score / n:.3f} |")


if __name__ == "__main__":
    main()
