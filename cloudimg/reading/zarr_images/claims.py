"""What a chunk claims to be when it is decoded: a few bytes can stand for gigabytes. Pure.

Codecs with a header of their own are measured before zarr-python decodes them, since their decoders
allocate what the header says. Those without one are decoded in pieces to count them, where a
chunk is so large that it could stand for gigabytes.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_FLAG_BYTES = (0, 2, 4, 8)
"""Bytes of the size in the header of a frame of Zstandard, by its flag (RFC 8878, 3.1.1.1)."""
_DICTIONARY_BYTES = (0, 1, 2, 4)


def claimed_bytes(codec: str, data: bytes | bytearray | memoryview) -> int | None:
    """Size that a chunk has when it is decoded, by its header; None if it does not say it.

    Parameters
    ----------
    codec : str
        Name of the codec that was applied last.
    data : bytes-like
        The chunk, or its first bytes.
    """
    measure = _MEASURES.get(codec.removeprefix("numcodecs."))
    return None if measure is None else measure(bytes(data[:18]))


def exceeds(codec: str, data: bytes | bytearray | memoryview, most_bytes: int) -> bool:
    """Whether a chunk of a codec without a header is larger than a bound when it is decoded.

    Small chunks, which cannot become larger than `_HARMLESS_BYTES`, are not looked at.

    Parameters
    ----------
    codec : str
        Name of the codec that was applied last.
    data : bytes-like
        The chunk.
    most_bytes : int
        The bound.
    """
    name = codec.removeprefix("numcodecs.")
    if name not in _STREAMS:
        return False
    ratio, opened = _STREAMS[name]
    if ratio is not None and len(data) * ratio <= max(most_bytes, _HARMLESS_BYTES):
        return False
    n_bytes = 0
    try:
        with opened(io.BytesIO(data)) as stream:
            while n_bytes <= most_bytes and (piece := stream.read(_PIECE_BYTES)):
                n_bytes += len(piece)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return n_bytes > most_bytes  # damage, of which zarr-python tells
    return n_bytes > most_bytes


class _ZlibFile(io.RawIOBase):
    """Reads what zlib compressed."""

    def __init__(self, file: io.BytesIO) -> None:
        self._rest = file.read()
        self._stream = zlib.decompressobj()

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes more."""
        data = self._stream.decompress(self._rest, size)
        self._rest = self._stream.unconsumed_tail
        return data


_STREAMS: dict[str, tuple[int | None, Callable[[io.BytesIO], Any]]] = {
    "gzip": (1032, lambda file: gzip.GzipFile(fileobj=file)),
    "zlib": (1032, _ZlibFile),
    "bz2": (None, bz2.BZ2File),
    "lzma": (None, lzma.LZMAFile),
}
"""The greatest ratio of a codec, if there is one, and what decodes it in pieces."""
_HARMLESS_BYTES = 256 * 2**20
_PIECE_BYTES = 2**20


def _of_blosc(head: bytes) -> int | None:
    """https://www.blosc.org/c-blosc/format.html."""
    return int.from_bytes(head[4:8], "little") if len(head) >= 16 else None


def _of_lz4(head: bytes) -> int | None:
    """As numcodecs stores it: the size, and a block."""
    return int.from_bytes(head[:4], "little") if len(head) >= 4 else None


def _of_zstd(head: bytes) -> int | None:
    """RFC 8878, 3.1.1."""
    if head[:4] != _ZSTD_MAGIC or len(head) < 6:
        return None
    descriptor = head[4]
    is_single = descriptor >> 5 & 1
    n = _FLAG_BYTES[descriptor >> 6] or is_single
    start = 5 + (1 - is_single) + _DICTIONARY_BYTES[descriptor & 3]
    if not n or len(head) < start + n:
        return None
    return int.from_bytes(head[start : start + n], "little") + (256 if n == 2 else 0)


_MEASURES: dict[str, Callable[[bytes], int | None]] = {
    "blosc": _of_blosc,
    "lz4": _of_lz4,
    "zstd": _of_zstd,
}
