"""Read an index file in pieces, so that a large one takes no more memory than a piece of it."""

from __future__ import annotations

from collections.abc import Iterator

from cloudimg.errors import ChangedError, LimitError
from cloudimg.storage import Store

PIECE_BYTES = 8 * 2**20
"""Bytes of one request; most index files have fewer."""
MOST_BYTES = 512 * 2**20
"""Largest index file that is read: the longest ones take 1.5 kB an image."""


class IndexObject:
    """An index file in its store, of which the first piece is fetched at once.

    Parameters
    ----------
    store : Store
    key : str

    Raises
    ------
    LimitError
        If it is larger than what is read of an index file.
    StorageError
    """

    def __init__(self, store: Store, key: str) -> None:
        self.key = key
        self.url = store.location.display(key)
        self._store = store
        self._first = store.get(key, 0, PIECE_BYTES)
        size_bytes = self._first.size_bytes
        if (size_bytes or 0) > MOST_BYTES:
            raise LimitError(
                f"{self.url} has {size_bytes} bytes, but index files of at most {MOST_BYTES} bytes"
                " are read",
                url=self.url,
            )

    def pieces(self) -> Iterator[bytes]:
        """Yield its bytes.

        Raises
        ------
        ChangedError
            If it is replaced meanwhile.
        LimitError, StorageError
        """
        blob = self._first
        while blob.data:
            yield bytes(blob.data)
            if blob.stop_bytes == blob.size_bytes or len(blob.data) < PIECE_BYTES:
                return
            if blob.stop_bytes >= MOST_BYTES:
                raise LimitError(f"{self.url} goes on after {MOST_BYTES} bytes", url=self.url)
            start, etag = blob.stop_bytes, blob.etag
            blob = self._store.get(self.key, start, start + PIECE_BYTES)
            if blob.etag != etag:
                raise ChangedError(f"{self.url} was replaced while it was read", url=self.url)

    def whole(self, most_bytes: int) -> bytes:
        """Return all bytes.

        Raises
        ------
        LimitError
            If there are more than `most_bytes`.
        StorageError
        """
        content = bytearray()
        for piece in self.pieces():
            content += piece
            if len(content) > most_bytes:
                raise LimitError(
                    f"{self.url} has more than the {most_bytes} bytes that are read of it",
                    url=self.url,
                )
        return bytes(content)
