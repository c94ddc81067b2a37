"""A job from its first machine to its last: starts, keeps its workers, ends without remains."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cloudimg.cluster.description import Described, describe, launcher_of
from cloudimg.cluster.launcher import Addresses, Fleet, Launcher
from cloudimg.cluster.tls import Tls
from cloudimg.errors import ArgumentError, ClusterError

Say = Callable[[str], None]

_START_S = 900
"""For a machine to be found, its image fetched, and the scheduler to be told of."""
_CONNECT_S = 120
_POLL_S = 5.0
_WORKER_POLL_S = 0.5
_TOP_UP_S = 15.0
_KEEPER_S = 30.0
_NAME = "abcdefghijklmnopqrstuvwxyz0123456789-"
_LONGEST_NAME = 30

_ending = threading.RLock()
_ours: dict[str, Launcher] = {}
"""Jobs that end with this process."""


def silent(text: str) -> None:
    """Tell nobody."""


def check(
    description: Described, *, workers: int | None = None, job: str | None = None
) -> Mapping[str, Any]:
    """Find what is wrong with arguments, as far as that can be told without the cloud.

    Parameters
    ----------
    description : mapping, str or path
        See `start`.
    workers : int, optional
    job : str, optional

    Returns
    -------
    mapping
        The description, for `start` and `connect`.

    Raises
    ------
    ArgumentError
    """
    if workers is not None:
        refuse_count(workers)
    if job is not None:
        job_name(job)
    return describe(description)


@contextmanager
def start(description: Described, workers: int, *, say: Say = silent) -> Iterator[Any]:
    """A cluster for as long as a ``with`` block.

    Parameters
    ----------
    description : mapping, str or path
        The output ``cloudimg_cluster`` of a Terraform module of cloudimg, a file with it, or the
        module's folder.
    workers : int
        How many; those that are lost are replaced.
    say : callable, optional
        Is told how far it is.

    Yields
    ------
    distributed.Client
        Of the cluster, by mutual TLS.

    Raises
    ------
    ArgumentError
    ClusterError
        If the cloud refuses, or the scheduler does not come. Nothing is left running.
    """
    refuse_count(workers)
    launcher = launcher_of(describe(description), f"job-{secrets.token_hex(4)}")
    tls = Tls.make()
    with ending_with_us(launcher, say):
        launcher.store_tls(tls)
        begin(launcher, workers, say=say)
        with attached(launcher, tls, workers, say=say) as client:
            yield client
        _end(launcher, say)


@contextmanager
def ending_with_us(launcher: Launcher, say: Say) -> Iterator[None]:
    """End a job when its block fails, or when the process is asked to end meanwhile."""
    _ours[launcher.job] = launcher
    try:
        yield
    except BaseException:
        try:
            _end(launcher, say)
        except ClusterError as exc:  # what failed first is what to raise
            say(f"{launcher.job}: {exc}")
        raise


def refuse_count(workers: int) -> None:
    """Workers are counted from 1 on.

    Raises
    ------
    ArgumentError
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ArgumentError(f"workers={workers!r} must be a number from 1 on")


def begin(launcher: Launcher, workers: int, *, say: Say) -> None:
    """Start a scheduler, and ask for its workers."""
    say(f"{launcher.job}: starting the scheduler")
    launcher.start_scheduler()
    wait_for_scheduler(launcher)
    say(f"{launcher.job}: starting {workers} workers")
    launcher.keep_workers(workers)


def wait_for_scheduler(launcher: Launcher) -> Addresses:
    """Where it answers, when it does.

    Raises
    ------
    ClusterError
        If it ended, or did not come in a quarter of an hour.
    """
    deadline = time.monotonic() + _START_S
    while True:
        found = launcher.find_scheduler()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise ClusterError(f"the scheduler of {launcher.job} did not come in {_START_S} s")
        time.sleep(_POLL_S)


@contextmanager
def attached(
    launcher: Launcher, tls: Tls, workers: int | None, *, say: Say = silent
) -> Iterator[Any]:
    """A client of a job that runs, with so many workers for as long as it is there."""
    addresses = wait_for_scheduler(launcher)
    client = connect_to(addresses.client or addresses.workers, tls)
    over = threading.Event()
    keeper = threading.Thread(
        target=_keep, args=(launcher, workers, over, say), name="cloudimg-workers", daemon=True
    )
    if workers is not None:
        keeper.start()
    try:
        if workers is not None:
            _wait_for_a_worker(client, launcher)
        yield client
    finally:
        over.set()
        if workers is not None:
            keeper.join(_KEEPER_S)
        client.close()


