"""`verify`: check that a copy is complete and correct, or list its problems."""

from __future__ import annotations

from cloudimg.distributed.run import Client
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.state import State
from cloudimg.migration.progress import AdvanceCallback
from cloudimg.migration.verify.against import Against
from cloudimg.migration.verify.result import Verification
from cloudimg.migration.verify.verifying import Verifying


def verify(
    destination: Destination,
    state: State,
    against: Against | None,
    *,
    unreadable: str = "",
    max_bytes: int,
    client: Client | None,
    progress: AdvanceCallback | None,
) -> Verification:
    """Read a copy again and compare it with its journal.

    Parameters
    ----------
    destination : Destination
        The copy.
    state : State
        The migration that wrote it.
    against : Against, optional
        A source to compare the pixels with.
    unreadable : str
        Why the source could not be opened; empty if it was, or need not be.
    max_bytes : int
        Memory for cells in flight.
    client : distributed.Client or callable, optional
        Cluster that checks the cells; None: this process.
    progress : callable, optional
        Called after each cell.

    Raises
    ------
    ArgumentError
        If the copy cannot have been made from the source.
    StorageError
        If the store fails. Problems of the copy are part of the result.
    """
    work = Verifying(destination, state, max_bytes=max_bytes, client=client)
    if unreadable:
        work.add(destination.url, f"the source cannot be opened: {unreadable}")
    return work.run(against, progress)
