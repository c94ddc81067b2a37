"""Tags that tifffile leaves out of a page because their values are not in the file.

A value that does not fit into its entry is stored elsewhere, and the entry holds its offset (TIFF
6.0, section 2). Where an offset is damaged, tifffile drops the tag and logs that; the page then has
the default: floats become integers, and bytes become bits. Here the entries of an IFD are compared
with the size of the file, in bytes that have been fetched already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cloudimg.errors import CorruptFileError, TruncatedFileError
from cloudimg.errors.notes import Remark
from cloudimg.tiff.frames import DECIDING
from cloudimg.tiff.ifd import Dialect, entries_at
from cloudimg.tiff.sparse import SparseFile
from cloudimg.tiff.tifffile_private import known_pages

BEYOND_END = "tag-beyond-end"
"""Kind of the remark about tags without which the pixels are the same."""
_NEEDED = DECIDING | {
    273,  # StripOffsets
    279,  # StripByteCounts
    320,  # ColorMap
    324,  # TileOffsets
    325,  # TileByteCounts
    347,  # JPEGTables
}
"""Tags without which pixels are decoded otherwise, or not at all."""
_NAMES = {
    258: "BitsPerSample",
    270: "ImageDescription",
    273: "StripOffsets",
    279: "StripByteCounts",
    320: "ColorMap",
    324: "TileOffsets",
    325: "TileByteCounts",
    330: "SubIFDs",
    339: "SampleFormat",
    347: "JPEGTables",
}
"""Names of tags whose values are often too long for their entries (TIFF 6.0)."""
_FIRST_BYTES = 8
"""The header of a file, in which no value can be."""
_SHOWN = 5


def tagged_pages(images: Iterable[Any]) -> Iterator[Any]:
    """The pages of images of which tifffile has read all tags."""
    for image in images:
        for level in image.levels:
            yield from (
                page for page in known_pages(level) if page is not None and not page.is_frame
            )


def check_tags(tiff: Any, pages: Iterable[Any], file: SparseFile, url: str) -> tuple[Remark, ...]:
    """Check that the values of all tags that decide how pages are decoded are in the file.

    Nothing is read; pages that tifffile decodes by the tags of another one are compared with that
    one in `frames`.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    pages : iterable of tifffile.TiffPage
        See `tagged_pages`.
    file : SparseFile
    url : str

    Returns
    -------
    tuple of Remark
        A remark about other tags whose values are not in the file, if there are any.

    Raises
    ------
    CorruptFileError
    """
    dialect = Dialect(tiff.byteorder, tiff.is_bigtiff)
    if tiff.tiff.tagsize != dialect.entry_bytes:
        return ()  # NDPI, whose offsets continue behind the entries
    seen: set[int] = set()
    lost: list[str] = []
    for page in pages:
        start = int(page.offset)
        counted = file.have(start, start + dialect.count_bytes)
        if counted is None or dialect.unpack_count(counted) <= len(page.tags) or start in seen:
            continue
        seen.add(start)
        for code, at, stop in _dropped(page, dialect, file):
            if code in _NEEDED:
                raise _error(f"{_name(code)} of page {page.index}", at, stop, file.size_bytes, url)
            lost.append(f"{_name(code)} of page {page.index} at bytes {at}-{stop}")
    if not lost:
        return ()
    more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
    text = (
        f"values of tags are not in the file, which ends at byte {file.size_bytes}:"
        f" {', '.join(lost[:_SHOWN])}{more}; what they say, such as axes, is not known"
    )
    return (Remark(BEYOND_END, text),)


def _dropped(page: Any, dialect: Dialect, file: SparseFile) -> Iterator[tuple[int, int, int]]:
    """Tags that tifffile has left out, and from where to where their values would be stored.

    The values of types that do not exist have no bytes.
    """
    kept = set(page.tags.keys())
    for code, count, n_bytes, value in entries_at(file.have, dialect, int(page.offset)):
        if code in kept:
            continue
        if not n_bytes and count and code in _NEEDED:
            yield code, 0, 0
        elif (
            n_bytes > dialect.offset_bytes
            and not _FIRST_BYTES <= value <= file.size_bytes - n_bytes
        ):
            yield code, value, value + n_bytes


def _name(code: int) -> str:
    name = _NAMES.get(code)
    return f"tag {code} ({name})" if name else f"tag {code}"


def _error(what: str, at: int, stop: int, size_bytes: int, url: str) -> CorruptFileError:
    error, place = CorruptFileError, "has a type that does not exist"
    if stop > size_bytes:
        error = TruncatedFileError
        place = f"would be at bytes {at}-{stop}, but the file ends at byte {size_bytes}"
    elif stop:
        place = f"would be at byte {at} of {size_bytes}, in the header"
    return error(
        f"{url} is damaged or incomplete: the value of {what} {place}, and the pixels cannot be"
        " decoded without it; copy the file again from where it was written",
        url=url,
    )
