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
    slice: int | None = Field(description="number within a volume or DICOM series; null for a single picture")
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


class ProbabilityRange(BaseModel):
    """Of the calibrated probabilities of some slices; no confidence interval."""

    least: float
    median: float
    largest: float


class Evidence(BaseModel):
    """The slices that carry evidence for one tumour class: it leads, and is alone in the prediction set."""

    label: str
    slices: list[int] = Field(description="their numbers in the volume")
    runs: list[tuple[int, int]] = Field(description="first and last number of each stretch of neighbours")
    share_of_judged: float | None
    probability_range: ProbabilityRange | None = Field(description="over these slices")


class ChosenVolume(BaseModel):
    """Which volume of a file of several was read."""

    number: int = Field(description="from 0")
    of: int


class Study(BaseModel):
    """What the slices of one volume or DICOM series say together, as `braincam predict` says it in study.json."""

    path: str = Field(description="the file, or the first and the last file of a series")
    volume: ChosenVolume | None = Field(description="of a 4-D NIfTI file; else null")
    remarks: list[str] = Field(description="what has to be known of how the file was read")
    finding: Literal["evidence", "no evidence", "unclear", "refused"]
    label: str | None = Field(description="the leading class; only for evidence")
    statement: str = Field(description="the finding in one sentence")
    slices: int
    judged: int = Field(description="answered or referred")
    uncertain: int = Field(description="of these referred")
    without_evidence: int = Field(description="surely without evidence for a tumour")
    not_judged: dict[str, int] = Field(description="reason → slices")
    coverage: float = Field(description="of a prediction set")
    allowed_for: int = Field(description="judged slices that may be wrong at this coverage")
    evidence: list[Evidence] = Field(description="per tumour class, the leading one first")
    caution: str
    rows: list[int] = Field(description="which of the predictions are its slices, from 0")


class Predictions(BaseModel):
    """One row per slice, in the order of the files; and one study per volume or series among them."""

    predictions: list[Prediction]
    studies: list[Study]
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
