"""Headers of files: fetched, parsed, remembered, and which version of the object they belong to."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from cloudimg.errors import ChangedError, NotTiffError
from cloudimg.formats import HEAD_BYTES as FORMAT_BYTES
from cloudimg.formats import Format, Read, find_format
from cloudimg.parsed import ParsedImage
from cloudimg.ranges import Span, coalesce
from cloudimg.storage import Blob, Store, engine
from cloudimg.tiff import Offsets, Request, SparseFile, Template, max_header_bytes, parse_tiff
from cloudimg.whole import decode_whole

Buffer = bytes | memoryview

HEAD_BYTES = 32 * 2**10
"""First request to a file. Directories at the front of 8192 x 8192 in tiles of 256 fit."""
_CACHED_BYTES = 128 * 2**20
_WINDOW_GAP_BYTES = 256
_TIFF_MAGIC = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}
_TIFF_BEGINS = {b"II", b"MM", b"EP"}
"""Byte orders, and what NDTiff and some cameras write instead; tifffile tells the rest."""
_WINDOW_SPAN_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Selection:
    """Which image of a file, how it is understood, and since when."""

    series: int
    alone: bool
    palette: str
    """See `cloudimg.tiff.Request`."""
    epoch: str
    """Of one opening of an image: headers that an earlier one read are not used again."""
    reader: Format | Read | None = field(compare=False)
    """Decodes files that are no TIFF: the user's own, or the format of the first file."""
    member: Offsets | None = None
    """See `cloudimg.tiff.Request`."""

    @property
    def is_own(self) -> bool:
        """Whether the user gave a reader, which all files then go to."""
        return self.reader is not None and not isinstance(self.reader, Format)


class OpenFile:
    """A parsed header, with the bytes that came with it and the version they belong to."""

    def __init__(
        self, url: str, parsed: ParsedImage, file: SparseFile, etag: str | None, size: int
    ) -> None:
        self.url = url
        self.parsed = parsed
        self.file = file
        self.etag = etag
        self.size_bytes = size
        self.cost_bytes = file.held_bytes + sum(level.held_bytes for level in parsed.levels)
        """Memory that remembering it takes, about."""


