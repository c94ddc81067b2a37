"""The files that were found for an image, and what else was listed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.index_names import IndexNames
from cloudimg.discovery.stored_headers import StoredHeader
from cloudimg.discovery.table_changes import TableChanges
from cloudimg.discovery.unmatched import Unmatched
from cloudimg.errors.notes import N_EXAMPLES, Note
from cloudimg.storage import Location
from cloudimg.tiff import Offsets

FILE_AXIS = "file"
"""Name of the axis along which the files of a glob or a list are stacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRows:
    """What the table of the files of an image says beside where they are."""

    facts: FactColumns | None
    """Facts of the files by position in C order of the grid; None if it has none."""
    pages: npt.NDArray[np.int64] | None
    """Number of the page by index in the grid, if each row is a page of a file."""
    pages_are: Offsets = "page"
    """How pages are numbered."""
    headers: Mapping[str, StoredHeader] = field(default_factory=dict)
    """Headers of some files, by key."""
    has_segments: bool = False
    """Whether it has all headers, by which pixels are then read, too."""

    def narrowed(self, grid: FileGrid, kept: Mapping[int, npt.NDArray[np.int64]]) -> TableRows:
        """The same of the files at some indices along some axes of the grid."""
        if not kept:
            return self
        places, facts, pages = grid.places(kept), self.facts, self.pages
        for axis, indices in kept.items():
            pages = None if pages is None else np.take(pages, indices, axis)
        return replace(self, facts=None if facts is None else facts.taken(places), pages=pages)


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
    index_names: IndexNames | None = None
    """Index files that were listed; None where nothing was listed."""
    table: TableRows | None = None
    """What the table that lists the files says of them; None without a table."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Tabled:
    """Files that a table lists, once it has been read: they are opened like those of URLs."""

    listing: Listing
    location: Location
    """The store of the files."""
    url: str | None
    """URL of the table; None of one in memory."""
    axes: Mapping[str, str]
    """What the user's ``axes=`` says of axes of the files, and not of columns."""
    name: str = ""
    """Name of the image that all files form; empty if nothing says it."""

    @property
    def first(self) -> str:
        """URL of the first file."""
        grid, location = self.listing.grid, self.location
        return location.url(location.key_of(grid.keys(grid.first())))

    @property
    def recorded(self) -> str:
        """The URL that stands for the table where it is recorded."""
        return self.first if self.url is None else self.url


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
