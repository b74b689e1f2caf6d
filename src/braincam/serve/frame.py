"""What surrounds every request: other sites are refused, headers are added, and it is counted and logged.

The log has the method, the route, the code and the time. No path, query, file name, header or address of a client
reaches it, nor the text of an exception, which may quote a file.
"""

from __future__ import annotations

import logging
import time
import traceback

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from braincam.serve.auth import check_site
from braincam.serve.metrics import Metrics
from braincam.serve.refusal import problem
from braincam.serve.upload import GONE

ROUTES = frozenset({"/", "/v1/predict", "/v1/model", "/healthz", "/metrics", "/openapi.json"})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
UNLOGGED = frozenset({"/healthz", "/metrics"})  # asked every few seconds by machines
SECURITY = (
    (
        b"content-security-policy",
        b"; ".join(
            (
                b"default-src 'none'",
                b"script-src 'self'",
                b"style-src 'self'",
                b"img-src 'self' blob: data:",
                b"connect-src 'self'",
                b"form-action 'none'",
                b"base-uri 'none'",
                b"frame-ancestors 'none'",
            )
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)

log = logging.getLogger("braincam.serve")


class Frame:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, metrics: Metrics, loopback: bool):
        self._app, self._metrics, self._loopback = app, metrics, loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless another site's page made it; see the module."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, code, route = time.perf_counter(), GONE, _route(scope["path"])
        caching = b"no-cache" if route in {"/", "/static"} else b"no-store"
        added = [*SECURITY, (b"cache-control", caching)]

        async def send_framed(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        try:
            check_site(Headers(scope=scope), self._loopback)
            await self._app(scope, receive, send_framed)
        except HTTPException as error:
            await problem(error.status_code, error.detail)(scope, receive, send_framed)
        except Exception as error:
            log.error("%s", place(error))  # noqa: TRY400 - its text may quote a file
            if code == GONE:
                await problem(500, "the server failed; its log says where")(scope, receive, send_framed)
        finally:
            seconds = time.perf_counter() - start
            self._metrics.request(route, code, seconds)
            if route not in UNLOGGED:
                method = scope["method"] if scope["method"] in METHODS else "OTHER"
                log.info("%s %s %d %.0f ms", method, route, code, 1000 * seconds)


def place(error: BaseException) -> str:
    """What kind of error, and the lines that led to it, without its text."""
    lines = traceback.extract_tb(error.__traceback__)[-6:]
    return f"{type(error).__name__} at " + " < ".join(f"{line.name}:{line.lineno}" for line in reversed(lines))


def _route(path: str) -> str:
    """One of a few names: what a client asks for beyond them is its own business."""
    if path in ROUTES:
        return path
    return "/static" if path.startswith("/static/") else "other"
