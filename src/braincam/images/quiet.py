"""Silence for the libraries that decode: what they print or log may quote a patient's data."""

from __future__ import annotations

import logging
import threading
import warnings
from contextlib import ExitStack


class _Quiet:
    """Silences the libraries' warnings and logs while any thread reads; pydicom's may quote a patient's data.

    The first reader in changes the filters, the last one out restores them. A `catch_warnings` per call is
    not safe with threads: interleaved exits would leave the filters changed.
    """

    LOGGERS = ("pydicom", "pylibjpeg", "openjpeg", "PIL")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._restore = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._restore.enter_context(warnings.catch_warnings(action="ignore"))
                for logger in map(logging.getLogger, self.LOGGERS):
                    self._restore.callback(setattr, logger, "disabled", logger.disabled)
                    self._restore.callback(setattr, logger, "propagate", logger.propagate)
                    logger.disabled, logger.propagate = True, False  # its own records, and those of loggers below it
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._restore.close()


quiet = _Quiet()
