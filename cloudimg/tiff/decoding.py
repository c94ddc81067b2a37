"""Decoding one segment with tifffile: limits checked before, a retry after, errors translated."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

from cloudimg.errors import CorruptFileError, LimitError, UnsupportedFormatError
from cloudimg.formats.sizes import jpeg_frame
from cloudimg.tiff.ifd import Buffer, Range
from cloudimg.tiff.malformed import MALFORMED, is_bug

JPEG = {6, 7, 34892, 33007}
"""Values of Compression for JPEG and its variants."""
_DEFLATE = {8, 32946, 50013}
_MOST_EXCESS_BYTES = 2**20


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
    segment_bytes : int
        Size of a decoded segment.
    """

    def __init__(self, keyframe: Any, segment_bytes: int) -> None:
        self._decode = keyframe.decode
        self._compression = keyframe.compression
        self._jpegheader = keyframe.jpegheader
        self._segment_bytes = segment_bytes

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
        try:
            return self._decode_or_retry(segment)
        except (NotImplementedError, ImportError) as exc:
            raise UnsupportedFormatError(
                f"{segment.url} cannot be decoded: {exc}", url=segment.url
            ) from exc
        except MALFORMED as exc:
            if is_bug(exc):
                raise
            if len(segment.data) < segment.byte_range[1] - segment.byte_range[0]:
                raise truncated(segment.url, segment.byte_range, len(segment.data)) from exc
            kind = UnsupportedFormatError if "not supported" in str(exc) else CorruptFileError
            raise kind(
                f"{segment.name} cannot be decoded ({self._compression!r}):"
                f" {type(exc).__name__}: {exc}",
                url=segment.url,
                byte_range=segment.byte_range,
            ) from exc

    def check(self, url: str) -> None:
        """Refuse pages that could not be decoded, even where nothing is stored.

        Raises
        ------
        UnsupportedFormatError
        """
        try:
            self._decode(None, 0)
        except (*MALFORMED, ImportError) as exc:
            if is_bug(exc):
                raise
            raise UnsupportedFormatError(f"{url} cannot be decoded: {exc}", url=url) from exc

    def _decode_or_retry(self, segment: EncodedSegment) -> Any:
        options: dict[str, Any] = {}
        if self._compression in JPEG:
            options = {"jpegtables": segment.jpegtables, "jpegheader": self._jpegheader}
        try:
            return self._decode(segment.data, segment.index, **options)
        except MALFORMED:
            trimmed = None
            if self._compression in _DEFLATE:
                trimmed = _trimmed(segment.data, segment.uncompressed_bytes)
            if trimmed is None:
                raise
            return self._decode(trimmed, segment.index, **options)

    def _check_size(self, segment: EncodedSegment, limit_bytes: int) -> None:
        """Refuse segments whose header, or that of the file, declares gigabytes."""
        size = self._segment_bytes
        if self._compression in JPEG:
            frame = jpeg_frame(segment.data)
            size = max(size, math.prod(frame.factors) if frame is not None else 0)
        if size > limit_bytes:
            raise LimitError(
                f"{segment.name} declares {size} bytes of pixels in {len(segment.data)} bytes, more"
                f" than the limit of {limit_bytes}; set CLOUDIMG_MAX_SEGMENT_BYTES higher if you"
                " trust the file",
                url=segment.url,
                byte_range=segment.byte_range,
            )


def truncated(url: str, byte_range: Range, n_bytes: int) -> CorruptFileError:
    """The error for pixels beyond the end of a file, of which `n_bytes` exist."""
    return CorruptFileError(
        f"{url} ends too early: its header places pixels at bytes {byte_range[0]}-{byte_range[1]},"
        f" of which {n_bytes} exist",
        url=url,
        byte_range=byte_range,
    )


def _trimmed(encoded: Buffer, n_bytes: int) -> bytes | None:
    """A Deflate stream of the first `n_bytes` bytes of an intact stream that is too long.

    libtiff accepts such segments; tifffile's decoder requires streams to end where the pixels do.
    """
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(encoded, 2 * n_bytes + _MOST_EXCESS_BYTES)
    except zlib.error:
        return None
    # The checksum that proves a stream intact comes at its end.
    is_intact = stream.eof and len(data) >= n_bytes
    return zlib.compress(data[:n_bytes], 0) if is_intact else None
