"""`RunOptions`: how a migration runs, apart from what it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cloudimg.distributed.run import Client
from cloudimg.migration.deletion import Deletion
from cloudimg.migration.plan.part import Part
from cloudimg.migration.progress import AdvanceCallback


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The arguments of a migration that do not change what is written."""

    max_bytes: int
    """Memory for cells in bytes; on a cluster, of each worker."""
    overwrite: bool
    """Whether to delete other contents of the destination."""
    yes: bool
    """Whether to do so although a process may still be deleting there, and without asking."""
    confirm: Callable[[Deletion], bool] | None
    """Asked before other contents are deleted."""
    resume: bool
    """Whether to continue an unfinished migration."""
    client: Client | None
    """Client of the Dask cluster that does the cells; None for this process."""
    progress: AdvanceCallback | None
    """Called after every cell."""
    part: Part | None = None
    """The part of the cells that this process does without a lease; None for a whole migration."""
    keeps_finished: bool = False
    """With `overwrite`: whether a finished copy of the same image stays."""
