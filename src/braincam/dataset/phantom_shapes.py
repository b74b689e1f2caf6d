"""What the drawn heads are made of: closed outlines, ellipses, strokes, folded textures, and a soft brush.

Distances are signed: negative inside a shape, and only roughly to scale, which is all that soft edges need.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Point = tuple[float, float]


class Outline:
    """A closed smooth curve through corner points, star-shaped about its centre."""

    def __init__(self, points: Sequence[Point], centre: Point = (0.0, 0.0), mirror: bool = False) -> None:
        corners = np.array(points, np.float64)
        if mirror:
            corners = np.concatenate([corners, corners[corners[:, 0] > 0][::-1] * (-1, 1)])
        before, after, beyond = (np.roll(corners, -shift, axis=0)[:, None] for shift in (-1, 1, 2))
        t = np.linspace(0, 1, 16, endpoint=False)[None, :, None]
        curve = 0.5 * (  # Catmull-Rom: passes through every corner
            2 * corners[:, None]
            + (after - before) * t
            + (2 * before - 5 * corners[:, None] + 4 * after - beyond) * t**2
            + (3 * corners[:, None] - before - 3 * after + beyond) * t**3
        )
        offsets = curve.reshape(-1, 2) - centre
        angles = np.arctan2(offsets[:, 1], offsets[:, 0])
        order = np.argsort(angles)
        table = np.linspace(-np.pi, np.pi, 721)
        self.centre = centre
        self.radii = np.interp(table, angles[order], np.hypot(*offsets[order].T), period=2 * np.pi)
        slope = np.gradient(self.radii, table) / self.radii
        self.slant = np.maximum(1 / np.sqrt(1 + slope**2), 0.45)

    def distance(self, x: Floats, y: Floats) -> Floats:
        """Signed distance to the curve: negative inside."""
        dx, dy = x - self.centre[0], y - self.centre[1]
        place = (np.arctan2(dy, dx) + np.float32(np.pi)) * np.float32(720 / (2 * np.pi))
        nearest = np.clip(place + 0.5, 0, 720).astype(np.intp)
        radii, slant = self.radii.astype(np.float32), self.slant.astype(np.float32)
        lower = np.clip(place, 0, 719).astype(np.intp)
        radius = radii[lower] + (place - lower) * (radii[lower + 1] - radii[lower])
        return np.asarray((np.hypot(dx, dy) - radius) * slant[nearest], np.float32)

    def at(self, angle: float, depth: float = 0.0) -> Point:
        """The point of the curve seen from the centre at an angle in (-pi, pi], moved inwards by a depth."""
        place = round((angle + np.pi) / (2 * np.pi) * 720)
        reach = float(self.radii[place]) - depth / float(self.slant[place])
        return self.centre[0] + reach * float(np.cos(angle)), self.centre[1] + reach * float(np.sin(angle))


class Texture:
    """A periodic random field of one wavelength, mean 0 and deviation 1: its zero lines wander like sulci."""

    def __init__(self, rng: np.random.Generator, wavelength: float, samples: int = 128) -> None:
        waves = np.fft.fftfreq(samples, 2 / samples)  # cycles per unit; the field repeats every 2 units
        ring = np.hypot(waves[:, None], waves[None, :]) * wavelength
        noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((samples, samples))) * np.exp(-(((ring - 1) / 0.16) ** 2)))
        self.values = (noise.real / noise.real.std()).astype(np.float32)

    def __call__(self, x: Floats, y: Floats) -> Floats:
        """Sample the field with bilinear interpolation."""
        n = len(self.values)
        u, v = (x + 4) * np.float32(n / 2), (y + 4) * np.float32(n / 2)
        i, j = u.astype(np.int32), v.astype(np.int32)
        u -= i
        v -= j
        i %= n
        j %= n
        flat, down, right = self.values.ravel(), (j + 1) % n * n, (i + 1) % n
        j *= n
        top = flat[j + i] * (1 - u) + flat[j + right] * u
        return np.asarray(top * (1 - v) + (flat[down + i] * (1 - u) + flat[down + right] * u) * v, np.float32)


class Brush:
    """Paints soft-edged shapes into a picture that it shares with its siblings, optionally only inside a clip."""

    def __init__(self, pixels: Floats, x: Floats, y: Floats, edge: float, clip: Floats | None = None) -> None:
        self.pixels, self.x, self.y, self.edge, self.clip = pixels, x, y, edge, clip
        self.step = max(1, len(pixels) // 28)
        self.coarse = x[:: self.step, :: self.step], y[:: self.step, :: self.step]

    def mirrored(self) -> Brush:
        """A brush that paints the right half of the head and its mirror image."""
        return Brush(self.pixels, np.abs(self.x), self.y, self.edge, self.clip)

    def cover(self, distance: Floats, soft: float = 1.0) -> Floats:
        """Share of each pixel inside a shape, from its signed distance."""
        return np.asarray(np.clip(0.5 - distance * np.float32(1 / (self.edge * soft)), 0, 1), np.float32)

    def fill(self, share: Floats, value: float | Floats) -> None:
        """Blend a value in, by the share of each pixel."""
        if self.clip is not None:
            share = share * self.clip
        self.pixels += share * (value - self.pixels)

    def shape(self, distance: Floats, value: float | Floats, opacity: float = 1.0, soft: float = 1.0) -> None:
        """Fill where the signed distance is negative."""
        self.fill(self.cover(distance, soft) * np.float32(opacity), value)

    def ellipse(
        self,
        centre: Point,
        radii: Point,
        value: float,
        tilt: float = 0.0,
        opacity: float = 1.0,
        soft: float = 1.0,
    ) -> None:
        """Fill an ellipse; tilt in degrees, counter-clockwise."""
        part = self._near([centre], max(radii) + self.edge * soft)
        if part is not None:
            part.shape(ellipse_distance(part.x, part.y, centre, radii, tilt), value, opacity, soft)

    def stroke(self, points: Sequence[Point], width: float, value: float, opacity: float = 1.0) -> None:
        """Draw a line of a given half-width through points."""
        part = self._near(points, width + self.edge)
        if part is not None:
            part.shape(stroke_distance(part.x, part.y, points) - np.float32(width), value, opacity)

    def _near(self, points: Sequence[Point], margin: float) -> Brush | None:
        """The rectangle of the picture around some points, found on a coarse grid; painting all of it would be slow."""
        x, y = self.coarse
        (low_x, high_x), (low_y, high_y) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
        margin += self.edge * self.step * 1.4  # more than one coarse cell
        near = (x > low_x - margin) & (x < high_x + margin) & (y > low_y - margin) & (y < high_y + margin)
        rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
        if not len(rows):
            return None
        box = tuple(
            slice(max(0, (int(hits[0]) - 1) * self.step), (int(hits[-1]) + 1) * self.step) for hits in (rows, columns)
        )
        clip = None if self.clip is None else self.clip[box]
        return Brush(self.pixels[box], self.x[box], self.y[box], self.edge, clip)


def ellipse_distance(x: Floats, y: Floats, centre: Point, radii: Point, tilt: float = 0.0) -> Floats:
    """Rough signed distance to an ellipse."""
    turn = np.deg2rad(tilt)
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    u, v = (c * dx + s * dy) * np.float32(1 / radii[0]), (c * dy - s * dx) * np.float32(1 / radii[1])
    return (np.sqrt(u * u + v * v) - 1) * np.float32(min(radii))


def stroke_distance(x: Floats, y: Floats, points: Sequence[Point]) -> Floats:
    """Distance to an open chain of straight pieces."""
    nearest = np.full_like(x, np.inf)
    for (ax, ay), (bx, by) in pairwise(points):
        ex, ey = np.float32(bx - ax), np.float32(by - ay)
        dx, dy = x - np.float32(ax), y - np.float32(ay)
        along = np.clip((dx * ex + dy * ey) * (1 / (ex * ex + ey * ey)), 0, 1)
        dx -= along * ex
        dy -= along * ey
        squared = dx * dx + dy * dy
        nearest = np.minimum(nearest, squared)
    return np.sqrt(nearest)
