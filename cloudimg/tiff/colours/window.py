"""Choose the pixel values to show as black and as white. Pure.

Pictures and the metadata of copies use the same rules, of values that one counts and the other has
in histograms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Window = tuple[float, float]
"""Values to show as black and as white; the first is the lower one."""

_PERCENTILES = (0.001, 0.999)
_NARROW = 1 / 4
"""Values that differ by less of the range of their bits would look uniform, so that their contrast
is stretched."""
_LEAST_BITS = 8
"""Bits of the smallest range in which colours are shown."""
_FLOAT_RANGES = (1.0, 255.0, 65535.0)
"""Ranges in which writers store colours as floating-point numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """How often values occur, in bins that increase."""

    low: npt.NDArray[Any]
    """Smallest value of each bin."""
    high: npt.NDArray[Any]
    """Greatest value of each bin."""
    counts: npt.NDArray[np.int64]
    """Number of values in each bin, at least one."""

    @classmethod
    def of(cls, pixels: npt.NDArray[Any]) -> Values:
        """Count all finite pixels."""
        found, counts = np.unique(pixels[np.isfinite(pixels)], return_counts=True)
        return cls(found, found, counts.astype(np.int64))

    def between(self, first: float, last: float) -> Window:
        """Values from one quantile to another, as `numpy.percentile` interpolates them."""
        total = np.cumsum(self.counts)
        return self._at(first, self.low, total), self._at(last, self.high, total)

    def _at(self, quantile: float, values: npt.NDArray[Any], total: npt.NDArray[Any]) -> float:
        position = quantile * (int(total[-1]) - 1)
        ranks = np.array([math.floor(position), math.ceil(position)])
        below, above = values[np.searchsorted(total, ranks, "right")].astype(np.float64).tolist()
        share = position - math.floor(position)
        return float(below + (above - below) * share)

    def without(self, i: int) -> Values:
        """All but one of the bins."""
        return Values(np.delete(self.low, i), np.delete(self.high, i), np.delete(self.counts, i))

    @property
    def range(self) -> Window:
        """Smallest and greatest value."""
        return float(self.low[0]), float(self.high[-1])


def own_window(values: Values, n_bits: int | None) -> Window:
    """Choose the window of a channel from its values.

    It reaches from the 0.1 to the 99.9 percentile. Where most pixels have one value, as the black
    around a cell, the percentiles are those of all other pixels.

    Parameters
    ----------
    values : Values
    n_bits : int, optional
        Significant bits of unsigned pixels whose values are shown as they are, unless they use so
        little of the range that nothing would be visible.
    """
    whole = None if n_bits is None else (0.0, 2.0**n_bits - 1)
    if not len(values.counts):
        return whole or (0.0, 1.0)
    low, high = values.between(*_PERCENTILES)
    most = int(np.argmax(values.counts))
    if len(values.counts) > 1 and 2 * values.counts[most] > values.counts.sum():
        others = values.without(most).between(*_PERCENTILES)
        low, high = min(low, others[0]), max(high, others[1])
    if high > low:
        is_wide = whole is not None and high - low >= _NARROW * (whole[1] + 1)
        return whole if whole is not None and is_wide else (low, high)
    return whole or apart(min(low, 0.0), max(low, 0.0))


def colour_window(ranges: Sequence[Window], dtype: np.dtype[Any], n_bits: int | None) -> Window:
    """Choose the one window of all samples of a colour: other ones would change the hue.

    It is the full range of the samples. Where they use less than a quarter of more than 8 bits, as
    those of a camera of 12 bits, it is the smallest range of whole bits that holds them.

    Parameters
    ----------
    ranges : sequence
        Smallest and greatest value of each sample, where it is known.
    dtype : numpy.dtype
    n_bits : int, optional
        Significant bits, if they are known.
    """
    greatest = max((high for _, high in ranges), default=0.0)
    if dtype.kind == "f":
        fitting = [end for end in _FLOAT_RANGES if greatest <= end]
        return 0.0, fitting[0] if fitting else greatest
    if n_bits is None:
        n_bits = 8 * dtype.itemsize - (dtype.kind == "i")
    whole = 2.0**n_bits
    if n_bits > _LEAST_BITS and 0 < greatest < _NARROW * whole:
        return 0.0, 2.0 ** max(_LEAST_BITS, math.ceil(math.log2(greatest + 1))) - 1
    return 0.0, whole - 1


def apart(low: float, high: float) -> Window:
    """Two different values, both finite, for a window of values that may be equal."""
    if high > low:
        return low, high
    if low + 1 > low:
        return low, low + 1
    if low < np.finfo("f8").max:
        return low, float(np.nextafter(low, np.inf))
    return float(np.nextafter(low, -np.inf)), low
