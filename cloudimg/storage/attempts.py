"""`Attempts`: requests to one store, by the first backend that is able, and repeated if need be."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar, cast

from cloudimg.errors import ServerError, StorageError
from cloudimg.settings import MaxRate, settings
from cloudimg.storage.base import Backend, NotMappableError, WriteGuard
from cloudimg.storage.connections import shared_backends
from cloudimg.storage.failures import cause_text
from cloudimg.storage.pacing import Pace, pace_of
from cloudimg.storage.threads import engine
from cloudimg.storage.urls import Location

T = TypeVar("T")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_MOST_CROWDED = 20
"""Attempts for each request that may have no answer because a link is thin."""
_OF_THIS_MACHINE = ("file", "memory")
"""Protocols whose requests need no pace."""


class Attempts:
    """Makes the requests of a store, which connects at the first one in each process.

    Parameters
    ----------
    location : Location
    options : mapping
        fsspec's ``storage_options``.
    identity : str
        Digest of the options.
    max_rate : MaxRate, optional
        What the user allows; by default what the settings allow.
    """

    def __init__(
        self,
        location: Location,
        options: Mapping[str, Any],
        identity: str,
        max_rate: MaxRate | None = None,
    ) -> None:
        self._location = location
        self._options = options
        self._identity = identity
        self._max_rate = max_rate
        self._backends: list[Backend] | None = None
        self._pace: Pace | None = None
        self._pid = 0

    def backends(self) -> list[Backend]:
        """The backends of this process that can serve the location, fastest first."""
        if self._backends is None or self._pid != os.getpid():
            self._backends = shared_backends(self._location, self._options, self._identity)
            self._pace = self._shared_pace()
            self._pid = os.getpid()
        return self._backends

    def pace(self) -> Pace | None:
        """The pace of requests to the store; None for one in this machine."""
        self.backends()
        return self._pace

    def _shared_pace(self) -> Pace | None:
        protocol, root = self._location.protocol, self._location.root
        if protocol in _OF_THIS_MACHINE:
            return None
        return pace_of(f"{protocol}://{root} {self._identity}", self._max_rate)

    def write(
        self,
        request: Callable[[Backend], T],
        guard: WriteGuard | None,
        *,
        deletes: bool = False,
        n_sent: int = 0,
    ) -> T:
        """Make a request that changes objects, and sends bytes, if a guard allows each attempt."""
        if guard is None:
            return self.make(request, n_sent=n_sent)

        def attempt(backend: Backend) -> T:
            try:
                return request(backend)
            except ServerError as exc:
                if not exc.is_answered:
                    guard.has_no_answer()
                raise

        check = partial(guard.check, in_store=deletes)
        with guard.writing():
            return self.make(attempt, before_attempt=check, n_sent=n_sent)

    def make(
        self,
        request: Callable[[Backend], T],
        byte_range: tuple[int, int] | None = None,
        before_attempt: Callable[[], None] | None = None,
        *,
        n_bytes: int | None = 0,
        n_sent: int = 0,
    ) -> T:
        """Make a request, several times if need be.

        Parameters
        ----------
        request : callable
            Makes it by a backend.
        byte_range : tuple of int, optional
            The bytes that are requested, for messages.
        before_attempt : callable, optional
            Called before each attempt; raises if it must not be made.
        n_bytes, n_sent : int
            See `Pace.turn`.

        Raises
        ------
        StorageError
        """
        pace, attempt, n_refused, since, n_crowded = self.pace(), 0, 0, (0, 0), 0
        while True:
            try:
                return self._attempt(request, before_attempt, n_bytes, n_sent)
            except ServerError as exc:
                # Without the traceback, whose frames would keep the data of the request alive.
                failure = exc.with_traceback(None)
            except StorageError as exc:
                if exc.byte_range is None:
                    exc.byte_range = byte_range
                raise
            if pace is None or not pace.is_spacing(failure):
                if failure.came is not None:
                    attempt = 0  # the next one requests the rest
                pause(failure, attempt, byte_range)
                is_crowded = pace is not None and pace.is_crowded(failure)
                n_crowded += is_crowded
                attempt += not is_crowded or n_crowded > _MOST_CROWDED
                continue
            since = since if n_refused else pace.counts
            n_refused += 1
            is_its_own = n_refused >= settings().attempts and pace.accepts_others(n_refused, since)
            if pace.is_stuck(failure) or is_its_own or engine().is_ending.is_set():
                raise _given_up(failure, "while the store refuses requests", byte_range)

    def _attempt(
        self,
        request: Callable[[Backend], T],
        before_attempt: Callable[[], None] | None,
        n_bytes: int | None,
        n_sent: int,
    ) -> T:
        def attempt() -> T:
            pace = self.pace()
            with nullcontext() if pace is None else pace.turn(n_bytes, n_sent):
                # Checked here, because a turn may come long after it was asked for.
                if before_attempt is not None:
                    before_attempt()
                with engine().requests:
                    return self._first_able(request)

        return run_interruptible(attempt)

    def _first_able(self, request: Callable[[Backend], T]) -> T:
        """The result of the first backend that can express a request."""
        for backend in self.backends():
            try:
                return request(backend)
            except NotMappableError:
                continue
            except BaseException as exc:
                if type(exc).__name__ != "PanicException":  # obstore's, which is not an Exception
                    raise
                url = self._location.display(self._location.root)
                failure = StorageError(
                    f"the client library for {url} failed: check its storage_options and the"
                    " environment variables for its store",
                    url=url,
                    cause=cause_text(exc),
                )
            raise failure
        url = self._location.display(self._location.root)
        raise StorageError(f"no backend of {url} supports this request", url=url)


def pause(failure: ServerError, attempt: int, byte_range: tuple[int, int] | None = None) -> None:
    """Wait after a failed attempt, counted from 0; raise after the last one, or as Python ends."""
    # Full jitter: a thousand workers that were throttled at once must not retry at once.
    longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (attempt + 1))
    pause_s = random.uniform(_FIRST_PAUSE_S / 2, longest)
    if attempt + 1 == settings().attempts or engine().is_ending.wait(pause_s):
        raise _given_up(failure, f"after {attempt + 1} attempts", byte_range)


def _given_up(failure: ServerError, when: str, byte_range: tuple[int, int] | None) -> ServerError:
    return ServerError(
        f"{failure.message}; gave up {when}",
        url=failure.url,
        byte_range=byte_range,
        cause=failure.cause,
    )


def run_interruptible(request: Callable[[], T]) -> T:
    """The result of a request, which another thread makes in place of the main thread.

    Ctrl-C interrupts the main thread while it waits for another thread, but not while it waits for
    a store.
    """
    if threading.current_thread() is threading.main_thread():
        return engine().call(request).result()
    return request()


def interruptible(batches: Iterator[T]) -> Iterator[T]:
    """The same batches, each of which is awaited as by `run_interruptible`."""
    end = object()
    while (batch := run_interruptible(lambda: next(batches, end))) is not end:
        yield cast(T, batch)
