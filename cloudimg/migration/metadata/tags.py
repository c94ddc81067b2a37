"""Read the tags of a TIFF from bytes that were fetched before. Pure: nothing is fetched."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

from cloudimg.migration.metadata.source_xml import is_ome_xml
from cloudimg.migration.metadata.tag_bytes import (
    LARGEST_TAG_BYTES,
    SUB_IFDS,
    add_sub_ifd,
    bytes_of,
    with_bytes,
)
from cloudimg.migration.plain_json import to_plain
from cloudimg.reading.header_cache import OpenFile
from cloudimg.tiff import SparseFile
from cloudimg.tiff.ifd import MOST_TAGS, Dialect, entries_of
from cloudimg.tiff.parser_log import ParserLog

_MOST_IFDS = 100_000
_MOST_COMPARED_BYTES = 64 * 2**10
_LOCATIONS = {273, 279, 324, 325, 288, 289}
"""Codes of tags that locate segments in the original, which is meaningless in a copy."""
_SUBIFDS = 330
"""Code of the tag that locates further IFDs; the table has their number only."""
_DESCRIPTION = 270
_NUMBERS = {3, 4, 5, 8, 9, 10, 11, 12, 13, 16, 17, 18}
"""Types whose bytes follow from their values."""


@dataclass(frozen=True, slots=True)
class FileTags:
    """The tags of all IFDs of a file."""

    description: str | None
    """ImageDescription of the first IFD."""
    ome_xml: bytes | None
    """The same as stored, if it is OME-XML."""
    tags: dict[str, Any]
    """Tags of the first IFD by name or number: code, type (of TIFF), count and value."""
    further: list[dict[str, Any]]
    """For each further IFD, the tags that differ from the first one; None for missing ones."""
    is_complete: bool
    """Whether the bytes of all IFDs had been fetched."""
    dialect: Dialect
    """Byte order and width of offsets of the file."""
    segments: tuple[int, ...]
    """For each IFD, the offset of its first segment; -1 if it has none."""


def file_tags(opened: OpenFile) -> FileTags | None:
    """Tags of an opened file; None if it is not a TIFF or its first IFD was not fetched."""
    global _previous
    previous = _previous
    if previous is not None and previous.has_tags_of(opened):
        return previous.tags
    file = _FetchedBytes(opened.file, opened.size_bytes)
    tags = _parse(file)
    _previous = (
        _ParsedFile(opened.size_bytes, tuple(file.reads), tags) if file.has_few_reads else None
    )
    return tags


def _parse(file: _FetchedBytes) -> FileTags | None:
    import tifffile

    source: Any = file
    try:
        # What tifffile logs about the file is in its notes; here it also logs what was not fetched.
        with ParserLog(), tifffile.TiffFile(source, name="") as tiff:
            return _read(tiff, file)
    # tifffile raises all of these for damaged or truncated files.
    except (tifffile.TiffFileError, OSError, ValueError, KeyError, IndexError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class _ParsedFile:
    """A parsed file, with every byte range that was read to parse it."""

    size_bytes: int
    """Size of the file."""
    reads: tuple[tuple[int, bytes], ...]
    """Offset and bytes of each read."""
    tags: FileTags | None
    """The tags that were found."""

    def has_tags_of(self, opened: OpenFile) -> bool:
        """Whether another file has the same tags, because it is equal wherever this was read."""
        have = opened.file.have
        return opened.size_bytes == self.size_bytes and all(
            have(start, start + len(data)) == data for start, data in self.reads
        )


_previous: _ParsedFile | None = None
"""The file parsed last: most files of an archive have the same headers as the one before."""


def _read(tiff: Any, file: _FetchedBytes) -> FileTags:
    """Tags of all IFDs that can be parsed from the fetched bytes."""
    dialect = Dialect(tiff.byteorder, bool(tiff.is_bigtiff))
    first = tiff.pages.first
    description = first.tags.get(_DESCRIPTION)
    text = _text(description.value) if description is not None else None
    ome_xml = None
    if text is not None and is_ome_xml(text):
        ome_xml = _stored_text(description, file, dialect)
    tags = _tags_of(first, file, dialect)
    segments = [_first_segment(first)]
    further: list[dict[str, Any]] = []
    is_complete = True
    tiff.pages.useframes = False
    seen = {first.offset}
    for number in range(1, _MOST_IFDS):
        try:
            page = tiff.pages[number]
        except IndexError:
            break
        except Exception:  # noqa: BLE001 - tifffile raises any error for an IFD that was not fetched
            is_complete = False
            break
        if page.offset in seen:  # a circular chain, of which opening needed only a part
            is_complete = False
            break
        seen.add(page.offset)
        own = _tags_of(page, file, dialect)
        changed = {name: value for name, value in own.items() if tags.get(name) != value}
        changed |= {name: None for name in tags if name not in own}
        further.append(changed)
        segments.append(_first_segment(page))
    return FileTags(text, ome_xml, tags, further, is_complete, dialect, tuple(segments))


def _stored_text(tag: Any, file: _FetchedBytes, dialect: Dialect) -> bytes | None:
    """The bytes of a text without the NUL at its end; None if they were not fetched."""
    data = file.read_again(_position(tag, dialect), tag.valuebytecount)
    return None if data is None else data.rstrip(b"\0")


def _first_segment(page: Any) -> int:
    return int(page.dataoffsets[0]) if page.dataoffsets else -1


def _tags_of(page: Any, file: _FetchedBytes, dialect: Dialect) -> dict[str, Any]:
    """Tags of an IFD by name, or by number if they have no name."""
    tags: dict[str, Any] = {}
    for tag in page.tags:
        if tag.code in _LOCATIONS:
            continue
        name = tag.name if not tag.name.isdecimal() else str(tag.code)
        if name in tags:
            tags[name]["further"] = tags[name].get("further", 0) + 1
            continue
        tags[name] = {"code": tag.code, "type": int(tag.dtype), "count": tag.count}
        if tag.code == _SUBIFDS:
            continue
        if tag.valuebytecount > LARGEST_TAG_BYTES:
            tags[name]["left_out_bytes"] = tag.valuebytecount
            continue
        try:
            tags[name]["value"] = to_plain(tag.value, of_bytes=_base64)
        except Exception:  # noqa: BLE001 - tifffile raises any error for bytes that were not fetched
            tags[name]["unreadable"] = True
        _add_bytes(tags[name], tag, file, dialect)
    return tags | _unread_tags(page, file, dialect)


def _add_bytes(described: dict[str, Any], tag: Any, file: _FetchedBytes, dialect: Dialect) -> None:
    """Add the bytes of a tag where they do not follow from its value, and the IFD it points at."""
    kind = described["type"]
    if kind in _NUMBERS and tag.code not in SUB_IFDS and bytes_of(described, dialect.order):
        return
    try:
        data = file.read_at(_position(tag, dialect), tag.valuebytecount)
    except OSError:
        return
    if tag.code in SUB_IFDS:
        described.pop("unreadable", None)
        add_sub_ifd(described, data, file.read_at, dialect)
    else:
        with_bytes(described, data, dialect.order)


def _position(tag: Any, dialect: Dialect) -> int:
    """Where the value of a tag is stored.

    Where a small value is an offset, tifffile has that offset instead.
    """
    if tag.valuebytecount <= dialect.offset_bytes:
        return int(tag.offset) + dialect.entry_bytes - dialect.offset_bytes
    return int(tag.valueoffset)


def _unread_tags(page: Any, file: _FetchedBytes, dialect: Dialect) -> dict[str, Any]:
    """Tags that tifffile leaves out: of types that do not exist, or beyond the end of the file."""
    try:
        counted = file.read_at(page.offset, dialect.count_bytes)
        if len(page.tags) == dialect.unpack_count(counted) <= MOST_TAGS:
            return {}
        entries = entries_of(file.read_at, dialect, page.offset)
    except OSError:
        return {}
    import tifffile

    return {
        tifffile.TIFF.TAGS.get(code, str(code)): {
            "code": code,
            "type": kind,
            "count": count,
            "unreadable": True,
        }
        for code, kind, count, _ in entries or ()
        if code not in page.tags and code not in _LOCATIONS
    }


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _base64(value: bytes) -> dict[str, str]:
    """Bytes of a tag as JSON from which they can be restored exactly."""
    return {"base64": base64.b64encode(value).decode()}


class _FetchedBytes(io.RawIOBase):
    """File object over the bytes that were fetched; reading others raises `OSError`."""

    def __init__(self, file: SparseFile, size_bytes: int) -> None:
        super().__init__()
        self.reads: list[tuple[int, bytes]] = []
        """Offset and bytes of each read, while `has_few_reads`."""
        self.has_few_reads = True
        """Whether all reads succeeded and their bytes are few enough to be compared."""
        self._n_read_bytes = 0
        self._file = file
        self._size = size_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def read_at(self, start: int, n_bytes: int) -> bytes:
        """Read bytes at an offset; raises `OSError` unless all of them were fetched."""
        data = self._file.have(start, start + n_bytes) if start + n_bytes <= self._size else None
        if data is None:
            self.has_few_reads = False
            raise OSError(f"bytes {start}-{start + n_bytes} were not fetched")
        self._record(start, data)
        return bytes(data)

    def read_again(self, start: int, n_bytes: int) -> bytes | None:
        """Bytes that the parser has read, too; None if not all of them were fetched."""
        data = self._file.have(start, start + n_bytes)
        return None if data is None else bytes(data)

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")  # len() of an array counts items, not bytes
        stop = min(self._size, self._position + len(view))
        if stop <= self._position:
            return 0
        data = self._file.have(self._position, stop)
        if data is None:
            self.has_few_reads = False
            raise OSError(f"bytes {self._position}-{stop} were not fetched")
        self._record(self._position, data)
        view[: len(data)] = data
        self._position = stop
        return len(data)

    def _record(self, start: int, data: Any) -> None:
        self._n_read_bytes += len(data)
        self.has_few_reads &= self._n_read_bytes <= _MOST_COMPARED_BYTES
        if self.has_few_reads:
            self.reads.append((start, bytes(data)))
