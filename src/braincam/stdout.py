"""Standard output that may fail: its reader leaves, or its disk is full."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress


def reader_left(error: OSError) -> bool:
    """Whether an output failed because nobody reads on: `head` has seen enough. Windows says invalid argument then."""
    invalid = os.name == "nt" and error.errno == errno.EINVAL and error.filename is None
    return invalid or isinstance(error, BrokenPipeError)


def flush_stdout() -> None:
    """Write what standard output holds back. Raises OSError."""
    if sys.stdout is not None:  # as in a program without a console
        sys.stdout.flush()


def drop_stdout() -> bool:
    """Write what standard output holds back; where that fails, to nowhere from now on, or it would fail once more.

    Returns whether it failed.
    """
    try:
        flush_stdout()
    except OSError:
        with suppress(OSError):  # a stream in memory has no number, and does not fail
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
