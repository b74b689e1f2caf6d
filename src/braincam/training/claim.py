"""A run folder belongs to one process at a time.

The system holds the lock (flock, or its like on Windows) and lets go of it when the process ends, however it ends.
"""

from __future__ import annotations

import errno
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from braincam.errors import TrainingError
from braincam.files import sweep, write_text
from braincam.progress import say

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}  # what some network disks say
PATIENCE = 2.0  # seconds: the processes of a restarted launch may still be ending


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a run folder, made if need be, and remove what a killed process left half written there.

    Raises:
        TrainingError: another process holds it; the message says which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # without its fallback, a file that would stay when the process is killed, and keep everyone out for ever
    lock, holder = FileLock(folder / ".lock", fallback_to_soft=False), folder / ".holder"
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        raise TrainingError(
            f"{folder}: {_who(holder)} is at work in this folder; wait until it has ended, or stop it, or choose "
            "another --out"
        ) from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        say(f"{folder}: this disk has no locks; see to it yourself that only one process works in this folder")
        yield
        return
    try:
        sweep(folder, older_than=0)
        write_text(holder, f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _who(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8").strip() or "another process"
    except (OSError, UnicodeDecodeError):
        return "another process"
