"""Each level from the one below it. Pure.

Blocks at an edge that are not whole use the pixels that are there. The result does not depend on
how an image is cut, as long as the cuts lie at multiples of the factors.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_SLAB_BYTES = 4 * 2**20
"""Input that is worked on at once: bounds what is held for sums, and stays in the caches."""


def downsample(pixels: Array, factors: Sequence[int], method: str) -> Array:
    """Make one pixel of each block of pixels.

    Parameters
    ----------
    pixels : ndarray
    factors : sequence of int
        Extent of a block by axis.
    method : {"mean", "nearest", "mode"}
        mean: integers are rounded half up (2.5 to 3, -2.5 to -2), exactly; bool by majority, an
        even count is True; floats are added in double precision. nearest: the pixel at
        ``(factor - 1) // 2`` of each block, or the last one there is. mode: the most frequent
        value, the least of several.

    Returns
    -------
    ndarray
        Of shape ``ceil(n / factor)``, same dtype.
    """
    if all(f == 1 for f in factors):
        return pixels
    shape = tuple(-(-n // f) for n, f in zip(pixels.shape, factors, strict=True))
    if method == "nearest":
        at = [
            np.minimum(np.arange(m) * f + (f - 1) // 2, n - 1)
            for m, f, n in zip(shape, factors, pixels.shape, strict=True)
        ]
        return pixels[np.ix_(*at)]
    out = np.empty(shape, pixels.dtype)
    make = _mean if method == "mean" else _mode
    for source, target in _slabs(pixels.shape, factors, pixels.itemsize):
        part, into = pixels[source], out[target]
        for inside, whole, counts in _corners(part.shape, factors):
            make(part[inside], into[whole], counts)
    return out


def _slabs(
    shape: Sequence[int], factors: Sequence[int], itemsize: int
) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Pieces of the input, cut at whole blocks, and where their results go."""
    extents = list(shape)
    size = itemsize * int(np.prod(extents, dtype=np.int64))
    for axis, factor in enumerate(factors):
        if size <= _SLAB_BYTES:
            break
        others = size // extents[axis]
        extent = max(1, _SLAB_BYTES // (others * factor)) * factor
        size = others * min(extent, extents[axis])
        extents[axis] = min(extent, extents[axis])
    pieces = []
    for start in itertools.product(
        *(range(0, n, extent) for n, extent in zip(shape, extents, strict=True))
    ):
        source, target = [], []
        for at, extent, n, factor in zip(start, extents, shape, factors, strict=True):
            stop = min(at + extent, n)
            source.append(slice(at, stop))
            target.append(slice(at // factor, -(-stop // factor)))
        pieces.append((tuple(source), tuple(target)))
    return pieces


def _corners(
    shape: Sequence[int], factors: Sequence[int]
) -> list[tuple[tuple[slice, ...], tuple[slice, ...], tuple[int, ...]]]:
    """Parts in which all blocks have the same extents: the whole ones, and those at the edges."""
    choices = []
    for n, factor in zip(shape, factors, strict=True):
        whole, rest = divmod(n, factor)
        parts = []
        if whole:
            parts.append((slice(0, whole * factor), slice(0, whole), factor))
        if rest:
            parts.append((slice(whole * factor, n), slice(whole, whole + 1), rest))
        choices.append(parts)
    return [
        (tuple(c[0] for c in each), tuple(c[1] for c in each), tuple(c[2] for c in each))
        for each in itertools.product(*choices)
    ]


def _members(pixels: Array, extents: Sequence[int]) -> list[Array]:
    """The n-th pixel of every block, for each n."""
    return [
        pixels[tuple(slice(at, None, step) for at, step in zip(place, extents, strict=True))]
        for place in itertools.product(*map(range, extents))
    ]


def _mean(pixels: Array, out: Array, extents: Sequence[int]) -> None:
    members = _members(pixels, extents)
    count = len(members)
    kind, size = pixels.dtype.kind, pixels.itemsize
    if kind in "fc":
        double: np.dtype[Any] = np.dtype("f8" if kind == "f" else "c16")
        with np.errstate(all="ignore"):
            total = _sum(members, double)
            total /= count
            # The sign of what is not a number would depend on how the image is cut.
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
        total += count // 2
        # Half up for odd counts too: no half occurs there.
        if count & (count - 1) == 0:
            total >>= count.bit_length() - 1
        else:
            total //= count
        if kind == "b":
            out[...] = total > 0
        else:
            out[...] = total.astype(pixels.dtype)


def _sum(members: Sequence[Array], wide: np.dtype[Any]) -> Array:
    total = members[0].astype(wide)
    for each in members[1:]:
        np.add(total, each, out=total, casting="unsafe")
    return total


def _mean_of_64_bits(members: Sequence[Array], out: Array, count: int) -> None:
    """Quotients and remainders apart, since the sum would not fit."""
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
    if pixels.dtype.kind in "fc":
        pixels = pixels + pixels.dtype.type(0)  # one zero: which of two is met first would differ
    members = _members(pixels, extents)
    mixed = np.zeros(out.shape, bool)
    for each in members[1:]:
        mixed |= each != members[0]
    out[...] = members[0]
    # Most blocks of labels hold one value, and sorting costs far more than seeing that.
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
    out[mixed] = best
