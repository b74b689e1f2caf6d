"""Labelled synthetic scans: drawn head slices with drawn tumours, their masks and their patients.

They prove the pipeline without data and without a network; they say nothing about real patients. What makes them
useful is one property: **nothing but the tumour tells the classes apart**. Everything else (person, plane, position of
the cut, contrast, pose, blur, noise) comes from random streams that know neither the class nor whether a tumour is
painted, and planes and contrasts run through the same cycle in every class. With `lesions=False` the same slices come
without their tumours, so that anyone can train on them and see the accuracy stay at chance.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from braincam.dataset.phantom_head import CONTRASTS, PLANES, Head, at_another_level, make_head, paint_head
from braincam.dataset.phantom_lesion import Lesion, paint_lesion, place_lesion, tumour_area
from braincam.dataset.phantom_shapes import Brush, Floats
from braincam.errors import DataError

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")

_ENLARGED = {"axial": 1.1, "coronal": 1.04, "sagittal": 1.0}  # a smaller field of view where no face is shown

_PERSON, _CUT, _NOISE, _TUMOUR = range(4)  # independent random streams


@dataclass(frozen=True, eq=False)
class PhantomSlice:
    """One drawn slice: grey pixels (size, size) uint8, and the mask of its tumour (size, size) bool."""

    patient: str
    label: str
    index: int
    plane: str
    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Cut:
    """How one slice was taken: the plane, where it lies, and what the scanner did to it."""

    plane: str
    offset: float  # position along the normal, in [-1, 1]
    turn: float  # degrees
    scale: float
    shift: tuple[float, float]
    stretch: tuple[float, float]  # width and height of the head
    bend: tuple[float, float, float, float]  # a slow warp: two heights, two phases
    mirrored: bool
    blur: float  # in 1/224 of the field of view
    noise: float
    gain: float
    bias: tuple[float, ...]

    def coordinates(self, size: int) -> tuple[Floats, Floats]:
        """Head coordinates (x, y) of every pixel centre."""
        line = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(2 / size) - 1
        right, up = line[None, :] - np.float32(self.shift[0]), -line[:, None] - np.float32(self.shift[1])
        c, s = np.cos(np.deg2rad(self.turn)) / self.scale, np.sin(np.deg2rad(self.turn)) / self.scale
        x = (np.float32(c) * right + np.float32(s) * up) / np.float32(self.stretch[0])
        y = (np.float32(c) * up - np.float32(s) * right) / np.float32(self.stretch[1])
        if self.mirrored:
            x = -x
        high, wide, first, second = (np.float32(value) for value in self.bend)
        across, along = x + high * np.sin(2.2 * y + first), y + wide * np.sin(2.2 * x + second)
        return np.asarray(across, np.float32), np.asarray(along, np.float32)


def make_slices(
    patients: int = 160, slices_per_patient: int = 4, seed: int = 0, size: int = 224, lesions: bool = True
) -> Iterator[PhantomSlice]:
    """Draw slices patient by patient; patient k has class k % 4 and is the same whatever `patients` is."""
    if patients < len(CLASSES):
        raise DataError(f"patients: expected {len(CLASSES)} or more (one for each class), got {patients}")
    if slices_per_patient < 1:
        raise DataError(f"slices_per_patient: expected 1 or more, got {slices_per_patient}")
    if seed < 0:
        raise DataError(f"seed: expected 0 or more, got {seed}")
    if not 32 <= size <= 1024:
        raise DataError(f"size: expected 32 to 1024 pixels, got {size}")
    return (
        piece
        for patient in range(patients)
        for piece in _draw_patient(patient, slices_per_patient, seed, size, lesions)
    )


def _draw_patient(patient: int, slices: int, seed: int, size: int, lesions: bool) -> Iterator[PhantomSlice]:
    rank, label = patient // len(CLASSES), CLASSES[patient % len(CLASSES)]
    contrast = CONTRASTS[rank % len(CONTRASTS)]
    person = np.random.default_rng((seed, patient, _PERSON))
    head, build = make_head(person, contrast), draw_build(person)
    tumour = np.random.default_rng((seed, patient, _TUMOUR))
    area = tumour_area(tumour, label) if label != "notumor" else 0.0
    for index in range(slices):
        plane = PLANES[(rank + index) % len(PLANES)]
        cut = draw_cut(np.random.default_rng((seed, patient, _CUT, index)), plane, build)
        if index >= len(PLANES) and index % len(PLANES) == 0:  # a plane comes again: two levels are no copies
            head = at_another_level(head, np.random.default_rng((seed, patient, _PERSON, index)))
        lesion = None
        if lesions and label != "notumor":
            place = np.random.default_rng((seed, patient, _TUMOUR, index))
            disc = np.sqrt(4 * area / np.pi / (cut.stretch[0] * cut.stretch[1])) / cut.scale
            lesion = place_lesion(place, label, plane, float(disc * place.uniform(0.92, 1.05)))
        noise = np.random.default_rng((seed, patient, _NOISE, index))
        pixels, mask = draw(head, cut, contrast, lesion, size, noise)
        yield PhantomSlice(f"patient-{patient:04d}", label, index, plane, pixels, mask)


@dataclass(frozen=True)
class Build:
    """What stays the same over a patient's slices, besides the head itself."""

    stretch: tuple[float, float]
    scale: float
    mirrored: bool
    gain: float
    noise: float
    bend: tuple[float, float, float, float]


