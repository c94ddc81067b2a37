"""The files of an earlier listing, from its table, in the versions that they have now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from cloudimg.discovery.build_grid import GridBuilder, listed_grid
from cloudimg.discovery.exclusion import Exclusion
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.listing import FILE_AXIS, Listing
from cloudimg.discovery.literal import as_pattern
from cloudimg.discovery.table import FileTable
from cloudimg.discovery.table_changes import UNCHANGED, changes_between, has_same_rows, updated
from cloudimg.discovery.unmatched import UnmatchedCounter
from cloudimg.discovery.url_list import grid_of_list
from cloudimg.errors import GridError, NoMatchError
from cloudimg.errors.notes import Note
from cloudimg.storage import Entry, Store, redact, unsigned


def shown_name(name: str) -> str:
    """The URL of a file without credentials or signature, as tables of files have it."""
    return redact(unsigned(name))


def listed_as_before(
    store: Store,
    texts: Sequence[str],
    table: FileTable,
    find: Callable[[], Listing],
    *,
    is_list: bool,
    exclude: str | Sequence[str] | None = None,
    pattern: str | None = None,
    lists_again: bool = True,
    led_by: str | None = None,
) -> Listing:
    """List files again, but keep to those of an earlier listing.

    Newer files are left out, and those that are gone still have their place. If the table is not
    of these texts, or its names are not those of the files, the listing is returned as it is.

    Parameters
    ----------
    store, texts, is_list, exclude, pattern
        See `find_files`.
    table : FileTable
        Files that `find_files` found for these texts.
    find : callable
        Lists the files again.
    lists_again : bool
        If not, the files are those of the table in the versions that they had, whatever is there.
    led_by : str, optional
        The axis that comes first in the table, and in the grids that `find` returns; see
        `FileGrid.led_by`.

    Raises
    ------
    PatternError, NoMatchError, GridError, StorageError
    """
    made = (
        _of_list(store, texts, table, exclude, pattern)
        if is_list
        else _of_pattern(store, texts[0], table)
    )
    if made is not None and led_by in made.fields:
        made = made.led_by(led_by)
    if made is None or not _is_of(table, made):
        return find()
    if not lists_again:
        grid = _with_columns(made, table).taken({})  # with the digest of these sizes and ETags
        return Listing(grid, None, changes=UNCHANGED)
    try:
        now = find()
    except NoMatchError:
        raise
    except GridError as exc:
        # Newer files do not fit: each file is asked for its version.
        text = f"the files that are there now are not the same image: {exc.message}"
        note = Note(text, kind="other-files-now", n_files=1, urls=())
        return Listing(_without_columns(made), None, changes=UNCHANGED, further=(note,))
    listed = FileTable.of(now.grid, shown_name)
    changes = changes_between(table, listed)
    if has_same_rows(table, listed):
        return replace(now, changes=changes)
    grid = _with_columns(made, updated(table, listed))
    return replace(now, grid=grid, changes=changes)


def _of_list(
    store: Store,
    texts: Sequence[str],
    table: FileTable,
    exclude: str | Sequence[str] | None,
    pattern: str | None,
) -> FileGrid | None:
    exclusion = Exclusion(exclude)
    kept = [text for text in texts if not exclusion.excludes(text)]
    known = set(table.keys.to_pylist())
    present = [shown_name(text) in known for text in kept]
    if table.pages is not None or not any(present):
        return None
    return grid_of_list(store, [Entry(text, None, None) for text in kept], pattern, present)


def _of_pattern(store: Store, text: str, table: FileTable) -> FileGrid | None:
    if not table.has_own_names or table.pages is not None:
        return None
    pattern = as_pattern(store, text)
    names = table.keys.to_pylist()
    if pattern.is_literal or any(pattern.split(name) is None for name in names):
        return None
    files = [Entry(name, None, None) for name in names]
    if not pattern.fields:
        return listed_grid(files, axis=FILE_AXIS)
    builder = GridBuilder(pattern, UnmatchedCounter(pattern, store.location.display_text))
    builder.add(files)
    return builder.build()


def _is_of(table: FileTable, grid: FileGrid) -> bool:
    """Whether the files of a grid have the places that the table gives them."""
    if (grid.fields, grid.shape) != (table.axes, table.shape):
        return False
    return np.array_equal(grid.positions, table.rows)


def _with_columns(grid: FileGrid, table: FileTable) -> FileGrid:
    """The grid with the sizes and ETags of a table of its files."""
    sizes, etags = np.full(grid.sizes.size, -1, np.int64), np.zeros(grid.sizes.size, np.uint64)
    sizes[table.rows], etags[table.rows] = table.sizes, table.etags
    return replace(
        grid,
        sizes=sizes,
        etags=etags if etags.any() else None,
        has_versions=bool(table.etags.all()),
    )


def _without_columns(grid: FileGrid) -> FileGrid:
    return replace(grid, sizes=np.full(grid.sizes.size, -1), etags=None, has_versions=False)
