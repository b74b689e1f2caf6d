"""How a call is refused: one line of `application/problem+json` (RFC 9457) with a status that says whose turn it is."""

from __future__ import annotations

import json
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1


def busy(detail: str) -> HTTPException:
    """503: nothing is wrong with the call, and it may be made again."""
    return HTTPException(503, detail, {"Retry-After": str(RETRY_SECONDS)})


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """The response for a refused call."""
    text = json.dumps({"title": HTTPStatus(status).phrase, "status": status, "detail": detail}, ensure_ascii=False)
    return Response(text, status, headers, MEDIA_TYPE)
