"""Uploaded files → the JSON of an answer. Runs in a worker's thread."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from braincam.errors import ImageError
from braincam.images import GreySlice, Reading, read_slices
from braincam.images.dicom import is_dicom
from braincam.images.series import Header, read_header, scales_in_series
from braincam.model_file.card import NOTICE
from braincam.predict import Prediction, Predictor
from braincam.serve.limits import Limits
from braincam.serve.upload import Upload
from braincam.serve.workers import Stop


def answer(
    files: Sequence[Upload], predictor: Predictor, limits: Limits, pictures: bool, stop: Stop
) -> tuple[bytes, Counter[str]]:
    """The body of the response, and how many slices got which status."""
    rows, statuses = [], Counter[str]()
    for prediction in predictor.judge(_slices(files, predictor, limits, stop), cam=pictures):
        stop.check()
        statuses[prediction.status] += 1
        rows.append(json.dumps(_row(prediction, predictor.card.classes, pictures), ensure_ascii=False, allow_nan=False))
    body = '{"predictions": [' + ", ".join(rows) + '], "notice": ' + json.dumps(NOTICE) + "}"
    return body.encode(), statuses


def _slices(
    files: Sequence[Upload], predictor: Predictor, limits: Limits, stop: Stop
) -> Iterator[tuple[str, GreySlice | Prediction]]:
    """Decode one file after the other; each may hold what the files before it have left over.

    DICOM files stay in the order they came in; those of one series that bring no window share one range of values.
    """
    count = voxels = 0
    contents = [file.content for file in files]
    scales = scales_in_series(contents, _headers(contents, stop), limits.of_a_file(0, 0))
    for file, scale in zip(files, scales, strict=True):
        stop.check()
        if count >= limits.slices:
            reason = f"{file.name}: expected at most {limits.slices:,} slices in one request, got more; send it apart"
            yield file.name, predictor.error(file.name, reason)
            continue
        try:
            reading = Reading(limits=scale, sizes=limits.of_a_file(count, voxels))
            slices = read_slices(file.content, reading, name=file.name)
        except ImageError as error:
            yield file.name, predictor.error(file.name, str(error))
            continue
        count += len(slices)
        voxels += sum(item.pixels.size for item in slices)
        yield from ((file.name, item) for item in slices)


def _headers(contents: Sequence[bytes], stop: Stop) -> Iterator[Header | None]:
    for content in contents:
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
