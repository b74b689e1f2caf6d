"""The three drawn tumours: where they grow, what they push aside, how they look, which pixels they cover.

- *glioma*: inside the brain, ragged; a bright uneven rim round a dark dead core, oedema around it.
- *meningioma*: outside the brain on the dura (convexity, skull base or falx); smooth, bright, even,
  with a dural tail, and a thin cleft of CSF towards the brain that it pushes in.
- *pituitary*: an adenoma that grows out of the sella, on the midline, bright and fairly even, lifting the chiasm.

Head coordinates throughout (see `phantom_head`). In the contrasts without contrast medium the tumours are drawn more
conspicuous than they often are in life: they are there to be learnt from in a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from braincam.dataset.phantom_head import INNER, SELLA, Head
from braincam.dataset.phantom_shapes import Brush, Floats, Point, Texture, ellipse_distance

MEDIAN_AREA: Mapping[str, float] = MappingProxyType({"glioma": 0.027, "meningioma": 0.017, "pituitary": 0.019})
_LARGEST_AREA: Mapping[str, float] = MappingProxyType({"glioma": 0.034, "meningioma": 0.028, "pituitary": 0.032})
_REACH = 1.6  # the mass effect ends at this multiple of the radius


@dataclass(frozen=True)
class _Glow:
    """Brightness of the parts of a tumour in one contrast."""

    rim: float
    core: float
    oedema: float
    meningioma: float
    adenoma: float


_GLOW: Mapping[str, _Glow] = MappingProxyType(
    {
        "t1": _Glow(rim=0.90, core=0.06, oedema=0.24, meningioma=0.78, adenoma=0.76),
        "t1c": _Glow(rim=0.95, core=0.06, oedema=0.22, meningioma=0.84, adenoma=0.82),
        "t2": _Glow(rim=0.24, core=0.95, oedema=0.72, meningioma=0.68, adenoma=0.70),
        "flair": _Glow(rim=0.92, core=0.06, oedema=0.64, meningioma=0.78, adenoma=0.76),
    }
)


@dataclass(frozen=True, eq=False)
class Lesion:
    """One tumour in one cut."""

    kind: str
    centre: Point
    radius: float
    squash: float  # ratio of the two axes
    tilt: float  # degrees
    side: int  # for a meningioma of the falx: -1 left, 1 right; otherwise 0
    outlines: tuple[Floats, Floats]  # relative radius at 361 angles, from -180 to 180 degrees: body, oedema
    grain: Texture
    glow: float  # relative brightness

    def _span(self, x: Floats, y: Floats) -> Floats:
        """Distance from the centre in radii."""
        radii = (self.radius, self.radius * self.squash)
        return ellipse_distance(x, y, self.centre, radii, self.tilt) / np.float32(min(radii)) + 1

    def pushed(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Coordinates from which the displaced brain is painted; unchanged beyond `_REACH` radii."""
        strength = {"glioma": 0.35, "meningioma": 0.9, "pituitary": 0.9}[self.kind]
        left = np.clip(1 - self._span(x, y) / np.float32(_REACH), 0, 1)
        pull = np.float32(strength) * left * left  # exactly 0 far away, so that nothing changes there
        cx, cy = np.float32(self.centre[0]), np.float32(self.centre[1])
        return x - (x - cx) * pull, y - (y - cy) * pull


def tumour_area(rng: np.random.Generator, kind: str) -> float:
    """Share of the picture that a patient's tumour covers."""
    return float(np.clip(MEDIAN_AREA[kind] * np.exp(rng.normal(0, 0.35)), 0.0075, _LARGEST_AREA[kind]))


def place_lesion(rng: np.random.Generator, kind: str, plane: str, radius: float) -> Lesion:
    """Choose where a tumour of a given radius (that of a disc of the same area) sits in a plane."""
    side, squash, tilt = 0, float(rng.uniform(0.85, 1.0)), float(rng.uniform(0, 180))
    if kind == "glioma":
        centre = _inside_the_brain(rng, plane, radius)
    elif kind == "meningioma":
        radius *= 1.08  # the cap beyond the dura is cut off
        centre, side, tilt = _on_the_dura(rng, plane, radius)
    else:
        x, y = SELLA[plane]
        rise = 0.0 if plane == "axial" else 0.3 * radius
        centre = (x + float(rng.normal(0, 0.01)), y + rise)
    ragged = 0.16 if kind == "glioma" else 0.04
    return Lesion(
        kind=kind,
        centre=centre,
        radius=radius,
        squash=squash,
        tilt=tilt,
        side=side,
        outlines=(_wavy(rng, ragged), _wavy(rng, 0.17)),
        grain=Texture(rng, 0.12),
        glow=float(rng.uniform(0.94, 1.06)),
    )


