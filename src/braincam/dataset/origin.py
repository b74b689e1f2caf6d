"""What a labelled file says of its slice beside the pixels: whether it is an MR slice at all, and, in DICOM, whose.

Identifiers are hashed as soon as they are read. The hashes stay in memory; what is kept are row numbers.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from braincam.dataset.links import connected
from braincam.dataset.manifest import known_name
from braincam.images.dicom import is_dicom
from braincam.images.grey import GreySlice
from braincam.images.quiet import quiet

_STAND_IN = re.compile(
    r"anon(ym(ous|i[sz]ed|e|isiert)?)?|(no|un)[ _-]?(name|id|known)|patient|subject|0+|x+|\*+", re.IGNORECASE
)
NOBODY = -1  # an owner that is not known


@dataclass(frozen=True)
class Origin:
    """One slice's file in its own words."""

    foreign: str | None = None  # why it says that it is no MR slice
    colourful: bool = False
    windowless: bool = False  # DICOM wider than 8 bits that brings no window: stretched over the values of the slice
    patient: str | None = None  # SHA-256 of the PatientID
    series: str | None = None  # SHA-256 of the SeriesInstanceUID


def origin_of(content: bytes, item: GreySlice) -> Origin:
    """What the bytes of a file say of the slice that was read from them."""
    return _dicom(content, item) if is_dicom(content) else Origin(item.foreign, item.colourful)


def owners(origins: Sequence[Origin]) -> list[int]:
    """For each slice the row of the first one of the same patient or series; `NOBODY` if the file says none.

    Both count: some anonymisers give every file a patient of its own, and leave the series. One patient for all files
    is a stand-in, and so is one series for several patients.
    """
    patients, series = [origin.patient for origin in origins], [origin.series for origin in origins]
    several = len(set(patients) - {None}) > 1
    links: list[tuple[int, int]] = []
    for keys, tell in ((patients, several), (series, not several or len(set(series) - {None}) > 1)):
        first: dict[str, int] = {}
        links += [(first.setdefault(key, row), row) for row, key in enumerate(keys) if key and tell]
    home = connected(len(origins), np.array(links, np.int64).reshape(-1, 2)).tolist()
    named = {row for _, row in links}
    owner: dict[int, int] = {}
    return [owner.setdefault(home[row], row) if row in named else NOBODY for row in range(len(origins))]


def unsettled(patients: Sequence[str | None], owners: Sequence[int]) -> list[str | None]:
    """The owners of whom some slice has no patient in a table, as keys: a table that names each goes first."""
    open_ = {owner for patient, owner in zip(patients, owners, strict=True) if patient is None} - {NOBODY}
    return [str(owner) if owner in open_ else None for owner in owners]


def is_stand_in(patient: str) -> bool:
    """Whether a PatientID is what anonymisers write for everybody: else all of them would be one patient."""
    return known_name(patient) is None or _STAND_IN.fullmatch(patient.strip()) is not None


def _dicom(content: bytes, item: GreySlice) -> Origin:
    """The same of a DICOM file, from its header."""
    import pydicom

    identifiers, windows = ["PatientID", "SeriesInstanceUID"], ["WindowWidth", "VOILUTSequence"]
    groups = "PerFrameFunctionalGroupsSequence"  # of an enhanced file: its windows are in there
    tags = [*identifiers, *windows, groups, "BitsStored", "SamplesPerPixel"]
    try:
        with quiet:
            header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=tags)
            said = [str(header.get(name) or "").strip() for name in identifiers]
            windowless = not any(header.get(name) for name in (*windows, groups))
            wide = int(header.get("BitsStored") or 0) > 8 and header.get("SamplesPerPixel") == 1
    except Exception:  # a damaged value there is no reason to leave out a slice whose picture can be read
        return Origin(item.foreign, item.colourful)
    said[0] = "" if is_stand_in(said[0]) else said[0]
    patient, series = (hashlib.sha256(text.encode()).hexdigest() if text else None for text in said)
    return Origin(item.foreign, item.colourful, windowless and wide, patient, series)
