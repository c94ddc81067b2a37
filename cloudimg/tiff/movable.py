"""Headers that differ only in where things are stored: the IFD, the values of its tags, segments.

Files of one archive are often written by one program in one run. Compression then makes the sizes
of the segments the only difference between their headers, and where the pixels come first, as
libtiff writes them, everything else lies elsewhere in each file. IFDs are compared as one number
with all bits masked that may differ, values wherever they are.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from typing import Any

from cloudimg.tiff.ifd import TYPE_BYTES, Buffer, Dialect, Have, Range, entries_of
from cloudimg.tiff.level import Level
from cloudimg.tiff.parsed import ParsedImage
from cloudimg.tiff.pieces import Page
from cloudimg.tiff.tifffile_private import known_chain

_OFFSETS, _COUNTS = (273, 324), (279, 325)
"""StripOffsets and TileOffsets, StripByteCounts and TileByteCounts."""
_ROLES = {code: codes for codes in (_OFFSETS, _COUNTS) for code in codes}
_IFDS = {34665, 34853, 40965}
"""Offsets of the IFDs of Exif, GPS and interoperability, which a parser compares with the size of
the file."""
_LETTERS = {3: "H", 4: "I", 16: "Q"}
"""Formats of the types of these tags (TIFF 6.0, section 2, and BigTIFF)."""
_LOSSLESS = {5, 8, 32773, 32946, 50000}
"""LZW, Deflate, PackBits and Zstandard. Of others, a parser may look into the segments, or estimate
their sizes."""
_MOST_UNREAD_BYTES = 48
"""More bytes that are neither in the header nor in a segment are left to the checks of the parser
(see `unread`): an IFD to which nothing leads may be among them."""


@dataclass(frozen=True, slots=True)
class _Value:
    """The value of a tag: in its entry, or where that says."""

    at: int
    """Position of the entry's last field in the IFD."""
    n_bytes: int
    is_outside: bool
    content: Buffer | None
    """What it must be; None if the parser did not look at it."""
    layout: struct.Struct | None
    """How offsets or byte counts of segments are stored; None of other tags."""

    @property
    def is_looked_at(self) -> bool:
        """Whether anything depends on it."""
        return self.content is not None or self.layout is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """What the IFDs of files share whose headers are alike."""

    dialect: Dialect
    n_bytes: int
    """Size of the IFD."""
    mask: int
    masked: int
    values: tuple[_Value, ...]
    """Values that are outside of the IFD, and offsets and byte counts of segments."""
    offsets: int
    """Which of the values has the offsets of the segments."""
    counts: int
    """Which of them has their byte counts."""
    fixed: tuple[tuple[int, Buffer], ...]
    """Offset and bytes of what else was read, which must be the same there."""

    @property
    def link(self) -> Range:
        """Where the offset of the IFD is stored."""
        width = self.dialect.offset_bytes
        return width, 2 * width

    def find(self, have: Have) -> tuple[int, Buffer | None]:
        """Offset and bytes of the IFD of a file, which are None if it is not alike."""
        for start, part in self.fixed:
            if have(start, start + len(part)) != part:
                return 0, None
        link = have(*self.link)
        at = 0 if link is None else self.dialect.unpack_offset(link)
        ifd = have(at, at + self.n_bytes) if at else None
        if ifd is None or int.from_bytes(ifd, "little") & self.mask != self.masked:
            return 0, None
        return at, ifd


class Movable:
    """A header with one page, for files that have it and their segments elsewhere.

    Parameters
    ----------
    parsed : ParsedImage
    level : Level
        The only level of it.
    layout : _Layout
    """

    __slots__ = ("_layout", "_level", "_parsed")

    def __init__(self, parsed: ParsedImage, level: Level, layout: _Layout) -> None:
        self._parsed = parsed
        self._level = level
        self._layout = layout

    @classmethod
    def of(cls, parsed: ParsedImage, parts: Sequence[tuple[int, bytes]]) -> Movable | None:
        """The header that was parsed from some bytes; None if more of it may depend on segments.

        Parameters
        ----------
        parsed : ParsedImage
        parts : sequence of tuple
            Offset and bytes of all that the parser read.
        """
        found = _only_page(parsed)
        layout = None if found is None else _layout_of(found[1], parts)
        if found is None or layout is None:
            return None
        level, _, page = found
        movable = cls(parsed, level, layout)
        is_as_stored = movable._segments(_have(parts)) == (
            tuple(page.offsets),
            tuple(page.bytecounts),
        )
        return movable if is_as_stored else None

    def matching(self, have: Have, size_bytes: int, url: str) -> ParsedImage | None:
        """The header of a file of some size, None if it must be parsed.

        The checks of the parser pass for it: each segment is stored, and within the file, and next
        to nothing else is in the file.
        """
        used: list[Range] = []
        segments = self._segments(have, used)
        if segments is None:
            return None
        offsets, counts = segments
        if min(counts) < 1 or not _fill(used, offsets, counts, size_bytes):
            return None
        return self._parsed.with_levels((self._level.with_segments(url, offsets, counts),))

    def _segments(
        self, have: Have, used: list[Range] | None = None
    ) -> tuple[Sequence[int], Sequence[int]] | None:
        """Offsets and byte counts of the segments of a file; None if its header is not alike.

        Parameters
        ----------
        have : callable
        used : list, optional
            Extended by the ranges of the header.
        """
        layout = self._layout
        at, ifd = layout.find(have)
        if ifd is None:
            return None
        ranges = [(0, layout.link[1]), (at, at + layout.n_bytes)]
        found: list[Sequence[int]] = []
        for value in layout.values:
            data: Buffer | None = ifd[value.at : value.at + value.n_bytes]
            if value.is_outside:
                in_entry = ifd[value.at : value.at + layout.dialect.offset_bytes]
                start = layout.dialect.unpack_offset(in_entry)
                if start < layout.link[1]:
                    return None  # the parser takes no value from the header of the file
                ranges.append((start, start + value.n_bytes))
                data = have(start, start + value.n_bytes) if value.is_looked_at else b""
            if data is None or value.content not in (None, data):
                return None
            found.append(() if value.layout is None else value.layout.unpack(data))
        if used is not None:
            used += set(ranges)  # tags may share a value
        return found[layout.offsets], found[layout.counts]


