"""Turn pixels into a picture: downscale, stretch the contrast, combine colours. Pure.

Pixels are reals, NaN where unknown; light is from 0 (black) to 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Reals = npt.NDArray[np.float64]


class Average:
    """Downscales a plane: each pixel of the result is the mean of the pixels that it covers.

    Pixels are added in blocks, in any order and each once, so that only one block need be in
    memory. Where the sizes do not divide, a pixel on a border counts on both sides, by area.

    Parameters
    ----------
    height, width : int
        Size of the plane.
    size : int
        Length of the longer side of the result; nothing is upscaled.
    """

    def __init__(self, height: int, width: int, size: int) -> None:
        longer = max(height, width)
        lengths = [max(1, round(n * min(size, longer) / longer)) for n in (height, width)]
        self._edges: list[Reals] = [
            np.linspace(0, old, new + 1, dtype=np.float64)
            for new, old in zip(lengths, (height, width), strict=True)
        ]
        self._sum = np.zeros(lengths)
        self._area: Reals = np.outer(*(np.diff(edges) for edges in self._edges))

    def add(self, block: Array, top: int, left: int) -> None:
        """Add a block of pixels (y, x) that begins at a row and a column of the plane."""
        if block.dtype.kind == "f":
            unknown = ~np.isfinite(block)
            if unknown.any():
                block = np.where(unknown, 0, block)
                area, place = self._shrunk(unknown, top, left)
                self._area[place] -= area
        total, place = self._shrunk(block, top, left)
        self._sum[place] += total

    def _shrunk(self, block: Array, top: int, left: int) -> tuple[Reals, tuple[slice, slice]]:
        rows, high = _sums(block, top, self._edges[0])
        columns, wide = _sums(rows.T, left, self._edges[1])
        return columns.T, (high, wide)

    def mean(self) -> Reals:
        """Return the result (y, x) after all pixels were added; NaN where none is finite."""
        mean = np.full(self._sum.shape, np.nan)
        # Areas are differences of rounded sums, so an area of zero may be slightly larger.
        np.divide(self._sum, self._area, out=mean, where=self._area > 1e-6)
        return mean


def _sums(block: Array, start: int, edges: Reals) -> tuple[Reals, slice]:
    """Sum rows between edges, in a block that begins at row `start`.

    Returns
    -------
    sums : ndarray
        Sum of the rows of the block in each interval.
    intervals : slice
        Intervals that overlap the block.
    """
    stop = start + len(block)
    first = int(np.searchsorted(edges, start, "right")) - 1
    last = int(np.searchsorted(edges, stop, "left"))
    at = np.clip(edges[first : last + 1], start, stop) - start
    whole = np.floor(at).astype(np.intp)
    # This is twenty times as fast as np.add.reduceat, which casts element by element.
    sums: Reals = np.stack(
        [block[a:b].sum(axis=0, dtype=np.float64) for a, b in itertools.pairwise(whole)]
    )
    # A row divided by an edge was added to the next interval; move its first part to the previous.
    parts = block[np.minimum(whole, len(block) - 1)] * (at - whole)[:, np.newaxis]
    return sums - parts[:-1] + parts[1:], slice(first, last)


def stretch(pixels: Array, low: Array | float, high: Array | float) -> Reals:
    """Return the brightness of pixels: 0 up to `low`, 1 from `high`, linear between them."""
    light: Reals = ((pixels - low) / (high - low)).clip(0, 1)
    return light


def blend(light: Reals, colours: Array | Sequence[Sequence[float]]) -> Reals:
    """Add the light of channels in their colours: (..., c, y, x) to (..., y, x, RGB)."""
    blended: Reals = np.einsum("...cyx,cs->...yxs", light, np.asarray(colours)).clip(0, 1)
    return blended


def as_bytes(light: Reals) -> npt.NDArray[np.uint8]:
    """Return light as 8 bits; NaN becomes black."""
    return np.rint(255 * np.nan_to_num(light)).astype(np.uint8, order="C")
