"""What goes wrong between a scanner and a file, imitated on grey slices at five strengths. NumPy, SciPy and Pillow.

After MedMNIST-C (arXiv:2406.17536) and ImageNet-C (arXiv:1903.12261), with what is particular to MRI made where it
arises: in k-space, the Fourier transform of the slice. Every corruption is a function of a slice in [0, 1] (H, W), a
strength from 1 to 5 and a random generator; what comes out is clipped to [0, 1] by `corrupt`.

Families marked `in_training` resemble the training augmentation: a model of this recipe has met their like.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]

STRENGTHS = (1, 2, 3, 4, 5)


class Corruption(NamedTuple):
    """How to make it, and whether the training augmentation has something of the kind."""

    make: Callable[[Floats, int, np.random.Generator], Floats]
    in_training: bool


def corrupt(pixels: Pixels, name: str, strength: int, random: np.random.Generator) -> Pixels:
    """A grey slice (H, W) with one corruption of `CORRUPTIONS` at a strength from 1 to 5: (H, W)."""
    changed = CORRUPTIONS[name].make(pixels.astype(np.float64) / 255, strength, random)
    grey: Pixels = np.rint(changed.clip(0, 1) * 255).astype(np.uint8)
    return grey


def _level(strength: int, *levels: float) -> float:
    return levels[strength - 1]


def motion(slice_: Floats, strength: int, random: np.random.Generator) -> Floats:
    """The head moves a few times while lines of k-space are taken: each share of the lines comes from another pose."""
    moves = 4
    far = _level(strength, 0.005, 0.01, 0.015, 0.025, 0.04) * min(slice_.shape)
    angle = _level(strength, 0.5, 1, 1.5, 2.5, 4)
    lines = np.fft.fftfreq(slice_.shape[0])
    order = np.argsort(np.abs(lines))[::-1]  # from the rim of k-space to its middle, which is taken in the first pose
    touched = order[: round(len(order) * _level(strength, 0.4, 0.55, 0.7, 0.8, 0.9))]
    spectrum = np.fft.fft2(slice_)
    for k, part in enumerate(np.array_split(touched, moves)):
        turned = ndimage.rotate(slice_, random.uniform(-angle, angle) * (1 + k) / moves, reshape=False, order=1)
        moved = ndimage.shift(turned, random.uniform(-far, far, 2), order=1)
        spectrum[part] = np.fft.fft2(moved)[part]
    return np.abs(np.fft.ifft2(spectrum))


def ghosting(slice_: Floats, strength: int, random: np.random.Generator) -> Floats:
    """Breathing and pulsation: every n-th line of k-space is weaker, so that faint copies lie along one axis."""
    every = int(random.integers(2, 5))
    spectrum = np.fft.fft2(slice_)
    spectrum[::every] *= 1 - _level(strength, 0.1, 0.2, 0.3, 0.45, 0.6)
    spectrum[0] = np.fft.fft2(slice_)[0]  # the overall brightness stays
    return np.abs(np.fft.ifft2(spectrum))


def spike(slice_: Floats, strength: int, random: np.random.Generator) -> Floats:
    """A discharge while one point of k-space is taken: stripes over the whole slice."""
    spectrum = np.fft.fft2(slice_)
    height, width = slice_.shape
    row, column = (int(random.integers(3, max(4, side // 6))) for side in (height, width))
    size = _level(strength, 0.02, 0.04, 0.07, 0.1, 0.15) * slice_.size / 2
    phase = np.exp(2j * np.pi * random.random())
    spectrum[row, column] += size * phase
    spectrum[-row, -column] += size * np.conj(phase)
    return np.real(np.fft.ifft2(spectrum))


def ringing(slice_: Floats, strength: int, random: np.random.Generator) -> Floats:  # noqa: ARG001
    """Gibbs ringing: the rim of k-space was not taken, so that edges echo."""
    keep = _level(strength, 0.6, 0.5, 0.4, 0.32, 0.25)
    rows, columns = (np.abs(np.fft.fftfreq(side)) <= keep / 2 for side in slice_.shape)
    return np.abs(np.fft.ifft2(np.fft.fft2(slice_) * np.outer(rows, columns)))


def wrap_around(slice_: Floats, strength: int, random: np.random.Generator) -> Floats:  # noqa: ARG001
    """Aliasing: the field of view is too small along the phase, and what lies outside folds in on the other side."""
    shift = round(slice_.shape[0] * _level(strength, 0.3, 0.35, 0.4, 0.45, 0.5))
    return slice_ + _level(strength, 0.1, 0.15, 0.2, 0.3, 0.4) * np.roll(slice_, shift, axis=0)


def rician_noise(slice_: Floats, strength: int, random: np.random.Generator) -> Floats:
    """Noise of the receiver in both channels, then the magnitude (Gudbjartsson and Patz 1995)."""
    level = _level(strength, 0.02, 0.04, 0.06, 0.09, 0.13)
    real, imaginary = random.normal(0, level, (2, *slice_.shape))
    magnitude: Floats = np.hypot(slice_ + real, imaginary)
    return magnitude


def bias_field(slice_: Floats, strength: int, random: np.random.Generator) -> Floats:
    """A surface coil: the brightness falls off smoothly across the head."""
    coarse = random.uniform(-1, 1, (3, 3))
    field = ndimage.zoom(coarse, [side / 3 for side in slice_.shape], order=3, mode="nearest", grid_mode=True)
    depth = _level(strength, 0.2, 0.35, 0.5, 0.7, 0.9)
    shaded: Floats = slice_ * np.exp(depth * field[: slice_.shape[0], : slice_.shape[1]])
    return shaded


def blur(slice_: Floats, strength: int, random: np.random.Generator) -> Floats:  # noqa: ARG001
    """Thick slices, interpolation."""
    return ndimage.gaussian_filter(slice_, _level(strength, 0.6, 1, 1.5, 2.2, 3) * min(slice_.shape) / 224)


def down_sampling(slice_: Floats, strength: int, random: np.random.Generator) -> Floats:  # noqa: ARG001
    """A coarse matrix, enlarged again."""
    side = _level(strength, 128, 96, 80, 64, 48) / 224
    height, width = (max(16, round(length * side)) for length in slice_.shape)
    small = Image.fromarray(slice_.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(small.resize(slice_.shape[::-1], Image.Resampling.BICUBIC), np.float64)


def jpeg(slice_: Floats, strength: int, random: np.random.Generator) -> Floats:  # noqa: ARG001
    """Saved too small."""
    file = io.BytesIO()
    quality = int(_level(strength, 50, 35, 25, 15, 8))
    Image.fromarray(np.rint(slice_ * 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), np.float64) / 255


def contrast(slice_: Floats, strength: int, random: np.random.Generator) -> Floats:
    """A window set too wide or too narrow."""
    factor = _level(strength, 1.15, 1.3, 1.5, 1.8, 2.2)
    middle = float(slice_.mean())
    return (slice_ - middle) * (factor if random.random() < 0.5 else 1 / factor) + middle


def gamma(slice_: Floats, strength: int, random: np.random.Generator) -> Floats:
    """A display curve burnt into the pixels."""
    power = _level(strength, 1.2, 1.4, 1.7, 2, 2.5)
    return np.power(slice_, power if random.random() < 0.5 else 1 / power)


def rotation(slice_: Floats, strength: int, random: np.random.Generator) -> Floats:
    """A tilted head."""
    angle = _level(strength, 8, 14, 20, 30, 45) * random.choice((-1, 1))
    return ndimage.rotate(slice_, float(angle), reshape=False, order=1)


def crop(slice_: Floats, strength: int, random: np.random.Generator) -> Floats:
    """A field of view that cuts off one or two sides of the head."""
    height, width = slice_.shape
    cut = _level(strength, 0.06, 0.1, 0.15, 0.2, 0.28)
    top, left = (round(side * cut * random.random()) for side in slice_.shape)
    return slice_[top : top + round(height * (1 - cut)), left : left + round(width * (1 - cut))]


def dropped_lines(slice_: Floats, strength: int, random: np.random.Generator) -> Floats:
    """Accelerated or broken acquisition: lines of k-space are missing and were not estimated."""
    missing = np.less(random.random(slice_.shape[0]), _level(strength, 0.08, 0.15, 0.22, 0.3, 0.4))
    missing[np.abs(np.fft.fftfreq(slice_.shape[0])) < 0.06] = False
    spectrum = np.fft.fft2(slice_)
    spectrum[missing] = 0
    return np.abs(np.fft.ifft2(spectrum))


CORRUPTIONS: dict[str, Corruption] = {
    "motion": Corruption(motion, False),
    "ghosting": Corruption(ghosting, False),
    "spike": Corruption(spike, False),
    "ringing": Corruption(ringing, False),
    "wrap-around": Corruption(wrap_around, False),
    "dropped lines": Corruption(dropped_lines, False),
    "Rician noise": Corruption(rician_noise, True),
    "bias field": Corruption(bias_field, True),
    "blur": Corruption(blur, True),
    "down-sampling": Corruption(down_sampling, False),
    "JPEG": Corruption(jpeg, False),
    "contrast": Corruption(contrast, True),
    "gamma": Corruption(gamma, True),
    "rotation": Corruption(rotation, True),
    "crop": Corruption(crop, True),  # as zoom and shift do: an eighth of the area in 4 of 10 slices, a quarter in 1
}
