"""What earlier calls of `predict` left in a folder: whoever looks through it must not take that for this call's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from braincam.files import read_json
from braincam.images.ours import is_ours
from braincam.progress import say

Stamp = tuple[int, int] | None  # changes when a file is replaced; None where there is none


@contextmanager
def telling_what_stays(out: Path | None) -> Iterator[None]:
    """Say at the end, also of an interrupted call, what became of the evidence that was in the folder before."""
    before = {path: _stamp(path) for path in _evidence(out)} if out else {}
    try:
        yield
    finally:
        now = {path: _stamp(path) for path in before}
        if gone := [path for path, stamp in now.items() if stamp is None]:
            say(f"{out}: removed {_files(gone)} from before, since the same input was answered anew without")
        if stays := [path for path, stamp in now.items() if stamp is not None and stamp == before[path]]:
            say(
                f"{out}: still holds {_files(stays)} from before, of which the answers of this call say nothing; "
                "delete what misleads, or give a new --out"
            )


def _evidence(out: Path) -> list[Path]:
    """Pictures, maps and summaries of volumes in a folder that braincam wrote, by name."""
    if not out.is_dir():
        return []
    summary = [out / "study.html", out / "study.json"] if _summarised(out) else []
    return [path for path in sorted(out.iterdir()) if is_ours(path) or path in summary]


def _summarised(out: Path) -> bool:
    """Whether a folder holds a summary of volumes of ours, which carries no mark but what stands in it."""
    try:
        return {"notice", "studies"} <= read_json(out / "study.json").keys()
    except (OSError, ValueError, AttributeError):  # none, or a stranger's
        return False


def _stamp(path: Path) -> Stamp:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def _files(paths: list[Path]) -> str:
    return paths[0].name if len(paths) == 1 else f"{len(paths)} files such as {paths[0].name}"
