"""The public functions of `cloudimg.cluster`."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from cloudimg.cluster.description import DescriptionSource, launcher_of, read_description
from cloudimg.cluster.launcher import Addresses, Fleet, Launcher
from cloudimg.cluster.running import (
    MessageCallback,
    begin,
    connected,
    end,
    ending_on_failure,
    outlive_process,
)
from cloudimg.cluster.tls import JobTls, Tls
from cloudimg.errors import ArgumentError, ClusterError

if TYPE_CHECKING:
    import distributed

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_LONGEST_NAME = 30


def _silent(text: str) -> None:
    """Discard a message."""


def check(
    description: DescriptionSource, *, workers: int | None = None, job: str | None = None
) -> Mapping[str, Any]:
    """Check arguments for a cluster without a request to the cloud.

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
        _check_workers(workers)
    if job is not None:
        _check_name(job)
    return read_description(description)


def start(
    description: DescriptionSource, workers: int, *, say: MessageCallback = _silent
) -> AbstractContextManager[distributed.Client]:
    """Start a cluster for the duration of a ``with`` block.

    Parameters
    ----------
    description : mapping, str or path
        The output ``cloudimg_cluster`` of one of cloudimg's Terraform modules, a file that
        contains it, or the folder of the module.
    workers : int
        Number of workers. Lost ones are replaced.
    say : callable, optional
        Called with messages about progress and problems.

    Returns
    -------
    context manager of distributed.Client
        Starts the cluster when it is entered, and stops it when it is left. The client is
        connected by mutual TLS.

    Raises
    ------
    ArgumentError
    ClusterError
        On entry, if the cloud refuses a request or the scheduler does not start. Nothing is left
        running.
    """
    _check_workers(workers)
    return _started(read_description(description), workers, say)


@contextmanager
def _started(
    description: Mapping[str, Any], workers: int, say: MessageCallback
) -> Iterator[distributed.Client]:
    launcher = launcher_of(description, f"job-{secrets.token_hex(4)}")
    tls = JobTls.make()
    with ending_on_failure(launcher, say):
        launcher.store_tls(tls)
        begin(launcher, workers, say)
        with connected(launcher, tls.client, workers, say) as client:
            yield client
        end(launcher, say)


def up(
    description: DescriptionSource,
    workers: int,
    *,
    job: str = "main",
    say: MessageCallback = _silent,
) -> None:
    """Start a cluster that runs until `down`, or until it was idle for a while.

    Parameters
    ----------
    description : mapping, str or path
        See `start`.
    workers : int
        Number of workers.
    job : str
        Name of the cluster, for `connect`, `status` and `down`.
    say : callable, optional
        Called with messages about progress and problems.

    Raises
    ------
    ArgumentError
    ClusterError
        If there is already a cluster of this name, or the cloud refuses a request.
    """
    _check_workers(workers)
    launcher = launcher_of(read_description(description), _check_name(job))
    if launcher.load_tls() is not None:
        raise ClusterError(
            f"there is already a job {job!r}: stop it with `cloudimg cluster down`, or choose"
            " another name"
        )
    # If two processes come this far at once, one of them fails here, and stops nothing.
    launcher.store_tls(JobTls.make())
    with ending_on_failure(launcher, say):
        begin(launcher, workers, say)
    outlive_process(launcher)


def connect(
    description: DescriptionSource,
    *,
    job: str = "main",
    workers: int | None = None,
    say: MessageCallback = _silent,
) -> AbstractContextManager[distributed.Client]:
    """Connect to a cluster that `up` has started, for the duration of a ``with`` block.

    Parameters
    ----------
    description : mapping, str or path
        See `start`.
    job : str
        Name of the cluster.
    workers : int, optional
        Keep this number of workers running during the block: lost ones are replaced.
    say : callable, optional
        Called with problems of starting workers.

    Returns
    -------
    context manager of distributed.Client
        Connects when it is entered; the cluster runs on when it is left.

    Raises
    ------
    ArgumentError
    ClusterError
        On entry, if there is no such cluster, or its scheduler does not answer.
    """
    if workers is not None:
        _check_workers(workers)
    return _connection(read_description(description), _check_name(job), workers, say)


@contextmanager
def _connection(
    description: Mapping[str, Any], job: str, workers: int | None, say: MessageCallback
) -> Iterator[distributed.Client]:
    launcher = launcher_of(description, job)
    with connected(launcher, _certificate(launcher), workers, say) as client:
        yield client


def status(description: DescriptionSource, *, job: str = "main") -> tuple[Addresses | None, Fleet]:
    """Ask the cloud for the state of a cluster.

    Parameters
    ----------
    description : mapping, str or path
        See `start`.
    job : str
        Name of the cluster.

    Returns
    -------
    addresses : Addresses or None
        Addresses of the scheduler; None while it is starting.
    fleet : Fleet
        Its workers: how many run and are starting, and their problems.

    Raises
    ------
    ArgumentError
    ClusterError
        If there is no such cluster, or its scheduler has ended.
    """
    launcher = launcher_of(read_description(description), _check_name(job))
    _certificate(launcher)
    return launcher.find_scheduler(), launcher.look()


def down(description: DescriptionSource, *, job: str = "main") -> None:
    """Stop a cluster, and delete what was stored for it; does nothing if there is none.

    Parameters
    ----------
    description : mapping, str or path
        See `start`.
    job : str
        Name of the cluster.

    Raises
    ------
    ArgumentError
    ClusterError
        If some of it may still run.
    """
    launcher_of(read_description(description), _check_name(job)).stop()


def _certificate(launcher: Launcher) -> Tls:
    tls = launcher.load_tls()
    if tls is None:
        raise ClusterError(
            f"there is no job {launcher.job!r}: start one with `cloudimg cluster up`"
        )
    return tls


def _check_workers(workers: int) -> None:
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ArgumentError(f"workers={workers!r} must be a positive integer")


def _check_name(name: str) -> str:
    """Return the name of a job if every cloud accepts it."""
    has_length = 0 < len(name) <= _LONGEST_NAME
    if not has_length or set(name) - _NAME_CHARACTERS or name[0] == "-" or name[-1] == "-":
        raise ArgumentError(
            f"job={name!r} must be 1 to {_LONGEST_NAME} lowercase letters, digits and hyphens,"
            " without a hyphen at either end"
        )
    return name
