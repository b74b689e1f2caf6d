"""Work on threads ahead of the one who asks for it, in order, and no further than memory allows."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")


def ahead(
    jobs: Iterable[J], work: Callable[[J], R], size: Callable[[R], int], *, threads: int, most: int, room: int
) -> Iterator[tuple[J, R]]:
    """Each job with its result, in order; up to `most` jobs are begun before they are asked for.

    None but the next is begun while the results that wait have a `size` of `room` or more together: how large a result
    is shows only afterwards, so `threads` of them may go beyond.
    """
    waiting: deque[tuple[J, Future[R]]] = deque()
    shelf = _Shelf(work, size, room)
    with ThreadPoolExecutor(max_workers=threads) as pool:
        try:
            for number, job in enumerate(jobs):
                waiting.append((job, pool.submit(shelf.put, number, job)))
                if len(waiting) >= most:
                    first, future = waiting.popleft()
                    yield first, shelf.take(future)
            while waiting:
                first, future = waiting.popleft()
                yield first, shelf.take(future)
        finally:
            shelf.open()
            pool.shutdown(cancel_futures=True)


class _Shelf(Generic[J, R]):
    """Results that wait to be taken; while it is full, only the next one is worked on."""

    def __init__(self, work: Callable[[J], R], size: Callable[[R], int], room: int):
        self._work, self._size, self._room = work, size, room
        self._changed = threading.Condition()
        self._held = 0
        self._next: float = 0  # number of the job whose result is taken next

    def put(self, number: int, job: J) -> R:
        """Work on a job as soon as there is room for its result, or it is the next."""
        with self._changed:
            self._changed.wait_for(lambda: self._held < self._room or number <= self._next)
        result = self._work(job)
        with self._changed:
            self._held += self._size(result)
        return result

    def take(self, future: Future[R]) -> R:
        """The next result, as soon as it is there."""
        result = future.result()
        with self._changed:
            self._held -= self._size(result)
            self._next += 1
            self._changed.notify_all()
        return result

    def open(self) -> None:
        """Let everything through: nothing more is taken."""
        with self._changed:
            self._next = float("inf")
            self._changed.notify_all()
