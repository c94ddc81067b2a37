"""A lease as its store and other processes see it: its object, and the check of workers."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from cloudimg.errors import CorruptFileError, LeaseError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.layout import LEASES
from cloudimg.settings.operating_system import elapsed_s, run_after_fork
from cloudimg.storage import WriteGuard

HEARTBEATS_PER_TTL = 6
LONGEST_WATCH_INTERVAL_S = 2.0
"""Seconds for which a worker trusts what it last saw of a lease. Short, because a cell whose result
is no longer wanted may still be running when another migration begins. A holder that the store does
not fence reads its lease back as often."""


def lease_key(number: int) -> str:
    """Key of the lease with a number."""
    return f"{LEASES}/{number:08d}.json"


def read_lease(destination: Destination, number: int) -> dict[str, Any] | None:
    """The lease with a number; empty if it is damaged, None if it does not exist."""
    try:
        content = destination.get_json(lease_key(number))
    except CorruptFileError:
        return {}
    return content if content is None or isinstance(content, dict) else {}


def lost(destination: Destination, ttl_s: float) -> LeaseError:
    """The error for a lease that another migration took over."""
    return LeaseError(
        f"lost the lease on {destination.url}: no heartbeat for {ttl_s:g} s, so another migration"
        " took over. It continues there and keeps the cells that are finished",
        url=destination.url,
    )


def migration_ended(destination: Destination) -> LeaseError:
    """The error for work of a migration that has given up its lease."""
    url = destination.url
    return LeaseError(
        f"the migration to {url} has ended: this process stores nothing more for it", url=url
    )


class HeldLease(WriteGuard, Protocol):
    """The lease of a migration in this process."""

    @property
    def owner(self) -> str:
        """Random name of the migration."""

    def end(self, *, grace_s: float) -> None:
        """Give the lease up."""


_held: dict[str, HeldLease] = {}
"""Leases of this process by owner. Its own threads check these without a request."""
_ended: dict[str, bool] = {}
"""Past leases of this process by owner: whether nothing of them was under way at their end."""


def register(lease: HeldLease) -> None:
    """Note a lease of this process before others can see it: else it would count as ended."""
    _held[lease.owner] = lease


def unregister(lease: HeldLease, *, is_quiet: bool = True) -> None:
    """Note the end of a lease of this process, and whether nothing of it is under way."""
    _ended[lease.owner] = is_quiet
    _held.pop(lease.owner, None)


def ended_quietly(owner: str) -> bool | None:
    """Whether a past lease of this process left nothing under way; None if it is held."""
    return None if owner in _held else _ended.get(owner, True)


def end_all_leases(grace_s: float) -> None:
    """Give up all leases of this process, which is about to exit."""
    for lease in list(_held.values()):
        lease.end(grace_s=grace_s)


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A lease as workers see it, and the guard of its destination. Picklable."""

    destination: Destination
    number: int
    """Number of the lease."""
    owner: str
    """Random name of the migration that holds the lease."""
    ttl_s: float
    """Seconds without a heartbeat after which the lease can be taken over."""
    fences: bool = True
    """See `Lease.fences`."""

    def check(self, *, in_store: bool = False) -> None:
        """Check, before a request that changes something, that the lease is still held.

        Parameters
        ----------
        in_store : bool
            Read it from the store in any case.

        Raises
        ------
        LeaseError
            If the lease was released, taken over, or has no heartbeat.
        StorageError
        """
        held = _held.get(self.owner)
        if held is not None:
            held.check(in_store=in_store)
            return
        if self.owner in _ended:
            raise migration_ended(self.destination)
        with _watches_lock:
            watch = _watches.setdefault(self.owner, _Watch())
        with watch.lock:
            watch.check(self, in_store=in_store)

    def writing(self) -> AbstractContextManager[None]:
        """Count a request as being under way if the holder is this process."""
        held = _held.get(self.owner)
        return nullcontext() if held is None else held.writing()

    def has_no_answer(self) -> None:
        """Learn that an attempt of this process got no answer."""
        held = _held.get(self.owner)
        if held is not None:
            held.has_no_answer()


class _Watch:
    """What this process last saw of a lease that another process holds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._counter = -1
        self._changed_at = self._read_at = float("-inf")

    def check(self, view: LeaseView, *, in_store: bool) -> None:
        """Check the lease; read it from the store unless that was done recently."""
        now = elapsed_s()
        url = view.destination.url
        interval_s = min(LONGEST_WATCH_INTERVAL_S, view.ttl_s / HEARTBEATS_PER_TTL)
        if in_store or now - self._read_at > interval_s:
            lease = read_lease(view.destination, view.number) or {}
            if read_lease(view.destination, view.number + 1) is not None:
                raise lost(view.destination, view.ttl_s)
            if lease.get("owner") != view.owner or lease.get("released") or lease.get("abandoned"):
                raise migration_ended(view.destination)
            if lease["counter"] != self._counter:
                self._counter, self._changed_at = lease["counter"], now
            self._read_at = now
        if now - self._changed_at > view.ttl_s / 2:
            raise LeaseError(
                f"no heartbeat from the migration to {url} for {view.ttl_s / 2:g} s: this worker"
                " stores nothing more for it",
                url=url,
            )


_watches_lock = threading.Lock()
_watches: dict[str, _Watch] = {}


def _forget_after_fork() -> None:
    global _watches_lock
    _watches_lock = threading.Lock()
    _held.clear()
    _ended.clear()


run_after_fork(_forget_after_fork)
