"""Whether all bytes of an answer have come: one that breaks off looks like the end of an object.

Also what is taken of an answer that has more than was asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

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


_PIECE_BYTES = 2**18
_SMALL_BYTES = 4 * 2**20
_MOST_BYTES = 256 * 2**20


class RangesIgnoredError(Exception):
    """A server that ignores ranges has a file that is too large to be read whole for each of them;
    never leaves the storage package."""

    def __init__(self, size_bytes: int | None) -> None:
        super().__init__()
        self.size_bytes = size_bytes


async def part_of_whole(
    read: Callable[[int], Awaitable[bytes]],
    size_bytes: int | None,
    start: int,
    stop: int | None,
) -> Blob:
    """Take what was asked for from an answer that has the whole object: the server ignores ranges.

    Reading ends where the range does, and no more is held than that; a small object is taken
    whole, because more of it will be asked for.

    Parameters
    ----------
    read : callable
        Returns the next bytes, at most as many as it is told; none at the end.
    size_bytes : int, optional
        Size of the object, if the answer has it.
    start, stop
        As of `Backend.get`.

    Raises
    ------
    RangesIgnoredError
    """
    is_wanted_whole = start == 0 and stop is not None and stop >= (size_bytes or 0) > 0
    most = size_bytes if is_wanted_whole and size_bytes else _MOST_BYTES
    if (size_bytes or 0) > most:
        raise RangesIgnoredError(size_bytes)
    kept, first, n_read = bytearray(), 0, 0
    while piece := await read(_PIECE_BYTES):
        kept += piece
        n_read += len(piece)
        if n_read > most:
            raise RangesIgnoredError(size_bytes)
        if n_read <= _SMALL_BYTES:
            continue
        begin = max(first, min(start, n_read) if start >= 0 else n_read + start)
        del kept[: begin - first]
        first = begin
        if stop is not None and n_read >= stop:
            del kept[stop - first :]
            return Blob(bytes(kept), first, size_bytes, None)
    return Blob(bytes(kept), first, n_read, None)


def ranges_ignored(
    url: str, start: int | None, stop: int | None, size_bytes: int | None
) -> StorageError:
    """The error for a `RangesIgnoredError`."""
    size = f"{size_bytes} bytes" if size_bytes else f"more than {_MOST_BYTES} bytes"
    asked = f"{start}-{'' if stop is None else stop}"
    return StorageError(
        f"the server of {url} does not serve byte ranges: to a request for bytes {asked} it answers"
        f" with the whole file ({size}), which is read for each range of files up to"
        f" {_MOST_BYTES} bytes only: copy the file to a store or a server with ranges",
        url=url,
    )
