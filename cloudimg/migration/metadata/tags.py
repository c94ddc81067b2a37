"""Read the tags of a TIFF from bytes that were fetched before. Pure: nothing is fetched."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

from cloudimg.migration.plain_json import to_plain
from cloudimg.reading.header_cache import OpenFile
from cloudimg.tiff import SparseFile
from cloudimg.tiff.parser_log import ParserLog

_LARGEST_TAG_BYTES = 2**20
"""The values of larger tags are left out, since they are pixels or the like."""
_MOST_IFDS = 100_000
_MOST_COMPARED_BYTES = 64 * 2**10
_LOCATIONS = {273, 279, 324, 325, 288, 289, 330}
"""Codes of tags that locate segments and IFDs in the original, which is meaningless in a copy."""
_DESCRIPTION = 270


@dataclass(frozen=True, slots=True)
class FileTags:
    """The tags of all IFDs of a file."""

    description: str | None
    """ImageDescription of the first IFD."""
    tags: dict[str, Any]
    """Tags of the first IFD by name or number: code, type (of TIFF), count and value."""
    further: list[dict[str, Any]]
    """For each further IFD, the tags that differ from the first one; None for missing ones."""
    is_complete: bool
    """Whether the bytes of all IFDs had been fetched."""


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


def _parse(file: Any) -> FileTags | None:
    import tifffile

    try:
        # What tifffile logs about the file is in its notes; here it also logs what was not fetched.
        with ParserLog(), tifffile.TiffFile(file, name="") as tiff:
            return _read(tiff)
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


def _read(tiff: Any) -> FileTags:
    """Tags of all IFDs that can be parsed from the fetched bytes."""
    first = tiff.pages.first
    description = first.tags.get(_DESCRIPTION)
    text = _text(description.value) if description is not None else None
    tags = _tags_of(first)
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
        own = _tags_of(page)
        changed = {name: value for name, value in own.items() if tags.get(name) != value}
        changed |= {name: None for name in tags if name not in own}
        further.append(changed)
    return FileTags(text, tags, further, is_complete)


def _tags_of(page: Any) -> dict[str, Any]:
    """Tags of an IFD by name, or by number if they have no name."""
    tags: dict[str, Any] = {}
    for tag in page.tags:
        if tag.code in _LOCATIONS:
            continue
        name = tag.name if not tag.name.isdecimal() else str(tag.code)
        tags[name] = {"code": tag.code, "type": int(tag.dtype), "count": tag.count}
        if tag.valuebytecount > _LARGEST_TAG_BYTES:
            tags[name]["left_out_bytes"] = tag.valuebytecount
            continue
        try:
            tags[name]["value"] = to_plain(tag.value, of_bytes=_base64)
        except Exception:  # noqa: BLE001 - tifffile raises any error for bytes that were not fetched
            tags[name]["unreadable"] = True
    return tags


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

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")  # len() of an array counts items, not bytes
        stop = min(self._size, self._position + len(view))
        if stop <= self._position:
            return 0
        data = self._file.have(self._position, stop)
        if data is None:
            self.has_few_reads = False
            raise OSError(f"bytes {self._position}-{stop} were not fetched")
        self._record(data)
        view[: len(data)] = data
        self._position = stop
        return len(data)

    def _record(self, data: Any) -> None:
        self._n_read_bytes += len(data)
        self.has_few_reads &= self._n_read_bytes <= _MOST_COMPARED_BYTES
        if self.has_few_reads:
            self.reads.append((self._position, bytes(data)))
