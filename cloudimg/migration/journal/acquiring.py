"""How a lease is acquired, or taken over.

- Who wants to take over watches the counter of the lease by its own clock, so no two clocks are
  ever compared, and creates the next number, which only one of several processes can do.
- A lease that is marked as released, or whose holder is a dead process of this machine, can be
  taken over at once; the latter only where the store fences, since a PUT of the dead process may
  still be on its way.
- Any other holder gets `ttl_s` for a heartbeat; the waiting process reports that it waits.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cloudimg.errors import LeaseError, StorageError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.layout import LEASES
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.journal.lease_view import (
    HEARTBEATS_PER_TTL,
    ended_quietly,
    lease_key,
    read_lease,
    register,
    unregister,
)
from cloudimg.migration.journal.processes import Life, describe, is_this_process, life_of
from cloudimg.settings import LONGEST_LEASE_TTL_S, settings
from cloudimg.settings.operating_system import elapsed_s

_MOST_HIDDEN = 3
"""How often a lease may not exist after a store refused to create it because it exists: somebody
may have just deleted it."""

Notify = Callable[[str], None]
"""Called with one line of text about what is being waited for."""


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
        If the destination cannot be written to, or its store contradicts itself.
    """
    ttl_s = settings().lease_ttl_s if ttl_s is None else ttl_s
    owner = uuid.uuid4().hex
    tried = n_hidden = 0
    while True:
        number, holder = (0, None) if is_unheld else _newest(destination, tried)
        is_unheld = False
        if holder is not None:
            if not _wait_until_free(destination, number, holder, notify):
                notify(f"no heartbeat from {describe(holder)}: taking over")
        elif tried:
            n_hidden += 1
            if n_hidden == _MOST_HIDDEN:
                raise _is_hidden(destination, number)
        tried = number + 1
        lease = Lease(destination, tried, ttl_s, owner)
        register(lease)
        is_ours = False
        try:
            is_ours = lease.begin()
        finally:
            if not is_ours:
                unregister(lease)
        if is_ours:
            return lease


def newest_ended(destination: Destination, notify: Notify) -> tuple[int, Mapping[str, Any] | None]:
    """The newest lease, once its holder has ended or given no sign for long.

    Returns
    -------
    number : int
        0 if there is none.
    lease : mapping or None
        What it holds if it was not released: its holder may come back, and then changes it.

    Raises
    ------
    LeaseError
        If its holder is alive.
    StorageError
    """
    number, holder = _newest(destination, 0)
    if holder is not None and not _wait_until_free(destination, number, holder, notify):
        notify(f"no heartbeat from {describe(holder)}: going on")
    now = read_lease(destination, number) if holder is not None else None
    return number, None if now is None or now.get("released") else now


def _is_hidden(destination: Destination, number: int) -> StorageError:
    url = destination.display(lease_key(number))
    return StorageError(
        f"the store refuses to create {url} because it exists, and says that it does not exist when"
        " it is read: nothing was written. Choose another destination, or ask whoever runs the"
        " store why it refuses If-None-Match",
        url=url,
    )


def has_ended(destination: Destination, holder: Mapping[str, Any]) -> bool:
    """Whether the holder of a lease is known to have ended, with all its requests.

    Parameters
    ----------
    destination : Destination
    holder : mapping
        A process, with the `number` and `owner` of its lease.
    """
    lease = read_lease(destination, int(holder.get("number") or 0)) or {}
    is_same = lease.get("owner") == holder.get("owner")
    return (is_same and lease.get("released") is True) or _is_dead(holder)


def _newest(destination: Destination, at_least: int) -> tuple[int, dict[str, Any] | None]:
    """The highest lease number and the content of that lease; 0 and None if there is none.

    A lease with the number `at_least` is known to exist, whether it is listed or not.
    """
    names = [Path(entry.key).stem for entry in destination.list(LEASES)]
    number = max((at_least, *(int(name) for name in names if name.isdecimal())))
    return number, read_lease(destination, number) if number else None


