"""The steps of `cloudimg.open`, in order: list files, read headers, make sources."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from cloudimg.discovery.earlier_listing import listed_as_before
from cloudimg.discovery.find_files import find_files, locate
from cloudimg.discovery.folder import is_folder
from cloudimg.discovery.gaps import notes_of_gaps
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.listing import Listing
from cloudimg.discovery.table_changes import TableChanges
from cloudimg.discovery.unmatched import OF_LISTING, Unmatched
from cloudimg.discovery.url_list import look_up_list
from cloudimg.errors import (
    CloudimgError,
    FolderError,
    MissingFilesError,
    NotFoundError,
    NotTiffError,
    counted,
)
from cloudimg.errors.file_report import FileReport
from cloudimg.errors.notes import Note
from cloudimg.opening.bad_headers import report_on_files
from cloudimg.opening.dataset_description import is_companion
from cloudimg.opening.inspect_headers import HeaderInspection, inspect_headers
from cloudimg.opening.multifile import OpenDataset, open_dataset
from cloudimg.opening.options import OpenArguments, URLs, as_texts
from cloudimg.opening.sources import make_sources
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.headers import HeaderReader, ReadContext
from cloudimg.reading.reader import Reader
from cloudimg.reading.source import Source, missing_files
from cloudimg.storage import IncompleteListingError, Store, engine, redact


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The parts of an image: its files, their headers, and a source for each level."""

    sources: tuple[Source, ...]
    """Sources by level."""
    grid: FileGrid
    inspection: HeaderInspection
    url: str
    """URL without secrets, for messages."""
    n_files: int
    """Number of files that exist."""
    report: FileReport
    """Files that are missing, or were found to be bad."""
    unmatched: Unmatched | None = None
    """What was listed but does not match the pattern; None where nothing was listed."""
    changes: TableChanges | None = None
    """How the files that were listed differ from those of an earlier listing, which are used."""


def open_sources(urls: URLs, arguments: OpenArguments) -> Opened:
    """List the files of an image and read the headers that determine it.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError, FormatError
    """
    texts = as_texts(urls)
    is_list = _is_list(urls)
    location, patterns = locate(texts)
    store = Store(location, arguments.storage_options)
    shown = redact(texts[0]) if not is_list else f"{len(texts)} URLs from {redact(texts[0])}"
    with _redacted():
        listing = _list(store, patterns, is_list, arguments, checks_end=False)
        try:
            with _checked_end(listing):
                return _open(store, listing, shown, arguments)
        except IncompleteListingError:
            listing = _list(store, patterns, is_list, arguments, checks_end=True)
        return _open(store, listing, shown, arguments)


def telling_of_listing(opened: Opened) -> Opened:
    """The image with a note for its copy, if the rest of the files' folder was not listed."""
    beside, notes = opened.unmatched, opened.inspection.notes
    note = None if beside is None else beside.not_looked_at()
    if note is None or any(known.kind in OF_LISTING for known in notes):
        return opened
    return replace(opened, inspection=replace(opened.inspection, notes=(*notes, note)))


def list_sources(urls: URLs, arguments: OpenArguments) -> FileGrid:
    """List the files from which `open_sources` would make an image now.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError
    """
    location, patterns = locate(as_texts(urls))
    store = Store(location, arguments.storage_options)
    with _redacted():
        return _list(store, patterns, _is_list(urls), arguments, checks_end=True).grid


def _is_list(urls: URLs) -> bool:
    return isinstance(urls, Sequence) and not isinstance(urls, str)


@contextmanager
def _redacted() -> Iterator[None]:
    """Remove secrets from messages, which may contain names from listings and from users."""
    try:
        yield
    except CloudimgError as exc:
        exc.message = redact(exc.message)
        exc.args = (exc.message,)
        raise


@contextmanager
def _checked_end(listing: Listing) -> Iterator[None]:
    """Check the end of a listing beside what is done with it, before a result or an error of it."""
    failure = None
    try:
        yield
    except CloudimgError as exc:
        failure = exc
    listing.check_end()
    if failure is not None:
        raise failure


