"""Decoding one segment with tifffile: limits checked before, a retry after, errors translated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy.typing as npt

from cloudimg.errors import (
    CorruptFileError,
    LimitError,
    TruncatedFileError,
    UnsupportedFormatError,
)
from cloudimg.tiff.codec_sizes import SegmentSizes
from cloudimg.tiff.compressions import ANY_JPEG
from cloudimg.tiff.decoders import find_decoder
from cloudimg.tiff.excess import ExcessError, SegmentSize, refuse_excess, without_excess
from cloudimg.tiff.ifd import Buffer, Range
from cloudimg.tiff.in_place import InPlaceDecoder, is_possible
from cloudimg.tiff.malformed import MALFORMED, is_bug
from cloudimg.tiff.pieces import PageLayout, SegmentPiece
from cloudimg.tiff.placing import Window
from cloudimg.tiff.stream_end import IncompleteError, decode_all

Array = npt.NDArray[Any]

_ROWS_PER_STRIP = 278
_ANY_ROWS = 2**31
"""RowsPerStrip is 2^32 - 1 by default, which is infinity (TIFF 6.0, section 8)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSegment:
    """A tile or strip as stored in the file."""

    data: Buffer
    """Stored bytes; fewer than `byte_range` if the file ends there."""
    index: int
    """Index of the segment in its page."""
    page: int
    """Number of the page."""
    jpegtables: bytes | None
    """Tables that the segments of a page share."""
    uncompressed_bytes: int
    """Size before compression, as the layout of the page implies."""
    url: str
    byte_range: Range
    """Bytes of the file that hold the segment, as the header declares."""

    @property
    def name(self) -> str:
        """Name for messages."""
        return f"segment {self.index} of page {self.page} of {self.url}"


