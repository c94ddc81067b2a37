"""How a copy is repaired, and what of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloudimg.distributed.run import Client
from cloudimg.migration.journal.state import State
from cloudimg.migration.progress import AdvanceCallback
from cloudimg.migration.repair.mend_cell import OriginalSource
from cloudimg.migration.run.write_input import WriteInput


@dataclass(frozen=True, slots=True)
class Original:
    """The source of a copy, opened again."""

    write_input: WriteInput
    source: OriginalSource


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairOptions:
    """How a copy is repaired."""

    dry_run: bool
    """Whether to find problems only."""
    remove_orphans: bool
    """Whether to delete what does not belong to the copy, without asking."""
    confirm: Callable[[Any], bool] | None
    """Asked whether that may be deleted."""
    max_bytes: int
    """Memory for cells in flight."""
    client: Client | None
    """Cluster that does the cells; None: this process."""
    progress: AdvanceCallback | None
    """Called after each cell."""


OpenOriginal = Callable[[State], Original]
"""Opens the source that a plan names. Raises a CloudimgError if it is gone, or not to be opened."""
