"""From the answers for a volume to its summary, its map on the scan's grid, its top slices and the page."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from braincam.explain.map_volume import evidence_volume, write_evidence
from braincam.explain.montage import montage, tile
from braincam.explain.save import save_png, short_stem
from braincam.files import read_json, replacing, write_json
from braincam.images.ours import is_ours_to_write
from braincam.model_file.card import NOTICE, Card
from braincam.model_file.decision import stated
from braincam.predict import Prediction
from braincam.progress import say
from braincam.study import NO_EVIDENCE, Study, carries, summarise, top_slices, volume_name

STUDIES = "study.json"  # the summary of a call's volumes
TOP = 12  # slices in the montage


@dataclass(frozen=True, kw_only=True)
class Written:
    """One volume, summed up and written."""

    study: Study
    answers: list[Prediction]  # without their pictures
    tiles: list[tuple[bytes, str]]  # JPEG, caption
    scale: float | None
    map: Path | None
    montage: Path | None
    no_map: str | None  # why there is none


def with_studies(
    answers: Iterable[Prediction], card: Card, out: Path | None, found: list[Study], *, maps: bool = True
) -> Iterator[Prediction]:
    """Pass answers on; put the summary of every volume into `found`, and with `out` write study.json and study.html.

    A volume is written while the next one is judged. Without a volume among the answers nothing is written.
    """
    taken: set[str] = set()
    met: Counter[str] = Counter()
    written: list[Future[Written]] = []
    model: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=1) as pool:

        def finish(slices: list[Prediction]) -> None:
            name = volume_name(slices[0], met)
            study = summarise(name, slices, card)
            found.append(study)
            for remark in study.remarks:
                say(f"{name}: {remark}")
            if out:
                for before in written[-2:-1]:  # no more than one waits: each holds its slices and maps
                    before.result()
                stem = _free_stem(name, taken, out)
                written.append(pool.submit(_write, out / stem, study, slices, card, maps))

        slices: list[Prediction] = []
        for answer in answers:
            if slices and answer.volume is not slices[0].volume:
                finish(slices)
                slices = []
            if answer.volume is not None:
                model = answer.model
                slices.append(answer if out else replace(answer, cam=None, cams=None, pixels=None))
            yield answer
        if slices:
            finish(slices)
        if out and written:
            _write_summary(out, [future.result() for future in written], card, model)


def telling_unless_nifti(answers: Iterable[Prediction], option: str) -> Iterator[Prediction]:
    """Pass answers on; say at the end where an option that only NIfTI files heed met none."""
    met = False
    for answer in answers:
        met = (
            met or answer.path.lower().endswith((".nii", ".nii.gz")) or bool(answer.volume and answer.volume.from_nifti)
        )
        yield answer
    if not met:
        say(f"{option} changes how NIfTI volumes are read, and there was none: what was answered is as without it")


def _write(base: Path, study: Study, slices: list[Prediction], card: Card, maps: bool) -> Written:
    """The files of one volume, named after `base`."""
    from braincam.report.page import jpeg

    shown = study.shown
    row = card.classes.index(shown) if shown else None
    chosen = top_slices(slices, shown, TOP) if shown else _spread(slices)
    chosen = [answer for answer in chosen if answer.pixels is not None]
    scale = _scale(chosen, row) if maps and row is not None else None
    tiles = []
    for answer in chosen:
        heat = answer.cams[row] if scale is not None and row is not None and answer.cams is not None else None
        tiles.append((tile(answer.pixels, heat, scale or 0), _caption(answer, shown)))  # type: ignore[arg-type]
    picture = None
    if tiles:
        picture = _montage_path(base)
        title = f"{study.finding}: {study.label}" if study.label else study.finding
        with replacing(picture) as temporary:
            save_png(montage(title, study.statement, tiles, scale), temporary)
    path, no_map = _write_map(base, study, slices, row) if maps else (None, "none was asked for")
    return Written(
        study=study,
        answers=[replace(answer, cam=None, cams=None, pixels=None) for answer in slices],
        tiles=[(jpeg(made), caption) for made, caption in tiles],
        scale=scale,
        map=path,
        montage=picture,
        no_map=no_map,
    )


def _write_map(base: Path, study: Study, slices: list[Prediction], row: int | None) -> tuple[Path | None, str | None]:
    volume, shown = slices[0].volume, study.shown
    if shown is None or row is None:
        return None, "no slice carries evidence" if study.finding == NO_EVIDENCE else "the study was not answered"
    if volume is None or volume.grid is None:
        return None, (volume.problem if volume else None) or "the format does not say where its slices lie"
    path = _map_path(base, shown)
    stored, step = evidence_volume(slices, row, volume.grid, volume.first)
    write_evidence(path, stored, step, volume.grid, shown)
    return path, None


def _write_summary(out: Path, written: list[Written], card: Card, model: dict[str, str]) -> None:
    from braincam.report.study import VolumeSection, profile, write_study_page

    sections = []
    for item in written:
        files = {"map (NIfTI, on the grid of the scan)": item.map, "montage": item.montage}
        names = {kind: path.name if path else None for kind, path in files.items()}
        sections.append(
            VolumeSection(
                study=item.study,
                profile=profile(item.answers, card),
                tiles=item.tiles,
                scale=item.scale,
                files=names,
                no_map=item.no_map,
            )
        )
    _say_what_goes(out / STUDIES)
    write_json(
        out / STUDIES,
        {"notice": NOTICE, "model": model, "classes": list(card.classes), "studies": [_json(item) for item in written]},
    )
    write_study_page(out / "study.html", sections, card, model)


def _say_what_goes(summary: Path) -> None:
    """Say how many studies of an earlier call into the same folder are replaced, in `study.html` too."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # none, or a stranger's
        if earlier := len(read_json(summary)["studies"]):
            say(f"{summary}: replaces {earlier} {'study' if earlier == 1 else 'studies'} of an earlier call")


