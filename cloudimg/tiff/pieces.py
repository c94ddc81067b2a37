"""How the pages of a level are stored, and the pieces of a file that a region is read in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloudimg.tiff.geometry import PlaneShape
from cloudimg.tiff.ifd import Buffer

SegmentPlace = tuple[int, int, int, int, int]
"""Separate sample of a segment, its first depth, row and column in the page, and 0."""


@dataclass(frozen=True, slots=True)
class Page:
    """Where the segments of one page are stored."""

    offsets: Sequence[int]
    """Offset in bytes of each segment, or of the pixels if `is_plain`."""
    bytecounts: Sequence[int]
    """Size in bytes of each segment."""
    is_plain: bool
    """The whole page is one uncompressed C-order array at ``offsets[0]``."""
    jpegtables: bytes | None = None
    """Tables that all segments of the page share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLayout:
    """How pages divide into segments (tiles or strips), and how their pixels are stored."""

    plane_shape: PlaneShape
    """Separate samples, depth, height, width, contiguous samples of a page."""
    segment_shape: tuple[int, int, int]
    """Depth, height and width of a segment."""
    segment_grid: tuple[int, int, int, int]
    """Number of segments along separate samples, depth, height and width."""
    is_tiled: bool
    """Tiles at the edges are stored whole; the last strip is as short as the page requires."""
    is_compressed: bool
    has_reversed_bits: bool
    """The lowest bit of each byte is stored first (FillOrder 2)."""
    pixel_bits: int
    """Bits of the contiguous samples of one pixel, as stored."""
    dtype: np.dtype[Any]
    """Stored samples, in the byte order of the file."""

    @classmethod
    def of(cls, keyframe: Any, plane_shape: PlaneShape) -> PageLayout:
        """The layout that a `tifffile.TiffPage` declares."""
        if keyframe.is_tiled:
            segment_shape = keyframe.tiledepth, keyframe.tilelength, keyframe.tilewidth
        else:
            segment_shape = 1, min(keyframe.rowsperstrip, plane_shape[2]), keyframe.imagewidth
        grid = (math.ceil(n / m) for n, m in zip(plane_shape[1:4], segment_shape, strict=True))
        bits = keyframe.bitspersample
        return cls(
            plane_shape=plane_shape,
            segment_shape=segment_shape,
            segment_grid=(plane_shape[0], *grid),
            is_tiled=keyframe.is_tiled,
            is_compressed=keyframe.compression != 1,
            has_reversed_bits=keyframe.fillorder == 2,
            pixel_bits=sum(bits) if isinstance(bits, tuple) else bits * plane_shape[4],
            dtype=np.dtype(keyframe.parent.byteorder + keyframe.dtype.char),
        )

    @property
    def pixel_bytes(self) -> int:
        """Stored size of one pixel of a plain page."""
        return self.plane_shape[4] * self.dtype.itemsize

    def with_high_bits_first(self, data: Buffer) -> Buffer:
        """The bytes of a segment, each with its highest bit first."""
        if not self.has_reversed_bits:
            return data
        import imagecodecs

        return bytes(imagecodecs.bitorder_decode(bytes(data)))

    def segment_bytes(self, index: int) -> int:
        """Size of a segment before compression."""
        _, (depth, height, width, _) = self.segment_place(index)
        return depth * height * math.ceil(width * self.pixel_bits / 8)

    def segment_place(self, index: int) -> tuple[SegmentPlace, tuple[int, int, int, int]]:
        """Where a segment begins in its page, and its depth, height, width and samples."""
        _, n_deep, n_high, n_wide = self.segment_grid
        depth, height, width = self.segment_shape
        rest, column = divmod(index, n_wide)
        rest, row = divmod(rest, n_high)
        sample, deep = divmod(rest, n_deep)
        place = sample, deep * depth, row * height, column * width, 0
        if not self.is_tiled:
            height = min(height, self.plane_shape[2] - place[2])
        return place, (depth, height, width, self.plane_shape[4])


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a page that are fetched and decoded together."""

    start_bytes: int
    stop_bytes: int
    page: int
    """Number of the page."""
    page_index: tuple[int, ...]
    """Index of the page in the output, along the page axes."""


@dataclass(frozen=True, slots=True)
class FillPiece(Piece):
    """A page of which segments are not stored; it comes before the other pieces of its page.

    Holds no bytes (start = stop). The whole page is filled; stored segments then overwrite it.
    """


@dataclass(frozen=True, slots=True)
class SegmentPiece(Piece):
    """One stored segment."""

    segment: int
    """Index of the segment in its page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsPiece(Piece):
    """Rows of a plain page."""

    sample: int
    """Index of the separate sample."""
    depth: int
    rows: range
    columns: range
