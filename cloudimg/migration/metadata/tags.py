"""The tags of a TIFF, from those of its bytes that are here already. Pure: nothing is fetched."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloudimg.reading.header_cache import OpenFile
from cloudimg.tiff.sparse import SparseFile

_LARGEST_TAG_BYTES = 2**20
"""Larger ones are pixels in disguise, and are left out by name."""
_MOST_PAGES = 100_000
_MOST_COMPARED_BYTES = 64 * 2**10
_OF_SEGMENTS = {273, 279, 324, 325, 288, 289, 330}
"""Where segments and directories lie in the original, which means nothing in a copy."""
_DESCRIPTION = 270


@dataclass(frozen=True, slots=True)
class FileTags:
    """What the directories of a file say."""

    description: str | None
    """ImageDescription of the first one."""
    tags: dict[str, Any]
    """Of the first one, by name or number: code, type (of TIFF), count and value."""
    further: list[dict[str, Any]]
    """Of each further one, what differs from the first."""
    is_complete: bool
    """Whether all directories were among the bytes at hand."""


def file_tags(opened: OpenFile) -> FileTags | None:
    """Tags of an opened file; None where it is no TIFF, or its first directory is not here."""
    global _last
    last = _last
    if last is not None and last.is_same(opened):
        return last.tags
    file = _Here(opened.file, opened.size_bytes)
    tags = _parsed(file)
    _last = _Last(opened.size_bytes, tuple(file.reads), tags) if file.has_few_reads else None
    return tags


def _parsed(file: Any) -> FileTags | None:
    import tifffile

    try:
        with tifffile.TiffFile(file, name="") as tiff:
            return _read(tiff)
    except (tifffile.TiffFileError, OSError, ValueError, KeyError, IndexError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class _Last:
    """The file parsed last. One whose bytes are the same wherever that was read says the same."""

    size_bytes: int
    reads: tuple[tuple[int, bytes], ...]
    tags: FileTags | None

    def is_same(self, opened: OpenFile) -> bool:
        """Whether parsing another file would give the same."""
        have = opened.file.have
        return opened.size_bytes == self.size_bytes and all(
            have(start, start + len(data)) == data for start, data in self.reads
        )


_last: _Last | None = None
"""One is enough: the files of an archive are mostly written by one program in one go."""


def _read(tiff: Any) -> FileTags:
    first = tiff.pages.first
    description = first.tags.get(_DESCRIPTION)
    text = _text(description.value) if description is not None else None
    tags = _tags_of(first)
    further: list[dict[str, Any]] = []
    is_complete = True
    tiff.pages.useframes = False
    for number in range(1, _MOST_PAGES):
        try:
            page = tiff.pages[number]
        except IndexError:
            break
        except Exception:  # noqa: BLE001 - a directory that is not here, whatever the parser makes of it
            is_complete = False
            break
        own = _tags_of(page)
        changed = {name: value for name, value in own.items() if tags.get(name) != value}
        changed |= {name: None for name in tags if name not in own}
        further.append(changed)
    return FileTags(text, tags, further, is_complete)


def _tags_of(page: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for tag in page.tags:
        if tag.code in _OF_SEGMENTS:
            continue
        name = tag.name if not tag.name.isdecimal() else str(tag.code)
        found[name] = {"code": tag.code, "type": int(tag.dtype), "count": tag.count}
        if tag.valuebytecount > _LARGEST_TAG_BYTES:
            found[name]["left_out_bytes"] = tag.valuebytecount
            continue
        try:
            found[name]["value"] = _as_json(tag.value)
        except Exception:  # noqa: BLE001 - a directory that is not here, whatever the parser makes of it
            found[name]["unreadable"] = True
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _as_json(value: Any) -> Any:
    """A tag's value so that it can be told again: bytes as Base64."""
    if isinstance(value, bytes | bytearray):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, np.ndarray):
        return _as_json(value.tolist())
    if isinstance(value, np.generic):
        return _as_json(value.item())
    if isinstance(value, dict):
        return {str(key): _as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int):
        return int(value)  # tifffile's enumerations are integers
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)


class _Here(io.RawIOBase):
    """A file of which only the fetched bytes can be read."""

    def __init__(self, file: SparseFile, size_bytes: int) -> None:
        super().__init__()
        self.reads: list[tuple[int, bytes]] = []
        """What was read, as long as it is little and all of it was there."""
        self.has_few_reads = True
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
        view = memoryview(buffer).cast("B")  # of arrays len() counts items
        stop = min(self._size, self._position + len(view))
        if stop <= self._position:
            return 0
        data = self._file.have(self._position, stop)
        if data is None:
            self.has_few_reads = False
            raise OSError("these bytes were not fetched")
        self._note(data)
        view[: len(data)] = data
        self._position = stop
        return len(data)

    def _note(self, data: Any) -> None:
        self._n_read_bytes += len(data)
        self.has_few_reads &= self._n_read_bytes <= _MOST_COMPARED_BYTES
        if self.has_few_reads:
            self.reads.append((self._position, bytes(data)))
