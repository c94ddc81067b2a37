"""One writer at a time: numbered leases, each created with create-if-absent.

- The lease with the highest number is valid. Its holder rewrites it every few seconds with an
  incremented counter: the heartbeat. A process that wants to take over watches the counter by its
  own clock, so no two clocks are ever compared. It takes over by creating the next number, which
  only one of several processes can do. Create-if-absent is the only conditional write that all
  supported stores were found to honour.
- A lease that is marked as released, or whose holder is a dead process of this machine, can be
  taken over at once.
- Any other holder gets `ttl_s` for a heartbeat; the waiting process reports that it waits.
- A holder whose last heartbeat is older than half of `ttl_s` starts no PUT before it has sent
  another, which also shows whether the lease was taken over.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cloudimg.errors import LeaseError, NoRoomError, StorageError
from cloudimg.migration.journal.destination import JOURNAL, Destination, as_json
from cloudimg.migration.journal.processes import (
    describe,
    is_dead,
    is_on_this_machine,
    this_process,
)
from cloudimg.operating_system import run_after_fork
from cloudimg.settings import LONGEST_LEASE_TTL_S, settings

LEASES = f"{JOURNAL}/lease"
"""Folder of the leases."""
_HEARTBEATS_PER_TTL = 6
_LONGEST_WATCH_INTERVAL_S = 2.0
"""Seconds for which a worker trusts what it last saw of a lease. Short, because a cell whose result
is no longer wanted may still be running when another migration begins."""

Notify = Callable[[str], None]
"""Called with one line of text about what is being waited for."""


def _key(number: int) -> str:
    return f"{LEASES}/{number:08d}.json"


class Lease:
    """The exclusive right to write to a destination, renewed by a thread until it is released.

    A context manager, made by `acquire`.
    """

    def __init__(self, destination: Destination, number: int, ttl_s: float, owner: str) -> None:
        self.destination = destination
        self.number = number
        self.ttl_s = ttl_s
        self.owner = owner
        self._counter = 0
        self._renewed_at = time.monotonic()
        self._is_lost = False
        self._deletes_leases = False
        self._is_abandoned = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._heartbeat, name="cloudimg-lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()
        del _held[self.owner]
        with self._lock:
            if self._is_lost or self._is_abandoned:
                return
            # A failure does no harm: the next holder only has to wait for a heartbeat.
            with suppress(StorageError):
                if self._deletes_leases:
                    self.destination.delete([_key(n + 1) for n in range(self.number)])
                else:
                    self._release()

    def _release(self) -> None:
        try:
            self.destination.put(_key(self.number), self._content(released=True))
        except NoRoomError:
            self.destination.delete([_key(self.number)])

    def forget(self) -> None:
        """On exit, delete this lease and all earlier ones instead of marking it as released."""
        self._deletes_leases = True

    def abandon(self) -> None:
        """On exit, let the lease expire: one of its PUTs may still reach the store."""
        self._is_abandoned = True

    def view(self) -> LeaseView:
        """The lease as it is sent to workers."""
        return LeaseView(self.destination, self.number, self.owner, self.ttl_s)

    def check(self) -> None:
        """Check, before a PUT, that the lease is still held.

        Raises
        ------
        LeaseError
            If another migration took over.
        StorageError
        """
        if time.monotonic() - self._renewed_at > self.ttl_s / 2:
            self._renew(stale_only=True)
        if self._is_lost:
            raise _lost(self.destination, self.ttl_s)

    def _heartbeat(self) -> None:
        while not self._ended.wait(self.ttl_s / _HEARTBEATS_PER_TTL):
            if self._is_lost:
                return
            # If this fails, the check before the next PUT tries again and raises.
            with suppress(StorageError):
                self._renew()

    def _renew(self, *, stale_only: bool = False) -> None:
        with self._lock:
            is_fresh = time.monotonic() - self._renewed_at <= self.ttl_s / 2
            if self._is_lost or (stale_only and is_fresh):
                return
            started = time.monotonic()
            if self.destination.get_json(_key(self.number + 1)) is not None:
                self._is_lost = True
                return
            self._counter += 1
            self.destination.put(_key(self.number), self._content())
            self._renewed_at = started

    def _content(self, *, released: bool = False) -> bytes:
        holder = {**this_process(), "owner": self.owner, "ttl_s": self.ttl_s}
        return as_json({**holder, "counter": self._counter, "released": released})


def _lost(destination: Destination, ttl_s: float) -> LeaseError:
    return LeaseError(
        f"lost the lease on {destination.url}: no heartbeat for {ttl_s:g} s, so another migration"
        " took over. It continues there and keeps the cells that are finished",
        url=destination.url,
    )


_held: dict[str, Lease] = {}
"""Leases of this process by owner. Its own threads check these without a request."""


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A lease as workers see it. Picklable."""

    destination: Destination
    number: int
    """Number of the lease."""
    owner: str
    """Random name of the migration that holds the lease."""
    ttl_s: float
    """Seconds without a heartbeat after which the lease can be taken over."""

    def check(self) -> None:
        """Check, before a PUT, that the migration that sent the work still holds the lease.

        Raises
        ------
        LeaseError
            If the lease was released, taken over, or has no heartbeat.
        StorageError
        """
        held = _held.get(self.owner)
        if held is not None:
            held.check()
            return
        with _watches_lock:
            watch = _watches.setdefault(self.owner, _Watch())
        with watch.lock:
            watch.check(self)


