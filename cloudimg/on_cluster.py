"""Work for the workers of a Dask cluster: cells of a copy, headers of an archive.

What travels to a worker is a number; what comes back is small. Some of them are kept under way for
each thread, and what has ended is taken and replaced together, as each message costs the scheduler
far more than what is in it.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import pickle
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, TypeVar, cast

from cloudimg.errors import ArgumentError, CloudimgError, ClusterError
from cloudimg.version import __version__

T = TypeVar("T")

_PER_THREAD = 4
"""Numbers that a cluster has for each thread of its workers: one under way, the others waiting."""
_RETRIES = 3
_GONE = (
    "the cluster let go of the work: its scheduler is gone or was restarted. The same command goes"
    " on from here"
)
_WORKER_TIMEOUT_S = 600.0
_DRAIN_S = 60
_COUNTED_FOR_S = 2.0
_POLL_S = 0.02
_WAKE_POLL_S = 0.1
_TAKEN_AFTER_S = 1.0
"""What has ended waits this long for more to be taken along."""
_SHARE_OF_WORKER = 0.6
"""Of a worker's memory: above that Dask begins to spill, to pause and to kill."""

Client = Any
"""A `distributed.Client`, or a callable without arguments that gives one when it is needed."""


def client_of(client: Client) -> Any:
    """The `distributed.Client` itself."""
    return client() if callable(client) else client


def once(client: Client | None) -> Client | None:
    """The same, of which a callable is called no more than once."""
    return functools.cache(client) if callable(client) else client


def worker_timeout_s() -> float:
    """How long a cluster may be without workers: CLOUDIMG_WORKER_TIMEOUT_S.

    Raises
    ------
    ArgumentError
    """
    text = os.environ.get("CLOUDIMG_WORKER_TIMEOUT_S", "")
    try:
        timeout_s = float(text) if text else _WORKER_TIMEOUT_S
    except ValueError:
        timeout_s = 0
    if not 0 < timeout_s < 2**31:
        raise ArgumentError(f"CLOUDIMG_WORKER_TIMEOUT_S={text!r} is no positive number of seconds")
    return timeout_s


def run_on_cluster(
    client: Any,
    work: Callable[[int], T],
    numbers: Iterable[int],
    *,
    max_bytes: int,
    cell_bytes: int,
    report: Callable[[T], None],
) -> None:
    """Do numbered pieces of work on the workers of a `distributed.Client`.

    Parameters
    ----------
    client : distributed.Client
    work : callable
        Does the piece of a number; pickles.
    numbers : iterable of int
    max_bytes : int
        Memory that pieces may take in one worker, where its own limit is not lower.
    cell_bytes : int
        Memory that one piece takes.
    report : callable
        Is given what comes of each.

    Raises
    ------
    CloudimgError
        The first failure; ClusterError if the scheduler is gone, or all workers are for long.
    """
    with told_when_gone(client):
        _run_on_cluster(client, work, iter(numbers), max_bytes, cell_bytes, report)


@contextmanager
def told_when_gone(client: Any) -> Iterator[None]:
    """Have whatever Dask raises when its scheduler is gone be a ClusterError.

    Raises
    ------
    ClusterError
    """
    try:
        yield
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
    from distributed.protocol.pickle import dumps

    workers = Workers(client)
    # A reader of the user's own may be a function of a notebook.
    blob = cast(Any, dumps)(work)
    # Made on the workers, so that a lost worker takes nothing along that cannot be made again.
    name = hashlib.sha256(blob).hexdigest()[:16]
    shared = client.submit(pickle.loads, blob, key=f"cloudimg-job-{name}", pure=True)

    def submit(count: int) -> list[Any]:
        some = list(islice(todo, count))
        if not some:
            return []
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

    under_way: list[Any] = []
    try:
        while True:
            # Workers come one after the other, and some are lost; there may be none just now.
            wanted = _PER_THREAD * workers.n_threads - len(under_way)
            under_way += submit(max(wanted, 0 if under_way else 1))
            if not under_way:
                return
            ended = workers.wait_for_some(under_way)
            for result in workers.results_of(ended):
                report(result)
            known = {future.key for future in ended}
            under_way = [future for future in under_way if future.key not in known]
    except BaseException:
        if client.status == "running":
            client.cancel(under_way)
            drain(client, name)
        raise


