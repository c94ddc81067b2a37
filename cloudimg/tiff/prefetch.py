"""Which bytes of scattered directories to fetch together, ahead of the parser that would ask for
them one after another.

A chain of IFDs tells where the next one is only when the one before is read: 10,000 pages would
take 10,000 round trips. Strategy, from what the first few directories look like:

1. where their distances are equal (pages without compression), the following ones are predicted,
   many at a time, each link verified before the next batch;
2. otherwise anchors are looked for all over the file and the stretches between them are walked
   side by side (`cloudimg.tiff.anchors`).

Nothing is decided here: the parser still follows each link itself, through bytes that are here.
Wrong guesses cost requests, never pixels. Each generator yields rounds: ranges that may be fetched
at the same time and are here when it goes on.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import accumulate, cycle, islice, pairwise, takewhile

from cloudimg.tiff.anchors import AnchoredWalk, margins
from cloudimg.tiff.directory import (
    Dialect,
    Directory,
    Have,
    read_dialect,
    read_directory,
    sub_directories,
)

Range = tuple[int, int]
Rounds = Iterator[list[Range]]

_SAMPLES = 2
"""Directories that must be known before anything is guessed from them."""
_FEW = 16
"""So many more pages are left to the parser, one round trip each."""
_LOOKED_AT = 18
"""Directories at the beginning of a chain from which distances are learned."""
_LONGEST_PERIOD = 8
"""So many directories in turn are looked at for distances that repeat."""
_CHANGES = 24
"""How often distances may change before anchors are looked for."""
_DENSE_BYTES = 4 * 2**20
"""Of directories that follow each other without pixels between are fetched at once."""
_DENSE_GAP_BYTES = 256
_SUB_WINDOW_BYTES = 4 * 2**10
_MAX_SUB_DIRECTORIES = 4096


def missing_directories(have: Have, size_bytes: int, wanted: int, in_flight: int) -> Rounds | None:
    """What to fetch when the parser wants a directory that is not here.

    Parameters
    ----------
    have : callable
        Bytes that are here.
    size_bytes : int
        Of the file.
    wanted : int
        Where the parser reads.
    in_flight : int
        Requests that may be under way at once.

    Returns
    -------
    iterator of lists of ranges, or None
        None where nothing better than a window at `wanted` is known.
    """
    head = have(0, 16)
    found = read_dialect(head) if head is not None else None
    if found is None:
        return None
    dialect, first = found
    chain = list(_known_chain(have, dialect, first))
    if not chain:
        return None
    run = _last_run(chain)
    if run[-1].next_bytes == wanted and wanted > run[-1].start_bytes and len(run) >= _SAMPLES:
        return _fill_chain(have, dialect, run, size_bytes, in_flight)
    starts = [
        start
        for directory in chain
        for start in islice(sub_directories(have, dialect, directory), _MAX_SUB_DIRECTORIES)
    ]
    if wanted in starts:
        return _fill_sub_directories(have, dialect, starts[:_MAX_SUB_DIRECTORIES], size_bytes)
    return None


def _known_chain(have: Have, dialect: Dialect, first: int) -> Iterator[Directory]:
    """The directories that are here, from the first on; a chain that closes ends there."""
    start, seen = first, set[int]()
    while start and start not in seen:
        seen.add(start)
        directory = read_directory(have, dialect, start)
        if directory is None:
            return
        yield directory
        start = directory.next_bytes


def _last_run(chain: list[Directory]) -> list[Directory]:
    """The end of a chain from where it last leads back: writers that change a directory put it
    at the end of the file, and the chain goes on near the beginning."""
    begin = len(chain) - 1
    while begin and chain[begin - 1].start_bytes < chain[begin].start_bytes:
        begin -= 1
    return chain[begin:]


def _fill_sub_directories(
    have: Have, dialect: Dialect, starts: list[int], size_bytes: int
) -> Rounds:
    """All SubIFDs at once, then the values that they point at."""
    yield [(start, min(start + _SUB_WINDOW_BYTES, size_bytes)) for start in starts]
    values = []
    for start in starts:
        directory = read_directory(have, dialect, start)
        if directory is not None:
            values += [(first, min(last, size_bytes)) for _, first, last in directory.values]
    yield values


def _fill_chain(
    have: Have, dialect: Dialect, chain: list[Directory], size_bytes: int, in_flight: int
) -> Rounds:
    """The rest of a chain of directories that lie scattered over the file."""
    last = chain[-1]
    if (size_bytes - last.start_bytes) / _mean_step(chain) < _FEW:
        return
    for _ in range(_CHANGES):
        following = None
        if chain[-1].start_bytes < chain[-1].next_bytes < size_bytes:
            yield [_window(chain, chain[-1].next_bytes, size_bytes)]
            following = read_directory(have, dialect, chain[-1].next_bytes)
        if following is None:
            return
        chain = [*chain, following][-_LOOKED_AT:]
        period = _period(chain)
        if not period:
            break
        run = yield from _predict(have, dialect, chain, period, size_bytes, in_flight)
        if run is None:
            return
        chain = run
    if chain[-1].start_bytes < chain[-1].next_bytes < size_bytes:
        yield from AnchoredWalk(have, dialect, chain, size_bytes, in_flight).rounds()


def _mean_step(chain: list[Directory]) -> float:
    chain = chain[-_LOOKED_AT:]
    return max(1.0, (chain[-1].next_bytes - chain[0].start_bytes) / len(chain))


def _period(chain: list[Directory]) -> int:
    """After how many directories the distances repeat, 0 where they do not.

    One where all pages are alike, two where thumbnails lie between them. The first page may carry
    more metadata.
    """
    steps = [d.next_bytes - d.start_bytes for d in chain]
    for period in range(1, _LONGEST_PERIOD + 1):
        last = steps[-max(2 * period, _SAMPLES - 1) :]
        if len(last) >= 2 * period and last[period:] == last[:-period]:
            return period
    return 0


def _window(chain: list[Directory], start: int, size_bytes: int) -> Range:
    """Where a directory and the values beside it are expected, seen from the ones before."""
    before, after = margins(chain)
    return max(0, start - before), min(start + after, size_bytes)


def _predict(
    have: Have,
    dialect: Dialect,
    chain: list[Directory],
    period: int,
    size_bytes: int,
    in_flight: int,
) -> Generator[list[Range], None, list[Directory] | None]:
    """Fetch at known distances as long as each directory leads to the next prediction.

    Returns the last directories before one that leads elsewhere, None at the end of the chain.
    """
    steps = [d.next_bytes - d.start_bytes for d in chain[-period:]]
    count = in_flight
    while 0 < chain[-1].next_bytes < size_bytes:
        if chain[-1].next_bytes - chain[-1].start_bytes != steps[-1]:
            return chain
        ahead = accumulate(islice(cycle(steps), count - 1), initial=chain[-1].next_bytes)
        starts = list(takewhile(lambda start: start < size_bytes, ahead))
        windows = [_window(chain, start, size_bytes) for start in starts]
        if all(b[0] - a[1] <= _DENSE_GAP_BYTES for a, b in pairwise(windows)):
            # Directories alone, without pixels between them.
            windows = [(windows[0][0], windows[-1][1])]
            count = max(in_flight, min(2 * count, _DENSE_BYTES * len(steps) // sum(steps)))
        yield windows
        found: list[Directory] = []
        for start in starts:
            directory = read_directory(have, dialect, start)
            if directory is None or (found or chain)[-1].next_bytes != start:
                break
            found.append(directory)
        chain = [*chain, *found][-_LOOKED_AT:]
        if len(found) < len(starts):
            return chain if found and chain[-1].next_bytes else None
        steps = steps[len(found) % period :] + steps[: len(found) % period]
    return None
