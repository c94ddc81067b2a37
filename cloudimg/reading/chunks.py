"""Choose Dask chunks: whole segments, many small files per chunk, not too many chunks. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cloudimg.distributed.capacity import Capacity

Boundaries = npt.NDArray[np.int64]

MAX_CHUNKS = 100_000
"""Beyond this Dask becomes slow: it takes 72 s to optimize a sum over 10^6 chunks."""


_THREAD_SHARE = 8
"""A file that is not divided takes at most one part in so many of the memory that a thread of a
worker has."""
_PIXELS_SHARE = 16
"""A chunk takes at most one part in so many of what a worker has for the pixels of a thread: Dask
computes the standard deviation of 16-bit integers in float64, which takes 13 times the chunk."""
_CHUNKS_PER_THREAD = 3
"""At least, so that all threads of a cluster have work until the end."""
_LEAST_BYTES = 4 * 2**20
"""More work for each task than a scheduler has with it."""


def most_bytes(configured_bytes: int, capacity: Capacity | None) -> int:
    """Largest undivided file that suits the workers of a cluster, if there is one, in bytes."""
    thread_bytes = None if capacity is None else capacity.thread_bytes
    if thread_bytes is None:
        return configured_bytes
    return min(configured_bytes, max(1, thread_bytes // _THREAD_SHARE))


def target_bytes(image_bytes: int, largest_bytes: int, capacity: Capacity | None) -> int:
    """Size of a chunk so that all threads of a cluster have some, in bytes.

    Parameters
    ----------
    image_bytes : int
    largest_bytes : int
        What `most_bytes` returned.
    capacity : Capacity or None
    """
    if capacity is None:
        return largest_bytes
    if capacity.pixels_bytes is not None:
        largest_bytes = min(largest_bytes, max(1, capacity.pixels_bytes // _PIXELS_SHARE))
    share = image_bytes // (_CHUNKS_PER_THREAD * capacity.n_threads)
    return min(largest_bytes, max(_LEAST_BYTES, share))


def auto_chunks(
    boundaries: Sequence[Boundaries], dims: Sequence[str], itemsize_bytes: int, target_bytes: int
) -> tuple[tuple[int, ...], ...]:
    """Choose chunks near a target size that end at segment boundaries.

    The plane (y and x, with all samples) grows first, as square as its segments allow, then the
    other axes from the last to the first.

    Parameters
    ----------
    boundaries : sequence of ndarray
        Per dim, the positions at which a chunk may begin or end, from 0 to the dim's length.
    dims : sequence of str
    itemsize_bytes, target_bytes : int

    Returns
    -------
    tuple of tuple of int
        Chunk lengths per dim, in Dask's form.
    """
    lengths = [int(positions[-1]) for positions in boundaries]
    target = max(1.0, target_bytes / itemsize_bytes)
    while True:
        limits = _limits(boundaries, dims, target)
        fewest = math.prod(-(-n // limit) for n, limit in zip(lengths, limits, strict=True))
        if fewest > MAX_CHUNKS and limits != lengths:
            target *= 2  # before building a list of too many chunks
            continue
        chunks = tuple(pack(c, limit) for c, limit in zip(boundaries, limits, strict=True))
        if math.prod(len(c) for c in chunks) <= MAX_CHUNKS or limits == lengths:
            return chunks
        target *= 2


def _limits(boundaries: Sequence[Boundaries], dims: Sequence[str], target: float) -> list[int]:
    """Return the largest chunk length per dim for a target in pixels."""
    lengths = [int(positions[-1]) for positions in boundaries]
    limits = [
        length if dim == "s" else int(np.diff(positions).max(initial=1))
        for dim, length, positions in zip(dims, lengths, boundaries, strict=True)
    ]
    plane = [i for i, dim in enumerate(dims) if dim in ("y", "x")]
    others = [i for i, dim in enumerate(dims) if dim not in ("y", "x")]
    _grow_plane(plane, limits, lengths, target / math.prod(limits[i] for i in others))
    for i in reversed(others):
        room = target / (math.prod(limits) / limits[i])
        limits[i] = int(min(lengths[i], max(limits[i], room)))
    return limits


def _grow_plane(plane: list[int], limits: list[int], lengths: list[int], target: float) -> None:
    """Grow the limits of y and x in turn, the shorter first, up to a target in pixels."""
    growing = set(plane)
    units = {i: limits[i] for i in plane}
    while growing:
        i = min(growing, key=lambda k: (limits[k], -k))
        larger = min(lengths[i], limits[i] + max(units[i], limits[i] // units[i] * units[i]))
        others = math.prod(limits[k] for k in plane if k != i)
        if larger > limits[i] and larger * others > target:
            # Doubling is too much: take as many segments as fit.
            larger = max(limits[i], int(target / others) // units[i] * units[i])
            larger = min(larger, lengths[i])
            growing.discard(i)
        if larger == limits[i]:
            growing.discard(i)
        limits[i] = larger


def pack(boundaries: Boundaries, limit: int) -> tuple[int, ...]:
    """Return the lengths of as few chunks as possible, of at most `limit`, between boundaries.

    A chunk is longer than `limit` where no boundary is nearer.
    """
    chunks: list[int] = []
    start = at = 0
    while at < len(boundaries) - 1:
        # The last boundary within the limit, or the next one if there is none.
        farthest = int(np.searchsorted(boundaries, start + limit, "right")) - 1
        at = max(at + 1, farthest)
        chunks.append(int(boundaries[at]) - start)
        start = int(boundaries[at])
    return tuple(chunks)