class Workers:
    """The workers of a cluster, which come and go.

    Raises
    ------
    ClusterError
        If none comes, or one has another version of cloudimg.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._timeout_s = worker_timeout_s()
        self._wait_for_one()
        check_versions(client)
        self.n_threads = _threads_now(client)
        self._counted_at = self._seen_at = time.monotonic()

    def _wait_for_one(self) -> None:
        if _threads_now(self._client):
            return  # which may have much else to do
        deadline = time.monotonic() + self._timeout_s
        # A task that needs nothing: a cluster that grows with its work grows for work alone.
        asked = self._client.submit(int, key=f"cloudimg-wake-{uuid.uuid4().hex}")
        while not (asked.done() or _threads_now(self._client)):
            if time.monotonic() > deadline:
                asked.cancel()
                raise ClusterError(
                    f"the cluster had no worker for {self._timeout_s:g} s"
                    " (CLOUDIMG_WORKER_TIMEOUT_S): start some, then run this again"
                )
            time.sleep(_WAKE_POLL_S)

    def look(self) -> None:
        """Count again, if that was a while ago.

        Raises
        ------
        ClusterError
            If there has been none for long.
        """
        now = time.monotonic()
        if now - self._counted_at < _COUNTED_FOR_S:
            return
        self.n_threads = _threads_now(self._client)
        self._counted_at = now
        if self.n_threads:
            self._seen_at = now
        elif now - self._seen_at > self._timeout_s:
            raise ClusterError(
                f"the cluster has had no worker for {self._timeout_s:g} s"
                " (CLOUDIMG_WORKER_TIMEOUT_S). The same command goes on from here"
            )

    def wait_for_some(self, futures: list[Any]) -> list[Any]:
        """Wait until as many have ended as are worth a message, or one has for a while.

        Raises
        ------
        ClusterError
            If there have been no workers for long.
        """
        first_at = None
        while True:
            ended = [future for future in futures if future.done()]
            # The threads have others waiting meanwhile.
            if len(ended) >= min(len(futures), max(1, self.n_threads)):
                return ended
            if any(future.status != "finished" for future in ended):
                return ended
            if ended:
                first_at = first_at or time.monotonic()
                if time.monotonic() - first_at > _TAKEN_AFTER_S:
                    return ended
            time.sleep(_POLL_S)
            self.look()

    def wait_for_all(self, futures: list[Any]) -> None:
        """Wait until all have ended, or one has failed.

        Raises
        ------
        ClusterError
            If there have been no workers for long.
        """
        while not all(future.done() for future in futures):
            if any(future.done() and future.status != "finished" for future in futures):
                return
            time.sleep(_POLL_S)
            self.look()

    def results_of(self, futures: list[Any]) -> list[Any]:
        """What came of work that has ended.

        Raises
        ------
        Exception
            What the work raised; ClusterError where the cluster failed.
        """
        from distributed import CancelledError, KilledWorker

        asked = asyncio.run_coroutine_threadsafe(
            _gather(self._client, futures), self._client.loop.asyncio_loop
        )
        try:
            # Results can be lost with their workers even now, and are then made again.
            while not asked.done():
                wait([asked], _COUNTED_FOR_S)
                self.look()
            return asked.result()
        except KilledWorker as exc:
            raise ClusterError(
                f"workers died again and again over one cell ({exc}): they may have too little"
                " memory; give them more, or fewer threads each. The same command goes on from here"
            ) from None
        except CancelledError:
            raise ClusterError(_GONE) from None
        finally:
            asked.cancel()


async def _gather(client: Any, futures: list[Any]) -> list[Any]:
    return await client.gather(futures, asynchronous=True)  # type: ignore[no-any-return]


def _threads_now(client: Any) -> int:
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
    deadline = time.monotonic() + _DRAIN_S
    while _busy[name] and time.monotonic() < deadline:
        await asyncio.sleep(0.05)


def _memory_limit() -> int:
    from distributed import get_worker

    limit = get_worker().memory_manager.memory_limit
    return int(limit * _SHARE_OF_WORKER) if limit else 2**62
