"""`Pace`: how many requests a process makes of one store at once, and how many a second.

No store says what it allows, and others use it, too. So the number of open requests begins low and
doubles in each round trip, once all of it were accepted, until the store refuses requests. Growing
with each answer would double it, too, and meet a limit with twice as many refusals. From then on it
grows by one in a round trip and halves with refusals, as in the congestion control of TCP (RFC
5681). What a store limits, however, is often not the number of open requests but their rate: after
refusals, requests are also spaced as the store accepted them.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from cloudimg.errors import ServerError
from cloudimg.settings import settings
from cloudimg.settings.operating_system import run_after_fork
from cloudimg.storage.threads import engine

_FIRST_WINDOW, _LEAST_WINDOW = 64, 2.0
_SLOW_S = 2.0
"""An answer that took longer is no reason for more requests at once: the link may be full."""
_MEMORY_S = 1.0
"""What stores accepted and refused is counted over so many seconds."""
_FEW = 4
_SMALL_SHARE = 1 / 8
"""Fewer refusals than `_FEW`, or a smaller share of all answers, are tried again and change
nothing: large stores refuse some requests now and then."""
_LATEST, _MANY = 16, 6
"""So many refusals among so many latest answers are not chance, whatever was accepted before."""
_LEAST_RATE = 10.0
"""Requests a second to begin with where a store accepted fewer in the first second. Below it a
rate is not crept up to: that would take minutes."""
_SEARCH, _WALK, _CREEP = 1.5, 1.1, 1.03
"""Factors by which the rate grows with every quarter of a second's worth of accepted requests:
while it is known to be low only; else; and else, if requests were refused just now."""
_CAUTION, _LEAST_FACTOR = 0.97, 0.25
"""Of what was accepted at a rate, how much is asked from then on; and the most that it drops."""
_FIRST_HOLD_S, _LONGEST_HOLD_S = 0.1, 2.0
"""How long nothing is requested after a store accepted nothing at all."""
_CHANCE = 1e-6
_JITTER = 0.2
"""Part of the time between two requests that is random: workers must not ask in step."""

_turns = threading.local()
"""Its `is_free` is true in threads that make requests ahead of all others."""


class Pace:
    """The turns of all requests of a process to one store.

    Parameters
    ----------
    most : int
        Most requests at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._line = threading.Lock()
        self._changed = threading.Condition()
        self._window = float(min(_FIRST_WINDOW, most))
        self._n_open = 0
        self._is_doubling = True
        self._n_of_round = 0
        """Requests that were accepted since the number of open ones was doubled."""
        self._narrowed_at = 0.0
        self._rate: float | None = None
        self._is_searching = True
        self._rate_set_at = 0.0
        self._n_at_rate = self._n_refused_at_rate = 0
        """Requests that began since the rate was set, and were accepted or refused."""
        self._next_at = 0.0
        self._hold_s = _FIRST_HOLD_S
        self._accepted: deque[float] = deque()
        self._refused: deque[float] = deque()
        self._latest: deque[bool] = deque(maxlen=_LATEST)
        """Whether each of the latest answers was a refusal."""
        self._n_accepted = self._n_refused = 0
        self._stuck_at = math.inf
        """When no answer but refusals will have come for as long as an answer may take."""

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn of a request, which is made in the block."""
        if getattr(_turns, "is_free", False):
            yield
            return
        started = self._enter()
        failure: ServerError | None = None
        with ahead_of_others():  # what a request needs first is part of its turn
            try:
                yield
            except ServerError as exc:
                failure = exc.with_traceback(None)
                raise
            finally:
                self._leave(started, failure)
                failure = None

    def is_spacing(self, failure: ServerError) -> bool:
        """Whether the turns of refused requests are far enough apart, without a pause.

        While this is so, a refusal is no reason to give up: others were accepted in its place.
        """
        return failure.is_throttled and self._rate is not None

    @property
    def counts(self) -> tuple[int, int]:
        """How many requests were accepted and refused so far."""
        return self._n_accepted, self._n_refused

    def accepts_others(self, n_refused: int, since: tuple[int, int]) -> bool:
        """Whether it cannot be chance that a request was refused each time.

        Parameters
        ----------
        n_refused : int
            How often it was refused.
        since : tuple of int
            `counts` at the first time.
        """
        n_accepted, n_all = self._n_accepted - since[0], sum(self.counts) - sum(since)
        return n_accepted > 0 and (1 - n_accepted / n_all) ** n_refused < _CHANCE

    def is_stuck(self, failure: ServerError) -> bool:
        """Whether the store has accepted nothing for long, so that waiting is of no use."""
        return failure.is_throttled and time.monotonic() > self._stuck_at

    def _enter(self) -> float:
        ending = engine().is_ending
        # One waits for what changes, and the others for their place in the line.
        with self._line, self._changed:
            while not ending.is_set():
                now = time.monotonic()
                is_full = self._n_open >= int(self._window)
                if not is_full and now >= min(self._next_at, self._stuck_at):
                    break
                self._changed.wait(_MEMORY_S if is_full else self._next_at - now)
            now = time.monotonic()
            self._n_open += 1
            if self._rate is not None:
                interval_s = random.uniform(1 - _JITTER, 1 + _JITTER) / self._rate
                self._next_at = max(self._next_at, now - interval_s) + interval_s
            return now

    def _leave(self, started: float, failure: ServerError | None) -> None:
        now = time.monotonic()
        with self._changed:
            self._n_open -= 1
            if failure is None:
                self._was_accepted(started, now)
            elif failure.is_throttled:
                self._was_refused(started, now)
            elif not failure.is_answered and started >= self._narrowed_at:
                self._narrow(now)
            self._changed.notify()

    def _was_accepted(self, started: float, now: float) -> None:
        self._n_accepted += 1
        self._stuck_at = math.inf
        self._accepted.append(now)
        self._latest.append(False)
        _forget(self._accepted, now)
        if not self._is_doubling:
            self._window = min(self._most, self._window + 1 / self._window)
        elif now - started < _SLOW_S:
            self._n_of_round += 1
            if self._n_of_round >= self._window:
                self._window, self._n_of_round = min(self._most, 2 * self._window), 0
        if self._rate is not None and started >= self._rate_set_at:
            self._hold_s = _FIRST_HOLD_S
            self._n_at_rate += 1
            if self._n_at_rate >= max(_FEW, self._rate / 4):
                self._set_rate(self._rate * self._growth(self._rate, now), now)

    def _growth(self, rate: float, now: float) -> float:
        if self._is_searching or rate < _LEAST_RATE:
            return _SEARCH
        _forget(self._refused, now)
        return _CREEP if self._refused else _WALK

    def _was_refused(self, started: float, now: float) -> None:
        self._n_refused += 1
        patience_s = settings().timeout_s
        if not self._refused or now - self._refused[-1] > patience_s:  # others gave up long ago
            self._stuck_at = math.inf
        self._refused.append(now)
        self._latest.append(True)
        self._stuck_at = min(self._stuck_at, now + patience_s)
        if self._rate is not None:
            if started >= self._rate_set_at:
                self._was_refused_at_rate(self._rate, now)
            return
        for times in (self._accepted, self._refused):
            _forget(times, now)
        n_accepted = len(self._accepted)
        self._is_doubling = False
        if len(self._refused) == 1:  # is it the first of many?
            self._next_at = now + min(now - started, _FIRST_HOLD_S)
        if sum(self._latest) >= _MANY or not _are_few(len(self._refused), n_accepted):
            self._narrow(now)
            self._is_searching = n_accepted < _FIRST_WINDOW
            self._set_rate(max(_LEAST_RATE, n_accepted / _MEMORY_S), now)

    def _was_refused_at_rate(self, rate: float, now: float) -> None:
        self._n_refused_at_rate += 1
        n_accepted, n_refused = self._n_at_rate, self._n_refused_at_rate
        if _are_few(n_refused, n_accepted):
            return
        self._narrow(now)
        if n_accepted == 0:
            self._set_rate(rate, now + self._hold_s)
            self._hold_s = min(_LONGEST_HOLD_S, 2 * self._hold_s)
        else:
            self._is_searching = False
            accepted_share = n_accepted / (n_accepted + n_refused)
            self._set_rate(rate * max(_LEAST_FACTOR, _CAUTION * accepted_share), now)

    def _narrow(self, now: float) -> None:
        self._is_doubling = False
        self._window = max(_LEAST_WINDOW, self._window / 2)
        self._narrowed_at = now

    def _set_rate(self, rate: float, begin: float) -> None:
        self._rate, self._rate_set_at = max(1.0, rate), begin
        self._n_at_rate = self._n_refused_at_rate = 0
        self._next_at = max(self._next_at, begin)


def _are_few(n_refused: int, n_accepted: int) -> bool:
    return n_refused < _FEW or n_refused < _SMALL_SHARE * (n_refused + n_accepted)


def _forget(times: deque[float], now: float) -> None:
    while times and times[0] < now - _MEMORY_S:
        times.popleft()


@contextmanager
def ahead_of_others() -> Iterator[None]:
    """Make the requests of this thread at once: a lease must be renewed, whatever else waits."""
    was_free = getattr(_turns, "is_free", False)
    _turns.is_free = True
    try:
        yield
    finally:
        _turns.is_free = was_free


_lock = threading.Lock()
_paces: dict[str, Pace] = {}


def pace_of(store: str) -> Pace:
    """The pace of a store in this process.

    Parameters
    ----------
    store : str
        What its limits are for, such as a bucket at an endpoint.
    """
    with _lock:
        found = _paces.pop(store, None) or Pace(engine().settings.max_requests)
        _paces[store] = found
        while len(_paces) > _MOST_PACES:
            del _paces[next(iter(_paces))]
        return found


_MOST_PACES = 64


def _forget_after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _paces.clear()


run_after_fork(_forget_after_fork)
