"""What every request passes: is it meant for this server, may it ask, and how is it counted and answered."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Awaitable, Callable

from fastapi import HTTPException, Request, Response

from braincam.serve.metrics import Metrics
from braincam.serve.settings import Settings

log = logging.getLogger("braincam.serve")

Answer = Callable[[Request], Awaitable[Response]]

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def asked_for_us(request: Request, settings: Settings) -> str | None:
    """Why a request is refused before it is read, or None: another host's name, or another site's page."""
    host = request.headers.get("host", "")
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if settings.hosts and name.lower() not in settings.hosts:
        return "this server answers to the names of this machine only"
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        return "requests from other sites' pages are refused"
    return None


def may_ask(request: Request, settings: Settings) -> None:
    """Compare the bearer token, where one is set, in constant time.

    Raises:
        HTTPException: 401 it is missing or wrong.
    """
    if settings.token is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), settings.token.encode()):
        raise HTTPException(401, "expected the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})


async def counted(request: Request, answer: Answer, metrics: Metrics) -> Response:
    """Answer, count, and log route, status and time: no query, no name, no address."""
    started = time.perf_counter()
    status = 500
    try:
        response = await answer(request)
        status = response.status_code
    finally:
        route = getattr(request.scope.get("route"), "path", "other")
        seconds = time.perf_counter() - started
        metrics.requests.labels(route, str(status)).inc()
        metrics.seconds.labels(route).observe(seconds)
        if route != "other":  # the page's files, and paths that do not exist
            log.info("%s %s %d %.3f s", request.method, route, status, seconds)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store" if route != "other" else "no-cache")
    return response
