"""Storing the objects of a copy so that no request that arrives late can replace them.

Every object is created: the store refuses it where something stands in its place already. What
stands there is examined then. It stays if it is the same object, from before a kill or from a
request whose answer was lost, and also if it has the same content in other bytes, as another
version of a codec writes them. Anything else is deleted, under a lease that was just read back, and
the object is created again; without a lease, it is an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloudimg.errors import ChangedError, LeaseError, NotFoundError
from cloudimg.migration.journal.destination import Destination
from cloudimg.storage import Data

_MOST_ATTEMPTS = 4

IsEqual = Callable[[Data], bool]
"""Whether other bytes have the same content."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One stored object, such as a shard (in Zarr 2, a chunk) or a part of the originals."""

    key: str
    """Relative to the destination."""
    size_bytes: int
    """Size in bytes."""
    sha256: str
    """SHA-256 of the stored bytes, in hexadecimal."""
    etag: str | None = None
    """Version of the object when it was stored; None if the store reports none, and in copies of
    older versions. It changes when a copy is moved."""

    def to_json(self) -> list[str | int]:
        """The object as JSON for a commit record."""
        fields: list[str | int] = [self.key, self.size_bytes, self.sha256]
        return fields if self.etag is None else [*fields, self.etag]


@dataclass(frozen=True, slots=True)
class StoredLevel:
    """What a cell stored at one level."""

    level: int
    """Number of the level."""
    pixels_sha256: str
    """SHA-256 of the region's pixels, little-endian, in C order of the plan's dims, image by image.
    """
    empty: str
    """Base64 of bits, one per chunk of the cell in C order: 1 if all pixels are the fill value. The
    bits of each image begin a new byte."""
    objects: tuple[StoredObject, ...]
    """Stored objects. Empty shards are stored, too, with an index of absent chunks, and in Zarr 2
    the empty chunks; in copies of older versions they are not."""

    def to_json(self) -> dict[str, Any]:
        """The level as JSON for a commit record."""
        return {
            "level": self.level,
            "pixels_sha256": self.pixels_sha256,
            "empty": self.empty,
            "objects": [stored.to_json() for stored in self.objects],
        }


def _is_never_equal(_: Data) -> bool:
    return False


def create_object(
    destination: Destination,
    key: str,
    data: Data,
    *,
    fences: bool,
    is_equal: IsEqual = _is_never_equal,
) -> StoredObject:
    """Store an object of a copy.

    Parameters
    ----------
    destination : Destination
        Guarded by a lease.
    key : str
    data : bytes-like
    fences : bool
        Whether the store refuses to create an object that exists. If not, it is replaced.
    is_equal : callable, optional
        Called with the bytes of another object that stands there.

    Returns
    -------
    StoredObject
        What the key has now: it may have other bytes than `data`, with the same content.

    Raises
    ------
    ChangedError
        If the key has something else, where nothing is replaced; see `Destination.only_creating`.
    LeaseError
        If the lease is lost, or something else stores objects there as well.
    StorageError
    """
    if not fences:
        return _stored(key, data, destination.put(key, data))
    for _ in range(_MOST_ATTEMPTS):
        created = destination.create(key, data)
        if created.is_new:
            return _stored(key, data, created.etag)
        if created.found is not None:
            if is_equal(created.found):
                return _stored(key, created.found, created.etag)
            if destination.only_creates:
                raise _is_other(destination.display(key))
            destination.delete([key])
    raise LeaseError(
        f"{destination.display(key)} was stored by something else {_MOST_ATTEMPTS} times, with"
        f" other content than this migration's: another program writes to {destination.url}. Stop"
        " it, then run the same migration again",
        url=destination.display(key),
    )


def _is_other(url: str) -> ChangedError:
    return ChangedError(
        f"{url} exists and has other content than this process makes of the source: files changed"
        " since another process read them. Nothing was replaced; the same call without part="
        " finds out which cells are to be done again, and does these",
        url=url,
    )


def restore_object(destination: Destination, key: str, data: Data, *, fences: bool) -> StoredObject:
    """Store an object in the place of whatever is there; equal bytes stay.

    Other bytes are replaced by one request, on the condition that they are still there. So a reader
    finds the one object or the other, and a request that arrives late changes nothing.

    Parameters
    ----------
    destination : Destination
        Guarded by a lease.
    key : str
    data : bytes-like
    fences : bool
        See `create_object`.

    Raises
    ------
    LeaseError, StorageError
        As `create_object`.
    """
    try:
        found, etag = destination.get_with_etag(key, most_bytes=len(data))
    except NotFoundError:
        return create_object(destination, key, data, fences=fences)
    if found == data:
        return _stored(key, data, etag)
    replaced = destination.replace(key, data, etag)
    if replaced:
        return _stored(key, data, replaced.etag)
    return create_object(destination, key, data, fences=fences)


def _stored(key: str, data: Data, etag: str | None) -> StoredObject:
    return StoredObject(key, len(data), hashlib.sha256(data).hexdigest(), etag)


def is_same_table(first: Data, second: Data) -> bool:
    """Whether two Parquet files hold the same table, whatever the versions of pyarrow and zstd."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        tables = [pq.ParquetFile(pa.BufferReader(each)).read() for each in (first, second)]
        return bool(tables[0].equals(tables[1]))
    except (pa.ArrowException, OSError, ValueError):
        return False
