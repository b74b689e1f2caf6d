"""How alike two slices are, whatever was done to one of them: another window, gamma or sharpening, inverted greys, a
mirror, quarter turns, a margin, another size, a crop.

A slice is seen twice, as a whole and with its head framed, since a margin moves the one and a gamma the other. What is
compared is its *texture*: the picture less its local mean, over its local spread. Windows and gammas leave it, and the
next slice of the same head has another one. Pairs that nearly fit are registered first: a scale and a shift per axis,
by the inverse-compositional method (Baker and Matthews 2004, doi 10.1023/B:VISI.0000011205.11775.fd).

Filters are matrices applied from both sides, so thousands of thumbnails are one product. Axes: N slices, two views,
SIDE x SIDE pixels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 64  # pixels of a thumbnail
VIEWS = 2  # the whole picture, the framed head
ZOOMS = (0.9, 0.8)  # of the picture: what a crop of 5 or 10 % on each side leaves
CELLS = 8  # a descriptor has CELLS x CELLS places
ORIENTATIONS = 6
MAX_STRETCH = 0.35  # natural logarithm of the largest scale that registration may reach
LEAST_OVERLAP = 0.4  # of the area; less is no ground for a judgement

FINE = 1.5  # pixels: local means and spreads of a texture are taken over about this far
_STEPS = 8  # per level; four lose a tenth of the crops, twelve find no more
_UNIT = 24.0  # one spread of texture in int8 steps
# Of a filter's largest weight. Smaller ones would be denormal in float32, with which a matrix product takes 20 times as
# long, and add nothing to a sum.
NEGLIGIBLE = 1e-30
_TISSUE = 0.25  # of the picture's typical bright level, as in network/framing.py
_TAIL = 0.02  # of the tissue on each side lies outside the head's extent, so that a speck does not move it

Floats = NDArray[np.float32]
Textures = NDArray[np.int8]


# -- what is kept of a slice -------------------------------------------------------------------------------------------


def views(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The two views of a slice, (H, W) → (2, SIDE, SIDE), area-averaged."""
    height, width = pixels.shape
    left, top, right, bottom = find_head(pixels)
    margin = int(np.ceil(max(0.0, -left, -top, right - width, bottom - height)))
    padded = Image.fromarray(np.pad(pixels, margin))
    head = (left + margin, top + margin, right + margin, bottom + margin)
    whole = (margin, margin, width + margin, height + margin)
    return np.stack([np.asarray(padded.resize((SIDE, SIDE), Image.Resampling.BOX, box=box)) for box in (whole, head)])


def zooms(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle of a slice at each of `ZOOMS`, (H, W) → (Z, SIDE, SIDE): what a cropped copy would look like."""
    height, width = pixels.shape
    picture = Image.fromarray(pixels)
    boxes = [tuple(side * (1 + sign * zoom) / 2 for sign in (-1, 1) for side in (width, height)) for zoom in ZOOMS]
    return np.stack([np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX, box=box)) for box in boxes])


def find_head(pixels: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the head in pixels, a little generous; the whole picture where there is none.

    Extents are quantiles of the tissue along each axis, in fractions of a pixel: they move little when a crop takes a
    part of the head away.
    """
    values = pixels.astype(np.float32)
    typical = float(np.square(values).sum() / max(values.sum(), 1.0))
    tissue = values > _TISSUE * typical
    if np.ptp(pixels) == 0:
        return 0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0])
    (left, right), (top, bottom) = _extent(tissue.sum(0)), _extent(tissue.sum(1))
    return left, top, right, bottom


def _extent(tissue: NDArray[np.int64]) -> tuple[float, float]:
    """Where the tissue along one axis begins and ends, with a tenth added on both sides."""
    below = np.concatenate(([0], np.cumsum(tissue))).astype(np.float64)
    if below[-1] == 0:
        return 0.0, float(len(tissue))
    first, last = np.interp([_TAIL * below[-1], (1 - _TAIL) * below[-1]], below, np.arange(len(below)))
    margin = 0.1 * max(last - first, 1.0)
    return float(first - margin), float(last + margin)


def textures(pictures: NDArray[np.uint8]) -> Textures:
    """Local contrast, (N, SIDE, SIDE) uint8 → int8, clipped at five spreads; even areas become 0."""
    values = pictures.astype(np.float32)
    detail = values - _blur(values, FINE)
    energy = np.square(detail)
    floor = 0.15 * np.sqrt(energy.mean((1, 2), keepdims=True))
    spread = np.sqrt(np.maximum(_blur(energy, FINE), 0)) + floor
    steps = np.rint(detail / np.maximum(spread, 0.3) * _UNIT)
    return np.asarray(np.clip(steps, -127, 127), np.int8)


