"""A listing of S3 by obstore, which shows the names of a page and nothing else of its document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import obstore

from cloudimg.errors import ServerError
from cloudimg.storage.base import Entry, NotMappableError
from cloudimg.storage.obstore_errors import FOREIGN
from cloudimg.storage.pages import (
    LAST_CHARACTER,
    foreign_key,
    is_ordered,
    skipped_folder,
)
from cloudimg.storage.versions import version_text

_LIST_CHUNK = 1000


class S3Listing:
    """One listing of all objects of a bucket whose key begins with a stem.

    Parameters
    ----------
    store : obstore.store.S3Store
    bucket : str
    folder, stem, depth, n_below
        See `Backend.list_objects`.
    display : callable
        Returns the URL of a key, for messages.
    translate : callable
        Returns the error to raise for an exception of obstore about a key.
    """

    def __init__(
        self,
        store: Any,
        bucket: str,
        folder: str,
        stem: str,
        depth: int | None,
        display: Callable[[str], str],
        translate: Callable[[BaseException, str], Exception],
        *,
        n_below: int = 0,
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._folder = folder
        self._prefix = self._inside(folder)
        self._stem = self._inside(stem)
        self._display = display
        self._translate = translate
        self._n_parts = None
        """Number of parts of the longest paths of interest; None for any."""
        if depth is not None and is_ordered(bucket):
            self._n_parts = folder.count("/") + depth
        self._n_below_left = n_below
        """Number of deeper objects that are still listed."""

    def _inside(self, key: str) -> str:
        """The path of a key in the bucket."""
        return key[len(self._bucket) + 1 :]

    def batches(self, after: str) -> Iterator[list[Entry]]:
        """Request the first page, and return the listing in batches.

        Parameters
        ----------
        after : str
            Keys up to this one may be left out.

        Raises
        ------
        StorageError
        NotMappableError
            If the pages do not show what the objects are, or whether they were a listing.
        """
        # obstore's prefixes are whole path segments, so the listing starts after the stem and ends
        # as soon as it is past all keys that begin with it.
        start = self._stem if len(self._stem) > len(self._prefix) + 1 else ""
        stream = self._stream(max(start, self._inside(after)))
        return self._batches(stream, self._next_page(stream))

    def _batches(self, stream: Any, page: Any) -> Iterator[list[Entry]]:
        has_skipped = False
        while page is not None:
            batch = self._batch(page)
            if batch:
                yield batch
            first, last = (page[i]["path"] for i in (0, -1))
            # A folder's marker (exp/, listed as exp) sorts before the stem and does not end it.
            if last > self._stem and not last.startswith(self._stem):
                return
            deep = skipped_folder(first, last, self._n_parts, with_below=self._n_below_left > 0)
            if deep is not None:
                stream = self._stream(f"{deep}/{LAST_CHARACTER}")
            page = self._next_page(stream)
            has_skipped = deep is not None
        if has_skipped:
            # No key of the skipped folder can be asked for again to check this end.
            raise NotMappableError

    def _stream(self, offset: str) -> Any:
        """obstore's listing of all names after an offset."""
        try:
            return obstore.list(
                self._store,
                prefix=self._prefix or None,
                offset=offset or None,
                chunk_size=_LIST_CHUNK,
            )
        except FOREIGN as exc:
            failure = self._translate(exc, self._folder)
        raise failure

    def _next_page(self, stream: Any) -> Any:
        """The next page of a listing; None after the last one."""
        try:
            page = next(stream, None)
        except FOREIGN as exc:
            failure = self._translate(exc, self._folder)
        else:
            self._refuse_foreign(page or ())
            return page
        raise failure

    def _refuse_foreign(self, page: Any) -> None:
        """Refuse a page with names that were not asked for, which is one of another listing."""
        marker = self._prefix.rstrip("/")
        beginning = f"{marker}/" if marker else ""
        paths = (meta["path"] for meta in page)
        problem = foreign_key((path for path in paths if path != marker), beginning)
        if problem is not None:
            url = self._display(self._folder)
            raise ServerError(f"cannot list {url}: {problem}", url=url)

    def _batch(self, page: Any) -> list[Entry]:
        """The objects of a page that are of interest."""
        batch = [
            Entry(
                f"{self._bucket}/{meta['path']}",
                meta["size"],
                version_text(meta["e_tag"], meta["last_modified"]),
            )
            for meta in page
            if meta["path"].startswith(self._stem)
        ]
        if any(entry.size_bytes == 0 for entry in batch):
            # obstore omits the slash at the end of a folder's marker, which then looks like an
            # empty file.
            raise NotMappableError
        if self._n_parts is None:
            return batch
        near = [entry for entry in batch if entry.key.count("/") <= self._n_parts]
        if self._n_below_left > 0:
            self._n_below_left -= len(batch) - len(near)
            return batch
        return near
