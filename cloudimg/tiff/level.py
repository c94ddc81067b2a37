"""One resolution level of one image of a TIFF: which bytes hold a region, and decoding them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError
from cloudimg.tiff.compressions import ANY_JPEG
from cloudimg.tiff.decoding import EncodedSegment, SegmentDecoder, truncated
from cloudimg.tiff.extent import Beyond, find_beyond
from cloudimg.tiff.fill_values import fill_value
from cloudimg.tiff.geometry import Geometry, Region
from cloudimg.tiff.ifd import Buffer
from cloudimg.tiff.limits import DecodeLimits
from cloudimg.tiff.pieces import FillPiece, Page, PageLayout, Piece, RowsPiece, SegmentPiece
from cloudimg.tiff.placing import Window, place_rows, place_segment, plane_of
from cloudimg.tiff.planning import PagePlan
from cloudimg.tiff.surplus import Surplus, find_surplus

Array = npt.NDArray[Any]

_FEW_PIECES = 64
"""A plan with no more pieces is kept for the next file, which often has an equal header."""
_SEGMENT_BYTES = 100
"""Memory that Python needs for an offset and a byte count."""


class Level:
    """One level of a TIFF image: pages of equal shape.

    Parameters
    ----------
    geometry : Geometry
    pages : sequence of Page or None
        None for a page that the file does not contain.
    keyframe : tifffile.TiffPage
        Defines the layout and the decoder of all pages.
    dtype : numpy.dtype
        Type of the decoded pixels, in native byte order.
    url : str
        URL of the file, for messages.
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
        self.dtype = np.dtype(dtype.str)  # NumPy has two types of 64 bits, and Zarr knows one
        self._url = url
        self._keyframe = keyframe
        self._variants: dict[int, Level] = {}
        self._fill_value = fill_value(keyframe)
        self._layout = PageLayout.of(keyframe, geometry.plane_shape)
        n_pixels = math.prod(self._layout.segment_shape)
        segment_bytes = n_pixels * geometry.plane_shape[4] * dtype.itemsize
        self._decode = SegmentDecoder(keyframe, self._layout, segment_bytes)
        self._planned: list[tuple[Region, list[Piece]]] = []
        """The region planned last, and its pieces, of this level and those of equal headers."""

    @property
    def is_bound(self) -> bool:
        """Whether decoding reads more of the file that was parsed (JPEG tables)."""
        variants = (self, *self._variants.values())
        return any(variant._keyframe.compression in ANY_JPEG for variant in variants)

    @property
    def only_page(self) -> tuple[Any, Page] | None:
        """The page of a level that has only one, as `tifffile.TiffPage` and as `Page`."""
        pages = self.pages
        page = pages[0] if isinstance(pages, list) and len(pages) == 1 else None
        return None if page is None or self._variants else (self._keyframe, page)

    def has(self, page: int) -> bool:
        """Whether the level contains the page with this number."""
        return page < len(self.pages) and self.pages[page] is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes of the image."""
        return self.geometry.shape

    @property
    def segment(self) -> tuple[int, ...]:
        """Shape of what is read together (tile, strip, page), in the axes of the image."""
        segment = [1] * len(self.shape)
        sizes = (1, *self._layout.segment_shape, self.geometry.plane_shape[4])
        for axis, size in zip(self.geometry.plane_axes, sizes, strict=True):
            if axis is not None:
                segment[axis] = min(size, self.shape[axis])
        return tuple(segment)

    @property
    def pixel_bytes(self) -> int | None:
        """See `AnyLevel.pixel_bytes`."""
        first = self.pages[0] if self.pages else None
        return self._layout.pixel_bytes if first is not None and first.is_plain else 0

    @property
    def held_bytes(self) -> int:
        """Approximate size in memory."""
        if not isinstance(self.pages, list):
            return 0  # they are computed on access
        return _SEGMENT_BYTES * sum(len(page.offsets) for page in self.pages if page is not None)

    def beyond(self, size_bytes: int) -> Beyond:
        """Segments that are beyond the end of a file of this size."""
        return find_beyond(
            self.pages, lambda page: self._variants.get(page, self)._layout, size_bytes
        )

    def surplus(self) -> Surplus | None:
        """Segments of the first page that has more of them than its sizes need."""
        return find_surplus(self.pages, lambda page: self._variants.get(page, self)._layout)

    def decode_by(self, page: int, other: Level) -> None:
        """Decode a page that is stored differently from the first one as another level does."""
        self._variants[page] = other

    def of(self, url: str) -> Level:
        """The same level of another file with an identical header."""
        twin = object.__new__(Level)  # faster than `copy.copy`
        twin.__dict__.update(self.__dict__)
        twin._url = url
        twin._variants = {page: other.of(url) for page, other in self._variants.items()}
        return twin

    def with_segments(self, url: str, offsets: Sequence[int], counts: Sequence[int]) -> Level:
        """The same level of another file, whose only page has its segments elsewhere."""
        twin = self.of(url)
        twin._planned = []
        twin.pages = [Page(offsets, counts, is_plain=False)]
        return twin

    def plan(self, region: Region) -> Iterable[Piece]:
        """Pieces that hold a region of the image.

        Raises
        ------
        CorruptFileError
            The region includes a page that the file does not contain.
        """
        planned = self._planned[-1:]
        if planned and planned[0][0] == region:
            return planned[0][1]
        if self.geometry.n_pages > 1:
            return self._pieces(region)
        pieces = list(self._pieces(region))
        if len(pieces) <= _FEW_PIECES:
            self._planned[:] = [(region, pieces)]
        return pieces

    def _pieces(self, region: Region) -> Iterator[Piece]:
        window = self.geometry.window(region)
        for number, index in self.geometry.pages(region):
            page = self.pages[number]
            if page is None:
                raise CorruptFileError(
                    f"page {number} of the image is not in the file {self._url}", url=self._url
                )
            plan = PagePlan(page, number, index, window, self._url)
            yield from plan.pieces(self._variants.get(number, self)._layout)

    def placer(
        self, region: Region, out: Array, limits: DecodeLimits
    ) -> Callable[[Piece, Buffer], None]:
        """Return a thread-safe function that decodes a piece into the output.

        It is called with a piece and its bytes; there are fewer if the file ends within the piece.

        Parameters
        ----------
        region : tuple of slice
            The region that was planned.
        out : ndarray
            Array with the shape of the region, any strides.
        limits : DecodeLimits
        """
        last: tuple[tuple[int, ...] | None, Window, Array] = None, (), out

        def place(piece: Piece, data: Buffer) -> None:
            nonlocal last
            level = self._variants.get(piece.page, self)
            index, window, target = last  # at once, because other threads set it too
            if index != piece.page_index:
                window = level.geometry.window(region)
                target = plane_of(out, level.geometry, piece.page_index)
                last = piece.page_index, window, target
            level._place(piece, data, window, target, limits)

        return place

    def _place(
        self, piece: Piece, data: Buffer, window: Window, target: Array, limits: DecodeLimits
    ) -> None:
        """Decode a piece into the pixels of the window in its page."""
        match piece:
            case FillPiece():
                self._decode.check(self._url, limits.segment_bytes)
                target[...] = self._fill_value
            case RowsPiece():
                if len(data) < piece.stop_bytes - piece.start_bytes:
                    byte_range = piece.start_bytes, piece.stop_bytes
                    raise truncated(self._url, byte_range, len(data))
                place_rows(piece, data, self._layout, window, target)
            case SegmentPiece():
                if not self._decode.place(data, piece, limits.segment_bytes, window, target):
                    pixels, corner = self._decoded(piece, data, limits)
                    place_segment(pixels, corner, window, target)

    def _decoded(
        self, piece: SegmentPiece, data: Buffer, limits: DecodeLimits
    ) -> tuple[Array, tuple[int, int, int, int]]:
        """Pixels of a segment within its page, and where in the page they begin."""
        byte_range = piece.start_bytes, piece.stop_bytes
        if len(data) == 0:
            raise truncated(self._url, byte_range, 0)
        page = self.pages[piece.page]
        segment = EncodedSegment(
            data=data,
            index=piece.segment,
            page=piece.page,
            jpegtables=page.jpegtables if page is not None else None,
            uncompressed_bytes=self._layout.segment_bytes(piece.segment),
            url=self._url,
            byte_range=byte_range,
        )
        decoded, (*corner, _), shape = self._decode(segment, limits.segment_bytes)
        _, depth, height, width, samples = self.geometry.plane_shape
        _, d, h, w = corner
        shape = min(shape[0], depth - d), min(shape[1], height - h), min(shape[2], width - w)
        needed = (*shape, samples)
        if decoded.ndim != 4 or any(n < m for n, m in zip(decoded.shape, needed, strict=True)):
            raise CorruptFileError(
                f"{segment.name} decodes to shape {decoded.shape}, expected {needed}",
                url=self._url,
                byte_range=byte_range,
            )
        is_wider = self.dtype == np.bool_ != decoded.dtype and decoded.max(initial=0) > 1
        if is_wider or decoded.dtype.itemsize > self.dtype.itemsize:
            raise CorruptFileError(
                f"{segment.name} decodes to {decoded.dtype} samples, but its page has {self.dtype}",
                url=self._url,
                byte_range=byte_range,
            )
        return decoded[: shape[0], : shape[1], : shape[2]], tuple(corner)
