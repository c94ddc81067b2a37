"""The workers of a Dask cluster, whose number changes while they work.

Every wait for work also counts the workers from time to time, and fails once there have been none
for ``CLOUDIMG_WORKER_TIMEOUT_S`` seconds. Workers must have the same version of cloudimg as this
process.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
import uuid
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cloudimg.__about__ import __version__
from cloudimg.distributed.capacity import capacity_of_dask, in_megabytes
from cloudimg.errors import ClusterError, counted
from cloudimg.settings import settings

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")

_RUN_AGAIN = "Run the same command again: a migration resumes where it stopped"
SCHEDULER_LOST = (
    "the cluster lost the work: its scheduler has stopped, was restarted or cannot be reached."
    f" {_RUN_AGAIN}"
)
"""Message for errors that Dask raises when it has no scheduler any more."""

_RECOUNT_S = 2.0
"""Seconds for which a count of the workers is used."""
_POLL_S = 0.02
_FIRST_WORKER_POLL_S = 0.1
_BATCH_S = 1.0
"""Seconds that a result waits for others, to be collected together with them."""


class Workers:
    """The workers of a cluster.

    Raises
    ------
    ClusterError
        If no worker comes in time, or one has another version of cloudimg.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._timeout_s = settings().worker_timeout_s
        self._wait_for_one()
        check_versions(client)
        self.n_threads = _count_threads(client)
        self._counted_at = self._seen_at = time.monotonic()

    def _wait_for_one(self) -> None:
        if _count_threads(self._client):
            return
        deadline = time.monotonic() + self._timeout_s
        # An adaptive cluster starts workers only if there are tasks: submit one that does nothing.
        wake = self._client.submit(int, key=f"cloudimg-wake-{uuid.uuid4().hex}")
        while not (wake.done() or _count_threads(self._client)):
            if time.monotonic() > deadline:
                wake.cancel()
                raise ClusterError(
                    f"the cluster had no workers for {self._timeout_s:g} s"
                    " (CLOUDIMG_WORKER_TIMEOUT_S): start workers, then run this again"
                )
            time.sleep(_FIRST_WORKER_POLL_S)

    def recount(self) -> None:
        """Count the workers again, unless that was done a moment ago.

        Raises
        ------
        ClusterError
            If there have been none for too long.
        """
        now = time.monotonic()
        if now - self._counted_at < _RECOUNT_S:
            return
        self.n_threads = _count_threads(self._client)
        self._counted_at = now
        if self.n_threads:
            self._seen_at = now
        elif now - self._seen_at > self._timeout_s:
            raise ClusterError(
                f"the cluster lost all of its workers and had no workers for {self._timeout_s:g} s"
                f" (CLOUDIMG_WORKER_TIMEOUT_S). {_RUN_AGAIN}"
            )

    def wait_for_some(self, futures: list[Future[T]]) -> list[Future[T]]:
        """Wait until enough futures for one message have ended, or the first did a second ago.

        Returns at once if one has failed.

        Raises
        ------
        ClusterError
            If there have been no workers for too long.
        """
        first_at = None
        while True:
            ended = [future for future in futures if future.done()]
            # One per thread is enough: the threads are busy with the pieces that were waiting.
            if len(ended) >= min(len(futures), max(1, self.n_threads)):
                return ended
            if any(future.status != "finished" for future in ended):
                return ended
            if ended:
                first_at = first_at or time.monotonic()
                if time.monotonic() - first_at > _BATCH_S:
                    return ended
            time.sleep(_POLL_S)
            self.recount()

    def wait_for_all(self, futures: list[Future[T]]) -> None:
        """Wait until all futures have ended, or one has failed.

        Raises
        ------
        ClusterError
            If there have been no workers for too long.
        """
        while not all(future.done() for future in futures):
            if any(future.done() and future.status != "finished" for future in futures):
                return
            time.sleep(_POLL_S)
            self.recount()

    def results_of(self, futures: list[Future[T]]) -> list[T]:
        """Results of futures that have ended.

        Raises
        ------
        Exception
            What the work raised; ClusterError where the cluster failed.
        """
        from distributed import CancelledError, KilledWorker

        gathering = _start_gathering(self._client, futures)
        try:
            # Even now results can be lost together with their workers; Dask computes them again.
            while not gathering.done():
                concurrent.futures.wait([gathering], _RECOUNT_S)
                self.recount()
            return gathering.result()
        except KilledWorker as exc:
            error = ClusterError(
                f"workers died repeatedly during the same piece of work ({exc}). They may have too"
                f" little memory{self._memory()}: give them more, or fewer threads each."
                f" {_RUN_AGAIN}"
            )
        except CancelledError as exc:
            error = ClusterError(SCHEDULER_LOST, cause=type(exc).__name__)
        finally:
            gathering.cancel()
        raise error

    def _memory(self) -> str:
        """What the smallest of the workers has, as part of a message; empty if that is unknown."""
        capacity = capacity_of_dask(self._client)
        if capacity is None or capacity.worker_bytes is None:
            return ""
        shown = in_megabytes(capacity.worker_bytes)
        return f" ({shown} for {counted(capacity.worker_threads, 'thread')})"


def _start_gathering(
    client: Client, futures: list[Future[T]]
) -> concurrent.futures.Future[list[T]]:
    """Collect results in the thread of the client; cancelling what is returned ends that."""
    gathered: concurrent.futures.Future[list[T]] = concurrent.futures.Future()
    loop = cast(Any, client.loop)

    async def gather() -> None:
        task = asyncio.ensure_future(client.gather(futures, asynchronous=True))
        gathered.add_done_callback(lambda _: loop.add_callback(task.cancel))
        await asyncio.wait([task])
        if not gathered.set_running_or_notify_cancel():
            return
        if task.cancelled():
            gathered.set_exception(concurrent.futures.CancelledError())
        elif (exc := task.exception()) is not None:
            gathered.set_exception(exc)
        else:
            gathered.set_result(task.result())

    loop.add_callback(gather)
    return gathered


def _count_threads(client: Client) -> int:
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return sum(worker["nthreads"] for worker in workers.values())


def check_versions(client: Client) -> None:
    """Check that all workers have the same version of cloudimg as this process.

    Raises
    ------
    ClusterError
        If one has another version, or none.
    """

    def installed_version() -> str | None:
        try:
            from cloudimg.__about__ import __version__ as installed
        except ImportError:
            return None
        return installed

    # A nested function is sent as code, so that it also runs where cloudimg is not installed.
    for address, installed in client.run(installed_version, on_error="ignore").items():
        if installed != __version__:
            shown = f"cloudimg {installed}" if installed else "no cloudimg"
            raise ClusterError(
                f"the worker at {address} has {shown}, this process has {__version__}: install the"
                " same version in both places"
            )
