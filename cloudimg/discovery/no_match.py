"""The error about a pattern that matches nothing, with the nearest names."""

from __future__ import annotations

import difflib

from cloudimg.discovery.unmatched import Unmatched
from cloudimg.errors import NoMatchError
from cloudimg.pattern import Pattern
from cloudimg.storage import Store

_SHOWN = 5
"""Number of similar names in messages."""
_COMPARED_NAMES = 2000
"""Names of a folder that are compared with a pattern that matches nothing."""


def no_match(store: Store, pattern: Pattern, folder: str, beside: Unmatched) -> NoMatchError:
    """Return the error about a pattern that matches nothing.

    Parameters
    ----------
    store : Store
    pattern : Pattern
    folder : str
        Key of the folder that holds the last part of the stem.
    beside : Unmatched
        What was listed.

    Raises
    ------
    StorageError
    """
    url, stem = store.location.display_text(pattern.text), beside.where
    if beside.n_objects:
        # In a whole folder, the first few names need not be like the pattern.
        near = [] if beside.is_narrow else _nearest_names(store, pattern, folder)
        shown = ", ".join(near or beside.examples)
        return NoMatchError(
            f"nothing matches {url}: {beside.n_objects} objects begin with {stem} but do not match"
            f" the rest of the pattern: {shown}{beside.hint}",
            url=url,
        )
    near = _nearest_names(store, pattern, folder)
    hint = f"; the nearest names there: {', '.join(near)}" if near else "; the folder is empty"
    return NoMatchError(f"nothing matches {url}: no object begins with {stem}{hint}", url=url)


def _nearest_names(store: Store, pattern: Pattern, folder: str) -> list[str]:
    """URLs in the folder, or in the closest parent that is not empty, most like the stem."""
    location = store.location
    stem = location.key_of(pattern.stem)
    while True:
        names = _first_names(store, folder)
        parent = folder.rpartition("/")[0]
        if names or not parent or len(parent) < len(location.root):
            near = difflib.get_close_matches(stem, names, _SHOWN, 0)
            return [location.display(name) for name in near]
        folder = parent


def _first_names(store: Store, folder: str) -> list[str]:
    """The first names directly in a folder."""
    names: list[str] = []
    for batch in store.list_objects(folder, folder + "/" if folder else "", 1):
        names.extend(entry.key for entry in batch)
        if len(names) >= _COMPARED_NAMES:
            break
    return names
