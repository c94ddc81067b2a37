"""Headers that differ only in where the segments of a page are stored.

Files of one archive are often written by one program in one run, with the IFD before the pixels.
Compression then makes the sizes of the segments the only difference between their headers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import add
from typing import Any

from cloudimg.tiff.ifd import Buffer, Have, Range
from cloudimg.tiff.level import Level
from cloudimg.tiff.parsed import ParsedImage
from cloudimg.tiff.pieces import Page
from cloudimg.tiff.tifffile_private import known_chain

_OFFSETS, _COUNTS = (273, 324), (279, 325)
"""StripOffsets and TileOffsets, StripByteCounts and TileByteCounts."""
_LETTERS = {3: "H", 4: "I", 16: "Q"}
"""Formats of the types of these tags (TIFF 6.0, section 2, and BigTIFF)."""
_LOSSLESS = {5, 8, 32773, 32946, 50000}
"""LZW, Deflate, PackBits and Zstandard. Of others, a parser may look into the segments, or estimate
their sizes."""
_MOST_UNREAD_BYTES = 48
"""More bytes that are neither in the header nor in a segment are left to the checks of the parser
(see `unread`): an IFD to which nothing leads may be among them."""


@dataclass(frozen=True, slots=True)
class _Values:
    """Values of a tag, which are at the same place in all files."""

    start_bytes: int
    layout: struct.Struct

    @property
    def range(self) -> Range:
        """The bytes of the values."""
        return self.start_bytes, self.start_bytes + self.layout.size

    def read(self, have: Have) -> Sequence[int] | None:
        """The values in a file, None if they have not been fetched."""
        data = have(*self.range)
        return None if data is None else self.layout.unpack(data)


class Movable:
    """A header with one page, for files that have segments of other sizes behind it.

    Parameters
    ----------
    parsed : ParsedImage
    level : Level
        The only level of it.
    offsets, counts : _Values
    fixed : list of tuple
        Offset and bytes of all parts of the header that other headers must share.
    """

    __slots__ = ("_counts", "_fixed", "_level", "_n_bytes", "_offsets", "_parsed", "_stop")

    def __init__(
        self,
        parsed: ParsedImage,
        level: Level,
        offsets: _Values,
        counts: _Values,
        fixed: list[tuple[int, bytes]],
    ) -> None:
        self._parsed = parsed
        self._level = level
        self._offsets = offsets
        self._counts = counts
        self._fixed = fixed
        self._stop = max(start + len(part) for start, part in fixed)
        self._n_bytes = sum(len(part) for _, part in fixed)
        self._n_bytes += offsets.layout.size + counts.layout.size

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
        if found is None:
            return None
        level, keyframe, page = found
        values = [_values(keyframe, codes) for codes in (_OFFSETS, _COUNTS)]
        offsets, counts = values
        if offsets is None or counts is None:
            return None

        def have(start: int, stop: int) -> Buffer | None:
            for begin, part in parts:
                if begin <= start and stop <= begin + len(part):
                    return part[start - begin : stop - begin]
            return None

        stored = offsets.read(have), counts.read(have)
        is_as_stored = stored == (tuple(page.offsets), tuple(page.bytecounts))
        if not is_as_stored or not _are_alone([offsets.range, counts.range], keyframe):
            return None
        fixed = _without(parts, sorted([offsets.range, counts.range]))
        return cls(parsed, level, offsets, counts, fixed)

    def matching(self, have: Have, size_bytes: int, url: str) -> ParsedImage | None:
        """The header of a file of some size, None if it must be parsed.

        The checks of the parser pass for it: each segment is stored, and within the file, and next
        to nothing else is in the file.
        """
        for start, part in self._fixed:
            if have(start, start + len(part)) != part:
                return None
        offsets, counts = self._offsets.read(have), self._counts.read(have)
        if offsets is None or counts is None or min(offsets) < self._stop or min(counts) < 1:
            return None
        n_unread = size_bytes - self._n_bytes - sum(counts)
        if max(map(add, offsets, counts)) > size_bytes or not 0 <= n_unread <= _MOST_UNREAD_BYTES:
            return None
        levels = (self._level.with_segments(url, offsets, counts),)
        return replace(self._parsed, levels=levels)


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


def _values(keyframe: Any, codes: tuple[int, int]) -> _Values | None:
    """Where the values of one of two tags are; None if both are present, or none."""
    tags = [tag for tag in keyframe.tags if tag.code in codes]
    letter = _LETTERS.get(int(tags[0].dtype)) if len(tags) == 1 else None
    if letter is None:
        return None
    order = keyframe.parent.byteorder
    return _Values(int(tags[0].valueoffset), struct.Struct(f"{order}{tags[0].count}{letter}"))


def _are_alone(ranges: Sequence[Range], keyframe: Any) -> bool:
    """Whether nothing else of a header is in the ranges of some values of it."""
    layout = keyframe.parent.tiff
    key_bytes = layout.tagsize - layout.offsetsize
    tags = list(keyframe.tags)
    stop = keyframe.offset + layout.tagnosize + len(tags) * layout.tagsize
    used = [(0, 16), (keyframe.offset, keyframe.offset + layout.tagnosize)]
    used.append((stop, stop + layout.offsetsize))
    used += [(tag.offset, tag.offset + key_bytes) for tag in tags]
    used += [(tag.valueoffset, tag.valueoffset + tag.valuebytecount) for tag in tags]
    return all(
        sum(start < end and begin < stop for begin, end in used) == 1 for start, stop in ranges
    )


def _without(
    parts: Sequence[tuple[int, bytes]], ranges: Sequence[Range]
) -> list[tuple[int, bytes]]:
    """Parts of a file without some ranges, which are sorted."""
    left = []
    for begin, part in parts:
        at, end = begin, begin + len(part)
        for start, stop in ranges:
            if at <= start < end:
                left.append((at, part[at - begin : start - begin]))
                at = stop
        left.append((at, part[at - begin :]))
    return [(at, part) for at, part in left if part]
