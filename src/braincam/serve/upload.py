"""From the bytes of a request to named files, in memory."""

from __future__ import annotations

import asyncio
import sys
from pathlib import PureWindowsPath

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from braincam.serve.settings import Settings

FIELD = "files"
UNNAMED = "upload"


class InMemoryParser(MultiPartParser):
    """Starlette's parser moves larger files to the disk; here nothing may, and the whole body is limited anyway."""

    spool_max_size = sys.maxsize


class TooLarge(HTTPException):
    """The body has grown past the limit; the rest of it is not read."""

    def __init__(self, limit: int):
        super().__init__(413, f"expected at most {limit:,} bytes in one request; send fewer files at a time")


async def received(request: Request, settings: Settings) -> list[tuple[str, bytes]]:
    """The uploaded files as (base name, bytes), in order.

    Raises:
        HTTPException: 413 too many bytes or files, 408 too slow, 415 another kind of body, 422 nothing to answer for.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > settings.max_bytes:
        raise TooLarge(settings.max_bytes)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(415, f"expected multipart/form-data with files in the field {FIELD!r}")
    parser = InMemoryParser(request.headers, _limited(request, settings.max_bytes), max_files=settings.max_files)
    try:
        async with asyncio.timeout(settings.upload_seconds):
            form = await parser.parse()
    except TimeoutError:
        raise HTTPException(408, f"the upload took longer than {settings.upload_seconds:g} s") from None
    except MultiPartException as error:
        raise HTTPException(413 if "Too many" in error.message else 422, error.message) from None
    except (KeyError, ValueError, LookupError):  # a boundary or a charset that is none
        raise HTTPException(422, "expected well-formed multipart/form-data") from None
    try:
        uploads = [part for name, part in form.multi_items() if name == FIELD and isinstance(part, UploadFile)]
        if not uploads:
            raise HTTPException(422, f"expected at least one file in the field {FIELD!r}")
        return [(base_name(part.filename), await part.read()) for part in uploads]
    finally:
        await form.close()


async def _limited(request: Request, most: int):  # type: ignore[no-untyped-def]
    """The body, piece by piece, until it is too much: a length that is declared is not believed."""
    seen = 0
    async for piece in request.stream():
        seen += len(piece)
        if seen > most:
            raise TooLarge(most)
        yield piece


def base_name(name: str | None) -> str:
    """The last part of a client's file name, printable and short; it is echoed, never used as a path."""
    last = PureWindowsPath(name or "").name  # understands both kinds of slash
    return "".join(c for c in last if c.isprintable())[:200] or UNNAMED
