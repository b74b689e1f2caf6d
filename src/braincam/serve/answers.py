"""From named files to the rows of an answer."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from braincam.predict import Prediction, Predictor

BYTES = ("<bytes>: ", "bytes: ")  # how errors name what came without a name


def rows(predictor: Predictor, files: Sequence[tuple[str, bytes]], pictures: bool) -> list[dict[str, Any]]:
    """One row per slice, in the order of the files; with `pictures`, the slice and its maps are in it."""
    return [
        row(named(answer, name), predictor.card.classes, pictures)
        for name, content in files
        for answer in predictor.stream([content], cam=pictures)
    ]


def named(answer: Prediction, name: str) -> Prediction:
    """The answer under the name that the client gave its file."""
    reason = answer.reason
    for prefix in BYTES:
        if reason and reason.startswith(prefix):
            reason = f"{name}: {reason.removeprefix(prefix)}"
    return replace(answer, path=name, reason=reason)


def row(answer: Prediction, classes: Sequence[str], pictures: bool) -> dict[str, Any]:
    """A prediction as JSON, the slice as PNG and the maps as float32 beside it."""
    shown = pictures and answer.pixels is not None and answer.cams is not None
    return {
        **answer.to_json(),
        "picture": png(answer.pixels) if shown and answer.pixels is not None else None,
        "cam": maps(answer.cams, classes) if shown and answer.cams is not None else None,
    }


def png(pixels: NDArray[np.uint8]) -> str:
    """A grey slice (H, W) as base64 of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)  # it travels a short way
    return base64.b64encode(file.getvalue()).decode()


def maps(cams: NDArray[np.float32], classes: Sequence[str]) -> dict[str, Any]:
    """Evidence per pixel (K, h, w), as base64 of little-endian float32, row by row."""
    _, height, width = cams.shape
    data = base64.b64encode(np.ascontiguousarray(cams, "<f4").tobytes()).decode()
    return {"height": height, "width": width, "classes": list(classes), "data": data}
