"""A listing that is complete: no answer is believed to be the last page because it says so.

S3 and proxies before it answer 200 with an error document or with HTML, and clients take that for
an empty last page. The end of a listing is therefore asked for again, beginning with the last key:
an answer that has that key and nothing after it was a listing, and has ended. Where a client shows
what a page says of itself (the bucket's name, the number of keys), that is checked as well
(`cloudimg.storage.pages`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cloudimg.errors import NotFoundError, ServerError, StorageError
from cloudimg.storage.base import Backend, Entry, NotMappableError

Pause = Callable[[ServerError, int], None]
"""Waits after a failed attempt with a number, or raises after the last one."""


class CompleteListing:
    """One listing of all objects whose key begins with a stem.

    Parameters
    ----------
    backends : sequence of Backend
        In the order in which they are tried.
    folder, stem, depth
        See `Backend.list_objects`.
    url : str
        The folder, for messages.
    pause : callable
    n_below : int
        See `Backend.list_objects`.
    believes_empty : bool
        Whether one empty answer is enough, because the caller asks again before it matters.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        folder: str,
        stem: str,
        depth: int | None,
        url: str,
        pause: Pause,
        *,
        n_below: int = 0,
        believes_empty: bool = False,
    ) -> None:
        self._backends = backends
        self._what = (folder, stem, depth)
        self._url = url
        self._pause = pause
        self._n_below_left = n_below
        self._believes_empty = believes_empty
        self._is_limited = n_below > 0 and depth is not None
        self._last = self._before = ""
        """The last two keys of the listing."""

    def batches(self) -> Iterator[list[Entry] | None]:
        """Yield the listing in batches, and None where only its end is still to be checked.

        Raises
        ------
        StorageError
        """
        n_empty = 0
        # An empty answer is asked for twice: of the next backend, or of the only one again.
        for backend in (*self._backends, self._backends[-1]):
            try:
                yield from self._pages(backend)
                if not backend.lists_in_order:
                    return
                if self._last:
                    yield None
                    yield from self._rest(backend)
                    return
                n_empty += 1
                # Nothing shows that an empty answer was a listing, except the document itself.
                if self._believes_empty or (backend.checks_pages and n_empty > 1):
                    return
            except NotMappableError:
                continue
        raise StorageError(f"no backend supports listing {self._url}", url=self._url)

    def _pages(self, backend: Backend) -> Iterator[list[Entry]]:
        """Yield what follows the last key, after retries from there."""
        attempt = 0
        while True:
            try:
                left = max(0, self._n_below_left)
                yield from self._fresh(self._listed(backend, self._last, left))
                return
            except ServerError as exc:
                failure = exc.with_traceback(None)
            self._pause(failure, attempt)
            attempt += 1

    def _listed(self, backend: Backend, after: str, n_below: int) -> Iterator[list[Entry]]:
        return backend.list_objects(*self._what, after=after, n_below=n_below)

    def _within_limit(self, batch: list[Entry]) -> list[Entry]:
        """Leave out what is deeper than is of interest once there was enough of it."""
        folder, _, depth = self._what
        if not self._is_limited or depth is None:
            return batch
        n_parts = folder.count("/") + depth
        near = [entry for entry in batch if entry.key.count("/") <= n_parts]
        if self._n_below_left <= 0:
            return near
        self._n_below_left -= len(batch) - len(near)
        return batch

    def _fresh(self, batches: Iterator[list[Entry]]) -> Iterator[list[Entry]]:
        # Only a listing in the order of keys can break off between two batches. Backends may
        # return keys again that were already returned before a retry or a fallback.
        resume = self._last
        for batch in batches:
            fresh = [entry for entry in batch if entry.key > resume] if resume else batch
            fresh = self._within_limit(fresh)
            if fresh:
                self._before = fresh[-2].key if len(fresh) > 1 else self._last
                self._last = fresh[-1].key
                yield fresh

    def _rest(self, backend: Backend) -> Iterator[list[Entry]]:
        """Yield what follows the last key, until an answer has that key and nothing after it.

        Raises
        ------
        NotMappableError
            If the answers of this backend do not show whether they were listings.
        """
        attempt = 0
        while True:
            last, has_last = self._last, False
            try:
                # The last key may be deeper than is of interest, so that one such key is asked for.
                for batch in self._listed(backend, self._before, int(self._is_limited)):
                    has_last = has_last or any(entry.key == last for entry in batch)
                    yield from self._fresh(iter([batch]))
                if self._last == last and (has_last or self._is_deleted(backend, last)):
                    return
                failure = self._ended_early(last)
            except ServerError as exc:
                failure = exc.with_traceback(None)
            if self._last != last:
                attempt = 0
            else:
                self._pause(failure, attempt)
                attempt += 1

    def _is_deleted(self, backend: Backend, key: str) -> bool:
        """Whether a listed key is missing now, which excuses a listing without it."""
        if not backend.checks_pages:
            raise NotMappableError
        try:
            backend.info(key)
            return False
        except NotFoundError:
            return True

    def _ended_early(self, key: str) -> ServerError:
        name = key.rpartition("/")[2]
        return ServerError(
            f"the listing of {self._url} is not complete: the store answered with an empty page"
            f" where {name} should be, which exists",
            url=self._url,
        )
