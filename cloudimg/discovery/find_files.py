"""Find the files of a pattern by one listing: of its literal stem, or of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial

from cloudimg.discovery.archived import Archived
from cloudimg.discovery.build_grid import GridBuilder, listed_grid
from cloudimg.discovery.exclusion import Exclusion
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.index_names import IndexNames
from cloudimg.discovery.listing import FILE_AXIS, Listing, on_dangling
from cloudimg.discovery.literal import as_pattern
from cloudimg.discovery.no_match import no_match
from cloudimg.discovery.scope import Below, Scope, list_scope, outline_of
from cloudimg.discovery.unmatched import UnmatchedCounter
from cloudimg.discovery.url_list import take_list
from cloudimg.errors import ArgumentError, NoMatchError
from cloudimg.pattern import Pattern, compile_pattern, escape, natural_key
from cloudimg.storage import (
    DANGLING,
    Entries,
    Entry,
    Location,
    Store,
    UnorderedListingError,
    common_location,
    split_url,
    unsigned,
)


def locate(urls: str | Sequence[str]) -> tuple[Location, list[str]]:
    """Return the common location of some URLs, and each URL as pattern text.

    Raises
    ------
    ArgumentError
        If there are no URLs, or they are in several stores.
    """
    texts = [urls] if isinstance(urls, str) else list(urls)
    if not texts:
        raise ArgumentError("cannot open an empty list of URLs")
    split = [split_url(text) for text in texts]
    location = split[0][0]
    for other, key in split[1:]:
        location = common_location(location, other, key)
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
        Globs of files to leave out; see `cloudimg.open`.
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
    if is_list:
        return take_list(store, texts, exclude, pattern)
    if pattern is not None:
        raise ArgumentError("pattern= is for a list of URLs: write the fields in the URL itself")
    compiled = as_pattern(store, texts[0])
    finder = partial(_find_by_pattern, store, compiled, exclude, whole_folder, progress)
    try:
        return finder(None if checks_end else [], is_ordered=True)
    except UnorderedListingError:
        return finder(None if checks_end else [], is_ordered=False)


def _find_by_pattern(
    store: Store,
    pattern: Pattern,
    exclude: str | Sequence[str] | None,
    whole_folder: bool,
    progress: Callable[[str, int], object] | None,
    end_checks: list[Future[None]] | None,
    *,
    is_ordered: bool,
) -> Listing:
    """Find the files of a pattern by one listing."""
    display, exclusion = store.location.display_text, Exclusion(exclude)
    if pattern.is_literal:
        return _literal(pattern, exclusion, display)
    scope = Scope.of(store, pattern, whole_folder=whole_folder)
    outline = outline_of(scope, pattern, store.location) if is_ordered else None
    below = Below(scope)
    unmatched = UnmatchedCounter(pattern, display)
    files: list[Entry] = []
    dangling: list[str] = []
    archived = Archived(display)
    builder = GridBuilder(pattern, unmatched)
    for batch in list_scope(store, pattern, below, progress, end_checks, outline):
        if pattern.text in batch.keys:
            return _literal(compile_pattern(escape(pattern.text)), exclusion, display)
        if exclusion:
            batch = batch.kept(not exclusion.excludes(key) for key in batch.keys)
        archived.add(pattern, batch)
        dangling += _dangling(pattern, batch)
        if pattern.fields:
            builder.add_columns(batch.keys, batch.sizes, batch.etags)
        else:
            files += _matching(pattern, batch, unmatched)
    beside = unmatched.build(
        display(scope.begins_with),
        is_narrow=not scope.is_whole_folder,
        below=str(below),
        leaves_out=outline is not None and bool(outline.left_out),
    )
    if not files and not len(builder):
        if exclusion.n_excluded and not beside.n_objects:
            raise exclusion.error(display)
        raise no_match(store, pattern, scope.folder, beside)
    if pattern.fields:
        grid = builder.build()
    else:
        files.sort(key=lambda file: natural_key(file.key))
        grid = listed_grid(files, axis=FILE_AXIS)
    return Listing(
        _without_dangling(grid, dangling, display),
        beside,
        exclusion.note(display),
        tuple(end_checks or ()),
        on_dangling(map(display, dangling)),
        further=archived.notes(),
        index_names=IndexNames(scope.begins_with, frozenset(unmatched.index_files), pattern),
    )


def _dangling(pattern: Pattern, batch: Entries) -> Iterator[str]:
    """Yield names that match a pattern, but are symbolic links that lead to nothing."""
    for file in batch if DANGLING in batch.etags else ():
        if file.etag == DANGLING and pattern.split(file.key) is not None:
            yield file.key


def _without_dangling(
    grid: FileGrid, dangling: Sequence[str], display: Callable[[str], str]
) -> FileGrid:
    """The grid in which symbolic links that lead to nothing are missing files.

    Raises
    ------
    NoMatchError
        If there are no other files.
    """
    if not dangling:
        return grid
    if len(dangling) == grid.n_files:
        raise NoMatchError(
            f"all {grid.n_files} files that match are symbolic links that lead to nothing, such as"
            f" {display(dangling[0])}"
        )
    return grid.without(dangling)


def _literal(pattern: Pattern, exclusion: Exclusion, display: Callable[[str], str]) -> Listing:
    # The stem, not the text, because escapes are resolved in the stem.
    file = Entry(pattern.stem, None, None)
    if exclusion.excludes(file.key):
        raise exclusion.error(display)
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
