"""`Parcel`: an object on its way to other processes, which is unpickled only where it is used.

Dask logs an exception that unpickling raises when a worker receives data from another worker, and
the task then waits for ever. Whatever is wrong with an object that arrives is therefore raised by
`Parcel.open`, in the task that uses it.
"""

from __future__ import annotations

import pickle
import threading
from contextlib import suppress
from typing import Any, Generic, TypeVar

from cloudimg.__about__ import __version__
from cloudimg.errors import ClusterError
from cloudimg.errors.arrival import address, packing, problem_of, sent_everywhere

T = TypeVar("T")


class Parcel(Generic[T]):
    """An object that other processes with the same version of cloudimg can use.

    A process with another version can pass it on unchanged.
    """

    __slots__ = ("_content", "_opening", "_pickled", "_version")

    def __init__(self, content: T | None, version: str = __version__, pickled: bytes = b"") -> None:
        self._content = content
        self._version = version
        self._pickled = pickled
        self._opening = threading.Lock()

    def open(self) -> T:
        """Return the object.

        Raises
        ------
        ClusterError
            If it was sent by another version of cloudimg, or cannot be unpickled here.
        """
        with self._opening:  # all threads of a worker may begin at once; they share the content
            if self._content is None:
                self._content = self._unpickled()
            return self._content

    def _unpickled(self) -> T:
        if self._version != __version__:
            raise ClusterError(
                f"this process{address()} has cloudimg {__version__}, the process that sent the"
                f" work has {self._version}: install the same version in both places"
            )
        try:
            content: T = pickle.loads(self._pickled)
            return content
        except Exception as exc:  # noqa: BLE001 - of whatever another environment lacks
            error = ClusterError(problem_of(exc))
        raise error

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self._version, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The pickled object, which may hold a reader that is defined in the user's notebook."""
        if not self._pickled:
            with packing():
                self._pickled = _pickled(self._content)
        return self._pickled


@sent_everywhere
def _arrived(version: str, pickled: bytes) -> Parcel[Any]:
    return Parcel(None, version, pickled)


def _pickled(content: object) -> bytes:
    # Pickle is faster, but knows functions by name only, and no worker has this ``__main__``.
    with suppress(pickle.PicklingError, TypeError, AttributeError):
        pickled = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
        if b"__main__" not in pickled:
            return pickled
    import cloudpickle

    by_value: bytes = cloudpickle.dumps(content)
    return by_value
