"""Headers of files: fetched, parsed, remembered, and which version of the object they belong to."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from cloudimg.errors import ArgumentError, ChangedError, NotTiffError
from cloudimg.storage import Blob, Store
from cloudimg.tiff import ParsedTiff, SparseFile, Template, parse_tiff

HEAD_BYTES = 32 * 2**10
"""First request to a file. Directories at the front of 8192 x 8192 in tiles of 256 fit."""
_CACHED_BYTES = 128 * 2**20
_SEGMENT_BYTES = 100
"""What Python needs for an offset and a byte count."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which image of a file, how it is understood, and since when."""

    series: int
    alone: bool
    """See `cloudimg.tiff.parse_tiff`."""
    epoch: str
    """Of one opening of an image: headers that an earlier one read are not used again."""


class OpenFile:
    """A parsed header, with the bytes that came with it and the version they belong to."""

    def __init__(self, parsed: ParsedTiff, file: SparseFile, etag: str | None, size: int) -> None:
        self.parsed = parsed
        self.file = file
        self.etag = etag
        self.size_bytes = size
        n_segments = sum(
            len(page.offsets) for level in parsed.levels for page in level.pages if page is not None
        )
        self.cost_bytes = file.held_bytes + _SEGMENT_BYTES * n_segments
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
        opened = self.parse(key, self._head(key, size_bytes))
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

    def parse(self, key: str, blob: Blob) -> OpenFile:
        """Parse the header that begins with `blob`, fetching what else it needs."""
        url = self.store.location.display(key)
        size = blob.size_bytes if blob.size_bytes is not None else len(blob.data)
        if size == 0:
            raise NotTiffError(f"{url} is empty (0 bytes)", url=url)

        def fetch(start: int, stop: int) -> memoryview:
            more = self.store.get(key, start, stop)
            self.check_version(key, opened_etag, size, more)
            offset = start - more.start_bytes
            return memoryview(more.data)[offset : offset + stop - start]

        self._check_known_version(key, blob)
        opened_etag = blob.etag
        file = SparseFile(size, fetch, _max_header_bytes(), url)
        file.add(blob.start_bytes, blob.data)
        name = key.rsplit("/", 1)[-1]
        # Of a name the parser looks at the extension; where at more, there is no template.
        kind = (size, name[-5:])
        template = _templates.get((self.selection.series, self.selection.alone))
        parsed = template.matching(file, kind, url) if template is not None else None
        if parsed is None:
            parsed = parse_tiff(
                file,
                url=url,
                name=name,
                series=self.selection.series,
                alone=self.selection.alone,
            )
            _templates[self.selection.series, self.selection.alone] = Template(parsed, file, kind)
        return OpenFile(parsed, file, blob.etag, size)

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
_templates: dict[tuple[int, bool], Template] = {}
"""The header parsed last; one is enough, as the files of one archive are read together."""


def _reset_after_fork() -> None:
    global _headers  # its lock may be held by a thread that the child lacks
    _headers = _HeaderCache(_CACHED_BYTES)


os.register_at_fork(after_in_child=_reset_after_fork)


def _max_header_bytes() -> int:
    text = os.environ.get("CLOUDIMG_MAX_HEADER_BYTES", "")
    if not text:
        return 256 * 2**20
    if not text.isdecimal():
        raise ArgumentError(f"CLOUDIMG_MAX_HEADER_BYTES={text!r} is not a number of bytes")
    return int(text)
