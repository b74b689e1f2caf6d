"""The cluster bootstrap: whole patients or groups are drawn with replacement, so that their slices never count as
independent (Field and Welsh 2007, doi 10.1111/j.1467-9868.2007.00593.x). NumPy only.

Where no group errs, no resample does, and 20 groups would say [1, 1] as well as 2,000. There the exact bound of G
groups stands (Clopper and Pearson 1934, doi 10.1093/biomet/26.4.404; near 3.7 / G): [0.83, 1] for 20.

Axes: N slices, G groups, M quantities, B resamples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from braincam.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CHUNK = 100  # resamples held in memory at a time
FEW = 20  # groups below which intervals are too narrow by far (Cameron et al. 2008, doi 10.1162/rest.90.3.414)
TAIL = 0.025  # what a 95 % interval leaves out on either side
LEVELS = (100 * TAIL, 100 - 100 * TAIL)  # percentiles


def group_numbers(groups: npt.ArrayLike | None, n: int) -> Ints:
    """Numbers from 0 for the names of groups (N,); without names each slice is its own group.

    Raises:
        DataError: a name is missing, or there is not one for each slice.
    """
    if groups is None:
        return np.arange(n)
    names = np.asarray(groups)
    if names.shape != (n,):
        raise DataError(f"groups: need one per slice ({n}), got shape {names.shape}")
    unknown = next((k for k, name in enumerate(names.tolist()) if name is None or name != name or name == ""), None)
    if unknown is not None:  # else all the unknown would become one patient
        raise DataError(
            f"groups: need a name for every slice, got {names[unknown]!r} in row {unknown}; "
            "give an unknown patient the cluster of its twins"
        )
    return np.unique(names.astype(str), return_inverse=True)[1].astype(np.int64)


def resamples(n_groups: int, n_boot: int, seed: int) -> Iterator[Floats]:
    """How often each group is drawn, in chunks (<= 100, G); nothing for fewer than two groups."""
    if n_boot < 0:
        raise DataError(f"n_boot: need a number of resamples >= 0, got {n_boot}")
    if n_groups < 2:
        return
    rng = np.random.default_rng(seed)
    for start in range(0, n_boot, CHUNK):
        rows = min(CHUNK, n_boot - start)
        drawn = rng.integers(0, n_groups, (rows, n_groups)) + np.arange(rows)[:, None] * n_groups
        yield np.bincount(drawn.ravel(), minlength=rows * n_groups).reshape(rows, n_groups).astype(np.float64)


def interval(values: Floats | None) -> list[float] | None:
    """The 95 % percentile interval of resampled values (B,); None where most of them are undefined."""
    if values is None:
        return None
    defined = values[~np.isnan(values)]
    if len(defined) * 2 <= len(values):
        return None
    low, high = np.percentile(defined, LEVELS)
    return [float(low), float(high)]


def share_interval(values: Floats | None, bearing: int) -> list[float] | None:
    """The interval of resampled shares (B,), which lie in [0, 1], of something that `bearing` groups bear on.

    Where all of them are 0, or all are 1, as far as the chance goes that another group is the first that is not.
    """
    found = interval(values)
    if found is None or found[0] != found[1] or found[0] not in {0.0, 1.0}:
        return found
    reach = TAIL ** (1 / bearing)
    return [0.0, 1 - reach] if found[0] == 0 else [reach, 1.0]


def difference_interval(values: Floats | None, bearing: int) -> list[float] | None:
    """The interval of resampled differences (B,) between two shares that `bearing` groups bear on.

    Where no group differs, as far as the chance goes that another group is the first that does, to either side.
    """
    found = interval(values)
    if found != [0.0, 0.0]:
        return found
    reach = 1 - TAIL ** (1 / bearing)
    return [-reach, reach]


def ratios(
    above: npt.ArrayLike,
    below: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    shares: bool = True,
    n_boot: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Sums of `above` over sums of `below`, each (N, M), with intervals over the groups (N,): M times value and ci95.

    With `below` an indicator these are shares of a part of the slices; `shares` says that they cannot leave [0, 1].
    None where undefined: a sum of zero below, or fewer than two groups that bear on it.
    """
    numerators, denominators = np.asarray(above, np.float64), np.asarray(below, np.float64)
    group = group_numbers(groups, len(numerators))
    n_groups, columns = int(group.max(initial=-1)) + 1, numerators.shape[1]

    def per_group(values: Floats) -> Floats:
        return np.stack([np.bincount(group, values[:, k], n_groups) for k in range(columns)], axis=1)  # (G, M)

    over, under = per_group(numerators), per_group(denominators)
    drawn = [divide(weights @ over, weights @ under) for weights in resamples(n_groups, n_boot, seed)]
    resampled = np.concatenate(drawn) if drawn else np.zeros((0, columns))
    values = divide(over.sum(axis=0), under.sum(axis=0))
    bearing = (under != 0).sum(axis=0)

    def between(k: int) -> list[float] | None:
        if bearing[k] < 2:
            return None
        return share_interval(resampled[:, k], int(bearing[k])) if shares else interval(resampled[:, k])

    return [{"value": None if np.isnan(values[k]) else float(values[k]), "ci95": between(k)} for k in range(columns)]


def means(values: npt.ArrayLike, groups: npt.ArrayLike, *, shares: bool = True) -> list[dict[str, Any]]:
    """Means over all slices of values (N, M), with intervals over the groups (N,): M times value and ci95.

    `shares`: the values lie in [0, 1], as a right answer or a share of energy does.
    """
    table = np.asarray(values, np.float64)
    return ratios(table, np.ones_like(table), groups, shares=shares)


def mean_over_groups(values: npt.ArrayLike, groups: npt.ArrayLike) -> dict[str, Any]:
    """The mean over groups of the mean within each, of shares (N,), with its interval: value and ci95."""
    table = np.asarray(values, np.float64)[:, None]
    group = group_numbers(groups, len(table))
    weight = 1 / np.bincount(group)[group][:, None]
    (found,) = ratios(table * weight, weight, groups)
    return found


def divide(above: Floats, below: Floats) -> Floats:
    """above / below, nan where below is 0."""
    found = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    np.divide(above, below, out=found, where=below > 0)
    return found


def with_interval(scores: dict[str, Any], key: str) -> str:
    """A score with its interval in brackets."""
    interval = (scores.get("ci95") or {}).get(key)
    value = scores.get(key)
    if value is None:
        return "undefined"
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def measured(found: dict[str, Any]) -> str:
    """A value with its interval in brackets."""
    return with_interval({"it": found["value"], "ci95": {"it": found["ci95"]}}, "it")
