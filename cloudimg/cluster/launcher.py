"""What a cloud must offer to run a job: one class for each cloud does these few things."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cloudimg.cluster.tls import Tls

SCHEDULER_PORT = 8786
"""Dask's own; the only port that a client talks to."""
DEATH_TIMEOUT_S = 45
"""Workers end by themselves when they have not reached their scheduler for so long."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the scheduler of a job answers."""

    workers: str
    """As its workers reach it: ``tls://10.0.1.2:8786``."""
    client: str | None
    """As the user's machine reaches it; None where it is closed to the outside."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The workers of a job, as the cloud tells of them."""

    n_running: int
    n_starting: int
    """Asked for and not running yet."""
    problems: tuple[str, ...] = ()
    """Why some could not be started, or ended; each said once."""


class Launcher(Protocol):
    """Starts and ends the machines of one job; nothing of it outlives `stop`."""

    @property
    def job(self) -> str:
        """Name of the job: letters, digits and hyphens."""

    def store_tls(self, tls: Tls) -> None:
        """Put the certificate where the machines of this job find it."""

    def load_tls(self) -> Tls | None:
        """The certificate of this job; None if there is no such job."""

    def start_scheduler(self) -> None:
        """Ask for the scheduler, once."""

    def find_scheduler(self) -> Addresses | None:
        """Where it answers; None while it is starting.

        Raises
        ------
        ClusterError
            If it has ended, with the reason that the cloud gives.
        """

    def keep_workers(self, count: int) -> Fleet:
        """See to it that so many run or are starting: the first ones, and those that were lost."""

    def look(self) -> Fleet:
        """The workers, as they are."""

    def stop(self) -> None:
        """End all of the job and delete what it stored; whatever is not there any more is fine."""
