"""One segment decoded by tifffile: limits before, second tries after, errors of ours."""

from __future__ import annotations

import zlib
from typing import Any

from cloudimg.errors import CorruptFileError, LimitError, UnsupportedFormatError

Buffer = bytes | memoryview

JPEG = {6, 7, 34892, 33007}
_DEFLATE = {8, 32946, 50013}
_MOST_EXCESS_BYTES = 2**20
# ITU T.81, table B.1: frame headers; C4, C8 and CC are other markers.
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}


class SegmentDecoder:
    """Decodes the segments of pages that are laid out like one keyframe.

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

    def __call__(
        self,
        encoded: Buffer,
        index: int,
        *,
        jpegtables: bytes | None,
        stored_bytes: int,
        page: int,
        limit_bytes: int,
        url: str,
        byte_range: tuple[int, int],
    ) -> Any:
        """Decode one segment; see `tifffile.TiffPage.decode` for what comes back.

        Raises
        ------
        CorruptFileError, UnsupportedFormatError, LimitError
        """
        name = f"segment {index} of page {page} of {url}"
        self._check_size(encoded, limit_bytes, name, url, byte_range)
        extra: dict[str, Any] = {}
        if self._compression in JPEG:
            extra = {"jpegtables": jpegtables, "jpegheader": self._jpegheader}
        try:
            return self._tried(encoded, index, stored_bytes, extra)
        except (NotImplementedError, ImportError) as exc:
            raise UnsupportedFormatError(f"{url} cannot be decoded: {exc}", url=url) from None
        except Exception as exc:  # noqa: BLE001
            got = len(encoded)
            if got < byte_range[1] - byte_range[0]:
                raise truncated(url, byte_range, got) from None
            kind = UnsupportedFormatError if "not supported" in str(exc) else CorruptFileError
            raise kind(
                f"{name} does not decode ({self._compression!r}): {type(exc).__name__}: {exc}",
                url=url,
                byte_range=byte_range,
            ) from None

    def check(self, url: str) -> None:
        """Refuse what could not be decoded even though nothing is stored.

        Raises
        ------
        UnsupportedFormatError
        """
        try:
            self._decode(None, 0)
        except Exception as exc:  # noqa: BLE001
            raise UnsupportedFormatError(f"{url} cannot be decoded: {exc}", url=url) from None

    def _tried(self, encoded: Buffer, index: int, stored_bytes: int, extra: dict[str, Any]) -> Any:
        try:
            return self._decode(encoded, index, **extra)
        except Exception:
            again = None
            if self._compression in _DEFLATE:
                again = _inflated(encoded, stored_bytes)
            if again is None:
                raise
            return self._decode(again, index, **extra)

    def _check_size(
        self,
        encoded: Buffer,
        limit_bytes: int,
        name: str,
        url: str,
        byte_range: tuple[int, int],
    ) -> None:
        """Refuse what would decode to gigabytes, as the header or the segment itself says."""
        size = self._segment_bytes
        if self._compression in JPEG:
            size = max(size, _jpeg_bytes(encoded))
        if size > limit_bytes:
            raise LimitError(
                f"{name} claims to decode to {size} bytes from {len(encoded)}; set"
                f" CLOUDIMG_MAX_SEGMENT_BYTES (now {limit_bytes}) higher if the file can be trusted",
                url=url,
                byte_range=byte_range,
            )


def truncated(url: str, byte_range: tuple[int, int], got_bytes: int) -> CorruptFileError:
    """The error for pixels that lie beyond the end of the file."""
    return CorruptFileError(
        f"{url} ends too early: its header places pixels at bytes {byte_range[0]}-{byte_range[1]},"
        f" of which {got_bytes} exist",
        url=url,
        byte_range=byte_range,
    )


def _inflated(encoded: Buffer, n_bytes: int) -> bytes | None:
    """The bytes of a segment from a sound stream that goes on behind them.

    libtiff takes such segments; the decoder used here wants streams to end where the pixels do.
    """
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(encoded, 2 * n_bytes + _MOST_EXCESS_BYTES)
    except zlib.error:
        return None
    # Only at its end does a stream prove by its checksum that nothing in it is broken.
    is_sound = stream.eof and len(data) >= n_bytes
    return zlib.compress(data[:n_bytes], 0) if is_sound else None


def _jpeg_bytes(data: Buffer) -> int:
    """Decoded size that the frame header of a JPEG announces, 0 without one (ITU T.81, B.2)."""
    i, view = 2, memoryview(data)
    while i + 9 < len(view):
        if view[i] != 0xFF:
            return 0
        marker = view[i + 1]
        if marker in _FRAMES:
            bits, *sizes = view[i + 4 : i + 10]
            high, wide = sizes[0] << 8 | sizes[1], sizes[2] << 8 | sizes[3]
            return high * wide * sizes[4] * (1 if bits <= 8 else 2)
        if marker == 0xFF:
            i += 1
        elif marker in _WITHOUT_LENGTH:
            i += 2
        else:
            i += 2 + (view[i + 2] << 8 | view[i + 3])
    return 0
