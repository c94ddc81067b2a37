"""The files that a cell reads, whether it is copied or verified."""

from __future__ import annotations

from cloudimg.errors.file_report import BadFile
from cloudimg.errors.notes import Note
from cloudimg.migration.plan.plan import Cell
from cloudimg.migration.run.filled_in_cell import FilledInCell
from cloudimg.migration.run.inputs import Input, redacted_source_key
from cloudimg.migration.run.noted_files import NotedFiles
from cloudimg.reading.header_cache import OpenFile


class CellFiles:
    """ETags of the files that a cell reads, remarks about them, and those that are bad.

    Parameters
    ----------
    source : Input, optional
        What the cells of stage 0 read.
    cell : Cell
    """

    def __init__(self, source: Input | None, cell: Cell) -> None:
        self.etags: dict[str, str | None] = {}
        """ETags by key, as commit records have them."""
        self.noted = NotedFiles(source, cell)
        self.filled = FilledInCell(self.noted)

    def on_open(self, index: tuple[int, ...], opened: OpenFile) -> None:
        """Add a file that was opened. Called from many threads."""
        if self.noted.input is None:
            return
        self.etags[redacted_source_key(self.noted.input.source, index)] = opened.etag
        self.noted.on_open(index, opened)

    def on_bad(self, index: tuple[int, ...], file: BadFile) -> None:
        """Add a file that is missing or bad."""
        self.filled.on_bad(index, file)

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
