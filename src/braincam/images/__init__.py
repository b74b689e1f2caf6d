"""A path, bytes or an array → grey uint8 slices."""

from __future__ import annotations

from braincam.images.grey import MAX_PIXELS, MIN_SIDE, GreySlice, SizeLimits, to_grey
from braincam.images.reader import SUFFIXES, Reading, looks_readable, read_slices

__all__ = [
    "MAX_PIXELS",
    "MIN_SIDE",
    "SUFFIXES",
    "GreySlice",
    "Reading",
    "SizeLimits",
    "looks_readable",
    "read_slices",
    "to_grey",
]
