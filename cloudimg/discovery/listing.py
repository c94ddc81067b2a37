"""The files that were found for an image, and what else was listed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.table_changes import TableChanges
from cloudimg.discovery.unmatched import Unmatched
from cloudimg.errors.notes import N_EXAMPLES, Note

FILE_AXIS = "file"
"""Name of the axis along which the files of a glob or a list are stacked."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of an image, and what else was listed."""

    grid: FileGrid
    unmatched: Unmatched | None
    """What was listed but does not match the pattern; None where nothing was listed."""
    excluded: Note | None = None
    """Listed files, or files of a list, that the user left out."""
    end_checks: Sequence[Future[None]] = ()
    """Requests under way that check the end of the listing."""
    dangling: Note | None = None
    """Symbolic links among the files that lead to nothing and count as missing."""
    changes: TableChanges | None = None
    """Where `grid` has the files of an earlier listing, how those that were listed differ."""
    further: tuple[Note, ...] = ()
    """What else was noticed."""
    is_complete: bool = True
    """Whether the files exist as far as is known; those of a list need not be looked up."""

    def check_end(self) -> None:
        """Wait for the check that no object is missing at the end of the listing.

        Raises
        ------
        IncompleteListingError
            If one is: list again, with the end checked at once.
        StorageError
        """
        for check in self.end_checks:
            check.result()


def on_dangling(urls: Iterable[str]) -> Note | None:
    """The note about symbolic links that lead to nothing; None if there are none."""
    links = list(urls)
    if not links:
        return None
    return Note(
        "this symbolic link leads to nothing and counts as a missing file",
        kind="dangling-links",
        n_files=len(links),
        urls=links[:N_EXAMPLES],
    )
