"""Progress on stderr for whatever takes over two seconds: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from typing import TypeVar

from braincam.errors import printable

Item = TypeVar("Item")

PATIENCE = 2.0  # seconds of silence before anything is shown
PLAIN_EVERY = 10.0  # seconds between plain lines


def track(items: Iterable[Item], what: str, total: int | None = None, unit: str = "it") -> Iterator[Item]:
    """Yield `items` unchanged while reporting how far along they are.

    `total` defaults to ``len(items)`` where that is known. Nothing is printed for work done within two seconds.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty() and not helps():
        from tqdm import tqdm

        yield from tqdm(items, desc=what, total=total, unit=unit, delay=PATIENCE, leave=False, file=sys.stderr)
        return
    start = time.monotonic()
    next_line = start + PATIENCE
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now >= next_line:
            say(f"{what}: {done}{f' of {total}' if total else ''} {unit}, {done / (now - start):.0f}/s")
            next_line = now + PLAIN_EVERY
        yield item


def helps() -> bool:
    """Whether ``torchrun`` started this process beside a first one, which does the talking."""
    return os.environ.get("RANK", "0") != "0"


def say(line: str) -> None:
    """Print one line on stderr; stdout is kept for what machines read. Of several processes the first one talks."""
    if helps():
        return
    with suppress(BrokenPipeError):  # nobody reads on; what is being made is worth more than what is said of it
        print(printable(line), file=sys.stderr, flush=True)  # noqa: T201
