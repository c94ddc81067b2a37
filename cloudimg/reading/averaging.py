"""Average the pixels of files that lie over each other on a canvas. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_BAND_BYTES = 2**25
"""Memory for sums of a band of rows."""
_SUM_BYTES = 24
"""Sums and counts of one pixel."""


class Layer(NamedTuple):
    """Pixels of one file, and where they belong."""

    place: tuple[int | slice, ...]
    """Index into the output."""
    pixels: Array


def average(out: Array, layers: Sequence[Layer], rows: int) -> None:
    """Put the mean of layers where there are any; elsewhere the output stays as it is.

    Means of integers are exact and rounded, halves upwards. Others are rounded from float64.

    Parameters
    ----------
    out : ndarray
    layers : sequence of Layer
        Floats are added in this order.
    rows : int
        Axis of the output along which it is cut into bands, so that sums need little memory.
    """
    n_rows = out.shape[rows]
    height = max(1, _BAND_BYTES * n_rows // (_SUM_BYTES * max(1, out.size)))
    for top in range(0, n_rows, height):
        band = (slice(None),) * rows + (slice(top, top + height),)
        _average(out[band], list(_within(layers, rows, top, min(top + height, n_rows))))


def _within(layers: Sequence[Layer], rows: int, top: int, bottom: int) -> Iterator[Layer]:
    """Yield what layers have in a band of rows."""
    for place, pixels in layers:
        part = place[rows]
        assert isinstance(part, slice)
        start, stop = max(part.start, top), min(part.stop, bottom)
        if start >= stop:
            continue
        # Pixels have no axis where the place is a single index.
        axis = sum(isinstance(each, slice) for each in place[:rows])
        own = (slice(None),) * axis + (slice(start - part.start, stop - part.start),)
        inside = (*place[:rows], slice(start - top, stop - top), *place[rows + 1 :])
        yield Layer(inside, pixels[own])


def _average(out: Array, layers: Sequence[Layer]) -> None:
    counts = np.zeros(out.shape, np.int64)
    for place, _ in layers:
        counts[place] += 1
    n = np.maximum(counts, 1)
    if out.dtype.kind in "fc":
        sums = np.zeros(out.shape, np.complex128 if out.dtype.kind == "c" else np.float64)
        with np.errstate(all="ignore"):
            for place, pixels in layers:
                sums[place] += pixels
            means = (sums / n).astype(out.dtype)
    else:
        # The sum of integers of 64 bits may need more: add quotients and remainders instead.
        wide = np.dtype(np.int64 if out.dtype.kind == "i" else np.uint64)
        n = n.astype(wide)
        quotients, remainders = np.zeros(out.shape, wide), np.zeros(out.shape, wide)
        for place, pixels in layers:
            quotients[place] += pixels // n[place]
            remainders[place] += pixels % n[place]
        means = (quotients + (2 * remainders + n) // (2 * n)).astype(out.dtype)
    np.copyto(out, means, where=counts > 0)
