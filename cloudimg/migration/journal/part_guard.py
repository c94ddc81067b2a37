"""`PartGuard`: a part of a migration writes while nobody holds the lease of its destination.

Several processes (the jobs of an array) do a share of the cells each, and take no lease. That they
cannot harm each other, or the migration that finishes the copy, rests on the store and not on what
they know of each other:

- A part only creates: each PUT is sent on the condition that the key is free, and the store was
  just seen to refuse one that is not. `Destination.only_creating` replaces and deletes nothing. So
  whatever a part sends, however late, a reader of the copy finds the first object of each key.
- What a part creates follows from the plan and the source. Two processes with one part, or one
  after a kill, store the same pixels under the same keys; where a key is taken, its content is
  compared, and differs only if the source changed. Then the part fails and leaves it.
- The plan is created in the same way. Who finds another one compares it and is refused, so all
  parts at a destination follow one plan.

Everything else needs the lease: later stages, which read what cells stored, metadata, end mark, and
whatever deletes. A part begins only where the newest lease has ended, and looks for the next number
before it changes anything, at most every two seconds. Numbers are never used again, so it also
notices a migration that has come and gone. Where the newest lease was not released, it looks at
that, too: a holder that comes back rewrites it before anything else. A PUT that is under way then,
or begins before the next look, arrives at a migration that holds the lease:

- With the same plan. The migration creates each object, too. It examines what it finds in the place
  of one, and keeps it only if the content is that of its own; a cell whose record it did not list
  counts as unfinished, and is done. A record arrives after all objects that it lists. So the part's
  object is the one that the migration would store, or is deleted under the lease, or is refused.
- With another plan, after ``overwrite=True``. Under a key that the new plan has, the same holds,
  and records name their plan. Under another key, the listing at the end finds it, and the copy does
  not count as finished. After the end, `verify` finds it: the same window as that of a PUT of a
  process that was killed.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from cloudimg.errors import LeaseError, NotConditionalError
from cloudimg.migration.journal.acquiring import newest_ended
from cloudimg.migration.journal.destination import Destination, as_json
from cloudimg.migration.journal.layout import PROBE
from cloudimg.migration.journal.lease_view import (
    HEARTBEATS_PER_TTL,
    LONGEST_WATCH_INTERVAL_S,
    read_lease,
)
from cloudimg.migration.journal.processes import describe
from cloudimg.settings import settings
from cloudimg.settings.operating_system import elapsed_s


class PartGuard:
    """The guard of a destination to which a part of a migration writes.

    Parameters
    ----------
    destination : Destination
    notify : callable
        Called with a line of text about what is being waited for.
    outer : PartGuard, optional
        That of the collection to which the destination belongs.

    Raises
    ------
    LeaseError
        If a migration holds the lease.
    StorageError
    """

    fences = True
    """See `Lease.fences`: other stores are refused."""

    def __init__(
        self,
        destination: Destination,
        notify: Callable[[str], None],
        outer: PartGuard | None = None,
    ) -> None:
        self.owner = uuid.uuid4().hex
        """Random name of this process."""
        self._destination = destination
        self._outer = outer
        self._number, self._unreleased = newest_ended(destination, notify)
        heartbeat_s = settings().lease_ttl_s / HEARTBEATS_PER_TTL
        self._interval_s = min(LONGEST_WATCH_INTERVAL_S, heartbeat_s)
        self._looked_at = float("-inf")
        self._is_fenced = False
        self._lock = threading.Lock()

    def guarded(self) -> Destination:
        """The destination, in which objects are only created, and only while nobody holds it."""
        return self._destination.only_creating(self)

    def check(self, *, in_store: bool = False) -> None:
        """Check that no migration has acquired the lease since this part began.

        Parameters
        ----------
        in_store : bool
            Ask the store in any case.

        Raises
        ------
        LeaseError
            If one has.
        StorageError
        """
        if self._outer is not None:
            self._outer.check(in_store=in_store)
        with self._lock:
            now = elapsed_s()
            if not in_store and now - self._looked_at <= self._interval_s:
                return
            holder = self._holder()
            if holder is not None:
                url = self._destination.url
                raise LeaseError(
                    f"{describe(holder)} began to finish {url}, and does the cells that are left:"
                    " this part stores nothing more",
                    url=url,
                )
            self._looked_at = now

    def _holder(self) -> Mapping[str, Any] | None:
        """Who holds the lease now; None if nobody does."""
        successor = read_lease(self._destination, self._number + 1)
        if successor is not None or self._unreleased is None:
            return successor
        now = read_lease(self._destination, self._number)
        return None if now == self._unreleased else now or {}

    def writing(self) -> AbstractContextManager[None]:
        """Do nothing: nobody waits for the requests of a part."""
        return nullcontext()

    def has_no_answer(self) -> None:
        """Do nothing, for the same reason."""

    def require_fence(self) -> None:
        """Find out, before anything else is stored, whether the store refuses to replace.

        It is asked once.

        Raises
        ------
        NotConditionalError
            If it does not.
        LeaseError, StorageError
        """
        if self._is_fenced:
            return
        destination = self.guarded()
        with suppress(NotConditionalError):
            is_first = bool(destination.create(PROBE, as_json({"owner": self.owner})))
            # Of an object of another process, the refusal was the answer.
            other = as_json({"owner": uuid.uuid4().hex})
            self._is_fenced = not (is_first and destination.replaces_existing(PROBE, other))
        if not self._is_fenced:
            raise does_not_fence(destination)


def does_not_fence(destination: Destination) -> NotConditionalError:
    """The error for a store to which parts must not write side by side."""
    return NotConditionalError(
        f"the store of {destination.url} does not refuse to create an object that exists (it"
        " ignores the condition, or does not know it), so several processes cannot write there"
        " side by side: leave out part= and run one migration",
        url=destination.url,
    )
