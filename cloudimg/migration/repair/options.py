"""How a copy is repaired, and what of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cloudimg.distributed.run import Client
from cloudimg.migration.deletion import Deletion
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.state import State
from cloudimg.migration.progress import AdvanceCallback
from cloudimg.migration.repair.mend_cell import OriginalSource
from cloudimg.migration.run.write_input import WriteInput


@dataclass(frozen=True, slots=True)
class Original:
    """The source of a copy, opened again."""

    write_input: WriteInput
    source: OriginalSource
    is_unchanged: bool = True
    """Whether all files are those that were copied, as far as that is known."""
    has_other_sizes: bool = False
    """Whether a file is known to have another size, so that its headers may be those of another."""
    is_recorded: bool = True
    """Whether it has the files at the places that were copied, or is the array."""


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
    new_documents: bool = False
    """Whether to write the metadata anew, instead of mending the copy."""
    replace_edits: bool = False
    """Whether what others edited in the metadata is replaced then."""


OpenOriginal = Callable[[State], Original]
"""Opens the source that a plan names. Raises a CloudimgError if it is gone, or not to be opened."""


def may_delete(destination: Destination, keys: Sequence[str], options: RepairOptions) -> bool:
    """Whether a repair may delete objects that do not belong to a copy; asks if it has to."""
    if options.remove_orphans or options.confirm is None:
        return options.remove_orphans
    names = set(keys)
    listed = (each for each in destination.list() if each.key in names)
    n_bytes = sum(each.size_bytes or 0 for each in listed)
    return options.confirm(Deletion(destination.url, len(keys), n_bytes))
