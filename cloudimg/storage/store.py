"""`Store`: what the rest of cloudimg asks for bytes and listings; retries and fallbacks."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cloudimg.__about__ import __version__
from cloudimg.errors import (
    ArgumentError,
    CloudimgError,
    ClusterError,
    NotFoundError,
    ServerError,
    StorageError,
)
from cloudimg.settings import settings
from cloudimg.storage.base import Backend, Blob, Data, Entry, NotMappableError
from cloudimg.storage.local import LocalBackend
from cloudimg.storage.threads import engine
from cloudimg.storage.urls import Location, redact

T = TypeVar("T")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0


class Store:
    """The objects below one location, with one set of options.

    Making one connects to nothing; it pickles (with its options, which may be credentials) and
    connects at the first request in each process. Stores of one process with equal location and
    options share their connections. Thread-safe.

    Parameters
    ----------
    location : Location
    options : mapping
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
        """Tells stores with different options apart within a process; never stored or shown."""
        self._backends: list[Backend] | None = None
        self._pid = 0

    def __repr__(self) -> str:
        return f"Store({self.location.display(self.location.root)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (__version__, self.location, self.options)

    def __dask_tokenize__(self) -> tuple[str, ...]:
        # Options may be credentials: they never become part of a name.
        return ("cloudimg.Store", self.location.display(self.location.root))

    def get(self, key: str, start: int | None = None, stop: int | None = None) -> Blob:
        """Bytes of one object.

        Parameters
        ----------
        key : str
            Path of the object below ``protocol://``.
        start, stop : int, optional
            Half-open range; all bytes without one. A negative start asks for the last bytes.
            A range that reaches past the end of the object gives what there is.

        Raises
        ------
        StorageError
            One of its kinds, after the retries that it deserves.
        """

        def request(backend: Backend) -> Blob:
            blob = backend.get(key, start, stop)
            self._check_length(blob, key, start, stop)
            return blob

        asked = None if start is None or stop is None else (start, stop)
        return self._retried(request, asked)

    def _check_length(self, blob: Blob, key: str, start: int | None, stop: int | None) -> None:
        """A transfer that broke off unnoticed must not pass for the end of the object."""
        if blob.size_bytes is None or blob.is_whole:
            return
        first = 0 if start is None else start if start >= 0 else max(0, blob.size_bytes + start)
        last = blob.size_bytes if stop is None else min(stop, blob.size_bytes)
        if (blob.start_bytes, blob.stop_bytes) != (first, max(first, last)):
            url = self.location.display(key)
            raise ServerError(
                f"bytes {blob.start_bytes}-{blob.stop_bytes} came instead of {first}-{last}"
                f" from {url}",
                url=url,
            )

    def info(self, key: str) -> Entry:
        """Size and ETag of one object."""
        return self._retried(lambda backend: backend.info(key), None)

    def put(self, key: str, data: Data) -> None:
        """Store an object by one request, whole: readers see the old one or the new one.

        Parameters
        ----------
        key : str
            Path of the object below ``protocol://``. Folders above it are made where a store has
            folders.
        data : bytes-like
            All of it.

        Raises
        ------
        NoRoomError
            If the store or disk is full.
        StorageError
            Another of its kinds, after the retries that it deserves; also where nothing can be
            written, as to http or into an archive.
        """
        self._refuse_unwritable(key)
        self._retried(lambda backend: backend.put(key, data), None)

    def create(self, key: str, data: Data) -> bool:
        """Store an object if there is none of that name; whether it is ours now.

        Where an answer was lost and the request repeated, the first one may have stored it. What
        is there is therefore read back: `data` should be bytes that nobody else writes, because
        equal ones count as ours. This is not left to our own retries, because HTTP clients and
        proxies repeat a PUT by themselves.

        Raises
        ------
        StorageError
            As for `put`; also where the store cannot create an object only if there is none.
        """
        self._refuse_unwritable(key)
        if self._retried(lambda backend: backend.create(key, data), None):
            return True
        try:
            return bytes(self.get(key).data) == data
        except NotFoundError:
            return False

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are not there are fine. Emptied local folders stay.

        Raises
        ------
        StorageError
        """
        if keys:
            self._refuse_unwritable(keys[0])
            self._retried(lambda backend: backend.delete(keys), None)

    def _refuse_unwritable(self, key: str) -> None:
        place = self.location
        if place.before or place.after or place.protocol in ("http", "https"):
            url = place.display(key)
            what = "a web server" if place.protocol in ("http", "https") else "a chain of URLs"
            raise StorageError(
                f"cannot write {url}: it names {what}, which is read only; write to s3, gs, az or"
                " a local folder",
                url=url,
            )

    def list_objects(self, folder: str, stem: str, depth: int | None) -> Iterator[list[Entry]]:
        """Objects whose key begins with `stem`, in batches; see `Backend.list_objects`."""
        last = ""
        for backend in self._connected():
            attempts = settings().attempts
            for attempt in range(attempts):
                resume = last
                try:
                    for batch in backend.list_objects(folder, stem, depth):
                        # Only the sorted listing of S3 can break off between two batches; what
                        # was given before a retry or a fallback is not given again.
                        fresh = [entry for entry in batch if entry.key > resume]
                        last = batch[-1].key
                        yield fresh
                    return
                except NotMappableError:
                    break
                except ServerError as exc:
                    if attempt + 1 == attempts:
                        raise self._given_up(exc, attempts, None) from None
                    _pause(attempt)
        raise StorageError(f"{self} cannot be listed", url=self.location.display(folder))

    def _retried(self, request: Callable[[Backend], T], asked: tuple[int, int] | None) -> T:
        attempts = settings().attempts
        for attempt in range(attempts):
            try:
                with engine().requests:
                    return self._first_able(request)
            except ServerError as exc:
                if attempt + 1 == attempts:
                    raise self._given_up(exc, attempts, asked) from None
                _pause(attempt)
            except StorageError as exc:
                if exc.byte_range is None:
                    exc.byte_range = asked
                raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _given_up(
        self, exc: ServerError, attempts: int, asked: tuple[int, int] | None
    ) -> ServerError:
        return ServerError(
            f"{exc.message}; gave up after {attempts} attempts", url=exc.url, byte_range=asked
        )

    def _first_able(self, request: Callable[[Backend], T]) -> T:
        for backend in self._connected():
            try:
                return request(backend)
            except NotMappableError:
                continue
        raise StorageError(f"{self} cannot answer this request")

    def _connected(self) -> list[Backend]:
        if self._backends is None or self._pid != os.getpid():
            self._backends, self._pid = _shared_backends(self), os.getpid()
        return self._backends


def _pause(attempt: int) -> None:
    # Full jitter: a thousand workers that were throttled together must not come back together.
    longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (attempt + 1))
    time.sleep(random.uniform(_FIRST_PAUSE_S / 2, longest))


class _LateFsspec:
    """The fsspec backend, made when it is first needed: importing s3fs takes half a second."""

    def __init__(self, location: Location, options: Mapping[str, Any]) -> None:
        self._location, self._options = location, options
        self._lock = threading.Lock()
        self._backend: Backend | None = None

    def _made(self) -> Backend:
        with self._lock:
            if self._backend is None:
                from cloudimg.storage.fsspec_backend import FsspecBackend

                self._backend = FsspecBackend(self._location, self._options)
            return self._backend

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        return self._made().get(key, start, stop)

    def info(self, key: str) -> Entry:
        return self._made().info(key)

    def list_objects(self, folder: str, stem: str, depth: int | None) -> Iterator[list[Entry]]:
        return self._made().list_objects(folder, stem, depth)

    def put(self, key: str, data: Data) -> None:
        self._made().put(key, data)

    def create(self, key: str, data: Data) -> bool:
        return self._made().create(key, data)

    def delete(self, keys: Sequence[str]) -> None:
        self._made().delete(keys)


_lock = threading.Lock()
_backends: dict[tuple[Location, str, str], list[Backend]] = {}
_is_forked = False
"""Whether this process was forked from one that had connections: obstore's threads are not in it,
so that its calls would wait for ever."""


def _shared_backends(store: Store) -> list[Backend]:
    place = (store.location, store.identity, _environment())
    with _lock:
        if place not in _backends:
            _backends[place] = _make_backends(store.location, store.options)
        return _backends[place]


def _is_configured_in_fsspec(protocol: str) -> bool:
    """Whether fsspec's own configuration has options for the protocol, which only it can apply."""
    folder = Path(os.environ.get("FSSPEC_CONFIG_DIR", "~/.config/fsspec")).expanduser()
    if not folder.is_dir() and not any(name.startswith("FSSPEC_") for name in os.environ):
        return False  # and fsspec need not be imported
    import fsspec.config

    return bool(fsspec.config.conf.get(protocol))


