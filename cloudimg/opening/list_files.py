"""List the files of an image, as the arguments of `cloudimg.open` say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from cloudimg.discovery.earlier_listing import listed_as_before
from cloudimg.discovery.find_files import find_files, locate
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.listing import Listing, Tabled
from cloudimg.discovery.probe import probe_files
from cloudimg.discovery.url_list import look_up_list
from cloudimg.errors import ArgumentError, CloudimgError
from cloudimg.opening.options import OpenArguments, OpeningPurpose, URLs, as_texts
from cloudimg.opening.selection import Selection
from cloudimg.storage import Store, engine, redact


def list_sources(urls: URLs, arguments: OpenArguments) -> FileGrid:
    """List the files from which `open_sources` would make an image now.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError
    """
    if isinstance(urls, Tabled):
        return urls.listing.grid
    location, patterns = locate(as_texts(urls))
    store = Store(location, arguments.storage_options)
    with redacted():
        return list_files(store, patterns, is_several(urls), arguments, checks_end=True).grid


def is_several(urls: URLs) -> bool:
    """Whether they are several."""
    return isinstance(urls, Sequence) and not isinstance(urls, str)


def list_files(
    store: Store,
    patterns: Sequence[str],
    is_list: bool,
    arguments: OpenArguments,
    *,
    checks_end: bool,
) -> Listing:
    """List the files of an image, or those of an earlier listing.

    Parameters
    ----------
    store : Store
    patterns : sequence of str
    is_list : bool
        Whether the user passed a list.
    arguments : OpenArguments
    checks_end : bool
        Whether to check at once that the listing is complete; see `checked_end`.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError
    """

    grow = arguments.purpose.grow
    if grow is not None and is_list:
        raise not_of_pattern(grow)
    if grow is not None and arguments.select:
        raise ArgumentError(
            f"grow={grow!r} and select= exclude each other: a part of an image does not grow."
            " Leave out files by a pattern that does not match them, or by exclude="
        )

    def find() -> Listing:
        listing = _find_all(store, patterns, is_list, arguments, checks_end)
        if isinstance(arguments.select, Selection):
            listing = narrow_listing(listing, arguments.select)
        return listing if grow is None else _led_by(listing, arguments.purpose, grow)

    if arguments.purpose.files is None:
        return find()
    return listed_as_before(
        store,
        patterns,
        arguments.purpose.files,
        find,
        is_list=is_list,
        exclude=arguments.exclude,
        pattern=arguments.pattern,
        lists_again=arguments.purpose.lists_again,
        led_by=grow,
    )


def _find_all(
    store: Store,
    patterns: Sequence[str],
    is_list: bool,
    arguments: OpenArguments,
    checks_end: bool,
) -> Listing:
    if arguments.listing == "probe" and not arguments.purpose.whole_folder:
        # In a fetching thread, so that Ctrl-C interrupts this one.
        probed = engine().fetch(partial(_probe, store, patterns, is_list, arguments)).result()
        if probed is not None:
            return probed
    if is_list and arguments.missing == "fill":
        return look_up_list(store, patterns, arguments.exclude, arguments.pattern)
    find = partial(
        find_files,
        store,
        patterns,
        is_list=is_list,
        whole_folder=arguments.purpose.whole_folder,
        exclude=arguments.exclude,
        pattern=arguments.pattern,
        progress=arguments.progress,
        checks_end=checks_end,
    )
    # In a fetching thread, so that Ctrl-C interrupts this one.
    return engine().fetch(find).result()


def _probe(
    store: Store, patterns: Sequence[str], is_list: bool, arguments: OpenArguments
) -> Listing | None:
    """The files of a pattern, found without a listing; None where that is not possible."""
    if is_list:
        raise ArgumentError(
            'listing="probe" is for patterns: the files of a list are not listed anyway'
        )
    if arguments.exclude is not None:
        raise ArgumentError(
            'listing="probe" does not see the names that exclude= would leave out: leave out one of'
            " them"
        )
    return probe_files(store, patterns[0])


def narrow_listing(listing: Listing, selection: Selection) -> Listing:
    """The listing of the files that are selected."""
    grid, table = listing.grid, listing.table
    if table is not None:
        table = table.narrowed(grid, selection.kept(grid))
    return replace(listing, grid=selection.narrowed(grid), table=table)


def _led_by(listing: Listing, purpose: OpeningPurpose, grow: str) -> Listing:
    """The listing with the field along which a copy grows as the first axis of its grid."""
    fields = listing.grid.fields
    if grow not in fields:
        named = f"has the fields {', '.join(fields)}" if fields else "has no fields"
        raise ArgumentError(
            f"grow={grow!r} is not a field of the pattern, which {named}: a copy grows by further"
            " files, along a field of their names"
        )
    grid = listing.grid.led_by(grow)
    if purpose.grow_labels is not None:
        grid = grid.of_labels(purpose.grow_labels)
    return replace(listing, grid=grid)


def not_of_pattern(grow: str) -> ArgumentError:
    """The error about a source that is no URL pattern, of which no copy can grow."""
    return ArgumentError(
        f"grow={grow!r} is for a URL pattern, which matches files that come later, too: pass one"
        " instead of a list or a table of files"
    )


@contextmanager
def redacted() -> Iterator[None]:
    """Remove secrets from messages, which may contain names from listings and from users."""
    try:
        yield
    except CloudimgError as exc:
        exc.message = redact(exc.message)
        exc.args = (exc.message,)
        raise


@contextmanager
def checked_end(listing: Listing) -> Iterator[None]:
    """Check the end of a listing while its names are used, before a result or an error is shown."""
    failure = None
    try:
        yield
    except CloudimgError as exc:
        failure = exc
    listing.check_end()
    if failure is not None:
        raise failure
