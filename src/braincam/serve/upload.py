"""The body of a request → named bytes, in memory only, and no further than the limits.

Starlette's own form parser writes larger uploads to a temporary file. Scans are patients' data, so nothing here
touches a disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from braincam.serve.limits import MEBIBYTE, Limits, Memory
from braincam.serve.refusal import busy

FIELD = b"files"
LONGEST_NAME = 255
GONE = 499  # for the log and the metrics; the client that left never sees it


@dataclass(frozen=True)
class Upload:
    """One file as it was sent."""

    name: str  # the base name; never used as a path
    content: bytes


@dataclass(eq=False)
class Received:
    """The files of one request, and the memory that they hold until `release`."""

    memory: Memory
    files: list[Upload] = field(default_factory=list)
    held: int = 0

    def hold(self, count: int) -> None:
        """Take memory. Raises HTTPException 503 when there is none."""
        if not self.memory.take(count):
            raise busy("the server holds as much as it may for other requests; try again")
        self.held += count

    def release(self) -> None:
        """Let go of the files and hand their memory back."""
        self.files.clear()
        self.memory.give(self.held)
        self.held = 0


async def receive(request: Request, limits: Limits, received: Received) -> None:
    """Read the files of a request into `received`. Raises HTTPException 408, 413, 415, 422, 499 or 503."""
    parts = _Parts(_boundary(request), limits)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.bytes:
        raise _too_large(limits)
    size = 0
    try:
        async with asyncio.timeout(limits.upload_seconds):
            async for chunk in _chunks(request):
                size += len(chunk)
                if size > limits.bytes:
                    raise _too_large(limits)
                received.hold(len(chunk))
                parts.write(chunk)
    except TimeoutError:
        raise HTTPException(408, f"expected the whole body within {limits.upload_seconds:g} seconds") from None
    except ClientDisconnect:
        raise HTTPException(GONE, "the client left before the body was whole") from None
    received.files = parts.finish()


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk


def _too_large(limits: Limits) -> HTTPException:
    return HTTPException(
        413, f"expected at most {limits.bytes / MEBIBYTE:g} MiB in one request, got more; send fewer files at a time"
    )


def _boundary(request: Request) -> bytes:
    """What stands between the parts. Raises HTTPException 415."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    encoding = request.headers.get("content-encoding", "identity")
    if kind != b"multipart/form-data" or encoding != "identity":
        raise HTTPException(415, "expected a body of multipart/form-data, not compressed, with parts named files")
    return options.get(b"boundary", b"")


class _Parts:
    """Collects the parts that python-multipart finds in a body that comes in pieces."""

    def __init__(self, boundary: bytes, limits: Limits):
        self._limits = limits
        self._files: list[Upload] = []
        self._whole = False
        self._header, self._value = bytearray(), bytearray()
        self._disposition, self._content = b"", bytearray()
        self._name = ""
        if not boundary:
            raise _malformed("without a boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._end_of_header,
                    "on_headers_finished": self._end_of_headers,
                    "on_part_data": lambda data, start, end: self._content.extend(data[start:end]),
                    "on_part_end": self._end,
                    "on_end": self._finish,
                },
            )
        except FormParserError:
            raise _malformed("with a boundary that is too long") from None

    def write(self, chunk: bytes) -> None:
        """Take the next piece of the body. Raises HTTPException 413 or 422."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _malformed("that is damaged") from None

    def finish(self) -> list[Upload]:
        """The files, when the body has ended. Raises HTTPException 422."""
        if not self._whole:
            raise _malformed("that is cut off")
        if not self._files:
            raise _malformed("without a file")
        return self._files

    def _begin(self) -> None:
        if len(self._files) >= self._limits.files:
            raise HTTPException(413, f"expected at most {self._limits.files:,} files in one request, got more")
        self._disposition, self._content = b"", bytearray()
        self._header, self._value = bytearray(), bytearray()

    def _end_of_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _end_of_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != FIELD:
            raise _malformed("with a part of another name")
        if b"filename" not in options:
            raise _malformed("with a part that is no file")
        self._name = base_name(options[b"filename"])

    def _end(self) -> None:
        self._files.append(Upload(self._name, bytes(self._content)))
        self._content = bytearray()

    def _finish(self) -> None:
        self._whole = True


def _malformed(what: str) -> HTTPException:
    return HTTPException(422, f"expected multipart/form-data with one or more parts named files, got a body {what}")


def base_name(sent: bytes) -> str:
    """What is echoed of a client's file name: its last part, printable, of bounded length."""
    text = sent.decode("utf-8", errors="replace").replace("\\", "/").rpartition("/")[2]
    name = "".join(character for character in text if character.isprintable()).strip()[:LONGEST_NAME]
    return name if name.strip(".") else "file"
