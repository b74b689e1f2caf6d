"""What a labelled file says of its slice beside the pixels: whether it is an MR slice at all, and, in DICOM, whose.

Identifiers are hashed as soon as they are read. The hashes stay in memory; what is kept are row numbers.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

from braincam.images.dicom import is_dicom
from braincam.images.grey import GreySlice
from braincam.images.quiet import quiet


@dataclass(frozen=True)
class Origin:
    """One slice's file in its own words."""

    foreign: str | None = None  # why it says that it is no MR slice
    colourful: bool = False
    patient: str | None = None  # SHA-256 of the PatientID
    series: str | None = None  # SHA-256 of the SeriesInstanceUID


def origin_of(content: bytes, item: GreySlice) -> Origin:
    """What the bytes of a file say of the slice that was read from them."""
    if not is_dicom(content):
        return Origin(item.foreign, item.colourful)
    patient, series = _identifiers(content)
    return Origin(item.foreign, item.colourful, patient, series)


def owners(origins: Sequence[Origin]) -> list[int]:
    """For each slice the row of the first one of the same patient, or else series; its own where the file says none."""
    several = len({origin.patient for origin in origins} - {None}) > 1  # one for all is a stand-in, such as ANONYMOUS
    first: dict[str, int] = {}
    keys = [(several and origin.patient) or origin.series for origin in origins]
    return [first.setdefault(key, row) if key else row for row, key in enumerate(keys)]


def unsettled(patients: Sequence[str | None], owners: Sequence[int]) -> list[str | None]:
    """The owners of whom some slice has no patient in a table, as keys: a table that names each goes first."""
    open_ = {owner for patient, owner in zip(patients, owners, strict=True) if patient is None}
    return [str(owner) if owner in open_ else None for owner in owners]


def _identifiers(content: bytes) -> tuple[str | None, str | None]:
    """Hashes of the PatientID and the SeriesInstanceUID, where there are such."""
    import pydicom

    names = ["PatientID", "SeriesInstanceUID"]
    try:
        with quiet:
            header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=names)
            said = [str(header.get(name) or "").strip() for name in names]
    except Exception:  # a damaged value there is no reason to leave out a slice whose picture can be read
        return None, None
    patient, series = (hashlib.sha256(text.encode()).hexdigest() if text else None for text in said)
    return patient, series
