"""What the interface takes and gives, for OpenAPI. The fields of a prediction are those of `braincam predict`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from braincam.serve.refusal import MEDIA_TYPE

UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "additionalProperties": False,
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "PNG, JPEG, BMP, TIFF, GIF, WebP, DICOM or NIfTI, told apart by content",
                        }
                    },
                }
            }
        },
    }
}


class Model(BaseModel):
    """Which model gave an answer."""

    name: str
    sha256: str = Field(description="of the model file")


class Cam(BaseModel):
    """Class activation maps over the whole slice."""

    height: int
    width: int
    classes: list[str]
    data: str = Field(
        description="base64 of little-endian float32 (classes, height, width): evidence per pixel. "
        "The mean of a class's map is its logit before calibration."
    )


class Prediction(BaseModel):
    """The answer for one slice, or why there is none."""

    path: str = Field(description="base name of the uploaded file")
    slice: int | None = Field(description="number within a volume; null for a single picture")
    status: Literal["ok", "refer", "rejected", "error"]
    label: str | None = Field(description="null unless ok or refer")
    probabilities: dict[str, float] | None = Field(description="class → calibrated probability; null on error")
    prediction_set: list[str] | None = Field(description="classes that cannot be ruled out")
    confidence: float | None = Field(description="the largest probability")
    outlier_score: float | None = Field(description="higher = less like the training scans")
    reason: str | None = Field(description="why it is not ok")
    overlay: str | None = Field(description="always null here: nothing is written")
    model: Model
    notice: str
    picture: str | None = Field(description="base64 PNG of the grey slice, with pictures=true")
    cam: Cam | None = Field(description="with pictures=true")


class Predictions(BaseModel):
    """One row per slice, in the order of the files."""

    predictions: list[Prediction]
    notice: str


class ModelCard(BaseModel):
    """The model and what its card says of it."""

    name: str
    sha256: str
    card: dict[str, Any]


class Health(BaseModel):
    """The server answers."""

    status: Literal["ok"]


_PROBLEM = {
    "type": "object",
    "required": ["title", "status", "detail"],
    "properties": {"title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}},
}
_MEANINGS = {
    401: "No token, or a wrong one",
    403: "Called by a page of another site, or by another name than this machine's",
    408: "The body took too long",
    413: "Too many bytes or files",
    415: "Not multipart/form-data",
    422: "Malformed: no files, a part of another name, a wrong parameter",
    500: "The server failed; its log says where",
    503: "Too much to do; come back after the seconds in Retry-After",
    504: "The answer took too long",
}


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of one route, for its documentation."""
    return {
        code: {"description": _MEANINGS[code], "content": {MEDIA_TYPE: {"schema": _PROBLEM}}} for code in sorted(codes)
    }
