"""Interface of the launchers, one class per cloud, that start and stop the machines of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cloudimg.cluster.tls import JobTls, Tls

SCHEDULER_PORT = 8786
"""Dask's default, and the only port that clients connect to."""
DEATH_TIMEOUT_S = 45
"""Seconds without a connection to the scheduler after which workers exit."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses of the scheduler of a job."""

    workers: str
    """Address for its workers, such as ``tls://10.0.1.2:8786``."""
    client: str | None
    """Address for the user's machine; None if the scheduler is closed to the outside."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The workers of a job, as the cloud reports them."""

    n_running: int
    n_starting: int
    """Number of workers that are requested and not running yet."""
    problems: tuple[str, ...] = ()
    """Why some workers could not be started, or have ended; each reason once."""


class Launcher(Protocol):
    """Starts and stops the machines of one job; `stop` removes all of them."""

    @property
    def job(self) -> str:
        """Name of the job: lowercase letters, digits and hyphens."""

    def store_tls(self, tls: JobTls) -> None:
        """Store the certificates: where only users read the client's, and only machines theirs.

        Raises
        ------
        ClusterError
            If there is already a job of this name.
        """

    def load_tls(self) -> Tls | None:
        """Certificate of the client of this job; None if there is no such job."""

    def start_scheduler(self) -> None:
        """Request the scheduler; called once."""

    def find_scheduler(self) -> Addresses | None:
        """Addresses of the scheduler; None while it is starting.

        Raises
        ------
        ClusterError
            If it has ended, with the reason that the cloud gives.
        """

    def keep_workers(self, count: int) -> Fleet:
        """Request workers until `count` of them run or are starting; lost ones are replaced."""

    def look(self) -> Fleet:
        """Current state of the workers."""

    def stop(self) -> None:
        """Stop all machines of the job and delete what it stored; does nothing if it is gone."""
