"""One resolution level of one image of a TIFF: which bytes hold a region, and decoding them.

Planning is arithmetic over the offsets that the parser found; decoding is tifffile's own decoder
of a segment (tile or strip). Nothing here reads a file.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError
from cloudimg.settings import DecodeLimits
from cloudimg.tiff.decoding import JPEG, SegmentDecoder, truncated
from cloudimg.tiff.geometry import Geometry, Region, overlap
from cloudimg.tiff.sparse import Buffer

Array = npt.NDArray[Any]

_MAX_PIECE_BYTES = 8 * 2**20
_ROWS, _FILL = -1, -2
_SEGMENT_BYTES = 100
"""What Python needs for an offset and a byte count."""
_ROW_GAP_BYTES = 64 * 2**10
"""Below this distance two rows of an uncompressed image are fetched as one piece: 64 KiB take
less time than another request."""


@dataclass(frozen=True, slots=True)
class Page:
    """Where the segments of one page lie."""

    offsets: Sequence[int]
    """Offset in bytes of each segment; of the pixels themselves where `is_plain`."""
    bytecounts: Sequence[int]
    is_plain: bool
    """The whole page is one uncompressed C-order array at ``offsets[0]``."""
    jpegtables: bytes | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that are decoded together. An empty one (start = stop) comes before the others of its
    page and fills what they do not cover: sparse files store nothing there."""

    start_bytes: int
    stop_bytes: int
    page: int
    place: tuple[int, ...]
    """Index of the page in the output, along the page axes."""
    segment: int
    """Index of the segment in its page; -1 for rows of a plain page, -2 for a fill."""
    rows: tuple[int, int, int, int, int, int]
    """Separate sample, depth, first and last row, first and last column of a plain piece."""