class SegmentDecoder:
    """Decoder of the segments of all pages with the layout of one keyframe.

    Parameters
    ----------
    keyframe : tifffile.TiffPage
    layout : PageLayout
    segment_bytes : int
        Size of a decoded segment.
    """

    def __init__(self, keyframe: Any, layout: PageLayout, segment_bytes: int) -> None:
        self._keyframe = keyframe
        self._decode = find_decoder(keyframe)
        self._compression = keyframe.compression
        self._jpegheader = keyframe.jpegheader
        self._sizes = SegmentSizes(keyframe, layout)
        self._layout = layout
        self._rows_per_strip = _rows_per_strip(keyframe, layout)
        self._segment_bytes = segment_bytes
        pixel_bytes = layout.plane_shape[4] * layout.dtype.itemsize
        self._is_packed = layout.pixel_bits < 8 * pixel_bytes and not layout.has_reversed_bits

    def __call__(self, segment: EncodedSegment, limit_bytes: int) -> Any:
        """Decode one segment.

        Returns
        -------
        tuple
            See `tifffile.TiffPage.decode`.

        Raises
        ------
        CorruptFileError, UnsupportedFormatError
        LimitError
            The segment would decode to more than `limit_bytes`.
        """
        self._check_size(segment, limit_bytes)
        n_declared = segment.byte_range[1] - segment.byte_range[0]
        try:
            decode = partial(self._decode_or_retry, segment)
            return decode_all(decode, segment.data, n_declared, int(self._compression))
        except (NotImplementedError, ImportError) as exc:
            raise UnsupportedFormatError(
                f"{segment.url} cannot be decoded: {exc}", url=segment.url
            ) from exc
        except MALFORMED as exc:
            if is_bug(exc):
                raise
            if len(segment.data) < n_declared:
                raise truncated(segment.url, segment.byte_range, len(segment.data)) from exc
            if isinstance(exc, IncompleteError | ExcessError):
                raise _contradicting(segment, exc) from exc
            kind = UnsupportedFormatError if "not supported" in str(exc) else CorruptFileError
            raise kind(
                f"{segment.name} cannot be decoded ({self._compression!r}):"
                f" {type(exc).__name__}: {exc}",
                url=segment.url,
                byte_range=segment.byte_range,
            ) from exc

    def place(
        self,
        data: Buffer,
        piece: SegmentPiece,
        limit_bytes: int,
        window: Window,
        target: Array,
    ) -> bool:
        """Decode an intact segment straight into a window, see `InPlaceDecoder.place`."""
        is_whole = len(data) == piece.stop_bytes - piece.start_bytes
        if not is_whole or self._segment_bytes > limit_bytes or self._in_place is None:
            return False
        return self._in_place.place(data, piece.segment, window, target)

    @cached_property
    def _in_place(self) -> InPlaceDecoder | None:
        """None where tifffile has more to do, or refuses the page."""
        keyframe, layout = self._keyframe, self._layout
        if not is_possible(keyframe, layout) or self._decode is not keyframe.decode:
            return None
        try:
            self._decode(None, 0)
        except MALFORMED:
            return None
        return InPlaceDecoder(keyframe, layout)

    def check(self, url: str, limit_bytes: int) -> None:
        """Refuse pages that could not be decoded, even where nothing is stored.

        Raises
        ------
        UnsupportedFormatError
        LimitError
            A segment has more than `limit_bytes`: what is filled is bounded like what is decoded.
        """
        self._check_limit(f"a segment of {url} that is not stored", limit_bytes, url)
        try:
            self._decode(None, 0)
        except (*MALFORMED, ImportError) as exc:
            if is_bug(exc):
                raise
            raise UnsupportedFormatError(f"{url} cannot be decoded: {exc}", url=url) from exc

    def _decode_or_retry(self, segment: EncodedSegment, data: Buffer) -> Any:
        options: dict[str, Any] = {}
        if self._compression in ANY_JPEG:
            options = {"jpegtables": segment.jpegtables, "jpegheader": self._jpegheader}
        try:
            if self._is_packed:
                refuse_excess(int(self._compression), data, segment.uncompressed_bytes)
            return self._decode(data, segment.index, **options)
        except MALFORMED:
            enough = without_excess(int(self._compression), data, self._size(segment))
            if enough is None:
                raise
            return self._decode(enough, segment.index, **options)

    def _size(self, segment: EncodedSegment) -> SegmentSize:
        _, (depth, height, width, _) = self._layout.segment_place(segment.index)
        row_bytes = math.ceil(width * self._layout.pixel_bits / 8)
        n_rows = depth * (height if self._layout.is_tiled else self._rows_per_strip)
        return SegmentSize(segment.uncompressed_bytes, n_rows, row_bytes)

    def _check_size(self, segment: EncodedSegment, limit_bytes: int) -> None:
        """Refuse segments whose header, or that of the file, declares gigabytes."""
        what = f"{segment.name}, of {len(segment.data)} stored bytes,"
        self._check_limit(what, limit_bytes, segment.url, segment.byte_range)
        problem = self._sizes.problem(segment.data, segment.index, self._segment_bytes)
        if problem:
            raise CorruptFileError(
                f"{segment.name} is not decoded: {problem}",
                url=segment.url,
                byte_range=segment.byte_range,
            )

    def _check_limit(
        self, what: str, limit_bytes: int, url: str, byte_range: Range | None = None
    ) -> None:
        if self._segment_bytes > limit_bytes:
            raise LimitError(
                f"{what} has {self._segment_bytes} bytes of pixels by the header, more than the"
                f" limit of {limit_bytes}; set CLOUDIMG_MAX_SEGMENT_BYTES higher if you trust the"
                " file",
                url=url,
                byte_range=byte_range,
            )


def truncated(url: str, byte_range: Range, n_bytes: int) -> TruncatedFileError:
    """The error for pixels beyond the end of a file, of which `n_bytes` exist."""
    return TruncatedFileError(
        f"{url} ends too early: its header places pixels at bytes {byte_range[0]}-{byte_range[1]},"
        f" of which {n_bytes} exist; copy the file again from where it was written",
        url=url,
        byte_range=byte_range,
    )


def _rows_per_strip(keyframe: Any, layout: PageLayout) -> int:
    """What the header says, even if the page has fewer rows; by default all rows of the page."""
    stated = keyframe.tags.valueof(_ROWS_PER_STRIP)
    rows = layout.segment_shape[1]
    return max(rows, stated) if isinstance(stated, int) and stated < _ANY_ROWS else rows


def _contradicting(segment: EncodedSegment, problem: Exception) -> CorruptFileError:
    """The error for a segment with fewer pixels than its place in the page, or with more."""
    if isinstance(problem, ExcessError):
        return CorruptFileError(
            f"{segment.name} contradicts the header: its {len(segment.data)} bytes {problem}",
            url=segment.url,
            byte_range=segment.byte_range,
        )
    return CorruptFileError(
        f"{segment.name} is incomplete: its {len(segment.data)} bytes {problem}; copy the file"
        " again from where it was written",
        url=segment.url,
        byte_range=segment.byte_range,
    )