def _wavy(rng: np.random.Generator, roughness: float) -> Floats:
    angles = np.linspace(-np.pi, np.pi, 361)
    waves = np.arange(2, 9)
    heights = roughness * rng.normal(0, 1, 7) / waves**0.6
    phases = rng.uniform(0, 2 * np.pi, 7)
    radii = 1 + heights @ np.cos(waves[:, None] * angles + phases[:, None])
    return np.asarray(np.clip(radii, 0.6, 1.45), np.float32)


def _inside_the_brain(rng: np.random.Generator, plane: str, radius: float) -> Point:
    """Inside the brain, anywhere but at the sella; also deep, on the midline and in the hindbrain."""
    x, y = rng.uniform(-0.7, 0.7, (2, 400)).astype(np.float32)
    sella = np.hypot(x - SELLA[plane][0], y - SELLA[plane][1]) - (0.1 + radius)
    room = np.minimum(-INNER[plane].distance(x, y) - (0.06 + 0.75 * radius), sella)
    chosen = int(np.argmax(room > 0)) if (room > 0).any() else int(np.argmax(room))  # a big one takes the widest place
    return float(x[chosen]), float(y[chosen])


def _on_the_dura(rng: np.random.Generator, plane: str, radius: float) -> tuple[Point, int, float]:
    """Half outside the brain: a centre a little inside the skull (or beside the falx), its side and its tilt."""
    depth, side = 0.65 * radius, int(rng.choice((-1, 1)))
    if plane != "sagittal" and rng.random() < 0.25:
        height = float(rng.uniform(0.45, 0.6))
        if plane == "axial" and rng.random() < 0.5:
            height = -height
        return (side * depth, height), side, 90.0
    while True:  # anywhere, also on the skull base, but for the sella
        angle = float(rng.uniform(-np.pi, np.pi))
        x, y = INNER[plane].at(angle, depth)
        if np.hypot(x - SELLA[plane][0], y - SELLA[plane][1]) > 0.1 + radius:
            return (x, y), 0, float(np.rad2deg(angle)) + 90


def paint_lesion(brush: Brush, head: Head, contrast: str, lesion: Lesion, inner: Floats) -> Floats:
    """Paint a tumour; returns the share of each pixel that it covers, oedema and dural tail included."""
    x, y, glow = brush.x, brush.y, _GLOW[contrast]
    angle = np.rad2deg(np.arctan2(y - np.float32(lesion.centre[1]), x - np.float32(lesion.centre[0])))
    body, swelling = (np.interp(angle, np.arange(-180, 181), o).astype(np.float32) for o in lesion.outlines)
    span, grain = lesion._span(x, y), lesion.grain(x, y)
    if lesion.kind == "glioma":
        return _paint_glioma(brush, head, lesion, glow, (span, body, swelling, grain, inner))
    distance = (span - body) * np.float32(lesion.radius)
    if lesion.kind == "pituitary":
        share = brush.cover(distance)
        brush.fill(share, np.float32(lesion.glow * glow.adenoma) * (1 + np.float32(0.05) * grain))
        return share
    even = np.float32(lesion.glow * glow.meningioma) * (1 + np.float32(0.025) * grain)
    dura = np.maximum(inner, 0.006 - lesion.side * x) if lesion.side else inner
    brush.fill(brush.cover(np.maximum(distance - 0.013, dura)) * np.float32(0.8), head.tissues.csf)
    tail = np.abs(dura + 0.012) - np.float32(0.016) * np.clip((1.5 - span) * 2.5, 0, 1) + (span > 1.45)
    share = np.maximum(brush.cover(np.maximum(distance, dura)), brush.cover(tail))
    brush.fill(share, even)
    return share


def _paint_glioma(
    brush: Brush,
    head: Head,
    lesion: Lesion,
    glow: _Glow,
    fields: tuple[Floats, Floats, Floats, Floats, Floats],
) -> Floats:
    span, body, swelling, grain, inner = fields
    radius = np.float32(lesion.radius)
    within = brush.cover(inner + np.float32(head.rim + 0.01))
    oedema = brush.cover((span - swelling - np.float32(0.07) * grain) * radius, 3) * within
    brush.fill(oedema * np.float32(0.85), glow.oedema * (1 + np.float32(0.04) * grain))
    outer = (span - np.float32(0.78) * body) * radius
    solid = brush.cover(outer, 1.5) * within
    brush.fill(solid, np.float32(lesion.glow * glow.rim) * (1 + np.float32(0.09) * grain))
    dead = (span - (np.float32(0.63) - np.float32(0.2) * swelling) * body - np.float32(0.06) * grain) * radius
    brush.fill(brush.cover(dead, 1.5) * within, glow.core * (1 + np.float32(0.15) * grain))
    return np.asarray(np.maximum(oedema, solid), np.float32)
