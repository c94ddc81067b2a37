"""Work for the workers of a Dask cluster: cells of a copy, headers of an archive.

What travels to a worker is a number; what comes back is small. Some of them are kept under way for
each thread, and what has ended is taken and replaced together, as each message costs the scheduler
far more than what is in it.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, TypeVar, cast

from cloudimg.distributed.on_worker import run_piece, wait_until_idle
from cloudimg.distributed.workers import GONE, Workers
from cloudimg.errors import CloudimgError, ClusterError

T = TypeVar("T")

_PER_THREAD = 4
"""Numbers that a cluster has for each thread of its workers: one under way, the others waiting."""
_RETRIES = 3

Client = Any
"""A `distributed.Client`, or a callable without arguments that gives one when it is needed."""


def client_of(client: Client) -> Any:
    """The `distributed.Client` itself."""
    return client() if callable(client) else client


def once(client: Client | None) -> Client | None:
    """The same, of which a callable is called no more than once."""
    return functools.cache(client) if callable(client) else client


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
        raise ClusterError(GONE) from None


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
            run_piece,
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


def drain(client: Any, name: str) -> None:
    """Wait until no worker does a cell of a job: a cancelled one is still done to its end.

    Whoever lets go of the destination before that would have strangers write there.
    """
    # Without its scheduler nothing can be asked; then the lease is what stops the workers.
    with suppress(OSError, RuntimeError, TimeoutError):
        client.run(wait_until_idle, name, on_error="ignore")
