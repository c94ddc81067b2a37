"""The interface of a backend, and the types that all backends share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

Buffer = bytes | memoryview
Data = bytes | bytearray | memoryview
"""Content that can be stored as an object."""


@dataclass(frozen=True, slots=True)
class Blob:
    """The response to one request for bytes."""

    data: Buffer = field(repr=False)
    """The bytes; fewer than requested if the object ends earlier."""
    start_bytes: int
    """Offset of `data` in the object."""
    size_bytes: int | None
    """Size of the whole object, if the store reports it."""
    etag: str | None
    """Version of the object that the bytes belong to, if the store reports it."""

    @property
    def stop_bytes(self) -> int:
        """Offset of the end of `data` in the object."""
        return self.start_bytes + len(self.data)

    @property
    def is_whole(self) -> bool:
        """Whether `data` is the whole object."""
        return self.start_bytes == 0 and self.size_bytes == len(self.data)


class Entry(NamedTuple):
    """One object in a listing: a tuple, because a listing can have millions of them."""

    key: str
    """Path of the object below ``protocol://``."""
    size_bytes: int | None
    etag: str | None


class Backend(Protocol):
    """One way to talk to one store. All methods are thread-safe.

    Methods raise `cloudimg.errors.StorageError` or one of its subclasses, or `NotMappableError`
    if this backend cannot express the request and the next one must answer it.
    """

    @property
    def lists_in_order(self) -> bool:
        """Whether listings come in pages, in the order of keys, and can begin after a key."""

    @property
    def checks_pages(self) -> bool:
        """Whether each page of a listing is known to be one, by what it says of itself."""

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        """Read bytes ``start:stop`` of an object.

        ``None, None`` reads the whole object; a negative start reads a suffix.
        """

    def info(self, key: str) -> Entry:
        """Size and ETag of one object."""

    def list_objects(
        self, folder: str, stem: str, depth: int | None, *, after: str = ""
    ) -> Iterator[list[Entry]]:
        """List objects whose key begins with `stem`, which begins with `folder` and a slash.

        `depth` limits how many levels of folders below `folder` are of interest (1: the files
        in it); None means all. Backends with flat listings may return more. Keys up to `after`
        may be left out, by backends that list in order.
        """

    def put(self, key: str, data: Data) -> None:
        """Store an object in one request; readers see all of the old one or all of the new."""

    def create(self, key: str, data: Data) -> bool:
        """Store an object unless the key exists; return whether it was stored."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; missing ones are not an error."""


class IncompleteListingError(Exception):
    """A listing that was already used turned out to lack objects; never leaves cloudimg."""


class NotMappableError(Exception):
    """This backend cannot express the request exactly; never leaves the storage package."""
