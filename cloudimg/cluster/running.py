"""One job while it runs: start it, connect to it, replace the workers that it loses, stop it.

Jobs that end with this process are registered here until they are stopped, so that `end_all` can
stop them from a signal handler's thread while another thread is still starting them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cloudimg.cluster.launcher import Addresses, Launcher
from cloudimg.cluster.tls import Tls
from cloudimg.errors import CloudimgError, ClusterError
from cloudimg.storage.failures import cause_text

if TYPE_CHECKING:
    from distributed import Client

MessageCallback = Callable[[str], object]
"""Called with messages for the user."""

_START_S = 900
"""Limit for a machine to be found, its image to be pulled, and the scheduler to answer."""
_CONNECT_S = 120
_POLL_S = 5.0
_WORKER_POLL_S = 0.5
_REPLACE_S = 15.0
"""Seconds between checks for lost workers."""
_KEEPER_EXIT_S = 30.0

_ending = threading.RLock()
_ends_with_process: dict[str, Launcher] = {}


@contextmanager
def ending_on_failure(launcher: Launcher, say: MessageCallback) -> Iterator[None]:
    """Register a job as ending with this process, and stop it if the block fails."""
    _ends_with_process[launcher.job] = launcher
    try:
        yield
    except BaseException:
        try:
            end(launcher, say)
        except ClusterError as exc:  # reported only: the first failure is the one to raise
            say(f"{launcher.job}: {exc}")
        raise


def outlive_process(launcher: Launcher) -> None:
    """Let a job run on when this process ends."""
    _ends_with_process.pop(launcher.job, None)


def end(launcher: Launcher, say: MessageCallback) -> None:
    """Stop a job that ends with this process, once.

    Raises
    ------
    ClusterError
        If some of it may still run.
    """
    # A second thread waits here until the first has stopped the job, and retries if that failed.
    with _ending:
        if launcher.job not in _ends_with_process:
            return
        say(f"{launcher.job}: stopping the cluster")
        try:
            launcher.stop()
        except ClusterError as exc:
            raise ClusterError(
                f"{exc}. Parts of the job may still run: stop them with"
                f" `cloudimg cluster down FILE --job {launcher.job}`",
                cause=exc.cause,
            ) from exc
        del _ends_with_process[launcher.job]


def end_all(say: MessageCallback) -> None:
    """Stop every job that ends with this process, whatever other threads are doing with it."""
    for launcher in list(_ends_with_process.values()):
        end(launcher, say)


def begin(launcher: Launcher, workers: int, say: MessageCallback) -> None:
    """Start the scheduler of a job, and request its workers."""
    say(f"{launcher.job}: starting the scheduler")
    launcher.start_scheduler()
    _wait_for_scheduler(launcher)
    say(f"{launcher.job}: starting {workers} workers")
    launcher.keep_workers(workers)


@contextmanager
def connected(
    launcher: Launcher, tls: Tls, workers: int | None, say: MessageCallback
) -> Iterator[Client]:
    """Client of a running job; `workers` are kept running for as long as the block runs.

    Raises
    ------
    ClusterError
        If the scheduler or the first worker does not start in time.
    """
    addresses = _wait_for_scheduler(launcher)
    client = _connect_to(addresses.client or addresses.workers, tls)
    is_over = threading.Event()
    keeper = threading.Thread(
        target=_replace_lost_workers,
        args=(launcher, workers, is_over, say),
        name="cloudimg-workers",
        daemon=True,
    )
    if workers is not None:
        keeper.start()
    try:
        if workers is not None:
            _wait_for_first_worker(client, launcher)
        yield client
    finally:
        is_over.set()
        if workers is not None:
            keeper.join(_KEEPER_EXIT_S)
        client.close()


def _wait_for_scheduler(launcher: Launcher) -> Addresses:
    deadline = time.monotonic() + _START_S
    while True:
        addresses = launcher.find_scheduler()
        if addresses is not None:
            return addresses
        if time.monotonic() > deadline:
            raise ClusterError(f"the scheduler of {launcher.job} did not start within {_START_S} s")
        time.sleep(_POLL_S)


def _wait_for_first_worker(client: Client, launcher: Launcher) -> None:
    deadline = time.monotonic() + _START_S
    while not client.scheduler_info(n_workers=-1)["workers"]:
        if time.monotonic() > deadline:
            reasons = "; ".join(launcher.look().problems) or "the cloud gives no reason"
            raise ClusterError(
                f"no worker of {launcher.job} started within {_START_S} s: {reasons}"
            )
        time.sleep(_WORKER_POLL_S)


def _connect_to(address: str, tls: Tls) -> Client:
    from distributed import Client

    try:
        return Client(address, security=tls.security(), timeout=_CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError) as exc:
        error = ClusterError(
            f"the scheduler is running, but does not answer at {address}. Is this machine's"
            " address within the module's admin_cidr?",
            cause=cause_text(exc),
        )
    raise error


def _replace_lost_workers(
    launcher: Launcher, workers: int, is_over: threading.Event, say: MessageCallback
) -> None:
    reported: set[str] = set()
    while not is_over.wait(_REPLACE_S):
        try:
            problems = launcher.keep_workers(workers).problems
        except CloudimgError as exc:
            problems = (str(exc),)
        except Exception as exc:  # noqa: BLE001, the work goes on with the workers that are left
            problems = (cause_text(exc),)
        for problem in problems:
            if problem not in reported and not is_over.is_set():
                say(f"{launcher.job}: {problem}")
        reported = set(problems)
