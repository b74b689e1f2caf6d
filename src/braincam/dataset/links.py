"""Rows of a table that something links, and what hangs together by that."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Pairs = NDArray[np.int64]  # (M, 2) row numbers, the first below the second


def connected(n: int, links: Pairs) -> NDArray[np.int32]:
    """A number for each of n rows, the same for all that links connect. (M, 2) → (n,)"""
    graph = coo_array((np.ones(len(links), np.int8), (links[:, 0], links[:, 1])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], np.int32)
