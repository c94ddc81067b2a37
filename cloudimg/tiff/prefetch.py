"""Which bytes of scattered IFDs to fetch together, ahead of the parser reading them one by one.

The offset of the next IFD of a chain is known only once the one before has been read: 10,000 pages
would take 10,000 round trips. The strategy depends on the first few IFDs:

1. where they are close to each other (small pages), all of the file is read in large parts, of
   which only the IFDs are kept if the file is large;
2. where their distances are equal (uncompressed pages), the following ones are predicted, many at
   a time, each link verified before the next batch;
3. otherwise anchors are searched for all over the file, and the stretches between them are walked
   in parallel (`cloudimg.tiff.anchors`).

Chains that lead back through the file, page by page, are read in the same way.

This module only chooses what to fetch: the parser still follows each link itself. Wrong guesses
cost requests but never change pixels. Each generator yields rounds: lists of ranges to fetch
concurrently, all of them available when the generator resumes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import accumulate, cycle, islice, takewhile

from cloudimg.tiff.anchors import AnchoredWalk, KeepOnly, margins
from cloudimg.tiff.ifd import (
    REQUEST_BYTES,
    Have,
    Ifd,
    PartialFile,
    Range,
    follow,
    read_dialect,
    sub_ifds,
)

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
_FIRST_SWEPT_BYTES, _MOST_SWEPT_BYTES = 4 * 2**20, 32 * 2**20
"""What is read of a file at once where IFDs are close: ever more, while they are."""
_SPAN_BYTES = 4 * 2**20
_SMALL_BYTES = 16 * 2**20
"""A file up to this size is kept as it comes: its pixels may be wanted, too."""
_SUB_WINDOW_BYTES = 4 * 2**10
_MAX_SUB_IFDS = 4096


def missing_ifds(
    have: Have, size_bytes: int, start_bytes: int, in_flight: int, keep_only: KeepOnly
) -> Rounds | None:
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
    keep_only : callable
        Called for what was fetched and is not needed.

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
    if last.next_bytes == start_bytes and len(run) >= _SAMPLES:
        return _fill_chain(file, run, keep_only)
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
    """The end of a chain, from where it last changed its direction.

    Writers that change an IFD move it to the end of the file, and the chain continues near the
    beginning.
    """
    begin, is_forward = len(chain) - 1, chain[-1].is_forward
    while begin and chain[begin - 1].is_forward == is_forward:
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


def _fill_chain(file: PartialFile, chain: list[Ifd], keep_only: KeepOnly) -> Rounds:
    """The rest of a chain of IFDs that are scattered over the file."""
    is_forward = chain[-1].is_forward
    for _ in range(_CHANGES):
        if not _leads_on(file, chain[-1], is_forward):
            return
        if _mean_step(chain) <= REQUEST_BYTES:
            chain = yield from _sweep(file, chain, keep_only)
            continue
        rest = file.size_bytes - chain[-1].start_bytes if is_forward else chain[-1].start_bytes
        if rest / _mean_step(chain) < _FEW:
            return
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
    if _leads_on(file, chain[-1], is_forward):
        yield from AnchoredWalk(file, chain, keep_only).rounds()


def _leads_on(file: PartialFile, ifd: Ifd, is_forward: bool) -> bool:
    """Whether the next IFD lies further on in the file, or further back."""
    return 0 < ifd.next_bytes < file.size_bytes and ifd.is_forward == is_forward


def _mean_step(chain: list[Ifd]) -> float:
    chain = chain[-_LOOKED_AT:]
    return max(1.0, abs(chain[-1].next_bytes - chain[0].start_bytes) / len(chain))


def _sweep(
    file: PartialFile, chain: list[Ifd], keep_only: KeepOnly
) -> Generator[list[Range], None, list[Ifd]]:
    """Read on in a file in large parts, while its IFDs are close; return the last ones."""
    n_bytes, is_forward = _FIRST_SWEPT_BYTES, chain[-1].is_forward
    while True:
        before, after = margins(chain)
        at = chain[-1].next_bytes
        first = at - before if is_forward else at + after - n_bytes
        start, stop = file.clip(first, first + n_bytes)
        yield [(i, min(i + _SPAN_BYTES, stop)) for i in range(start, stop, _SPAN_BYTES)]
        found = follow(file, chain[-1])
        if file.size_bytes > _SMALL_BYTES:
            keep_only((start, stop), [part for ifd in found for part in (ifd.extent, *ifd.near)])
        values = [file.clip(i, j) for ifd in found for _, i, j in ifd.values]
        yield [part for part in values if file.have(*part) is None]
        chain = [*chain, *found][-_LOOKED_AT:]
        is_close = found and n_bytes <= REQUEST_BYTES * len(found)
        if not is_close or not _leads_on(file, chain[-1], is_forward):
            return chain
        n_bytes = min(2 * n_bytes, _MOST_SWEPT_BYTES)


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
    while 0 < chain[-1].next_bytes < file.size_bytes:
        if chain[-1].next_bytes - chain[-1].start_bytes != steps[-1]:
            return chain
        ahead = accumulate(islice(cycle(steps), file.in_flight - 1), initial=chain[-1].next_bytes)
        starts = list(takewhile(lambda start: 0 < start < file.size_bytes, ahead))
        windows = [_window(file, chain, start) for start in starts]
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
