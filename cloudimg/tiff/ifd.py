"""One image file directory (IFD) in bytes already fetched: its extent and what it points at.

Parses only as much as is needed to know which bytes the parser will read next; tifffile reads the
values. Layouts: TIFF 6.0, section 2, and the BigTIFF design of Aware Systems.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Buffer = bytes | memoryview
Range = tuple[int, int]
"""Half-open range of bytes of a file."""
Have = Callable[[int, int], Buffer | None]
"""Returns the bytes of a half-open range, or None unless all of them have been fetched."""

_SUBIFDS = 330
_SEGMENTS = (273, 324)
_PARSED = {273, 279, 324, 325, _SUBIFDS, 347}
"""Tags whose values the parser reads for every page: segments, SubIFDs, JPEG tables."""
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
TYPE_BYTES |= {16: 8, 17: 8, 18: 8}
"""Size of one value of each type of a tag."""
MOST_TAGS = 4096
"""A larger count is taken for noise, as tifffile does."""
LEAST_IFD_BYTES = 18
"""The smallest IFD: a count, one tag and the offset of the next one (TIFF 6.0, section 2)."""
REQUEST_BYTES = 20_000
"""As many bytes as cost what a request costs: it takes 0.2 ms of the processor, in which 100 MB/s
bring so many. Parts of a header that are closer to each other are fetched with what lies between.
"""
_MAX_VALUE_BYTES = 4 * 2**20
_NEAR_BYTES = 16 * 2**10
_GAP_BYTES = 256


@dataclass(frozen=True, slots=True)
class Dialect:
    """Byte order and offset width of a TIFF."""

    order: str
    """``<`` or ``>``."""
    is_big: bool
    """BigTIFF, with offsets of 8 bytes."""

    @property
    def byteorder(self) -> Literal["little", "big"]:
        """The byte order as `int.from_bytes` takes it."""
        return "little" if self.order == "<" else "big"

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
        """Length of the tag count and of the first tag's code, type and count."""
        return self.count_bytes + self.entry_bytes - self.offset_bytes

    def unpack_count(self, data: Buffer) -> int:
        """The number of tags, with which an IFD begins."""
        return int.from_bytes(data, self.byteorder)

    def unpack_offset(self, data: Buffer) -> int:
        return int(struct.unpack(f"{self.order}{'Q' if self.is_big else 'L'}", data)[0])

    def unpack_entries(self, data: Buffer) -> Iterator[tuple[int, int, int, int]]:
        """Code, type and count of each tag, and its value as a number or the offset of it."""
        return struct.iter_unpack(f"{self.order}{'HHQQ' if self.is_big else 'HHLL'}", data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ifd:
    """Extent of one IFD and what it points at."""

    start_bytes: int
    next_bytes: int
    """Offset of the next IFD of the chain, 0 after the last."""
    codes: tuple[int, ...]
    """Codes of all tags."""
    values: tuple[tuple[int, int, int], ...]
    """Code, start and stop of values stored outside the IFD, for tags read for every page. Very
    long values are left out: a broken header must not cause the file to be fetched many times."""
    extent: Range
    """From the first to the last byte of the IFD and of the values stored beside it."""
    near: tuple[Range, ...]
    """Values stored near the IFD, but not beside it."""
    sub_ifd: int
    """Offset of the SubIFD if there is exactly one, else 0; more are among `values`."""

    @property
    def is_forward(self) -> bool:
        """Whether the next IFD of the chain lies further on in the file."""
        return self.next_bytes > self.start_bytes


@dataclass(frozen=True, slots=True)
class PartialFile:
    """A TIFF of which some byte ranges have been fetched."""

    have: Have
    dialect: Dialect
    size_bytes: int
    """Size of the whole file."""
    in_flight: int
    """Maximum number of concurrent requests."""

    def ifd(self, start_bytes: int) -> Ifd | None:
        """See `read_ifd`."""
        return read_ifd(self.have, self.dialect, start_bytes)

    def clip(self, start_bytes: int, stop_bytes: int) -> Range:
        """The part of a range that lies within the file."""
        return max(0, start_bytes), min(stop_bytes, self.size_bytes)


def read_dialect(head: Buffer) -> tuple[Dialect, int] | None:
    """The dialect of a file and the offset of its first IFD; None for any other layout."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(head[:2]))
    if order is None or len(head) < 16:
        return None
    version = struct.unpack(f"{order}H", head[2:4])[0]
    if version == 42:
        return Dialect(order, False), Dialect(order, False).unpack_offset(head[4:8])
    if version == 43 and struct.unpack(f"{order}HH", head[4:8]) == (8, 0):
        return Dialect(order, True), Dialect(order, True).unpack_offset(head[8:16])
    return None


def read_ifd(have: Have, dialect: Dialect, start: int) -> Ifd | None:
    """Read the IFD at an offset; None if its bytes have not been fetched or are not an IFD."""
    counted = have(start, start + dialect.count_bytes)
    if counted is None:
        return None
    n_tags = dialect.unpack_count(counted)
    if not 0 < n_tags <= MOST_TAGS:
        return None
    first = start + dialect.count_bytes
    last = first + n_tags * dialect.entry_bytes
    stop = last + dialect.offset_bytes
    data = have(first, stop)
    if data is None:
        return None
    codes, values, near, sub_ifd = [], [], [], 0
    in_entry, nearest, farthest = dialect.offset_bytes, start - _NEAR_BYTES, last + _NEAR_BYTES
    for code, kind, count, value in dialect.unpack_entries(data[: last - first]):
        codes.append(code)
        n_bytes = TYPE_BYTES.get(kind, 0) * count
        if n_bytes <= in_entry:
            if code == _SUBIFDS and count == 1:
                sub_ifd = value
            continue
        if code in _PARSED and n_bytes <= _MAX_VALUE_BYTES:
            values.append((code, value, value + n_bytes))
        if nearest <= value and value + n_bytes <= farthest:
            near.append((value, value + n_bytes))
    extent = _extended((start, stop), near)
    return Ifd(
        start_bytes=start,
        next_bytes=dialect.unpack_offset(data[-dialect.offset_bytes :]),
        codes=tuple(codes),
        values=tuple(values),
        extent=extent,
        near=tuple(each for each in near if each[0] < extent[0] or each[1] > extent[1]),
        sub_ifd=sub_ifd,
    )


def follow(file: PartialFile, ifd: Ifd) -> list[Ifd]:
    """The IFDs after one as far as they have been fetched, and the chain keeps its direction."""
    found: list[Ifd] = []
    is_forward = ifd.is_forward
    while ifd.next_bytes and ifd.is_forward == is_forward:
        following = file.ifd(ifd.next_bytes)
        if following is None:
            break
        found.append(ifd := following)
    return found


def entries_at(have: Have, dialect: Dialect, start: int) -> Iterator[tuple[int, int, int, int]]:
    """Entries of the IFD at an offset: code, count, size in bytes, and value or its offset.

    None of them if they have not been fetched. Values of types that do not exist have no size.
    """
    counted = have(start, start + dialect.count_bytes)
    if counted is None:
        return
    n_tags = dialect.unpack_count(counted)
    first = start + dialect.count_bytes
    data = have(first, first + n_tags * dialect.entry_bytes) if n_tags <= MOST_TAGS else None
    for code, kind, count, value in dialect.unpack_entries(data or b""):
        yield code, count, TYPE_BYTES.get(kind, 0) * count, value


def entries_of(
    read: Callable[[int, int], bytes], dialect: Dialect, start: int
) -> list[tuple[int, int, int, int]] | None:
    """Entries of the IFD at an offset: code, type, count, and where the value is stored.

    None if there is no IFD. A value that fits into its entry is stored there.

    Parameters
    ----------
    read : callable
        Returns the bytes from an offset on, of a length.
    dialect : Dialect
    start : int
        Offset of the IFD in bytes.
    """
    n_tags = dialect.unpack_count(read(start, dialect.count_bytes))
    if not 0 < n_tags <= MOST_TAGS:
        return None
    first = start + dialect.count_bytes
    data = read(first, n_tags * dialect.entry_bytes)
    entries = []
    for i, (code, kind, count, value) in enumerate(dialect.unpack_entries(data)):
        n_bytes = TYPE_BYTES.get(kind, 0) * count
        in_entry = first + (i + 1) * dialect.entry_bytes - dialect.offset_bytes
        entries.append((code, kind, count, in_entry if n_bytes <= dialect.offset_bytes else value))
    return entries


def segment_offset(have: Have, dialect: Dialect, start: int) -> int | None:
    """Offset of the first segment of the page whose IFD is at an offset; None if it is unknown."""
    for code, count, n_bytes, value in entries_at(have, dialect, start):
        if code in _SEGMENTS:
            if not count or n_bytes != count * dialect.offset_bytes:
                return None
            if count == 1:
                return value
            data = have(value, value + dialect.offset_bytes)
            return None if data is None else dialect.unpack_offset(data)
    return None


def _extended(extent: Range, near: list[Range]) -> Range:
    """A range extended by those adjacent to its ends; beyond a gap, pixels may lie between."""
    if not near:
        return extent
    low, high = extent
    for first, last in sorted(near):
        if low <= first <= high + _GAP_BYTES:
            high = max(high, last)
    for first, last in sorted(near, reverse=True):
        if last <= high and first < low <= last + _GAP_BYTES:
            low = first
    return low, high


def sub_ifds(file: PartialFile, ifd: Ifd) -> list[int]:
    """Offsets of the SubIFDs of an IFD, as far as they have been fetched."""
    if ifd.sub_ifd:
        return [ifd.sub_ifd]
    for code, start, stop in ifd.values:
        if code == _SUBIFDS:
            data = file.have(start, stop)
            width = file.dialect.offset_bytes
            # In a BigTIFF, SubIFD offsets may be 4 or 8 bytes wide; only the file's own width is
            # understood here.
            if data is None or len(data) % width:
                return []
            return [
                file.dialect.unpack_offset(data[i : i + width]) for i in range(0, len(data), width)
            ]
    return []
