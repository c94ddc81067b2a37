"""List the files of a pattern as a grid: one listing, narrowed to the literal stem."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from cloudimg.discovery.grid import FileGrid, GridBuilder, listed_grid
from cloudimg.errors import ArgumentError, NoMatchError, NotFoundError
from cloudimg.pattern import Pattern, compile_pattern, natural_key
from cloudimg.settings import settings
from cloudimg.storage import Entry, Location, Store, engine, map_ahead, split_url, unsigned

FILE_AXIS = "file"
"""Name of the axis along which the files of a glob or a list are stacked."""
_SHOWN = 5
_COMPARED_NAMES = 2000
"""Names of a folder that are compared with a pattern that matches nothing."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that match a pattern, and objects that only share its stem."""

    grid: FileGrid
    n_unmatched: int
    """Number of objects that begin with the stem of the pattern but do not match it."""
    unmatched: tuple[str, ...]
    """URLs of the first few of them."""


def locate(urls: str | Sequence[str]) -> tuple[Location, list[str]]:
    """Return the common location of some URLs, and each URL as pattern text.

    Raises
    ------
    ArgumentError
        If there are no URLs, or they are in several stores or buckets.
    """
    texts = [urls] if isinstance(urls, str) else list(urls)
    if not texts:
        raise ArgumentError("cannot open an empty list of URLs")
    split = [split_url(text) for text in texts]
    location = split[0][0]
    for other, key in split[1:]:
        if other != location:
            raise ArgumentError(
                f"URLs of one image must be in one store and bucket: {location.display('')}"
                f" and {other.display(key)}"
            )
    return location, [location.pattern_text(key) for _, key in split]


def find_files(
    store: Store,
    texts: Sequence[str],
    *,
    is_list: bool,
    progress: Callable[[str, int], object] | None = None,
) -> Listing:
    """Find the files of a pattern, a glob, a URL or a list of URLs.

    The files of a URL and of a list are not looked up.

    Raises
    ------
    PatternError, NoMatchError, GridError, StorageError
    """
    if is_list:
        files = [Entry(text, None, None) for text in texts]
        return Listing(listed_grid(files, axis=FILE_AXIS, name_of=unsigned), 0, ())
    pattern = compile_pattern(texts[0])
    if pattern.is_literal:
        # The stem, not the text, because escapes are resolved in the stem.
        file = Entry(pattern.stem, None, None)
        return Listing(listed_grid([file], axis=None, name_of=unsigned), 0, ())
    folder, depth = _folder_of(store.location, pattern)
    batches = _batches(store, pattern, folder, depth, progress)
    if not pattern.fields:
        return _find_glob(store, pattern, folder, batches)
    builder = GridBuilder(pattern)
    for batch in batches:
        builder.add(batch)
    if not len(builder):
        raise _no_match(store, pattern, folder, builder.n_unmatched, builder.unmatched)
    unmatched = tuple(_display(store, text) for text in builder.unmatched)
    return Listing(builder.build(), builder.n_unmatched, unmatched)


def look_up(store: Store, texts: Sequence[str]) -> Listing:
    """Look up each file of a list, some of which may be missing.

    Raises
    ------
    NoMatchError
        If none of them exists.
    """
    location = store.location
    found = list(look_up_keys(store, map(location.key_of, texts)))
    present = [entry is not None for entry in found]
    if not any(present):
        raise NoMatchError(
            f"none of the {len(texts)} files exists: {_display(store, texts[0])}, ..."
        )
    files = [
        _as_text(location, entry) if entry is not None else Entry(text, None, None)
        for entry, text in zip(found, texts, strict=True)
    ]
    grid = listed_grid(files, axis=FILE_AXIS, present=present, name_of=unsigned)
    return Listing(grid, 0, ())


def look_up_keys(store: Store, keys: Iterable[str]) -> Iterator[Entry | None]:
    """Yield the entry of each key, None where there is no object; many requests at a time."""

    def info(key: str) -> Entry | None:
        try:
            return store.info(key)
        except NotFoundError:
            return None

    n_ahead = 4 * settings().max_requests
    return map_ahead(lambda key: engine().fetch(partial(info, key)), keys, n_ahead=n_ahead)


def _find_glob(
    store: Store, pattern: Pattern, folder: str, batches: Iterable[list[Entry]]
) -> Listing:
    files: list[Entry] = []
    unmatched: list[str] = []
    n_unmatched = 0
    for batch in batches:
        for file in batch:
            if pattern.split(file.key) is not None:
                files.append(file)
            else:
                n_unmatched += 1
                if len(unmatched) < _SHOWN:
                    unmatched.append(file.key)
    if not files:
        raise _no_match(store, pattern, folder, n_unmatched, unmatched)
    files.sort(key=lambda file: natural_key(file.key))
    urls = tuple(_display(store, text) for text in unmatched)
    return Listing(listed_grid(files, axis=FILE_AXIS), n_unmatched, urls)


def _folder_of(location: Location, pattern: Pattern) -> tuple[str, int | None]:
    """Return the folder to list and the depth to list it to; None for any depth."""
    stem_key = location.key_of(pattern.stem) if "://" in pattern.stem else pattern.stem
    if location.root and not stem_key.startswith(location.root + "/"):
        raise ArgumentError(
            f"the bucket or host of a pattern must be written out, but it is {location.root!r}"
        )
    folder = stem_key.rpartition("/")[0]
    rest = location.key_of(pattern.text)[len(folder) + 1 :]
    crosses = "**" in rest or any(
        "/" in f.regex and "[^/]" not in f.regex for f in pattern.occurrences
    )
    return folder, None if crosses else rest.count("/") + 1


def _batches(
    store: Store,
    pattern: Pattern,
    folder: str,
    depth: int | None,
    progress: Callable[[str, int], object] | None,
) -> Iterator[list[Entry]]:
    """Yield the listing in batches, with keys as pattern texts."""
    location = store.location
    stem = location.key_of(pattern.stem)
    if pattern.split(pattern.stem) is not None:
        # A listing that starts after the stem omits an object of exactly that name.
        with contextlib.suppress(NotFoundError):
            yield [_as_text(location, store.info(stem))]
    n_listed = 0
    for batch in store.list_objects(folder, stem, depth):
        n_listed += len(batch)
        if progress is not None:
            progress("names listed", n_listed)
        yield [_as_text(location, entry) for entry in batch if entry.key != stem]


def _as_text(location: Location, entry: Entry) -> Entry:
    return Entry(location.pattern_text(entry.key), entry.size_bytes, entry.etag)


def _display(store: Store, text: str) -> str:
    return store.location.display(store.location.key_of(text))


def _no_match(
    store: Store, pattern: Pattern, folder: str, n_unmatched: int, unmatched: Sequence[str]
) -> NoMatchError:
    url, stem = _display(store, pattern.text), _display(store, pattern.stem)
    if n_unmatched:
        shown = ", ".join(_display(store, text) for text in unmatched)
        return NoMatchError(
            f"nothing matches {url}: {n_unmatched} objects begin with {stem} but do not match"
            f" the rest of the pattern: {shown}",
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
