"""Side by side along a chain of directories whose distances differ: anchors, then stretches.

Windows spread over the file, each about a page long, are searched for a directory by its first
bytes, which hardly differ from page to page. Each one found is the beginning of a stretch, and all
stretches are walked at the same time, one link of each per round. A stretch ends where it meets
the beginning of another; a beginning that the chain passes by was noise and is dropped.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from heapq import heapify, heapreplace
from itertools import pairwise

from cloudimg.tiff.directory import Dialect, Directory, Have, read_directory

Range = tuple[int, int]
Rounds = Iterator[list[Range]]

_SHARE = 0.048
"""Of the file may be fetched, directories and anchors together."""
_LEAST_SHARE = 0.012
"""Of the file may go to anchors even where directories alone take much of it."""
_SMALL_BYTES = 16 * 2**20
_DENSE_SHARE = 0.015
"""Of a small file that its directories take, from which on it is fetched whole."""
_FIRST_PART = 0.08
"""Of the anchors are spread evenly; the others go where pages turn out to be small."""
_LONGER = 1.6
"""Times its length a window is read where no directory was found in it."""
_UNEVEN = 1.5
"""Times the mean distance the longest one is where small pages lie between large ones."""
_MOST_SPREAD = 4.0


def margins(chain: Sequence[Directory]) -> tuple[int, int]:
    """How many bytes before and after its beginning a directory and the values beside it take."""
    known = chain[1:] or chain  # the first page may carry more metadata
    before = max(d.start_bytes - d.extent[0] for d in known)
    return before, max(d.extent[1] - d.start_bytes for d in known)


class AnchoredWalk:
    """The rest of a chain.

    Parameters
    ----------
    have : callable
    dialect : Dialect
    chain : sequence of Directory
        The last ones that are known, at least two.
    size_bytes : int
        Of the file.
    in_flight : int
        Requests that may be under way at once.
    """

    def __init__(
        self,
        have: Have,
        dialect: Dialect,
        chain: Sequence[Directory],
        size_bytes: int,
        in_flight: int,
    ) -> None:
        self._have = have
        self._dialect = dialect
        self._size = size_bytes
        self._in_flight = in_flight
        self._begin = chain[-1].next_bytes
        steps = [d.next_bytes - d.start_bytes for d in chain if d.next_bytes > d.start_bytes]
        self._step = max(1, sum(steps) // max(1, len(steps)))
        self._spread = min(_MOST_SPREAD, max(steps, default=1) / self._step)
        """How much longer than the mean a distance can be: thumbnails may lie between pages."""
        self._before, self._after = margins(chain)
        self._codes = {directory.codes for directory in chain}
        keys = [have(d.start_bytes, d.start_bytes + dialect.key_bytes) or b"" for d in chain]
        self._search = re.compile(b"|".join({re.escape(bytes(key)) for key in keys}))

    def rounds(self) -> Rounds:
        """Ranges to fetch at the same time, round by round."""
        if self._size <= _SMALL_BYTES and self._before + self._after > _DENSE_SHARE * self._step:
            # Too few anchors are affordable, and all of the file takes less time than the walk.
            yield [(self._begin, self._size)]
            return
        total = self._affordable()
        reach = int(self._step * self._spread) + self._before + self._after
        first = int(_FIRST_PART * total)
        span = self._size - self._begin
        windows = [
            self._cut(self._begin + span * i // (first + 1), reach) for i in range(1, first + 1)
        ]
        yield windows
        found = self._found(windows)
        steps = yield from self._steps_at(found)
        # The median: what was found may be noise that leads anywhere.
        self._step = sorted(steps.values())[len(steps) // 2] if steps else self._step
        windows = self._between(found, steps, self._affordable() - first)
        yield windows
        empty = [window for window in windows if self._find(window) is None]
        longer = [self._cut(start, int((stop - start) * _LONGER)) for start, stop in empty]
        yield [(old[1], new[1]) for old, new in zip(empty, longer, strict=True)]
        yield from self._walk({self._begin, *found, *self._found(windows), *self._found(longer)})

    def _found(self, windows: Sequence[Range]) -> dict[int, Directory]:
        """The first directory of each window that has one, by offset."""
        directories = (self._find(window) for window in windows)
        return {d.start_bytes: d for d in directories if d is not None}

    def _affordable(self) -> int:
        """How many windows keep within the share of the file."""
        share = max(_LEAST_SHARE, _SHARE - (self._before + self._after) / self._step)
        reach = self._step * self._spread + self._before + self._after
        return min(self._in_flight, int(share * (self._size - self._begin) / reach))

    def _cut(self, start: int, length: int) -> Range:
        return start, min(start + length, self._size)

    def _find(self, window: Range) -> Directory | None:
        """The first directory in a window that has the tags of one known."""
        data = self._have(*window)
        for match in self._search.finditer(data or b""):
            directory = read_directory(self._have, self._dialect, window[0] + match.start())
            if directory is not None and directory.codes in self._codes:
                return directory
        return None

    def _steps_at(
        self, found: dict[int, Directory]
    ) -> Generator[list[Range], None, dict[int, int]]:
        """Distances to the next directory, by offset.

        Where small pages lie between large ones, mostly the small are found, as they follow the
        large: a second link is followed, and the mean is taken.
        """
        steps = {i: d.next_bytes - i for i, d in found.items() if i < d.next_bytes < self._size}
        if self._spread < _UNEVEN:
            return steps
        yield [(max(0, i + n - self._before), i + n + self._after) for i, n in steps.items()]
        for i, step in steps.items():
            second = read_directory(self._have, self._dialect, i + step)
            if second is not None and second.next_bytes > i:
                steps[i] = (second.next_bytes - i) // 2
        return steps

    def _between(
        self, found: dict[int, Directory], steps: dict[int, int], count: int
    ) -> list[Range]:
        """Windows that cut the stretches with the most pages, told by the distances seen there."""
        parts = []
        for start, stop in pairwise((self._begin, *sorted(found), self._size)):
            ends = [steps[i] for i in (start, stop) if i in steps]
            step = sum(ends) / len(ends) if ends else self._step
            n_pages = (stop - start) / step
            parts.append((-n_pages, n_pages, 1, start, stop))
        heapify(parts)
        for _ in range(count):
            _, n_pages, pieces, start, stop = parts[0]
            heapreplace(parts, (-n_pages / (pieces + 1), n_pages, pieces + 1, start, stop))
        return [
            self._cut(
                start + (stop - start) * i // pieces,
                int(min((stop - start) / max(n_pages, 1), _UNEVEN * self._step) * self._spread)
                + self._before
                + self._after,
            )
            for _, n_pages, pieces, start, stop in parts
            for i in range(1, pieces)
        ]

    def _walk(self, starts: set[int]) -> Rounds:
        """Follow all stretches, one link of each per round."""
        beginnings = sorted(starts)
        places = {start: start for start in beginnings}  # beginning of a stretch: where it is now
        while places:
            windows = [(max(0, at - self._before), at + self._after) for at in places.values()]
            yield [(start, min(stop, self._size)) for start, stop in windows]
            values = []
            for begin in sorted(places):
                directory = None
                if begin in places:  # else another stretch has passed it by
                    directory = read_directory(self._have, self._dialect, places.pop(begin))
                if directory is None:
                    continue
                values += [(first, last) for _, first, last in directory.values]
                following = directory.next_bytes
                for passed in beginnings[bisect_left(beginnings, begin + 1) :]:
                    if passed >= following:
                        break
                    places.pop(passed, None)
                if directory.start_bytes < following < self._size and following not in starts:
                    places[begin] = following
            missing = [(a, min(b, self._size)) for a, b in values if self._have(a, b) is None]
            if missing:
                yield missing
