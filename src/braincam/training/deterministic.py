"""Training that ends in the same bits each time: switches of torch that last as long as they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from braincam.errors import BraincamError, TrainingError


@contextmanager
def same_bits(wanted: bool = True) -> Iterator[None]:
    """While it lasts, torch computes the same bits from the same numbers, or raises; `wanted=False` changes nothing.

    The same bits need the same machine, versions and number of threads: another order of a sum rounds otherwise.

    Raises:
        TrainingError: the device has no deterministic way to compute something.
    """
    if not wanted:
        yield
        return
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
    )
    # cuBLAS splits sums over streams unless it is told to keep its workspace; torch refuses to run without this word
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False  # would pick an algorithm by its speed of the day
    try:
        yield
    except RuntimeError as error:
        # an error of ours may quote a folder of that name
        if isinstance(error, BraincamError) or "deterministic" not in str(error):
            raise
        raise TrainingError(
            f"--deterministic: this device cannot ({str(error).splitlines()[0]}); leave the option out, or train with "
            "--set device=cpu"
        ) from error
    finally:
        enabled, warn_only, benchmark = before
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