def _environment() -> str:
    """Digest of the variables that endpoints and credentials come from: a later image sees those
    of its own time."""
    prefixes = ("AWS_", "GOOGLE_", "STORAGE_EMULATOR_", "CLOUDIMG_", "FSSPEC_", "SSL_CERT_")
    found = sorted(item for item in os.environ.items() if item[0].startswith(prefixes))
    return hashlib.sha256(repr(found).encode()).hexdigest()


def _make_backends(location: Location, options: Mapping[str, Any]) -> list[Backend]:
    """The ways to this location, best first."""
    slow: Backend = _LateFsspec(location, options)
    is_fast = (
        not _is_forked
        and settings().backend != "fsspec"
        and not _is_configured_in_fsspec(location.protocol)
    )
    if location.before or location.after:
        return [slow]
    if location.protocol == "file":
        forced = settings().backend == "fsspec"
        return [LocalBackend()] if not options and not forced else [slow]
    try:
        if location.protocol == "s3" and is_fast:
            from cloudimg.storage.obstore_backend import S3Backend

            return [S3Backend(options, location.root, location.display), slow]
        if location.protocol in ("http", "https") and not options and is_fast:
            from cloudimg.storage.obstore_backend import HTTPBackend

            return [HTTPBackend(location.protocol, location.root, location.display), slow]
    except NotMappableError:
        return [slow]
    except CloudimgError:
        raise
    except Exception as exc:  # noqa: BLE001
        raise ArgumentError(
            f"cannot connect to {location.display(location.root)}: {type(exc).__name__}:"
            f" {redact(str(exc))}",
            url=location.display(location.root),
        ) from None
    return [slow]


def forget_connections() -> None:
    """Make the next requests connect anew."""
    _backends.clear()


def _forget_after_fork() -> None:
    global _lock, _is_forked  # a lock held by another thread of the parent would never open
    _lock = threading.Lock()
    _is_forked = _is_forked or bool(_backends)
    forget_connections()


os.register_at_fork(after_in_child=_forget_after_fork)


def _arrived(version: str, location: Location, options: Mapping[str, Any]) -> Store:
    """A store that another process has sent.

    Whatever is sent to a worker that reads or writes has one, so that this is where different
    versions meet: they would not agree on what else is in the message.

    Raises
    ------
    ClusterError
    """
    if version != __version__:
        raise ClusterError(
            f"this process has cloudimg {__version__}, whoever sends it work has {version}: install"
            " the same version in both places"
        )
    return Store(location, options)
