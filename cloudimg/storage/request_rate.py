"""`RequestRate`: how many requests a second a store accepts. Pure: whoever asks gives the time.

No store says what it allows, and others use it, too. So the rate is searched for: it grows until
requests are refused, and then lies between one that was accepted and one that was not. The space
between the two is halved until they are close. What was too much is tried again later, because a
store may allow more then.
"""

from __future__ import annotations

import math
import random
from collections import deque

_MEMORY_S = 1.0
"""Before there is a rate, what was accepted and refused is counted over so many seconds."""
_FEW = 4
_SMALL_SHARE, _TINY_SHARE = 1 / 8, 1 / 10
"""Fewer refusals than `_FEW`, or a smaller share of all answers, change nothing: large stores
refuse some requests now and then. With more than a tiny share a known rate does not grow."""
_LATEST, _MANY = 16, 6
"""So many refusals among so many latest answers are not chance, whatever was accepted before."""
_FIRST_RATE = 30.0
"""Requests a second to begin with where a store accepted fewer in the first second."""
_BEYOND_BURST = 2
"""Where it accepted more, some were a burst that it allows: at most so many times as many a second
are expected."""
_SEARCH, _AGAIN = 2.0, 1.5
"""Factors by which the rate grows: while none was too high; and where that was long ago."""
_CLOSE = 1.1
"""Between an accepted rate and one that is higher by less, no other is tried."""
_SETTLED, _SETTLED_S = 24, 2
"""A rate that stays is judged anew after so many accepted requests, or those of so many seconds."""
_LONG_AGO, _LONG_AGO_S = 48, 4
"""After so many, a rate that was too high is tried again."""
_CAUTION, _LEAST_FACTOR = 0.97, 0.25
"""Of what was accepted at a rate, how much is asked from then on; and the most that it drops."""
_LOW_RATE = 10.0
"""Requests a second that are not too many because none of a few was accepted."""
_FIRST_HOLD_S, _LONGEST_HOLD_S = 0.1, 2.0
"""How long nothing is requested after a store accepted nothing at all."""
_JITTER = 0.04
"""Part of the time between two requests that is random, so that workers do not ask in step. With
more of it a store that allows no burst refuses those that come a little early."""


class RequestRate:
    """The rate of the requests to one store; none until the store refused some."""

    def __init__(self) -> None:
        self.per_s: float | None = None
        """Requests a second; None while nothing is known to limit them."""
        self.next_at = 0.0
        """When the next request may begin."""
        self._since = 0.0
        self._n_accepted = self._n_refused = 0
        """Requests that began since the rate was set, and were accepted or refused."""
        self._low, self._high = 0.0, math.inf
        """The rate that was accepted last, and the one that was too high last."""
        self._factor = _SEARCH
        self._is_settled = False
        self._n_settled = 0
        self._hold_s = _FIRST_HOLD_S
        self._accepted: deque[float] = deque()
        self._refused: deque[float] = deque()
        self._latest: deque[bool] = deque(maxlen=_LATEST)
        """Whether each of the latest answers was a refusal."""

    def begin(self, now: float) -> None:
        """Count a request that begins now, which moves the next one."""
        if self.per_s is not None:
            interval_s = random.uniform(1 - _JITTER, 1 + _JITTER) / self.per_s
            self.next_at = max(self.next_at, now - interval_s) + interval_s

    def accept(self, started: float, now: float) -> None:
        """Count a request that began at `started` and was accepted."""
        if self.per_s is None:
            self._latest.append(False)
            self._accepted.append(now)
            _forget(self._accepted, now)
        elif started >= self._since:
            self._hold_s = _FIRST_HOLD_S
            self._n_accepted += 1
            if self._n_accepted >= self._enough(self.per_s):
                self._was_accepted(self.per_s, now)

    def refuse(self, started: float, now: float) -> bool:
        """Count a request that was refused; whether the store was asked for too much."""
        if self.per_s is not None:
            self._n_refused += started >= self._since
            is_too_much = not _are_few(self._n_refused, self._n_accepted)
            if is_too_much:
                self._was_refused(self.per_s, now)
            return is_too_much
        self._latest.append(True)
        self._refused.append(now)
        for times in (self._accepted, self._refused):
            _forget(times, now)
        n_accepted, n_refused = len(self._accepted), len(self._refused)
        if n_refused == 1:  # is it the first of many?
            self.next_at = now + min(now - started, _FIRST_HOLD_S)
        if sum(self._latest) < _MANY and _are_few(n_refused, n_accepted):
            return False
        rate = n_accepted / _MEMORY_S
        if rate > _FIRST_RATE:
            self._high = _BEYOND_BURST * rate
        self._set(max(rate, _FIRST_RATE), now)
        return True

    @property
    def _is_searching(self) -> bool:
        """Whether no rate was too high so far."""
        return self._factor == _SEARCH and self._high == math.inf

    def _enough(self, rate: float) -> float:
        """How many accepted requests say that a rate is accepted."""
        if self._is_settled:
            return max(_FEW, min(_SETTLED, _SETTLED_S * rate), rate / 2)
        return _FEW if self._is_searching else max(_FEW, rate / 4)

    def _was_accepted(self, rate: float, now: float) -> None:
        self._low = rate
        if self._n_refused > _TINY_SHARE * self._n_accepted and not self._is_searching:
            self._high = min(self._high, _CLOSE * rate)
        if self._is_settled:
            self._n_settled += self._n_accepted
        if self._n_settled > min(_LONG_AGO, _LONG_AGO_S * rate):
            self._high, self._factor, self._n_settled = math.inf, _AGAIN, 0
        self._is_settled = self._high <= _CLOSE * rate
        if self._is_settled:
            self._set(rate, now)
        else:
            is_known = self._high < math.inf
            self._set(math.sqrt(rate * self._high) if is_known else self._factor * rate, now)

    def _was_refused(self, rate: float, now: float) -> None:
        n_accepted, n_refused = self._n_accepted, self._n_refused
        self._high, self._n_settled, self._is_settled = rate, 0, False
        if self._low >= rate:
            self._low = 0.0
        if n_accepted == 0:
            # Workers that were refused at once must not come back at once.
            begin = now + random.uniform(0.5, 1) * self._hold_s
            self._set(max(self._low, rate / 2, min(rate, _LOW_RATE)), begin)
            self._hold_s = min(_LONGEST_HOLD_S, 2 * self._hold_s)
        else:
            share = n_accepted / (n_accepted + n_refused)
            self._set(max(self._low, rate * max(_LEAST_FACTOR, _CAUTION * share)), now)

    def _set(self, rate: float, begin: float) -> None:
        self.per_s, self._since = max(1.0, rate), begin
        self._n_accepted = self._n_refused = 0
        self.next_at = max(self.next_at, begin)


def _are_few(n_refused: int, n_accepted: int) -> bool:
    return n_refused < _FEW or n_refused < _SMALL_SHARE * (n_refused + n_accepted)


def _forget(times: deque[float], now: float) -> None:
    while times and times[0] < now - _MEMORY_S:
        times.popleft()