class HeaderReader:
    """Reads headers of files of one store; picklable and thread-safe.

    Parameters
    ----------
    store : Store
    selection : Selection
    """

    def __init__(self, store: Store, selection: Selection) -> None:
        self.store = store
        self.selection = selection
        self.versions: dict[str, str] = {}
        """ETags of the few files whose headers were read at open; other processes check them."""

    def open(self, key: str, *, size_bytes: int | None = None) -> OpenFile:
        """Read the header of a file anew and remember it.

        Raises
        ------
        StorageError, FormatError
        """
        opened = self.parse(key, self._head(key, size_bytes), metadata=True)
        _headers.put(self._identity(key), opened)
        return opened

    def cached(self, key: str) -> OpenFile | None:
        """The header if this process has it."""
        return _headers.get(self._identity(key))

    def shared(self, key: str, *, size_bytes: int | None) -> OpenFile:
        """The header, read once for all threads that ask for it at the same time."""
        return _headers.get_or_open(
            self._identity(key), lambda: self.parse(key, self._head(key, size_bytes))
        )

    def _head(self, key: str, size_bytes: int | None) -> Blob:
        blob = self.store.get(key, 0, HEAD_BYTES)
        size = blob.size_bytes
        if size is None:
            # Stores without Content-Range, and objects too short for any range.
            size = size_bytes if size_bytes is not None else self.store.info(key).size_bytes
        if size is None:
            whole = self.store.get(key)
            return Blob(whole.data, 0, len(whole.data), whole.etag)
        return Blob(blob.data, blob.start_bytes, size, blob.etag)

    @property
    def reads_whole(self) -> bool:
        """Whether files are known to be read whole: they are no TIFFs."""
        return self.selection.reader is not None

    def parse(self, key: str, blob: Blob, *, metadata: bool = False) -> OpenFile:
        """Parse the header that begins with `blob`, fetching what else it needs."""
        url = self.store.location.display(key)
        size = blob.size_bytes if blob.size_bytes is not None else len(blob.data)
        if size == 0:
            raise NotTiffError(f"{url} is empty (0 bytes)", url=url)
        self._check_known_version(key, blob)

        def fetch(ranges: Sequence[tuple[int, int]]) -> Sequence[tuple[int, Buffer]]:
            return self._windows(key, blob.etag, size, ranges)

        file = SparseFile(
            size,
            fetch,
            in_flight=engine().limits.max_requests,
            limit_bytes=max_header_bytes(),
            url=url,
        )
        reader = self._reader_of(key, bytes(blob.data[:FORMAT_BYTES]))
        if reader is not None:
            if metadata:
                # The files that an image is opened by speak for it; other processes may not have
                # registered their format.
                self.selection = replace(self.selection, reader=reader)
            whole = blob if blob.is_whole else self._whole(key, blob, size)
            return OpenFile(url, decode_whole(reader, whole.data, url), file, blob.etag, size)
        file.add(blob.start_bytes, blob.data)
        name = key.rsplit("/", 1)[-1]
        parsed = self._parsed(file, (size, name.rpartition(".")[2]), url, name, metadata)
        return OpenFile(url, parsed, file, blob.etag, size)

    def _parsed(
        self, file: SparseFile, kind: tuple[Any, ...], url: str, name: str, metadata: bool
    ) -> ParsedImage:
        """Parse a TIFF, or take what was parsed of the last one if its header was the same.

        Of a name the parser looks at the extension; where at more, there is no template.
        """
        chosen = self.selection
        request = Request(
            chosen.series, chosen.alone, chosen.palette, metadata, member=chosen.member
        )
        template = _templates.get(request)
        parsed = template.matching(file, kind, url) if template is not None else None
        if parsed is None:
            parsed = parse_tiff(file, request, url=url, name=name)
            _templates[request] = Template(parsed, file, kind)
        return parsed

    def _reader_of(self, key: str, head: bytes) -> Format | Read | None:
        """What decodes a file, None for a TIFF."""
        if self.selection.is_own:
            return self.selection.reader
        if head[:4] in _TIFF_MAGIC:
            return None
        name = key.rsplit("/", 1)[-1].partition("?")[0]
        first = self.selection.reader
        if isinstance(first, Format) and first.claims(name, head):
            return first
        known = find_format(name, head)
        if known is None and head[:2] in _TIFF_BEGINS:
            return None
        return known or first

    def _whole(self, key: str, head: Blob, size_bytes: int) -> Blob:
        blob = self.store.get(key)
        self.check_version(key, head.etag, size_bytes, blob)
        return blob

    def _windows(
        self, key: str, etag: str | None, size_bytes: int, ranges: Sequence[tuple[int, int]]
    ) -> list[tuple[int, Buffer]]:
        """Parts of a header, fetched at the same time; neighbours by one request."""

        def get(span: Span) -> tuple[int, Buffer]:
            blob = self.store.get(key, span.start_bytes, span.stop_bytes)
            self.check_version(key, etag, size_bytes, blob)
            offset = span.start_bytes - blob.start_bytes
            length = span.stop_bytes - span.start_bytes
            return span.start_bytes, memoryview(blob.data)[offset : offset + length]

        spans = coalesce(
            np.array([start for start, _ in ranges], np.int64),
            np.array([stop for _, stop in ranges], np.int64),
            max_gap_bytes=_WINDOW_GAP_BYTES,
            free_gap_bytes=_WINDOW_GAP_BYTES,
            max_waste=0,
            max_span_bytes=_WINDOW_SPAN_BYTES,
        )
        if len(spans) == 1:
            return [get(spans[0])]
        under_way = [engine().fetch_window(partial(get, span)) for span in spans]
        return [future.result() for future in under_way]

    def check_version(self, key: str, etag: str | None, size_bytes: int, blob: Blob) -> None:
        """That more bytes of an object belong to the version whose header was read."""
        same = etag is None or blob.etag is None or etag == blob.etag
        if not same or blob.size_bytes not in (None, size_bytes):
            raise self._changed(key, blob)

    def _check_known_version(self, key: str, blob: Blob) -> None:
        known = self.versions.get(key)
        if known is not None and blob.etag is not None and known != blob.etag:
            raise self._changed(key, blob)

    def _changed(self, key: str, blob: Blob) -> ChangedError:
        url = self.store.location.display(key)
        return ChangedError(
            f"{url} was replaced since the image was opened; open the image again",
            url=url,
            byte_range=(blob.start_bytes, blob.stop_bytes),
        )

    def _identity(self, key: str) -> tuple[Any, ...]:
        return (self.store.location, self.store.identity, key, self.selection)


class _HeaderCache:
    """The headers that this process used last, within a bound of memory."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._used = 0
        self._lock = threading.Lock()
        self._items: OrderedDict[Any, OpenFile] = OrderedDict()
        self._under_way: dict[Any, Future[OpenFile]] = {}

    def get_or_open(self, identity: Any, read: Callable[[], OpenFile]) -> OpenFile:
        with self._lock:
            found = self._items.get(identity)
            if found is not None:
                return found
            future = self._under_way.get(identity)
            is_mine = future is None
            if future is None:
                future = self._under_way[identity] = Future()
        if not is_mine:
            # Whoever reads it runs already, so waiting for it here cannot block it.
            return future.result()
        try:
            opened = read()
            self.put(identity, opened)
            future.set_result(opened)
            return opened
        except BaseException as exc:
            future.set_exception(exc)
            raise
        finally:
            with self._lock:
                del self._under_way[identity]

    def get(self, identity: Any) -> OpenFile | None:
        with self._lock:
            found = self._items.get(identity)
            if found is not None:
                self._items.move_to_end(identity)
            return found

    def put(self, identity: Any, opened: OpenFile) -> None:
        with self._lock:
            replaced = self._items.pop(identity, None)
            self._used += opened.cost_bytes - (replaced.cost_bytes if replaced else 0)
            self._items[identity] = opened
            # The newest stays, however large: the next chunk of the same file wants it.
            while self._used > self._capacity and len(self._items) > 1:
                self._used -= self._items.popitem(last=False)[1].cost_bytes


_headers = _HeaderCache(_CACHED_BYTES)
_templates: dict[Request, Template] = {}
"""The header parsed last; one is enough, as the files of one archive are read together."""


def _reset_after_fork() -> None:
    global _headers  # its lock may be held by a thread that the child lacks
    _headers = _HeaderCache(_CACHED_BYTES)


os.register_at_fork(after_in_child=_reset_after_fork)
