"""`SourceRows`: the files of a source by row of its table, and which of them changed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.earlier_listing import shown_name
from cloudimg.discovery.file_versions import CurrentVersions, file_version, versions_listed
from cloudimg.discovery.table import FileTable
from cloudimg.discovery.table_changes import changes_between, matching_rows
from cloudimg.errors import GridError
from cloudimg.errors.notes import Note
from cloudimg.migration.journal.records import CommitRecord
from cloudimg.opening.list_files import list_sources
from cloudimg.opening.opened import Opened
from cloudimg.opening.options import OpenArguments, URLs
from cloudimg.storage import unsigned

Rows = npt.NDArray[np.int64]
Versions = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class SourceNow:
    """The files of a source as they are now."""

    versions: CurrentVersions
    newer: Note | None = None
    """The note about files that came later; None if there are none."""
    replaced: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    """Rows of the files that are listed in another version than when the source was opened."""


class SourceRows:
    """The files of a source, by their row in the table of files.

    Parameters
    ----------
    opened : Opened
    urls : URLs
    arguments : OpenArguments
        What the source was opened with.
    """

    def __init__(self, opened: Opened, urls: URLs, arguments: OpenArguments) -> None:
        self._grid = opened.grid
        self._store = opened.sources[0].reader.store
        self._is_listed = isinstance(urls, str) and opened.sources[0].files.pages is None
        self._urls = urls
        # Later listings are of all files.
        purpose = replace(arguments.purpose, files=None)
        self._arguments = replace(arguments, purpose=purpose)
        self._places = opened.grid.positions

    def __len__(self) -> int:
        return len(self._places)

    def key(self, row: int) -> str:
        """Key of a file."""
        return self._store.location.key_of(self._name(row))

    def urls(self, rows: Rows) -> list[str]:
        """URLs of files, each once, without secrets."""
        keys = dict.fromkeys(map(self.key, rows.tolist()))
        return [self._store.location.display(key) for key in keys]

    def _name(self, row: int) -> str:
        place = np.unravel_index(self._places[row], self._grid.shape) if self._grid.fields else ()
        return self._grid.keys(tuple(int(i) for i in place))

    def as_opened(self) -> CurrentVersions:
        """The versions that were listed when the source was opened; others are asked for."""
        return CurrentVersions(self._store, self.key, self._listed())

    def now(self) -> SourceNow:
        """List the files again.

        Raises
        ------
        PatternError, ArgumentError, StorageError
        """
        found = np.zeros(len(self), np.uint64)
        if not (self._is_listed and self._grid.fields):
            return SourceNow(CurrentVersions(self._store, self.key, found))
        try:
            grid = list_sources(self._urls, self._arguments)
        except GridError:
            # Newer files do not fit, or none is left: each file is asked for its version.
            return SourceNow(CurrentVersions(self._store, self.key, found))
        if grid.has_versions and grid.digest == self._grid.digest:
            return SourceNow(self.as_opened())
        before, listed = (FileTable.of(each, shown_name) for each in (self._grid, grid))
        at_before, at_now = matching_rows(before, listed)
        found[at_before] = versions_listed(listed.etags[at_now], listed.sizes[at_now])
        changes = changes_between(before, listed)
        newer = changes.newer_files() if changes.n_added else None
        opened = self._listed()
        replaced = np.flatnonzero((opened != found) & (opened != 0) & (found != 0))
        return SourceNow(CurrentVersions(self._store, self.key, found), newer, replaced)

    def _listed(self) -> Versions:
        grid, places = self._grid, self._places
        if grid.etags is None:
            return np.zeros(len(places), np.uint64)
        return versions_listed(grid.etags[places], grid.sizes[places])

    def read_by(self, record: CommitRecord) -> tuple[Rows, Versions]:
        """The files that a cell has read, and in which version; 0 where that is not known."""
        if record.files is None:
            return self._read_by_older(record)
        places, versions = record.files.arrays()
        rows = np.searchsorted(self._places, places)
        rows[rows == len(self)] = 0
        is_known = self._places[rows] == places
        return rows[is_known], versions[is_known]

    def _read_by_older(self, record: CommitRecord) -> tuple[Rows, Versions]:
        """The same, of a record that has ETags by key, and no sizes."""
        found = {}
        for key, etag in (record.sources or {}).items():
            for row in self._rows_by_key.get(_key(unsigned(f"https://{key}")), ()):
                size = int(self._grid.sizes[self._places[row]])
                found[row] = file_version(etag, size) if etag is not None and size >= 0 else 0
        rows = np.array(list(found), np.int64)
        return rows, np.array(list(found.values()), np.uint64)

    @cached_property
    def _rows_by_key(self) -> dict[str, list[int]]:
        rows = defaultdict(list)
        for row in range(len(self)):
            rows[_key(shown_name(self._name(row)))].append(row)
        return rows


class SeenVersions:
    """The versions in which the cells of a migration have read the files of its source."""

    def __init__(self, source: SourceRows) -> None:
        self._source = source
        self.versions = np.zeros(len(source), np.uint64)
        """By row, the version that the first cell read; 0 if none has read the file."""
        self.differ = np.zeros(len(source), bool)
        """By row, whether cells have read different versions."""

    def add(self, record: CommitRecord) -> None:
        """Add a finished cell."""
        if record.stage == 0:
            rows, versions = self._source.read_by(record)
            known = self.versions[rows]
            self.differ[rows] |= (known != versions) & (known != 0)
            self.versions[rows] = np.where(known == 0, versions, known)


def _key(name: str) -> str:
    """The key of a file, as older commit records have it."""
    return name.partition("://")[2] or name
