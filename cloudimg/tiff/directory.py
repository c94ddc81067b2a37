"""One image file directory (IFD) in bytes that are here: where it ends, what it points at.

Only as much as it takes to know which bytes the parser will want next; tifffile reads the values.
Layouts: TIFF 6.0, section 2, and the BigTIFF design of Aware Systems.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

Buffer = bytes | memoryview
Have = Callable[[int, int], Buffer | None]
"""The bytes of a half-open range, None where they are not here."""

SUBIFDS = 330
_PARSED = {273, 279, 324, 325, SUBIFDS, 347}
"""Tags whose values the parser wants of every page: segments, SubIFDs, tables of JPEG."""
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TYPE_BYTES |= {16: 8, 17: 8, 18: 8}
_MAX_TAGS = 4096
"""More are taken for noise, as tifffile does."""
_MAX_VALUE_BYTES = 4 * 2**20
_NEAR_BYTES = 16 * 2**10
_GAP_BYTES = 256


@dataclass(frozen=True, slots=True)
class Dialect:
    """Byte order and width of offsets."""

    order: str
    """``<`` or ``>``."""
    is_big: bool

    @property
    def count_bytes(self) -> int:
        return 8 if self.is_big else 2

    @property
    def entry_bytes(self) -> int:
        return 20 if self.is_big else 12

    @property
    def offset_bytes(self) -> int:
        return 8 if self.is_big else 4

    @property
    def key_bytes(self) -> int:
        """Length of the count of tags and of the first tag's code, type and count."""
        return self.count_bytes + self.entry_bytes - self.offset_bytes

    def unpack_offset(self, data: Buffer) -> int:
        return int(struct.unpack(f"{self.order}{'Q' if self.is_big else 'L'}", data)[0])


@dataclass(frozen=True, slots=True)
class Directory:
    """What one IFD points at."""

    start_bytes: int
    stop_bytes: int
    """End of the IFD itself."""
    next_bytes: int
    """Offset of the next IFD of the chain, 0 after the last."""
    codes: tuple[int, ...]
    values: tuple[tuple[int, int, int], ...]
    """Code, start and stop of values that lie outside of the IFD, of tags wanted of every page.
    Very long ones are left out: a broken header must not have the file fetched many times."""
    extent: tuple[int, int]
    """From the first to the last byte of the IFD and of all values that lie near it."""
    sub_ifd: int
    """Offset of the SubIFD where there is exactly one; more are among `values`."""


def read_dialect(head: Buffer) -> tuple[Dialect, int] | None:
    """The dialect of a file and the offset of its first IFD; None where it has another layout."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(head[:2]))
    if order is None or len(head) < 16:
        return None
    version = struct.unpack(f"{order}H", head[2:4])[0]
    if version == 42:
        return Dialect(order, False), Dialect(order, False).unpack_offset(head[4:8])
    if version == 43 and struct.unpack(f"{order}HH", head[4:8]) == (8, 0):
        return Dialect(order, True), Dialect(order, True).unpack_offset(head[8:16])
    return None


def read_directory(have: Have, dialect: Dialect, start: int) -> Directory | None:
    """The directory at an offset; None where its bytes are not here or are none."""
    counted = have(start, start + dialect.count_bytes)
    if counted is None:
        return None
    n_tags = struct.unpack(f"{dialect.order}{'Q' if dialect.is_big else 'H'}", counted)[0]
    if not 0 < n_tags <= _MAX_TAGS:
        return None
    first = start + dialect.count_bytes
    stop = first + n_tags * dialect.entry_bytes
    data = have(first, stop + dialect.offset_bytes)
    if data is None:
        return None
    codes, values, near, sub_ifd = [], [], [], 0
    layout = f"{dialect.order}{'HHQQ' if dialect.is_big else 'HHLL'}"
    entries = struct.iter_unpack(layout, data[: n_tags * dialect.entry_bytes])
    for code, kind, count, value in entries:
        codes.append(code)
        n_bytes = _TYPE_BYTES.get(kind, 0) * count
        if n_bytes <= dialect.offset_bytes:
            if code == SUBIFDS and count == 1:
                sub_ifd = value
            continue
        if code in _PARSED and n_bytes <= _MAX_VALUE_BYTES:
            values.append((code, value, value + n_bytes))
        if start - _NEAR_BYTES <= value and value + n_bytes <= stop + _NEAR_BYTES:
            near.append((value, value + n_bytes))
    return Directory(
        start,
        stop + dialect.offset_bytes,
        dialect.unpack_offset(data[-dialect.offset_bytes :]),
        tuple(codes),
        tuple(values),
        _grown((start, stop + dialect.offset_bytes), near),
        sub_ifd,
    )


def _grown(extent: tuple[int, int], near: list[tuple[int, int]]) -> tuple[int, int]:
    """A range with those that follow one another from its ends on; pixels may lie beyond gaps."""
    low, high = extent
    for first, last in sorted(near):
        if low <= first <= high + _GAP_BYTES:
            high = max(high, last)
    for first, last in sorted(near, reverse=True):
        if last <= high and first < low <= last + _GAP_BYTES:
            low = first
    return low, high


def sub_directories(have: Have, dialect: Dialect, directory: Directory) -> list[int]:
    """Offsets of the SubIFDs of a directory, as far as they are here."""
    if directory.sub_ifd:
        return [directory.sub_ifd]
    for code, start, stop in directory.values:
        if code == SUBIFDS:
            data = have(start, stop)
            width = dialect.offset_bytes
            # A SubIFD offset may be 4 or 8 bytes wide in a BigTIFF; only its own width is told.
            if data is None or len(data) % width:
                return []
            return [dialect.unpack_offset(data[i : i + width]) for i in range(0, len(data), width)]
    return []
