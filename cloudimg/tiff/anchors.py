"""Walk a chain of IFDs at unequal distances in parallel: find anchors, then walk the stretches.

Windows spread over the file, each about a page long, are searched for an IFD by its first bytes,
which hardly differ from page to page. Each IFD found this way is an anchor, the beginning of a
stretch, and all stretches are walked at the same time, one link of each per round. A stretch ends
where it meets the beginning of another; an anchor that the chain skips was noise and is dropped.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from heapq import heapify, heapreplace
from itertools import pairwise

from cloudimg.tiff.ifd import Ifd, PartialFile, Range

Rounds = Iterator[list[Range]]

_SHARE = 0.048
"""Share of the file that may be fetched, IFDs and anchors together."""
_LEAST_SHARE = 0.012
"""Share of the file that anchors may take even where IFDs alone take much of it."""
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
    """

    def __init__(self, file: PartialFile, chain: Sequence[Ifd]) -> None:
        self._file = file
        self._size = file.size_bytes
        self._begin = chain[-1].next_bytes
        steps = [i.next_bytes - i.start_bytes for i in chain if i.next_bytes > i.start_bytes]
        self._step = max(1, sum(steps) // max(1, len(steps)))
        self._spread = min(_MOST_SPREAD, max(steps, default=1) / self._step)
        """Ratio of the longest to the mean distance: thumbnails may lie between pages."""
        self._before, self._after = margins(chain)
        self._codes = {ifd.codes for ifd in chain}
        key_bytes = file.dialect.key_bytes
        keys = [file.have(i.start_bytes, i.start_bytes + key_bytes) or b"" for i in chain]
        self._search = re.compile(b"|".join({re.escape(bytes(key)) for key in keys}))

    def rounds(self) -> Rounds:
        """Ranges to fetch concurrently, round by round."""
        if self._size <= _SMALL_BYTES and self._before + self._after > _DENSE_SHARE * self._step:
            # Too few anchors are affordable, and fetching the whole file is faster than the walk.
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
        return min(self._file.in_flight, int(share * (self._size - self._begin) / reach))

    def _cut(self, start: int, length: int) -> Range:
        return start, min(start + length, self._size)

    def _find(self, window: Range) -> Ifd | None:
        """The first IFD in a window with the same tags as a known one."""
        data = self._file.have(*window)
        for match in self._search.finditer(data or b""):
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
            start: ifd.next_bytes - start
            for start, ifd in anchors.items()
            if start < ifd.next_bytes < self._size
        }
        if self._spread < _UNEVEN:
            return steps
        yield [self._window(start + step) for start, step in steps.items()]
        for start, step in steps.items():
            second = self._file.ifd(start + step)
            if second is not None and second.next_bytes > start:
                steps[start] = (second.next_bytes - start) // 2
        return steps

    def _window(self, start: int) -> Range:
        """Where an IFD at an offset and the values beside it are expected."""
        return max(0, start - self._before), start + self._after

    def _between(self, anchors: dict[int, Ifd], steps: dict[int, int], count: int) -> list[Range]:
        """Windows that divide the stretches with the most pages, estimated from `steps`."""
        parts = []
        for start, stop in pairwise((self._begin, *sorted(anchors), self._size)):
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
        heads = {start: start for start in beginnings}  # offset to read next, by first offset
        while heads:
            windows = [self._window(at) for at in heads.values()]
            yield [(start, min(stop, self._size)) for start, stop in windows]
            values = []
            for begin in sorted(heads):
                if begin not in heads:
                    continue  # another stretch has skipped it
                ifd = self._file.ifd(heads.pop(begin))
                if ifd is None:
                    continue
                values += [(first, min(last, self._size)) for _, first, last in ifd.values]
                for skipped in _between(beginnings, begin, ifd.next_bytes):
                    heads.pop(skipped, None)
                if ifd.start_bytes < ifd.next_bytes < self._size and ifd.next_bytes not in starts:
                    heads[begin] = ifd.next_bytes
            missing = [window for window in values if self._file.have(*window) is None]
            if missing:
                yield missing


def _between(offsets: Sequence[int], start: int, stop: int) -> Sequence[int]:
    """The sorted offsets that lie between two others."""
    return offsets[bisect_left(offsets, start + 1) : bisect_left(offsets, stop)]