def descriptors(pictures: NDArray[np.uint8]) -> Floats:
    """Which way the edges run in each place, (N, SIDE, SIDE) → (N, D) of norm 1; blind to contrast and small shifts.

    A histogram of gradient orientations (Dalal and Triggs 2005, doi 10.1109/CVPR.2005.177), edges without a sign,
    overlapping cells.
    """
    smooth = _blur(pictures.astype(np.float32), 1.0)
    down, across = np.gradient(smooth, axis=(1, 2))
    strength = np.hypot(across, down)
    weight = 1 / (_blur(strength, 6.0) + 0.1 * strength.mean((1, 2), keepdims=True) + 1e-6)
    # of twice the angle, since an edge has no sign: (cos, sin) times the strength
    weight /= np.maximum(strength, 1e-6)
    cosine, sine = (across**2 - down**2) * weight, 2 * across * down * weight
    tents = _tents(SIDE, CELLS)
    found = np.empty((len(pictures), ORIENTATIONS, CELLS, CELLS), np.float32)
    for number in range(ORIENTATIONS):
        angle = 2 * np.pi * number / ORIENTATIONS
        along = np.maximum(0, np.float32(np.cos(angle)) * cosine + np.float32(np.sin(angle)) * sine)
        found[:, number] = tents @ along @ tents.T
    rows = np.sqrt(np.maximum(found, 0)).reshape(len(pictures), -1)
    rows -= rows.mean(1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), np.float32)


class Pose(NamedTuple):
    """One of the eight ways in which a square picture can lie: mirrored first, then turned anticlockwise."""

    mirrored: bool = False
    quarters: int = 0

    @property
    def inverse(self) -> Pose:
        """What undoes it; a mirror image, however turned, undoes itself."""
        return self if self.mirrored else Pose(False, -self.quarters % 4)


POSES = tuple(Pose(mirrored, quarters) for quarters in range(4) for mirrored in (False, True))


def posed(pictures: NDArray[Any], pose: Pose) -> NDArray[Any]:
    """The pictures (..., S, S) as they look in a pose: a view."""
    return np.rot90(pictures[..., ::-1] if pose.mirrored else pictures, pose.quarters, axes=(-2, -1))


