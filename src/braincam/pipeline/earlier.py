"""What earlier calls of `predict` left in a folder: whoever looks through it must not take that for this call's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from braincam.explain.save import ANSWERS
from braincam.files import read_json
from braincam.images.ours import is_ours
from braincam.pipeline.study import STUDIES
from braincam.progress import say

Stamps = dict[Path, tuple[int, int]]


@contextmanager
def telling_what_stays(out: Path | None) -> Iterator[None]:
    """Remove evidence of the call before for inputs that this call answered without it; say that, and what else stays.

    An input is the same where its path is, by the rows of both calls. Nothing without braincam's mark is removed, and
    nothing of an input that this call did not answer, or could not read.
    """
    if out is None:
        yield
        return
    shows, evidence = _inputs(out), _stamps(_evidence(out))
    summaries = [out / ANSWERS, out / STUDIES]
    before = _stamps(summaries)
    try:
        yield
    finally:
        now = _stamps(summaries)
        answered = _answered(out, {path.name for path in summaries if now.get(path) != before.get(path)})
        same = [path for path, stamp in _stamps(evidence).items() if stamp == evidence[path]]
        if gone := [path for path in same if shows.get(path.name) in answered and _removed(path)]:
            say(f"{out}: removed {_files(gone)} from before, since the same input was answered anew without")
        if stays := [path for path in same if path not in gone]:
            say(
                f"{out}: still holds {_files(stays)} from before, of which the answers of this call say nothing; "
                "delete what misleads, or give a new --out"
            )


def _inputs(out: Path) -> dict[str, str]:
    """Of the call before: each picture, montage and map by name, and the path of the input that it shows."""
    found: dict[str, str] = {}
    for study in _studies(out):
        found |= {_name(study.get(kind)): str(study.get("path")) for kind in ("map", "montage")}
        found |= _pictured(study.get("per_slice"))
    return found | _pictured(_rows(out))


def _pictured(rows: object) -> dict[str, str]:
    """Each picture by name, and the path of its input."""
    return {_name(row.get("overlay")): str(row.get("path")) for row in _objects(rows)}


def _answered(out: Path, new: set[str]) -> set[str]:
    """The paths of the inputs that this call answered, by those of its summaries that are new."""
    found = {str(row.get("path")) for row in _rows(out) if row.get("status") != "error"} if ANSWERS in new else set()
    return found | ({str(study.get("path")) for study in _studies(out)} if STUDIES in new else set())


def _rows(out: Path) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in (out / ANSWERS).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):  # none, or a stranger's
        return []
    return _objects(rows)


def _studies(out: Path) -> list[dict[str, Any]]:
    try:
        return _objects(read_json(out / STUDIES)["studies"])
    except (OSError, ValueError, LookupError, TypeError):  # none, or a stranger's
        return []


def _objects(found: object) -> list[dict[str, Any]]:
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _name(path: object) -> str:
    return Path(path).name if isinstance(path, str) else ""


def _removed(path: Path) -> bool:
    with suppress(OSError):
        if is_ours(path):
            path.unlink()
            return True
    return False


def _evidence(out: Path) -> list[Path]:
    """Pictures, maps and summaries of volumes in a folder that braincam wrote, by name."""
    if not out.is_dir():
        return []
    summary = [out / "study.html", out / STUDIES] if _summarised(out) else []
    return [path for path in sorted(out.iterdir()) if is_ours(path) or path in summary]


def _summarised(out: Path) -> bool:
    """Whether a folder holds a summary of volumes of ours, which carries no mark but what stands in it."""
    try:
        return {"notice", "studies"} <= read_json(out / STUDIES).keys()
    except (OSError, ValueError, AttributeError):  # none, or a stranger's
        return False


def _stamps(paths: Iterable[Path]) -> Stamps:
    """Of each file that is there, what changes when it is replaced."""
    found: Stamps = {}
    for path in paths:
        with suppress(OSError):
            facts = path.stat()
            found[path] = facts.st_ino, facts.st_mtime_ns
    return found


def _files(paths: list[Path]) -> str:
    return paths[0].name if len(paths) == 1 else f"{len(paths)} files such as {paths[0].name}"
