"""The files of a list of URLs, taken as they are or looked up."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np

from cloudimg.discovery.build_grid import listed_grid
from cloudimg.discovery.exclusion import Exclusion
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.listing import FILE_AXIS, Listing
from cloudimg.discovery.patterned_list import patterned_grid
from cloudimg.errors import NoMatchError, NotFoundError
from cloudimg.settings import settings
from cloudimg.storage import Entry, Store, engine, map_ahead, split_url, unsigned


def take_list(
    store: Store,
    texts: Sequence[str],
    exclude: str | Sequence[str] | None = None,
    pattern: str | None = None,
) -> Listing:
    """Return the files of a list without looking them up.

    Parameters
    ----------
    store : Store
    texts : sequence of str
        URLs as pattern texts.
    exclude : str or sequence of str, optional
        Globs of files to leave out.
    pattern : str, optional
        Gives axes to the files.

    Raises
    ------
    PatternError, NoMatchError, GridError
    """
    exclusion = Exclusion(exclude)
    files = [Entry(text, None, None) for text in _kept(store, texts, exclusion)]
    note = exclusion.note(store.location.display_text)
    return Listing(grid_of_list(store, files, pattern), None, note, is_complete=False)


def look_up_list(
    store: Store,
    texts: Sequence[str],
    exclude: str | Sequence[str] | None = None,
    pattern: str | None = None,
) -> Listing:
    """Look up each file of a list, some of which may be missing; see `take_list`.

    Raises
    ------
    NoMatchError
        If none of them exists.
    """
    exclusion = Exclusion(exclude)
    texts = _kept(store, texts, exclusion)
    location = store.location
    found = list(look_up_keys(store, map(location.key_of, texts)))
    present = [entry is not None for entry in found]
    if not any(present):
        raise NoMatchError(
            f"none of the {len(texts)} files exists: {location.display_text(texts[0])}, ..."
        )
    files = [
        Entry(text, None, None) if entry is None else entry._replace(key=text)
        for entry, text in zip(found, texts, strict=True)
    ]
    note = exclusion.note(location.display_text)
    return Listing(grid_of_list(store, files, pattern, present), None, note)


def _kept(store: Store, texts: Sequence[str], exclusion: Exclusion) -> list[str]:
    """The files of a list that the user did not leave out."""
    kept = [text for text in texts if not exclusion.excludes(text)]
    if not kept:
        raise exclusion.error(store.location.display_text)
    return kept


def look_up_keys(store: Store, keys: Iterable[str]) -> Iterator[Entry | None]:
    """Yield the entry of each key, None where there is no object; many requests at a time."""

    def info(key: str) -> Entry | None:
        try:
            return store.info(key)
        except NotFoundError:
            return None

    n_ahead = 4 * settings().max_requests
    return map_ahead(lambda key: engine().fetch(partial(info, key)), keys, n_ahead=n_ahead)


def grid_of_list(
    store: Store,
    files: Sequence[Entry],
    pattern: str | None,
    present: Sequence[bool] | None = None,
) -> FileGrid:
    """The files of a list, along the axes that a pattern names, or else along one axis."""
    if pattern is None:
        return listed_grid(files, axis=FILE_AXIS, present=present, name_of=unsigned)
    if "://" in pattern or pattern.startswith("/"):
        _, key = split_url(pattern)
        pattern = store.location.pattern_text(key)
    else:
        pattern = f"**/{pattern}"
    grid = patterned_grid(files, pattern, store.location.display_text, _without_query)
    if present is None or all(present):
        return grid
    return grid.without([file.key for file in itertools.compress(files, np.logical_not(present))])


def _without_query(text: str) -> str:
    is_web = text.startswith(("http://", "https://"))
    return text.partition("?")[0] if is_web else text
