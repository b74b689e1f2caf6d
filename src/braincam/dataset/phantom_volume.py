"""A synthetic head as a NIfTI volume, one per class: axial slices of one person, with a tumour that has a middle.

Like the slices of `phantom`, they prove the pipeline and say nothing about real patients.
"""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from braincam.dataset.phantom import CLASSES, draw, draw_build, draw_cut
from braincam.dataset.phantom_head import make_head
from braincam.dataset.phantom_lesion import place_lesion, tumour_area
from braincam.errors import DataError
from braincam.files import write_bytes

SLICES, SIZE = 24, 224
FIELD = 230.0  # mm across a picture
THICKNESS = 5.0  # mm
CONTRAST = "t1c"
THINNEST = 0.25  # of the tumour's radius: beyond it a slice shows none

_PERSON, _CUT, _NOISE, _TUMOUR = range(4)  # independent random streams, as in `phantom`


def make_volume(
    label: str, seed: int = 0, slices: int = SLICES, size: int = SIZE
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The pictures of one head from below upwards, and the mask of its tumour: (slices, size, size) uint8 and bool."""
    key = (seed, CLASSES.index(label))
    person = np.random.default_rng((*key, _PERSON))
    head, build = (
        make_head(person, CONTRAST),
        replace(draw_build(person), gain=1.0),
    )  # as measured: a window comes later
    cut = draw_cut(np.random.default_rng((*key, _CUT)), "axial", build)
    tumour = np.random.default_rng((*key, _TUMOUR))
    lesion = None
    if label != "notumor":
        area = tumour_area(tumour, label)
        disc = np.sqrt(4 * area / np.pi / (cut.stretch[0] * cut.stretch[1])) / cut.scale
        lesion = place_lesion(tumour, label, "axial", float(disc))
    middle = int(slices * tumour.uniform(0.4, 0.6))
    pixels, masks = np.zeros((slices, size, size), np.uint8), np.zeros((slices, size, size), np.bool_)
    for number in range(slices):
        here = None
        if lesion is not None:
            height = (number - middle) * THICKNESS / (lesion.radius * FIELD / 2)
            width = np.sqrt(max(1 - height * height, 0.0))
            here = replace(lesion, radius=lesion.radius * float(width)) if width > THINNEST else None
        level = replace(cut, offset=2 * number / max(slices - 1, 1) - 1)
        noise = np.random.default_rng((*key, _NOISE, number))
        pixels[number], masks[number] = draw(head, level, CONTRAST, here, size, noise)
    return pixels, masks


def write_volumes(out: Path, seed: int = 0) -> list[Path]:
    """Write `volumes/<class>.nii.gz` and, for tumours, `volume-masks/<class>.nii.gz`; returns the heads' paths.

    Raises:
        DataError: one of them is there already.
    """
    heads = [out / "volumes" / f"{label}.nii.gz" for label in CLASSES]
    if there := next((path for path in heads if path.exists()), None):
        raise DataError(f"{there}: expected to make this file, found one; choose another folder")
    for label, path in zip(CLASSES, heads, strict=True):
        pixels, masks = make_volume(label, seed)
        write_volume(path, pixels)
        if masks.any():
            write_volume(out / "volume-masks" / path.name, masks.astype(np.uint8))
    return heads


def write_volume(path: Path, pictures: NDArray[np.uint8]) -> None:
    """Pictures (n, H, W) with anterior up and the patient's left on the right, as RAS+ NIfTI."""
    import nibabel

    spacing = FIELD / pictures.shape[2]
    affine = np.diag([spacing, spacing, THICKNESS, 1.0])
    affine[:3, 3] = (-FIELD / 2, -FIELD / 2, -THICKNESS * len(pictures) / 2)
    stored = np.asfortranarray(pictures[:, ::-1, ::-1].transpose(2, 1, 0))
    image: Any = nibabel.Nifti1Image(stored, affine)  # type: ignore[no-untyped-call]
    write_bytes(path, gzip.compress(image.to_bytes(), 6, mtime=0))
