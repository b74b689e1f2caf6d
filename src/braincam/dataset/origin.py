"""What a labelled file says of its slice beside the pixels: whether it is an MR slice at all."""

from __future__ import annotations

from dataclasses import dataclass

from braincam.images.grey import GreySlice


@dataclass(frozen=True)
class Origin:
    """One slice's file in its own words."""

    foreign: str | None = None  # why it says that it is no MR slice
    colourful: bool = False


def origin_of(item: GreySlice) -> Origin:
    """What the file of a slice says."""
    return Origin(item.foreign, item.colourful)
