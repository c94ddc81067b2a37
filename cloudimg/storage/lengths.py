"""Whether all bytes of an answer have come: one that breaks off looks like the end of an object."""

from __future__ import annotations

from cloudimg.errors import ServerError, StorageError
from cloudimg.storage.base import Backend, Blob


def check_length(blob: Blob, url: str, start: int | None, stop: int | None) -> None:
    """Check that a transfer of bytes ``start:stop`` did not break off.

    Raises
    ------
    ServerError
    """
    if blob.size_bytes is None or blob.is_whole:
        return
    first = 0 if start is None else start if start >= 0 else max(0, blob.size_bytes + start)
    last = blob.size_bytes if stop is None else min(stop, blob.size_bytes)
    if (blob.start_bytes, blob.stop_bytes) != (first, max(first, last)):
        raise ServerError(
            f"received bytes {blob.start_bytes}-{blob.stop_bytes} instead of {first}-{last}"
            f" of {url}",
            url=url,
        )


def with_checked_size(
    blob: Blob,
    *,
    backend: Backend,
    key: str,
    url: str,
    stop: int | None,
    size_bytes: int,
    etag: str | None,
) -> Blob:
    """Return an answer that has the known size, or else the size that the object has now.

    Raises
    ------
    ServerError
        If the object has the known size, and the answer ended before.
    """
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
        raise short_transfer(url, blob, size_bytes)
    return Blob(blob.data, blob.start_bytes, now, blob.etag)


def short_transfer(url: str, blob: Blob, size_bytes: int) -> ServerError:
    """The error for an answer that ended before the object."""
    end = blob.stop_bytes if blob.size_bytes is None else blob.size_bytes
    return ServerError(
        f"the transfer of {url} ended at byte {end}, but the file has {size_bytes} bytes",
        url=url,
    )
