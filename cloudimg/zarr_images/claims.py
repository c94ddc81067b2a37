"""What a chunk claims to be when it is decoded: a few bytes can stand for gigabytes. Pure.

Codecs with a header of their own are measured before zarr-python decodes them, since their decoders
allocate what the header says.
"""

from __future__ import annotations

from collections.abc import Callable

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