class _Watch:
    """What this process last saw of a lease that another process holds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._counter = -1
        self._changed_at = self._read_at = float("-inf")

    def check(self, view: LeaseView) -> None:
        """Check the lease; read it from the store unless that was done recently."""
        now = time.monotonic()
        url = view.destination.url
        interval_s = min(_LONGEST_WATCH_INTERVAL_S, view.ttl_s / _HEARTBEATS_PER_TTL)
        if now - self._read_at > interval_s:
            lease = view.destination.get_json(_key(view.number)) or {}
            if view.destination.get_json(_key(view.number + 1)) is not None:
                raise _lost(view.destination, view.ttl_s)
            if lease.get("owner") != view.owner or lease.get("released"):
                raise LeaseError(
                    f"the migration to {url} has ended: this worker stores nothing more for it",
                    url=url,
                )
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


def acquire(
    destination: Destination,
    *,
    ttl_s: float | None = None,
    notify: Notify,
    is_unheld: bool = False,
) -> Lease:
    """Become the only writer of a destination.

    Parameters
    ----------
    destination : Destination
    ttl_s : float, optional
        Seconds without a heartbeat after which others may take over; the setting by default.
    notify : callable
        Called with a line of text about what is being waited for.
    is_unheld : bool
        Whether a listing has just shown that the destination has no lease.

    Raises
    ------
    LeaseError
        If another migration is writing to the destination.
    StorageError
        If the destination cannot be written to.
    """
    ttl_s = settings().lease_ttl_s if ttl_s is None else ttl_s
    owner = uuid.uuid4().hex
    while True:
        number, holder = (0, None) if is_unheld else _newest(destination)
        is_unheld = False
        if holder is not None:
            _wait_until_free(destination, number, holder, notify)
        lease = Lease(destination, number + 1, ttl_s, owner)
        # Registered before it is visible: a lease of this process that is not registered counts
        # as ended.
        _held[owner] = lease
        try:
            if destination.create(_key(number + 1), lease._content()):
                return lease
        except BaseException:
            del _held[owner]
            raise
        del _held[owner]


def _newest(destination: Destination) -> tuple[int, dict[str, Any] | None]:
    """The highest lease number and the content of that lease; 0 and None if there is none."""
    names = [Path(entry.key).stem for entry in destination.list(LEASES)]
    number = max((int(name) for name in names if name.isdecimal()), default=0)
    return number, destination.get_json(_key(number)) if number else None


def _wait_until_free(
    destination: Destination, number: int, holder: Mapping[str, Any], notify: Notify
) -> None:
    """Return when a lease may be taken over.

    Raises
    ------
    LeaseError
        If its holder is alive.
    """
    if holder.get("released") or _is_ended_here(holder):
        return
    who = describe(holder)
    is_in_use = LeaseError(
        f"another migration is writing to {destination.url} ({who}): wait until it ends, or stop"
        " it",
        url=destination.url,
    )
    if is_on_this_machine(holder):
        raise is_in_use
    ttl_s = min(float(holder.get("ttl_s") or LONGEST_LEASE_TTL_S), LONGEST_LEASE_TTL_S)
    notify(f"{destination.url} is leased by {who}: waiting {ttl_s:.0f} s for a heartbeat")
    deadline = time.monotonic() + ttl_s
    while time.monotonic() < deadline:
        time.sleep(min(ttl_s / 20, max(0.0, deadline - time.monotonic())))
        lease = destination.get_json(_key(number)) or {}
        if lease.get("released"):
            return
        if lease.get("counter") != holder.get("counter"):
            raise is_in_use
    notify(f"no heartbeat from {who}: taking over")


def _is_ended_here(holder: Mapping[str, Any]) -> bool:
    """Whether the holder is a dead process of this machine, or a past migration of this process."""
    is_this_process = is_on_this_machine(holder) and holder.get("pid") == os.getpid()
    if is_this_process and holder.get("owner") not in _held:
        return True  # it ended without marking its lease as released: no room or no connection
    return is_dead(holder)


def _forget_after_fork() -> None:
    global _watches_lock
    _watches_lock = threading.Lock()
    _held.clear()


run_after_fork(_forget_after_fork)
