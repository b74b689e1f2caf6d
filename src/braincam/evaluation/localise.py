"""A model's maps on labelled slices against their masks, beside maps that see nothing and a perfect one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from braincam.dataset.manifest import Manifest
from braincam.evaluation.erasing import Erasing
from braincam.evaluation.metrics import no_tumour_class
from braincam.explain.localisation import (
    Mask,
    MeanMasks,
    Overlap,
    centre_map,
    compare,
    perfect_map,
    random_map,
    read_mask,
    report,
)
from braincam.predict import Prediction, Predictor
from braincam.progress import say

OWN = "this model"
COLUMNS = {  # of predictions.csv → field
    "points_at_lesion": "hit",
    "energy_in_lesion": "energy",
    "iou_otsu": "iou_otsu",
    "dice_otsu": "dice_otsu",
    "iou_top2": "iou_top2",
    "dice_top2": "dice_top2",
    "lesion_area": "area",
}
ERASED = {"erased_own_class": "own_class", "erased_any_tumour": "any_tumour"}  # column of predictions.csv → kind


def of_shape(mask: Mask, shape: tuple[int, ...]) -> Mask | None:
    """A mask (H, W) at the size of its slice, by the nearest pixel; None where the proportions differ.

    By more than rounding makes them, that is: such a mask is turned, or of another picture.
    """
    height, width = shape
    rows, columns = mask.shape
    if abs(rows * width - columns * height) > max(height, width, rows, columns):
        return None
    across = [np.arange(side) * have // side for side, have in zip(shape, mask.shape, strict=True)]
    return mask[np.ix_(*across)]


@dataclass(eq=False)
class Localisation:
    """A model's maps against the masks of their slices, one answer at a time: no map and no picture is kept.

    `predictor` answers once more, for the slices with their lesions erased.
    """

    predictor: Predictor
    masks: MeanMasks
    manifest: Manifest
    groups: Sequence[str]
    rows: list[int] = field(default_factory=list)  # measured: those that have a mask and a map
    found: dict[str, list[Overlap]] = field(default_factory=dict)  # kind of map → one per row
    unfit: list[str] = field(default_factory=list)  # slices whose mask has other proportions
    shape: tuple[int, int] = (0, 0)  # of the maps
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    _label_only: dict[tuple[str, str], NDArray[np.float32] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._erasing = Erasing(
            lambda pictures: self.predictor.answer_all(pictures, cam=False).probabilities,
            no_tumour_class(self.predictor.card.classes),
        )

    def add(self, row: int, answer: Prediction) -> None:
        """Measure a right answer, whose slice is passed over if it has no mask, and the maps that it must beat."""
        item = self.manifest.slices[row]
        mask = read_mask(self.masks.folder, item.path)
        if mask is None or not mask.any() or answer.cam is None or answer.pixels is None:
            return
        marked = of_shape(mask, answer.pixels.shape)
        if marked is None:
            self.unfit.append(item.path)
            return
        key = (item.label, self.groups[row])
        if key not in self._label_only:
            self._label_only[key] = self.masks.without(*key)
        prior = self._label_only[key]
        self.shape = (answer.cam.shape[0], answer.cam.shape[1])
        maps = {
            OWN: answer.cam,
            "random": random_map(self.shape, self._random),
            "centre": centre_map(self.shape),
            "label only": centre_map(self.shape) if prior is None else prior,
            "perfect": perfect_map(mask, self.shape),
        }
        for kind, heat in maps.items():
            self.found.setdefault(kind, []).append(compare(heat, mask))
        self.rows.append(row)
        self._erasing.add(answer.pixels, marked, self.predictor.card.classes.index(item.label))

    def summary(self) -> tuple[dict[str, Any] | None, dict[str, list[Any]]]:
        """What goes into `metrics.json` (None where nothing was measured), and the columns for `predictions.csv`."""
        slices, masks = self.manifest.slices, self.masks
        if self.unfit:
            say(
                f"{masks.folder}: of {len(self.unfit)} slices the mask has other proportions, such as that of "
                f"{self.unfit[0]}, and they are passed over; is it turned, or of another picture?"
            )
        columns = {
            name: _spread([getattr(overlap, attribute) for overlap in self.found.get(OWN, [])], self.rows, len(slices))
            for name, attribute in COLUMNS.items()
        }
        columns["points_at_lesion"] = [None if value is None else bool(value) for value in columns["points_at_lesion"]]
        facts = report(self.found, [slices[row].label for row in self.rows], [self.groups[row] for row in self.rows])
        if facts is None:
            return None, columns
        facts["map_size"] = list(self.shape)
        facts["label_only_fitted_on"] = (
            f"mean mask of the class over the {len(masks.labels)} masks of {len(set(masks.groups.tolist()))} patients "
            "or groups in the folder, the slice's own patient or group left out; the centre where no other has one"
        )
        facts["erased"], outcomes = self._erasing.summary([self.groups[row] for row in self.rows])
        columns |= {name: _spread(outcomes[kind], self.rows, len(slices)) for name, kind in ERASED.items()}
        return facts, columns


def _spread(values: Sequence[float | None], rows: Sequence[int], n: int) -> list[Any]:
    """Values at their rows, None elsewhere: (n,)."""
    out: list[Any] = [None] * n
    for row, value in zip(rows, values, strict=True):
        out[row] = value
    return out
