"""Sending objects to a store, and what stands at their key afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cloudimg.errors import NotFoundError, ServerError, StorageError
from cloudimg.storage.attempts import Attempts
from cloudimg.storage.base import Backend, Blob, Created, Data, Stored, WriteGuard
from cloudimg.storage.received import is_received, read_back, start_md5
from cloudimg.storage.urls import Location

_MORE_BYTES = 2**22


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends objects to one location."""

    location: Location
    identity: str
    """Digest of the options of the store."""
    attempts: Attempts
    guard: WriteGuard | None
    """Allows each attempt, if there is one."""

    def send(self, key: str, data: Data, request: Callable[[Backend], Stored]) -> Stored:
        """Store an object, and again where the store received other bytes than were sent.

        Raises
        ------
        StorageError
        """
        self.refuse_unwritable(key)
        store = (self.location, self.identity)
        md5 = start_md5(store, data)

        def send(backend: Backend) -> Stored:
            stored = request(backend)
            if not is_received(
                store, stored, data, md5, lambda: backend.get(key, 0, len(data) + 1).data
            ):
                url = self.location.display(key)
                raise ServerError(f"the bytes of {url} changed on their way to the store", url=url)
            return stored

        return self.attempts.write(send, self.guard, n_sent=len(data))

    def standing(
        self, key: str, data: Data, stored: Stored, get: Callable[[str, int, int], Blob]
    ) -> Created:
        """What stands at a key after a request to store an object there on a condition.

        Parameters
        ----------
        key : str
        data : bytes-like
            What was sent.
        stored : Stored
            The answer.
        get : callable
            Reads a range of bytes of an object. Of another object, which may be of any size, so
            many are read that it is whole if it has the same content, encoded by another version
            of a library.
        """
        if stored.is_new:
            return Created(is_new=True, etag=stored.etag)
        try:
            blob = read_back(partial(get, key, 0, 2 * len(data) + _MORE_BYTES))
        except NotFoundError:
            return Created(is_new=False, etag=None)
        if bytes(blob.data) == data:
            return Created(is_new=True, etag=blob.etag)
        return Created(is_new=False, etag=blob.etag, found=blob.data)

    def refuse_unwritable(self, key: str) -> None:
        """Refuse to write where that is impossible.

        Raises
        ------
        StorageError
        """
        location = self.location
        is_web = location.protocol in ("http", "https")
        if location.before or location.after or is_web:
            url = location.display(key)
            raise StorageError(
                f"cannot write {url}: it names {'a web server' if is_web else 'a chain of URLs'},"
                " which is read only; write to s3, gs, az or a local folder",
                url=url,
            )
