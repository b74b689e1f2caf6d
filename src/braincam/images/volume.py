"""Slices that belong together, and where their pixels lie in the patient.

DICOM gives positions in LPS (x towards the patient's left, y towards the back, z towards the head), NIfTI in
RAS (right, front, head). Everything here is RAS, in millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Axes = tuple[int, int, int]
Form = tuple[npt.NDArray[np.float64] | None, int]  # (4, 4) and its NIfTI code: what its millimetres are measured from

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SAME_DIRECTION = 1e-3  # largest difference of direction cosines within one stack
SAME_SPACING = 1e-3  # of the spacing: exports round it differently from slice to slice
SAME_PLACE = 0.01  # mm between slices that count as one position
UNEVEN = 0.05  # of the distance between slices: how far one may lie from its place on an even grid


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxels of a volume as they are stored, and how its pictures were cut from them."""

    shape: Axes  # of the stored array
    affine: npt.NDArray[np.float64]  # (4, 4): stored voxel (i, j, k) -> mm, RAS
    axes: Axes  # along each stored axis: 0 the number of the picture, 1 its rows, 2 its columns
    flipped: tuple[bool, bool, bool]  # whether a stored axis runs against that of the pictures
    forms: tuple[Form, Form] | None = None  # qform and sform, where a NIfTI file says its place twice

    @property
    def pictures(self) -> Axes:
        """(n, H, W) of the pictures, one stored voxel to a pixel."""
        n, height, width = (self.shape[self.axes.index(axis)] for axis in range(3))
        return n, height, width

    @property
    def qform(self) -> Form:
        """The place as a rotation and sizes. Code 0, unknown, where the affine shears, which a qform cannot."""
        if self.forms:
            return self.forms[0]
        axes = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return self.affine, int(np.abs(axes.T @ axes - np.eye(3)).max() < SAME_DIRECTION)

    @property
    def sform(self) -> Form:
        """The place as any affine."""
        return self.forms[1] if self.forms else (self.affine, 1)

    def store(self, pictures: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(n, H, W) in the order of the pictures -> a view in the order of storage."""
        stored = pictures.transpose(self.axes)
        return stored[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]


@dataclass(frozen=True, eq=False)
class Volume:
    """What the slices of one volume have in common. Two slices belong together when they share this object."""

    name: str | None  # of a series of files; None: the name of the one file it came from
    grid: Grid | None
    problem: str | None = None  # why there is no grid
    first: int = 0  # the number of its first slice: those of a file are numbered on across its volumes
    chosen: tuple[int, int] | None = None  # of a 4-D file: which volume was read, from 0, and of how many
    oriented: bool = True  # whether a NIfTI file says how its voxels lie in the head

    @property
    def from_nifti(self) -> bool:
        """Whether it came from a NIfTI file, which says its place twice."""
        return self.grid is not None and self.grid.forms is not None


@dataclass(frozen=True, eq=False)
class Plane:
    """Where one DICOM slice says it lies. Lengths in mm, LPS."""

    shape: tuple[int, int]  # rows, columns
    order: tuple[float, ...]  # time point, acquisition, echo, instance, frame: the order where positions do not tell
    contrast: tuple[str, ...]  # echo and inversion time, diffusion weight, kind of image, as they stand there
    position: npt.NDArray[np.float64] | None  # (3,) centre of the first pixel
    directions: npt.NDArray[np.float64] | None  # (2, 3): along a row, down a column
    spacing: tuple[float, float] | None  # between rows, between columns

    @property
    def normal(self) -> npt.NDArray[np.float64] | None:
        """(3,) the direction across the slice."""
        return None if self.directions is None else np.cross(self.directions[0], self.directions[1])


@dataclass(frozen=True)
class Stack:
    """Slices of one size and direction, in order along their normal."""

    members: tuple[int, ...]
    grid: Grid | None
    problem: str | None


def stacks(planes: Sequence[Plane]) -> list[Stack]:
    """Sort slices into stacks that each visit a position once.

    Slices of another size or direction (localisers) make their own stacks. Where positions occur several times
    (echoes, time points, diffusion weights), the first at each position make the first stack, and so on; one that
    does not come to every position lacks slices. What lacks positions stays in the order of its numbers.
    """
    alike: list[list[int]] = []
    for number, plane in enumerate(planes):
        home = next((group for group in alike if _belong(planes[group[0]], plane)), None)
        if home is None:
            alike.append([number])
        else:
            home.append(number)
    return [stack for group in alike for stack in _stacks_of(planes, group)]


def _belong(one: Plane, other: Plane) -> bool:
    if one.shape != other.shape or (one.position is None) != (other.position is None):
        return False
    if one.directions is None or other.directions is None:
        return one.directions is other.directions
    return bool(np.abs(one.directions - other.directions).max() < SAME_DIRECTION)


def _stacks_of(planes: Sequence[Plane], group: list[int]) -> list[Stack]:
    normal = planes[group[0]].normal
    places = [planes[k].position for k in group]
    if normal is None or any(place is None for place in places):
        ordered = sorted(group, key=lambda k: planes[k].order)
        return [Stack(tuple(ordered), None, "its slices do not say where they lie")]
    height = {k: float(normal @ place) for k, place in zip(group, places, strict=True) if place is not None}
    visits: list[list[int]] = []  # positions along the normal, the slices at each in the order of their numbers
    for k in sorted(group, key=lambda k: height[k]):
        if visits and height[k] - height[visits[-1][0]] < SAME_PLACE:
            visits[-1].append(k)
        else:
            visits.append([k])
    for visit in visits:
        visit.sort(key=lambda k: planes[k].order)
    if len(visits) == 1 and len(group) > 1:
        return [Stack(tuple(visits[0]), None, "all its slices lie at one position")]
    often = max(map(len, visits))
    if turns := _by_kind(planes, visits, often):
        return [
            _placed(planes, turn) if len(turn) == len(visits) else Stack(turn, None, "some of its slices are missing")
            for turn in turns
        ]
    turns = [tuple(visit[turn] for visit in visits if turn < len(visit)) for turn in range(often)]
    if all(len(visit) == often for visit in visits):
        return [_placed(planes, turn) for turn in turns]
    mixed = "some slices are missing where several lie at each position, and nothing tells which belong together"
    return [Stack(turn, None, mixed) for turn in turns]


def _by_kind(planes: Sequence[Plane], visits: list[list[int]], often: int) -> list[tuple[int, ...]]:
    """Slices of one time point, acquisition and echo, or of one contrast, where these tell the visits apart; else none.

    The k-th at each place would be another kind's from where a slice is lost.
    """
    for kind_of in (lambda plane: plane.order[:3], lambda plane: (*plane.order[:3], *plane.contrast)):
        kind = {k: kind_of(planes[k]) for visit in visits for k in visit}
        kinds = sorted(set(kind.values()))
        if len(kinds) == often and all(len({kind[k] for k in visit}) == len(visit) for visit in visits):
            return [tuple(k for visit in visits for k in visit if kind[k] == one) for one in kinds]
    return []


def _placed(planes: Sequence[Plane], members: tuple[int, ...]) -> Stack:
    """A stack with its grid, if its slices lie evenly."""
    first = planes[members[0]]
    spacings = [planes[k].spacing for k in members]
    if first.spacing is None or None in spacings:
        return Stack(members, None, "its slices do not say how far apart their pixels lie")
    if not np.allclose(np.asarray(spacings, np.float64), first.spacing, rtol=SAME_SPACING, atol=0):
        return Stack(members, None, "its slices do not share one pixel spacing")
    if first.directions is None or len(members) < 2:
        return Stack(members, None, "it has a single slice")
    places = np.array([planes[k].position for k in members])
    step = (places[-1] - places[0]) / (len(members) - 1)
    even = places[0] + np.arange(len(members))[:, None] * step
    if np.linalg.norm(places - even, axis=1).max() > UNEVEN * np.linalg.norm(step):
        return Stack(members, None, "its slices are not evenly spaced, or some are missing")
    along_row, down_column = first.directions
    affine = np.eye(4)
    affine[:3, 0] = along_row * first.spacing[1]
    affine[:3, 1] = down_column * first.spacing[0]
    affine[:3, 2], affine[:3, 3] = step, places[0]
    shape = (first.shape[1], first.shape[0], len(members))
    return Stack(members, Grid(shape, LPS_TO_RAS @ affine, (2, 1, 0), (False, False, False)), None)
