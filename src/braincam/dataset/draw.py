"""Slices for measurements that need not see all of a part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from braincam.dataset.manifest import Manifest


def evenly(manifest: Manifest, rows: Sequence[int], n: int, random: np.random.Generator) -> list[int]:
    """About `n` of the rows, equally many of each class as far as there are, class by class, at random within it."""
    by_class = [random.permutation([r for r in rows if manifest.slices[r].label == name]) for name in manifest.classes]
    each = -(-n // len(by_class))
    return [int(row) for members in by_class for row in members[:each]]
