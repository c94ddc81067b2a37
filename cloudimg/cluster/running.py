"""A job from its first machine to its last: starts, keeps its workers, ends without remains."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
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
_TOP_UP_S = 15.0
_NAME = "abcdefghijklmnopqrstuvwxyz0123456789-"
_LONGEST_NAME = 30

_lock = threading.Lock()
_ours: dict[str, Launcher] = {}
"""Jobs that end with this process."""


def silent(text: str) -> None:
    """Tell nobody."""


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
    launcher = launcher_of(describe(description), f"job-{secrets.token_hex(4)}")
    with _lock:
        _ours[launcher.job] = launcher
    try:
        tls = begin(launcher, workers, say=say)
        with attached(launcher, tls, workers, say=say) as client:
            yield client
    finally:
        _end(launcher, say)


def begin(launcher: Launcher, workers: int, *, say: Say) -> Tls:
    """Start a scheduler and ask for its workers; its certificate."""
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ArgumentError(f"workers={workers!r} must be a number from 1 on")
    tls = Tls.make()
    launcher.store_tls(tls)
    say(f"{launcher.job}: starting the scheduler")
    launcher.start_scheduler()
    wait_for_scheduler(launcher)
    say(f"{launcher.job}: starting {workers} workers")
    launcher.keep_workers(workers)
    return tls


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
        yield client
    finally:
        over.set()
        if workers is not None:
            keeper.join()
        client.close()


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
    last: Fleet | None = None
    while not over.wait(_TOP_UP_S):
        try:
            fleet = launcher.keep_workers(workers)
        except ClusterError as exc:
            # The work goes on with what is there; if that is nothing, it fails by itself.
            say(f"{launcher.job}: {exc}")
            continue
        if last is None or fleet.problems != last.problems:
            for problem in fleet.problems:
                say(f"{launcher.job}: {problem}")
        last = fleet


def _end(launcher: Launcher, say: Say) -> None:
    with _lock:
        mine = _ours.pop(launcher.job, None)
    if mine is not None:
        say(f"{launcher.job}: ending")
        launcher.stop()


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
    launcher = launcher_of(describe(description), job_name(job))
    if launcher.load_tls() is not None:
        raise ClusterError(
            f"there is a job {job!r} already: end it with `cloudimg cluster down`, or name another"
        )
    with _lock:
        _ours[job] = launcher
    try:
        begin(launcher, workers, say=say)
    except BaseException:
        _end(launcher, say)
        raise
    with _lock:
        _ours.pop(job, None)


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
