"""The files that a cell reads, whether it is copied or verified."""

from __future__ import annotations

import numpy as np

from cloudimg.discovery.file_versions import file_version
from cloudimg.errors.file_report import BadFile
from cloudimg.errors.notes import Note
from cloudimg.migration.journal.files_read import FilesRead
from cloudimg.migration.plan.plan import Cell
from cloudimg.migration.run.filled_in_cell import FilledInCell
from cloudimg.migration.run.inputs import Input
from cloudimg.migration.run.noted_files import NotedFiles
from cloudimg.reading.header_cache import OpenFile


class CellFiles:
    """Versions of the files that a cell reads, remarks about them, and those that are bad.

    Parameters
    ----------
    source : Input, optional
        What the cells of stage 0 read.
    cell : Cell
    """

    def __init__(self, source: Input | None, cell: Cell) -> None:
        self.versions: dict[int, int] = {}
        """Versions by position in C order of the grid, as commit records have them."""
        self.noted = NotedFiles(source, cell)
        self.filled = FilledInCell(self.noted)

    def on_open(self, index: tuple[int, ...], opened: OpenFile) -> None:
        """Add a file that was opened. Called from many threads."""
        if self.noted.input is None:
            return
        self._add_version(index, file_version(opened.etag, opened.size_bytes))
        self.noted.on_open(index, opened)

    def on_bad(self, index: tuple[int, ...], file: BadFile, version: int) -> None:
        """Add a file that is missing or bad, with its version if it could not be opened."""
        if version:
            self._add_version(index, version)
        self.filled.on_bad(index, file)

    def _add_version(self, index: tuple[int, ...], version: int) -> None:
        self.versions[self.position(index)] = version

    def position(self, index: tuple[int, ...]) -> int:
        """Position in C order of the grid of the file at an index."""
        assert self.noted.input is not None
        shape = self.noted.input.source.files.grid_shape
        return int(np.ravel_multi_index(index, shape)) if index else 0

    def key(self, place: int) -> str:
        """Key of the file at a position in C order of the grid, without secrets."""
        assert self.noted.input is not None
        source = self.noted.input.source
        shape = source.files.grid_shape
        index = tuple(int(i) for i in np.unravel_index(place, shape)) if shape else ()
        location = source.reader.store.location
        return location.display(location.key_of(source.files.keys(index)))

    def read(self) -> FilesRead | None:
        """The files that were read; None if there are none."""
        return FilesRead.of(self.versions) if self.versions else None

    def refuse(self) -> None:
        """Refuse files that differ from the first one, or from which no image was chosen.

        Raises
        ------
        MismatchError, ArgumentError
        """
        self.noted.refuse(self.filled.bad_indices)

    def notes(self) -> tuple[Note, ...]:
        """One note per kind, about the files whose pixels are used."""
        return self.noted.notes(self.filled.bad_indices)
