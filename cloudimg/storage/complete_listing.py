"""A listing that is complete: no answer is believed to be the last page because it says so.

S3 and proxies before it answer 200 with an error document or with HTML, and clients take that for
an empty last page. The end of a listing is therefore asked for again, beginning with the last key:
an answer that has that key and nothing after it was a listing, and has ended. Where a client shows
what a page says of itself (the bucket's name, the number of keys), that is checked as well
(`cloudimg.storage.pages`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

from cloudimg.errors import NotFoundError, ServerError, StorageError
from cloudimg.storage.base import Backend, Entries, Entry, NotMappableError, Page
from cloudimg.storage.pages import LAST_CHARACTER, skipped_folder
from cloudimg.storage.ranged_listing import RangedListing
from cloudimg.storage.splitting import PAGES_ALONE, Outline, plan_after

Batch = Sequence[Entry]
Make = Callable[[Callable[[Backend], Page]], Page]
"""Makes a request by the first backend that is able, with all its attempts."""
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
    outline : Outline, optional
        What is known of the keys, to list ranges of them at once; None lists one after another.
    make : callable, optional
        Makes the requests for ranges.
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
        outline: Outline | None = None,
        make: Make | None = None,
    ) -> None:
        self._backends = backends
        self._what = (folder, stem, depth)
        self._url = url
        self._pause = pause
        self._n_below_left = n_below
        self._believes_empty = believes_empty
        self._is_limited = n_below > 0 and depth is not None
        self._outline = outline
        self._make = make
        self._first = ""
        self._n_pages = 0
        self._cut_after: str | None = None
        """The last key of the pages after which the rest is listed at once."""
        self._last = self._before = ""
        """The last two keys of the listing."""

    def batches(self) -> Iterator[Batch | None]:
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
                if self._cut_after is not None and (yield from self._in_ranges(self._cut_after)):
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

    def _pages(self, backend: Backend) -> Iterator[Batch]:
        """Yield what follows the last key, after retries from there."""
        attempt = 0
        while True:
            try:
                left = max(0, self._n_below_left)
                yield from self._fresh(self._listed(backend, self._last, left), begins_anew=True)
                return
            except ServerError as exc:
                failure = exc.with_traceback(None)
            self._pause(failure, attempt)
            attempt += 1

    def _listed(self, backend: Backend, after: str, n_below: int) -> Iterator[Batch]:
        if not backend.lists_in_order:
            return backend.list_objects(*self._what, n_below=n_below)
        return self._by_pages(backend, after, n_below)

    @property
    def _prefix(self) -> str:
        folder, stem, _ = self._what
        return max(stem, f"{folder.rstrip('/')}/", key=len)

    @property
    def _n_parts(self) -> int | None:
        """Number of parts of the longest keys of interest; None for any."""
        folder, _, depth = self._what
        return None if depth is None else folder.count("/") + 1 + depth

    def _by_pages(self, backend: Backend, after: str, n_below: int) -> Iterator[Batch]:
        token, n_parts = None, self._n_parts
        earlier: Sequence[str] = ()
        while True:
            page = backend.list_page(self._prefix, after=after, token=token)
            batch, keys = page.entries, page.entries.keys
            self._refuse_repeated(keys, earlier if token is not None else ())
            token, earlier = page.token, keys[:1]
            near = batch.are_near(n_parts)
            if n_below > 0:
                n_below -= len(near) - sum(near)
            elif near:
                batch = batch.kept(near)
            if batch:
                yield batch
            if token is None:
                return
            self._n_pages += 1
            self._first = self._first or next(iter(keys), "")
            deep = keys and skipped_folder(keys[0], keys[-1], n_parts, with_below=n_below > 0)
            if deep:
                after, token = f"{deep}/{LAST_CHARACTER}", None
            if keys and self._outline is not None and self._n_pages >= PAGES_ALONE:
                self._cut_after = after if deep else keys[-1]
                return

    def _refuse_repeated(self, keys: Sequence[str], earlier: Sequence[str]) -> None:
        """Refuse a page that begins as the one before it."""
        if keys and keys[:1] == earlier:
            raise repeated(self._url)

    def _in_ranges(self, last: str) -> Generator[Batch, None, bool]:
        """Yield what follows a key, from ranges that are listed at once.

        Returns whether pages have shown that it is all.

        Raises
        ------
        StorageError
        UnorderedListingError
        """
        outline, make = self._outline, self._make
        assert outline is not None and make is not None  # noqa: PT018
        self._outline = self._cut_after = None

        def request(after: str, token: str | None) -> Page:
            return make(lambda each: each.list_page(self._prefix, after=after, token=token))

        def ask(prefix: str, delimiter: str) -> Page:
            return make(lambda each: each.list_page(prefix, delimiter=delimiter))

        n_below = max(0, self._n_below_left)
        plan = plan_after(last, outline, ask)
        listing = RangedListing(
            request, outline.stem, plan, self._n_parts, n_below, self._contradicted
        )
        yield from listing.batches(self._first)
        known = (self._before, self._last, *listing.last_two)
        *_, self._before, self._last = sorted(known)
        return listing.is_proven

    def _contradicted(self, last: str, attempt: int) -> None:
        name = last.rpartition("/")[2]
        self._pause(self._ended_early(f"behind {name}, where others follow"), attempt)

    def _within_limit(self, batch: Batch) -> Batch:
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

    def _fresh(self, batches: Iterator[Batch], *, begins_anew: bool = False) -> Iterator[Batch]:
        """Leave out keys that were already returned before a retry or a fallback.

        Raises
        ------
        StorageError
            With `begins_anew`, if it is not certain that all of them were: some servers list
            folder by folder, ``a/`` before ``a-b/``.
        """
        resume, is_past = self._last, not self._last
        n_left_out = 0
        for batch in batches:
            fresh = batch
            if not is_past:
                kept = []
                for entry in batch:
                    if is_past or entry.key > resume:
                        kept.append(entry)
                    elif entry.key == resume:
                        is_past = True  # what comes now was not returned, in whatever order
                    else:
                        n_left_out += 1
                fresh = Entries.of(kept)
            fresh = self._within_limit(fresh)
            if fresh:
                self._before = fresh[-2].key if len(fresh) > 1 else self._last
                self._last = fresh[-1].key
                yield fresh
        if begins_anew and n_left_out and not is_past:
            raise StorageError(
                f"the listing of {self._url} broke off, and cannot go on: the store does not list"
                " in the order of keys. Try again",
                url=self._url,
            )

    def _rest(self, backend: Backend) -> Iterator[Batch]:
        """Yield what follows the last key, until an answer has that key and nothing after it.

        Raises
        ------
        NotMappableError
            If the answers of this backend do not show whether they were listings.
        """
        self._outline = None
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
                name = last.rpartition("/")[2]
                failure = self._ended_early(f"where {name} should be, which exists")
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

    def _ended_early(self, where: str) -> ServerError:
        return ServerError(
            f"the listing of {self._url} is not complete: the store answered with an empty page"
            f" {where}",
            url=self._url,
        )


def repeated(url: str) -> StorageError:
    """The error for a store that answers with one page again and again."""
    return StorageError(
        f"cannot list {url}: the store answers with the same page again where the next one is asked"
        " for",
        url=url,
    )
