"""List the files of a pattern as a grid: one listing, of its literal stem or of a folder."""

from __future__ import annotations

import contextlib
import difflib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import numpy as np

from cloudimg.discovery.build_grid import GridBuilder, listed_grid
from cloudimg.discovery.exclusion import Exclusion
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.literal import as_pattern
from cloudimg.discovery.patterned_list import patterned_grid
from cloudimg.discovery.table import FileTable
from cloudimg.discovery.unmatched import Unmatched, UnmatchedCounter
from cloudimg.errors import ArgumentError, NoMatchError, NotFoundError
from cloudimg.errors.notes import Note
from cloudimg.pattern import Pattern, compile_pattern, escape, natural_key
from cloudimg.settings import settings
from cloudimg.storage import Entry, Location, Store, engine, map_ahead, split_url, unsigned

FILE_AXIS = "file"
"""Name of the axis along which the files of a glob or a list are stacked."""
_SHOWN = 5
"""Number of similar names in messages."""
_COMPARED_NAMES = 2000
"""Names of a folder that are compared with a pattern that matches nothing."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of an image, and what else was listed."""

    grid: FileGrid
    unmatched: Unmatched | None
    """What was listed but does not match the pattern; None where nothing was listed."""
    excluded: Note | None = None
    """Listed files, or files of a list, that the user left out."""
    end_checks: Sequence[Future[None]] = ()
    """Requests under way that check the end of the listing."""

    def check_end(self) -> None:
        """Wait for the check that no object is missing at the end of the listing.

        Raises
        ------
        IncompleteListingError
            If one is: list again, with the end checked at once.
        StorageError
        """
        for check in self.end_checks:
            check.result()


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
    whole_folder: bool = False,
    exclude: str | Sequence[str] | None = None,
    pattern: str | None = None,
    progress: Callable[[str, int], object] | None = None,
    checks_end: bool = True,
) -> Listing:
    """Find the files of a pattern, a glob, a URL or a list of URLs.

    The files of a URL and of a list are not looked up.

    Parameters
    ----------
    store : Store
    texts : sequence of str
        URLs as pattern texts; a single one may be a pattern.
    is_list : bool
        The texts are a list of URLs, without patterns.
    whole_folder : bool
        List the whole folder that holds the last part of the stem, so that everything that does
        not match the pattern is counted; otherwise only names that begin with the stem.
    exclude : str or sequence of str, optional
        Globs of files to leave out; see `cloudimg.open`. A single URL is never left out.
    pattern : str, optional
        Gives axes to the files of a list.
    progress : callable, optional
        Called with the kind of item counted and the count so far.
    checks_end : bool
        Check the end of the listing before returning; otherwise see `Listing.check_end`.

    Raises
    ------
    PatternError, NoMatchError, GridError, StorageError
    """
    exclusion = Exclusion(exclude)
    if is_list:
        files = [Entry(text, None, None) for text in _kept(store, texts, exclusion)]
        return Listing(
            _grid_of_list(store, files, pattern), None, exclusion.note(partial(_display, store))
        )
    if pattern is not None:
        raise ArgumentError("pattern= is for a list of URLs: write the fields in the URL itself")
    compiled = as_pattern(store, texts[0])
    end_checks: list[Future[None]] | None = None if checks_end else []
    return _find_by_pattern(store, compiled, exclusion, whole_folder, progress, end_checks)


