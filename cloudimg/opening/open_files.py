"""The steps of `cloudimg.open`, in order: list files, read headers, make sources."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np

from cloudimg.discovery.archived import KIND as ARCHIVED
from cloudimg.discovery.earlier_listing import shown_name
from cloudimg.discovery.find_files import locate
from cloudimg.discovery.gaps import notes_of_gaps
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.listing import Listing, Tabled
from cloudimg.discovery.ragged import find_ragged
from cloudimg.discovery.table import FileTable
from cloudimg.discovery.table_changes import changes_between, has_same_rows
from cloudimg.discovery.unmatched import OF_LISTING
from cloudimg.errors import (
    ArchivedError,
    GridError,
    MissingFilesError,
    counted,
)
from cloudimg.errors.notes import Note
from cloudimg.opening.bad_headers import report_on_files
from cloudimg.opening.header_inspection import HeaderInspection
from cloudimg.opening.index_files.index_facts import IndexFacts
from cloudimg.opening.index_files.read import start_index_files
from cloudimg.opening.inspect_headers import inspect_headers
from cloudimg.opening.list_files import (
    checked_end,
    is_several,
    list_files,
    narrow_listing,
    redacted,
)
from cloudimg.opening.multifile import OpenDataset
from cloudimg.opening.opened import Opened
from cloudimg.opening.options import OpenArguments, URLs, as_texts
from cloudimg.opening.pages_of_table import open_pages
from cloudimg.opening.part_of_image import choose, part_of, selection_of
from cloudimg.opening.selection import Selection
from cloudimg.opening.single_file import open_single
from cloudimg.opening.sources import make_sources
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.headers import HeaderReader
from cloudimg.reading.read_context import ReadContext
from cloudimg.reading.reader import Reader
from cloudimg.reading.source_files import missing_files
from cloudimg.storage import IncompleteListingError, Store, redact


def open_sources(urls: URLs, arguments: OpenArguments) -> Opened:
    """List the files of an image and read the headers that determine it.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError, FormatError
    """
    if isinstance(urls, Tabled):
        return _open_tabled(urls, arguments)
    texts = as_texts(urls)
    is_list = is_several(urls)
    location, patterns = locate(texts)
    store = Store(location, arguments.storage_options)
    shown = redact(texts[0]) if not is_list else f"{len(texts)} URLs from {redact(texts[0])}"
    with redacted():
        listing = list_files(store, patterns, is_list, arguments, checks_end=False)
        try:
            with checked_end(listing):
                return _open(store, listing, shown, arguments)
        except IncompleteListingError:
            listing = list_files(store, patterns, is_list, arguments, checks_end=True)
        return _open(store, listing, shown, arguments)


def open_again(opened: Opened, urls: URLs, arguments: OpenArguments) -> Opened:
    """Open the files of a part of an image by themselves, without newer ones that it lacks.

    Raises
    ------
    GridError
        Other files are there now, so that those of the part cannot be identified.
    """
    table = _table_of(opened)
    purpose = replace(arguments.purpose, files=table)
    again = open_sources(urls, replace(arguments, purpose=purpose))
    if not has_same_rows(table, _table_of(again)):
        raise GridError(
            f"files of {again.url} came or went since the image was opened of which a part was"
            f" selected ({changes_between(table, _table_of(again))}): open it again, and select"
        )
    return replace(again, changes=None)


def _table_of(opened: Opened) -> FileTable:
    return FileTable.of(opened.grid, shown_name, opened.sources[0].files.pages)


def _open_tabled(tabled: Tabled, arguments: OpenArguments) -> Opened:
    """Open files that a table lists, of which nothing is listed or looked up."""
    store = Store(tabled.location, arguments.storage_options)
    listing, before = tabled.listing, arguments.purpose.files
    if isinstance(arguments.select, Selection):
        listing = narrow_listing(listing, arguments.select)
    if before is not None:
        now = FileTable.of(listing.grid, shown_name)
        listing = replace(listing, changes=changes_between(before, now))
    with redacted():
        shown = redact(tabled.recorded)
        if tabled.url is None:
            shown = f"{counted(listing.grid.n_files, 'file')} of a table, from {shown}"
        return _open(store, listing, shown, replace(arguments, axes=tabled.axes))


def telling_of_listing(opened: Opened) -> Opened:
    """The image with a note for its copy, if the rest of the files' folder was not listed."""
    beside, notes = opened.unmatched, opened.inspection.notes
    note = None if beside is None else beside.not_looked_at()
    if note is None or any(known.kind in OF_LISTING for known in notes):
        return opened
    return replace(opened, inspection=replace(opened.inspection, notes=(*notes, note)))


def _open(store: Store, listing: Listing, shown: str, arguments: OpenArguments) -> Opened:
    """Read headers of the files that were listed, or of those that are selected."""
    given = arguments.select
    if not given:
        return _open_listed(store, listing, shown, arguments)
    if isinstance(given, Selection):
        opened = _open_listed(store, listing, shown, arguments)
        return part_of(opened, given, has_its_files=not _is_dataset(opened))
    # Files that are left out need not be there, nor be right.
    lenient = replace(arguments.purpose, defers_bad=True)
    as_listed = replace(arguments, missing="fill", validate="first", purpose=lenient)
    is_single = not listing.grid.fields
    whole = _open_listed(store, listing, shown, arguments if is_single else as_listed)
    chosen = choose(whole, given, by_label=True, keyword="select")
    selection = selection_of(whole, chosen)
    lacks_files = arguments.missing == "raise" and listing.grid.n_missing > 0
    is_right = arguments.validate == "first" and not whole.inspection.bad and not lacks_files
    if is_single or (is_right and not selection.kept(listing.grid)):
        return part_of(whole, selection)
    narrowed = replace(narrow_listing(listing, selection), index_names=None)
    index = whole.inspection.index
    if index is not None:
        index = index.narrowed(narrowed.grid, selection.positions(listing.grid))
    opened = _open_listed(store, narrowed, shown, arguments, index)
    return part_of(opened, selection, has_its_files=True)


