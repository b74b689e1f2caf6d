"""Does the heat lie on the lesion? Measured against masks that training never saw.

A map (h, w) covers the whole picture; it is enlarged bilinearly to the mask's (H, W) before anything is measured, as
in the pictures that users get. Only evidence *for* the label counts: what is negative is zero for energy and overlap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from braincam.errors import DataError
from braincam.explain.overlay import resize_map
from braincam.images.reader import read_slices, stem_of
from braincam.progress import say
from braincam.resampling import ratios

TOP = 0.02  # of the pixels: the mean lesion of the public masks covers 1.7 %
CENTRE_SPREAD = 0.125  # standard deviation of the centre map, as a share of the side
PRIOR_SIDE = 64  # cells of the mean mask along a side

Mask = NDArray[np.bool_]
Map = NDArray[np.floating]


class Overlap(NamedTuple):
    """One map against one mask."""

    hit: float  # 1 if the hottest pixel lies in the mask: the pointing game without tolerance (Zhang et al., 2016)
    energy: float  # share of the positive evidence inside the mask (Wang et al., arXiv:1910.01279); 0 without any
    iou_otsu: float  # overlap of the mask with the pixels above Otsu's threshold of the positive map
    dice_otsu: float
    iou_top2: float  # overlap of the mask with the hottest 2 % of the pixels
    dice_top2: float
    area: float  # share of the picture that the mask covers: hit and energy of a map that knows nothing


MEASURES = {  # name in the metrics → (field above the line, field below it; None: the number of slices)
    "pointing": ("hit", None),
    "energy": ("energy", None),
    "enrichment": ("energy", "area"),  # how many times the share that a flat map would have inside
    "iou_otsu": ("iou_otsu", None),
    "dice_otsu": ("dice_otsu", None),
    "iou_top2": ("iou_top2", None),
    "dice_top2": ("dice_top2", None),
}

MAP_COLUMNS = {  # measure → words at the head of its column
    "pointing": "hottest pixel in",
    "energy": "energy in",
    "iou_otsu": "IoU (Otsu)",
    "dice_otsu": "Dice (Otsu)",
    "iou_top2": "IoU (top 2 %)",
    "dice_top2": "Dice (top 2 %)",
}


def compare(cam: Map, mask: Mask) -> Overlap:
    """Measure a map (h, w) against a mask (H, W) that is not empty."""
    heat = resize_map(cam, (mask.shape[0], mask.shape[1]))
    positive = np.maximum(heat, 0)
    total = float(positive.sum(dtype=np.float64))
    inside = float(positive[mask].sum(dtype=np.float64))
    above = positive > otsu_threshold(positive) if total > 0 else np.zeros_like(mask)
    hottest = np.zeros(mask.size, bool)
    hottest[np.argpartition(heat.ravel(), -_top(mask.size))[-_top(mask.size) :]] = True
    return Overlap(
        hit=float(mask.ravel()[int(heat.argmax())]),
        energy=inside / total if total > 0 else 0.0,
        **dict(zip(("iou_otsu", "dice_otsu"), _overlap(above, mask), strict=True)),
        **dict(zip(("iou_top2", "dice_top2"), _overlap(hottest.reshape(mask.shape), mask), strict=True)),
        area=float(mask.mean()),
    )


def otsu_threshold(values: NDArray[np.floating]) -> float:
    """The level that best parts values >= 0 into two classes (Otsu 1979), from 256 equal bins up to the largest.

    Needs no mask and nothing to be tuned. All pixels take part, those without evidence as zeros.
    """
    top = float(values.max())
    if top <= 0:
        return 0.0
    counts = np.bincount(np.minimum((values.ravel() * (256 / top)).astype(np.int64), 255), minlength=256)
    below = np.cumsum(counts)[:-1]  # pixels up to each cut
    above = counts.sum() - below
    level = np.arange(256)
    mass = np.cumsum(counts * level)
    gap = np.zeros(255)
    both = (below > 0) & (above > 0)
    gap[both] = mass[:-1][both] / below[both] - (mass[-1] - mass[:-1][both]) / above[both]
    between = below.astype(np.float64) * above * gap**2
    best = np.flatnonzero(between == between.max())
    return float((best.mean() + 1) * top / 256)  # the middle, where several cuts part the same values


def _top(pixels: int) -> int:
    return max(1, round(TOP * pixels))


def _overlap(found: Mask, mask: Mask) -> tuple[float, float]:
    """Intersection over union, and Dice."""
    both, either = int((found & mask).sum()), int((found | mask).sum())
    return both / either, 2 * both / (both + either)


# -- what maps that see nothing, and a perfect map, would reach --------------------------------------------------------


@dataclass(frozen=True, eq=False)
class MeanMasks:
    """Masks of a folder on one grid, from which the mean mask of a class over all other patients is made."""

    folder: Path
    grids: NDArray[np.uint8]  # (M, 64, 64), 255 = all lesion
    labels: NDArray[np.str_]  # (M,)
    groups: NDArray[np.str_]  # (M,)

    def without(self, label: str, group: str) -> NDArray[np.float32] | None:
        """What a guess from the label alone looks like: the mean mask of a class over all groups but one, (64, 64).

        None where no other group of the class has a mask.
        """
        rows = (self.labels == label) & (self.groups != group)
        return self.grids[rows].mean(0, dtype=np.float32) if rows.any() else None


def mean_masks(folder: Path, paths: Sequence[str], labels: Sequence[str], groups: Sequence[str]) -> MeanMasks:
    """Read the masks of the slices at relative `paths`, where they have one that marks anything.

    Raises:
        DataError: there is no such folder, nothing is marked on any of the slices, or two slices have one mask.
        ImageError: a mask is damaged.
    """
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing"
        raise DataError(
            f"{folder}: expected a folder of lesion masks with the same sub-folders as the data, got {got}; "
            "check the path, or leave --masks out"
        )
    grids, rows, blank = [], [], list[Path]()
    whose: dict[Path, str] = {}
    for row, path in enumerate(paths):
        mask, file = read_mask(folder, path), mask_file(folder, path)
        if mask is not None and (other := whose.setdefault(file, path)) != path:
            raise DataError(
                f"{file}: expected the mask of one slice, got that of {other} and of {path}, whose "
                "names differ in their endings alone; rename one of them and its mask"
            )
        if mask is not None and mask.any():
            picture = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
            grids.append(np.asarray(picture.resize((PRIOR_SIDE, PRIOR_SIDE), Image.Resampling.BOX)))
            rows.append(row)
        if mask is not None and not mask.any():
            blank.append(file)
    if not grids:
        got = f"{len(blank)} that mark nothing" if blank else "none"
        raise DataError(
            f"{folder}: expected masks, white on black, at the relative paths of the slices"
            f"{f', such as {mask_file(folder, paths[0])}' if paths else ''}; got {got} for {len(paths)} slices; "
            "give the folder that holds the same sub-folders as the data"
        )
    if blank:
        say(
            f"{folder}: {len(blank)} of {len(blank) + len(rows)} masks mark nothing, such as {blank[0]}, and their "
            "slices are passed over; what a mask marks must be nearly white"
        )
    return MeanMasks(folder, np.stack(grids), np.asarray(labels, str)[rows], np.asarray(groups, str)[rows])


def random_map(shape: tuple[int, int], random: np.random.Generator) -> NDArray[np.float32]:
    """Independent uniform noise on the map's own grid (h, w)."""
    return random.random(shape, dtype=np.float32)


