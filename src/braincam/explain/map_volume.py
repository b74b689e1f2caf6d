"""Evidence as a NIfTI volume on the grid of the scan, for any viewer to lay over it."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from braincam.explain.overlay import resize_map
from braincam.files import write_bytes
from braincam.images.volume import Grid
from braincam.predict import Prediction

LEVELS = 32767  # the map is stored in 16 bits: steps of 1/32767 of its largest value


def evidence_volume(answers: Iterable[Prediction], row: int, grid: Grid) -> npt.NDArray[np.float32]:
    """Evidence for class `row` of the model, as stored on the grid; 0 where it speaks against, and in unjudged slices.

    Units as in the pictures: logit per pixel.
    """
    pictures = np.zeros(grid.pictures, np.float32)
    for answer in answers:
        if answer.cams is not None and answer.label is not None and answer.slice is not None:
            pictures[answer.slice] = np.maximum(resize_map(answer.cams[row], grid.pictures[1:]), 0)
    return grid.store(pictures)


def write_evidence(path: Path, volume: npt.NDArray[np.float32], grid: Grid, label: str) -> None:
    """Write it as a .nii.gz; its header holds nothing of the input's but the affine."""
    import nibabel

    largest = float(volume.max())
    scale = largest / LEVELS if largest > 0 else 1.0
    stored = np.asfortranarray((volume / np.float32(scale)).round().astype(np.int16))
    image: Any = nibabel.Nifti1Image(stored, grid.affine)  # type: ignore[no-untyped-call]
    image.set_sform(grid.affine, 1)
    image.set_qform(grid.affine, 1)
    image.header.set_slope_inter(scale, 0)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = f"braincam evidence for {label}".encode()[:79]
    image.header["cal_max"] = largest
    image.header["vox_offset"] = len(image.header.binaryblock) + 4
    header = image.header.binaryblock + b"\0" * 4  # no extensions
    write_bytes(path, gzip.compress(header + stored.tobytes("F"), 1, mtime=0))
