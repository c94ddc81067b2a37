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
from itertools import islice, pairwise

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
_LOOKED_AT = 12
"""Directories at the beginning of a chain from which distances are learned."""
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
    if chain[-1].next_bytes == wanted and len(chain) >= _SAMPLES:
        return _fill_chain(have, dialect, chain, size_bytes, in_flight)
    starts = [
        start
        for directory in chain
        for start in islice(sub_directories(have, dialect, directory), _MAX_SUB_DIRECTORIES)
    ]
    if wanted in starts:
        return _fill_sub_directories(have, dialect, starts[:_MAX_SUB_DIRECTORIES], size_bytes)
    return None


def _known_chain(have: Have, dialect: Dialect, first: int) -> Iterator[Directory]:
    """The directories that are here, from the first on, as long as they lead forward."""
    start = first
    while start:
        directory = read_directory(have, dialect, start)
        if directory is None:
            return
        yield directory
        start = directory.next_bytes if directory.next_bytes > start else 0


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
    yield [_window(chain, last.next_bytes, size_bytes)]
    following = read_directory(have, dialect, last.next_bytes)
    if following is None:
        return
    chain = [*chain, following][-_LOOKED_AT:]
    if _is_regular(chain):
        end = yield from _predict(have, dialect, chain, size_bytes, in_flight)
        if end is None:
            return
        chain = [*chain[-_SAMPLES:], end]
    if chain[-1].start_bytes < chain[-1].next_bytes < size_bytes:
        yield from AnchoredWalk(have, dialect, chain, size_bytes, in_flight).rounds()


def _mean_step(chain: list[Directory]) -> float:
    chain = chain[-_LOOKED_AT:]
    return max(1.0, (chain[-1].next_bytes - chain[0].start_bytes) / len(chain))


def _is_regular(chain: list[Directory]) -> bool:
    """Whether the last steps are equal: the first page may carry more metadata."""
    steps = [b.start_bytes - a.start_bytes for a, b in pairwise(chain)]
    steps.append(chain[-1].next_bytes - chain[-1].start_bytes)
    return len(steps) > _SAMPLES and len(set(steps[-2:])) == 1


def _window(chain: list[Directory], start: int, size_bytes: int) -> Range:
    """Where a directory and the values beside it are expected, seen from the ones before."""
    before, after = margins(chain)
    return max(0, start - before), min(start + after, size_bytes)


def _predict(
    have: Have, dialect: Dialect, chain: list[Directory], size_bytes: int, in_flight: int
) -> Generator[list[Range], None, Directory | None]:
    """Fetch at equal distances as long as each directory leads to the next prediction.

    Returns the directory that leads elsewhere, None at the end of the chain.
    """
    last = chain[-1]
    step = last.next_bytes - last.start_bytes
    while 0 < last.next_bytes < size_bytes:
        if last.next_bytes - last.start_bytes != step:
            return last
        starts = range(last.next_bytes, size_bytes, step)[:in_flight]
        yield [_window(chain, start, size_bytes) for start in starts]
        for start in starts:
            directory = read_directory(have, dialect, start)
            if directory is None or last.next_bytes != start:
                break
            last = directory
        if last.next_bytes == starts[0]:
            return last  # nothing of the prediction held
    return None
