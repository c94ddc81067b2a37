"""Compute a level from the level below it. Pure.

Incomplete blocks at an edge use the pixels that they have. The result does not depend on how an
image is divided into cells, as long as cells begin at multiples of the factors.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_SLAB_BYTES = 4 * 2**20
"""Size of the input that is processed at once: limits memory for sums, and fits the caches."""


def downsample(pixels: Array, factors: Sequence[int], method: str, nodata: Any = None) -> Array:
    """Reduce each block of pixels to one pixel.

    Parameters
    ----------
    pixels : ndarray
    factors : sequence of int
        Extent of a block by axis.
    method : {"mean", "nearest", "mode"}
        mean: integers are computed exactly and rounded half up (2.5 to 3, -2.5 to -2); bool is
        the majority, True in a tie; floats are summed in double precision. nearest: the pixel at
        ``(factor - 1) // 2`` of each block, or its last one. mode: the most frequent value, the
        smallest of several.
    nodata : scalar, optional
        Value of pixels without data. It and NaN have no part in a mean, which is between the least
        and the greatest of the other pixels; a block without others becomes `nodata`. Where the
        mean of others would be `nodata`, it is the next greater value.

    Returns
    -------
    ndarray
        Shape ``ceil(n / factor)`` along each axis, same dtype.
    """
    if all(f == 1 for f in factors):
        return pixels
    shape = tuple(-(-n // f) for n, f in zip(pixels.shape, factors, strict=True))
    if method == "nearest":
        indices = [
            np.minimum(np.arange(m) * f + (f - 1) // 2, n - 1)
            for m, f, n in zip(shape, factors, pixels.shape, strict=True)
        ]
        return pixels[np.ix_(*indices)]
    out = np.empty(shape, pixels.dtype)
    reduce_blocks = _mode if method == "mode" else _mean
    if method == "mean" and nodata is not None:
        reduce_blocks = partial(_mean_of_valid, nodata=nodata)
    for source, target in _slabs(pixels.shape, factors, pixels.itemsize):
        slab, slab_out = pixels[source], out[target]
        for region, out_region, extents in _uniform_parts(slab.shape, factors):
            reduce_blocks(slab[region], slab_out[out_region], extents)
    return out


def _slabs(
    shape: Sequence[int], factors: Sequence[int], itemsize: int
) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Regions of the input that are whole blocks, each with the region of its result."""
    extents = list(shape)
    size = itemsize * int(np.prod(extents, dtype=np.int64))
    for axis, factor in enumerate(factors):
        if size <= _SLAB_BYTES:
            break
        others = size // extents[axis]
        extent = max(1, _SLAB_BYTES // (others * factor)) * factor
        size = others * min(extent, extents[axis])
        extents[axis] = min(extent, extents[axis])
    slabs = []
    for starts in itertools.product(
        *(range(0, n, extent) for n, extent in zip(shape, extents, strict=True))
    ):
        source, target = [], []
        for start, extent, n, factor in zip(starts, extents, shape, factors, strict=True):
            stop = min(start + extent, n)
            source.append(slice(start, stop))
            target.append(slice(start // factor, -(-stop // factor)))
        slabs.append((tuple(source), tuple(target)))
    return slabs


def _uniform_parts(
    shape: Sequence[int], factors: Sequence[int]
) -> list[tuple[tuple[slice, ...], tuple[slice, ...], tuple[int, ...]]]:
    """Parts in which all blocks have the same extents: complete blocks, and those at the edges.

    Each is the region of the input, the region of the result, and the extents of its blocks.
    """
    by_axis = []
    for n, factor in zip(shape, factors, strict=True):
        complete, rest = divmod(n, factor)
        parts = []
        if complete:
            parts.append((slice(0, complete * factor), slice(0, complete), factor))
        if rest:
            parts.append((slice(complete * factor, n), slice(complete, complete + 1), rest))
        by_axis.append(parts)
    return [
        (tuple(c[0] for c in each), tuple(c[1] for c in each), tuple(c[2] for c in each))
        for each in itertools.product(*by_axis)
    ]


def _members(pixels: Array, extents: Sequence[int]) -> list[Array]:
    """The n-th pixel of every block, for each n."""
    return [
        pixels[tuple(slice(start, None, step) for start, step in zip(offset, extents, strict=True))]
        for offset in itertools.product(*map(range, extents))
    ]


def _mean(pixels: Array, out: Array, extents: Sequence[int]) -> None:
    """Write the mean of each block to `out`."""
    members = _members(pixels, extents)
    count = len(members)
    kind, size = pixels.dtype.kind, pixels.itemsize
    if kind in "fc":
        double: np.dtype[Any] = np.dtype("f8" if kind == "f" else "c16")
        with np.errstate(all="ignore"):
            total = _sum(members, double)
            total /= count
            # The sign of a NaN would depend on how the image is divided into cells.
            parts = total.view(np.float64)
            parts[np.isnan(parts)] = np.nan
            out[...] = total
    elif kind in "iu" and size == 8:
        _mean_of_64_bits(members, out, count)
    else:
        # Sums of fewer than 2^15 values of 16 bits fit 32 bits.
        small = size <= 2 and count < 2**15
        wide = np.dtype(np.int32 if small else np.int64)
        total = _sum(members, wide)
        # Rounds half up. For an odd count no half can occur, so count // 2 is exact as well.
        total += count // 2
        if count & (count - 1) == 0:
            total >>= count.bit_length() - 1
        else:
            total //= count
        out[...] = total > 0 if kind == "b" else total.astype(pixels.dtype)


def _mean_of_valid(pixels: Array, out: Array, extents: Sequence[int], nodata: Any) -> None:
    """Write the mean of the pixels with data in each block to `out`."""
    is_float = pixels.dtype.kind == "f"
    members = _members(pixels, extents)
    has_data = [(each != nodata) & (each == each) for each in members]
    if not is_float and all(each.all() for each in has_data):
        _mean(pixels, out, extents)
        n_valid = None
    else:
        n_valid = sum(each.astype(np.int64) for each in has_data)
        mean_of = _float_mean_of if is_float else _integer_mean_of
        out[...] = mean_of(members, has_data, np.maximum(n_valid, 1))
    is_nodata = out == nodata
    if is_nodata.any():
        # One of the others is greater, since none of them is equal to the mean.
        out[is_nodata] = np.nextafter(nodata, np.inf) if is_float else int(nodata) + 1
    if n_valid is not None:
        out[n_valid == 0] = nodata


def _integer_mean_of(members: Sequence[Array], has_data: Sequence[Array], count: Array) -> Array:
    """Mean of some members, rounded half up, from sums of quotients and remainders."""
    dtype = members[0].dtype
    total, rest, divisor = np.zeros(count.shape, dtype), np.zeros_like(count), count.astype(dtype)
    for each, valid in zip(members, has_data, strict=True):
        quotient = each // divisor
        total += np.where(valid, quotient, 0).astype(dtype)
        rest += np.where(valid, each - quotient * divisor, 0).astype(np.int64)
    return np.asarray(total + ((rest + count // 2) // count).astype(dtype))


def _float_mean_of(members: Sequence[Array], has_data: Sequence[Array], count: Array) -> Array:
    """Mean of some members, summed in double precision, within their range."""
    dtype = members[0].dtype
    total = np.zeros(count.shape, np.float64)
    least, greatest = np.full(count.shape, np.inf, dtype), np.full(count.shape, -np.inf, dtype)
    with np.errstate(all="ignore"):
        for each, valid in zip(members, has_data, strict=True):
            total += np.where(valid, each, 0)
            np.minimum(least, each, out=least, where=valid)
            np.maximum(greatest, each, out=greatest, where=valid)
        # Rounding, and sums that overflow, may lead out of the range.
        mean = np.minimum(np.maximum((total / count).astype(dtype), least), greatest)
        mean[np.isnan(mean)] = np.nan
        return np.asarray(mean + dtype.type(0))


def _sum(members: Sequence[Array], wide: np.dtype[Any]) -> Array:
    total = members[0].astype(wide)
    for each in members[1:]:
        np.add(total, each, out=total, casting="unsafe")
    return total


def _mean_of_64_bits(members: Sequence[Array], out: Array, count: int) -> None:
    """Mean from separate sums of quotients and remainders, since the full sum may overflow."""
    total = np.zeros(out.shape, out.dtype)
    rest = np.zeros(out.shape, np.int64)
    for each in members:
        quotient = each // each.dtype.type(count)
        rest += (each - quotient * each.dtype.type(count)).astype(np.int64)
        total += quotient
    rest += count // 2
    rest //= count
    out[...] = total + rest.astype(out.dtype)


def _mode(pixels: Array, out: Array, extents: Sequence[int]) -> None:
    """Write the most frequent value of each block to `out`."""
    if pixels.dtype.kind in "fc":
        pixels = pixels + pixels.dtype.type(0)  # -0.0 to 0.0: which one comes first would differ
    members = _members(pixels, extents)
    mixed = np.zeros(out.shape, bool)
    for each in members[1:]:
        mixed |= each != members[0]
    out[...] = members[0]
    # Most blocks of labels have a single value; sorting costs far more than checking that.
    values = np.sort(np.stack([each[mixed] for each in members], -1), axis=-1)
    count = values.shape[-1]
    best = values[..., 0].copy()
    run = np.ones(best.shape, np.int32)
    most = run.copy()
    for i in range(1, count):
        same = values[..., i] == values[..., i - 1]
        run = np.where(same, run + 1, 1)
        longer = run > most
        most = np.where(longer, run, most)
        best = np.where(longer, values[..., i], best)
    if best.dtype.kind in "fc":
        parts = best.view(best.real.dtype)
        parts[np.isnan(parts)] = np.nan  # sorting float16 may change which one it is
    out[mixed] = best
