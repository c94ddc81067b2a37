"""The error about a pattern that matches nothing, with the nearest names."""

from __future__ import annotations

import difflib

from cloudimg.discovery.unmatched import Unmatched
from cloudimg.errors import NoMatchError, counted
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
        begin, do = ("begins", "does") if beside.n_objects == 1 else ("begin", "do")
        return NoMatchError(
            f"nothing matches {url}: {counted(beside.n_objects, 'object')} {begin} with {stem} but"
            f" {do} not match the rest of the pattern: {shown}{beside.hint}",
            url=url,
        )
    near = _nearest_names(store, pattern, folder)
    hint = f"the nearest names there: {', '.join(near)}" if near else _on_folder(store, folder)
    return NoMatchError(f"nothing matches {url}: no object begins with {stem}; {hint}", url=url)


def _nearest_names(store: Store, pattern: Pattern, folder: str) -> list[str]:
    """URLs in the folder, most like the stem first."""
    location = store.location
    names = _first_names(store, folder, 1)
    near = difflib.get_close_matches(location.key_of(pattern.stem), names, _SHOWN, 0)
    return [location.display(name) for name in near]


def _on_folder(store: Store, folder: str) -> str:
    """What to say of a folder without objects: which folder does not exist, and similar ones."""
    location, missing = store.location, folder
    while True:
        parent, _, name = missing.rpartition("/")
        if not parent or len(parent) < len(location.root):
            return f"the folder {location.display(folder)} is empty, or does not exist"
        below = _first_names(store, parent, None if store.lists_below else 2)
        if below:
            break
        missing = parent
    first = len(parent) + 1
    folders = {key[first:].partition("/")[0] for key in below if "/" in key[first:]}
    near = difflib.get_close_matches(name, sorted(folders), _SHOWN)
    shown = ", ".join(location.display(f"{parent}/{each}/") for each in near)
    hint = f"; there is {shown}" if near else ""
    return f"the folder {location.display(missing)} is empty, or does not exist{hint}"


def _first_names(store: Store, folder: str, depth: int | None) -> list[str]:
    """The first names in a folder."""
    names: list[str] = []
    for batch in store.list_objects(folder, folder + "/" if folder else "", depth):
        names.extend(entry.key for entry in batch)
        if len(names) >= _COMPARED_NAMES:
            break
    return names
