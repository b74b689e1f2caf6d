"""Uploaded files → the JSON of an answer. Runs in a worker's thread."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from braincam.errors import ImageError
from braincam.images import GreySlice, Reading, read_slices
from braincam.images.dicom import is_dicom
from braincam.images.series import Header, Series, common_scale, read_header, series_among
from braincam.model_file.card import NOTICE, Card
from braincam.predict import Prediction, Predictor
from braincam.serve.limits import Limits
from braincam.serve.upload import Upload
from braincam.serve.workers import Stop
from braincam.sources import Unread
from braincam.study import summarise, volume_name


def answer(
    files: Sequence[Upload], predictor: Predictor, limits: Limits, pictures: bool, stop: Stop
) -> tuple[bytes, Counter[str]]:
    """The body of the response, and how many slices got which status."""
    rows, statuses = [], Counter[str]()
    volumes: dict[int, dict[int, Prediction]] = {}  # of each volume its answers, by the number of their row
    for number, prediction in enumerate(predictor.judge(_slices(files, limits, stop), cam=pictures)):
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


def _slices(files: Sequence[Upload], limits: Limits, stop: Stop) -> Iterator[tuple[str, GreySlice | Unread]]:
    """Decode one file after the other; each may hold what the files before it have left over.

    DICOM files stay in the order they came in; those of one series are numbered by position, and share one range of
    values where they bring no window. A series is read whole or not at all: a part would be judged for the whole.
    """
    room = _Room(limits)
    found = series_among([file.name for file in files], list(_headers(files, stop)))
    places = {k: (series, number) for series in found for number, k in enumerate(series.members)}
    begun: dict[Series | None, _Begun] = {None: _Begun(None)}
    for k, file in enumerate(files):
        stop.check()
        series, number = places.get(k, (None, None))
        if series is not None and series not in begun:
            begun[series] = room.begin(series, files, stop)
        volume = series.volume if series else None
        try:
            slices = room.read(file, begun[series])
        except ImageError as error:
            yield file.name, Unread(str(error), number, volume)
            continue
        yield from ((file.name, replace(item, index=number, volume=volume) if series else item) for item in slices)


class _Begun(NamedTuple):
    """What is known of a series before its files are read."""

    scale: tuple[float, float] | None  # what becomes black and white where they bring no window
    refused: str | None = None  # why none of them is read


class _Room:
    """What a request may still hold."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.slices = self.pixels = 0  # read so far

    def begin(self, series: Series, files: Sequence[Upload], stop: Stop) -> _Begun:
        """Find the common range of a series, where there is room for all of it."""
        slices, pixels = self.limits.slices - self.slices, self.limits.voxels - self.pixels
        count = len(series.members)
        if count > slices or series.pixels > pixels:
            where = "in a request of its own" if self.slices else "to a server with higher limits, or use the program"
            return _Begun(
                None,
                f"expected a series of at most {slices:,} slices and {pixels:,} pixels in all, got {count:,} slices "
                f"and {series.pixels:,} pixels, and a part would be judged for the whole; send it {where}",
            )
        bare = [files[k].content for k in series.bare]
        return _Begun(common_scale(bare, self.limits.of_a_file(0, 0), stop.check))

    def read(self, file: Upload, begun: _Begun) -> list[GreySlice]:
        """The slices of a file. Raises ImageError."""
        if begun.refused:
            raise ImageError(f"{file.name}: {begun.refused}")
        if self.slices >= self.limits.slices:
            most = f"{self.limits.slices:,} slices in one request"
            raise ImageError(f"{file.name}: expected at most {most}, got more; send it apart")
        reading = Reading(limits=begun.scale, sizes=self.limits.of_a_file(self.slices, self.pixels))
        slices = read_slices(file.content, reading, name=file.name)
        self.slices += len(slices)
        self.pixels += sum(item.pixels.size for item in slices)
        return slices


def _headers(files: Sequence[Upload], stop: Stop) -> Iterator[Header | None]:
    for file in files:
        stop.check()
        yield read_header(file.content) if is_dicom(file.content) else None


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
