"""The pixels that a level must have, computed again from the level below, plainly and slowly.

This is not the code that wrote the levels: it gathers all pixels of each block beside each other,
and reduces them by the definition in `cloudimg.migration.encode.downsample.downsample`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Valid = npt.NDArray[np.bool_]

_BATCH = 2**20
"""Pixels that are gathered at once, which bounds memory."""


def expected_level(below: Array, factors: Sequence[int], method: str, nodata: Any) -> Array:
    """Compute a level from the level below it.

    Parameters
    ----------
    below : ndarray
    factors : sequence of int
        Extent of a block by axis.
    method : {"mean", "nearest", "mode"}
    nodata : scalar or None
        See `cloudimg.migration.plan.plan.Plan.nodata`.
    """
    if set(factors) == {1}:
        return below
    shape = [-(-n // f) for n, f in zip(below.shape, factors, strict=True)]
    level = np.empty(shape, below.dtype)
    flat = level.reshape(-1)
    n_at_once = max(1, _BATCH // int(np.prod(factors, dtype=np.int64)))
    for start in range(0, flat.size, n_at_once):
        numbers = np.arange(start, min(start + n_at_once, flat.size))
        blocks = np.unravel_index(numbers, shape)
        if method == "nearest":
            flat[numbers] = below[_nearest(blocks, factors, below.shape)]
            continue
        members = list(_members(below, blocks, factors))
        if method == "mode":
            flat[numbers] = _mode(members)
        elif nodata is None:
            flat[numbers] = _mean(members)
        else:
            flat[numbers] = _mean_of_valid(members, nodata)
    return level


def _nearest(
    blocks: Sequence[Array], factors: Sequence[int], shape: Sequence[int]
) -> tuple[Array, ...]:
    """Positions of the pixel in the middle of each block, or of the last one before an edge."""
    return tuple(
        np.minimum(block * factor + (factor - 1) // 2, length - 1)
        for block, factor, length in zip(blocks, factors, shape, strict=True)
    )


def _members(
    below: Array, blocks: Sequence[Array], factors: Sequence[int]
) -> Iterator[tuple[Array, Valid]]:
    """The pixels of blocks, one of each block at a time, and whether it lies in the image."""
    for offsets in itertools.product(*map(range, factors)):
        at = [
            block * factor + offset
            for block, factor, offset in zip(blocks, factors, offsets, strict=True)
        ]
        exists = np.ones(len(at[0]), bool)
        for position, length in zip(at, below.shape, strict=True):
            exists &= position < length
        inside = tuple(
            np.minimum(position, length - 1)
            for position, length in zip(at, below.shape, strict=True)
        )
        yield below[inside], exists


def _mode(members: Sequence[tuple[Array, Valid]]) -> Array:
    """The most frequent value of each block, the smallest of several."""
    best = members[0][0] + members[0][0].dtype.type(0)
    most = np.zeros(len(best), np.int64)
    for value, exists in members:
        value = value + value.dtype.type(0)  # 0.0 of -0.0
        count = _count([(other, (other == value) & there) for other, there in members])
        is_better = exists & ((count > most) | ((count == most) & (value < best)))
        best[is_better] = value[is_better]
        most = np.where(is_better, count, most)
    if best.dtype.kind in "fc":
        parts = best.view(best.real.dtype)
        parts[np.isnan(parts)] = np.nan  # one of the many that there are
    return np.asarray(best)


def _mean(members: Sequence[tuple[Array, Valid]]) -> Array:
    """The mean of all pixels of each block."""
    dtype = members[0][0].dtype
    n = _count(members)
    if dtype.kind in "fc":
        with np.errstate(all="ignore"):
            mean = (_sum_of_floats(members, "c16" if dtype.kind == "c" else "f8") / n).astype(dtype)
            parts = mean.view(mean.real.dtype)
            parts[np.isnan(parts)] = np.nan
        return np.asarray(mean)
    return np.asarray(_rounded(members, n).astype(dtype))


def _mean_of_valid(members: Sequence[tuple[Array, Valid]], nodata: Any) -> Array:
    """The mean of the pixels of each block that have data."""
    dtype = members[0][0].dtype
    valid = [(value, exists & (value != nodata) & ~np.isnan(value)) for value, exists in members]
    n = _count(valid)
    if dtype.kind == "f":
        with np.errstate(all="ignore"):
            mean = (_sum_of_floats(valid, "f8") / n).astype(dtype)
        least = np.min([np.where(each, value, np.inf) for value, each in valid], axis=0)
        greatest = np.max([np.where(each, value, -np.inf) for value, each in valid], axis=0)
        mean = np.where(mean < least, least, np.where(mean > greatest, greatest, mean))
        mean = np.where(np.isnan(mean), np.nan, mean + 0.0).astype(dtype)
    else:
        mean = _rounded(valid, np.maximum(n, 1)).astype(dtype)
    is_nodata = mean == nodata
    if is_nodata.any():
        is_float = dtype.kind == "f"
        mean[is_nodata] = np.nextafter(nodata, np.inf) if is_float else int(nodata) + 1
    mean[n == 0] = nodata
    return np.asarray(mean)


def _count(members: Sequence[tuple[Array, Valid]]) -> Array:
    """Number of pixels of each block that count."""
    return np.asarray(np.sum([counts for _, counts in members], axis=0, dtype=np.int64))


def _sum_of_floats(members: Sequence[tuple[Array, Valid]], wide: str) -> Array:
    """Sums in double precision, in the order of the pixels."""
    total: Array | None = None
    for value, counts in members:
        term = np.where(counts, value, 0).astype(wide)
        total = term if total is None else np.where(counts, total + term, total)
    assert total is not None
    return total


def _rounded(members: Sequence[tuple[Array, Valid]], n: Array) -> Array:
    """Means of integers, rounded half up, by sums of their upper and lower 32 bits."""
    is_unsigned = members[0][0].dtype.kind == "u"
    wide = np.uint64 if is_unsigned else np.int64
    upper, lower = np.zeros(len(n), np.int64), np.zeros(len(n), np.int64)
    for value, counts in members:
        wide_value = value.astype(wide)
        high = (wide_value >> wide(32)).astype(np.int64)
        low = (wide_value & wide(2**32 - 1)).astype(np.int64)
        upper += np.where(counts, high, 0)
        lower += np.where(counts, low, 0)
    quotient, rest = np.divmod(upper, n)
    fraction = (rest * 2**32 + lower + n // 2) // n
    return np.asarray((quotient.astype(wide) << wide(32)) + fraction.astype(wide))
