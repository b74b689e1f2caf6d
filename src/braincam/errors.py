"""Every error braincam raises on purpose.

    BraincamError
    ├── ImageError            a file or array that cannot be read as grey slices
    ├── DataError             a labelled folder or a table that cannot be used as it is
    │   └── SplitError        a split that leaks, or that cannot be made
    ├── ConfigError           an unknown key or a value out of range
    ├── TrainingError         a training that cannot go on (a loss that is not a number, ...)
    ├── ModelFileError        a model file that is missing, foreign, damaged or fails its parity check
    └── MissingDependencyError   an optional library that is not installed; names the extra that brings it

Messages say what is wrong, where, what was expected, what was got and what to do next, in one line.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # the direction of what is written
LONGEST = 6000  # characters of a message: a path may have 4096, and what a damaged file quotes has no end


def printable(text: str) -> str:
    """The text with what a terminal would obey, or what turns a line around, written out: names come from anywhere."""
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in {"Cc", "Zl", "Zp"} or c in TURNS else c for c in text)


def did_you_mean(wrong: Iterable[str], known: Iterable[str]) -> str:
    """A question after the known names that are near the wrong ones, "" where none is."""
    from difflib import get_close_matches  # only after a mistake: it would be loaded at every start

    names = list(known)
    meant = [near[0] for name in wrong if (near := get_close_matches(name, names, 1))]
    return f"did you mean {', '.join(meant)}?" if meant else ""


class BraincamError(Exception):
    """Base of all errors that braincam raises on purpose. Whatever a message quotes, it is one line, and it ends."""

    def __str__(self) -> str:
        text = printable(" ".join(super().__str__().splitlines()))
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 300]} ... {text[-290:]}"


class ImageError(BraincamError, ValueError):
    """A file, bytes or an array that cannot be read as grey slices."""

    path: str | None = None  # what it is about, where the message is all that is handed on


class DataError(BraincamError, ValueError):
    """A labelled folder or a table that cannot be used as it is."""


class SplitError(DataError):
    """A split that leaks, or that cannot be made from the groups at hand."""


class ConfigError(BraincamError, ValueError):
    """An unknown configuration key, or a value out of range."""


class TrainingError(BraincamError, RuntimeError):
    """A training that cannot go on."""


class ModelFileError(BraincamError, ValueError):
    """A model file that is missing, foreign, damaged, or fails its parity check."""


class MissingDependencyError(BraincamError, ImportError):
    """An optional library that is not installed; the message names the extra that brings it."""


WITHOUT_TORCH = ("audit", "split", "evaluate")  # verbs, and functions, that the extra "audit" is enough for


def extra_of(verb: str) -> str:
    """The extra that brings what a verb of the data wing or the training wing needs."""
    return "audit" if verb in WITHOUT_TORCH else "train"


def install(extra: str) -> str:
    """How an optional part is installed; in double quotes, which every shell takes."""
    return f'in the copy of the repository: pip install ".[{extra}]"'
