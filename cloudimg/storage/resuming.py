"""`ResumedGet`: bytes of an object whose answer may break off, without requesting any twice."""

from __future__ import annotations

from cloudimg.errors import ServerError
from cloudimg.storage.base import Backend, Blob
from cloudimg.storage.pacing import have_come_in_all


class ResumedGet:
    """Reads a range of bytes of an object, in several attempts if need be.

    What came before an answer broke off is kept, and the next attempt requests the rest of it: if
    the store names the version of the object, and as long as this is the same.

    Parameters
    ----------
    key : str
    start, stop : int or None
        See `Backend.get`.
    """

    def __init__(self, key: str, start: int | None, stop: int | None) -> None:
        self._key, self._start, self._stop = key, start, stop
        self._have: Blob | None = None
        self._furthest_bytes = 0
        """Where the bytes have ended that came in all attempts."""

    def get(self, backend: Backend) -> Blob:
        """Request what has not come.

        Raises
        ------
        StorageError
            With a `ServerError.came`, more came than before.
        """
        have = self._have
        if have is None:
            return self._received(backend, self._start, self._stop)
        stop = have.size_bytes if self._stop is None else self._stop
        rest = self._received(backend, have.stop_bytes, stop)
        joined = _joined(have, rest)
        self._have = None
        return self.get(backend) if joined is None else joined

    def _received(self, backend: Backend, start: int | None, stop: int | None) -> Blob:
        try:
            blob = backend.get(self._key, start, stop)
            have_come_in_all(len(blob.data))
            return blob
        except ServerError as exc:
            failure = exc.with_traceback(None)
        came: Blob | None = failure.came
        if came is not None:
            self._have = came if self._have is None else _joined(self._have, came)
            if came.etag is None:
                self._have = None
            stop_bytes = 0 if self._have is None else self._have.stop_bytes
            if stop_bytes <= self._furthest_bytes:
                failure.came = None  # as much came before, perhaps of another version
            self._furthest_bytes = max(self._furthest_bytes, stop_bytes)
        raise failure


def _joined(first: Blob, rest: Blob) -> Blob | None:
    """Two parts of an object as one; None if the second one does not follow the first."""
    same = (rest.start_bytes, rest.size_bytes, rest.etag)
    if same != (first.stop_bytes, first.size_bytes, first.etag):
        return None
    data = b"".join((first.data, rest.data))
    return Blob(data, first.start_bytes, first.size_bytes, first.etag, first.stated_md5)
