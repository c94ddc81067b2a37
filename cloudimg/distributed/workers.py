"""The workers of a cluster, which come and go."""

from __future__ import annotations

import asyncio
import time
import uuid
from concurrent.futures import wait
from typing import Any

from cloudimg.__about__ import __version__
from cloudimg.errors import ClusterError
from cloudimg.settings import settings

GONE = (
    "the cluster let go of the work: its scheduler is gone or was restarted. The same command goes"
    " on from here"
)

_COUNTED_FOR_S = 2.0

_POLL_S = 0.02

_WAKE_POLL_S = 0.1

_TAKEN_AFTER_S = 1.0
"""What has ended waits this long for more to be taken along."""


class Workers:
    """The workers of a cluster, which come and go.

    Raises
    ------
    ClusterError
        If none comes, or one has another version of cloudimg.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._timeout_s = settings().worker_timeout_s
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
            raise ClusterError(GONE) from None
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
            from cloudimg.__about__ import __version__ as found
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
