"""Which bytes of scattered IFDs to fetch together, ahead of the parser reading them one by one.

The offset of the next IFD of a chain is known only once the one before has been read: 10,000 pages
would take 10,000 round trips. The strategy depends on the first few IFDs:

1. where their distances are equal (uncompressed pages), the following ones are predicted, many at
   a time, each link verified before the next batch;
2. otherwise anchors are searched for all over the file, and the stretches between them are walked
   in parallel (`cloudimg.tiff.anchors`).

This module only chooses what to fetch: the parser still follows each link itself. Wrong guesses
cost requests but never change pixels. Each generator yields rounds: lists of ranges to fetch
concurrently, all of them available when the generator resumes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import accumulate, cycle, islice, pairwise, takewhile

from cloudimg.tiff.anchors import AnchoredWalk, margins
from cloudimg.tiff.ifd import Have, Ifd, PartialFile, Range, read_dialect, sub_ifds

Rounds = Iterator[list[Range]]

_SAMPLES = 2
"""Minimum number of known IFDs before anything is guessed from them."""
_FEW = 16
"""If about this many pages remain, the parser follows them itself, one round trip each."""
_LOOKED_AT = 18
"""Number of IFDs whose distances are remembered."""
_LONGEST_PERIOD = 8
"""Longest repeating pattern of distances that is searched for, in IFDs."""
_CHANGES = 24
"""How often distances may change before anchors are searched for."""
_DENSE_BYTES = 4 * 2**20
"""Size of a batch of IFDs without pixels between them."""
_DENSE_GAP_BYTES = 256
_SUB_WINDOW_BYTES = 4 * 2**10
_MAX_SUB_IFDS = 4096


def missing_ifds(have: Have, size_bytes: int, start_bytes: int, in_flight: int) -> Rounds | None:
    """Plan what to fetch when the parser reads an IFD that has not been fetched.

    Parameters
    ----------
    have : callable
        Returns bytes that have been fetched.
    size_bytes : int
        Size of the file.
    start_bytes : int
        Offset at which the parser reads.
    in_flight : int
        Maximum number of concurrent requests.

    Returns
    -------
    iterator of lists of ranges, or None
        None if nothing better than a window at `start_bytes` is known.
    """
    head = have(0, 16)
    layout = read_dialect(head) if head is not None else None
    if layout is None:
        return None
    dialect, first = layout
    file = PartialFile(have, dialect, size_bytes, in_flight)
    chain = list(_known_chain(file, first))
    if not chain:
        return None
    run = _last_run(chain)
    last = run[-1]
    if last.next_bytes == start_bytes and start_bytes > last.start_bytes and len(run) >= _SAMPLES:
        return _fill_chain(file, run)
    starts = [start for ifd in chain for start in islice(sub_ifds(file, ifd), _MAX_SUB_IFDS)]
    if start_bytes in starts:
        return _fill_sub_ifds(file, starts[:_MAX_SUB_IFDS])
    return None


def _known_chain(file: PartialFile, first: int) -> Iterator[Ifd]:
    """The fetched IFDs from the first one on; stops where the chain returns to one of them."""
    start, seen = first, set[int]()
    while start and start not in seen:
        seen.add(start)
        ifd = file.ifd(start)
        if ifd is None:
            return
        yield ifd
        start = ifd.next_bytes


def _last_run(chain: list[Ifd]) -> list[Ifd]:
    """The end of a chain, from the last backward link on.

    Writers that change an IFD move it to the end of the file, and the chain continues near the
    beginning.
    """
    begin = len(chain) - 1
    while begin and chain[begin - 1].start_bytes < chain[begin].start_bytes:
        begin -= 1
    return chain[begin:]


def _fill_sub_ifds(file: PartialFile, starts: list[int]) -> Rounds:
    """All SubIFDs at once, then the values that they point at."""
    yield [file.clip(start, start + _SUB_WINDOW_BYTES) for start in starts]
    ifds = (file.ifd(start) for start in starts)
    yield [
        (first, min(last, file.size_bytes))
        for ifd in ifds
        if ifd is not None
        for _, first, last in ifd.values
    ]


def _fill_chain(file: PartialFile, chain: list[Ifd]) -> Rounds:
    """The rest of a chain of IFDs that are scattered over the file."""
    if (file.size_bytes - chain[-1].start_bytes) / _mean_step(chain) < _FEW:
        return
    for _ in range(_CHANGES):
        following = None
        if _leads_on(file, chain[-1]):
            yield [_window(file, chain, chain[-1].next_bytes)]
            following = file.ifd(chain[-1].next_bytes)
        if following is None:
            return
        chain = [*chain, following][-_LOOKED_AT:]
        period = _period(chain)
        if not period:
            break
        run = yield from _predict(file, chain, period)
        if run is None:
            return
        chain = run
    if _leads_on(file, chain[-1]):
        yield from AnchoredWalk(file, chain).rounds()


def _leads_on(file: PartialFile, ifd: Ifd) -> bool:
    """Whether the next IFD lies further on in the file."""
    return ifd.start_bytes < ifd.next_bytes < file.size_bytes


def _mean_step(chain: list[Ifd]) -> float:
    chain = chain[-_LOOKED_AT:]
    return max(1.0, (chain[-1].next_bytes - chain[0].start_bytes) / len(chain))


def _period(chain: list[Ifd]) -> int:
    """Number of IFDs after which distances repeat, 0 if they do not.

    1 where all pages are alike, 2 where thumbnails lie between them. Only the last IFDs count: the
    first page may carry more metadata.
    """
    steps = [ifd.next_bytes - ifd.start_bytes for ifd in chain]
    for period in range(1, _LONGEST_PERIOD + 1):
        last = steps[-max(2 * period, _SAMPLES - 1) :]
        if len(last) >= 2 * period and last[period:] == last[:-period]:
            return period
    return 0


def _window(file: PartialFile, chain: list[Ifd], start: int) -> Range:
    """Where an IFD and the values beside it are expected, judged by the ones before it."""
    before, after = margins(chain)
    return file.clip(start - before, start + after)


def _predict(
    file: PartialFile, chain: list[Ifd], period: int
) -> Generator[list[Range], None, list[Ifd] | None]:
    """Fetch at known distances as long as each IFD leads to the next prediction.

    Returns the last IFDs before one that leads elsewhere, None at the end of the chain.
    """
    steps = [ifd.next_bytes - ifd.start_bytes for ifd in chain[-period:]]
    count = file.in_flight
    while 0 < chain[-1].next_bytes < file.size_bytes:
        if chain[-1].next_bytes - chain[-1].start_bytes != steps[-1]:
            return chain
        ahead = accumulate(islice(cycle(steps), count - 1), initial=chain[-1].next_bytes)
        starts = list(takewhile(lambda start: start < file.size_bytes, ahead))
        windows = [_window(file, chain, start) for start in starts]
        if all(b[0] - a[1] <= _DENSE_GAP_BYTES for a, b in pairwise(windows)):
            # IFDs alone, without pixels between them.
            windows = [(windows[0][0], windows[-1][1])]
            count = max(file.in_flight, min(2 * count, _DENSE_BYTES * len(steps) // sum(steps)))
        yield windows
        confirmed = _confirmed(file, chain[-1], starts)
        chain = [*chain, *confirmed][-_LOOKED_AT:]
        if len(confirmed) < len(starts):
            return chain if confirmed and chain[-1].next_bytes else None
        steps = steps[len(confirmed) % period :] + steps[: len(confirmed) % period]
    return None


def _confirmed(file: PartialFile, last: Ifd, starts: list[int]) -> list[Ifd]:
    """The IFDs at predicted offsets, up to the first one that the chain does not lead to."""
    ifds: list[Ifd] = []
    for start in starts:
        ifd = file.ifd(start)
        if ifd is None or last.next_bytes != start:
            break
        ifds.append(ifd)
        last = ifd
    return ifds
