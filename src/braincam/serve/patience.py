"""uvicorn's HTTP/1.1 with an end to its patience.

uvicorn waits for ever for the head of a first request, for a client to read its answer, and for the rest of a body
that was refused. Here each has its time; then the connection is cut.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from braincam.serve.limits import Limits


class PatientProtocol(H11Protocol):
    """One connection. Cut when a head, an answer's reader or the rest of a refused body takes too long."""

    limits: ClassVar[Limits] = Limits()
    _owed: str | None = None
    _timer: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # an answer counts as sent when the system has all of it
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what came and see what is still owed."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """An answer is sent; perhaps before its request was read whole."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        super().connection_lost(exc)
        for timer in (self._timer, self._reader):
            if timer:
                timer.cancel()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._reader = self.loop.call_later(self.limits.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read all."""
        super().resume_writing()
        if self._reader:
            self._reader.cancel()

    def _watch(self) -> None:
        owed = self._what_is_owed()
        if owed == self._owed:
            return
        self._owed = owed
        if self._timer:
            self._timer.cancel()
        seconds = {"head": self.limits.head_seconds, "rest": self.limits.linger_seconds, None: None}[owed]
        self._timer = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)

    def _what_is_owed(self) -> str | None:
        """What the client has to send next, unless the application waits for it with a limit of its own."""
        if self.conn.their_state is h11.IDLE:
            return "head"
        if self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete:
            return "rest"
        return None


def patient(limits: Limits) -> type[PatientProtocol]:
    """The protocol with these limits."""
    return type("PatientProtocol", (PatientProtocol,), {"limits": limits})
