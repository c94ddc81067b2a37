"""Sample formats that stop the parser, read from the tags after it has failed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from cloudimg.tiff.ifd import MOST_TAGS, Dialect, read_dialect

_BITS, _SAMPLE_FORMAT = 258, 339
_SHORT = 3
_COMPLEX_INTEGER = 5
_MOST_IFDS = 1000
_MOST_SAMPLES = 2**16


def unreadable_formats(file: IO[bytes]) -> str:
    """Which samples of a page tifffile cannot describe; empty if all are as it expects.

    tifffile raises `TypeError` for samples of several formats in one pixel, which libtiff does not
    read either, and for complex integers of 16 bits.

    Parameters
    ----------
    file : file object
    """
    file.seek(0)
    found = read_dialect(file.read(16))
    if found is None:
        return ""
    for formats, bits in _pages(file, *found):
        if len(set(formats)) > 1:
            return f"samples of the different formats {formats} in one pixel"
        if formats[:1] == (_COMPLEX_INTEGER,) and bits[:1] == (16,):
            return "complex integers of 16 bits"
    return ""


def _pages(
    file: IO[bytes], dialect: Dialect, start: int
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Sample formats and bits per sample of each page, until the chain of IFDs ends or breaks."""
    visited: set[int] = set()
    while start and start not in visited and len(visited) < _MOST_IFDS:
        visited.add(start)
        file.seek(start)
        counted = file.read(dialect.count_bytes)
        if len(counted) < dialect.count_bytes:
            return
        n_tags = dialect.unpack_count(counted)
        n_bytes = n_tags * dialect.entry_bytes + dialect.offset_bytes
        data = file.read(n_bytes) if n_tags <= MOST_TAGS else b""
        if not data or len(data) < n_bytes:
            return
        starts = range(0, n_bytes - dialect.offset_bytes, dialect.entry_bytes)
        entries = [data[at : at + dialect.entry_bytes] for at in starts]
        formats = _shorts(file, dialect, entries, _SAMPLE_FORMAT)
        yield formats, _shorts(file, dialect, entries, _BITS)
        start = dialect.unpack_offset(data[-dialect.offset_bytes :])


def _shorts(file: IO[bytes], dialect: Dialect, entries: list[bytes], tag: int) -> tuple[int, ...]:
    """Values of a tag of type SHORT; none if the page does not have it."""
    count_format = "Q" if dialect.is_big else "L"
    for entry in entries:
        code, kind, count = struct.unpack_from(f"{dialect.order}HH{count_format}", entry)
        if (code, kind) != (tag, _SHORT) or count > _MOST_SAMPLES:
            continue
        value = entry[-dialect.offset_bytes :]
        if 2 * count > dialect.offset_bytes:
            file.seek(dialect.unpack_offset(value))
            value = file.read(2 * count)
        if len(value) >= 2 * count:
            return struct.unpack_from(f"{dialect.order}{count}H", value)
    return ()
