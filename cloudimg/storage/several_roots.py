"""`SeveralRoots`: the objects of several buckets of one server, with one set of options.

A location without a root stands for them: keys begin with the name of their bucket. Each bucket has
its own backends, made when the first of its objects is read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from cloudimg.errors import ArgumentError, StorageError
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
from cloudimg.storage.urls import Location

T = TypeVar("T")

HAS_SEVERAL = ("s3", "gs", "az", "abfs", "abfss")
"""Protocols whose buckets are reached by the same options."""


def common_location(location: Location, other: Location, key: str) -> Location:
    """The location of the files of one image, some of which are in another one.

    Parameters
    ----------
    location, other : Location
    key : str
        A file in `other`, for the message.

    Raises
    ------
    ArgumentError
        If they are not buckets of one store.
    """
    if location == other:
        return location
    several = replace(location, root="")
    if location.protocol in HAS_SEVERAL and several == replace(other, root=""):
        return several
    at = location.display(location.root)
    where = "on local disks" if location.protocol == "file" else f"in {at}"
    raise ArgumentError(
        f"the files of one image must be in one store, but some are {where} and others, such as"
        f" {other.display(key)}, are not: copy them to one store, or open those of each store as an"
        " image of their own"
    )


class SeveralRoots:
    """Requests to several buckets.

    Parameters
    ----------
    location : Location
        Without a root.
    connect : callable
        Returns the backends of the location of one bucket.
    """

    lists_in_order = False
    checks_pages = False

    def __init__(self, location: Location, connect: Callable[[Location], list[Backend]]) -> None:
        self._location = location
        self._connect = connect
        self._lock = threading.Lock()
        self._by_root: dict[str, list[Backend]] = {}

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        return self._ask(key, lambda backend: backend.get(key, start, stop))

    def info(self, key: str) -> Entry:
        return self._ask(key, lambda backend: backend.info(key))

    def put(self, key: str, data: Data) -> Stored:
        return self._ask(key, lambda backend: backend.put(key, data))

    def create(self, key: str, data: Data) -> Stored:
        return self._ask(key, lambda backend: backend.create(key, data))

    def replace(self, key: str, data: Data, version: str) -> Stored:
        return self._ask(key, lambda backend: backend.replace(key, data, version))

    def delete(self, keys: Sequence[str]) -> None:
        for root in {key.partition("/")[0] for key in keys}:
            of_root = [key for key in keys if key.partition("/")[0] == root]
            self._ask(of_root[0], lambda backend, of_root=of_root: backend.delete(of_root))  # type: ignore[misc]

    def list_objects(
        self, folder: str, stem: str, depth: int | None, *, n_below: int = 0
    ) -> Iterator[Sequence[Entry]]:
        """Nothing needs a listing of files that a table or a list names."""
        raise NotMappableError

    def list_page(
        self, prefix: str, *, after: str = "", token: str | None = None, delimiter: str = ""
    ) -> Page:
        raise NotMappableError

    def mover(self) -> Mover:
        raise StorageError(
            "files in several buckets cannot be tagged or moved together: migrate the files of each"
            " bucket to a copy of their own"
        )

    def _ask(self, key: str, request: Callable[[Backend], T]) -> T:
        """The result of the first backend of the bucket of a key that can express a request."""
        root = key.partition("/")[0]
        with self._lock:
            backends = self._by_root.get(root)
            if backends is None:
                backends = self._connect(replace(self._location, root=root))
                self._by_root[root] = backends
        for backend in backends:
            try:
                return request(backend)
            except NotMappableError:
                continue
        raise NotMappableError
