"""A drawn head: skull, scalp, face and brain as soft shapes in head coordinates, cut in three planes.

Head coordinates have their origin near the middle of the head and a unit of about half a field of view. x runs to
the picture's right (in a sagittal cut to the front), y runs up (in an axial cut to the front). Nothing in here knows
about classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from braincam.dataset.phantom_shapes import Brush, Floats, Outline, Point, Texture, ellipse_distance

PLANES = ("axial", "coronal", "sagittal")
CONTRASTS = ("t1", "t1c", "t2", "flair")
SELLA: Mapping[str, Point] = MappingProxyType(
    {"axial": (0.0, 0.08), "coronal": (0.0, -0.11), "sagittal": (0.17, -0.11)}
)


@dataclass(frozen=True)
class Tissues:
    """How bright each tissue is, in [0, 1]."""

    bone: float
    marrow: float
    fat: float
    muscle: float
    csf: float
    grey: float
    white: float
    vessel: float
    gland: float
    choroid: float
    dura: float
    spot: float  # normal bright spots: perivascular, ageing white matter


TISSUES: Mapping[str, Tissues] = MappingProxyType(
    {
        "t1": Tissues(0.06, 0.32, 0.70, 0.32, 0.12, 0.34, 0.46, 0.14, 0.46, 0.36, 0.26, 0.56),
        "t1c": Tissues(0.06, 0.30, 0.66, 0.34, 0.12, 0.32, 0.41, 0.70, 0.66, 0.64, 0.54, 0.60),
        "t2": Tissues(0.05, 0.28, 0.52, 0.22, 0.80, 0.46, 0.33, 0.07, 0.42, 0.62, 0.20, 0.62),
        "flair": Tissues(0.05, 0.28, 0.56, 0.30, 0.09, 0.42, 0.33, 0.20, 0.42, 0.42, 0.28, 0.58),
    }
)


def _points(text: str) -> list[Point]:
    return [(float(x), float(y)) for x, y in (pair.split() for pair in text.split(","))]


# Corner points of the closed outlines, seen from the named centre (each outline is star-shaped). Where only the right
# half is given, the left half is its mirror.
_AXIAL_INNER = _points("0 0.74, 0.28 0.68, 0.47 0.48, 0.57 0.2, 0.61 -0.08, 0.57 -0.36, 0.42 -0.6, 0.2 -0.73, 0 -0.77")
_CORONAL_INNER = _points(
    "0 0.75, 0.3 0.7, 0.53 0.5, 0.62 0.24, 0.6 0, 0.53 -0.17, 0.39 -0.24, 0.26 -0.19, 0.15 -0.08, 0 -0.06"
)
_CORONAL_SKIN = _points(
    "0 0.8, 0.33 0.74, 0.57 0.54, 0.67 0.28, 0.68 0, 0.67 -0.14, 0.62 -0.3, 0.58 -0.55, 0.5 -0.75, "
    "0.42 -0.95, 0.42 -1.6"
)
_SAGITTAL_INNER = _points(
    "-0.05 0.75, 0.25 0.7, 0.5 0.52, 0.62 0.28, 0.6 0.11, 0.42 0.01, 0.26 -0.03, 0.17 -0.05, 0.1 -0.09, "
    "0.04 -0.22, -0.03 -0.4, -0.1 -0.48, -0.24 -0.45, -0.45 -0.36, -0.66 -0.16, -0.76 0.08, -0.76 0.32, "
    "-0.6 0.56, -0.35 0.71"
)
_SAGITTAL_SKIN = _points(
    "0 0.81, 0.31 0.74, 0.55 0.56, 0.69 0.36, 0.72 0.22, 0.71 0.12, 0.79 -0.03, 0.9 -0.16, 0.79 -0.23, "
    "0.8 -0.33, 0.77 -0.43, 0.71 -0.5, 0.74 -0.62, 0.62 -0.73, 0.34 -0.72, 0.27 -0.88, 0.3 -1.6, "
    "-0.5 -1.6, -0.46 -0.85, -0.56 -0.52, -0.74 -0.22, -0.82 0.12, -0.77 0.42, -0.54 0.67, -0.3 0.77"
)


INNER: Mapping[str, Outline] = MappingProxyType(  # the inner side of the skull
    {
        "axial": Outline(_AXIAL_INNER, mirror=True),
        "coronal": Outline(_CORONAL_INNER, (0.0, 0.2), mirror=True),
        "sagittal": Outline(_SAGITTAL_INNER, (-0.08, 0.18)),
    }
)
_SKIN = {"coronal": Outline(_CORONAL_SKIN, mirror=True), "sagittal": Outline(_SAGITTAL_SKIN)}


@dataclass(frozen=True, eq=False)
class Head:
    """What one person brings along: tissues, bones, ventricles, and the folds of each plane."""

    tissues: Tissues
    skull: float  # thickness
    scalp: float
    rim: float  # width of the CSF under the skull
    ventricles: float  # size, about 1
    folds: Mapping[str, tuple[Texture, Texture]]
    mottle: Texture
    spots: tuple[tuple[float, float, float, float], ...]  # x, y, radius, opacity


def make_head(rng: np.random.Generator, contrast: str) -> Head:
    """Draw one person."""
    base = TISSUES[contrast]
    jitter = np.exp(rng.normal(0, 0.05, len(base.__dataclass_fields__)))
    values = [getattr(base, name) * factor for name, factor in zip(base.__dataclass_fields__, jitter, strict=True)]
    spots = rng.uniform((-0.5, -0.5, 0.007, 0.35), (0.5, 0.6, 0.021, 1.0), (rng.integers(4, 11), 4))
    return Head(
        tissues=Tissues(*(float(min(value, 0.95)) for value in values)),
        skull=float(rng.uniform(0.04, 0.06)),
        scalp=float(rng.uniform(0.035, 0.06)),
        rim=float(rng.uniform(0.008, 0.026)),
        ventricles=float(rng.uniform(0.75, 1.35)),
        folds={plane: (Texture(rng, 0.21), Texture(rng, 0.21)) for plane in PLANES},
        mottle=Texture(rng, 0.5, 32),
        spots=tuple((float(x), float(y), float(r), float(o)) for x, y, r, o in spots),
    )


def at_another_level(head: Head, rng: np.random.Generator) -> Head:
    """The same person cut elsewhere: other folds and spots, and the ventricles at another width."""
    other = make_head(rng, next(iter(TISSUES)))
    return replace(head, folds=other.folds, mottle=other.mottle, spots=other.spots, ventricles=other.ventricles)


def paint_head(brush: Brush, inside: Brush, head: Head, plane: str, offset: float) -> Floats:
    """Paint a whole head; returns the signed distance to the inner skull.

    `brush` has the coordinates of the bones, `inside` those of the brain, which a mass may have pushed aside.
    `offset` in [-1, 1] is the position of the cut: the same structures, a little larger or smaller, and other folds.
    """
    x, y = brush.x, brush.y
    inner = INNER[plane].distance(x, y)
    if plane == "axial":
        skin = inner - np.float32(head.skull + head.scalp)
    else:
        skin = np.minimum(_SKIN[plane].distance(x, y), inner - np.float32(head.skull + head.scalp))
    _paint_soft_parts(brush, head, plane, skin)
    t = head.tissues
    brush.shape(inner - np.float32(head.skull), t.bone)
    middle = np.abs(inner - np.float32(head.skull * 0.5)) - np.float32(head.skull * 0.17)
    brush.shape(middle, t.marrow * 0.8, opacity=0.75, soft=1.5)
    brush.shape(inner, t.csf)
    inside = _bent(inside, head, brush.cover(inner + np.float32(0.006)))
    _paint_folds(inside, head, plane, offset, inner)
    brush.shape(np.abs(inner) - np.float32(0.006), t.dura, opacity=0.7)
    _PARTS[plane](inside, brush, head, offset)
    for sx, sy, radius, opacity in head.spots:
        inside.ellipse((sx, sy), (radius, radius * 0.8), t.spot, opacity=opacity, soft=2)
    return inner


def _bent(inside: Brush, head: Head, clip: Floats) -> Brush:
    """The brush of the brain, clipped to the skull and bent a little, so that no two brains have the same lines."""
    x, y = inside.x, inside.y
    u, v = x * np.float32(1.4), y * np.float32(1.4)
    across, along = head.mottle(u + np.float32(0.7), v), head.mottle(u, v + np.float32(0.6))
    return Brush(inside.pixels, x + np.float32(0.008) * across, y + np.float32(0.008) * along, inside.edge, clip)


def _paint_soft_parts(brush: Brush, head: Head, plane: str, skin: Floats) -> None:
    """Scalp and, below the skull, the face and neck."""
    t = head.tissues
    brush.shape(skin, t.fat)
    if plane == "axial":
        return
    below = np.clip((0.02 - brush.y) * 5, 0, 1)
    grain = head.mottle(brush.x * 2, brush.y * 1.6)
    meat = t.muscle + (t.fat - t.muscle) * np.clip(grain * 0.5 - 0.2, 0, 0.7)
    brush.fill(brush.cover(skin + np.float32(head.scalp)) * below, meat)
    (_paint_coronal_face if plane == "coronal" else _paint_sagittal_face)(brush, head)


def _paint_coronal_face(brush: Brush, head: Head) -> None:
    t = head.tissues
    both = brush.mirrored()
    both.ellipse((0.42, -0.62), (0.07, 0.24), t.marrow, tilt=-8)  # jaw
    both.ellipse((0.42, -0.62), (0.045, 0.21), t.fat * 0.8, tilt=-8)
    both.ellipse((0.27, -0.5), (0.07, 0.16), t.muscle, tilt=10)
    both.ellipse((0.52, -0.42), (0.05, 0.2), t.muscle, tilt=-5)
    brush.ellipse((0, -0.29), (0.24, 0.13), t.marrow)
    both.ellipse((0.075, -0.29), (0.065, 0.09), 0.03)  # sphenoid sinus
    brush.ellipse((0, -0.53), (0.13, 0.06), 0.03)  # airway
    brush.ellipse((0, -0.76), (0.22, 0.14), t.muscle * 1.15)
    brush.stroke([(0, -0.64), (0, -0.88)], 0.012, t.fat * 0.8)


def _paint_sagittal_face(brush: Brush, head: Head) -> None:
    t = head.tissues
    brush.stroke([(0.14, -0.2), (0.03, -0.44)], 0.06, t.marrow * 1.5)  # clivus
    brush.ellipse((0.33, -0.15), (0.12, 0.085), 0.03, tilt=12)  # sphenoid sinus
    brush.ellipse((0.655, 0.12), (0.02, 0.05), 0.03)  # frontal sinus
    for height, front in ((-0.2, 0.7), (-0.28, 0.73)):
        brush.stroke([(0.3, height), (front, height + 0.02)], 0.022, 0.04)  # nasal passages
    brush.stroke([(0.2, -0.28), (0.16, -0.5), (0.17, -1.2)], 0.032, 0.03)  # throat
    brush.stroke([(0.28, -0.36), (0.7, -0.36)], 0.02, t.marrow)  # palate
    brush.ellipse((0.44, -0.5), (0.21, 0.11), t.muscle * 1.2, tilt=-12)  # tongue
    brush.stroke([(0.3, -0.41), (0.66, -0.41)], 0.012, 0.04)
    brush.ellipse((0.66, -0.6), (0.045, 0.08), t.marrow * 1.3, tilt=-20)  # chin
    for step in range(4):  # vertebrae
        brush.ellipse((0.04 - 0.005 * step, -0.58 - 0.135 * step), (0.06, 0.055), t.marrow * 1.5)
    brush.stroke([(-0.1, -0.44), (-0.09, -1.3)], 0.065, t.csf)  # canal and cord
    brush.stroke([(-0.1, -0.4), (-0.09, -1.3)], 0.036, t.white * 0.95)


def _paint_folds(brush: Brush, head: Head, plane: str, offset: float, inner: Floats) -> None:
    """White matter, the folded grey ribbon, and the sulci between the folds."""
    t = head.tissues
    first, second = head.folds[plane]
    turn = np.float32(offset * 0.8)
    x, y = brush.x, brush.y
    field = first(x, y) * np.cos(turn) + second(x, y) * np.sin(turn)
    line = np.abs(field) * np.float32(0.21 / 4.4)  # roughly the distance to the nearest sulcus
    depth = -inner - np.float32(head.rim)
    reach = np.clip(1 - depth * np.float32(1 / 0.24), 0, 1)
    white = t.white * (1 + 0.03 * head.mottle(x, y))
    ribbon = np.minimum(depth - 0.034, line - 0.034 * np.sqrt(reach))
    level = white + brush.cover(ribbon, 1.6) * (t.grey - white)
    sulcus = brush.cover(line - (0.013 * reach + 0.05 * (head.rim - 0.012)) + (reach < 0.05), 1.4)
    level += sulcus * np.float32(0.7) * (t.csf - level)
    brush.fill(brush.cover(-depth), level)


def _paint_axial(brush: Brush, bones: Brush, head: Head, offset: float) -> None:
    t, v = head.tissues, head.ventricles
    both = brush.mirrored()
    brush.stroke([(0, 0.42), (0, 0.75)], 0.011, t.csf, opacity=0.8)
    brush.stroke([(0, -0.42), (0, -0.78)], 0.011, t.csf, opacity=0.8)
    both.ellipse((0.2, 0.22), (0.075, 0.13), t.grey, tilt=-20, opacity=0.9, soft=2)  # lentiform nucleus
    both.ellipse((0.13, 0.31), (0.04, 0.1), t.grey, tilt=-12, soft=2)  # caudate
    both.stroke([(0.31, 0.13), (0.4, 0.17), (0.6, 0.12)], 0.045, t.grey)  # insula
    both.stroke([(0.31, 0.1), (0.36, 0.17), (0.45, 0.15), (0.6, 0.12)], 0.014, t.csf)  # Sylvian fissure
    grow = v * (1 + 0.25 * offset)
    both.stroke([(0.03, 0.25), (0.06, 0.34), (0.1, 0.34 + 0.06 * grow)], 0.026 * grow, t.csf)  # frontal horns
    both.stroke([(0.27, -0.22), (0.27, -0.32), (0.22, -0.42)], 0.03 * grow, t.csf)  # atria
    both.ellipse((0.265, -0.28), (0.016, 0.035), t.choroid)
    brush.ellipse((0, -0.33), (0.14, 0.12), t.grey, soft=2)  # vermis
    waves = np.sin(np.hypot(brush.x, brush.y + 0.15) * 150)
    leaves = t.csf + (t.white - t.csf) * (waves > -0.3)
    brush.shape(ellipse_distance(brush.x, brush.y, (0, -0.33), (0.13, 0.11)), leaves, opacity=0.3, soft=3)
    both.stroke([(0.02, -0.22), (0.13, -0.25), (0.19, -0.36)], 0.009, t.dura, opacity=0.8)  # tentorium
    brush.ellipse((0, -0.1), (0.165, 0.145), t.csf)  # cisterns around the midbrain
    brush.ellipse((0, 0.07), (0.11 + 0.01 * offset, 0.085), t.csf)
    both.stroke([(0.05, 0.1), (0.27, 0.13)], 0.02, t.csf)
    brush.stroke([(0, 0.1), (0, 0.25)], 0.014, t.csf)
    both.ellipse((0.06, -0.09), (0.07, 0.115), t.white, tilt=16)  # midbrain
    brush.ellipse((0, -0.13), (0.11, 0.085), t.white * 0.94)
    brush.ellipse((0, -0.165), (0.014, 0.014), t.csf)  # aqueduct
    both.ellipse((0.05, -0.07), (0.03, 0.016), t.grey * 0.85, tilt=30, soft=2)
    both.stroke([(0.075, 0.06), (0.05, 0.1), (0.03, 0.09)], 0.012, t.grey)  # optic tracts
    brush.ellipse((0, 0.075), (0.034, 0.03), t.gland)  # the normal gland and its stalk
    both.ellipse((0.085, 0.09), (0.02, 0.02), t.vessel)  # carotids
    both.stroke([(0.1, 0.1), (0.2, 0.12), (0.33, 0.11)], 0.009, t.vessel, opacity=0.8)
    brush.ellipse((0.005, 0.005), (0.015, 0.015), t.vessel)  # basilar
    bones.stroke([(0, 0.42), (0, 0.735)], 0.004, t.dura, opacity=0.9)
    bones.stroke([(0, -0.42), (0, -0.765)], 0.004, t.dura, opacity=0.9)
    bones.ellipse((0, -0.765), (0.035, 0.03), t.vessel)  # sagittal sinus, behind and in front
    bones.ellipse((0, 0.735), (0.018, 0.016), t.vessel)


def _paint_coronal(brush: Brush, bones: Brush, head: Head, offset: float) -> None:
    t, v = head.tissues, head.ventricles
    both = brush.mirrored()
    brush.stroke([(0, 0.36), (0, 0.74)], 0.011, t.csf, opacity=0.8)
    both.ellipse((0.13, 0.3), (0.15, 0.05), t.white, tilt=-12, soft=2)  # corpus callosum
    both.ellipse((0.24, 0.11), (0.075, 0.11), t.grey, tilt=12, opacity=0.9, soft=2)  # putamen
    both.ellipse((0.07, 0.12), (0.055, 0.07), t.grey, soft=2)  # thalamus
    both.ellipse((0.15, 0.23), (0.04, 0.07), t.grey, tilt=20, soft=2)  # caudate
    both.stroke([(0.35, 0.14), (0.36, 0.02), (0.6, 0.03)], 0.042, t.grey)  # insula
    both.stroke([(0.36, 0.15), (0.37, 0.02), (0.48, 0.04), (0.62, 0.01)], 0.014, t.csf)  # Sylvian fissure
    grow = v * (1 + 0.25 * offset)
    both.stroke([(0.03, 0.2), (0.06, 0.26), (0.11 + 0.02 * grow, 0.29)], 0.026 * grow, t.csf)  # lateral ventricles
    both.ellipse((0.045, 0.2), (0.02, 0.016), t.choroid)
    brush.stroke([(0, 0.04), (0, 0.15)], 0.012 * grow, t.csf)  # third ventricle
    both.ellipse((0.33, -0.09), (0.04, 0.014 * grow), t.csf, tilt=20)  # temporal horns
    both.ellipse((0.26, -0.09), (0.06, 0.04), t.grey, soft=2)  # hippocampus, amygdala
    both.ellipse((0.06, -0.04), (0.13, 0.045), t.csf)  # suprasellar cistern
    both.stroke([(0.15, 0.02), (0.19, -0.06), (0.17, -0.1)], 0.014, t.csf)
    both.ellipse((0.045, 0.0), (0.055, 0.018), t.white, tilt=-6)  # chiasm
    bones.ellipse((0, -0.13), (0.17, 0.055), t.dura)  # cavernous sinuses
    bones.ellipse((0, -0.125 + 0.006 * offset), (0.075, 0.034), t.gland)  # the normal gland and its stalk
    brush.stroke([(0, -0.1), (0, -0.02)], 0.011, t.gland)
    bones.mirrored().ellipse((0.12, -0.125), (0.026, 0.026), t.vessel)
    both.stroke([(0.13, -0.05), (0.24, -0.02), (0.36, 0.0)], 0.009, t.vessel, opacity=0.8)
    bones.stroke([(0, 0.36), (0, 0.745)], 0.005, t.dura, opacity=0.9)
    bones.ellipse((0, 0.745), (0.034, 0.026), t.vessel)  # sagittal sinus


def _paint_sagittal(brush: Brush, bones: Brush, head: Head, offset: float) -> None:
    t, v = head.tissues, head.ventricles
    x, y = brush.x, brush.y
    arch = [
        (-0.31, 0.19),
        (-0.26, 0.28),
        (-0.1, 0.34),
        (0.08, 0.34),
        (0.22, 0.28),
        (0.27, 0.19),
        (0.22, 0.14),
    ]
    brush.stroke([(1.3 * px + 0.03, 1.3 * (py - 0.1) + 0.12) for px, py in arch[:-1]], 0.012, t.csf, opacity=0.7)
    brush.stroke([(px * 1.12, py * 1.09) for px, py in arch[:-1]], 0.035, t.grey, opacity=0.7)  # cingulate gyrus
    brush.ellipse((-0.02, 0.2), (0.25, 0.12), t.csf, opacity=0.5)
    brush.ellipse((0.02, 0.245), (0.19, 0.045 * v + 0.01 * offset), t.csf, tilt=-4)  # lateral ventricle
    brush.stroke(arch, 0.036 + 0.004 * offset, t.white * 1.06)  # corpus callosum
    brush.ellipse((-0.02, 0.14), (0.13, 0.085), t.grey, tilt=-8)  # thalamus
    brush.stroke([(-0.2, 0.21), (0.02, 0.235), (0.14, 0.12)], 0.014, t.white)  # fornix
    brush.ellipse((-0.05, 0.215), (0.05, 0.014), t.choroid, tilt=-5)
    brush.stroke([(0.11, 0.04), (0.02, -0.1), (-0.03, -0.32)], 0.075, t.csf)  # cisterns before the brainstem
    brush.ellipse((0.13, 0.01), (0.12, 0.05), t.csf)
    brush.stroke([(-0.17, 0.12), (-0.19, 0.0)], 0.04, t.csf)  # quadrigeminal cistern
    brush.ellipse((-0.36, -0.17), (0.25, 0.2), t.csf)
    _paint_cerebellum(brush, t, x, y)
    brush.stroke([(-0.14, -0.02), (-0.15, -0.12), (-0.14, -0.26)], 0.03 * v, t.csf)  # fourth ventricle
    brush.stroke([(-0.03, 0.08), (-0.06, -0.05)], 0.055, t.white)  # midbrain
    brush.ellipse((-0.03, -0.13), (0.085, 0.1), t.white * 0.97)  # pons
    brush.stroke([(-0.07, -0.2), (-0.1, -0.48)], 0.042, t.white)  # medulla
    brush.stroke([(-0.12, 0.07), (-0.12, -0.04)], 0.008, t.csf)  # aqueduct
    brush.stroke([(-0.22, 0.06), (-0.5, 0.02), (-0.72, -0.06)], 0.008, t.dura)  # tentorium
    brush.stroke([(-0.2, 0.1), (-0.34, 0.07), (-0.72, -0.05)], 0.008, t.vessel, opacity=0.7)  # straight sinus
    brush.stroke([(0.19, 0.0), (0.1, 0.04)], 0.014, t.white)  # chiasm
    brush.stroke([(0.12, 0.03), (0.17, -0.08)], 0.01, t.gland)  # the normal gland and its stalk
    bones.ellipse((0.17, -0.11), (0.075, 0.05), t.dura)
    bones.ellipse((0.17, -0.11), (0.058, 0.034 + 0.004 * offset), t.gland)
    brush.stroke([(0.06, 0.0), (0.04, -0.12), (0.0, -0.26)], 0.009, t.vessel)  # basilar
    brush.stroke(
        [(0.2, 0.05), (0.33, 0.17), (0.33, 0.32), (0.22, 0.42)], 0.007, t.vessel, opacity=0.8
    )  # anterior cerebral
    sinus = INNER["sagittal"]
    bones.stroke([sinus.at(angle, 0.01) for angle in np.linspace(0.6, 3.1, 9)], 0.009, t.vessel, opacity=0.8)


def _paint_cerebellum(brush: Brush, t: Tissues, x: Floats, y: Floats) -> None:
    cerebellum = ellipse_distance(x, y, (-0.36, -0.17), (0.23, 0.18), -14)
    radius, angle = np.hypot(x + 0.19, y + 0.13), np.arctan2(y + 0.13, -0.19 - x)
    leaves = np.sin(radius * 110 + 2 * np.sin(angle * 9))
    brush.shape(cerebellum, t.grey + (t.csf - t.grey) * np.clip(leaves - 0.35, 0, 0.55))
    branches = np.abs(np.sin(angle * 4.5)) * radius - np.clip(0.03 - 0.1 * (radius - 0.08), 0.004, 0.05)
    brush.fill(brush.cover(np.maximum(branches, cerebellum + 0.03), 1.5) * 0.85, t.white)


_PARTS = {"axial": _paint_axial, "coronal": _paint_coronal, "sagittal": _paint_sagittal}
