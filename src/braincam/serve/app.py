"""The routes: predictions, the model's card, health, counts, and the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict

from braincam import __version__
from braincam.model_file.card import NOTICE
from braincam.predict import Predictor
from braincam.serve.answers import rows
from braincam.serve.desk import Desk
from braincam.serve.guard import asked_for_us, counted, may_ask
from braincam.serve.metrics import Metrics
from braincam.serve.settings import Settings
from braincam.serve.upload import FIELD, received

PAGE = Path(str(files("braincam") / "serve" / "page"))


class Maps(BaseModel):
    """Evidence per pixel for each class over the whole slice; their mean is the score before calibration."""

    height: int
    width: int
    classes: list[str]
    data: str  # base64 of little-endian float32, (classes, height, width)


class Row(BaseModel):
    """The answer for one slice."""

    path: str  # the base name of the uploaded file
    slice: int | None  # number within a volume; null for a single picture
    status: str  # ok, refer, rejected, error
    label: str | None
    probabilities: dict[str, float] | None
    prediction_set: list[str] | None
    confidence: float | None
    outlier_score: float | None
    reason: str | None
    overlay: str | None  # always null: a server writes no pictures
    model: dict[str, str]
    notice: str
    picture: str | None  # base64 of a PNG of the slice, with pictures=true
    cam: Maps | None  # with pictures=true


class Predictions(BaseModel):
    """One row per slice, in the order of the files."""

    predictions: list[Row]
    notice: str


class Model(BaseModel):
    """The model that answers."""

    name: str
    sha256: str
    card: dict[str, Any]


class Health(BaseModel):
    """That the server answers."""

    status: str


class Problem(BaseModel):
    """Why a call was refused."""

    model_config = ConfigDict(extra="allow")
    detail: Any


UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {
                        FIELD: {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "PNG, JPEG, TIFF, DICOM, NIfTI, ...; recognised by content, not by name",
                        }
                    },
                }
            }
        },
    }
}
TOO_LATE: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": text}
    for code, text in {
        400: "the request is not HTTP as it should be",
        403: "asked under a foreign name or by another site's page",
        408: "the upload was too slow",
        413: "too many bytes or files",
        415: "another kind of body",
        422: "no file in it, or a wrong parameter",
        503: "all places are taken; Retry-After says when to come back",
        504: "the answer took too long",
    }.items()
}
SECRET: dict[int | str, dict[str, Any]] = {401: {"model": Problem, "description": "the token is missing or wrong"}}
FOREIGN: dict[int | str, dict[str, Any]] = {403: TOO_LATE[403]}


def create_app(predictor: Predictor, settings: Settings) -> FastAPI:
    """The application for one model; limits, token and hosts come from `settings`."""
    desk = Desk(settings)
    metrics = Metrics(lambda: desk.busy, __version__, predictor.card.name)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(
        title="braincam", version=__version__, summary=NOTICE, lifespan=lifespan, docs_url=None, redoc_url=None
    )

    def with_token(request: Request) -> None:  # a partial would show FastAPI `settings` as a part of the body
        may_ask(request, settings)

    secret = [Depends(with_token)] if settings.token else []

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Response:
        async def answer(asked: Request) -> Response:
            refusal = asked_for_us(asked, settings)
            if refusal:
                return JSONResponse({"detail": refusal}, 403)
            response: Response = await call_next(asked)
            return response

        return await counted(request, answer, metrics)

    @app.post(
        "/v1/predict", response_model=Predictions, openapi_extra=UPLOAD, dependencies=secret,
        responses={**TOO_LATE, **(SECRET if secret else {})},
    )  # fmt: skip
    async def predict(
        request: Request,
        pictures: Annotated[bool, Query(description="send each slice and its heat maps along")] = False,
    ) -> Response:
        """Answer for uploaded files, a row per slice. A file that cannot be read becomes a row with status `error`."""
        uploads = await received(request, settings)
        found = await desk.do(lambda: rows(predictor, uploads, pictures))
        metrics.count(row["status"] for row in found)
        return JSONResponse({"predictions": found, "notice": NOTICE})

    @app.get("/v1/model", dependencies=secret, responses={**FOREIGN, **(SECRET if secret else {})})
    def model() -> Model:
        """The model that answers, with its card: training data, scores with intervals, thresholds, intended use."""
        return Model(name=predictor.card.name, sha256=predictor.file.sha256, card=predictor.card.summary())

    @app.get(
        "/metrics",
        response_class=PlainTextResponse,
        dependencies=secret,
        responses={**FOREIGN, **(SECRET if secret else {})},
    )
    def counts() -> Response:
        """Counts for Prometheus."""
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/healthz", responses=FOREIGN)
    async def health() -> Health:
        """That the server answers, also while all places are taken."""
        return Health(status="ok")

    @app.get("/", response_class=FileResponse, include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    app.mount("/static", StaticFiles(directory=PAGE), name="page")
    return app
