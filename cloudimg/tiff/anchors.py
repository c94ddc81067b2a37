"""Walk a chain of IFDs at unequal distances in parallel: find anchors, then walk the stretches.

Windows spread over the file, each about a page long, are searched for an IFD by its first bytes,
which hardly differ from page to page. Each IFD found this way is an anchor, the beginning of a
stretch, and all stretches are walked at the same time, one link of each per round. A stretch ends
where it meets the beginning of another; an anchor that the chain skips was noise and is dropped.
Where pages prove to be small, more is read at once; where many are left, new anchors are searched
for. A chain that leads back through the file is walked in the same way.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heapreplace
from itertools import islice, pairwise

from cloudimg.tiff.ifd import REQUEST_BYTES, Ifd, PartialFile, Range

Rounds = Iterator[list[Range]]
KeepOnly = Callable[[Range, Sequence[Range]], None]
"""Drops what has been fetched of a range, but for some parts of it."""

_SHARE = 0.048
"""Share of the file that may be fetched, IFDs and anchors together."""
_LEAST_SHARE = 0.012
"""Share of the file that anchors may take even where IFDs alone take much of it."""
_MOST_SEARCHED_BYTES = 64 * 2**20
"""What may be searched of a file however large it is, for the first anchors and for further ones.
"""
_SMALL_BYTES = 16 * 2**20
_DENSE_SHARE = 0.015
"""A small file is fetched whole if its IFDs take more than this share of it."""
_FIRST_PART = 0.08
"""Share of the anchor windows that are spread evenly; the rest go where pages prove small."""
_LONGER = 1.6
"""Factor by which a window is lengthened if it contains no IFD."""
_UNEVEN = 1.5
"""Ratio of the longest to the mean distance from which small pages lie between large ones."""
_MOST_SPREAD = 4.0
_AHEAD_BYTES = 2 * REQUEST_BYTES
"""What is read ahead for each IFD that the last round has brought: ever more, while they are close.
"""
_MANY = 32
"""Pages that a stretch has left, by its distances so far, if new anchors are to divide it."""
_AT_ONCE = 0.25
"""Share of the bytes left for it that one search may take: what it finds guides the next one."""
_MOST_TRIED = 16
"""Places of a window that begin like an IFD; a file may be made of nothing else."""
_MOST_HELD_BYTES = 16 * 2**20
"""Of what was fetched, after which all but the IFDs is dropped."""
_LATEST = 8
"""Distances of which the median is taken."""


def margins(chain: Sequence[Ifd]) -> tuple[int, int]:
    """Bytes that an IFD and the values beside it take before and after its offset."""
    known = chain[1:] or chain  # the first page may carry more metadata
    before = max(ifd.start_bytes - ifd.extent[0] for ifd in known)
    return before, max(ifd.extent[1] - ifd.start_bytes for ifd in known)


class AnchoredWalk:
    """A walk along the rest of a chain of IFDs.

    Parameters
    ----------
    file : PartialFile
    chain : sequence of Ifd
        The last known IFDs, at least two.
    keep_only : callable
        Called for what was fetched and is not needed.
    """

    def __init__(self, file: PartialFile, chain: Sequence[Ifd], keep_only: KeepOnly) -> None:
        self._file = file
        self._keep_only = keep_only
        self._kept: list[Range] = []
        """IFDs of the walk, and their values."""
        self._size = file.size_bytes
        self._is_forward = chain[-1].is_forward
        self._begin = begin = chain[-1].next_bytes
        steps = [abs(i.next_bytes - i.start_bytes) for i in chain]
        self._step = max(1, sum(steps) // max(1, len(steps)))
        self._spread = min(_MOST_SPREAD, max(steps, default=1) / self._step)
        """Ratio of the longest to the mean distance: thumbnails may lie between pages."""
        self._before, self._after = margins(chain)
        self._low, self._high = (begin, self._size) if self._is_forward else (0, begin)
        """Where the chain goes on."""
        self._left_bytes = min(2 * _SHARE * (self._high - self._low), _MOST_SEARCHED_BYTES)
        """What may still be fetched in search of further anchors."""
        self._codes = {ifd.codes for ifd in chain}
        key_bytes = file.dialect.key_bytes
        keys = [file.have(i.start_bytes, i.start_bytes + key_bytes) or b"" for i in chain]
        self._search = re.compile(b"|".join({re.escape(bytes(key)) for key in keys}))

    def rounds(self) -> Rounds:
        """Ranges to fetch concurrently, round by round."""
        if self._size <= _SMALL_BYTES and self._before + self._after > _DENSE_SHARE * self._step:
            # Too few anchors are affordable, and fetching the whole file is faster than the walk.
            yield [self._file.clip(self._low - self._before, self._high + self._after)]
            return
        total = self._affordable()
        reach = int(self._step * self._spread) + self._before + self._after
        first = int(_FIRST_PART * total)
        span = self._high - self._low
        windows = [
            self._cut(self._low + span * i // (first + 1), reach) for i in range(1, first + 1)
        ]
        yield windows
        anchors = self._anchors_in(windows)
        steps = yield from self._steps_at(anchors)
        # The median: some anchors may be noise that leads anywhere.
        self._step = sorted(steps.values())[len(steps) // 2] if steps else self._step
        windows = self._between(anchors, steps, self._affordable() - first)
        yield windows
        empty = [window for window in windows if self._find(window) is None]
        longer = [self._cut(start, int((stop - start) * _LONGER)) for start, stop in empty]
        yield [(old[1], new[1]) for old, new in zip(empty, longer, strict=True)]
        more = self._anchors_in([*windows, *longer])
        yield from self._walk({self._begin, *anchors, *more})

    def _anchors_in(self, windows: Sequence[Range]) -> dict[int, Ifd]:
        """The first IFD of each window that contains one, by offset."""
        ifds = (self._find(window) for window in windows)
        return {ifd.start_bytes: ifd for ifd in ifds if ifd is not None}

    def _affordable(self) -> int:
        """Number of windows that stay within the share of the file that may be fetched."""
        share = max(_LEAST_SHARE, _SHARE - (self._before + self._after) / self._step)
        reach = self._step * self._spread + self._before + self._after
        searched = min(share * (self._high - self._low), _MOST_SEARCHED_BYTES)
        return min(self._file.in_flight, int(searched / reach))

    def _cut(self, start: int, length: int) -> Range:
        return start, min(start + length, self._size)

    def _find(self, window: Range) -> Ifd | None:
        """The first IFD in a window with the same tags as a known one."""
        data = self._file.have(*window)
        for match in islice(self._search.finditer(data or b""), _MOST_TRIED):
            ifd = self._file.ifd(window[0] + match.start())
            if ifd is not None and ifd.codes in self._codes:
                return ifd
        return None

    def _steps_at(self, anchors: dict[int, Ifd]) -> Generator[list[Range], None, dict[int, int]]:
        """Distance from each anchor to the next IFD, by offset.

        Where small pages lie between large ones, anchors are mostly small pages, because these
        follow the large ones: a second link is followed, and the mean is taken.
        """
        steps = {
            start: abs(ifd.next_bytes - start)
            for start, ifd in anchors.items()
            if self._leads_on(ifd)
        }
        if self._spread < _UNEVEN:
            return steps
        yield [self._window(anchors[start].next_bytes) for start in steps]
        for start in steps:
            second = self._file.ifd(anchors[start].next_bytes)
            if second is not None and self._leads_on(second):
                steps[start] = abs(second.next_bytes - start) // 2
        return steps

    def _leads_on(self, ifd: Ifd) -> bool:
        """Whether the next IFD lies where the chain goes on, in its direction."""
        return self._low <= ifd.next_bytes < self._high and ifd.is_forward == self._is_forward

    def _window(self, start: int) -> Range:
        """Where an IFD at an offset and the values beside it are expected."""
        return self._file.clip(start - self._before, start + self._after)

    def _between(self, anchors: dict[int, Ifd], steps: dict[int, int], count: int) -> list[Range]:
        """Windows that divide the stretches with the most pages, estimated from `steps`."""
        parts = []
        for start, stop in pairwise((self._low, *sorted(anchors), self._high)):
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
        """Follow all stretches, one window of each per round."""
        begins = sorted(map(self._along, starts))
        stretches = {self._along(start): _Stretch(start) for start in starts}
        n_bytes = 0
        while stretches:
            wanted = self._searched(stretches, begins)
            ranges = [self._ahead(each, begins) for each in stretches.values()] + wanted
            yield ranges
            n_bytes += sum(stop - start for start, stop in ranges)
            for start in self._anchors_in(wanted):
                if self._along(start) not in begins:
                    insort(begins, self._along(start))
                    stretches[self._along(start)] = _Stretch(start)
            values: list[tuple[int, int, int]] = []
            for begin in sorted(stretches):
                if begin in stretches:  # another stretch may have skipped it
                    values += self._read_on(stretches, begin, begins)
            if n_bytes > _MOST_HELD_BYTES and self._size > _SMALL_BYTES:
                self._kept = _joined(self._kept)
                self._keep_only((self._low, self._high), self._kept)
                n_bytes = 0
            windows = [self._file.clip(first, last) for _, first, last in values]
            missing = [window for window in windows if self._file.have(*window) is None]
            if missing:
                yield missing

    def _along(self, offset: int) -> int:
        """How far along the chain an offset lies."""
        return offset if self._is_forward else -offset

    def _read_on(
        self, stretches: dict[int, _Stretch], begin: int, begins: Sequence[int]
    ) -> Iterator[tuple[int, int, int]]:
        """Follow a stretch as far as it has been fetched; yield values outside of its IFDs."""
        stretch = stretches.pop(begin)
        n_before = stretch.n_read
        while (ifd := self._file.ifd(stretch.at)) is not None:
            yield from ifd.values
            self._kept += (ifd.extent, *ifd.near, *((i, j) for _, i, j in ifd.values))
            stretch.go_on(ifd.next_bytes)
            following = self._along(ifd.next_bytes)
            first = bisect_left(begins, following)
            for skipped in begins[bisect_right(begins, begin) : first]:
                stretches.pop(skipped, None)
            if not self._leads_on(ifd) or begins[first : first + 1] == [following]:
                return
        stretch.n_found = stretch.n_read - n_before
        if stretch.n_found:
            stretches[begin] = stretch

    def _room(self, stretch: _Stretch, begins: Sequence[int]) -> int:
        """Bytes from where a stretch has come to the beginning of another, or to the end."""
        after = bisect_right(begins, self._along(stretch.at))
        end = self._high if self._is_forward else -self._low
        return (begins[after] if after < len(begins) else end) - self._along(stretch.at)

    def _ahead(self, stretch: _Stretch, begins: Sequence[int]) -> Range:
        """What to fetch of a stretch: the next IFD, or more where they are close."""
        start, stop = self._window(stretch.at)
        if stretch.n_read > 1 and stretch.step <= REQUEST_BYTES:
            length = min(stretch.n_found * _AHEAD_BYTES, self._room(stretch, begins))
            start, stop = (start, stop + length) if self._is_forward else (start - length, stop)
        return self._file.clip(start, stop)

    def _searched(self, stretches: dict[int, _Stretch], begins: Sequence[int]) -> list[Range]:
        """Windows that divide the stretches which have many pages left, by those read so far."""
        many = []
        for stretch in stretches.values():
            n_pages = self._room(stretch, begins) / max(1, stretch.step)
            if stretch.n_read and n_pages > _MANY:
                many.append((n_pages, stretch))
        total = sum(n_pages for n_pages, _ in many)
        n_free = self._file.in_flight - len(stretches)
        windows: list[Range] = []
        least_bytes = self._left_bytes * (1 - _AT_ONCE)
        for n_pages, stretch in sorted(many, key=lambda each: -each[0]):
            pieces = 1 + int(min(n_pages / _MANY, n_free * n_pages / total))
            length = int(_UNEVEN * stretch.step) + self._before + self._after
            for i in range(1, pieces):
                if self._left_bytes - length < least_bytes:
                    return windows
                self._left_bytes -= length
                far = i * self._room(stretch, begins) // pieces
                at = stretch.at + (far if self._is_forward else -far)
                windows.append(self._file.clip(at, at + length))
        return windows


def _joined(ranges: Sequence[Range]) -> list[Range]:
    """Ranges of which those that overlap are one: IFDs may share large values."""
    joined: list[Range] = []
    for start, stop in sorted(ranges):
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return joined


@dataclass(slots=True)
class _Stretch:
    """A part of a chain that is walked."""

    at: int
    """Offset of the IFD to be read next."""
    n_read: int = 0
    n_found: int = 0
    """How many of its IFDs the last round has brought."""
    latest: list[int] = field(default_factory=list)
    """The distances of its last IFDs."""

    def go_on(self, at: int) -> None:
        """Go to the next IFD."""
        self.n_read += 1
        self.latest = [*self.latest[1 - _LATEST :], abs(at - self.at)]
        self.at = at

    @property
    def step(self) -> int:
        """The median distance of its last IFDs: a single large page says nothing of the others."""
        return sorted(self.latest)[len(self.latest) // 2] if self.latest else 0
