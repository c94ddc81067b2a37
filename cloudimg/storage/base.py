"""What a backend gives: bytes of objects and listings, in the words of every store at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from cloudimg.errors import NoRoomError

Buffer = bytes | memoryview
Data = bytes | bytearray | memoryview
"""What can be stored."""


@dataclass(frozen=True, slots=True)
class Blob:
    """The answer to one request for bytes."""

    data: Buffer = field(repr=False)
    """The bytes; fewer than asked for where the object ends before."""
    start_bytes: int
    """Offset of `data` in the object."""
    size_bytes: int | None
    """Size of the whole object where the store says it."""
    etag: str | None
    """Version of the object that the bytes belong to, where the store says it."""

    @property
    def stop_bytes(self) -> int:
        return self.start_bytes + len(self.data)

    @property
    def is_whole(self) -> bool:
        return self.start_bytes == 0 and self.size_bytes == len(self.data)


class Entry(NamedTuple):
    """One object of a listing: a tuple, because a listing makes millions of them."""

    key: str
    """Path of the object below ``protocol://``."""
    size_bytes: int | None
    etag: str | None


class Backend(Protocol):
    """One way to talk to one store. All methods are safe to call from many threads.

    Methods raise the errors of `cloudimg.errors.StorageError`, or `NotMappableError` where this
    backend cannot express the request and the fsspec one shall answer it.
    """

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        """Bytes ``start:stop`` of an object; ``None, None`` is all; a negative start a suffix."""

    def info(self, key: str) -> Entry:
        """Size and ETag of one object."""

    def list_objects(self, folder: str, stem: str, depth: int | None) -> Iterator[list[Entry]]:
        """Objects whose key begins with `stem`, which begins with `folder` and a slash.

        `depth` bounds how many levels of folders below `folder` are of interest (1: the files
        in it); None means all. Backends with flat listings may give more.
        """

    def put(self, key: str, data: Data) -> None:
        """Store an object by one request; readers see all of the old one or all of the new."""

    def create(self, key: str, data: Data) -> bool:
        """Store an object if there is none of that name, and tell whether there was none."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are not there are fine."""


_NO_ROOM = ("quota", "toolarge", "storagefull", "insufficientstorage", "insufficientcapacity")


def is_no_room(status: int | None, code: str) -> bool:
    """Whether an answer says that the store is full or takes nothing so large.

    By status (RFC 9110, RFC 4918) or by code: QuotaExceeded (Ceph, with 403), EntityTooLarge (S3,
    with 400), XMinioStorageFull (MinIO). Trying again does not help.
    """
    return status in (413, 507) or any(word in code.lower() for word in _NO_ROOM)


def no_room(url: str, what: str) -> NoRoomError:
    """The error for it; `what` is the server's or the system's own words."""
    return NoRoomError(
        f"no room to write {url}{what}: the store or disk is full, a quota is used up, or it takes"
        " no object so large; free some and try again",
        url=url,
    )


class NotMappableError(Exception):
    """This backend cannot say exactly that; never leaves the storage package."""
