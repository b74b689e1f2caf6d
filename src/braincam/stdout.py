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


def drop_stdout(error: OSError) -> None:
    """After an error: write what standard output holds back; if it is what failed, to nowhere from now on."""
    try:
        flush_stdout()
    except OSError:
        pass
    else:  # what a closed pipe refused once is not held back any more
        if not reader_left(error):
            return
    with suppress(OSError):  # a stream in memory has no number, and does not fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
