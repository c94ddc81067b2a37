"""`Pace`: how many requests a process makes of one store at once, and how many a second.

No store says what it allows, and others use it, too. So the number of open requests begins low and
doubles in each round trip, once all of it were accepted, until the store refuses requests. Growing
with each answer would double it, too, and meet a limit with twice as many refusals. From then on it
grows by one in a round trip and halves with refusals, as in the congestion control of TCP (RFC
5681). What a store limits, however, is often not the number of open requests but their rate
(`RequestRate`), and what a link limits are the bytes (`BytesAtOnce`). A user may allow less than
the store does (`MaxRate`).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cloudimg.errors import ServerError
from cloudimg.settings import MaxRate, settings
from cloudimg.settings.operating_system import run_after_fork
from cloudimg.storage.bytes_at_once import BytesAtOnce
from cloudimg.storage.request_rate import RequestRate
from cloudimg.storage.threads import engine

_FIRST_WINDOW, _LEAST_WINDOW = 64, 2.0
_SLOW_S = 2.0
"""An answer that took longer is no reason for more requests at once: the link may be full."""
_LONG_SHARE = 0.4
"""Part of the time-out that is long for a request."""
_WAIT_S = 1.0
_UNCERTAIN_S = 60.0
_CHANCE = 1e-6

_turns = threading.local()
"""Its `is_free` is true in threads that make requests ahead of all others; its `turn` is the one in
which a thread makes a request."""


class Turn:
    """One request while it is made.

    Parameters
    ----------
    pace : Pace
    n_bytes : int
        Bytes that it asks for.
    n_sent : int
        Bytes that it sends.
    """

    __slots__ = ("n_bytes", "n_came", "n_sent", "pace", "seen_at", "started")

    def __init__(self, pace: Pace, n_bytes: int, n_sent: int) -> None:
        self.pace, self.n_bytes, self.n_sent = pace, n_bytes, n_sent
        self.started, self.seen_at, self.n_came = 0.0, 0.0, 0


def have_come(n_bytes: int) -> None:
    """Count bytes that came for the request that this thread makes."""
    turn: Turn | None = getattr(_turns, "turn", None)
    if turn is not None:
        turn.pace.come(turn, n_bytes)


def have_come_in_all(n_bytes: int) -> None:
    """Count those of the bytes that came for this thread's request that were not counted yet."""
    turn: Turn | None = getattr(_turns, "turn", None)
    if turn is not None and n_bytes > turn.n_came:
        turn.pace.come(turn, n_bytes - turn.n_came)


def may_break_off() -> bool:
    """Whether the answer to the request that this thread makes may break off.

    To take it in parts, so that these are not lost, costs a tenth more time of the processor.
    """
    turn: Turn | None = getattr(_turns, "turn", None)
    return turn is not None and turn.pace.may_break_off


