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

from cloudimg.errors import CorruptFileError, UnsupportedFormatError
from cloudimg.tiff.geometry import Geometry, Region, overlap
from cloudimg.tiff.sparse import Buffer

Array = npt.NDArray[Any]

_MAX_PIECE_BYTES = 8 * 2**20
_ROW_GAP_BYTES = 64 * 2**10
"""Below this distance two rows of an uncompressed image are fetched as one piece: 64 KiB take
less time than another request."""
_JPEG = {6, 7, 34892, 33007}


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
    """Bytes that are decoded together; empty (start = stop) where the file stores nothing."""

    start_bytes: int
    stop_bytes: int
    page: int
    place: tuple[int, ...]
    """Index of the page in the output, along the page axes."""
    segment: int
    """Index of the segment in its page; -1 for rows of a plain page."""
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
        self._decode = keyframe.decode

    @property
    def is_bound(self) -> bool:
        """Whether decoding asks the file that was parsed for more (tables of JPEG)."""
        return self._keyframe.compression in _JPEG

    def of(self, url: str) -> Level:
        """The same level of another file, whose header says the same."""
        twin = copy.copy(self)
        twin._url = url
        return twin

    @property
    def segment_shape(self) -> tuple[int, int, int]:
        """Depth, height and width of a tile or strip."""
        return self._segment_shape

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
            if page.is_plain:
                yield from self._plan_rows(page, number, place, window)
            else:
                yield from self._plan_segments(page, number, place, window)

    def _plan_rows(
        self, page: Page, number: int, place: tuple[int, ...], window: tuple[slice, ...]
    ) -> Iterator[Piece]:
        _, depth, height, width, contig = self.geometry.plane_shape
        samples, deep, high, wide, _ = window
        pixel_bytes = contig * self._stored.itemsize
        first, last = wide.start, wide.stop - (wide.stop - 1 - wide.start) % wide.step
        if self._keyframe.predictor != 1:
            first, last = 0, width  # differences run over the whole row
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
                        -1,
                        (s, d, top, bottom, first, last),
                    )

    def _plan_segments(
        self, page: Page, number: int, place: tuple[int, ...], window: tuple[slice, ...]
    ) -> Iterator[Piece]:
        samples, *spatial, _ = window
        touched = [
            # With a step some segments between may hold nothing that is wanted.
            [k for k in range(w.start // n, -(-w.stop // n)) if overlap(w, k * n, (k + 1) * n)]
            for w, n in zip(spatial, self._segment_shape, strict=True)
        ]
        _, n_deep, n_high, n_wide = self._segment_grid
        known = min(len(page.offsets), len(page.bytecounts))
        for s in range(samples.start, samples.stop, samples.step):
            for d in touched[0]:
                for h in touched[1]:
                    for w in touched[2]:
                        index = ((s * n_deep + d) * n_high + h) * n_wide + w
                        offset = page.offsets[index] if index < known else 0
                        count = page.bytecounts[index] if offset and index < known else 0
                        yield Piece(
                            offset, offset + count, number, place, index, (s, d, h, h, w, w)
                        )

    def place(self, piece: Piece, data: Buffer, region: Region, out: Array) -> None:
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
        """
        target = self._plane_of(out, piece.place)
        window = self.geometry.window(region)
        if piece.segment < 0:
            self._place_rows(piece, data, window, target)
        else:
            self._place_segment(piece, data, window, target)

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
            raise self._truncated(piece, len(data))
        shape = (bottom - top, last - first, contig)
        strides = (width * pixel_bytes, pixel_bytes, self._stored.itemsize)
        rows: Array = np.ndarray(shape, self._stored, data, 0, strides)
        if self._keyframe.fillorder == 2 or self._keyframe.predictor != 1:
            rows = self._unpredicted(rows)
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

    def _unpredicted(self, rows: Array) -> Array:
        """Undo bit order and predictor of uncompressed rows, as tifffile does."""
        import imagecodecs
        import tifffile

        rows = np.ascontiguousarray(rows)
        if self._keyframe.fillorder == 2:
            rows = imagecodecs.bitorder_decode(rows)
        predictor = self._keyframe.predictor
        if predictor == 1:
            return rows
        native = rows.astype(self._stored.newbyteorder("="))
        decoded: Array = tifffile.TIFF.UNPREDICTORS[predictor](native, axis=-2)
        return decoded

    def _place_segment(
        self, piece: Piece, data: Buffer, window: tuple[slice, ...], target: Array
    ) -> None:
        encoded = None if piece.start_bytes == piece.stop_bytes else data
        if encoded is not None and len(encoded) == 0:
            raise self._truncated(piece, 0)
        decoded, (s, d, h, w, _), shape = self._decoded(piece, encoded)
        _, depth, height, width, _ = self.geometry.plane_shape
        shape = (min(shape[0], depth - d), min(shape[1], height - h), min(shape[2], width - w))
        if decoded is None:
            samples = target.shape[-1]
            decoded = np.broadcast_to(self._keyframe.nodata, (*shape, samples))
            window = (*window[:4], slice(0, samples, 1))
        elif any(have < need for have, need in zip(decoded.shape, shape, strict=False)):
            raise CorruptFileError(
                f"segment {piece.segment} of page {piece.page} of {self._url} decodes to shape"
                f" {decoded.shape}, not to {shape}",
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

    def _decoded(self, piece: Piece, encoded: Buffer | None) -> Any:
        page = self.pages[piece.page]
        extra: dict[str, Any] = {}
        if self._keyframe.compression in _JPEG:
            extra["jpegtables"] = page.jpegtables if page is not None else None
            extra["jpegheader"] = self._keyframe.jpegheader
        if (
            encoded is not None
            and self._keyframe.compression == 1
            and self._keyframe.predictor != 1
        ):
            encoded = memoryview(bytearray(encoded))  # the predictor is undone in place
        try:
            return self._decode(encoded, piece.segment, **extra)
        except (NotImplementedError, ImportError) as exc:
            raise UnsupportedFormatError(
                f"{self._url} cannot be decoded: {exc}", url=self._url
            ) from None
        except Exception as exc:  # noqa: BLE001 - each codec has its own errors; all are told
            got = 0 if encoded is None else len(encoded)
            if got < piece.stop_bytes - piece.start_bytes:
                raise self._truncated(piece, got) from None
            kind = UnsupportedFormatError if "not supported" in str(exc) else CorruptFileError
            raise kind(
                f"segment {piece.segment} of page {piece.page} of {self._url} does not decode"
                f" ({self._keyframe.compression!r}): {type(exc).__name__}: {exc}",
                url=self._url,
                byte_range=(piece.start_bytes, piece.stop_bytes),
            ) from None

    def _truncated(self, piece: Piece, got_bytes: int) -> CorruptFileError:
        return CorruptFileError(
            f"{self._url} ends too early: its header places pixels at bytes"
            f" {piece.start_bytes}-{piece.stop_bytes}, of which {got_bytes} exist",
            url=self._url,
            byte_range=(piece.start_bytes, piece.stop_bytes),
        )


def _index_in(window: slice, position: int) -> int:
    return int((position - window.start) // window.step)
