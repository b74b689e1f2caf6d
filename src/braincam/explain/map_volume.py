"""Evidence as a NIfTI volume on the grid of the scan, for any viewer to lay over it."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from braincam.explain.overlay import resize_map
from braincam.files import replacing
from braincam.images.volume import Grid
from braincam.predict import Prediction

LEVELS = 32767  # the map is stored in 16 bits: steps of 1/32767 of its largest value


def evidence_volume(
    answers: Iterable[Prediction], row: int, grid: Grid, first: int = 0
) -> tuple[npt.NDArray[np.int16], float]:
    """Evidence for class `row` of the model, as stored on the grid, and the size of its steps in logit per pixel.

    0 where it speaks against the class, and in slices that were not judged. `first` is the grid's first slice.
    """
    judged = [answer for answer in answers if answer.label is not None and answer.slice is not None]
    largest = max((float(answer.cams[row].max()) for answer in judged if answer.cams is not None), default=0.0)
    step = largest / LEVELS if largest > 0 else 1.0
    pictures = np.zeros(grid.pictures, np.int16)
    for answer in judged:
        if answer.cams is not None and answer.slice is not None:
            heat = resize_map(answer.cams[row], grid.pictures[1:])
            pictures[answer.slice - first] = np.rint(np.clip(heat / np.float32(step), 0, LEVELS))
    return grid.store(pictures), step


def write_evidence(path: Path, stored: npt.NDArray[np.int16], step: float, grid: Grid, label: str) -> None:
    """Write it as a .nii.gz, part by part; its header holds nothing of the input's but its place."""
    import nibabel

    header: Any = nibabel.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_dtype(np.int16)
    header.set_data_shape(stored.shape)
    header.set_zooms(np.sqrt((grid.affine[:3, :3] ** 2).sum(0)))
    header.set_sform(*grid.sform)  # both, and their codes: viewers differ in which they go by
    header.set_qform(*grid.qform)
    header.set_slope_inter(step, 0)
    header.set_xyzt_units("mm")
    header["descrip"] = f"braincam evidence for {label}".encode()[:79]
    header["cal_max"] = step * float(stored.max())
    header["vox_offset"] = len(header.binaryblock) + 4
    with (
        replacing(path) as temporary,
        temporary.open("wb") as file,
        gzip.GzipFile("", "wb", 1, file, mtime=0) as packed,
    ):
        packed.write(header.binaryblock + b"\0" * 4)  # no extensions
        for part in range(stored.shape[2]):
            packed.write(stored[:, :, part].astype("<i2").tobytes("F"))