def posed_descriptors(rows: Floats, pose: Pose) -> Floats:
    """The descriptors of the slices in a pose: places move, an edge at angle a runs at pi - a in a mirror."""
    grid = rows.reshape(-1, ORIENTATIONS, CELLS, CELLS)
    if pose.mirrored:
        grid = grid[:, -np.arange(ORIENTATIONS) % ORIENTATIONS, :, ::-1]
    # a quarter turn is half a turn of twice the angle
    turned = np.roll(np.rot90(grid, pose.quarters, axes=(2, 3)), pose.quarters * ORIENTATIONS // 2, axis=1)
    return np.ascontiguousarray(turned.reshape(rows.shape))


# -- how alike two slices are ------------------------------------------------------------------------------------------


def correlation(first: Textures, second: Textures) -> Floats:
    """Of textures as they lie: (N, SIDE, SIDE) twice → (N,) in [-1, 1]."""
    a, b = (texture.reshape(len(texture), -1).astype(np.float32) for texture in (first, second))
    return _ratio(np.einsum("np,np->n", a, b), np.einsum("np,np->n", a, a) * np.einsum("np,np->n", b, b))


def registered_correlation(first: Textures, second: Textures, warps: Floats) -> Floats:
    """Of textures after the second is laid onto the first: (N,) over the overlap, 0 where that is too small."""
    inside = _inside(warps, SIDE)
    a = first.astype(np.float32) * inside
    b = warp(second.astype(np.float32), warps) * inside
    alike = _ratio(np.einsum("nij,nij->n", a, b), np.square(a).sum((1, 2)) * np.square(b).sum((1, 2)))
    return np.where(inside.mean((1, 2)) >= LEAST_OVERLAP, alike, np.float32(0))


def soften(pictures: Textures, side: int) -> Floats:
    """Textures, smoothed and made smaller, as registration likes them: (N, SIDE, SIDE) → (N, side, side)."""
    smaller = _tents(SIDE, side) @ _gaussian(SIDE, SIDE / side * 0.75)
    return np.asarray(smaller @ pictures.astype(np.float32) @ smaller.T, np.float32)


def unmoved(n: int) -> Floats:
    """Warps that change nothing, (N, 4): scale x, scale y, shift x, shift y, where a thumbnail spans [-1, 1]."""
    return np.tile(np.array([1, 1, 0, 0], np.float32), (n, 1))


def inverse(warps: Floats, mirrored: bool) -> Floats:
    """The warps (N, 4) that lay the first onto the second; where one is `mirrored`, the mirror changes hands."""
    scale, shift = 1 / warps[:, :2], -warps[:, 2:] / warps[:, :2]
    return np.concatenate((scale, shift * [-1, 1] if mirrored else shift), 1).astype(np.float32)


def register(fixed: Floats, moving: Floats, warps: Floats) -> tuple[Floats, Floats]:
    """Improve the warps (N, 4) that lay `moving` (N, S, S) onto `fixed`; also the correlations (N,) that they reach.

    Inverse-compositional steps: the Jacobian belongs to the fixed picture, so it is made once.
    """
    n, side = len(fixed), fixed.shape[-1]
    fixed = _standardised(fixed)
    grid = np.linspace(-1, 1, side, dtype=np.float32)
    down, across = np.gradient(fixed, grid[1] - grid[0], axis=(1, 2))
    jacobian = np.stack((across * grid, down * grid[:, None], across, down), 1).reshape(n, 4, -1)
    hessian = jacobian @ jacobian.transpose(0, 2, 1)
    hessian += (0.01 * np.trace(hessian, axis1=1, axis2=2)[:, None, None] / 4 + 1e-6) * np.eye(4, dtype=np.float32)
    solver = np.linalg.inv(hessian) @ jacobian  # (N, 4, S * S)
    for _ in range(_STEPS):
        inside = _inside(warps, side)
        error = (_standardised(warp(moving, warps) * inside) - fixed) * inside
        step = np.clip(np.einsum("nip,np->ni", solver, error.reshape(n, -1)), -0.1, 0.1)
        # the step moves the fixed picture; its inverse is put before the warp
        scale = warps[:, :2] / (1 + step[:, :2])
        shift = warps[:, 2:] - scale * step[:, 2:]
        warps = np.concatenate(
            (np.clip(scale, np.exp(-MAX_STRETCH), np.exp(MAX_STRETCH)), np.clip(shift, -MAX_STRETCH, MAX_STRETCH)), 1
        )
    inside = _inside(warps, side)
    moved = _standardised(warp(moving, warps) * inside)
    return warps, np.einsum("nij,nij->n", moved, _standardised(fixed * inside))


def warp(pictures: Floats, warps: Floats) -> Floats:
    """Sample at ``scale * x + shift``, bilinear, 0 outside: (N, S, S), (N, 4) → (N, S, S)."""
    side = pictures.shape[-1]
    places = (_sampled(warps, side) + 1) / 2 * (side - 1)  # (N, 2, S) in pixels
    hats = places[..., None] - np.arange(side, dtype=np.float32)  # (N, 2, S, S)
    np.maximum(0, np.subtract(1, np.abs(hats, out=hats), out=hats), out=hats)
    return np.asarray(hats[:, 1] @ pictures @ hats[:, 0].transpose(0, 2, 1), np.float32)


def _sampled(warps: Floats, side: int) -> Floats:
    """Where each line of the result looks, in [-1, 1] where it is inside: (N, 2, S), x first."""
    grid = np.linspace(-1, 1, side, dtype=np.float32)
    return np.asarray(warps[:, :2, None] * grid + warps[:, 2:, None], np.float32)


def _inside(warps: Floats, side: int) -> Floats:
    """1 where the warp looks inside the picture: (N, S, S)."""
    line = (np.abs(_sampled(warps, side)) <= 1).astype(np.float32)
    return np.asarray(line[:, 1, :, None] * line[:, 0, None, :], np.float32)


# -- small pieces ------------------------------------------------------------------------------------------------------


def _blur(pictures: Floats, sigma: float) -> Floats:
    """Gaussian smoothing, (N, S, S); at the edges over what is there."""
    kernel = _gaussian(pictures.shape[-1], sigma)
    return np.asarray(kernel @ pictures @ kernel.T, np.float32)


def _gaussian(side: int, sigma: float) -> Floats:
    """Smoothing as a matrix, (S, S); rows add up to 1."""
    place = np.arange(side)
    weights = np.exp(-0.5 * ((place[:, None] - place) / sigma) ** 2)
    weights[weights < NEGLIGIBLE] = 0
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def _tents(side: int, cells: int) -> Floats:
    """Overlapping averages of `side` lines into `cells`, as a matrix (cells, side); rows add up to 1."""
    width = side / cells
    centre = (np.arange(cells) + 0.5) * width - 0.5
    weights = np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(side)) / width)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def _standardised(pictures: Floats) -> Floats:
    """Each of mean 0 and norm 1; a flat one is 0."""
    values = pictures - pictures.mean((1, 2), keepdims=True)
    return np.asarray(values / np.maximum(np.sqrt(np.square(values).sum((1, 2), keepdims=True)), 1e-6), np.float32)


def _ratio(products: Floats, squares: Floats) -> Floats:
    """A correlation from its sums; 0 where one side is flat."""
    return np.asarray(np.divide(products, np.sqrt(squares), out=np.zeros_like(products), where=squares > 0), np.float32)
