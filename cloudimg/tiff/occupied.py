"""Which bytes of a file its images occupy: pixels, IFDs, and values outside of these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.tiff.ifd import Dialect, Range, entries_at
from cloudimg.tiff.sparse import SparseFile

_NO_PAGE = -1

_Numbers = npt.NDArray[np.int64]


class Occupied:
    """Bytes that images occupy.

    Parameters
    ----------
    levels : sequence of tifffile.TiffPageSeries
        All levels of all images.
    ifds : iterable of int
        Offsets of IFDs.
    file : SparseFile
        Nothing is fetched.
    dialect : Dialect
    """

    def __init__(
        self, levels: Sequence[Any], ifds: Iterable[int], file: SparseFile, dialect: Dialect
    ) -> None:
        self._size = file.size_bytes
        first, last, sizes = _pixels(levels)
        owners = np.repeat(np.arange(len(sizes)), sizes)
        more_first, more_last = _of_ifds(ifds, file, dialect)
        starts, stops = self._clipped(first + more_first), self._clipped(last + more_last)
        owners = np.concatenate([owners, np.full(len(more_first), _NO_PAGE)])
        is_stored = stops > starts
        starts, stops, owners = starts[is_stored], stops[is_stored], owners[is_stored]
        order = np.argsort(starts, kind="stable")
        self._starts, self._owners = starts[order], owners[order]
        self._stops = np.maximum.accumulate(stops[order])

    def holds(self, at_bytes: int) -> bool:
        """Whether an image occupies a byte."""
        i = int(np.searchsorted(self._starts, at_bytes, side="right")) - 1
        return i >= 0 and bool(self._stops[i] > at_bytes)

    def is_within_page(self, at_bytes: int) -> bool:
        """Whether a byte is between two segments of one page, if not in one.

        Such bytes remain where a program has replaced some of the segments.
        """
        i = int(np.searchsorted(self._starts, at_bytes, side="right"))
        is_between = 0 < i < len(self._owners) and self._owners[i - 1] == self._owners[i]
        return is_between and bool(self._owners[i] != _NO_PAGE)

    def gaps(self, least: int) -> Iterator[Range]:
        """The ranges of a minimum size that no image occupies."""
        first = np.concatenate([self._stops[:1] * 0, self._stops])
        last = np.concatenate([self._starts, [self._size]])
        for i in np.flatnonzero(last - first >= least):
            yield int(first[i]), int(last[i])

    def has_gap(self, least: int) -> bool:
        """Whether any of these ranges is not between two segments of one page."""
        return not all(self.is_within_page(start) for start, _ in self.gaps(least))

    def _clipped(self, offsets: Sequence[int]) -> _Numbers:
        """Offsets as far as they lie in the file; in a damaged one, they may be any numbers."""
        return np.clip(np.asarray(offsets, np.float64), 0, self._size).astype(np.int64)


def _pixels(levels: Sequence[Any]) -> tuple[list[int], list[int], list[int]]:
    """Starts and stops of all segments, and the number of segments of each page.

    Pixels that follow one another are one segment.
    """
    starts: list[int] = []
    stops: list[int] = []
    sizes = []
    for level in levels:
        if level.dataoffset is not None:
            starts.append(level.dataoffset)
            stops.append(level.dataoffset + level.nbytes)
            sizes.append(1)
            continue
        for page in level:
            if page is not None:
                n = min(len(page.dataoffsets), len(page.databytecounts))
                starts += page.dataoffsets[:n]
                stops += map(add, page.dataoffsets[:n], page.databytecounts[:n])
                sizes.append(n)
    return starts, stops, sizes


def _of_ifds(
    ifds: Iterable[int], file: SparseFile, dialect: Dialect
) -> tuple[list[int], list[int]]:
    starts, stops = [], []
    for at in ifds:
        n_tags = 0
        for _, _, n_bytes, value in entries_at(file.have, dialect, at):
            n_tags += 1
            if n_bytes > dialect.offset_bytes:
                starts.append(value)
                stops.append(value + n_bytes)
        starts.append(at)
        stops.append(at + dialect.count_bytes + n_tags * dialect.entry_bytes + dialect.offset_bytes)
    return starts, stops
