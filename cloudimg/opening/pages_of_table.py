"""Open pages of files that a table lists one by one, as those of a multi-file dataset."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cloudimg.discovery.grid import FileGrid, Keys
from cloudimg.discovery.listing import TableRows
from cloudimg.discovery.names import NameColumn
from cloudimg.opening.bad_headers import report_on_files
from cloudimg.opening.dataset_description import DatasetDescription, DatasetNotes
from cloudimg.opening.multifile import OpenDataset, inspect_planes
from cloudimg.opening.options import OpenArguments
from cloudimg.reading.reader import Reader
from cloudimg.tiff.multifile import PlaneTable


def open_pages(
    reader: Reader, grid: FileGrid, table: TableRows, arguments: OpenArguments
) -> OpenDataset:
    """Open the pages of a table.

    Parameters
    ----------
    reader : Reader
    grid : FileGrid
        Each index has the name of the file with the page.
    table : TableRows
        With pages.
    arguments : OpenArguments

    Raises
    ------
    StorageError, FormatError, MismatchError, ArgumentError
    """
    assert table.pages is not None
    numbers: dict[str, int] = {}
    file_of = np.full(grid.shape, -1, np.int32)
    for index in grid.files():
        file_of[index] = numbers.setdefault(grid.keys(index), len(numbers))
    names = NameColumn()
    for name in numbers:
        names.append(name)
    grid = replace(grid, keys=Keys(None, (), names, file_of))
    planes = PlaneTable(
        dims=grid.fields,
        shape=grid.shape,
        plane=(),
        plane_shape=None,
        files=tuple(numbers),
        file_of=file_of,
        page_of=table.pages,
        offsets_are=table.pages_are,
        coords={},
        name="",
        dtype=None,
    )
    notes = DatasetNotes()
    members = reader.using(ignore_siblings=True, member=table.pages_are)
    description = DatasetDescription(planes, "")
    inspection = inspect_planes(members, grid, description, planes, arguments, notes)
    location = reader.store.location

    def url_of(position: int) -> str:
        index = tuple(int(i) for i in np.unravel_index(position, grid.shape))
        return location.display_text(grid.keys(index))

    return OpenDataset(
        grid,
        inspection.with_table(table, url_of),
        table.pages,
        len(numbers),
        None,
        report_on_files(grid, is_complete=False),
    )
