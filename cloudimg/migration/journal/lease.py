"""One writer at a time: numbered leases, each created with create-if-absent.

- The lease with the highest number is valid. Its holder rewrites it every few seconds with an
  incremented counter: the heartbeat. Before, it reads it back: a lease that is superseded, gone or
  somebody else's is lost. Numbers are never deleted and never used again, so that a holder that was
  paused always meets the number of its successor.
- A holder whose last heartbeat is older than half of `ttl_s` starts no request that changes
  anything before it has sent another. The clock counts the time for which a machine was suspended.
- The lease is also the probe of the store: a second attempt to create it, with other bytes, must be
  refused. It is made beside what the holder reads first, and awaited where `fences` is asked for,
  before anything else is stored. A store that ignores the condition, or does not know it, leaves
  only the lease itself, which is then read back every two seconds.
- A lease is released once nothing of its holder is under way. Otherwise it is marked as abandoned,
  and others wait until it expires.

`acquiring` has how a lease is taken over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

from cloudimg.errors import CloudimgError, LeaseError, NotConditionalError, StorageError
from cloudimg.migration.journal.destination import Destination, as_json
from cloudimg.migration.journal.lease_view import (
    HEARTBEATS_PER_TTL,
    LONGEST_WATCH_INTERVAL_S,
    LeaseView,
    lease_key,
    lost,
    migration_ended,
    read_lease,
    unregister,
)
from cloudimg.migration.journal.processes import this_process
from cloudimg.settings.operating_system import elapsed_s
from cloudimg.storage import ahead_of_others, engine

_READ_BACK_S = 1.0
"""Seconds after which a writer whose store does not fence reads its new lease back."""
_GRACE_S = 3.0
"""Seconds for which a holder that ends waits for its requests that are under way."""


class Lease:
    """The exclusive right to write to a destination, renewed by a thread until it is released.

    A context manager, made by `acquire`.
    """

    def __init__(self, destination: Destination, number: int, ttl_s: float, owner: str) -> None:
        self.destination = destination
        self.number = number
        self.ttl_s = ttl_s
        self.owner = owner
        self._fences = True
        self._probe: Future[bool] | None = None
        self._counter = 0
        self._renewed_at = elapsed_s()
        self._is_lost = False
        self._is_there = True
        self._is_abandoned = False
        self._is_closing = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._n_under_way = 0
        self._under_way = threading.Condition()
        self._thread = threading.Thread(target=self._heartbeat, name="cloudimg-lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(has_failed=error is not None)

    def end(self, *, has_failed: bool = True, grace_s: float = _GRACE_S) -> None:
        """Release the lease, or abandon it if something may still change the destination.

        Parameters
        ----------
        has_failed : bool
            Whether the migration did not finish. A finished copy has all its objects: where the
            store fences, a request that arrives late cannot change it.
        grace_s : float
            Seconds to wait for requests that are under way.
        """
        is_first, self._is_closing = not self._is_closing, True  # no further request begins
        if not is_first:
            return
        self._ended.set()
        try:
            if self._probe is not None:
                wait([self._probe], grace_s)
            with self._under_way:
                self._under_way.wait_for(lambda: self._n_under_way == 0, grace_s)
            if self._thread.is_alive():
                self._thread.join()
        except BaseException:  # a second Ctrl-C
            self._is_abandoned = True
            raise
        finally:
            self._give_back(has_failed)

    def _give_back(self, has_failed: bool) -> None:
        is_quiet = self._n_under_way == 0 and not (
            self._is_abandoned and (has_failed or not self._fences)
        )
        with self._lock:
            # A failure does no harm: the next holder only has to wait for a heartbeat.
            with suppress(StorageError):
                # Also where it is superseded, so that others know that it deletes nothing more.
                if self._is_there:
                    end = {"released": True} if is_quiet else {"abandoned": True}
                    self.destination.put(lease_key(self.number), self.content(**end))
            unregister(self, is_quiet=is_quiet)

    def abandon(self) -> None:
        """On exit, let the lease expire: something may still be under way."""
        self._is_abandoned = True

    has_no_answer = abandon

    def view(self) -> LeaseView:
        """The lease as it is sent to workers."""
        return LeaseView(self.destination, self.number, self.owner, self.ttl_s, self.fences)

    def guarded(self) -> Destination:
        """The destination, to which nothing is written or deleted unless this lease is held."""
        # The guard has no need of the probe's answer.
        view = LeaseView(self.destination, self.number, self.owner, self.ttl_s)
        return self.destination.guarded(view)

    def check(self, *, in_store: bool = False) -> None:
        """Check, before a request that changes something, that the lease is still held.

        Parameters
        ----------
        in_store : bool
            Read it back from the store in any case.

        Raises
        ------
        LeaseError
            If another migration took over.
        StorageError
        """
        if self._is_closing:
            raise migration_ended(self.destination)
        if elapsed_s() - self._renewed_at > self.ttl_s / 2:
            self._renew(stale_only=True)
        elif in_store and not self._is_lost:
            with self._lock:
                self._read_back()
        if self._is_lost:
            raise self._loss()

    def _loss(self) -> LeaseError:
        url = self.destination.url
        if not self._is_there:
            return LeaseError(
                f"lost the lease on {url}: {self.destination.display(lease_key(self.number))} was"
                " deleted or replaced meanwhile. Nothing more is stored; run the same migration"
                " again",
                url=url,
            )
        return lost(self.destination, self.ttl_s)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Count a request that changes something as being under way."""
        with self._under_way:
            self._n_under_way += 1
        try:
            yield
        except CloudimgError:
            raise
        except BaseException:
            self.abandon()  # Ctrl-C: the request may go on in another thread
            raise
        finally:
            with self._under_way:
                self._n_under_way -= 1
                self._under_way.notify_all()

    def _heartbeat(self) -> None:
        while not self._ended.wait(self._interval_s()):
            if self._is_lost:
                return
            # If this fails, the check before the next request tries again and raises.
            with suppress(StorageError):
                self._renew()

    def _interval_s(self) -> float:
        interval_s = self.ttl_s / HEARTBEATS_PER_TTL
        return interval_s if self._fences else min(interval_s, LONGEST_WATCH_INTERVAL_S)

    def _renew(self, *, stale_only: bool = False) -> None:
        with self._lock:
            is_fresh = elapsed_s() - self._renewed_at <= self.ttl_s / 2
            if self._is_lost or (stale_only and is_fresh):
                return
            started = elapsed_s()
            with ahead_of_others():  # they may have to wait for long
                self._read_back()
                if self._is_lost:
                    return
                self._counter += 1
                self.destination.put(lease_key(self.number), self.content())
            self._renewed_at = started

    def _read_back(self) -> None:
        """Find out whether the lease was taken over, replaced or deleted."""
        found = read_lease(self.destination, self.number)
        self._is_there = found is not None and found.get("owner") == self.owner
        is_superseded = read_lease(self.destination, self.number + 1) is not None
        self._is_lost = is_superseded or not self._is_there

    def begin(self) -> bool:
        """Create the lease, and begin to find out whether the store fences.

        Returns
        -------
        bool
            False if somebody else has created it.
        """
        key, destination = lease_key(self.number), self.destination
        try:
            if not destination.create(key, self.content()):
                return False
        except StorageError as exc:
            # Some servers answer 400 to a header that they do not know, and do not name it.
            if type(exc) not in (NotConditionalError, StorageError):
                raise
            return self._begin_unfenced()
        self._counter = 1
        other = self.content()
        self._probe = engine().fetch(partial(destination.replaces_existing, key, other))
        return True

    @property
    def fences(self) -> bool:
        """Whether the store refuses to create an object that exists; waits for the probe.

        Raises
        ------
        LeaseError
            If it does not, and another migration began at the same time.
        StorageError
        """
        if self._probe is None:
            return self._fences
        is_fenced = not _is_replaced(self._probe)
        self._probe = None
        if is_fenced or self._begin_unfenced():
            return self._fences
        url = self.destination.url
        raise LeaseError(
            f"another migration began to write to {url} at the same time: wait until it ends, or"
            " stop it",
            url=url,
        )

    def _begin_unfenced(self) -> bool:
        """Store the lease without a condition; return whether it is still there after a while."""
        self._fences = False
        there = read_lease(self.destination, self.number)
        if there is not None and there.get("owner") != self.owner:
            self._is_lost, self._is_there = True, False
            return False
        # Of several writers, the one that stored last finds itself after a while.
        self.destination.put(lease_key(self.number), self.content())
        time.sleep(min(_READ_BACK_S, self.ttl_s))
        self._read_back()
        return not self._is_lost

    def _as_json(self) -> dict[str, Any]:
        holder = {**this_process(), "owner": self.owner, "ttl_s": self.ttl_s}
        return {**holder, "counter": self._counter, "fences": self._fences, "released": False}

    def content(self, **end: bool) -> bytes:
        """The lease as it is stored."""
        return as_json({**self._as_json(), **end})


def _is_replaced(probe: Future[bool]) -> bool:
    """Whether the store created an object that exists, or does not know the condition."""
    try:
        return probe.result()
    except NotConditionalError:
        return True
