"""From pixels of any kind to a picture: made smaller, stretched to what is visible, coloured.

Pure, but for `refuse_unwritable` and `write_png` at its end. Pixels are reals, NaN where there is
nothing; light goes from 0 (black) to 1.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError

Array = npt.NDArray[Any]
Reals = npt.NDArray[np.float64]

COLOURS = (
    (1.0, 0.1, 0.8),
    (0.1, 1.0, 0.6),
    (0.2, 0.45, 1.0),
    (1.0, 0.85, 0.1),
    (0.1, 0.85, 1.0),
    (1.0, 0.4, 0.1),
)
"""Of channels without a colour of their own; the first are told apart by the colour-blind, too."""
_PERCENTILES = (0.1, 99.9)
_NARROW = 64
"""Pixels of 8 bits that differ by less would show as one grey."""


class Average:
    """The mean of the pixels that each pixel of a smaller picture covers.

    The pixels come in blocks, in any order and each once, so that no more than a block need be in
    memory. Where the sizes do not divide, a pixel on a border counts for both sides, by area.

    Parameters
    ----------
    height, width : int
        Of what is made smaller.
    size : int
        The longer side of the result is this long, or as long as it was if that is less.
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
        """Add pixels (y, x) whose first one lies at a row and a column."""
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
        """The picture (y, x), once all pixels were added; NaN where none of them is finite."""
        mean = np.full(self._sum.shape, np.nan)
        # Areas are differences of rounded sums: what should be nothing may be a little.
        np.divide(self._sum, self._area, out=mean, where=self._area > 1e-6)
        return mean


def _sums(block: Array, start: int, edges: Reals) -> tuple[Reals, slice]:
    """Sums of rows between edges, where the block begins with row `start`.

    Returns
    -------
    sums : ndarray
        Of what the block has of each interval.
    intervals : slice
        Those that it has anything of.
    """
    stop = start + len(block)
    first = int(np.searchsorted(edges, start, "right")) - 1
    last = int(np.searchsorted(edges, stop, "left"))
    at = np.clip(edges[first : last + 1], start, stop) - start
    whole = np.floor(at).astype(np.intp)
    # Twenty times as fast as np.add.reduceat, which casts element by element.
    sums: Reals = np.stack(
        [block[a:b].sum(axis=0, dtype=np.float64) for a, b in itertools.pairwise(whole)]
    )
    # A row that an edge divides was added to what follows; its first part belongs to what precedes.
    parts = block[np.minimum(whole, len(block) - 1)] * (at - whole)[:, np.newaxis]
    return sums - parts[:-1] + parts[1:], slice(first, last)


def contrast(pixels: Reals, dtype: np.dtype[Any]) -> tuple[float, float]:
    """What to show as black and as white.

    Parameters
    ----------
    pixels : ndarray
        Of a picture, or of all that is to be stretched alike.
    dtype : numpy.dtype
        As they were stored: one bit and 8 bits are shown as they are, unless the picture uses so
        little of the 8 bits that nothing would be seen.
    """
    if dtype == np.bool_:
        return 0.0, 1.0
    known = pixels[np.isfinite(pixels)]
    if not known.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(known, _PERCENTILES))
    if dtype == np.uint8 and high - low >= _NARROW:
        return 0.0, 255.0
    if high <= low:  # a few bright pixels on a plain ground are all that there is to see
        low, high = float(known.min()), float(known.max())
    return (low, high) if high > low else (low, low + 1)


def stretch(pixels: Array, low: Array | float, high: Array | float) -> Reals:
    """Light of pixels: 0 up to `low`, 1 from `high` on."""
    light: Reals = ((pixels - low) / (high - low)).clip(0, 1)
    return light


def blend(light: Reals, colours: Array | Sequence[Sequence[float]]) -> Reals:
    """Add up the light of channels in their colours: (..., c, y, x) to (..., y, x, RGB)."""
    blended: Reals = np.einsum("...cyx,cs->...yxs", light, np.asarray(colours)).clip(0, 1)
    return blended


def as_bytes(light: Reals) -> npt.NDArray[np.uint8]:
    """Light as 8 bits; what is not known is black."""
    return np.rint(255 * np.nan_to_num(light)).astype(np.uint8, order="C")


def choose_colours(channels: Sequence[int], stored: Sequence[int]) -> Reals:
    """RGB from 0 to 1 of some channels.

    Parameters
    ----------
    channels : sequence of int
    stored : sequence of int
        What the file says of all channels, RGBA in 32 bits as OME has it; or nothing. Not
        believed where it would hide a channel or show two alike: many writers call all white.
    """
    if max(channels) < len(stored):
        chosen = [stored[channel] & 0xFFFFFFFF for channel in channels]
        colours = np.array([[code >> shift & 255 for shift in (24, 16, 8)] for code in chosen])
        if colours.any(axis=1).all() and len(np.unique(colours, axis=0)) == len(channels):
            return np.asarray(colours / 255)
    return np.array([COLOURS[i % len(COLOURS)] for i in range(len(channels))])


def look_up(indices: Array, colormap: Array) -> npt.NDArray[np.uint8]:
    """Colours of palette indices.

    Parameters
    ----------
    indices : ndarray
    colormap : ndarray
        RGB x entries, of 16 bits; some writers fill only 8 of them.

    Returns
    -------
    ndarray
        The shape of `indices` with an axis of RGB in the end.
    """
    table = np.asarray(colormap)
    if table.max(initial=0) > 255:
        table = table >> 8
    chosen: npt.NDArray[np.uint8] = table.T.astype(np.uint8)[
        np.minimum(indices, table.shape[1] - 1)
    ]
    return chosen


def refuse_unwritable(path: str) -> None:
    """Tell before any work that a picture cannot be left there.

    Raises
    ------
    ArgumentError
    """
    folder = Path(path).absolute().parent
    target = Path(path) if Path(path).exists() else folder
    if not folder.is_dir() or not os.access(target, os.W_OK) or Path(path).is_dir():
        raise ArgumentError(f"cannot write {path}: no such folder, or no permission")


def write_png(path: str, picture: npt.NDArray[np.uint8]) -> None:
    """Leave a picture (y, x, or with RGB in the end) in a file, in place of what was there.

    Raises
    ------
    ArgumentError
    """
    import imagecodecs

    try:
        Path(path).write_bytes(imagecodecs.png_encode(picture))
    except OSError as error:
        raise ArgumentError(f"cannot write {path}: {error.strerror}") from None