def _is_dataset(opened: Opened) -> bool:
    return opened.sources[0].files.pages is not None


def _open_listed(
    store: Store,
    listing: Listing,
    shown: str,
    arguments: OpenArguments,
    index: IndexFacts | None = None,
) -> Opened:
    grid = listing.grid
    beside, table = listing.unmatched, listing.table
    if beside is not None and beside.n_images and not arguments.purpose.allow_unmatched:
        raise beside.error(shown)
    lacks_files = arguments.missing == "raise" and grid.n_missing > 0
    # With validate="all" the error should name bad files, too, if there are any.
    if lacks_files and arguments.validate != "all":
        raise _lacking(listing)
    context = ReadContext(
        is_listed=listing.is_complete,
        fills_missing=arguments.listing == "probe" and arguments.missing == "fill",
        series=arguments.series_number,
        ignore_siblings=bool(grid.fields),
        palette=arguments.converted_colours,
        epoch=uuid.uuid4().hex,
        decoder=arguments.imread,
        stored={} if table is None else table.headers,
        is_tabled=table is not None,
    )
    reader = Reader(HeaderReader(store, context))
    if table is not None and table.pages is not None:
        pages = open_pages(reader, grid, table, arguments)
        return _of_dataset(pages, shown, arguments, is_tabled=True)
    first = None
    if not grid.fields:
        single = open_single(reader, grid, arguments)
        if isinstance(single, OpenDataset):
            return _of_dataset(single, shown, arguments)
        reader, first = single
    with _counting_archived(listing):
        inspection = _inspect(reader, listing, first, arguments, index)
    if lacks_files:
        raise _lacking(listing, inspection)
    further_notes = _notes_of_listing(listing, arguments)
    inspection = replace(inspection, notes=(*inspection.notes, *further_notes))
    return Opened(
        sources=make_sources(
            grid,
            inspection,
            arguments.chosen_fill,
            fills_bad=arguments.bad == "fill",
            is_tabled=table is not None,
        ),
        grid=grid,
        inspection=inspection,
        url=shown,
        n_files=grid.n_files,
        report=report_on_files(
            grid,
            inspection.errors,
            n_excluded=_n_excluded(listing),
            is_complete=arguments.validate == "all" or grid.n_files == 1,
        ),
        unmatched=beside,
        changes=listing.changes,
    )


def _inspect(
    reader: Reader,
    listing: Listing,
    first: OpenFile | None,
    arguments: OpenArguments,
    index: IndexFacts | None,
) -> HeaderInspection:
    """Read the headers that decide, and meanwhile the index files beside the images."""
    store, table = reader.store, listing.table
    url_of = partial(_url_at, store, listing.grid)
    started = start_index_files(store, listing, arguments)
    if started is not None and arguments.place == "stage":
        index = started.result()
    with nullcontext() if index is None else index.explaining():
        inspection = inspect_headers(
            reader,
            listing.grid,
            first,
            arguments,
            n_excluded=_n_excluded(listing),
            index=index,
            table=None if table is None else table.facts,
        )
    inspection = inspection.with_index(index if started is None else started.result(), url_of)
    return inspection if table is None else inspection.with_table(table, url_of)


@contextmanager
def _counting_archived(listing: Listing) -> Iterator[None]:
    """Add the number of files in an archive to the error about one of them."""
    try:
        yield
    except ArchivedError as exc:
        for note in listing.further:
            if note.kind == ARCHIVED:
                exc.message += f"; {note.n_files} of {listing.grid.n_files} files are {note.text}"
                exc.args = (exc.message,)
        raise


def _n_excluded(listing: Listing) -> int:
    return 0 if listing.excluded is None else listing.excluded.n_files


def _url_at(store: Store, grid: FileGrid, position: int) -> str:
    index = tuple(int(i) for i in np.unravel_index(position, grid.shape))
    return store.location.display_text(grid.keys(index))


def _lacking(listing: Listing, inspection: HeaderInspection | None = None) -> MissingFilesError:
    """The error about files of the grid that are missing; bad ones are in its report."""
    grid, dangling = listing.grid, listing.dangling
    ragged = find_ragged(grid)
    why, parts = ("", ()) if ragged is None else (ragged.text, ragged.advice)
    error = missing_files(grid.n_missing, grid.missing_examples(), why, parts)
    if dangling is not None:
        links = counted(
            dangling.n_files,
            "of them is a symbolic link that leads",
            "of them are symbolic links that lead",
        )
        error.message += f"; {links} to nothing: {', '.join(dangling.urls)}"
        error.args = (error.message,)
    error.report = report_on_files(
        grid,
        () if inspection is None else inspection.errors,
        n_excluded=_n_excluded(listing),
        is_complete=inspection is not None,
    )
    return error


def _of_dataset(
    dataset: OpenDataset, shown: str, arguments: OpenArguments, *, is_tabled: bool = False
) -> Opened:
    """What was opened, of a multi-file dataset."""
    return Opened(
        sources=make_sources(
            dataset.grid,
            dataset.inspection,
            arguments.chosen_fill,
            dataset.pages,
            dataset.identities,
            fills_bad=arguments.bad == "fill",
            is_tabled=is_tabled,
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
    ragged = find_ragged(listing.grid)
    if ragged is not None:
        yield ragged.note(listing.grid.n_missing)
