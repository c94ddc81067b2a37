"""Numbered pieces of work, done by the workers of a Dask cluster.

The work itself is sent once; after that only numbers travel to the workers, and small results come
back. A few pieces per thread are submitted at any time. Pieces that have ended are collected and
replaced in batches, because a message costs the scheduler far more than its content does.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from cloudimg.distributed.on_worker import outside_pool, run_piece, wait_until_idle
from cloudimg.distributed.parcel import Parcel
from cloudimg.distributed.workers import SCHEDULER_LOST, Workers
from cloudimg.errors import ArgumentError, CloudimgError, ClusterError

if TYPE_CHECKING:
    import distributed

T = TypeVar("T")

Client: TypeAlias = "distributed.Client | Callable[[], distributed.Client]"
"""A client, or a function that returns one when there is work for it."""

_PER_THREAD = 4
"""Pieces submitted for each thread of the workers: one is running, the others are waiting."""
_RETRIES = 3


def client_of(client: Client) -> distributed.Client:
    """Return the client itself; a function is called for it.

    Raises
    ------
    ArgumentError
        If calls cannot wait for it here.
    """
    found = client() if callable(client) else client
    require_client(found)
    if found.asynchronous:
        raise ArgumentError(
            "client= is asynchronous, and this call would stop its event loop: make the call in"
            " another thread, for example await asyncio.to_thread(cloudimg.open, url,"
            " client=client)"
        )
    return found


def require_client(client: object) -> None:
    """Check that an argument `client` is a client.

    Raises
    ------
    ArgumentError
    """
    from distributed import Client

    if not isinstance(client, Client):
        raise ArgumentError(
            f"client= is of type {type(client).__name__}, but must be a distributed.Client or a"
            " function that returns one, for example"
            ' client=distributed.Client("tcp://scheduler:8786")'
        )


def refuse_other_cluster(client: distributed.Client, *values: object) -> None:
    """Refuse lazy arrays of which a part was computed on another cluster, and is only there.

    Raises
    ------
    ArgumentError
    """
    from dask.base import is_dask_collection
    from distributed import futures_of

    ours = _address(client)
    for value in filter(cast(Any, is_dask_collection), values):
        # Whoever persists an array, as a whole or a part of it, gets a layer with futures.
        layers = getattr(cast(Any, value).__dask_graph__(), "layers", {}).values()
        held = [list(layer.values()) for layer in layers if layer.is_materialized()]
        # A future that came with the call of another process has no client yet.
        clients = [each.client for each in cast(Any, futures_of)(held) if each.client is not None]
        others = {_address(each): None for each in clients if _address(each) != ours}
        if others:
            raise ArgumentError(
                f"a part of the array is in the memory of the cluster at {next(iter(others))},"
                f" where it was computed by persist(), but client= is that of {ours}: pass the"
                " client of the first, or the array as it was before persist()"
            )


def _address(client: distributed.Client) -> str:
    """Address of the scheduler of a client."""
    return "a scheduler that is gone" if client.scheduler is None else str(client.scheduler.address)


def once(client: Client | None) -> Client | None:
    """Return the same client, or a function that calls the given one at most once."""
    return functools.cache(client) if callable(client) else client


def run_on_cluster(
    client: distributed.Client,
    work: Callable[[int], T],
    numbers: Iterable[int],
    *,
    step: str,
    max_bytes: int,
    piece_bytes: int,
    report: Callable[[T], None],
) -> None:
    """Do numbered pieces of work on the workers of a Dask cluster.

    Parameters
    ----------
    client : distributed.Client
    work : callable
        Does the piece with the number that it is called with, and returns its result; must pickle.
    numbers : iterable of int
    step : str
        What the work is, in letters and hyphens, for the names of tasks in Dask's dashboard.
    max_bytes : int
        Memory that pieces may take in one worker; the worker's own limit applies if it is lower.
    piece_bytes : int
        Memory that one piece takes.
    report : callable
        Called in this process with the result of each piece, as they end.

    Raises
    ------
    CloudimgError
        The first failure of a piece; ClusterError if the scheduler is lost, or if there are no
        workers for longer than ``CLOUDIMG_WORKER_TIMEOUT_S``.
    """
    with outside_pool(), scheduler_loss_as_error(client):
        _run_on_cluster(client, work, iter(numbers), step, max_bytes, piece_bytes, report)


@contextmanager
def scheduler_loss_as_error(client: distributed.Client) -> Iterator[None]:
    """Raise ClusterError in place of whatever Dask raises once its scheduler is lost.

    Raises
    ------
    ClusterError
    """
    try:
        yield
        return
    except CloudimgError:
        raise
    except Exception as exc:
        # Dask raises errors of many types when its scheduler is lost; its client knows the reason.
        if client.status == "running":
            raise
        error = ClusterError(SCHEDULER_LOST, cause=type(exc).__name__)
    try:
        raise error
    finally:
        # Python sets it to the error of the `with` block, which may hold credentials.
        error.__context__ = None


def _run_on_cluster(
    client: distributed.Client,
    work: Callable[[int], T],
    remaining: Iterator[int],
    step: str,
    max_bytes: int,
    piece_bytes: int,
    report: Callable[[T], None],
) -> None:
    workers = Workers(client)
    parcel = Parcel(work)
    job = hashlib.sha256(parcel.to_bytes()).hexdigest()[:16]
    # The result of a task, so that Dask can make it again if the worker that holds it is lost.
    shared = client.submit(_unchanged, parcel, key=f"cloudimg-{step}-work-{job}", pure=True)

    def submit(count: int) -> list[distributed.Future[T]]:
        batch = list(islice(remaining, count))
        if not batch:
            return []
        return client.map(
            run_piece,
            [shared] * len(batch),
            batch,
            job=job,
            max_bytes=max_bytes,
            piece_bytes=piece_bytes,
            key=[f"cloudimg-{step}-{job}-{number}" for number in batch],
            pure=False,
            retries=_RETRIES,
        )

    pending: list[distributed.Future[T]] = []
    try:
        while True:
            # The number of workers changes; where there are none, one piece waits for the first.
            n_missing = _PER_THREAD * workers.n_threads - len(pending)
            pending += submit(max(n_missing, 0 if pending else 1))
            if not pending:
                return
            ended = workers.wait_for_some(pending)
            for result in workers.results_of(ended):
                report(result)
            ended_keys = {future.key for future in ended}
            pending = [future for future in pending if future.key not in ended_keys]
    except BaseException:
        if client.status == "running":
            client.cancel(pending)
            drain(client, job)
        raise


def _unchanged(parcel: Parcel[T]) -> Parcel[T]:
    return parcel


def drain(client: distributed.Client, job: str) -> None:
    """Wait until no worker runs a piece of a job; a piece that is cancelled still runs to its end.

    Otherwise workers could write to a destination after this process has given up its lease.
    """
    # Workers cannot be reached without the scheduler; they then stop when the lease runs out.
    with suppress(OSError, RuntimeError, TimeoutError):
        client.run(wait_until_idle, job, on_error="ignore")