def centre_map(shape: tuple[int, int]) -> NDArray[np.float32]:
    """A Gaussian around the middle of the picture, an eighth of the side wide: (h, w)."""
    rows, columns = (np.square((np.arange(side) + 0.5) / side - 0.5) for side in shape)
    spread: NDArray[np.float32] = np.exp(-(rows[:, None] + columns) / (2 * CENTRE_SPREAD**2)).astype(np.float32)
    return spread


def perfect_map(mask: Mask, shape: tuple[int, int]) -> NDArray[np.float32]:
    """The mask itself on the map's grid: the share of lesion in each of h x w cells. No map so coarse can do better."""
    picture = Image.fromarray(mask.astype(np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BOX), np.float32)


# -- summing up --------------------------------------------------------------------------------------------------------


def summarise(overlaps: Sequence[Overlap], groups: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Mean of every measure over slices, with intervals over patients or groups: name → value, ci95."""
    table = np.array(overlaps, np.float64).reshape(len(overlaps), len(Overlap._fields))
    ones = np.ones(len(table))
    above = [table[:, Overlap._fields.index(name)] for name, _ in MEASURES.values()]
    below = [ones if name is None else table[:, Overlap._fields.index(name)] for _, name in MEASURES.values()]
    found = ratios(np.stack(above, 1), np.stack(below, 1), groups)
    return dict(zip(MEASURES, found, strict=True))


def report(
    maps: Mapping[str, Sequence[Overlap]], labels: Sequence[str], groups: Sequence[str]
) -> dict[str, Any] | None:
    """What `metrics.json` says of the maps: the kinds of map (the model's first) by measure, in all and by class.

    Each kind has one `Overlap` per slice; `labels` and `groups` name the slices' classes and patients or groups.
    `hit_rate`, `ci95` and `mean_area` are the pointing game of the model's own maps. None without slices.
    """
    if not labels:
        return None
    by_class = {}
    for label in sorted(set(labels)):
        rows = [row for row, name in enumerate(labels) if name == label]
        chosen = [groups[row] for row in rows]
        by_class[label] = {
            "n": len(rows),
            "n_groups": len(set(chosen)),
            "maps": {kind: summarise([found[row] for row in rows], chosen) for kind, found in maps.items()},
        }
    summary = {kind: summarise(found, groups) for kind, found in maps.items()}
    own = next(iter(maps))
    return {
        "n": len(labels),
        "n_groups": len(set(groups)),
        "hit_rate": summary[own]["pointing"]["value"],
        "ci95": summary[own]["pointing"]["ci95"],
        "mean_area": float(np.mean([overlap.area for overlap in maps[own]])),
        "maps": summary,
        "by_class": by_class,
    }


def mask_file(folder: Path, path: str) -> Path:
    """Where the mask of the slice at relative `path` lies, if it has one."""
    return (folder / path).with_name(f"{stem_of(path)}.png")


def read_mask(folder: Path, path: str) -> Mask | None:
    """The lesion mask (H, W) of the slice at relative `path`; None if there is none.

    Masks lie at the same relative paths below `folder`, as PNG, white on black.

    Raises:
        DataError: the mask is not a single picture.
    """
    file = mask_file(folder, path)
    if not file.is_file():
        return None
    slices = read_slices(file)
    if len(slices) != 1:
        raise DataError(f"{file}: expected a mask as a single picture, got {len(slices)} slices")
    return slices[0].pixels > 127
