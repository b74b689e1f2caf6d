"""Which slices belong together: a group is whatever patients, copies and look-alikes connect.

It must never straddle a split.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from braincam.dataset.links import Pairs, connected
from braincam.dataset.origin import NOBODY, unsettled
from braincam.dataset.twins import Twins


def group(
    patients: Sequence[str | None], digests: Sequence[str], twins: Twins, owners: Sequence[int] = ()
) -> list[str]:
    """A group name for each slice; slices of one group must stay together in every split.

    Slices are linked by patient, by identical bytes, as twins, and, where a patient is unknown, as look-alikes and by
    the owners that DICOM files name: heads are alike, and two known patients are two however alike they look.
    """
    names = np.array([name or "" for name in patients], dtype=object)
    unknown = (names[twins.alike] == "").any(1)
    owned = _chain(unsettled(patients, owners or [NOBODY] * len(patients)))
    links = np.concatenate((_chain(patients), _chain(digests), twins.pairs, twins.alike[unknown], owned))
    return [f"g{number:05d}" for number in connected(len(patients), links)]


def _chain(keys: Sequence[str | None]) -> Pairs:
    """Links between each row and the previous one with the same key; None links to nothing."""
    last: dict[str, int] = {}
    links = []
    for row, key in enumerate(keys):
        if key is None:
            continue
        if key in last:
            links.append((last[key], row))
        last[key] = row
    return np.array(links, np.int64).reshape(-1, 2)
