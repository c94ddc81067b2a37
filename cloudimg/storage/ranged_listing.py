"""The pages of a listing from some key on, many at once.

A range of keys is complete once a page shows a key at its end or beyond, which an answer that is
not a listing cannot do. Where a page claims to be the last one before that, other ranges contradict
it, or the end of the whole listing is asked for again (`complete_listing`).
"""

from __future__ import annotations

import queue
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from operator import ge

from cloudimg.storage.base import Entries, Page
from cloudimg.storage.pages import LAST_CHARACTER, skipped_folder
from cloudimg.storage.splitting import PAGES_ALONE, Plan, Range, cut
from cloudimg.storage.threads import engine

_MOST_REQUESTS = 64
"""Under way at once; in measurements, more of them were not faster."""

Request = Callable[[str, str | None], Page]
"""Requests the page after a key, or with the token of the page before."""


class UnorderedListingError(Exception):
    """A listing is not in the order of keys; never leaves cloudimg."""


@dataclass(slots=True)
class _Part:
    """A range that is being listed."""

    after: str
    """The last key so far."""
    end: str | None
    n_below_left: int
    first: str = ""
    """The first key that was listed of it; empty if none was."""
    n_pages: int = 0
    token: str | None = None
    n_failed: int = 0


class RangedListing:
    """Lists ranges of keys at once.

    Parameters
    ----------
    request : callable
    stem : str
        What keys of interest begin with.
    n_parts : int, optional
        Number of parts of the longest keys of interest; None for any.
    plan : Plan
    n_below : int
        Number of deeper keys that are listed, too; each range has its share.
    contradicted : callable
        Called with the last key of a range whose end is wrong, and how often it was so; waits, or
        raises.
    """

    def __init__(
        self,
        request: Request,
        stem: str,
        plan: Plan,
        n_parts: int | None,
        n_below: int,
        contradicted: Callable[[str, int], None],
    ) -> None:
        self._request = request
        self._stem = stem
        self._plan = plan
        self._n_parts = n_parts
        self._n_below = n_below
        self._contradicted = contradicted
        self._last_listed = ""
        self._ended: list[_Part] = []
        """Ranges of which a page claimed that no further keys follow."""
        self.last_two: Sequence[str] = ()
        """The last keys of interest that were listed."""

    def batches(self, first: str) -> Iterator[Entries]:
        """Yield the pages of all ranges, in the order in which they come.

        Parameters
        ----------
        first : str
            The first key that was listed before.

        Raises
        ------
        StorageError
        UnorderedListingError
        """
        ranges = self._plan.ranges
        n_below = -(-self._n_below // len(ranges))
        parts = [_Part(each.after, each.end, n_below) for each in ranges]
        if len(parts) == 1:
            parts[0].first, parts[0].n_pages = first, PAGES_ALONE
            parts = self._cut(parts[0])
        while parts:
            yield from self._at_once(deque(parts))
            parts = self._contradicted_parts()

    @property
    def is_proven(self) -> bool:
        """Whether a page has shown what follows each range."""
        return not self._ended

    def _at_once(self, waiting: deque[_Part]) -> Iterator[Entries]:
        arrived: queue.SimpleQueue[Future[Page]] = queue.SimpleQueue()
        under_way: dict[Future[Page], _Part] = {}

        def start() -> None:
            while waiting and len(under_way) < _MOST_REQUESTS:
                part = waiting.popleft()
                future = engine().fetch_window(partial(self._request, part.after, part.token))
                under_way[future] = part
                future.add_done_callback(arrived.put)

        try:
            start()
            while under_way:
                future = arrived.get()
                part, page = under_way.pop(future), future.result()
                batch = self._taken(part, page)
                is_idle = len(waiting) + len(under_way) < _MOST_REQUESTS
                waiting.extendleft(self._left(part, page, may_cut=is_idle))
                start()
                if batch:
                    yield batch
        finally:
            for future in under_way:
                future.cancel()

    def _taken(self, part: _Part, page: Page) -> Entries:
        """The entries of a page that lie in a range, and are of interest."""
        entries, keys = page.entries, page.entries.keys
        if any(map(ge, keys, keys[1:])) or (keys and keys[0] < part.after):
            raise UnorderedListingError
        if keys and keys[0] == part.after:  # Google's listings begin at the key
            entries = entries[1:]
        if part.end is not None and keys and keys[-1] > part.end:
            entries = entries[: bisect_right(entries.keys, part.end)]
        near = entries.are_near(self._n_parts)
        if part.n_below_left > 0:
            part.n_below_left -= len(near) - sum(near)
        elif near:
            entries = entries.kept(near)
        self._last_listed = max(self._last_listed, *keys[-1:], "")
        self.last_two = sorted((*self.last_two, *entries.keys[-2:]))[-2:]
        return entries

    def _left(self, part: _Part, page: Page, *, may_cut: bool) -> list[_Part]:
        """What is left of a range behind a page; nothing if the page shows its end.

        It is cut only where more requests may be under way: the last page of each range has keys
        of the next one.
        """
        keys = page.entries.keys
        part.token = page.token
        if keys:
            part.first = part.first or keys[0]
            part.after, part.n_failed = keys[-1], 0
            with_below = part.n_below_left > 0
            deep = skipped_folder(keys[0], keys[-1], self._n_parts, with_below=with_below)
            if deep is not None and page.token is not None:
                part.after, part.token = f"{deep}/{LAST_CHARACTER}", None
            if part.end is not None and part.after >= part.end:
                return []
        if page.token is None:
            self._ended.append(part)
            return []
        part.n_pages += 1
        return self._cut(part) if may_cut else [part]

    def _cut(self, part: _Part) -> list[_Part]:
        """The parts into which a range is cut once it turned out to be long."""
        if part.n_pages < PAGES_ALONE or not part.first:
            return [part]
        what_is_left = Range(part.after, part.end)
        first, *others = cut(what_is_left, part.first, self._plan.cuts, self._stem)
        n_below = -(-part.n_below_left // (1 + len(others)))
        part.end, part.first, part.n_pages, part.n_below_left = first.end, "", 0, n_below
        return [part, *(_Part(each.after, each.end, n_below) for each in others)]

    def _contradicted_parts(self) -> list[_Part]:
        """The ranges that cannot have ended where a page claimed it, as keys follow there."""
        contradicted = [part for part in self._ended if part.after < self._last_listed]
        self._ended = [part for part in self._ended if part.after >= self._last_listed]
        for part in contradicted:
            self._contradicted(part.after, part.n_failed)
            part.n_failed += 1
        return contradicted
