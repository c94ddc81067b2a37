"""`Lister`: listings of one store, whole or up to a text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from cloudimg.storage.attempts import Attempts, interruptible, pause
from cloudimg.storage.base import DANGLING, Backend, Entry, IncompleteListingError, Page
from cloudimg.storage.complete_listing import CompleteListing, repeated
from cloudimg.storage.splitting import Outline
from cloudimg.storage.threads import engine
from cloudimg.storage.urls import Location


@dataclass(frozen=True, slots=True)
class Lister:
    """Lists the objects of one location."""

    location: Location
    attempts: Attempts

    def list_objects(
        self,
        folder: str,
        stem: str,
        depth: int | None,
        *,
        end_checks: list[Future[None]] | None,
        coming: Collection[str],
        n_below: int,
        with_dangling: bool,
        believes_empty: bool,
        outline: Outline | None,
    ) -> Iterator[Sequence[Entry]]:
        """List objects whose key begins with `stem`, in batches; see `Store.list_objects`.

        Raises
        ------
        UnorderedListingError, StorageError
        """
        listing = CompleteListing(
            self.attempts.backends(),
            folder,
            stem,
            depth,
            self.location.display(folder),
            pause,
            n_below=n_below,
            believes_empty=believes_empty,
            outline=outline,
            make=self.attempts.make,
        )
        batches = interruptible(listing.batches())
        drops_dangling = self.location.protocol == "file" and not with_dangling
        for batch in batches:
            if batch is not None:
                if drops_dangling:
                    batch = [entry for entry in batch if entry.etag != DANGLING]
                yield batch
            elif end_checks is not None:
                end_checks.append(engine().fetch(partial(_check_end, batches, coming)))
                return

    def beginnings(self, prefix: str, delimiter: str) -> tuple[list[str], int]:
        """What keys have up to a delimiter; see `Store.beginnings`.

        Raises
        ------
        StorageError
        """
        found: list[str] = []
        token, n_requests = None, 0
        while n_requests == 0 or token is not None:
            ask = partial(_page_up_to, prefix=prefix, delimiter=delimiter, token=token)
            page = self.attempts.make(ask)
            if token is not None and page.token == token:
                raise repeated(self.location.display(prefix))
            found += page.prefixes
            token, n_requests = page.token, n_requests + 1
        return found, n_requests


def _page_up_to(backend: Backend, prefix: str, delimiter: str, token: str | None) -> Page:
    return backend.list_page(prefix, delimiter=delimiter, token=token)


def _check_end(rest: Iterator[Sequence[Entry] | None], coming: Collection[str]) -> None:
    last = max(coming, default=None)
    for batch in rest:
        if any(entry.key not in coming for entry in batch or ()):
            raise IncompleteListingError
        if batch and batch[-1].key == last:
            return  # an answer with what was stored meanwhile was a listing, and ended there