def _grid_of_list(
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
    grid = patterned_grid(files, pattern, partial(_display, store), _without_query)
    if present is None or all(present):
        return grid
    return grid.without([file.key for file in itertools.compress(files, np.logical_not(present))])


def _without_query(text: str) -> str:
    is_web = text.startswith(("http://", "https://"))
    return text.partition("?")[0] if is_web else text


def _find_by_pattern(
    store: Store,
    pattern: Pattern,
    exclusion: Exclusion,
    whole_folder: bool,
    progress: Callable[[str, int], object] | None,
    end_checks: list[Future[None]] | None,
) -> Listing:
    """Find the files of a pattern by one listing."""
    if pattern.is_literal:
        return _literal(pattern)
    scope = _Scope.of(store, pattern, whole_folder=whole_folder)
    unmatched = UnmatchedCounter(pattern, partial(_display, store))
    files: list[Entry] = []
    builder = GridBuilder(pattern, unmatched)
    for batch in _batches(store, pattern, scope, progress, end_checks):
        if any(file.key == pattern.text for file in batch):
            return _literal(compile_pattern(escape(pattern.text)))
        if exclusion:
            batch = [file for file in batch if not exclusion.excludes(file.key)]
        if pattern.fields:
            builder.add(batch)
        else:
            files += _matching(pattern, batch, unmatched)
    beside = unmatched.build(
        _display(store, scope.begins_with),
        is_narrow=not scope.is_whole_folder,
        below=scope.below,
    )
    if not files and not len(builder):
        if exclusion.n_excluded and not beside.n_objects:
            raise _all_excluded(store, exclusion)
        raise _no_match(store, pattern, scope.folder, beside)
    excluded, checks = exclusion.note(partial(_display, store)), tuple(end_checks or ())
    if pattern.fields:
        return Listing(builder.build(), beside, excluded, checks)
    files.sort(key=lambda file: natural_key(file.key))
    return Listing(listed_grid(files, axis=FILE_AXIS), beside, excluded, checks)


def _kept(store: Store, texts: Sequence[str], exclusion: Exclusion) -> list[str]:
    """The files of a list that the user did not leave out."""
    kept = [text for text in texts if not exclusion.excludes(text)]
    if not kept:
        raise _all_excluded(store, exclusion)
    return kept


def _all_excluded(store: Store, exclusion: Exclusion) -> NoMatchError:
    return NoMatchError(
        f"exclude= leaves out all {exclusion.n_excluded} files, such as"
        f" {_display(store, exclusion.examples[0])}"
    )


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
        return Listing(_grid_of_list(store, entries, axes_pattern, present), None)
    pattern = as_pattern(store, texts[0])
    if pattern.is_literal or any(pattern.split(file.key) is None for file in files):
        return None
    if not pattern.fields:
        return Listing(listed_grid(files, axis=FILE_AXIS), None)
    builder = GridBuilder(pattern, UnmatchedCounter(pattern, partial(_display, store)))
    builder.add(files)
    return Listing(builder.build(), None)


def _literal(pattern: Pattern) -> Listing:
    # The stem, not the text, because escapes are resolved in the stem.
    file = Entry(pattern.stem, None, None)
    return Listing(listed_grid([file], axis=None, name_of=unsigned), None)


def _matching(
    pattern: Pattern, batch: Iterable[Entry], unmatched: UnmatchedCounter
) -> Iterator[Entry]:
    """Yield the files of a glob; count the others."""
    for file in batch:
        if pattern.split(file.key) is not None:
            yield file
        else:
            unmatched.add(file.key)


def look_up(
    store: Store,
    texts: Sequence[str],
    exclude: str | Sequence[str] | None = None,
    pattern: str | None = None,
) -> Listing:
    """Look up each file of a list, some of which may be missing.

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
            f"none of the {len(texts)} files exists: {_display(store, texts[0])}, ..."
        )
    files = [
        _as_text(location, entry) if entry is not None else Entry(text, None, None)
        for entry, text in zip(found, texts, strict=True)
    ]
    return Listing(
        _grid_of_list(store, files, pattern, present),
        None,
        exclusion.note(partial(_display, store)),
    )


def look_up_keys(store: Store, keys: Iterable[str]) -> Iterator[Entry | None]:
    """Yield the entry of each key, None where there is no object; many requests at a time."""

    def info(key: str) -> Entry | None:
        try:
            return store.info(key)
        except NotFoundError:
            return None

    n_ahead = 4 * settings().max_requests
    return map_ahead(lambda key: engine().fetch(partial(info, key)), keys, n_ahead=n_ahead)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """What to list for a pattern."""

    folder: str
    """Key of the folder that holds the last part of the stem."""
    depth: int | None
    """Number of levels of folders to list; None for any depth."""
    begins_with: str
    """Pattern text with which all listed names begin."""
    is_whole_folder: bool
    """Whether that is the whole folder."""

    @property
    def below(self) -> str:
        """What is not listed below the folder, as text in parentheses."""
        if self.depth is None:
            return ""
        return " (without subfolders)" if self.depth == 1 else f" (to a depth of {self.depth})"

    def reaches(self, key: str) -> bool:
        """Whether an object lies in the folders to list; listings of S3 and the like have all."""
        return self.depth is None or key.count("/") <= self.folder.count("/") + self.depth

    @classmethod
    def of(cls, store: Store, pattern: Pattern, *, whole_folder: bool) -> _Scope:
        location = store.location
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
        # The names of a bucket begin with its own name.
        beginning = stem_key[: len(folder) + 1] if whole_folder else stem_key
        return cls(
            folder=folder,
            depth=None if crosses else rest.count("/") + 1,
            begins_with=location.pattern_text(beginning),
            is_whole_folder=beginning.endswith("/"),
        )


def _batches(
    store: Store,
    pattern: Pattern,
    scope: _Scope,
    progress: Callable[[str, int], object] | None,
    end_checks: list[Future[None]] | None,
) -> Iterator[list[Entry]]:
    """Yield the listing in batches, with keys as pattern texts."""
    location = store.location
    beginning = location.key_of(scope.begins_with)
    if pattern.split(scope.begins_with) is not None:
        # A listing that starts after a name omits an object of exactly that name.
        with contextlib.suppress(NotFoundError):
            yield [_as_text(location, store.info(beginning))]
    n_listed = 0
    for batch in store.list_objects(scope.folder, beginning, scope.depth, end_checks=end_checks):
        n_listed += len(batch)
        if progress is not None:
            progress("names listed", n_listed)
        yield [
            _as_text(location, entry)
            for entry in batch
            if entry.key != beginning and scope.reaches(entry.key)
        ]


def _as_text(location: Location, entry: Entry) -> Entry:
    return Entry(location.pattern_text(entry.key), entry.size_bytes, entry.etag)


def _display(store: Store, text: str) -> str:
    return store.location.display(store.location.key_of(text))


def _no_match(store: Store, pattern: Pattern, folder: str, beside: Unmatched) -> NoMatchError:
    url, stem = _display(store, pattern.text), beside.where
    if beside.n_objects:
        shown = ", ".join(beside.examples)
        advice = f"; {beside.advice}" if beside.advice else ""
        return NoMatchError(
            f"nothing matches {url}: {beside.n_objects} objects begin with {stem} but do not match"
            f" the rest of the pattern: {shown}{advice}",
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
