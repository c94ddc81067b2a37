"""Decompress into a limited number of bytes: a few kilobytes can stand for gigabytes. Pure.

The size of a chunk is known before it is decoded. Each function here takes the most bytes that the
result may have, allocates no more than that, and raises an exception of its library for more.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Mapping
from typing import Any

_BLOSC_HEADER_BYTES = 16
_MOST_LZMA_BYTES = 2**28
"""Memory of an LZMA decoder, which its input asks for; the highest preset takes 65 MiB:
https://tukaani.org/xz/xz-file-format.txt, section 5.3.1."""


def largest_encoded(n_bytes: int) -> int:
    """Bytes that a codec may make of `n_bytes` that it cannot compress, generously."""
    return n_bytes + n_bytes // 8 + 4096


def decode_zstd(data: Any, most: int) -> Any:
    """Decompress Zstandard; its decoder is given an output of that size."""
    import imagecodecs

    return imagecodecs.zstd_decode(data, out=most)


def decode_blosc(data: Any, most: int) -> Any:
    """Decompress blosc, which trusts its header and would read beyond data that was truncated.

    https://www.blosc.org/c-blosc/format.html: bytes 4 to 8 are the size of the output, 8 to 12 that
    of a block of it, and 12 to 16 that of the input.
    """
    import imagecodecs

    header = bytes(data[:_BLOSC_HEADER_BYTES])
    n_bytes, block, size = (int.from_bytes(header[i : i + 4], "little") for i in (4, 8, 12))
    if len(header) < _BLOSC_HEADER_BYTES or size != len(data):
        raise ValueError(f"{len(data)} bytes instead of {size}")
    if n_bytes > most or block > max(n_bytes, 1):
        raise ValueError(f"{n_bytes} bytes in blocks of {block}, expected {most} at most")
    return imagecodecs.blosc_decode(data, numthreads=1)


def decode_gzip(data: Any, most: int) -> Any:
    """Decompress one member of gzip (RFC 1952), as it is written here."""
    return _all_of(zlib.decompressobj(zlib.MAX_WBITS | 16), data, most)


def decode_zlib(data: Any, most: int) -> Any:
    """Decompress zlib (RFC 1950)."""
    return _all_of(zlib.decompressobj(), data, most)


def decode_bz2(data: Any, most: int) -> Any:
    """Decompress bzip2."""
    return _all_of(bz2.BZ2Decompressor(), data, most)


def decode_lzma(data: Any, most: int, configuration: Mapping[str, Any]) -> Any:
    """Decompress LZMA in a format and with the filters that numcodecs was given."""
    form = configuration.get("format", lzma.FORMAT_XZ)
    if form == lzma.FORMAT_RAW:
        decoder = lzma.LZMADecompressor(form, filters=configuration.get("filters"))
    else:
        decoder = lzma.LZMADecompressor(form, memlimit=_MOST_LZMA_BYTES)
    return _all_of(decoder, data, most)


def decode_lz4(data: Any, most: int) -> Any:
    """Decompress LZ4 as numcodecs stores it: the size of the output in four bytes, and a block."""
    import numcodecs

    n_bytes = int.from_bytes(bytes(data[:4]), "little")
    if n_bytes > most:
        raise ValueError(f"{n_bytes} bytes, expected {most} at most")
    return numcodecs.LZ4().decode(data)


def _all_of(decoder: Any, data: Any, most: int) -> Any:
    """The output of a decoder of the standard library, which has to end with its input."""
    # One byte more: of streams, the checksum is read only where the output is not full.
    decoded = decoder.decompress(data, most + 1)
    if not decoder.eof or decoder.unused_data:
        raise ValueError(f"it does not end after {most} bytes of output at most")
    return decoded
