"""How many pages a TIFF or a GIF has, counted no further than a limit and before anything is decoded.

Pillow's `n_frames` walks to the end, and for TIFF looks each page up among all before it: 100,000 pages of 100 bytes
take it a minute.
"""

from __future__ import annotations

import os
import re
import struct
from typing import BinaryIO

from braincam.errors import ImageError

TAGS = 2**18  # of all pages of a TIFF: pages may overlap, so that a small file has thousands of pages of 65,535 tags
BLOCKS = 2**22  # of a GIF, of 255 bytes each as a rule
_BLOCK = re.compile(b"[!,;]")  # an extension, a frame, the end


def count_pages(stream: BinaryIO, name: str, most: int) -> int | None:
    """The pages of a TIFF or GIF, `most` + 1 where there are more; None for a format whose header states them.

    A page that is announced and cut off counts: that it is damaged is said when it is read. Raises ImageError.
    """
    if name not in {"TIFF", "GIF"}:
        return None
    if name == "GIF":
        many = _frames_of_gif(stream.read(), most)
    else:
        head = stream.read(4)
        big = head[2:] in {b"+\0", b"\0+"}
        # Pillow 13 takes a big-endian BigTIFF for a plain one: counted both ways, so that no walk of it is longer
        many = max(_pages_of_tiff(stream, most, kind) for kind in ({big, False} if head[:1] == b"M" else {big}))
    stream.seek(0)
    return many


def _pages_of_tiff(stream: BinaryIO, most: int, big: bool) -> int:
    """Along the chain of directories: each is a number of tags, the tags, and the place of the next directory."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    order = "<" if stream.read(2) == b"II" else ">"
    number, tag, place = (f"{order}Q", 20, f"{order}Q") if big else (f"{order}H", 12, f"{order}L")
    seen: set[int] = set()  # a chain may bite its tail
    tags, at = 0, 0
    try:
        at = _number(stream, place, 8 if big else 4)
        while 0 < at < size and at not in seen and len(seen) <= most:
            seen.add(at)
            many = _number(stream, number, at)
            tags += many
            if tags > TAGS:
                raise ImageError(f"expected TIFF of at most {TAGS:,} tags, got more; export the slices as PNG")
            at = _number(stream, place, at + struct.calcsize(number) + tag * many)
    except struct.error:  # cut off
        return max(1, len(seen))
    return max(1, len(seen) + int(at >= size))


def _number(stream: BinaryIO, kind: str, at: int) -> int:
    """The number that is written there. Raises struct.error where the file ends before."""
    stream.seek(at)
    (found,) = struct.unpack(kind, stream.read(struct.calcsize(kind)))
    return int(found)


def _frames_of_gif(content: bytes, most: int) -> int:
    frames = blocks = 0
    at = 13 + _table(content[10:11])
    while (found := _BLOCK.search(content, at)) and found[0] != b";" and frames <= most:
        at = found.end() + 1  # behind the kind of an extension
        if found[0] == b",":
            frames += 1
            at = found.end() + 10 + _table(content[found.end() + 8 : found.end() + 9])
        while at < len(content) and content[at]:
            at += 1 + content[at]
            blocks += 1
        at, blocks = at + 1, blocks + 1
        if blocks > BLOCKS:
            raise ImageError(f"expected GIF of at most {BLOCKS:,} blocks, got more; export the slices as PNG")
    return max(1, frames)


def _table(flags: bytes) -> int:
    """The bytes of the colour table that these flags announce."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0
