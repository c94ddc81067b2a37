"""The files of an earlier listing, from its table."""

from __future__ import annotations

from collections.abc import Sequence

from cloudimg.discovery.build_grid import GridBuilder, listed_grid
from cloudimg.discovery.listing import FILE_AXIS, Listing
from cloudimg.discovery.literal import as_pattern
from cloudimg.discovery.table import FileTable
from cloudimg.discovery.unmatched import UnmatchedCounter
from cloudimg.discovery.url_list import grid_of_list
from cloudimg.storage import Entry, Store


def listed_before(
    store: Store,
    texts: Sequence[str],
    table: FileTable,
    *,
    is_list: bool,
    axes_pattern: str | None = None,
) -> Listing | None:
    """Return the files of an earlier listing instead of listing them again.

    Parameters
    ----------
    store, texts, is_list
        See `find_files`.
    table : FileTable
        Files that `find_files` found for these texts.
    axes_pattern : str, optional
        Gives axes to the files of a list.

    Returns
    -------
    Listing or None
        None if the table is not of these texts, or its names are not those of the files.
    """
    if not table.has_own_names or table.pages is not None:
        return None
    sizes = (None if size < 0 else size for size in table.sizes.tolist())
    files = [
        Entry(key, size, None) for key, size in zip(table.keys.to_pylist(), sizes, strict=True)
    ]
    if is_list:
        by_key = {file.key: file for file in files}
        present = [text in by_key for text in texts]
        entries = [by_key.get(text, Entry(text, None, None)) for text in texts]
        return Listing(grid_of_list(store, entries, axes_pattern, present), None)
    pattern = as_pattern(store, texts[0])
    if pattern.is_literal or any(pattern.split(file.key) is None for file in files):
        return None
    if not pattern.fields:
        return Listing(listed_grid(files, axis=FILE_AXIS), None)
    builder = GridBuilder(pattern, UnmatchedCounter(pattern, store.location.display_text))
    builder.add(files)
    return Listing(builder.build(), None)
