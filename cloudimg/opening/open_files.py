"""The steps of `cloudimg.open`, in order: list files, read headers, make sources."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.listing import Listing, find_files, locate, look_up
from cloudimg.errors import CloudimgError
from cloudimg.opening.dataset_description import is_companion
from cloudimg.opening.inspect_headers import HeaderInspection, inspect_headers
from cloudimg.opening.multifile import OpenDataset, open_dataset
from cloudimg.opening.options import OpenArguments, URLs, as_texts
from cloudimg.opening.sources import make_sources
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.headers import HeaderReader, ReadContext
from cloudimg.reading.reader import Reader
from cloudimg.reading.source import Source, missing_files
from cloudimg.storage import Store, engine, redact


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
    n_unmatched: int = 0
    """Number of objects that begin with the stem of the pattern but do not match it."""
    unmatched: tuple[str, ...] = ()
    """URLs of the first few of them."""


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
        return _open(store, patterns, is_list, shown, arguments)


def list_sources(urls: URLs, arguments: OpenArguments) -> FileGrid:
    """List the files from which `open_sources` would make an image now.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError
    """
    location, patterns = locate(as_texts(urls))
    store = Store(location, arguments.storage_options)
    with _redacted():
        return _list(store, patterns, _is_list(urls), arguments).grid


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


def _open(
    store: Store, patterns: Sequence[str], is_list: bool, shown: str, arguments: OpenArguments
) -> Opened:
    listing = _list(store, patterns, is_list, arguments)
    grid = listing.grid
    if arguments.missing == "raise" and grid.n_missing:
        raise missing_files(grid.n_missing, grid.missing_examples())
    context = ReadContext(
        series=arguments.series,
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
            return Opened(
                sources=make_sources(
                    single.grid, single.inspection, arguments.fill_value, single.pages
                ),
                grid=single.grid,
                inspection=single.inspection,
                url=shown,
                n_files=single.n_files,
            )
        reader, first = single
    inspection = inspect_headers(reader, grid, first, arguments)
    return Opened(
        sources=make_sources(grid, inspection, arguments.fill_value),
        grid=grid,
        inspection=inspection,
        url=shown,
        n_files=grid.n_files,
        n_unmatched=listing.n_unmatched,
        unmatched=listing.unmatched,
    )


def _list(
    store: Store, patterns: Sequence[str], is_list: bool, arguments: OpenArguments
) -> Listing:
    if is_list and arguments.missing == "fill":
        return look_up(store, patterns)
    find = partial(find_files, store, patterns, is_list=is_list, progress=arguments.progress)
    # In a fetching thread, so that Ctrl-C interrupts this one.
    return engine().fetch(find).result()


def _open_single(
    reader: Reader, grid: FileGrid, arguments: OpenArguments
) -> OpenDataset | tuple[Reader, OpenFile | None]:
    """Open the file of a single URL, or the multi-file dataset that it belongs to.

    For a single file, return the reader to use, and the open file if it needs no other reader.
    """
    key = reader.store.location.key_of(grid.keys(()))
    opened = None
    if not is_companion(key) or arguments.imread is not None:
        opened = engine().fetch(partial(reader.headers.open, key)).result()
        if opened.parsed.membership is None:
            return reader, opened
    dataset = open_dataset(reader, key, opened, arguments)
    return dataset or (reader.using(ignore_siblings=True), None)