class Level:
    """Pages of equal shape that make up one level.

    Parameters
    ----------
    geometry : Geometry
    pages : sequence of Page or None
        None for a page that the file does not have.
    keyframe : tifffile.TiffPage
        Speaks for the layout and the decoder of all pages.
    dtype : numpy.dtype
        Of the decoded pixels, in native byte order.
    url : str
        For messages.
    """

    def __init__(
        self,
        geometry: Geometry,
        pages: Sequence[Page | None],
        keyframe: Any,
        dtype: np.dtype[Any],
        url: str,
    ) -> None:
        self.geometry = geometry
        self.pages = pages
        self.dtype = dtype
        self._url = url
        self._keyframe = keyframe
        self._others: dict[int, Level] = {}
        self._segment_shape = (
            keyframe.tiledepth if keyframe.is_tiled else 1,
            keyframe.tilelength if keyframe.is_tiled else keyframe.rowsperstrip,
            keyframe.tilewidth if keyframe.is_tiled else keyframe.imagewidth,
        )
        samples, depth, height, width, _ = geometry.plane_shape
        self._segment_grid = (
            samples,
            *(
                math.ceil(n / s)
                for n, s in zip((depth, height, width), self._segment_shape, strict=True)
            ),
        )
        self._stored = np.dtype(keyframe.parent.byteorder + keyframe._dtype.char)
        tile = self._segment_shape if keyframe.is_tiled else (1, *self._strip_shape(keyframe))
        n_samples = geometry.plane_shape[4]
        self._decode = SegmentDecoder(keyframe, math.prod(tile) * n_samples * dtype.itemsize)

    @staticmethod
    def _strip_shape(keyframe: Any) -> tuple[int, int]:
        return min(keyframe.rowsperstrip, keyframe.imagelength), keyframe.imagewidth

    @property
    def is_bound(self) -> bool:
        """Whether decoding asks the file that was parsed for more (tables of JPEG)."""
        kinds = (self, *self._others.values())
        return any(kind._keyframe.compression in JPEG for kind in kinds)

    def has(self, page: int) -> bool:
        """Whether there is a page of that number, which is like all others of the level."""
        return page < len(self.pages) and self.pages[page] is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes of the image."""
        return self.geometry.shape

    @property
    def segment(self) -> tuple[int, ...]:
        """Shape of what is read together (tile, strip, page), in the axes of the image."""
        segment = [1] * len(self.shape)
        sizes = (1, *self._segment_shape, self.geometry.plane_shape[4])
        for axis, size in zip(self.geometry.plane_axes, sizes, strict=True):
            if axis is not None:
                segment[axis] = min(size, self.shape[axis])
        return tuple(segment)

    @property
    def held_bytes(self) -> int:
        """Memory that remembering it takes, about."""
        if not isinstance(self.pages, list):
            return 0  # they are computed
        return _SEGMENT_BYTES * sum(len(page.offsets) for page in self.pages if page is not None)

    def decode_by(self, page: int, other: Level) -> None:
        """Have a page that is stored otherwise than the first one read as one of another level."""
        self._others[page] = other

    def of(self, url: str) -> Level:
        """The same level of another file, whose header says the same."""
        twin = copy.copy(self)
        twin._url = url
        twin._others = {page: other.of(url) for page, other in self._others.items()}
        return twin

    def plan(self, region: Region) -> Iterator[Piece]:
        """Pieces that hold a region of the image.

        Raises
        ------
        CorruptFileError
            If the region lies in a page that the file does not have.
        """
        window = self.geometry.window(region)
        for number, place in self.geometry.pages(region):
            page = self.pages[number]
            if page is None:
                raise CorruptFileError(
                    f"page {number} of the image is not in the file {self._url}", url=self._url
                )
            kind = self._others.get(number, self)
            if page.is_plain:
                yield from kind._plan_rows(page, number, place, window)
            else:
                yield from kind._plan_segments(page, number, place, window)

    def _plan_rows(
        self, page: Page, number: int, place: tuple[int, ...], window: tuple[slice, ...]
    ) -> Iterator[Piece]:
        _, depth, height, width, contig = self.geometry.plane_shape
        samples, deep, high, wide, _ = window
        pixel_bytes = contig * self._stored.itemsize
        first, last = wide.start, wide.stop - (wide.stop - 1 - wide.start) % wide.step
        row_bytes = width * pixel_bytes
        per_piece = max(1, _MAX_PIECE_BYTES // (row_bytes * high.step))
        if row_bytes * high.step - (last - first) * pixel_bytes > _ROW_GAP_BYTES:
            per_piece = 1
        rows = range(high.start, high.stop, high.step)
        for s in range(samples.start, samples.stop, samples.step):
            for d in range(deep.start, deep.stop, deep.step):
                origin = page.offsets[0] + (s * depth + d) * height * row_bytes
                for i in range(0, len(rows), per_piece):
                    top, bottom = rows[i], rows[min(i + per_piece, len(rows)) - 1] + 1
                    yield Piece(
                        origin + top * row_bytes + first * pixel_bytes,
                        origin + (bottom - 1) * row_bytes + last * pixel_bytes,
                        number,
                        place,
                        _ROWS,
                        (s, d, top, bottom, first, last),
                    )

    def _plan_segments(
        self, page: Page, number: int, place: tuple[int, ...], window: tuple[slice, ...]
    ) -> Iterator[Piece]:
        samples, *spatial, _ = window
        touched = [_touched(w, n) for w, n in zip(spatial, self._segment_shape, strict=True)]
        _, n_deep, n_high, n_wide = self._segment_grid
        stored = []
        has_holes = False
        for s in range(samples.start, samples.stop, samples.step):
            for d in touched[0]:
                for h in touched[1]:
                    for w in touched[2]:
                        index = ((s * n_deep + d) * n_high + h) * n_wide + w
                        start, stop = self._range(page, number, index, h)
                        if start == stop:
                            has_holes = True
                        else:
                            corner = (s, d, h, h, w, w)
                            stored.append(Piece(start, stop, number, place, index, corner))
        if has_holes:
            yield Piece(0, 0, number, place, _FILL, (0,) * 6)
        yield from stored

    def _range(self, page: Page, number: int, index: int, h: int) -> tuple[int, int]:
        """Bytes of a segment; empty where nothing is stored."""
        offset = page.offsets[index] if index < len(page.offsets) else 0
        if offset == 0:
            return 0, 0
        if index < len(page.bytecounts):
            return offset, offset + page.bytecounts[index]
        if self._keyframe.compression != 1:
            raise CorruptFileError(
                f"page {number} of {self._url} has {len(page.offsets)} segments, but byte counts of"
                f" only {len(page.bytecounts)}",
                url=self._url,
            )
        return offset, offset + self._stored_bytes(h)  # as libtiff does

    def _stored_bytes(self, number: int) -> int:
        """Size of a segment before compression; `number` counts segments along the height."""
        depth, height, width = self._segment_shape
        if not self._keyframe.is_tiled:
            height = min(height, self.geometry.plane_shape[2] - number * height)
        bits = self._keyframe.bitspersample
        samples = self.geometry.plane_shape[4]
        per_pixel = sum(bits) if isinstance(bits, tuple) else bits * samples
        return int(depth * height * math.ceil(width * per_pixel / 8))

    def place(
        self, piece: Piece, data: Buffer, region: Region, out: Array, limits: DecodeLimits
    ) -> None:
        """Decode a piece into the output.

        Parameters
        ----------
        piece : Piece
        data : bytes
            The bytes of the piece; fewer where the file ends.
        region : tuple of slice
            What was planned.
        out : ndarray
            Shape of the region, any strides.
        limits : DecodeLimits
        """
        if piece.page in self._others:
            self._others[piece.page].place(piece, data, region, out, limits)
            return
        target = self._plane_of(out, piece.place)
        window = self.geometry.window(region)
        if piece.segment == _FILL:
            self._decode.check(self._url)
            target[...] = self._keyframe.nodata
        elif piece.segment == _ROWS:
            self._place_rows(piece, data, window, target)
        else:
            self._place_segment(piece, data, window, target, limits)

    def _plane_of(self, out: Array, place: tuple[int, ...]) -> Array:
        """The five-axis view of one page in the output."""
        index: list[Any] = [slice(None)] * out.ndim
        for axis, i in zip(self.geometry.page_axes, place, strict=True):
            index[axis] = slice(i, i + 1)
        # Squeezed, not indexed by integers: a page of one pixel must stay a view.
        plane = out[tuple(index)].squeeze(self.geometry.page_axes)
        missing = [k for k, axis in enumerate(self.geometry.plane_axes) if axis is None]
        return np.expand_dims(plane, tuple(missing))

    def _place_rows(
        self, piece: Piece, data: Buffer, window: tuple[slice, ...], target: Array
    ) -> None:
        s, d, top, bottom, first, last = piece.rows
        _, _, _, width, contig = self.geometry.plane_shape
        pixel_bytes = contig * self._stored.itemsize
        if len(data) < piece.stop_bytes - piece.start_bytes:
            raise truncated(self._url, (piece.start_bytes, piece.stop_bytes), len(data))
        shape = (bottom - top, last - first, contig)
        strides = (width * pixel_bytes, pixel_bytes, self._stored.itemsize)
        rows: Array = np.ndarray(shape, self._stored, data, 0, strides)
        if self._keyframe.fillorder == 2:
            rows = self._bits_reversed(rows)
        s_index, d_index = _index_in(window[0], s), _index_in(window[1], d)
        self._copy(rows, (top, first), window, target[s_index, d_index])

    def _copy(
        self, rows: Array, corner: tuple[int, int], window: tuple[slice, ...], target: Array
    ) -> None:
        """Copy height x width x contiguous samples to where they belong in the window."""
        high = overlap(window[2], corner[0], corner[0] + rows.shape[0])
        wide = overlap(window[3], corner[1], corner[1] + rows.shape[1])
        if high is not None and wide is not None:
            target[high[1], wide[1]] = rows[high[0], wide[0], window[4]]

    def _bits_reversed(self, rows: Array) -> Array:
        """Rows as they are where each byte is stored with its lowest bit first."""
        import imagecodecs

        reversed_rows: Array = imagecodecs.bitorder_decode(np.ascontiguousarray(rows))
        return reversed_rows

    def _place_segment(
        self,
        piece: Piece,
        data: Buffer,
        window: tuple[slice, ...],
        target: Array,
        limits: DecodeLimits,
    ) -> None:
        if len(data) == 0:
            raise truncated(self._url, (piece.start_bytes, piece.stop_bytes), 0)
        page = self.pages[piece.page]
        decoded, (s, d, h, w, _), shape = self._decode(
            data,
            piece.segment,
            jpegtables=page.jpegtables if page is not None else None,
            stored_bytes=self._stored_bytes(piece.rows[2]),
            page=piece.page,
            limit_bytes=limits.segment_bytes,
            url=self._url,
            byte_range=(piece.start_bytes, piece.stop_bytes),
        )
        _, depth, height, width, samples = self.geometry.plane_shape
        shape = (min(shape[0], depth - d), min(shape[1], height - h), min(shape[2], width - w))
        needed = (*shape, samples)
        if decoded.ndim < 4 or any(h < n for h, n in zip(decoded.shape, needed, strict=True)):
            raise CorruptFileError(
                f"segment {piece.segment} of page {piece.page} of {self._url} decodes to shape"
                f" {decoded.shape}, not to {needed}",
                url=self._url,
                byte_range=(piece.start_bytes, piece.stop_bytes),
            )
        deep = overlap(window[1], d, d + shape[0])
        if deep is None:
            return
        planes = target[_index_in(window[0], s)]
        for source, destination in zip(
            range(deep[0].start, deep[0].stop, deep[0].step),
            range(deep[1].start, deep[1].stop),
            strict=True,
        ):
            rows = decoded[source, : shape[1], : shape[2]]
            self._copy(rows, (h, w), window, planes[destination])


def _index_in(window: slice, position: int) -> int:
    return int((position - window.start) // window.step)


def _touched(window: slice, length: int) -> Sequence[int]:
    """Segments of an axis that hold something of a window."""
    between = range(window.start // length, -(-window.stop // length))
    if window.step <= length:
        return between
    return [k for k in between if overlap(window, k * length, (k + 1) * length)]
