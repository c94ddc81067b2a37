"""The connections of this process: the backends of each location, shared by its stores."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from cloudimg.errors import ArgumentError, CloudimgError
from cloudimg.settings import settings
from cloudimg.settings.operating_system import run_after_fork
from cloudimg.storage.base import (
    Backend,
    Blob,
    Data,
    Entry,
    Mover,
    NotMappableError,
    Page,
    Stored,
)
from cloudimg.storage.endpoints import AZURE, fsspec_configuration
from cloudimg.storage.failures import cause_text, hide_secrets
from cloudimg.storage.local import LocalBackend
from cloudimg.storage.logs import hide_secrets_in_logs
from cloudimg.storage.network import VARIABLES as NETWORK_VARIABLES
from cloudimg.storage.put_parameters import refuse_unknown_parameters
from cloudimg.storage.several_roots import HAS_SEVERAL, SeveralRoots
from cloudimg.storage.urls import Location

_VARIABLES = ("AWS_", "AZURE_", "GOOGLE_", "STORAGE_EMULATOR_", "FSSPEC_")
"""Prefixes of the environment variables that determine endpoints and credentials."""

_lock = threading.Lock()
_backends: dict[tuple[Location, str, str, str], list[Backend]] = {}
"""In the order of their last use. Stores keep theirs; without a store, only some are kept."""
_MOST_UNUSED = 8
"""Sets of backends that are kept for stores to come: each has its own connections, and credentials
that are renewed give other options every hour."""
_is_forked = False
"""Whether this process was forked from one with connections. It does not have obstore's threads,
so calls of obstore would never return."""


def shared_backends(location: Location, options: Mapping[str, Any], identity: str) -> list[Backend]:
    """The backends that can serve a location, fastest first.

    Stores with equal location and options share them, as long as the variables that determine
    endpoints and credentials are the same: a store created later uses those of its own time.

    Parameters
    ----------
    location : Location
    options : mapping
        fsspec's ``storage_options``.
    identity : str
        Digest of the options.
    """
    key = (location, identity, settings().backend, _environment_digest())
    with _lock:
        # Popped and put back, so that the first one is the one whose last use was longest ago.
        found = _backends.pop(key, None) or _make_backends(location, options)
        _backends[key] = found
        while len(_backends) > _MOST_UNUSED:
            del _backends[next(iter(_backends))]
        return found


def forget_connections() -> None:
    """Make the next requests create new connections."""
    _backends.clear()


def _environment_digest() -> str:
    variables = sorted(
        item
        for item in os.environ.items()
        if item[0].startswith(_VARIABLES) or item[0].upper() in NETWORK_VARIABLES
    )
    return hashlib.sha256(repr(variables).encode()).hexdigest()


def _make_backends(location: Location, options: Mapping[str, Any]) -> list[Backend]:
    hide_secrets_in_logs()
    if location.protocol == "s3":
        refuse_unknown_parameters(options)
    if not location.root and location.protocol in HAS_SEVERAL:
        return [SeveralRoots(location, partial(_make_backends, options=options))]
    slow = _LateFsspec(location, options)
    if location.before or location.after or settings().backend == "fsspec":
        return [slow]
    if location.protocol == "file":
        return [slow] if options else [LocalBackend()]
    try:
        fast = _fast_backend(location, options)
        return [slow] if fast is None else [fast, slow]
    except NotMappableError:
        return [slow]
    except CloudimgError:
        raise
    except Exception as exc:  # noqa: BLE001
        url = location.display(location.root)
        failure = ArgumentError(
            f"cannot connect to {url}: {type(exc).__name__}: {hide_secrets(str(exc))}",
            url=url,
            cause=cause_text(exc),
        )
    raise failure


def _fast_backend(location: Location, options: Mapping[str, Any]) -> Backend | None:
    """The obstore backend, or None if there is none for the protocol.

    Raises
    ------
    NotMappableError
        If it cannot express the location or the options.
    """
    # Only fsspec can apply its own configuration.
    if _is_forked or fsspec_configuration(location.protocol):
        return None
    # obstore is imported only for a location that needs it.
    if location.protocol == "s3":
        from cloudimg.storage.obstore_backend import S3Backend

        return S3Backend(options, location.root, location.display)
    if location.protocol == "gs":
        from cloudimg.storage.gcs_backend import GCSBackend

        return GCSBackend(options, location.root, location.display)
    if location.protocol in AZURE:
        from cloudimg.storage.azure_backend import AzureBackend

        return AzureBackend(options, location.root, location.display)
    if location.protocol in ("http", "https") and not options:
        from cloudimg.storage.obstore_backend import HTTPBackend

        return HTTPBackend(location.protocol, location.root, location.display)
    return None


class _LateFsspec:
    """The fsspec backend, created when first needed: importing s3fs takes half a second."""

    def __init__(self, location: Location, options: Mapping[str, Any]) -> None:
        self._location, self._options = location, options
        self._lock = threading.Lock()
        self._created: Backend | None = None

    def _backend(self) -> Backend:
        with self._lock:
            if self._created is None:
                from cloudimg.storage.fsspec_backend import FsspecBackend

                self._created = FsspecBackend(self._location, self._options)
            return self._created

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        return self._backend().get(key, start, stop)

    def info(self, key: str) -> Entry:
        return self._backend().info(key)

    @property
    def lists_in_order(self) -> bool:
        return self._backend().lists_in_order

    @property
    def checks_pages(self) -> bool:
        return self._backend().checks_pages

    def list_objects(
        self, folder: str, stem: str, depth: int | None, *, n_below: int = 0
    ) -> Iterator[Sequence[Entry]]:
        return self._backend().list_objects(folder, stem, depth, n_below=n_below)

    def list_page(
        self, prefix: str, *, after: str = "", token: str | None = None, delimiter: str = ""
    ) -> Page:
        return self._backend().list_page(prefix, after=after, token=token, delimiter=delimiter)

    def put(self, key: str, data: Data) -> Stored:
        return self._backend().put(key, data)

    def create(self, key: str, data: Data) -> Stored:
        return self._backend().create(key, data)

    def replace(self, key: str, data: Data, version: str) -> Stored:
        return self._backend().replace(key, data, version)

    def delete(self, keys: Sequence[str]) -> None:
        self._backend().delete(keys)

    def mover(self) -> Mover:
        return self._backend().mover()


def _forget_after_fork() -> None:
    global _lock, _is_forked  # a lock that another thread of the parent held would never open
    _lock = threading.Lock()
    _is_forked = _is_forked or bool(_backends)
    forget_connections()


run_after_fork(_forget_after_fork)
