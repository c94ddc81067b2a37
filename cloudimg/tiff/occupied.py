"""Which bytes of a file its images occupy: pixels, IFDs, and values outside of these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.tiff.ifd import MOST_TAGS, TYPE_BYTES, Buffer, Dialect, Range
from cloudimg.tiff.sparse import SparseFile

_NO_PAGE = -1

_Numbers = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
_TYPE_BYTES = np.array([TYPE_BYTES.get(kind, 0) for kind in range(max(TYPE_BYTES) + 2)], np.float64)


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
        starts, stops = self._clipped(first, more_first), self._clipped(last, more_last)
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

    def _clipped(self, offsets: Sequence[int], more: _Floats) -> _Numbers:
        """Offsets as far as they lie in the file; in a damaged one, they may be any numbers."""
        every = np.concatenate([np.asarray(offsets, np.float64), more])
        clipped: _Numbers = np.clip(every, 0, self._size).astype(np.int64)
        return clipped


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


def _of_ifds(ifds: Iterable[int], file: SparseFile, dialect: Dialect) -> tuple[_Floats, _Floats]:
    """Starts and stops of IFDs, and of the values that are stored outside of them."""
    starts: list[int] = []
    stops: list[int] = []
    blocks: list[Buffer] = []
    for at in ifds:
        first = at + dialect.count_bytes
        counted = file.have(at, first)
        n_bytes = 0 if counted is None else dialect.unpack_count(counted) * dialect.entry_bytes
        is_one = n_bytes <= MOST_TAGS * dialect.entry_bytes
        data = file.have(first, first + n_bytes) if is_one else None
        blocks.append(data or b"")
        starts.append(at)
        stops.append(first + len(blocks[-1]) + dialect.offset_bytes)
    width, short = dialect.offset_bytes, f"{dialect.order}u2"
    long = f"{dialect.order}u{width}"
    layout = np.dtype([("code", short), ("kind", short), ("count", long), ("value", long)])
    entries = np.frombuffer(b"".join(blocks), layout)
    sizes = _TYPE_BYTES[np.minimum(entries["kind"], len(_TYPE_BYTES) - 1)] * entries["count"]
    is_outside = sizes > width
    values = entries["value"][is_outside].astype(np.float64)
    return (
        np.concatenate([np.asarray(starts, np.float64), values]),
        np.concatenate([np.asarray(stops, np.float64), values + sizes[is_outside]]),
    )
