"""`Store`: reading, writing and listing of objects, with retries and fallbacks."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from cloudimg.__about__ import __version__
from cloudimg.errors import (
    ArgumentError,
    ClusterError,
    NotFoundError,
    ServerError,
    StorageError,
)
from cloudimg.settings import settings
from cloudimg.storage.base import (
    Backend,
    Blob,
    Data,
    Entry,
    IncompleteListingError,
    NotMappableError,
)
from cloudimg.storage.complete_listing import CompleteListing
from cloudimg.storage.connections import shared_backends
from cloudimg.storage.threads import engine
from cloudimg.storage.urls import Location

T = TypeVar("T")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0


class Store:
    """The objects of one location, with one set of options.

    Creating a store connects to nothing. It pickles (with its options, which may be credentials)
    and connects at the first request in each process. Stores of a process with equal location and
    options share their connections. Thread-safe.

    Parameters
    ----------
    location : Location
    options : mapping, optional
        fsspec's ``storage_options``.
    """

    def __init__(self, location: Location, options: Mapping[str, Any] | None = None) -> None:
        self.location = location
        if options is not None and not isinstance(options, Mapping):
            raise ArgumentError("storage_options must be a mapping of fsspec's options")
        self.options = dict(options or {})
        self.identity = hashlib.sha256(
            repr(sorted(self.options.items(), key=lambda item: item[0])).encode()
        ).hexdigest()
        """Digest of the options, to distinguish stores within a process; never stored or shown."""
        self._backends: list[Backend] | None = None
        self._pid = 0

    def __repr__(self) -> str:
        return f"Store({self.location.display(self.location.root)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (__version__, self.location, self.options)

    def __dask_tokenize__(self) -> tuple[str, ...]:
        # Options may be credentials: they never become part of a name.
        return ("cloudimg.Store", self.location.display(self.location.root))

    def get(
        self,
        key: str,
        start: int | None = None,
        stop: int | None = None,
        *,
        size_bytes: int | None = None,
        etag: str | None = None,
    ) -> Blob:
        """Read bytes of one object.

        Parameters
        ----------
        key : str
            Path of the object below ``protocol://``.
        start, stop : int, optional
            Half-open range; the default is the whole object. A negative start requests the last
            bytes. A range that extends past the end of the object is cut there.
        size_bytes, etag : optional
            Size and version of the object, where they are known. An answer with another size is
            then believed only if the object itself has changed.

        Raises
        ------
        StorageError
            Or a subclass of it, after retries where they can help.
        """

        def request(backend: Backend) -> Blob:
            blob = backend.get(key, start, stop)
            self._check_length(blob, key, start, stop)
            if size_bytes is None:
                return blob
            return self._with_checked_size(backend, key, blob, stop, size_bytes, etag)

        byte_range = None if start is None or stop is None else (start, stop)
        return self._retried(request, byte_range)

    def _with_checked_size(
        self,
        backend: Backend,
        key: str,
        blob: Blob,
        stop: int | None,
        size_bytes: int,
        etag: str | None,
    ) -> Blob:
        """Return an answer that has the known size, or else the size that the object has now."""
        last = size_bytes if stop is None else min(stop, size_bytes)
        ends_there = blob.size_bytes == size_bytes or (
            blob.size_bytes is None and blob.stop_bytes >= last
        )
        if ends_there or (etag and blob.etag and etag != blob.etag):
            return blob
        try:
            now = backend.info(key).size_bytes
        except StorageError:
            return blob  # some servers allow nobody to ask for the size alone
        if now == size_bytes:
            raise self._short(key, blob, size_bytes)
        return Blob(blob.data, blob.start_bytes, now, blob.etag)

    def short_answer(self, key: str, blob: Blob) -> ServerError | None:
        """Return the error of an answer that ended before the object; None if it did not.

        For callers that find an object incomplete: the store is asked for its size once more.
        """
        try:
            size_bytes = self.info(key).size_bytes
        except StorageError:
            return None
        if size_bytes is None or size_bytes <= (blob.size_bytes or blob.stop_bytes):
            return None
        return self._short(key, blob, size_bytes)

    def _short(self, key: str, blob: Blob, size_bytes: int) -> ServerError:
        url = self.location.display(key)
        end = blob.stop_bytes if blob.size_bytes is None else blob.size_bytes
        return ServerError(
            f"the transfer of {url} ended at byte {end}, but the file has {size_bytes} bytes",
            url=url,
        )

    def _check_length(self, blob: Blob, key: str, start: int | None, stop: int | None) -> None:
        """Check that a transfer did not break off, which would look like the end of the object."""
        if blob.size_bytes is None or blob.is_whole:
            return
        first = 0 if start is None else start if start >= 0 else max(0, blob.size_bytes + start)
        last = blob.size_bytes if stop is None else min(stop, blob.size_bytes)
        if (blob.start_bytes, blob.stop_bytes) != (first, max(first, last)):
            url = self.location.display(key)
            raise ServerError(
                f"received bytes {blob.start_bytes}-{blob.stop_bytes} instead of {first}-{last}"
                f" of {url}",
                url=url,
            )

    def info(self, key: str) -> Entry:
        """Size and ETag of one object."""
        return self._retried(lambda backend: backend.info(key), None)

    def put(self, key: str, data: Data) -> None:
        """Store a whole object in one request: readers see either the old one or the new one.

        Parameters
        ----------
        key : str
            Path of the object below ``protocol://``. Missing folders above it are created where a
            store has folders.
        data : bytes-like
            Content of the object.

        Raises
        ------
        NoRoomError
            If the store or disk is full.
        StorageError
            Or another subclass of it, after retries where they can help; also where writing is
            impossible, as to http or into an archive.
        """
        self._refuse_unwritable(key)
        self._retried(lambda backend: backend.put(key, data), None)

    def create(self, key: str, data: Data) -> bool:
        """Store an object unless the key exists; return whether this call stored it.

        If a response was lost and the request repeated, the first request may have stored the
        object. An existing object is therefore read back, and counts as stored by this call if it
        equals `data`, which should be bytes that no other writer uses. Our own retries are not the
        only reason: HTTP clients and proxies also repeat a PUT.

        Raises
        ------
        StorageError
            As for `put`; also if the store cannot create an object only if it does not exist.
        """
        self._refuse_unwritable(key)
        if self._retried(lambda backend: backend.create(key, data), None):
            return True
        try:
            return bytes(self.get(key).data) == data
        except NotFoundError:
            return False

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; missing ones are not an error. Empty local folders remain.

        Raises
        ------
        StorageError
        """
        if keys:
            self._refuse_unwritable(keys[0])
            self._retried(lambda backend: backend.delete(keys), None)

    def _refuse_unwritable(self, key: str) -> None:
        location = self.location
        is_web = location.protocol in ("http", "https")
        if location.before or location.after or is_web:
            url = location.display(key)
            raise StorageError(
                f"cannot write {url}: it names {'a web server' if is_web else 'a chain of URLs'},"
                " which is read only; write to s3, gs, az or a local folder",
                url=url,
            )

    def list_objects(
        self,
        folder: str,
        stem: str,
        depth: int | None,
        *,
        end_checks: list[Future[None]] | None = None,
    ) -> Iterator[list[Entry]]:
        """List objects whose key begins with `stem`, in batches.

        Parameters
        ----------
        folder, stem, depth
            See `Backend.list_objects`.
        end_checks : list of Future, optional
            Where given, the request that checks the end of the listing runs beside what the
            caller does next. Its future is appended, and raises `IncompleteListingError` where
            objects are missing: then the caller lists again without this argument. By default, the
            end is checked before the iteration ends.

        Raises
        ------
        StorageError
            Also if the store answers with pages that are not the listing.
        """
        listing = CompleteListing(
            self._connected(), folder, stem, depth, self.location.display(folder), self.pause
        )
        batches = listing.batches()
        for batch in batches:
            if batch is not None:
                yield batch
            elif end_checks is not None:
                end_checks.append(engine().fetch(partial(_check_end, batches)))
                return

    def _retried(self, request: Callable[[Backend], T], byte_range: tuple[int, int] | None) -> T:
        for attempt in range(settings().attempts):
            try:
                with engine().requests:
                    return self._first_able(request)
            except ServerError as exc:
                # Without the traceback, whose frames would keep the data of the request alive.
                failure = exc.with_traceback(None)
            except StorageError as exc:
                if exc.byte_range is None:
                    exc.byte_range = byte_range
                raise
            self.pause(failure, attempt, byte_range)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def pause(
        self, failure: ServerError, attempt: int, byte_range: tuple[int, int] | None = None
    ) -> None:
        """Wait after a failed attempt, counted from 0; raise after the last one."""
        attempts = settings().attempts
        if attempt + 1 == attempts:
            raise ServerError(
                f"{failure.message}; gave up after {attempts} attempts",
                url=failure.url,
                byte_range=byte_range,
                cause=failure.cause,
            )
        # Full jitter: a thousand workers that were throttled at once must not retry at once.
        longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (attempt + 1))
        time.sleep(random.uniform(_FIRST_PAUSE_S / 2, longest))

    def _first_able(self, request: Callable[[Backend], T]) -> T:
        """The result of the first backend that can express a request."""
        for backend in self._connected():
            try:
                return request(backend)
            except NotMappableError:
                continue
        raise StorageError(f"no backend of {self} supports this request")

    def _connected(self) -> list[Backend]:
        if self._backends is None or self._pid != os.getpid():
            self._backends = shared_backends(self.location, self.options, self.identity)
            self._pid = os.getpid()
        return self._backends


def _check_end(rest: Iterator[list[Entry] | None]) -> None:
    if any(rest):
        raise IncompleteListingError


def _unpickle(version: str, location: Location, options: Mapping[str, Any]) -> Store:
    """The store that another process pickled.

    All work that reads or writes on a worker includes a store, so this is where different versions
    of cloudimg are detected, which would not understand each other's messages.

    Raises
    ------
    ClusterError
    """
    if version != __version__:
        raise ClusterError(
            f"this process has cloudimg {__version__}, the process that sent the work has"
            f" {version}: install the same version in both places"
        )
    return Store(location, options)