def _open(store: Store, listing: Listing, shown: str, arguments: OpenArguments) -> Opened:
    grid = listing.grid
    beside = listing.unmatched
    if beside is not None and beside.n_images and not arguments.purpose.allow_unmatched:
        raise beside.error(shown)
    lacks_files = arguments.missing == "raise" and grid.n_missing > 0
    # With validate="all" the error should name bad files, too, if there are any.
    if lacks_files and arguments.validate != "all":
        raise _lacking(listing)
    context = ReadContext(
        is_listed=listing.is_complete,
        series=arguments.series_number,
        ignore_siblings=bool(grid.fields),
        palette=arguments.palette,
        epoch=uuid.uuid4().hex,
        decoder=arguments.imread,
    )
    reader = Reader(HeaderReader(store, context))
    first = None
    if not grid.fields:
        single = _open_single(reader, grid, arguments)
        if isinstance(single, OpenDataset):
            return _of_dataset(single, shown, arguments)
        reader, first = single
    n_excluded = listing.excluded.n_files if listing.excluded is not None else 0
    inspection = inspect_headers(reader, grid, first, arguments, n_excluded=n_excluded)
    if lacks_files:
        raise _lacking(listing, inspection)
    further_notes = _notes_of_listing(listing, arguments)
    inspection = replace(inspection, notes=(*inspection.notes, *further_notes))
    return Opened(
        sources=make_sources(
            grid, inspection, arguments.fill_value, fills_bad=arguments.bad == "fill"
        ),
        grid=grid,
        inspection=inspection,
        url=shown,
        n_files=grid.n_files,
        report=report_on_files(
            grid,
            inspection.bad,
            n_excluded=n_excluded,
            is_complete=arguments.validate == "all" or grid.n_files == 1,
        ),
        unmatched=beside,
        changes=listing.changes,
    )


def _lacking(listing: Listing, inspection: HeaderInspection | None = None) -> MissingFilesError:
    """The error about files of the grid that are missing; bad ones are in its report."""
    grid, dangling = listing.grid, listing.dangling
    error = missing_files(grid.n_missing, grid.missing_examples())
    if dangling is not None:
        links = counted(
            dangling.n_files,
            "of them is a symbolic link that leads",
            "of them are symbolic links that lead",
        )
        error.message += f"; {links} to nothing: {', '.join(dangling.urls)}"
        error.args = (error.message,)
    n_excluded = listing.excluded.n_files if listing.excluded is not None else 0
    error.report = report_on_files(
        grid,
        () if inspection is None else inspection.bad,
        n_excluded=n_excluded,
        is_complete=inspection is not None,
    )
    return error


def _of_dataset(dataset: OpenDataset, shown: str, arguments: OpenArguments) -> Opened:
    """What was opened, of a multi-file dataset."""
    return Opened(
        sources=make_sources(
            dataset.grid,
            dataset.inspection,
            arguments.fill_value,
            dataset.pages,
            dataset.identities,
            fills_bad=arguments.bad == "fill",
        ),
        grid=dataset.grid,
        inspection=dataset.inspection,
        url=shown,
        n_files=dataset.n_files,
        report=dataset.report,
    )


def _notes_of_listing(listing: Listing, arguments: OpenArguments) -> Iterator[Note]:
    """What was listed but is not part of the image."""
    beside = listing.unmatched
    # Other files than images matter for what is left behind when an archive is copied.
    if beside is not None and (
        beside.n_images or (arguments.purpose.whole_folder and beside.n_objects)
    ):
        yield beside.note()
    yield from (note for note in (listing.excluded, listing.dangling) if note is not None)
    yield from listing.further
    yield from notes_of_gaps(listing.grid)


def _list(
    store: Store,
    patterns: Sequence[str],
    is_list: bool,
    arguments: OpenArguments,
    *,
    checks_end: bool,
) -> Listing:
    find = partial(_list_now, store, patterns, is_list, arguments, checks_end)
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
    )


def _list_now(
    store: Store,
    patterns: Sequence[str],
    is_list: bool,
    arguments: OpenArguments,
    checks_end: bool,
) -> Listing:
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


def _open_single(
    reader: Reader, grid: FileGrid, arguments: OpenArguments
) -> OpenDataset | tuple[Reader, OpenFile | None]:
    """Open the file of a single URL, or the multi-file dataset that it belongs to.

    For a single file, return the reader to use, and the open file if it needs no other reader.
    """
    location = reader.store.location
    key = location.key_of(grid.keys(()))
    is_web = location.protocol in ("http", "https")
    if location.root and key.rstrip("/") == location.root and not is_web:
        raise _folder_error(location.display(key))  # a bucket, which no request can read
    opened = None
    if not is_companion(key) or arguments.imread is not None:
        try:
            opened = engine().fetch(partial(reader.headers.open, key)).result()
        except NotFoundError as exc:
            if not is_folder(reader.store, key):
                raise
            raise _folder_error(location.display(key)) from exc
        except NotTiffError as exc:
            if not is_web or (key != location.root and not key.endswith("/")):
                raise
            raise _folder_error(location.display(key)) from exc  # its page
        if opened.parsed.membership is None:
            return reader, opened
    dataset = open_dataset(reader, key, opened, arguments)
    return dataset or (reader.using(ignore_siblings=True), None)


def _folder_error(url: str) -> FolderError:
    """The error for a folder where a file is expected."""
    return FolderError(
        f"{url} is a folder; cloudimg.info({url!r}) lists it and proposes patterns of its files to"
        " open",
        url=url,
    )
