"""Cache of the headers that this process read most recently."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property
from typing import Any

from cloudimg.formats import Format, ReadFunction
from cloudimg.reading.transit import Arrival
from cloudimg.settings.operating_system import run_after_fork
from cloudimg.storage import engine
from cloudimg.tiff import ParsedImage, SparseFile

_CACHED_BYTES = 128 * 2**20
_OBJECTS_BYTES = 2400
"""Memory of the objects of a header, besides the bytes of the file and tables of segments."""


class OpenFile:
    """The parsed header of a file, the bytes fetched with it, and the version of the object."""

    def __init__(
        self,
        url: str,
        parsed: ParsedImage,
        file: SparseFile,
        *,
        etag: str | None,
        size_bytes: int,
        decoder: Format | ReadFunction | None = None,
    ) -> None:
        self.url = url
        self.parsed = parsed
        self.file = file
        self.etag = etag
        self.size_bytes = size_bytes
        self.decoder = decoder
        """Decoder of the whole file; None for a TIFF."""
        self.arrival = Arrival(None)
        """What is known about the bytes of the file."""

    @cached_property
    def cost_bytes(self) -> int:
        """Approximate memory that it takes in the cache."""
        levels = sum(level.held_bytes for level in self.parsed.levels)
        planes = sum(each.values.nbytes for each in self.parsed.planes.values())
        return _OBJECTS_BYTES + self.file.held_bytes + levels + planes


class HeaderCache:
    """The most recently used headers, bounded by memory. Thread-safe."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._used = 0
        self._lock = threading.Lock()
        self._items: OrderedDict[Any, OpenFile] = OrderedDict()
        self._under_way: dict[Any, Future[OpenFile]] = {}

    def get_or_open(self, identity: Any, read: Callable[[], OpenFile]) -> OpenFile:
        """Return a header, reading it once for all threads that request it at the same time."""
        with self._lock:
            found = self._items.get(identity)
            if found is not None:
                return found
            future = self._under_way.get(identity)
            is_mine = future is None
            if future is None:
                future = self._under_way[identity] = Future()
        if not is_mine:
            # The thread that reads it is running already, so waiting here cannot deadlock.
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
        """Return a header, None where it is not cached."""
        with self._lock:
            found = self._items.get(identity)
            if found is not None:
                self._items.move_to_end(identity)
            return found

    def put(self, identity: Any, opened: OpenFile) -> None:
        """Add or replace a header and drop the least recently used ones."""
        most_bytes = engine().most_cached_bytes
        with self._lock:
            replaced = self._items.pop(identity, None)
            self._used += opened.cost_bytes - (replaced.cost_bytes if replaced else 0)
            self._items[identity] = opened
            # The newest stays, however large, because the next chunk of the same file needs it.
            capacity = min(self._capacity, most_bytes)
            while self._used > capacity and len(self._items) > 1:
                self._used -= self._items.popitem(last=False)[1].cost_bytes

    def forget(self) -> None:
        """Empty the cache in a forked child, where a thread that held the lock does not exist."""
        self._used = 0
        self._lock = threading.Lock()
        self._items = OrderedDict()
        self._under_way = {}


HEADER_CACHE = HeaderCache(_CACHED_BYTES)
"""The cache of this process."""
run_after_fork(HEADER_CACHE.forget)
