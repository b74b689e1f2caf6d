"""A bounded queue before a few worker threads: what does not fit is told so at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fastapi import HTTPException

from braincam.serve.settings import Settings

RETRY_AFTER = 1  # seconds
T = TypeVar("T")


class Desk:
    """Runs work in threads, `workers` at a time, while at most `queue` more wait."""

    def __init__(self, settings: Settings):
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="answer")
        self._places = settings.workers + settings.queue
        self._seconds = settings.answer_seconds
        self.busy = 0  # requests being answered or waiting

    async def do(self, work: Callable[[], T]) -> T:
        """The result of `work`.

        Raises:
            HTTPException: 503 no place is free, 504 it took too long; the place is free again when it ends.
        """
        if self.busy >= self._places:
            raise HTTPException(503, "all places are taken; try again", {"Retry-After": str(RETRY_AFTER)})
        self.busy += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(self._leave)
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.shield(future)
        except TimeoutError:
            raise HTTPException(504, f"the answer took longer than {self._seconds:g} s; send fewer slices") from None

    def _leave(self, future: asyncio.Future[T]) -> None:
        self.busy -= 1
        if not future.cancelled():
            future.exception()  # looked at: after a time-out nobody else does

    def close(self) -> None:
        """Finish what was accepted."""
        self._pool.shutdown(wait=True)