def _fill(
    used: list[Range], offsets: Sequence[int], counts: Sequence[int], size_bytes: int
) -> bool:
    """Whether a header and the segments fill a file, without overlapping."""
    at = n_unread = 0
    for start, stop in sorted([*used, *zip(offsets, map(add, offsets, counts), strict=True)]):
        if start < at:
            return False
        n_unread += start - at
        at = stop
    return at <= size_bytes and n_unread + size_bytes - at <= _MOST_UNREAD_BYTES


def _only_page(parsed: ParsedImage) -> tuple[Level, Any, Page] | None:
    """The level, keyframe and page of a file with one page of lossless segments.

    None if there is anything to remark about the file.
    """
    is_ordinary = not (parsed.remarks or parsed.metadata_remarks or parsed.images or parsed.others)
    level = parsed.levels[0] if is_ordinary and len(parsed.levels) == 1 else None
    found = level.only_page if isinstance(level, Level) else None
    if not isinstance(level, Level) or found is None:
        return None
    keyframe, page = found
    chain = known_chain(keyframe.parent)
    has_one = chain is not None and len(chain.offsets) == 1 and not keyframe.subifds
    is_lossless = not page.is_plain and keyframe.compression in _LOSSLESS
    return (level, *found) if has_one and is_lossless and page.jpegtables is None else None


def _layout_of(keyframe: Any, parts: Sequence[tuple[int, bytes]]) -> _Layout | None:
    """What other headers have to share with one of which some parts were read."""
    dialect = Dialect(keyframe.parent.byteorder, keyframe.parent.is_bigtiff)
    own = keyframe.parent.tiff
    if (own.tagsize, own.offsetsize) != (dialect.entry_bytes, dialect.offset_bytes):
        return None
    have, start = _have(parts), int(keyframe.offset)
    entries = entries_of(lambda at, n: bytes(have(at, at + n) or b""), dialect, start)
    n_bytes = dialect.count_bytes + len(entries or ()) * dialect.entry_bytes + dialect.offset_bytes
    ifd = have(start, start + n_bytes)
    if not entries or ifd is None:
        return None
    mask = bytearray(b"\xff" * n_bytes)
    values: list[_Value] = []
    known = [(dialect.offset_bytes, 2 * dialect.offset_bytes), (start, start + n_bytes)]
    numbers: dict[tuple[int, int], list[int]] = {_OFFSETS: [], _COUNTS: []}
    for i, entry in enumerate(entries):
        at = dialect.count_bytes + (i + 1) * dialect.entry_bytes - dialect.offset_bytes
        is_outside = entry[3] != start + at
        role = _ROLES.get(entry[0])
        if not is_outside and role is None:
            if entry[0] in _IFDS:
                return None
            continue
        value = _value_of(entry, at, is_outside, role is not None, parts, dialect)
        if value is None:
            return None
        if is_outside:
            known.append((entry[3], entry[3] + value.n_bytes))
        if role is not None:
            numbers[role].append(len(values))
        values.append(value)
        mask[at : at + dialect.offset_bytes] = bytes(dialect.offset_bytes)
    if any(len(each) != 1 for each in numbers.values()):
        return None
    number = int.from_bytes(mask, "little")
    return _Layout(
        dialect=dialect,
        n_bytes=n_bytes,
        mask=number,
        masked=int.from_bytes(ifd, "little") & number,
        values=tuple(values),
        offsets=numbers[_OFFSETS][0],
        counts=numbers[_COUNTS][0],
        fixed=tuple(_without(parts, known)),
    )


def _value_of(
    entry: tuple[int, int, int, int],
    at: int,
    is_outside: bool,
    is_of_segments: bool,
    parts: Sequence[tuple[int, bytes]],
    dialect: Dialect,
) -> _Value | None:
    """The value of an entry of an IFD; None if it is not known what depends on it."""
    _, kind, count, start = entry
    size = TYPE_BYTES.get(kind, 0) * count
    if is_of_segments:
        letter = _LETTERS.get(kind)
        if letter is None or not count:
            return None
        return _Value(at, size, is_outside, None, struct.Struct(f"{dialect.order}{count}{letter}"))
    content = _have(parts)(start, start + size)
    if content is None and any(b < start + size and start < b + len(part) for b, part in parts):
        return None  # the parser looked at a part of it
    return _Value(at, size, is_outside, content, None)


def _have(parts: Sequence[tuple[int, bytes]]) -> Have:
    """Reads from parts of a file."""

    def have(start: int, stop: int) -> Buffer | None:
        for begin, part in parts:
            if begin <= start and stop <= begin + len(part):
                return part[start - begin : stop - begin]
        return None

    return have


def _without(
    parts: Sequence[tuple[int, bytes]], ranges: Sequence[Range]
) -> list[tuple[int, bytes]]:
    """Parts of a file without some ranges."""
    left = []
    for begin, part in parts:
        at, end = begin, begin + len(part)
        for start, stop in sorted(ranges):
            if start < end and stop > at:
                left.append((at, part[at - begin : max(at, start) - begin]))
                at = max(at, stop)
        left.append((at, part[at - begin :]))
    return [(at, part) for at, part in left if part]
