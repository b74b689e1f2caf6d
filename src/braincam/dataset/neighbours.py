"""The nearest rows of a table, for each of many queries, in fewer than N x N comparisons."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EXACT = 8192  # rows up to which everything is compared with everything: one matrix product
PROBES = 8  # cells searched per query beyond that
_BLOCK = 1024  # queries compared at once

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


def nearest(
    rows: Floats, queries: Floats, k: int, seed: int = 0, kin: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None
) -> tuple[Rows, Floats]:
    """For each query (M, D) its `k` rows (N, D) of largest dot product, best first: indices and products, (M, k).

    Beyond `EXACT` rows the table is cut into about sqrt(N) cells (k-means) and only the `PROBES` cells nearest to a
    query are searched, which is N^1.5 work for N queries and misses a few. The same seed gives the same answer. Where
    fewer than `k` rows are found, the index is -1 and the product -inf. `kin` are families of the rows (N,) and of the
    queries (M,): no query gets a row of its own.
    """
    best = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32)
    if len(rows) <= EXACT:
        everything = np.arange(len(rows))
        for start in range(0, len(queries), _BLOCK):
            _improve(best, np.arange(start, min(start + _BLOCK, len(queries))), queries, rows, everything, kin)
    else:
        cells, visits = _cells(rows, queries, seed)
        for cell, visitors in enumerate(visits):
            members = np.flatnonzero(cells == cell)
            for start in range(0, len(visitors), _BLOCK):
                _improve(best, visitors[start : start + _BLOCK], queries, rows, members, kin)
    return best


def _improve(
    best: tuple[Rows, Floats],
    which: Rows,
    queries: Floats,
    rows: Floats,
    members: Rows,
    kin: tuple[NDArray[np.int32], NDArray[np.int32]] | None,
) -> None:
    """Let some rows compete for the places of some queries."""
    if not len(which) or not len(members):
        return
    index, product = best
    k = index.shape[1]
    found = queries[which] @ rows[members].T
    if kin is not None:
        found[kin[1][which][:, None] == kin[0][members]] = -np.inf
    if found.shape[1] > k:
        top = np.argpartition(-found, k - 1, axis=1)[:, :k]
        found, candidates = np.take_along_axis(found, top, 1), members[top]
    else:
        candidates = np.broadcast_to(members, found.shape)
    products = np.concatenate((product[which], found), 1)
    candidates = np.concatenate((index[which], candidates), 1)
    order = np.argsort(-products, axis=1, kind="stable")[:, :k]
    index[which] = np.take_along_axis(candidates, order, 1)
    product[which] = np.take_along_axis(products, order, 1)


def _cells(rows: Floats, queries: Floats, seed: int) -> tuple[Rows, list[Rows]]:
    """The cell of each row, and for each cell the queries that search it."""
    from sklearn.cluster import MiniBatchKMeans

    count = int(np.sqrt(len(rows)))
    means = MiniBatchKMeans(count, random_state=seed, n_init=1, max_iter=10, batch_size=4096, compute_labels=False)
    centres = np.asarray(means.fit(rows).cluster_centers_, np.float32)
    handicap = np.square(centres).sum(1) / 2
    cells = np.concatenate(
        [(rows[i : i + _BLOCK] @ centres.T - handicap).argmax(1) for i in range(0, len(rows), _BLOCK)]
    )
    probes = np.concatenate(
        [
            np.argpartition(handicap - queries[i : i + _BLOCK] @ centres.T, PROBES - 1, axis=1)[:, :PROBES]
            for i in range(0, len(queries), _BLOCK)
        ]
    )
    visitor = np.repeat(np.arange(len(queries)), PROBES)
    order = np.argsort(probes.ravel(), kind="stable")
    borders = np.searchsorted(probes.ravel()[order], np.arange(count + 1))
    return cells, [visitor[order[borders[c] : borders[c + 1]]] for c in range(count)]
