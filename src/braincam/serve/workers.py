"""A few threads with a bounded queue in front: what does not fit is refused at once instead of piling up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.exceptions import HTTPException

from braincam.serve.refusal import busy
from braincam.serve.upload import GONE

T = TypeVar("T")


class AbandonedError(Exception):
    """Nobody waits for this job any more."""


class Stop:
    """Tells a job that runs in a thread that nobody waits for it any more."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask the job to end."""
        self._event.set()

    def check(self) -> None:
        """End the job here if it was asked to. Raises AbandonedError."""
        if self._event.is_set():
            raise AbandonedError


class Workers:
    """`threads` jobs run at once and `waiting` more may wait."""

    def __init__(self, threads: int, waiting: int):
        self.threads = threads
        self._room = threads + waiting
        self._pool = ThreadPoolExecutor(threads, "braincam-worker")
        self._lock = threading.Lock()
        self._accepted = 0

    @property
    def waiting(self) -> int:
        """Jobs that wait for a thread."""
        return max(0, self._accepted - self.threads)

    def check_room(self) -> None:
        """Refuse early, before a body is read. Raises HTTPException 503."""
        if self._accepted >= self._room:
            raise busy("the queue is full; try again")

    async def run(
        self,
        job: Callable[[Stop], T],
        seconds: float,
        client_left: Callable[[], Coroutine[Any, Any, None]],
        ended: Callable[[], None],
    ) -> T:
        """What a job gives. It is stopped when it takes too long or when its client leaves.

        `ended` is called on the event loop once the job has ended, or never will begin: a job that runs when nobody
        waits for it any more still holds its memory until its next check.

        Raises:
            HTTPException: 503 when the queue is full, 504 when the time is over, 499 when the client left.
        """
        stop = Stop()
        try:
            self.check_room()
            future = self._submit(job, stop)
        except BaseException:
            ended()
            raise
        answer = asyncio.wrap_future(future)
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps nobody else asks for it
        answer.add_done_callback(lambda _: ended())
        left = asyncio.create_task(client_left())
        try:
            either: set[asyncio.Future[Any]] = {answer, left}
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if left.done():
                raise HTTPException(GONE, "the client left before the answer was ready")
            raise HTTPException(504, f"no answer within {seconds:g} seconds; send fewer slices at a time")
        finally:
            stop.set()
            left.cancel()
            future.cancel()  # a job that has not begun never will; one that runs ends at its next check

    def close(self) -> None:
        """Wait for what was accepted, then end the threads."""
        self._pool.shutdown(wait=True)

    def _submit(self, job: Callable[[Stop], T], stop: Stop) -> Future[T]:
        with self._lock:
            self._accepted += 1
        try:
            future = self._pool.submit(job, stop)
        except BaseException:
            self._release()
            raise
        future.add_done_callback(lambda _: self._release())
        return future

    def _release(self) -> None:
        with self._lock:
            self._accepted -= 1
