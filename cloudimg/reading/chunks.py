"""Choosing Dask chunks: whole segments, many small files to a chunk, not too many chunks. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Boundaries = npt.NDArray[np.int64]

MAX_CHUNKS = 100_000
"""Dask's scheduler and optimizer slow down beyond: 72 s to optimize a sum over 10^6 chunks."""


def auto_chunks(
    boundaries: Sequence[Boundaries], dims: Sequence[str], itemsize_bytes: int, target_bytes: int
) -> tuple[tuple[int, ...], ...]:
    """Chunks near a target size that cut no segment.

    The plane (y and x, with the samples) grows first, as square as its segments allow, then the
    axes from the last to the first.

    Parameters
    ----------
    cuts : sequence of ndarray
        Per dim, where it may be cut (from 0 to its length).
    dims : sequence of str
    itemsize_bytes, target_bytes : int

    Returns
    -------
    tuple of tuple of int
        Chunk lengths per dim, as Dask has them.
    """
    lengths = [int(c[-1]) for c in boundaries]
    target = max(1.0, target_bytes / itemsize_bytes)
    while True:
        limits = _limits(boundaries, dims, target)
        least = math.prod(-(-n // limit) for n, limit in zip(lengths, limits, strict=True))
        if least > MAX_CHUNKS and limits != lengths:
            target *= 2  # without listing what would be too many
            continue
        chunks = tuple(_pack(c, limit) for c, limit in zip(boundaries, limits, strict=True))
        if math.prod(len(c) for c in chunks) <= MAX_CHUNKS or limits == lengths:
            return chunks
        target *= 2


def _limits(boundaries: Sequence[Boundaries], dims: Sequence[str], target: float) -> list[int]:
    """Largest chunk length per dim."""
    lengths = [int(c[-1]) for c in boundaries]
    limits = [int(np.diff(c).max(initial=1)) for c in boundaries]
    plane = [i for i, name in enumerate(dims) if name in ("y", "x")]
    for i, name in enumerate(dims):
        if name == "s":
            limits[i] = lengths[i]
    rest = math.prod(limits[i] for i in range(len(dims)) if i not in plane)
    _grow_plane(plane, limits, lengths, target / rest)
    for i in reversed([i for i in range(len(dims)) if i not in plane]):
        room = target / (math.prod(limits) / limits[i])
        limits[i] = int(min(lengths[i], max(limits[i], room)))
    return limits


def _grow_plane(plane: list[int], limits: list[int], lengths: list[int], target: float) -> None:
    """Grow y and x in turn, the shorter first, while their product stays within the target."""
    growing = set(plane)
    units = {i: limits[i] for i in plane}
    while growing:
        i = min(growing, key=lambda k: (limits[k], -k))
        larger = min(lengths[i], limits[i] + max(units[i], limits[i] // units[i] * units[i]))
        others = math.prod(limits[k] for k in plane if k != i)
        if larger > limits[i] and larger * others > target:
            # Doubling is too much; as many units as fit.
            larger = max(limits[i], int(target / others) // units[i] * units[i])
            larger = min(larger, lengths[i])
            growing.discard(i)
        if larger == limits[i]:
            growing.discard(i)
        limits[i] = larger


def _pack(boundaries: Boundaries, limit: int) -> tuple[int, ...]:
    """As few chunks as possible, of at most `limit`, cut at the given places only."""
    chunks: list[int] = []
    start = at = 0
    while at < len(boundaries) - 1:
        # The last cut within the limit, but at least one step.
        best = int(np.searchsorted(boundaries, start + limit, "right")) - 1
        at = max(at + 1, best)
        chunks.append(int(boundaries[at]) - start)
        start = int(boundaries[at])
    return tuple(chunks)
