"""The files that were found for an image, and what else was listed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.unmatched import Unmatched
from cloudimg.errors.notes import Note

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
