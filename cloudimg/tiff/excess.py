"""Segments that are longer than their stream, or than their pixels.

libtiff stops where it has all pixels, whatever follows. The decoders of tifffile refuse some of
these segments; they are then given what libtiff would read. Some writers store the last strip as
high as the others, and a few bytes may follow the pixels. Where there are more of them, rows are
longer than the header says, and would be cut in the wrong places.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from cloudimg.tiff.compressions import DEFLATE, PACKBITS, ZSTANDARD
from cloudimg.tiff.ifd import Buffer

_MOST_EXCESS_BYTES = 2**20
_ZSTANDARD_MAGIC = b"\x28\xb5\x2f\xfd"
_RLE_BLOCK = 1
_MOST_FOLLOWING_BYTES = 16
"""Byte counts are often too large by up to this many."""


class ExcessError(ValueError):
    """A segment has other rows than its header says; the message says what its bytes do."""


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """Size of a segment before compression."""

    n_bytes: int
    """Size of its part of the page."""
    n_rows: int
    """Number of rows of a whole segment, of which the page may need less."""
    row_bytes: int

    def check(self, n_found: int) -> None:
        """Refuse a number of decoded bytes that these rows do not explain.

        Raises
        ------
        ExcessError
        """
        excess = n_found - max(self.n_rows * self.row_bytes, self.n_bytes)
        has_longer_rows = excess > 0 and self.n_rows > 1 and excess % self.n_rows == 0
        if excess >= self.row_bytes or has_longer_rows:
            raise ExcessError(
                f"decode to {n_found} bytes of pixels, but {self.n_rows} rows of {self.row_bytes}"
                f" bytes have {self.n_rows * self.row_bytes}"
            )


def refuse_excess(compression: int, data: Buffer, n_bytes: int) -> None:
    """Fail for a segment that has more than `n_bytes`, as a decoder does that has room for no more.

    tifffile gives packed samples as much room as the pixels that they become.

    Raises
    ------
    RuntimeError
    """
    import tifffile

    if compression in DEFLATE or compression == PACKBITS:
        tifffile.TIFF.DECOMPRESSORS[compression](data, out=n_bytes)


def without_excess(compression: int, data: Buffer, size: SegmentSize) -> Buffer | None:
    """The beginning of a segment that has all of its pixels; None if it is not known.

    Parameters
    ----------
    compression : int
        Value of the tag Compression.
    data : bytes
    size : SegmentSize

    Raises
    ------
    ExcessError
        It has so many more of them that they are not where the header says.
    """
    if compression in DEFLATE:
        return _deflate(data, size)
    if compression == PACKBITS:
        return _packbits(data, size)
    return _zstandard(data) if compression in ZSTANDARD else None


def _deflate(encoded: Buffer, size: SegmentSize) -> bytes | None:
    """A stream of the pixels of an intact stream that is too long."""
    n_bytes = size.n_bytes
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(encoded, 2 * n_bytes + _MOST_EXCESS_BYTES)
    except zlib.error:
        return None
    # The checksum that proves a stream intact comes at its end.
    if not stream.eof or len(data) < n_bytes:
        return None
    size.check(len(data))
    return zlib.compress(data[:n_bytes], 0)


def _packbits(data: Buffer, size: SegmentSize) -> Buffer | None:
    """The runs that make up the pixels (TIFF 6.0, section 9)."""
    at = n_found = 0
    enough: tuple[int, int, int, int] | None = None
    while at < len(data):
        head = data[at]
        is_copied = head < 128
        n_run = head + 1 if is_copied else (257 - head) % 129  # 128 is no run
        stop = at + 1 + (n_run if is_copied else n_run > 0)
        if enough is None and n_found + n_run >= size.n_bytes:
            enough = at, stop, size.n_bytes - n_found, n_found + n_run
        n_found += n_run
        at = stop
    if enough is None:
        return None
    start, stop, n_needed, n_whole = enough
    # Whatever bytes follow the stream are codes of runs too.
    is_longer = at == len(data) and len(data) - stop > _MOST_FOLLOWING_BYTES
    size.check(n_found if is_longer else n_whole)
    return bytes(data[:start]) + _shortened(bytes(data[start:stop]), n_needed)


def _shortened(run: bytes, length: int) -> bytes:
    """The first bytes of a run of PackBits."""
    if run[0] < 128:
        return bytes((length - 1,)) + run[1 : length + 1]
    return bytes((257 - length,)) + run[1:] if length > 1 else b"\0" + run[1:]


def _zstandard(data: Buffer) -> Buffer | None:
    """The first frame (RFC 8878, 3.1.1)."""
    if bytes(data[:4]) != _ZSTANDARD_MAGIC or len(data) < 5:
        return None
    descriptor = data[4]
    is_single = descriptor >> 5 & 1
    content_size = (is_single, 2, 4, 8)[descriptor >> 6]
    at = 5 + (1 - is_single) + (0, 1, 2, 4)[descriptor & 3] + content_size
    is_last = False
    while not is_last:
        block = int.from_bytes(data[at : at + 3], "little")
        is_last = bool(block & 1) or at >= len(data)
        at += 3 + (1 if block >> 1 & 3 == _RLE_BLOCK else block >> 3)
    at += 4 * (descriptor >> 2 & 1)
    return data[:at] if at < len(data) else None
