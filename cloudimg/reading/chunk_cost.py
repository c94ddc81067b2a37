"""What chunks cost: how often each byte is fetched if all of them are read. Pure.

Chunks that cut a segment (tile, strip, compressed page) fetch and decode it once each. Rows of an
uncompressed page are fetched from the first column to the last, with what lies between.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from cloudimg.reading.chunks import pack
from cloudimg.reading.layout import Layout, axis_boundaries
from cloudimg.tiff import ROW_GAP_BYTES

WHOLE_FRACTION = 0.5
"""A small file of which at least this share is wanted is fetched with one request."""
_MAX_COMBINATIONS = 10_000
_ALMOST_ONE = 1.01

ChunkLengths = tuple[tuple[int, ...], ...]
Part = tuple[int, int, int]
"""Along one axis of one file: length that a chunk wants, length of the segments that have it, and
length of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPixels:
    """How the pixels of an image lie in its files."""

    layout: Layout
    segment: tuple[int, ...]
    """Shape of a segment, in the axes of the files."""
    pixel_bytes: float
    """Stored size of a pixel of pages that are fetched by rows; 0 if segments are fetched whole."""
    rows: tuple[int, int] | None
    """The dims along which rows follow one another and extend, if pages are fetched by rows."""
    fetches_whole: bool
    """Whether files are so small that they are fetched whole if half of their pixels are wanted."""

    def fetched_times(self, chunks: ChunkLengths) -> float:
        """How many times each byte is fetched on average if all chunks are read."""
        parts = [self._parts(dim, lengths) for dim, lengths in enumerate(chunks)]
        if math.prod(map(len, parts)) > _MAX_COMBINATIONS:
            return math.prod(_mean_times(of_axis) for of_axis in parts)
        fetched = sum(
            math.prod(of_axis[part] for of_axis, part in zip(parts, combination, strict=True))
            * self._fetched_pixels(combination)
            for combination in product(*parts)
        )
        return fetched / math.prod(self.layout.shape)

    def without_cuts(self, chunks: ChunkLengths) -> ChunkLengths:
        """Similar chunks that fetch each byte once: whole segments and rows, or else whole files.

        Each is at most as long as the longest of `chunks`, or one segment.
        """
        for is_by_file in (False, True):
            chosen = tuple(
                lengths
                if set(np.cumsum(lengths)) <= set(boundaries)
                else pack(boundaries, max(lengths))
                for lengths, boundaries in zip(chunks, self._boundaries(is_by_file), strict=True)
            )
            if self.fetched_times(chosen) < _ALMOST_ONE:
                break
        return chosen

    def _segment_along(self, dim: int) -> int:
        axis = self.layout.axes[dim]
        if axis.file_axis is None or (self.rows is not None and dim in self.rows):
            return 1
        return self.segment[axis.file_axis]

    def _boundaries(self, is_by_file: bool) -> Iterator[npt.NDArray[np.int64]]:
        for dim, axis in enumerate(self.layout.axes):
            is_whole = is_by_file or (self.rows is not None and dim == self.rows[1])
            yield axis_boundaries(axis, axis.length if is_whole else self._segment_along(dim))

    def _parts(self, dim: int, lengths: Sequence[int]) -> Mapping[Part, int]:
        """The parts of files in chunks along one dim, with how often each occurs."""
        axis = self.layout.axes[dim]
        if axis.is_stacked:
            return {(1, 1, 1): axis.length}
        ends = np.cumsum(axis.extents)
        edges = np.unique(np.concatenate(([0], np.cumsum(lengths), ends)))
        starts, stops = edges[:-1], edges[1:]
        file = np.searchsorted(ends, starts, "right")
        extent = np.array(axis.extents)[file]
        origin = ends[file] - extent
        segment = self._segment_along(dim)
        first = (starts - origin) // segment * segment
        last = np.minimum(-(-(stops - origin) // segment) * segment, extent)
        found = np.stack([stops - starts, last - first, extent], 1)
        parts, counts = np.unique(found, axis=0, return_counts=True)
        return {
            (int(wanted), int(covered), int(length)): int(n)
            for (wanted, covered, length), n in zip(parts, counts, strict=True)
        }

    def _fetched_pixels(self, parts: Sequence[Part]) -> int:
        """Pixels of one file that are fetched for one chunk."""
        extent = math.prod(part[2] for part in parts)
        if self.fetches_whole and math.prod(part[0] for part in parts) >= WHOLE_FRACTION * extent:
            return extent
        if self.rows is None:
            return math.prod(part[1] for part in parts)
        others = [part[1] for dim, part in enumerate(parts) if dim not in self.rows]
        (n_rows, _, _), (wide, _, length) = (parts[dim] for dim in self.rows)
        if (length - wide) * self.pixel_bytes > ROW_GAP_BYTES:
            return math.prod(others) * n_rows * wide
        return math.prod(others) * ((n_rows - 1) * length + wide)


def _mean_times(parts: Mapping[Part, int]) -> float:
    """How many times each byte is fetched because of the cuts along one axis."""
    covered = sum(part[1] * n for part, n in parts.items())
    return covered / sum(part[0] * n for part, n in parts.items())


def as_argument(dims: Sequence[str], chunks: ChunkLengths) -> str:
    """Chunks as a user writes them."""
    shown = []
    for dim, lengths in zip(dims, chunks, strict=True):
        is_regular = len(set(lengths[:-1])) < 2 and lengths[-1] <= lengths[0]
        if not is_regular and len(lengths) > _MOST_LENGTHS:
            return '"auto"'
        value = (-1 if len(lengths) == 1 else lengths[0]) if is_regular else tuple(lengths)
        shown.append(f'"{dim}": {value}')
    return "{" + ", ".join(shown) + "}"


_MOST_LENGTHS = 6
"""Longest list of lengths that is shown."""
