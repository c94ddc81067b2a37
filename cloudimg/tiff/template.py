"""Reuse a parsed header for files whose headers are the same but for places of segments."""

from __future__ import annotations

from collections.abc import Sequence

from cloudimg.tiff.ifd import Range
from cloudimg.tiff.movable import Movable
from cloudimg.tiff.parsed import ParsedImage
from cloudimg.tiff.sparse import SparseFile

_MAX_BYTES = 256 * 2**10


class Template:
    """A parsed header, reused for files whose headers are identical byte for byte.

    Parsing holds the interpreter's lock for 0.2 ms per file, and most files of an archive are
    written by one program in one run. The result of the parser depends only on what it reads: a
    file with the same bytes at all of these offsets has the same header, so comparing them is
    safe. Headers that differ only in where their segments are stored are reused too, see `movable`.

    Parameters
    ----------
    parsed : ParsedImage
        Result of parsing `file`.
    file : SparseFile
    suffix : str
        What the parser depends on beside the content: the extension of the name of the file. The
        header is reused only for files for which it is equal.
    reads : sequence of tuple
        The ranges of the file that the parser read.
    """

    def __init__(
        self, parsed: ParsedImage, file: SparseFile, suffix: str, reads: Sequence[Range]
    ) -> None:
        self._parsed = parsed
        self._size = file.size_bytes
        self._suffix = suffix
        self._movable: Movable | None = None
        self._is_looked_for = False
        is_small = sum(stop - start for start, stop in reads) <= _MAX_BYTES
        parts = [(start, file.have(start, stop)) for start, stop in reads] if is_small else []
        self._bytes = [(start, bytes(part)) for start, part in parts if part is not None]
        # Levels that read the file while decoding would read the first file instead of their own.
        self._is_usable = (
            is_small
            and len(self._bytes) == len(parts)
            and not parsed.depends_on_name
            and not any(level.is_bound for level in parsed.levels)
        )

    def matching(self, file: SparseFile, suffix: str, url: str) -> ParsedImage | None:
        """The header of `file`, or None if it must be parsed."""
        if not self._is_usable or suffix != self._suffix:
            return None
        if file.size_bytes == self._size and all(
            file.have(start, start + len(part)) == part for start, part in self._bytes
        ):
            levels = tuple(level.of(url) for level in self._parsed.levels)
            return self._parsed.with_levels(levels)
        if not self._is_looked_for:
            self._is_looked_for = True
            self._movable = Movable.of(self._parsed, self._bytes)
        movable = self._movable
        return None if movable is None else movable.matching(file.have, file.size_bytes, url)
