"""Pictures and maps of evidence that braincam wrote: they lie among scans, and are none.

Each carries a mark near its start, so none is judged, trained on or taken for somebody else's file, and nothing else is
replaced by one.
"""

from __future__ import annotations

from pathlib import Path

from braincam.images.nifti import GZIP, unpacked_head

MARK = "braincam evidence"
ENDINGS = ("-evidence", "-montage")  # what stands before the ending, a number or a class


def is_ours(path: Path) -> bool:
    """Whether this is a picture or a map of evidence, by its name and then by the mark inside."""
    return any(ending in path.name for ending in ENDINGS) and _marked(path)


def is_ours_to_write(path: Path) -> bool:
    """Whether a picture or map may be written here: nothing is there, or what an earlier call wrote."""
    return (not path.exists() and not path.is_symlink()) or _marked(path)


def _marked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(1024)
            file.seek(0)
            return MARK.encode() in (unpacked_head(file) if head.startswith(GZIP) else head)
    except OSError:  # none, a folder, or a file that may not be read
        return False