def draw_build(rng: np.random.Generator) -> Build:
    """Draw one person's build."""
    return Build(
        stretch=(float(rng.uniform(0.94, 1.03)), float(rng.uniform(0.94, 1.03))),
        scale=float(rng.uniform(0.88, 1.0)),
        mirrored=bool(rng.random() < 0.5),
        gain=float(rng.uniform(0.85, 1.5)),  # exported at a window narrow or wide: above 1 the brightest fat is clipped
        noise=float(rng.uniform(0.008, 0.026)),
        bend=tuple(rng.uniform((-0.02, -0.02, 0, 0), (0.02, 0.02, 6, 6)).tolist()),
    )


def draw_cut(rng: np.random.Generator, plane: str, build: Build) -> Cut:
    """Draw how one slice was taken."""
    return Cut(
        plane=plane,
        offset=float(rng.uniform(-1, 1)),
        turn=float(np.clip(rng.normal(0, 5), -12, 12)),
        scale=build.scale * _ENLARGED[plane] * float(rng.uniform(0.98, 1.02)),
        shift=(float(rng.uniform(-0.05, 0.05)), float(rng.uniform(-0.05, 0.05))),
        stretch=build.stretch,
        bend=build.bend,
        mirrored=build.mirrored,
        blur=float(rng.uniform(0.5, 1.0)),
        noise=build.noise,
        gain=build.gain,
        bias=tuple(rng.normal(0, 0.09, 5).tolist()),
    )


def draw(
    head: Head, cut: Cut, contrast: str, lesion: Lesion | None, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Paint, then take the picture: blur, uneven coil sensitivity, Rician noise, 8 bits."""
    x, y = cut.coordinates(size)
    pixels = np.zeros((size, size), np.float32)
    edge = 2.6 / size / cut.scale
    bones = Brush(pixels, x, y, edge)
    inside = bones if lesion is None else Brush(pixels, *lesion.pushed(x, y), edge)
    inner = paint_head(bones, inside, head, cut.plane, cut.offset)
    mask = np.zeros((size, size), np.bool_)
    if lesion is not None:
        mask = paint_lesion(bones, head, contrast, lesion, inner) > 0.5
    kernel = _blur_matrix(size, cut.blur * size / 224)
    pixels = np.asarray(kernel @ pixels @ kernel.T, np.float32)
    line = np.linspace(-1, 1, size, dtype=np.float32)
    u, v = line[None, :], line[:, None]
    b = np.array(cut.bias, np.float32)
    pixels *= np.exp(b[0] * u + b[1] * v + b[2] * u * v + b[3] * (u * u - 0.3) + b[4] * (v * v - 0.3))
    noise = rng.standard_normal((2, size, size), np.float32) * np.float32(cut.noise)
    magnitude = np.hypot(pixels + noise[0], noise[1]) * np.float32(255 * cut.gain)
    return np.clip(np.rint(magnitude), 0, 255).astype(np.uint8), mask


def _blur_matrix(size: int, sigma: float) -> Floats:
    """Gaussian smoothing of one axis as a matrix: rows sum to one."""
    step = np.arange(size, dtype=np.float32)
    kernel = np.exp(-0.5 * ((step[:, None] - step[None, :]) / np.float32(sigma)) ** 2)
    kernel[kernel < 1e-4] = 0
    return np.asarray(kernel / kernel.sum(1, keepdims=True), np.float32)


def write_phantom(out: Path, patients: int = 160, slices_per_patient: int = 4, seed: int = 0, size: int = 224) -> int:
    """Write `data/<class>/*.png`, `masks/<class>/*.png` (tumours only) and `patients.csv`.

    Returns the number of slices. Everything is drawn into a hidden folder first and moved into place at the end,
    `data` last.

    Raises:
        DataError: an argument is out of range, or the folder already holds something of that name.
    """
    slices = make_slices(patients, slices_per_patient, seed, size)
    _refuse_to_overwrite(out)
    out.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".phantom-", dir=out))
    try:
        written = _write_into(partial, slices)
        for name in ("masks", "patients.csv", "data"):
            if (out / name).is_dir():
                (out / name).rmdir()  # empty, as checked above
            (partial / name).replace(out / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return written


def _refuse_to_overwrite(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: expected a folder to write to, got a file; choose another folder")
    for name in ("data", "masks", "patients.csv"):
        there = out / name
        if there.is_file() or (there.is_dir() and any(there.iterdir())):
            raise DataError(f"{there} already exists; choose another folder, or remove it first")


def _write_into(folder: Path, slices: Iterator[PhantomSlice]) -> int:
    for name in CLASSES:
        (folder / "data" / name).mkdir(parents=True)
        if name != "notumor":
            (folder / "masks" / name).mkdir(parents=True)
    written = 0
    with (folder / "patients.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "label", "patient"))
        for piece in slices:
            path = f"{piece.label}/{piece.patient}-{piece.index}.png"
            Image.fromarray(piece.pixels).save(folder / "data" / path)
            if piece.label != "notumor":
                Image.fromarray(piece.mask.astype(np.uint8) * 255).save(folder / "masks" / path)
            table.writerow((path, piece.label, piece.patient))
            written += 1
    return written
