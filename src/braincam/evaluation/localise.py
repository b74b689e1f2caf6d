"""A model's maps on labelled slices against their masks, beside maps that see nothing and a perfect one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from braincam.dataset.manifest import Manifest
from braincam.evaluation.erasing import erasing
from braincam.evaluation.metrics import no_tumour_class
from braincam.explain.localisation import (
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
from braincam.progress import track

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


def localise(
    predictor: Predictor,
    predictions: Sequence[Prediction],
    manifest: Manifest,
    groups: Sequence[str],
    rows: Sequence[int],
    *,
    folder: Path,
    priors: MeanMasks,
) -> tuple[dict[str, Any] | None, dict[str, list[Any]]]:
    """Measure the maps of `rows`, the correctly classified slices; those without a mask are passed over.

    Returns what goes into `metrics.json` (None without a mask) and the columns for `predictions.csv`, None where
    nothing was measured.
    """
    seen = _measure(predictions, manifest, groups, rows, folder, priors)
    columns = {
        name: _spread([getattr(overlap, attribute) for overlap in seen.found.get(OWN, [])], seen.rows, len(predictions))
        for name, attribute in COLUMNS.items()
    }
    columns["points_at_lesion"] = [None if value is None else bool(value) for value in columns["points_at_lesion"]]
    facts = report(seen.found, [manifest.slices[row].label for row in seen.rows], [groups[row] for row in seen.rows])
    if facts is None:
        return None, columns
    facts["map_size"] = list(seen.shape)
    facts["label_only_fitted_on"] = (
        f"mean mask of the class over the {len(priors.labels)} masks of {len(set(priors.groups.tolist()))} patients or "
        "groups in the folder, the slice's own patient or group left out; the centre where no other has one"
    )
    classes = predictor.card.classes
    erased = [row for row, _, _ in seen.erasable]
    facts["erased"], outcomes = erasing(
        [(pixels, mask) for _, pixels, mask in seen.erasable],
        np.array([classes.index(manifest.slices[row].label) for row in erased], np.int64),
        [groups[row] for row in erased],
        no_tumour_class(classes),
        lambda slices: predictor.answer_all(slices, cam=False).probabilities,
    )
    columns |= {name: _spread(outcomes[kind], erased, len(predictions)) for name, kind in ERASED.items()}
    return facts, columns


@dataclass(eq=False)
class _Measured:
    """What was measured, of slices that have a mask and a map."""

    rows: list[int] = field(default_factory=list)
    found: dict[str, list[Overlap]] = field(default_factory=dict)  # kind of map → one per row
    erasable: list[tuple[int, NDArray[np.uint8], NDArray[np.bool_]]] = field(default_factory=list)
    shape: tuple[int, int] = (0, 0)  # of the maps


def _measure(
    predictions: Sequence[Prediction],
    manifest: Manifest,
    groups: Sequence[str],
    rows: Sequence[int],
    folder: Path,
    priors: MeanMasks,
) -> _Measured:
    """Compare each slice's map, and the maps that it must beat, with its mask."""
    random = np.random.default_rng(0)
    seen = _Measured()
    label_only: dict[tuple[str, str], NDArray[np.float32] | None] = {}
    for row in track(rows, "comparing maps with masks", unit="slices"):
        item, answer = manifest.slices[row], predictions[row]
        mask = read_mask(folder, item.path)
        if mask is None or not mask.any() or answer.cam is None or answer.pixels is None:
            continue
        key = (item.label, groups[row])
        if key not in label_only:
            label_only[key] = priors.without(*key)
        prior = label_only[key]
        seen.shape = (answer.cam.shape[0], answer.cam.shape[1])
        maps = {
            OWN: answer.cam,
            "random": random_map(seen.shape, random),
            "centre": centre_map(seen.shape),
            "label only": centre_map(seen.shape) if prior is None else prior,
            "perfect": perfect_map(mask, seen.shape),
        }
        for kind, heat in maps.items():
            seen.found.setdefault(kind, []).append(compare(heat, mask))
        seen.rows.append(row)
        if answer.pixels.shape == mask.shape:
            seen.erasable.append((row, answer.pixels, mask))
    return seen


def _spread(values: Sequence[float | None], rows: Sequence[int], n: int) -> list[Any]:
    """Values at their rows, None elsewhere: (n,)."""
    out: list[Any] = [None] * n
    for row, value in zip(rows, values, strict=True):
        out[row] = value
    return out
