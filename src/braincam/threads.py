"""How many threads: what the machine grants, what may be asked for, and work that is shared out among them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from braincam.errors import ConfigError

MOST_THREADS = 1024  # that a library is asked for: none refuses more, and each takes memory before it works
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # where Linux tells a container how much processor time it gets


def usable_cores(quota: Path = QUOTA) -> int:
    """Cores this process may use; containers and job schedulers often grant fewer than there are.

    They do so by naming cores, or, in the file `quota`, as microseconds of processor time in each so many of the clock.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        granted, _, period = quota.read_text(encoding="ascii").partition(" ")
        return max(1, min(cores, int(granted) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max": no quota
        return cores


def check_threads(threads: int) -> None:
    """Refuse a number of threads that no machine has cores for; 0 leaves it to the caller. Raises ConfigError."""
    if not 0 <= threads <= MOST_THREADS:
        raise ConfigError(f"threads: expected 0 to {MOST_THREADS}, got {threads}; 0 takes what the machine has")


@contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """A thread for each core, to compute with NumPy on all of them.

    Each keeps its matrix products to itself, or they would wait for each other's threads; more threads than cores only
    push each other out of the cache. Most BLAS are limited for the whole process, one built with OpenMP for a thread.
    """
    from threadpoolctl import threadpool_limits

    def alone() -> None:
        threadpool_limits(1, "blas")

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(usable_cores(), initializer=alone) as pool:
        yield pool