def _wait_for_a_worker(client: Any, launcher: Launcher) -> None:
    """Work may begin with the first one.

    Raises
    ------
    ClusterError
        If none comes in a quarter of an hour, with what the cloud says of it.
    """
    deadline = time.monotonic() + _START_S
    while not client.scheduler_info(n_workers=-1)["workers"]:
        if time.monotonic() > deadline:
            told = "; ".join(launcher.look().problems) or "the cloud gives no reason"
            raise ClusterError(f"{launcher.job} got no worker in {_START_S} s: {told}")
        time.sleep(_WORKER_POLL_S)


def connect_to(address: str, tls: Tls) -> Any:
    """A client of a scheduler, which may just be starting.

    Raises
    ------
    ClusterError
        If it does not answer.
    """
    from distributed import Client

    make: Any = Client
    try:
        return make(address, security=tls.security(), timeout=_CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError) as exc:
        raise ClusterError(
            f"the scheduler runs and does not answer at {address}: {exc}. Is this machine's address"
            " within the module's admin_cidr?"
        ) from None


def _keep(launcher: Launcher, workers: int, over: threading.Event, say: Say) -> None:
    """Replace workers that were lost, until it is over."""
    said: set[str] = set()
    while not over.wait(_TOP_UP_S):
        try:
            problems = launcher.keep_workers(workers).problems
        except Exception as exc:  # noqa: BLE001
            problems = (str(exc),)
        for problem in problems:
            if problem not in said and not over.is_set():
                say(f"{launcher.job}: {problem}")
        said = set(problems)


def _end(launcher: Launcher, say: Say) -> None:
    # Whoever comes second waits until the first has done it, or does it again if that failed.
    with _ending:
        if launcher.job not in _ours:
            return
        say(f"{launcher.job}: ending")
        try:
            launcher.stop()
        except ClusterError as exc:
            raise ClusterError(
                f"{exc}. Some of the job may still run: `cloudimg cluster down FILE --job"
                f" {launcher.job}` ends it"
            ) from None
        del _ours[launcher.job]


def end_all(say: Say) -> None:
    """End every job that this process has started, from any thread, whatever it is doing."""
    for launcher in list(_ours.values()):
        _end(launcher, say)


def job_name(name: str) -> str:
    """A name that every cloud takes.

    Raises
    ------
    ArgumentError
    """
    fits = 0 < len(name) <= _LONGEST_NAME and not name.startswith("-") and not name.endswith("-")
    if not fits or set(name) - set(_NAME):
        raise ArgumentError(
            f"a job's name is made of at most {_LONGEST_NAME} small letters, digits and hyphens"
            f" within, not {name!r}"
        )
    return name


def up(description: Described, workers: int, *, job: str = "main", say: Say = silent) -> None:
    """Start a cluster that stays until `down`, or until it was idle for long.

    Parameters
    ----------
    description : mapping, str or path
        See `start`.
    workers : int
    job : str
        Its name, for `connect`, `status` and `down`.
    say : callable, optional
        Is told how far it is.

    Raises
    ------
    ArgumentError
    ClusterError
        If there is one of this name, or the cloud refuses.
    """
    refuse_count(workers)
    launcher = launcher_of(describe(description), job_name(job))
    if launcher.load_tls() is not None:
        raise ClusterError(
            f"there is a job {job!r} already: end it with `cloudimg cluster down`, or name another"
        )
    launcher.store_tls(Tls.make())  # of two at once, one fails here and ends nothing
    with ending_with_us(launcher, say):
        begin(launcher, workers, say=say)
    _ours.pop(launcher.job, None)


@contextmanager
def connect(
    description: Described, *, job: str = "main", workers: int | None = None, say: Say = silent
) -> Iterator[Any]:
    """A client of a cluster that `up` has started.

    Parameters
    ----------
    description : mapping, str or path
        See `start`.
    job : str
    workers : int, optional
        Keep so many for as long as the client is there: lost ones are replaced.
    say : callable, optional
        Is told of workers that could not be started.

    Yields
    ------
    distributed.Client

    Raises
    ------
    ClusterError
        If there is none.
    """
    if workers is not None:
        refuse_count(workers)
    launcher = launcher_of(describe(description), job_name(job))
    with attached(launcher, _certificate(launcher), workers, say=say) as client:
        yield client


def _certificate(launcher: Launcher) -> Tls:
    tls = launcher.load_tls()
    if tls is None:
        raise ClusterError(f"there is no job {launcher.job!r}: `cloudimg cluster up` starts one")
    return tls


def status(description: Described, *, job: str = "main") -> tuple[Addresses | None, Fleet]:
    """Where the scheduler of a job answers, and its workers as the cloud tells of them.

    Raises
    ------
    ClusterError
        If there is no such job, or its scheduler has ended.
    """
    launcher = launcher_of(describe(description), job_name(job))
    _certificate(launcher)
    return launcher.find_scheduler(), launcher.look()


def down(description: Described, *, job: str = "main") -> None:
    """End a job: its scheduler, its workers, and what was stored for it.

    A job that is not there, or is there in part, is fine.
    """
    launcher_of(describe(description), job_name(job)).stop()