def _json(item: Written) -> dict[str, Any]:
    slices = [
        {key: answer.to_json()[key] for key in ("slice", "path", "status", "label", "probabilities", "overlay")}
        for answer in item.answers
    ]
    return {
        **item.study.to_json(),
        "map": str(item.map) if item.map else None,
        "map_class": item.study.closest if item.map else None,
        "no_map": item.no_map,
        "montage": str(item.montage) if item.montage else None,
        "per_slice": slices,
    }


def _scale(chosen: list[Prediction], row: int) -> float | None:
    """The largest evidence in the tiles; None where nothing speaks for the class."""
    largest = max((float(answer.cams[row].max()) for answer in chosen if answer.cams is not None), default=0.0)
    return largest if largest > 0 else None


def _caption(answer: Prediction, shown: str | None) -> str:
    """The probability of the class that is shown, or else of the slice's own label."""
    label = shown or answer.label
    if label is None or answer.probabilities is None:
        return f"slice {answer.slice}, {answer.status}"
    sure = ", uncertain" if answer.status == "refer" else "" if carries(answer, label) else ", no evidence"
    return f"slice {answer.slice}: {label} {stated(answer.probabilities[label])}{sure}"


def _spread(slices: list[Prediction]) -> list[Prediction]:
    """Evenly spaced slices, so that one can see what was read."""
    readable = [answer for answer in slices if answer.pixels is not None]
    if not readable:
        return []
    chosen = np.unique(np.linspace(0, len(readable) - 1, min(TOP, len(readable))).round().astype(int))
    return [readable[k] for k in chosen]


def _free_stem(name: str, taken: set[str], out: Path) -> str:
    """What the files of a volume are named after; numbered where a name is another volume's, or a file is not ours."""
    (of_file,) = re.findall(r" \(\d+\)$", name) or [""]
    stem = _plain(short_stem(name.removesuffix(of_file)) + of_file) or "volume"
    free, number = stem, 2
    while free.casefold() in taken or not all(map(is_ours_to_write, _files(out / free))):
        free, number = f"{stem}_{number}", number + 1
    taken.add(free.casefold())
    return free


def _files(base: Path) -> list[Path]:
    """What may be written for a volume, or was: its montage, and a map of whatever class."""
    return [_montage_path(base), *base.parent.glob(f"{glob.escape(base.name)}-evidence-*.nii.gz")]


def _montage_path(base: Path) -> Path:
    return base.with_name(f"{base.name}-montage.png")


def _map_path(base: Path, label: str) -> Path:
    return base.with_name(f"{base.name}-evidence-{_plain(label)}.nii.gz")


def _plain(text: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")
