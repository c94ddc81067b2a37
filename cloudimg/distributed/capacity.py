"""What the workers of a Dask cluster can hold: it decides how large the chunks of an image are."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloudimg.errors import counted

if TYPE_CHECKING:
    from distributed import Client


_CHUNK_SHARE = 4
"""A chunk takes up to one part in so many of the memory that a thread has for pixels. What is
computed from it takes the rest: as float64, 16-bit integers alone take four times as much."""
_BASE_BYTES = 200 * 10**6
"""What the interpreter and its libraries take of the memory of a worker."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Threads and memory of the workers of a cluster."""

    n_threads: int
    """Threads of all workers together."""
    worker_bytes: int | None
    """Memory of the worker that has the least for each of its threads; None without limits."""
    worker_threads: int
    """Threads of that worker."""
    smallest_bytes: int | None
    """Memory of the smallest worker; None without limits."""

    def too_large(self, chunk_bytes: int) -> str:
        """Why chunks of a size may be too large for a worker, and what to do; empty if not."""
        if self.worker_bytes is None or self.pixels_bytes is None:
            return ""
        most = self.pixels_bytes // _CHUNK_SHARE
        if chunk_bytes <= most:
            return ""
        return (
            f"a chunk of {in_megabytes(chunk_bytes)} for each thread, and what is computed from it,"
            f" may be too much for a worker with {in_megabytes(self.worker_bytes)} of memory and"
            f" {counted(self.worker_threads, 'thread')}, which Dask then kills (KilledWorker): pass"
            f' chunks= of up to {in_megabytes(most)}, or chunks="auto" once the client is there, or'
            " give workers more memory or fewer threads"
        )

    @property
    def thread_bytes(self) -> int | None:
        """Least memory that any worker has for each of its threads; None without limits."""
        return None if self.worker_bytes is None else self.worker_bytes // self.worker_threads

    @property
    def pixels_bytes(self) -> int | None:
        """Of that memory, what is left for pixels; None without limits."""
        if self.worker_bytes is None:
            return None
        left = max(self.worker_bytes - _BASE_BYTES, self.worker_bytes // 4)
        return left // self.worker_threads


def in_megabytes(size_bytes: int) -> str:
    """As users and Dask write the memory of workers."""
    return f"{max(1, size_bytes // 10**6)} MB"


def capacity_of_dask(client: Client | None = None) -> Capacity | None:
    """Capacity of the cluster that Dask computes with now.

    Parameters
    ----------
    client : distributed.Client, optional
        By default the one that Dask uses, if there is one.

    Returns
    -------
    Capacity or None
        None without a cluster, and of a cluster without workers.
    """
    if client is None:
        distributed = sys.modules.get("distributed")
        with suppress(ValueError, AttributeError):  # no client, or no distributed
            client = distributed.default_client()  # type: ignore[union-attr]
    if client is not None and client.status == "running":
        with suppress(OSError):  # the scheduler is lost: whoever computes then finds that out
            return _capacity_of(client)
    return None


def capacity_of_worker() -> Capacity | None:
    """Capacity of the worker that runs the calling task; None outside a cluster."""
    distributed = sys.modules.get("distributed")
    with suppress(ValueError, AttributeError):  # no task, or no distributed
        worker = distributed.get_worker()  # type: ignore[union-attr]
        n_threads = int(worker.state.nthreads)
        limit = worker.memory_manager.memory_limit or None
        return Capacity(n_threads, limit, n_threads, limit)
    return None


def _capacity_of(client: Client) -> Capacity | None:
    workers: list[dict[str, Any]] = list(client.scheduler_info(n_workers=-1)["workers"].values())
    if not workers:
        return None
    limited = [worker for worker in workers if worker["memory_limit"]]
    smallest = min(limited, key=lambda w: w["memory_limit"] / w["nthreads"], default=None)
    return Capacity(
        sum(worker["nthreads"] for worker in workers),
        None if smallest is None else int(smallest["memory_limit"]),
        1 if smallest is None else int(smallest["nthreads"]),
        min((int(worker["memory_limit"]) for worker in limited), default=None),
    )
