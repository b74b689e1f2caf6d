"""The routes: a predictor and its limits → an ASGI application."""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends as Dependency
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from braincam import __version__
from braincam.model_file.card import NOTICE
from braincam.predict import Predictor
from braincam.serve.answer import answer
from braincam.serve.auth import check_token
from braincam.serve.frame import Frame
from braincam.serve.limits import MEBIBYTE, Limits, Memory
from braincam.serve.metrics import Metrics
from braincam.serve.refusal import problem
from braincam.serve.schema import UPLOAD, Health, ModelCard, Predictions, refusals
from braincam.serve.upload import GONE, Received, receive
from braincam.serve.workers import Workers

PAGE = Path(__file__).parent / "page"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BEARER = HTTPBearer(auto_error=False, description="the token that the server was started with")


def create_app(predictor: Predictor, limits: Limits, threads: int, *, token: str | None, loopback: bool) -> ASGIApp:
    """The whole service as one ASGI application.

    `threads` answers are worked on at once. With `token`, predictions, model and metrics need it; with `loopback`,
    only this machine's own names are answered to.
    """
    mimetypes.add_type("text/javascript", ".js")  # Windows asks the registry, which may say that it is plain text
    mimetypes.add_type("text/css", ".css")
    workers, memory = Workers(threads, limits.waiting), Memory(limits.memory)
    metrics = Metrics(predictor, workers, memory)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(workers.close)

    app = FastAPI(
        title="braincam",
        version=__version__,
        description=f"What brain MRI slices resemble, or why they are not judged. {NOTICE}",
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers={
            HTTPException: _refused,
            RequestValidationError: _malformed,
            Exception: _failed,
        },
    )
    locked = (401,) if token else ()
    _add_predict(app, predictor, limits, workers, memory, metrics, guard=_guard(token), locked=locked)
    _add_facts(app, predictor, metrics, guard=_guard(token), locked=locked)
    app.add_route("/", _page, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=PAGE))
    return Frame(app, metrics, loopback)


def _add_predict(
    app: FastAPI,
    predictor: Predictor,
    limits: Limits,
    workers: Workers,
    memory: Memory,
    metrics: Metrics,
    *,
    guard: list[Dependency],
    locked: tuple[int, ...],
) -> None:
    """The route that takes files and gives answers."""

    @app.post(
        "/v1/predict",
        response_model=Predictions,
        responses=refusals(403, 408, 413, 415, 422, 500, 503, 504, *locked),
        openapi_extra=UPLOAD,
        dependencies=guard,
    )
    async def predict(request: Request, pictures: bool = False) -> Response:
        """Answer for every slice of one or more files. With `pictures`, each row carries its slice and its maps.

        A file that cannot be read is a row with the status `error`; the others are answered all the same.
        """
        workers.check_room()  # before a body is read in vain
        received = Received(memory)
        try:
            await receive(request, limits, received)
        except BaseException:
            received.release()
            raise
        # The list itself, which `release` empties: a job that was given up may lie in the queue for long.
        job = partial(answer, received.files, predictor, limits, pictures)
        gone = partial(_left, request.receive)
        body, statuses = await workers.run(job, limits.answer_seconds, gone, received.release)
        metrics.slices(statuses)
        if len(body) > limits.memory:  # it would be told to come back for ever
            raise HTTPException(
                413, f"the answer takes {len(body) / MEBIBYTE:.0f} MiB; send fewer slices, or ask without pictures"
            )
        received.hold(len(body))
        return _Held(body, received)


def _add_facts(
    app: FastAPI, predictor: Predictor, metrics: Metrics, *, guard: list[Dependency], locked: tuple[int, ...]
) -> None:
    """The routes that say which model answers, that it does, and how often it did."""

    @app.get("/v1/model", response_model=ModelCard, responses=refusals(403, *locked), dependencies=guard)
    async def model() -> ModelCard:
        """The model that answers, and its card: classes, thresholds, training data, scores with their intervals."""
        return ModelCard(name=predictor.card.name, sha256=predictor.file.sha256, card=predictor.card.summary())

    @app.get("/healthz", response_model=Health, responses=refusals(403))
    async def healthz() -> Health:
        """The server answers."""
        return Health(status="ok")

    @app.get(
        "/metrics",
        response_class=Response,
        responses={
            200: {"description": "Prometheus text", "content": {"text/plain": {"schema": {"type": "string"}}}},
            **refusals(403, *locked),
        },
        dependencies=guard,
    )
    async def prometheus() -> Response:
        """What is counted, in Prometheus' text format."""
        return Response(metrics.text(), headers={"Content-Type": METRICS_TYPE})


async def _page(_: Request) -> Response:
    return FileResponse(PAGE / "index.html")


def _guard(token: str | None) -> list[Dependency]:
    """What a route needs before it is run."""
    if token is None:
        return []

    async def check(given: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]) -> None:
        check_token(given.credentials if given else None, token)

    return [Depends(check)]


async def _left(receive: Receive) -> None:
    """Return when the client has left; only after the body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


class _Held(Response):
    """A body that counts as held until the client has read it."""

    def __init__(self, body: bytes, received: Received):
        super().__init__(body, media_type="application/json")
        self._received = received

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self.body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})  # waits until the body is on its way
        finally:
            self._received.release()


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == GONE:
        return Response(status_code=GONE)  # for the log: nobody is there to read it
    return problem(error.status_code, str(error.detail), dict(error.headers or {}))


async def _malformed(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]  # its input is left out: it is the client's
    return problem(422, f"{' '.join(map(str, first['loc']))}: {first['msg']}")


async def _failed(_: Request, __: Exception) -> Response:
    return problem(500, "the server failed; its log says where")
