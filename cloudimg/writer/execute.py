"""Who does the cells: threads of this process, or the workers of a Dask cluster.

Both do the same: they keep some cells under way, hand on what comes of each, and stop at the first
failure. What travels to a worker is the number of a cell; what comes back is small.
"""

from __future__ import annotations

import asyncio
import hashlib
import pickle
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, TypeVar, cast

from cloudimg.errors import CloudimgError, ClusterError
from cloudimg.version import __version__

T = TypeVar("T")

_PER_THREAD = 2
"""Cells that a cluster has for each thread of its workers: one under way, one waiting."""
_RETRIES = 3
_GONE = (
    "the cluster let go of the work: its scheduler is gone or was restarted. The same command goes"
    " on from here"
)
_PATIENCE_S = 60
_COUNTED_FOR_S = 2.0
_SHARE_OF_WORKER = 0.6
"""Of a worker's memory: above that Dask begins to spill, to pause and to kill."""


def run_locally(
    work: Callable[[int], T], numbers: Iterable[int], *, in_flight: int, report: Callable[[T], None]
) -> None:
    """Do cells in threads of this process.

    Parameters
    ----------
    work : callable
        Does the cell of a number.
    numbers : iterable of int
    in_flight : int
        Cells at once.
    report : callable
        Is given what comes of each.

    Raises
    ------
    CloudimgError
        The first failure, when the cells that were under way have ended.
    """
    todo = iter(numbers)
    with ThreadPoolExecutor(in_flight, "cloudimg-cell") as threads:
        under_way = {threads.submit(work, number) for number in islice(todo, in_flight)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                report(future.result())
            # A cell is begun when one has ended, so that no more than these are in memory.
            for number in islice(todo, len(done)):
                under_way.add(threads.submit(work, number))


def run_on_cluster(
    client: Any,
    work: Callable[[int], T],
    numbers: Iterable[int],
    *,
    max_bytes: int,
    cell_bytes: int,
    report: Callable[[T], None],
) -> None:
    """Do cells on the workers of a `distributed.Client`.

    Parameters
    ----------
    client : distributed.Client
    work : callable
        Does the cell of a number; pickles.
    numbers : iterable of int
    max_bytes : int
        Memory that cells may take in one worker, where its own limit is not lower.
    cell_bytes : int
        Memory that one cell takes.
    report : callable
        Is given what comes of each.

    Raises
    ------
    CloudimgError
        The first failure.
    """
    try:
        _run_on_cluster(client, work, iter(numbers), max_bytes, cell_bytes, report)
    except CloudimgError:
        raise
    except Exception:
        # Where a scheduler has gone, Dask raises errors of many kinds; its client knows.
        if client.status == "running":
            raise
        raise ClusterError(_GONE) from None


def _run_on_cluster(
    client: Any,
    work: Callable[[int], T],
    todo: Iterator[int],
    max_bytes: int,
    cell_bytes: int,
    report: Callable[[T], None],
) -> None:
    import distributed

    n_threads = count_threads(client)
    blob = pickle.dumps(work, protocol=5)
    # Made on the workers, so that a lost worker takes nothing along that cannot be made again.
    name = hashlib.sha256(blob).hexdigest()[:16]
    shared = client.submit(pickle.loads, blob, key=f"cloudimg-job-{name}", pure=True)

    def submit(count: int) -> list[Any]:
        some = list(islice(todo, count))
        if not some:
            return []
        # Together: a message costs the scheduler 2 ms, a cell in it 0.3 ms.
        return client.map(  # type: ignore[no-any-return]
            _run_on_worker,
            [shared] * len(some),
            some,
            name=name,
            max_bytes=max_bytes,
            cell_bytes=cell_bytes,
            key=[f"cloudimg-cell-{name}-{number}" for number in some],
            pure=False,
            retries=_RETRIES,
        )

    first = submit(_PER_THREAD * n_threads)
    n_out = len(first)
    counted_at = time.monotonic()
    completed: Any = cast(Any, distributed).as_completed(first, loop=client.loop)
    try:
        for batch in completed.batches():
            for result in _results(client, batch):
                report(result)
            n_out -= len(batch)
            if time.monotonic() - counted_at > _COUNTED_FOR_S:
                # Workers come one after the other, and some are lost.
                n_threads, counted_at = threads_now(client), time.monotonic()
            fresh = submit(max(_PER_THREAD * n_threads - n_out, 0 if n_out else 1))
            n_out += len(fresh)
            completed.update(fresh)
    except BaseException:
        if client.status == "running":
            client.cancel([*completed.futures])
            drain(client, name)
        raise


def _results(client: Any, futures: list[Any]) -> list[Any]:
    from distributed import CancelledError, KilledWorker

    try:
        return client.gather(futures)  # type: ignore[no-any-return]
    except KilledWorker as exc:
        raise ClusterError(
            f"workers died again and again over one cell ({exc}): they may have too little memory;"
            " give them more, or fewer threads each. The same command goes on from here"
        ) from None
    except CancelledError:
        raise ClusterError(_GONE) from None


def count_threads(client: Any) -> int:
    """Threads of all workers of a cluster; waits a while for the first worker.

    Raises
    ------
    ClusterError
        If none comes, or one has another version of cloudimg.
    """
    try:
        client.wait_for_workers(1, timeout=_PATIENCE_S)
    except TimeoutError:
        raise ClusterError(
            f"the cluster had no worker for {_PATIENCE_S} s: start some, then run this again"
        ) from None
    check_versions(client)
    return threads_now(client)


def threads_now(client: Any) -> int:
    """Threads of the workers that a cluster has now."""
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return sum(worker["nthreads"] for worker in workers.values())


def check_versions(client: Any) -> None:
    """Make sure that all workers have the cloudimg of this process.

    Raises
    ------
    ClusterError
        If one has another, or none.
    """

    def tell() -> str | None:
        try:
            from cloudimg.version import __version__ as found
        except ImportError:
            return None
        return found

    # A function within a function travels as code, so that it runs where there is no cloudimg.
    for address, found in client.run(tell, on_error="ignore").items():
        if found != __version__:
            raise ClusterError(
                f"the worker at {address} has {f'cloudimg {found}' if found else 'no cloudimg'},"
                f" this process has {__version__}: install the same version in both places"
            )


_lock = threading.Lock()
_slots: dict[int, threading.BoundedSemaphore] = {}


def _run_on_worker(
    work: Callable[[int], T], number: int, name: str, max_bytes: int, cell_bytes: int
) -> T:
    """In a worker: as many cells at once as its memory holds, whatever its threads."""
    room = max(1, min(max_bytes, _memory_limit()) // cell_bytes)
    with _lock:
        slots = _slots.setdefault(room, threading.BoundedSemaphore(room))
    with slots, busy(name):
        return work(number)


_busy: Counter[str] = Counter()
"""Cells that this worker is doing, by job."""


@contextmanager
def busy(name: str) -> Iterator[None]:
    """In a worker: a cell of a job is being done."""
    with _lock:
        _busy[name] += 1
    try:
        yield
    finally:
        with _lock:
            _busy[name] -= 1


def drain(client: Any, name: str) -> None:
    """Wait until no worker does a cell of a job: a cancelled one is still done to its end.

    Whoever lets go of the destination before that would have strangers write there.
    """
    # Without its scheduler nothing can be asked; then the lease is what stops the workers.
    with suppress(OSError, RuntimeError, TimeoutError):
        client.run(_idle, name, on_error="ignore")


async def _idle(name: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while _busy[name] and time.monotonic() < deadline:
        await asyncio.sleep(0.05)


def _memory_limit() -> int:
    from distributed import get_worker

    limit = get_worker().memory_manager.memory_limit
    return int(limit * _SHARE_OF_WORKER) if limit else 2**62
