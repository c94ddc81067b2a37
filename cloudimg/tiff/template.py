"""Reuse a parsed header for files whose headers are identical byte for byte."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cloudimg.tiff.parsed import ParsedImage
from cloudimg.tiff.sparse import SparseFile

_MAX_BYTES = 256 * 2**10


class Template:
    """A parsed header, reused for files whose headers are identical byte for byte.

    Parsing holds the interpreter's lock for 0.2 ms per file, and most files of an archive are
    written by one program in one run. The result of the parser depends only on what it reads: a
    file with the same bytes at all of these offsets has the same header, so comparing them is
    safe.

    Parameters
    ----------
    parsed : ParsedImage
        Result of parsing `file`.
    file : SparseFile
    kind : tuple
        Properties other than the content that the parser depends on; the header is reused only
        for files for which they are equal.
    """

    def __init__(self, parsed: ParsedImage, file: SparseFile, kind: tuple[Any, ...]) -> None:
        self._parsed = parsed
        self._kind = kind
        reads = file.take_reads()
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

    def matching(self, file: SparseFile, kind: tuple[Any, ...], url: str) -> ParsedImage | None:
        """The header of `file`, or None if it must be parsed."""
        if not self._is_usable or kind != self._kind:
            return None
        for start, part in self._bytes:
            if file.have(start, start + len(part)) != part:
                return None
        return replace(self._parsed, levels=tuple(level.of(url) for level in self._parsed.levels))
