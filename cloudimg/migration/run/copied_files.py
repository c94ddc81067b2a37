"""The files that a cell copies, and what their headers say that the copy keeps."""

from __future__ import annotations

from typing import Any

from cloudimg.migration.metadata.image_place import ImagePlace
from cloudimg.migration.metadata.originals import original_row, part_bytes
from cloudimg.migration.metadata.source_xml import NOT_KEPT, SourceXml, is_kept, merged
from cloudimg.migration.plan.plan import Cell
from cloudimg.migration.run.cell_files import CellFiles
from cloudimg.migration.run.inputs import Input
from cloudimg.reading.header_cache import OpenFile


class CopiedFiles(CellFiles):
    """The files that a cell copies, with rows for the table of originals."""

    def __init__(self, source: Input | None, cell: Cell) -> None:
        super().__init__(source, cell)
        self._rows: dict[tuple[int, ...], dict[str, Any]] = {}
        self._ome_xml: dict[tuple[int, ...], SourceXml] = {}

    def on_open(self, index: tuple[int, ...], opened: OpenFile) -> None:
        """Add a file that was opened. Called from many threads."""
        super().on_open(index, opened)
        # A file that several cells read gets its row from the cell with its first pixel.
        if self.noted.input is None or not self.noted.has_first_pixel(index):
            return
        row = self._rows[index] = original_row(self.noted.input.source, index, opened)
        text = row["ome_xml"]
        if text is None or not self.noted.is_first_page(index):
            return
        position = self.position(index)
        if is_kept(position, len(text)):
            self._ome_xml[index] = SourceXml(text, ((position, row["key"]),))
        else:
            self.noted.add(index, opened.url, NOT_KEPT)

    def ome_xml(self) -> tuple[SourceXml, ...]:
        """See `CommitRecord.ome_xml`."""
        bad = self.filled.bad_indices
        return merged(each for index, each in self._ome_xml.items() if index not in bad)

    def places(self) -> tuple[ImagePlace, ...]:
        """See `CommitRecord.places`."""
        found = []
        for index in sorted(self._rows.keys() - self.filled.bad_indices):
            assert self.noted.input is not None
            image = self.noted.input.image_of_first(index)
            place = None if image is None else ImagePlace.of(image, self._rows[index])
            found += [] if place is None else [place]
        return tuple(found)

    def part_of_originals(self) -> bytes | None:
        """This cell's part of the table of originals, if it has one."""
        # The pixels of a bad file are not in the copy.
        rows = [
            self._rows[index]
            for index in sorted(self._rows)
            if index not in self.filled.bad_indices
        ]
        return part_bytes(rows) if rows else None
