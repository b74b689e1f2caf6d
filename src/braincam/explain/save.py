"""Overlay pictures on disk, one per answered slice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from braincam.explain.overlay import overlay
from braincam.files import replacing
from braincam.images import SUFFIXES
from braincam.predict import Prediction


def with_overlays(answers: Iterable[Prediction], out: Path, *, write: bool = True) -> Iterator[Prediction]:
    """Write a picture for each answer that has a label and a map, and pass the answers on with its path filled in."""
    out.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for answer in answers:
        if not write or answer.label is None or answer.cam is None or answer.pixels is None:
            yield answer
            continue
        path = out / f"{_free_name(answer, taken)}.png"
        picture = overlay(
            answer.pixels,
            answer.cam,
            label=answer.label,
            probability=answer.confidence or 0.0,
            note=answer.reason,
        )
        with replacing(path) as temporary:
            picture.save(temporary, format="PNG", compress_level=1)
        yield replace(answer, overlay=str(path))


def _free_name(answer: Prediction, taken: set[str]) -> str:
    """The picture's name, made from the slice's; numbered where two slices share one, also on disks blind to case.

    Only known endings are taken off: the last part of a DICOM UID is none.
    """
    stem = Path(answer.path).name.strip("<>").removesuffix(".gz")
    if Path(stem).suffix.lower() in SUFFIXES:
        stem = Path(stem).stem
    if answer.slice is not None:
        stem = f"{stem}-{answer.slice:03d}"
    name, number = stem, 2
    while name.casefold() in taken:
        name, number = f"{stem}_{number}", number + 1
    taken.add(name.casefold())
    return name