class Pace:
    """The turns of all requests of a process to one store.

    Parameters
    ----------
    most : int
        Most requests at once.
    max_rate : MaxRate
        What the user allows.
    """

    def __init__(self, most: int, max_rate: MaxRate) -> None:
        self._most = most
        self._max_rate = max_rate
        self._allowed_at = 0.0
        """When the user allows the next request."""
        self._line = threading.Lock()
        self._changed = threading.Condition()
        self._window = float(min(_FIRST_WINDOW, most))
        self._n_open = 0
        self._is_doubling = True
        self._n_of_round = 0
        """Requests that were accepted since the number of open ones was doubled."""
        self._narrowed_at = 0.0
        self._rate = RequestRate()
        self._bytes = BytesAtOnce(_LONG_SHARE * settings().timeout_s)
        self._usual_bytes = 0.0
        """Bytes that come for a request that does not say how many it asks for."""
        self._n_accepted = self._n_refused = 0
        self._refused_at = self._broke_off_at = -math.inf
        self._stuck_at = math.inf
        """When no answer but refusals will have come for as long as an answer may take."""
        self._n_in_a_row = 0
        """Refusals since a request was accepted."""

    @contextmanager
    def turn(self, n_bytes: int | None = 0, n_sent: int = 0) -> Iterator[None]:
        """Wait for the turn of a request, which is made in the block.

        Parameters
        ----------
        n_bytes : int, optional
            Bytes that it asks for; None where they are not known.
        n_sent : int
            Bytes that it sends.
        """
        if getattr(_turns, "is_free", False):
            yield
            return
        turn = Turn(self, n_bytes or 0, n_sent)
        self._enter(turn, is_size_known=n_bytes is not None)
        failure: ServerError | None = None
        _turns.turn = turn
        with ahead_of_others():  # what a request needs first is part of its turn
            try:
                yield
                if n_bytes is None:
                    usual = self._usual_bytes or turn.n_came
                    self._usual_bytes = usual + (turn.n_came - usual) / 8
            except ServerError as exc:
                failure = exc.with_traceback(None)
                raise
            finally:
                _turns.turn = None
                self._leave(turn, failure)
                failure = None

    def is_spacing(self, failure: ServerError) -> bool:
        """Whether the turns of refused requests are far enough apart, without a pause.

        While this is so, a refusal is no reason to give up: others were accepted in its place.
        """
        return failure.is_throttled and self._rate.per_s is not None

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
        """Whether the store has accepted nothing for long, so that waiting is of no use.

        A busy machine may ask so seldom that a few refusals take as long.
        """
        is_long = time.monotonic() > self._stuck_at
        return failure.is_throttled and is_long and self._n_in_a_row >= settings().attempts

    @property
    def may_break_off(self) -> bool:
        """Whether requests take long, or one failed lately without a refusal."""
        return self.is_thin or time.monotonic() - self._broke_off_at < _UNCERTAIN_S

    @property
    def is_thin(self) -> bool:
        """Whether few bytes are requested at once, because requests took long."""
        return self._bytes.most < math.inf

    def is_crowded(self, failure: ServerError) -> bool:
        """Whether a request had no answer on a thin link, on which the bytes of others came.

        From then on fewer bytes are requested at once, so the request is worth another attempt.
        """
        is_moving = time.monotonic() - self._bytes.last_at < settings().timeout_s
        return self.is_thin and is_moving and not failure.is_answered

    def come(self, turn: Turn, n_bytes: int) -> None:
        """Count bytes that came in a turn."""
        with self._changed:
            now = time.monotonic()
            self._bytes.come(n_bytes, turn.seen_at, now, turn.started)
            turn.n_came, turn.seen_at = turn.n_came + n_bytes, now

    def _enter(self, turn: Turn, *, is_size_known: bool) -> None:
        ending = engine().is_ending
        # One waits for what changes, and the others for their place in the line.
        with self._line, self._changed:
            while not ending.is_set():
                now = time.monotonic()
                if not is_size_known:
                    turn.n_bytes = int(self._usual_bytes)
                is_full = self._n_open >= int(self._window)
                is_full = is_full or not self._bytes.has_room(turn.n_bytes)
                # A store that is stuck is asked for its last refusals at the rate of the user.
                next_at = max(self._allowed_at, min(self._rate.next_at, self._stuck_at))
                if not is_full and now >= next_at:
                    break
                self._changed.wait(_WAIT_S if is_full else min(_WAIT_S, next_at - now))
            turn.started = turn.seen_at = now = time.monotonic()
            self._n_open += 1
            self._bytes.begin(turn.n_bytes)
            self._rate.begin(now)
            self._allowed_at = max(self._allowed_at, now) + self._allowed_s(turn.n_bytes, turn)

    def _allowed_s(self, n_bytes: int, turn: Turn) -> float:
        """How long the user wants nothing to be requested after a request."""
        least = self._max_rate
        of_bytes = 0 if least.bytes_per_s is None else (n_bytes + turn.n_sent) / least.bytes_per_s
        of_request = 0 if least.requests_per_s is None else 1 / least.requests_per_s
        return max(of_bytes, of_request)

    def _leave(self, turn: Turn, failure: ServerError | None) -> None:
        now, started = time.monotonic(), turn.started
        with self._changed:
            self._n_open -= 1
            self._bytes.end(turn.n_bytes, started, now)
            self._allowed_at += self._allowed_s(turn.n_came, turn)
            self._allowed_at -= self._allowed_s(turn.n_bytes, turn)
            if failure is None:
                self._was_accepted(turn, now)
            elif failure.is_throttled:
                self._was_refused(started, now)
            else:
                self._broke_off_at = now
                self._bytes.fail()
                if not failure.is_answered and started >= self._narrowed_at:
                    self._narrow(now)
            self._changed.notify()

    def _was_accepted(self, turn: Turn, now: float) -> None:
        took_s = now - turn.started
        self._n_accepted += 1
        self._n_in_a_row, self._stuck_at = 0, math.inf
        if not self._is_doubling:
            self._window = min(self._most, self._window + 1 / self._window)
        elif took_s < _SLOW_S:
            self._n_of_round += 1
            if self._n_of_round >= self._window:
                self._window, self._n_of_round = min(self._most, 2 * self._window), 0
        self._rate.accept(turn.started, now)

    def _was_refused(self, started: float, now: float) -> None:
        self._n_refused += 1
        self._n_in_a_row += 1
        patience_s = settings().timeout_s
        if now - self._refused_at > patience_s:  # others gave up long ago
            self._stuck_at = math.inf
        self._refused_at = now
        self._stuck_at = min(self._stuck_at, now + patience_s)
        self._is_doubling = False
        if self._rate.refuse(started, now):
            self._narrow(now)

    def _narrow(self, now: float) -> None:
        self._is_doubling = False
        self._window = max(_LEAST_WINDOW, self._window / 2)
        self._narrowed_at = now


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
_paces: dict[tuple[str, MaxRate], Pace] = {}


def pace_of(store: str, max_rate: MaxRate | None) -> Pace:
    """The pace of a store in this process.

    Parameters
    ----------
    store : str
        What its limits are for, such as a bucket at an endpoint.
    max_rate : MaxRate, optional
        What the user allows; by default what the settings allow.
    """
    allowed = max_rate or settings().max_rate or MaxRate()
    key = (store, allowed)
    with _lock:
        found = _paces.pop(key, None) or Pace(engine().settings.max_requests, allowed)
        _paces[key] = found
        while len(_paces) > _MOST_PACES:
            del _paces[next(iter(_paces))]
        return found


_MOST_PACES = 64


def _forget_after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _paces.clear()


run_after_fork(_forget_after_fork)
