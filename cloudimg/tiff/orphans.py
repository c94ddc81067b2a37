"""IFDs in the fetched bytes of a file, whether or not anything leads to them.

An IFD is recognised by its entries, which are in ascending order (TIFF 6.0, section 2): ImageLength
follows ImageWidth at once, each with one value.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from operator import itemgetter

from cloudimg.tiff.ifd import Dialect, Ifd, Range, entries_at, read_ifd, segment_offset
from cloudimg.tiff.sparse import SparseFile

LEAST_BYTES = 54
"""Size of an IFD of four tags, the fewest that a page has: the size of the image, and where its
segments are."""
_WIDTH, _LENGTH = 256, 257
_OFFSETS = {273, 324}
_COUNTING_TYPES = (3, 4, 16)
_MOST_TAGS = 255
"""Pages have fewer. With the next one, a limit to what a hostile file costs."""
_MOST_FOUND = 2000
"""So many places that look like an IFD are examined."""
_MOST_BEFORE = 2
"""Number of tags with a lower code than ImageWidth: NewSubfileType and SubfileType."""


def find_ifds(
    file: SparseFile, dialect: Dialect, gaps: Iterable[Range]
) -> Iterator[tuple[Ifd, int]]:
    """IFDs of images in parts of a file, and the offset of the first segment of each.

    What is looked at counts as read: a file with the same bytes there has the same IFDs.

    Parameters
    ----------
    file : SparseFile
        Nothing is fetched.
    dialect : Dialect
    gaps : iterable of Range
        Where to search.
    """
    search = _size_of_image(dialect)
    fetched = file.fetched_ranges()
    n_left = _MOST_FOUND
    for start, stop in (part for gap in gaps for part in _within(fetched, gap)):
        for match in search.finditer(file.look(start, stop) or b""):
            at = start + match.start() - dialect.count_bytes
            starts = [at - i * dialect.entry_bytes for i in range(_MOST_BEFORE + 1)]
            if not n_left:
                return
            n_left -= 1
            found = (_image_at(file, dialect, one, i) for i, one in enumerate(starts) if one >= 8)
            yield from (one for one in found if one is not None)


@cache
def _size_of_image(dialect: Dialect) -> re.Pattern[bytes]:
    """Matches the entries of ImageWidth and ImageLength, one after the other."""
    one = re.escape(struct.pack(f"{dialect.order}{'Q' if dialect.is_big else 'L'}", 1))
    types = (re.escape(struct.pack(f"{dialect.order}H", kind)) for kind in _COUNTING_TYPES)
    kind = b"(?:%s)" % b"|".join(types)
    width, length = (
        re.escape(struct.pack(f"{dialect.order}H", code)) + kind + one for code in (_WIDTH, _LENGTH)
    )
    return re.compile(b"%s.{%d}%s" % (width, dialect.offset_bytes, length), re.DOTALL)


def _image_at(
    file: SparseFile, dialect: Dialect, start: int, n_before: int
) -> tuple[Ifd, int] | None:
    """The IFD at an offset if all of it makes sense, and the offset of its first segment."""
    data = file.look(start, start + dialect.count_bytes) or b""
    is_short = dialect.unpack_count(data) <= _MOST_TAGS
    ifd = read_ifd(file.look, dialect, start) if is_short else None
    if ifd is None or len(ifd.codes) <= n_before or ifd.codes[n_before] != _WIDTH:
        return None
    if not _is_sound(file, dialect, ifd):
        return None
    segment = segment_offset(file.look, dialect, start)
    return None if segment is None or segment >= file.size_bytes else (ifd, segment)


def _is_sound(file: SparseFile, dialect: Dialect, ifd: Ifd) -> bool:
    """Whether an IFD has ascending tags of known types, segments, and offsets within the file."""
    size = file.size_bytes
    is_ascending = all(low < high for low, high in pairwise(ifd.codes))
    if not is_ascending or _OFFSETS.isdisjoint(ifd.codes) or ifd.next_bytes >= size:
        return False
    return all(
        (n_bytes or not count) and (n_bytes <= dialect.offset_bytes or value + n_bytes <= size)
        for _, count, n_bytes, value in entries_at(file.look, dialect, ifd.start_bytes)
    )


def unfetched_bytes(file: SparseFile, part: Range) -> int:
    """How many bytes of a range have not been fetched."""
    start, stop = part
    return stop - start - sum(last - first for first, last in _within(file.fetched_ranges(), part))


def _within(fetched: Sequence[Range], part: Range) -> Iterator[Range]:
    """The parts of a range that have been fetched."""
    start, stop = part
    for first, last in fetched[bisect_right(fetched, start, key=itemgetter(1)) :]:
        if first >= stop:
            return
        yield max(first, start), min(last, stop)
