"""A stress test out of scope: tumours of another hospital after treatment, and heads without one, under four windows.

    python benchmarks/stress.py --tumour SCAN.nii.gz MASK.nii.gz ... --normal SCAN.nii.gz|FOLDER ... [--model M]

Four ways to make eight bits of the same voxels, none of them wrong: from zero to the volume's 99.5th percentile, to its
99.9th, to each slice's maximum, to the volume's maximum. What carries the label must not be which of them was chosen. A
slice with lesion has at least one voxel of the mask; a slice without one shows tissue on a tenth of its area. Slices of
a scan with a mask that the mask leaves out are not healthy and are not judged.

The scores are never a reason to choose a window, a threshold or a recipe; each look belongs in docs/analysis-plan.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_rescale

from braincam import Predictor
from braincam.images.grey import GreySlice
from braincam.predict import Prediction
from braincam.progress import track
from braincam.study import tumour_classes

Voxels = NDArray[np.float64]  # (slices, H, W), each slice as it is looked at
TISSUE, AREA = 0.1, 0.1  # a slice shows a head where a tenth of its pixels exceed a tenth of the 99.9th percentile

# what becomes white: voxels → a number, or one per slice
WINDOWS: dict[str, Callable[[Voxels], NDArray[np.float64]]] = {
    "volume, 99.5th percentile": lambda v: np.percentile(v, 99.5),
    "volume, 99.9th percentile": lambda v: np.percentile(v, 99.9),
    "each slice's maximum": lambda v: v.max((1, 2), keepdims=True),
    "volume's maximum": lambda v: np.asarray(v.max()),
}


def read_volume(path: Path) -> Voxels:
    """The values of a NIfTI volume cut axially, anterior up, or of a folder of DICOM files in their order."""
    if path.is_dir():
        files = sorted((pydicom.dcmread(file) for file in path.glob("*.dcm")), key=lambda file: file.InstanceNumber)
        return np.stack([apply_rescale(file.pixel_array, file) for file in files]).astype(np.float64)
    image = nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[attr-defined]
    return np.asarray(image.dataobj, np.float64)[::-1, ::-1].transpose(2, 1, 0)


def windowed(voxels: Voxels, white: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Zero becomes black, `white` and what exceeds it 255."""
    return np.rint(np.clip(voxels / np.maximum(white, 1e-6), 0, 1) * 255).astype(np.uint8)


def shows_a_head(voxels: Voxels) -> NDArray[np.bool_]:
    """Which slices show enough tissue to be judged: (slices,)."""
    return (voxels > TISSUE * np.percentile(voxels, 99.9)).mean((1, 2)) > AREA


def judge(predictor: Predictor, pixels: NDArray[np.uint8]) -> list[Prediction]:
    """The answers a user gets."""
    return list(predictor.judge((("slice", GreySlice(item, None)) for item in pixels), cam=False))


def shares(answers: Sequence[Prediction], tumours: Sequence[str]) -> dict[str, float]:
    """What the answers say, as shares of all slices; `leading` looks at the probabilities, whatever the status."""
    leading = [max(answer.probabilities or {"": 1.0}, key=lambda name: (answer.probabilities or {}).get(name, 0))
               for answer in answers]  # fmt: skip
    said = {
        "most probable: any tumour": [name in tumours for name in leading],
        "most probable: glioma": [name == "glioma" for name in leading],
        "answered: a tumour": [answer.status == "ok" and answer.label in tumours for answer in answers],
        "answered: no tumour": [answer.status == "ok" and answer.label not in tumours for answer in answers],
        "refer": [answer.status == "refer" for answer in answers],
        "rejected": [answer.status == "rejected" for answer in answers],
    }
    return {name: float(np.mean(which)) for name, which in said.items()}


def table(name: str, groups: Sequence[tuple[Voxels, NDArray[np.bool_]]], predictor: Predictor) -> str:
    """One row per window over the kept slices of all volumes, and how far the shares move between the windows."""
    tumours = tumour_classes(predictor.card)
    count = sum(int(keep.sum()) for _, keep in groups)
    rows = {}
    for window, white in track(WINDOWS.items(), "windows"):
        answers = [
            answer for voxels, keep in groups for answer in judge(predictor, windowed(voxels, white(voxels))[keep])
        ]
        rows[window] = shares(answers, tumours)
    columns = list(next(iter(rows.values())))
    lines = [f"| {name} ({count} slices) | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {window} | {' | '.join(f'{row[c]:.2f}' for c in columns)} |" for window, row in rows.items()]
    spreads = [max(row[c] for row in rows.values()) - min(row[c] for row in rows.values()) for c in columns]
    return "\n".join([*lines, f"| range over the windows | {' | '.join(f'{value:.2f}' for value in spreads)} |", ""])


def main() -> None:
    """Print one table for the slices with a lesion and one per scan without any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tumour", type=Path, nargs=2, action="append", default=[], metavar=("SCAN", "MASK"))
    parser.add_argument("--normal", type=Path, action="append", default=[], metavar="SCAN")
    parser.add_argument("--model")
    options = parser.parse_args()
    predictor = Predictor(options.model)
    print(f"{predictor.card.name}\n")
    with_lesion = [(read_volume(scan), read_volume(mask).any((1, 2))) for scan, mask in options.tumour]
    if with_lesion:
        print(table("with a lesion, after treatment", with_lesion, predictor))
    for scan in options.normal:
        voxels = read_volume(scan)
        print(table(f"without: {scan.name}", [(voxels, shows_a_head(voxels))], predictor))


if __name__ == "__main__":
    main()
