"""From a pattern to the grid of the files that exist: one listing, narrowed by the literal stem."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from cloudimg.discovery.grid import FileGrid, GridBuilder, listed_grid
from cloudimg.errors import ArgumentError, NoMatchError, NotFoundError
from cloudimg.pattern import Pattern, compile_pattern, natural_key
from cloudimg.storage import Entry, Location, Store, engine, split_url, unsigned

FILE_AXIS = "file"
"""Axis of files that a plain glob or a list stacks."""
_SHOWN = 5
_LOOKED_THROUGH = 2000


@dataclass(frozen=True, slots=True)
class Listing:
    """What a pattern found."""

    grid: FileGrid
    n_unmatched: int
    """Objects that begin like the pattern but do not match it."""
    unmatched: tuple[str, ...]
    """URLs of a few of them."""


def locate(urls: str | Sequence[str]) -> tuple[Location, list[str]]:
    """The common location of some URLs and their texts without fsspec's filters."""
    texts = [urls] if isinstance(urls, str) else list(urls)
    if not texts:
        raise ArgumentError("an empty list of URLs makes no image")
    split = [split_url(text) for text in texts]
    location = split[0][0]
    for other, key in split[1:]:
        if other != location:
            raise ArgumentError(
                f"URLs of one image must be of one store and bucket: {location.display('')}"
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
    """The files of a pattern, a glob, a URL or a list of URLs.

    Raises
    ------
    PatternError, NoMatchError, GridError, StorageError
    """
    if is_list:
        files = [Entry(text, None, None) for text in texts]
        return Listing(listed_grid(files, axis=FILE_AXIS, name_of=unsigned), 0, ())
    pattern = compile_pattern(texts[0])
    if pattern.is_literal:
        # The stem, not the text: escapes have been resolved in it.
        file = Entry(pattern.stem, None, None)
        return Listing(listed_grid([file], axis=None, name_of=unsigned), 0, ())
    folder, depth = _folder_of(store.location, pattern)
    if not pattern.fields:
        return _find_glob(store, pattern, folder, _batches(store, pattern, folder, depth, progress))
    builder = GridBuilder(pattern)
    for batch in _batches(store, pattern, folder, depth, progress):
        builder.add(batch)
    if not len(builder):
        raise _no_match(store, pattern, folder, builder.n_unmatched, builder.unmatched)
    shown = tuple(_display(store, text) for text in builder.unmatched)
    return Listing(builder.build(), builder.n_unmatched, shown)


def look_up(store: Store, texts: Sequence[str]) -> Listing:
    """The files of a list, of which some may be missing: each is asked for, many at a time.

    Raises
    ------
    NoMatchError
        If none of them exists.
    """

    def info(text: str) -> Entry | None:
        try:
            return _as_text(store.location, store.info(store.location.key_of(text)))
        except NotFoundError:
            return None

    found = [engine().fetch(partial(info, text)) for text in texts]
    entries = [future.result() for future in found]
    present = [entry is not None for entry in entries]
    if not any(present):
        raise NoMatchError(
            f"none of the {len(texts)} files exists: {_display(store, texts[0])}, ..."
        )
    files = [entry or Entry(text, None, None) for entry, text in zip(entries, texts, strict=True)]
    grid = listed_grid(files, axis=FILE_AXIS, present=present, name_of=unsigned)
    return Listing(grid, 0, ())


def _find_glob(
    store: Store, pattern: Pattern, folder: str, batches: Iterator[list[Entry]]
) -> Listing:
    files: list[Entry] = []
    others: list[str] = []
    n_others = 0
    for batch in batches:
        for file in batch:
            if pattern.split(file.key) is not None:
                files.append(file)
            else:
                n_others += 1
                if len(others) < _SHOWN:
                    others.append(file.key)
    if not files:
        raise _no_match(store, pattern, folder, n_others, others)
    files.sort(key=lambda file: natural_key(file.key))
    shown = tuple(_display(store, text) for text in others)
    return Listing(listed_grid(files, axis=FILE_AXIS), n_others, shown)


def _folder_of(location: Location, pattern: Pattern) -> tuple[str, int | None]:
    """Folder to list and how many levels of folders below it the pattern reaches."""
    stem_key = location.key_of(pattern.stem) if "://" in pattern.stem else pattern.stem
    if location.root and not stem_key.startswith(location.root + "/"):
        raise ArgumentError(
            f"the bucket or host of a pattern must be written out, not {location.root!r}"
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
    """The listing, with keys as the texts that patterns match."""
    location = store.location
    stem = location.key_of(pattern.stem)
    if pattern.split(pattern.stem) is not None:
        # Listings that begin after the stem leave out an object of exactly that name.
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
    store: Store, pattern: Pattern, folder: str, n_others: int, others: Sequence[str]
) -> NoMatchError:
    wanted = _display(store, pattern.text)
    if n_others:
        shown = ", ".join(_display(store, text) for text in others)
        return NoMatchError(
            f"nothing matches {wanted}: {n_others} objects begin with"
            f" {_display(store, pattern.stem)} but go on otherwise: {shown}",
            url=wanted,
        )
    near = _nearest(store, pattern, folder)
    hint = f"; the nearest names there: {', '.join(near)}" if near else "; the folder is empty"
    return NoMatchError(
        f"nothing matches {wanted}: no object begins with {_display(store, pattern.stem)}{hint}",
        url=wanted,
    )


def _nearest(store: Store, pattern: Pattern, folder: str) -> list[str]:
    """Names in the folder, or above it, that resemble what the pattern begins with."""
    location = store.location
    wanted = location.key_of(pattern.stem)
    while True:
        names: list[str] = []
        for batch in store.list_objects(folder, folder + "/" if folder else "", 1):
            names.extend(entry.key for entry in batch)
            if len(names) >= _LOOKED_THROUGH:
                break
        near = difflib.get_close_matches(wanted, names, _SHOWN, 0) if names else []
        parent = folder.rpartition("/")[0]
        if near or not parent or len(parent) < len(location.root):
            return [location.display(name) for name in near]
        folder = parent
