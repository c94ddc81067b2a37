"""`BytesAtOnce`: how many bytes are requested at once of a thin link. Pure: it is told the time.

All requests share a link. Where it is thin, each of many takes so long that some time out, and what
has come of them is lost. So once requests take long, no more is asked for than came in as long a
time. Links that carry more are not slowed: a request takes far less there.
"""

from __future__ import annotations

import math
from collections import deque

_LEAST_BYTES = 2**18
_COUNTED_SHARE = 1 / 64
"""What came lately is counted once this part of it is new: of many requests it is thousands."""
_PLENTY_BYTES = 2**28
"""So many at once need no limit."""


class BytesAtOnce:
    """The bytes that are requested of one store and have not come.

    Parameters
    ----------
    long_s : float
        Seconds that are long for a request.
    """

    def __init__(self, long_s: float) -> None:
        self.most = math.inf
        """Most bytes at once."""
        self._long_s = long_s
        self._n_open = 0
        self._n_proven = 0.0
        """Most bytes that came in `long_s` seconds. It is kept where fewer come later: if each
        connection has a limit of its own, fewer come because fewer were requested."""
        self._n_uncounted = 0
        """How often bytes came since they were counted last."""
        self._came: deque[tuple[int, float, float]] = deque()
        """Bytes that came, and from when to when, in the last `long_s` seconds."""

    @property
    def last_at(self) -> float:
        """When bytes came last."""
        return self._came[-1][2] if self._came else -math.inf

    def has_room(self, n_bytes: int) -> bool:
        """Whether so many may be requested now."""
        return self._n_open == 0 or self._n_open + n_bytes <= self.most

    def begin(self, n_bytes: int) -> None:
        """Count a request."""
        self._n_open += n_bytes

    def come(self, n_bytes: int, since: float, now: float, started: float) -> None:
        """Count bytes that came from `since` on for a request that began at `started`."""
        first = now - self._long_s
        self._came.append((n_bytes, since, now))
        while self._came[0][2] < first:
            self._came.popleft()
        self._n_uncounted += 1
        if started < first and self._n_uncounted >= _COUNTED_SHARE * len(self._came):
            self._n_uncounted = 0
            n_lately = sum(n * min(1, (at - first) / (at - a)) for n, a, at in self._came if at > a)
            self._n_proven = max(self._n_proven, n_lately)
            self.most = max(_LEAST_BYTES, self._n_proven)

    def fail(self) -> None:
        """Forget what came earlier, because a request had no answer: the link may carry less."""
        self._n_proven = 0.0

    def end(self, n_bytes: int, started: float, now: float) -> None:
        """Count a request that has ended."""
        self._n_open -= n_bytes
        if now - started < self._long_s / 2:
            self.most += n_bytes  # which doubles it while requests do not take long
            if self.most > _PLENTY_BYTES:
                self.most = math.inf
