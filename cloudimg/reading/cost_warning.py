"""Tells what a user's chunks cost, before it is paid."""

from __future__ import annotations

import inspect
import math
import warnings

from cloudimg.distributed.capacity import Capacity
from cloudimg.errors import ChunkCostWarning, counted
from cloudimg.reading.chunk_cost import ChunkLengths, as_argument
from cloudimg.reading.headers import HEAD_BYTES
from cloudimg.reading.source import Source
from cloudimg.reading.source_boundaries import stored_pixels

_MOST_TIMES = 1.2
"""Coalescing accepts as much waste without a word."""
_LEAST_BYTES = 2**17
"""Bytes that a store sends in about the time of a round trip: fewer are not worth a word."""
_SMALL_CHUNK_BYTES = 2**20
"""Decoded size below which a thread waits for a store longer than it receives."""
_MOST_WAITS = 100
_TIMES_MORE = 4


def warn_of_cost(
    source: Source, chunks: ChunkLengths, default: ChunkLengths, capacity: Capacity | None
) -> None:
    """Warn where chunks are too large for workers, fetch bytes repeatedly, or wait too often.

    Parameters
    ----------
    source : Source
    chunks : tuple of tuple of int
        The chunks that a user chose, or the default ones.
    default : tuple of tuple of int
        The default ones, of whose cost nothing is said.
    capacity : Capacity or None
        Of the cluster, if there is one.
    """
    if capacity is not None:
        _warn_of_size(source, chunks, capacity)
    if chunks == default:
        return
    stored, size = stored_pixels(source), source.files.size_bound_bytes
    # What came with the header of a small file is kept with it.
    is_kept = size is not None and size <= HEAD_BYTES
    if stored is None or math.prod(source.shape) == 0 or is_kept:
        return
    times = stored.fetched_times(chunks)
    more_bytes = (times - 1) * math.prod(source.shape) * source.dtype.itemsize
    if times > _MOST_TIMES and more_bytes > _LEAST_BYTES:
        better = as_argument(source.dims, stored.without_cuts(chunks))
        _warn(
            f"chunks of {_shape(chunks)} cut what is fetched whole (tiles, strips, rows, small"
            f" files): each byte is read {times:.1f} times if all chunks are read. Pass"
            f" chunks={better} to read each byte once"
        )
    n_threads = _n_threads() if capacity is None else capacity.n_threads
    _warn_of_waits(source, chunks, math.prod(map(len, default)), n_threads)


def _warn_of_size(source: Source, chunks: ChunkLengths, capacity: Capacity) -> None:
    """Warn where workers may be killed for the size of the chunks."""
    largest = math.prod(max(lengths) for lengths in chunks) * source.dtype.itemsize
    if text := capacity.too_large(largest):
        _warn(text)


def _warn_of_waits(source: Source, chunks: ChunkLengths, n_default: int, n_threads: int) -> None:
    """Warn where few threads wait for one small chunk after another."""
    if source.reader.store.location.is_on_this_machine:
        return
    n_chunks = math.prod(map(len, chunks))
    chunk_bytes = math.prod(source.shape) * source.dtype.itemsize / n_chunks
    waits = n_chunks / n_threads
    fewer = max(1.0, n_default / n_threads)
    if chunk_bytes < _SMALL_CHUNK_BYTES and waits > _MOST_WAITS and waits > _TIMES_MORE * fewer:
        _warn(
            f"{n_chunks} chunks of {_shape(chunks)}, {chunk_bytes / 2**10:.0f} KiB each, on"
            f" {counted(n_threads, 'thread')}: about {waits:.0f} round trips to the store, one"
            f' after another, if all chunks are read. Pass chunks="auto" for about {fewer:.0f},'
            " because all files of a chunk are requested at once"
        )


def _n_threads() -> int:
    """Number of threads that Dask computes with in this process."""
    import dask.config
    from dask.system import CPU_COUNT

    if dask.config.get("scheduler", None) in ("sync", "synchronous", "single-threaded"):
        return 1
    return dask.config.get("num_workers", None) or CPU_COUNT


def _shape(chunks: ChunkLengths) -> tuple[int, ...]:
    return tuple(max(lengths) for lengths in chunks)


def _warn(text: str) -> None:
    """Warn at the line of the caller outside this package."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").startswith("cloudimg."):
        frame, level = frame.f_back, level + 1
    advice = 'To silence this: warnings.simplefilter("ignore", cloudimg.errors.ChunkCostWarning)'
    warnings.warn(f"{text}. {advice}", ChunkCostWarning, stacklevel=level)
