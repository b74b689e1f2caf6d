"""What was worked out from files, kept on disk between runs: decoded slices, twins.

An entry is a folder of NumPy arrays. Its key names all that the arrays depend on, contents included, so an entry cannot
be out of date. It is filled under a temporary name and renamed: a crash leaves no half entry, and of two processes that
make the same one, one wins. Arrays come back mapped from disk, so they may be larger than memory.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from braincam.errors import DataError
from braincam.progress import say

VARIABLE = "BRAINCAM_CACHE"  # a folder, or "off" to keep nothing after a run
LIMIT = 10 * 10**9  # bytes; beyond that the entries unused for longest are removed
_needed: set[Path] = set()  # entries that this process has asked for
CONTENTS = "contents"  # the file that names the arrays of an entry
ABANDONED = 86_400.0  # seconds after which a temporary entry belongs to no living process

Arrays = dict[str, NDArray[Any]]


def cache_folder() -> Path | None:
    """Where entries are kept, for `doctor` to tell; None when the user switched it off."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen.lower() == "off":
        return None
    # a folder of our own within the chosen one: what else lies there is never counted and never removed
    return Path(chosen).expanduser() / "braincam" if chosen else user_cache_path("braincam", appauthor=False)


def key_of(parts: Iterable[object]) -> str:
    """A short name for anything that prints the same: 32 hexadecimal digits."""
    content = hashlib.sha256()
    for part in parts:
        content.update(repr(part).encode())
        content.update(b"\0")
    return content.hexdigest()[:32]


def cached(kind: str, key: str, make: Callable[[Path], None]) -> Arrays:
    """The arrays of an entry by name, mapped copy-on-write; `make` writes them as ``name.npy`` into a folder.

    Where nothing can be kept, the arrays live in a temporary folder until the process ends. An OSError that `make`
    lets out is taken for one of that folder's disk; what is wrong with files it reads it says by errors of braincam.

    Raises:
        DataError: there is no room for them anywhere.
    """
    folder = cache_folder()
    if folder is not None:
        entry = folder / f"{kind}-{key}"
        _needed.add(entry)
        try:
            return _opened(entry)
        except (FileNotFoundError, NotADirectoryError):  # no entry, or half of one
            _remove(entry)
        except OSError as error:  # it may be whole: others still read it
            why = error.strerror or type(error).__name__
            say(f"cannot read {entry} ({why}); made anew for this run alone; {VARIABLE}=DIR names another place")
            folder = None
        except Exception:  # NumPy raises many kinds for a damaged file
            _remove(entry)  # before the long work, in which another process may make it
    if folder is not None:
        try:
            _fill(entry, make)
            found = _opened(entry)
        except OSError as error:
            say(f"cannot keep anything in {folder} ({error.strerror}); {VARIABLE}=DIR names another place")
        else:
            trim(folder, LIMIT, keep=_needed)
            return found
    entry = _passing() / f"{kind}-{key}"
    try:
        if not entry.exists():
            _fill(entry, make)
        return _opened(entry)
    except OSError as error:
        raise DataError(
            f"{entry.parent}: no place for decoded slices ({error.strerror}); "
            f"free some space, or name a folder with room by {VARIABLE}=DIR"
        ) from error


def forget(kind: str, key: str) -> None:
    """Remove an entry that turned out to be untrue."""
    for folder in (cache_folder(), _passing()):
        if folder is not None and (folder / f"{kind}-{key}").exists():
            _remove(folder / f"{kind}-{key}")


def _remove(entry: Path) -> None:
    """In one step for everybody else: half an entry must not be taken for a whole one."""
    gone = entry.with_name(f".making-{uuid4().hex}")
    try:
        entry.rename(gone)
    except OSError:  # another process was quicker, or (on Windows) still reads it
        return
    shutil.rmtree(gone, ignore_errors=True)


def _opened(entry: Path) -> Arrays:
    # who deletes an entry by hand takes one file after the other: what is left is none
    paths = [entry / name for name in (entry / CONTENTS).read_text(encoding="utf-8").split()]
    if not paths:
        raise ValueError("an entry without arrays")
    # copy-on-write: torch wants writable memory, and the file stays as it is
    arrays = {path.stem: np.load(path, mmap_mode="c", allow_pickle=False) for path in paths}
    with suppress(OSError):  # a cache that may only be read
        os.utime(entry)
    return arrays


def _fill(entry: Path, make: Callable[[Path], None]) -> None:
    entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=entry.parent))
    try:
        make(temporary)
        (temporary / CONTENTS).write_text(
            "\n".join(sorted(path.name for path in temporary.iterdir())), encoding="utf-8"
        )
        for path in temporary.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        try:
            temporary.rename(entry)
        except OSError:
            if not entry.exists():  # else another process has just made it
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@cache
def _passing() -> Path:
    """A folder that lives as long as the process."""
    folder = Path(tempfile.mkdtemp(prefix="braincam-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def size_of(folder: Path) -> int:
    """Bytes in all files below a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def trim(folder: Path, limit: int, keep: Collection[Path] = ()) -> None:
    """Remove what was unused for longest until the entries fit into `limit` bytes, and what crashes left behind.

    Entries in `keep` stay even where they do not fit: else one that is larger than the limit would drive out the others
    that the same run needs, and these would drive it out the next time.
    """
    entries = []
    for path in folder.iterdir():
        if not path.is_dir():
            continue
        try:
            used = path.stat().st_mtime
            if path.name.startswith(".making-"):
                if time.time() - used > ABANDONED:
                    shutil.rmtree(path, ignore_errors=True)
            elif "-" in path.name:
                entries.append((used, size_of(path), path))
        except OSError:  # another process was quicker
            continue
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit:
            break
        if path not in keep:
            _remove(path)
            total -= size
