"""Writing that never leaves half a file."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

MARK = ".braincam-"  # how the names of temporary files begin
ABANDONED = 3600.0  # seconds after which a temporary file that nobody has written to belongs to no living process


def as_path(path: Path | str | None) -> Path | None:
    """What a caller gave as a path; None stays None."""
    return None if path is None else Path(path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success it is flushed and becomes `path`, on error it is removed.

    A process that is killed leaves its temporary file, whose name is hidden and ours; the next one that writes into
    the folder removes it once it is an hour old.

    Raises:
        OSError: the disk is full or failed, or the folder cannot be written to; names `path`, which is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(path.parent)
    # a name of its own, also among processes of the same number in two containers, and never too long
    temporary = path.with_name(f"{MARK}{uuid4().hex[:12]}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        ours = error.filename is None or Path(os.fsdecode(error.filename)) == temporary
        if error.errno is None or not ours:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sweep(folder: Path, older_than: float = ABANDONED) -> None:
    """Remove the temporary files that killed processes left in a folder, if they are older than so many seconds."""
    with suppress(OSError):
        for path in folder.glob(f"{MARK}*.tmp"):
            with suppress(OSError):  # another process was quicker
                if time.time() - path.stat().st_mtime >= older_than:
                    path.unlink()


@cache
def _sweep_once(folder: Path) -> None:
    """A process that writes a thousand pictures looks through their folder once."""
    sweep(folder)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text to `path` in one step, with plain line feeds on every system.

    A byte of a file's name that is no UTF-8 becomes an escape (`\\udcfc`), which JSON reads back as that byte.
    """
    write_bytes(path, content.encode("utf-8", "backslashreplace"))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a UTF-8 CSV in one step, with plain line feeds on every system."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return facts


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
