"""Uploaded files → the JSON of an answer. Runs in a worker's thread."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from braincam.errors import ImageError
from braincam.images import GreySlice, Reading, read_slices
from braincam.images.dicom import is_dicom
from braincam.images.series import Header, SeriesSlice, places_in_series, read_header
from braincam.model_file.card import NOTICE, Card
from braincam.predict import Prediction, Predictor
from braincam.serve.limits import Limits
from braincam.serve.upload import Upload
from braincam.serve.workers import Stop
from braincam.study import summarise, volume_name


def answer(
    files: Sequence[Upload], predictor: Predictor, limits: Limits, pictures: bool, stop: Stop
) -> tuple[bytes, Counter[str]]:
    """The body of the response, and how many slices got which status."""
    rows, statuses = [], Counter[str]()
    volumes: dict[int, dict[int, Prediction]] = {}  # of each volume its answers, by the number of their row
    for number, prediction in enumerate(predictor.judge(_slices(files, predictor, limits, stop), cam=pictures)):
        stop.check()
        statuses[prediction.status] += 1
        rows.append(_json(_row(prediction, predictor.card.classes, pictures)))
        if prediction.volume is not None:
            alone = replace(prediction, cam=None, cams=None, pixels=None)
            volumes.setdefault(id(prediction.volume), {})[number] = alone
    studies = _studies(list(volumes.values()), predictor.card)
    body = f'{{"predictions": [{", ".join(rows)}], "studies": {_json(studies)}, "notice": {_json(NOTICE)}}}'
    return body.encode(), statuses


def _studies(volumes: Sequence[dict[int, Prediction]], card: Card) -> list[dict[str, Any]]:
    """What the slices of each volume say together, and which rows of the answer they are."""
    met: Counter[str] = Counter()
    summed = []
    for answers in volumes:
        slices = list(answers.values())
        study = summarise(volume_name(slices[0], met), slices, card)
        summed.append({**study.to_json(), "rows": list(answers)})
    return summed


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _slices(
    files: Sequence[Upload], predictor: Predictor, limits: Limits, stop: Stop
) -> Iterator[tuple[str, GreySlice | Prediction]]:
    """Decode one file after the other; each may hold what the files before it have left over.

    DICOM files stay in the order they came in; those of one series are numbered by position, and share one range of
    values where they bring no window.
    """
    count = voxels = 0
    named = [(file.name, file.content) for file in files]
    places = places_in_series(named, _headers(named, stop), limits.of_a_file(0, 0))
    for file, place in zip(files, places, strict=True):
        stop.check()
        if count >= limits.slices:
            reason = f"{file.name}: expected at most {limits.slices:,} slices in one request, got more; send it apart"
            yield file.name, _placed(predictor.error(file.name, reason), place)
            continue
        try:
            reading = Reading(limits=place.limits if place else None, sizes=limits.of_a_file(count, voxels))
            slices = read_slices(file.content, reading, name=file.name)
        except ImageError as error:
            yield file.name, _placed(predictor.error(file.name, str(error)), place)
            continue
        if place:
            slices = [replace(item, index=place.number, volume=place.volume) for item in slices]
        count += len(slices)
        voxels += sum(item.pixels.size for item in slices)
        yield from ((file.name, item) for item in slices)


def _placed(error: Prediction, place: SeriesSlice | None) -> Prediction:
    """The row of a file that cannot be read, as one of its series where it has one."""
    return replace(error, slice=place.number, volume=place.volume) if place else error


def _headers(files: Sequence[tuple[str, bytes]], stop: Stop) -> Iterator[Header | None]:
    for _, content in files:
        stop.check()
        yield read_header(content) if is_dicom(content) else None


def _row(prediction: Prediction, classes: Sequence[str], pictures: bool) -> dict[str, Any]:
    """The documented fields of a prediction, with the grey slice and the maps when they are asked for."""
    row = prediction.to_json()
    row["picture"] = row["cam"] = None
    if pictures and prediction.pixels is not None:
        file = io.BytesIO()
        Image.fromarray(prediction.pixels).save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
        row["picture"] = base64.b64encode(file.getbuffer()).decode("ascii")
    if pictures and prediction.cams is not None:
        maps = np.ascontiguousarray(prediction.cams, "<f4")
        row["cam"] = {
            "height": maps.shape[1],
            "width": maps.shape[2],
            "classes": list(classes),
            "data": base64.b64encode(maps.tobytes()).decode("ascii"),
        }
    return row
