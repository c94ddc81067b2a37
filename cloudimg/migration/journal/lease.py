"""One writer at a time: numbered leases, each made by create-if-absent.

The rules. The lease with the highest number holds. Its holder writes it again every few seconds
with a counter that went up; whoever wants to take over watches that counter by a clock of its own,
so no two clocks are ever compared. To take over is to create the next number, which one of many
can. Create-if-absent is the only conditional write that every store was seen to keep.

- A holder that said it is done, or is a dead process of this very machine, is followed at once.
- Any other holder is given `ttl_s` to show that it lives; the one who waits says so.
- A holder whose last renewal is older than half of that starts no PUT: it renews first, and finds
  out whether it was followed.
"""

from __future__ import annotations

import os
import socket
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
from cloudimg.settings import LONGEST_LEASE_TTL_S, settings

FOLDER = f"{JOURNAL}/lease"
_RENEWALS_PER_TTL = 6
Say = Callable[[str], None]
"""Is told, in one line, what is being waited for."""


def _key(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"


class Lease:
    """The right to write to a destination, kept fresh by a thread until it is released.

    Use as a context manager. Made by `acquire`.
    """

    def __init__(self, destination: Destination, number: int, ttl_s: float, owner: str) -> None:
        self.destination = destination
        self.number = number
        self.ttl_s = ttl_s
        self.owner = owner
        self._counter = 0
        self._renewed_at = time.monotonic()
        self._lost = ""
        self._forgotten = False
        self._abandoned = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="cloudimg-lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()
        del _held[self.owner]
        with self._lock:
            if not self._lost and not self._abandoned:
                # Nothing hangs on it: who follows would only have to wait.
                with suppress(StorageError):
                    if self._forgotten:
                        self.destination.delete([_key(n + 1) for n in range(self.number)])
                    else:
                        self._release()

    def _release(self) -> None:
        try:
            self.destination.put(_key(self.number), self._content(released=True))
        except NoRoomError:
            self.destination.delete([_key(self.number)])

    def forget(self) -> None:
        """Take the lease away at the end, and those before it, instead of marking it released."""
        self._forgotten = True

    def abandon(self) -> None:
        """Let the lease run out at the end: something of ours may still be on its way there."""
        self._abandoned = True

    def view(self) -> LeaseView:
        """What travels to workers."""
        return LeaseView(self.destination, self.number, self.owner, self.ttl_s)

    def check(self) -> None:
        """Make sure, before a PUT, that the destination is still ours.

        Raises
        ------
        LeaseError
            If another migration took over.
        StorageError
        """
        if time.monotonic() - self._renewed_at > self.ttl_s / 2:
            self._renew(stale_only=True)
        if self._lost:
            raise LeaseError(self._lost, url=self.destination.url)

    def _keep(self) -> None:
        while not self._ended.wait(self.ttl_s / _RENEWALS_PER_TTL):
            if self._lost:
                return
            # A failure shows when the lease is checked before the next PUT.
            with suppress(StorageError):
                self._renew()

    def _renew(self, *, stale_only: bool = False) -> None:
        with self._lock:
            fresh = time.monotonic() - self._renewed_at <= self.ttl_s / 2
            if self._lost or (stale_only and fresh):
                return
            started = time.monotonic()
            if self.destination.get_json(_key(self.number + 1)) is not None:
                self._lost = _lost(self.destination)
                return
            self._counter += 1
            self.destination.put(_key(self.number), self._content())
            self._renewed_at = started

    def _content(self, *, released: bool = False) -> bytes:
        holder = {**_this_process(), "owner": self.owner, "ttl_s": self.ttl_s}
        return as_json({**holder, "counter": self._counter, "released": released})


def _lost(destination: Destination) -> str:
    return (
        f"another migration took over {destination.url}, because this one gave no sign of life for"
        " too long; it goes on there, and what this one wrote is whole"
    )


_held: dict[str, Lease] = {}
"""Leases of this process by owner: its own threads need not ask the store."""


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A lease as workers see it. Picklable."""

    destination: Destination
    number: int
    owner: str
    ttl_s: float

    def check(self) -> None:
        """Make sure, before a PUT, that whoever sent the work still holds the destination.

        Raises
        ------
        LeaseError
            If it ended or was followed.
        StorageError
        """
        held = _held.get(self.owner)
        if held is not None:
            held.check()
            return
        with _watching:
            watch = _watches.setdefault(self.owner, _Watch())
        with watch.lock:
            watch.look(self)


class _Watch:
    """What this process last saw of another's lease."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._counter = -1
        self._changed_at = self._looked_at = float("-inf")

    def look(self, view: LeaseView) -> None:
        """Ask the store, unless it was asked lately."""
        now = time.monotonic()
        if now - self._looked_at > min(_SEEN_FOR_S, view.ttl_s / _RENEWALS_PER_TTL):
            found = view.destination.get_json(_key(view.number)) or {}
            if view.destination.get_json(_key(view.number + 1)) is not None:
                raise LeaseError(_lost(view.destination), url=view.destination.url)
            if found.get("owner") != view.owner or found.get("released"):
                raise LeaseError(
                    f"the migration to {view.destination.url} has ended; nothing more is written"
                    " for it",
                    url=view.destination.url,
                )
            if found["counter"] != self._counter:
                self._counter, self._changed_at = found["counter"], now
            self._looked_at = now
        if now - self._changed_at > view.ttl_s / 2:
            raise LeaseError(
                f"whoever runs the migration to {view.destination.url} gives no sign of life;"
                " nothing more is written for it",
                url=view.destination.url,
            )


_SEEN_FOR_S = 2.0
"""What was seen counts for so long: a cell that nobody waits for any more may still be under way
when another migration begins."""
_watching = threading.Lock()
_watches: dict[str, _Watch] = {}


def acquire(
    destination: Destination, *, ttl_s: float | None = None, say: Say, is_unheld: bool = False
) -> Lease:
    """Become the one writer of a destination.

    Parameters
    ----------
    destination : Destination
    ttl_s : float, optional
        How long a holder may be silent before it counts as dead; that of the settings by default.
    say : callable
        Is told what is being waited for.
    is_unheld : bool
        Whether a listing has just shown that there never was a lease.

    Raises
    ------
    LeaseError
        If another migration is writing there.
    StorageError
        If nothing can be written there.
    """
    ttl_s = settings().lease_ttl_s if ttl_s is None else ttl_s
    owner = uuid.uuid4().hex
    while True:
        number, holder = (0, None) if is_unheld else _newest(destination)
        is_unheld = False
        if holder is not None:
            _wait_for_end(destination, number, holder, say)
        lease = Lease(destination, number + 1, ttl_s, owner)
        # Before it can be seen: a lease of this process that is not held counts as ended.
        _held[owner] = lease
        try:
            if destination.create(_key(number + 1), lease._content()):
                return lease
        except BaseException:
            del _held[owner]
            raise
        del _held[owner]


def _newest(destination: Destination) -> tuple[int, dict[str, Any] | None]:
    """The highest number there is and who holds it; 0 where there is none."""
    found = [Path(entry.key).stem for entry in destination.list(FOLDER)]
    number = max((int(name) for name in found if name.isdecimal()), default=0)
    return number, destination.get_json(_key(number)) if number else None


def _wait_for_end(
    destination: Destination, number: int, holder: Mapping[str, Any], say: Say
) -> None:
    """Return when a lease may be followed.

    Raises
    ------
    LeaseError
        If its holder lives.
    """
    if holder.get("released") or _is_dead_here(holder):
        return
    who = f"process {holder.get('pid')} on {holder.get('host')}"
    refusal = LeaseError(
        f"another migration writes to {destination.url} ({who}): wait for its end, or stop it",
        url=destination.url,
    )
    if _is_this_machine(holder):
        raise refusal
    ttl_s = min(float(holder.get("ttl_s") or LONGEST_LEASE_TTL_S), LONGEST_LEASE_TTL_S)
    say(f"{destination.url} was being written by {who}: waiting {ttl_s:.0f} s for a sign of life")
    until = time.monotonic() + ttl_s
    while time.monotonic() < until:
        time.sleep(min(ttl_s / 20, max(0.0, until - time.monotonic())))
        seen = destination.get_json(_key(number)) or {}
        if seen.get("released"):
            return
        if seen.get("counter") != holder.get("counter"):
            raise refusal
    say(f"{who} gave none: taking over")


# --------------------------------------------------------------------------------- whose process


def _this_process() -> dict[str, Any]:
    return {**_this_machine(), "pid": os.getpid(), "born": _born(os.getpid())}


def _this_machine() -> dict[str, str]:
    """Names this boot of this machine, and the space in which its process numbers count.

    Linux alone tells all of it; elsewhere a dead holder is found out by its silence.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - its target is no path
    except OSError:
        boot = space = ""
    return {"host": socket.gethostname(), "boot": boot, "space": space}


def _is_this_machine(holder: Mapping[str, Any]) -> bool:
    here = _this_machine()
    return bool(here["boot"]) and all(holder.get(name) == here[name] for name in here)


def _is_dead_here(holder: Mapping[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more, or a past run of this."""
    if not _is_this_machine(holder) or not isinstance(holder.get("pid"), int):
        return False
    if holder["pid"] == os.getpid() and holder.get("owner") not in _held:
        return True  # which could not say that it ended, for want of room or of a connection
    # A number that was given again is another process, born at another time.
    return _born(holder["pid"]) != holder.get("born")


def _born(pid: int) -> str:
    """When a process began, in ticks since boot; nothing where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The name of the program, in parentheses, may hold anything; a zombie (Z) is dead.
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def _forget_after_fork() -> None:
    global _watching
    _watching = threading.Lock()
    _held.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