def _wait_until_free(
    destination: Destination, number: int, holder: Mapping[str, Any], notify: Notify
) -> bool:
    """Return when a lease may be taken over: whether its holder is known to have ended.

    Raises
    ------
    LeaseError
        If its holder is alive.
    """
    if _is_free(holder):
        return True
    _refuse_alive(destination, holder)
    who, ttl_s = describe(holder), _ttl_s(holder)
    is_abandoned = holder.get("abandoned") is True
    if is_abandoned:
        notify(
            f"{who} stopped while requests to {destination.url} were under way: waiting"
            f" {ttl_s:.0f} s for them to end"
        )
    else:
        notify(f"{destination.url} is leased by {who}: waiting {ttl_s:.0f} s for a heartbeat")
    return _watch(destination, number, holder, ttl_s) or is_abandoned


def refuse_held(destination: Destination, notify: Notify) -> None:
    """Refuse a destination to which somebody writes, without becoming its writer.

    A holder that cannot be seen from here is watched for two heartbeats, and not for as long as
    `acquire` does.

    Parameters
    ----------
    destination : Destination
    notify : callable
        Called with a line of text about a holder for which `acquire` would wait.

    Raises
    ------
    LeaseError
        If its holder is alive.
    StorageError
    """
    number, holder = _newest(destination, 0)
    if holder is None or _is_free(holder):
        return
    _refuse_alive(destination, holder)
    who, ttl_s = describe(holder), _ttl_s(holder)
    seconds = 2 * ttl_s / HEARTBEATS_PER_TTL
    if holder.get("abandoned") is True:
        notify(
            f"{who} stopped while requests to {destination.url} were under way: a migration waits"
            f" {ttl_s:.0f} s for them to end"
        )
    elif not _watch(destination, number, holder, seconds):
        notify(
            f"{destination.url} is leased by {who}, of which there was no heartbeat for"
            f" {seconds:.0f} s: a migration waits {ttl_s:.0f} s for one before it goes on"
        )


def _is_free(holder: Mapping[str, Any]) -> bool:
    """Whether a lease may be taken over at once."""
    if holder.get("released"):
        return True
    is_abandoned = holder.get("abandoned") is True
    return not is_abandoned and bool(holder.get("fences", True)) and _is_dead(holder)


def _refuse_alive(destination: Destination, holder: Mapping[str, Any]) -> None:
    """Refuse a lease whose holder is a process of this machine that is running.

    Raises
    ------
    LeaseError
    """
    is_abandoned = holder.get("abandoned") is True
    if not is_abandoned and life_of(holder) is Life.ALIVE and not _is_past(holder):
        raise _is_in_use(destination, holder)


def _is_in_use(destination: Destination, holder: Mapping[str, Any]) -> LeaseError:
    return LeaseError(
        f"another migration is writing to {destination.url} ({describe(holder)}): wait until it"
        " ends, or stop it",
        url=destination.url,
    )


def _ttl_s(holder: Mapping[str, Any]) -> float:
    return min(float(holder.get("ttl_s") or LONGEST_LEASE_TTL_S), LONGEST_LEASE_TTL_S)


def _watch(
    destination: Destination, number: int, holder: Mapping[str, Any], seconds: float
) -> bool:
    """Whether a lease was released while it was watched for so long.

    Raises
    ------
    LeaseError
        If its holder is alive.
    """
    deadline = elapsed_s() + seconds
    while elapsed_s() < deadline:
        time.sleep(min(seconds / 20, max(0.0, deadline - elapsed_s())))
        lease = read_lease(destination, number) or {}
        if lease.get("released"):
            return True
        if lease.get("counter") != holder.get("counter"):
            raise _is_in_use(destination, holder)
    return False


def _is_past(holder: Mapping[str, Any]) -> bool:
    """Whether the holder is a migration of this process that has ended."""
    return is_this_process(holder) and ended_quietly(str(holder.get("owner"))) is not None


def _is_dead(holder: Mapping[str, Any]) -> bool:
    """Whether the holder is a dead process of this machine, or a past migration of this process."""
    if is_this_process(holder):
        # It ended without marking its lease as released: no room or no connection.
        return ended_quietly(str(holder.get("owner"))) is True
    return life_of(holder) is Life.DEAD
