"""`Store`: reading, writing and listing of objects, with retries and fallbacks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from cloudimg.errors import (
    ArgumentError,
    NotConditionalError,
    NotFoundError,
    ServerError,
    StorageError,
)
from cloudimg.errors.arrival import raised_where_used
from cloudimg.settings import parse_rate
from cloudimg.storage.attempts import Attempts
from cloudimg.storage.base import (
    Backend,
    Blob,
    Created,
    Data,
    Entry,
    Mover,
    Stored,
    WriteGuard,
)
from cloudimg.storage.lengths import check_length, short_transfer, with_checked_size
from cloudimg.storage.listing import Lister
from cloudimg.storage.resuming import ResumedGet
from cloudimg.storage.sending import Sender
from cloudimg.storage.splitting import Outline
from cloudimg.storage.urls import Location

T = TypeVar("T")

_FLAT = ("file", "s3", "gs", "az", "abfs", "abfss", "memory", "zip", "tar")
"""Protocols whose listings are flat or cheap."""


class Store:
    """The objects of one location, with one set of options.

    Creating a store connects to nothing. It pickles (with its options, which may be credentials)
    and connects at the first request in each process. Stores of a process with equal location and
    options share their connections. Thread-safe.

    Parameters
    ----------
    location : Location
    options : mapping, optional
        fsspec's ``storage_options``, and perhaps ``max_rate``, see `parse_rate`.
    """

    def __init__(self, location: Location, options: Mapping[str, Any] | None = None) -> None:
        self.location = location
        if options is not None and not isinstance(options, Mapping):
            raise ArgumentError("storage_options must be a mapping of fsspec's options")
        self.options = dict(options or {})
        given = {name: value for name, value in self.options.items() if name != "max_rate"}
        allowed = self.options.get("max_rate")
        max_rate = None if allowed is None else parse_rate("max_rate", allowed)
        self.identity = hashlib.sha256(
            repr(sorted(given.items(), key=lambda item: item[0])).encode()
        ).hexdigest()
        """Digest of the options, to distinguish stores within a process; never stored or shown."""
        self._attempts = Attempts(location, given, self.identity, max_rate)
        self._guard: WriteGuard | None = None

    def __repr__(self) -> str:
        return f"Store({self.location.display(self.location.root)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self.location, self.options, self._guard)

    def guarded(self, guard: WriteGuard) -> Store:
        """The same store, to which nothing is written unless a guard allows each attempt."""
        store = Store(self.location, self.options)
        store._guard = guard
        return store

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
        url = self.location.display(key)
        resumed = ResumedGet(key, start, stop)

        def request(backend: Backend) -> Blob:
            blob = resumed.get(backend)
            check_length(blob, url, start, stop)
            if size_bytes is None:
                return blob
            return with_checked_size(
                blob,
                backend=backend,
                key=key,
                url=url,
                stop=stop,
                size_bytes=size_bytes,
                etag=etag,
            )

        byte_range = None if start is None or stop is None else (start, stop)
        n_bytes = None if stop is None else stop - max(0, start or 0)
        return self._attempts.make(request, byte_range, n_bytes=n_bytes)

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
        return short_transfer(self.location.display(key), blob, size_bytes)

    def info(self, key: str) -> Entry:
        """Size and ETag of one object."""
        return self._attempts.make(lambda backend: backend.info(key))

    def put(self, key: str, data: Data) -> str | None:
        """Store a whole object in one request: readers see either the old one or the new one.

        Parameters
        ----------
        key : str
            Path of the object below ``protocol://``. Missing folders above it are created where a
            store has folders.
        data : bytes-like
            Content of the object.

        Returns
        -------
        str or None
            Version of the stored object, if the store reports it.

        Raises
        ------
        NoRoomError
            If the store or disk is full.
        StorageError
            Or another subclass of it, after retries where they can help; also where writing is
            impossible, as to http or into an archive.
        """
        return self._sender.send(key, data, lambda backend: backend.put(key, data)).etag

    def create(self, key: str, data: Data) -> Created:
        """Store an object unless the key exists; the result is true if this call stored it.

        If a response was lost and the request repeated, the first request may have stored the
        object. An existing object is therefore read back, and counts as stored by this call if it
        equals `data`, which should be bytes that no other writer uses. Our own retries are not the
        only reason: HTTP clients and proxies also repeat a PUT.

        Raises
        ------
        StorageError
            As for `put`; also if the store cannot create an object only if it does not exist.
        """
        stored = self._sender.send(key, data, lambda backend: backend.create(key, data))
        return self._sender.standing(key, data, stored, self.get)

    def replace(self, key: str, data: Data, version: str | None) -> Created:
        """Store an object if the key has this version of it; true if the key has it now.

        Where the store has no versions or cannot compare them, it is stored in any case. The result
        of a request whose answer was lost is found as by `create`.

        Raises
        ------
        StorageError
            As for `put`.
        """
        if version is None:
            return Created(is_new=True, etag=self.put(key, data))
        sender = self._sender
        try:
            stored = sender.send(key, data, lambda backend: backend.replace(key, data, version))
        except NotConditionalError:
            return Created(is_new=True, etag=self.put(key, data))
        except NotFoundError:  # S3 answers 404, not 412, where nothing stands there
            stored = Stored(is_new=False)
        created = sender.standing(key, data, stored, self.get)
        if not created.is_new and created.etag == version:
            # The store compares versions in another form than the one in which it states them.
            return Created(is_new=True, etag=self.put(key, data))
        return created

    @property
    def _sender(self) -> Sender:
        return Sender(self.location, self.identity, self._attempts, self._guard)

    def refuse_unwritable(self, key: str) -> None:
        """Refuse to write where that is impossible; see `Sender.refuse_unwritable`."""
        self._sender.refuse_unwritable(key)

    def replaces_existing(self, key: str, data: Data) -> bool:
        """Create an object that exists, and return whether the store ignored that it does."""
        return self._attempts.write(lambda backend: backend.create(key, data), self._guard).is_new

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; missing ones are not an error. Empty local folders remain.

        Raises
        ------
        StorageError
        """
        if keys:
            self._sender.refuse_unwritable(keys[0])
            self._attempts.write(lambda backend: backend.delete(keys), self._guard, deletes=True)

    def move(
        self, request: Callable[[Mover], T], *, changes: bool = True, deletes: bool = False
    ) -> T:
        """The result of a request within the store, made again where that can help; see `Mover`.

        Parameters
        ----------
        request : callable
        changes, deletes : bool
            Whether it changes something, and whether it deletes an object.

        Raises
        ------
        StorageError
        """

        def ask(backend: Backend) -> T:
            return request(backend.mover())

        if not changes:
            return self._attempts.make(ask)
        return self._attempts.write(ask, self._guard, deletes=deletes)

    def list_objects(
        self,
        folder: str,
        stem: str,
        depth: int | None,
        *,
        end_checks: list[Future[None]] | None = None,
        coming: Collection[str] = (),
        n_below: int = 0,
        with_dangling: bool = False,
        believes_empty: bool = False,
        outline: Outline | None = None,
    ) -> Iterator[Sequence[Entry]]:
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
        coming : collection of str
            Keys that may be stored meanwhile: for `end_checks` they are not missing.
        n_below : int
            Number of objects deeper than `depth` to list, too, if there are as many; 0 unless
            `lists_below`.
        with_dangling : bool
            Whether to list symbolic links that lead to nothing, with `DANGLING` as their ETag.
        believes_empty : bool
            Whether an empty answer is believed at once. Then it may be something else than a
            listing, and the caller asks again before it acts on it.
        outline : Outline, optional
            What is known of the keys: a long listing is then cut into ranges, whose batches come in
            any order, and may leave out keys that the outline does not accept.

        Raises
        ------
        UnorderedListingError
            With `outline`, of a store that does not list in order: list again without it.
        StorageError
            Also if the store answers with pages that are not the listing.
        """
        return self._lister.list_objects(
            folder,
            stem,
            depth,
            end_checks=end_checks,
            coming=coming,
            n_below=n_below,
            with_dangling=with_dangling,
            believes_empty=believes_empty,
            outline=outline,
        )

    @property
    def lists_in_order(self) -> bool:
        """Whether names are listed in the order of keys, and up to any delimiter."""
        return any(backend.lists_in_order for backend in self._attempts.backends())

    def beginnings(self, prefix: str, delimiter: str) -> tuple[list[str], int]:
        """What the keys with a prefix have up to a delimiter and with it; and how often it asked.

        Only of a store that `lists_in_order`.

        Raises
        ------
        StorageError
        """
        return self._lister.beginnings(prefix, delimiter)

    @property
    def _lister(self) -> Lister:
        return Lister(self.location, self._attempts)

    @property
    def lists_below(self) -> bool:
        """Whether all of a folder can be listed without a request for each folder below it."""
        return self.location.protocol in _FLAT


@raised_where_used
def _unpickle(location: Location, options: Mapping[str, Any], guard: WriteGuard | None) -> Store:
    store = Store(location, options)
    return store if guard is None else store.guarded(guard)
