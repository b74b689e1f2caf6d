"""The nearest rows of a table, for each of many queries, in fewer than N x N comparisons."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

EXACT = 8192  # rows up to which everything is compared with everything: one matrix product
PROBES = 8  # cells searched per query beyond that
_BLOCK = 1024  # queries compared at once

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class Index:
    """The rows of a table (N, D), ready to be asked for those of largest dot product.

    Beyond `EXACT` rows the table is cut into about sqrt(N) cells (k-means) and only the `PROBES` cells nearest to a
    query are searched, which is N^1.5 work for N queries and misses a few. The same seed gives the same answer.
    """

    def __init__(self, rows: Floats, seed: int = 0):
        self.rows = rows
        self._centres: Floats | None = None
        if len(rows) > EXACT:
            self._centres = _centres(rows, seed)
            self._handicap = np.square(self._centres).sum(1) / 2
            cells = np.concatenate(
                [(rows[part] @ self._centres.T - self._handicap).argmax(1) for part in _blocks(len(rows))]
            )
            self._members = _by_value(cells, len(self._centres))

    def nearest(
        self, queries: Floats, k: int, kin: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None
    ) -> tuple[Rows, Floats]:
        """For each query (M, D) its `k` rows, best first: indices and products, (M, k).

        Where fewer than `k` rows are found, the index is -1 and the product -inf. `kin` are families of the rows (N,)
        and of the queries (M,): no query gets a row of its own.
        """
        best = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32)
        for members, visitors in self._visits(queries):
            for part in _blocks(len(visitors)):
                _improve(best, visitors[part], queries, self.rows, members, kin)
        return best

    def _visits(self, queries: Floats) -> Iterator[tuple[Rows, Rows]]:
        """Rows, and the queries that are compared with them."""
        if self._centres is None:
            yield np.arange(len(self.rows)), np.arange(len(queries))
            return
        probes = np.concatenate(
            [
                np.argpartition(self._handicap - queries[part] @ self._centres.T, PROBES - 1, axis=1)[:, :PROBES]
                for part in _blocks(len(queries))
            ]
        )
        visitors = _by_value(probes.ravel(), len(self._centres))
        yield from ((members, who // PROBES) for members, who in zip(self._members, visitors, strict=True))


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


def _centres(rows: Floats, seed: int) -> Floats:
    """Where the cells lie: about sqrt(N) means of the rows, (C, D)."""
    from sklearn.cluster import MiniBatchKMeans

    count = int(np.sqrt(len(rows)))
    means = MiniBatchKMeans(count, random_state=seed, n_init=1, max_iter=10, batch_size=4096, compute_labels=False)
    return np.asarray(means.fit(rows).cluster_centers_, np.float32)


def _by_value(values: Rows, count: int) -> list[Rows]:
    """Where each of the numbers 0 to count - 1 stands among the values, in order."""
    order = np.argsort(values, kind="stable")
    return np.split(order, np.searchsorted(values[order], np.arange(1, count)))


def _blocks(total: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, total)) for start in range(0, total, _BLOCK)]
