"""Which bytes of a page hold a window of it: arithmetic over the offsets that the parser read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from cloudimg.errors import CorruptFileError
from cloudimg.tiff.geometry import overlap
from cloudimg.tiff.ifd import Range
from cloudimg.tiff.pieces import FillPiece, Page, PageLayout, Piece, RowsPiece, SegmentPiece

_MAX_PIECE_BYTES = 2**20
"""Of the rows of an uncompressed page; pieces that follow one another are fetched together."""
ROW_GAP_BYTES = 64 * 2**10
"""Rows of an uncompressed page that are closer than this are fetched as one piece: reading 64 KiB
takes less time than another request."""


@dataclass(frozen=True, slots=True)
class PagePlan:
    """The part of one page to read for a region of the image."""

    page: Page
    number: int
    """Number of the page."""
    index: tuple[int, ...]
    """Index of the page in the output, along the page axes."""
    window: tuple[slice, ...]
    """Window in the page: separate samples, depth, height, width, contiguous samples."""
    url: str

    def pieces(self, layout: PageLayout) -> Iterator[Piece]:
        """Pieces that hold the window.

        Raises
        ------
        CorruptFileError
            The size of a segment is unknown.
        """
        return self._rows(layout) if self.page.is_plain else self._segments(layout)

    def _rows(self, layout: PageLayout) -> Iterator[Piece]:
        _, depth, height, width, _ = layout.plane_shape
        samples, deep, high, wide, _ = self.window
        columns = range(wide.start, wide.stop - (wide.stop - 1 - wide.start) % wide.step)
        row_bytes = width * layout.pixel_bytes
        per_piece = max(1, _MAX_PIECE_BYTES // (row_bytes * high.step))
        if row_bytes * high.step - len(columns) * layout.pixel_bytes > ROW_GAP_BYTES:
            per_piece = 1
        rows = _positions(high)
        for sample, d in product(_positions(samples), _positions(deep)):
            origin = self.page.offsets[0] + (sample * depth + d) * height * row_bytes
            for i in range(0, len(rows), per_piece):
                top, bottom = rows[i], rows[min(i + per_piece, len(rows)) - 1] + 1
                yield RowsPiece(
                    start_bytes=origin + top * row_bytes + columns.start * layout.pixel_bytes,
                    stop_bytes=origin
                    + (bottom - 1) * row_bytes
                    + columns.stop * layout.pixel_bytes,
                    page=self.number,
                    page_index=self.index,
                    sample=sample,
                    depth=d,
                    rows=range(top, bottom),
                    columns=columns,
                )

    def _segments(self, layout: PageLayout) -> Iterator[Piece]:
        samples, *spatial, _ = self.window
        _, n_deep, n_high, n_wide = layout.segment_grid
        axes = [_touched(w, n) for w, n in zip(spatial, layout.segment_shape, strict=True)]
        stored = []
        has_holes = False
        for s, d, h, w in product(_positions(samples), *axes):
            segment = ((s * n_deep + d) * n_high + h) * n_wide + w
            start, stop = self._segment_range(segment, layout)
            if start == stop:
                has_holes = True
            else:
                stored.append(SegmentPiece(start, stop, self.number, self.index, segment))
        if has_holes:
            yield FillPiece(0, 0, self.number, self.index)
        yield from stored

    def _segment_range(self, segment: int, layout: PageLayout) -> Range:
        """Bytes of a segment; empty if it is not stored."""
        offsets, bytecounts = self.page.offsets, self.page.bytecounts
        offset = offsets[segment] if segment < len(offsets) else 0
        if offset == 0:
            return 0, 0
        if segment < len(bytecounts):
            return offset, offset + bytecounts[segment]
        if layout.is_compressed:
            raise CorruptFileError(
                f"page {self.number} of {self.url} has {len(offsets)} segments, but byte counts"
                f" for only {len(bytecounts)} of them",
                url=self.url,
            )
        return offset, offset + layout.segment_bytes(segment)  # as libtiff does


def _positions(window: slice) -> range:
    return range(window.start, window.stop, window.step)


def _touched(window: slice, length: int) -> Sequence[int]:
    """Indices of the segments along an axis that meet a window."""
    between = range(window.start // length, -(-window.stop // length))
    if window.step <= length:
        return between
    return [k for k in between if overlap(window, k * length, (k + 1) * length)]
